//! The storage engine, fjall, and nothing of it outside this file: keyspaces by what they are for,
//! atomic commits, faults sorted by what can be done about them.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::config::{BlockSizePolicy, CompressionPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Slice};

use super::super::{StoreError, files};
use super::filter::{FILTER_BYTES_MAX, Filling, Filter, Memory};
use super::layout::{self, ShortDigest};
use super::span::Span;
use super::wal::{self, Mended};
use crate::core::ports::{Claimed, Seen, Seq};
use crate::time::Wall;
use crate::wire::Digest;

/// More makes fewer and larger tables and costs memory (8-performance.md).
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Searched for every event: what fits the processor's cache is found faster (CPU of an append -15 %).
const IDS_MEMTABLE_BYTES: u64 = 4 << 20;
/// Cursors and counters: small, rewritten all the time.
const STATE_MEMTABLE_BYTES: u64 = 4 << 20;
/// Above this the engine writes out what keeps the oldest write-ahead file alive.
const WAL_BYTES: u64 = 128 << 20;
const CACHE_BYTES: u64 = 16 << 20;
/// Files that the engine keeps open.
pub const FILES_OPEN_MAX: usize = 128;
const WORKERS: usize = 2;
/// More than the sequence numbers that one deletion takes (2).
const NUMBERS_OF_A_DELETION: u32 = 8;

/// Why the engine could not do something, by what can be done about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// No space: it may come back.
    #[error("no space is left on the disk: {0}")]
    Full(io::Error),
    /// The engine takes no more writes since one in its background failed; reads go on.
    #[error("the engine stopped after a failed write in the background")]
    Poisoned,
    /// The disk failed, in an fsync above all: only a restart helps.
    #[error("the disk failed: {0}")]
    Disk(io::Error),
    /// What is on the disk is not what was written.
    #[error("{0}")]
    Damage(String),
}

impl From<fjall::Error> for Fault {
    fn from(error: fjall::Error) -> Fault {
        match error {
            fjall::Error::Poisoned => Fault::Poisoned,
            fjall::Error::Io(cause) | fjall::Error::Storage(fjall::LsmError::Io(cause)) => cause.into(),
            fjall::Error::JournalRecovery(why) => {
                Fault::Damage(format!("its write-ahead file does not add up ({why})"))
            }
            fjall::Error::Storage(why) => Fault::Damage(format!("a table does not add up ({why})")),
            other => Fault::Damage(other.to_string()),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(cause: io::Error) -> Fault {
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Full(cause),
            _ => Fault::Disk(cause),
        }
    }
}

impl Fault {
    /// The same for the operator: this journal cannot be opened.
    pub(super) fn on_opening(self, folder: &Path) -> StoreError {
        let path = folder.to_owned();
        match self {
            Fault::Full(cause) | Fault::Disk(cause) => StoreError::Disk { action: "open the journal in", path, cause },
            Fault::Poisoned | Fault::Damage(_) => StoreError::Damaged { path, why: self.to_string() },
        }
    }
}

/// Which keyspace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Place {
    /// Cursors, spans, counters.
    State,
    /// The entries of one period, by its number.
    Log(u64),
    /// Digests and names that may be forgotten from this moment on.
    Ids(Wall),
}

impl Place {
    fn name(self) -> String {
        match self {
            Place::State => "state".to_owned(),
            Place::Log(n) => format!("log.{n}"),
            Place::Ids(end) => format!("ids.{}", end.0),
        }
    }

    fn parse(name: &str) -> Option<Place> {
        if name == "state" {
            return Some(Place::State);
        }
        if let Some(n) = name.strip_prefix("log.") {
            return n.parse().ok().map(Place::Log);
        }
        name.strip_prefix("ids.")?.parse().ok().map(|end| Place::Ids(Wall(end)))
    }

    fn options(self) -> KeyspaceCreateOptions {
        let options = KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        match self {
            Place::State => options.max_memtable_size(STATE_MEMTABLE_BYTES),
            // Read in order: larger blocks compress better.
            Place::Log(_) => options.data_block_size_policy(BlockSizePolicy::all(16 << 10)),
            // Hashes do not compress.
            Place::Ids(_) => options
                .max_memtable_size(IDS_MEMTABLE_BYTES)
                .data_block_compression_policy(CompressionPolicy::disabled()),
        }
    }
}

/// One change of a commit; a value of `None` removes the key. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) key: Slice,
    pub(super) value: Option<Slice>,
}

impl Item {
    pub(super) fn put(place: Place, key: impl Into<Slice>, value: impl Into<Slice>) -> Item {
        Item { place, key: key.into(), value: Some(value.into()) }
    }

    pub(super) fn remove(place: Place, key: impl Into<Slice>) -> Item {
        Item { place, key: key.into(), value: None }
    }
}

/// One period of digests.
struct Ids {
    keyspace: Keyspace,
    filter: Arc<Filter>,
}

impl Ids {
    /// What stands there. A period that cannot be read is taken for silent.
    fn get(&self, key: &[u8]) -> Option<Slice> {
        if self.filter.may_hold(key) { self.keyspace.get(key).ok().flatten() } else { None }
    }

    fn close(self) -> Keyspace {
        self.filter.close();
        self.keyspace
    }
}

/// The open engine.
pub(super) struct Engine {
    // Fields are dropped in order: the reader and the handles first, then the database that waits for
    // its threads.
    _filling: Filling,
    log: BTreeMap<u64, Keyspace>,
    ids: BTreeMap<Wall, Ids>,
    filters: Memory,
    state: Keyspace,
    db: Database,
    folder: PathBuf,
}

impl Engine {
    /// Opens what is there, or makes it; says what had to be taken out of the write-ahead files.
    pub(super) fn open(folder: &Path) -> Result<(Engine, Mended), Fault> {
        let mended = wal::mend(folder)?;
        let db = Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(WAL_BYTES)
            .max_cached_files(Some(FILES_OPEN_MAX))
            .worker_threads(WORKERS)
            .open()?;
        let state = db.keyspace(&Place::State.name(), || Place::State.options())?;
        let filters = Memory::new(FILTER_BYTES_MAX);
        let (mut log, mut ids) = (BTreeMap::new(), BTreeMap::new());
        for name in db.list_keyspace_names() {
            let Some(place) = Place::parse(&name) else { continue };
            let keyspace = db.keyspace(&name, || place.options())?;
            match place {
                Place::State => {}
                Place::Log(n) => drop(log.insert(n, keyspace)),
                Place::Ids(end) => drop(ids.insert(end, Ids { keyspace, filter: Arc::new(Filter::of_old(&filters)) })),
            }
        }
        // The newest first: what comes now is at home there.
        let read = ids.values().rev().map(|ids: &Ids| (ids.keyspace.clone(), Arc::clone(&ids.filter)));
        let _filling = Filling::begin(read.collect());
        let engine = Engine { _filling, log, ids, filters, state, db, folder: folder.to_owned() };
        engine.sync_names()?;
        // A crash may have come between a deletion and what follows it in `Removed::delete`.
        outlive_deletions(&engine.db, &engine.state, NUMBERS_OF_A_DELETION)?;
        Ok((engine, mended))
    }

    fn keyspace(&self, place: Place) -> Option<&Keyspace> {
        match place {
            Place::State => Some(&self.state),
            Place::Log(n) => self.log.get(&n),
            Place::Ids(end) => self.ids.get(&end).map(|ids| &ids.keyspace),
        }
    }

    /// Is there such a keyspace?
    pub(super) fn holds(&self, place: Place) -> bool {
        self.keyspace(place).is_some()
    }

    /// Makes a keyspace, durably. Takes several fsyncs.
    pub(super) fn create(&mut self, place: Place) -> Result<(), Fault> {
        let keyspace = self.db.keyspace(&place.name(), || place.options())?;
        self.sync_names()?;
        match place {
            Place::State => {}
            Place::Log(n) => drop(self.log.insert(n, keyspace)),
            Place::Ids(end) => {
                let filter = Arc::new(Filter::of_new(&self.filters));
                self.ids.insert(end, Ids { keyspace, filter });
            }
        }
        Ok(())
    }

    /// The engine syncs each new folder but not the one it stands in. Without this a loss of power
    /// could take a keyspace that commits already speak of, and them with it.
    fn sync_names(&self) -> Result<(), Fault> {
        match files::sync_folder(&self.folder.join("keyspaces")) {
            Err(StoreError::Disk { cause, .. }) => Err(cause.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes a keyspace out of sight; [`Removed::delete`] then deletes it, which may take a while.
    pub(super) fn remove(&mut self, place: Place) -> Option<Removed> {
        let keyspace = match place {
            Place::State => None,
            Place::Log(n) => self.log.remove(&n),
            Place::Ids(end) => self.ids.remove(&end).map(Ids::close),
        }?;
        Some(Removed { keyspace, state: self.state.clone(), db: self.db.clone() })
    }

    /// Commits all or nothing; with `sync` durably, together with everything committed before.
    pub(super) fn commit<'a>(&self, items: impl IntoIterator<Item = &'a Item>, sync: bool) -> Result<(), Fault> {
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() && sync {
            return Ok(self.db.persist(PersistMode::SyncData)?); // a batch of nothing would not ask the disk
        }
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.db.batch().durability(Some(mode));
        for Item { place, key, value } in items {
            let Some(keyspace) = self.keyspace(*place) else {
                return Err(Fault::Damage(format!("the keyspace {} is gone", place.name())));
            };
            if let Place::Ids(end) = place {
                self.ids[end].filter.add(key);
            }
            match value {
                Some(value) => batch.insert(keyspace, key.clone(), value.clone()),
                None => batch.remove(keyspace, key.clone()),
            }
        }
        Ok(batch.commit()?)
    }

    /// Bytes in memory that will be written out in the background, and need room then.
    pub(super) fn unflushed(&self) -> u64 {
        self.db.write_buffer_size()
    }

    /// The moments at which the live keyspaces of digests may be forgotten.
    pub(super) fn ids_ends(&self) -> impl Iterator<Item = Wall> {
        self.ids.keys().copied()
    }

    /// The numbers of the live keyspaces of entries.
    pub(super) fn log_numbers(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.log.keys().copied()
    }

    /// Looks a digest or a name up in all periods, those that are forgotten last first. A period that
    /// cannot be read is taken for silent: the worst that follows is an event stored twice.
    fn find(&self, key: &[u8]) -> Option<Slice> {
        self.ids.values().rev().find_map(|ids| ids.get(key))
    }

    /// What a digest means here.
    pub(super) fn meaning(&self, digest: &Digest) -> Option<Seen> {
        self.find(&layout::digest_key(digest)).and_then(|value| layout::meaning(&value))
    }

    /// Where in the log the event with this digest stands, or stood.
    pub(super) fn position(&self, digest: &Digest) -> Option<Seq> {
        self.find(&layout::digest_key(digest)).and_then(|value| layout::position(&value))
    }

    /// The same as [`Engine::meaning`], asked of one period only.
    pub(super) fn meaning_at(&self, digest: &Digest, home: Wall) -> Option<Seen> {
        let value = self.ids.get(&home)?.get(&layout::digest_key(digest))?;
        layout::meaning(&value)
    }

    /// The digest that has this name.
    pub(super) fn named(&self, name: &[u8; 17]) -> Option<ShortDigest> {
        self.find(name)?.as_ref().try_into().ok()
    }

    /// What this idempotency key was used for last.
    pub(super) fn claimed(&self, key: &Digest) -> Option<Claimed> {
        self.find(&layout::claim_key(key)).and_then(|value| layout::claimed(&value))
    }

    /// One value of `state`.
    pub(super) fn state(&self, key: &[u8]) -> Result<Option<Slice>, Fault> {
        Ok(self.state.get(key)?)
    }

    /// The cursors, by name.
    pub(super) fn cursors(&self) -> Result<Vec<(String, Seq)>, Fault> {
        let mut cursors = Vec::new();
        for pair in self.state.prefix(b"c") {
            let (key, value) = pair.into_inner()?;
            if let (Ok(name), Some(seq)) = (std::str::from_utf8(&key[1..]), layout::number(&value)) {
                cursors.push((name.to_owned(), Seq(seq)));
            }
        }
        Ok(cursors)
    }

    /// The periods of the log as `state` tells them, oldest first; `None` for one that cannot be read.
    pub(super) fn spans(&self) -> Result<Vec<(u64, Option<Span>)>, Fault> {
        let mut spans = Vec::new();
        for pair in self.state.prefix(b"p") {
            let (key, value) = pair.into_inner()?;
            if let Some(n) = layout::number(&key[1..]) {
                spans.push((n, Span::from_bytes(n, &value)));
            }
        }
        Ok(spans)
    }

    /// The entries of a period from a position on, in order. An error ends it: what follows is read
    /// one by one with [`Engine::entry`].
    pub(super) fn entries(&self, n: u64, from: Seq) -> impl Iterator<Item = Result<(Seq, Slice), Unreadable>> {
        let range: (Bound<[u8; 8]>, Bound<[u8; 8]>) = (Bound::Included(from.0.to_be_bytes()), Bound::Unbounded);
        self.log.get(&n).into_iter().flat_map(move |keyspace| read(keyspace, range))
    }

    /// One entry of a period.
    pub(super) fn entry(&self, n: u64, seq: Seq) -> Result<Option<Slice>, Unreadable> {
        let Some(keyspace) = self.log.get(&n) else { return Ok(None) };
        keyspace.get(seq.0.to_be_bytes()).map_err(|_| Unreadable)
    }
}

#[cfg(test)]
impl Engine {
    /// Writes what is in memory out to tables, as the engine does by itself after some time.
    pub(super) fn write_out(&self) {
        for keyspace in self.log.values().chain(self.ids.values().map(|ids| &ids.keyspace)) {
            keyspace.rotate_memtable_and_wait().expect("room");
        }
    }

    /// Every period can say by itself what it does not hold.
    pub(super) fn is_filtered(&self) -> bool {
        self.ids.values().all(|ids| ids.filter.is_whole())
    }
}

/// A block on the disk is not what was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unreadable;

fn read(
    keyspace: &Keyspace,
    range: impl RangeBounds<[u8; 8]>,
) -> impl Iterator<Item = Result<(Seq, Slice), Unreadable>> {
    keyspace.range(range).map(|pair| {
        let (key, value) = pair.into_inner().map_err(|_| Unreadable)?;
        Ok((Seq(layout::number(&key).ok_or(Unreadable)?), value))
    })
}

/// Commits so many times, the last of them durably. The engine finds its sequence number again in the
/// commits that are there, and a deletion stands in none of them. Without this the next life could give
/// the number of a deleted keyspace to a new one, whose name would be older, by sequence number, than
/// the mark of the deletion; and the life after that would take the new one for deleted (fjall 3.1).
fn outlive_deletions(db: &Database, state: &Keyspace, commits: u32) -> Result<(), Fault> {
    for _ in 0..commits {
        state.insert(layout::DELETED, [1])?;
    }
    Ok(db.persist(PersistMode::SyncData)?)
}

/// A keyspace that nobody sees any more.
pub(super) struct Removed {
    keyspace: Keyspace,
    state: Keyspace,
    db: Database,
}

impl Removed {
    #[cfg(test)]
    pub(super) fn delete_and_crash(self) {
        self.db.delete_keyspace(self.keyspace).expect("deleted");
    }

    /// Deletes it. A crash in the middle leaves either all of it or files that the next start removes.
    pub(super) fn delete(self) -> Result<(), Fault> {
        // So that what a loss of power takes is never more than this one deletion.
        self.db.persist(PersistMode::SyncData)?;
        self.db.delete_keyspace(self.keyspace)?;
        outlive_deletions(&self.db, &self.state, 1)
    }
}
