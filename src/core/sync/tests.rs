//! Reconciliation between two sets; when a node asks is in the tests of the core.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::wire::Keypair;
use crate::wire::RecordDraft;
use crate::wire::sync::{DIGESTS_MAX, SYNC_BYTES_MAX};

const NOW: Wall = Wall::from_millis(1_795_243_262_123);

/// Records of as many nodes; a third of them share a number, as those of nodes do that are as old.
static POOL: LazyLock<Vec<Verified<Record>>> = LazyLock::new(|| {
    let record = |number: u64| {
        let mut seed = [3; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        let seq = if number.is_multiple_of(3) { 7 } else { 1_000 + number };
        RecordDraft { seq, ..RecordDraft::default() }.seal(NOW, &Keypair::from_seed(&seed)).expect("a record")
    };
    (0..600).map(record).collect()
});

fn of(records: &[&Verified<Record>]) -> Arc<Snapshot> {
    Arc::new(Snapshot::new(records.iter().map(|record| (record.id(), *record)), std::iter::empty()))
}

fn digest(record: &Verified<Record>) -> Digest {
    record.envelope().digest()
}

/// Carries a run out. What it brought, and how it went.
fn reconciled(ours: &Arc<Snapshot>, theirs: &Snapshot) -> Result<(BTreeMap<Digest, String>, Tally), Fault> {
    let (mut run, mut step) = Run::begin(Arc::clone(ours));
    let mut gained = BTreeMap::new();
    loop {
        step = match step {
            Step::Done => return Ok((gained, run.tally())),
            Step::Sync(message) => {
                assert!(message.len() < SYNC_BYTES_MAX);
                let answer = theirs.answer(&message).expect("what we ask makes sense");
                assert!(answer.len() < SYNC_BYTES_MAX);
                run.hear(&answer)?
            }
            Step::Get(digests) => {
                assert!(digests.len() <= DIGESTS_MAX);
                let lines = theirs.lines(&digests);
                let line = |line: String| {
                    let event = line.split_once('{').map(|(_, rest)| format!("{{{rest}")).expect("an event");
                    (Digest::of(event.as_bytes()), line)
                };
                let lines: Vec<(Digest, String)> = lines.into_iter().map(line).collect();
                let named: Vec<Digest> = lines.iter().map(|(digest, _)| *digest).collect();
                gained.extend(lines);
                run.got(&named)?
            }
        };
    }
}

#[test]
fn equal_sets_cost_one_small_frame() {
    let all: Vec<_> = POOL.iter().collect();
    for count in [0, 1, 31, 600] {
        let (gained, tally) = reconciled(&of(&all[..count]), &of(&all[..count])).expect("a run");
        assert!(gained.is_empty() && tally.is_whole && tally.rounds == 1);
        // Fewer than 32 are told by their digests, more of them by 16 fingerprints.
        assert!(tally.bytes <= if count < 32 { 2_048 } else { 512 }, "{count}: {tally:?}");
    }
}

/// Views of 600 nodes of which each side lacks a tenth: as the difference grows so do the bytes, and no faster.
#[test]
fn what_a_run_costs_follows_the_difference() {
    let all: Vec<_> = POOL.iter().collect();
    for apart in [0, 6, 30, 60, 120, 300] {
        // Each lacks as many, spread over the order of the items.
        let lacks = |side: usize, number: usize| {
            let (before, after) = (number * apart / 600, (number + 1) * apart / 600);
            before != after && after % 2 == side
        };
        let side =
            |side| -> Vec<_> { (0..600).filter(|number| !lacks(side, *number)).map(|number| all[number]).collect() };
        let (ours, theirs) = (side(0), side(1));
        let (gained, tally) = reconciled(&of(&ours), &of(&theirs)).expect("a run");
        let ids: Vec<NodeId> = ours.iter().map(|record| record.id()).collect();
        let expected: Vec<Digest> =
            theirs.iter().filter(|one| !ids.contains(&one.id())).map(|one| digest(one)).collect();
        assert_eq!(gained.keys().copied().collect::<BTreeSet<_>>(), expected.into_iter().collect());
        assert!(tally.is_whole && tally.rounds <= 4, "{tally:?}");
        // Each difference brings at most a bucket of other digests with it, and those end at the whole set.
        assert!(tally.bytes <= 1_100 + (apart * 32 * 40).min(2 * 600 * 40), "{tally:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever two sides hold: the one who asks gets what the other has and it has not, and nothing else.
    #[test]
    fn a_run_brings_the_difference(ours in prop::collection::vec(any::<bool>(), 600), theirs in prop::collection::vec(any::<bool>(), 600), few in 1usize..=600) {
        let pick = |chosen: &[bool]| -> Vec<_> {
            POOL.iter().zip(chosen).take(few).filter(|(_, chosen)| **chosen).map(|(record, _)| record).collect()
        };
        let (ours, theirs) = (pick(&ours), pick(&theirs));
        let (gained, tally) = reconciled(&of(&ours), &of(&theirs)).expect("a run");
        let held: BTreeSet<Digest> = ours.iter().map(|record| digest(record)).collect();
        let lacking = theirs.iter().map(|record| digest(record)).filter(|digest| !held.contains(digest));
        prop_assert_eq!(gained.keys().copied().collect::<BTreeSet<_>>(), lacking.collect());
        prop_assert!(tally.is_whole);
        for (digest, line) in gained {
            let record = theirs.iter().find(|record| record.envelope().digest() == digest).expect("theirs");
            prop_assert_eq!(line, record.envelope().line(0, false));
        }
    }

    /// Bytes of any shape: a refusal, or an answer within its bound.
    #[test]
    fn no_message_breaks_the_answer(mut message in prop::collection::vec(any::<u8>(), 0..400)) {
        let all: Vec<_> = POOL.iter().collect();
        let set = of(&all);
        for begin in [0x61, 0x62, 0x00] {
            message.insert(0, begin);
            prop_assert!(set.answer(&message).map_or(0, |answer| answer.len()) < SYNC_BYTES_MAX);
            let (mut run, _) = Run::begin(Arc::clone(&set));
            if let Ok(Step::Sync(next)) = run.hear(&message) {
                prop_assert!(next.len() < SYNC_BYTES_MAX);
            }
            prop_assert!(run.tally().wanted <= WANTED_MAX);
        }
    }
}

#[test]
fn what_is_held_and_not_handed_on_is_not_fetched() {
    let all: Vec<_> = POOL.iter().collect();
    let beside = all[100..110].iter().map(|record| digest(record));
    let ours = Snapshot::new(all[..100].iter().map(|record| (record.id(), *record)), beside);
    let (gained, tally) = reconciled(&Arc::new(ours), &of(&all[..112])).expect("a run");
    assert_eq!((gained.len(), tally.wanted, tally.is_whole), (2, 2, true));
}

/// What a run may want at most, and what waits for the next one.
#[test]
fn more_than_a_run_may_want_is_left_for_the_next_one() {
    let template = POOL[0].shared_envelope();
    let many: Vec<(u64, Digest)> = (0..3_000u64).map(|number| (number, Digest::of(&number.to_le_bytes()))).collect();
    let theirs = Snapshot::of_items(&many, &template);
    let (mut run, mut step) = Run::begin(of(&[]));
    let mut asked = BTreeSet::new();
    while step != Step::Done {
        step = match step {
            Step::Sync(message) => run.hear(&theirs.answer(&message).expect("an answer")).expect("a step"),
            Step::Get(digests) => {
                asked.extend(digests.iter().copied());
                run.got(&digests).expect("a step")
            }
            Step::Done => break,
        };
    }
    let tally = run.tally();
    assert_eq!((asked.len(), tally.given, tally.is_whole), (WANTED_MAX, WANTED_MAX, false));
    assert!(tally.bytes <= 2 * SYNC_BYTES_MAX, "{tally:?}");
}

/// A list of one digest that nobody has, and a range that is never the same.
fn never_ending(round: u64, named: &[Digest]) -> Vec<u8> {
    let mut answer = vec![0x61];
    // Bound: number 1, no bytes of an id; a list of digests.
    answer.extend([2, 0, 2, u8::try_from(named.len()).expect("few")]);
    named.iter().for_each(|digest| answer.extend(digest.as_bytes()));
    // The rest: without end, and a fingerprint.
    answer.extend([0, 0, 1]);
    answer.extend(&Digest::of(&round.to_le_bytes()).as_bytes()[..16]);
    answer
}

#[test]
fn a_neighbour_that_never_ends_is_found_out() {
    let all: Vec<_> = POOL.iter().collect();
    for names in [0, 1] {
        let (mut run, _) = Run::begin(of(&all));
        let mut heard = 0;
        let end = loop {
            heard += 1;
            let named = [Digest::of(&u64::to_le_bytes(heard))];
            match run.hear(&never_ending(heard, &named[..names])) {
                Ok(Step::Sync(_)) => {}
                end => break end,
            }
        };
        assert!(heard <= u64::from(ROUNDS_MAX) && run.tally().bytes <= RUN_BYTES_MAX, "{:?}", run.tally());
        if names == 0 {
            assert_eq!(end, Err(Fault::Endless));
        } else {
            // It told of somebody: it has to give what it told of.
            assert!(matches!(end, Ok(Step::Get(digests)) if digests.len() == heard as usize));
            assert_eq!(run.got(&[]), Err(Fault::Hollow));
        }
    }
}

#[test]
fn a_neighbour_that_plays_games_is_found_out() {
    let all: Vec<_> = POOL.iter().collect();
    let wanting = || {
        let (mut run, step) = Run::begin(of(&all[..10]));
        let Step::Sync(message) = step else { panic!("{step:?}") };
        let step = run.hear(&of(&all[..50]).answer(&message).expect("an answer")).expect("a step");
        let Step::Get(digests) = step else { panic!("{step:?}") };
        (run, digests)
    };
    let (mut run, digests) = wanting();
    assert_eq!(digests.len(), 40);
    assert_eq!(run.got(&[digests[0], digests[0]]), Err(Fault::Unasked), "one twice");
    assert_eq!(wanting().0.got(&[digest(all[599])]), Err(Fault::Unasked));
    assert_eq!(wanting().0.got(&[]), Err(Fault::Hollow));
    assert_eq!(wanting().0.got(&digests[..1]), Ok(Step::Done), "the others may have expired");
    for nonsense in
        [&b""[..], b"\x62", b"\x60\x00\x00\x01", b"\x61\x00\x00\x07", b"\x61\x00\x21", b"\x61\x00\x00\x02\xff\xff\x7f"]
    {
        assert_eq!(Run::begin(of(&all)).0.hear(nonsense), Err(Fault::Nonsense), "{nonsense:?}");
    }
}

#[test]
fn of_a_hundred_thousand_records_few_frames_tell_a_hundred_apart() {
    let template = POOL[0].shared_envelope();
    let mut items: Vec<(u64, Digest)> =
        (0..100_000u64).map(|number| (number % 5_000, Digest::of(&number.to_le_bytes()))).collect();
    let set = Snapshot::of_items(&items, &template);
    for number in 0..100 {
        items[number * 1_000].1 = Digest::of(&(1_000_000 + number as u64).to_le_bytes());
    }
    let ours = Arc::new(Snapshot::of_items(&items, &template));
    let (mut run, mut step) = Run::begin(ours);
    while let Step::Sync(message) = step {
        let answer = set.answer(&message).expect("an answer");
        step = run.hear(&answer).expect("a step");
    }
    // As many ranges as a frame holds, each of another content.
    let mut crowded = vec![0x61];
    while crowded.len() + 40 < SYNC_BYTES_MAX {
        crowded.extend([2, 0, 1]);
        crowded.extend([7; 16]);
    }
    assert!(set.answer(&crowded).expect("an answer").len() <= SYNC_BYTES_MAX);
    let tally = run.tally();
    assert_eq!(tally.wanted, 100);
    assert!(tally.rounds <= ROUNDS_MAX / 2 && tally.bytes <= RUN_BYTES_MAX / 4, "{tally:?}");
}
