//! The tree: everybody interested gets an event, once, whoever has to carry it. Whole nodes with one view,
//! and a network that is this file: everything arrives at once, and in the order in which it was sent.

use std::collections::{BTreeMap, VecDeque};

use super::params::{ACK_MOST, DELEGATES_MAX, DIRECT_MAX, RESUME_AFTER};
use super::ports::{Origin, Welcome};
use super::position::{Position, Prefix};
use super::roster::{Member, Snapshot};
use super::*;
use crate::wire::{Keys, Line};

fn keypair(number: usize) -> Keypair {
    let mut seed = [0x5a; 32];
    seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
    Keypair::from_seed(&seed)
}

fn member(number: usize, patterns: &[&str]) -> Member {
    let interests = Interests::new(patterns.iter().map(|text| text.parse().expect("a pattern"))).expect("interests");
    let addresses = vec![format!("8.1.{}.{}:7443", number / 200, 1 + number % 200).parse().expect("an address")];
    let draft = RecordDraft { seq: 1, addresses, interests, network: Network::default() };
    Member::new(draft.seal(START, &keypair(number)).expect("a record"), START)
}

/// What a host does with the lines that others send it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Manner {
    #[default]
    Good,
    /// Cannot be reached.
    Dead,
    /// Takes lines and never answers.
    Silent,
    /// Stores what it is given, carries nothing, and says so.
    Lazy,
}

struct Host {
    node: Node,
    manner: Manner,
    stored: BTreeMap<Digest, Stored>,
    log: Vec<Stored>,
    /// Event lines that reached it, repetitions too.
    lines: usize,
    /// Lines with duty that it was given.
    duties: usize,
    sends: usize,
}

/// The asker, its shipment, and what is known of its lines before the node is asked.
type Asked = (usize, ShipmentId, Vec<Option<Outcome>>);

struct Mesh {
    hosts: Vec<Host>,
    number: BTreeMap<NodeId, usize>,
    now: Now,
    queue: VecDeque<(usize, Input)>,
    /// Who waits for which answer of whom.
    asked: BTreeMap<(usize, Ticket), Asked>,
    next_ticket: u64,
    max_hops: u8,
}

impl Mesh {
    /// Hosts 0.. want `a.*`, but each `fourth` wants something else.
    fn new(count: usize) -> Mesh {
        let members: Vec<Member> =
            (0..count).map(|number| member(number, if number % 4 == 3 { &["b.*"] } else { &["a.*"] })).collect();
        let shared = Arc::new(Snapshot::of(members.iter().cloned()));
        let now = Now { mono: Mono(1_000_000), wall: START };
        let hosts = members.iter().enumerate().map(|(number, member)| {
            let params = Params::default();
            let mut node = Node::new(member.record.id(), params, number as u64);
            let mut out = Vec::new();
            node.handle(Input::Interests(member.record.interests.clone()), now, &mut out);
            node.handle(Input::Roster(Arc::clone(&shared)), now, &mut out);
            node.handle(Input::Restored { head: Seq(0), peers: Vec::new() }, now, &mut out);
            let (stored, log) = (BTreeMap::new(), Vec::new());
            Host { node, manner: Manner::Good, stored, log, lines: 0, duties: 0, sends: 0 }
        });
        Mesh {
            hosts: hosts.collect(),
            number: members.iter().enumerate().map(|(number, member)| (member.record.id(), number)).collect(),
            now,
            queue: VecDeque::new(),
            asked: BTreeMap::new(),
            next_ticket: 0,
            max_hops: 0,
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    fn publish(&mut self, host: usize, name: &str) -> Digest {
        let envelope = envelope::seal(&Draft::new(name, "a.x", self.now.wall), &keypair(host)).expect("a draft");
        let (digest, ticket) = (envelope.digest(), self.ticket());
        self.queue.push_back((host, Input::Emitted { ticket, emitted: vec![envelope.into()] }));
        self.settle();
        digest
    }

    /// Until nothing happens any more.
    fn settle(&mut self) {
        while let Some((host, input)) = self.queue.pop_front() {
            let mut out = Vec::new();
            self.hosts[host].node.handle(input, self.now, &mut out);
            out.into_iter().for_each(|output| self.carry_out(host, output));
        }
    }

    /// Lets time pass, deadline by deadline.
    fn wait(&mut self, span: Duration) {
        let end = self.now.mono + span;
        loop {
            let next = self.hosts.iter().filter_map(|host| host.node.deadline()).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            let passed = next.since(self.now.mono);
            self.now = Now { mono: self.now.mono.max(next), wall: self.now.wall + passed };
            let due = |host: &Host| host.node.deadline().is_some_and(|due| due <= next);
            let due: Vec<usize> = (0..self.hosts.len()).filter(|host| due(&self.hosts[*host])).collect();
            due.into_iter().for_each(|host| self.queue.push_back((host, Input::Tick)));
            self.settle();
        }
        let passed = end.since(self.now.mono);
        self.now = Now { mono: end, wall: self.now.wall + passed };
    }

    fn carry_out(&mut self, host: usize, output: Output) {
        match output {
            Output::Append { batch, entries } => {
                let one = &mut self.hosts[host];
                let result = entries.into_iter().map(|entry| {
                    if one.stored.contains_key(&entry.envelope.digest()) {
                        return Appended::Duplicate;
                    }
                    let seq = Seq(one.log.len() as u64 + 1);
                    let stored = Stored { seq, entry };
                    one.stored.insert(stored.entry.envelope.digest(), stored.clone());
                    one.log.push(stored);
                    Appended::Stored(seq)
                });
                let result = Ok(result.collect());
                self.queue.push_back((host, Input::Appended { batch, result }));
            }
            Output::Dial { peer, lane, .. } => {
                let input = match self.hosts[self.number[&peer]].manner {
                    Manner::Dead => Input::Broken { peer, lane, why: "refused".into() },
                    _ => Input::Connected { peer, lane, rtt: Duration::from_millis(50) },
                };
                self.queue.push_back((host, input));
            }
            Output::Send { peer, shipment, lines, .. } => {
                self.hosts[host].sends += lines.len();
                self.deliver(host, self.number[&peer], shipment, &lines);
            }
            Output::Answer { ticket, outcomes, credit } => {
                let Some((asker, shipment, known)) = self.asked.remove(&(host, ticket)) else { return };
                let mut late = outcomes.into_iter();
                let is_lazy = self.hosts[host].manner == Manner::Lazy;
                let said = |outcome: Outcome| match outcome {
                    Outcome::Stored { .. } if is_lazy => Outcome::Stored { no_duty: true },
                    outcome => outcome,
                };
                let all: Vec<Outcome> =
                    known.into_iter().map(|one| said(one.or_else(|| late.next()).expect("one each"))).collect();
                let (peer, result) = (keypair(host).id(), Ok(Receipt::of(&all, credit, Durability::Fsync)));
                self.queue.push_back((asker, Input::Sent { peer, shipment, result }));
            }
            Output::Recall { seq, digits } => {
                let stored = Some(Box::new(self.hosts[host].log[seq.0 as usize - 1].clone()));
                self.queue.push_back((host, Input::Recalled { digits, stored }));
            }
            Output::Resume { after } => {
                let entries: Vec<Stored> = self.hosts[host].log[after.0 as usize..].to_vec();
                let upto = entries.last().map_or(after, |last| last.seq);
                self.queue.push_back((host, Input::Resumed { after, page: Ok(Page { entries, upto }) }));
            }
            _ => {}
        }
    }

    fn deliver(&mut self, from: usize, to: usize, shipment: ShipmentId, lines: &[Bytes]) {
        let manner = self.hosts[to].manner;
        let (mut known, mut arrived) = (Vec::new(), Vec::new());
        for line in lines {
            let split = Line::split(line).expect("a line");
            let (hops, mut duty, digest) = (split.hops, split.duty, split.digest());
            self.max_hops = self.max_hops.max(hops);
            self.hosts[to].lines += 1;
            self.hosts[to].duties += usize::from(duty);
            duty &= manner != Manner::Lazy;
            if self.hosts[to].stored.contains_key(&digest) {
                known.push(Some(Outcome::Duplicate));
                if duty {
                    let ticket = self.ticket();
                    let again = Input::Again { ticket, from: keypair(from).id(), events: vec![digest] };
                    self.queue.push_back((to, again));
                }
                continue;
            }
            let envelope = envelope::open(line, self.now.wall, &Network::default(), &mut Keys::default());
            known.push(None);
            arrived.push(Arrived { envelope: envelope.expect("a good line"), hops, duty });
        }
        if manner == Manner::Silent {
            return;
        }
        let ticket = self.ticket();
        self.asked.insert((to, ticket), (from, shipment, known));
        self.queue.push_back((to, Input::Received { ticket, from: Some(keypair(from).id()), arrived }));
    }

    /// Of those who want `a.*` and are there, how many have it.
    fn coverage(&self, event: &Digest) -> (usize, usize) {
        let wants = |(number, host): &(usize, &Host)| number % 4 != 3 && host.manner != Manner::Dead;
        let interested: Vec<_> = self.hosts.iter().enumerate().filter(wants).collect();
        (interested.iter().filter(|(_, host)| host.stored.contains_key(event)).count(), interested.len())
    }

    fn lines(&self) -> usize {
        self.hosts.iter().map(|host| host.lines).sum()
    }
}

#[test]
fn everybody_gets_an_event_once_and_nobody_else_gets_a_byte_of_it() {
    let mut mesh = Mesh::new(600);
    let event = mesh.publish(0, "1");
    assert_eq!(mesh.coverage(&event), (450, 450));
    assert_eq!(mesh.lines(), 449, "one line for each but the origin");
    let strangers = mesh.hosts.iter().enumerate().filter(|(number, host)| number % 4 == 3 && host.lines > 0);
    assert_eq!(strangers.count(), 0);
    assert!(mesh.max_hops <= 4, "{} links", mesh.max_hops);
    let most = mesh.hosts.iter().map(|host| host.sends).max().expect("hosts");
    assert!(most <= DIRECT_MAX, "one node sent {most} lines");
    assert!(mesh.hosts.iter().any(|host| host.duties > 0), "nobody was a delegate: that is no tree");
}

#[test]
fn a_few_are_served_by_the_origin_alone() {
    let mut mesh = Mesh::new(60);
    let event = mesh.publish(1, "1");
    assert_eq!(mesh.coverage(&event), (45, 45));
    assert_eq!((mesh.hosts[1].sends, mesh.lines(), mesh.max_hops), (44, 44, 1));
}

#[test]
fn a_lane_to_a_delegate_is_used_again() {
    let mut mesh = Mesh::new(300);
    mesh.publish(0, "1");
    let dials = |mesh: &Mesh| mesh.hosts[0].node.tree.counts.delegated;
    let before = (dials(&mesh), mesh.hosts[0].node.deadline());
    let sent = |mesh: &Mesh| {
        mesh.hosts.iter().enumerate().filter(|(_, host)| host.duties > 0).map(|(n, _)| n).collect::<Vec<_>>()
    };
    let delegates = sent(&mesh);
    mesh.wait(Duration::from_secs(5));
    mesh.publish(0, "2");
    assert_eq!(sent(&mesh), delegates, "the same delegates in the same hour");
    assert_eq!(dials(&mesh), 2 * before.0);
}

#[test]
fn a_dead_a_silent_and_a_lazy_delegate_are_replaced() {
    for manner in [Manner::Dead, Manner::Silent, Manner::Lazy] {
        let mut mesh = Mesh::new(400);
        mesh.publish(0, "1");
        // Some of the very delegates of the first event are of no use for the second; were it all of them, some
        // buckets would be left to the ring.
        for host in mesh.hosts.iter_mut().filter(|host| host.duties > 0).take(12) {
            host.manner = manner;
        }
        let bad: Vec<usize> = (0..400).filter(|number| mesh.hosts[*number].manner == manner).collect();
        assert_eq!(bad.len(), 12);
        if manner == Manner::Dead {
            for number in 0..400 {
                for dead in &bad {
                    // Lanes that stood to it break.
                    let lanes = mesh.hosts[number].node.tree.lane_of(&keypair(*dead).id());
                    if let Some(lane) = lanes {
                        let peer = keypair(*dead).id();
                        mesh.queue.push_back((number, Input::Broken { peer, lane, why: "gone".into() }));
                    }
                }
            }
            mesh.settle();
        }
        let event = mesh.publish(0, "2");
        mesh.wait(ACK_MOST * u32::try_from(DELEGATES_MAX).expect("few"));
        let missing: Vec<usize> = (0..400)
            .filter(|number| number % 4 != 3 && mesh.hosts[*number].manner == Manner::Good)
            .filter(|number| !mesh.hosts[*number].stored.contains_key(&event))
            .collect();
        assert!(missing.is_empty(), "{manner:?}: {missing:?}");
    }
}

/// Seen in a swarm: a node crashed before its first cursor was saved, and its next life took everything for done.
#[test]
fn a_cursor_of_duties_is_said_before_anything_is_stored() {
    for (remembered, said) in [(None, true), (Some(Seq(3)), false)] {
        let mut node = Node::new(keypair(0).id(), Params::default(), 1);
        let now = Now { mono: Mono(1_000_000), wall: START };
        let mut out = Vec::new();
        if let Some(cursor) = remembered {
            node.handle(Input::Dutiful(cursor), now, &mut out);
        }
        node.handle(Input::Restored { head: Seq(7), peers: Vec::new() }, now, &mut out);
        let is_said = out.iter().any(|output| matches!(output, Output::SaveDuty { cursor: Seq(7) }));
        assert_eq!(is_said, said, "{out:?}");
    }
}

/// Seen in a swarm: a node became a peer after an event that it was owed as a leaf, and its account begins there.
#[test]
fn who_became_a_peer_after_an_event_gets_it_from_a_restart() {
    let mut mesh = Mesh::new(3);
    let event = envelope::seal(&Draft::new("1", "a.x", START), &keypair(0)).expect("a draft");
    let entry = Entry {
        envelope: event.clone(),
        from: Some(keypair(0).id()),
        hops: 0,
        duty: true,
        received: START,
        claims: Box::default(),
        hold: None,
    };
    let stored = Stored { seq: Seq(1), entry };
    mesh.hosts[0].stored.insert(event.digest(), stored.clone());
    mesh.hosts[0].log.push(stored);
    mesh.hosts[0].node = Node::new(keypair(0).id(), Params::default(), 9);
    let peer = SavedPeer {
        id: keypair(1).id(),
        origin: Origin::Inbound,
        welcome: Welcome::Open,
        alias: None,
        addresses: Vec::new(),
        proven: true,
        record: Some(member(1, &["a.*"]).record),
        cursor: Some(Seq(1)),
        since: START,
        seen: Some(START),
        near: false,
    };
    let view = Arc::new(Snapshot::of((0..3).map(|number| member(number, &["a.*"]))));
    mesh.queue.push_back((0, Input::Roster(view)));
    mesh.queue.push_back((0, Input::Dutiful(Seq(0))));
    mesh.queue.push_back((0, Input::Restored { head: Seq(1), peers: vec![peer] }));
    mesh.settle();
    mesh.wait(RESUME_AFTER + Duration::from_secs(1));
    assert_eq!(mesh.coverage(&event.digest()), (3, 3));
}

#[test]
fn a_restart_takes_up_what_was_not_done() {
    let mut mesh = Mesh::new(300);
    // Stored and answered, and then the power fails: nothing was sent.
    let envelope = envelope::seal(&Draft::new("1", "a.x", START), &keypair(0)).expect("a draft");
    let entry = Entry {
        envelope: envelope.clone(),
        from: Some(keypair(0).id()),
        hops: 0,
        duty: true,
        received: START,
        claims: Box::default(),
        hold: None,
    };
    let stored = Stored { seq: Seq(1), entry };
    mesh.hosts[0].stored.insert(envelope.digest(), stored.clone());
    mesh.hosts[0].log.push(stored);
    let params = Params::default();
    let view = Arc::new(Snapshot::of((0..300).map(|n| member(n, if n % 4 == 3 { &["b.*"] } else { &["a.*"] }))));
    mesh.hosts[0].node = Node::new(keypair(0).id(), params, 9);
    mesh.queue.push_back((0, Input::Roster(view)));
    mesh.queue.push_back((0, Input::Dutiful(Seq(0))));
    mesh.queue.push_back((0, Input::Restored { head: Seq(1), peers: Vec::new() }));
    mesh.settle();
    mesh.wait(RESUME_AFTER + Duration::from_secs(1));
    assert_eq!(mesh.coverage(&envelope.digest()), (225, 225));
    assert_eq!(mesh.lines(), 224);
}

#[test]
fn a_larger_duty_of_an_event_that_is_here_is_done_once_more_and_no_third_time() {
    let mut mesh = Mesh::new(600);
    let me = Position::of(&keypair(0).id());
    let near = |digits: usize| {
        (1..600)
            .find(|number| number % 4 != 3 && Position::of(&keypair(*number).id()).cpl(&me) == digits)
            .expect("somebody")
    };
    let (close, far) = (near(1), near(0));
    let others = (1..600).filter(|number| number % 4 != 3 && ![close, far].contains(number));
    let inside = |prefix: Prefix| others.clone().filter(|n| prefix.contains(&Position::of(&keypair(*n).id()))).count();
    let origin = (0..600).find(|n| ![0, close, far].contains(n) && Position::of(&keypair(*n).id()).cpl(&me) == 0);
    let event = envelope::seal(&Draft::new("1", "a.x", START), &keypair(origin.expect("somebody"))).expect("a draft");
    let line = |duty| Bytes::from(event.line(1, duty));
    mesh.deliver(close, 0, ShipmentId(1), &[line(true)]);
    mesh.settle();
    assert_eq!(mesh.hosts[0].sends, inside(Prefix::new(me, 2)));
    mesh.deliver(far, 0, ShipmentId(2), &[line(true)]);
    mesh.settle();
    let missed = (1..600).filter(|n| {
        let position = Position::of(&keypair(*n).id());
        n % 4 != 3 && position.cpl(&me) >= 1 && !mesh.hosts[*n].stored.contains_key(&event.digest())
    });
    let missed: Vec<usize> = missed.filter(|n| ![close, far].contains(n)).collect();
    assert!(missed.is_empty(), "{missed:?}");
    let before = mesh.hosts[0].sends;
    mesh.deliver(far, 0, ShipmentId(3), &[line(true)]);
    mesh.settle();
    assert_eq!(mesh.hosts[0].sends, before, "done already");
}

#[test]
fn a_stranger_gives_no_duty_and_a_neighbour_no_more_than_its_budget() {
    let mut mesh = Mesh::new(300);
    let origin = keypair(7);
    let nobody = keypair(1_000);
    let event = envelope::seal(&Draft::new("1", "a.x", START), &origin).expect("a draft");
    let arrived = vec![Arrived { envelope: event, hops: 1, duty: true }];
    let ticket = mesh.ticket();
    mesh.queue.push_back((0, Input::Received { ticket, from: Some(nobody.id()), arrived }));
    mesh.settle();
    assert_eq!(mesh.hosts[0].sends, 0);
    assert_eq!(mesh.hosts[0].node.tree.counts.refused, 1);
}

#[test]
fn who_is_not_there_costs_a_bounded_number_of_lines_and_gets_them_when_it_is_back() {
    let mut mesh = Mesh::new(40);
    mesh.hosts[5].manner = Manner::Dead;
    let events: Vec<Digest> = (0..100).map(|n| mesh.publish(0, &n.to_string())).collect();
    let tree = &mesh.hosts[0].node.tree;
    assert_eq!(tree.counts.unserved, 100 - params::LEAVES_MAX as u64);
    assert_eq!(mesh.coverage(&events[99]), (29, 29), "nobody else waits for it");
    mesh.hosts[5].manner = Manner::Good;
    mesh.wait(params::LINK_RETRY_MOST * 3);
    assert_eq!(mesh.hosts[5].log.len(), params::LEAVES_MAX);
    assert!(mesh.hosts[0].node.tree.is_idle());
}

#[test]
fn where_a_person_accepts_each_neighbour_strangers_are_sent_nothing() {
    let mut mesh = Mesh::new(40);
    let members = Input::Members {
        allow: BTreeSet::new(),
        firehose: BTreeSet::new(),
        peers_max: 64,
        min_peers: 8,
        accept: params::Accept::Ask,
    };
    mesh.queue.push_back((0, members));
    let event = mesh.publish(0, "1");
    assert_eq!((mesh.coverage(&event), mesh.lines()), ((1, 30), 0));
    let event = mesh.publish(1, "2");
    assert_eq!(mesh.coverage(&event), (30, 30));
}

#[test]
fn where_strangers_are_sent_nothing_no_duty_is_taken() {
    let mut mesh = Mesh::new(300);
    let members = Input::Members {
        allow: BTreeSet::new(),
        firehose: BTreeSet::new(),
        peers_max: 64,
        min_peers: 8,
        accept: params::Accept::Ask,
    };
    let delegate = {
        mesh.publish(0, "1");
        mesh.hosts.iter().position(|host| host.duties > 0).expect("a delegate")
    };
    mesh.queue.push_back((delegate, members));
    let event = mesh.publish(0, "2");
    mesh.wait(ACK_MOST * 4);
    assert_eq!(mesh.coverage(&event), (225, 225), "another one carries it");
}

#[test]
fn a_link_whose_place_another_lane_took_is_made_anew() {
    let mut mesh = Mesh::new(10);
    mesh.publish(0, "1");
    let peer = keypair(1).id();
    assert!(mesh.hosts[0].node.tree.lane_of(&peer).is_some());
    // The book dialled it, and that came to nothing: the old lane is gone without a word.
    let lane = LaneId(9_999);
    mesh.queue.push_back((0, Input::Broken { peer, lane, why: "no answer".into() }));
    mesh.settle();
    assert_eq!(mesh.hosts[0].node.tree.lane_of(&peer), None);
    let event = mesh.publish(0, "2");
    assert!(mesh.hosts[1].stored.contains_key(&event), "by a lane that stands");
}

#[test]
fn nothing_is_sent_to_whoever_was_blocked_meanwhile() {
    let mut mesh = Mesh::new(10);
    mesh.hosts[1].manner = Manner::Dead;
    mesh.publish(0, "1");
    let (id, ticket) = (keypair(1).id(), mesh.ticket());
    let order = ports::Order::Block { why: "it floods".to_owned() };
    mesh.queue.push_back((0, Input::Ordered { ticket, id, order }));
    mesh.settle();
    mesh.hosts[1].manner = Manner::Good;
    mesh.wait(params::LINK_RETRY_MOST * 3);
    assert_eq!(mesh.hosts[1].lines, 0);
    assert!(mesh.hosts[0].node.tree.is_idle());
}

#[test]
fn what_was_published_while_a_node_was_blocked_comes_by_no_restart() {
    for is_blocked in [false, true] {
        let mut mesh = Mesh::new(3);
        let event = envelope::seal(&Draft::new("1", "a.x", START), &keypair(0)).expect("a draft");
        let (from, received, claims) = (Some(keypair(0).id()), START, Box::default());
        let entry = Entry { envelope: event.clone(), from, hops: 0, duty: true, received, claims, hold: None };
        let stored = Stored { seq: Seq(1), entry };
        mesh.hosts[0].stored.insert(event.digest(), stored.clone());
        mesh.hosts[0].log.push(stored);
        mesh.hosts[0].node = Node::new(keypair(0).id(), Params::default(), 9);
        let peer = SavedPeer { id: keypair(1).id(), record: Some(member(1, &["a.*"]).record), ..saved(1) };
        let view = Arc::new(Snapshot::of((0..3).map(|number| member(number, &["a.*"]))));
        mesh.queue.push_back((0, Input::Roster(view)));
        mesh.queue.push_back((0, Input::Dutiful(Seq(0))));
        mesh.queue.push_back((0, Input::Restored { head: Seq(1), peers: vec![peer] }));
        let orders = [ports::Order::Block { why: String::new() }, ports::Order::Unblock];
        for order in orders.into_iter().filter(|_| is_blocked) {
            let (id, ticket) = (keypair(1).id(), mesh.ticket());
            mesh.queue.push_back((0, Input::Ordered { ticket, id, order }));
        }
        mesh.settle();
        mesh.wait(RESUME_AFTER + Duration::from_secs(5));
        let has = |host: usize| mesh.hosts[host].stored.contains_key(&event.digest());
        assert_eq!((has(1), has(2)), (!is_blocked, true), "blocked: {is_blocked}");
    }
}
