//! What the disk keeps of other nodes from one life to the next.

use serde::{Deserialize, Serialize};

use super::ports::Seq;
use super::tier::Tier;
use crate::time::Wall;
use crate::wire::{HostPort, NodeId, Record, Verified};

/// How a peer came to be known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Typed in by a person: never evicted, its address exempt from the policy.
    Manual,
    /// It came to us.
    Inbound,
    /// We found it, and chose it.
    Found,
}

/// May it be a neighbour, to which events are owed?
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Welcome {
    /// Nobody had to be asked.
    #[default]
    Open,
    /// It came by itself, and nobody has accepted it yet.
    Asks,
    /// A person accepted it.
    Accepted,
}

/// A peer as the peer file keeps it.
#[derive(Clone, Debug)]
pub struct SavedPeer {
    /// Who.
    pub id: NodeId,
    /// How it came to be known.
    pub origin: Origin,
    /// May it be a neighbour?
    pub welcome: Welcome,
    /// A name of our own for it.
    pub alias: Option<String>,
    /// Where it was typed in to be; empty for one that came by itself.
    pub addresses: Vec<HostPort>,
    /// A lane to it stood once.
    pub proven: bool,
    /// The last record it gave us.
    pub record: Option<Verified<Record>>,
    /// Where it stood in our journal when this was saved: everything up to there is settled. The
    /// journal's own cursor is newer as a rule; the higher of the two counts. `None` = neither is there, or
    /// nothing is owed to it.
    pub cursor: Option<Seq>,
    /// When we first heard of it.
    pub since: Wall,
    /// When it last answered or called.
    pub seen: Option<Wall>,
    /// It spoke from a private network, or from this machine: its private addresses are believed.
    pub near: bool,
}

/// Everybody else as a file keeps them: those that we heard of, and those that we do not listen to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SavedBook {
    /// The nodes that we heard of.
    pub nodes: Vec<SavedNode>,
    /// Those that are not listened to, peers among them.
    pub shunned: Vec<SavedBan>,
}

/// A node that is not listened to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SavedBan {
    /// Who.
    pub id: NodeId,
    /// Since when.
    pub since: Wall,
    /// Until when; `None` = a person blocked it, and has to say otherwise.
    pub until: Option<Wall>,
    /// What it did, or the reason that the person gave.
    pub why: String,
}

/// A node of the book as its file keeps it: one that we heard of. Its record is not kept: a place to dial
/// is all that is needed to get it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SavedNode {
    /// Who.
    pub id: NodeId,
    /// Where it may be dialled.
    pub at: Vec<HostPort>,
    /// What named it first.
    pub tier: Tier,
    /// The network of whoever named it, or the name of the tier.
    pub source: String,
    /// When it was named last.
    pub heard: Wall,
    /// When its key answered last.
    pub verified: Option<Wall>,
    /// Failed dials in a row that were not our own network's fault.
    pub failures: u32,
    /// Given up since.
    pub dead: Option<Wall>,
    /// One of the connections that are dialled first.
    pub anchor: bool,
    /// Whoever told us where it is spoke to us from near, so a name may lead near too.
    pub near: bool,
}
