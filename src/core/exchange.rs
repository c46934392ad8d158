//! Tier 2: "who else do you know?" What a node that asks is given, and how much one that answers
//! may tell us (3-discovery.md).
//!
//! Given away are records whose key we saw proved within a day, at addresses the policy lets anybody
//! dial. An asker gets a part of them by chance, and everybody of its address group the same part for
//! ten minutes: asking more often, or from many addresses nearby, shows no more of the table.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Node;
use super::params::TELLERS_MAX;
use super::ports::Output;
use crate::time::{Mono, Now, Wall};
use crate::wire::{Group, HostPort, NodeId, Profile, Record, Verified};

/// Records in one answer, the answerer's own not counted.
pub const GIVEN_MAX: usize = 32;
/// As many are given, if there are so many, however few a quarter of them is.
pub(super) const GIVEN_LEAST: usize = 16;
/// How long a choice holds for an address group.
const CHOICE_KEPT: Duration = Duration::from_secs(600);
/// Address groups whose choice is remembered; beyond it the oldest is chosen anew.
pub const CHOICES_MAX: usize = 1_024;
/// Records that a node may tell us at once, and one more every [`TOLD_EVERY`].
pub const TOLD_MAX: u32 = 64;
/// See [`TOLD_MAX`].
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// As many more for each time that we asked it.
const TOLD_ASKED: u32 = 32;
/// More than this in one go, and nothing of it is taken.
pub const HEAP_MAX: usize = 64;

/// Who was given what, and who told how much.
pub(super) struct Exchange {
    rng: fastrand::Rng,
    choices: BTreeMap<Group, Choice>,
    tellers: BTreeMap<NodeId, Allowance>,
    /// Of all who are not in the table, together.
    strangers: Allowance,
}

struct Choice {
    until: Mono,
    ids: Vec<NodeId>,
}

/// A bucket of tokens, one for each record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Allowance {
    left: u32,
    since: Mono,
}

impl Allowance {
    fn full(now: Mono) -> Allowance {
        Allowance { left: TOLD_MAX, since: now }
    }

    /// What time added: never beyond a full bucket.
    fn refill(&mut self, now: Mono) {
        let more = now.since(self.since).as_micros() / TOLD_EVERY.as_micros();
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            self.left = self.left.max(self.left.saturating_add(more).min(TOLD_MAX));
            self.since = now;
        }
    }

    /// How many of `count` may be taken.
    fn take(&mut self, count: usize, asked: bool, now: Mono) -> usize {
        self.refill(now);
        if asked {
            self.left = self.left.saturating_add(TOLD_ASKED).min(TOLD_MAX + TOLD_ASKED);
        }
        let taken = self.left.min(u32::try_from(count).unwrap_or(u32::MAX));
        self.left -= taken;
        taken as usize
    }
}

impl Exchange {
    pub(super) fn new(seed: u64) -> Exchange {
        Exchange {
            rng: fastrand::Rng::with_seed(seed),
            choices: BTreeMap::new(),
            tellers: BTreeMap::new(),
            strangers: Allowance::full(Mono(0)),
        }
    }

    /// Which of `pool` this address group is given.
    fn choose(&mut self, group: Group, mut pool: Vec<NodeId>, now: Mono) -> Vec<NodeId> {
        let count = (pool.len() / 4).clamp(GIVEN_LEAST, GIVEN_MAX).min(pool.len());
        if count == pool.len() {
            return pool; // there is nothing to be kept back
        }
        if let Some(choice) = self.choices.get(&group).filter(|choice| now < choice.until) {
            return choice.ids.iter().filter(|id| pool.contains(id)).copied().collect();
        }
        for at in 0..count {
            let other = self.rng.usize(at..pool.len());
            pool.swap(at, other);
        }
        pool.truncate(count);
        if self.choices.len() >= CHOICES_MAX {
            self.choices.retain(|_, choice| now < choice.until);
        }
        if self.choices.len() >= CHOICES_MAX {
            let oldest = self.choices.iter().min_by_key(|(_, choice)| choice.until).map(|(group, _)| *group);
            oldest.map(|group| self.choices.remove(&group));
        }
        self.choices.insert(group, Choice { until: now + CHOICE_KEPT, ids: pool.clone() });
        pool
    }

    /// Which of these records may be taken from `teller`: by chance, so that it cannot choose.
    fn admit<T>(&mut self, teller: NodeId, is_known: bool, asked: bool, mut records: Vec<T>, now: Mono) -> Vec<T> {
        if records.len() > HEAP_MAX {
            return Vec::new();
        }
        if self.tellers.len() >= TELLERS_MAX {
            self.tellers.retain(|_, allowance| {
                allowance.refill(now);
                allowance.left < TOLD_MAX
            });
        }
        let is_counted = is_known && (self.tellers.len() < TELLERS_MAX || self.tellers.contains_key(&teller));
        let allowance = match is_counted {
            true => self.tellers.entry(teller).or_insert(Allowance::full(now)),
            false => &mut self.strangers,
        };
        let count = allowance.take(records.len(), asked && is_counted, now);
        self.rng.shuffle(&mut records);
        records.truncate(count);
        records
    }
}

impl Node {
    /// What a node that asks is given: lines of the wire, without our own. `group` is where it asks from.
    pub fn share(&mut self, asker: &NodeId, group: Group, now: Now) -> Vec<String> {
        self.on_called(asker, now);
        if self.peers.is_shunned(asker, now.wall) {
            return Vec::new();
        }
        let records = self.peers.shareable(now.wall).cloned();
        // In a private mesh members tell members of members.
        let is_told = |id: &NodeId| id != asker && !self.peers.is_closed_to(asker) && !self.peers.is_closed_to(id);
        let mut pool: BTreeMap<NodeId, Verified<Record>> = records.map(|record| (record.id(), record)).collect();
        pool.retain(|id, _| is_told(id));
        let chosen = self.exchange.choose(group, pool.keys().copied().collect(), now.mono);
        chosen.iter().map(|id| pool[id].envelope().line(0, false)).collect()
    }

    /// A node handed us records of others.
    pub(super) fn on_heard(
        &mut self,
        teller: NodeId,
        asked: bool,
        records: Vec<Verified<Record>>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        if !self.listens_to(&teller, now.wall) {
            return self.ignore(records.len());
        }
        let (count, is_known) = (records.len(), self.peers.is_served(&teller));
        let admitted = self.exchange.admit(teller, is_known, asked, records, now.mono);
        self.ignore(count - admitted.len());
        for record in admitted {
            self.on_told(record, teller, now, out);
        }
    }

    /// Does what this node says of others count?
    pub(super) fn listens_to(&self, teller: &NodeId, now: Wall) -> bool {
        !self.peers.is_closed_to(teller) && !self.peers.is_shunned(teller, now)
    }

    /// One record of another node, out of the hand of `teller`.
    pub(super) fn on_told(&mut self, record: Verified<Record>, teller: NodeId, now: Now, out: &mut Vec<Output>) {
        let is_member = record.id() == self.me || !self.peers.is_closed_to(&record.id());
        if is_passable(&record, self.params.profile) && is_member {
            self.on_record_heard(record, Some(teller), now, out);
        } else {
            self.ignore(1);
        }
    }

    pub(super) fn ignore(&mut self, count: usize) {
        self.counts.records_ignored += u64::try_from(count).unwrap_or(u64::MAX);
    }
}

/// May this record be handed on, or be taken from somebody else's hand? It names an address, and no
/// address that the policy forbids; or it is a goodbye.
pub(super) fn is_passable(record: &Record, profile: Profile) -> bool {
    let is_allowed = |at: &HostPort| profile.allows_host(at).is_ok();
    record.bye || (!record.addresses.is_empty() && record.addresses.iter().all(is_allowed))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Keypair;

    const START: Mono = Mono(1_000_000);

    fn ids(count: u16) -> Vec<NodeId> {
        let id = |number: u16| {
            let mut seed = [0; 32];
            seed[..2].copy_from_slice(&number.to_le_bytes());
            Keypair::from_seed(&seed).id()
        };
        (0..count).map(id).collect()
    }

    fn group(number: u16) -> Group {
        let [high, low] = number.to_be_bytes();
        Group::of([high, low, 0, 1].into())
    }

    #[test]
    fn an_answer_is_a_quarter_of_what_is_known_but_16_at_least_and_32_at_most() {
        for (known, given) in [(0, 0), (1, 1), (16, 16), (17, 16), (64, 16), (100, 25), (128, 32), (1_000, 32)] {
            let mut exchange = Exchange::new(7);
            assert_eq!(exchange.choose(group(1), ids(known), START).len(), given, "of {known}");
        }
    }

    #[test]
    fn a_group_that_asks_again_sees_no_more_of_the_table() {
        let mut exchange = Exchange::new(7);
        let pool = ids(200);
        let first = exchange.choose(group(1), pool.clone(), START);
        for second in 1..600 {
            assert_eq!(exchange.choose(group(1), pool.clone(), START + Duration::from_secs(second)), first);
        }
        assert_ne!(exchange.choose(group(1), pool.clone(), START + CHOICE_KEPT), first, "after ten minutes");
        let other = group(2);
        assert_ne!(exchange.choose(other, pool.clone(), START), first, "another group has its own");
        let gone: Vec<NodeId> = pool.into_iter().filter(|id| *id != first[0]).collect();
        assert!(!exchange.choose(other, gone, START).contains(&first[0]), "who left is not given");
    }

    #[test]
    fn choices_of_many_groups_are_bounded() {
        let mut exchange = Exchange::new(7);
        let pool = ids(40);
        for number in 0..3_000 {
            exchange.choose(group(number), pool.clone(), START);
        }
        assert_eq!(exchange.choices.len(), CHOICES_MAX);
    }

    #[test]
    fn a_heap_is_refused_as_a_whole_and_a_flood_is_cut() {
        let (mut exchange, teller) = (Exchange::new(7), ids(1)[0]);
        let mut take = |count: usize, asked, after| {
            exchange.admit(teller, true, asked, vec![0; count], START + Duration::from_secs(after)).len()
        };
        assert_eq!(take(65, true, 0), 0, "a heap");
        assert_eq!([take(32, true, 0), take(32, true, 0), take(32, true, 0)], [32, 32, 32], "asked for");
        assert_eq!([take(64, false, 0), take(1, false, 0)], [64, 0], "the burst, and no more");
        assert_eq!([take(5, false, 19), take(5, false, 39)], [1, 2], "one in ten seconds");
        assert_eq!(take(64, true, 40), 32);
    }

    #[test]
    fn strangers_share_one_allowance() {
        let mut exchange = Exchange::new(7);
        let taken: usize =
            ids(100).into_iter().map(|teller| exchange.admit(teller, false, true, vec![0; 32], START).len()).sum();
        assert_eq!(taken, 64);
        assert!(exchange.tellers.is_empty());
    }

    #[test]
    fn who_told_us_is_remembered_within_bounds() {
        let mut exchange = Exchange::new(7);
        for teller in ids(u16::try_from(TELLERS_MAX * 2).expect("small")) {
            exchange.admit(teller, true, true, vec![0; 1], START);
        }
        assert!(exchange.tellers.len() <= TELLERS_MAX, "{}", exchange.tellers.len());
    }

    proptest! {
        /// Whoever answers however often, it tells us no more than its allowance.
        #[test]
        fn an_allowance_is_kept(calls in prop::collection::vec((0usize..=64, any::<bool>(), 0u64..40), 0..60)) {
            let (mut exchange, teller) = (Exchange::new(7), ids(1)[0]);
            let (mut now, mut taken, mut asks) = (START, 0, 0);
            for (count, asked, pause) in calls {
                now = now + Duration::from_secs(pause);
                asks += u64::from(asked);
                taken += exchange.admit(teller, true, asked, vec![0; count], now).len() as u64;
                prop_assert!(taken <= 64 + 32 * asks + now.since(START).as_secs() / 10);
            }
        }
    }
}
