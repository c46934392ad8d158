//! Who is not listened to: nodes that cheated, for a day.
//!
//! This list alone says so. What the table shows of it, and when it dials such a node again, follows from
//! it; the book has none of them.

use std::collections::BTreeMap;

use super::super::params::{QUARANTINE, QUARANTINED_MAX};
use crate::time::Wall;
use crate::wire::NodeId;

/// Until when.
#[derive(Default)]
pub(super) struct Shunned {
    quarantined: BTreeMap<NodeId, Wall>,
}

impl Shunned {
    /// Nothing is taken from this node for a day. False when that was so already. Beyond the bound the one
    /// that ends first is forgotten.
    pub(super) fn quarantine(&mut self, id: NodeId, now: Wall) -> bool {
        self.quarantined.retain(|_, until| now < *until);
        let is_new = self.quarantined.insert(id, now + QUARANTINE).is_none();
        if self.quarantined.len() > QUARANTINED_MAX {
            let soonest = self.quarantined.iter().min_by_key(|(_, until)| **until).map(|(id, _)| *id);
            soonest.map(|id| self.quarantined.remove(&id));
        }
        is_new
    }

    /// Is nothing taken from this node now?
    pub(super) fn has(&self, id: &NodeId, now: Wall) -> bool {
        self.quarantined.get(id).is_some_and(|until| now < *until)
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
        assert!(shunned.quarantine(id(2), NOW));
        assert!(!shunned.quarantine(id(2), NOW), "said once");
        assert!(shunned.has(&id(2), NOW + QUARANTINE / 2) && !shunned.has(&id(2), NOW + QUARANTINE));
        assert!(!shunned.has(&id(3), NOW));
    }

    #[test]
    fn however_many_play_games_the_list_of_them_is_bounded() {
        let mut shunned = Shunned::default();
        for number in 0..=u64::try_from(QUARANTINED_MAX).expect("small") {
            let mut seed = [9; 32];
            seed[..8].copy_from_slice(&number.to_le_bytes());
            let later = NOW + Duration::from_millis(number);
            assert!(shunned.quarantine(Keypair::from_seed(&seed).id(), later));
        }
        assert_eq!(shunned.quarantined.len(), QUARANTINED_MAX);
        let later = NOW + QUARANTINE / 2;
        assert!(shunned.quarantine(id(2), later), "the newest is taken up");
        assert!(shunned.has(&id(2), later));
        assert!(!shunned.quarantine(id(2), later), "and pushes out nobody when it is there");
        assert_eq!(shunned.quarantined.len(), QUARANTINED_MAX);
    }
}
