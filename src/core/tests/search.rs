//! Looking for nodes: which tier when, who is chosen, what becomes of whom.

use super::params::{
    Accept, DNS_LATER, EXCHANGE_EVERY, HEAL_EVERY, LEFT_FOR, MISTAKES_MAX, NEVER_FAILURES_MAX, QUARANTINE, SEEDS_AFTER,
    SUSPECT_FOR, Tiers,
};
use super::ports::{SavedBook, SavedNode};
use super::tier::{Find, Tier};
use super::*;

const ALL: Tiers = Tiers { dns: true, exchange: true, seeds: true };

/// A node that looks for others, before it was told what the disk remembers.
fn seeker(params: Params) -> Desk {
    let params = Params { profile: Profile::Loopback, tiers: ALL, ..params };
    let node = Node::new(key(1).id(), params, 7);
    Desk { node, now: Now { mono: Mono(1_000_000), wall: START }, out: Vec::new(), next_seq: 0, lanes: 0 }
}

fn begin(desk: &mut Desk) -> Vec<Output> {
    desk.input(Input::Restored { head: Seq(0), peers: Vec::new() })
}

fn lookups(out: &[Output]) -> Vec<Tier> {
    let lookup = |output: &Output| if let Output::Lookup { tier } = output { Some(*tier) } else { None };
    out.iter().filter_map(lookup).collect()
}

fn dials(out: &[Output]) -> Vec<(NodeId, LaneId)> {
    let dial = |output: &Output| match output {
        Output::Dial { peer, lane, .. } => Some((*peer, *lane)),
        _ => None,
    };
    out.iter().filter_map(dial).collect()
}

fn find(seed: u8) -> Find {
    Find { id: Some(key(seed).id()), at: vec![place(seed)] }
}

fn moved(out: &[Output], to: Standing) -> Vec<NodeId> {
    let of = |output: &Output| match output {
        Output::Note(Note::PeerMoved { peer, to: standing, .. }) if *standing == to => Some(*peer),
        _ => None,
    };
    out.iter().filter_map(of).collect()
}

/// Our dial of node `seed` succeeds.
fn let_in(desk: &mut Desk, seed: u8, lane: LaneId, patterns: &[&str]) -> Vec<Output> {
    let mut out = desk.input(Input::Met { word: Word::Near, record: record(seed, 1, patterns) });
    out.extend(desk.input(Input::Connected { peer: key(seed).id(), lane, rtt: Duration::from_millis(1) }));
    out
}

/// A person types node `seed` in, and it answers.
fn friend(desk: &mut Desk, seed: u8) {
    let out = desk.input(Input::PeerAdded { ticket: Ticket(9), id: key(seed).id(), at: place(seed), alias: None });
    let_in(desk, seed, lane_to(&out, seed), &["a.*"]);
    assert!(matches!(desk.state(seed), PeerState::Connected { .. }));
}

fn lane_to(out: &[Output], seed: u8) -> LaneId {
    dials(out).into_iter().find(|(peer, _)| *peer == key(seed).id()).expect("a dial").1
}

#[test]
fn the_dns_is_asked_at_once_and_seeds_when_nothing_stands_after_three_seconds() {
    let mut desk = seeker(Params::default());
    assert_eq!(lookups(&begin(&mut desk)), [Tier::Dns]);
    assert!(lookups(&desk.wait(SEEDS_AFTER / 2)).is_empty());
    assert_eq!(lookups(&desk.wait(SEEDS_AFTER)), [Tier::Seed]);
    // Both are asked again for as long as nothing stands.
    let (mut dns, mut seeds) = (0, 0);
    for _ in 0..240 {
        for tier in lookups(&desk.wait(Duration::from_secs(15))) {
            match tier {
                Tier::Dns => dns += 1,
                _ => seeds += 1,
            }
            desk.input(Input::Found { tier, result: Err("SERVFAIL".to_owned()) });
        }
    }
    assert!((4..60).contains(&dns) && (4..60).contains(&seeds), "in an hour: {dns} and {seeds}");
}

#[test]
fn people_see_when_each_tier_is_asked_next() {
    let mut desk = seeker(Params { min_peers: 1, ..Params::default() });
    begin(&mut desk);
    let start = desk.now.mono;
    let search = desk.node.search();
    assert_eq!((search.dns, search.seeds, search.exchange), (Due::Asked, Due::At(start + SEEDS_AFTER), Due::Resting));
    desk.input(Input::Found { tier: Tier::Dns, result: Ok(vec![find(2)]) });
    assert!(matches!(desk.node.search().dns, Due::At(at) if at > start), "{:?}", desk.node.search());
    friend(&mut desk, 3);
    let search = desk.node.search();
    assert_eq!((search.wanted, search.standing), (1, 1));
    assert_eq!((search.dns, search.seeds), (Due::Resting, Due::Resting));
    assert!(matches!(search.exchange, Due::At(at) if at > start));
    assert_eq!(Desk::new(Params::default()).node.search().dns, Due::Off);
}

#[test]
fn a_dead_dns_makes_seeds_come_at_once_unless_a_friend_is_typed_in() {
    let mut desk = seeker(Params::default());
    begin(&mut desk);
    let failed = || Input::Found { tier: Tier::Dns, result: Err("SERVFAIL".to_owned()) };
    assert_eq!(lookups(&desk.input(failed())), [Tier::Seed]);
    let mut desk = seeker(Params::default());
    begin(&mut desk);
    desk.input(Input::PeerAdded { ticket: Ticket(9), id: key(2).id(), at: place(2), alias: None });
    assert!(lookups(&desk.input(failed())).is_empty());
    assert_eq!(lookups(&desk.wait(SEEDS_AFTER)), [Tier::Seed]);
}

/// Where node `seed` is dialled once the dial under way has failed.
fn dialled_next(desk: &mut Desk, seed: u8, lane: LaneId) -> Vec<HostPort> {
    let mut out = desk.input(Input::Broken { peer: key(seed).id(), lane, why: "no answer in time".to_owned() });
    out.extend(desk.wait(Duration::from_secs(2)));
    let at = |output: Output| match output {
        Output::Dial { peer, at, .. } if peer == key(seed).id() => Some(at),
        _ => None,
    };
    out.into_iter().find_map(at).expect("a dial")
}

#[test]
fn a_zone_that_lies_about_where_a_seed_is_hides_it_from_nobody() {
    let mut desk = seeker(Params::default());
    begin(&mut desk);
    let lie = || vec![Find { id: Some(key(2).id()), at: vec![place(66)] }];
    let out = desk.input(Input::Found { tier: Tier::Dns, result: Ok(lie()) });
    desk.input(Input::Found { tier: Tier::Seed, result: Ok(vec![find(2)]) });
    desk.input(Input::Found { tier: Tier::Dns, result: Ok(lie()) });
    assert_eq!(dialled_next(&mut desk, 2, lane_to(&out, 2)), [place(2), place(66)]);
}

#[test]
fn a_zone_that_was_mended_is_believed_before_what_it_said_first() {
    let mut desk = seeker(Params::default());
    begin(&mut desk);
    let wrong = vec![Find { id: Some(key(2).id()), at: vec![place(66)] }];
    let out = desk.input(Input::Found { tier: Tier::Dns, result: Ok(wrong) });
    desk.input(Input::Found { tier: Tier::Dns, result: Ok(vec![find(2)]) });
    assert_eq!(dialled_next(&mut desk, 2, lane_to(&out, 2)), [place(2), place(66)]);
}

#[test]
fn what_a_tier_names_is_dialled_and_becomes_a_peer_that_events_are_owed_to() {
    let mut desk = seeker(Params::default());
    begin(&mut desk);
    let out = desk.input(Input::Found { tier: Tier::Dns, result: Ok(vec![find(2), find(3), find(1)]) });
    let dialled: BTreeSet<NodeId> = dials(&out).into_iter().map(|(peer, _)| peer).collect();
    assert_eq!(dialled, [key(2).id(), key(3).id()].into(), "and never this node itself");
    assert!(desk.node.view().peers.is_empty(), "no account before it answers");
    let out = let_in(&mut desk, 2, lane_to(&out, 2), &["a.*"]);
    assert!(out.iter().any(|output| matches!(output, Output::SaveCursor { peer, .. } if *peer == key(2).id())));
    assert!(out.iter().any(|output| matches!(output, Output::Exchange { peer, .. } if *peer == key(2).id())));
    let peer = desk.node.view().peers.into_iter().next().expect("one peer");
    assert_eq!((peer.origin, peer.tier, peer.chosen), (ports::Origin::Found, Tier::Dns, true));
    assert_eq!(shipments(&desk.publish(vec![event(1, "1", "a.x")])).len(), 1);
    let told: Vec<Standing> = desk.node.history(&key(2).id()).into_iter().map(|turn| turn.to).collect();
    assert_eq!(told, [Standing::Heard, Standing::Probing, Standing::Connected]);
    assert_eq!(desk.node.shareable(desk.now.wall).len(), 1, "it answered us: others may hear of it");
}

#[test]
fn a_find_without_a_key_is_introduced_first() {
    let mut desk = seeker(Params::default());
    begin(&mut desk);
    let nameless = Find { id: None, at: vec![place(2), "127.0.0.1:22".parse().expect("an address")] };
    let out = desk.input(Input::Found { tier: Tier::Seed, result: Ok(vec![nameless.clone(), nameless]) });
    let asked = |out: &[Output]| {
        let at = |output: &Output| if let Output::Introduce { at, .. } = output { Some(at.clone()) } else { None };
        out.iter().filter_map(at).collect::<Vec<_>>()
    };
    assert_eq!(asked(&out), [place(2)], "once, and no door of somebody else");
    assert!(dials(&out).is_empty());
    let out = desk.input(Input::Introduced { at: place(2), tier: Tier::Seed, result: Ok(key(2).id()) });
    assert_eq!(dials(&out).len(), 1);
}

/// Whatever lists our own address as somebody else's: a tier, a neighbour, the book of the last life, a
/// list without ids, and what was heard before we announced it.
#[test]
fn nobody_is_ever_dialled_at_an_address_of_our_own() {
    let listening = "127.0.99.1:7443".parse::<HostPort>().expect("an address");
    let mut desk = seeker(Params { min_peers: 20, own: [listening.clone(), place(1)].into(), ..Params::default() });
    let at_ours = |seed: u8, at: &HostPort| Find { id: Some(key(seed).id()), at: vec![at.clone(), place(seed)] };
    let saved = |seed: u8, at: HostPort| SavedNode {
        id: key(seed).id(),
        at: vec![at],
        tier: Tier::Dns,
        source: "dns".to_owned(),
        heard: START,
        verified: Some(START),
        failures: 0,
        dead: None,
        anchor: true,
        near: true,
    };
    let nodes = vec![saved(2, listening.clone()), saved(3, place(1))];
    desk.input(Input::Remembered(SavedBook { nodes, ..SavedBook::default() }));
    let out = begin(&mut desk);
    assert_eq!(dials(&out), [], "of what the disk remembers");
    let finds =
        vec![at_ours(4, &listening), at_ours(5, &place(1)), Find { id: None, at: vec![place(1), listening.clone()] }];
    let mut later = desk.input(Input::Found { tier: Tier::Seed, result: Ok(finds) });
    desk.input(Input::Met { word: Word::Near, record: record(6, 1, &[]) });
    let draft = RecordDraft { seq: 1, addresses: vec![place(1), listening.clone()], ..RecordDraft::default() };
    let lie = draft.seal(START, &key(7)).expect("a record");
    later.extend(desk.input(Input::Heard { teller: key(6).id(), asked: true, records: vec![lie.clone()] }));
    later.extend(desk.input(Input::Met { word: Word::Near, record: lie }));
    let id = key(8).id();
    later.extend(desk.input(Input::PeerAdded { ticket: Ticket(9), id, at: listening.clone(), alias: None }));
    for _ in 0..20 {
        later.extend(desk.wait(Duration::from_secs(10)));
    }
    let ours = [place(1), listening];
    let called: Vec<&HostPort> = later
        .iter()
        .flat_map(|output| match output {
            Output::Dial { at, .. } => at.iter().collect(),
            Output::Introduce { at, .. } => vec![at],
            _ => Vec::new(),
        })
        .collect();
    assert!(called.contains(&&place(4)) && called.contains(&&place(5)), "the other address of each");
    assert!(!called.iter().any(|at| ours.contains(at)), "{called:?}");
}

#[test]
fn a_node_that_knows_enough_gives_the_dns_a_rest_at_first() {
    let mut desk = seeker(Params::default());
    let node = |seed: u8| SavedNode {
        id: key(seed).id(),
        at: vec![format!("127.{seed}.0.1:7443").parse().expect("an address")],
        tier: Tier::Exchange,
        source: "127.1.0.0/16".to_owned(),
        heard: START,
        verified: Some(START),
        failures: 0,
        dead: None,
        anchor: seed == 15,
        near: true,
    };
    let nodes = (2..20).map(node).collect();
    desk.input(Input::Remembered(SavedBook { nodes, ..SavedBook::default() }));
    let out = begin(&mut desk);
    assert!(lookups(&out).is_empty());
    assert_eq!(dials(&out).len(), 8, "as many as are wanted, in parallel");
    assert_eq!(dials(&out)[0].0, key(15).id(), "the anchor first");
    assert_eq!(lookups(&desk.wait(DNS_LATER)).first(), Some(&Tier::Dns));
}

#[test]
fn whoever_was_typed_in_answers_for_itself_and_strangers_wait_for_a_slot() {
    let mut desk = seeker(Params { min_peers: 1, ..Params::default() });
    begin(&mut desk);
    friend(&mut desk, 2);
    let heard = vec![record(3, 1, &["a.*"])];
    let out = desk.input(Input::Heard { teller: key(2).id(), asked: true, records: heard });
    assert_eq!(moved(&out, Standing::Heard), [key(3).id()]);
    assert!(dials(&out).is_empty(), "one connection stands, and one is wanted");
    let view = desk.node.view();
    assert_eq!((view.peers.len(), view.strangers), (1, 1));
    let stranger = &desk.node.strangers(desk.now)[0];
    assert_eq!((&stranger.state, stranger.teller), (&PeerState::Heard, Some(key(2).id())));
    assert_eq!(desk.node.shareable(desk.now.wall).len(), 1, "hearsay is not passed on");
}

#[test]
fn a_steady_peer_that_is_lost_is_a_suspect_for_half_a_minute() {
    let mut desk = Desk::new(Params::default());
    let lane = desk.connect(2, &["a.*"]);
    desk.wait(Duration::from_secs(60));
    let peer = key(2).id();
    let out = desk.input(Input::Broken { peer, lane, why: "gone".into() });
    assert_eq!(moved(&out, Standing::Suspect), [peer]);
    assert!(matches!(desk.state(2), PeerState::Suspect { .. }));
    let out = desk.wait(Duration::from_secs(1));
    desk.input(Input::Connected { peer, lane: lane_to(&out, 2), rtt: Duration::ZERO });
    assert!(matches!(desk.state(2), PeerState::Connected { .. }));
    desk.wait(Duration::from_secs(60));
    desk.input(Input::Broken { peer, lane: lane_to(&out, 2), why: "gone".into() });
    let out = desk.wait(Duration::from_secs(1));
    desk.wait(SUSPECT_FOR);
    desk.input(Input::Broken { peer, lane: lane_to(&out, 2), why: "gone".into() });
    assert!(matches!(desk.state(2), PeerState::Backoff { .. }));
}

#[test]
fn who_never_answers_is_dead_after_three_failures_and_dialled_again_now_and_then() {
    let mut desk = seeker(Params { min_peers: 2, ..Params::default() });
    begin(&mut desk);
    friend(&mut desk, 2);
    let heard = vec![record(3, 1, &["a.*"])];
    let mut out = desk.input(Input::Heard { teller: key(2).id(), asked: true, records: heard });
    let mut failures = 0;
    for _ in 0..100 {
        for (peer, lane) in dials(&out).into_iter().filter(|(peer, _)| *peer == key(3).id()) {
            failures += 1;
            desk.input(Input::Pong { peer: key(2).id(), rtt: Duration::ZERO });
            desk.input(Input::Broken { peer, lane, why: "connection refused".into() });
        }
        for output in &out {
            let Output::Introduce { at, tier, .. } = output else { continue };
            failures += 1;
            desk.input(Input::Introduced { at: at.clone(), tier: *tier, result: Err("connection refused".into()) });
        }
        if matches!(desk.node.strangers(desk.now)[0].state, PeerState::Dead { .. }) {
            break;
        }
        desk.input(Input::Pong { peer: key(2).id(), rtt: Duration::ZERO });
        out = desk.wait(Duration::from_secs(2));
    }
    assert!(failures >= NEVER_FAILURES_MAX, "{failures}");
    assert!(matches!(desk.node.strangers(desk.now)[0].state, PeerState::Dead { .. }));
    assert_eq!(dials(&desk.wait(HEAL_EVERY.1)).len(), 1, "what heals a partition");
}

#[test]
fn another_key_at_an_address_strikes_it_blames_the_teller_and_is_worth_knowing() {
    let mut desk = seeker(Params { min_peers: 20, ..Params::default() });
    begin(&mut desk);
    desk.input(Input::Met { word: Word::Near, record: record(2, 1, &["a.*"]) });
    let teller = key(2).id();
    let mut last = Vec::new();
    for number in 0..u8::try_from(MISTAKES_MAX).expect("few") {
        let lie = record(10 + number, 1, &["a.*"]);
        let id = lie.id();
        let mut out = desk.input(Input::Heard { teller, asked: true, records: vec![lie] });
        out.extend(desk.wait(Duration::from_secs(20)));
        let (lane, at) = (lane_to(&out, 10 + number), place(10 + number));
        last = desk.input(Input::Mistaken { peer: id, lane, at, found: key(100 + number).id() });
        let known: Vec<NodeId> = desk.node.strangers(desk.now).into_iter().map(|peer| peer.id).collect();
        assert!(!known.contains(&id), "it has no other address");
        assert!(known.contains(&key(100 + number).id()), "whoever it is, he is there");
    }
    assert_eq!(moved(&last, Standing::Quarantine), [teller]);
    assert!(matches!(desk.state(2), PeerState::Quarantine { .. }));
    let out = desk.input(Input::Heard { teller, asked: true, records: vec![record(60, 1, &["a.*"])] });
    assert!(moved(&out, Standing::Heard).is_empty(), "it is not listened to");
    let group = crate::wire::Group::of("127.2.0.1".parse().expect("an address"));
    friend(&mut desk, 3);
    assert!(!desk.node.share(&key(9).id(), group, desk.now).is_empty(), "others are told of who is there");
    assert!(desk.node.share(&teller, group, desk.now).is_empty(), "nor is it told of anybody");
    let newer = RecordDraft { addresses: vec![place(2)], seq: 2, ..RecordDraft::default() };
    desk.input(Input::Met { word: Word::Near, record: newer.seal(START, &key(2)).expect("a record") });
    let wants = desk.node.view().peers.into_iter().find(|peer| peer.id == teller).expect("still there").interests;
    assert!(wants.matches(&"a.x".parse().expect("a type")), "and its own newer record is not taken");
    let out = desk.wait(QUARANTINE);
    assert!(dials(&out).iter().any(|(peer, _)| *peer == teller), "for a day");
}

#[test]
fn what_the_dns_named_gives_its_slots_back_once_others_fill_them() {
    let mut desk = seeker(Params { min_peers: 2, ..Params::default() });
    begin(&mut desk);
    let out = desk.input(Input::Found { tier: Tier::Dns, result: Ok(vec![find(2)]) });
    let_in(&mut desk, 2, lane_to(&out, 2), &["a.*"]);
    assert!(is_chosen(&desk, 2));
    friend(&mut desk, 3);
    friend(&mut desk, 4);
    assert!(!is_chosen(&desk, 2));
    assert!(matches!(desk.state(2), PeerState::Connected { .. }), "what it asked for still reaches it");
}

fn is_chosen(desk: &Desk, seed: u8) -> bool {
    desk.node.view().peers.iter().any(|peer| peer.id == key(seed).id() && peer.chosen)
}

#[test]
fn whom_this_node_finds_itself_need_not_ask_though_it_called_first() {
    let mut desk = seeker(Params { accept: Accept::Ask, ..Params::default() });
    begin(&mut desk);
    desk.input(Input::Met { word: Word::Near, record: record(2, 1, &["a.*"]) });
    desk.wait(Duration::from_secs(1));
    assert_eq!(desk.state(2), PeerState::Asking);
    let mut out = desk.input(Input::Found { tier: Tier::Dns, result: Ok(vec![find(2)]) });
    out.extend(desk.wait(Duration::from_secs(1)));
    let_in(&mut desk, 2, lane_to(&out, 2), &["a.*"]);
    assert!(is_chosen(&desk, 2));
    let sent = desk.publish(vec![event(1, "for-it-too", "a.x")]);
    assert_eq!(shipments(&sent).len(), 1, "it is a peer like others");
}

#[test]
fn a_peer_keeps_its_slot_until_it_has_everything() {
    let mut desk = seeker(Params { min_peers: 2, ..Params::default() });
    begin(&mut desk);
    let out = desk.input(Input::Found { tier: Tier::Dns, result: Ok(vec![find(2)]) });
    let_in(&mut desk, 2, lane_to(&out, 2), &["a.*"]);
    desk.input(Input::Broken { peer: key(2).id(), lane: lane_to(&out, 2), why: "gone".to_owned() });
    desk.publish(vec![event(1, "owed", "a.x")]);
    friend(&mut desk, 3);
    friend(&mut desk, 4);
    let back = desk.wait(Duration::from_secs(40));
    let_in(&mut desk, 2, lane_to(&back, 2), &["a.*"]);
    assert!(is_chosen(&desk, 2), "it is owed an event");
    let page = Page { entries: vec![], upto: Seq(1) };
    let read = desk.input(Input::Scanned { peer: key(2).id(), after: Seq(0), page: Ok(page) });
    assert!(shipments(&read).is_empty());
    desk.wait(EXCHANGE_EVERY * 2);
    assert!(!is_chosen(&desk, 2), "then it gives the slot back");
}

#[test]
fn a_goodbye_ends_the_calls_for_a_day() {
    let mut desk = Desk::new(Params::default());
    desk.input(Input::Met { word: Word::Near, record: record(2, 1, &["a.*"]) });
    let data = serde_json::value::RawValue::from_string(r#"{"seq":2,"bye":true}"#.to_owned()).expect("JSON");
    let draft = Draft::new("bye", "mesh.node", START).with_data(data);
    let bye = Record::read(&envelope::seal(&draft, &key(2)).expect("a good draft")).expect("a record");
    desk.input(Input::Met { word: Word::Near, record: bye });
    assert!(matches!(desk.state(2), PeerState::Left { .. }));
    desk.input(Input::Contact { peer: key(2).id() });
    assert!(dials(&desk.wait(LEFT_FOR / 2)).is_empty());
    desk.input(Input::Met { word: Word::Near, record: record(2, 3, &["a.*"]) });
    assert_eq!(dials(&desk.wait(Duration::from_secs(1))).len() + usize::from(desk.state(2) == PeerState::Dialling), 1);
}

/// A record of node `seed` at these places.
fn told_at(seed: u8, places: &[&str]) -> Verified<Record> {
    let addresses = places.iter().map(|at| at.parse().expect("an address")).collect();
    RecordDraft { seq: 1, addresses, ..RecordDraft::default() }.seal(START, &key(seed)).expect("a record")
}

fn words(out: &[Output], seed: u8) -> Vec<(Vec<HostPort>, Word)> {
    let dial = |output: &Output| match output {
        Output::Dial { peer, at, word, .. } if *peer == key(seed).id() => Some((at.clone(), *word)),
        _ => None,
    };
    out.iter().filter_map(dial).collect()
}

#[test]
fn a_name_is_dialled_on_the_word_of_whoever_told_of_it() {
    for word in [Word::Near, Word::Far] {
        let mut desk = seeker(Params::default());
        begin(&mut desk);
        let out = desk.input(Input::PeerAdded { ticket: Ticket(9), id: key(2).id(), at: place(2), alias: None });
        assert_eq!(words(&out, 2), [(vec![place(2)], Word::Typed)]);
        desk.input(Input::Met { word, record: record(2, 1, &[]) });
        desk.input(Input::Connected { peer: key(2).id(), lane: lane_to(&out, 2), rtt: Duration::from_millis(1) });
        let records = vec![told_at(5, &["birch.example:7443", "10.0.0.1:7443"])];
        let out = desk.input(Input::Heard { teller: key(2).id(), asked: true, records });
        let places = ["birch.example:7443", "10.0.0.1:7443"].map(|at| at.parse::<HostPort>().expect("an address"));
        let kept = if word == Word::Near { &places[..] } else { &places[..1] };
        assert_eq!(words(&out, 5), [(kept.to_vec(), word)], "a private address is told from near alone");
        let saved = desk.input(Input::Stop).into_iter().find_map(|output| match output {
            Output::SaveBook { book, .. } => Some(book.nodes),
            _ => None,
        });
        let saved = saved.expect("the book is written at the end");
        assert!(saved.iter().all(|node| node.near == (word == Word::Near)), "the next life knows it too");
    }
}

#[test]
fn a_caller_from_far_names_no_private_address_of_its_own() {
    for (word, places) in [(Word::Near, 2), (Word::Far, 1)] {
        let mut desk = seeker(Params::default());
        begin(&mut desk);
        let out = desk.input(Input::Met { word, record: told_at(5, &["birch.example:7443", "10.0.0.1:7443"]) });
        let dialled = words(&out, 5);
        assert_eq!(dialled.len(), 1);
        assert_eq!((dialled[0].0.len(), dialled[0].1), (places, word));
    }
}

#[test]
fn whom_the_last_life_knew_by_name_is_dialled_on_its_word() {
    for near in [true, false] {
        let mut desk = seeker(Params::default());
        let node = SavedNode {
            id: key(5).id(),
            at: vec!["birch.example:7443".parse().expect("an address")],
            tier: Tier::Exchange,
            source: "127.0.0.0/16".to_owned(),
            heard: START,
            verified: Some(START),
            failures: 0,
            dead: None,
            anchor: false,
            near,
        };
        desk.input(Input::Remembered(SavedBook { nodes: vec![node], ..SavedBook::default() }));
        let word = if near { Word::Near } else { Word::Far };
        assert_eq!(words(&begin(&mut desk), 5).first().map(|(_, word)| *word), Some(word));
    }
}

/// A record of node `seed` that names the address of node `other`.
fn said_at(other: u8, seed: u8) -> Verified<Record> {
    let draft = RecordDraft { addresses: vec![place(other)], ..RecordDraft::default() };
    draft.seal(START, &key(seed)).expect("a record")
}

/// Two ids that are made up for each address of a mesh would keep all of it out of the book.
#[test]
fn whoever_answers_at_an_address_gets_in_where_others_are_only_said_to_be() {
    let mut desk = seeker(Params { min_peers: 1, ..Params::default() });
    begin(&mut desk);
    friend(&mut desk, 2);
    let tell = |desk: &mut Desk, records| desk.input(Input::Heard { teller: key(2).id(), asked: true, records });
    let known = |desk: &Desk, seed: u8| desk.node.strangers(desk.now).iter().any(|peer| peer.id == key(seed).id());
    tell(&mut desk, vec![said_at(3, 50), said_at(3, 51)]);
    tell(&mut desk, vec![record(3, 1, &["a.*"])]);
    assert_eq!([50, 51, 3].map(|seed| known(&desk, seed)), [true, true, false], "a third one has no room there");

    // A list names the place alone: who answers there is there.
    let nameless = Find { id: None, at: vec![place(3)] };
    desk.input(Input::Found { tier: Tier::Seed, result: Ok(vec![nameless]) });
    desk.input(Input::Introduced { at: place(3), tier: Tier::Seed, result: Ok(key(3).id()) });
    assert!(known(&desk, 3));
    assert_eq!([50, 51].into_iter().filter(|seed| known(&desk, *seed)).count(), 1, "as many go as need to");
}

/// The same of one that calls on us, and is found where it says it is.
#[test]
fn a_caller_is_remembered_though_others_are_said_to_be_at_its_address() {
    let mut desk = seeker(Params { min_peers: 1, ..Params::default() });
    begin(&mut desk);
    friend(&mut desk, 2);
    desk.input(Input::Heard { teller: key(2).id(), asked: true, records: vec![said_at(3, 50), said_at(3, 51)] });
    let out = desk.input(Input::Met { word: Word::Near, record: record(3, 1, &["a.*"]) });
    let_in(&mut desk, 3, lane_to(&out, 3), &["a.*"]);
    let out = desk.input(Input::Stop);
    let saved = out.iter().find_map(|output| match output {
        Output::SaveBook { book, .. } => Some(book.nodes.iter().map(|node| node.id).collect::<Vec<_>>()),
        _ => None,
    });
    assert!(saved.expect("a book").contains(&key(3).id()));
}
