//! The journal: one durable log per node, the index that knows every digest until it expires, and the
//! cursors of everybody who reads.
//!
//! ```text
//!   append ──> queue ──> writer thread: judge, one commit, one fsync ──> report: Appended, Head
//!   sweep  ──>   "                      drop whole periods           ──> report: Swept
//!   seen, page, since, cursor: any thread, straight from the engine
//! ```
//!
//! The writer alone decides what is new: a digest that is there is a `Duplicate`, a (source, id) that
//! is there with another digest a conflict, also within one group. Entries lie in periods by when
//! they came; digests and names lie in periods by when they *expire*, so dropping a period forgets
//! nothing too early. Whole periods are dropped, by age, by size, never past a `bus:` cursor.
//!
//! When the disk or the quota is full, appends are answered `Full`, reads go on, and the writer looks
//! every second whether it may begin again. What it cannot mend it reports as `Fatal`: the process is
//! to end then, and its supervisor to start it again.

mod engine;
mod filter;
mod layout;
mod plan;
mod read;
mod room;
mod shared;
mod span;
mod wal;
mod watch;
mod writer;

/// What bounds this room, for whoever prints it.
pub mod bounds {
    pub use super::engine::FILES_OPEN_MAX;
    pub use super::filter::FILTER_BYTES_MAX;
    pub use super::shared::DAMAGED_MAX;
    pub use super::span::SPANS_MAX;
    pub use super::wal::VALUE_BYTES_MAX;
    pub use super::watch::BUSY_MAX;
    pub use super::writer::{GROUP_BYTES_MAX, GROUP_ENTRIES_MAX, LINGER_MAX};
}

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use self::shared::{Shared, locked};
use self::watch::Watch;
use self::writer::{Message, Writer};
use super::{DataDir, StoreError};
use crate::core::ports::{
    AppendError, Appended, BatchId, Claimed, Claims, Entry, Known, Log, Page, PageError, Refusal, Seen, Seq, Stored,
};
use crate::time::{Now, Wall};
use crate::wire::Digest;
use crate::wire::message::Durability;

/// How much the journal keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalSettings {
    /// Length of a period: what is dropped at once. Shorter means finer retention and more files; each
    /// look-up asks every live period of digests, some `7 days / (4 x period) + 2` of them.
    pub period: Duration,
    /// How long entries are kept.
    pub keep: Duration,
    /// How many bytes of entries, index included, are kept. The write-ahead files (192 MiB at most)
    /// come on top.
    pub bytes_max: u64,
    /// When the disk is asked: before every answer, or within a second after it ([`INTERVAL`]).
    pub durability: Durability,
    /// Free space of the file system that is left to others, in bytes: below it nothing is stored.
    pub reserve: u64,
}

impl Default for JournalSettings {
    fn default() -> JournalSettings {
        const DAY: Duration = Duration::from_secs(86_400);
        JournalSettings {
            period: DAY,
            keep: DAY * 7,
            bytes_max: 1 << 30,
            durability: Durability::Fsync,
            reserve: 32 << 20,
        }
    }
}

/// The longest time for which an answer may be ahead of the disk with [`Durability::Interval`].
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What the journal has to say, called from its own threads: the callee hands it on and returns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// The answer to [`Journal::append`]: one outcome for each entry, in order, durable; or nothing of
    /// the batch was stored.
    Appended {
        /// Which.
        batch: BatchId,
        /// What became of it.
        result: Result<Vec<Appended>, AppendError>,
    },
    /// The log is this long now; said once for a group, after its answers.
    Head(Seq),
    /// From now on appends are answered `Full`, for this reason.
    Full(String),
    /// It takes events again.
    Well,
    /// The answer to [`Journal::sweep`].
    Swept(Swept),
    /// The answer to [`Journal::probe`].
    Alive,
    /// The journal cannot go on, and what was not answered may or may not be durable: end the process.
    Fatal(String),
}

/// What a sweep did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Entries dropped.
    pub entries: u64,
    /// Periods of digests forgotten, all of them expired.
    pub ids: u64,
    /// The first position that is still there.
    pub earliest: Seq,
    /// The clock that was used. Behind `now` after a jump ahead that is not believed yet.
    pub clock: Wall,
}

/// A look at the journal, for people and metrics.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Entries in the log.
    pub entries: u64,
    /// What counts against `bytes_max`.
    pub bytes: u64,
    /// Bytes that the journal's files take on the disk, write-ahead files included.
    pub bytes_on_disk: u64,
    /// The first position still there.
    pub earliest: Seq,
    /// The last durable position.
    pub head: Seq,
    /// When the oldest period began and when the youngest entry came.
    pub received: Option<(Wall, Wall)>,
    /// Periods of entries, and of digests.
    pub periods: (u64, u64),
    /// Since the start: commits, and entries stored, found again, and refused (as conflicts, nearly all).
    pub commits: u64,
    /// Those of the commits that asked the disk before they were answered, and the delayed ones.
    pub syncs: u64,
    /// See `commits`.
    pub stored: u64,
    /// See `commits`.
    pub duplicates: u64,
    /// See `commits`.
    pub refused: u64,
    /// Since the start: entries that could not be read back and were skipped.
    pub damaged: u64,
    /// Bytes of commits cut short by a crash that the start cut off.
    pub cut_bytes: u64,
    /// Places in the write-ahead files where the start found no commits but damage.
    pub damaged_commits: u64,
    /// Why nothing is stored now.
    pub full: Option<String>,
}

/// The journal. Clones are handles to the same one; it closes with [`Journal::close`] or the last of them.
#[derive(Clone)]
pub struct Journal {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    report: Arc<dyn Fn(Report) + Send + Sync>,
    /// `None` once closed: nothing comes after `Close`. Bounded by `Params::appending_max`.
    queue: Mutex<Option<Sender<Message>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Journal {
    /// Opens the journal of this directory, or makes it. After a crash this takes 0.1-0.3 s.
    ///
    /// # Errors
    /// [`StoreError::Disk`], [`StoreError::Damaged`].
    pub fn open(
        dir: &DataDir,
        settings: JournalSettings,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> Result<Journal, StoreError> {
        let shared = Arc::new(Shared::open(dir)?);
        let watch = Arc::new(Watch::default());
        let report: Arc<dyn Fn(Report) + Send + Sync> = Arc::new(report);
        let (queue, messages) = mpsc::channel();
        let writer = Writer::new(shared.clone(), settings, messages, report.clone(), watch.clone());
        let guard = {
            let (watch, report) = (watch.clone(), report.clone());
            move || watch.guard(&*report)
        };
        let threads = [start("journal", dir, move || writer.run())?, start("journal-watch", dir, guard)?];
        let handle =
            Handle { shared, watch, report, queue: Mutex::new(Some(queue)), threads: Mutex::new(threads.into()) };
        Ok(Journal { handle: Arc::new(handle) })
    }

    /// Stores these durably, in order, all or none; then reports [`Report::Appended`]. Returns at once;
    /// how much may wait is the caller's to bound (`Params::appending_max`).
    pub fn append(&self, batch: BatchId, entries: Vec<Entry>) {
        if !self.handle.send(Message::Append { batch, entries }) {
            (self.handle.report)(Report::Appended { batch, result: Err(AppendError::Closed) });
        }
    }

    /// Remembers refusals until they expire: [`Known::seen`] then tells them. What a crash or a full disk
    /// takes of it is lost.
    pub fn remember(&self, refusals: Vec<Refusal>) {
        self.handle.send(Message::Remember(refusals));
    }

    /// Drops what is older than `keep` or above `bytes_max` and forgets digests that expired; then
    /// reports [`Report::Swept`]. To be called about once a minute. Moments of the wall clock that run
    /// ahead of the monotonic one are not believed at once: see [`Swept::clock`].
    pub fn sweep(&self, now: Now) {
        self.handle.send(Message::Sweep(now));
    }

    /// Asks the writer for a sign of life; what was appended before is dealt with first. Then reports
    /// [`Report::Alive`]. The one who asks may not ask again before that.
    pub fn probe(&self) {
        self.handle.send(Message::Probe);
    }

    /// Drops a cursor, so that it holds nothing back any more. Durable with the next commit.
    pub fn forget_cursor(&self, name: &str) {
        self.handle.move_cursor(name, None);
    }

    /// All cursors by name.
    pub fn cursors(&self) -> Vec<(String, Seq)> {
        locked(&self.handle.shared.cursors).all()
    }

    /// The high-water mark of the clock: the latest moment that a sweep believed. Survives restarts.
    pub fn clock_mark(&self) -> Option<Wall> {
        *locked(&self.handle.shared.mark)
    }

    /// A look at the journal. Asks the file system for the size of each file.
    pub fn stats(&self) -> Stats {
        self.handle.shared.stats()
    }

    /// How long commits with their fsync took since the start, in seconds; it goes on.
    pub fn sync_seconds(&self) -> Histogram {
        self.handle.shared.counts.sync_seconds.0.clone()
    }

    /// Commits everything that waits, then closes. What is appended later is answered `Closed`.
    pub fn close(&self) {
        self.handle.close();
    }
}

fn start(name: &str, dir: &DataDir, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(StoreError::disk("start a thread for", &dir.journal_path()))
}

impl Handle {
    fn send(&self, message: Message) -> bool {
        locked(&self.queue).as_ref().is_some_and(|queue| queue.send(message).is_ok())
    }

    fn move_cursor(&self, name: &str, seq: Option<Seq>) {
        if locked(&self.shared.cursors).set(name, seq) {
            self.send(Message::Wake);
        }
    }

    fn close(&self) {
        if let Some(queue) = locked(&self.queue).take() {
            // The writer is gone only if it panicked; then there is nothing to wait for.
            let _ = queue.send(Message::Close);
        }
        let mut threads = locked(&self.threads);
        for thread in threads.drain(..) {
            // The watch goes on until the writer, which is joined first, has told it to stop.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                self.watch.stop();
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal({:?}..={:?})", self.earliest(), self.head())
    }
}

impl Known for Journal {
    fn seen(&self, digest: &Digest) -> Option<Seen> {
        self.handle.shared.seen(digest)
    }
}

impl Claims for Journal {
    fn claimed(&self, key: &Digest, now: Wall) -> Option<Claimed> {
        let found = self.handle.shared.reading(|engine| engine.claimed(key)).flatten();
        found.filter(|claimed| now < claimed.until)
    }
}

impl Log for Journal {
    fn incarnation(&self) -> u64 {
        self.handle.shared.incarnation
    }

    fn head(&self) -> Seq {
        Seq(self.handle.shared.head.load(Ordering::Acquire))
    }

    fn earliest(&self) -> Seq {
        self.handle.shared.earliest()
    }

    fn page(&self, after: Seq, entries_max: usize, bytes_max: usize) -> Result<Page, PageError> {
        self.handle.shared.page(after, entries_max, bytes_max)
    }

    fn since(&self, moment: Wall) -> Result<Seq, PageError> {
        self.handle.shared.since(moment)
    }

    fn find(&self, digest: &Digest) -> Option<Stored> {
        self.handle.shared.find(digest)
    }

    fn cursor(&self, name: &str) -> Option<Seq> {
        locked(&self.handle.shared.cursors).at(name)
    }

    fn set_cursor(&self, name: &str, seq: Seq) {
        self.handle.move_cursor(name, Some(seq));
    }
}

#[cfg(test)]
impl Journal {
    fn write_out(&self) {
        self.handle.shared.reading(engine::Engine::write_out);
    }

    /// From now on the space is taken by somebody else between the look at the disk and the write.
    fn be_blind(&self, blind: bool) {
        self.handle.shared.blind.store(blind, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
