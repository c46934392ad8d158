//! Which duty was done of which event: a larger one of an event that we have is done once more, or a
//! subtree starves; nobody makes us do it a third time.

use std::collections::{BTreeMap, VecDeque};

use super::super::params::{DUTIES_KEPT_FOR, DUTIES_MAX};
use super::super::ports::Seq;
use super::super::position;
use crate::time::Mono;
use crate::wire::Digest;

/// How often one event is carried by one node at most.
const TIMES: u8 = 2;

/// The duties of the last minutes.
#[derive(Default)]
pub(super) struct Duties {
    done: BTreeMap<Digest, Done>,
    order: VecDeque<(Mono, Digest)>,
}

/// What was done of one event.
#[derive(Clone, Copy)]
pub(super) struct Done {
    pub(super) seq: Seq,
    /// The largest duty so far has the fewest digits; a leaf has more than there are.
    pub(super) digits: usize,
    times: u8,
}

impl Done {
    pub(super) fn may_grow(self) -> bool {
        self.times < TIMES
    }
}

impl Duties {
    /// An event came as a leaf.
    pub(super) fn keep(&mut self, event: Digest, seq: Seq, now: Mono) {
        self.insert(event, Done { seq, digits: position::DIGITS + 1, times: 0 }, now);
    }

    /// A duty begins.
    pub(super) fn begin(&mut self, event: Digest, seq: Seq, digits: usize, now: Mono) {
        match self.done.get_mut(&event) {
            Some(done) => (done.digits, done.times) = (done.digits.min(digits), done.times.saturating_add(1)),
            None => self.insert(event, Done { seq, digits, times: 1 }, now),
        }
    }

    /// What was done of this event in the last minutes.
    pub(super) fn of(&mut self, event: &Digest, now: Mono) -> Option<Done> {
        self.forget(now);
        self.done.get(event).copied()
    }

    fn insert(&mut self, event: Digest, done: Done, now: Mono) {
        if self.done.insert(event, done).is_none() {
            self.order.push_back((now, event));
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Mono) {
        while let Some((since, event)) = self.order.front().copied()
            && (self.order.len() > DUTIES_MAX || now.since(since) >= DUTIES_KEPT_FOR)
        {
            self.order.pop_front();
            self.done.remove(&event);
        }
    }
}
