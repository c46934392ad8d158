//! One node of the book: where it is, who said so, and what became of the dials to it.

use super::super::params::VERIFIED_FOR;
use super::super::ports::LaneId;
use super::super::tier::Tier;
use super::book::group_of;
use super::buckets::Place;
use super::state::{Standing, Tally};
use crate::time::{Mono, Now, Wall};
use crate::wire::{HostPort, NodeId, Record, Verified, Word};

/// One node that we heard of.
pub(in crate::core) struct Known {
    pub(in crate::core) record: Option<Verified<Record>>,
    /// Where it may be dialled.
    pub(in crate::core) at: Vec<HostPort>,
    /// On whose word: of whoever told us of these addresses.
    pub(in crate::core) word: Word,
    /// Where somebody else answered.
    pub(super) struck: Vec<HostPort>,
    /// What first named it.
    pub(in crate::core) tier: Tier,
    /// What led to whoever named it, in the end.
    pub(super) root: Tier,
    /// Who told us of it.
    pub(in crate::core) teller: Option<NodeId>,
    /// The network of whoever did, or the name of the tier.
    pub(super) source: String,
    pub(super) place: Place,
    pub(super) heard: Wall,
    pub(in crate::core) verified: Option<Wall>,
    pub(super) dead: Option<Wall>,
    pub(in crate::core) tally: Tally,
    /// Not dialled before.
    pub(in crate::core) until: Mono,
    pub(super) probe: Option<Probe>,
    pub(in crate::core) why: String,
    pub(super) anchor: bool,
    /// Nothing is wanted of it before that.
    pub(super) shut: Option<(Mono, Standing)>,
}

/// A dial under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Probe {
    /// To become a peer.
    Lane(LaneId),
    /// To learn whether it is there.
    Feeler(HostPort),
}

impl Known {
    pub(super) fn is_verified(&self, now: Wall) -> bool {
        self.verified.is_some_and(|at| now.since(at) <= VERIFIED_FOR)
    }

    /// May it be dialled now?
    pub(super) fn is_ready(&self, now: Mono) -> bool {
        self.probe.is_none() && self.dead.is_none() && self.is_open(now) && self.until <= now
    }

    pub(super) fn is_open(&self, now: Mono) -> bool {
        self.shut.is_none_or(|(until, _)| until <= now)
    }

    pub(super) fn group(&self) -> Option<String> {
        self.at.first().map(|at| group_of(&at.host))
    }

    /// Where a feeler goes: another of its addresses after each failure.
    pub(super) fn next_place(&self) -> Option<HostPort> {
        let turn = usize::try_from(self.tally.tries).unwrap_or(0);
        self.at.get(turn % self.at.len().max(1)).cloned()
    }

    pub(in crate::core) fn standing(&self, now: Now) -> Standing {
        match (&self.shut, &self.probe) {
            (Some((until, standing)), _) if *until > now.mono => *standing,
            (_, Some(_)) => Standing::Probing,
            _ if self.dead.is_some() => Standing::Dead,
            _ if self.until > now.mono => Standing::Backoff,
            _ if self.is_verified(now.wall) => Standing::Verified,
            _ => Standing::Heard,
        }
    }
}
