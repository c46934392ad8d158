//! Helper words: a journal in a directory of its own, entries by number, conditions with deadlines.

use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::core::ports::{AppendError, Appended, BatchId, Entry, Log as _, Seq, Stored};
use crate::store::journal::shared::locked;
use crate::store::{DataDir, Journal, JournalSettings, Report, Swept};
use crate::time::{Mono, Now, Wall};
use crate::wire::envelope::{self, Verified};
use crate::wire::{Draft, Envelope, Keypair};

pub(super) const T0: Wall = Wall::from_millis(1_795_243_262_123);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// Nothing here takes this long unless it never comes.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// An event told apart by its id and its text.
pub(super) fn event(id: &str, text: &str, received: Wall, life: Duration) -> Verified<Envelope> {
    let data = serde_json::value::to_raw_value(text).expect("a string");
    let draft = Draft::new(id, "test.happened", received).living(received, life).with_data(data);
    envelope::seal(&draft, &Keypair::from_seed(&[7; 32])).expect("an event")
}

pub(super) fn entry_of(envelope: Verified<Envelope>, received: Wall) -> Entry {
    Entry { envelope, from: None, hops: 1, duty: true, received, claims: Box::default(), hold: None }
}

/// The entry that this number always stands for.
pub(super) fn entry(n: u64, received: Wall) -> Entry {
    entry_of(event(&format!("n-{n}"), "x", received, DAY), received)
}

/// The number of an entry made by [`entry`].
pub(super) fn number(stored: &Stored) -> u64 {
    let id = &stored.entry.envelope.event().id;
    id.strip_prefix("n-").and_then(|n| n.parse().ok()).expect("made by `entry`")
}

pub(super) fn small() -> JournalSettings {
    JournalSettings { period: HOUR, keep: DAY, reserve: 1 << 20, ..JournalSettings::default() }
}

/// A journal, and what it reports.
pub(super) struct Bench {
    pub(super) journal: Journal,
    reports: Receiver<Report>,
    pub(super) seen: Arc<Mutex<Vec<Report>>>,
    next: u64,
}

impl Bench {
    pub(super) fn open(path: &Path, settings: JournalSettings) -> Bench {
        let (sender, reports) = mpsc::channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = seen.clone();
        let report = move |report: Report| {
            locked(&keep).push(report.clone());
            let _ = sender.send(report);
        };
        let dir = DataDir::open(path).expect("free");
        let journal = Journal::open(&dir, settings, report).expect("sound");
        Bench { journal, reports, seen, next: 0 }
    }

    /// The next report that this finds something in.
    pub(super) fn wait_for<T>(&self, wanted: impl Fn(Report) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let report = self.reports.recv_timeout(left).expect("a report in time");
            if let Some(found) = wanted(report) {
                return found;
            }
        }
    }

    pub(super) fn send(&mut self, entries: Vec<Entry>) -> BatchId {
        self.next += 1;
        self.journal.append(BatchId(self.next), entries);
        BatchId(self.next)
    }

    pub(super) fn answer(&self, wanted: BatchId) -> Result<Vec<Appended>, AppendError> {
        self.wait_for(|report| match report {
            Report::Appended { batch, result } if batch == wanted => Some(result),
            _ => None,
        })
    }

    pub(super) fn append(&mut self, entries: Vec<Entry>) -> Result<Vec<Appended>, AppendError> {
        let batch = self.send(entries);
        self.answer(batch)
    }

    pub(super) fn append_one(&mut self, entry: Entry) -> Appended {
        self.append(vec![entry]).expect("room")[0]
    }

    /// A sweep at a moment that the monotonic clock agrees with.
    pub(super) fn sweep(&self, wall: Wall) -> Swept {
        let mono = |wall: Wall| Mono(u64::try_from(wall.since(T0).as_micros()).expect("a test's span"));
        self.sweep_at(Now { mono: mono(T0), wall: T0 });
        self.sweep_at(Now { mono: mono(wall), wall })
    }

    pub(super) fn sweep_at(&self, now: Now) -> Swept {
        self.journal.sweep(now);
        self.wait_for(|report| match report {
            Report::Swept(swept) => Some(swept),
            _ => None,
        })
    }

    /// Everything after a position, in pages of this many.
    pub(super) fn read(&self, after: Seq, entries_max: usize) -> Vec<Stored> {
        let mut all = Vec::new();
        let mut at = after;
        loop {
            let page = self.journal.page(at, entries_max, usize::MAX).expect("readable");
            if page.upto == at {
                return all;
            }
            assert!(page.upto > at && page.entries.len() <= entries_max);
            assert!(page.entries.iter().all(|stored| stored.seq > at && stored.seq <= page.upto));
            at = page.upto;
            all.extend(page.entries);
        }
    }
}

/// Waits until this holds.
pub(super) fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::yield_now();
    }
}
