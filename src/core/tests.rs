//! The protocol by its inputs and outputs. Time is a number; the disk and the network are this file.

use std::time::Duration;

use bytes::Bytes;

use super::ports::{LaneId, Page, SendError, ShipmentId};
use super::*;
use crate::time::Wall;
use crate::wire::message::{Durability, Receipt, Retry};
use crate::wire::{Code, Draft, HostPort, Keypair, Network, Profile, Record, RecordDraft, Scalar, envelope};

const START: Wall = Wall::from_millis(1_795_243_262_123);

fn key(seed: u8) -> Keypair {
    Keypair::from_seed(&[seed; 32])
}

fn event(seed: u8, name: &str, kind: &str) -> Verified<Envelope> {
    envelope::seal(&Draft::new(name, kind, START), &key(seed)).expect("a good draft")
}

fn record(seed: u8, seq: u64, patterns: &[&str]) -> Verified<Record> {
    let interests = Interests::new(patterns.iter().map(|text| text.parse().expect("a pattern"))).expect("interests");
    let addresses = vec![place(seed)];
    RecordDraft { seq, addresses, interests, network: Network::default() }.seal(START, &key(seed)).expect("a record")
}

fn place(seed: u8) -> HostPort {
    format!("127.0.{seed}.1:7443").parse().expect("an address")
}

/// A node under test, with everything it ever asked for.
struct Desk {
    node: Node,
    now: Now,
    out: Vec<Output>,
    next_seq: u64,
    lanes: u64,
}

impl Desk {
    /// Node 1, wanting `a.*`.
    fn new(params: Params) -> Desk {
        let params = Params { profile: Profile::Loopback, ..params };
        let node = Node::new(key(1).id(), params, 7);
        let mut desk =
            Desk { node, now: Now { mono: Mono(1_000_000), wall: START }, out: Vec::new(), next_seq: 0, lanes: 0 };
        desk.input(Input::Interests(Interests::new(["a.*".parse().expect("a pattern")]).expect("interests")));
        desk.input(Input::Restored { head: Seq(0), peers: Vec::new() });
        desk
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.node.handle(input, self.now, &mut out);
        self.out.clear();
        out
    }

    fn wait(&mut self, span: Duration) -> Vec<Output> {
        self.now = Now { mono: self.now.mono + span, wall: self.now.wall + span };
        self.input(Input::Tick)
    }

    fn receive(&mut self, from: u8, envelopes: &[Verified<Envelope>]) -> Vec<Output> {
        let arrived = envelopes.iter().map(|one| Arrived { envelope: one.clone(), hops: 1, duty: false }).collect();
        self.input(Input::Received { ticket: Ticket(1), from: Some(key(from).id()), arrived })
    }

    /// Publishes and lets the disk store it all; gives what follows the commit.
    fn publish(&mut self, envelopes: Vec<Verified<Envelope>>) -> Vec<Output> {
        let out = self.input(Input::Emitted { ticket: Ticket(2), envelopes });
        self.commit(&out)
    }

    fn commit(&mut self, out: &[Output]) -> Vec<Output> {
        let (batch, count) = appended(out).expect("an append");
        let result = Ok((0..count).map(|_| Appended::Stored(self.seq())).collect());
        self.input(Input::Appended { batch, result })
    }

    fn seq(&mut self) -> Seq {
        self.next_seq += 1;
        Seq(self.next_seq)
    }

    /// Adds peer `seed` by hand and connects it; it wants these patterns.
    fn connect(&mut self, seed: u8, patterns: &[&str]) -> LaneId {
        let id = key(seed).id();
        self.input(Input::PeerAdded { ticket: Ticket(9), id, at: place(seed), alias: None });
        let lane = LaneId(self.lanes);
        self.lanes += 1;
        self.input(Input::Met { record: record(seed, 1, patterns) });
        self.input(Input::Connected { peer: id, lane, rtt: Duration::from_millis(1) });
        assert!(matches!(self.state(seed), PeerState::Connected { .. }));
        lane
    }

    fn state(&self, seed: u8) -> PeerState {
        self.node.view().peers.into_iter().find(|peer| peer.id == key(seed).id()).expect("a known peer").state
    }

    fn sent(&mut self, seed: u8, shipment: ShipmentId, result: Result<Receipt, SendError>) -> Vec<Output> {
        self.input(Input::Sent { peer: key(seed).id(), shipment, result })
    }
}

fn appended(out: &[Output]) -> Option<(BatchId, usize)> {
    out.iter().find_map(|output| match output {
        Output::Append { batch, entries } => Some((*batch, entries.len())),
        _ => None,
    })
}

fn answer(out: &[Output]) -> Option<Vec<Outcome>> {
    out.iter().find_map(|output| match output {
        Output::Answer { outcomes, .. } => Some(outcomes.clone()),
        _ => None,
    })
}

fn codes(out: &[Output]) -> Vec<Option<Code>> {
    let code = |outcome: Outcome| match outcome {
        Outcome::Refused(rejection) => Some(rejection.code()),
        _ => None,
    };
    answer(out).expect("an answer").into_iter().map(code).collect()
}

fn shipments(out: &[Output]) -> Vec<(NodeId, ShipmentId, Vec<Bytes>)> {
    let shipment = |output: &Output| match output {
        Output::Send { peer, shipment, lines, .. } => Some((*peer, *shipment, lines.clone())),
        _ => None,
    };
    out.iter().filter_map(shipment).collect()
}

fn scans(out: &[Output]) -> Vec<Seq> {
    let scan = |output: &Output| match output {
        Output::Scan { after, .. } => Some(*after),
        _ => None,
    };
    out.iter().filter_map(scan).collect()
}

fn all_stored(count: usize, credit: u32) -> Receipt {
    Receipt::of(&vec![Outcome::Stored { no_duty: false }; count], credit, Durability::Fsync)
}

#[test]
fn nothing_is_answered_before_the_disk_has_it() {
    let mut desk = Desk::new(Params::default());
    let out = desk.receive(2, &[event(2, "1", "a.x"), event(2, "2", "a.y")]);
    assert_eq!(answer(&out), None);
    let (batch, count) = appended(&out).expect("an append");
    assert_eq!(count, 2);
    let out = desk.input(Input::Appended { batch, result: Ok(vec![Appended::Stored(Seq(1)), Appended::Duplicate]) });
    assert_eq!(answer(&out), Some(vec![Outcome::Stored { no_duty: false }, Outcome::Duplicate]));
}

#[test]
fn policy_refuses_each_thing_for_its_own_reason() {
    let params = Params { mute: BTreeSet::from([key(4).id()]), ..Params::default() };
    let mut desk = Desk::new(params);
    let to_us = |to: u8| {
        let draft = Draft::new("t", "z.z", START).with("to", Scalar::Text(key(to).id().uri()));
        envelope::seal(&draft, &key(2)).expect("a good draft")
    };
    let out = desk.receive(
        2,
        &[
            event(2, "1", "b.x"),
            event(4, "1", "a.x"),
            event(1, "1", "a.x"),
            event(2, "2", "mesh.hello"),
            event(2, "3", "mesh.node"),
            to_us(3),
        ],
    );
    // The record is a stranger's: nobody asked for it.
    let expected =
        [Code::NotSubscribed, Code::Muted, Code::Conflict, Code::TypeDenied, Code::NotSubscribed, Code::NotForMe];
    assert_eq!(codes(&out), expected.map(Some));
    assert!(out.iter().any(|output| matches!(output, Output::Note(ports::Note::OwnKeyElsewhere(_)))));
    let out = desk.receive(2, &[to_us(1)]);
    assert!(appended(&out).is_some(), "what is addressed to us needs no pattern");
    assert_eq!(desk.node.view().counts.refused[&Code::Muted], 1);
}

#[test]
fn a_private_mesh_takes_members_events_from_members_only() {
    let params = Params { allow: BTreeSet::from([key(2).id(), key(3).id()]), ..Params::default() };
    let mut desk = Desk::new(params);
    assert_eq!(codes(&desk.receive(2, &[event(4, "1", "a.x")])), [Some(Code::Muted)]);
    assert_eq!(codes(&desk.receive(4, &[event(2, "1", "a.x")])), [Some(Code::Muted)]);
    let arrived = vec![Arrived { envelope: event(2, "1", "a.x"), hops: 0, duty: false }];
    assert_eq!(codes(&desk.input(Input::Received { ticket: Ticket(1), from: None, arrived })), [Some(Code::Muted)]);
    assert!(appended(&desk.receive(3, &[event(2, "1", "a.x")])).is_some());
    desk.input(Input::Met { record: record(4, 1, &["a.*"]) });
    assert!(desk.node.view().peers.is_empty());
}

#[test]
fn beyond_the_bound_lines_are_turned_away_and_those_behind_them_too() {
    let mut desk = Desk::new(Params { appending_max: 2, ..Params::default() });
    let events: Vec<_> = (0..3).map(|i| event(2, &i.to_string(), "a.x")).collect();
    let out = desk.receive(2, &events);
    let (batch, count) = appended(&out).expect("an append");
    assert_eq!(count, 2);
    assert_eq!(codes(&desk.receive(2, &[event(2, "9", "a.x")])), [Some(Code::Unavailable)]);
    let out =
        desk.input(Input::Appended { batch, result: Ok(vec![Appended::Stored(Seq(1)), Appended::Stored(Seq(2))]) });
    assert_eq!(codes(&out), [None, None, Some(Code::Unavailable)]);
    assert!(appended(&desk.receive(2, &[event(2, "9", "a.x")])).is_some(), "there is room again");
}

#[test]
fn a_full_journal_is_said_once_and_so_is_its_recovery() {
    let mut desk = Desk::new(Params::default());
    let mut full = |result| {
        let out = desk.receive(2, &[event(2, "1", "a.x")]);
        let (batch, _) = appended(&out).expect("an append");
        let out = desk.input(Input::Appended { batch, result });
        let notes = out.iter().filter(|output| matches!(output, Output::Note(_))).count();
        (codes(&out), notes)
    };
    assert_eq!(full(Err(AppendError::Full)), (vec![Some(Code::Unavailable)], 1));
    assert_eq!(full(Err(AppendError::Full)), (vec![Some(Code::Unavailable)], 0));
    assert_eq!(full(Ok(vec![Appended::Stored(Seq(1))])), (vec![None], 1));
}

#[test]
fn an_event_goes_to_those_who_want_it_once_and_never_back() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.connect(3, &["a.*", "b.*"]);
    desk.connect(4, &["b.*"]);
    let out = desk.publish(vec![event(1, "1", "a.x")]);
    let to: Vec<NodeId> = shipments(&out).into_iter().map(|(peer, ..)| peer).collect();
    assert_eq!(to.len(), 2);
    assert!(to.contains(&key(2).id()) && to.contains(&key(3).id()));
    let line = &shipments(&out)[0].2[0];
    assert!(line.starts_with(b"1 "), "one link crossed, and a leaf");

    let out = desk.receive(2, &[event(2, "1", "a.x")]);
    assert!(shipments(&desk.commit(&out)).is_empty(), "a leaf is not carried on");
}

#[test]
fn duty_is_taken_from_a_known_neighbour_for_its_prefix_alone() {
    let position = |seed: u8| duty::Position::of(&key(seed).id());
    let (me, giver) = (position(1), 2u8);
    let digits = position(giver).cpl(&me) + 1;
    let seeds = || 3..60u8;
    let inside = seeds().find(|seed| position(*seed).cpl(&me) >= digits).expect("somebody near us");
    let outside = seeds().find(|seed| position(*seed).cpl(&me) < digits).expect("somebody far");
    let mut desk = Desk::new(Params::default());
    desk.connect(inside, &["a.*"]);
    desk.connect(outside, &["a.*"]);
    let arrive = |desk: &mut Desk, name: &str| {
        let arrived = vec![Arrived { envelope: event(9, name, "a.x"), hops: 3, duty: true }];
        let out = desk.input(Input::Received { ticket: Ticket(1), from: Some(key(giver).id()), arrived });
        desk.commit(&out)
    };
    let out = arrive(&mut desk, "1");
    assert_eq!(answer(&out), Some(vec![Outcome::Stored { no_duty: true }]), "we hold no record of the giver");
    assert!(shipments(&out).is_empty());
    desk.input(Input::Met { record: record(giver, 1, &["q.q"]) });
    let out = arrive(&mut desk, "2");
    assert_eq!(answer(&out), Some(vec![Outcome::Stored { no_duty: false }]));
    let sent = shipments(&out);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, key(inside).id());
    assert!(sent[0].2[0].starts_with(b"4 "));
}

#[test]
fn one_body_is_in_flight_and_the_rest_follows_in_order() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let first = shipments(&desk.publish(vec![event(1, "1", "a.x")]));
    assert_eq!(first.len(), 1);
    assert!(shipments(&desk.publish(vec![event(1, "2", "a.x")])).is_empty());
    assert!(shipments(&desk.publish(vec![event(1, "3", "a.x")])).is_empty());
    let second = shipments(&desk.sent(2, first[0].1, Ok(all_stored(1, 64))));
    let names: Vec<bool> = second[0].2.iter().zip(["\"2\"", "\"3\""]).map(|(line, id)| find(line, id)).collect();
    assert_eq!(names, [true, true]);
}

fn find(line: &Bytes, what: &str) -> bool {
    std::str::from_utf8(line).expect("text").contains(what)
}

#[test]
fn a_busy_peer_gets_the_same_lines_later() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.wait(SAVE_PAUSE);
    let first = shipments(&desk.publish(vec![event(1, "1", "a.x"), event(1, "2", "a.x")]));
    let wait = Duration::from_secs(2);
    assert!(shipments(&desk.sent(2, first[0].1, Err(SendError::Busy(wait)))).is_empty());
    assert_eq!(desk.node.deadline(), Some(desk.now.mono + wait));
    let again = shipments(&desk.wait(wait));
    assert_eq!(again[0].2, first[0].2);

    let mut receipt = all_stored(1, 64);
    receipt.retry.push(Retry { i: 1, after_ms: 500 });
    assert!(shipments(&desk.sent(2, again[0].1, Ok(receipt))).is_empty());
    let rest = shipments(&desk.wait(Duration::from_millis(500)));
    assert_eq!(rest[0].2, first[0].2[1..]);
}

#[test]
fn a_peer_cannot_make_us_wait_for_ever_or_send_without_credit() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let first = shipments(&desk.publish((0..9).map(|i| event(1, &i.to_string(), "a.x")).collect()));
    assert_eq!(first[0].2.len(), 9);
    desk.publish((10..19).map(|i| event(1, &i.to_string(), "a.x")).collect());
    let two = shipments(&desk.sent(2, first[0].1, Ok(all_stored(9, 2))));
    assert_eq!(two[0].2.len(), 2, "as many as it takes");
    assert!(shipments(&desk.sent(2, two[0].1, Ok(all_stored(2, 0)))).is_empty());
    let one = shipments(&desk.wait(Duration::from_secs(1)));
    assert_eq!(one[0].2.len(), 1, "no credit: one line, after a while");
    let mut receipt = all_stored(0, 64);
    receipt.retry.push(Retry { i: 0, after_ms: u64::MAX });
    receipt.retry.push(Retry { i: 77, after_ms: 1 });
    desk.sent(2, one[0].1, Ok(receipt));
    assert!(!shipments(&desk.wait(Duration::from_secs(61))).is_empty());
}

#[test]
fn beyond_its_handful_a_peer_is_read_for_from_the_journal() {
    let mut desk = Desk::new(Params { peer_queue_max: 2, ..Params::default() });
    desk.connect(2, &["a.*"]);
    let events: Vec<_> = (0..6).map(|i| event(1, &i.to_string(), "a.x")).collect();
    let stored = |from: u64, count: usize| {
        let entry = |i: u64| Entry {
            envelope: events[i as usize].clone(),
            from: Some(key(1).id()),
            hops: 0,
            duty: true,
            received: START,
        };
        let entries: Vec<Stored> =
            (from..from + count as u64).map(|i| Stored { seq: Seq(i + 1), entry: entry(i) }).collect();
        let upto = entries.last().map_or(Seq(from), |last| last.seq);
        Page { entries, upto }
    };
    let out = desk.publish(events.clone());
    let sent = shipments(&out);
    assert_eq!(sent[0].2.len(), 2);
    assert_eq!(scans(&out), [Seq(2)], "the next page is read while the first is in flight");
    let peer = key(2).id();
    assert!(shipments(&desk.input(Input::Scanned { peer, after: Seq(2), page: Ok(stored(2, 2)) })).is_empty());
    let out = desk.sent(2, sent[0].1, Ok(all_stored(2, 64)));
    let sent = shipments(&out);
    assert!(find(&sent[0].2[0], "\"2\"") && find(&sent[0].2[1], "\"3\""));
    assert_eq!(scans(&out), [Seq(4)]);
    desk.input(Input::Scanned { peer, after: Seq(4), page: Ok(stored(4, 2)) });
    let sent = shipments(&desk.sent(2, sent[0].1, Ok(all_stored(2, 64))));
    let out = desk.sent(2, sent[0].1, Ok(all_stored(2, 64)));
    assert!(scans(&out).is_empty());
    assert!(out.iter().any(|output| matches!(output, Output::Note(ports::Note::PeerCaughtUp(_)))));
    let out = desk.wait(Duration::from_secs(2));
    assert!(out.iter().any(|output| matches!(output, Output::SaveCursor { cursor: Seq(6), .. })), "{out:?}");
}

#[test]
fn a_lost_lane_gives_back_what_was_in_hand() {
    let mut desk = Desk::new(Params::default());
    let lane = desk.connect(2, &["a.*"]);
    let peer = key(2).id();
    desk.publish(vec![event(1, "1", "a.x")]);
    desk.publish(vec![event(1, "2", "a.x")]);
    let out = desk.input(Input::Broken { peer, lane, why: "gone".into() });
    assert!(out.iter().any(|output| matches!(output, Output::Note(ports::Note::PeerBackoff { .. }))));
    desk.publish(vec![event(1, "3", "a.x")]);
    let out = desk.wait(Duration::from_secs(1));
    let lane = out.iter().find_map(|output| match output {
        Output::Dial { lane, .. } => Some(*lane),
        _ => None,
    });
    let lane = lane.expect("a dial within a second");
    let out = desk.input(Input::Connected { peer, lane, rtt: Duration::ZERO });
    assert_eq!(scans(&out), [Seq(0)], "from the first that was not answered for");
}

#[test]
fn a_call_from_a_peer_ends_the_wait_for_it() {
    let mut desk = Desk::new(Params::default());
    let mut lane = desk.connect(2, &["a.*"]);
    let peer = key(2).id();
    for _ in 0..8 {
        desk.input(Input::Broken { peer, lane, why: "connection refused".into() });
        let out = desk.wait(Duration::from_secs(30));
        lane = out
            .iter()
            .find_map(|output| if let Output::Dial { lane, .. } = output { Some(*lane) } else { None })
            .expect("a dial");
    }
    desk.input(Input::Broken { peer, lane, why: "connection refused".into() });
    assert!(matches!(desk.state(2), PeerState::Backoff { .. }));
    desk.input(Input::Contact { peer });
    let out = desk.wait(params::DIAL_PAUSE);
    assert!(out.iter().any(|output| matches!(output, Output::Dial { .. })));
}

#[test]
fn reports_of_an_older_lane_mean_nothing() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let peer = key(2).id();
    desk.input(Input::Broken { peer, lane: LaneId(77), why: "late".into() });
    assert!(matches!(desk.state(2), PeerState::Connected { .. }));
    assert!(shipments(&desk.sent(2, ShipmentId(77), Ok(all_stored(1, 9)))).is_empty());
}

#[test]
fn strangers_are_served_no_firehose_and_typed_in_peers_are() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["*"]);
    desk.input(Input::Met { record: record(3, 1, &["*"]) });
    let lane = LaneId(1);
    desk.input(Input::Connected { peer: key(3).id(), lane, rtt: Duration::ZERO });
    let to: Vec<NodeId> =
        shipments(&desk.publish(vec![event(1, "1", "a.x")])).into_iter().map(|(peer, ..)| peer).collect();
    assert_eq!(to, [key(2).id()]);
}

#[test]
fn only_a_newer_record_changes_what_a_peer_wants() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.input(Input::Met { record: record(2, 1, &["q.*"]) });
    desk.input(Input::Met { record: record(2, 0, &["q.*"]) });
    assert_eq!(shipments(&desk.publish(vec![event(1, "1", "a.x")])).len(), 1);
    desk.input(Input::Met { record: record(2, 2, &["q.*"]) });
    assert_eq!(desk.node.view().peers[0].interests.patterns()[0].as_str(), "q.*");
}

#[test]
fn the_table_is_bounded_and_typed_in_peers_are_never_dropped() {
    let mut desk = Desk::new(Params { peers_max: 3, ..Params::default() });
    desk.connect(2, &["a.*"]);
    for seed in 10..40 {
        let lanes = desk.input(Input::Met { record: record(seed, 1, &["a.*"]) });
        for output in lanes {
            if let Output::Dial { peer, lane, .. } = output {
                desk.input(Input::Broken { peer, lane, why: "no answer".into() });
            }
        }
    }
    let view = desk.node.view();
    assert_eq!(view.peers.len(), 3);
    assert!(view.peers.iter().any(|peer| peer.id == key(2).id()));
}

#[test]
fn forbidden_addresses_in_a_record_are_never_dialled() {
    let mut desk = Desk::new(Params::default());
    let draft = RecordDraft {
        seq: 1,
        addresses: vec![
            "127.0.0.1:6379".parse().expect("an address"),
            "169.254.169.254:443".parse().expect("an address"),
        ],
        ..RecordDraft::default()
    };
    let out = desk.input(Input::Met { record: draft.seal(START, &key(5)).expect("a record") });
    assert!(!out.iter().any(|output| matches!(output, Output::Dial { .. })));
    assert_eq!(desk.state(5), PeerState::Waiting);
}

#[test]
fn what_is_restored_is_served_from_its_cursor() {
    let mut desk = Desk::new(Params::default());
    let saved = SavedPeer {
        id: key(2).id(),
        origin: ports::Origin::Manual,
        proven: true,
        alias: Some("cedar".into()),
        addresses: vec![place(2)],
        record: Some(record(2, 1, &["a.*"])),
        cursor: Some(Seq(40)),
        since: START,
        seen: None,
    };
    let out = desk.input(Input::Restored { head: Seq(50), peers: vec![saved] });
    let lane = out
        .iter()
        .find_map(|output| if let Output::Dial { lane, by_hand: true, .. } = output { Some(*lane) } else { None });
    let out = desk.input(Input::Connected { peer: key(2).id(), lane: lane.expect("a dial"), rtt: Duration::ZERO });
    assert_eq!(scans(&out), [Seq(40)]);
}

#[test]
fn a_peer_without_a_durable_cursor_gets_one_before_anything_is_stored() {
    // Killed before the first commit, then again after it: the second life must not skip what the
    // first one stored.
    let mut desk = Desk::new(Params::default());
    let saved = SavedPeer {
        id: key(2).id(),
        origin: ports::Origin::Manual,
        proven: true,
        alias: None,
        addresses: vec![place(2)],
        record: None,
        cursor: None,
        since: START,
        seen: None,
    };
    let out = desk.input(Input::Restored { head: Seq(50), peers: vec![saved] });
    assert!(out.iter().any(|output| matches!(output, Output::SaveCursor { cursor: Seq(50), .. })), "{out:?}");
}

#[test]
fn a_body_that_is_refused_whole_is_sent_line_by_line_and_costs_one_line() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let first = shipments(&desk.publish((0..3).map(|i| event(1, &i.to_string(), "a.x")).collect()));
    assert_eq!(first[0].2.len(), 3);
    let mut last = shipments(&desk.sent(2, first[0].1, Err(SendError::Refused(400))));
    for n in 0..3 {
        assert_eq!(last[0].2, first[0].2[n..=n], "each alone, in order");
        let result = if n == 1 { Err(SendError::Refused(400)) } else { Ok(all_stored(1, 64)) };
        last = shipments(&desk.sent(2, last[0].1, result));
    }
    assert!(last.is_empty());
    assert_eq!(desk.node.view().peers[0].behind, 0);
}

#[test]
fn a_clock_that_jumps_ahead_and_back_gives_up_nothing() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let first = shipments(&desk.publish(vec![event(1, "1", "a.x")]));
    desk.sent(2, first[0].1, Err(SendError::Busy(Duration::from_secs(5))));
    let right = desk.now.wall;
    desk.now.wall = right + Duration::from_secs(2 * 86_400);
    let again = shipments(&desk.wait(Duration::from_secs(5)));
    assert_eq!(again[0].2, first[0].2, "not expired by a clock that nobody believes yet");
}

#[test]
fn no_retry_of_a_peer_makes_a_loop() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let first = shipments(&desk.publish(vec![event(1, "1", "a.x")]));
    let mut receipt = all_stored(0, 64);
    receipt.retry.push(Retry { i: 0, after_ms: 0 });
    assert!(shipments(&desk.sent(2, first[0].1, Ok(receipt))).is_empty());
    let again = shipments(&desk.wait(params::RETRY_LEAST));
    assert!(shipments(&desk.sent(2, again[0].1, Err(SendError::Busy(Duration::ZERO)))).is_empty());
    assert_eq!(shipments(&desk.wait(params::RETRY_LEAST)).len(), 1);
}

#[test]
fn a_line_from_the_future_is_offered_again_and_other_refusals_are_final() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let first = shipments(&desk.publish(vec![event(1, "1", "a.x"), event(1, "2", "a.x"), event(1, "3", "a.x")]));
    let outcomes = [Rejection::Future, Rejection::Muted, Rejection::Muted].map(Outcome::Refused);
    let out = desk.sent(2, first[0].1, Ok(Receipt::of(&outcomes, 64, Durability::Fsync)));
    let notes = out.iter().filter(|output| matches!(output, Output::Note(_))).count();
    assert_eq!(notes, 1, "each code is told once a lane");
    let again = shipments(&desk.wait(params::RETRY_FUTURE));
    assert_eq!(again[0].2, first[0].2[..1]);
}

#[test]
fn a_page_that_is_ahead_of_us_queues_nothing_twice() {
    let mut desk = Desk::new(Params { peer_queue_max: 1, ..Params::default() });
    desk.connect(2, &["a.*"]);
    let sent = shipments(&desk.publish(vec![event(1, "1", "a.x")]));
    desk.publish(vec![event(1, "2", "a.x")]);
    let behind = desk.publish(vec![event(1, "3", "a.x")]);
    assert!(scans(&behind).is_empty(), "its queue is full");
    let out = desk.sent(2, sent[0].1, Ok(all_stored(1, 64)));
    assert_eq!(scans(&out), [Seq(2)]);
    let appended = desk.input(Input::Emitted { ticket: Ticket(3), envelopes: vec![event(1, "4", "a.x")] });
    let entry = |name: &str| Entry {
        envelope: event(1, name, "a.x"),
        from: Some(key(1).id()),
        hops: 0,
        duty: true,
        received: START,
    };
    // The journal shows #4 to readers before the driver has heard of it; only #3 fits.
    let entries = vec![Stored { seq: Seq(3), entry: entry("3") }];
    desk.input(Input::Scanned { peer: key(2).id(), after: Seq(2), page: Ok(Page { entries, upto: Seq(4) }) });
    let before = desk.node.view().peers[0].in_hand;
    desk.commit(&appended);
    assert_eq!(desk.node.view().peers[0].in_hand, before);
}

#[test]
fn a_mesh_that_became_private_forgets_outsiders() {
    let params = Params { allow: BTreeSet::from([key(2).id()]), ..Params::default() };
    let mut desk = Desk::new(params);
    let saved = SavedPeer {
        id: key(3).id(),
        origin: ports::Origin::Inbound,
        proven: true,
        alias: None,
        addresses: Vec::new(),
        record: Some(record(3, 1, &["a.*"])),
        cursor: Some(Seq(1)),
        since: START,
        seen: None,
    };
    let out = desk.input(Input::Restored { head: Seq(50), peers: vec![saved] });
    assert!(!out.iter().any(|output| matches!(output, Output::Dial { .. })));
    assert!(out.iter().any(|output| matches!(output, Output::ForgetCursor { .. })));
    assert!(desk.node.view().peers.is_empty());
}

#[test]
fn a_crowd_of_strangers_pushes_out_strangers_only() {
    let mut desk = Desk::new(Params { peers_max: 3, ..Params::default() });
    desk.input(Input::Met { record: record(2, 1, &["a.*"]) });
    desk.input(Input::Connected { peer: key(2).id(), lane: LaneId(0), rtt: Duration::ZERO });
    desk.input(Input::Broken { peer: key(2).id(), lane: LaneId(0), why: "away".into() });
    for seed in 10..60 {
        let homeless = RecordDraft { seq: 1, ..RecordDraft::default() }.seal(START, &key(seed)).expect("a record");
        desk.input(Input::Met { record: homeless });
    }
    assert!(desk.node.view().peers.iter().any(|peer| peer.id == key(2).id()), "it had a lane once");
    assert_eq!(desk.node.view().peers.len(), 3);
}

#[test]
fn records_that_come_often_are_written_down_seldom() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.wait(SAVE_PAUSE);
    let saves = |out: &[Output]| out.iter().filter(|output| matches!(output, Output::SavePeers { .. })).count();
    let written: usize = (2..50).map(|seq| saves(&desk.input(Input::Met { record: record(2, seq, &["a.*"]) }))).sum();
    assert_eq!(written, 0);
    assert_eq!(saves(&desk.wait(SAVE_PAUSE)), 1);
}

#[test]
fn a_full_journal_that_still_knows_duplicates_is_still_full() {
    let mut desk = Desk::new(Params::default());
    let mut answer = |result| {
        let out = desk.receive(2, &[event(2, "1", "a.x")]);
        let (batch, _) = appended(&out).expect("an append");
        let out = desk.input(Input::Appended { batch, result });
        out.iter().filter(|output| matches!(output, Output::Note(_))).count()
    };
    assert_eq!(answer(Err(AppendError::Full)), 1);
    assert_eq!(answer(Ok(vec![Appended::Duplicate])), 0);
    assert_eq!(answer(Err(AppendError::Full)), 0);
}
