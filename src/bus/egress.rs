//! Out to the bus: the journal's events, in its order, each once, onto one stream.
//!
//! ```text
//!   connect -> survey -> plan -+-> GoOn ------------------+-> collect -> append -> make room -> collect -> ...
//!      ^                       +-> Place: move the cursor +       |          |          |
//!      |                       +-> Ask: stopped                caught up     |     readers are behind: wait
//!      +-- trouble: wait, connect again                     wait, survey   the cursor stands elsewhere: survey
//! ```
//!
//! Events that are not for this stream move its cursor without an entry. One that its readers could
//! not take goes to the dead letters in the same step.
//!
//! A batch names the position the cursor must have and the one it gets. So a batch whose answer was
//! lost may be sent again, or may even arrive later than its successor, and nothing is appended twice.
//!
//! One thing is out of our hands: a Redis killed in the middle of writing a transaction to its
//! append-only file starts well, but leaves the torn piece in the file, and runs it at the start after
//! that (seen on 7.0.15; valkey-io/valkey#4342). Up to one batch is on the stream twice then.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redis::Cmd;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::connection::Script;
use super::cursor::{self, Found, Hint, Plan};
use super::dead::{self, Cause, Kind};
use super::layout::{self, Fields, Layout};
use super::outbox;
use super::outlet::Outlet;
use super::pace::{Readers, Room};
use super::settings::Settings;
use super::state::{Counters, Report};
use super::trouble::{Backoff, Trouble};
use super::{connection, has_ended};
use crate::core::ports::{Log, PageError, Seq, Stored};
use crate::core::trust::{self, Policy};
use crate::wire::{Interests, NodeId};

/// One stream and all it takes to fill it.
pub(super) struct Egress {
    pub(super) settings: Arc<Settings>,
    pub(super) outlet: Arc<Outlet>,
    /// Its number among the streams.
    pub(super) number: usize,
    pub(super) log: Arc<dyn Log>,
    pub(super) head: watch::Receiver<Seq>,
    pub(super) interests: watch::Receiver<Interests>,
    pub(super) policy: watch::Receiver<Policy>,
    pub(super) counters: Arc<Counters>,
    pub(super) report: Report,
    /// How far each stream is, for the gauge of the lag.
    pub(super) progress: watch::Sender<Vec<Seq>>,
    /// Somebody mended a cursor.
    pub(super) mended: Arc<Notify>,
    /// This process has not bridged anything to it yet.
    pub(super) is_new: bool,
    pub(super) shutdown: watch::Receiver<bool>,
}

impl Egress {
    /// Runs until shutdown. A batch in hand is finished; what is left waits in the journal.
    pub(super) async fn run(mut self, mut backoff: Backoff) {
        while let Err(trouble) = self.session(&mut backoff).await {
            self.counters.troubles.fetch_add(1, Ordering::Relaxed);
            self.report.trouble(&trouble);
            if !self.pause(backoff.after(&trouble)).await {
                return;
            }
        }
    }

    /// Waits, less when a person mended something; false when the bridge is to end instead.
    async fn pause(&mut self, span: std::time::Duration) -> bool {
        tokio::select! {
            // Dropping it loses nothing: only who waits now is told, and the next look sees it anyway.
            () = self.mended.notified() => true,
            // Dropping it loses nothing: a timer and a flag that stays.
            goes_on = super::pause(span, &mut self.shutdown) => goes_on,
        }
    }

    /// One connection, until shutdown (`Ok`) or trouble.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<(), Trouble> {
        let stream = Stream::new(&self.settings, &self.outlet, self.log.incarnation());
        let timing = self.settings.timing;
        let mut readers = Readers::new(&stream.name, self.settings.maxlen, timing.patience);
        let mut redis = connection::open(&self.settings).await?;
        let mut misses = 0;
        loop {
            let mut at = self.settle(&stream, &mut redis).await?;
            self.look_at(&mut readers, &mut redis).await?;
            let survey_at = Instant::now() + timing.survey;
            while Instant::now() < survey_at {
                if has_ended(&self.shutdown) {
                    return Ok(());
                }
                let head = *self.head.borrow_and_update();
                let batch = if at < head { self.collect(at).await? } else { Batch::after(at) };
                if batch.upto == at {
                    self.well(backoff);
                    match self.idle(survey_at).await {
                        Idle::Grown => continue,
                        Idle::Survey => break,
                        Idle::Ended => return Ok(()),
                    }
                }
                let Some(length) = stream.append(&mut redis, at, &batch).await? else {
                    // Flushed, failed over, or an answer of ours was lost: Redis knows.
                    misses += 1;
                    if misses > MISSES_MAX {
                        return Err(Trouble::wait("something else moves the cursor of this bridge"));
                    }
                    break;
                };
                misses = 0;
                at = batch.upto;
                self.count(&batch);
                self.advance(at);
                self.well(backoff);
                if readers.is_long(length) && !self.make_room(&mut readers, &mut redis).await? {
                    return Ok(());
                }
            }
        }
    }

    /// Trims the stream, and waits for its readers where they would miss something; false = shutdown.
    async fn make_room(&mut self, readers: &mut Readers, redis: &mut MultiplexedConnection) -> Result<bool, Trouble> {
        loop {
            match readers.make_room(redis).await? {
                Room::Free => break,
                Room::Waits(group) => self.report.waits_for(Some(group)),
                Room::WentOn(group) => {
                    warn!(stream = %self.outlet.stream, %group, "bus: this group of readers stands still and is not waited for");
                }
            }
            if !super::pause(self.settings.timing.pace, &mut self.shutdown).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells what readers missed, and that they are waited for no more. That is told between two
    /// surveys without a wait: a reader that is just fast enough would change it with every batch.
    async fn look_at(&self, readers: &mut Readers, redis: &mut MultiplexedConnection) -> Result<(), Trouble> {
        if !readers.has_waited() {
            self.report.waits_for(None);
        }
        for (group, entries) in readers.missed(redis).await? {
            self.counters.unread.fetch_add(entries, Ordering::Relaxed);
            self.report.missed(&group, entries);
            warn!(stream = %self.outlet.stream, %group, entries, "bus: entries were trimmed before this group read them");
        }
        Ok(())
    }

    /// Learns where the stream is and brings the cursor into order.
    async fn settle(&mut self, stream: &Stream, redis: &mut MultiplexedConnection) -> Result<Seq, Trouble> {
        connection::check_keeps_keys(redis).await?;
        let survey = cursor::survey(redis, &stream.name, &stream.key).await?;
        let journal = Hint::of(&stream.name).journal(&*self.log);
        let mut plan = cursor::plan(&survey, &journal);
        let start = self.settings.start;
        if let Plan::GoOn(at) = plan
            && std::mem::take(&mut self.is_new)
            && start > Seq(0)
            && at > start
        {
            // The journal was set back (an older copy of it, a loss of power), and has grown again since the
            // start: what has these positions now is not what was bridged under them.
            plan = Plan::Place(start);
        }
        let at = match plan {
            Plan::GoOn(at) => at,
            Plan::Place(at) => {
                info!(stream = %stream.name, ?at, "bus: the cursor is placed");
                if !stream.place(redis, &survey.cursor, at).await? {
                    return Err(Trouble::wait("the cursor of this bridge is moving"));
                }
                at
            }
            Plan::Ask { why, resume } => {
                return Err(cursor::question(&stream.name, &why, resume));
            }
        };
        self.advance(at);
        Ok(at)
    }

    /// The next batch after `at`, read and laid out where it may block. Equal to `at` = caught up.
    async fn collect(&self, at: Seq) -> Result<Batch, Trouble> {
        let log = Arc::clone(&self.log);
        let (interests, policy) = (self.interests.borrow().clone(), self.policy.borrow().clone());
        let judge = Judge::new(&self.settings, Arc::clone(&self.outlet), interests, policy);
        let read = move || Batch::collect(&*log, at, &|stored| judge.judge(stored));
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| Trouble::wait("this daemon is ending"))?
            .map_err(|error| Trouble::wait(error.to_string()))
    }

    /// Waits for the journal to grow; now and then the cursor is read again all the same.
    async fn idle(&mut self, survey_at: Instant) -> Idle {
        tokio::select! {
            // Dropping it loses nothing: the next look at the head sees the same value.
            grown = self.head.changed() => match grown {
                Ok(()) => Idle::Grown,
                Err(_) => Idle::Ended,
            },
            // Dropping it loses nothing: a timer.
            () = tokio::time::sleep_until(survey_at) => Idle::Survey,
            // Dropping it loses nothing: the next look sees the same cursor.
            () = self.mended.notified() => Idle::Survey,
            // Dropping it loses nothing: the flag stays.
            _ = self.shutdown.wait_for(|ended| *ended) => Idle::Ended,
        }
    }

    fn well(&self, backoff: &mut Backoff) {
        backoff.reset();
        self.report.running();
    }

    fn advance(&self, at: Seq) {
        Hint::of(&self.outlet.stream).advance(&*self.log, at);
        self.progress.send_modify(|progress| progress[self.number] = at);
    }

    fn count(&self, batch: &Batch) {
        let number = |count: usize| u64::try_from(count).expect("a batch is small");
        let stream = &self.outlet.stream;
        let letters = number(batch.letters.len());
        self.counters.bridged.fetch_add(number(batch.entries.len()) - letters, Ordering::Relaxed);
        let quarantined = number(batch.letters.iter().filter(|cause| cause.kind == Kind::Quarantine).count());
        self.counters.quarantined.fetch_add(quarantined, Ordering::Relaxed);
        self.counters.dead.fetch_add(letters - quarantined, Ordering::Relaxed);
        self.counters.flagged.fetch_add(batch.flagged, Ordering::Relaxed);
        if self.number == 0 {
            // Every stream passes over what is for the others: told once.
            self.counters.skipped.fetch_add(batch.skipped, Ordering::Relaxed);
        }
        if let Some(Cause { kind, code, field, reason }) = batch.letters.first() {
            let (kind, others) = (kind.as_str(), letters - 1);
            warn!(%stream, kind, %code, field, reason, others, "bus: events went to the dead letters");
        }
        if batch.lost > 0 {
            self.counters.lost.fetch_add(batch.lost, Ordering::Relaxed);
            warn!(%stream, lost = batch.lost, "bus: retention dropped events before they were bridged");
        }
    }
}

enum Idle {
    Grown,
    Survey,
    Ended,
}

/// What becomes of one event on one stream.
#[derive(Debug)]
pub(super) enum Fate {
    /// An entry of the stream, of which local policy thinks this.
    Append(Fields, trust::Verdict),
    /// A dead letter beside it.
    Bury(Cause),
    /// Not for this stream.
    Skip,
}

/// Decides what becomes of events on one stream, by the interests and the policy of this moment: what
/// waited while Redis was away, or is replayed after a flush, is not to be trusted by rules that are
/// gone. That an event expired meanwhile does not matter, since it was stored in time.
pub(super) struct Judge {
    outlet: Arc<Outlet>,
    layout: Layout,
    interests: Interests,
    policy: Policy,
    node: NodeId,
    own: bool,
    /// How the ids begin of what was published by an entry of the bus: those stand there already.
    mark: Option<String>,
}

impl Judge {
    pub(super) fn new(settings: &Settings, outlet: Arc<Outlet>, interests: Interests, policy: Policy) -> Judge {
        let reads_bus = settings.layout == Layout::Teleclaude && outlet.stream == settings.stream;
        Judge {
            outlet,
            layout: settings.layout.clone(),
            interests,
            policy,
            node: settings.node,
            own: settings.own,
            mark: reads_bus.then(|| outbox::mark(&settings.stream) + "-"),
        }
    }

    /// The one place where events are held back from the bus.
    pub(super) fn judge(&self, stored: &Stored) -> Fate {
        if !self.is_wanted(stored) {
            return Fate::Skip;
        }
        let trust = self.policy.judge(stored.entry.envelope.event());
        match trust {
            trust::Verdict::Dropped => return Fate::Skip,
            trust::Verdict::Quarantined => return Fate::Bury(Cause::quarantine()),
            trust::Verdict::Accepted | trust::Verdict::Flagged => {}
        }
        match self.layout.lay_out(stored, trust) {
            Ok(fields) => Fate::Append(fields, trust),
            Err(cause) => Fate::Bury(cause),
        }
    }

    fn is_wanted(&self, stored: &Stored) -> bool {
        let event = stored.entry.envelope.event();
        if event.kind.is_reserved() || !self.outlet.takes(event) {
            return false;
        }
        if event.source == self.node {
            let is_there = self.mark.as_ref().is_some_and(|mark| event.id.starts_with(&**mark));
            if !self.own || is_there {
                return false;
            }
        }
        // `to` names exactly those it is for: whoever it does not name only carries it.
        if event.to.is_empty() { self.interests.matches(&event.kind) } else { event.to.contains(&self.node) }
    }
}

/// What one call of the script does.
#[derive(Debug)]
struct Batch {
    entries: Vec<(Target, Fields)>,
    /// Why those of `entries` are dead that are letters.
    letters: Vec<Cause>,
    /// The position that the cursor gets.
    upto: Seq,
    /// Events on the way that are not for this stream.
    skipped: u64,
    /// Of the entries: those that a rule doubts.
    flagged: u64,
    /// Positions on the way that the journal no longer holds.
    lost: u64,
}

/// Where an entry goes: the number of a key of the script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Stream = 1,
    Letters = 3,
}

impl Batch {
    /// Nothing yet.
    fn after(at: Seq) -> Batch {
        Batch { entries: Vec::new(), letters: Vec::new(), upto: at, skipped: 0, flagged: 0, lost: 0 }
    }

    /// Reads on from `after` until the batch is full, the journal ends, or enough was passed over.
    fn collect(log: &dyn Log, after: Seq, judge: &dyn Fn(&Stored) -> Fate) -> Result<Batch, PageError> {
        let (mut batch, head) = (Batch::after(after), log.head());
        let mut bytes = 0;
        while batch.upto < head
            && batch.entries.len() < ENTRIES_MAX
            && bytes <= BYTES_MAX / 2
            && batch.skipped < SKIPPED_MAX
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
    fn take(&mut self, stored: &Stored, fate: Fate) -> usize {
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

/// One stream of Redis as the script sees it.
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) key: String,
    letters: String,
    incarnation: u64,
    script: Script,
}

impl Stream {
    pub(super) fn new(settings: &Settings, outlet: &Outlet, incarnation: u64) -> Stream {
        Stream {
            name: outlet.stream.clone(),
            key: cursor::key(&outlet.stream, settings.node),
            letters: dead::stream_of(&outlet.stream),
            incarnation,
            script: Script::new(include_str!("append.lua")),
        }
    }

    /// Appends what follows `at` and tells the length of the stream; `None`, and nothing done, when the
    /// cursor is not at `at`.
    async fn append(&self, redis: &mut MultiplexedConnection, at: Seq, batch: &Batch) -> Result<Option<u64>, Trouble> {
        self.call(redis, &Found::at(self.incarnation, at), batch.upto, &batch.entries).await
    }

    /// Moves the cursor from what was found to `to`; false when it is something else by now.
    pub(super) async fn place(
        &self,
        redis: &mut MultiplexedConnection,
        found: &Found,
        to: Seq,
    ) -> Result<bool, Trouble> {
        Ok(self.call(redis, found, to, &[]).await?.is_some())
    }

    async fn call(
        &self,
        redis: &mut MultiplexedConnection,
        from: &Found,
        to: Seq,
        entries: &[(Target, Fields)],
    ) -> Result<Option<u64>, Trouble> {
        let arguments = |call: &mut Cmd| {
            call.arg(from.epoch.as_deref().unwrap_or("")).arg(from.seq.as_deref().unwrap_or(""));
            call.arg(self.incarnation).arg(to.0).arg(dead::LETTERS_MAX);
            for (target, fields) in entries {
                call.arg(*target as u8).arg(fields.len() * 2);
                for (name, value) in fields {
                    call.arg(name).arg(value);
                }
            }
        };
        let length: i64 = self.script.run(redis, &[&self.name, &self.key, &self.letters], arguments).await?;
        Ok(u64::try_from(length).ok())
    }
}

/// Entries of one batch: enough that a round trip costs little for each, few enough that Redis, which
/// runs one script at a time, keeps others waiting for well under a millisecond.
pub const ENTRIES_MAX: usize = 64;
/// Bytes of one batch. One event may be larger than what is left and is taken alone then.
pub const BYTES_MAX: usize = 256 << 10;
/// Events passed over before the cursor moves all the same, so a crash does not read them all again.
pub const SKIPPED_MAX: u64 = 4_096;
/// Batches in a row that found the cursor elsewhere, before it counts as trouble.
pub const MISSES_MAX: u32 = 8;
