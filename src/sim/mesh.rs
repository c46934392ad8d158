//! A network in which nodes find each other: by address, through partitions and outages, among liars.
//!
//! No event travels here and no disk fails; that is the other world's. What is real is the search: who is
//! dialled, who answers, what neighbours tell, what is remembered from one life to the next.

mod repair;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use crate::core::params::{Params, Tiers};
use crate::core::ports::{Input, LaneId, Note, Origin, Output, SavedBook, SavedPeer, Seq, Ticket};
use crate::core::sync::Snapshot;
use crate::core::tier::{Find, Tier};
use crate::core::{Node, PeerState, Standing};
use crate::time::{Mono, Now, Wall};
use crate::wire::message::RECORDS_MAX;
use crate::wire::{Digest, HostPort, Interests, Keypair, NodeId, Profile, Record, RecordDraft, Verified, Word};

pub use repair::Repairs;

const EPOCH: Wall = Wall::from_millis(1_795_243_262_123);
/// What a dial into nowhere costs.
const TIMEOUT: Duration = Duration::from_secs(3);
/// What a lane waits for an answer.
const SILENCE: Duration = Duration::from_secs(10);
/// A record is signed anew at this age.
const RENEWAL: Duration = Duration::from_secs(12 * 3_600);

/// Many nodes that look for each other, one clock, one seed.
pub struct Mesh {
    rng: fastrand::Rng,
    now: Mono,
    order: u64,
    due: BinaryHeap<Reverse<(Mono, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    hosts: Vec<Host>,
    /// Who answers where.
    places: BTreeMap<HostPort, Answerer>,
    lies: Arc<[Verified<Record>]>,
    /// What the DNS says; `None` = it is dead.
    pub dns: Option<Vec<Find>>,
    /// What the list of seeds says.
    pub seeds: Vec<Find>,
    /// How often a lane asks for a sign of life.
    pub ping_every: Duration,
    /// Who was given up, and by whom.
    deaths: Vec<(usize, NodeId)>,
    /// What liars tell when they are asked for their whole view: each of them everything.
    lying: Arc<Snapshot>,
    /// What was ever signed, by its digest.
    signed: BTreeMap<Digest, Verified<Record>>,
    repairs: Repairs,
}

/// Who answers at an address.
#[derive(Clone, Copy)]
enum Answerer {
    Host(usize),
    /// A liar, by the place of its record.
    Liar(usize),
}

struct Host {
    key: Keypair,
    place: HostPort,
    node: Option<Node>,
    life: u32,
    params: Params,
    record: Verified<Record>,
    signed: Mono,
    peers: Vec<SavedPeer>,
    book: SavedBook,
    /// Nodes of one side reach each other.
    side: u8,
    is_down: bool,
    lanes: BTreeMap<NodeId, (LaneId, HostPort)>,
    wake: Option<Mono>,
}

enum Happening {
    Tick { host: usize, life: u32 },
    Start { host: usize },
    Feed { host: usize, life: u32, input: Input },
    Call { from: usize, life: u32, peer: NodeId, lane: LaneId, at: Vec<HostPort> },
    Introduce { from: usize, life: u32, at: HostPort, tier: Tier },
    Exchange { from: usize, life: u32, peer: NodeId, lane: LaneId },
    Reconcile { from: usize, life: u32, peer: NodeId, lane: LaneId, snapshot: Arc<Snapshot> },
    Ping { from: usize, life: u32, peer: NodeId, lane: LaneId },
}

/// A key that belongs to this number; `pattern` fills its seed, so that whole runs can have other ids.
pub fn key(number: usize, pattern: u8) -> Keypair {
    let mut seed = [pattern; 32];
    seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
    Keypair::from_seed(&seed)
}

/// Records of `count` ids that all live on few machines: on `addresses` addresses, each at its own port.
pub fn crowd(count: usize, addresses: usize) -> Arc<[Verified<Record>]> {
    let one = |number: usize| {
        let port = 10_000 + number / addresses;
        let at = format!("127.{}.0.1:{port}", 200 + number % addresses).parse().expect("an address");
        sealed(&key(number, 0xee), at, 1, EPOCH)
    };
    (0..count).map(one).collect()
}

fn sealed(key: &Keypair, at: HostPort, seq: u64, now: Wall) -> Verified<Record> {
    let interests = Interests::new(["a.*".parse().expect("a pattern")]).expect("interests");
    let draft = RecordDraft { seq, addresses: vec![at], interests, ..RecordDraft::default() };
    draft.seal(now, key).expect("a record")
}

impl Mesh {
    /// A world of nobody.
    pub fn new(seed: u64) -> Mesh {
        Mesh {
            rng: fastrand::Rng::with_seed(seed),
            now: Mono(0),
            order: 0,
            due: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            hosts: Vec::new(),
            places: BTreeMap::new(),
            lies: Arc::new([]),
            dns: None,
            seeds: Vec::new(),
            ping_every: Duration::from_secs(15),
            deaths: Vec::new(),
            lying: Arc::new(Snapshot::new(std::iter::empty(), std::iter::empty())),
            signed: BTreeMap::new(),
            repairs: Repairs::default(),
        }
    }

    /// A node with this key, in a network of its own; it starts with [`Mesh::start`]. Gives its number.
    pub fn add(&mut self, key: Keypair) -> usize {
        let number = self.hosts.len();
        let place: HostPort = format!("127.{}.0.1:7443", number + 1).parse().expect("an address");
        let record = sealed(&key, place.clone(), 1, self.moment().wall);
        let tiers = Tiers { dns: true, exchange: true, seeds: true };
        self.places.insert(place.clone(), Answerer::Host(number));
        self.hosts.push(Host {
            key,
            place,
            node: None,
            life: 0,
            params: Params { profile: Profile::Loopback, tiers, ..Params::default() },
            record,
            signed: self.now,
            peers: Vec::new(),
            book: SavedBook::default(),
            side: 0,
            is_down: false,
            lanes: BTreeMap::new(),
            wake: None,
        });
        number
    }

    /// Starts a node after a while.
    pub fn start(&mut self, host: usize, after: Duration) {
        self.later(after, Happening::Start { host });
    }

    /// Stops a node and starts it again at once with nothing but its book: the peer file is lost.
    pub fn restart_from_book(&mut self, host: usize) {
        let life = self.hosts[host].life;
        self.feed(host, life, Input::Stop);
        let one = &mut self.hosts[host];
        one.peers.clear();
        one.node = None;
        one.life += 1;
        one.lanes.clear();
        self.start(host, Duration::ZERO);
    }

    /// Types node `other` in at `host`, once it runs.
    pub fn type_in(&mut self, host: usize, other: usize) {
        let (id, at) = (self.hosts[other].key.id(), self.hosts[other].place.clone());
        let input = Input::PeerAdded { ticket: Ticket(0), id, at, alias: None };
        let life = self.hosts[host].life;
        self.feed(host, life, input);
    }

    /// Who these are, and where: every one of these answers, with its own key, and tells of the others.
    pub fn lie(&mut self, crowd: &Arc<[Verified<Record>]>) {
        self.lies = Arc::clone(crowd);
        self.lying = Arc::new(Snapshot::new(crowd.iter().map(|record| (record.id(), record)), std::iter::empty()));
        self.signed.extend(crowd.iter().map(|record| (record.envelope().digest(), record.clone())));
        for (number, record) in crowd.iter().enumerate() {
            self.places.insert(record.addresses[0].clone(), Answerer::Liar(number));
        }
    }

    /// A liar becomes a neighbour by its call and tells of all others, faster than it would be listened to.
    pub fn flood(&mut self, host: usize) {
        let (life, lies) = (self.hosts[host].life, Arc::clone(&self.lies));
        for (number, chunk) in lies.chunks(RECORDS_MAX).enumerate() {
            let teller = lies[number % lies.len()].clone();
            let id = teller.id();
            self.feed(host, life, Input::Met { record: teller, word: Word::Near });
            self.feed(host, life, Input::Heard { teller: id, asked: true, records: chunk.to_vec() });
        }
    }

    /// Puts nodes on a side each; who is not named is on side 0.
    pub fn split(&mut self, side: impl Fn(usize) -> u8) {
        for (number, host) in self.hosts.iter_mut().enumerate() {
            host.side = side(number);
        }
    }

    /// Takes a node's own network away, or gives it back.
    pub fn set_down(&mut self, host: usize, is_down: bool) {
        self.hosts[host].is_down = is_down;
    }

    /// How others find a node.
    pub fn find(&self, host: usize, with_id: bool) -> Find {
        let one = &self.hosts[host];
        Find { id: with_id.then(|| one.key.id()), at: vec![one.place.clone()] }
    }

    /// Lets `span` of virtual time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(Reverse((at, order))) = self.due.peek().copied() {
            if at > end {
                break;
            }
            self.due.pop();
            self.now = at;
            let happening = self.happenings.remove(&order).expect("one for each due");
            self.happen(happening);
        }
        self.now = end;
    }

    /// Honest nodes to which this one keeps a connection of its own choice, or typed in.
    pub fn honest_neighbours(&self, host: usize) -> usize {
        let honest: BTreeSet<NodeId> = self.hosts.iter().map(|host| host.key.id()).collect();
        let Some(node) = &self.hosts[host].node else { return 0 };
        let is_one = |peer: &crate::core::PeerView| {
            matches!(peer.state, PeerState::Connected { .. }) && (peer.chosen || peer.origin == Origin::Manual)
        };
        node.view().peers.iter().filter(|peer| is_one(peer) && honest.contains(&peer.id)).count()
    }

    /// Other honest nodes that this one knows at all.
    pub fn acquaintances(&self, host: usize) -> usize {
        let honest: BTreeSet<NodeId> = self.hosts.iter().map(|host| host.key.id()).collect();
        let Some(node) = &self.hosts[host].node else { return 0 };
        let (peers, strangers) = (node.view().peers, node.strangers(self.moment()));
        peers.iter().chain(&strangers).filter(|peer| honest.contains(&peer.id)).count()
    }

    /// Do lanes join all running nodes to one mesh?
    pub fn is_one(&self) -> bool {
        let by_id: BTreeMap<NodeId, usize> =
            self.hosts.iter().enumerate().map(|(number, host)| (host.key.id(), number)).collect();
        let running: BTreeSet<usize> =
            (0..self.hosts.len()).filter(|number| self.hosts[*number].node.is_some()).collect();
        let mut links: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (number, host) in self.hosts.iter().enumerate() {
            for other in host.lanes.keys().filter_map(|id| by_id.get(id)) {
                if self.reaches(number, *other) {
                    links.entry(number).or_default().insert(*other);
                    links.entry(*other).or_default().insert(number);
                }
            }
        }
        let mut seen = BTreeSet::new();
        let mut front: Vec<usize> = running.first().copied().into_iter().collect();
        while let Some(one) = front.pop() {
            if seen.insert(one) {
                front.extend(links.get(&one).into_iter().flatten());
            }
        }
        seen == running
    }

    /// Runs until `is_so`, at most for `longest`; how long it took.
    pub fn until(&mut self, longest: Duration, is_so: impl Fn(&Mesh) -> bool) -> Option<Duration> {
        let (begin, step) = (self.now, Duration::from_millis(500));
        while self.now.since(begin) <= longest {
            if is_so(self) {
                return Some(self.now.since(begin));
            }
            self.run(step);
        }
        None
    }

    /// How many nodes somebody gave up so far.
    pub fn deaths(&self) -> usize {
        self.deaths.len()
    }

    fn reaches(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.hosts[one], &self.hosts[other]);
        one.side == other.side && !one.is_down && !other.is_down
    }

    /// Who answers a host there, and with which key.
    fn answerer(&self, from: usize, at: &HostPort) -> Option<(Answerer, NodeId)> {
        match self.places.get(at)? {
            Answerer::Host(to) if self.reaches(from, *to) && self.hosts[*to].node.is_some() => {
                Some((Answerer::Host(*to), self.hosts[*to].key.id()))
            }
            Answerer::Liar(number) if !self.hosts[from].is_down => {
                Some((Answerer::Liar(*number), self.lies[*number].id()))
            }
            _ => None,
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick { host, life } => {
                // One that an earlier deadline overtook is asked for anew by whatever came before it.
                if self.hosts[host].life == life && self.hosts[host].wake == Some(self.now) {
                    self.hosts[host].wake = None;
                    self.feed(host, life, Input::Tick);
                }
            }
            Happening::Start { host } => self.begin(host),
            Happening::Feed { host, life, input } => self.feed(host, life, input),
            Happening::Call { from, life, peer, lane, at } => self.call(from, life, peer, lane, &at),
            Happening::Introduce { from, life, at, tier } => {
                let answer = self.answerer(from, &at).map(|(_, id)| id);
                let (delay, result) = match answer {
                    Some(id) => (self.delay(), Ok(id)),
                    None => (TIMEOUT, Err(String::from("no answer"))),
                };
                self.later(delay, Happening::Feed { host: from, life, input: Input::Introduced { at, tier, result } });
            }
            Happening::Exchange { from, life, peer, lane } => self.exchange(from, life, peer, lane),
            Happening::Reconcile { from, life, peer, lane, snapshot } => {
                self.reconcile(from, life, peer, lane, snapshot);
            }
            Happening::Ping { from, life, peer, lane } => self.ping(from, life, peer, lane),
        }
    }

    fn begin(&mut self, host: usize) {
        let seed = self.rng.u64(..);
        let one = &mut self.hosts[host];
        if one.node.is_some() {
            return;
        }
        one.life += 1;
        one.wake = None;
        one.node = Some(Node::new(one.key.id(), one.params.clone(), seed));
        let (life, peers, book) = (one.life, one.peers.clone(), one.book.clone());
        let record = one.record.clone();
        self.signed.insert(record.envelope().digest(), record.clone());
        self.feed(host, life, Input::Signed { record });
        self.feed(host, life, Input::Remembered(book));
        self.feed(host, life, Input::Restored { head: Seq(0), peers });
    }

    fn feed(&mut self, host: usize, life: u32, input: Input) {
        let now = self.moment();
        let one = &mut self.hosts[host];
        if one.life != life {
            return;
        }
        let Some(node) = &mut one.node else { return };
        let mut out = Vec::new();
        node.handle(input, now, &mut out);
        let deadline = node.deadline().map(|deadline| deadline.max(now.mono));
        if let Some(deadline) = deadline
            && one.wake.is_none_or(|wake| deadline < wake)
        {
            one.wake = Some(deadline);
            self.at(deadline, Happening::Tick { host, life });
        }
        for output in out {
            self.carry_out(host, life, output);
        }
    }

    fn carry_out(&mut self, from: usize, life: u32, output: Output) {
        let delay = self.delay();
        match output {
            Output::Dial { peer, lane, at, .. } => self.later(delay, Happening::Call { from, life, peer, lane, at }),
            Output::Introduce { at, tier, .. } => self.later(delay, Happening::Introduce { from, life, at, tier }),
            Output::Exchange { peer, lane } => self.later(delay, Happening::Exchange { from, life, peer, lane }),
            Output::Reconcile { peer, lane, snapshot } => {
                self.later(delay, Happening::Reconcile { from, life, peer, lane, snapshot });
            }
            Output::Hangup { lane, peer } => {
                let lanes = &mut self.hosts[from].lanes;
                if lanes.get(&peer).is_some_and(|(current, _)| *current == lane) {
                    lanes.remove(&peer);
                }
            }
            Output::Lookup { tier } => {
                let result = match tier {
                    Tier::Seed => Ok(self.seeds.clone()),
                    _ if self.hosts[from].is_down => Err(String::from("no network")),
                    _ => self.dns.clone().ok_or_else(|| String::from("SERVFAIL")),
                };
                self.later(delay, Happening::Feed { host: from, life, input: Input::Found { tier, result } });
            }
            Output::SavePeers { peers, .. } => self.hosts[from].peers = peers,
            Output::SaveBook { book, .. } => self.hosts[from].book = book,
            Output::Note(Note::PeerMoved { peer, to: Standing::Dead, .. }) => self.deaths.push((from, peer)),
            _ => {}
        }
    }

    /// The first address where the right key answers; every wrong one on the way is told.
    fn call(&mut self, from: usize, life: u32, peer: NodeId, lane: LaneId, at: &[HostPort]) {
        let mut wait = Duration::ZERO;
        for place in at {
            wait += self.delay();
            match self.answerer(from, place) {
                Some((answerer, id)) if id == peer => return self.connect(from, life, answerer, lane, place),
                Some((_, found)) => {
                    let input = Input::Mistaken { peer, lane, at: place.clone(), found };
                    self.later(wait, Happening::Feed { host: from, life, input });
                }
                None => wait += TIMEOUT,
            }
        }
        let why = String::from("no answer");
        self.later(wait, Happening::Feed { host: from, life, input: Input::Broken { peer, lane, why } });
    }

    fn connect(&mut self, from: usize, life: u32, to: Answerer, lane: LaneId, at: &HostPort) {
        let caller = self.record_of(from);
        let callee = match to {
            Answerer::Host(to) => {
                let to_life = self.hosts[to].life;
                self.feed(to, to_life, Input::Contact { peer: caller.id() });
                self.feed(to, to_life, Input::Met { record: caller, word: Word::Near });
                self.record_of(to)
            }
            Answerer::Liar(number) => self.lies[number].clone(),
        };
        let (peer, rtt) = (callee.id(), self.delay());
        self.hosts[from].lanes.insert(peer, (lane, at.clone()));
        self.later(rtt, Happening::Feed { host: from, life, input: Input::Met { record: callee, word: Word::Near } });
        self.later(rtt, Happening::Feed { host: from, life, input: Input::Connected { peer, lane, rtt } });
        self.later(rtt + self.ping_every, Happening::Ping { from, life, peer, lane });
    }

    /// Who is at the other end of this lane now; `None` when it is not in use any more.
    fn end_of(&self, from: usize, life: u32, peer: &NodeId, lane: LaneId) -> Option<Option<Answerer>> {
        let host = &self.hosts[from];
        let (_, at) = host.lanes.get(peer).filter(|(current, _)| *current == lane && host.life == life)?;
        Some(self.answerer(from, at).filter(|(_, id)| id == peer).map(|(answerer, _)| answerer))
    }

    fn ping(&mut self, from: usize, life: u32, peer: NodeId, lane: LaneId) {
        let Some(end) = self.end_of(from, life, &peer, lane) else { return };
        match end {
            Some(_) => {
                let rtt = self.delay();
                self.later(rtt, Happening::Feed { host: from, life, input: Input::Pong { peer, rtt } });
                self.later(self.ping_every, Happening::Ping { from, life, peer, lane });
            }
            None => self.lose(from, life, peer, lane),
        }
    }

    fn lose(&mut self, from: usize, life: u32, peer: NodeId, lane: LaneId) {
        self.hosts[from].lanes.remove(&peer);
        let why = String::from("no answer in time");
        self.later(SILENCE, Happening::Feed { host: from, life, input: Input::Broken { peer, lane, why } });
    }

    fn exchange(&mut self, from: usize, life: u32, peer: NodeId, lane: LaneId) {
        let Some(end) = self.end_of(from, life, &peer, lane) else { return };
        let now = self.moment();
        let mut records = match end {
            None => return self.lose(from, life, peer, lane),
            Some(Answerer::Host(to)) => {
                let known = self.hosts[to].node.as_ref().map(|node| node.shareable(now.wall)).unwrap_or_default();
                let most = (known.len() / 4).clamp(16, RECORDS_MAX - 1);
                self.rng.choose_multiple(known, most)
            }
            Some(Answerer::Liar(_)) => self.rng.choose_multiple(self.lies.iter().cloned(), RECORDS_MAX),
        };
        if let Some(Answerer::Host(to)) = end {
            records.push(self.record_of(to));
        }
        let own = self.hosts[from].key.id();
        records.retain(|record| record.id() != own);
        let delay = self.delay();
        let input = Input::Heard { teller: peer, asked: true, records };
        self.later(delay, Happening::Feed { host: from, life, input });
    }

    fn record_of(&mut self, host: usize) -> Verified<Record> {
        let now = self.moment();
        let one = &mut self.hosts[host];
        if now.mono.since(one.signed) >= RENEWAL {
            one.signed = now.mono;
            one.record = sealed(&one.key, one.place.clone(), one.record.seq + 1, now.wall);
            let (record, life) = (one.record.clone(), one.life);
            self.signed.insert(record.envelope().digest(), record.clone());
            self.feed(host, life, Input::Signed { record });
        }
        self.hosts[host].record.clone()
    }

    fn moment(&self) -> Now {
        Now { mono: self.now, wall: EPOCH + Duration::from_micros(self.now.0) }
    }

    /// 1 to 40 ms.
    fn delay(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(1_000..40_000))
    }

    fn later(&mut self, span: Duration, happening: Happening) {
        self.at(self.now + span, happening);
    }

    fn at(&mut self, at: Mono, happening: Happening) {
        self.order += 1;
        self.due.push(Reverse((at, self.order)));
        self.happenings.insert(self.order, happening);
    }
}
