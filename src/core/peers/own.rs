//! Where this node is itself: nobody else is looked for there, whatever is said.
//!
//! The handshake would find it out: a dial of our own address ends at our own key. But that is a dial for
//! nothing, and again for every label under which somebody lists the address.
//!
//! Only what this machine knows by itself counts: where it listens, and what its operator wrote down. What
//! peers say of our address does not, or one of them could make us look for a friend nowhere.

use std::collections::BTreeSet;

use super::Peers;
use crate::wire::{HostPort, Profile};

/// Our own places.
pub(super) struct Own(BTreeSet<HostPort>);

impl Own {
    pub(super) fn new(places: BTreeSet<HostPort>) -> Own {
        Own(places)
    }

    pub(super) fn holds(&self, at: &HostPort) -> bool {
        self.0.contains(at)
    }

    /// May this place be dialled because somebody named it?
    pub(super) fn allows(&self, at: &HostPort, profile: Profile) -> bool {
        profile.allows_host(at).is_ok() && !self.holds(at)
    }
}

impl Peers {
    /// May this place be dialled because somebody named it?
    pub(in crate::core) fn allows(&self, at: &HostPort) -> bool {
        self.own.allows(at, self.rules.profile)
    }
}
