//! In from the bus: entries of a stream become events of this node. The outbox is one such stream; the
//! bus itself is another where its entries say whether they travel.
//!
//! ```text
//!   take over what was left behind -> read what is pending -> read what is new, blocking -> ...
//!                                            |                        |
//!                                            v                        v
//!               seal -> publish -> answer: stored or duplicate -> XDEL, XACK
//!                         ^   |    refused for good, malformed -> XADD to the dead letters, XDEL, XACK
//!                         +---+    refused for now: wait, publish again, read nothing new
//! ```
//!
//! An entry is acknowledged only after the journal has its event. Whatever breaks before that leaves
//! it pending; it is read again, becomes the same bytes, and is a duplicate if it was stored. What was
//! refused for good is buried at once: the same bytes would be refused each time.
//!
//! An entry of the outbox that is done is deleted as well: the outbox holds what is still to do, and
//! cannot grow for ever. Entries of the bus stay, since others read them. The group of readers on the
//! bus begins at the end of what is there when the node first sees it; how far it read is remembered in
//! the journal, so that a group that was lost with its Redis goes on from there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, Value};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::burials::Burials;
use super::dead::{self, Cause};
use super::layout::Layout;
use super::outbox::{self, Sealer, Taken, time_of};
use super::settings::Settings;
use super::state::{Counters, Report};
use super::travel::{self, Traveller};
use super::trouble::{Backoff, Trouble, wrong_type};
use super::{Publication, connection, has_ended, pause};
use crate::core::ports::{Log, Seq};
use crate::time::Wall;
use crate::wire::message::Outcome;
use crate::wire::rejection::{Code, Rejection};
use crate::wire::{Envelope, Keypair, NodeId, Verified};

/// The group of readers by which this node reads a stream.
pub(super) fn group_of(node: NodeId) -> String {
    format!("mesh-out:{node}")
}

/// A stream whose entries are published.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) stream: String,
    maker: Maker,
}

/// Makes an entry an event.
#[derive(Clone)]
enum Maker {
    Outbox(Sealer),
    Bus(Traveller),
}

impl Source {
    /// The outbox, if there is one.
    pub(super) fn outbox(settings: &Settings, key: &Arc<Keypair>, log: &Arc<dyn Log>) -> Option<Source> {
        let stream = settings.outbox.clone();
        let maker = Maker::Outbox(Sealer::new(Arc::clone(key), settings.network.clone(), &stream, Arc::clone(log)));
        (!stream.is_empty()).then_some(Source { stream, maker })
    }

    /// The bus itself, if its layout says what travels.
    pub(super) fn bus(settings: &Settings, key: &Arc<Keypair>) -> Option<Source> {
        let stream = settings.stream.clone();
        let maker = Maker::Bus(Traveller::new(Arc::clone(key), settings.network.clone(), &stream));
        (settings.layout == Layout::Teleclaude).then_some(Source { stream, maker })
    }

    /// The event that an entry is; `None` when it does not ask to become one.
    pub(super) fn seal(&self, taken: &Taken) -> Result<Option<Verified<Envelope>>, Cause> {
        match &self.maker {
            Maker::Outbox(sealer) => sealer.seal(taken).map(Some),
            Maker::Bus(traveller) => traveller.seal(taken),
        }
    }

    /// By a rule that the event of an entry broke.
    pub(super) fn by(&self, rejection: &Rejection, taken: &Taken) -> Cause {
        match &self.maker {
            Maker::Outbox(_) => outbox::by(rejection, taken),
            Maker::Bus(_) => travel::by(rejection, taken),
        }
    }

    /// Others read this stream too: it is not ours to make, or to delete from.
    fn is_shared(&self) -> bool {
        matches!(self.maker, Maker::Bus(_))
    }

    /// The key of the configuration that names it.
    fn setting(&self) -> &'static str {
        if self.is_shared() { "bus.stream" } else { "bus.outbox" }
    }
}

/// One stream and all it takes to publish its entries.
pub(super) struct Intake {
    settings: Arc<Settings>,
    source: Source,
    log: Arc<dyn Log>,
    publications: mpsc::Sender<Publication>,
    counters: Arc<Counters>,
    report: Report,
    shutdown: watch::Receiver<bool>,
    group: String,
    consumer: String,
    burials: Burials,
    /// The name in the journal of how far the entries were read, in milliseconds of their ids.
    read_upto: String,
}

/// Why a session ends.
enum Halt {
    Ended,
    Trouble(Trouble),
}

impl<T: Into<Trouble>> From<T> for Halt {
    fn from(trouble: T) -> Halt {
        Halt::Trouble(trouble.into())
    }
}

impl Intake {
    pub(super) fn new(
        settings: Arc<Settings>,
        source: Source,
        log: Arc<dyn Log>,
        publications: mpsc::Sender<Publication>,
        counters: Arc<Counters>,
        report: Report,
        shutdown: watch::Receiver<bool>,
    ) -> Intake {
        // The node's id, never the process's: what a crash left pending belongs to the next process.
        let consumer = settings.node.to_string();
        let group = group_of(settings.node);
        let read_upto = format!("entries:{}", source.stream);
        let burials = Burials::of(&source.stream);
        Intake { settings, source, log, publications, counters, report, shutdown, group, consumer, burials, read_upto }
    }

    /// Runs until shutdown, or until the driver takes no more. Entries in hand are finished.
    pub(super) async fn run(mut self, mut backoff: Backoff) {
        while let Err(Halt::Trouble(trouble)) = self.session(&mut backoff).await {
            self.counters.troubles.fetch_add(1, Ordering::Relaxed);
            self.report.trouble(&trouble);
            if !pause(backoff.after(&trouble), &mut self.shutdown).await {
                break;
            }
        }
        self.burials.end();
    }

    /// One pair of connections: a blocking read would hold up the acknowledgements behind it.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<(), Halt> {
        let mut redis = connection::open(&self.settings).await?;
        let mut reader = connection::open_blocking(&self.settings).await?;
        loop {
            if !self.take_over(&mut redis).await? {
                // There is no stream yet. Making it would hide from the egress that Redis is empty.
                self.report.running();
                if !pause(self.settings.timing.block, &mut self.shutdown).await {
                    return Err(Halt::Ended);
                }
                continue;
            }
            while let pending @ [_, ..] = &*self.read(&mut redis, "0", None).await? {
                self.settle(&mut redis, pending).await?;
                if has_ended(&self.shutdown) {
                    return Err(Halt::Ended);
                }
            }
            let next = Instant::now() + self.settings.timing.claim;
            while Instant::now() < next {
                if has_ended(&self.shutdown) {
                    return Err(Halt::Ended);
                }
                backoff.reset();
                self.report.running();
                self.burials.tell();
                let taken = self.wait_for_entries(&mut reader).await?;
                self.settle(&mut redis, &taken).await?;
            }
        }
    }

    /// Makes entries ours that were delivered long ago and never acknowledged. The group is made when
    /// it is not there; asking first lets a full Redis, which refuses that, still be emptied. False =
    /// there is no stream.
    async fn take_over(&self, redis: &mut MultiplexedConnection) -> Result<bool, Trouble> {
        let mut from = "0-0".to_owned();
        loop {
            let mut claim = redis::cmd("XAUTOCLAIM");
            claim.arg(&self.source.stream).arg(&self.group).arg(&self.consumer);
            claim.arg(millis(self.settings.timing.claim)).arg(&from).arg("COUNT").arg(COUNT).arg("JUSTID");
            match claim.query_async::<Vec<Value>>(redis).await {
                // Which they are matters not: they are pending for us now, and read like the others.
                Ok(answer) => from = next_claim(answer)?,
                Err(error) if error.code() == Some("NOGROUP") => {
                    if !self.make_group(redis).await? {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(self.named(error)),
            }
            if from == "0-0" {
                return Ok(true);
            }
        }
    }

    async fn make_group(&self, redis: &mut MultiplexedConnection) -> Result<bool, Trouble> {
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(&self.source.stream).arg(&self.group);
        if self.source.is_shared() {
            match self.begin(redis).await? {
                Some(begin) => create.arg(begin),
                None => return Ok(false),
            };
        } else {
            create.arg("0").arg("MKSTREAM");
        }
        match create.exec_async(redis).await {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(true),
            answer => answer.map(|()| true).map_err(|error| self.named(error)),
        }
    }

    /// The id after which a stream of others is read; `None` = it is not there.
    async fn begin(&self, redis: &mut MultiplexedConnection) -> Result<Option<String>, Trouble> {
        let mut ask = redis::cmd("XINFO");
        ask.arg("STREAM").arg(&self.source.stream);
        // As values: the reply also holds entries, which may be any bytes.
        let last: String = match ask.query_async::<HashMap<String, Value>>(redis).await {
            Ok(mut stream) => {
                let last = stream.remove("last-generated-id").unwrap_or_default();
                redis::from_redis_value(last).map_err(RedisError::from)?
            }
            Err(error) if error.to_string().contains("no such key") => {
                if self.log.cursor(&self.read_upto).is_none() {
                    // Whatever comes, comes after us.
                    self.log.set_cursor(&self.read_upto, Seq(0));
                }
                return Ok(None);
            }
            Err(error) => return Err(self.named(error)),
        };
        Ok(Some(match self.log.cursor(&self.read_upto) {
            None => {
                self.log.set_cursor(&self.read_upto, Seq(millis_of(&last)));
                last
            }
            // Another Redis, with another clock: all of it is new.
            Some(read) if read.0 > millis_of(&last) => "0".to_owned(),
            // Entries of this millisecond may come again; they are duplicates then.
            Some(read) => format!("{}-0", read.0.saturating_sub(1)),
        }))
    }

    /// The key is not in the reply; people need it.
    fn named(&self, error: RedisError) -> Trouble {
        match error.code() {
            Some("WRONGTYPE") => wrong_type(&self.source.stream, "stream", self.source.setting()),
            _ => error.into(),
        }
    }

    /// New entries, or none after a while.
    async fn wait_for_entries(&mut self, reader: &mut MultiplexedConnection) -> Result<Vec<Taken>, Halt> {
        let block = self.settings.timing.block;
        let patience = block + self.settings.timing.response;
        let mut shutdown = self.shutdown.clone();
        tokio::select! {
            // Dropping it may leave entries delivered and unread. They are pending: read first next time.
            read = timeout(patience, self.read(reader, ">", Some(block))) => match read {
                Ok(taken) => Ok(taken?),
                Err(_) => Err(Trouble::silent().into()),
            },
            // Dropping it loses nothing: the flag stays.
            _ = shutdown.wait_for(|ended| *ended) => Err(Halt::Ended),
        }
    }

    /// One read of the group: `0` = what is pending for us, `>` = what nobody was given yet.
    async fn read(
        &self,
        redis: &mut MultiplexedConnection,
        from: &str,
        block: Option<Duration>,
    ) -> Result<Vec<Taken>, Trouble> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.group).arg(&self.consumer).arg("COUNT").arg(COUNT);
        if let Some(block) = block {
            read.arg("BLOCK").arg(millis(block));
        }
        read.arg("STREAMS").arg(&self.source.stream).arg(from);
        let streams: Option<Vec<(Vec<u8>, Vec<Delivered>)>> =
            read.query_async(redis).await.map_err(|e| self.named(e))?;
        let delivered = streams.into_iter().flatten().flat_map(|(_, entries)| entries);
        Ok(delivered.map(|(id, fields)| Taken { id, fields }).collect())
    }

    /// Brings each of these to its end: acknowledged, or among the dead letters.
    async fn settle(&mut self, redis: &mut MultiplexedConnection, taken: &[Taken]) -> Result<(), Halt> {
        if taken.is_empty() {
            return Ok(());
        }
        let mut work = self.seal(taken).await?;
        self.publish(&mut work).await?;
        let done: Vec<&str> = work.done.iter().map(|taken| taken.id.as_str()).collect();
        if !done.is_empty() {
            self.end(&mut redis::pipe(), &done).exec_async(redis).await?;
        }
        self.bury(redis, work.dead).await?;
        if self.source.is_shared()
            && let Some(last) = taken.last()
        {
            self.log.set_cursor(&self.read_upto, Seq(millis_of(&last.id)));
        }
        Ok(())
    }

    /// Signing costs; a batch of it stays off the threads that wait for sockets.
    async fn seal(&self, taken: &[Taken]) -> Result<Work, Trouble> {
        let (source, taken) = (self.source.clone(), taken.to_vec());
        let seal = move || {
            let mut work = Work::default();
            for taken in taken {
                match &taken.fields {
                    None => work.done.push(taken),
                    Some(_) => match source.seal(&taken) {
                        Ok(Some(envelope)) => work.open.push((taken, envelope)),
                        Ok(None) => work.done.push(taken),
                        Err(cause) => work.dead.push((taken, cause)),
                    },
                }
            }
            work
        };
        tokio::task::spawn_blocking(seal).await.map_err(|_| Trouble::wait("this daemon is ending"))
    }

    /// Hands over what is open until nothing is, in order: what is refused for now goes first next time,
    /// before anything new is read.
    async fn publish(&mut self, work: &mut Work) -> Result<(), Halt> {
        while !work.open.is_empty() {
            let envelopes = work.open.iter().map(|(_, envelope)| envelope.clone()).collect();
            let outcomes = self.hand_over(envelopes).await?;
            let Some(again) = work.sort(outcomes, &self.source, &self.counters) else { return Ok(()) };
            self.report.trouble(&Trouble::wait(again.why));
            if !pause(again.after.clamp(RETRY_MIN, RETRY_MAX), &mut self.shutdown).await {
                return Err(Halt::Ended);
            }
        }
        Ok(())
    }

    /// The driver's answer; empty when it gave none.
    async fn hand_over(&mut self, envelopes: Vec<Verified<Envelope>>) -> Result<Vec<Outcome>, Halt> {
        let (answer, outcomes) = oneshot::channel();
        let mut shutdown = self.shutdown.clone();
        let grace = self.settings.timing.response;
        let last_call = async {
            let _ = shutdown.wait_for(|ended| *ended).await;
            tokio::time::sleep(grace).await;
        };
        let exchange = async {
            self.publications.send(Publication { envelopes, answer }).await.map_err(|_| Halt::Ended)?;
            Ok(outcomes.await.unwrap_or_default())
        };
        tokio::select! {
            // Dropping it leaves the entries pending: next time they are duplicates, or new.
            outcomes = exchange => outcomes,
            // Dropping it loses nothing: a timer.
            () = last_call => Err(Halt::Ended),
        }
    }

    /// What can never be an event goes where people find it. One transaction: none is lost, none doubled;
    /// but one that fails in its middle takes nothing back, so what could fail is asked before.
    async fn bury(&mut self, redis: &mut MultiplexedConnection, mut dead: Vec<(Taken, Cause)>) -> Result<(), Trouble> {
        if dead.is_empty() {
            return Ok(());
        }
        connection::check_stream(redis, &dead::stream_of(&self.source.stream)).await?;
        let mut burial = redis::pipe();
        burial.atomic();
        for (taken, cause) in &dead {
            let fields = taken.fields.as_deref().unwrap_or_default();
            let me = self.settings.node.to_string();
            dead::add_entry(&mut burial, &self.source.stream, me, (&taken.id, fields), cause, now());
        }
        let ids: Vec<&str> = dead.iter().map(|(taken, _)| taken.id.as_str()).collect();
        self.end(&mut burial, &ids).exec_async(redis).await?;
        let letters = u64::try_from(dead.len()).expect("a batch is small");
        self.counters.dead.fetch_add(letters, Ordering::Relaxed);
        if let Some((_, last)) = dead.pop() {
            self.burials.add(letters, last);
        }
        Ok(())
    }

    /// Deletes and acknowledges, in this order: cut between the two, what is left is a pending entry
    /// without fields, which is acknowledged when it is read. So no transaction is needed, which a full
    /// Redis would refuse while it takes these two.
    fn end<'p>(&self, pipe: &'p mut Pipeline, ids: &[&str]) -> &'p mut Pipeline {
        if !self.source.is_shared() {
            pipe.cmd("XDEL").arg(&self.source.stream).arg(ids).ignore();
        }
        pipe.cmd("XACK").arg(&self.source.stream).arg(&self.group).arg(ids).ignore()
    }
}

/// An entry of a reply; without fields when it was deleted after it was delivered.
type Delivered = (String, Option<Vec<Vec<u8>>>);

/// Where to claim next: the first element of the reply, `0-0` at the end.
fn next_claim(answer: Vec<Value>) -> Result<String, RedisError> {
    let next = answer.into_iter().next().unwrap_or_default();
    Ok(redis::from_redis_value(next)?)
}

/// Entries of one read, by what is left to do.
#[derive(Default)]
struct Work {
    /// Events to be handed over, in order.
    open: Vec<(Taken, Verified<Envelope>)>,
    /// To be acknowledged.
    done: Vec<Taken>,
    /// To be buried.
    dead: Vec<(Taken, Cause)>,
}

/// What is open must be handed over again.
struct Again {
    after: Duration,
    why: &'static str,
}

impl Work {
    /// Takes the driver's answer in. An event without an outcome stays open.
    fn sort(&mut self, outcomes: Vec<Outcome>, source: &Source, counters: &Counters) -> Option<Again> {
        let mut outcomes = outcomes.into_iter();
        let mut again: Option<Again> = None;
        let open = std::mem::take(&mut self.open);
        for (taken, envelope) in open {
            let (after, why) = match outcomes.next() {
                Some(Outcome::Stored { .. }) => {
                    counters.published.fetch_add(1, Ordering::Relaxed);
                    self.done.push(taken);
                    continue;
                }
                Some(Outcome::Duplicate | Outcome::Uncarried) => {
                    counters.duplicates.fetch_add(1, Ordering::Relaxed);
                    self.done.push(taken);
                    continue;
                }
                // Dated by Redis, whose clock is ahead or was: the same bytes are good in a while.
                Some(Outcome::Refused(Rejection::Future)) if is_dated_by_redis(&taken, &envelope) => {
                    (RETRY_MAX, "the clock of Redis is ahead of this machine's by more than two minutes")
                }
                Some(Outcome::Refused(rejection)) => match rejection.retry_after() {
                    Some(after) => (after, pressure(&rejection)),
                    None => {
                        let cause = source.by(&rejection, &taken);
                        self.dead.push((taken, cause));
                        continue;
                    }
                },
                None => (RETRY_UNANSWERED, "this daemon gave no answer"),
            };
            let longest = again.as_ref().map_or(after, |again| again.after.max(after));
            again = Some(Again { after: longest, why });
            self.open.push((taken, envelope));
        }
        again
    }
}

fn is_dated_by_redis(taken: &Taken, envelope: &Envelope) -> bool {
    time_of(&taken.id) == Some(envelope.event().time)
}

/// Without the milliseconds of the rejection: the same trouble is one line in the log.
fn pressure(rejection: &Rejection) -> &'static str {
    match rejection.code() {
        Code::Rate => "what is published here is above the rate limit",
        _ => "this node cannot store events now",
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The milliseconds of an id.
fn millis_of(id: &str) -> u64 {
    time_of(id).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(0))
}

pub(super) fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Entries of one read, and so of one publication.
const COUNT: usize = 64;
/// The least and the most that a refusal makes us wait.
const RETRY_MIN: Duration = Duration::from_millis(10);
/// See `RETRY_MIN`.
pub const RETRY_MAX: Duration = Duration::from_secs(30);
/// When the driver says nothing.
const RETRY_UNANSWERED: Duration = Duration::from_secs(1);
