//! A disk that loses what was not yet durable, and a bus that reads it.

use std::collections::BTreeMap;

use crate::core::ports::{AppendError, Appended, Entry, Page, PageError, Refusal, SavedPeer, Seen, Seq, Stored};
use crate::wire::{Code, Digest, Envelope, NodeId};

/// What survives a crash.
#[derive(Default)]
pub struct Disk {
    log: Vec<Stored>,
    seen: BTreeMap<Digest, Seen>,
    ids: BTreeMap<(NodeId, Box<str>), Digest>,
    /// Durable cursors of peers.
    pub cursors: BTreeMap<NodeId, Seq>,
    /// Cursors that wait for the next commit; a crash takes them.
    pub moved: BTreeMap<NodeId, Seq>,
    /// Up to where every duty is done, durably, and as it waits for the next commit.
    pub duty: Option<Seq>,
    /// See `duty`.
    pub duty_moved: Option<Seq>,
    /// The peer file.
    pub peers: Vec<SavedPeer>,
    /// Takes nothing while set.
    pub full: bool,
}

impl Disk {
    /// Stores a batch durably, deciding what is new as the journal does.
    ///
    /// # Errors
    /// [`AppendError::Full`]; then nothing was stored.
    pub fn commit(&mut self, entries: Vec<Entry>) -> Result<Vec<Appended>, AppendError> {
        if self.full {
            return Err(AppendError::Full);
        }
        self.cursors.append(&mut self.moved);
        self.duty = self.duty_moved.take().or(self.duty);
        Ok(entries.into_iter().map(|entry| self.commit_one(entry)).collect())
    }

    fn commit_one(&mut self, entry: Entry) -> Appended {
        let (digest, event) = (entry.envelope.digest(), entry.envelope.event());
        match self.seen.get(&digest) {
            Some(Seen::Stored) => return Appended::Duplicate,
            Some(Seen::Refused(code)) => return Appended::Refused(*code),
            None => {}
        }
        let name = (event.source, event.id.clone());
        if self.ids.contains_key(&name) {
            self.seen.insert(digest, Seen::Refused(Code::Conflict));
            return Appended::Refused(Code::Conflict);
        }
        self.ids.insert(name, digest);
        self.seen.insert(digest, Seen::Stored);
        let seq = Seq(self.log.len() as u64 + 1);
        self.log.push(Stored { seq, entry });
        Appended::Stored(seq)
    }

    /// Remembers what was refused, as [`crate::core::ports::Output::Remember`] asks.
    pub fn remember(&mut self, refusals: &[Refusal]) {
        for Refusal { digest, code, .. } in refusals {
            self.seen.entry(*digest).or_insert(Seen::Refused(*code));
        }
    }

    /// The last durable position.
    pub fn head(&self) -> Seq {
        Seq(self.log.len() as u64)
    }

    /// What a digest means.
    pub fn seen(&self, digest: &Digest) -> Option<Seen> {
        self.seen.get(digest).copied()
    }

    /// As [`crate::core::ports::Log::page`].
    ///
    /// # Errors
    /// Never: this disk forgets nothing.
    pub fn page(&self, after: Seq, entries_max: usize) -> Result<Page, PageError> {
        let from = usize::try_from(after.0).unwrap_or(usize::MAX).min(self.log.len());
        let entries: Vec<Stored> = self.log[from..].iter().take(entries_max).cloned().collect();
        let upto = entries.last().map_or(after, |stored| stored.seq);
        Ok(Page { entries, upto })
    }

    /// The whole log.
    pub fn log(&self) -> &[Stored] {
        &self.log
    }

    /// Is this event durable here?
    pub fn holds(&self, envelope: &Envelope) -> bool {
        self.seen(&envelope.digest()) == Some(Seen::Stored)
    }
}
