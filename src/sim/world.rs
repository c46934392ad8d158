//! The world: hosts, the network between them, and virtual time.

mod questions;

mod lines;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::Disk;
use crate::core::Node;
use crate::core::params::Params;
use crate::core::ports::{
    Arrived, Entry, Input, LaneId, Output, Page, PageError, Seen, SendError, Seq, ShipmentId, Ticket,
};
use crate::time::{Mono, Now, Wall};
use crate::wire::message::{Durability, Outcome, Receipt};
use crate::wire::{
    Code, Digest, Draft, Envelope, Interests, Keypair, Keys, Line, Network, NodeId, Profile, Question, Record,
    RecordDraft, Rejection, Verified, Word, envelope,
};

const EPOCH: Wall = Wall::from_millis(1_795_243_262_123);
const TIMEOUT: Duration = Duration::from_secs(3);

/// What goes wrong, each as a share of 1000.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Messages that never arrive.
    pub loss: u32,
    /// Requests that arrive twice.
    pub double: u32,
    /// Disk commits during which the host crashes, before or after they are durable.
    pub crash: u32,
    /// Commits that find the disk full.
    pub full: u32,
}

/// Many nodes, one clock, one seed.
pub struct World {
    rng: fastrand::Rng,
    now: Mono,
    order: u64,
    due: BinaryHeap<Reverse<Due>>,
    happenings: BTreeMap<u64, Happening>,
    hosts: Vec<Host>,
    faults: Faults,
    /// A hash over everything that happened, in order: equal for equal seeds.
    trace: u64,
    acked: Vec<(usize, Verified<Envelope>)>,
    /// What was said last about lines that are to be carried again.
    again: Vec<Outcome>,
    crashes: u32,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Mono,
    order: u64,
}

struct Host {
    key: Keypair,
    interests: Interests,
    node: Option<Node>,
    /// Grows with every start: what was under way before a crash means nothing after it.
    life: u32,
    disk: Disk,
    record: Verified<Record>,
    answers: BTreeMap<Ticket, Asker>,
    next_ticket: u64,
    next_event: u64,
    /// The local bus: what was bridged, and how far. It lives elsewhere and survives crashes.
    bus: Vec<Digest>,
    /// The same with the moment.
    arrivals: Vec<(Mono, Digest)>,
    bridged: Seq,
}

/// Who waits for an answer.
enum Asker {
    /// A neighbour: outcomes of its lines known before the core was asked, and where to send the receipt.
    Peer {
        host: usize,
        life: u32,
        lane: LaneId,
        shipment: ShipmentId,
        known: Vec<Option<Outcome>>,
    },
    /// The same neighbour, about lines that are durable here already.
    Again,
    Publisher {
        envelopes: Vec<Verified<Envelope>>,
    },
}

enum Happening {
    Tick { host: usize, life: u32 },
    Start { host: usize },
    Publish { host: usize, kind: &'static str },
    Answer { host: usize, question: Question },
    Commit { host: usize, life: u32, batch: crate::core::ports::BatchId, entries: Vec<Entry> },
    Feed { host: usize, life: u32, input: Input },
    Call { from: usize, life: u32, lane: LaneId, to: usize },
    Lines { from: usize, life: u32, lane: LaneId, to: usize, shipment: ShipmentId, lines: Vec<Bytes> },
}

impl World {
    /// A world of hosts with these patterns. Host `i` has host `j` typed in where `knows` says so.
    pub fn new(seed: u64, patterns: &[&[&str]], knows: &[(usize, usize)]) -> World {
        let mut world = World {
            rng: fastrand::Rng::with_seed(seed),
            now: Mono(0),
            order: 0,
            due: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            hosts: Vec::new(),
            faults: Faults::default(),
            trace: 0,
            acked: Vec::new(),
            again: Vec::new(),
            crashes: 0,
        };
        for (i, patterns) in patterns.iter().enumerate() {
            let parsed = patterns.iter().map(|text| text.parse().expect("a pattern"));
            world.hosts.push(Host::new(i, Interests::new(parsed).expect("interests")));
            world.later(Duration::ZERO, Happening::Start { host: i });
        }
        for (i, j) in knows {
            let (id, at) = (world.hosts[*j].key.id(), place(*j));
            let delay = world.delay();
            world.later(
                delay,
                Happening::Feed {
                    host: *i,
                    life: 1,
                    input: Input::PeerAdded {
                        ticket: Ticket(u64::MAX),
                        id,
                        at: at.parse().expect("an address"),
                        alias: None,
                    },
                },
            );
        }
        world
    }

    /// Publishes one event of this type at this host within the next `within`.
    pub fn publish(&mut self, host: usize, kind: &'static str, within: Duration) {
        let at = Duration::from_micros(self.rng.u64(0..=u64::try_from(within.as_micros()).unwrap_or(u64::MAX)));
        self.later(at, Happening::Publish { host, kind });
    }

    /// Crashes a host now; it starts again after `pause`.
    pub fn crash(&mut self, host: usize, pause: Duration) {
        if self.hosts[host].node.take().is_some() {
            self.crashes += 1;
            self.hosts[host].disk.moved.clear();
            self.hosts[host].disk.duty_moved = None;
            self.hosts[host].life += 1;
            for (_, asker) in std::mem::take(&mut self.hosts[host].answers) {
                if let Asker::Peer { host: from, life, lane, shipment, .. } = asker {
                    self.lose(from, life, lane, host, shipment);
                }
            }
            self.later(pause, Happening::Start { host });
        }
    }

    /// Lets `span` of virtual time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(Reverse(due)) = self.due.peek() {
            if due.at > end {
                break;
            }
            let Reverse(due) = self.due.pop().expect("it was there");
            self.now = due.at;
            let happening = self.happenings.remove(&due.order).expect("one for each due");
            self.happen(happening);
        }
        self.now = end;
    }

    /// From now on this goes wrong; `Faults::default()` = nothing.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Equal for two runs of one seed.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// Events acknowledged to publishers, and crashes, so far: a run without either proves nothing.
    pub fn figures(&self) -> (usize, u32) {
        (self.acked.len(), self.crashes)
    }

    /// What stands on a host's bus.
    pub fn bus(&self, host: usize) -> &[Digest] {
        &self.hosts[host].bus
    }

    /// Checks every promise that holds once all is quiet.
    ///
    /// # Errors
    /// The promise that is broken, in words.
    pub fn check(&self) -> Result<(), String> {
        for (i, host) in self.hosts.iter().enumerate() {
            let unique: BTreeSet<_> = host.bus.iter().collect();
            if unique.len() != host.bus.len() {
                return Err(format!("host {i}: something stands twice on the bus"));
            }
            for stored in host.disk.log() {
                let event = stored.entry.envelope.event();
                let asked = host.interests.matches(&event.kind) || event.to.contains(&host.key.id());
                if event.source != host.key.id() && !asked {
                    return Err(format!("host {i} holds {event:?}, which it did not ask for"));
                }
            }
            for (origin, envelope) in &self.acked {
                let wanted = *origin != i && host.interests.matches(&envelope.event().kind);
                if wanted && self.is_neighbour(*origin, i) && !unique.contains(&envelope.digest()) {
                    return Err(format!("host {i} misses {:?}, acknowledged at host {origin}", envelope.event()));
                }
            }
            self.check_order(i)?;
        }
        Ok(())
    }

    /// Of each source, the bus shows events in the order in which the source stored them; but for answers, which
    /// wait for their turn.
    fn check_order(&self, i: usize) -> Result<(), String> {
        for source in &self.hosts {
            let place: BTreeMap<Digest, Seq> = source
                .disk
                .log()
                .iter()
                .filter(|stored| stored.entry.from == Some(source.key.id()) && stored.entry.hold.is_none())
                .map(|stored| (stored.entry.envelope.digest(), stored.seq))
                .collect();
            let seqs: Vec<Seq> = self.hosts[i].bus.iter().filter_map(|digest| place.get(digest)).copied().collect();
            if !seqs.is_sorted() {
                return Err(format!("host {i} shows events of {:?} out of order", source.key.id()));
            }
        }
        Ok(())
    }

    fn is_neighbour(&self, i: usize, j: usize) -> bool {
        let (one, other) = (&self.hosts[i], &self.hosts[j]);
        let knows = |host: &Host, id: NodeId| host.disk.peers.iter().any(|peer| peer.id == id);
        knows(one, other.key.id()) || knows(other, one.key.id())
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Start { host } => self.start(host),
            Happening::Tick { host, life } => self.feed(host, life, Input::Tick),
            Happening::Feed { host, life, input } => self.feed(host, life, input),
            Happening::Publish { host, kind } => self.publish_now(host, kind),
            Happening::Answer { host, question } => self.answer_question(host, question),
            Happening::Commit { host, life, batch, entries } => self.commit(host, life, batch, entries),
            Happening::Call { from, life, lane, to } => self.call(from, life, lane, to),
            Happening::Lines { from, life, lane, to, shipment, lines } => {
                self.lines(from, life, lane, to, shipment, &lines);
            }
        }
    }

    fn start(&mut self, host: usize) {
        let seed = self.rng.u64(..);
        let one = &mut self.hosts[host];
        if one.node.is_some() {
            return;
        }
        one.life += 1;
        let params = Params { profile: Profile::Loopback, peer_queue_max: 8, cursor_every: 4, ..Params::default() };
        one.node = Some(Node::new(one.key.id(), params, seed));
        let mut peers = one.disk.peers.clone();
        for peer in &mut peers {
            peer.cursor = peer.cursor.max(one.disk.cursors.get(&peer.id).copied());
        }
        let (life, head, interests) = (one.life, one.disk.head(), one.interests.clone());
        self.feed(host, life, Input::Interests(interests));
        if let Some(cursor) = self.hosts[host].disk.duty {
            self.feed(host, life, Input::Dutiful(cursor));
        }
        self.feed(host, life, Input::Restored { head, peers });
        self.bridge(host);
    }

    fn feed(&mut self, host: usize, life: u32, input: Input) {
        let now = self.moment();
        let one = &mut self.hosts[host];
        if one.life != life {
            return;
        }
        let Some(node) = &mut one.node else { return };
        self.trace = self.trace.rotate_left(7) ^ now.mono.0 ^ (host as u64) << 56;
        let mut out = Vec::new();
        node.handle(input, now, &mut out);
        for peer in node.view().peers {
            assert!(peer.in_hand <= 2 * 8, "{:?} has {} lines in hand", peer.id, peer.in_hand);
        }
        if let Some(deadline) = node.deadline() {
            self.at(deadline.max(now.mono), Happening::Tick { host, life });
        }
        for output in out {
            self.carry_out(host, life, output);
        }
    }

    fn carry_out(&mut self, host: usize, life: u32, output: Output) {
        let delay = self.delay();
        match output {
            Output::Append { batch, entries } => {
                // One disk: commits end in the order in which they were asked for.
                self.later(Duration::from_millis(2), Happening::Commit { host, life, batch, entries });
            }
            Output::Remember(refusals) => self.hosts[host].disk.remember(&refusals),
            Output::Answer { ticket, outcomes, credit } => self.answer(host, ticket, outcomes, credit),
            Output::Dial { peer, lane, .. } => {
                let to = self.host_of(&peer);
                self.later(delay, Happening::Call { from: host, life, lane, to });
            }
            Output::Send { peer, lane, shipment, lines } => {
                let to = self.host_of(&peer);
                if self.chance(self.faults.double) {
                    let again = self.delay() * 3;
                    self.later(again, Happening::Lines { from: host, life, lane, to, shipment, lines: lines.clone() });
                }
                self.later(delay, Happening::Lines { from: host, life, lane, to, shipment, lines });
            }
            Output::Scan { peer, after } => {
                let page: Result<Page, PageError> = self.hosts[host].disk.page(after, 8);
                self.later(
                    Duration::from_micros(300),
                    Happening::Feed { host, life, input: Input::Scanned { peer, after, page } },
                );
            }
            Output::Resume { after } => {
                let page = self.hosts[host].disk.page(after, 8);
                let input = Input::Resumed { after, page };
                self.later(Duration::from_micros(300), Happening::Feed { host, life, input });
            }
            Output::Recall { seq, digits } => {
                let page = self.hosts[host].disk.page(Seq(seq.0 - 1), 1).ok();
                let stored = page.and_then(|page| page.entries.into_iter().next()).map(Box::new);
                let input = Input::Recalled { digits, stored };
                self.later(Duration::from_micros(300), Happening::Feed { host, life, input });
            }
            Output::SaveDuty { cursor } => self.hosts[host].disk.duty_moved = Some(cursor),
            Output::SaveCursor { peer, cursor } => {
                self.hosts[host].disk.moved.insert(peer, cursor);
            }
            Output::ForgetCursor { peer } => {
                self.hosts[host].disk.cursors.remove(&peer);
                self.hosts[host].disk.moved.remove(&peer);
            }
            Output::SavePeers { peers, .. } => self.hosts[host].disk.peers = peers,
            Output::SaveBook { .. } => {}
            // Everybody is typed in here: no tier is on. The world that discovers itself is another one.
            Output::Lookup { .. } | Output::Introduce { .. } | Output::Exchange { .. } => {}
            Output::Reconcile { .. } => {}
            Output::Hangup { .. } | Output::Neighbours(_) | Output::Blocked(_) | Output::Note(_) => {}
        }
    }

    /// The receptor's hello and record exchange.
    fn call(&mut self, from: usize, life: u32, lane: LaneId, to: usize) {
        let (caller, callee) = (self.hosts[from].record.clone(), self.hosts[to].record.clone());
        let peer = callee.id();
        if self.hosts[to].node.is_none() || self.chance(self.faults.loss) {
            let why = String::from("no answer");
            return self.later(TIMEOUT, Happening::Feed { host: from, life, input: Input::Broken { peer, lane, why } });
        }
        let callee_life = self.hosts[to].life;
        self.feed(to, callee_life, Input::Contact { peer: caller.id() });
        self.feed(to, callee_life, Input::Met { record: caller, word: Word::Near });
        let back = self.delay();
        self.later(back, Happening::Feed { host: from, life, input: Input::Met { record: callee, word: Word::Near } });
        let rtt = back * 2;
        self.later(back, Happening::Feed { host: from, life, input: Input::Connected { peer, lane, rtt } });
    }

    fn lose(&mut self, from: usize, life: u32, lane: LaneId, to: usize, shipment: ShipmentId) {
        let peer = self.hosts[to].key.id();
        self.later(
            TIMEOUT,
            Happening::Feed { host: from, life, input: Input::Sent { peer, shipment, result: Err(SendError::Lost) } },
        );
        let why = String::from("no answer");
        self.later(TIMEOUT, Happening::Feed { host: from, life, input: Input::Broken { peer, lane, why } });
    }

    fn answer(&mut self, host: usize, ticket: Ticket, outcomes: Vec<Outcome>, credit: u32) {
        match self.hosts[host].answers.remove(&ticket) {
            Some(Asker::Publisher { envelopes }) => {
                for (envelope, outcome) in envelopes.into_iter().zip(outcomes) {
                    match outcome {
                        Outcome::Stored { .. } => {
                            assert!(self.hosts[host].disk.holds(&envelope), "acknowledged before it was durable");
                            self.acked.push((host, envelope));
                        }
                        other => assert!(
                            matches!(&other, Outcome::Refused(rejection) if rejection.retry_after().is_some()),
                            "{other:?}"
                        ),
                    }
                }
            }
            Some(Asker::Peer { host: asker, life, lane, shipment, known }) => {
                let mut late = outcomes.into_iter();
                let all: Vec<Outcome> =
                    known.into_iter().map(|one| one.or_else(|| late.next()).expect("one each")).collect();
                if self.chance(self.faults.loss) {
                    return self.lose(asker, life, lane, host, shipment);
                }
                for outcome in &all {
                    let Outcome::Refused(rejection) = outcome else { continue };
                    let asked_for = !matches!(rejection.code(), Code::NotSubscribed | Code::NotForMe);
                    assert!(asked_for, "host {asker} sent what host {host} did not ask for");
                }
                let (peer, delay) = (self.hosts[host].key.id(), self.delay());
                let result = Ok(Receipt::of(&all, credit, Durability::Fsync));
                self.later(delay, Happening::Feed { host: asker, life, input: Input::Sent { peer, shipment, result } });
            }
            Some(Asker::Again) => self.again = outcomes,
            None => {}
        }
    }

    /// The moment of truth: a commit becomes durable, or the host dies before or right after it.
    fn commit(&mut self, host: usize, life: u32, batch: crate::core::ports::BatchId, entries: Vec<Entry>) {
        if self.hosts[host].life != life || self.hosts[host].node.is_none() {
            return;
        }
        let dies = self.chance(self.faults.crash);
        let before = self.rng.bool();
        let pause = Duration::from_millis(self.rng.u64(10..5_000));
        if dies && before {
            return self.crash(host, pause);
        }
        self.hosts[host].disk.full = self.chance(self.faults.full);
        let result = self.hosts[host].disk.commit(entries);
        if dies {
            return self.crash(host, pause);
        }
        self.feed(host, life, Input::Appended { batch, result });
        self.bridge(host);
    }

    /// The bus bridge: its cursor moves with what it writes.
    fn bridge(&mut self, host: usize) {
        let one = &mut self.hosts[host];
        let page = one.disk.page(one.bridged, usize::MAX).expect("this disk reads");
        let own = one.key.id();
        let wanted =
            page.entries.iter().map(|stored| &stored.entry.envelope).filter(|envelope| envelope.event().source != own);
        let digests: Vec<Digest> = wanted.map(|envelope| envelope.digest()).collect();
        one.arrivals.extend(digests.iter().map(|digest| (self.now, *digest)));
        one.bus.extend(digests);
        one.bridged = page.upto;
        self.hear(host, &page.entries);
    }

    fn publish_now(&mut self, host: usize, kind: &'static str) {
        let wall = self.moment().wall;
        let one = &mut self.hosts[host];
        if one.node.is_none() {
            return;
        }
        one.next_event += 1;
        let data = RawValue::from_string(format!(r#"{{"n":{}}}"#, one.next_event)).expect("JSON");
        let draft = Draft::new(format!("e-{}", one.next_event), kind, wall).with_data(data);
        let sealed = envelope::seal(&draft, &one.key).expect("a good draft");
        let ticket = one.ticket();
        one.answers.insert(ticket, Asker::Publisher { envelopes: vec![sealed.clone()] });
        let life = one.life;
        self.feed(host, life, Input::Emitted { ticket, emitted: vec![sealed.into()] });
    }

    fn host_of(&self, id: &NodeId) -> usize {
        self.hosts.iter().position(|host| host.key.id() == *id).expect("nobody dials strangers")
    }

    fn moment(&self) -> Now {
        Now { mono: self.now, wall: EPOCH + Duration::from_micros(self.now.0) }
    }

    /// 1 to 40 ms, so that messages overtake each other.
    fn delay(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(1_000..40_000))
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        self.rng.u32(0..1_000) < per_mille
    }

    fn later(&mut self, span: Duration, happening: Happening) {
        self.at(self.now + span, happening);
    }

    fn at(&mut self, at: Mono, happening: Happening) {
        self.order += 1;
        self.due.push(Reverse(Due { at, order: self.order }));
        self.happenings.insert(self.order, happening);
    }
}

impl Host {
    fn new(i: usize, interests: Interests) -> Host {
        let key = Keypair::from_seed(&[u8::try_from(i + 1).expect("few hosts"); 32]);
        let at = place(i).parse().expect("an address");
        let draft =
            RecordDraft { seq: 1, addresses: vec![at], interests: interests.clone(), network: Network::default() };
        let record = draft.seal(EPOCH, &key).expect("a record");
        Host {
            key,
            interests,
            node: None,
            life: 0,
            disk: Disk::default(),
            record,
            answers: BTreeMap::new(),
            next_ticket: 0,
            next_event: 0,
            bus: Vec::new(),
            arrivals: Vec::new(),
            bridged: Seq(0),
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }
}

fn place(i: usize) -> String {
    format!("127.0.{i}.1:7443")
}
