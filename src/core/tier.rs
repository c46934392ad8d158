//! What the tiers of discovery bring: where somebody may be, and who told.
//!
//! A find is a hint and nothing more. It is dialled when there is room, and only the key that answers
//! there makes a peer of it.

use crate::wire::{HostPort, NodeId};

/// Where a find comes from. None of them gates another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tier {
    /// A peer that was good to us before the last restart.
    Anchor,
    /// A zone of the DNS.
    Dns,
    /// A peer was asked for others.
    Exchange,
    /// A person typed it in.
    Manual,
    /// The list that came with the release.
    Seed,
}

/// One node that somebody told us of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Find {
    /// Whose key is said to answer there; `None` = not said, whoever answers is it.
    pub id: Option<NodeId>,
    /// Where; at least one place. What the DNS brings are IP addresses that passed the address policy,
    /// which is asked again at the socket.
    pub at: Vec<HostPort>,
}
