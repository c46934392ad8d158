//! What the clocks of others say of ours. A node whose clock is wrong publishes what peers refuse, and
//! believes what it should not; three neighbours that agree know better than one machine.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Mono;
use crate::wire::NodeId;

/// Further apart than this is worth a word: events may be two minutes ahead, and no more.
const APART: Duration = Duration::from_secs(60);
/// So many have to say it, by a key that they proved.
const AGREEING: usize = 3;
/// What was heard longer ago does not count.
const COUNTS_FOR: Duration = Duration::from_secs(3_600);
/// Neighbours remembered; of more the one that was heard longest ago is forgotten.
pub const CLOCKS_MAX: usize = 1_024;

/// How far the clocks of others are ahead of ours, in milliseconds.
#[derive(Default)]
pub(super) struct Clocks {
    ahead: BTreeMap<NodeId, (Mono, i64)>,
}

impl Clocks {
    /// A neighbour said what time it is.
    pub(super) fn hear(&mut self, peer: NodeId, ahead_ms: i64, now: Mono) {
        self.ahead.insert(peer, (now, ahead_ms));
        if self.ahead.len() > CLOCKS_MAX {
            let oldest = self.ahead.iter().min_by_key(|(_, (heard, _))| *heard).map(|(id, _)| *id);
            oldest.map(|id| self.ahead.remove(&id));
        }
    }

    /// For `status`.
    pub(super) fn warning(&self, now: Mono) -> Option<String> {
        let counts = self.ahead.values().filter(|(heard, _)| now.since(*heard) < COUNTS_FOR);
        let apart = i64::try_from(APART.as_millis()).unwrap_or(i64::MAX);
        let (mut ahead, mut behind): (Vec<i64>, Vec<i64>) =
            counts.map(|(_, ahead)| *ahead).filter(|ahead| ahead.abs() > apart).partition(|ahead| *ahead > 0);
        let (these, word) =
            if ahead.len() >= behind.len() { (&mut ahead, "behind") } else { (&mut behind, "ahead of") };
        if these.len() < AGREEING {
            return None;
        }
        these.sort_unstable();
        let (count, seconds) = (these.len(), these[these.len() / 2].unsigned_abs() / 1_000);
        let said = format!("the clock of this machine is {seconds} s {word} the clocks of {count} peers");
        Some(format!("{said}: they refuse what is published by it; next: set it, such as by timedatectl set-ntp true"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;

    const NOW: Mono = Mono(10_000_000);

    fn clocks(ahead_s: &[i64]) -> Clocks {
        let mut clocks = Clocks::default();
        for (seed, seconds) in (1..).zip(ahead_s) {
            clocks.hear(Keypair::from_seed(&[seed; 32]).id(), seconds * 1_000, NOW);
        }
        clocks
    }

    #[test]
    fn three_that_agree_are_believed() {
        let warning = |ahead_s: &[i64]| clocks(ahead_s).warning(NOW);
        for quiet in [&[][..], &[300, 300], &[60, -60, 50, 59], &[300, 300, -300, -300, 0]] {
            assert_eq!(warning(quiet), None, "{quiet:?}");
        }
        let behind = warning(&[0, 120, 125, 3_000]).expect("three say so");
        assert!(behind.starts_with("the clock of this machine is 125 s behind the clocks of 3 peers"), "{behind}");
        let ahead = warning(&[-61, -90, -80, 400]).expect("three say so");
        assert!(ahead.contains("80 s ahead of the clocks of 3 peers"), "{ahead}");
    }

    #[test]
    fn what_was_heard_long_ago_or_corrected_since_does_not_count() {
        let mut clocks = clocks(&[120, 120, 120]);
        assert!(clocks.warning(NOW).is_some());
        assert_eq!(clocks.warning(NOW + COUNTS_FOR), None);
        clocks.hear(Keypair::from_seed(&[1; 32]).id(), 0, NOW);
        assert_eq!(clocks.warning(NOW), None);
    }
}
