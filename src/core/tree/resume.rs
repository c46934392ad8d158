//! Up to where every duty is done, and what a restart takes up behind that.

use super::*;

/// Where the duties are done, on disk and here, and what a restart takes up.
#[derive(Default)]
pub(super) struct Resume {
    remembered: Option<Seq>,
    /// Read up to here; everything behind was looked at in this life.
    read: Seq,
    /// Up to here the last life may have left something.
    until: Seq,
    reading: bool,
    not_before: Mono,
    /// What is owed to these begins behind a position: they were welcomed there, in this life.
    begun: BTreeMap<NodeId, Seq>,
    saved: Seq,
    unsaved_since: Option<Mono>,
}

impl Tree {
    /// Every duty up to here was done in the last life.
    pub(in crate::core) fn remember(&mut self, cursor: Seq) {
        self.resume.remembered = Some(cursor);
    }

    /// The disk was read: what stands behind the last life's cursor is taken up in a moment. Where there is none yet,
    /// one is said before anything is stored: the commit that makes an event durable makes the cursor before it
    /// durable too, and a crash right after it skips nothing.
    pub(in crate::core) fn restore(&mut self, head: Seq, now: Mono, out: &mut Vec<Output>) {
        if self.resume.remembered.is_none() {
            out.push(Output::SaveDuty { cursor: head });
        }
        let cursor = self.resume.remembered.unwrap_or(head).min(head);
        // First its neighbours, then its duties: a view of nobody has nobody to serve.
        let not_before = now + RESUME_AFTER;
        self.resume = Resume { read: cursor, until: head, saved: cursor, not_before, ..Resume::default() };
    }

    /// Whoever is welcomed at this position is owed what comes from now on, and nothing that stands before.
    pub(in crate::core) fn begin_with(&mut self, id: NodeId, at: Seq) {
        if self.resume.read < self.resume.until {
            self.resume.begun.insert(id, at);
        }
    }

    pub(super) fn resumes_at(&self) -> Option<Mono> {
        let is_waiting = self.resume.read < self.resume.until && !self.resume.reading;
        (is_waiting && self.carried.len() < RESUMED_MAX).then_some(self.resume.not_before)
    }

    /// Reads the next page that the last life may have left, while not too much of it is in hand.
    pub(super) fn read_on(&mut self, now: Mono, out: &mut Vec<Output>) {
        let is_due = self.resumes_at().is_some_and(|at| at <= now);
        if is_due {
            self.resume.reading = true;
            out.push(Output::Resume { after: self.resume.read });
        }
    }

    /// A page of what the last life may have left: events of our own that live, and young ones of others. An account
    /// serves what stands behind its cursor. One that is past it may have been opened after the event, by somebody
    /// who was no peer then: he is served like others, and answers `duplicate` if he has it.
    pub(in crate::core) fn on_resumed(
        &mut self,
        after: Seq,
        page: Result<Page, PageError>,
        is_served_later: impl Fn(&NodeId, Seq) -> bool,
        peers: &mut Peers,
        now: Now,
    ) {
        if !self.resume.reading || after != self.resume.read {
            return;
        }
        self.resume.reading = false;
        let page = match page {
            Ok(page) => page,
            Err(PageError::Gone { earliest }) => {
                self.resume.read = Seq(earliest.0.saturating_sub(1)).max(after);
                return;
            }
            Err(PageError::Unreadable) => {
                self.resume.not_before = now.mono + RETRY_SCAN;
                return;
            }
        };
        for stored in &page.entries {
            if stored.seq > self.resume.until {
                break; // stored in this life
            }
            let is_own = stored.entry.from == Some(self.me);
            // What came too late for its question was told by whoever was to send it.
            let is_late = stored.entry.hold.is_some_and(|hold| hold.until <= now.wall);
            if is_late {
                continue;
            }
            if is_own || now.wall.since(stored.entry.received) < RESUMED_FOR {
                let begun = std::mem::take(&mut self.resume.begun);
                let is_served = |id: &NodeId| {
                    is_served_later(id, stored.seq) || begun.get(id).is_some_and(|begun| stored.seq <= *begun)
                };
                self.on_stored(stored, is_served, peers, now);
                self.resume.begun = begun;
            }
        }
        let upto = page.entries.last().map_or(page.upto, |last| last.seq.max(page.upto));
        self.resume.read = if upto > after { upto.min(self.resume.until) } else { self.resume.until };
    }

    /// Every duty up to here is done.
    fn settled(&self, head: Seq) -> Seq {
        let open = self.carried.keys().next().map(|seq| Seq(seq.0 - 1));
        let unread = (self.resume.read < self.resume.until).then_some(self.resume.read);
        [open, unread].into_iter().flatten().fold(head, Seq::min)
    }

    pub(super) fn save_if_due(&mut self, head: Seq, now: Mono, out: &mut Vec<Output>) {
        let unsaved = self.settled(head).0.saturating_sub(self.resume.saved.0);
        if unsaved == 0 {
            return;
        }
        let since = *self.resume.unsaved_since.get_or_insert(now);
        if unsaved >= self.cursor_every || since + self.cursor_delay <= now {
            self.save(head, out);
        }
    }

    /// Says up to where every duty is done.
    pub(in crate::core) fn save(&mut self, head: Seq, out: &mut Vec<Output>) {
        self.resume.unsaved_since = None;
        let settled = self.settled(head);
        if settled > self.resume.saved {
            self.resume.saved = settled;
            out.push(Output::SaveDuty { cursor: settled });
        }
    }
}
