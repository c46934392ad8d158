//! What the command line asked for instead of what the configuration says.
//!
//! Whoever spoke last wins: a change by `afferent interests` outlives restarts until somebody edits
//! `interests.patterns` in the configuration, which the file remembers as it was.

use serde::{Deserialize, Serialize};

use super::{DataDir, StoreError, files};
use crate::wire::{Interests, Pattern};

/// 64 patterns and their escapes.
pub const BYTES_MAX: u64 = 64 << 10;

#[derive(Serialize, Deserialize)]
struct Saved {
    /// The configuration when the change was made.
    configured: Vec<Pattern>,
    /// What was asked for instead.
    patterns: Vec<Pattern>,
}

/// What was asked for, if it still counts under this configuration. A damaged file counts for nothing:
/// the configuration is there.
pub fn load(dir: &DataDir, configured: &Interests) -> Option<Interests> {
    let bytes = files::read(&dir.interests_path(), BYTES_MAX).ok()??;
    let saved: Saved = serde_json::from_slice(&bytes).ok()?;
    if saved.configured != configured.patterns() {
        return None;
    }
    Interests::new(saved.patterns).ok()
}

/// Remembers a change, durably.
///
/// # Errors
/// [`StoreError::Disk`]; what was remembered before still is.
pub fn save(dir: &DataDir, configured: &Interests, wanted: &Interests) -> Result<(), StoreError> {
    let saved = Saved { configured: configured.patterns().to_vec(), patterns: wanted.patterns().to_vec() };
    let text = serde_json::to_string(&saved).expect("patterns always encode");
    files::replace(&dir.interests_path(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interests(texts: &[&str]) -> Interests {
        Interests::new(texts.iter().map(|text| text.parse().expect("a pattern"))).expect("interests")
    }

    #[test]
    fn whoever_spoke_last_wins() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(home.path()).expect("a data directory");
        let (configured, wanted) = (interests(&["a.*"]), interests(&["b.*"]));
        assert_eq!(load(&dir, &configured), None);
        save(&dir, &configured, &wanted).expect("a disk");
        assert_eq!(load(&dir, &configured), Some(wanted));
        assert_eq!(load(&dir, &interests(&["c.*"])), None, "the configuration was edited since");
        std::fs::write(dir.interests_path(), "{").expect("a disk");
        assert_eq!(load(&dir, &configured), None);
    }
}
