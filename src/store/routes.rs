//! Which streams of the local bus took what, and until when, so that a change of the configuration loses
//! nothing that was not bridged yet. The daemon's own words: this room only keeps them, with a checksum, since
//! a routing that is a little wrong would send events elsewhere and say nothing.

use super::{DataDir, StoreError, checked, files};

const FORMAT: u32 = 1;
/// A few hundred patterns and names for each of the changes that still count, all of the longest.
pub const BYTES_MAX: u64 = 32 << 20;

/// What was remembered.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The daemon's words; `None` = nothing, or nothing that can be trusted.
    pub text: Option<String>,
    /// What is to be told to the operator.
    pub warning: Option<String>,
}

/// Reads it back. A file that cannot be trusted is moved to `routes.corrupt-<n>` and said.
pub fn load(dir: &DataDir) -> Loaded {
    let path = dir.routes_path();
    let read = match files::read(&path, BYTES_MAX) {
        Ok(None) => return Loaded::default(),
        Ok(Some(bytes)) => decode(&bytes),
        Err(cause) => Err(cause.to_string()),
    };
    match read {
        Ok(text) => Loaded { text: Some(text), warning: None },
        Err(why) => {
            let trouble = format!("what is remembered of the streams in {} cannot be used: {why}", path.display());
            let warning = checked::move_aside(&path, &trouble)
                .map_or_else(|fault| fault, |moved| format!("{moved}, and each stream goes on where it is"));
            Loaded { text: None, warning: Some(warning) }
        }
    }
}

fn decode(bytes: &[u8]) -> Result<String, String> {
    let (_, body) = checked::open(FORMAT, bytes)?;
    String::from_utf8(body.to_vec()).map_err(|_| "it is not UTF-8".to_owned())
}

/// Remembers it, durably.
///
/// # Errors
/// [`StoreError::Disk`]; what was remembered before still is.
pub fn save(dir: &DataDir, text: &str) -> Result<(), StoreError> {
    files::replace(&dir.routes_path(), checked::seal(FORMAT, text).as_bytes())
}
