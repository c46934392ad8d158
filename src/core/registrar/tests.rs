use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::time::Wall;
use crate::wire::address::{Block, Group};
use crate::wire::zone::Manifest;
use crate::wire::{Keypair, NodeId};

const NOW: Wall = Wall::from_millis(1_795_243_262_000);
const DAY: Duration = Duration::from_secs(86_400);

fn id(number: u32) -> NodeId {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    Keypair::from_seed(&seed).id()
}

fn at(a: u8, b: u8, c: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, 1)), 7443)
}

fn applicant(number: u32, at: SocketAddr) -> Applicant {
    Applicant { id: id(number), at, seq: 1 }
}

fn open() -> Policy {
    Policy { newcomers_percent: 100, newcomers_per_hour: 1_000, ..Policy::default() }
}

/// Everybody in a /16 of its own, for a long time.
fn settled(count: u8) -> Listing {
    let since = NOW - DAY * 30;
    let entry = |number: u8| Entry { at: at(20, number, 1), seq: 1, since, ok: NOW, score: SCORE_MAX };
    Listing::new((0..count).map(|number| (id(number.into()), entry(number))).collect(), 0)
}

fn book() -> Book {
    Book {
        zone: "mesh.example".parse().expect("a zone"),
        network: "main".parse().expect("a network"),
        key: Keypair::from_seed(&[1; 32]),
        fellows: Vec::new(),
    }
}

fn apply(records: &BTreeSet<Rr>, change: &Change) -> BTreeSet<Rr> {
    let mut after = records.clone();
    for record in &change.delete {
        assert!(after.remove(record), "only what stands there is deleted");
    }
    after.extend(change.add.iter().cloned());
    after
}

#[test]
fn one_network_gets_one_place_in_a_24_and_two_in_a_16() {
    let mut listing = Listing::default();
    assert_eq!(listing.admit(&applicant(1, at(20, 1, 1)), NOW, &open(), 0), Ok(()));
    assert_eq!(listing.admit(&applicant(2, at(20, 1, 1)), NOW, &open(), 0), Err(Refusal::Block));
    assert_eq!(listing.admit(&applicant(2, at(20, 1, 2)), NOW, &open(), 0), Ok(()));
    assert_eq!(listing.admit(&applicant(3, at(20, 1, 3)), NOW, &open(), 0), Err(Refusal::Group));
    assert_eq!(listing.admit(&applicant(3, at(20, 2, 3)), NOW, &open(), 0), Ok(()));
    // Who stands there may announce itself again, and may not move into somebody's network.
    assert_eq!(listing.admit(&applicant(1, at(20, 1, 1)), NOW, &open(), 0), Ok(()));
    let moves = Applicant { seq: 2, ..applicant(3, at(20, 1, 9)) };
    assert_eq!(listing.admit(&moves, NOW, &open(), 0), Err(Refusal::Group));
    let owned = Policy { is_spread: false, ..open() };
    assert_eq!(listing.admit(&applicant(4, at(20, 1, 1)), NOW, &owned, 0), Ok(()));
}

#[test]
fn a_record_is_followed_by_newer_ones_only() {
    let mut listing = settled(1);
    let of = |seq, at| Applicant { id: id(0), at, seq };
    assert_eq!(listing.admit(&of(0, at(20, 0, 1)), NOW, &open(), 0), Err(Refusal::Older));
    assert_eq!(listing.admit(&of(1, at(20, 0, 2)), NOW, &open(), 0), Err(Refusal::Older), "same number, other place");
    assert_eq!(listing.admit(&of(2, at(20, 0, 2)), NOW, &open(), 0), Ok(()));
    let entry = listing.entries()[&id(0)];
    assert_eq!((entry.seq, entry.at, entry.since), (2, at(20, 0, 2), NOW - DAY * 30), "it keeps its time");
    assert_eq!(listing.leave(&id(0), 1), Err(Refusal::Older));
    assert_eq!((listing.leave(&id(0), 3), listing.leave(&id(0), 3)), (Ok(true), Ok(false)));
}

#[test]
fn newcomers_have_a_fifth_of_the_places_and_four_come_in_an_hour() {
    let policy = Policy::default();
    let mut listing = settled(20);
    let mut now = NOW;
    let come = |listing: &mut Listing, number: u8, now: Wall| {
        listing.admit(&applicant(1_000 + u32::from(number), at(30, number, 1)), now, &policy, 0)
    };
    for number in 0..4 {
        assert_eq!(come(&mut listing, number, now), Ok(()));
    }
    assert_eq!(come(&mut listing, 4, now), Err(Refusal::Hour));
    now = now + Duration::from_secs(3_600);
    for number in 4..8 {
        assert_eq!(come(&mut listing, number, now), Ok(()));
    }
    now = now + Duration::from_secs(3_600);
    assert_eq!(come(&mut listing, 8, now), Err(Refusal::Newcomers));
    assert_eq!(come(&mut listing, 8, now + NEWCOMER), Ok(()), "the first ones are none any more");
    assert!([Refusal::Hour, Refusal::Newcomers, Refusal::Full].iter().all(|no| no.retry_after().is_some()));
}

#[test]
fn a_full_list_gives_the_place_of_somebody_who_does_not_answer() {
    let policy = Policy { places: 10, ..open() };
    let mut listing = settled(10);
    let newcomer = applicant(99, at(30, 1, 1));
    assert_eq!(listing.admit(&newcomer, NOW, &policy, 0), Err(Refusal::Full));
    let missed = |numbers: &[u32]| {
        let visit = |(id, entry): (&NodeId, &Entry)| {
            (*id, Visit { at: entry.at, answered: !numbers.iter().any(|number| self::id(*number) == *id) })
        };
        Visits(settled(10).entries().iter().map(visit).collect())
    };
    let mut now = NOW;
    for _ in 0..3 {
        now = now + SWEEP;
        assert!(missed(&[3, 4]).note_in(&mut listing, now).is_empty(), "a score of 16 lasts five rounds");
    }
    let mut other = listing.clone();
    assert_eq!(listing.admit(&newcomer, now, &policy, 0), Ok(()));
    assert_eq!(other.admit(&newcomer, now, &policy, 1), Ok(()));
    let gone =
        |listing: &Listing| (0..10).filter(|number| listing.entries()[&id(*number)].is_away()).collect::<Vec<_>>();
    assert_eq!(gone(&listing).len(), 1);
    assert_ne!(gone(&listing), gone(&other), "the lot decides");
    assert!(gone(&listing).iter().chain(&gone(&other)).all(|number| [3, 4].contains(number)));
}

#[test]
fn a_node_that_is_gone_is_out_after_five_rounds_and_a_newcomer_after_one() {
    let mut listing = settled(9);
    assert_eq!(listing.admit(&applicant(99, at(30, 1, 1)), NOW, &open(), 0), Ok(()));
    let round = |listing: &Listing, dead: &[NodeId]| {
        let visit = |(id, entry): (&NodeId, &Entry)| (*id, Visit { at: entry.at, answered: !dead.contains(id) });
        Visits(listing.entries().iter().map(visit).collect())
    };
    let dead = [id(0), id(99)];
    let mut now = NOW;
    let mut out = Vec::new();
    for _ in 0..5 {
        now = now + SWEEP;
        let visits = round(&listing, &dead);
        out.push(visits.note_in(&mut listing, now));
    }
    assert_eq!(out, [vec![id(99)], vec![], vec![], vec![], vec![id(0)]]);
    assert!(listing.placed().count() == 8 && listing.entries().len() == 9, "the elder keeps its claim");
    assert!(listing.placed().all(|(_, entry)| entry.score == SCORE_MAX && entry.ok == now));
}

/// Takes the places of these in as many rounds as it takes; everybody else answers.
fn silence(listing: &mut Listing, silent: &[NodeId], now: &mut Wall) {
    for _ in 0..5 {
        *now = *now + SWEEP;
        let visit = |(id, entry): (&NodeId, &Entry)| (*id, Visit { at: entry.at, answered: !silent.contains(id) });
        let visits = Visits(listing.placed().map(visit).collect());
        visits.note_in(listing, *now);
    }
}

#[test]
fn who_was_there_for_a_week_takes_its_place_back_from_whoever_came_last() {
    let policy = Policy { places: 10, newcomers_percent: 20, ..Policy::default() };
    let (mut listing, mut now) = (settled(10), NOW);
    let elders: Vec<NodeId> = (0..4).map(id).collect();
    silence(&mut listing, &elders, &mut now);
    assert_eq!(listing.placed().count(), 6);
    assert!(elders.iter().all(|elder| listing.entries()[elder].priority(now) == 30));
    // Two places are lent, and no more than two are, however many are free.
    let come = |listing: &mut Listing, number: u8, now| {
        listing.admit(&applicant(100 + u32::from(number), at(30, number, 1)), now, &policy, 0)
    };
    assert_eq!(come(&mut listing, 1, now), Ok(()));
    now = now + Duration::from_secs(60);
    assert_eq!(come(&mut listing, 2, now), Ok(()));
    assert_eq!(come(&mut listing, 3, now), Err(Refusal::Newcomers));
    let later = come(&mut listing.clone(), 3, now + NEWCOMER);
    assert_eq!(later, Err(Refusal::Full), "they are newcomers no more, and the places are still claimed");
    // All come back, each as old as it was; the last two to the places of those who came last.
    let back = |listing: &mut Listing, number: u8| {
        let elder = Applicant { id: id(number.into()), at: at(20, number, 1), seq: 2 };
        listing.admit(&elder, now, &policy, 0)
    };
    assert!((0..3).all(|number| back(&mut listing, number) == Ok(())));
    let entries = listing.entries();
    assert!(entries.contains_key(&id(101)) && !entries.contains_key(&id(102)), "the last one went, and has no claim");
    assert_eq!((entries[&id(0)].since, entries[&id(0)].is_away()), (NOW - DAY * 30, false));
    assert_eq!(back(&mut listing, 3), Ok(()));
    assert!(listing.placed().all(|(_, entry)| entry.since == NOW - DAY * 30));
    assert_eq!(listing.placed().count(), 10);
}

#[test]
fn a_place_is_kept_for_a_week_and_is_anybodys_then() {
    let policy = Policy { places: 10, newcomers_percent: 10, ..Policy::default() };
    let (mut listing, mut now) = (settled(10), NOW);
    silence(&mut listing, &[id(0), id(1)], &mut now);
    assert_eq!(listing.admit(&applicant(101, at(30, 1, 1)), now, &policy, 0), Ok(()));
    now = NOW + AWAY - SWEEP * 6;
    silence(&mut listing, &[], &mut now);
    assert_eq!(listing.entries().len(), 11);
    let other = applicant(102, at(30, 2, 1));
    assert!(listing.admit(&other, now, &policy, 0).is_err());
    now = now + SWEEP * 6;
    silence(&mut listing, &[], &mut now);
    assert_eq!(listing.entries().len(), 9);
    assert_eq!(listing.admit(&other, now, &policy, 0), Ok(()));
}

#[test]
fn when_most_do_not_answer_it_is_our_own_network() {
    let mut listing = settled(9);
    let before = listing.clone();
    let visits = |missed: usize| {
        let entries = before.entries().iter().enumerate();
        Visits(entries.map(|(i, (id, entry))| (*id, Visit { at: entry.at, answered: i >= missed })).collect())
    };
    assert!(visits(5).blames_us() && !visits(4).blames_us());
    assert!(visits(5).note_in(&mut listing, NOW + SWEEP).is_empty());
    assert_eq!(listing, before);
    visits(4).note_in(&mut listing, NOW + SWEEP);
    assert_eq!(listing.entries().values().filter(|entry| entry.score == 8).count(), 4);
    assert!(!Visits::default().blames_us());
}

#[test]
fn a_visit_to_where_it_was_says_nothing_about_where_it_is() {
    let mut listing = settled(4);
    let (old, newer) = (at(20, 0, 1), Applicant { id: id(0), at: at(30, 0, 1), seq: 2 });
    assert_eq!(listing.admit(&newer, NOW, &open(), 0), Ok(()));
    let mut visits = BTreeMap::from([(id(0), Visit { at: old, answered: false })]);
    visits.insert(id(1), Visit { at: at(20, 1, 1), answered: true });
    visits.insert(id(77), Visit { at: old, answered: true });
    let before = listing.entries()[&id(0)];
    Visits(visits).note_in(&mut listing, NOW + SWEEP);
    assert_eq!(listing.entries()[&id(0)], before);
    assert_eq!(listing.entries().len(), 4, "nobody is taken in by a visit");
}

#[test]
fn what_is_written_is_read_back_and_leaves_other_things_alone() {
    let book = book();
    let by_hand = BTreeSet::from([
        Rr {
            owner: "_mesh._tcp.mesh.example".into(),
            ttl: 60,
            data: Data::Srv(crate::wire::zone::Service::new(10, 1, 7443, "birch.example").expect("a service")),
        },
        Rr { owner: "_mesh._tcp.mesh.example".into(), ttl: 60, data: Data::Txt(vec![b"v=spf1 -all".to_vec()]) },
        Rr { owner: "www.mesh.example".into(), ttl: 60, data: Data::A(Ipv4Addr::LOCALHOST) },
    ]);
    let listing = settled(5);
    let change = book.write(&by_hand, &listing, NOW);
    assert_eq!(change.delete, []);
    assert_eq!(change.was.len(), 1, "the prerequisite is every TXT of the name");
    let zone = apply(&by_hand, &change);
    assert!(zone.is_superset(&by_hand));
    let read = book.read(&zone, NOW);
    assert_eq!(read, Listing::new(listing.entries().clone(), 1));
    assert_eq!(book.labels(&zone).len(), 5);

    // Nothing but the manifest changes when nothing changed; its number grows although no time passed.
    let again = book.write(&zone, &read, NOW);
    assert_eq!((again.delete.len(), again.add.len()), (1, 1));
    assert_eq!(again.was.len(), 2);
    let number = |change: &Change| {
        let manifests = change.add.iter().filter_map(|record| match &record.data {
            Data::Txt(strings) if Manifest::is_meant(strings) => Manifest::parse(strings).ok(),
            _ => None,
        });
        manifests.map(|manifest| manifest.seq).collect::<Vec<_>>()
    };
    assert_eq!(number(&change), [1_795_243_262]);
    assert_eq!(number(&again), [1_795_243_263]);

    // Everybody leaves: what was by hand stays.
    let zone = apply(&zone, &again);
    let emptied = apply(&zone, &book.write(&zone, &Listing::new(BTreeMap::new(), 1), NOW));
    assert_eq!(emptied.len(), by_hand.len() + 1);
}

#[test]
fn a_manifest_signs_every_entry_and_a_first_one_asks_for_none_to_be_there() {
    let book = book();
    let change = book.write(&BTreeSet::new(), &settled(3), NOW);
    assert_eq!((change.was.len(), change.delete.len(), change.add.len()), (0, 0, 3 * 4 + 1));
    let services: Vec<_> = change
        .add
        .iter()
        .filter_map(|record| match &record.data {
            Data::Srv(service) => Some(service.clone()),
            _ => None,
        })
        .collect();
    let manifest = change.add.iter().find_map(|record| match &record.data {
        Data::Txt(strings) => Manifest::parse(strings).ok(),
        _ => None,
    });
    let manifest = manifest.expect("a manifest").verify(&book.zone, &[book.key.id()]).expect("ours");
    assert_eq!(manifest.check(&services, NOW), Ok(()));
}

#[test]
fn time_in_the_zone_is_believed_when_a_registrar_of_it_signed() {
    let (ours, other) = (book(), Book { key: Keypair::from_seed(&[2; 32]), ..book() });
    let zone = apply(&BTreeSet::new(), &other.write(&BTreeSet::new(), &settled(1), NOW));
    let stranger = ours.read(&zone, NOW).entries()[&id(0)];
    assert_eq!((stranger.since, stranger.score), (NOW, 1));
    let fellow = Book { fellows: vec![other.key.id()], ..book() };
    assert_eq!(fellow.read(&zone, NOW), settled(1));
    // A tenure moved to another node is nobody's.
    let moved: BTreeSet<Rr> = zone
        .iter()
        .cloned()
        .map(|record| match record.owner.starts_with("_reg.") {
            true => Rr { owner: other.zone.tenure(&crate::wire::zone::Label::of(&id(1))), ..record },
            false => record,
        })
        .collect();
    assert_eq!(fellow.read(&moved, NOW).entries()[&id(0)].score, 1);
}

#[test]
fn records_that_do_not_fit_together_are_cleared_away() {
    let book = book();
    let whole = apply(&BTreeSet::new(), &book.write(&BTreeSet::new(), &settled(2), NOW));
    for left_out in &whole {
        let mut zone = whole.clone();
        zone.remove(left_out);
        let listing = book.read(&zone, NOW);
        let after = apply(&zone, &book.write(&zone, &listing, NOW));
        assert_eq!(book.read(&after, NOW), listing);
        let entries = listing.entries().len();
        assert_eq!(after.len(), entries * 4 + 1, "without {left_out:?}");
    }
}

/// Addresses of one attacker, `networks` of /16, in each as many /24 as it takes for 28.
fn attackers(networks: u8) -> Vec<(NodeId, SocketAddr)> {
    (0..28u8).map(|i| (id(5_000 + u32::from(i)), at(40, i % networks, i / networks))).collect()
}

/// The places that 28 addresses hold after each of 100 days in which everybody announces itself every
/// hour, the attacker first. Each of the 80 honest nodes is away for a day about every ten days; on each of
/// the days `leaving` one of the first 40 goes for good.
fn hundred_days(mut listing: Listing, attackers: &[(NodeId, SocketAddr)], leaving: &[u64]) -> Vec<usize> {
    let policy = Policy::default();
    let mut rng = fastrand::Rng::with_seed(7);
    let honest: Vec<_> = (0..80u8).map(|number| (id(number.into()), at(20, number, 1))).collect();
    let places: BTreeMap<NodeId, usize> = honest.iter().enumerate().map(|(i, (id, _))| (*id, i)).collect();
    let mut back = vec![0u64; honest.len()];
    let mut shares = Vec::new();
    for hour in 0..100 * 24u64 {
        for back in back.iter_mut().filter(|back| **back <= hour) {
            if rng.u32(0..240) == 0 {
                *back = hour + 24;
            }
        }
        for (i, _) in leaving.iter().enumerate().filter(|(_, day)| **day * 24 == hour) {
            back[i] = u64::MAX;
        }
        let is_away = |id: &NodeId| places.get(id).is_some_and(|i| back[*i] > hour);
        let start = NOW + Duration::from_secs(hour * 3_600);
        for (id, at) in attackers.iter().chain(&honest).filter(|(id, _)| !is_away(id)) {
            // Most are refused, which is the point.
            let _ = listing.admit(&Applicant { id: *id, at: *at, seq: hour }, start, &policy, rng.u64(..));
        }
        for round in 1..=11u32 {
            let visit = |(id, entry): (&NodeId, &Entry)| (*id, Visit { at: entry.at, answered: !is_away(id) });
            let visits = Visits(listing.placed().map(visit).collect());
            visits.note_in(&mut listing, start + SWEEP * round);
        }
        let newcomers = listing.placed().filter(|(_, entry)| start.since(entry.since) < NEWCOMER).count();
        assert!(newcomers <= policy.newcomers() && listing.placed().count() <= policy.places);
        assert!(listing.entries().len() <= policy.places + policy.newcomers());
        if hour % 24 == 23 {
            shares.push(listing.placed().filter(|(id, _)| attackers.iter().any(|(other, _)| other == *id)).count());
        }
    }
    shares
}

/// The most of the places, in percent.
fn peak(shares: &[usize]) -> usize {
    shares.iter().max().copied().unwrap_or_default() * 100 / Policy::default().places
}

#[test]
fn over_100_days_28_addresses_in_four_networks_hold_a_fifth_of_the_places_at_most() {
    let shares = hundred_days(settled(40), &attackers(4), &[]);
    assert!((1..=20).contains(&peak(&shares)), "{shares:?}");
}

#[test]
fn over_100_days_28_addresses_in_28_networks_hold_no_more_while_those_before_them_come_back() {
    let shares = hundred_days(settled(40), &attackers(28), &[]);
    assert!((1..=20).contains(&peak(&shares)), "{shares:?}");
}

/// What the quotas do not do: the places of nodes that leave for good are anybody's, and in a new list
/// everybody is a newcomer.
#[test]
fn places_that_nobody_claims_go_to_whoever_comes_first() {
    let ten: Vec<u64> = (1..=10).map(|number| number * 5).collect();
    let shares = hundred_days(settled(40), &attackers(28), &ten);
    assert!((21..=45).contains(&peak(&shares)), "{shares:?}");
    let shares = hundred_days(Listing::default(), &attackers(28), &[]);
    assert!(peak(&shares[..7]) <= 20 && peak(&shares) == 70, "{shares:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_order_of_announcements_breaks_a_quota(
        steps in proptest::collection::vec((0u32..60, 0u8..8, 0u8..4, 0u64..40, any::<u64>(), any::<bool>()), 1..120),
    ) {
        let policy = Policy { places: 12, newcomers_percent: 50, newcomers_per_hour: 3, ..Policy::default() };
        let mut listing = Listing::default();
        let mut now = NOW;
        for (number, b, c, minutes, draw, is_visit) in steps {
            now = now + Duration::from_secs(minutes * 60 * 13);
            if is_visit {
                let visit = |(i, (id, entry)): (usize, (&NodeId, &Entry))| {
                    (*id, Visit { at: entry.at, answered: draw >> (i % 64) & 1 == 0 })
                };
                let visits = Visits(listing.placed().enumerate().map(visit).collect());
                visits.note_in(&mut listing, now);
            } else {
                let applicant = Applicant { id: id(number), at: at(50, b, c), seq: draw % 4 };
                let before = listing.clone();
                if listing.admit(&applicant, now, &policy, draw).is_err() {
                    prop_assert_eq!(&listing, &before, "a refusal changes nothing");
                }
            }
            let ips: Vec<IpAddr> = listing.placed().map(|(_, entry)| entry.at.ip()).collect();
            prop_assert!(listing.entries().len() <= policy.places + policy.newcomers());
            let blocks: BTreeSet<Block> = ips.iter().map(|ip| Block::of(*ip)).collect();
            prop_assert_eq!(blocks.len(), ips.len());
            for ip in &ips {
                let group = ips.iter().filter(|other| Group::of(**other) == Group::of(*ip)).count();
                prop_assert!(group <= PER_GROUP_MAX);
            }
            prop_assert!(ips.len() <= policy.places);
        }
        let book = book();
        let zone = apply(&BTreeSet::new(), &book.write(&BTreeSet::new(), &listing, now));
        prop_assert_eq!(book.read(&zone, now), listing);
    }
}
