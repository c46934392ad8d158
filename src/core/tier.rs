//! Where the mesh is looked for: the tiers of discovery, and what they bring (3-discovery.md).
//!
//! No tier gates another, and none is trusted more than a stranger: a find is a place to dial, and
//! only the key that answers there proves anything.

use serde::{Deserialize, Serialize};

use crate::wire::{HostPort, NodeId};

/// How an address came to us.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// We were connected to it when the last life of this node ended.
    Anchor,
    /// A zone of the DNS names it.
    Dns,
    /// A node that we know told us of it, or it came to us itself.
    Exchange,
    /// A person typed it in.
    Manual,
    /// It stands in the list that comes with the release.
    Seed,
}

/// One node that a tier names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Find {
    /// Whose key should answer there; `None` = not said: whoever answers is taken for it.
    pub id: Option<NodeId>,
    /// Where, to be tried in order.
    pub at: Vec<HostPort>,
}
