//! What the network counts, for metrics and status. Labels are ours: never a peer's text.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::histogram::Histogram;

use crate::wire::{Code, Forbidden};

/// One number that only grows.
#[derive(Default, Debug)]
pub struct Count(AtomicU64);

impl Count {
    /// As of now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    pub(super) fn one(&self) {
        self.add(1);
    }
}

/// How long the checks of signatures took: from the best a core can do to one that waits for its turn.
#[derive(Debug)]
pub struct VerifySeconds(Histogram);

impl VerifySeconds {
    /// As it goes on.
    pub fn histogram(&self) -> Histogram {
        self.0.clone()
    }

    pub(super) fn observe(&self, took: std::time::Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

impl Default for VerifySeconds {
    fn default() -> VerifySeconds {
        VerifySeconds(Histogram::new([1e-5, 2e-5, 3e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2]))
    }
}

/// Everything counted since the start.
#[derive(Default, Debug)]
pub struct Counters {
    /// TCP connections accepted.
    pub accepted: Count,
    /// Of these, given a place; what is not in `ended` has it still.
    pub let_in: Count,
    /// Closed at once since a limit was reached.
    pub turned_away: Count,
    /// TLS handshakes that failed, plain HTTP included.
    pub handshakes_failed: Count,
    /// Connections that ended, however.
    pub ended: Count,
    /// Connections closed by a deadline of ours.
    pub timed_out: Count,
    /// Connections closed by the byte and frame meter.
    pub flooded: Count,
    /// `accept` failed: no file descriptors left, mostly.
    pub accept_errors: Count,
    /// Requests begun.
    pub requests: Count,
    /// Of these, refused for what they were: a status of 400 to 499.
    pub refused: Count,
    /// Bytes of request bodies.
    pub body_bytes: Count,
    /// Lines of `/events`.
    pub lines: Count,
    /// Lines that are durable by this request.
    pub stored: Count,
    /// Lines that were durable before.
    pub duplicates: Count,
    /// Signatures checked.
    pub verified: Count,
    /// One such check.
    pub verify_seconds: VerifySeconds,
    /// Requests told `unavailable` since the workers or the driver were behind.
    pub overloaded: Count,
    /// Records of others that were not looked at: too many at once, at addresses that mean nothing to
    /// us, or in a hello.
    pub records_ignored: Count,
    /// Frames of `/sync` answered.
    pub frames: Count,
    /// Lines given by `/get`.
    pub lines_given: Count,
    /// Addresses that were dialled, whether anybody answered or not.
    pub dialled: Count,
    /// Lanes that stood.
    pub lanes_connected: Count,
    /// Lanes that broke or never stood.
    pub lanes_broken: Count,
    /// Lines sent in shipments.
    pub lines_sent: Count,
    /// Addresses that were to be dialled and were not, one for each of [`Forbidden::WORDS`].
    forbidden: [Count; Forbidden::WORDS.len()],
    /// One for each code, and the last for `Unknown`, which stays at zero: we never say it.
    rejected: [Count; Code::ALL.len() + 1],
}

impl Counters {
    /// Lines and requests refused with this code.
    pub fn rejected(&self, code: Code) -> u64 {
        self.rejected[index(code)].value()
    }

    pub(super) fn reject(&self, code: Code) {
        self.rejected[index(code)].one();
    }

    /// Addresses that were to be dialled and were not, for the reason of this [`Forbidden::word`].
    pub fn forbidden(&self, word: &str) -> u64 {
        let place = Forbidden::WORDS.iter().position(|other| *other == word);
        place.map_or(0, |place| self.forbidden[place].value())
    }

    pub(super) fn forbid(&self, why: Forbidden) {
        if let Some(place) = Forbidden::WORDS.iter().position(|word| *word == why.word()) {
            self.forbidden[place].one();
        }
    }
}

fn index(code: Code) -> usize {
    Code::ALL.iter().position(|other| *other == code).unwrap_or(Code::ALL.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_count() {
        let counters = Counters::default();
        for code in Code::ALL {
            counters.reject(code);
        }
        assert!(Code::ALL.iter().all(|code| counters.rejected(*code) == 1));
        assert_eq!(counters.rejected(Code::Unknown), 0);
    }
}
