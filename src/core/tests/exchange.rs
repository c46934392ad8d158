//! Tier 2: what is given to a node that asks, what is taken from one that answers, and when we ask.

use super::params::DAY;
use super::*;
use crate::wire::Group;

fn group() -> Group {
    Group::of([127, 0, 9, 1].into())
}

/// Whose records these lines are.
fn told(lines: &[String]) -> Vec<NodeId> {
    let source = |line: &String| {
        let line = crate::wire::Line::split(&Bytes::from(line.clone())).expect("a line");
        line.parse(&mut crate::wire::Keys::default()).expect("an event").event().source
    };
    lines.iter().map(source).collect()
}

fn shared(desk: &mut Desk, asker: u8) -> Vec<NodeId> {
    told(&desk.node.share(&key(asker).id(), group(), desk.now))
}

fn hear(desk: &mut Desk, teller: u8, records: Vec<Verified<Record>>) -> Vec<Output> {
    desk.input(Input::Heard { teller: key(teller).id(), asked: true, records })
}

fn asks(out: &[Output]) -> Vec<NodeId> {
    let ask = |output: &Output| if let Output::Exchange { peer, .. } = output { Some(*peer) } else { None };
    out.iter().filter_map(ask).collect()
}

#[test]
fn only_what_was_proved_within_a_day_is_given_and_never_to_itself() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.input(Input::Met { word: Word::Near, record: record(3, 1, &["a.*"]) });
    assert_eq!(shared(&mut desk, 9), [key(2).id()], "no lane to 3 stood yet");
    assert!(shared(&mut desk, 2).is_empty());
    desk.wait(DAY - Duration::from_secs(60));
    assert_eq!(shared(&mut desk, 9), [key(2).id()]);
    desk.wait(Duration::from_secs(60));
    assert!(shared(&mut desk, 9).is_empty(), "it was there a day ago");
}

#[test]
fn an_address_that_nobody_may_dial_is_given_to_nobody() {
    let mut desk = Desk::new(Params::default());
    let lane = desk.connect(2, &["a.*"]);
    let addresses = vec![place(2), "127.0.2.1:6379".parse().expect("an address")];
    let draft = RecordDraft { seq: 2, addresses, ..RecordDraft::default() };
    desk.input(Input::Met { word: Word::Near, record: draft.seal(START, &key(2)).expect("a record") });
    assert!(shared(&mut desk, 9).is_empty());
    assert_eq!(desk.node.view().peers[0].state, PeerState::Connected { since: desk.now.mono }, "{lane:?} stands");
}

#[test]
fn a_private_mesh_is_told_to_its_members_only() {
    let allow = [key(2).id(), key(4).id()].into();
    let mut desk = Desk::new(Params { allow, ..Params::default() });
    desk.connect(2, &["a.*"]);
    assert_eq!(shared(&mut desk, 4), [key(2).id()]);
    assert!(shared(&mut desk, 9).is_empty());
}

#[test]
fn a_goodbye_is_handed_on_and_believed_from_any_hand() {
    let goodbye = RecordDraft { seq: 6, ..RecordDraft::default() }.seal_goodbye(START, &key(3)).expect("a record");
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.connect(3, &["a.*"]);
    let out = hear(&mut desk, 2, vec![goodbye]);
    assert!(out.iter().any(|output| matches!(output, Output::Hangup { peer, .. } if *peer == key(3).id())));
    assert!(shared(&mut desk, 9).contains(&key(3).id()), "others should know");
    hear(&mut desk, 2, vec![record(3, 5, &["a.*"])]);
    assert!(matches!(desk.state(3), PeerState::Left { .. }), "an older copy takes nothing back");
}

#[test]
fn a_newer_record_of_a_peer_counts_whoever_brings_it() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.connect(3, &["q.*"]);
    assert_eq!(shipments(&desk.publish(vec![event(1, "1", "a.x")])).len(), 1);
    hear(&mut desk, 2, vec![record(3, 2, &["a.*"])]);
    let wants = |desk: &Desk| desk.node.view().peers.iter().filter(|peer| peer.interests.matches(&kind("a.x"))).count();
    assert_eq!(wants(&desk), 2);
    let forbidden =
        RecordDraft { seq: 3, addresses: vec!["127.0.0.1:22".parse().expect("one")], ..RecordDraft::default() };
    hear(&mut desk, 2, vec![forbidden.seal(START, &key(3)).expect("a record")]);
    assert_eq!(wants(&desk), 2, "not with a door of somebody else");
}

fn kind(text: &str) -> crate::wire::EventType {
    text.parse().expect("a type")
}

#[test]
fn a_connected_peer_is_asked_about_once_a_minute_and_no_more_when_it_is_gone() {
    let tiers = params::Tiers { exchange: true, ..params::Tiers::default() };
    let mut desk = Desk::new(Params { tiers, ..Params::default() });
    let lane = desk.connect(2, &["a.*"]);
    assert!(asks(&desk.wait(Duration::from_secs(44))).is_empty(), "the lane has asked by itself");
    assert_eq!(asks(&desk.wait(Duration::from_secs(32))), [key(2).id()]);
    assert!(asks(&desk.wait(Duration::from_secs(44))).is_empty());
    assert!(desk.node.deadline().expect("it asks again") <= desk.now.mono + Duration::from_secs(32));
    assert_eq!(asks(&desk.wait(Duration::from_secs(32))), [key(2).id()]);
    desk.input(Input::Broken { peer: key(2).id(), lane, why: "gone".into() });
    assert!(asks(&desk.wait(Duration::from_secs(3_600))).is_empty());
}

#[test]
fn what_is_of_no_use_is_counted_and_leaves_no_entry() {
    let tiers = params::Tiers { exchange: true, ..params::Tiers::default() };
    let mut desk = Desk::new(Params { tiers, ..Params::default() });
    desk.connect(2, &["a.*"]);
    let ignored = |desk: &Desk| (desk.node.view().counts.records_ignored, desk.node.view().strangers);
    let at = |seed: u8, place: &str| {
        let draft = RecordDraft { seq: 1, addresses: vec![place.parse().expect("one")], ..RecordDraft::default() };
        draft.seal(START, &key(seed)).expect("a record")
    };
    hear(&mut desk, 2, vec![at(5, "127.0.5.1:22"), at(6, "169.254.169.254:443"), at(7, "[::ffff:127.0.0.1]:6379")]);
    assert_eq!(ignored(&desk), (3, 0));
    let heap = |seed| at(seed, &format!("127.{seed}.0.1:7443"));
    hear(&mut desk, 2, (5..70).map(heap).collect());
    assert_eq!(ignored(&desk), (68, 0), "a heap");
    hear(&mut desk, 2, vec![record(1, 1, &[]), heap(5)]);
    assert_eq!(ignored(&desk).1, 1, "the test can fail");
}
