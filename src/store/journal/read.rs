//! Reading the log: pages in order, and the way from a moment to a position.

use std::sync::atomic::Ordering;

use super::engine::{Engine, Unreadable};
use super::layout;
use super::shared::{Shared, locked};
use super::span::Span;
use crate::core::ports::{Page, PageError, Seq, Stored};
use crate::time::Wall;
use crate::wire::{Digest, Keys};

/// A page in the making.
struct Filling<'a> {
    shared: &'a Shared,
    keys: &'a mut Keys,
    page: Page,
    head: Seq,
    entries_left: usize,
    bytes_left: usize,
}

impl Shared {
    pub(super) fn page(&self, after: Seq, entries_max: usize, bytes_max: usize) -> Result<Page, PageError> {
        let (head, spans) = {
            let spans = locked(&self.spans);
            (Seq(self.head.load(Ordering::Acquire)), spans.clone())
        };
        let earliest = spans.first().map_or(Seq(head.0 + 1), |span| span.first);
        if after.0.saturating_add(1) < earliest.0 {
            return Err(PageError::Gone { earliest });
        }
        let page = Page { entries: Vec::new(), upto: after };
        // Each reader may have keys of its own; the common ones are warm.
        let (mut common, mut own) = (self.keys.try_lock(), Keys::default());
        let keys = common.as_deref_mut().unwrap_or(&mut own);
        let mut filling = Filling { shared: self, keys, page, head, entries_left: entries_max, bytes_left: bytes_max };
        self.reading(|engine| filling.fill(engine, &spans)).ok_or(PageError::Unreadable)?;
        // A period may have been dropped while we looked; what it held must not be passed over silently.
        let earliest = self.earliest();
        if after.0.saturating_add(1) < earliest.0 { Err(PageError::Gone { earliest }) } else { Ok(filling.page) }
    }

    /// The entry of this event, while it is there.
    pub(super) fn find(&self, digest: &Digest) -> Option<Stored> {
        let seq = self.reading(|engine| engine.position(digest)).flatten()?;
        let page = self.page(Seq(seq.0.checked_sub(1)?), 1, usize::MAX).ok()?;
        page.entries.into_iter().find(|stored| stored.entry.envelope.digest() == *digest)
    }

    pub(super) fn since(&self, moment: Wall) -> Result<Seq, PageError> {
        let spans = locked(&self.spans).clone();
        let Some(span) = spans.iter().find(|span| span.until >= moment) else {
            return Ok(Seq(self.head.load(Ordering::Acquire) + 1));
        };
        self.reading(|engine| first_since(engine, span, moment)).ok_or(PageError::Unreadable)
    }
}

/// Halves the period: `high` never goes back in it. What cannot be read counts as late enough.
fn first_since(engine: &Engine, span: &Span, moment: Wall) -> Seq {
    let (mut from, mut to) = (span.first, span.last);
    while from < to {
        let middle = Seq(from.0 + (to.0 - from.0) / 2);
        // After a gap the next entry stands for what is missing.
        let high = engine.entries(span.n, middle).next().and_then(Result::ok);
        match high.and_then(|(seq, value)| Some((seq, layout::high(&value)?))) {
            Some((seq, high)) if high < moment => from = Seq(seq.0 + 1),
            Some(_) | None => to = middle,
        }
    }
    from
}

impl Filling<'_> {
    fn fill(&mut self, engine: &Engine, spans: &[Span]) {
        for span in spans {
            if span.last <= self.page.upto {
                continue;
            }
            if !self.fill_from(engine, span) {
                return;
            }
        }
        self.page.upto = self.page.upto.max(self.head);
    }

    /// Takes what follows in this period; false when the page is full.
    fn fill_from(&mut self, engine: &Engine, span: &Span) -> bool {
        let from = Seq(self.page.upto.0 + 1).max(span.first);
        let last = span.last.min(self.head);
        for item in engine.entries(span.n, from) {
            match item {
                Ok((seq, _)) if seq > last => break,
                Ok((seq, value)) => {
                    if !self.take(seq, &value) {
                        return false;
                    }
                }
                Err(Unreadable) => return self.fill_singly(engine, span, last),
            }
        }
        self.page.upto = self.page.upto.max(last);
        true
    }

    /// One by one past a block that cannot be read.
    fn fill_singly(&mut self, engine: &Engine, span: &Span, last: Seq) -> bool {
        for seq in (self.page.upto.0 + 1).max(span.first.0)..=last.0 {
            match engine.entry(span.n, Seq(seq)) {
                Ok(Some(value)) => {
                    if !self.take(Seq(seq), &value) {
                        return false;
                    }
                }
                Ok(None) => {}
                Err(Unreadable) => self.skip(Seq(seq)),
            }
        }
        self.page.upto = self.page.upto.max(last);
        true
    }

    fn skip(&mut self, seq: Seq) {
        self.shared.note_damage(seq);
        self.page.upto = seq;
    }

    /// Puts an entry on the page; false when there is no room for it.
    fn take(&mut self, seq: Seq, value: &[u8]) -> bool {
        if self.entries_left == 0 {
            return false;
        }
        let Some(entry) = layout::entry(value, self.keys) else {
            self.skip(seq);
            return true;
        };
        let bytes = entry.envelope.event().bytes().len();
        if bytes > self.bytes_left && !self.page.entries.is_empty() {
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.entries_left -= 1;
        self.page.entries.push(Stored { seq, entry });
        self.page.upto = seq;
        true
    }
}
