//! Who may be a neighbour: nodes that ask, and nodes that a person blocked.

use super::params::{Accept, DAY};
use super::ports::{Order, SavedBook, Welcome};
use super::*;

fn asking() -> Params {
    Params { accept: Accept::Ask, ..Params::default() }
}

fn order(desk: &mut Desk, seed: u8, order: Order) -> Vec<Output> {
    desk.input(Input::Ordered { ticket: Ticket(5), id: key(seed).id(), order })
}

fn block(desk: &mut Desk, seed: u8) -> Vec<Output> {
    order(desk, seed, Order::Block { why: "it floods".to_owned() })
}

fn meet(desk: &mut Desk, seed: u8, seq: u64) -> Vec<Output> {
    desk.input(Input::Met { word: Word::Near, record: record(seed, seq, &["a.*"]) })
}

fn dials(out: &[Output]) -> Vec<(NodeId, LaneId)> {
    let dial = |output: &Output| match output {
        Output::Dial { peer, lane, .. } => Some((*peer, *lane)),
        _ => None,
    };
    out.iter().filter_map(dial).collect()
}

/// Whom what is published now reaches.
fn served(desk: &mut Desk, name: &str) -> Vec<NodeId> {
    let out = desk.publish(vec![event(1, name, "a.x")]);
    shipments(&out).into_iter().map(|(peer, ..)| peer).collect()
}

fn stand(desk: &mut Desk, out: &[Output]) -> Vec<Output> {
    let (peer, lane) = *dials(out).first().expect("a dial");
    desk.input(Input::Connected { peer, lane, rtt: Duration::ZERO })
}

fn opened(out: &[Output]) -> Vec<(NodeId, Seq)> {
    let cursor = |output: &Output| match output {
        Output::SaveCursor { peer, cursor } => Some((*peer, *cursor)),
        _ => None,
    };
    out.iter().filter_map(cursor).collect()
}

fn saved_peers(out: &[Output]) -> Vec<SavedPeer> {
    let saved = out.iter().rev().find_map(|output| match output {
        Output::SavePeers { peers, .. } => Some(peers.clone()),
        _ => None,
    });
    saved.expect("the peer file is written")
}

fn saved_book(out: &[Output]) -> SavedBook {
    let saved = out.iter().rev().find_map(|output| match output {
        Output::SaveBook { book, .. } => Some(book.clone()),
        _ => None,
    });
    saved.expect("the book is written")
}

fn blocked(out: &[Output]) -> Option<BTreeSet<NodeId>> {
    out.iter().find_map(|output| if let Output::Blocked(ids) = output { Some((**ids).clone()) } else { None })
}

#[test]
fn a_node_that_asks_gives_events_and_gets_none_until_it_is_accepted() {
    let mut desk = Desk::new(asking());
    let id = key(2).id();
    let out = meet(&mut desk, 2, 1);
    assert!(dials(&out).is_empty() && opened(&out).is_empty(), "{out:?}");
    assert_eq!(desk.state(2), PeerState::Asking);
    assert!(out.iter().any(|output| matches!(output, Output::Note(Note::PeerMoved { to: Standing::Asking, .. }))));
    assert!(served(&mut desk, "1").is_empty());
    // What it gives is stored, its own and what others signed; it carries nothing on for us, nor we for it.
    let arrived =
        [2, 9].map(|by| Arrived { envelope: event(by, "1", "a.y"), hops: 1, duty: true }).into_iter().collect();
    let out = desk.input(Input::Received { ticket: Ticket(1), from: Some(id), arrived });
    let out = desk.commit(&out);
    assert_eq!(answer(&out), Some(vec![Outcome::Stored { no_duty: true }; 2]));
    // However often it calls, and whatever time passes, it is not dialled.
    desk.input(Input::Contact { peer: id });
    meet(&mut desk, 2, 2);
    assert!(dials(&desk.wait(DAY / 2)).is_empty());
    assert_eq!(desk.state(2), PeerState::Asking);

    let out = order(&mut desk, 2, Order::Accept);
    assert_eq!(opened(&out), [(id, Seq(3))], "owed from now on");
    assert!(out.iter().any(|output| matches!(output, Output::SavePeers { ticket: Some(Ticket(5)), .. })));
    stand(&mut desk, &out);
    assert_eq!(served(&mut desk, "2"), [id]);
    let told: Vec<Standing> = desk.node.history(&id).into_iter().map(|turn| turn.to).collect();
    assert_eq!(told, [Standing::Asking, Standing::Probing, Standing::Connected]);
}

#[test]
fn who_was_typed_in_or_found_or_named_in_the_mesh_need_not_ask() {
    let allow = BTreeSet::from([key(3).id(), key(2).id()]);
    let mut desk = Desk::new(Params { allow, ..asking() });
    desk.connect(2, &["a.*"]);
    assert_eq!(served(&mut desk, "1"), [key(2).id()]);
    assert_eq!(dials(&meet(&mut desk, 3, 1)).len(), 1, "the mesh is private, and it is in it");

    let tiers = params::Tiers { seeds: true, ..params::Tiers::default() };
    let mut desk = Desk::new(Params { tiers, ..asking() });
    let find = tier::Find { id: Some(key(4).id()), at: vec![place(4)] };
    let out = desk.input(Input::Found { tier: tier::Tier::Seed, result: Ok(vec![find]) });
    let (_, lane) = *dials(&out).first().expect("a dial");
    meet(&mut desk, 4, 1);
    desk.input(Input::Connected { peer: key(4).id(), lane, rtt: Duration::ZERO });
    assert_eq!(served(&mut desk, "1"), [key(4).id()], "this node chose it");
}

#[test]
fn one_that_asks_and_is_typed_in_is_a_neighbour() {
    let mut desk = Desk::new(asking());
    meet(&mut desk, 2, 1);
    let out = desk.input(Input::PeerAdded { ticket: Ticket(9), id: key(2).id(), at: place(2), alias: None });
    assert_eq!(opened(&out), [(key(2).id(), Seq(0))]);
    stand(&mut desk, &out);
    assert_eq!(served(&mut desk, "1"), [key(2).id()]);
}

#[test]
fn a_restart_forgets_neither_who_asks_nor_who_was_accepted() {
    let mut desk = Desk::new(asking());
    meet(&mut desk, 2, 1);
    meet(&mut desk, 3, 1);
    let saved = saved_peers(&order(&mut desk, 3, Order::Accept));
    let welcome: Vec<(NodeId, Welcome, Option<Seq>)> =
        saved.iter().map(|peer| (peer.id, peer.welcome, peer.cursor)).collect();
    let of = |seed: u8| *welcome.iter().find(|(id, ..)| *id == key(seed).id()).expect("saved");
    assert_eq!(of(2), (key(2).id(), Welcome::Asks, None));
    assert_eq!(of(3), (key(3).id(), Welcome::Accepted, Some(Seq(0))));

    let restored = |params: Params| {
        let mut desk = Desk::new(params);
        let out = desk.input(Input::Restored { head: Seq(7), peers: saved.clone() });
        (desk, out)
    };
    let (again, out) = restored(asking());
    assert_eq!((again.state(2), opened(&out)), (PeerState::Asking, Vec::new()));
    assert_eq!(dials(&out).first().map(|(id, _)| *id), Some(key(3).id()));
    let (_, out) = restored(Params::default());
    assert_eq!(opened(&out), [(key(2).id(), Seq(7))], "nobody has to ask any more");
    assert_eq!(dials(&out).len(), 2);
}

#[test]
fn a_change_of_who_has_to_ask_lets_those_in_who_wait_and_nobody_out() {
    let mut desk = Desk::new(asking());
    meet(&mut desk, 2, 1);
    let members = |accept, allow: &[u8]| Input::Members {
        allow: allow.iter().map(|seed| key(*seed).id()).collect(),
        firehose: BTreeSet::new(),
        peers_max: 64,
        min_peers: 8,
        accept,
    };
    let out = desk.input(members(Accept::Open, &[]));
    assert_eq!(opened(&out), [(key(2).id(), Seq(0))]);
    stand(&mut desk, &out);
    desk.input(members(Accept::Ask, &[]));
    assert_eq!(served(&mut desk, "1"), [key(2).id()], "who is a neighbour stays one");
    meet(&mut desk, 3, 1);
    assert_eq!(desk.state(3), PeerState::Asking);
    desk.input(members(Accept::Ask, &[2, 3]));
    assert_ne!(desk.state(3), PeerState::Asking, "it is named now");
}

#[test]
fn a_crowd_that_asks_takes_nobodys_place() {
    let mut desk = Desk::new(Params { peers_max: 3, ..asking() });
    let homeless = RecordDraft { seq: 1, ..RecordDraft::default() }.seal(START, &key(2)).expect("a record");
    desk.input(Input::Met { word: Word::Near, record: homeless });
    order(&mut desk, 2, Order::Accept);
    assert_eq!(desk.state(2), PeerState::Waiting, "no lane to it ever stood");
    for seed in 10..60 {
        desk.wait(Duration::from_secs(1));
        meet(&mut desk, seed, 1);
    }
    let view = desk.node.view();
    assert_eq!(view.peers.len(), 3);
    assert!(view.peers.iter().any(|peer| peer.id == key(2).id()), "a person accepted it");
}

#[test]
fn a_blocked_peer_is_cut_off_and_nothing_is_taken_from_it() {
    let mut desk = Desk::new(Params::default());
    let (id, lane) = (key(2).id(), desk.connect(2, &["a.*"]));
    desk.connect(3, &["a.*"]);
    let out = block(&mut desk, 2);
    assert!(
        out.iter().any(|output| matches!(output, Output::Hangup { peer, lane: gone } if (*peer, *gone) == (id, lane)))
    );
    assert!(out.iter().any(|output| matches!(output, Output::ForgetCursor { peer } if *peer == id)));
    assert_eq!(blocked(&out), Some([id].into()));
    assert_eq!(desk.state(2), PeerState::Blocked { why: "it floods".to_owned() });
    assert_eq!(served(&mut desk, "1"), [key(3).id()]);
    // Lines that were let in a moment before.
    assert_eq!(codes(&desk.receive(2, &[event(2, "1", "a.x")])), [Some(Code::Blocked)]);
    // What it signs may come by way of others, as long as nobody mutes it; its record may not.
    assert!(appended(&desk.receive(3, &[event(2, "2", "a.x")])).is_some());
    assert!(meet(&mut desk, 2, 2).is_empty());
    desk.input(Input::Heard { teller: key(3).id(), asked: true, records: vec![record(2, 3, &["q.*"])] });
    desk.input(Input::Heard { teller: id, asked: true, records: vec![record(7, 1, &["q.*"])] });
    desk.input(Input::Contact { peer: id });
    let view = desk.node.view();
    let patterns = |id: NodeId| view.peers.iter().find(|peer| peer.id == id).map(|peer| peer.interests.clone());
    assert!(patterns(id).expect("still listed").matches(&"a.x".parse().expect("a type")));
    assert_eq!(view.strangers, 0, "it is not listened to about others");
    let group = crate::wire::Group::of([127, 0, 9, 1].into());
    assert!(desk.node.share(&id, group, desk.now).is_empty(), "nor told of any");
    let told = desk.node.share(&key(9).id(), group, desk.now);
    assert_eq!(told.len(), 1, "and nobody is told of it: {told:?}");
    assert!(dials(&desk.wait(DAY * 9)).is_empty());
}

#[test]
fn one_that_is_not_known_can_be_blocked_and_never_becomes_known() {
    let mut desk = Desk::new(Params::default());
    desk.connect(3, &["a.*"]);
    let out = block(&mut desk, 2);
    assert_eq!(blocked(&out), Some([key(2).id()].into()));
    assert!(out.iter().any(|output| matches!(output, Output::SaveBook { ticket: Some(Ticket(5)), .. })));
    assert!(meet(&mut desk, 2, 1).is_empty());
    desk.input(Input::Heard { teller: key(3).id(), asked: true, records: vec![record(2, 1, &["a.*"])] });
    let view = desk.node.view();
    assert_eq!((view.peers.len(), view.strangers), (1, 0));
    let outcasts = desk.node.outcasts(desk.now);
    assert_eq!(outcasts.len(), 1);
    assert_eq!(
        (outcasts[0].id, &outcasts[0].state),
        (key(2).id(), &PeerState::Blocked { why: "it floods".to_owned() })
    );
}

#[test]
fn an_unblocked_peer_is_what_it_was_and_is_owed_what_comes_from_then_on() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    for _ in 0..2 {
        block(&mut desk, 2);
    }
    desk.publish(vec![event(1, "1", "a.x")]);
    let out = order(&mut desk, 2, Order::Unblock);
    assert_eq!(blocked(&out), Some(BTreeSet::new()));
    assert_eq!(opened(&out), [(key(2).id(), Seq(1))]);
    assert!(scans(&stand(&mut desk, &out)).is_empty(), "what came meanwhile is not owed");
    assert_eq!(served(&mut desk, "2"), [key(2).id()]);
    let out = order(&mut desk, 2, Order::Unblock);
    assert!(opened(&out).is_empty() && matches!(desk.state(2), PeerState::Connected { .. }), "said twice");
}

#[test]
fn a_block_survives_a_restart_and_being_forgotten_or_typed_in() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let book = saved_book(&block(&mut desk, 2));
    let mut again = Desk::new(Params::default());
    let out = again.input(Input::Remembered(book));
    assert_eq!(blocked(&out), Some([key(2).id()].into()), "before anybody can call");
    let saved = SavedPeer { record: Some(record(2, 1, &["a.*"])), cursor: Some(Seq(0)), ..saved_by_hand(2) };
    let out = again.input(Input::Restored { head: Seq(4), peers: vec![saved] });
    assert!(dials(&out).is_empty() && opened(&out).is_empty(), "{out:?}");
    let out = again.input(Input::PeerAdded { ticket: Ticket(9), id: key(2).id(), at: place(7), alias: None });
    assert!(dials(&out).is_empty() && opened(&out).is_empty(), "the configuration may still name it");
    assert!(matches!(again.state(2), PeerState::Blocked { .. }));
    again.input(Input::PeerRemoved { ticket: Ticket(9), id: key(2).id() });
    assert!(meet(&mut again, 2, 2).is_empty() && again.node.is_blocked(&key(2).id()));
    order(&mut again, 2, Order::Unblock);
    assert_eq!(dials(&meet(&mut again, 2, 2)).len(), 1, "a stranger like any");
}

#[test]
fn who_would_get_an_event_says_who_waits_and_who_is_blocked() {
    let mut desk = Desk::new(asking());
    meet(&mut desk, 2, 1);
    desk.connect(3, &["a.*"]);
    block(&mut desk, 3);
    let prospects: Vec<Prospect> = [2, 3].map(|seed| prospect(&desk, seed)).into_iter().collect();
    assert_eq!(prospects, [Prospect::Asking, Prospect::Blocked]);
}

fn prospect(desk: &Desk, seed: u8) -> Prospect {
    let prospects = desk.node.prospects(&"a.x".parse().expect("a type"), desk.now.wall);
    prospects.into_iter().find(|(id, _)| *id == key(seed).id()).expect("known").1
}

#[test]
fn more_connections_are_looked_for_as_soon_as_more_are_wanted() {
    let tiers = params::Tiers { seeds: true, ..params::Tiers::default() };
    let mut desk = Desk::new(Params { tiers, min_peers: 1, ..Params::default() });
    let find = |seed: u8| tier::Find { id: Some(key(seed).id()), at: vec![place(seed)] };
    let out = desk.input(Input::Found { tier: tier::Tier::Seed, result: Ok((2..6).map(find).collect()) });
    assert_eq!(dials(&out).len(), 1);
    let members = |min_peers, peers_max| Input::Members {
        allow: BTreeSet::new(),
        firehose: BTreeSet::new(),
        peers_max,
        min_peers,
        accept: Accept::Open,
    };
    assert_eq!(dials(&desk.input(members(3, 64))).len(), 2);
    assert!(dials(&desk.input(members(64, 3))).is_empty(), "never more than there is room for");
}
