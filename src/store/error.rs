//! What can be wrong with the disk, said to the operator: what, where, and what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// A fault of the disk or of what stands on it. Unless a variant says otherwise nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused. What was there before is still there.
    #[error("cannot {action} {}: {cause}; {}", path.display(), advice(cause))]
    Disk {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Another process holds the data directory.
    #[error("the data directory {} is in use by process {holder}; stop it, or give this node a directory of its own", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Its process id as it wrote it down, or `unknown`.
        holder: String,
    },
    /// The directory was written by a newer version of this program.
    #[error("the data directory {} has format {found}, this program knows up to {known}; run a newer afferent, or name another directory", path.display())]
    Newer {
        /// The directory.
        path: PathBuf,
        /// What stands in `VERSION`.
        found: u32,
        /// What this program writes.
        known: u32,
    },
    /// `VERSION` holds no number.
    #[error("{} does not hold a format number; if this directory belongs to afferent write `1` into it, else name another directory", path.display())]
    NoVersion {
        /// The file.
        path: PathBuf,
    },
    /// People other than the owner could read the secret key.
    #[error("the key file {} can be read by others (mode {mode:03o}); type: chmod 600 {}", path.display(), path.display())]
    KeyExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file holds something else.
    #[error("the key file {} is of no use: {why}; restore it from a backup, or move it away and make a new identity", path.display())]
    KeyUnusable {
        /// The file.
        path: PathBuf,
        /// What is wrong, never quoting the content.
        why: &'static str,
    },
    /// There is a key already, and keys are never overwritten.
    #[error("the key file {} is there already; this node has an identity: move the file away to make a new one", path.display())]
    KeyPresent {
        /// The file.
        path: PathBuf,
    },
    /// The journal's engine cannot make sense of what it finds.
    #[error("the journal in {} is damaged: {why}; restore it, or move it away: what it held and was not delivered is lost then", path.display())]
    Damaged {
        /// The directory of the journal.
        path: PathBuf,
        /// What the engine said.
        why: String,
    },
}

impl StoreError {
    /// For `map_err`: the operating system refused to do this to that.
    pub(super) fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |cause| StoreError::Disk { action, path, cause }
    }
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => "give the user that runs afferent the right to do so",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on that file system",
        io::ErrorKind::ReadOnlyFilesystem => "mount it writable",
        io::ErrorKind::NotFound => "check the path",
        _ => "check the disk and its file system",
    }
}
