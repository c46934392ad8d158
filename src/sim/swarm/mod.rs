//! A swarm: thousands of nodes that know each other, and what becomes of the events between them.
//!
//! Every node is a real [`Node`] and everything that it asks for is carried out, for any pair of nodes: dials,
//! bodies of lines, commits, pages of the journal. What is simulated is the rest: links of 10 to 100 ms one
//! way, a disk that takes 2 ms for a commit, and what goes wrong with them ([`Faults`]). Events are published
//! while it does; then comes some time in which nothing does, and then the accounts are made up
//! ([`Report`]): who lacks what it is owed, who got what it did not ask for, what it cost.
//!
//! Events and records are signed for real whatever the number of nodes, and in a swarm of fewer than a
//! thousand nodes every signature is checked wherever it arrives. A larger one knows by the digest of a line
//! that these are the bytes that it signed: the check would say so a million times.
//!
//! ```text
//!   plan ---> swarm: hosts, links, queue ---> ledger ---> report
//! ```
//!
//! Nodes that cannot be dialled have no place here yet.

mod engine;
mod host;
mod ledger;
mod links;
mod plan;
mod queue;
mod receptor;
mod report;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::Node;
use crate::core::params::Params;
use crate::core::ports::{Input, Origin, Output, SavedPeer, Seq, Welcome};
use crate::core::roster::{Member, Snapshot};
use crate::time::{Mono, Now, Wall};
use crate::wire::message::Outcome;
use crate::wire::{Draft, Interests, Keypair, Keys, NodeId, RecordDraft, envelope};

use engine::Happening;
use host::{Host, Role};
use ledger::Ledger;
use links::{Links, micros, mixed};
pub use plan::{DELIVERIES_MAX, FAULTS, Faults, NODES_MAX, Plan, Share};
use queue::Queue;
pub use report::Report;

const EPOCH: Wall = Wall::from_millis(1_795_243_262_123);
/// What the nodes ask for that are interested, and what the others do.
const PATTERNS: [&str; 2] = ["swarm.*", "elsewhere.*"];
/// The type of all events.
const KIND: &str = "swarm.event";
/// Views of the nodes when they differ.
const VIEWS: usize = 16;
/// Peers that a node has from its last life: as many as a daemon looks for.
const PEERS: usize = 8;
/// Before the first event: whoever wants lanes has them.
const BEGINNING: Duration = Duration::from_secs(5);
/// After the last event, before the first look at who has what.
const SETTLING: Duration = Duration::from_secs(5);
/// A crashed node is back after this at most.
const AWAY_MOST: Duration = Duration::from_secs(10);

/// Many nodes, one clock, one seed.
pub struct Swarm {
    plan: Plan,
    params: Params,
    rng: fastrand::Rng,
    now: Mono,
    queue: Queue<Happening>,
    hosts: Vec<Host>,
    by_id: HashMap<NodeId, u32>,
    links: Links,
    /// Faults are at work.
    is_rough: bool,
    ledger: Ledger,
    keys: Keys,
    /// What was said last about lines that are to be carried again.
    again: Vec<Outcome>,
    /// What the nodes know of each other: one view when nothing is missing.
    views: Vec<Arc<Snapshot>>,
    /// A hash over everything that happened, in order.
    trace: u64,
    steps: u64,
    coverage_before: f64,
    /// Used again and again for what a node wants.
    outputs: Vec<Output>,
}

impl Swarm {
    /// A swarm that is about to start.
    ///
    /// # Errors
    /// As [`Plan::check`].
    pub fn new(plan: Plan) -> Result<Swarm, String> {
        plan.check()?;
        let mut rng = fastrand::Rng::with_seed(plan.seed);
        let mut hosts = machines(&plan);
        for (host, role) in hosts.iter_mut().zip(host::roles(&plan, &mut rng)) {
            host.role = role;
        }
        for number in chosen(plan.nodes, plan.faults.partition, &mut rng) {
            hosts[number].is_apart = true;
        }
        let skew = i64::try_from(plan.faults.skew.as_micros()).expect("a day at most");
        for host in &mut hosts {
            host.skew = rng.i64(-skew..=skew);
        }
        let views = views(&plan, &hosts, &mut rng);
        let by_id = (0u32..).zip(&hosts).map(|(number, host)| (host.id, number)).collect();
        let mut swarm = Swarm {
            params: Params::default(),
            links: Links::new(plan.seed),
            ledger: Ledger::new(plan.nodes),
            plan,
            rng,
            now: Mono(0),
            queue: Queue::new(),
            hosts,
            by_id,
            is_rough: false,
            keys: Keys::default(),
            again: Vec::new(),
            views,
            trace: 0,
            steps: 0,
            coverage_before: 0.0,
            outputs: Vec::new(),
        };
        swarm.schedule();
        Ok(swarm)
    }

    /// What is to happen whatever the nodes do.
    fn schedule(&mut self) {
        let roles: Vec<Role> = self.hosts.iter().map(|host| host.role).collect();
        let span = self.publishing();
        for (host, role) in (0u32..).zip(roles) {
            if role != Role::Dead {
                let at = Duration::from_micros(self.rng.u64(0..1_000_000));
                self.later(at, Happening::Start { host });
            }
            if role == Role::Churner {
                let at = BEGINNING + Duration::from_micros(self.rng.u64(0..=micros(span)));
                let back = Duration::from_micros(self.rng.u64(10_000..=micros(AWAY_MOST)));
                self.later(at, Happening::Crash { host, back });
            }
        }
        self.later(BEGINNING, Happening::Rough);
        for event in 0..self.plan.events {
            let within = Duration::from_micros(self.rng.u64(0..=micros(self.plan.interval)));
            let at = BEGINNING + self.plan.interval * u32::try_from(event).expect("bounded") + within;
            self.later(at, Happening::Publish);
        }
    }

    /// How long events are published.
    fn publishing(&self) -> Duration {
        self.plan.interval * u32::try_from(self.plan.events).expect("bounded by DELIVERIES_MAX")
    }

    /// Runs it from beginning to end; `told` hears of every event that is published, by its number from 1 on.
    pub fn run(mut self, mut told: impl FnMut(usize)) -> Report {
        let last = BEGINNING + self.publishing() + SETTLING;
        self.pass(last, &mut told);
        self.coverage_before = self.coverage();
        self.is_rough = false;
        self.links.set(Duration::ZERO, Share::NONE);
        let end = last.max(BEGINNING + self.publishing() + AWAY_MOST) + self.plan.healing;
        self.pass(end, &mut told);
        self.report()
    }

    /// Lets everything happen until this moment after the beginning.
    fn pass(&mut self, end: Duration, told: &mut impl FnMut(usize)) {
        let end = Mono(micros(end));
        while let Some((at, happening)) = self.queue.pop(end) {
            self.now = at;
            let is_event = matches!(happening, Happening::Publish);
            self.happen(happening);
            if is_event {
                told(self.ledger.events().count());
            }
        }
        self.now = end;
    }

    fn start(&mut self, host: u32) {
        let seed = self.rng.u64(..);
        let peers = self.acquaintance(host);
        let one = &mut self.hosts[host as usize];
        if one.node.is_some() {
            return;
        }
        one.life += 1;
        one.wake = None;
        one.node = Some(Box::new(Node::new(one.id, self.params.clone(), seed)));
        let (life, head, interests) = (one.life, one.journal.head(), one.record.interests.clone());
        let duty = one.journal.duty();
        let view = Arc::clone(&self.views[host as usize % self.views.len()]);
        self.feed(host, life, Input::Interests(interests));
        self.feed(host, life, Input::Roster(view));
        if let Some(cursor) = duty {
            self.feed(host, life, Input::Dutiful(cursor));
        }
        self.feed(host, life, Input::Restored { head, peers });
    }

    /// The peers of a node when it starts: its peer file, or some when there is none yet.
    fn acquaintance(&mut self, host: u32) -> Vec<SavedPeer> {
        let one = &self.hosts[host as usize];
        if one.life > 0 {
            let mut peers = one.peers.clone();
            for peer in &mut peers {
                peer.cursor = peer.cursor.max(one.journal.cursor(&peer.id));
            }
            return peers;
        }
        let me = one.id;
        let known = self.rng.choose_multiple(&self.hosts, PEERS.min(self.plan.nodes - 1));
        known.into_iter().filter(|other| other.id != me).map(saved).collect()
    }

    fn publish(&mut self) {
        let alive: Vec<u32> =
            (0u32..).zip(&self.hosts).filter(|(_, host)| host.node.is_some()).map(|(number, _)| number).collect();
        let Some(origin) = self.rng.choice(alive) else { return };
        let number = self.ledger.events().count();
        let wall = self.wall(origin);
        let data = serde_json::value::RawValue::from_string(format!("\"{}\"", "x".repeat(self.plan.size)));
        let draft = Draft::new(format!("e-{number}"), KIND, wall).with_data(data.expect("JSON"));
        let sealed = envelope::seal(&draft, &key(self.plan.seed, origin as usize)).expect("a good draft");
        let event = self.ledger.publish(sealed.clone(), origin, self.now);
        let host = &mut self.hosts[origin as usize];
        let ticket = host.ask(host::Asker::Publisher { event });
        let life = host.life;
        self.feed(origin, life, Input::Emitted { ticket, emitted: vec![sealed.into()] });
    }

    fn wall(&self, host: u32) -> Wall {
        Wall(EPOCH.0 + i64::try_from(self.now.0).unwrap_or(i64::MAX) + self.hosts[host as usize].skew)
    }

    fn moment(&self, host: u32) -> Now {
        Now { mono: self.now, wall: self.wall(host) }
    }

    fn later(&mut self, span: Duration, happening: Happening) {
        self.queue.push(self.now + span, happening);
    }
}

/// The key of a machine: another one for every seed.
fn key(seed: u64, host: usize) -> Keypair {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&mixed(seed).to_le_bytes());
    bytes[8..16].copy_from_slice(&(host as u64).to_le_bytes());
    Keypair::from_seed(&bytes)
}

fn machines(plan: &Plan) -> Vec<Host> {
    let patterns = PATTERNS.map(|text| Interests::new([text.parse().expect("a pattern")]).expect("interests"));
    // Signed an hour before: nobody is new to anybody.
    let signed = EPOCH - Duration::from_secs(3_600);
    let mut rng = fastrand::Rng::with_seed(plan.seed.rotate_left(17));
    let asking = chosen(plan.nodes, plan.interested, &mut rng);
    let machine = |number: usize| {
        let (key, is_interested) = (key(plan.seed, number), asking.binary_search(&number).is_ok());
        let interests = patterns[usize::from(!is_interested)].clone();
        let draft = RecordDraft { seq: 1, addresses: vec![place(number)], interests, ..RecordDraft::default() };
        let record = draft.seal(signed, &key).expect("a record");
        let mut host = Host::new(key.id(), record);
        host.is_interested = is_interested;
        host
    };
    (0..plan.nodes).map(machine).collect()
}

/// Addresses that anybody may tell of, and nobody is dialled at; few machines in one network: 60 000 networks, one
/// after the other.
fn place(number: usize) -> crate::wire::HostPort {
    let (network, machine) = (number % 60_000, number / 60_000);
    format!("20.{}.{}.{}:7443", network / 250, network % 250, machine + 1).parse().expect("an address")
}

/// So many of the first numbers, by chance and in order.
fn chosen(count: usize, share: Share, rng: &mut fastrand::Rng) -> Vec<usize> {
    let wanted = share.of(count);
    if wanted == count {
        return (0..count).collect();
    }
    let mut chosen = rng.choose_multiple(0..count, wanted);
    chosen.sort_unstable();
    chosen
}

/// What is known of all nodes. When entries are missing, sixteen views of which each lacks others.
fn views(plan: &Plan, hosts: &[Host], rng: &mut fastrand::Rng) -> Vec<Arc<Snapshot>> {
    let known = EPOCH - Duration::from_secs(7_200);
    let mut view = || {
        let missing = chosen(plan.nodes, plan.faults.stale, rng);
        let there = hosts.iter().enumerate().filter(|(number, _)| missing.binary_search(number).is_err());
        let members = there.map(|(_, host)| Member::new(host.record.clone(), known));
        Arc::new(Snapshot::of(members).foreseeing([KIND.parse().expect("a type")]))
    };
    let count = if plan.faults.stale == Share::NONE { 1 } else { VIEWS };
    (0..count).map(|_| view()).collect()
}

fn saved(other: &Host) -> SavedPeer {
    SavedPeer {
        id: other.id,
        origin: Origin::Found,
        welcome: Welcome::Open,
        alias: None,
        addresses: Vec::new(),
        proven: true,
        record: Some(other.record.clone()),
        cursor: Some(Seq(0)),
        since: EPOCH - Duration::from_secs(7_200),
        seen: Some(EPOCH),
        near: false,
    }
}
