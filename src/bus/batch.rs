//! What is appended in one step: as much of the journal as a script of Redis should take at once.

use super::dead::{self, Cause};
use super::judge::Fate;
use super::layout::{self, Fields};
use crate::core::ports::{Log, PageError, Seq, Stored};
use crate::core::trust;
use crate::time::Wall;

/// What one call of the script does.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) entries: Vec<(Target, Fields)>,
    /// Why those of `entries` are dead that are letters.
    pub(super) letters: Vec<Cause>,
    /// The position that the cursor gets.
    pub(super) upto: Seq,
    /// Events on the way that are not for this stream.
    pub(super) skipped: u64,
    /// Of the entries: those that a rule doubts.
    pub(super) flagged: u64,
    /// Positions on the way that the journal no longer holds.
    pub(super) lost: u64,
    /// Events on the way that wait, until when.
    pub(super) late: Vec<(Seq, Wall)>,
    /// Events before `upto` that have waited, and wait no more.
    pub(super) released: Vec<Seq>,
}

/// Where an entry goes: the number of a key of the script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Stream = 1,
    Letters = 3,
}

impl Batch {
    /// Nothing yet.
    pub(super) fn after(at: Seq) -> Batch {
        let (entries, letters, late, released) = Default::default();
        Batch { entries, letters, upto: at, skipped: 0, flagged: 0, lost: 0, late, released }
    }

    /// It changes nothing.
    pub(super) fn is_nothing(&self, at: Seq) -> bool {
        self.upto == at && self.released.is_empty()
    }

    /// Reads on from `after` until the batch is full, the journal ends, or enough was passed over.
    pub(super) fn collect(log: &dyn Log, after: Seq, judge: &dyn Fn(&Stored) -> Fate) -> Result<Batch, PageError> {
        let (mut batch, head) = (Batch::after(after), log.head());
        let mut bytes = 0;
        while batch.upto < head
            && batch.entries.len() < ENTRIES_MAX
            && bytes <= BYTES_MAX / 2
            && batch.skipped < SKIPPED_MAX
            && batch.late.len() < ENTRIES_MAX
        {
            // An entry takes a bit more than twice its event: its fields, and the signed line.
            let page = match log.page(batch.upto, ENTRIES_MAX - batch.entries.len(), BYTES_MAX / 5) {
                Ok(page) => page,
                Err(PageError::Gone { earliest }) if earliest.0 > batch.upto.0.saturating_add(1) => {
                    let before = Seq(earliest.0 - 1);
                    // Position 0 asks for all there is, so nothing before the first is missing.
                    batch.lost += if batch.upto == Seq(0) { 0 } else { before.0 - batch.upto.0 };
                    batch.upto = before;
                    continue;
                }
                Err(_) => return Err(PageError::Unreadable),
            };
            if page.upto <= batch.upto {
                break;
            }
            batch.upto = page.upto;
            for stored in &page.entries {
                bytes += batch.take(stored, judge(stored));
            }
        }
        Ok(batch)
    }

    /// The bytes that this one costs.
    pub(super) fn take(&mut self, stored: &Stored, fate: Fate) -> usize {
        let (target, fields) = match fate {
            Fate::Append(fields, trust) => {
                self.flagged += u64::from(trust == trust::Verdict::Flagged);
                (Target::Stream, fields)
            }
            Fate::Bury(cause) => {
                let letter = dead::of_event(stored, &cause);
                self.letters.push(cause);
                (Target::Letters, letter)
            }
            Fate::Wait(turn) => {
                self.late.push((stored.seq, turn));
                return 0;
            }
            Fate::Skip => {
                self.skipped += 1;
                return 0;
            }
        };
        let bytes = layout::size(&fields);
        self.entries.push((target, fields));
        bytes
    }
}

/// Entries of one batch: enough that a round trip costs little for each, few enough that Redis, which
/// runs one script at a time, keeps others waiting for well under a millisecond.
pub const ENTRIES_MAX: usize = 64;
/// Bytes of one batch. One event may be larger than what is left and is taken alone then.
pub const BYTES_MAX: usize = 256 << 10;
/// Events passed over before the cursor moves all the same, so a crash does not read them all again.
pub const SKIPPED_MAX: u64 = 4_096;
