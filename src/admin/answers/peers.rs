//! Peers: how things stand with them, and how that came.

use serde::{Deserialize, Serialize};

use super::{Document, moment};
use crate::core::ports::Origin;
use crate::time::Wall;
use crate::wire::{NodeId, PeerAddress};

/// Everybody this node knows. Schema `afferent.peers/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Peers {
    /// The ones with a lane first, then by the last time they were seen; those that were only heard of where
    /// they were asked for.
    pub peers: Vec<Peer>,
    /// Nodes heard of that are not among them.
    #[serde(default)]
    pub strangers: u64,
}

impl Document for Peers {
    const SCHEMA: &'static str = "afferent.peers/1";
}

/// One peer. Alone its schema is `afferent.peer/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Who.
    pub id: NodeId,
    /// Our own name for it.
    pub alias: Option<String>,
    /// Where it can be dialled, in the form that `peers add` takes.
    pub addresses: Vec<PeerAddress>,
    /// How things stand.
    pub state: PeerState,
    /// How it came to be known.
    pub origin: Origin,
    /// What led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// One round trip, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Events it gave us since the start.
    pub events_in: u64,
    /// Events it took from us since the start.
    pub events_out: u64,
    /// When it last answered or called.
    #[serde(with = "moment")]
    pub last_seen: Option<Wall>,
    /// What went wrong last, in our own words; the reason that was given for blocking it.
    pub why: Option<String>,
    /// Dials in a row that failed.
    #[serde(default, skip_serializing_if = "super::is_none")]
    pub failures: u64,
    /// Milliseconds until it is dialled again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
    /// It takes less than comes in; the rest waits in the journal.
    #[serde(default)]
    pub lagging: bool,
    /// How it came to stand where it stands since the start of the daemon, the oldest change first; only of
    /// one peer alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Moved>>,
}

/// One change of how things stand with a peer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Moved {
    /// When, by our clock.
    #[serde(with = "moment")]
    pub at: Option<Wall>,
    /// To what.
    pub state: PeerState,
    /// Why, in our own words; empty where it goes without saying.
    pub why: String,
}

impl Document for Peer {
    const SCHEMA: &'static str = "afferent.peer/1";
}

/// What led to a peer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Via {
    /// Which way.
    pub way: Way,
    /// Who told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teller: Option<NodeId>,
}

/// The ways that lead to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// A person typed it in.
    Manual,
    /// A neighbour told of it.
    Told,
    /// It called on us.
    Called,
    /// A zone of the DNS names it.
    Dns,
    /// The list of seeds names it.
    Seeds,
    /// It was a peer in an earlier life of this node.
    Remembered,
}

/// How things stand with a peer (3-discovery.md, "Table").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// A lane stands: events flow.
    Connected,
    /// Its lane broke within the last half minute; it is dialled at once.
    Suspect,
    /// Being dialled.
    Probing,
    /// It could not be reached; the next try has a time.
    Backoff,
    /// Its key answered within a day, and no lane to it is wanted now.
    Verified,
    /// Known, with no lane of ours and none wanted now: it calls us, gave no address, or was told of.
    Heard,
    /// It did not answer for long; it is dialled now and then.
    Dead,
    /// It said goodbye.
    Left,
    /// It cheated: nothing is taken from it for a day.
    Quarantine,
    /// It came by itself, and waits for a person to accept it.
    Asking,
    /// A person blocked it.
    Blocked,
}
