//! The repair of the view: when a neighbour is asked, who is answered, and what becomes of what comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ports::SavedNode;
use super::sync::{Fault, Run, Snapshot, Step, Tally};
use super::tier::Tier;
use super::*;

const EVERY: Duration = params::RECONCILE_EVERY;

fn node(number: u16) -> Keypair {
    let mut seed = [5; 32];
    seed[..2].copy_from_slice(&number.to_le_bytes());
    Keypair::from_seed(&seed)
}

fn at(number: u16) -> HostPort {
    format!("127.{}.{}.1:7443", 1 + number % 250, 1 + number / 250).parse().expect("an address")
}

fn told(number: u16, seq: u64) -> Verified<Record> {
    RecordDraft { seq, addresses: vec![at(number)], ..RecordDraft::default() }.seal(START, &node(number)).expect("one")
}

fn digest(record: &Verified<Record>) -> Digest {
    record.envelope().digest()
}

/// Node 1, which exchanges records; it may hand on those of these nodes.
fn knowing(numbers: impl Iterator<Item = u16> + Clone) -> Desk {
    let tiers = params::Tiers { exchange: true, ..params::Tiers::default() };
    let mut desk = Desk::new(Params { tiers, min_peers: 0, ..Params::default() });
    let remembered = |number: u16| SavedNode {
        id: node(number).id(),
        at: vec![at(number)],
        tier: Tier::Exchange,
        source: format!("of {number}"),
        heard: START,
        verified: Some(START),
        failures: 0,
        dead: None,
        anchor: false,
        near: true,
    };
    let nodes = numbers.clone().map(remembered).collect();
    // Out of its hand they come. It is dialled, and does not answer.
    desk.input(Input::Met { word: Word::Near, record: record(200, 1, &[]) });
    desk.lanes += 1;
    desk.input(Input::Remembered(ports::SavedBook { nodes, shunned: Vec::new() }));
    for number in numbers {
        desk.node.on_told(told(number, 1), key(200).id(), desk.now, &mut Vec::new());
    }
    desk
}

fn view(desk: &Desk) -> BTreeMap<NodeId, Digest> {
    desk.node.peers.records().map(|record| (record.id(), digest(record))).collect()
}

fn asked(out: &[Output]) -> Vec<(NodeId, LaneId, Arc<Snapshot>)> {
    let ask = |output: &Output| match output {
        Output::Reconcile { peer, lane, snapshot } => Some((*peer, *lane, Arc::clone(snapshot))),
        _ => None,
    };
    out.iter().filter_map(ask).collect()
}

/// What neighbour 2 tells when it is asked by the exchange.
fn hear(desk: &mut Desk, numbers: std::ops::Range<u16>) {
    let records = numbers.map(|number| told(number, 1)).collect();
    desk.input(Input::Heard { teller: key(2).id(), asked: true, records });
}

fn ended(desk: &mut Desk, lane: LaneId, result: Result<Tally, Fault>) -> Vec<Output> {
    desk.input(Input::Reconciled { peer: key(2).id(), lane, result })
}

const WHOLE: Tally = Tally { rounds: 1, bytes: 1, wanted: 0, given: 0, is_whole: true };

#[test]
fn a_part_with_news_in_it_makes_us_ask_for_the_rest_at_once() {
    for (told, is_asked) in [(15, false), (16, true)] {
        let mut desk = knowing(0..0);
        let lane = desk.connect(2, &["a.*"]);
        hear(&mut desk, 0..told);
        let out = desk.wait(Duration::from_secs(2));
        assert_eq!(
            asked(&out).iter().map(|(peer, at, _)| (*peer, *at)).next(),
            is_asked.then_some((key(2).id(), lane))
        );
    }
    let mut desk = knowing(0..16);
    desk.connect(2, &["a.*"]);
    hear(&mut desk, 0..16);
    assert!(asked(&desk.wait(Duration::from_secs(2))).is_empty(), "no news");
}

#[test]
fn one_neighbour_at_a_time_and_the_next_one_after_minutes() {
    let mut desk = knowing(0..40);
    let lanes = BTreeMap::from([2u8, 3].map(|number| (key(number).id(), desk.connect(number, &["a.*"]))));
    assert!(asked(&desk.wait(EVERY / 5 * 4 - Duration::from_secs(1))).is_empty());
    let first = asked(&desk.wait(EVERY / 5 * 2 + Duration::from_secs(1)));
    let [(peer, lane, snapshot)] = &first[..] else { panic!("{first:?}") };
    assert_eq!(lanes[peer], *lane);
    assert!(snapshot.len() >= 40);
    let (peer, lane) = (*peer, *lane);
    let gave_up = desk.wait(params::RUN_MAX - Duration::from_secs(1));
    assert!(asked(&gave_up).is_empty(), "one runs");
    desk.input(Input::Reconciled { peer, lane, result: Ok(WHOLE) });
    let mut seen = BTreeMap::<NodeId, u32>::new();
    for _ in 0..40 {
        for (peer, lane, _) in asked(&desk.wait(EVERY / 5 * 6)) {
            *seen.entry(peer).or_default() += 1;
            desk.input(Input::Reconciled { peer, lane, result: Ok(WHOLE) });
        }
    }
    assert!(seen.len() == 2 && seen.values().sum::<u32>() >= 35, "{seen:?}");
}

#[test]
fn few_nodes_are_left_to_the_exchange() {
    let mut desk = knowing(0..10);
    desk.connect(2, &["a.*"]);
    assert!((0..5).all(|_| asked(&desk.wait(EVERY / 5 * 6)).is_empty()));
    let mut off = Desk::new(Params::default());
    off.connect(2, &["a.*"]);
    hear(&mut off, 0..32);
    assert!(asked(&off.wait(EVERY * 2)).is_empty(), "the operator turned the exchange off");
    assert!(off.node.reconcile_with(&key(2).id(), off.now).is_none());
}

#[test]
fn a_neighbour_that_cheats_is_noted_and_left_alone() {
    for (fault, pause, is_noted) in [
        (Fault::Endless, params::RECONCILE_REST, true),
        (Fault::Nonsense, params::RECONCILE_REST, true),
        (Fault::Refused(404), EVERY * 2, false),
        (Fault::Busy, params::RECONCILE_BUSY, false),
    ] {
        let mut desk = knowing(0..40);
        let lane = desk.connect(2, &["a.*"]);
        hear(&mut desk, 100..116);
        assert_eq!(asked(&desk.wait(Duration::from_secs(2))).len(), 1);
        let out = ended(&mut desk, lane, Err(fault));
        let noted = out.iter().any(|output| matches!(output, Output::Note(Note::PeerUnreconciled { .. })));
        assert_eq!(noted, is_noted, "{fault:?}");
        assert_eq!(desk.node.view().counts.sync.failed, 1);
        // However much news it tells.
        hear(&mut desk, 200..216);
        assert!(asked(&desk.wait(pause - Duration::from_secs(2))).is_empty(), "{fault:?}");
        let later: usize = (0..40).map(|_| asked(&desk.wait(Duration::from_secs(30))).len()).sum();
        assert!(later >= 1, "{fault:?}: it gets another chance");
    }
}

#[test]
fn a_run_ends_with_its_lane_and_one_that_nobody_answers_is_given_up() {
    let mut desk = knowing(0..40);
    let lane = desk.connect(2, &["a.*"]);
    hear(&mut desk, 100..116);
    assert_eq!(asked(&desk.wait(Duration::from_secs(2))).len(), 1);
    assert_eq!(desk.node.repair.deadline(), Some(desk.now.mono + params::RUN_MAX));
    desk.wait(params::RUN_MAX);
    assert!(desk.node.repair.deadline().is_some_and(|due| due > desk.now.mono + Duration::from_secs(1)));
    let late = told(300, 1);
    desk.input(Input::Gained { peer: key(2).id(), lane, records: vec![late.clone()], useless: Vec::new() });
    assert!(!view(&desk).contains_key(&late.id()), "nobody waits for it any more");
    assert_eq!(desk.node.view().counts.records_ignored, 1);

    hear(&mut desk, 200..216);
    let again = asked(&desk.wait(EVERY / 5 * 6));
    assert_eq!(again.len(), 1);
    desk.input(Input::Broken { peer: key(2).id(), lane, why: "gone".into() });
    desk.input(Input::Gained { peer: key(2).id(), lane, records: vec![late.clone()], useless: Vec::new() });
    assert!(!view(&desk).contains_key(&late.id()));
}

#[test]
fn a_run_that_could_not_want_everything_goes_on_soon() {
    let mut desk = knowing(0..40);
    let lane = desk.connect(2, &["a.*"]);
    hear(&mut desk, 100..116);
    assert_eq!(asked(&desk.wait(Duration::from_secs(2))).len(), 1);
    ended(&mut desk, lane, Ok(Tally { given: 64, is_whole: false, ..WHOLE }));
    assert_eq!(asked(&desk.wait(params::RECONCILE_ON / 5 * 6)).len(), 1);
    ended(&mut desk, lane, Ok(Tally { given: 63, is_whole: false, ..WHOLE }));
    assert!(asked(&desk.wait(params::RECONCILE_ON * 2)).is_empty(), "it brought little");
}

#[test]
fn what_comes_is_checked_as_from_any_hand_and_fetched_in_vain_once() {
    let mut desk = knowing(0..40);
    let lane = desk.connect(2, &["a.*"]);
    hear(&mut desk, 100..116);
    assert_eq!(asked(&desk.wait(Duration::from_secs(2))).len(), 1);
    let forbidden =
        RecordDraft { seq: 1, addresses: vec!["127.0.0.1:22".parse().expect("one")], ..RecordDraft::default() };
    let forbidden = forbidden.seal(START, &node(401)).expect("a record");
    let [newer, older] = [told(3, 2), told(4, 0)];
    let fresh: Vec<Verified<Record>> = (300..308).map(|number| told(number, 1)).collect();
    let unsound = Digest::of(b"unsound");
    let records = [forbidden.clone(), newer.clone(), older.clone()].into_iter().chain(fresh.clone()).collect();
    desk.input(Input::Gained { peer: key(2).id(), lane, records, useless: vec![unsound] });
    let held = view(&desk);
    // One hand has its part of the table and no more, so some may find it taken.
    let placed = fresh.iter().filter(|one| held.get(&one.id()) == Some(&digest(one))).count();
    assert!(placed >= 4, "{placed} of 8");
    assert_eq!(held.get(&newer.id()), Some(&digest(&newer)));
    assert_eq!(held.get(&older.id()), Some(&digest(&told(4, 1))), "the highest number wins");
    assert!(!held.contains_key(&forbidden.id()));
    assert_eq!(desk.node.view().counts.sync.gained, 1 + placed as u64);

    // Of all these none is wanted again, though only what was proved is handed on.
    ended(&mut desk, lane, Ok(WHOLE));
    hear(&mut desk, 200..216);
    let out = (0..12).map(|_| desk.wait(Duration::from_secs(30))).find(|out| !asked(out).is_empty()).expect("asked");
    let (_, _, ours) = asked(&out).remove(0);
    assert!(!fresh.iter().any(|one| ours.has(&digest(one))), "their keys were not proved to us");
    let other = told(500, 1);
    let every = [&forbidden, &newer, &older, &other].into_iter().chain(&fresh);
    let theirs = Snapshot::new(every.map(|record| (record.id(), record)), std::iter::empty());
    let (mut run, step) = Run::begin(ours);
    let Step::Sync(message) = step else { panic!("{step:?}") };
    let mut step = run.hear(&theirs.answer(&message).expect("an answer")).expect("a step");
    while let Step::Sync(message) = step {
        step = run.hear(&theirs.answer(&message).expect("an answer")).expect("a step");
    }
    assert_eq!(step, Step::Get(vec![digest(&other)]));
}

#[test]
fn only_a_neighbour_whose_living_record_we_hold_is_answered() {
    let mut desk = knowing(0..20);
    let is_answered = |desk: &mut Desk, id: NodeId| desk.node.reconcile_with(&id, desk.now).is_some();
    assert!(!is_answered(&mut desk, key(9).id()), "a stranger");
    assert!(!is_answered(&mut desk, node(3).id()), "one of the book");
    desk.input(Input::PeerAdded { ticket: Ticket(1), id: key(4).id(), at: place(4), alias: None });
    assert!(!is_answered(&mut desk, key(4).id()), "a neighbour without a record");
    desk.input(Input::Met { word: Word::Near, record: record(4, 1, &[]) });
    assert!(is_answered(&mut desk, key(4).id()));
    let own = record(1, 1, &["a.*"]);
    desk.input(Input::Signed { record: own.clone() });
    desk.wait(params::SNAPSHOT_KEPT);
    let given = desk.node.reconcile_with(&key(4).id(), desk.now).expect("a snapshot");
    assert!(given.has(&digest(&own)) && given.has(&digest(&told(3, 1))));
    assert_eq!(given.len(), 21, "nobody saw the key of 4 proved");
    desk.node.on_told(told(3, 2), key(200).id(), desk.now, &mut Vec::new());
    let same = desk.node.reconcile_with(&key(4).id(), desk.now).expect("a snapshot");
    assert!(Arc::ptr_eq(&given, &same), "for some seconds it is the same");
    desk.wait(params::SNAPSHOT_KEPT);
    let later = desk.node.reconcile_with(&key(4).id(), desk.now).expect("a snapshot");
    assert!(later.has(&digest(&told(3, 2))) && !later.has(&digest(&told(3, 1))));

    desk.input(Input::Ordered {
        ticket: Ticket(2),
        id: key(4).id(),
        order: ports::Order::Block { why: String::new() },
    });
    assert!(!is_answered(&mut desk, key(4).id()), "a person blocked it");
    desk.wait(params::DAY);
    desk.input(Input::Ordered { ticket: Ticket(2), id: key(4).id(), order: ports::Order::Unblock });
    assert!(!is_answered(&mut desk, key(4).id()), "its record has expired");
}

#[test]
fn who_waits_to_be_accepted_and_who_is_no_member_is_told_nothing() {
    let tiers = params::Tiers { exchange: true, ..params::Tiers::default() };
    let mut desk = Desk::new(Params { tiers, accept: params::Accept::Ask, ..Params::default() });
    desk.input(Input::Met { word: Word::Near, record: record(4, 1, &[]) });
    assert!(matches!(desk.state(4), PeerState::Asking));
    assert!(desk.node.reconcile_with(&key(4).id(), desk.now).is_none());
    desk.input(Input::Ordered { ticket: Ticket(2), id: key(4).id(), order: ports::Order::Accept });
    assert!(desk.node.reconcile_with(&key(4).id(), desk.now).is_some());

    let allow = [key(2).id(), key(3).id()].into();
    let mut desk = Desk::new(Params { tiers, allow, ..Params::default() });
    desk.connect(2, &[]);
    desk.connect(3, &[]);
    desk.connect(4, &[]);
    assert!(desk.node.reconcile_with(&key(4).id(), desk.now).is_none(), "typed in, and no member");
    let given = desk.node.reconcile_with(&key(2).id(), desk.now).expect("a snapshot");
    assert_eq!(given.lines(&[digest(&record(3, 1, &[])), digest(&record(4, 1, &[]))]).len(), 1);
}

/// Two nodes of which each knows 500 others, a fifth of them unknown to the other. Each asks once.
#[test]
fn two_views_that_differ_by_a_fifth_become_equal() {
    let mut first = knowing((0..500).filter(|number| number % 10 != 3));
    let mut second = knowing((0..500).filter(|number| number % 10 != 7));
    let lane = first.connect(2, &[]);
    let (before, theirs) = (view(&first), view(&second));
    let missing: Vec<NodeId> = theirs.keys().filter(|id| !before.contains_key(id)).copied().collect();
    assert!(missing.len() > 40 && before.len() > 400, "{} of {}", missing.len(), before.len());
    second.input(Input::Met { word: Word::Near, record: record(4, 1, &[]) });
    let (_, _, ours) = asked(&first.wait(EVERY / 5 * 6)).remove(0);
    let answering = second.node.reconcile_with(&key(4).id(), second.now).expect("a neighbour");
    let (mut run, mut step) = Run::begin(ours);
    let tally = loop {
        step = match step {
            Step::Sync(message) => run.hear(&answering.answer(&message).expect("an answer")).expect("a step"),
            Step::Get(digests) => {
                let held: BTreeMap<_, _> = second.node.peers.records().map(|one| (digest(one), one.clone())).collect();
                let records = digests.iter().map(|digest| held[digest].clone()).collect();
                first.input(Input::Gained { peer: key(2).id(), lane, records, useless: Vec::new() });
                run.got(&digests).expect("a step")
            }
            Step::Done => break run.tally(),
        };
    };
    ended(&mut first, lane, Ok(tally));
    let after = view(&first);
    let unplaced = missing.iter().filter(|id| !after.contains_key(id)).count();
    let told = missing.iter().filter(|id| answering.has(&theirs[id])).count();
    assert!(tally.given == told && told + 3 >= missing.len(), "{told} of {}", missing.len());
    assert!(tally.is_whole && tally.rounds <= 4 && tally.bytes <= 60_000, "{tally:?}");
    // The book gives one hand its part of the table and no more; the view has room for all.
    assert_eq!(unplaced + told, missing.len());
    assert_eq!(first.node.view().counts.sync.gained as usize, told);
}
