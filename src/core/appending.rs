//! What waits for the disk, and whom to tell when the disk has answered.

use std::collections::BTreeMap;

use super::params::{CREDIT_MAX, Params, RETRY_FULL};
use super::ports::{AppendError, Appended, BatchId, Entry, Note, Seq, Ticket};
use crate::wire::message::Outcome;
use crate::wire::{Envelope, Rejection};

/// One request on its way: outcomes known so far, and entries whose outcome the disk decides.
pub(super) struct Request {
    ticket: Ticket,
    /// `None` = the disk decides.
    outcomes: Vec<Option<Outcome>>,
    entries: Vec<Entry>,
    /// For each entry: stored, but its carry-on was not accepted.
    no_duty: Vec<bool>,
    bytes: usize,
}

impl Request {
    pub(super) fn new(ticket: Ticket, lines: usize) -> Request {
        Request { ticket, outcomes: Vec::with_capacity(lines), entries: Vec::new(), no_duty: Vec::new(), bytes: 0 }
    }

    pub(super) fn refuse(&mut self, rejection: Rejection) {
        self.outcomes.push(Some(Outcome::Refused(rejection)));
    }

    pub(super) fn append(&mut self, entry: Entry, no_duty: bool) {
        self.bytes += entry.envelope.line_len();
        self.entries.push(entry);
        self.no_duty.push(no_duty);
        self.outcomes.push(None);
    }

    /// True when nothing is left for the disk.
    pub(super) fn is_settled(&self) -> bool {
        self.entries.is_empty()
    }

    /// The answer to a settled request.
    pub(super) fn finish(self) -> (Ticket, Vec<Outcome>) {
        (self.ticket, self.outcomes.into_iter().flatten().collect())
    }
}

/// Requests waiting for the disk, bounded in events and bytes.
#[derive(Default)]
pub(super) struct Appending {
    waiting: BTreeMap<BatchId, Request>,
    next: u64,
    entries: usize,
    bytes: usize,
    full: bool,
}

/// A request the disk has answered.
pub(super) struct Finished {
    pub(super) ticket: Ticket,
    pub(super) outcomes: Vec<Outcome>,
    /// What is new, in order.
    pub(super) stored: Vec<(Seq, Entry)>,
    /// The journal's health changed.
    pub(super) note: Option<Note>,
    /// False when the whole batch was turned away.
    pub(super) reached_disk: bool,
}

impl Appending {
    pub(super) fn has_room_beside(&self, request: &Request, envelope: &Envelope, params: &Params) -> bool {
        self.entries + request.entries.len() < params.appending_max
            && self.bytes + request.bytes + envelope.line_len() <= params.appending_bytes_max
    }

    /// Lines we would take in one body now.
    pub(super) fn credit(&self, params: &Params) -> u32 {
        if self.full {
            return 0;
        }
        let room = params.appending_max.saturating_sub(self.entries);
        u32::try_from(room).unwrap_or(CREDIT_MAX).min(CREDIT_MAX)
    }

    /// Events waiting for the disk.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// True since the journal last said that it is full.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    pub(super) fn begin(&mut self, request: Request) -> (BatchId, Vec<Entry>) {
        let batch = BatchId(self.next);
        self.next += 1;
        self.entries += request.entries.len();
        self.bytes += request.bytes;
        let entries = request.entries.clone(); // shares the bytes
        self.waiting.insert(batch, request);
        (batch, entries)
    }

    pub(super) fn finish(&mut self, batch: BatchId, result: Result<Vec<Appended>, AppendError>) -> Option<Finished> {
        let request = self.waiting.remove(&batch)?;
        self.entries -= request.entries.len();
        self.bytes -= request.bytes;
        let was_full = self.full;
        match &result {
            Err(AppendError::Full) => self.full = true,
            // Duplicates are known while it is full, too.
            Ok(verdicts) if verdicts.iter().any(|verdict| matches!(verdict, Appended::Stored(_))) => self.full = false,
            _ => {}
        }
        let note = match (was_full, self.full) {
            (false, true) => Some(Note::JournalFull),
            (true, false) => Some(Note::JournalWell),
            _ => None,
        };
        let reached_disk = result.is_ok();
        let unavailable = Outcome::Refused(Rejection::Unavailable { after: RETRY_FULL });
        let mut verdicts = result.unwrap_or_default().into_iter();
        let mut entries = request.entries.into_iter().zip(request.no_duty);
        let mut stored = Vec::new();
        let mut settle = |known: Option<Outcome>| match known {
            Some(outcome) => outcome,
            None => {
                let (entry, no_duty) = entries.next().expect("one entry for each open outcome");
                match verdicts.next() {
                    Some(Appended::Stored(seq)) => {
                        stored.push((seq, entry));
                        Outcome::Stored { no_duty }
                    }
                    // A copy came first, and its duty was another: whoever asks chooses another delegate.
                    Some(Appended::Duplicate) if entry.duty && entry.hops > 0 => Outcome::Uncarried,
                    Some(Appended::Duplicate) => Outcome::Duplicate,
                    Some(Appended::Refused(code)) => Outcome::Refused(Rejection::again(code)),
                    None => unavailable.clone(),
                }
            }
        };
        let outcomes = request.outcomes.into_iter().map(&mut settle).collect();
        Some(Finished { ticket: request.ticket, outcomes, stored, note, reached_disk })
    }
}
