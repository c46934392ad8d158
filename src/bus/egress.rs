//! Out to the bus: the journal's events, in its order, each once, onto one stream.
//!
//! ```text
//!   connect -> survey -> plan -+-> GoOn ------------------+-> collect -> append -> collect -> ...
//!      ^                       +-> Place: move the cursor +       |          |
//!      |                       +-> Ask: stopped                caught up   the cursor stands elsewhere
//!      +-- trouble: wait, connect again                     wait, survey      survey
//! ```
//!
//! A batch names the position the cursor must have and the one it gets. So a batch whose answer was
//! lost may be sent again, or may even arrive later than its successor, and nothing is appended twice.
//!
//! One thing is out of our hands: a Redis killed in the middle of writing a transaction to its
//! append-only file starts well, but leaves the torn piece in the file, and runs it at the start after
//! that (seen on 7.0.15; valkey-io/valkey#4342). Up to one batch is on the stream twice then.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError};
use tokio::sync::watch;
use tracing::{info, warn};

use super::cursor::{self, Found, Hint, Plan};
use super::fields::{self, Fields};
use super::settings::Settings;
use super::state::{Counters, Report};
use super::trouble::{Backoff, Trouble};
use super::{connection, has_ended, pause};
use crate::core::ports::{Log, PageError, Seq, Stored};
use crate::core::trust::{Policy, Verdict};
use crate::wire::{Interests, NodeId};

/// One stream and all it takes to fill it.
pub(super) struct Egress {
    pub(super) settings: Arc<Settings>,
    pub(super) log: Arc<dyn Log>,
    pub(super) head: watch::Receiver<Seq>,
    pub(super) interests: watch::Receiver<Interests>,
    pub(super) policy: watch::Receiver<Policy>,
    pub(super) counters: Arc<Counters>,
    pub(super) report: Report,
    /// How far the stream is, for the gauge of the lag.
    pub(super) progress: watch::Sender<Seq>,
    pub(super) shutdown: watch::Receiver<bool>,
}

impl Egress {
    /// Runs until shutdown. A batch in hand is finished; what is left waits in the journal.
    pub(super) async fn run(mut self, mut backoff: Backoff) {
        while let Err(trouble) = self.session(&mut backoff).await {
            self.counters.troubles.fetch_add(1, Ordering::Relaxed);
            self.report.trouble(&trouble);
            if !pause(backoff.after(&trouble), &mut self.shutdown).await {
                return;
            }
        }
    }

    /// One connection, until shutdown (`Ok`) or trouble.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<(), Trouble> {
        let mut stream = Stream::new(&self.settings, self.log.incarnation());
        let mut redis = connection::open(&self.settings).await?;
        let mut misses = 0;
        loop {
            let mut at = self.settle(&stream, &mut redis).await?;
            loop {
                if has_ended(&self.shutdown) {
                    return Ok(());
                }
                let head = *self.head.borrow_and_update();
                let batch = if at < head { self.collect(at).await? } else { Batch::after(at) };
                if batch.upto == at {
                    self.well(backoff);
                    match self.idle().await {
                        Idle::Grown => continue,
                        Idle::Survey => break,
                        Idle::Ended => return Ok(()),
                    }
                }
                if !stream.append(&mut redis, at, &batch).await? {
                    // Flushed, failed over, or an answer of ours was lost: Redis knows.
                    misses += 1;
                    if misses > MISSES_MAX {
                        return Err(Trouble::wait("something else moves the cursor of this bridge"));
                    }
                    break;
                }
                misses = 0;
                at = batch.upto;
                self.count(&batch);
                self.advance(at);
                self.well(backoff);
            }
        }
    }

    /// Learns where the stream is and brings the cursor into order.
    async fn settle(&mut self, stream: &Stream, redis: &mut MultiplexedConnection) -> Result<Seq, Trouble> {
        connection::check_keeps_keys(redis).await?;
        let survey = cursor::survey(redis, &stream.name, &stream.key).await?;
        let journal = Hint::of(&stream.name).journal(&*self.log);
        let at = match cursor::plan(&survey, &journal) {
            Plan::GoOn(at) => at,
            Plan::Place(at) => {
                info!(stream = %stream.name, ?at, "bus: the cursor is placed");
                if !stream.place(redis, &survey.cursor, at).await? {
                    return Err(Trouble::wait("the cursor of this bridge is moving"));
                }
                at
            }
            Plan::Ask { why, resume } => {
                return Err(cursor::question(&stream.name, &stream.key, &journal, &why, resume));
            }
        };
        self.advance(at);
        Ok(at)
    }

    /// The next batch after `at`, read and laid out where it may block. Equal to `at` = caught up.
    async fn collect(&self, at: Seq) -> Result<Batch, Trouble> {
        let (log, own, node) = (Arc::clone(&self.log), self.settings.own, self.settings.node);
        let interests = self.interests.borrow().clone();
        let policy = self.policy.borrow().clone();
        let read = move || Batch::collect(&*log, at, &policy, &|stored| is_wanted(stored, &interests, node, own));
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| Trouble::wait("this daemon is ending"))?
            .map_err(|error| Trouble::wait(error.to_string()))
    }

    /// Waits for the journal to grow; now and then the cursor is read again all the same.
    async fn idle(&mut self) -> Idle {
        tokio::select! {
            // Dropping it loses nothing: the next look at the head sees the same value.
            grown = self.head.changed() => match grown {
                Ok(()) => Idle::Grown,
                Err(_) => Idle::Ended,
            },
            // Dropping it loses nothing: a timer.
            () = tokio::time::sleep(self.settings.timing.survey) => Idle::Survey,
            // Dropping it loses nothing: the flag stays.
            _ = self.shutdown.wait_for(|ended| *ended) => Idle::Ended,
        }
    }

    fn well(&self, backoff: &mut Backoff) {
        backoff.reset();
        self.report.running();
    }

    fn advance(&self, at: Seq) {
        Hint::of(&self.settings.stream).advance(&*self.log, at);
        self.progress.send_replace(at);
    }

    fn count(&self, batch: &Batch) {
        let appended = u64::try_from(batch.entries.len()).expect("a batch is small");
        self.counters.bridged.fetch_add(appended, Ordering::Relaxed);
        self.counters.skipped.fetch_add(batch.skipped, Ordering::Relaxed);
        self.counters.flagged.fetch_add(batch.flagged, Ordering::Relaxed);
        self.counters.quarantined.fetch_add(batch.quarantined, Ordering::Relaxed);
        if batch.lost > 0 {
            self.counters.lost.fetch_add(batch.lost, Ordering::Relaxed);
            warn!(stream = %self.settings.stream, lost = batch.lost, "bus: retention dropped events before they were bridged");
        }
    }
}

enum Idle {
    Grown,
    Survey,
    Ended,
}

/// Is this event for the local bus? Judged when it is bridged, by the interests of that moment; that
/// it expired meanwhile does not matter, since it was stored in time.
fn is_wanted(stored: &Stored, interests: &Interests, node: NodeId, own: bool) -> bool {
    let event = stored.entry.envelope.event();
    if event.kind.is_reserved() || (event.source == node && !own) {
        return false;
    }
    // `to` names exactly those it is for: whoever it does not name only carries it.
    if event.to.is_empty() { interests.matches(&event.kind) } else { event.to.contains(&node) }
}

/// What one call of the script does.
#[derive(Debug)]
struct Batch {
    entries: Vec<Fields>,
    /// The position that the cursor gets.
    upto: Seq,
    /// Events on the way that are not for this stream.
    skipped: u64,
    /// Of the entries: those that a rule doubts.
    flagged: u64,
    /// Events on the way that a rule keeps from local programs.
    quarantined: u64,
    /// Positions on the way that the journal no longer holds.
    lost: u64,
}

impl Batch {
    /// Nothing yet.
    fn after(at: Seq) -> Batch {
        Batch { entries: Vec::new(), upto: at, skipped: 0, flagged: 0, quarantined: 0, lost: 0 }
    }

    /// Reads on from `after` until the batch is full, the journal ends, or enough was passed over.
    fn collect(
        log: &dyn Log,
        after: Seq,
        policy: &Policy,
        is_wanted: &dyn Fn(&Stored) -> bool,
    ) -> Result<Batch, PageError> {
        let (mut batch, head) = (Batch::after(after), log.head());
        let mut bytes = 0;
        while batch.upto < head
            && batch.entries.len() < ENTRIES_MAX
            && bytes <= BYTES_MAX / 2
            && batch.skipped + batch.quarantined < SKIPPED_MAX
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
                // By the policy of this moment, as with interests: what waited while Redis was away,
                // or is replayed after a flush, is not to be trusted by rules that are gone.
                match policy.judge(stored.entry.envelope.event()) {
                    trust @ (Verdict::Accepted | Verdict::Flagged) if is_wanted(stored) => {
                        let fields = fields::plain(stored, trust);
                        bytes += fields::size(&fields);
                        batch.entries.push(fields);
                        batch.flagged += u64::from(trust == Verdict::Flagged);
                    }
                    Verdict::Quarantined if is_wanted(stored) => batch.quarantined += 1,
                    _ => batch.skipped += 1,
                }
            }
        }
        Ok(batch)
    }
}

/// One stream of Redis as the script sees it.
struct Stream {
    name: String,
    key: String,
    incarnation: u64,
    maxlen: u64,
    script: &'static str,
    hash: String,
}

impl Stream {
    fn new(settings: &Settings, incarnation: u64) -> Stream {
        let script = include_str!("append.lua");
        Stream {
            name: settings.stream.clone(),
            key: cursor::key(&settings.stream, settings.node),
            incarnation,
            maxlen: settings.maxlen,
            script,
            hash: redis::Script::new(script).get_hash().to_owned(),
        }
    }

    /// Appends what follows `at`; false, and nothing done, when the cursor is not at `at`.
    async fn append(&mut self, redis: &mut MultiplexedConnection, at: Seq, batch: &Batch) -> Result<bool, Trouble> {
        self.call(redis, &Found::at(self.incarnation, at), batch.upto, &batch.entries).await
    }

    /// Moves the cursor from what was found to `to`; false when it is something else by now.
    async fn place(&self, redis: &mut MultiplexedConnection, found: &Found, to: Seq) -> Result<bool, Trouble> {
        self.call(redis, found, to, &[]).await
    }

    async fn call(
        &self,
        redis: &mut MultiplexedConnection,
        from: &Found,
        to: Seq,
        entries: &[Fields],
    ) -> Result<bool, Trouble> {
        let by_hash = self.command("EVALSHA", &self.hash, from, to, entries);
        let appended: i64 = match by_hash.query_async(redis).await {
            Err(error) if is_unknown_script(&error) => {
                self.command("EVAL", self.script, from, to, entries).query_async(redis).await?
            }
            answer => answer?,
        };
        Ok(appended >= 0)
    }

    fn command(&self, verb: &str, body: &str, from: &Found, to: Seq, entries: &[Fields]) -> Cmd {
        let mut command = redis::cmd(verb);
        command.arg(body).arg(2).arg(&self.name).arg(&self.key);
        command.arg(from.epoch.as_deref().unwrap_or("")).arg(from.seq.as_deref().unwrap_or(""));
        command.arg(self.incarnation).arg(to.0).arg(self.maxlen);
        for fields in entries {
            command.arg(fields.len() * 2);
            for (name, value) in fields {
                command.arg(name).arg(value);
            }
        }
        command
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}

/// Entries of one batch: enough that a round trip costs little for each, few enough that Redis, which
/// runs one script at a time, keeps others waiting for well under a millisecond.
const ENTRIES_MAX: usize = 64;
/// Bytes of one batch. One event may be larger than what is left and is taken alone then.
const BYTES_MAX: usize = 256 << 10;
/// Events passed over before the cursor moves all the same, so a crash does not read them all again.
const SKIPPED_MAX: u64 = 4_096;
/// Batches in a row that found the cursor elsewhere, before it counts as trouble.
const MISSES_MAX: u32 = 8;
