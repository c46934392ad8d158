//! What others may cost us: the bytes that a neighbour's duties make us send, and how often a bucket is
//! given to another delegate when many are slow at once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::params::{DUTY_BYTES_MAX, DUTY_BYTES_PER_S, REDELEGATED_LEAST, REDELEGATED_SHARE, TELLERS_MAX};
use crate::time::Mono;
use crate::wire::NodeId;

/// Bytes that each neighbour may still make us send.
#[derive(Default)]
pub(super) struct Budget {
    spent: BTreeMap<NodeId, Spent>,
}

#[derive(Clone, Copy)]
struct Spent {
    bytes: u64,
    since: Mono,
}

impl Spent {
    fn at(self, now: Mono) -> u64 {
        let regained = now.since(self.since).as_millis().saturating_mul(u128::from(DUTY_BYTES_PER_S)) / 1_000;
        self.bytes.saturating_sub(u64::try_from(regained).unwrap_or(u64::MAX))
    }
}

impl Budget {
    /// Is anything left for this neighbour? One that is not counted yet while all places are taken has none.
    pub(super) fn has(&mut self, from: &NodeId, now: Mono) -> bool {
        if self.spent.len() >= TELLERS_MAX {
            self.spent.retain(|_, spent| spent.at(now) > 0);
        }
        match self.spent.get(from) {
            Some(spent) => spent.at(now) < DUTY_BYTES_MAX,
            None => self.spent.len() < TELLERS_MAX,
        }
    }

    pub(super) fn charge(&mut self, from: NodeId, bytes: usize, now: Mono) {
        let spent = self.spent.entry(from).or_insert(Spent { bytes: 0, since: now });
        *spent = Spent { bytes: spent.at(now).saturating_add(bytes as u64), since: now };
    }
}

/// Span over which delegations are counted.
const SPAN: Duration = Duration::from_secs(10);

/// Delegations and new choices of the last moments, in two halves of the span.
#[derive(Default)]
pub(super) struct Pace {
    since: Mono,
    now: Counted,
    before: Counted,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    delegated: u64,
    again: u64,
}

impl Pace {
    pub(super) fn delegated(&mut self, now: Mono) {
        self.turn(now);
        self.now.delegated += 1;
    }

    /// May one more bucket go to another delegate? All disks slow at once must not double the traffic.
    pub(super) fn allows_again(&mut self, now: Mono) -> bool {
        self.turn(now);
        let delegated = self.now.delegated + self.before.delegated;
        let again = self.now.again + self.before.again;
        let allowed = again < REDELEGATED_LEAST.max(delegated / REDELEGATED_SHARE);
        self.now.again += u64::from(allowed);
        allowed
    }

    fn turn(&mut self, now: Mono) {
        let passed = now.since(self.since);
        if passed >= SPAN / 2 {
            self.before = if passed < SPAN { self.now } else { Counted::default() };
            (self.now, self.since) = (Counted::default(), now);
        }
    }
}
