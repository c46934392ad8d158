//! In from the bus: entries of the outbox become events of this node.
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
//! it pending; it is read again, becomes the same bytes, and is a duplicate if it was stored. An entry
//! that is done is deleted as well: the outbox holds what is still to do, and cannot grow for ever.
//! Who wants to keep what was published reads the stream of the bus with `own = true`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, Value};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::outbox::{Malformed, Sealer, Taken};
use super::settings::Settings;
use super::state::{Counters, Report};
use super::trouble::{Backoff, Trouble, wrong_type};
use super::{Publication, connection, has_ended, pause};
use crate::time::Wall;
use crate::wire::message::Outcome;
use crate::wire::rejection::{Code, Rejection};
use crate::wire::{Envelope, Verified, timestamp};

/// One outbox and all it takes to empty it.
pub(super) struct Intake {
    settings: Arc<Settings>,
    sealer: Sealer,
    publications: mpsc::Sender<Publication>,
    counters: Arc<Counters>,
    report: Report,
    shutdown: watch::Receiver<bool>,
    group: String,
    consumer: String,
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
        sealer: Sealer,
        publications: mpsc::Sender<Publication>,
        counters: Arc<Counters>,
        report: Report,
        shutdown: watch::Receiver<bool>,
    ) -> Intake {
        // The node's id, never the process's: what a crash left pending belongs to the next process.
        let consumer = settings.node.to_string();
        let group = format!("mesh-out:{consumer}");
        Intake { settings, sealer, publications, counters, report, shutdown, group, consumer }
    }

    /// Runs until shutdown, or until the driver takes no more. Entries in hand are finished.
    pub(super) async fn run(mut self, mut backoff: Backoff) {
        while let Err(Halt::Trouble(trouble)) = self.session(&mut backoff).await {
            self.counters.troubles.fetch_add(1, Ordering::Relaxed);
            self.report.trouble(&trouble);
            if !pause(backoff.after(&trouble), &mut self.shutdown).await {
                return;
            }
        }
    }

    /// One pair of connections: a blocking read would hold up the acknowledgements behind it.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<(), Halt> {
        let mut redis = connection::open(&self.settings).await?;
        let mut reader = connection::open_blocking(&self.settings).await?;
        loop {
            self.take_over(&mut redis).await?;
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
                let taken = self.wait_for_entries(&mut reader).await?;
                self.settle(&mut redis, &taken).await?;
            }
        }
    }

    /// Makes entries ours that were delivered long ago and never acknowledged. The group is made when
    /// it is not there; asking first lets a full Redis, which refuses that, still be emptied.
    async fn take_over(&self, redis: &mut MultiplexedConnection) -> Result<(), Trouble> {
        let mut from = "0-0".to_owned();
        loop {
            let mut claim = redis::cmd("XAUTOCLAIM");
            claim.arg(&self.settings.outbox).arg(&self.group).arg(&self.consumer);
            claim.arg(millis(self.settings.timing.claim)).arg(&from).arg("COUNT").arg(COUNT).arg("JUSTID");
            match claim.query_async::<Vec<Value>>(redis).await {
                // Which they are matters not: they are pending for us now, and read like the others.
                Ok(answer) => from = next_claim(answer)?,
                Err(error) if error.code() == Some("NOGROUP") => self.make_group(redis).await?,
                Err(error) => return Err(self.named(error)),
            }
            if from == "0-0" {
                return Ok(());
            }
        }
    }

    async fn make_group(&self, redis: &mut MultiplexedConnection) -> Result<(), Trouble> {
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(&self.settings.outbox).arg(&self.group).arg("0").arg("MKSTREAM");
        match create.exec_async(redis).await {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            answer => answer.map_err(|error| self.named(error)),
        }
    }

    /// The key is not in the reply; people need it.
    fn named(&self, error: RedisError) -> Trouble {
        match error.code() {
            Some("WRONGTYPE") => wrong_type(&self.settings.outbox, "stream", "bus.outbox"),
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
        read.arg("STREAMS").arg(&self.settings.outbox).arg(from);
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
        self.bury(redis, &work.dead).await?;
        Ok(())
    }

    /// Signing costs; a batch of it stays off the threads that wait for sockets.
    async fn seal(&self, taken: &[Taken]) -> Result<Work, Trouble> {
        let (sealer, taken) = (self.sealer.clone(), taken.to_vec());
        let seal = move || {
            let mut work = Work::default();
            for taken in taken {
                match &taken.fields {
                    None => work.done.push(taken),
                    Some(_) => match sealer.seal(&taken) {
                        Ok(envelope) => work.open.push((taken, envelope)),
                        Err(malformed) => work.dead.push((taken, malformed)),
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
            let Some(again) = work.sort(outcomes, &self.counters) else { return Ok(()) };
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

    /// What can never be an event goes where people find it. One transaction: none is lost, none doubled.
    async fn bury(&self, redis: &mut MultiplexedConnection, dead: &[(Taken, Malformed)]) -> Result<(), Trouble> {
        let Some((first, why)) = dead.first() else { return Ok(()) };
        let mut burial = redis::pipe();
        burial.atomic();
        for (taken, malformed) in dead {
            self.add_letter(&mut burial, taken, malformed);
        }
        let ids: Vec<&str> = dead.iter().map(|(taken, _)| taken.id.as_str()).collect();
        self.end(&mut burial, &ids).exec_async(redis).await?;
        self.counters.dead.fetch_add(u64::try_from(dead.len()).expect("a batch is small"), Ordering::Relaxed);
        warn!(
            outbox = %self.settings.outbox, entry = %first.id, field = %why.field, code = %why.code,
            reason = %why.reason, others = dead.len() - 1, "bus: entries went to the dead letters"
        );
        Ok(())
    }

    fn add_letter(&self, burial: &mut Pipeline, taken: &Taken, malformed: &Malformed) {
        burial
            .cmd("XADD")
            .arg(format!("{}:dead", self.settings.outbox))
            .arg("MAXLEN")
            .arg("~")
            .arg(LETTERS_MAX)
            .arg("*");
        burial.arg("reason").arg(&malformed.reason).arg("code").arg(malformed.code.as_str());
        burial.arg("field").arg(&malformed.field).arg("entry").arg(&taken.id);
        burial.arg("first_seen").arg(timestamp::format(now()));
        for pair in taken.fields.as_deref().unwrap_or_default().chunks_exact(2).take(LETTER_FIELDS_MAX) {
            let cut = |bytes: &[u8], most: usize| bytes[..bytes.len().min(most)].to_vec();
            burial.arg([b"entry.".as_slice(), &cut(&pair[0], LETTER_NAME_MAX)].concat());
            burial.arg(cut(&pair[1], LETTER_VALUE_MAX));
        }
        burial.ignore();
    }

    /// Deletes and acknowledges, in this order: cut between the two, what is left is a pending entry
    /// without fields, which is acknowledged when it is read. So no transaction is needed, which a full
    /// Redis would refuse while it takes these two.
    fn end<'p>(&self, pipe: &'p mut Pipeline, ids: &[&str]) -> &'p mut Pipeline {
        pipe.cmd("XDEL").arg(&self.settings.outbox).arg(ids).ignore();
        pipe.cmd("XACK").arg(&self.settings.outbox).arg(&self.group).arg(ids).ignore()
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
    dead: Vec<(Taken, Malformed)>,
}

/// What is open must be handed over again.
struct Again {
    after: Duration,
    why: &'static str,
}

impl Work {
    /// Takes the driver's answer in. An event without an outcome stays open.
    fn sort(&mut self, outcomes: Vec<Outcome>, counters: &Counters) -> Option<Again> {
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
                Some(Outcome::Duplicate) => {
                    counters.duplicates.fetch_add(1, Ordering::Relaxed);
                    self.done.push(taken);
                    continue;
                }
                Some(Outcome::Refused(rejection)) => match rejection.retry_after() {
                    Some(after) => (after, pressure(&rejection)),
                    None => {
                        let malformed = Malformed::by(&rejection, &taken);
                        self.dead.push((taken, malformed));
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

fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Entries of one read, and so of one publication.
const COUNT: usize = 64;
/// The least and the most that a refusal makes us wait.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// When the driver says nothing.
const RETRY_UNANSWERED: Duration = Duration::from_secs(1);
/// Dead letters kept, roughly. More would only hide the newest from whoever looks.
const LETTERS_MAX: usize = 10_000;
/// What a dead letter keeps of its entry: all of it, unless it could not be an event by far.
const LETTER_FIELDS_MAX: usize = 64;
const LETTER_NAME_MAX: usize = 64;
const LETTER_VALUE_MAX: usize = crate::wire::event::EVENT_BYTES_MAX;
