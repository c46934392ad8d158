use std::time::Duration;

use proptest::prelude::*;

use super::super::position::Prefix;
use super::*;
use crate::core::params::CROWDS_MAX;
use crate::wire::{Interests, Keypair, RecordDraft};

const NOW: Wall = Wall::from_millis(1_795_243_262_123);
const HOUR: Duration = Duration::from_secs(3_600);

/// Patterns over few words, so that they meet: with `+` anywhere, with a final `*`, and firehoses.
pub(super) fn pattern_texts() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec!["a", "b", "c", "+", "+", "mesh", "peer"]);
    let words = prop::collection::vec(word, 1..5);
    let text = (words, any::<bool>()).prop_map(|(words, has_tail)| {
        let text = words.join(".");
        if has_tail || words.len() == 1 { text + ".*" } else { text }
    });
    prop_oneof![9 => text, 1 => Just("*".to_owned())]
}

pub(super) fn kinds() -> impl Strategy<Value = EventType> {
    let word = prop::sample::select(vec!["a", "b", "c", "d"]);
    let text = prop::collection::vec(word, 2..6).prop_map(|words| words.join("."));
    let reserved =
        prop::sample::select(vec!["mesh.node", "mesh.a", "mesh.b.c", "mesh.peer.lost"]).prop_map(str::to_owned);
    prop_oneof![6 => text, 1 => reserved].prop_map(|text| text.parse().expect("a type"))
}

fn kind(text: &str) -> EventType {
    text.parse().expect("a type")
}

fn key(number: u32) -> Keypair {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    Keypair::from_seed(&seed)
}

fn id(number: u32) -> NodeId {
    key(number).id()
}

fn interests(texts: &[impl AsRef<str>]) -> Interests {
    Interests::new(texts.iter().map(|text| text.as_ref().parse().expect("a pattern"))).expect("interests")
}

/// Record `seq` of node `number`, signed so long ago.
fn record(number: u32, seq: u64, texts: &[impl AsRef<str>], age: Duration) -> Verified<Record> {
    let draft = RecordDraft { seq, interests: interests(texts), ..RecordDraft::default() };
    draft.seal(NOW - age, &key(number)).expect("a record")
}

fn goodbye(number: u32, seq: u64) -> Verified<Record> {
    RecordDraft { seq, ..RecordDraft::default() }.seal_goodbye(NOW, &key(number)).expect("a record")
}

/// Nodes 0.. with these patterns each.
fn roster(wants: &[&[&str]]) -> Roster {
    let mut roster = Roster::default();
    for (number, texts) in (0..).zip(wants) {
        assert!(roster.take(&record(number, 1, texts, Duration::ZERO), None, false, NOW));
    }
    roster
}

fn who(roster: &mut Roster, text: &str) -> BTreeSet<NodeId> {
    roster.crowd(&kind(text)).iter(&Prefix::ALL).collect()
}

fn ids(numbers: &[u32]) -> BTreeSet<NodeId> {
    numbers.iter().map(|number| id(*number)).collect()
}

#[test]
fn a_firehose_counts_only_where_it_is_served() {
    let mut roster = roster(&[&["*"], &["+.b"], &["a.b"]]);
    assert_eq!(who(&mut roster, "a.b"), ids(&[2]));
    roster.serve_everything(&id(0), true);
    assert!(
        !roster.take(&record(1, 1, &["+.b"], Duration::ZERO), None, true, NOW),
        "the same record, served otherwise"
    );
    assert_eq!(who(&mut roster, "a.b"), ids(&[0, 1, 2]));
    roster.serve_everything(&id(0), false);
    assert_eq!(who(&mut roster, "a.b"), ids(&[1, 2]));
}

#[test]
fn records_are_for_everybody_and_the_talk_of_a_node_with_its_programs_for_nobody() {
    let mut roster = roster(&[&["a.b"], &["mesh.*", "mesh.peer.*"], &["*"]]);
    roster.serve_everything(&id(2), true);
    assert_eq!(who(&mut roster, "mesh.node"), ids(&[0, 1, 2]));
    assert_eq!(who(&mut roster, "mesh.group.x"), ids(&[1]), "who wants everything did not ask for it by its root");
    assert!(who(&mut roster, "mesh.peer.lost").is_empty());
}

#[test]
fn a_record_with_the_same_interests_changes_no_index() {
    let mut roster = roster(&[&["a.*"], &["b.*"]]);
    let (epoch, crowd) = (roster.epoch(), roster.crowd(&kind("a.x")));
    assert!(roster.take(&record(0, 2, &["a.*"], Duration::ZERO), None, false, NOW));
    assert!(Arc::ptr_eq(&crowd, &roster.crowd(&kind("a.x"))));
    assert_eq!((roster.epoch(), roster.get(&id(0)).map(|member| member.record.seq)), (epoch, Some(2)));
    assert!(roster.take(&record(0, 3, &["b.*"], Duration::ZERO), None, false, NOW));
    assert_eq!((who(&mut roster, "a.x"), who(&mut roster, "b.x")), (ids(&[]), ids(&[0, 1])));
    assert_ne!(roster.epoch(), epoch);
}

#[test]
fn who_renews_his_record_in_a_shared_snapshot_leaves_its_index_alone() {
    let members = (0..40).map(|number| Member::new(record(number, 1, &["a.*"], Duration::ZERO), NOW));
    let mut roster = Roster::on(Arc::new(Snapshot::of(members)));
    roster.bounds.slack = 4;
    let layout = Arc::clone(&roster.base.layout);
    for number in 0..30 {
        assert!(roster.take(&record(number, 2, &["a.*"], Duration::ZERO), Some(id(99)), false, NOW));
    }
    assert!(Arc::ptr_eq(&layout, &roster.base.layout), "merged twice, and nothing was indexed anew");
    assert_eq!((roster.epoch(), roster.len(), roster.own.len()), (0, 40, 0));
    assert!(
        (0..40).all(|number| roster.get(&id(number)).map(|held| held.record.seq) == Some(1 + u64::from(number < 30)))
    );
}

#[test]
fn a_crowd_of_one_pattern_is_shared_with_all_who_share_the_snapshot() {
    let members = (0..40).map(|number| Member::new(record(number, 1, &["a.*", "a.b.+"], Duration::ZERO), NOW));
    let snapshot = Arc::new(Snapshot::of(members).foreseeing([kind("a.b.c")]));
    let [mut one, mut other] = [(); 2].map(|()| Roster::on(Arc::clone(&snapshot)));
    for text in ["a.x", "a.b.c", "mesh.node"] {
        let (one, other) = (one.crowd(&kind(text)), other.crowd(&kind(text)));
        assert_eq!((one.len(), other.len()), (40, 40));
        assert!(Arc::ptr_eq(&one.seats, &other.seats), "{text}");
    }
    other.remove(&id(3));
    assert_eq!(
        [one.crowd(&kind("a.x")).len(), other.crowd(&kind("a.x")).len()],
        [40, 39],
        "each knows better for itself"
    );
    assert!(!other.crowd(&kind("a.x")).contains(&id(3)));
}

#[test]
fn whose_record_ends_leaves_and_a_newer_one_keeps_him() {
    let age = |hours: u32| HOUR * hours;
    let members = (0..4).map(|number| Member::new(record(number, 1, &["a.*"], age(number)), NOW));
    let mut roster = Roster::on(Arc::new(Snapshot::of(members)));
    assert!(roster.take(&record(3, 2, &["a.*"], Duration::ZERO), None, false, NOW), "renewed");
    assert!(roster.take(&record(4, 1, &["a.*"], age(5)), None, false, NOW));
    assert!(!roster.take(&record(5, 1, &["a.*"], age(25)), None, false, NOW), "over already");
    roster.sweep(NOW + HOUR * 18);
    assert_eq!(roster.len(), 5);
    roster.sweep(NOW + HOUR * 19);
    assert_eq!(who(&mut roster, "a.x"), ids(&[0, 1, 2, 3]));
    roster.sweep(NOW + HOUR * 23);
    assert_eq!(who(&mut roster, "a.x"), ids(&[0, 3]));
    roster.sweep(NOW + HOUR * 24);
    assert!(roster.is_empty());
}

#[test]
fn a_goodbye_takes_out_and_an_older_record_does_not_bring_back_in_its_place() {
    let mut roster = roster(&[&["a.*"]]);
    assert!(!roster.take(&goodbye(0, 1), None, false, NOW), "of the same number");
    assert!(roster.take(&goodbye(0, 2), None, false, NOW));
    assert!(roster.is_empty());
    assert!(!roster.take(&goodbye(0, 3), None, false, NOW), "nobody is there to leave");
}

#[test]
fn when_it_is_full_whoever_brought_the_most_loses_his_oldest() {
    let mut roster = Roster::default();
    roster.bounds.room = 6;
    let take = |roster: &mut Roster, number: u32, teller: Option<u32>, later: u64| {
        let now = NOW + Duration::from_secs(later);
        roster.take(&record(number, 1, &["a.*"], Duration::ZERO), teller.map(id), false, now)
    };
    assert!(take(&mut roster, 0, None, 0) && take(&mut roster, 1, Some(90), 1));
    for number in 2..6 {
        assert!(take(&mut roster, number, Some(91), 20 - u64::from(number)));
    }
    roster.vouch(&id(5)); // the oldest that 91 told of
    assert!(take(&mut roster, 6, Some(90), 30));
    assert_eq!(who(&mut roster, "a.x"), ids(&[0, 1, 2, 3, 5, 6]), "4 went");
    (0..7).for_each(|number| roster.vouch(&id(number)));
    assert!(!take(&mut roster, 7, None, 40), "nobody gives way");
    assert_eq!(roster.len(), 6);
    roster.remove(&id(0));
    assert!(take(&mut roster, 7, Some(91), 41));
}

#[test]
fn who_tells_of_himself_is_no_longer_on_the_word_of_another() {
    let mut roster = Roster::default();
    let first = record(0, 1, &["a.*"], Duration::ZERO);
    assert!(roster.take(&first, Some(id(9)), false, NOW));
    assert!(!roster.take(&first, Some(id(8)), false, NOW + HOUR));
    let held = |roster: &Roster| roster.get(&id(0)).map(|held| (held.teller, held.since));
    assert_eq!(held(&roster), Some((Some(id(9)), NOW)), "who told first stays the teller");
    assert!(!roster.take(&first, None, false, NOW + HOUR));
    assert!(roster.take(&record(0, 2, &["a.*"], Duration::ZERO), Some(id(9)), false, NOW + HOUR));
    assert_eq!(held(&roster), Some((None, NOW)));
    roster.known_since(&id(0), NOW + HOUR);
    roster.known_since(&id(0), NOW - HOUR);
    assert_eq!(held(&roster), Some((None, NOW - HOUR)));
}

#[test]
fn types_that_nobody_wants_are_not_remembered_and_the_rest_within_bounds() {
    let mut roster = roster(&[&["a.*"]]);
    for number in 0..CROWDS_MAX * 3 {
        assert!(roster.crowd(&kind(&format!("b.x{number}"))).is_empty());
    }
    assert_eq!(roster.crowds.len(), 0);
    for number in 0..CROWDS_MAX * 3 {
        assert_eq!(roster.crowd(&kind(&format!("a.x{number}"))).len(), 1);
        assert_eq!(roster.crowd(&kind("a.b")).len(), 1);
    }
    assert!(roster.crowds.len() <= CROWDS_MAX, "{}", roster.crowds.len());
    let before = roster.crowd(&kind("a.b"));
    assert!(Arc::ptr_eq(&before, &roster.crowd(&kind("a.b"))));
}

/// What is done to a roster.
#[derive(Clone, Debug)]
enum Step {
    Take {
        number: u32,
        seq: u64,
        texts: Vec<String>,
        teller: Option<u32>,
        firehose: bool,
        hours: u32,
    },
    Leave {
        number: u32,
        seq: u64,
    },
    Remove(u32),
    Serve(u32, bool),
    Pass(u32),
    /// Everything goes into a snapshot, and it goes on from there.
    Gather,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = 0u32..24;
    let take = (
        number.clone(),
        1u64..6,
        prop::collection::vec(pattern_texts(), 0..4),
        prop::option::of(90u32..93),
        any::<bool>(),
        0u32..23,
    )
        .prop_map(|(number, seq, texts, teller, firehose, hours)| Step::Take {
            number,
            seq,
            texts,
            teller,
            firehose,
            hours,
        });
    let step = prop_oneof![
        12 => take,
        1 => (number.clone(), 1u64..6).prop_map(|(number, seq)| Step::Leave { number, seq }),
        2 => number.clone().prop_map(Step::Remove),
        1 => (number, any::<bool>()).prop_map(|(number, firehose)| Step::Serve(number, firehose)),
        1 => (0u32..3).prop_map(Step::Pass),
        1 => Just(Step::Gather),
    ];
    prop::collection::vec(step, 0..70)
}

/// The same as a list, asked one by one.
#[derive(Default)]
struct Model {
    members: BTreeMap<Position, (Verified<Record>, bool)>,
    now: Wall,
}

impl Model {
    fn take(&mut self, record: &Verified<Record>, firehose: bool) -> bool {
        let position = Position::of(&record.id());
        let is_living = self.now < record.expires();
        match self.members.get_mut(&position) {
            None => is_living && !record.bye && self.members.insert(position, (record.clone(), firehose)).is_none(),
            Some(held) => {
                let is_newer = record.supersedes(&held.0) && is_living;
                if is_newer && record.bye {
                    self.members.remove(&position);
                    return true;
                }
                *held = (if is_newer { record } else { &held.0 }.clone(), firehose);
                is_newer
            }
        }
    }

    fn crowd(&self, kind: &EventType) -> Vec<(Position, NodeId)> {
        let wants = |(record, firehose): &(Verified<Record>, bool)| {
            let mut counting = record.interests.patterns().iter().filter(|pattern| *firehose || !pattern.is_firehose());
            kind.as_str() == "mesh.node" || (!kind.is_local() && counting.any(|pattern| pattern.asks_for(kind)))
        };
        let members = self.members.iter().filter(|(_, member)| wants(member));
        members.map(|(position, (record, _))| (*position, record.id())).collect()
    }
}

fn apply(step: Step, roster: &mut Roster, model: &mut Model) {
    match step {
        Step::Take { number, seq, texts, teller, firehose, hours } => {
            let record = record(number, seq, &texts, HOUR * hours);
            let is_news = model.take(&record, firehose);
            assert_eq!(roster.take(&record, teller.map(id), firehose, model.now), is_news);
        }
        Step::Leave { number, seq } => {
            let record = goodbye(number, seq);
            let is_held = model.members.contains_key(&Position::of(&id(number)));
            let is_news = is_held && model.take(&record, false);
            assert_eq!(roster.take(&record, None, false, model.now), is_news);
        }
        Step::Remove(number) => {
            model.members.remove(&Position::of(&id(number)));
            roster.remove(&id(number));
        }
        Step::Serve(number, firehose) => {
            model.members.entry(Position::of(&id(number))).and_modify(|held| held.1 = firehose);
            roster.serve_everything(&id(number), firehose);
        }
        Step::Pass(hours) => {
            model.now = model.now + HOUR * hours;
            let now = model.now;
            model.members.retain(|_, (record, _)| now < record.expires());
            roster.sweep(now);
        }
        Step::Gather => {
            let snapshot = Snapshot::of(roster.iter().cloned());
            *roster = Roster { bounds: roster.bounds, ..Roster::on(Arc::new(snapshot)) };
        }
    }
}

/// What a crowd says of one prefix is what looking at each would say.
fn check(crowd: &Crowd, expected: &[(Position, NodeId)], prefix: &Prefix) {
    let expected: Vec<NodeId> =
        expected.iter().filter(|(position, _)| prefix.contains(position)).map(|(_, id)| *id).collect();
    assert_eq!(crowd.iter(prefix).collect::<Vec<_>>(), expected, "{prefix:?}");
    assert_eq!(crowd.count(prefix), expected.len());
    for (n, id) in expected.iter().enumerate() {
        assert_eq!(crowd.nth(prefix, n), Some(*id), "{n} of {prefix:?}");
    }
    assert_eq!(crowd.nth(prefix, expected.len()), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever came, changed, left and was merged: the roster answers as a list would that is asked one by
    /// one, of every prefix.
    #[test]
    fn the_roster_answers_as_asking_each_node_would(
        steps in steps(),
        slack in prop::sample::select(vec![1usize, 3, 9, 512]),
        kinds in prop::collection::vec(kinds(), 1..5),
        asked: bool,
    ) {
        let mut roster = Roster::default();
        roster.bounds.slack = slack;
        let mut model = Model { now: NOW, ..Model::default() };
        for step in steps {
            apply(step, &mut roster, &mut model);
            if asked {
                let kind = &kinds[0];
                prop_assert_eq!(roster.crowd(kind).len(), model.crowd(kind).len(), "what is remembered is no older");
            }
        }
        let members: Vec<(Position, u64)> = roster.iter().map(|held| (held.position, held.record.seq)).collect();
        let expected: Vec<(Position, u64)> = model.members.iter().map(|(at, (record, _))| (*at, record.seq)).collect();
        prop_assert_eq!(&members, &expected);
        prop_assert_eq!(roster.len(), expected.len());
        for kind in &kinds {
            let (crowd, expected) = (roster.crowd(kind), model.crowd(kind));
            prop_assert_eq!(crowd.len(), expected.len());
            for number in 0..24 {
                prop_assert_eq!(crowd.contains(&id(number)), expected.iter().any(|(_, other)| *other == id(number)));
            }
            check(&crowd, &expected, &Prefix::ALL);
            (0..16).for_each(|digit| check(&crowd, &expected, &Prefix::ALL.child(digit)));
            for number in 0..4 {
                let position = Position::of(&id(number));
                [2, 3, 64].iter().for_each(|digits| check(&crowd, &expected, &Prefix::new(position, *digits)));
            }
        }
    }
}
