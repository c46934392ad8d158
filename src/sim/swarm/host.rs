//! One machine: a node, its journal, and who waits for an answer of it.

use std::collections::BTreeMap;

use super::plan::{Plan, Share};
use crate::core::Node;
use crate::core::ports::{LaneId, SavedPeer, Seq, ShipmentId, Ticket};
use crate::time::Mono;
use crate::wire::message::Outcome;
use crate::wire::{NodeId, Record, Verified};

/// What is odd about a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Sound,
    Dead,
    Dropper,
    Slow,
    /// Crashes once.
    Churner,
}

/// One machine.
pub(super) struct Host {
    pub(super) id: NodeId,
    pub(super) record: Verified<Record>,
    pub(super) node: Option<Box<Node>>,
    pub(super) role: Role,
    /// Cut off from the others while there is a partition.
    pub(super) is_apart: bool,
    pub(super) is_interested: bool,
    /// Grows with every start: what was under way before a crash means nothing after it.
    pub(super) life: u32,
    pub(super) wake: Option<Mono>,
    /// Microseconds by which its clock is wrong.
    pub(super) skew: i64,
    pub(super) journal: Journal,
    /// The peer file.
    pub(super) peers: Vec<SavedPeer>,
    askers: Vec<(Ticket, Asker)>,
    next_ticket: u64,
}

/// Who waits for an answer.
pub(super) enum Asker {
    /// A neighbour: what of its lines was known before the core was asked.
    Peer { from: u32, life: u32, lane: LaneId, shipment: ShipmentId, known: Vec<Option<Outcome>> },
    /// The same, about lines that are durable here already.
    Again,
    /// Whoever published this event here.
    Publisher { event: u32 },
}

impl Host {
    pub(super) fn new(id: NodeId, record: Verified<Record>) -> Host {
        Host {
            id,
            record,
            node: None,
            role: Role::Sound,
            is_apart: false,
            is_interested: false,
            life: 0,
            wake: None,
            skew: 0,
            journal: Journal::default(),
            peers: Vec::new(),
            askers: Vec::new(),
            next_ticket: 0,
        }
    }

    pub(super) fn ask(&mut self, asker: Asker) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.askers.push((ticket, asker));
        ticket
    }

    pub(super) fn asker(&mut self, ticket: Ticket) -> Option<Asker> {
        let at = self.askers.iter().position(|(waiting, _)| *waiting == ticket)?;
        Some(self.askers.swap_remove(at).1)
    }

    /// Everybody who waits; nobody does any more.
    pub(super) fn take_askers(&mut self) -> Vec<Asker> {
        self.askers.drain(..).map(|(_, asker)| asker).collect()
    }

    /// Does it work as a node should? Those alone are timed.
    pub(super) fn is_timed(&self) -> bool {
        matches!(self.role, Role::Sound | Role::Dropper)
    }
}

/// Who is what: by chance, and each one thing at most.
pub(super) fn roles(plan: &Plan, rng: &mut fastrand::Rng) -> Vec<Role> {
    let mut order: Vec<usize> = (0..plan.nodes).collect();
    rng.shuffle(&mut order);
    let mut roles = vec![Role::Sound; plan.nodes];
    let mut order = order.into_iter();
    let faults = &plan.faults;
    let shares: [(Role, Share); 4] = [
        (Role::Dead, faults.dead),
        (Role::Dropper, faults.droppers),
        (Role::Slow, faults.slow),
        (Role::Churner, faults.churn),
    ];
    for (role, share) in shares {
        for host in order.by_ref().take(share.of(plan.nodes)) {
            roles[host] = role;
        }
    }
    roles
}

/// What a machine keeps of the events: as little as will do, since there are millions of it.
#[derive(Default)]
pub(super) struct Journal {
    rows: Vec<Row>,
    /// One bit an event.
    held: Vec<u64>,
    /// Durable cursors of peers.
    cursors: BTreeMap<NodeId, Seq>,
    /// Cursors that wait for the next commit; a crash takes them.
    moved: BTreeMap<NodeId, Seq>,
    /// Up to where every duty is done, durably, and as it waits for the next commit.
    duty: (Option<Seq>, Option<Seq>),
}

/// One entry.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) event: u32,
    /// The machine that gave it.
    pub(super) from: u32,
    pub(super) hops: u8,
    pub(super) duty: bool,
    /// When it came, by the clock of this machine, in microseconds.
    pub(super) received: i64,
}

impl Journal {
    /// Its place; `None` when it is there already.
    pub(super) fn store(&mut self, row: Row) -> Option<Seq> {
        let (word, bit) = (row.event as usize / 64, row.event % 64);
        if self.held.len() <= word {
            self.held.resize(word + 1, 0);
        }
        if self.held[word] >> bit & 1 == 1 {
            return None;
        }
        self.held[word] |= 1 << bit;
        self.rows.push(row);
        Some(self.head())
    }

    pub(super) fn holds(&self, event: u32) -> bool {
        self.held.get(event as usize / 64).is_some_and(|word| word >> (event % 64) & 1 == 1)
    }

    pub(super) fn head(&self) -> Seq {
        Seq(self.rows.len() as u64)
    }

    pub(super) fn at(&self, seq: Seq) -> Option<Row> {
        self.rows.get(usize::try_from(seq.0.checked_sub(1)?).ok()?).copied()
    }

    /// What stands after this position.
    pub(super) fn after(&self, after: Seq) -> impl Iterator<Item = (Seq, Row)> + '_ {
        let from = usize::try_from(after.0).unwrap_or(usize::MAX).min(self.rows.len());
        self.rows[from..].iter().enumerate().map(move |(i, row)| (Seq((from + i + 1) as u64), *row))
    }

    /// What was said to be remembered becomes durable.
    pub(super) fn commit(&mut self) {
        self.cursors.append(&mut self.moved);
        self.duty.0 = self.duty.1.take().or(self.duty.0);
    }

    pub(super) fn crash(&mut self) {
        self.moved.clear();
        self.duty.1 = None;
    }

    pub(super) fn set_duty(&mut self, cursor: Seq) {
        self.duty.1 = Some(cursor);
    }

    /// Up to where every duty was done in the last life.
    pub(super) fn duty(&self) -> Option<Seq> {
        self.duty.0
    }

    pub(super) fn set_cursor(&mut self, peer: NodeId, cursor: Seq) {
        self.moved.insert(peer, cursor);
    }

    pub(super) fn forget_cursor(&mut self, peer: &NodeId) {
        self.cursors.remove(peer);
        self.moved.remove(peer);
    }

    pub(super) fn cursor(&self, peer: &NodeId) -> Option<Seq> {
        self.cursors.get(peer).copied()
    }
}
