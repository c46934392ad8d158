//! When to look for nodes, and where: the scheduler of the tiers (3-discovery.md).
//!
//! ```text
//!   t = 0    anchors, tried nodes and manual peers in parallel; the DNS too while few nodes are known
//!   t = 3 s  seeds, when no connection stands; at once when the DNS failed and nobody is typed in
//!   always   while fewer connections stand than are wanted, every tier is asked again and again
//! ```
//!
//! No tier gates another and none is ever done with. What decides is how many connections of our own
//! choice *stand*, never how many addresses are known: a table that somebody filled is not a mesh. Callers
//! do not count, since anybody can call. Where the DNS names nodes that answer, and are all one liar's, the
//! last slot still waits for somebody to whom something else led, so seeds are asked all the same.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::params::{
    ANSWER_MAX, DNS_LATER, FEELER_EVERY, FEELER_HURRY, FEW_VERIFIED, FINDS_MAX, HEAL_EVERY, INTRODUCTIONS_MAX,
    INTRODUCTIONS_WAITING_MAX, LOOKUP_EVERY, LOOKUP_PAUSE, PICK_PAUSE, PROBES_MAX, Params, SEEDS_AFTER, SEEDS_LATER,
    Tiers,
};
use super::peers::{Choice, Peers, Slots};
use super::ports::Output;
use super::tier::{Find, Tier};
use crate::time::{Mono, Now};
use crate::wire::{HostPort, NodeId, Word};

/// The clockwork of the search.
pub(super) struct Discovery {
    target: usize,
    tiers: Tiers,
    rng: fastrand::Rng,
    /// When the disk had said what it remembers; nothing is looked for before.
    started: Option<Mono>,
    dns: Asking,
    seeds: Asking,
    pick_at: Mono,
    /// How often in a row nobody was found to dial.
    idle: u32,
    feel_at: Mono,
    heal_at: Mono,
    /// Places without an id, of which tier.
    waiting: VecDeque<(HostPort, Tier)>,
    flying: BTreeMap<HostPort, Flight>,
    wake: Option<Mono>,
    /// Something happened that may change what is due.
    is_touched: bool,
}

/// An introduction under way.
struct Flight {
    /// Whose key should answer; `None` = not said.
    expected: Option<NodeId>,
    since: Mono,
}

/// When a tier is asked next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Never: the operator turned it off.
    Off,
    /// It is being asked.
    Asked,
    /// At this moment at the latest, unless enough connections stand by then.
    At(Mono),
    /// When fewer connections stand than are wanted; of the exchange, when any stands.
    Resting,
}

/// How the search goes, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Search {
    /// Connections of our own choice that are wanted.
    pub wanted: usize,
    /// Those that stand.
    pub standing: usize,
    /// Zones of the DNS.
    pub dns: Due,
    /// The list of seeds.
    pub seeds: Due,
    /// Neighbours.
    pub exchange: Due,
}

/// One tier that answers questions.
#[derive(Default)]
struct Asking {
    /// Not asked again before.
    next: Mono,
    /// Its answer is owed since.
    asked: Option<Mono>,
    /// How often it was asked since enough connections stood.
    asks: u32,
    /// It could not answer last time.
    failed: bool,
}

impl Asking {
    fn ask(&mut self, tier: Tier, now: Mono, rng: &mut fastrand::Rng, out: &mut Vec<Output>) {
        self.asked = Some(now);
        let (first, longest) = LOOKUP_EVERY;
        let span = first.saturating_mul(1 << self.asks.min(16)).min(longest);
        self.asks += 1;
        self.next = now + by_chance(rng, Duration::ZERO, span).max(LOOKUP_PAUSE);
        out.push(Output::Lookup { tier });
    }

    fn is_owed(&self) -> bool {
        self.asked.is_some()
    }

    /// Gives up an answer that does not come.
    fn give_up(&mut self, now: Mono) {
        if self.asked.is_some_and(|asked| now.since(asked) >= ANSWER_MAX) {
            (self.asked, self.failed) = (None, true);
        }
    }

    fn answered(&mut self, is_ok: bool) {
        (self.asked, self.failed) = (None, !is_ok);
    }

    /// Enough connections stand: the next search begins anew, and not at once.
    fn rest(&mut self, until: Mono) {
        (self.asks, self.next) = (0, until);
    }
}

fn by_chance(rng: &mut fastrand::Rng, from: Duration, to: Duration) -> Duration {
    let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(rng.u64(micros(from)..=micros(to)))
}

impl Discovery {
    pub(super) fn new(params: &Params, seed: u64) -> Discovery {
        Discovery {
            target: params.min_peers.min(params.peers_max),
            tiers: params.tiers,
            rng: fastrand::Rng::with_seed(seed.rotate_left(32)),
            started: None,
            dns: Asking::default(),
            seeds: Asking::default(),
            pick_at: Mono(0),
            idle: 0,
            feel_at: Mono(0),
            heal_at: Mono(0),
            waiting: VecDeque::new(),
            flying: BTreeMap::new(),
            wake: None,
            is_touched: true,
        }
    }

    /// So many connections are wanted from now on.
    pub(super) fn aim(&mut self, min_peers: usize, peers_max: usize) {
        self.target = min_peers.min(peers_max);
    }

    /// Something happened that may change what is due. Events that pass by do not.
    pub(super) fn touch(&mut self) {
        self.is_touched = true;
    }

    /// The disk has said what it remembers: the search begins.
    pub(super) fn start(&mut self, peers: &Peers, now: Now) {
        self.started = Some(now.mono);
        let knows_enough = peers.verified(now.wall) >= self.target;
        self.dns.next = if knows_enough { now.mono + DNS_LATER } else { now.mono };
        self.seeds.next = now.mono + SEEDS_LATER;
        self.feel_at = now.mono + FEELER_HURRY;
        self.heal_at = now.mono + by_chance(&mut self.rng, HEAL_EVERY.0, HEAL_EVERY.1);
    }

    /// Something changed: whoever can be dialled now may be.
    pub(super) fn stir(&mut self, now: Mono) {
        self.idle = 0;
        self.pick_at = self.pick_at.min(now);
    }

    /// A tier answered.
    pub(super) fn on_found(
        &mut self,
        tier: Tier,
        result: Result<Vec<Find>, String>,
        peers: &mut Peers,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        match tier {
            Tier::Dns => self.dns.answered(result.is_ok()),
            Tier::Seed => self.seeds.answered(result.is_ok()),
            Tier::Anchor | Tier::Exchange | Tier::Manual => return,
        }
        for find in result.unwrap_or_default().into_iter().take(FINDS_MAX) {
            match find.id {
                Some(id) => peers.on_find(id, &find, tier, now, out),
                None => {
                    for at in find.at.into_iter().filter(|at| peers.allows(at)) {
                        let is_known =
                            self.flying.contains_key(&at) || self.waiting.iter().any(|(other, _)| *other == at);
                        if !is_known && self.waiting.len() < INTRODUCTIONS_WAITING_MAX {
                            self.waiting.push_back((at, tier));
                        }
                    }
                }
            }
        }
        self.stir(now.mono);
    }

    /// Somebody's key answered, or nobody's.
    pub(super) fn on_introduced(
        &mut self,
        at: HostPort,
        tier: Tier,
        result: Result<NodeId, String>,
        peers: &mut Peers,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(flight) = self.flying.remove(&at) else { return };
        match (flight.expected, result) {
            (Some(expected), result) => peers.on_felt(expected, &at, result, now, out),
            (None, Ok(id)) => peers.on_introduced(id, at, tier, now, out),
            (None, Err(_)) => {} // its tier names it again, if it is worth it
        }
        self.stir(now.mono);
    }

    /// Does whatever is due.
    pub(super) fn run(
        &mut self,
        peers: &mut Peers,
        is_behind: impl Fn(&NodeId) -> bool,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(started) = self.started else { return };
        let is_due = self.wake.is_some_and(|wake| wake <= now.mono);
        if !is_due && !std::mem::take(&mut self.is_touched) {
            return;
        }
        self.wake = None;
        self.heal(peers, now, out);
        if !self.tiers.is_any_on() {
            return;
        }
        let slots = peers.slots();
        self.ask(slots, started, peers.has_manual(), now.mono, out);
        self.introduce(peers, now, out);
        self.fill(slots, peers, now, out);
        self.feel(peers, now, out);
        peers.release(self.target, is_behind, out);
        if self.tiers.exchange {
            peers.exchange_due(now.mono, out);
            self.wake_at(peers.next_exchange());
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.wake
    }

    fn wake_at(&mut self, moment: Option<Mono>) {
        self.wake = [self.wake, moment].into_iter().flatten().min();
    }

    fn ask(&mut self, slots: Slots, started: Mono, has_manual: bool, now: Mono, out: &mut Vec<Output>) {
        if slots.standing >= self.target {
            self.dns.rest(now + DNS_LATER);
            self.seeds.rest(now + SEEDS_LATER);
            return;
        }
        if self.tiers.dns {
            self.dns.give_up(now);
            if !self.dns.is_owed() && self.dns.next <= now {
                self.dns.ask(Tier::Dns, now, &mut self.rng, out);
            }
            self.wake_at(Some(self.dns.asked.map_or(self.dns.next, |asked| asked + ANSWER_MAX)));
        }
        if self.tiers.seeds {
            self.seeds.give_up(now);
            let due = self.seeds_due(slots.standing, started, has_manual);
            if !self.seeds.is_owed() && due <= now {
                self.seeds.ask(Tier::Seed, now, &mut self.rng, out);
            }
            let next = if self.seeds.asks > 0 { self.seeds.next } else { due };
            self.wake_at(Some(self.seeds.asked.map_or(next, |asked| asked + ANSWER_MAX)));
        }
    }

    /// When seeds are asked, if nothing changes until then.
    fn seeds_due(&self, standing: usize, started: Mono, has_manual: bool) -> Mono {
        let has_no_dns = !self.tiers.dns || self.dns.failed;
        match standing {
            _ if self.seeds.asks > 0 => self.seeds.next,
            0 if has_no_dns && !has_manual => started,
            0 => self.seeds.next.min(started + SEEDS_AFTER),
            _ => self.seeds.next,
        }
    }

    pub(super) fn search(&self, peers: &Peers) -> Search {
        let standing = peers.slots().standing;
        let due = |is_on: bool, asking: &Asking, at: Option<Mono>| match at {
            _ if !is_on => Due::Off,
            _ if asking.is_owed() => Due::Asked,
            Some(at) if standing < self.target => Due::At(at),
            _ => Due::Resting,
        };
        let seeds_at = self.started.map(|started| self.seeds_due(standing, started, peers.has_manual()));
        let exchange = match peers.next_exchange() {
            _ if !self.tiers.exchange => Due::Off,
            Some(at) => Due::At(at),
            None => Due::Resting,
        };
        Search {
            wanted: self.target,
            standing,
            dns: due(self.tiers.dns, &self.dns, self.started.map(|_| self.dns.next)),
            seeds: due(self.tiers.seeds, &self.seeds, seeds_at),
            exchange,
        }
    }

    fn introduce(&mut self, peers: &mut Peers, now: Now, out: &mut Vec<Output>) {
        let late = self.flying.extract_if(.., |_, flight| now.mono.since(flight.since) >= ANSWER_MAX);
        let late: Vec<(HostPort, Flight)> = late.collect();
        for (at, flight) in late {
            if let Some(id) = flight.expected {
                peers.on_felt(id, &at, Err(String::from("no answer in time")), now, out);
            }
        }
        while self.flying.len() < INTRODUCTIONS_MAX
            && let Some((at, tier)) = self.waiting.pop_front()
        {
            if peers.allows(&at) {
                self.send(at, tier, None, Word::Near, now.mono, out); // the operator named the tier
            }
        }
        let oldest = self.flying.values().map(|flight| flight.since + ANSWER_MAX).min();
        self.wake_at(oldest);
    }

    fn send(
        &mut self,
        at: HostPort,
        tier: Tier,
        expected: Option<NodeId>,
        word: Word,
        now: Mono,
        out: &mut Vec<Output>,
    ) {
        self.flying.insert(at.clone(), Flight { expected, since: now });
        out.push(Output::Introduce { at, tier, word });
    }

    /// Dials for the free slots, several at once: most addresses of a mesh are out of date.
    fn fill(&mut self, slots: Slots, peers: &mut Peers, now: Now, out: &mut Vec<Output>) {
        let (mut standing, mut coming) = (slots.standing, slots.coming);
        if standing + coming >= self.target || !peers.has_book() {
            return;
        }
        while self.pick_at <= now.mono && standing + coming < self.target && coming < PROBES_MAX {
            match peers.choose(self.target, self.tiers.seeds, now, out) {
                Some(Choice::Dialled) => coming += 1,
                Some(Choice::Taken) => standing += 1,
                None => {
                    self.pick_at = now.mono + PICK_PAUSE.saturating_mul(1 << self.idle.min(4));
                    self.idle = self.idle.saturating_add(1);
                }
            }
        }
        if standing + coming < self.target && coming < PROBES_MAX {
            self.wake_at(Some(self.pick_at));
        }
    }

    /// A feeler now and then keeps the table true without costing anybody a connection.
    fn feel(&mut self, peers: &mut Peers, now: Now, out: &mut Vec<Output>) {
        if !peers.has_book() || self.target == 0 {
            return;
        }
        let is_feeling = self.flying.values().any(|flight| flight.expected.is_some());
        if self.feel_at <= now.mono && !is_feeling && self.flying.len() < INTRODUCTIONS_MAX {
            let mean = if peers.verified(now.wall) < FEW_VERIFIED { FEELER_HURRY } else { FEELER_EVERY };
            let pause = mean.mul_f64(-(1.0 - self.rng.f64()).ln().max(-5.0));
            self.feel_at = now.mono + pause.max(PICK_PAUSE);
            if let Some((id, at, word)) = peers.feel(now, out) {
                if self.flying.contains_key(&at) {
                    peers.spare(&id, self.feel_at); // its address is being dialled already
                } else {
                    self.send(at, Tier::Exchange, Some(id), word, now.mono, out);
                }
            }
        }
        if self.feel_at > now.mono {
            self.wake_at(Some(self.feel_at));
        }
    }

    fn heal(&mut self, peers: &mut Peers, now: Now, out: &mut Vec<Output>) {
        if self.heal_at <= now.mono {
            self.heal_at = now.mono + by_chance(&mut self.rng, HEAL_EVERY.0, HEAL_EVERY.1);
            peers.tidy(now, out);
            peers.heal(now, out);
        }
        if peers.misses_somebody() {
            self.wake_at(Some(self.heal_at));
        }
    }
}
