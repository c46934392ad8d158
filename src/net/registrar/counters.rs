//! What a registrar counts, for its page of metrics. Labels are words of ours: never a node's text.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::counters::Count;
use super::DnsError;
use crate::wire::registration::Refused;

/// What came of requests of one kind.
#[derive(Default, Debug)]
pub struct Requests {
    done: Count,
    refused: [Count; Refused::ALL.len()],
    unreadable: Count,
}

impl Requests {
    /// Each outcome with its count: `done`, the words of [`Refused`], and `unreadable` for what never became
    /// a request of this kind.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let refused = Refused::ALL.iter().zip(&self.refused).map(|(why, count)| (why.as_str(), count.value()));
        [("done", self.done.value()), ("unreadable", self.unreadable.value())].into_iter().chain(refused)
    }

    pub(super) fn done(&self) {
        self.done.one();
    }

    pub(super) fn unreadable(&self) {
        self.unreadable.one();
    }

    pub(super) fn refused(&self, why: Refused) {
        if let Some(at) = Refused::ALL.iter().position(|other| *other == why) {
            self.refused[at].one();
        }
    }
}

/// What came of exchanges with the name server, by the class of its answer.
#[derive(Default, Debug)]
pub struct Exchanges {
    /// `NOERROR`.
    pub noerror: Count,
    /// A prerequisite did not hold: another registrar was faster.
    pub changed: Count,
    /// Any other code: the key, the policy, the zone.
    pub refused: Count,
    /// No answer.
    pub unreachable: Count,
    /// An answer without the signature, or none that can be read.
    pub untrusted: Count,
}

impl Exchanges {
    /// Each class with its count.
    pub fn rows(&self) -> [(&'static str, u64); 5] {
        [
            ("noerror", self.noerror.value()),
            ("changed", self.changed.value()),
            ("refused", self.refused.value()),
            ("unreachable", self.unreachable.value()),
            ("untrusted", self.untrusted.value()),
        ]
    }

    pub(super) fn note(&self, error: Option<&DnsError>) {
        let count = match error {
            None => &self.noerror,
            Some(DnsError::Changed) => &self.changed,
            Some(DnsError::Refused(_)) => &self.refused,
            Some(DnsError::Unreachable(_)) => &self.unreachable,
            Some(DnsError::Untrusted(_)) => &self.untrusted,
        };
        count.one();
    }
}

/// Everything counted since the start.
#[derive(Debug)]
pub struct Counters {
    /// Challenges given out.
    pub challenges: Count,
    /// `POST /v1/register`.
    pub registrations: Requests,
    /// `DELETE /v1/register`.
    pub goodbyes: Requests,
    /// Visits that were answered.
    pub answered: Count,
    /// Visits that nobody answered, or that had no answer of that node.
    pub unreachable: Count,
    /// Visits that another key answered.
    pub wrong_key: Count,
    /// The zone, read.
    pub readings: Exchanges,
    /// The zone, changed.
    pub updates: Exchanges,
    /// Rounds whose result is in the zone.
    pub rounds_done: Count,
    /// Of these, those in which most did not answer, so that nobody was struck out.
    pub rounds_blamed: Count,
    /// Rounds that came to nothing, since the name server did not do its part.
    pub rounds_lost: Count,
    /// Nodes struck out since they did not answer.
    pub struck_out: Count,
    entries: AtomicU64,
    round: Mutex<Instant>,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            challenges: Count::default(),
            registrations: Requests::default(),
            goodbyes: Requests::default(),
            answered: Count::default(),
            unreachable: Count::default(),
            wrong_key: Count::default(),
            readings: Exchanges::default(),
            updates: Exchanges::default(),
            rounds_done: Count::default(),
            rounds_blamed: Count::default(),
            rounds_lost: Count::default(),
            struck_out: Count::default(),
            entries: AtomicU64::new(0),
            round: Mutex::new(Instant::now()),
        }
    }
}

impl Counters {
    /// Nodes in the zone when it was last read or written.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Since the last round whose result is in the zone; since the start before the first one.
    pub fn round_age(&self) -> Duration {
        self.round.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    pub(super) fn see(&self, entries: usize) {
        self.entries.store(entries as u64, Ordering::Relaxed);
    }

    pub(super) fn round_done(&self) {
        self.rounds_done.one();
        *self.round.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}
