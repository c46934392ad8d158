//! The data directory: made private, held by one process, of a known format.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

use super::{StoreError, files};
use crate::time::Wall;

/// The format this program writes.
pub const FORMAT: u32 = 1;

/// A data directory that this process holds. Clones share the hold; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct DataDir {
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    path: PathBuf,
    /// The lock ends with this value, or with the process.
    lock: File,
    /// Two record numbers are never drawn at once.
    drawing: Mutex<()>,
}

impl DataDir {
    /// Opens the directory, making it (0700, parents too) when it is not there, and holds it.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Newer`], [`StoreError::NoVersion`], [`StoreError::Disk`].
    pub fn open(path: impl AsRef<Path>) -> Result<DataDir, StoreError> {
        let path = path.as_ref();
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StoreError::disk("create", path))?;
        let path = path.canonicalize().map_err(StoreError::disk("open", path))?;
        let lock = hold(&path)?;
        check_version(&path)?;
        Ok(DataDir { held: Arc::new(Held { path, lock, drawing: Mutex::new(()) }) })
    }

    /// The directory itself, absolute.
    pub fn path(&self) -> &Path {
        &self.held.path
    }

    /// The secret key.
    pub fn key_path(&self) -> PathBuf {
        self.held.path.join("node.key")
    }

    /// The folder of the journal.
    pub fn journal_path(&self) -> PathBuf {
        self.held.path.join("journal")
    }

    /// What the command line asked for instead of the configuration.
    pub fn interests_path(&self) -> PathBuf {
        self.held.path.join("interests")
    }

    /// Which sources the command line muted, or listens to again.
    pub fn mutes_path(&self) -> PathBuf {
        self.held.path.join("mutes")
    }

    /// Which streams of the local bus took what.
    pub fn routes_path(&self) -> PathBuf {
        self.held.path.join("routes")
    }

    /// The peer file.
    pub fn peers_path(&self) -> PathBuf {
        self.held.path.join("peers")
    }

    /// The book of nodes that are no peers.
    pub fn book_path(&self) -> PathBuf {
        self.held.path.join("book")
    }

    /// A number for the next record of our own, higher than every one drawn before and than `above`: durable
    /// when this returns. It is at least the seconds of `now`, so that a node whose directory was lost, or whose
    /// key moved to another machine, is not taken for older than itself.
    ///
    /// # Errors
    /// [`StoreError::Disk`]; no number was drawn.
    pub fn next_record_seq(&self, above: u64, now: Wall) -> Result<u64, StoreError> {
        let _drawing = self.held.drawing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.held.path.join("record-seq");
        let text = files::read(&path, 64).map_err(StoreError::disk("read", &path))?.unwrap_or_default();
        // A number that cannot be read is as good as a lost one: the seconds take over.
        let last: u64 = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let next = last.max(above).saturating_add(1).max(u64::try_from(now.as_secs()).unwrap_or(0));
        files::replace(&path, format!("{next}\n").as_bytes())?;
        Ok(next)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Closing alone would not do: a child that was forked but has not called exec yet shares the file.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

fn hold(path: &Path) -> Result<File, StoreError> {
    let lock_path = path.join("lock");
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(StoreError::disk("open", &lock_path))?;
    if let Err(cause) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        if cause != rustix::io::Errno::WOULDBLOCK {
            return Err(StoreError::Disk { action: "lock", path: lock_path, cause: cause.into() });
        }
        let mut holder = String::new();
        let is_number = lock.read_to_string(&mut holder).is_ok() && holder.trim().parse::<u32>().is_ok();
        let holder = if is_number { holder.trim().to_owned() } else { "unknown".to_owned() };
        return Err(StoreError::InUse { path: path.to_owned(), holder });
    }
    // For people only; the lock holds without it, so a full disk is no reason to stop here.
    let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
    Ok(lock)
}

fn check_version(path: &Path) -> Result<(), StoreError> {
    let file = path.join("VERSION");
    let Some(text) = files::read(&file, 64).map_err(StoreError::disk("read", &file))? else {
        return files::replace(&file, format!("{FORMAT}\n").as_bytes());
    };
    let found = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse::<u32>().ok());
    match found {
        Some(FORMAT) => Ok(()),
        Some(found) if found > FORMAT => Err(StoreError::Newer { path: path.to_owned(), found, known: FORMAT }),
        // Format 1 is the first: there is nothing older to bring up to date.
        Some(_) | None => Err(StoreError::NoVersion { path: file }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOW: Wall = Wall::from_millis(1_795_243_262_123);

    #[test]
    fn it_is_made_for_its_owner_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("a/b");
        let dir = DataDir::open(&path).expect("a new one");
        for made in [path.as_path(), &home.path().join("a")] {
            let mode = fs::metadata(made).expect("is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", made.display());
        }
        assert_eq!(fs::read_to_string(path.join("VERSION")).expect("is there"), "1\n");
        assert!(dir.key_path().starts_with(dir.path()));
    }

    #[test]
    fn a_second_holder_is_told_which_directory_is_taken() {
        let home = tempfile::tempdir().expect("a directory");
        let first = DataDir::open(home.path()).expect("free");
        let refused = DataDir::open(home.path()).expect_err("taken");
        assert!(matches!(&refused, StoreError::InUse { holder, .. } if *holder == std::process::id().to_string()));
        assert!(refused.to_string().contains(&first.path().display().to_string()), "{refused}");
        let second_hold = first.clone();
        drop(first);
        assert!(DataDir::open(home.path()).is_err(), "a clone holds it still");
        let shared_by_a_fork = second_hold.held.lock.try_clone().expect("one more descriptor");
        drop(second_hold);
        assert!(DataDir::open(home.path()).is_ok());
        drop(shared_by_a_fork);
    }

    #[test]
    fn a_newer_format_is_refused_and_left_alone() {
        let home = tempfile::tempdir().expect("a directory");
        for (text, word) in [("2\n", "newer afferent"), ("x", "format number"), ("", "format number"), ("0", "format")]
        {
            fs::write(home.path().join("VERSION"), text).expect("written");
            let refused = DataDir::open(home.path()).expect_err("not ours");
            assert!(refused.to_string().contains(word), "{refused}");
            assert_eq!(fs::read_to_string(home.path().join("VERSION")).expect("is there"), text);
        }
    }

    #[test]
    fn record_numbers_only_grow_whatever_the_clock_and_the_file_say() {
        let home = tempfile::tempdir().expect("a directory");
        let draw = |now| DataDir::open(home.path()).expect("ours").next_record_seq(0, now).expect("a number");
        let first = draw(NOW);
        assert_eq!(first, 1_795_243_262);
        assert_eq!(draw(NOW), first + 1);
        assert_eq!(draw(Wall(0)), first + 2, "the clock went back");
        fs::write(home.path().join("record-seq"), "\u{0}\u{0}").expect("written");
        assert!(draw(NOW + std::time::Duration::from_secs(60)) > first + 2);
    }

    #[test]
    fn what_is_refused_by_the_system_names_the_path_and_a_way_out() {
        let home = tempfile::tempdir().expect("a directory");
        fs::write(home.path().join("file"), "").expect("written");
        let refused = DataDir::open(home.path().join("file/below")).expect_err("not a directory");
        assert!(refused.to_string().contains("file/below"), "{refused}");
    }
}
