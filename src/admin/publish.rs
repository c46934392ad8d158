//! What is published here: read, signed, handed over, answered in order.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::answers::{Published, Unreached, document};
use super::cloudevents::{self, Members};
use super::idempotency::{Key, KeyUse, fingerprint};
use super::lines::Lines;
use super::request::Request;
use super::routes::Desk;
use super::waiting::{Takers, Wait};
use super::{PUBLISH_BATCH_MAX, PUBLISH_BATCHES_MAX};
use crate::core::ports::Emitted;
use crate::wire::message::Outcome;
use crate::wire::{Digest, Draft, Envelope, Network, NodeId, Rejection, Scalar, Verified, envelope, json, timestamp};

/// How events are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// `type`, `data` and any attribute by its name.
    Own,
    /// CloudEvents, by a library of somebody else.
    CloudEvent,
}

/// What a request asks beside its events.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) form: Form,
    /// Its idempotency key.
    pub(super) key: Option<Key>,
    /// The answers wait for peers.
    pub(super) wait: Option<Wait>,
}

/// One event handed in.
enum Line {
    /// Refused before the disk was asked, or known by its key.
    Answered(Box<Published>),
    /// To be stored.
    Sealed(Box<Verified<Envelope>>, Vec<KeyUse>),
}

impl Line {
    fn never(rejection: &Rejection) -> Line {
        Line::Answered(Box::new(Published::never(rejection)))
    }
}

/// Reads one event and signs it, unless its key says that this was done before. Touches the disk.
fn prepare(desk: &Desk, text: &str, form: Form, key: Option<Key>) -> Line {
    let prepared = members(text).and_then(|members| {
        // What the caller says, and what a CloudEvent brings along, each hold by themselves.
        let (members, own) = match form {
            Form::Own => (members, None),
            Form::CloudEvent => {
                let (members, own) = cloudevents::adopt(members, desk.key.id(), (desk.clock)())?;
                (members, Some(own))
            }
        };
        let body = if key.is_some() || own.is_some() { fingerprint(text)? } else { Digest::of(b"") };
        let [key, own] = [key, own].map(|key| key.map(|key| key.used_for(body)));
        if let Some(published) = [key, own].into_iter().flatten().find_map(|key| key.answered(desk)) {
            return Ok(Line::Answered(Box::new(published)));
        }
        let says_when = members.contains_key("expirytime");
        let sealed = match seal(desk, members) {
            Err(Rejection::Expired) if !says_when => {
                return Ok(Line::Answered(Box::new(Published::never_because(&Rejection::Expired, LONG_AGO))));
            }
            sealed => Box::new(sealed?),
        };
        let own = own.map(|own| own.outliving(sealed.event().expires));
        Ok(Line::Sealed(sealed, [key, own].into_iter().flatten().collect()))
    });
    prepared.unwrap_or_else(|rejection| Line::never(&rejection))
}

/// Why an event of its own form is refused that is old and does not say how long it lives.
const LONG_AGO: &str =
    "its `time` is more than 24 h ago, and an event lives 24 h from then: name an `expirytime`, 7 days ahead at most";

fn members(text: &str) -> Result<Members, Rejection> {
    json::check(text)?;
    // Valid JSON has these three between values alone, and a signed event has none of them.
    let text = &*text.replace(['\n', '\r', '\t'], " ");
    let wrong = |_| Rejection::Json("an object is expected, such as {\"type\":\"demo.hello\",\"data\":{}}");
    serde_json::from_str(text).map_err(wrong)
}

/// Makes the members that a publisher wrote into a signed event: `type`, `data` and any attribute by
/// its name. What it leaves out is filled in: `id` (UUIDv7), `time` (now), `expirytime` (24 h after
/// `time`, as for an entry of the outbox: the same event is the same bytes whichever way it comes).
///
/// # Errors
/// The rule that it breaks; what this node would refuse from others it refuses to sign.
fn seal(desk: &Desk, members: Members) -> Result<Verified<Envelope>, Rejection> {
    let now = (desk.clock)();
    let said = members.get("time").and_then(|time| serde_json::from_str::<String>(time.get()).ok());
    let time = said.and_then(|time| timestamp::parse(&time).ok()).unwrap_or(now);
    let mut draft = Draft::new(fresh_id(now.as_millis()), "", time);
    for (name, value) in members {
        draft = match name.as_str() {
            "data" => draft.with_data(value),
            "source" | "specversion" | "net" => {
                check_own(desk, &name, value.get())?;
                draft
            }
            _ => draft.with(&name, scalar(&name, value.get())?),
        };
    }
    // Whoever names a question answers it, and answers go to whoever asked.
    if let Some(question) = draft.causation().and_then(|digest| desk.log.question(&digest)) {
        draft = draft.answering(&question);
    }
    let sealed = envelope::seal(&draft.in_network(&desk.network), &desk.key)?;
    if sealed.event().kind.is_reserved() {
        return Err(Rejection::TypeDenied);
    }
    sealed.event().check_fresh(now, &desk.network)?;
    Ok(sealed)
}

/// The value of an attribute. The ones that every event has are text.
fn scalar(name: &str, value: &str) -> Result<Scalar, Rejection> {
    let known = ["id", "type", "time", "expirytime"].into_iter().find(|known| *known == name);
    match (serde_json::from_str(value), known) {
        (Ok(Scalar::Text(text)), _) => Ok(Scalar::Text(text)),
        (_, Some(name)) => Err(Rejection::Attribute { name, why: "a string is expected" }),
        (Ok(scalar), None) => Ok(scalar),
        (Err(_), None) => Err(Rejection::Extension(
            "a string, true, false or a whole number is expected; anything else goes in `data`",
        )),
    }
}

/// Attributes that are this node's to say may be repeated, not contradicted.
fn check_own(desk: &Desk, name: &str, value: &str) -> Result<(), Rejection> {
    let said: Option<String> = serde_json::from_str(value).ok();
    let said = said.as_deref();
    match name {
        "source" if said != Some(desk.key.id().uri().as_str()) => {
            Err(Rejection::Attribute { name: "source", why: "this node signs with its own id; leave it out" })
        }
        "specversion" if said != Some("1.0") => {
            Err(Rejection::Attribute { name: "specversion", why: "1.0 is expected" })
        }
        "net" if said.and_then(|net| net.parse::<Network>().ok()).as_ref() != Some(&desk.network) => {
            Err(Rejection::OtherNetwork)
        }
        _ => Ok(()),
    }
}

/// A UUIDv7: sorts by time, so an eye can follow a log of them.
fn fresh_id(millis: i64) -> String {
    let mut chance = [0; 10];
    getrandom::fill(&mut chance).expect("the system gives random bytes");
    uuid::Builder::from_unix_timestamp_millis(millis.max(0).unsigned_abs(), &chance).into_uuid().to_string()
}

/// Publishes one event and waits until it is durable or refused. A caller that goes away changes nothing.
pub(super) async fn one(desk: &Arc<Desk>, text: Bytes, terms: &Terms) -> Published {
    let lines = prepare_all(desk, vec![(1, Ok(text))], terms, None).await;
    let settled = submit(desk, lines, terms.wait).await.await.ok();
    settled.and_then(|mut all| all.pop()).unwrap_or_else(|| Published::never(&unavailable()))
}

/// Publishes the lines of a body as they come. Each line that is not blank has one line of answer, in
/// order, once it is durable or refused; later lines are read and signed while earlier ones wait for
/// the disk.
pub(super) fn many<S, E>(desk: Arc<Desk>, body: S, terms: Terms) -> impl Stream<Item = Bytes>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let batches = stream::unfold(Lines::of(body), |mut lines| async { Some((lines.next_batch().await?, lines)) });
    answers(desk, batches, terms)
}

/// Publishes what is there already, such as the elements of an array; answered like lines.
pub(super) fn all(desk: Arc<Desk>, texts: Vec<Bytes>, terms: Terms) -> impl Stream<Item = Bytes> {
    let mut texts = (1..).zip(texts.into_iter().map(Ok));
    let batches = std::iter::from_fn(move || {
        let batch: Batch = texts.by_ref().take(PUBLISH_BATCH_MAX).collect();
        (!batch.is_empty()).then_some(batch)
    });
    answers(desk, stream::iter(batches), terms)
}

/// Lines as they were cut: which of the body, its text, or why it is none.
pub(super) type Batch = Vec<(u64, Result<Bytes, Rejection>)>;

fn answers(desk: Arc<Desk>, batches: impl Stream<Item = Batch>, terms: Terms) -> impl Stream<Item = Bytes> {
    let batches = Box::pin(batches);
    let submitted = stream::unfold((desk, batches, terms, 0), |(desk, mut batches, terms, number)| async move {
        let batch = batches.next().await?;
        let next = number + batch.len() as u64;
        let places: Vec<u64> = batch.iter().map(|(line, _)| *line).collect();
        let lines = prepare_all(&desk, batch, &terms, Some(number)).await;
        let settled = submit(&desk, lines, terms.wait).await;
        let answered = async move {
            let never = |_| places.iter().map(|_| Published::never(&unavailable())).collect();
            let answers: Vec<Published> = settled.await.unwrap_or_else(never);
            answers.into_iter().zip(places).map(|(answer, line)| answer.on_line(line)).collect::<Vec<_>>()
        };
        Some((answered, (desk, batches, terms, next)))
    });
    submitted.buffered(PUBLISH_BATCHES_MAX).map(|answers| {
        let mut text = String::with_capacity(192 * answers.len());
        for answer in &answers {
            text.push_str(&document(answer));
            text.push('\n');
        }
        Bytes::from(text)
    })
}

/// Signing is work for a core, not for the task that waits on sockets. With a `number` the events are
/// some of many, from this one on.
async fn prepare_all(desk: &Arc<Desk>, batch: Batch, terms: &Terms, number: Option<u64>) -> Vec<Line> {
    let count = batch.len();
    let (desk, terms) = (Arc::clone(desk), terms.clone());
    let preparing = tokio::task::spawn_blocking(move || {
        let line = |(at, (_, line)): (usize, (u64, Result<Bytes, Rejection>))| {
            let key = terms.key.as_ref().map(|key| number.map_or(key.clone(), |first| key.numbered(first + at as u64)));
            match line.as_deref().map(std::str::from_utf8) {
                Ok(Ok(text)) => prepare(&desk, text.trim(), terms.form, key),
                Ok(Err(_)) => Line::never(&Rejection::Json("not UTF-8")),
                Err(rejection) => Line::never(rejection),
            }
        };
        batch.into_iter().enumerate().map(line).collect::<Vec<_>>()
    });
    preparing.await.unwrap_or_else(|_| (0..count).map(|_| Line::never(&unavailable())).collect())
}

/// One event on its way to the disk.
struct Sent {
    digest: Digest,
    id: Box<str>,
    keys: Vec<KeyUse>,
    /// Whom it is addressed to.
    to: Vec<NodeId>,
    causation: Option<Digest>,
}

/// Events on their way to the disk, in order; the ones that have their answer among them.
struct Submitted {
    lines: Vec<Result<Sent, Box<Published>>>,
    outcomes: oneshot::Receiver<Vec<Outcome>>,
    takers: Option<Takers>,
}

/// Hands over what could be signed. The order of calls is the order of the journal. What is handed over
/// is settled by a task of its own, so that no key is left half used by a caller that goes away.
async fn submit(desk: &Arc<Desk>, lines: Vec<Line>, wait: Option<Wait>) -> JoinHandle<Vec<Published>> {
    let (answer, outcomes) = oneshot::channel();
    // A driver that is gone drops the answer too, and `settle` says so for each line.
    let place = desk.requests.reserve().await.ok();
    let (taken, takers) = wait.map(Takers::new).unzip();
    let now = (desk.clock)();
    let mut emitted = Vec::with_capacity(lines.len());
    let mut send = |line| match line {
        Line::Answered(published) => Err(published),
        Line::Sealed(envelope, keys) => {
            let claims = keys.iter().map(|key| key.claim(now)).collect();
            let event = envelope.event();
            let (to, causation) = (event.to.clone(), event.causation);
            let sent = Sent { digest: envelope.digest(), id: event.id.clone(), keys, to, causation };
            emitted.push(Emitted { envelope: *envelope, claims, question: None });
            Ok(sent)
        }
    };
    let lines = lines.into_iter().map(&mut send).collect();
    if let Some(place) = place.filter(|_| !emitted.is_empty()) {
        place.send(Request::Publish { emitted, taken, answer });
    }
    let desk = Arc::clone(desk);
    tokio::spawn(async move { Submitted { lines, outcomes, takers }.settle(&desk).await })
}

impl Submitted {
    async fn settle(self, desk: &Desk) -> Vec<Published> {
        let is_waiting = self.lines.iter().any(Result::is_ok);
        let outcomes = if is_waiting { self.outcomes.await.unwrap_or_default() } else { Vec::new() };
        let mut outcomes = outcomes.into_iter();
        let mut answers = Vec::with_capacity(self.lines.len());
        for line in self.lines {
            answers.push(match line {
                Err(published) => *published,
                Ok(sent) => {
                    let outcome = outcomes.next().unwrap_or_else(|| Outcome::Refused(unavailable()));
                    let unreached = sent.unreached(&outcome, desk).await;
                    Published { unreached, ..sent.answer(&outcome, desk) }
                }
            });
        }
        if let Some(takers) = self.takers {
            takers.fill_in(&mut answers).await;
        }
        answers
    }
}

impl Sent {
    /// Of those that it is addressed to, whoever does not get it.
    async fn unreached(&self, outcome: &Outcome, desk: &Desk) -> Vec<Unreached> {
        if self.to.is_empty() || !matches!(outcome, Outcome::Stored { .. }) {
            return Vec::new();
        }
        let (answer, told) = oneshot::channel();
        let ask = Request::Reach { to: self.to.clone(), causation: self.causation, answer };
        match desk.requests.send(ask).await {
            Ok(()) => told.await.unwrap_or_default(),
            Err(_) => Vec::new(), // the daemon is ending
        }
    }

    fn answer(self, outcome: &Outcome, desk: &Desk) -> Published {
        let Sent { digest, id, keys, .. } = self;
        // Somebody with the same key came first, a moment ago.
        let is_conflict = *outcome == Outcome::Refused(Rejection::Conflict);
        let first = keys.iter().filter(|_| is_conflict).find_map(|key| key.answered(desk));
        first.unwrap_or_else(|| Published::of(digest, &id, outcome, desk.durability))
    }
}

fn unavailable() -> Rejection {
    Rejection::Unavailable { after: std::time::Duration::from_secs(1) }
}
