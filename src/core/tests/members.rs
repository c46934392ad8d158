//! The full view as the rest of the protocol sees it: who is in it, and who not.

use super::params::DAY;
use super::ports::Order;
use super::roster::{Member, Snapshot};
use super::*;

/// Of nodes 1 to 9, those for whom an event of this type would be.
fn crowd(desk: &mut Desk, kind: &str) -> Vec<u8> {
    let crowd = desk.node.peers.crowd(&kind.parse().expect("a type"));
    (1..=9).filter(|seed| crowd.contains(&key(*seed).id())).collect()
}

/// Everybody of them that is in the view.
fn known(desk: &mut Desk) -> Vec<u8> {
    crowd(desk, "mesh.node")
}

fn hear(desk: &mut Desk, records: Vec<Verified<Record>>) {
    desk.input(Input::Heard { teller: key(2).id(), asked: true, records });
}

fn order(desk: &mut Desk, seed: u8, order: Order) {
    desk.input(Input::Ordered { ticket: Ticket(5), id: key(seed).id(), order });
}

fn members(allow: &[u8], firehose: &[u8]) -> Input {
    let ids = |seeds: &[u8]| seeds.iter().map(|seed| key(*seed).id()).collect();
    let Params { peers_max, min_peers, accept, .. } = Params::default();
    Input::Members { allow: ids(allow), firehose: ids(firehose), peers_max, min_peers, accept }
}

#[test]
fn who_is_told_of_is_in_the_view_as_long_as_its_record_lives() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    hear(&mut desk, vec![record(3, 1, &["a.*"]), record(4, 1, &["b.*"]), record(1, 1, &["a.*"])]);
    assert_eq!(known(&mut desk), [2, 3, 4], "we are no member of our own view");
    assert_eq!(crowd(&mut desk, "a.x"), [2, 3]);
    hear(&mut desk, vec![record(4, 2, &["a.x"])]);
    assert_eq!((crowd(&mut desk, "a.x"), crowd(&mut desk, "b.x")), (vec![2, 3, 4], vec![]));
    let goodbye = RecordDraft { seq: 2, ..RecordDraft::default() }.seal_goodbye(START, &key(3)).expect("a record");
    hear(&mut desk, vec![goodbye]);
    hear(&mut desk, vec![record(3, 1, &["a.*"])]);
    assert_eq!(known(&mut desk), [2, 4], "a stale copy brings nobody back");
    desk.wait(DAY - Duration::from_secs(1));
    assert_eq!(known(&mut desk), [2, 4]);
    desk.wait(Duration::from_secs(1));
    assert!(known(&mut desk).is_empty());
}

#[test]
fn who_is_blocked_in_quarantine_or_not_allowed_is_not_in_the_view() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    hear(&mut desk, [3, 4, 5].map(|seed| record(seed, 1, &["a.*"])).into());
    desk.input(Input::Met { word: Word::Near, record: record(6, 1, &["a.*"]) });
    assert_eq!(known(&mut desk), [2, 3, 4, 5, 6]);
    for seed in [3, 2] {
        order(&mut desk, seed, Order::Block { why: "it floods".to_owned() });
    }
    desk.input(Input::Met { word: Word::Near, record: record(3, 2, &["a.*"]) });
    desk.input(Input::Met { word: Word::Near, record: record(6, 1, &["b.*"]) }); // two of one number
    desk.input(Input::Met { word: Word::Near, record: record(6, 2, &["a.*"]) });
    assert_eq!(known(&mut desk), [4, 5]);
    for seed in [3, 2] {
        order(&mut desk, seed, Order::Unblock);
    }
    assert_eq!(known(&mut desk), [2, 4, 5], "of a peer we have a record");
    desk.input(members(&[2, 5], &[]));
    hear(&mut desk, vec![record(3, 2, &["a.*"])]);
    assert_eq!(known(&mut desk), [2, 5]);
    desk.input(members(&[5], &[]));
    assert_eq!(known(&mut desk), [5], "a peer that was typed in stays one, and is left alone");
    desk.input(members(&[], &[]));
    assert_eq!(known(&mut desk), [2, 5]);
}

#[test]
fn who_is_no_peer_any_more_is_still_in_the_view_unless_a_person_removed_it() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    hear(&mut desk, vec![record(3, 1, &["*"])]);
    assert_eq!((crowd(&mut desk, "a.x"), known(&mut desk)), (vec![2], vec![2, 3]));
    desk.input(members(&[], &[3]));
    assert_eq!(crowd(&mut desk, "a.x"), [2, 3], "served everything");
    desk.input(members(&[], &[]));
    assert_eq!(crowd(&mut desk, "a.x"), [2]);
    desk.input(Input::PeerAdded { ticket: Ticket(9), id: key(3).id(), at: place(3), alias: None });
    assert_eq!(crowd(&mut desk, "a.x"), [2, 3], "typed in");
    desk.input(Input::PeerRemoved { ticket: Ticket(9), id: key(2).id() });
    assert_eq!(known(&mut desk), [3]);
}

#[test]
fn a_peer_that_a_wrong_date_swept_out_is_owed_all_the_same() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.connect(3, &["b.*"]);
    desk.node.peers.sweep(START + DAY * 2);
    assert!(known(&mut desk).is_empty());
    let out = desk.publish(vec![event(1, "1", "a.x")]);
    assert_eq!(shipments(&out).into_iter().map(|(peer, ..)| peer).collect::<Vec<_>>(), [key(2).id()]);
    desk.input(Input::Met { word: Word::Near, record: record(2, 1, &["a.*"]) });
    assert_eq!(known(&mut desk), [2], "its next word brings it back, the same record as before");
}

#[test]
fn a_view_that_others_gathered_counts_beside_what_a_node_learns_itself() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    order(&mut desk, 5, Order::Block { why: "it floods".to_owned() });
    let gathered = [2, 3, 4, 5].map(|seed| Member::new(record(seed, 1, &["b.*"]), START - DAY));
    desk.input(Input::Roster(Arc::new(Snapshot::of(gathered))));
    assert_eq!(crowd(&mut desk, "b.x"), [2, 3, 4]);
    hear(&mut desk, vec![record(3, 2, &["a.*"]), record(6, 1, &["b.*"])]);
    assert_eq!((crowd(&mut desk, "b.x"), crowd(&mut desk, "a.x")), (vec![2, 4, 6], vec![3]));
}
