//! This node's key as the commands see it: where it is, what it is, and a first one.

use std::path::{Path, PathBuf};

use super::codes;
use super::failure::{Exit, Failure};
use crate::config::Settings;
use crate::store::{DataDir, StoreError, key};
use crate::wire::Keypair;

/// The file that holds the key: the one that the service manager hands over if it does, else the one
/// in the data directory.
pub(super) fn path(settings: &Settings) -> PathBuf {
    let given = settings.node.credential.clone().filter(|path| path.exists());
    given.unwrap_or_else(|| settings.node.data_dir.join("node.key"))
}

/// Reads the key, for `thing`. The data directory may be held by a running daemon.
pub(super) fn load(thing: &str, settings: &Settings) -> Result<Keypair, Failure> {
    let unusable = |error: StoreError| Failure::new(Exit::Failed, codes::BAD_KEY, thing, error.to_string());
    let credentials = settings.node.credential.as_deref().and_then(Path::parent);
    if let Some(key) = key::from_credentials(credentials.map(Path::as_os_str)).map_err(unusable)? {
        return Ok(key);
    }
    let path = path(settings);
    if path.try_exists().is_ok_and(|is_there| !is_there) {
        let what = format!("this node has no key yet, {} is not there", path.display());
        return Err(Failure::new(Exit::Failed, codes::NO_KEY, thing, what).next(FIRST_KEY));
    }
    key::load(&path).map_err(unusable)
}

/// Makes the data directory, and a new key in it; never over another one.
pub(super) fn create(settings: &Settings) -> Result<Keypair, Failure> {
    let made = DataDir::open(&settings.node.data_dir).and_then(|directory| key::create(&directory.key_path()));
    made.map_err(|error| Failure::new(Exit::Failed, codes::BAD_KEY, "init", error.to_string()))
}

/// Not `init` alone: the daemon may have a key that only the service manager can read.
const FIRST_KEY: &str = "afferent init, unless systemd hands the daemon its key (LoadCredential=): then afferent id";
