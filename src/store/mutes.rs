//! Which sources were muted, or listened to again, by the command line.
//!
//! What was typed about a source holds for that source, whatever else the configuration says or is
//! edited to say. Only one thing ends by itself: to listen to a source that the configuration mutes
//! holds as long as the configuration names it, so naming it anew mutes it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{DataDir, StoreError, files};
use crate::core::trust::MUTED_MAX;
use crate::wire::NodeId;

/// An id and its quotes take 55 bytes.
pub const BYTES_MAX: u64 = 64 * 2 * MUTED_MAX as u64;

/// What was typed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutes {
    /// `afferent mute`.
    pub muted: BTreeSet<NodeId>,
    /// `afferent unmute`, about sources of the configuration.
    pub unmuted: BTreeSet<NodeId>,
}

impl Mutes {
    /// Every source that is muted under this configuration.
    pub fn over(&self, configured: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        configured.difference(&self.unmuted).chain(&self.muted).copied().collect()
    }

    /// What of it still counts under this configuration.
    pub fn under(&self, configured: &BTreeSet<NodeId>) -> Mutes {
        Mutes { unmuted: self.unmuted.intersection(configured).copied().collect(), muted: self.muted.clone() }
    }

    /// The same after `afferent mute`.
    pub fn with_muted(&self, source: NodeId) -> Mutes {
        let mut mutes = self.clone();
        mutes.unmuted.remove(&source);
        mutes.muted.insert(source);
        mutes
    }

    /// The same after `afferent unmute`.
    pub fn with_unmuted(&self, source: NodeId, configured: &BTreeSet<NodeId>) -> Mutes {
        let mut mutes = self.clone();
        mutes.muted.remove(&source);
        if configured.contains(&source) {
            mutes.unmuted.insert(source);
        }
        mutes
    }
}

/// What was typed, as far as it still counts under this configuration; what counts no more is forgotten.
/// A damaged file is moved aside, and the second value says so.
pub fn load(dir: &DataDir, configured: &BTreeSet<NodeId>) -> (Mutes, Option<String>) {
    let path = dir.mutes_path();
    let read = files::read(&path, BYTES_MAX).and_then(|bytes| match bytes {
        Some(bytes) => Ok(serde_json::from_slice::<Mutes>(&bytes)?),
        None => Ok(Mutes::default()),
    });
    match read {
        Ok(saved) => {
            let mutes = saved.under(configured);
            // Not saved is no loss: the next start forgets it as well, as long as it is not named anew.
            let not_saved = if mutes == saved { None } else { save(dir, &mutes).err() };
            (mutes, not_saved.map(|error| error.to_string()))
        }
        Err(why) => {
            let aside = path.with_extension("damaged");
            let moved = match std::fs::rename(&path, &aside) {
                Ok(()) => format!("it is now {}", aside.display()),
                Err(error) => format!("it stays, since it cannot be moved aside: {error}"),
            };
            let what = format!("the mutes typed by hand in {} cannot be read, {why}", path.display());
            (Mutes::default(), Some(format!("{what}; {moved}; mute again what `trust.mute` does not name")))
        }
    }
}

/// Remembers what was typed, durably.
///
/// # Errors
/// [`StoreError::Disk`]; what was remembered before still is.
pub fn save(dir: &DataDir, mutes: &Mutes) -> Result<(), StoreError> {
    let text = serde_json::to_string(mutes).expect("ids always encode");
    files::replace(&dir.mutes_path(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;

    fn ids(seeds: &[u8]) -> BTreeSet<NodeId> {
        seeds.iter().map(|seed| id(*seed)).collect()
    }

    fn id(seed: u8) -> NodeId {
        Keypair::from_seed(&[seed; 32]).id()
    }

    #[test]
    fn what_was_typed_about_a_source_holds_for_that_source() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(home.path()).expect("a data directory");
        assert_eq!(load(&dir, &ids(&[1])), (Mutes::default(), None));
        let typed = Mutes::default().with_muted(id(3)).with_unmuted(id(1), &ids(&[1, 2]));
        save(&dir, &typed).expect("a disk");
        let over = |configured: &[u8]| load(&dir, &ids(configured)).0.over(&ids(configured));
        assert_eq!(over(&[1, 2]), ids(&[2, 3]));
        assert_eq!(over(&[1, 4]), ids(&[3, 4]), "an edit about others changes nothing for these");
        assert_eq!(over(&[]), ids(&[3]));
        assert_eq!(over(&[1]), ids(&[1, 3]), "it was named anew");
        assert_eq!(typed.with_unmuted(id(3), &ids(&[])).muted, ids(&[]));
        assert_eq!(typed.with_muted(id(1)).over(&ids(&[1])), ids(&[1, 3]));
    }

    #[test]
    fn a_damaged_file_is_said_and_moved_aside() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(home.path()).expect("a data directory");
        for text in ["{", r#"{"muted":["x"],"unmuted":[]}"#, r#"{"muted":[],"unmuted":[],"new":1}"#] {
            std::fs::write(dir.mutes_path(), text).expect("a disk");
            let (mutes, warning) = load(&dir, &ids(&[]));
            assert_eq!(mutes, Mutes::default());
            assert!(warning.as_ref().is_some_and(|warning| warning.contains("mutes.damaged")), "{warning:?}");
            let aside = dir.mutes_path().with_extension("damaged");
            assert_eq!(std::fs::read_to_string(aside).expect("there"), text);
            assert_eq!(load(&dir, &ids(&[])), (Mutes::default(), None));
        }
    }

    #[test]
    fn the_longest_list_can_be_read_back() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(home.path()).expect("a data directory");
        let one = serde_json::to_string(&id(1)).expect("an id").len() as u64 + 1;
        assert!(2 * MUTED_MAX as u64 * one + 64 < BYTES_MAX);
        save(&dir, &Mutes { muted: ids(&[1]), unmuted: ids(&[2]) }).expect("a disk");
        assert_eq!(load(&dir, &ids(&[2])).0.unmuted, ids(&[2]));
    }
}
