//! One commit in the making: what each entry of a group is, and what has to be written for it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::JournalSettings;
use super::engine::{Engine, Item, Place};
use super::layout::{self, ShortDigest};
use super::span::{self, INDEX_BYTES, Span};
use crate::core::ports::{Appended, Claim, Entry, Refusal, Seen, Seq};
use crate::time::Wall;
use crate::wire::{Code, Digest, Event};

/// What one group is and writes. Nothing of it is true before its commit.
pub(super) struct Plan<'a> {
    engine: &'a Engine,
    settings: &'a JournalSettings,
    is_aligned: bool,
    /// What the entries so far make of digests and names that the engine does not know yet.
    digests: HashMap<Digest, Seen>,
    names: HashMap<[u8; 17], ShortDigest>,
    /// Keys used by the entries so far, and the event that each means.
    used: HashMap<Digest, Digest>,
    touched: BTreeSet<u64>,
    written: Written,
}

/// The outcome of planning.
pub(super) struct Written {
    /// One for each entry.
    pub(super) outcomes: Vec<Appended>,
    /// Everything to be committed, the spans included.
    pub(super) items: Vec<Item>,
    /// The periods as they are after the commit.
    pub(super) spans: Vec<Span>,
    /// The position after the last.
    pub(super) next: Seq,
    /// What the commit adds to the quota and, roughly, to the disk.
    pub(super) bytes: u64,
}

/// What is written for refusals that the core wants remembered: nothing for digests that mean
/// something already.
pub(super) fn remembered(engine: &Engine, refusals: &[Refusal], period: Duration) -> Vec<Item> {
    let is_new = |refusal: &&Refusal| engine.meaning(&refusal.digest).is_none();
    let item = |refusal: &Refusal| refused(&refusal.digest, span::forgotten_at(refusal.expires, period), refusal.code);
    refusals.iter().filter(is_new).map(item).collect()
}

fn refused(digest: &Digest, home: Wall, code: Code) -> Item {
    Item::put(Place::Ids(home), layout::digest_key(digest), layout::meaning_of_refused(code))
}

impl<'a> Plan<'a> {
    pub(super) fn new(engine: &'a Engine, settings: &'a JournalSettings, spans: Vec<Span>, next: Seq) -> Plan<'a> {
        let (outcomes, items) = Default::default();
        let written = Written { outcomes, items, spans, next, bytes: 0 };
        let (digests, names, used, touched) = Default::default();
        let is_aligned = engine.ids_ends().all(|end| span::is_aligned(end, settings.period));
        Plan { engine, settings, is_aligned, digests, names, used, touched, written }
    }

    /// Decides what this entry is.
    pub(super) fn judge(&mut self, entry: &Entry) {
        let event = entry.envelope.event();
        let digest = event.digest();
        if entry.claims.iter().any(|claim| self.means_another(claim, &digest, entry.received)) {
            self.written.outcomes.push(Appended::Refused(Code::Conflict));
            return;
        }
        let home = span::forgotten_at(event.expires, self.settings.period);
        let meaning = self.digests.get(&digest).copied().or_else(|| self.known(&digest, home));
        let outcome = match meaning {
            Some(Seen::Stored) => Appended::Duplicate,
            Some(Seen::Refused(code)) => Appended::Refused(code),
            None => {
                let name = layout::name_key(event);
                let first = self.names.get(&name).copied().or_else(|| self.engine.named(&name));
                match first {
                    // The same digest under this name was found unreadable above: it is stored anew.
                    Some(first) if first != layout::short(&digest) => self.refuse(digest, home),
                    Some(_) | None => self.store(entry, digest, name, home),
                }
            }
        };
        self.written.outcomes.push(outcome);
        if !matches!(outcome, Appended::Refused(_)) {
            entry.claims.iter().for_each(|claim| self.keep(claim, event));
        }
    }

    /// Was this key used for another event?
    fn means_another(&self, claim: &Claim, digest: &Digest, now: Wall) -> bool {
        let before = || self.engine.claimed(&claim.key).filter(|before| now < before.until).map(|before| before.event);
        self.used.get(&claim.key).copied().or_else(before).is_some_and(|event| event != *digest)
    }

    /// Remembers what a key is used for, in the period that outlives it.
    fn keep(&mut self, claim: &Claim, event: &Event) {
        let home = span::forgotten_at(claim.until, self.settings.period);
        let (key, value) = (layout::claim_key(&claim.key), layout::claim_value(claim, event));
        self.written.bytes += INDEX_BYTES;
        self.written.items.push(Item::put(Place::Ids(home), key, value));
        self.used.insert(claim.key, event.digest());
    }

    /// The same bytes expire at the same moment, so their digest can only be at home, as long as all
    /// periods were of this length.
    fn known(&self, digest: &Digest, home: Wall) -> Option<Seen> {
        if self.is_aligned { self.engine.meaning_at(digest, home) } else { self.engine.meaning(digest) }
    }

    /// The same bytes get the same answer until they expire.
    fn refuse(&mut self, digest: Digest, home: Wall) -> Appended {
        self.written.items.push(refused(&digest, home, Code::Conflict));
        self.written.bytes += INDEX_BYTES;
        self.digests.insert(digest, Seen::Refused(Code::Conflict));
        Appended::Refused(Code::Conflict)
    }

    fn store(&mut self, entry: &Entry, digest: Digest, name: [u8; 17], home: Wall) -> Appended {
        let seq = self.written.next;
        self.written.next = Seq(seq.0 + 1);
        let span = self.open_span(entry.received, seq);
        let (n, high) = (span.n, span.until.max(entry.received));
        let place = Place::Log(n);
        let value = layout::entry_value(entry, high);
        span.count(seq, entry.received, value.len());
        self.touched.insert(n);
        self.written.bytes += value.len() as u64 + INDEX_BYTES;
        let ids = Place::Ids(home);
        self.written.items.extend([
            Item::put(place, seq.0.to_be_bytes(), value),
            Item::put(ids, layout::digest_key(&digest), layout::meaning_of_stored(seq)),
            Item::put(ids, name, layout::short(&digest)),
        ]);
        self.digests.insert(digest, Seen::Stored);
        self.names.insert(name, layout::short(&digest));
        Appended::Stored(seq)
    }

    /// The period that takes the next entry.
    fn open_span(&mut self, received: Wall, seq: Seq) -> &mut Span {
        let JournalSettings { period, bytes_max, .. } = *self.settings;
        let spans = &mut self.written.spans;
        if span::begins_anew(spans, received, period, bytes_max) {
            let n = spans.last().map_or(0, |last| last.n + 1);
            // Numbers of periods that were dropped are not used again while their files may be around.
            let n = n.max(self.engine.log_numbers().next_back().map_or(0, |last| last + 1));
            spans.push(Span::new(n, seq, received));
        }
        spans.last_mut().expect("a period was begun if there was none")
    }

    /// Ends the planning.
    pub(super) fn written(mut self) -> Written {
        let touched = self.written.spans.iter().filter(|span| self.touched.contains(&span.n));
        let spans = touched.map(|span| Item::put(Place::State, layout::span_key(span.n), span.to_bytes()));
        self.written.items.extend(spans.collect::<Vec<_>>());
        self.written
    }
}
