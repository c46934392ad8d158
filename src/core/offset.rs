//! The delivery offset: when a node's part of a crowd has its turn.
//!
//! A question that ten thousand nodes answer at once would bring the asker down. So each of them holds its
//! answer back by a share `u` of the span that the question allows, and `u` follows from nothing but the
//! question and the node:
//!
//! ```text
//! u       = first 8 bytes, big endian, of SHA-256(17 "afferent/offset/1" digest(32) node(32)) / 2^64
//! send_at = stored_at + u * 0.9 * min(spread, deadline - stored_at, 900 s)
//! ```
//!
//! Nobody has to know how many others there are, anybody can check it, and since the digest is hashed in, two
//! nodes that collide over one question do not collide over the next. Of ten thousand answers over 100 s the
//! busiest tenth of a second holds about thirty, where it would hold them nearly all. The last tenth of the span
//! is left to what comes late.

use std::time::Duration;

use crate::time::Wall;
use crate::wire::{Digest, NodeId, Question};

/// Answers a second that an asker is taken to bear when it does not say otherwise.
pub const ANSWERS_PER_SECOND: u64 = 100;
/// Shortest span that is chosen for a question.
pub const SPREAD_LEAST: Duration = Duration::from_secs(1);
/// Longest span of a question: of a longer one this much counts, so that nobody makes others hold their
/// answers for days.
pub const SPREAD_MAX: Duration = Duration::from_secs(900);

/// What the hash begins with.
const DOMAIN: &[u8] = b"afferent/offset/1";

/// How long an entry is held back, and until when it is of use. Kept with the entry in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hold {
    /// Nothing is sent before.
    pub from: Wall,
    /// Nothing is sent from then on: nobody waits for it any more.
    pub until: Wall,
}

/// The share of this node: 0 up to 1, counted in 2^-64.
pub fn share(event: &Digest, node: &NodeId) -> u64 {
    share_of(event.as_bytes(), node.as_bytes())
}

fn share_of(event: &[u8; 32], node: &[u8; 32]) -> u64 {
    let length = [u8::try_from(DOMAIN.len()).expect("a short text")];
    let digest = Digest::of(&[&length, DOMAIN, event, node].concat());
    u64::from_be_bytes(*digest.as_bytes().first_chunk().expect("a digest has 32 bytes"))
}

/// How long this node holds back what belongs to this event, when so much time is allowed.
pub fn delay(event: &Digest, node: &NodeId, spread: Duration, left: Duration) -> Duration {
    scaled(share(event, node), spread.min(left).min(SPREAD_MAX))
}

/// Nine tenths of the span, times the share.
fn scaled(share: u64, span: Duration) -> Duration {
    let most = span.as_micros() * 9 / 10;
    let micros = (u128::from(share) * most) >> 64; // `SPREAD_MAX` is below 2^30
    Duration::from_micros(u64::try_from(micros).expect("less than the span"))
}

/// When this node sends its answer to a question, an answer that it stored at this moment.
pub fn hold(question: &Question, node: &NodeId, stored_at: Wall) -> Hold {
    let left = question.deadline.since(stored_at);
    let from = stored_at + delay(&question.digest, node, question.spread, left);
    Hold { from, until: question.deadline }
}

/// The span for a question that so many nodes may answer.
pub fn spread_for(answers: u64) -> Duration {
    Duration::from_millis(answers.saturating_mul(1_000 / ANSWERS_PER_SECOND)).clamp(SPREAD_LEAST, SPREAD_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BUCKET_MS: u128 = 100;

    /// As good as a public key here: 32 bytes that nobody chose.
    fn node(number: u32) -> [u8; 32] {
        *Digest::of(&number.to_be_bytes()).as_bytes()
    }

    fn event(name: &str) -> [u8; 32] {
        *Digest::of(name.as_bytes()).as_bytes()
    }

    /// Answers in each 100 ms of nine tenths of the window; without the offset all come at once.
    fn buckets(count: u32, window: Duration, offset: bool) -> Vec<u32> {
        let used = window.as_millis() * 9 / 10;
        let mut buckets = vec![0; usize::try_from(used.div_ceil(BUCKET_MS)).expect("few")];
        for number in 0..count {
            let share = share_of(&event("question"), &node(number));
            let delay = if offset { scaled(share, window) } else { Duration::ZERO };
            // The way of each takes 50 to 400 ms, by another hash.
            let way = u128::from(share_of(&event("way"), &node(number)) % 350) + 50;
            let at = if offset { delay.as_millis() } else { way };
            buckets[usize::try_from(at / BUCKET_MS).expect("few")] += 1;
        }
        buckets
    }

    /// The least `m` for which `buckets * P(Poisson(mean) >= m)` is below one in a thousand.
    fn quantile(mean: f64, buckets: usize) -> u32 {
        let (mut term, mut below, mut m) = ((-mean).exp(), 0.0, 0);
        while buckets as f64 * (1.0 - below) > 1e-3 {
            below += term;
            m += 1;
            term *= mean / f64::from(m);
        }
        m
    }

    #[test]
    fn the_busiest_tenth_of_a_second_is_as_busy_as_chance_makes_it() {
        for (count, window, expected) in
            [(1_000, SECOND * 10, 29), (10_000, SECOND * 100, 31), (100_000, SECOND * 900, 35)]
        {
            let buckets = buckets(count, window, true);
            let mean = f64::from(count) / buckets.len() as f64;
            let (most, bound) = (*buckets.iter().max().expect("some"), quantile(mean, buckets.len()));
            assert_eq!(bound, expected, "{count}");
            assert!(most <= bound, "{count} answers: {most} in one bucket, {bound} by chance");
            let used = buckets.iter().filter(|count| **count > 0).count();
            assert!(used * 10 >= buckets.len() * 9, "{used} of {}", buckets.len());
        }
    }

    #[test]
    fn without_the_offset_the_same_test_fails() {
        let buckets = buckets(10_000, SECOND * 100, false);
        let most = *buckets.iter().max().expect("some");
        assert!((2_700..3_100).contains(&most), "{most}");
        assert!(most > quantile(10_000.0 / 900.0, 900) * 50);
        assert!(buckets.iter().filter(|count| **count > 0).count() <= 4);
    }

    /// One-sided chi-square over 100 classes: 149 is passed by chance once in a thousand.
    #[test]
    fn shares_are_even() {
        let mut classes = [0u32; 100];
        for number in 0..100_000 {
            let share = u128::from(share_of(&event("question"), &node(number)));
            classes[usize::try_from((share * 100) >> 64).expect("a class")] += 1;
        }
        let off = |count: &u32| (f64::from(*count) - 1_000.0).powi(2) / 1_000.0;
        let chi: f64 = classes.iter().map(off).sum();
        assert!((40.0..149.0).contains(&chi), "{chi}");
    }

    #[test]
    fn who_comes_first_for_one_question_does_not_for_the_next() {
        let ranks = |name: &str| {
            let mut order: Vec<u32> = (0..10_000).collect();
            order.sort_by_key(|number| share_of(&event(name), &node(*number)));
            let mut ranks = vec![0.0; order.len()];
            for (rank, number) in (0..).zip(order) {
                ranks[number as usize] = f64::from(rank);
            }
            ranks
        };
        let correlation = |one: &[f64], other: &[f64]| {
            let count = one.len() as f64;
            let squares: f64 = one.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum();
            1.0 - 6.0 * squares / (count * (count * count - 1.0))
        };
        let (one, other) = (ranks("one"), ranks("other"));
        assert!(correlation(&one, &other).abs() < 0.05, "{}", correlation(&one, &other));
        assert!(correlation(&one, &one) > 0.999, "the measure can tell");
    }

    #[test]
    fn the_share_is_the_one_that_anybody_computes() {
        // By Python's hashlib: 17, the text, 32 times 1, 32 times 2.
        assert_eq!(share_of(&[1; 32], &[2; 32]), 0x1108_bc60_6145_0c73);
    }

    #[test]
    fn the_span_follows_from_how_many_may_answer() {
        let spans = [0, 1, 100, 101, 1_000, 10_000, 90_000, 100_000, u64::MAX].map(spread_for);
        let millis = [1_000, 1_000, 1_000, 1_010, 10_000, 100_000, 900_000, 900_000, 900_000];
        assert_eq!(spans, millis.map(Duration::from_millis));
    }

    proptest! {
        #[test]
        fn an_answer_is_sent_within_nine_tenths_of_what_is_left_and_never_before_it_is_there(
            spread_ms in prop::sample::select(vec![0u64, 1, 999, 10_000, 900_000, 2_147_483_647]),
            left_ms in prop::sample::select(vec![-5_000i64, 0, 1, 700, 30_000, 604_800_000]),
            node in 1u8..50,
        ) {
            let stored_at = Wall::from_millis(1_795_262_400_000);
            let me = Keypair::from_seed(&[node; 32]).id();
            let question = Question {
                digest: Digest::of(b"question"),
                asker: me,
                spread: Duration::from_millis(spread_ms),
                deadline: Wall::from_millis(stored_at.as_millis() + left_ms),
            };
            let hold = hold(&question, &me, stored_at);
            let most = Duration::from_millis(spread_ms.min(u64::try_from(left_ms).unwrap_or(0))).min(SPREAD_MAX);
            prop_assert!(hold.from >= stored_at);
            prop_assert!(hold.from.since(stored_at) <= most * 9 / 10);
            prop_assert_eq!(hold.until, question.deadline);
            prop_assert_eq!(hold, super::hold(&question, &me, stored_at), "it follows from its arguments alone");
        }
    }
}
