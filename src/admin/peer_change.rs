//! What an event `mesh.peer.<state>` holds: where a peer of this node stands now, and where it stood.

use serde::{Deserialize, Serialize};

use super::answers::{Document, is_none};
use crate::core::Standing;
use crate::time::Wall;
use crate::wire::NodeId;

/// The `data` of an event `mesh.peer.<to>`. Schema `afferent.peer-change/1`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerChange {
    /// Who; the `subject` of the event too.
    pub peer: NodeId,
    /// What people here call it.
    pub alias: Option<String>,
    /// Where it stood before.
    pub from: Standing,
    /// Where it stands: the last word of the event's type.
    pub to: Standing,
    /// Why, for people; empty where it goes without saying.
    pub reason: String,
    /// Since when it stands there.
    #[serde(with = "moment")]
    pub since: Wall,
    /// Changes of it since the event before that are not told one by one, because they were too many.
    #[serde(default, skip_serializing_if = "is_none")]
    pub skipped: u64,
}

impl Document for PeerChange {
    const SCHEMA: &'static str = "afferent.peer-change/1";
}

/// A moment as RFC 3339.
mod moment {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::time::Wall;
    use crate::wire::timestamp;

    pub(super) fn serialize<S: Serializer>(moment: &Wall, serializer: S) -> Result<S::Ok, S::Error> {
        timestamp::format(*moment).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Wall, D::Error> {
        let text = String::deserialize(deserializer)?;
        timestamp::parse(&text).map_err(D::Error::custom)
    }
}
