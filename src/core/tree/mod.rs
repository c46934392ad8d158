//! The tree nobody has to build: how an event reaches more nodes than one serves alone
//! (4-dissemination.md, "Prefix duty").
//!
//! ```text
//!   duty for the prefix of p digits, S = the interested in it
//!     |S| small:  every one of them is served as a leaf
//!     else:       for each row r = p.. and each digit that is not ours: one delegate takes that bucket
//!   in either case those with an account are served by the [`Outbox`] too
//! ```
//!
//! A *task* is one line that one node has to take: a leaf, or a bucket that some delegate has to carry. It
//! ends when a node has the event durably, and its duty with it; when nobody takes it, the digest ring
//! and the nodes' own catching up are left to heal it. Tasks are not journaled one by one: a cursor says up
//! to where every duty is done, and a restart takes up what stands behind it.
//!
//! [`links`] makes lanes to nodes that are no peers, [`choice`] says who is a delegate, [`duties`] remembers what
//! was done of which event, [`budget`] what others may cost us.
//!
//! [`Outbox`]: super::outbox::Outbox

mod budget;
mod choice;
mod duties;
mod links;
mod resume;
mod sending;
mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::offset::SPREAD_MAX;
use super::params::{
    ACK_LEAST, ACK_MOST, APPEND_LATE, DELEGATES_MAX, DIAL_WAIT, DIRECT_BYTES_MAX, DIRECT_MAX, LEAF_RETRY,
    LEAF_RETRY_MOST, LEAVES_MAX, LINE_OVERHEAD, Params, REDELEGATE_WAIT, RESUME_AFTER, RESUMED_FOR, RESUMED_MAX,
    RETRY_LEAST, RETRY_MOST, RETRY_NO_CREDIT, RETRY_SCAN, TASKS_MAX,
};
use super::peers::{Peers, Reach};
use super::ports::{Entry, LaneId, Output, Page, PageError, SendError, Seq, ShipmentId, Stored};
use super::position::{DIGITS, Position, Prefix};
use crate::time::{Mono, Now, Wall};
use crate::wire::message::Receipt;
use crate::wire::{Digest, NodeId};

use budget::{Budget, Pace};
use choice::Candidates;
use duties::Duties;
use links::Links;
use resume::Resume;
use targets::Targets;

/// Shipments of the tree bear numbers from here on; those of accounts lie below.
const SHIPMENTS_FROM: u64 = 1 << 63;

/// What is said to a neighbour that asks us to carry on what we have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Again {
    /// It was carried as far already.
    Done,
    /// Nothing more is done for it: twice is enough, or it is not somebody's to ask, or it is too long ago.
    Refused,
    /// It is read again, to be carried further.
    Larger { seq: Seq, digits: u8 },
}

/// What became of tasks since start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TreeCounts {
    /// Buckets that a delegate took.
    pub delegated: u64,
    /// Lines that a node took for itself, beside those of accounts.
    pub leaves: u64,
    /// Buckets that were given to another delegate.
    pub reselected: u64,
    /// Tasks that nobody took: left to the ring.
    pub unserved: u64,
    /// Duties that were asked of us and not taken.
    pub refused: u64,
}

/// Every duty in hand.
pub(super) struct Tree {
    me: NodeId,
    position: Position,
    carried: BTreeMap<Seq, Carried>,
    tasks: BTreeMap<u64, Task>,
    /// When to look after which task.
    due: BTreeSet<(Mono, u64)>,
    /// Leaves that each node has not taken.
    leaves: BTreeMap<NodeId, usize>,
    targets: Targets,
    /// Nodes whose lane was closed here, to be looked after by the next `run`.
    pub(super) lost: Vec<NodeId>,
    links: Links,
    candidates: Candidates,
    duties: Duties,
    budget: Budget,
    pace: Pace,
    resume: Resume,
    next_task: u64,
    next_shipment: u64,
    /// Lines on their way to one node at most, and their bytes in one body.
    lines_max: usize,
    bytes_max: usize,
    cursor_every: u64,
    cursor_delay: Duration,
    pub(super) counts: TreeCounts,
    /// Answers whose question had its deadline before.
    pub(super) answers_late: u64,
}

/// One event with open tasks.
struct Carried {
    entry: Entry,
    leaf: Option<Bytes>,
    duty: Option<Bytes>,
    expires: Wall,
    /// Nothing is tried any more after it.
    until: Mono,
    open: usize,
}

impl Carried {
    fn line(&mut self, with_duty: bool) -> Bytes {
        let slot = if with_duty { &mut self.duty } else { &mut self.leaf };
        let entry = &self.entry;
        slot.get_or_insert_with(|| Bytes::from(entry.envelope.line(entry.hops + 1, with_duty))).clone()
    }
}

struct Task {
    seq: Seq,
    ask: Ask,
    /// Whose turn it is.
    to: NodeId,
    /// Delegates that were asked.
    tried: Vec<NodeId>,
    /// Times that a leaf did not take it.
    failures: u32,
    /// Too many buckets were given to others lately: this one waits for who was asked.
    is_last: bool,
    due: Mono,
}

#[derive(Clone, Copy)]
enum Ask {
    Leaf,
    Delegate(Prefix),
}

impl Tree {
    pub(super) fn new(me: NodeId, params: &Params) -> Tree {
        Tree {
            me,
            position: Position::of(&me),
            carried: BTreeMap::new(),
            tasks: BTreeMap::new(),
            due: BTreeSet::new(),
            leaves: BTreeMap::new(),
            targets: Targets::default(),
            lost: Vec::new(),
            links: Links::default(),
            candidates: Candidates::default(),
            duties: Duties::default(),
            budget: Budget::default(),
            pace: Pace::default(),
            resume: Resume::default(),
            next_task: 0,
            next_shipment: SHIPMENTS_FROM,
            lines_max: params.peer_queue_max,
            bytes_max: params.peer_queue_bytes_max,
            cursor_every: params.cursor_every,
            cursor_delay: params.cursor_delay,
            counts: TreeCounts::default(),
            answers_late: 0,
        }
    }

    /// Is this shipment one of the tree's?
    pub(super) fn owns(shipment: ShipmentId) -> bool {
        shipment.0 >= SHIPMENTS_FROM
    }

    /// May this neighbour give us a duty now?
    pub(super) fn takes_duty_from(&mut self, from: &NodeId, peers: &Peers, now: Now) -> bool {
        let takes = peers.is_open() && peers.gives_duty(from, now.wall) && self.budget.has(from, now.mono);
        self.counts.refused += u64::from(!takes);
        takes
    }

    /// A new event is durable: makes tasks for those to whom it is owed here; `has_account` = the outbox serves it.
    pub(super) fn on_stored(
        &mut self,
        stored: &Stored,
        has_account: impl Fn(&NodeId) -> bool,
        peers: &mut Peers,
        now: Now,
    ) {
        let Some(duty) = peers.duty(&stored.entry) else {
            // A leaf may be asked to carry it yet.
            self.duties.keep(stored.entry.envelope.digest(), stored.seq, now.mono);
            return;
        };
        let prefix = duty.prefix();
        self.duties.begin(stored.entry.envelope.digest(), stored.seq, prefix.digits(), now.mono);
        self.carry(stored, prefix, has_account, peers, now);
    }

    /// Makes the tasks of one duty.
    fn carry(
        &mut self,
        stored: &Stored,
        prefix: Prefix,
        has_account: impl Fn(&NodeId) -> bool,
        peers: &mut Peers,
        now: Now,
    ) {
        let entry = &stored.entry;
        let event = entry.envelope.event();
        // Where a person accepts each neighbour, whoever was not accepted is sent nothing: peers are served, and by
        // their accounts.
        if event.kind.is_reserved() || !event.is_alive(now.wall) || !peers.is_open() {
            return;
        }
        let given = [Some(self.me), Some(event.source), entry.from];
        let is_given = |id: &NodeId| given.contains(&Some(*id));
        if !event.to.is_empty() {
            let is_ours = |id: &&NodeId| !is_given(id) && !has_account(id) && prefix.contains(&Position::of(id));
            let to: Vec<NodeId> = event.to.iter().filter(is_ours).filter(|id| peers.holds(id)).copied().collect();
            self.add_all(stored, to.into_iter().map(|id| (Ask::Leaf, id)).collect(), now);
            return;
        }
        let crowd = peers.crowd(&event.kind);
        let mut others: Vec<NodeId> = given.into_iter().flatten().filter(|id| crowd.contains(id)).collect();
        others.sort_unstable();
        others.dedup();
        let count_in = |bucket: &Prefix| {
            let known = others.iter().filter(|id| bucket.contains(&Position::of(id))).count();
            crowd.count(bucket) - known
        };
        let (count, size) = (count_in(&prefix), entry.envelope.line_len() + LINE_OVERHEAD);
        let is_direct = count <= DIRECT_MAX && count * size <= DIRECT_BYTES_MAX;
        if let Some(from) = entry.from.filter(|from| *from != self.me) {
            self.budget.charge(from, count.min(DIRECT_MAX) * size, now.mono);
        }
        if is_direct {
            let leaves = crowd.iter(&prefix).filter(|id| !is_given(id) && !has_account(id));
            let asks = leaves.map(|id| (Ask::Leaf, id)).collect();
            self.add_all(stored, asks, now);
            return;
        }
        let mut asks = Vec::new();
        let mut mine = prefix;
        while mine.digits() < DIGITS && count_in(&mine) > 0 {
            let own = self.position.digit(mine.digits());
            for digit in (0..16).filter(|digit| *digit != own) {
                let bucket = mine.child(digit);
                match count_in(&bucket) {
                    0 => {}
                    1 => {
                        let only = crowd.iter(&bucket).find(|id| !is_given(id));
                        asks.extend(only.filter(|id| !has_account(id)).map(|id| (Ask::Leaf, id)));
                    }
                    _ => asks.push((Ask::Delegate(bucket), self.me)),
                }
            }
            mine = mine.child(own);
        }
        self.add_all(stored, asks, now);
    }

    fn add_all(&mut self, stored: &Stored, mut asks: Vec<(Ask, NodeId)>, now: Now) {
        let asked = asks.len();
        let is_full = |id: &NodeId| self.leaves.get(id).is_some_and(|count| *count >= LEAVES_MAX);
        asks.retain(|(ask, to)| matches!(ask, Ask::Delegate(_)) || !is_full(to));
        asks.truncate(TASKS_MAX.saturating_sub(self.tasks.len()));
        self.counts.unserved += u64::try_from(asked - asks.len()).unwrap_or(u64::MAX);
        if asks.is_empty() {
            return;
        }
        let expires = stored.entry.envelope.event().expires;
        // An origin's own duty is kept until the event expires.
        let is_own = stored.entry.from == Some(self.me);
        let until = if is_own { now.mono + expires.since(now.wall) } else { now.mono + RESUMED_FOR };
        // An answer has its turn, and is of no use after the deadline.
        let hold = stored.entry.hold;
        let turn = hold.map_or(now.mono, |hold| now.mono + hold.from.since(now.wall).min(SPREAD_MAX));
        let until = hold.map_or(until, |hold| until.min(now.mono + hold.until.since(now.wall)));
        let entry = stored.entry.clone(); // shares the bytes
        let carried = Carried { entry, leaf: None, duty: None, expires, until, open: 0 };
        self.carried.entry(stored.seq).or_insert(carried).open += asks.len();
        for (ask, to) in asks {
            if matches!(ask, Ask::Leaf) {
                *self.leaves.entry(to).or_default() += 1;
            }
            let id = self.next_task;
            self.next_task += 1;
            let task = Task { seq: stored.seq, ask, to, tried: Vec::new(), failures: 0, is_last: false, due: turn };
            self.tasks.insert(id, task);
            self.due.insert((turn, id)); // given out by `run`, when it is not to wait at this same moment
        }
    }

    /// A neighbour asks us to carry on an event that we have.
    pub(super) fn on_again(&mut self, from: &NodeId, event: &Digest, peers: &Peers, now: Now) -> Again {
        let digits = Position::of(from).cpl(&self.position) + 1;
        let Some(done) = self.duties.of(event, now.mono) else { return Again::Refused };
        if digits >= done.digits {
            return Again::Done;
        }
        if !done.may_grow() || !self.takes_duty_from(from, peers, now) {
            return Again::Refused;
        }
        self.duties.begin(*event, done.seq, digits, now.mono);
        Again::Larger { seq: done.seq, digits: u8::try_from(digits).unwrap_or(u8::MAX) }
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.carried.is_empty() && self.due.is_empty() && self.leaves.is_empty()
    }

    #[cfg(test)]
    pub(super) fn lane_of(&self, id: &NodeId) -> Option<LaneId> {
        match self.links.reach(id, Mono(0)) {
            Reach::Up(lane, _) => Some(lane),
            _ => None,
        }
    }

    /// An event that we had, with a larger duty of it now.
    pub(super) fn on_recalled(&mut self, stored: &Stored, digits: u8, peers: &mut Peers, now: Now) {
        let prefix = Prefix::new(self.position, usize::from(digits));
        if stored.entry.hops < stored.entry.envelope.event().hops_max {
            self.carry(stored, prefix, |_| false, peers, now);
        }
    }
}
