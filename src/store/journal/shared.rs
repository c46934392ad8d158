//! What the writer and the readers of a journal share.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use prometheus_client::metrics::histogram::Histogram;

use super::engine::{Engine, Fault, Item, Place};
use super::span::{self, Span};
use super::wal::Mended;
use super::{DataDir, Stats, StoreError, layout};
use crate::core::ports::{Seen, Seq};
use crate::time::Wall;
use crate::wire::{Digest, Keys};

/// Damaged entries remembered one by one, so that many readers count each of them once.
pub const DAMAGED_MAX: usize = 10_000;
/// Positions left out when the end of a write-ahead file was cut: more than one commit can hold.
const POSITIONS_SKIPPED: u64 = 1 << 16;

/// What is behind a lock is whole at every moment, so a panic elsewhere does not spoil it.
pub(super) fn locked<T: ?Sized>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The state of an open journal that more than the writer looks at.
pub(super) struct Shared {
    /// Holds the directory as long as anything here lives.
    _dir: DataDir,
    pub(super) folder: PathBuf,
    pub(super) incarnation: u64,
    /// `None` while it is being opened again, and once closed. The writer takes the write lock, and
    /// only to change which keyspaces there are.
    pub(super) live: RwLock<Option<Engine>>,
    /// The periods of the log, oldest first. Changed by the writer after each commit.
    pub(super) spans: Mutex<Vec<Span>>,
    pub(super) head: AtomicU64,
    pub(super) cursors: Mutex<Cursors>,
    pub(super) mark: Mutex<Option<Wall>>,
    pub(super) full: Mutex<Option<String>>,
    pub(super) counts: Counts,
    damaged: Mutex<BTreeSet<Seq>>,
    pub(super) keys: Mutex<Keys>,
    /// Does not look at the disk, as if somebody else took the space right after.
    #[cfg(test)]
    pub(super) blind: std::sync::atomic::AtomicBool,
    mended: Mended,
}

/// Counted since the start.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) commits: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) stored: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) refused: AtomicU64,
    /// Entries of a period that is gone as a whole.
    pub(super) lost: AtomicU64,
    pub(super) sync_seconds: SyncSeconds,
}

/// How long commits with their fsync took: from a disk with a battery to one in trouble.
pub(super) struct SyncSeconds(pub(super) Histogram);

impl Default for SyncSeconds {
    fn default() -> SyncSeconds {
        SyncSeconds(Histogram::new([5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.25, 1.0, 5.0]))
    }
}

/// The cursors, and which of them the disk does not have yet.
#[derive(Default)]
pub(super) struct Cursors {
    at: BTreeMap<String, Seq>,
    dirty: BTreeSet<String>,
}

impl Cursors {
    pub(super) fn at(&self, name: &str) -> Option<Seq> {
        self.at.get(name).copied()
    }

    pub(super) fn all(&self) -> Vec<(String, Seq)> {
        self.at.iter().map(|(name, seq)| (name.clone(), *seq)).collect()
    }

    /// Moves or drops one; true when it is the first that waits for the disk.
    pub(super) fn set(&mut self, name: &str, seq: Option<Seq>) -> bool {
        if self.at(name) == seq {
            return false;
        }
        match seq {
            Some(seq) => self.at.insert(name.to_owned(), seq),
            None => self.at.remove(name),
        };
        let was_clean = self.dirty.is_empty();
        self.dirty.insert(name.to_owned());
        was_clean
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// What the next commit has to write down. If it fails: [`Cursors::unsettle`].
    pub(super) fn settle(&mut self) -> (BTreeSet<String>, Vec<Item>) {
        let names = std::mem::take(&mut self.dirty);
        let item = |name: &String| {
            let key = layout::cursor_key(name);
            match self.at.get(name) {
                Some(seq) => Item::put(Place::State, key, seq.0.to_be_bytes()),
                None => Item::remove(Place::State, key),
            }
        };
        let items = names.iter().map(item).collect();
        (names, items)
    }

    pub(super) fn unsettle(&mut self, names: BTreeSet<String>) {
        self.dirty.extend(names);
    }

    /// Nothing after this may be dropped.
    pub(super) fn pinned(&self) -> Option<Seq> {
        let bus = self.at.range("bus:".to_owned()..).take_while(|(name, _)| name.starts_with("bus:"));
        bus.map(|(_, seq)| *seq).min()
    }
}

impl Shared {
    pub(super) fn open(dir: &DataDir) -> Result<Shared, StoreError> {
        let folder = dir.journal_path();
        fs::create_dir_all(&folder).map_err(StoreError::disk("create", &folder))?;
        let failed = |fault: Fault| fault.on_opening(&folder);
        let (mut engine, mended) = Engine::open(&folder).map_err(failed)?;
        let lost = AtomicU64::new(0);
        let spans = restore(&mut engine, &lost).map_err(failed)?;
        let number = |key| Ok(engine.state(key)?.and_then(|value| layout::number(&value)));
        let next = number(layout::NEXT).map_err(failed)?.unwrap_or(1);
        let mut head = spans.last().map_or(0, |span| span.last.0).max(next.saturating_sub(1));
        if mended != Mended::default() {
            // Whoever read what is gone now must not take what comes for it.
            head += POSITIONS_SKIPPED;
            let item = Item::put(Place::State, layout::NEXT, (head + 1).to_be_bytes());
            engine.commit(&[item], true).map_err(failed)?;
        }
        let mark = engine.state(layout::MARK).map_err(failed)?.and_then(|value| layout::moment(&value));
        let mut cursors = Cursors::default();
        cursors.at.extend(engine.cursors().map_err(failed)?);
        let incarnation = match number(layout::INCARNATION).map_err(failed)? {
            Some(incarnation) => incarnation,
            None => found(&engine).map_err(failed)?,
        };
        Ok(Shared {
            _dir: dir.clone(),
            folder,
            incarnation,
            live: RwLock::new(Some(engine)),
            spans: Mutex::new(spans),
            head: AtomicU64::new(head),
            cursors: Mutex::new(cursors),
            mark: Mutex::new(mark),
            full: Mutex::new(None),
            counts: Counts { lost, ..Counts::default() },
            damaged: Mutex::new(BTreeSet::new()),
            keys: Mutex::new(Keys::default()),
            #[cfg(test)]
            blind: std::sync::atomic::AtomicBool::new(false),
            mended,
        })
    }

    /// What this digest means here.
    pub(super) fn seen(&self, digest: &Digest) -> Option<Seen> {
        self.reading(|engine| engine.meaning(digest)).flatten()
    }

    /// Lends the engine to a reader; `None` when there is none now.
    pub(super) fn reading<T>(&self, read: impl FnOnce(&Engine) -> T) -> Option<T> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(read)
    }

    /// Lends it to the writer to change which keyspaces there are.
    pub(super) fn changing<T>(&self, change: impl FnOnce(&mut Engine) -> T) -> Option<T> {
        self.live.write().unwrap_or_else(PoisonError::into_inner).as_mut().map(change)
    }

    /// Takes the engine away from everybody, or gives one back.
    pub(super) fn replace_engine(&self, engine: Option<Engine>) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        // The old one lets go of the folder before a new one is looked for.
        drop(std::mem::replace(&mut *live, engine));
    }

    pub(super) fn earliest(&self) -> Seq {
        let spans = locked(&self.spans);
        spans.first().map_or_else(|| Seq(self.head.load(Ordering::Acquire) + 1), |span| span.first)
    }

    /// One entry could not be read back.
    pub(super) fn note_damage(&self, seq: Seq) {
        let mut damaged = locked(&self.damaged);
        if damaged.len() < DAMAGED_MAX {
            damaged.insert(seq);
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let spans = locked(&self.spans).clone();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let received = spans.first().map(|oldest| {
            let until = spans.iter().map(|span| span.until).max();
            (oldest.begun, until.unwrap_or(oldest.until))
        });
        let ids = self.reading(|engine| engine.ids_ends().count()).unwrap_or(0);
        Stats {
            entries: spans.iter().map(|span| span.entries).sum(),
            bytes: span::bytes(&spans),
            bytes_on_disk: bytes_below(&self.folder).unwrap_or(0),
            earliest: self.earliest(),
            head: Seq(self.head.load(Ordering::Acquire)),
            received,
            periods: (spans.len() as u64, ids as u64),
            commits: count(&self.counts.commits),
            syncs: count(&self.counts.syncs),
            stored: count(&self.counts.stored),
            duplicates: count(&self.counts.duplicates),
            refused: count(&self.counts.refused),
            damaged: locked(&self.damaged).len() as u64 + count(&self.counts.lost),
            cut_bytes: self.mended.cut_bytes,
            damaged_commits: self.mended.damaged,
            full: locked(&self.full).clone(),
        }
    }
}

/// The periods of the log as `state` tells them, made to agree with the keyspaces that are there.
fn restore(engine: &mut Engine, lost: &AtomicU64) -> Result<Vec<Span>, Fault> {
    let mut spans = Vec::new();
    for (n, span) in engine.spans()? {
        // A period whose span cannot be read is counted anew.
        let span = span.or_else(|| recount(engine, n));
        match span {
            Some(span) if engine.holds(Place::Log(n)) => spans.push(span),
            // Its keyspace is gone, which no crash of ours can do.
            span => drop(lost.fetch_add(span.map_or(0, |span| span.entries), Ordering::Relaxed)),
        }
    }
    // A crash between the commit that dropped a period and the deletion of its files, or between making
    // a period and its first commit.
    let orphans: Vec<u64> = engine.log_numbers().filter(|n| !spans.iter().any(|span| span.n == *n)).collect();
    for n in &orphans {
        engine.remove(Place::Log(*n)).map_or(Ok(()), |removed| removed.delete())?;
    }
    Ok(spans)
}

fn recount(engine: &Engine, n: u64) -> Option<Span> {
    let mut span: Option<Span> = None;
    for (seq, value) in engine.entries(n, Seq(0)).flatten() {
        let high = layout::high(&value)?;
        span.get_or_insert_with(|| Span::new(n, seq, high)).count(seq, high, value.len());
    }
    span
}

/// Gives a new journal its incarnation.
fn found(engine: &Engine) -> Result<u64, Fault> {
    let incarnation = getrandom::u64().map_err(|cause| Fault::Disk(io::Error::other(cause.to_string())))?;
    engine.commit(&[Item::put(Place::State, layout::INCARNATION, incarnation.to_be_bytes())], true)?;
    Ok(incarnation)
}

/// What the files below a folder take on the disk; holes take nothing.
fn bytes_below(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for file in fs::read_dir(folder)? {
        let file = file?;
        // A file may be deleted by the engine while we look.
        let Ok(meta) = file.metadata() else { continue };
        bytes += if meta.is_dir() { bytes_below(&file.path()).unwrap_or(0) } else { meta.blocks() * 512 };
    }
    Ok(bytes)
}
