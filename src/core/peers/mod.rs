//! The nodes this one knows: its peers, to which it keeps lanes and owes events, and the book of
//! everybody else it heard of.
//!
//! A link between two nodes is a pair of lanes, one each way, each made by the node that sends on it. So
//! nobody decides who of two may dial: whoever wants to, does, and when both do at once both lanes stay
//! and carry one direction each. What must be unique is one lane per direction, and its maker alone
//! sees to that: a newer lane replaces the older one, and reports of the older mean nothing ([`LaneId`]).
//! Both sides come to the same end whatever each of them knows of the other.
//!
//! [`state`] draws the states, [`lanes`] makes and loses lanes, [`room`] and [`doors`] say who gets in,
//! [`shunned`] who is not listened to, [`book`], [`known`] and [`buckets`] remember everybody else, [`own`] knows
//! where we are ourselves, [`wanting`] who wants what, and [`search`] is what the scheduler,
//! [`super::discovery`], asks.

mod book;
mod buckets;
mod doors;
mod known;
mod lanes;
mod leaving;
mod own;
mod peer;
mod places;
mod reach;
mod room;
mod search;
mod shunned;
mod state;
mod wanting;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::note::Note;
use super::params::{Accept, DIAL_PAUSE, Params};
use super::ports::{LaneId, Origin, Output, SavedPeer, Seq, Welcome};
use super::position::Position;
use super::roster::Roster;
use super::tier::Tier;
use crate::time::{Mono, Now, Wall};
use crate::wire::{HostPort, NodeId, Profile, Record, Verified, Word};

use book::Book;
pub(super) use known::Known;
use own::Own;
pub(super) use peer::Peer;
pub(super) use reach::Reach;
use room::Newcomers;
pub(super) use search::{Choice, Slots};
use shunned::Shunned;
pub(super) use state::State;
use state::{Luck, Turns};
pub use state::{Standing, Turn};
pub(super) use wanting::Want;

/// The table, the book, and the roster of who wants what.
pub(super) struct Peers {
    me: NodeId,
    position: Position,
    table: BTreeMap<NodeId, Peer>,
    book: Book,
    own: Own,
    turns: Turns,
    roster: Roster,
    rng: fastrand::Rng,
    next_lane: u64,
    rules: Rules,
    luck: Luck,
    newcomers: Newcomers,
    shunned: Shunned,
    changed: bool,
    joined: bool,
    neighbours_changed: bool,
    forgotten: Vec<NodeId>,
    cut: Vec<NodeId>,
    /// Peers to which events are owed anew.
    welcomed: Vec<NodeId>,
}

/// Who may take part, as the operator may change it.
pub(super) struct Members {
    pub(super) allow: BTreeSet<NodeId>,
    pub(super) firehose: BTreeSet<NodeId>,
    pub(super) peers_max: usize,
    pub(super) min_peers: usize,
    pub(super) accept: Accept,
}

struct Rules {
    profile: Profile,
    allow: BTreeSet<NodeId>,
    firehose: BTreeSet<NodeId>,
    accept: Accept,
    peers_max: usize,
    /// Places kept for nodes of our own choice.
    kept: usize,
    /// Is anybody looked for at all?
    is_seeking: bool,
    backoff_max: Duration,
    backoff_manual_max: Duration,
    steady_after: Duration,
}

impl Peers {
    pub(super) fn new(me: NodeId, params: &Params, seed: u64) -> Peers {
        Peers {
            me,
            position: Position::of(&me),
            table: BTreeMap::new(),
            book: Book::new(secret(seed)),
            own: Own::new(params.own.clone()),
            turns: Turns::default(),
            roster: Roster::default(),
            rng: fastrand::Rng::with_seed(seed),
            next_lane: 0,
            rules: Rules {
                profile: params.profile,
                allow: params.allow.clone(),
                firehose: params.firehose.clone(),
                accept: params.accept,
                peers_max: params.peers_max,
                kept: kept(params.tiers.is_any_on(), params.min_peers, params.peers_max),
                is_seeking: params.tiers.is_any_on(),
                backoff_max: params.backoff_max,
                backoff_manual_max: params.backoff_manual_max,
                steady_after: params.steady_after,
            },
            luck: Luck::default(),
            newcomers: Newcomers::default(),
            shunned: Shunned::default(),
            changed: false,
            joined: false,
            neighbours_changed: false,
            forgotten: Vec::new(),
            cut: Vec::new(),
            welcomed: Vec::new(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeId, &Peer)> {
        self.table.iter()
    }

    pub(super) fn restore(&mut self, saved: SavedPeer, now: Now) {
        let SavedPeer { id, origin, welcome, alias, addresses, record, proven, since, seen, near, .. } = saved;
        if origin != Origin::Manual && self.is_closed_to(&id) {
            self.forgotten.push(id); // the mesh became private meanwhile
            return;
        }
        let mut peer = Peer::new(id, origin, since);
        (peer.alias, peer.typed, peer.proven, peer.seen) = (alias, addresses, proven, seen);
        peer.welcome = if welcome == Welcome::Asks { self.welcome(&id) } else { welcome };
        peer.was = if near { Word::Near } else { Word::Far };
        if origin == Origin::Found {
            (peer.chosen, peer.root) = (true, Tier::Anchor);
        }
        let is_exempt = origin == Origin::Manual && !self.is_blocked(&id);
        if let Some(ban) = self.shunned.get(&id, now.wall).filter(|_| !is_exempt) {
            peer.chosen = false;
            peer.state = ban.state(now);
        }
        self.table.insert(id, peer);
        if let Some(record) = record {
            self.take_record(record, now.wall);
            self.roster.known_since(&id, since);
        }
        self.neighbours_changed = true;
        self.changed = false; // the file says so already
    }

    /// The operator changed who may take part. Whoever came by himself and is not among them now is
    /// forgotten, as he would be after a restart; who was typed in stays.
    pub(super) fn on_members(&mut self, members: Members, now: Now, out: &mut Vec<Output>) {
        let Members { allow, firehose, peers_max, min_peers, accept } = members;
        (self.rules.allow, self.rules.peers_max) = (allow, peers_max);
        (self.rules.kept, self.rules.accept) = (kept(self.rules.is_seeking, min_peers, peers_max), accept);
        let is_out = |(id, peer): &(&NodeId, &Peer)| peer.origin != Origin::Manual && self.is_closed_to(id);
        let out_now: Vec<NodeId> = self.table.iter().filter(is_out).map(|(id, _)| *id).collect();
        for id in out_now {
            self.forget(id, "it is not in trust.allow", out);
        }
        let strangers: Vec<NodeId> = self.book.iter().map(|(id, _)| *id).filter(|id| self.is_closed_to(id)).collect();
        for id in strangers {
            self.strike_out(&id, out);
        }
        self.accept_waiting(now);
        self.serve_everything_to(firehose);
        self.enrol_all(now.wall);
    }

    /// A peer spoke to us, from near or far: what it says of addresses is worth as much from now on.
    pub(super) fn on_heard_from(&mut self, id: &NodeId, word: Word) {
        if let Some(peer) = self.table.get_mut(id) {
            peer.word = Some(word);
        }
    }

    /// A node proved its key and gave its own record. True when it is new here.
    pub(super) fn on_met(&mut self, record: Verified<Record>, word: Word, now: Now, out: &mut Vec<Output>) -> bool {
        let id = record.id();
        if id == self.me || self.is_closed_to(&id) {
            return false;
        }
        let is_new = !self.table.contains_key(&id);
        if is_new && !self.let_in(id, now, out) {
            return false;
        }
        let peer = self.table.get_mut(&id).expect("known or just added");
        (peer.seen, peer.word) = (Some(now.wall), Some(word));
        self.take_record(record, now.wall);
        is_new
    }

    /// A new peer: one that we are dialling for a lane, else a newcomer by itself.
    fn let_in(&mut self, id: NodeId, now: Now, out: &mut Vec<Output>) -> bool {
        let is_shut = self.book.get(&id).is_some_and(|known| !known.is_open(now.mono));
        if is_shut {
            return false;
        }
        let peer = match self.book.lane_to(&id) {
            Some(lane) => {
                if !self.make_room_by_choice(now.wall, out) {
                    return false;
                }
                let known = self.book.get_mut(&id).expect("a lane to it is on the way");
                known.probe = None;
                let (tier, root) = (known.tier, known.root);
                let state = State::Dialling { lane };
                Peer {
                    chosen: true,
                    state,
                    tier,
                    root,
                    last_dial: Some(now.mono),
                    ..Peer::new(id, Origin::Found, now.wall)
                }
            }
            None => {
                if !self.newcomers.admit(now.mono) || !self.make_room(now.wall, out) {
                    return false;
                }
                let welcome = self.welcome(&id);
                if welcome == Welcome::Asks {
                    self.turns.tell(id, Standing::Asking, "it came by itself", now.wall, out);
                }
                Peer { welcome, ..Peer::new(id, Origin::Inbound, now.wall) }
            }
        };
        self.table.insert(id, peer);
        self.joined = true;
        true
    }

    /// Somebody carried a newer record of a peer to us.
    pub(super) fn on_record_heard(&mut self, record: Verified<Record>, word: Word, now: Wall) {
        if let Some(peer) = self.table.get_mut(&record.id()) {
            peer.was = word;
            self.take_record(record, now);
        }
    }

    fn take_record(&mut self, record: Verified<Record>, now: Wall) {
        let id = record.id();
        self.enrol(&record, None, now); // a peer gives way to nobody there, whoever carried its record
        let Some(peer) = self.table.get_mut(&id) else { return };
        if peer.record.as_ref().is_some_and(|known| !record.supersedes(known)) {
            return;
        }
        let came_back = !record.bye && peer.has_left();
        if matches!(peer.state, State::Waiting) || (came_back && peer.state.is_away()) {
            peer.state = State::dial_at(Mono(0));
        }
        peer.record = Some(record);
        self.changed = true;
    }

    /// It is no peer any more, and no better known than others that were heard of.
    fn forget(&mut self, id: NodeId, why: &str, out: &mut Vec<Output>) {
        let Some(peer) = self.table.remove(&id) else { return };
        let is_verified = self.book.get(&id).is_some_and(|known| known.verified.is_some());
        let to = if is_verified { Standing::Verified } else { Standing::Heard };
        out.push(Output::Note(Note::PeerMoved { peer: id, to, why: why.to_owned() }));
        if let Some(lane) = peer.state.lane() {
            out.push(Output::Hangup { lane, peer: id });
        }
        if self.book.get(&id).is_none() {
            self.turns.forget(&id);
        }
        // Its record lives on as long as it says, and it is served as any stranger.
        self.roster.serve_everything(&id, self.rules.firehose.contains(&id));
        if self.is_closed_to(&id) {
            self.roster.remove(&id);
        }
        self.forgotten.push(id);
        self.changed = true;
        self.neighbours_changed = true;
    }

    /// Forgets a node of the book, a dial of it that is under way, and what became of it.
    fn strike_out(&mut self, id: &NodeId, out: &mut Vec<Output>) {
        self.cross_out(id, out);
        if !self.table.contains_key(id) {
            self.turns.forget(id);
        }
    }

    /// The same, but for what became of it.
    fn cross_out(&mut self, id: &NodeId, out: &mut Vec<Output>) {
        if let Some(lane) = self.book.lane_to(id) {
            out.push(Output::Hangup { lane, peer: *id });
        }
        self.book.remove(id);
    }

    /// A node called on us. If we were waiting for it, the wait is over; a stranger that never let itself
    /// be dialled does not hurry us, nor does one that is on its way out.
    pub(super) fn on_contact(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.table.get_mut(&id) else { return };
        peer.seen = Some(now.wall);
        if !(peer.proven || peer.origin == Origin::Manual) || peer.has_left() {
            return;
        }
        let soonest = peer.last_dial.map_or(now.mono, |dialled| dialled + DIAL_PAUSE).max(now.mono);
        match &mut peer.state {
            State::Backoff { until, .. } | State::Suspect { until, .. } => *until = soonest.min(*until),
            State::Dead { why, .. } => peer.state = State::Backoff { until: soonest, why: std::mem::take(why) },
            _ => {}
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
        self.strike_out(&id, out); // it stands beside the book from now on
        if let Some(alias) = &alias {
            // Whoever was typed in last is called so: a name means one peer.
            let others = self.table.iter_mut().filter(|(other, _)| **other != id).map(|(_, peer)| peer);
            others.filter(|peer| peer.alias.as_ref() == Some(alias)).for_each(|peer| peer.alias = None);
        }
        let peer = self.table.entry(id).or_insert_with(|| Peer::new(id, Origin::Manual, now.wall));
        // Whoever types in one that left thinks that it is back.
        let moved = peer.typed != [at.clone()] || peer.has_left();
        (peer.origin, peer.welcome) = (Origin::Manual, Welcome::Open);
        (peer.tier, peer.root) = (Tier::Manual, Tier::Manual);
        peer.typed = vec![at];
        peer.alias = alias.or(peer.alias.take());
        if moved && !peer.is_connected() && !peer.is_blocked() {
            if let Some(lane) = peer.state.lane() {
                out.push(Output::Hangup { lane, peer: id });
            }
            peer.tally = state::Tally::default();
            peer.state = State::dial_at(now.mono);
        }
        match peer.record.clone() {
            Some(record) => self.enrol(&record, None, now.wall),
            None => self.roster.serve_everything(&id, true),
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
        self.forget(id, "it was removed by hand", out);
        self.strike_out(&id, out);
        self.roster.remove(&id);
    }

    pub(super) fn count_in(&mut self, id: &NodeId) {
        if let Some(peer) = self.table.get_mut(id) {
            peer.events_in += 1;
        }
    }

    pub(super) fn is_closed_to(&self, id: &NodeId) -> bool {
        !self.rules.allow.is_empty() && !self.rules.allow.contains(id)
    }

    pub(super) fn is_manual(&self, id: &NodeId) -> bool {
        self.table.get(id).is_some_and(|peer| peer.origin == Origin::Manual)
    }

    pub(super) fn alias(&self, id: &NodeId) -> Option<&str> {
        self.table.get(id)?.alias.as_deref()
    }

    /// Typed in, or a lane to it stood once.
    pub(super) fn is_familiar(&self, id: &NodeId) -> bool {
        self.table.get(id).is_some_and(|peer| peer.proven || peer.origin == Origin::Manual)
    }

    /// The newest record that we keep of a node.
    pub(super) fn record_of(&self, id: &NodeId) -> Option<&Verified<Record>> {
        let of_peer = self.table.get(id).and_then(|peer| peer.record.as_ref());
        let known = of_peer.or_else(|| self.book.get(id).and_then(|known| known.record.as_ref()));
        known.or_else(|| self.roster.get(id).map(|member| &member.record))
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
            welcome: peer.welcome,
            proven: peer.proven,
            cursor: self.is_served(id).then(|| settled(id)),
            since: peer.since,
            seen: peer.seen,
            near: peer.is_near(),
        };
        self.table.iter().map(save).collect()
    }

    /// Everybody that gets the rates of a known peer.
    pub(super) fn neighbours(&self) -> BTreeSet<NodeId> {
        let is_one = |peer: &Peer| (peer.origin == Origin::Manual && !peer.is_blocked()) || peer.is_connected();
        self.table.iter().filter(|(_, peer)| is_one(peer)).map(|(id, _)| *id).collect()
    }

    /// What became of one node, the oldest first.
    pub(super) fn history(&self, id: &NodeId) -> Vec<Turn> {
        self.turns.of(id)
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

    /// Peers whose lane we closed, and that stay in the table, since the last call.
    pub(super) fn take_cut(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.cut)
    }

    pub(super) fn new_lane(&mut self) -> LaneId {
        let lane = LaneId(self.next_lane);
        self.next_lane += 1;
        lane
    }
}

/// Places of the table that are not given to whoever comes by himself.
fn kept(is_seeking: bool, min_peers: usize, peers_max: usize) -> usize {
    if is_seeking { min_peers.min(peers_max / 4) } else { 0 }
}

/// What orders the buckets, of this life alone. Apart from the generator of jitter: what that gives can be
/// watched from outside.
fn secret(seed: u64) -> [u8; 32] {
    let mut bytes = b"afferent-buckets".to_vec();
    bytes.extend_from_slice(&seed.to_be_bytes());
    *crate::wire::Digest::of(&bytes).as_bytes()
}
