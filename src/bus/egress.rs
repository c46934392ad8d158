//! Out to the bus: the journal's events, in its order, each once, onto one stream.
//!
//! ```text
//!   connect -> survey -> plan -+-> GoOn ------------------+-> collect -> append -> make room -> collect -> ...
//!      ^                       +-> Place: move the cursor +       |          |          |
//!      |                       +-> Ask: stopped                caught up     |     readers are behind: wait
//!      +-- trouble: wait, connect again                     wait, survey   the cursor stands elsewhere: survey
//! ```
//!
//! Events that are not for this stream, and those that wait for their turn (`late.rs`), move its cursor without
//! an entry. One that its readers could not take goes to the dead letters in the same step.
//!
//! A batch names the position the cursor must have and the one it gets. So a batch whose answer was
//! lost may be sent again, or may even arrive later than its successor, and nothing is appended twice.
//!
//! One thing is out of our hands: a Redis killed in the middle of writing a transaction to its
//! append-only file starts well, but leaves the torn piece in the file, and runs it at the start after
//! that (seen on 7.0.15; valkey-io/valkey#4342). Up to one batch is on the stream twice then.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redis::Cmd;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::batch::Batch;
use super::burials::Burials;
use super::connection::Script;
use super::cursor::{self, Found, Hint, Plan};
use super::dead::{self, Kind};
use super::judge::{Fate, Judge};
use super::late::{self, Late};
use super::layout::Layout;
use super::outlet::Outlet;
use super::pace::{Readers, Room};
use super::settings::Settings;
use super::state::{Counters, Report};
use super::trouble::{Backoff, Trouble};
use super::{connection, has_ended, intake};
use crate::core::ports::{Log, Seq, Stored};
use crate::core::trust::Policy;
use crate::wire::Interests;

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
    pub(super) burials: Burials,
    /// How far each stream is, for the gauge of the lag.
    pub(super) progress: watch::Sender<Vec<Seq>>,
    /// Somebody mended a cursor.
    pub(super) mended: Arc<Notify>,
    /// What was passed over and waits for its turn.
    pub(super) late: Late,
    /// This process has not bridged anything to it yet.
    pub(super) is_new: bool,
    pub(super) shutdown: watch::Receiver<bool>,
}

impl Egress {
    /// Runs until shutdown. A batch in hand is finished; what is left waits in the journal.
    pub(super) async fn run(mut self, mut backoff: Backoff) {
        let mut readers = self.readers();
        while !self.has_all() {
            let Err(trouble) = self.session(&mut readers, &mut backoff).await else { break };
            self.counters.troubles.fetch_add(1, Ordering::Relaxed);
            self.report.trouble(&trouble);
            if !self.pause(backoff.after(&trouble)).await {
                break;
            }
        }
        self.burials.end();
        if self.has_all() {
            self.let_go().await;
        }
    }

    /// What is known of the readers of this stream outlives every connection.
    fn readers(&self) -> Readers {
        let settings = &self.settings;
        let is_read_by_us = settings.layout == Layout::Teleclaude && self.outlet.stream == settings.stream;
        let left_behind = (!is_read_by_us).then(|| intake::group_of(settings.node));
        Readers::new(&self.outlet.stream, settings.maxlen, settings.timing.patience, left_behind)
    }

    /// Nothing more is for this stream: the configuration has it no longer, and all it was to get is there.
    fn has_all(&self) -> bool {
        let Some(end) = self.outlet.ends() else { return false };
        Hint::of(&self.outlet.stream).journal(&*self.log).bridged >= Some(end)
    }

    /// Until the next start forgets it, such a stream only keeps the journal from being held back by it.
    async fn let_go(&mut self) {
        info!(stream = %self.outlet.stream, "bus: this stream is in the configuration no more, and has all it was to get");
        self.report.waits_for(None);
        self.report.off();
        while !has_ended(&self.shutdown) {
            let head = *self.head.borrow_and_update();
            self.advance(head);
            tokio::select! {
                // Dropping either loses nothing: the next look sees the same values.
                grown = self.head.changed() => if grown.is_err() { return },
                _ = self.shutdown.wait_for(|ended| *ended) => return,
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

    /// One connection, until shutdown or the end of the stream (`Ok`), or trouble.
    async fn session(&mut self, readers: &mut Readers, backoff: &mut Backoff) -> Result<(), Trouble> {
        let stream = Stream::new(&self.settings, &self.outlet, self.log.incarnation());
        let timing = self.settings.timing;
        let mut redis = connection::open(&self.settings).await?;
        let mut misses = 0;
        loop {
            let mut at = self.settle(&stream, &mut redis).await?;
            self.look_at(readers, &mut redis).await?;
            self.burials.tell();
            let survey_at = Instant::now() + timing.survey;
            while Instant::now() < survey_at {
                if has_ended(&self.shutdown) || self.has_all() {
                    return Ok(());
                }
                let head = *self.head.borrow_and_update();
                let batch = match self.late.due(intake::now()) {
                    due if !due.is_empty() => self.release(at, due).await?,
                    _ if at < head => self.collect(at).await?,
                    _ => Batch::after(at),
                };
                if batch.is_nothing(at) {
                    self.well(backoff);
                    match self.idle(survey_at).await {
                        Idle::Grown => continue,
                        Idle::Survey => break,
                        Idle::Ended => return Ok(()),
                    }
                }
                let late = self.late.after(&batch);
                let Some(length) = stream.append(&mut redis, at, &batch, (&self.late, &late)).await? else {
                    // Flushed, failed over, or an answer of ours was lost: Redis knows.
                    misses += 1;
                    if misses > MISSES_MAX {
                        return Err(Trouble::wait("something else moves the cursor of this bridge"));
                    }
                    break;
                };
                misses = 0;
                (at, self.late) = (batch.upto, late);
                self.count(batch);
                self.advance(at);
                self.well(backoff);
                if readers.is_long(length) && !self.make_room(readers, &mut redis).await? {
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
                Room::WentOn(groups) => {
                    let groups = groups.join(", ");
                    warn!(stream = %self.outlet.stream, groups, "bus: readers are too slow, and not waited for until they have caught up");
                    continue;
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
        let mut survey = cursor::survey(redis, &stream.name, &stream.key).await?;
        let journal = Hint::of(&stream.name).journal(&*self.log);
        let mut plan = cursor::plan(&survey, &journal);
        let start = self.settings.start;
        let is_first_look = std::mem::take(&mut self.is_new);
        if self.outlet.ends().is_some() && !survey.stream && survey.cursor == Found::default() {
            // Flushed. Nobody wants again what was on a stream that is in the configuration no more.
            plan = Plan::Place(journal.bridged.or(journal.renamed).unwrap_or(journal.first));
        }
        if let Plan::GoOn(at) = plan
            && is_first_look
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
                // What waited beyond it comes again.
                survey = cursor::survey(redis, &stream.name, &stream.key).await?;
                at
            }
            Plan::Ask { why, resume } => {
                return Err(cursor::question(&stream.name, &why, resume));
            }
        };
        self.late = Late::read(&survey.cursor, stream.incarnation);
        self.advance(at);
        Ok(at)
    }

    /// The next batch after `at`, read and laid out where it may block. Equal to `at` = caught up.
    async fn collect(&self, at: Seq) -> Result<Batch, Trouble> {
        let log = Arc::clone(&self.log);
        let (interests, policy) = (self.interests.borrow().clone(), self.policy.borrow().clone());
        let judge = Judge::new(&self.settings, Arc::clone(&self.outlet), interests, policy);
        let (now, room) = (intake::now(), Cell::new(self.late.room()));
        let judge = move |stored: &Stored| {
            if room.get() == 0 {
                return judge.judge(stored);
            }
            let fate = judge.judge_at(stored, now);
            room.set(room.get() - usize::from(matches!(fate, Fate::Wait(_))));
            fate
        };
        let read = move || Batch::collect(&*log, at, &judge);
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| Trouble::wait("this daemon is ending"))?
            .map_err(|error| Trouble::wait(error.to_string()))
    }

    /// The batch of those whose turn it is. Local policy is asked now.
    async fn release(&self, at: Seq, due: Vec<Seq>) -> Result<Batch, Trouble> {
        let log = Arc::clone(&self.log);
        let (interests, policy) = (self.interests.borrow().clone(), self.policy.borrow().clone());
        let judge = Judge::new(&self.settings, Arc::clone(&self.outlet), interests, policy);
        let read = move || late::release(&*log, at, due, &|stored| judge.judge(stored));
        tokio::task::spawn_blocking(read).await.map_err(|_| Trouble::wait("this daemon is ending"))
    }

    /// Waits for the journal to grow; now and then the cursor is read again all the same.
    async fn idle(&mut self, survey_at: Instant) -> Idle {
        let turn = self.late.next().map(|turn| Instant::now() + turn.since(intake::now()));
        tokio::select! {
            // Dropping it loses nothing: a timer.
            () = tokio::time::sleep_until(turn.unwrap_or(survey_at)), if turn.is_some() => Idle::Grown,
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
        // What waits is still to be read from the journal.
        let first = self.late.first().map_or(at, |first| at.min(Seq(first.0.saturating_sub(1))));
        Hint::of(&self.outlet.stream).advance(&*self.log, first);
        self.progress.send_modify(|progress| progress[self.number] = at);
    }

    fn count(&mut self, mut batch: Batch) {
        let number = |count: usize| u64::try_from(count).expect("a batch is small");
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
        if let Some(last) = batch.letters.pop() {
            self.burials.add(letters, last);
        }
        if batch.lost > 0 {
            self.counters.lost.fetch_add(batch.lost, Ordering::Relaxed);
            warn!(stream = %self.outlet.stream, lost = batch.lost, "bus: retention dropped events before they were bridged");
        }
    }
}

enum Idle {
    Grown,
    Survey,
    Ended,
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
    /// cursor is not at `at`, or something else waits than `late` has first.
    async fn append(
        &self,
        redis: &mut MultiplexedConnection,
        at: Seq,
        batch: &Batch,
        late: (&Late, &Late),
    ) -> Result<Option<u64>, Trouble> {
        self.call(redis, &Found::at(self.incarnation, at, late.0), batch, late.1).await
    }

    /// Moves the cursor from what was found to `to`; false when it is something else by now.
    pub(super) async fn place(
        &self,
        redis: &mut MultiplexedConnection,
        found: &Found,
        to: Seq,
    ) -> Result<bool, Trouble> {
        let batch = Batch::after(to);
        let late = Late::read(found, self.incarnation).after(&batch);
        Ok(self.call(redis, found, &batch, &late).await?.is_some())
    }

    async fn call(
        &self,
        redis: &mut MultiplexedConnection,
        from: &Found,
        batch: &Batch,
        late: &Late,
    ) -> Result<Option<u64>, Trouble> {
        let arguments = |call: &mut Cmd| {
            for field in [&from.epoch, &from.seq, &from.late] {
                call.arg(field.as_deref().unwrap_or_default());
            }
            call.arg(self.incarnation).arg(batch.upto.0).arg(late.text()).arg(dead::LETTERS_MAX);
            for (target, fields) in &batch.entries {
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

/// Batches in a row that found the cursor elsewhere, before it counts as trouble.
pub const MISSES_MAX: u32 = 8;
