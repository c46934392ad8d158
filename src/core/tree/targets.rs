//! What waits for each node, and what is on its way there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::ports::ShipmentId;
use crate::time::Mono;
use crate::wire::NodeId;

/// Everybody who is owed a line by the tree.
#[derive(Default)]
pub(super) struct Targets {
    all: BTreeMap<NodeId, Target>,
    /// Those for whom something may be done now.
    ready: BTreeSet<NodeId>,
    /// Those that take nothing before a moment.
    resting: BTreeSet<(Mono, NodeId)>,
}

/// One of them.
#[derive(Default)]
pub(super) struct Target {
    pub(super) queue: VecDeque<u64>,
    flights: BTreeMap<ShipmentId, Vec<u64>>,
    in_flight: usize,
    not_before: Option<Mono>,
}

impl Targets {
    pub(super) fn push(&mut self, id: NodeId, task: u64) {
        self.all.entry(id).or_default().queue.push_back(task);
        self.ready.insert(id);
    }

    /// Lines waiting and on their way.
    pub(super) fn load(&self, id: &NodeId) -> usize {
        self.all.get(id).map_or(0, |target| target.queue.len() + target.in_flight)
    }

    pub(super) fn is_resting(&self, id: &NodeId) -> bool {
        self.all.get(id).is_some_and(|target| target.not_before.is_some())
    }

    /// Something changed for this node: a lane stands, or broke.
    pub(super) fn wake(&mut self, id: &NodeId) {
        if self.all.get(id).is_some_and(|target| !target.queue.is_empty()) {
            self.ready.insert(*id);
        }
    }

    /// It takes nothing before that.
    pub(super) fn rest(&mut self, id: NodeId, until: Mono) {
        let target = self.all.entry(id).or_default();
        if let Some(earlier) = target.not_before.replace(until) {
            self.resting.remove(&(earlier, id));
        }
        self.resting.insert((until, id));
    }

    /// Everybody for whom something may be done, once.
    pub(super) fn take_ready(&mut self, now: Mono) -> BTreeSet<NodeId> {
        while let Some((until, id)) = self.resting.first().copied().filter(|(until, _)| *until <= now) {
            self.resting.remove(&(until, id));
            if let Some(target) = self.all.get_mut(&id) {
                target.not_before = None;
            }
            self.wake(&id);
            self.forget_idle(&id);
        }
        let all = &self.all;
        let mut ready = std::mem::take(&mut self.ready);
        ready.retain(|id| all.get(id).is_some_and(|target| target.not_before.is_none()));
        ready
    }

    /// The next lines for a node that may be on their way together; at most `room` with those that are.
    pub(super) fn next(&mut self, id: &NodeId, room: usize) -> Vec<u64> {
        let Some(target) = self.all.get_mut(id) else { return Vec::new() };
        let count = room.saturating_sub(target.in_flight).min(target.queue.len());
        target.queue.drain(..count).collect()
    }

    pub(super) fn put_back(&mut self, id: &NodeId, tasks: impl DoubleEndedIterator<Item = u64>) {
        let Some(target) = self.all.get_mut(id) else { return };
        tasks.rev().for_each(|task| target.queue.push_front(task));
    }

    pub(super) fn fly(&mut self, id: &NodeId, shipment: ShipmentId, tasks: Vec<u64>) {
        let target = self.all.entry(*id).or_default();
        target.in_flight += tasks.len();
        target.flights.insert(shipment, tasks);
    }

    /// What a shipment carried; `None` when nobody waits for its answer any more.
    pub(super) fn land(&mut self, id: &NodeId, shipment: ShipmentId) -> Option<Vec<u64>> {
        let target = self.all.get_mut(id)?;
        let tasks = target.flights.remove(&shipment)?;
        target.in_flight -= tasks.len();
        self.wake(id);
        self.forget_idle(id);
        Some(tasks)
    }

    /// Nothing is on its way to this node any more, and nothing waits: gives back all of it.
    pub(super) fn empty(&mut self, id: &NodeId) -> Vec<u64> {
        let Some(target) = self.all.remove(id) else { return Vec::new() };
        self.ready.remove(id);
        if let Some(until) = target.not_before {
            self.resting.remove(&(until, *id));
        }
        target.flights.into_values().flatten().chain(target.queue).collect()
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.resting.first().map(|(until, _)| *until)
    }

    fn forget_idle(&mut self, id: &NodeId) {
        let is_idle =
            |target: &Target| target.queue.is_empty() && target.flights.is_empty() && target.not_before.is_none();
        if self.all.get(id).is_some_and(is_idle) {
            self.all.remove(id);
            self.ready.remove(id);
        }
    }
}
