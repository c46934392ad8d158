//! The network: how long a message takes between two nodes, and whether it arrives.

use std::time::Duration;

use super::plan::Share;

/// Shortest way from one node to another.
const LATENCY_LEAST: Duration = Duration::from_millis(10);
/// Longest.
const LATENCY_MOST: Duration = Duration::from_millis(100);

/// The links between all nodes. None of them is kept: what a link is follows from its two ends and the seed.
pub(super) struct Links {
    seed: u64,
    jitter: u64,
    loss: Share,
}

impl Links {
    pub(super) fn new(seed: u64) -> Links {
        Links { seed: mixed(seed), jitter: 0, loss: Share::NONE }
    }

    pub(super) fn set(&mut self, jitter: Duration, loss: Share) {
        (self.jitter, self.loss) = (micros(jitter), loss);
    }

    /// One way, without jitter; the same in both directions.
    pub(super) fn latency(&self, one: u32, other: u32) -> Duration {
        let (low, high) = (one.min(other), one.max(other));
        let (least, most) = (micros(LATENCY_LEAST), micros(LATENCY_MOST));
        let hash = mixed(self.seed ^ (u64::from(low) << 32 | u64::from(high)));
        Duration::from_micros(least + hash % (most - least + 1))
    }

    /// How long this message takes.
    pub(super) fn delay(&self, from: u32, to: u32, rng: &mut fastrand::Rng) -> Duration {
        let late = if self.jitter == 0 { 0 } else { rng.u64(0..=self.jitter) };
        self.latency(from, to) + Duration::from_micros(late)
    }

    /// Does this message get lost?
    pub(super) fn loses(&self, rng: &mut fastrand::Rng) -> bool {
        self.loss.happens(rng)
    }
}

pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators"): every bit of the
/// number decides every bit of the answer.
pub(super) fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_spread_evenly_and_the_same_both_ways() {
        let links = Links::new(7);
        let all: Vec<u64> = (0..100)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| {
                assert_eq!(links.latency(i, j), links.latency(j, i));
                micros(links.latency(i, j))
            })
            .collect();
        let mean = all.iter().sum::<u64>() / all.len() as u64;
        assert!((53_000..57_000).contains(&mean), "{mean}");
        assert!(all.iter().all(|one| (10_000..=100_000).contains(one)));
        assert_ne!(links.latency(1, 2), Links::new(8).latency(1, 2));
    }
}
