//! Who is not listened to: nodes that cheated, for a day, and those that a person blocked, until a person says
//! otherwise.
//!
//! This list alone says so, in this life and the next. What the table shows of it, and when it dials such a
//! node again, follows from it; the book has none of them.

use std::collections::BTreeMap;

use super::super::params::{QUARANTINE, QUARANTINED_MAX};
use super::super::ports::SavedBan;
use super::state::{Standing, State};
use crate::time::{Now, Wall};
use crate::wire::NodeId;

/// Whom, until when, and why.
#[derive(Default)]
pub(super) struct Shunned {
    quarantined: BTreeMap<NodeId, Ban>,
    /// At most `BLOCKED_MAX`, which whoever takes the order sees to.
    blocked: BTreeMap<NodeId, Ban>,
    /// Since somebody was told who is blocked.
    pub(super) blocks_changed: bool,
    /// Since it was written down.
    pub(super) changed: bool,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::core) struct Ban {
    since: Wall,
    /// `None` = by hand.
    until: Option<Wall>,
    why: String,
}

impl Ban {
    /// Where a peer of the table stands by it.
    pub(in crate::core) fn state(&self, now: Now) -> State {
        let until = self.until.map(|until| now.mono + until.since(now.wall));
        let standing = if until.is_some() { Standing::Quarantine } else { Standing::Blocked };
        State::Shut { until, standing, why: self.why.clone() }
    }

    fn runs(&self, now: Wall) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Shunned {
    /// Nothing is taken from this node for a day. False when nothing was taken from it already. Beyond the bound the one
    /// that ends first is forgotten.
    pub(super) fn quarantine(&mut self, id: NodeId, why: &str, now: Wall) -> bool {
        if self.is_blocked(&id) {
            return false; // more cannot be done
        }
        self.quarantined.retain(|_, ban| ban.runs(now));
        let is_new = !self.quarantined.contains_key(&id);
        self.put(id, Ban { since: now, until: Some(now + QUARANTINE), why: why.to_owned() });
        is_new
    }

    fn put(&mut self, id: NodeId, ban: Ban) {
        self.quarantined.insert(id, ban);
        if self.quarantined.len() > QUARANTINED_MAX {
            let soonest = self.quarantined.iter().min_by_key(|(_, ban)| ban.until).map(|(id, _)| *id);
            soonest.map(|id| self.quarantined.remove(&id));
        }
        self.changed = true;
    }

    /// A person blocks this node, or gives another reason for it.
    pub(super) fn block(&mut self, id: NodeId, why: &str, now: Wall) {
        let since = self.blocked.get(&id).map_or(now, |ban| ban.since);
        self.quarantined.remove(&id);
        self.blocked.insert(id, Ban { since, until: None, why: why.to_owned() });
        (self.changed, self.blocks_changed) = (true, true);
    }

    /// False when it was not blocked.
    pub(super) fn unblock(&mut self, id: &NodeId) -> bool {
        let was_blocked = self.blocked.remove(id).is_some();
        self.changed |= was_blocked;
        self.blocks_changed |= was_blocked;
        was_blocked
    }

    pub(super) fn is_blocked(&self, id: &NodeId) -> bool {
        self.blocked.contains_key(id)
    }

    pub(super) fn blocked(&self) -> impl Iterator<Item = NodeId> {
        self.blocked.keys().copied()
    }

    /// Why nothing is taken from this node now.
    pub(super) fn get(&self, id: &NodeId, now: Wall) -> Option<&Ban> {
        self.blocked.get(id).or_else(|| self.quarantined.get(id)).filter(|ban| ban.runs(now))
    }

    /// Everybody from whom nothing is taken now, the blocked ones first.
    pub(super) fn iter(&self, now: Wall) -> impl Iterator<Item = (&NodeId, &Ban)> {
        self.blocked.iter().chain(&self.quarantined).filter(move |(_, ban)| ban.runs(now))
    }

    /// As it is written down.
    pub(super) fn saved(&self, now: Wall) -> Vec<SavedBan> {
        let save = |(id, ban): (&NodeId, &Ban)| {
            let Ban { since, until, why } = ban.clone();
            SavedBan { id: *id, since, until, why }
        };
        self.iter(now).map(save).collect()
    }

    /// Takes back what was written down. What a clock wrote that was ahead lasts no longer than what is
    /// written now.
    pub(super) fn restore(&mut self, saved: SavedBan, now: Wall) {
        let SavedBan { id, since, until, why } = saved;
        let ban = Ban { since, until: until.map(|until| until.min(now + QUARANTINE)), why };
        if ban.until.is_none() {
            self.blocked.insert(id, ban);
            self.blocks_changed = true;
        } else if ban.runs(now) {
            self.put(id, ban);
        }
        self.changed = false; // the file says so already
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::Keypair;

    const NOW: Wall = Wall::from_millis(1_795_243_262_123);

    fn id(seed: u8) -> NodeId {
        Keypair::from_seed(&[seed; 32]).id()
    }

    #[test]
    fn a_quarantine_ends_after_a_day() {
        let mut shunned = Shunned::default();
        assert!(shunned.quarantine(id(2), "x", NOW));
        assert!(!shunned.quarantine(id(2), "x", NOW), "said once");
        assert!(shunned.get(&id(2), NOW + QUARANTINE / 2).is_some());
        assert_eq!(shunned.get(&id(2), NOW + QUARANTINE), None);
        assert_eq!(shunned.get(&id(3), NOW), None);
    }

    #[test]
    fn however_many_play_games_the_list_of_them_is_bounded() {
        let mut shunned = Shunned::default();
        for number in 0..=u64::try_from(QUARANTINED_MAX).expect("small") {
            let mut seed = [9; 32];
            seed[..8].copy_from_slice(&number.to_le_bytes());
            let later = NOW + Duration::from_millis(number);
            assert!(shunned.quarantine(Keypair::from_seed(&seed).id(), "x", later));
        }
        assert_eq!(shunned.quarantined.len(), QUARANTINED_MAX);
        let later = NOW + QUARANTINE / 2;
        assert!(shunned.quarantine(id(2), "x", later), "the newest is taken up");
        assert!(shunned.get(&id(2), later).is_some());
        assert!(!shunned.quarantine(id(2), "x", later), "and pushes out nobody when it is there");
        assert_eq!(shunned.quarantined.len(), QUARANTINED_MAX);
    }

    #[test]
    fn a_list_of_another_life_counts_as_long_as_it_runs_and_never_longer_than_a_day() {
        let mut shunned = Shunned::default();
        shunned.quarantine(id(2), "it cheated", NOW);
        shunned.quarantine(id(3), "it cheated", NOW + QUARANTINE / 2);
        let saved = shunned.saved(NOW + QUARANTINE);
        assert_eq!(saved.len(), 1, "what is over is not kept");
        let mut again = Shunned::default();
        saved.into_iter().for_each(|ban| again.restore(ban, NOW - QUARANTINE * 9));
        assert!(again.get(&id(3), NOW - QUARANTINE * 9).is_some() && !again.changed);
        assert_eq!(again.get(&id(3), NOW - QUARANTINE * 8), None, "written by a clock that was ahead");
    }
}
