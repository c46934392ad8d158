//! Where this node is itself: nobody else is looked for there, whatever is said.
//!
//! The handshake would find it out: a dial of our own address ends at our own key. But that is a dial for
//! nothing, and again for every label under which somebody lists the address.

use std::collections::BTreeSet;

use super::super::ports::Output;
use super::Peers;
use crate::wire::{HostPort, NodeId, Profile, Record};

/// Our own places.
pub(super) struct Own {
    /// Where we listen.
    listening: BTreeSet<HostPort>,
    /// Where our newest record says that we are.
    announced: BTreeSet<HostPort>,
}

impl Own {
    pub(super) fn new(listening: BTreeSet<HostPort>) -> Own {
        Own { listening, announced: BTreeSet::new() }
    }

    pub(super) fn holds(&self, at: &HostPort) -> bool {
        self.listening.contains(at) || self.announced.contains(at)
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

    /// We say in a new record where we are: whoever was said to be there is not.
    pub(in crate::core) fn on_signed(&mut self, record: &Record, out: &mut Vec<Output>) {
        self.own.announced = record.addresses.iter().cloned().collect();
        let own = &self.own;
        let is_there = |at: &HostPort| own.holds(at);
        let mistaken = self.book.iter().filter(|(_, known)| known.at.iter().any(is_there));
        let mistaken: Vec<(NodeId, Vec<HostPort>)> =
            mistaken.map(|(id, known)| (*id, known.at.iter().filter(|at| !is_there(at)).cloned().collect())).collect();
        for (id, rest) in mistaken {
            if rest.is_empty() {
                self.strike_out(&id, out);
            } else {
                self.book.settle_at(&id, rest);
            }
        }
    }
}
