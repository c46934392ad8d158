//! The protocol by its inputs and outputs. Time is a number; the disk and the network are this file.

use std::time::Duration;

use bytes::Bytes;

use super::ports::{Emitted, LaneId, Note, Page, SendError, ShipmentId};
use super::*;
use crate::time::Wall;
use crate::wire::message::{Durability, Receipt, Refused, Retry};
use crate::wire::{
    Code, Draft, Envelope, HostPort, Keypair, Network, Profile, Record, RecordDraft, Scalar, Verified, Word, envelope,
};

mod answers;
mod company;
mod delivery;
mod doors;
mod exchange;
mod local;
mod members;
mod records;
mod repair;
mod search;
mod table;
mod tree;

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

/// Node `seed` as the peer file has it: it came by itself, and a lane to it stood once.
fn saved(seed: u8) -> SavedPeer {
    SavedPeer {
        id: key(seed).id(),
        origin: ports::Origin::Inbound,
        welcome: ports::Welcome::Open,
        proven: true,
        alias: None,
        addresses: Vec::new(),
        record: None,
        cursor: None,
        since: START,
        seen: None,
        near: true,
    }
}

/// The same, typed in by a person.
fn saved_by_hand(seed: u8) -> SavedPeer {
    SavedPeer { origin: ports::Origin::Manual, addresses: vec![place(seed)], ..saved(seed) }
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
        let out = self
            .input(Input::Emitted { ticket: Ticket(2), emitted: envelopes.into_iter().map(Emitted::from).collect() });
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
        self.input(Input::Met { word: Word::Near, record: record(seed, 1, patterns) });
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
    assert!(out.iter().any(|output| matches!(output, Output::Note(Note::OwnKeyElsewhere { .. }))));
    let out = desk.receive(2, &[to_us(1)]);
    assert!(appended(&out).is_some(), "what is addressed to us needs no pattern");
    assert_eq!(desk.node.view().counts.refused[&Code::Muted], 1);
}

#[test]
fn only_what_lies_in_the_event_itself_is_remembered_as_refused() {
    let allow = BTreeSet::from([key(1).id(), key(2).id(), key(3).id()]);
    let params = Params { mute: BTreeSet::from([key(3).id()]), allow, ..Params::default() };
    let mut desk = Desk::new(params);
    let remembered = |out: &[Output]| {
        let refusals = out.iter().filter_map(|output| match output {
            Output::Remember(refusals) => Some(refusals.clone()),
            _ => None,
        });
        refusals.flatten().collect::<Vec<_>>()
    };
    let refusal = |envelope: &Verified<Envelope>, code| {
        let expires = envelope.event().expires;
        ports::Refusal { digest: envelope.digest(), expires, code }
    };
    let [other, muted, own] = [event(2, "1", "b.x"), event(3, "1", "a.x"), event(1, "1", "a.x")];
    let [reserved, outside] = [event(2, "2", "mesh.hello"), event(4, "1", "a.x")];
    let out = desk.receive(2, &[other, muted.clone(), own.clone(), reserved.clone(), outside.clone()]);
    let expected = [
        refusal(&muted, Code::Muted),
        refusal(&own, Code::Conflict),
        refusal(&reserved, Code::TypeDenied),
        refusal(&outside, Code::Muted),
    ];
    assert_eq!(remembered(&out), expected);
    // A member's event from an outsider's hand is welcome from any other.
    let by_outsider = desk.receive(4, &[event(2, "3", "a.x")]);
    assert_eq!((codes(&by_outsider), remembered(&by_outsider)), (vec![Some(Code::Muted)], Vec::new()));
}

#[test]
fn no_more_refusals_are_remembered_than_the_disk_can_bear() {
    let mut desk = Desk::new(Params { mute: BTreeSet::from([key(3).id()]), ..Params::default() });
    let muted = event(3, "1", "a.x");
    let remembered = |out: &[Output]| out.iter().filter(|output| matches!(output, Output::Remember(_))).count();
    let asked = params::REMEMBERED_MAX + 10;
    assert_eq!(
        (0..asked).map(|_| remembered(&desk.receive(2, std::slice::from_ref(&muted)))).sum::<usize>(),
        params::REMEMBERED_MAX
    );
    desk.wait(params::REMEMBERED_EVERY);
    assert_eq!(remembered(&desk.receive(2, &[muted])), 1);
}

#[test]
fn only_a_rule_that_drops_keeps_an_event_from_the_journal() {
    let rule = |types: &str, verdict| trust::Rule {
        sources: trust::Sources::These([key(2).id()].into()),
        types: vec![types.parse().expect("a pattern")],
        verdict,
    };
    use trust::Verdict::{Dropped, Flagged, Quarantined};
    let rules: Arc<[trust::Rule]> =
        [rule("a.flagged", Flagged), rule("a.held", Quarantined), rule("a.*", Dropped)].into();
    let mut desk = Desk::new(Params { rules, ..Params::default() });
    let events = |from: u8| ["a.flagged", "a.held", "a.x"].map(|kind| event(from, kind, kind));
    let out = desk.receive(2, &events(2));
    assert_eq!(appended(&out).map(|(_, count)| count), Some(2));
    let out = desk.commit(&out);
    assert_eq!(codes(&out), [None, None, Some(Code::TypeDenied)]);
    let out = desk.receive(2, &events(3));
    assert_eq!(appended(&out).map(|(_, count)| count), Some(3), "who hands it on does not matter");
    let to_us = Draft::new("t", "a.x", START).with("to", Scalar::Text(key(1).id().uri()));
    let to_us = envelope::seal(&to_us, &key(2)).expect("a good draft");
    assert_eq!(codes(&desk.receive(2, &[to_us])), [Some(Code::TypeDenied)], "asked for by nobody but the sender");
    desk.input(Input::Trust { mute: [key(3).id()].into(), rules: Arc::default() });
    assert_eq!(codes(&desk.receive(2, &[event(3, "9", "a.x")])), [Some(Code::Muted)]);
    assert!(appended(&desk.receive(2, &[event(2, "9", "a.x")])).is_some());
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
    desk.input(Input::Met { word: Word::Near, record: record(4, 1, &["a.*"]) });
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
