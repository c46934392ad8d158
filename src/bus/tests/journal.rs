//! A journal in memory, with gaps between its positions, for the bridge to read.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use crate::core::ports::{Entry, Log, Page, PageError, Seq, Stored};
use crate::time::Wall;
use crate::wire::{Digest, Draft, Envelope, Keypair, Verified, envelope};

pub(in crate::bus) const NOON: Wall = Wall::from_millis(1_795_262_400_000);

pub(in crate::bus) struct Journal {
    incarnation: u64,
    content: Mutex<Content>,
    head: watch::Sender<Seq>,
}

#[derive(Default)]
struct Content {
    entries: Vec<Stored>,
    earliest: u64,
    cursors: BTreeMap<String, Seq>,
}

/// Each event stands this far behind the one before.
const STEP: u64 = 3;

impl Journal {
    pub(in crate::bus) fn new(incarnation: u64) -> Journal {
        let content = Content { earliest: 1, ..Content::default() };
        Journal { incarnation, content: Mutex::new(content), head: watch::Sender::new(Seq(0)) }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Seq> {
        self.head.subscribe()
    }

    /// Stores events, as after a commit.
    pub(in crate::bus) fn append(
        &self,
        envelopes: impl IntoIterator<Item = Verified<Envelope>>,
        from: Option<&Keypair>,
    ) {
        self.store(envelopes, from, NOON);
    }

    /// Stores events of others at a moment.
    pub(super) fn append_at(&self, envelopes: impl IntoIterator<Item = Verified<Envelope>>, received: Wall) {
        self.store(envelopes, None, received);
    }

    fn store(&self, envelopes: impl IntoIterator<Item = Verified<Envelope>>, from: Option<&Keypair>, received: Wall) {
        let mut content = self.content();
        let mut seq = self.head().0;
        for envelope in envelopes {
            seq += STEP;
            let entry = Entry {
                envelope,
                from: from.map(Keypair::id),
                hops: 1,
                duty: false,
                received,
                claims: Box::default(),
                hold: None,
            };
            content.entries.push(Stored { seq: Seq(seq), entry });
        }
        drop(content);
        self.head.send_replace(Seq(seq));
    }

    /// Retention drops the first entries.
    pub(super) fn drop_before(&self, seq: Seq) {
        let mut content = self.content();
        content.entries.retain(|stored| stored.seq >= seq);
        content.earliest = seq.0;
    }

    /// As the daemon does with a stream that is bridged no more.
    pub(super) fn forget(&self, name: &str) {
        self.content().cursors.retain(|known, _| known != name && !known.starts_with(&format!("{name}#")));
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("no test panics while holding it")
    }
}

impl Log for Journal {
    fn incarnation(&self) -> u64 {
        self.incarnation
    }

    fn head(&self) -> Seq {
        *self.head.borrow()
    }

    fn earliest(&self) -> Seq {
        Seq(self.content().earliest)
    }

    fn page(&self, after: Seq, entries_max: usize, bytes_max: usize) -> Result<Page, PageError> {
        let content = self.content();
        if after.0 + 1 < content.earliest {
            return Err(PageError::Gone { earliest: Seq(content.earliest) });
        }
        let mut page = Page { entries: Vec::new(), upto: after };
        let mut bytes = 0;
        for stored in content.entries.iter().filter(|stored| stored.seq > after).take(entries_max) {
            bytes += stored.entry.envelope.event().bytes().len();
            if bytes > bytes_max && !page.entries.is_empty() {
                break;
            }
            page.upto = stored.seq;
            page.entries.push(stored.clone());
        }
        Ok(page)
    }

    fn since(&self, _: Wall) -> Result<Seq, PageError> {
        Ok(self.head())
    }

    fn find(&self, digest: &Digest) -> Option<Stored> {
        self.content().entries.iter().find(|stored| stored.entry.envelope.digest() == *digest).cloned()
    }

    fn cursor(&self, name: &str) -> Option<Seq> {
        self.content().cursors.get(name).copied()
    }

    fn set_cursor(&self, name: &str, seq: Seq) {
        self.content().cursors.insert(name.to_owned(), seq);
    }
}

/// Events `first..first + count` of one source; each `id` is its number.
pub(super) fn events(key: &Keypair, kind: &str, first: usize, count: usize) -> Vec<Verified<Envelope>> {
    (first..first + count)
        .map(|number| envelope::seal(&Draft::new(number.to_string(), kind, NOON), key).expect("a good draft"))
        .collect()
}
