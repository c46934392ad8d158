//! The peers this node knows: who they are, where they are, whether a lane to them stands.
//!
//! | state | enter | leave |
//! |---|---|---|
//! | dialling | added, called on by it, or backoff over | lane stands → connected; failed → backoff |
//! | connected | hello answered and records exchanged | lane broken → backoff |
//! | backoff(n) | failures | `rand(0, min(max, 1 s·2^n))`, or it calls on us → dialling |
//! | waiting | nowhere to dial | it gives an address → dialling |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::duty::{Duty, Position};
use super::interest::InterestIndex;
use super::params::{AWAY_MAX, DIAL_PAUSE, NEWCOMER_EVERY, NEWCOMERS_MAX, Params};
use super::ports::{Entry, LaneId, Note, Origin, Output, SavedPeer, Seq};
use crate::time::{Mono, Now, Wall};
use crate::wire::{EventType, HostPort, NodeId, Pattern, Profile, Record, Verified};

/// The table, and the index of who wants what.
pub(super) struct Peers {
    me: NodeId,
    position: Position,
    table: BTreeMap<NodeId, Peer>,
    index: InterestIndex,
    rng: fastrand::Rng,
    next_lane: u64,
    rules: Rules,
    newcomers: Newcomers,
    changed: bool,
    joined: bool,
    neighbours_changed: bool,
    forgotten: Vec<NodeId>,
}

/// How many more may come by themselves now.
struct Newcomers {
    left: u32,
    since: Mono,
}

impl Newcomers {
    fn admit(&mut self, now: Mono) -> bool {
        let every = NEWCOMER_EVERY.as_micros();
        let more = now.since(self.since).as_micros() / every;
        if more > 0 {
            self.left = self.left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(NEWCOMERS_MAX);
            self.since = now;
        }
        let admitted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        admitted
    }
}

struct Rules {
    profile: Profile,
    allow: BTreeSet<NodeId>,
    firehose: BTreeSet<NodeId>,
    peers_max: usize,
    backoff_max: Duration,
    backoff_manual_max: Duration,
    steady_after: Duration,
}

/// One peer.
pub(super) struct Peer {
    pub(super) origin: Origin,
    pub(super) alias: Option<String>,
    /// Where a person said it is.
    pub(super) typed: Vec<HostPort>,
    pub(super) record: Option<Verified<Record>>,
    pub(super) state: State,
    pub(super) rtt: Option<Duration>,
    pub(super) since: Wall,
    pub(super) seen: Option<Wall>,
    pub(super) events_in: u64,
    /// A lane to it stood once, in this life or an earlier one.
    proven: bool,
    position: Position,
    failures: u32,
    last_dial: Option<Mono>,
}

/// Where a peer stands; named for what it waits for.
#[derive(Clone, Debug)]
pub(super) enum State {
    Dialling { lane: LaneId },
    Connected { lane: LaneId, since: Mono },
    Backoff { until: Mono, why: String },
    Waiting,
}

/// Does a peer want an entry from us?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Want {
    Yes,
    No,
    /// It would have, but the event expired.
    Expired,
    /// Its patterns are not known, or were so long ago that they do not count.
    Unknown,
}

impl Peers {
    pub(super) fn new(me: NodeId, params: &Params, seed: u64) -> Peers {
        Peers {
            me,
            position: Position::of(&me),
            table: BTreeMap::new(),
            index: InterestIndex::default(),
            rng: fastrand::Rng::with_seed(seed),
            next_lane: 0,
            rules: Rules {
                profile: params.profile,
                allow: params.allow.clone(),
                firehose: params.firehose.clone(),
                peers_max: params.peers_max,
                backoff_max: params.backoff_max,
                backoff_manual_max: params.backoff_manual_max,
                steady_after: params.steady_after,
            },
            newcomers: Newcomers { left: NEWCOMERS_MAX, since: Mono(0) },
            changed: false,
            joined: false,
            neighbours_changed: false,
            forgotten: Vec::new(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeId, &Peer)> {
        self.table.iter()
    }

    pub(super) fn restore(&mut self, saved: SavedPeer) {
        let SavedPeer { id, origin, alias, addresses, record, proven, since, seen, .. } = saved;
        if origin == Origin::Inbound && self.is_closed_to(&id) {
            self.forgotten.push(id); // the mesh became private meanwhile
            return;
        }
        let mut peer = Peer::new(id, origin, since);
        (peer.alias, peer.typed, peer.proven, peer.seen) = (alias, addresses, proven, seen);
        self.table.insert(id, peer);
        if let Some(record) = record {
            self.take_record(record);
        }
        self.neighbours_changed = true;
        self.changed = false; // the file says so already
    }

    /// The operator changed who may take part. Whoever came by himself and is not among them now is
    /// forgotten, as he would be after a restart; who was typed in stays.
    pub(super) fn on_members(
        &mut self,
        allow: BTreeSet<NodeId>,
        firehose: BTreeSet<NodeId>,
        peers_max: usize,
        out: &mut Vec<Output>,
    ) {
        (self.rules.allow, self.rules.firehose, self.rules.peers_max) = (allow, firehose, peers_max);
        let is_out = |(id, peer): &(&NodeId, &Peer)| peer.origin == Origin::Inbound && self.is_closed_to(id);
        let out_now: Vec<NodeId> = self.table.iter().filter(is_out).map(|(id, _)| *id).collect();
        for id in out_now {
            self.forget(id, out);
        }
        for (id, peer) in &self.table {
            let Some(record) = &peer.record else { continue };
            self.index.remove(id);
            self.index.insert(*id, &record.interests, self.is_served_everything(id, peer.origin));
        }
    }

    /// A node proved its key and gave its own record. True when it is new here.
    pub(super) fn on_met(&mut self, record: Verified<Record>, now: Now, out: &mut Vec<Output>) -> bool {
        let id = record.id();
        if id == self.me || self.is_closed_to(&id) {
            return false;
        }
        let is_new = !self.table.contains_key(&id);
        if is_new {
            if !self.newcomers.admit(now.mono) || !self.make_room(now.wall, out) {
                return false;
            }
            self.table.insert(id, Peer::new(id, Origin::Inbound, now.wall));
            self.joined = true;
        }
        self.table.get_mut(&id).expect("known or just added").seen = Some(now.wall);
        self.take_record(record);
        is_new
    }

    /// Somebody carried a newer record of a peer to us.
    pub(super) fn on_record_heard(&mut self, record: Verified<Record>) {
        if self.table.contains_key(&record.id()) {
            self.take_record(record);
        }
    }

    fn take_record(&mut self, record: Verified<Record>) {
        let id = record.id();
        let Some(peer) = self.table.get_mut(&id) else { return };
        if peer.record.as_ref().is_some_and(|known| !record.supersedes(known)) {
            return;
        }
        let firehose = peer.origin == Origin::Manual || self.rules.firehose.contains(&id);
        self.index.remove(&id);
        self.index.insert(id, &record.interests, firehose);
        if matches!(peer.state, State::Waiting) {
            peer.state = State::dial_at(Mono(0));
        }
        peer.record = Some(record);
        self.changed = true;
    }

    /// Drops one that came by itself and is away: the youngest that never had a lane, so that a crowd
    /// of strangers pushes out strangers, else one that is away so long that nothing is owed to it.
    fn make_room(&mut self, now: Wall, out: &mut Vec<Output>) -> bool {
        if self.table.len() < self.rules.peers_max {
            return true;
        }
        let is_away = |peer: &Peer| matches!(peer.state, State::Backoff { .. } | State::Waiting);
        let candidates = || self.table.iter().filter(|(_, peer)| peer.origin == Origin::Inbound && is_away(peer));
        let strangers = candidates().filter(|(_, peer)| !peer.proven);
        let is_gone = |peer: &Peer| peer.seen.is_none_or(|seen| now.since(seen) > AWAY_MAX);
        let gone = candidates().filter(|(_, peer)| is_gone(peer));
        let chosen = strangers.max_by_key(|(_, peer)| peer.since).or_else(|| gone.min_by_key(|(_, peer)| peer.seen));
        let Some(id) = chosen.map(|(id, _)| *id) else { return false };
        self.forget(id, out);
        true
    }

    fn forget(&mut self, id: NodeId, out: &mut Vec<Output>) {
        let Some(peer) = self.table.remove(&id) else { return };
        if let State::Dialling { lane } | State::Connected { lane, .. } = peer.state {
            out.push(Output::Hangup { lane, peer: id });
        }
        self.index.remove(&id);
        self.forgotten.push(id);
        self.changed = true;
        self.neighbours_changed = true;
    }

    /// A node called on us. If we were waiting for it, the wait is over; a stranger that never let itself
    /// be dialled does not hurry us.
    pub(super) fn on_contact(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.table.get_mut(&id) else { return };
        peer.seen = Some(now.wall);
        if let State::Backoff { until, .. } = &mut peer.state
            && (peer.proven || peer.origin == Origin::Manual)
        {
            let soonest = peer.last_dial.map_or(now.mono, |dialled| dialled + DIAL_PAUSE).max(now.mono);
            *until = soonest.min(*until);
        }
    }

    pub(super) fn on_added(
        &mut self,
        id: NodeId,
        at: HostPort,
        alias: Option<String>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        if !self.table.contains_key(&id) {
            self.make_room(now.wall, out); // a manual peer gets in even when nobody can be dropped
        }
        if let Some(alias) = &alias {
            // Whoever was typed in last is called so: a name means one peer.
            let others = self.table.iter_mut().filter(|(other, _)| **other != id).map(|(_, peer)| peer);
            others.filter(|peer| peer.alias.as_ref() == Some(alias)).for_each(|peer| peer.alias = None);
        }
        let peer = self.table.entry(id).or_insert_with(|| Peer::new(id, Origin::Manual, now.wall));
        let moved = peer.typed != [at.clone()];
        peer.origin = Origin::Manual;
        peer.typed = vec![at];
        peer.alias = alias.or(peer.alias.take());
        if moved && !matches!(peer.state, State::Connected { .. }) {
            if let State::Dialling { lane } = peer.state {
                out.push(Output::Hangup { lane, peer: id });
            }
            peer.failures = 0;
            peer.state = State::dial_at(now.mono);
        }
        if let Some(record) = &peer.record {
            self.index.remove(&id);
            self.index.insert(id, &record.interests, true);
        }
        self.changed = true;
        self.neighbours_changed = true;
    }

    pub(super) fn on_named(&mut self, id: &NodeId, alias: Option<String>) {
        if let Some(peer) = self.table.get_mut(id) {
            peer.alias = alias;
        }
    }

    pub(super) fn on_removed(&mut self, id: NodeId, out: &mut Vec<Output>) {
        self.forget(id, out);
    }

    /// True when this is the lane we wait for.
    pub(super) fn on_connected(
        &mut self,
        id: NodeId,
        lane: LaneId,
        rtt: Duration,
        now: Now,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(peer) = self.table.get_mut(&id) else { return false };
        if !matches!(peer.state, State::Dialling { lane: expected } if expected == lane) {
            return false;
        }
        peer.state = State::Connected { lane, since: now.mono };
        (peer.rtt, peer.seen) = (Some(rtt), Some(now.wall));
        self.changed |= !std::mem::replace(&mut peer.proven, true);
        self.neighbours_changed = true;
        out.push(Output::Note(Note::PeerConnected(id)));
        true
    }

    /// True when this was the lane in use.
    pub(super) fn on_broken(&mut self, id: NodeId, lane: LaneId, why: String, now: Now, out: &mut Vec<Output>) -> bool {
        let Some(peer) = self.table.get_mut(&id) else { return false };
        match peer.state {
            State::Dialling { lane: current } if current == lane => {}
            State::Connected { lane: current, since } if current == lane => {
                if now.mono.since(since) >= self.rules.steady_after {
                    peer.failures = 0;
                }
            }
            _ => return false,
        }
        let longest = match peer.origin {
            Origin::Manual => self.rules.backoff_manual_max,
            Origin::Inbound => self.rules.backoff_max,
        };
        let cap = longest.min(Duration::from_secs(1 << peer.failures.min(20)));
        let wait = Duration::from_micros(self.rng.u64(0..=u64::try_from(cap.as_micros()).unwrap_or(u64::MAX)));
        peer.failures = peer.failures.saturating_add(1);
        peer.state = State::Backoff { until: now.mono + wait, why: why.clone() };
        self.neighbours_changed = true;
        out.push(Output::Note(Note::PeerBackoff { peer: id, why, retry: wait }));
        true
    }

    pub(super) fn on_pong(&mut self, id: NodeId, rtt: Duration, now: Now) {
        if let Some(peer) = self.table.get_mut(&id) {
            (peer.rtt, peer.seen) = (Some(rtt), Some(now.wall));
        }
    }

    pub(super) fn on_answered(&mut self, id: NodeId, now: Now) {
        if let Some(peer) = self.table.get_mut(&id) {
            peer.seen = Some(now.wall);
        }
    }

    pub(super) fn count_in(&mut self, id: &NodeId) {
        if let Some(peer) = self.table.get_mut(id) {
            peer.events_in += 1;
        }
    }

    /// Dials everybody whose time has come.
    pub(super) fn dial_due(&mut self, now: Now, out: &mut Vec<Output>) {
        for (id, peer) in &mut self.table {
            if !matches!(&peer.state, State::Backoff { until, .. } if *until <= now.mono) {
                continue;
            }
            let Some((at, by_hand)) = peer.next_address(self.rules.profile) else {
                peer.state = State::Waiting;
                continue;
            };
            let lane = LaneId(self.next_lane);
            self.next_lane += 1;
            peer.state = State::Dialling { lane };
            peer.last_dial = Some(now.mono);
            out.push(Output::Dial { peer: *id, lane, at, by_hand });
        }
    }

    pub(super) fn hang_up_all(&mut self, out: &mut Vec<Output>) {
        for (id, peer) in &self.table {
            if let State::Dialling { lane } | State::Connected { lane, .. } = peer.state {
                out.push(Output::Hangup { lane, peer: *id });
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let until = |peer: &Peer| match peer.state {
            State::Backoff { until, .. } => Some(until),
            _ => None,
        };
        self.table.values().filter_map(until).min()
    }

    fn is_closed_to(&self, id: &NodeId) -> bool {
        !self.rules.allow.is_empty() && !self.rules.allow.contains(id)
    }

    /// Do we hold a living record of it?
    pub(super) fn is_acquainted(&self, id: &NodeId, now: Wall) -> bool {
        self.table.get(id).and_then(|peer| peer.record.as_ref()).is_some_and(|record| now < record.expires())
    }

    /// May this neighbour ask us to carry its events on?
    pub(super) fn gives_duty(&self, id: &NodeId, now: Wall) -> bool {
        self.is_acquainted(id, now)
    }

    /// What we answer for with this entry.
    pub(super) fn duty(&self, entry: &Entry) -> Option<Duty> {
        Duty::of(&self.me, &self.position, entry)
    }

    /// Does this peer want this entry, from us?
    pub(super) fn wants(
        &self,
        id: &NodeId,
        entry: &Entry,
        duty: Option<Duty>,
        now: Wall,
        is_interested: impl FnOnce() -> bool,
    ) -> Want {
        let (Some(peer), Some(duty)) = (self.table.get(id), duty) else { return Want::No };
        let event = entry.envelope.event();
        let is_giver = entry.from == Some(*id) || event.source == *id;
        if is_giver || event.kind.is_reserved() || self.is_closed_to(id) || !duty.covers(&peer.position) {
            return Want::No;
        }
        if event.to.is_empty() && !self.is_acquainted(id, now) {
            return Want::Unknown;
        }
        let wanted = if event.to.is_empty() { is_interested() } else { event.to.contains(id) };
        match (wanted, event.is_alive(now)) {
            (true, true) => Want::Yes,
            (true, false) => Want::Expired,
            (false, _) => Want::No,
        }
    }

    /// Everybody who wants this type, by their patterns: asked once for an event.
    pub(super) fn interested(&self, kind: &EventType) -> BTreeSet<NodeId> {
        self.index.interested(kind)
    }

    /// Does this one peer want this type, by its patterns?
    pub(super) fn is_interested(&self, id: &NodeId, kind: &EventType) -> bool {
        self.table.get(id).is_some_and(|peer| {
            let serves = |pattern: &&Pattern| !pattern.is_firehose() || self.is_served_everything(id, peer.origin);
            let patterns = peer.record.iter().flat_map(|record| record.interests.patterns());
            patterns.filter(serves).any(|pattern| pattern.matches(kind))
        })
    }

    fn is_served_everything(&self, id: &NodeId, origin: Origin) -> bool {
        origin == Origin::Manual || self.rules.firehose.contains(id)
    }

    pub(super) fn is_manual(&self, id: &NodeId) -> bool {
        self.table.get(id).is_some_and(|peer| peer.origin == Origin::Manual)
    }

    /// Is this node in the table?
    pub(super) fn knows(&self, id: &NodeId) -> bool {
        self.table.contains_key(id)
    }

    /// The table as the peer file keeps it.
    pub(super) fn saved(&self, settled: impl Fn(&NodeId) -> Seq) -> Vec<SavedPeer> {
        let save = |(id, peer): (&NodeId, &Peer)| SavedPeer {
            id: *id,
            origin: peer.origin,
            alias: peer.alias.clone(),
            addresses: peer.typed.clone(),
            record: peer.record.clone(),
            proven: peer.proven,
            cursor: Some(settled(id)),
            since: peer.since,
            seen: peer.seen,
        };
        self.table.iter().map(save).collect()
    }

    /// Everybody that gets the rates of a known peer.
    pub(super) fn neighbours(&self) -> BTreeSet<NodeId> {
        let is_one = |peer: &Peer| peer.origin == Origin::Manual || matches!(peer.state, State::Connected { .. });
        self.table.iter().filter(|(_, peer)| is_one(peer)).map(|(id, _)| *id).collect()
    }

    /// True once after the table changed in what the peer file keeps.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// True once after somebody came into the table by itself: to be saved before it is owed anything.
    pub(super) fn take_joined(&mut self) -> bool {
        std::mem::take(&mut self.joined)
    }

    pub(super) fn take_neighbours_changed(&mut self) -> bool {
        std::mem::take(&mut self.neighbours_changed)
    }

    /// Peers dropped since the last call.
    pub(super) fn take_forgotten(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.forgotten)
    }
}

impl State {
    fn dial_at(until: Mono) -> State {
        State::Backoff { until, why: String::from("not dialled yet") }
    }
}

impl Peer {
    fn new(id: NodeId, origin: Origin, since: Wall) -> Peer {
        Peer {
            origin,
            alias: None,
            typed: Vec::new(),
            record: None,
            state: State::dial_at(Mono(0)),
            rtt: None,
            since,
            seen: None,
            events_in: 0,
            proven: false,
            position: Position::of(&id),
            failures: 0,
            last_dial: None,
        }
    }

    /// Addresses that its record names and the policy lets us dial.
    fn told(&self, profile: Profile) -> Vec<HostPort> {
        let told = self.record.iter().flat_map(|record| &record.addresses);
        told.filter(|at| profile.allows_host(at).is_ok()).cloned().collect()
    }

    /// Where to dial next, and whether a person typed it. What was typed comes first; every other
    /// failure tries what the peer itself says.
    fn next_address(&self, profile: Profile) -> Option<(Vec<HostPort>, bool)> {
        let told = self.told(profile);
        let typed_turn = !self.typed.is_empty() && (self.failures.is_multiple_of(2) || told.is_empty());
        if typed_turn {
            return Some((self.typed.clone(), true));
        }
        (!told.is_empty()).then_some((told, false))
    }

    /// Every address worth showing.
    pub(super) fn addresses(&self) -> Vec<HostPort> {
        let told = self.record.iter().flat_map(|record| record.addresses.clone());
        let mut all = self.typed.clone();
        for at in told {
            if !all.contains(&at) {
                all.push(at);
            }
        }
        all
    }
}
