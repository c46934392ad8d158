//! Which streams of the local bus took what, and until when, so that a change of the configuration loses
//! nothing that was not bridged yet. The daemon's own words: this room only keeps them.

use super::{DataDir, StoreError, files};

/// A few hundred patterns and names for each of the changes that still count, all of the longest.
pub const BYTES_MAX: u64 = 32 << 20;

/// What was remembered; `None` = nothing, or nothing that can be read.
pub fn load(dir: &DataDir) -> Option<String> {
    let bytes = files::read(&dir.routes_path(), BYTES_MAX).ok()??;
    String::from_utf8(bytes).ok()
}

/// Remembers it, durably.
///
/// # Errors
/// [`StoreError::Disk`]; what was remembered before still is.
pub fn save(dir: &DataDir, text: &str) -> Result<(), StoreError> {
    files::replace(&dir.routes_path(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_there_again_and_damage_is_nothing() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let dir = DataDir::open(home.path()).expect("a data directory");
        assert_eq!(load(&dir), None);
        save(&dir, "{}").expect("a disk");
        assert_eq!(load(&dir).as_deref(), Some("{}"));
        std::fs::write(dir.routes_path(), [0xff]).expect("a disk");
        assert_eq!(load(&dir), None);
    }
}
