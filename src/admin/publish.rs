//! What is published here: read, signed, handed over, answered in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::answers::{Published, document};
use super::request::Request;
use super::routes::Desk;
use super::{LINE_BYTES_MAX, PUBLISH_BATCH_MAX, PUBLISH_BATCHES_MAX};
use crate::wire::message::{BODY_BYTES_MAX, Durability, Outcome};
use crate::wire::{Digest, Draft, Envelope, Network, Rejection, Scalar, Verified, envelope, json};

/// Makes one JSON object of a publisher into a signed event: `type`, `data` and any attribute by its
/// name. What it leaves out is filled in: `id` (UUIDv7), `time` (now), `expirytime` (24 h from now).
///
/// # Errors
/// The rule that it breaks; what this node would refuse from others it refuses to sign.
pub(super) fn seal(desk: &Desk, text: &str) -> Result<Verified<Envelope>, Rejection> {
    json::check(text)?;
    // Valid JSON has these three between values alone, and a signed event has none of them.
    let text = &*text.replace(['\n', '\r', '\t'], " ");
    let wrong = |_| Rejection::Json("an object is expected, such as {\"type\":\"demo.hello\",\"data\":{}}");
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).map_err(wrong)?;
    let now = (desk.clock)();
    let mut draft = Draft::new(fresh_id(now.as_millis()), "", now);
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

/// Publishes one event and waits until it is durable or refused.
pub(super) async fn one(desk: &Desk, text: &str) -> Published {
    match submit(desk, vec![seal(desk, text)]).await.settle().await.pop() {
        Some(published) => published,
        None => unreachable!("one event has one answer"),
    }
}

/// Publishes the lines of a body as they come. Each line that is not blank has one line of answer, in
/// order, once it is durable or refused; later lines are read and signed while earlier ones wait for
/// the disk.
pub(super) fn many<S, E>(desk: Arc<Desk>, body: S) -> impl Stream<Item = Bytes>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let lines = Lines { body, read: BytesMut::new(), is_skipping: false, is_over: false };
    let submitted = stream::unfold((desk, lines), |(desk, mut lines)| async {
        let batch = lines.next_batch().await?;
        let sealed = seal_all(&desk, batch).await;
        Some((submit(&desk, sealed).await, (desk, lines)))
    });
    submitted.map(Submitted::settle).buffered(PUBLISH_BATCHES_MAX).map(|answers| {
        let mut text = String::with_capacity(192 * answers.len());
        for answer in &answers {
            text.push_str(&document(answer));
            text.push('\n');
        }
        Bytes::from(text)
    })
}

/// Signing is work for a core, not for the task that waits on sockets.
async fn seal_all(
    desk: &Arc<Desk>,
    batch: Vec<Result<Bytes, Rejection>>,
) -> Vec<Result<Verified<Envelope>, Rejection>> {
    let count = batch.len();
    let desk = Arc::clone(desk);
    let sealing = tokio::task::spawn_blocking(move || {
        let text = |line: Bytes| match std::str::from_utf8(&line) {
            Ok(text) => seal(&desk, text),
            Err(_) => Err(Rejection::Json("the line is not UTF-8")),
        };
        batch.into_iter().map(|line| line.and_then(text)).collect::<Vec<_>>()
    });
    sealing.await.unwrap_or_else(|_| (0..count).map(|_| Err(unavailable())).collect())
}

/// One line: on its way (digest and id), or refused before.
type Line = Result<(Digest, Box<str>), Rejection>;

/// Events on their way to the disk.
struct Submitted {
    lines: Vec<Line>,
    outcomes: oneshot::Receiver<Vec<Outcome>>,
    durability: Durability,
}

/// Hands over what could be signed. The order of calls is the order of the journal.
async fn submit(desk: &Desk, sealed: Vec<Result<Verified<Envelope>, Rejection>>) -> Submitted {
    let known = |envelope: &Verified<Envelope>| (envelope.digest(), envelope.event().id.clone());
    let lines = sealed.iter().map(|line| line.as_ref().map(known).map_err(Clone::clone)).collect();
    let envelopes: Vec<_> = sealed.into_iter().flatten().collect();
    let (answer, outcomes) = oneshot::channel();
    if !envelopes.is_empty() {
        // A driver that is gone drops the answer too, and `settle` says so for each line.
        let _ = desk.requests.send(Request::Publish { envelopes, answer }).await;
    }
    Submitted { lines, outcomes, durability: desk.durability }
}

impl Submitted {
    async fn settle(self) -> Vec<Published> {
        let is_waiting = self.lines.iter().any(Result::is_ok);
        let outcomes = if is_waiting { self.outcomes.await.unwrap_or_default() } else { Vec::new() };
        let mut outcomes = outcomes.into_iter();
        let answer = |line: Line| match line {
            Err(rejection) => Published::never(&rejection),
            Ok((digest, id)) => {
                let outcome = outcomes.next().unwrap_or_else(|| Outcome::Refused(unavailable()));
                Published::of(digest, &id, &outcome, self.durability)
            }
        };
        self.lines.into_iter().map(answer).collect()
    }
}

fn unavailable() -> Rejection {
    Rejection::Unavailable { after: std::time::Duration::from_secs(1) }
}

/// A body being cut into lines, with bounded memory whatever it holds.
struct Lines<S> {
    body: S,
    read: BytesMut,
    /// The rest of an over-long line is being thrown away.
    is_skipping: bool,
    is_over: bool,
}

impl<S, E> Lines<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    /// The lines that are there, at least one; `None` at the end of the body. Nothing waits for a
    /// batch to fill up.
    async fn next_batch(&mut self) -> Option<Vec<Result<Bytes, Rejection>>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        loop {
            while let Some(line) = self.cut() {
                bytes += line.as_ref().map_or(0, Bytes::len);
                batch.push(line);
                if batch.len() == PUBLISH_BATCH_MAX || bytes >= BODY_BYTES_MAX {
                    return Some(batch);
                }
            }
            if !batch.is_empty() || self.is_over {
                return (!batch.is_empty()).then_some(batch);
            }
            match self.body.next().await {
                Some(Ok(more)) => self.read.extend_from_slice(&more),
                // A publisher that broke off in the middle of a line did not finish saying it.
                Some(Err(_)) => {
                    self.read.clear();
                    self.is_over = true;
                }
                None => self.is_over = true,
            }
        }
    }

    /// The next line that is there and not blank.
    fn cut(&mut self) -> Option<Result<Bytes, Rejection>> {
        loop {
            let line = match self.read.iter().position(|byte| *byte == b'\n') {
                Some(at) => self.read.split_to(at + 1),
                None if self.is_over && !self.read.is_empty() => self.read.split(),
                None if self.read.len() > LINE_BYTES_MAX => {
                    self.read.clear();
                    if std::mem::replace(&mut self.is_skipping, true) {
                        return None;
                    }
                    return Some(Err(Rejection::TooLarge));
                }
                None => return None,
            };
            if std::mem::take(&mut self.is_skipping) {
                continue;
            }
            let line = line.freeze();
            let line = line.slice_ref(line.trim_ascii());
            if line.len() > LINE_BYTES_MAX {
                return Some(Err(Rejection::TooLarge));
            }
            if !line.is_empty() {
                return Some(Ok(line));
            }
        }
    }
}
