//! Records as they come in: news, goodbyes, two of one number, and our own key elsewhere.

use super::params::DAY;
use super::*;
use crate::wire::{Keys, Line};

fn goodbye(seed: u8, seq: u64) -> Verified<Record> {
    RecordDraft { seq, ..RecordDraft::default() }.seal_goodbye(START, &key(seed)).expect("a record")
}

fn dials(out: &[Output]) -> Vec<NodeId> {
    out.iter().filter_map(|output| if let Output::Dial { peer, .. } = output { Some(*peer) } else { None }).collect()
}

fn notes(out: &[Output]) -> Vec<Note> {
    out.iter().filter_map(|output| if let Output::Note(note) = output { Some(note.clone()) } else { None }).collect()
}

fn is_hung_up(out: &[Output], seed: u8) -> bool {
    out.iter().any(|output| matches!(output, Output::Hangup { peer, .. } if *peer == key(seed).id()))
}

/// Peer 3 came by itself and is connected.
fn with_stranger() -> Desk {
    let mut desk = Desk::new(Params::default());
    let out = desk.input(Input::Met { word: Word::Near, record: record(3, 5, &["a.*"]) });
    let lane = out.iter().find_map(|output| if let Output::Dial { lane, .. } = output { Some(*lane) } else { None });
    let lane = lane.expect("a dial");
    desk.input(Input::Connected { peer: key(3).id(), lane, rtt: Duration::ZERO });
    desk
}

#[test]
fn who_said_goodbye_is_not_called_until_it_comes_back() {
    let mut desk = with_stranger();
    let out = desk.input(Input::Met { word: Word::Near, record: goodbye(3, 6) });
    assert!(is_hung_up(&out, 3));
    assert!(notes(&out).contains(&Note::PeerLeft(key(3).id())));
    desk.input(Input::Contact { peer: key(3).id() });
    assert!(dials(&desk.wait(DAY / 2)).is_empty(), "a last word over its own connection is no return");
    desk.input(Input::Met { word: Word::Near, record: record(3, 5, &["a.*"]) });
    assert!(dials(&desk.wait(Duration::from_secs(60))).is_empty(), "nor is a stale copy");
    assert!(shipments(&desk.publish(vec![event(1, "1", "a.x")])).is_empty());
    let out = desk.input(Input::Met { word: Word::Near, record: record(3, 7, &["a.*"]) });
    assert_eq!(dials(&out), [key(3).id()], "a higher number is");
}

#[test]
fn what_is_published_while_a_node_is_gone_waits_for_it() {
    let mut desk = with_stranger();
    desk.input(Input::Met { word: Word::Near, record: goodbye(3, 6) });
    desk.publish(vec![event(1, "1", "a.x"), event(1, "2", "b.x")]);
    let out = desk.input(Input::Met { word: Word::Near, record: record(3, 7, &["a.*"]) });
    let lane = out.iter().find_map(|output| if let Output::Dial { lane, .. } = output { Some(*lane) } else { None });
    let out = desk.input(Input::Connected { peer: key(3).id(), lane: lane.expect("a dial"), rtt: Duration::ZERO });
    assert_eq!(scans(&out), [Seq(0)]);
}

#[test]
fn a_stale_copy_of_a_node_that_left_and_was_forgotten_brings_nobody_back() {
    let mut desk = with_stranger();
    desk.input(Input::Met { word: Word::Near, record: goodbye(3, 6) });
    desk.input(Input::PeerRemoved { ticket: Ticket(8), id: key(3).id() });
    assert!(dials(&desk.input(Input::Met { word: Word::Near, record: record(3, 5, &["a.*"]) })).is_empty());
    assert!(desk.node.view().peers.is_empty());
    assert_eq!(dials(&desk.input(Input::Met { word: Word::Near, record: record(3, 7, &["a.*"]) })), [key(3).id()]);
}

#[test]
fn a_goodbye_survives_our_own_restart() {
    let mut desk = Desk::new(Params::default());
    let saved = SavedPeer { record: Some(goodbye(3, 6)), cursor: Some(Seq(0)), ..saved(3) };
    let out = desk.input(Input::Restored { head: Seq(0), peers: vec![saved] });
    assert!(dials(&out).is_empty());
    assert!(dials(&desk.input(Input::Met { word: Word::Near, record: record(3, 5, &["a.*"]) })).is_empty());
    assert_eq!(dials(&desk.input(Input::Met { word: Word::Near, record: record(3, 7, &["a.*"]) })), [key(3).id()]);
}

#[test]
fn one_that_was_typed_in_is_looked_for_after_its_goodbye() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let out = desk.input(Input::Met { word: Word::Near, record: goodbye(2, 2) });
    assert!(is_hung_up(&out, 2) && dials(&out).is_empty());
    assert!(dials(&desk.wait(Duration::from_secs(60))).is_empty());
    assert_eq!(dials(&desk.wait(Params::default().backoff_max)), [key(2).id()]);
}

#[test]
fn who_types_in_one_that_left_has_it_called_at_once() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.input(Input::Met { word: Word::Near, record: goodbye(2, 2) });
    let out = desk.input(Input::PeerAdded { ticket: Ticket(8), id: key(2).id(), at: place(2), alias: None });
    assert_eq!(dials(&out), [key(2).id()]);
}

#[test]
fn two_records_with_one_number_cost_a_stranger_a_day() {
    let mut desk = with_stranger();
    let out = desk.input(Input::Met { word: Word::Near, record: record(3, 5, &["b.*"]) });
    assert!(is_hung_up(&out, 3));
    assert!(notes(&out).contains(&Note::PeerEquivocates { peer: key(3).id(), is_exempt: false }));
    let out = desk.input(Input::Met { word: Word::Near, record: record(3, 6, &["a.*"]) });
    assert!(out.is_empty(), "nothing is taken from it: {out:?}");
    desk.input(Input::Contact { peer: key(3).id() });
    assert!(dials(&desk.wait(DAY / 2)).is_empty());
    assert_eq!(dials(&desk.wait(DAY / 2)), [key(3).id()]);
}

#[test]
fn a_quarantine_survives_our_own_restart() {
    let mut desk = with_stranger();
    desk.input(Input::Met { word: Word::Near, record: record(3, 5, &["b.*"]) });
    let out = desk.input(Input::Stop);
    let book =
        out.into_iter().find_map(|output| if let Output::SaveBook { book, .. } = output { Some(book) } else { None });
    let mut again = Desk::new(Params::default());
    again.wait(DAY / 2);
    again.input(Input::Remembered(book.expect("written down")));
    let saved = SavedPeer { record: Some(record(3, 5, &["a.*"])), cursor: Some(Seq(0)), ..saved(3) };
    let out = again.input(Input::Restored { head: Seq(0), peers: vec![saved] });
    assert!(dials(&out).is_empty() && matches!(again.state(3), PeerState::Quarantine { .. }));
    assert!(
        again.input(Input::Met { word: Word::Near, record: record(3, 6, &["a.*"]) }).is_empty(),
        "nothing is taken from it"
    );
    assert!(dials(&again.wait(DAY / 4)).is_empty());
    assert_eq!(dials(&again.wait(DAY / 4)), [key(3).id()], "for the rest of the day");
}

#[test]
fn one_that_was_typed_in_is_warned_of_once_and_served_all_the_same() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let out = desk.input(Input::Met { word: Word::Near, record: record(2, 1, &["b.*"]) });
    assert_eq!(notes(&out), [Note::PeerEquivocates { peer: key(2).id(), is_exempt: true }]);
    assert!(notes(&desk.input(Input::Met { word: Word::Near, record: record(2, 1, &["b.*"]) })).is_empty());
    assert_eq!(shipments(&desk.publish(vec![event(1, "1", "a.x")])).len(), 1, "the first record holds");
}

#[test]
fn a_record_of_our_own_key_that_we_never_signed_is_told() {
    let mut desk = Desk::new(Params::default());
    desk.input(Input::Signed { record: record(1, 4, &[]) });
    assert!(notes(&desk.input(Input::Met { word: Word::Near, record: record(1, 4, &[]) })).is_empty());
    assert!(
        notes(&desk.input(Input::Met { word: Word::Near, record: record(1, 3, &["x.*"]) })).is_empty(),
        "of an earlier life"
    );
    let clone = record(1, 5, &[]);
    let elsewhere = Note::OwnKeyElsewhere { event: clone.envelope().digest(), seq: Some(5) };
    assert_eq!(notes(&desk.input(Input::Met { word: Word::Near, record: clone })), [elsewhere]);
}

#[test]
fn our_own_record_posted_back_as_an_event_is_no_news() {
    let mut desk = Desk::new(Params::default());
    desk.input(Input::Signed { record: record(1, 4, &[]) });
    let mut post = |record: Verified<Record>| {
        let line = Line::split(&record.envelope().line(0, false).into_bytes().into()).expect("a line");
        let event = line.parse(&mut Keys::default()).expect("a record").verify().expect("signed");
        notes(&desk.receive(2, &[event])).len()
    };
    assert_eq!([post(record(1, 4, &[])), post(record(1, 3, &["x.*"]))], [0, 0], "anybody can bring these");
    assert_eq!([post(record(1, 4, &["x.*"])), post(record(1, 5, &[]))], [1, 1], "signed by somebody else");
}

#[test]
fn who_shows_an_older_record_than_we_hold_of_it_is_given_the_newer_one() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.input(Input::Met { word: Word::Near, record: record(2, 7, &["a.*"]) });
    let now = desk.now;
    let given = |than: u64| desk.node.newer_record(&key(2).id(), than, now);
    assert_eq!(given(6), Some(record(2, 7, &["a.*"]).envelope().line(0, false)));
    assert_eq!([given(7), given(8), desk.node.newer_record(&key(3).id(), 0, now)], [None, None, None]);
}

#[test]
fn a_node_that_is_told_of_its_own_newer_record_says_so_in_a_private_mesh_too() {
    let allow = [key(2).id()].into();
    for params in [Params::default(), Params { allow, ..Params::default() }] {
        let mut desk = Desk::new(params);
        desk.connect(2, &["a.*"]);
        desk.input(Input::Signed { record: record(1, 4, &[]) });
        let records = vec![record(1, 5, &[])];
        let out = desk.input(Input::Heard { teller: key(2).id(), asked: true, records });
        assert!(matches!(notes(&out)[..], [Note::OwnKeyElsewhere { seq: Some(5), .. }]), "{out:?}");
    }
}
