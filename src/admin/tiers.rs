//! What the four tiers of discovery answered: of `status`, `GET` and `POST /v1/discovery`.

use serde::{Deserialize, Serialize};

use super::answers::{Document, moment};
use crate::time::Wall;
use crate::wire::{HostPort, NodeId};

/// The ways to find nodes (3-discovery.md), as people name them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TierName {
    /// Zones of `discovery.dns`.
    Dns,
    /// Connected peers, asked whom else they know.
    Exchange,
    /// What a person typed in.
    Manual,
    /// The list of `discovery.seeds`.
    Seeds,
}

impl TierName {
    /// All of them, in the order in which they are shown.
    pub const ALL: [TierName; 4] = [TierName::Dns, TierName::Exchange, TierName::Manual, TierName::Seeds];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            TierName::Dns => "dns",
            TierName::Exchange => "exchange",
            TierName::Manual => "manual",
            TierName::Seeds => "seeds",
        }
    }
}

/// Does a tier work by itself, and when?
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TierState {
    /// The configuration names nothing to ask.
    Off,
    /// It is being asked.
    Asking,
    /// It is asked again at a time.
    Waiting,
    /// It is not needed now: enough connections stand, or, of the exchange, none does.
    Resting,
    /// No daemon was asked, so nobody knows.
    Unknown,
}

/// A tier in one line. Part of the status.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TierStatus {
    /// Which.
    pub tier: TierName,
    /// Does it work by itself?
    pub state: TierState,
    /// When it answered last, or failed to.
    #[serde(with = "moment")]
    pub at: Option<Wall>,
    /// Nodes in its last answer; of the manual tier, peers that were typed in.
    pub found: u64,
    /// What failed last, in our own words; of several zones those that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Milliseconds until it is asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_in_ms: Option<u64>,
}

/// What the tiers answer. Schema `afferent.discovery/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Discovery {
    /// They were asked for this answer; else it is what they said last.
    pub asked: bool,
    /// Nothing was dialled for this answer.
    pub dry_run: bool,
    /// Connections of this node's own choice that stand, and those that are wanted; absent without a daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<u64>,
    /// See `standing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u64>,
    /// In the order of [`TierName::ALL`].
    pub tiers: Vec<TierAnswer>,
}

impl Document for Discovery {
    const SCHEMA: &'static str = "afferent.discovery/1";
}

/// What one tier answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TierAnswer {
    /// Which.
    pub tier: TierName,
    /// Does it work by itself?
    pub state: TierState,
    /// Milliseconds until it is asked by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_in_ms: Option<u64>,
    /// Why there is nothing to ask, and what would change that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Each zone, peer or list that was asked.
    pub sources: Vec<Source>,
}

/// What one zone, peer or list answered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Source {
    /// A zone, a channel or file of seeds, a peer by alias or id.
    pub source: String,
    /// When.
    #[serde(with = "moment")]
    pub at: Option<Wall>,
    /// How long it took, in milliseconds.
    pub ms: Option<f64>,
    /// Nodes that it names.
    pub found: u64,
    /// Addresses that may not be dialled.
    pub refused: u64,
    /// Entries that mean nothing here: unreadable, without an address, of another network.
    pub ignored: u64,
    /// Why it is of no use now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failed>,
    /// What came of each address; empty where only the last answer is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
}

/// Why something failed, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// A stable word.
    pub class: String,
    /// For people, in our own words.
    pub why: String,
    /// What an operator does.
    pub next: String,
}

/// What came of one address.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Whose it is said to be, or whose key answered.
    pub id: Option<NodeId>,
    /// Where.
    pub address: HostPort,
    /// This node had heard of that one before.
    pub known: bool,
    /// What came of it.
    pub outcome: PlaceOutcome,
    /// Until the key was proved, in milliseconds; of a connected peer its round trip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failed>,
}

/// What can come of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlaceOutcome {
    /// It may be dialled, and was not for this answer.
    Found,
    /// The address policy forbids it.
    Refused,
    /// This node itself is there.
    Itself,
    /// Its node is connected already, so it was not dialled.
    Connected,
    /// It was dialled, and the key that was expected answered; any, where none was.
    Verified,
    /// It was dialled in vain, or its name leads nowhere.
    Failed,
    /// Enough others were dialled.
    Skipped,
    /// Its node is blocked here.
    Blocked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_command_line_are_those_of_the_json() {
        for tier in TierName::ALL {
            assert_eq!(serde_json::to_string(&tier).expect("a word"), format!("\"{}\"", tier.as_str()));
        }
    }
}
