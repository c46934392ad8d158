//! The book by what it is told.

use super::*;
use crate::wire::Keypair;

const NOW: Now = Now { mono: Mono(1), wall: Wall::from_millis(1_795_243_262_123) };

fn id(number: u32) -> NodeId {
    let mut seed = [5; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    Keypair::from_seed(&seed).id()
}

fn said(number: u32, at: &str, source: &str) -> Said {
    let at = vec![at.parse().expect("an address")];
    Said {
        id: id(number),
        record: None,
        at,
        tier: Tier::Exchange,
        root: Tier::Exchange,
        teller: None,
        source: source.to_owned(),
        word: Word::Near,
    }
}

fn book() -> Book {
    Book::new([1; 32])
}

#[test]
fn thousands_of_ids_on_ten_addresses_are_twenty_entries() {
    let mut book = book();
    for number in 0..4_600 {
        book.hear(said(number, &format!("127.{}.0.1:7443", number % 10), &number.to_string()), NOW);
    }
    assert!(book.len() <= 20, "{}", book.len());
    for number in 0..100 {
        book.hear(said(10_000 + number, &format!("127.99.0.{}:7443", number), &number.to_string()), NOW);
    }
    assert!(book.len() <= 30, "ten of one block: {}", book.len());
}

#[test]
fn who_answered_keeps_the_place_until_tested() {
    let mut book = book();
    let numbers: Vec<u32> = (0..2_000).collect();
    for number in &numbers {
        let at = format!("127.{}.{}.1:7443", number % 200, number / 200);
        book.hear(said(*number, &at, &format!("s{number}")), NOW);
        book.verify(&id(*number), NOW);
    }
    assert!(book.doubted.is_empty(), "all answered just now");
    let tried = |book: &Book| book.iter().filter(|(_, known)| known.place.is_tried()).count();
    let before = tried(&book);
    let later = Now { mono: Mono(2), wall: NOW.wall + SETTLED_FOR * 2 };
    let waiting = book.iter().find(|(_, known)| !known.place.is_tried()).map(|(id, _)| *id).expect("a collision");
    book.verify(&waiting, later);
    let doubted = *book.doubted.first().expect("whoever holds its place");
    assert_eq!(tried(&book), before, "tested before he goes");
    book.demote(&doubted);
    book.verify(&waiting, later);
    assert!(book.get(&waiting).expect("known").place.is_tried());
    assert!(book.get(&doubted).is_none_or(|known| !known.place.is_tried()));
}

#[test]
fn whoever_is_only_said_to_be_at_an_address_makes_way_for_whoever_answers_there() {
    let at = |text: &str| text.parse::<HostPort>().expect("an address");
    let mut book = book();
    book.hear(said(1, "127.1.0.1:7001", "liar"), NOW);
    book.hear(Said { at: vec![at("127.1.0.1:7443"), at("127.2.0.1:7443")], ..said(2, "127.1.0.1:7443", "liar") }, NOW);
    book.verify(&id(2), NOW);
    assert!(book.make_way(&id(1), &at("127.1.0.1:7001")).is_empty(), "it is there already");
    assert!(book.make_way(&id(3), &at("127.1.0.1:7443")).is_empty(), "who answered is elsewhere too");
    assert_eq!(book.get(&id(2)).expect("it answered").at, [at("127.2.0.1:7443")]);
    for (number, place, gone) in [
        (3, "127.1.0.1:7443", vec![]),
        (4, "127.1.0.1:7002", vec![id(1)]), // said to be on that machine, and never answered
        (5, "127.1.0.1:7443", vec![id(3)]), // had another key at this very place
    ] {
        assert_eq!(book.make_way(&id(number), &at(place)), gone, "{number}");
        book.hear(said(number, place, "s"), NOW);
        book.verify(&id(number), NOW);
        assert!(book.get(&id(number)).is_some(), "{number}");
    }
    assert!(book.make_way(&id(6), &at("127.1.0.1:7003")).is_empty(), "two that answered share the machine");

    // Ten of one block.
    for number in 20..30 {
        book.hear(said(number, &format!("127.9.0.{number}:7443"), &format!("s{number}")), NOW);
    }
    let before = book.len();
    assert_eq!(book.make_way(&id(40), &at("127.9.0.40:7443")).len(), 1);
    book.hear(said(40, "127.9.0.40:7443", "s40"), NOW);
    assert_eq!(book.len(), before);
    assert!(book.get(&id(40)).is_some());
}

#[test]
fn a_wrong_address_is_never_taken_again() {
    let mut book = book();
    let (one, other) = ("127.1.0.1:7443", "127.2.0.1:7443");
    let both = |number| Said {
        at: [one, other].iter().map(|at| at.parse().expect("one")).collect(),
        ..said(number, one, "s")
    };
    book.hear(both(1), NOW);
    book.strike(&id(1), &one.parse().expect("one"));
    assert_eq!(book.get(&id(1)).expect("known").at, [other.parse().expect("one")]);
    book.strike(&id(1), &other.parse().expect("one"));
    assert!(book.get(&id(1)).is_none() && book.hosts.is_empty() && book.blocks.is_empty());
}

#[test]
fn what_is_written_down_is_known_again() {
    let mut book = book();
    for number in 0..50 {
        book.hear(said(number, &format!("127.{number}.0.1:7443"), "s"), NOW);
    }
    book.verify(&id(3), NOW);
    book.get_mut(&id(3)).expect("known").anchor = true;
    let mut again = Book::new([2; 32]);
    book.saved().into_iter().for_each(|node| again.restore(node));
    let known = again.get(&id(3)).expect("known");
    assert!(known.anchor && known.place.is_tried() && known.verified == Some(NOW.wall));
    assert!(again.len() > 40, "{}", again.len());
    assert_eq!(again.verified(NOW.wall), 1);
}

#[test]
fn a_full_bucket_is_not_chosen_more_often_than_a_poor_one() {
    let mut book = book();
    for number in 0..200 {
        book.hear(said(number, &format!("127.{number}.0.1:7443"), "one liar"), NOW);
    }
    let crowd = book.len();
    for number in 200..216 {
        book.hear(said(number, &format!("127.{number}.0.1:7443"), &format!("teller {number}")), NOW);
    }
    let honest = book.len() - crowd;
    let mut rng = fastrand::Rng::with_seed(1);
    let hit = (0..400)
        .filter(|_| book.pick(&mut rng, |_, _| true).is_some_and(|id| book.known[&id].source != "one liar"))
        .count();
    assert!(hit > 120, "{hit} of 400 for {honest} against {crowd}");
}
