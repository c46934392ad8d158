//! What people ask of the bridge: to look at dead letters and decide on them, and to say where a stream
//! goes on whose cursor was lost.
//!
//! Each order opens a connection of its own: they are rare, and must work while a bridge is stopped.
//! Whatever an order changes in Redis is one step, so a lost answer leaves it done or not done.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::info;

use super::cursor::{self, Hint, Plan};
use super::dead::Cause;
use super::egress::Stream;
use super::intake::Source;
use super::outbox::Taken;
use super::outlet::Outlet;
use super::settings::Settings;
use super::trouble::Trouble;
use super::{Publication, connection, has_ended, letters};
use crate::core::letter::Letter;
use crate::core::ports::{Log, Seq};
use crate::core::trust::{Policy, Verdict};
use crate::wire::message::Outcome;
use crate::wire::{Digest, Envelope, Keypair, Verified};

/// One order. The asker may be gone when the answer comes.
#[derive(Debug)]
pub enum Order {
    /// The newest dead letters of all streams.
    Letters {
        /// How many at most.
        count: usize,
        /// The newest first.
        answer: Answer<Vec<Letter>>,
    },
    /// One dead letter.
    Letter {
        /// Its id.
        id: String,
        /// With all it keeps of the original.
        answer: Answer<Letter>,
    },
    /// Deliver it after all, if it can be now.
    Retry {
        /// Its id.
        id: String,
        /// What became of it; it is a dead letter no more then.
        answer: Answer<Retried>,
    },
    /// Throw it away.
    Drop {
        /// Its id.
        id: String,
        /// What it was.
        answer: Answer<Letter>,
    },
    /// Go on with every stream that is stopped since its cursor was lost.
    Mend {
        /// From the first event of the journal, which may repeat events; else after the last one that
        /// is known to be bridged, which may miss some.
        replay: bool,
        /// Where each of them goes on.
        answer: Answer<Mended>,
    },
}

/// Where an answer goes.
pub type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// Why an order was not carried out. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Redis does not do it now, in words.
    Trouble(String),
    /// No dead letter has this id.
    NoSuchLetter,
    /// Dead letters of several streams have it: these.
    Ambiguous(Vec<String>),
    /// It is refused again.
    Again(Cause),
    /// No stream waits for a person.
    NothingStopped,
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Refusal {
        Refusal::Trouble(trouble.why)
    }
}

impl From<redis::RedisError> for Refusal {
    fn from(error: redis::RedisError) -> Refusal {
        Trouble::from(error).into()
    }
}

/// What a retry did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retried {
    /// What it was.
    pub letter: Letter,
    /// Of the event that it is.
    pub digest: Digest,
}

/// Where a stream goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Its key in Redis.
    pub stream: String,
    /// After this position of the journal.
    pub after: Seq,
}

/// What came of [`Order::Mend`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mended {
    /// Streams that go on.
    pub placed: Vec<Placed>,
    /// Streams that could not be looked at, or not be changed, and why.
    pub failed: Vec<(String, String)>,
}

/// Carries out orders.
pub(super) struct Desk {
    settings: Arc<Settings>,
    outlets: Vec<Arc<Outlet>>,
    sources: Vec<Source>,
    log: Arc<dyn Log>,
    policy: watch::Receiver<Policy>,
    publications: mpsc::Sender<Publication>,
    mended: Arc<Notify>,
}

impl Desk {
    pub(super) fn new(
        settings: Arc<Settings>,
        outlets: Vec<Arc<Outlet>>,
        log: &Arc<dyn Log>,
        policy: watch::Receiver<Policy>,
        key: &Arc<Keypair>,
        publications: &mpsc::Sender<Publication>,
        mended: &Arc<Notify>,
    ) -> Desk {
        let sources =
            [Source::outbox(&settings, key, log), Source::bus(&settings, key)].into_iter().flatten().collect();
        let (log, publications, mended) = (Arc::clone(log), publications.clone(), Arc::clone(mended));
        Desk { settings, outlets, sources, log, policy, publications, mended }
    }

    /// Until shutdown, or until nobody can give orders any more.
    pub(super) async fn serve(self, mut orders: mpsc::Receiver<Order>, mut shutdown: watch::Receiver<bool>) {
        while !has_ended(&shutdown) {
            let order = tokio::select! {
                // Dropping it loses nothing: an order stays in the queue.
                order = orders.recv() => order,
                // Dropping it loses nothing: the flag stays.
                _ = shutdown.wait_for(|ended| *ended) => None,
            };
            let Some(order) = order else { return };
            self.carry_out(order).await;
        }
    }

    async fn carry_out(&self, order: Order) {
        // Whoever gave up waiting does not need the answer.
        match order {
            Order::Letters { count, answer } => drop(answer.send(self.letters(count).await)),
            Order::Letter { id, answer } => drop(answer.send(self.letter(&id).await)),
            Order::Retry { id, answer } => drop(answer.send(self.retry(&id).await)),
            Order::Drop { id, answer } => drop(answer.send(self.drop_letter(&id).await)),
            Order::Mend { replay, answer } => drop(answer.send(self.mend(replay).await)),
        }
    }

    /// The streams that may have dead letters.
    fn streams(&self) -> Vec<&str> {
        let outlets = self.outlets.iter().map(|outlet| outlet.stream.as_str());
        let mut streams: Vec<&str> = Vec::new();
        for stream in outlets.chain(self.sources.iter().map(|source| source.stream.as_str())) {
            if !streams.contains(&stream) {
                streams.push(stream);
            }
        }
        streams
    }

    async fn letters(&self, count: usize) -> Result<Vec<Letter>, Refusal> {
        let mut redis = connection::open(&self.settings).await?;
        Ok(letters::newest(&mut redis, &self.streams(), count).await?)
    }

    async fn letter(&self, id: &str) -> Result<Letter, Refusal> {
        let mut redis = connection::open(&self.settings).await?;
        self.find(&mut redis, id).await
    }

    /// The letter called `id`, or `stream/id` where streams share one.
    async fn find(&self, redis: &mut MultiplexedConnection, name: &str) -> Result<Letter, Refusal> {
        let (wanted, id) = name.rsplit_once('/').map_or((None, name), |(stream, id)| (Some(stream), id));
        if letters::order_of(id).is_none() {
            return Err(Refusal::NoSuchLetter);
        }
        let mut found = Vec::new();
        for stream in self.streams() {
            if wanted.is_none_or(|wanted| wanted == stream) {
                found.extend(letters::find(redis, stream, id).await?);
            }
        }
        match found.len() {
            0 | 1 => found.pop().ok_or(Refusal::NoSuchLetter),
            _ => Err(Refusal::Ambiguous(found.into_iter().map(|letter| letter.stream).collect())),
        }
    }

    async fn drop_letter(&self, id: &str) -> Result<Letter, Refusal> {
        let mut redis = connection::open(&self.settings).await?;
        let letter = self.find(&mut redis, id).await?;
        letters::remove(&mut redis::pipe(), &letter).exec_async(&mut redis).await?;
        info!(stream = %letter.stream, id = %letter.id, "bus: a dead letter was dropped");
        Ok(letter)
    }

    async fn retry(&self, id: &str) -> Result<Retried, Refusal> {
        let mut redis = connection::open(&self.settings).await?;
        let letter = self.find(&mut redis, id).await?;
        let digest = if letter.envelope.is_empty() {
            self.publish(&mut redis, &letter).await?
        } else {
            self.append(&mut redis, &letter).await?
        };
        info!(stream = %letter.stream, id = %letter.id, %digest, "bus: a dead letter was delivered after all");
        Ok(Retried { letter, digest })
    }

    /// An event goes to its stream, if its readers can take it now.
    async fn append(&self, redis: &mut MultiplexedConnection, letter: &Letter) -> Result<Digest, Refusal> {
        let stored = letters::event_of(letter).map_err(|rejection| {
            Refusal::Again(Cause { code: rejection.code(), ..Cause::intake("envelope", rejection.to_string()) })
        })?;
        let trust = match self.policy.borrow().judge(stored.entry.envelope.event()) {
            // That is what the person says who lets it through.
            Verdict::Quarantined => Verdict::Accepted,
            Verdict::Dropped => return Err(Refusal::Again(Cause::dropped())),
            trust => trust,
        };
        let fields = self.settings.layout.lay_out(&stored, trust).map_err(Refusal::Again)?;
        connection::check_stream(redis, &letter.stream).await?;
        let mut step = redis::pipe();
        step.atomic();
        let add = step.cmd("XADD").arg(&letter.stream).arg("*");
        for (name, value) in &fields {
            add.arg(name).arg(value);
        }
        add.ignore();
        letters::remove(&mut step, letter).exec_async(redis).await?;
        Ok(stored.entry.envelope.digest())
    }

    /// An entry is published as it was written; twice is once, since it is the same event each time.
    async fn publish(&self, redis: &mut MultiplexedConnection, letter: &Letter) -> Result<Digest, Refusal> {
        let source = self.sources.iter().find(|source| source.stream == letter.stream);
        let source = source.ok_or_else(|| Refusal::Trouble(format!("`{}` is not read now", letter.stream)))?;
        if letter.is_cut {
            let why = "the entry was too large: the letter has its beginning alone; publish it anew, and drop this";
            return Err(Refusal::Again(Cause::intake("", why)));
        }
        let pairs = letter.fields.0.iter().flat_map(|(name, value)| [name.clone(), value.clone()]);
        let taken = Taken { id: letter.entry.clone(), fields: Some(pairs.collect()) };
        let sealed = source.seal(&taken).map_err(Refusal::Again)?;
        let Some(sealed) = sealed else {
            return Err(Refusal::Again(Cause::intake("visibility", "it does not ask to travel any more")));
        };
        let digest = sealed.digest();
        match self.hand_over(sealed).await {
            Some(Outcome::Stored { .. } | Outcome::Duplicate | Outcome::Uncarried) => {}
            Some(Outcome::Refused(rejection)) => return Err(Refusal::Again(source.by(&rejection, &taken))),
            None => return Err(Refusal::Trouble("this daemon gave no answer".to_owned())),
        }
        letters::remove(&mut redis::pipe(), letter).exec_async(redis).await?;
        Ok(digest)
    }

    async fn hand_over(&self, envelope: Verified<Envelope>) -> Option<Outcome> {
        let (answer, outcomes) = oneshot::channel();
        let exchange = async {
            self.publications.send(Publication { envelopes: vec![envelope], answer }).await.ok()?;
            outcomes.await.ok()
        };
        // Too late is no answer: if it was stored meanwhile, the next try finds a duplicate.
        let outcomes = tokio::time::timeout(self.settings.timing.response, exchange).await.ok()??;
        outcomes.into_iter().next()
    }

    /// Each stream for itself: what is wrong with one keeps no other from going on.
    async fn mend(&self, replay: bool) -> Result<Mended, Refusal> {
        let mut redis = connection::open(&self.settings).await?;
        let mut mended = Mended::default();
        for outlet in &self.outlets {
            let stream = outlet.stream.clone();
            match self.mend_one(&mut redis, outlet, replay).await {
                Ok(None) => {}
                Ok(Some(after)) => mended.placed.push(Placed { stream, after }),
                Err(trouble) if trouble.is_answer() => mended.failed.push((stream, trouble.why)),
                // The same would be said of all that follow, each after its patience.
                Err(trouble) if mended.placed.is_empty() => return Err(trouble.into()),
                Err(trouble) => {
                    mended.failed.push((stream, trouble.why));
                    break;
                }
            }
        }
        if mended.placed.is_empty() {
            let why = mended.failed.into_iter().map(|(stream, why)| format!("`{stream}`: {why}"));
            let why: Vec<String> = why.collect();
            return Err(if why.is_empty() { Refusal::NothingStopped } else { Refusal::Trouble(why.join("; ")) });
        }
        self.mended.notify_waiters();
        Ok(mended)
    }

    /// Where the stream goes on; `None` = it does not wait for a person.
    async fn mend_one(
        &self,
        redis: &mut MultiplexedConnection,
        outlet: &Outlet,
        replay: bool,
    ) -> Result<Option<Seq>, Trouble> {
        let stream = Stream::new(&self.settings, outlet, self.log.incarnation());
        let survey = cursor::survey(redis, &stream.name, &stream.key).await?;
        let journal = Hint::of(&stream.name).journal(&*self.log);
        let Plan::Ask { resume, .. } = cursor::plan(&survey, &journal) else { return Ok(None) };
        let after = if replay { Seq(0) } else { resume };
        if !stream.place(redis, &survey.cursor, after).await? {
            return Err(Trouble::wait("its cursor was moved at the same time: type it again"));
        }
        info!(stream = %stream.name, after = after.0, "bus: the cursor is placed by a person");
        Ok(Some(after))
    }
}
