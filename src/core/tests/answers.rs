//! Answers to questions: held until their turn, sent before the deadline, holding up nothing else.

use super::super::params::HELD_ANSWERS_MAX;
use super::*;
use crate::wire::Question;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// Node 2 asks; the turn of node 1 comes `turn` later, before the deadline.
fn question(name: &str, spread: Duration, deadline: Duration) -> Question {
    let digest = Digest::of(name.as_bytes());
    Question { digest, asker: key(2).id(), spread, deadline: START + deadline }
}

fn answer_to(question: &Question, name: &str) -> Emitted {
    let draft = Draft::new(name, "q.answer", START)
        .with("causationid", Scalar::Text(question.digest.to_string()))
        .answering(question);
    let envelope = envelope::seal(&draft, &key(1)).expect("a good draft");
    Emitted { question: Some(*question), ..envelope.into() }
}

fn turn(desk: &Desk, question: &Question) -> Duration {
    offset::hold(question, &key(1).id(), desk.now.wall).from.since(desk.now.wall)
}

fn emit(desk: &mut Desk, emitted: Vec<Emitted>) -> (Vec<Entry>, Vec<Output>) {
    let out = desk.input(Input::Emitted { ticket: Ticket(2), emitted });
    let entries = out.iter().find_map(|output| match output {
        Output::Append { entries, .. } => Some(entries.clone()),
        _ => None,
    });
    (entries.expect("an append"), desk.commit(&out))
}

fn late(out: &[Output]) -> usize {
    out.iter().filter(|output| matches!(output, Output::Note(Note::AnswerLate { .. }))).count()
}

fn saved_cursors(out: &[Output]) -> Vec<Seq> {
    let cursor = |output: &Output| match output {
        Output::SaveCursor { cursor, .. } => Some(*cursor),
        _ => None,
    };
    out.iter().filter_map(cursor).collect()
}

#[test]
fn an_answer_is_acknowledged_at_once_and_sent_when_it_is_its_turn() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let asked = (0..).map(|i| question(&format!("q{i}"), SECOND * 100, SECOND * 200));
    let (question, turn) = asked
        .map(|question| (question, turn(&desk, &question)))
        .find(|(_, turn)| *turn > SECOND * 10)
        .expect("nine of ten are");
    let (entries, out) = emit(&mut desk, vec![answer_to(&question, "1")]);
    assert_eq!(entries[0].hold.map(|hold| hold.from), Some(START + turn));
    assert_eq!(answer(&out), Some(vec![Outcome::Stored { no_duty: false }]));
    assert!(shipments(&out).is_empty());
    assert_eq!(desk.node.view().peers[0].held, 1);

    // What comes behind it goes at once, and the durable position stays below it.
    let other = shipments(&desk.publish(vec![event(1, "2", "a.x")]));
    assert_eq!(other.len(), 1);
    desk.sent(2, other[0].1, Ok(all_stored(1, 64)));
    assert_eq!(saved_cursors(&desk.wait(SECOND)), [], "the answer is not settled");
    assert!(desk.node.deadline() <= Some(desk.now.mono + turn));

    assert!(shipments(&desk.wait(turn - SECOND - Duration::from_micros(1))).is_empty());
    let sent = shipments(&desk.wait(Duration::from_micros(1)));
    assert_eq!(sent.len(), 1);
    assert!(std::str::from_utf8(&sent[0].2[0]).expect("text").contains("causationid"));
    desk.sent(2, sent[0].1, Ok(all_stored(1, 64)));
    assert_eq!(desk.node.view().peers[0].held, 0);
    assert_eq!(saved_cursors(&desk.wait(SECOND)), [Seq(2)]);
}

#[test]
fn after_a_restart_the_journal_says_whose_turn_it_is() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let question = question("q", SECOND * 100, SECOND * 200);
    let turn = turn(&desk, &question);
    let (entries, _) = emit(&mut desk, vec![answer_to(&question, "1")]);
    let mut other = entries[0].clone();
    (other.envelope, other.hold) = (event(1, "2", "a.x"), None);
    let page = || {
        let stored = |seq: u64, entry: &Entry| Stored { seq: Seq(seq), entry: entry.clone() };
        Page { entries: vec![stored(1, &entries[0]), stored(2, &other)], upto: Seq(2) }
    };
    for (slept, at_once) in [(SECOND / 10, 1), (turn, 2)] {
        let mut desk = Desk::new(Params::default());
        desk.now.wall = START + slept;
        desk.node = Node::new(key(1).id(), Params { profile: Profile::Loopback, ..Params::default() }, 7);
        let peer = SavedPeer { cursor: Some(Seq(0)), record: Some(record(2, 1, &["a.*"])), ..saved_by_hand(2) };
        desk.input(Input::Restored { head: Seq(2), peers: vec![peer] });
        desk.connect(2, &["a.*"]);
        let out = desk.input(Input::Scanned { peer: key(2).id(), after: Seq(0), page: Ok(page()) });
        assert_eq!(shipments(&out)[0].2.len(), at_once, "after {slept:?}");
        desk.sent(2, shipments(&out)[0].1, Ok(all_stored(at_once, 64)));
        let later = shipments(&desk.wait(turn.saturating_sub(slept)));
        assert_eq!(later.len(), 2 - at_once, "after {slept:?}");
    }
}

#[test]
fn a_lane_that_breaks_gives_the_answer_back_and_doubles_nothing_else() {
    let mut desk = Desk::new(Params::default());
    let lane = desk.connect(2, &["a.*"]);
    let question = question("q", SECOND * 100, SECOND * 200);
    let turn = turn(&desk, &question);
    emit(&mut desk, vec![answer_to(&question, "1")]);
    let other = shipments(&desk.publish(vec![event(1, "2", "a.x")]));
    desk.sent(2, other[0].1, Ok(all_stored(1, 64)));
    let sent = shipments(&desk.wait(turn));
    assert_eq!(sent.len(), 1);
    let id = key(2).id();
    desk.input(Input::Sent { peer: id, shipment: sent[0].1, result: Err(SendError::Lost) });
    desk.input(Input::Broken { peer: id, lane, why: "gone".into() });
    let dialled = |out: &[Output]| {
        out.iter().find_map(|output| match output {
            Output::Dial { lane, .. } => Some(*lane),
            _ => None,
        })
    };
    let lane = dialled(&desk.wait(SECOND * 40)).expect("it is dialled again");
    let out = desk.input(Input::Connected { peer: id, lane, rtt: SECOND / 1_000 });
    assert_eq!(scans(&out), [], "nothing is read again");
    let again = shipments(&out);
    assert_eq!(again.iter().map(|(.., lines)| lines.clone()).collect::<Vec<_>>(), [sent[0].2.clone()]);
}

#[test]
fn after_the_deadline_nothing_is_sent_and_that_is_said() {
    let mut desk = Desk::new(Params::default());
    let lane = desk.connect(2, &["a.*"]);
    let question = question("q", SECOND * 10, SECOND * 20);
    emit(&mut desk, vec![answer_to(&question, "1")]);
    desk.input(Input::Broken { peer: key(2).id(), lane, why: "gone".into() });
    let mut noted = 0;
    while let Some(deadline) = desk.node.deadline().filter(|_| desk.now.wall < START + SECOND * 30) {
        let span = deadline.since(desk.now.mono).max(Duration::from_micros(1));
        let out = desk.wait(span);
        noted += late(&out);
        assert!(shipments(&out).is_empty());
    }
    assert_eq!((noted, desk.node.view().counts.answers_late, desk.node.view().peers[0].held), (1, 1, 0));
    // One that comes when the deadline has passed already.
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.wait(SECOND * 20);
    let (_, out) = emit(&mut desk, vec![answer_to(&question, "1")]);
    assert_eq!((late(&out), answer(&out).map(|outcomes| outcomes.len())), (1, Some(1)), "it is stored all the same");
    assert!(shipments(&out).is_empty());
}

#[test]
fn one_asker_cannot_make_us_hold_more_than_so_many() {
    let mut desk = Desk::new(Params { appending_max: 4_096, ..Params::default() });
    desk.connect(2, &["a.*"]);
    let asked: Vec<_> = (0..HELD_ANSWERS_MAX + 3)
        .map(|i| question(&format!("q{i}"), SECOND * 900, SECOND * 9_000))
        .map(|question| answer_to(&question, &question.digest.to_string()))
        .collect();
    let (_, out) = emit(&mut desk, asked);
    assert_eq!(desk.node.view().peers[0].held, HELD_ANSWERS_MAX);
    assert_eq!(shipments(&out)[0].2.len(), 3, "of more each goes as it comes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the lanes do, each answer is sent to a peer that is there between its turn and the deadline,
    /// once, as long as its receipt arrives.
    #[test]
    fn every_answer_is_taken_once_or_late_once(
        spreads in prop::collection::vec((0u64..60, 1u64..90), 1..12),
        breaks in prop::collection::btree_set(0u64..60, 0..6),
        lost in prop::collection::btree_set(0u64..90, 0..6),
    ) {
        let mut desk = Desk::new(Params::default());
        let id = key(2).id();
        let mut lane = Some(desk.connect(2, &["a.*"]));
        let asked: Vec<Question> = spreads.iter().enumerate().map(|(i, (spread, deadline))| {
            question(&format!("q{i}"), SECOND * u32::try_from(*spread).expect("few"), SECOND * u32::try_from(*deadline).expect("few"))
        }).collect();
        let emitted = asked.iter().enumerate().map(|(i, question)| answer_to(question, &format!("n{i}"))).collect();
        let (entries, mut out) = emit(&mut desk, emitted);
        let (mut taken, mut gone) = (Vec::<Bytes>::new(), 0);
        for second in 0..120u64 {
            gone += late(&out);
            let mut queue = std::mem::take(&mut out);
            while !queue.is_empty() {
                let (sent, asked) = (shipments(&queue), scans(&queue));
                queue.clear();
                for after in asked {
                    let (peer, page) = (id, Ok(page_after(&entries, after)));
                    let more = desk.input(Input::Scanned { peer, after, page });
                    gone += late(&more);
                    queue.extend(more);
                }
                for (_, shipment, lines) in sent {
                    let result = if lost.contains(&second) { Err(SendError::Busy(SECOND)) } else {
                        for line in &lines {
                            let entry = entries.iter().find(|entry| find(line, &entry.envelope.event().id)).expect("one of ours");
                            let hold = entry.hold.expect("an answer");
                            prop_assert!(hold.from <= desk.now.wall && desk.now.wall < hold.until);
                        }
                        taken.extend(lines.iter().cloned());
                        Ok(all_stored(lines.len(), 64))
                    };
                    let more = desk.sent(2, shipment, result);
                    gone += late(&more);
                    queue.extend(more);
                }
            }
            if breaks.contains(&second) && let Some(broken) = lane.take() {
                desk.input(Input::Broken { peer: id, lane: broken, why: "gone".into() });
            }
            out = desk.wait(SECOND);
            let dialled = out.iter().find_map(|output| match output {
                Output::Dial { lane, .. } => Some(*lane),
                _ => None,
            });
            if let Some(dialled) = dialled {
                lane = Some(dialled);
                let more = desk.input(Input::Connected { peer: id, lane: dialled, rtt: SECOND / 1_000 });
                out.extend(more);
            }
        }
        let unique: BTreeSet<&Bytes> = taken.iter().collect();
        prop_assert_eq!(unique.len(), taken.len(), "none twice");
        prop_assert_eq!(taken.len() + gone, asked.len(), "none silently");
        prop_assert_eq!(desk.node.view().peers[0].held, 0);
    }
}

/// What the disk gives: the entries stand from position 1 on.
fn page_after(entries: &[Entry], after: Seq) -> Page {
    let stored = (1..).zip(entries).map(|(seq, entry)| Stored { seq: Seq(seq), entry: entry.clone() });
    Page { entries: stored.filter(|stored| stored.seq > after).collect(), upto: Seq(entries.len() as u64) }
}

fn find(line: &Bytes, id: &str) -> bool {
    std::str::from_utf8(line).expect("text").contains(&format!("\"id\":\"{id}\""))
}
