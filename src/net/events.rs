//! `POST /mesh/v1/events`: every line its own item, checked cheap first, answered when durable.
//!
//! The order of 2-wire.md: framing → digest seen? → full validation → fresh, network, `to`, hops → rate
//! of the neighbour → signature → rate of the source → the core. The first four and the signature are
//! done by the workers, many lines at a time; both rates here, in the order of the lines.
//!
//! A line that is to be sent again must not be overtaken: once a line is above the rate, every later
//! line of the same key in this body is too, without being asked about.
//!
//! An event whose `to` does not name this node is refused before any work on its signature. Events
//! with `to` come over connections that prove a key (2-wire.md, "TLS"): from a nameless
//! sender they are refused as `type_denied`, "not accepted from there".

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::limits::Neighbour;
use super::routes::{self, Caller, Reply};
use super::{Answer, Context, Report, Reports};
use crate::core::params::CREDIT_MAX;
use crate::core::ports::{Arrived, Known, Seen};
use crate::time::Wall;
use crate::wire::envelope::Unverified;
use crate::wire::message::{BODY_BYTES_MAX, LINES_MAX, Outcome, Receipt};
use crate::wire::{Code, Digest, Keys, Line, Network, NodeId, Rejection};

/// Answers one post of lines.
pub(super) async fn post(context: &Context, reports: &Reports, caller: Caller, request: Request<Incoming>) -> Reply {
    match take(context, reports, caller, request).await {
        Ok(outcomes) => reply(context, &outcomes),
        Err(reply) => reply,
    }
}

async fn take(
    context: &Context,
    reports: &Reports,
    caller: Caller,
    request: Request<Incoming>,
) -> Result<Vec<Outcome>, Reply> {
    routes::check_kind(request.headers())?;
    let is_known = caller.id.is_some_and(|id| context.is_neighbour(&id));
    let body = routes::read(context, request.into_body(), BODY_BYTES_MAX, is_known).await?;
    let lines = split(&body.bytes)?;
    context.counters().lines.add(lines.len());

    let behind = |_| {
        context.counters().overloaded.one();
        Reply::unavailable()
    };
    let look = Look::new(context, caller);
    let looked = context.0.workers.map(lines, move |line, keys| look.at(&line, keys)).await.map_err(behind)?;
    let looked =
        carry_again(context, reports, caller, is_known, looked).await.ok_or_else(|| behind(super::verify::Behind))?;
    let mut batch = Batch::default();
    let within = batch.limit_neighbour(context, caller, is_known, looked);
    context.counters().verified.add(within.len());
    let counted = context.clone();
    let check = move |line, _: &mut Keys| verify(&counted, line);
    let checked = context.0.workers.map(within, check).await.map_err(behind)?;
    let arrived = batch.limit_sources(context, checked);
    if !arrived.is_empty() {
        let answer = hand_over(context, reports, caller, arrived).await.ok_or_else(|| behind(super::verify::Behind))?;
        batch.settle(answer.outcomes);
    }
    Ok(batch.outcomes.into_iter().map(|outcome| outcome.expect("every line has its outcome by now")).collect())
}

/// The lines of a body, each in memory of its own: an event that is kept must not keep its whole body.
fn split(body: &Bytes) -> Result<Vec<Bytes>, Reply> {
    if body.is_empty() {
        return Err(Reply::problem(StatusCode::BAD_REQUEST, Code::Malformed.as_str(), "the body is empty"));
    }
    let lines = body.strip_suffix(b"\n").unwrap_or(body).split(|byte| *byte == b'\n');
    if lines.clone().count() > LINES_MAX {
        let why = "more than 256 lines";
        return Err(Reply::problem(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge.as_str(), why));
    }
    Ok(lines.map(Bytes::copy_from_slice).collect())
}

/// Everything that is checked before the rates.
struct Look {
    known: std::sync::Arc<dyn Known>,
    network: Network,
    now: Wall,
    me: NodeId,
    is_nameless: bool,
}

/// A line about which nothing is left to be checked.
enum Settled {
    /// This is its answer.
    By(Outcome),
    /// It is durable here already, and a neighbour asks us to carry it on.
    Again(Digest),
}

impl Look {
    fn new(context: &Context, caller: Caller) -> Look {
        let settings = context.settings();
        Look {
            known: std::sync::Arc::clone(&settings.known),
            network: settings.network.clone(),
            now: (settings.clock)(),
            me: context.id(),
            is_nameless: caller.id.is_none(),
        }
    }

    fn at(&self, line: &Bytes, keys: &mut Keys) -> Result<Unverified, Settled> {
        let refused = |rejection| Settled::By(Outcome::Refused(rejection));
        let line = Line::split(line).map_err(refused)?;
        match self.known.seen(&line.digest()) {
            Some(Seen::Stored) if line.duty && !self.is_nameless => return Err(Settled::Again(line.digest())),
            Some(Seen::Stored) => return Err(Settled::By(Outcome::Duplicate)),
            Some(Seen::Refused(code)) => return Err(refused(Rejection::again(code))),
            None => {}
        }
        self.validate(line, keys).map_err(refused)
    }

    fn validate(&self, line: Line, keys: &mut Keys) -> Result<Unverified, Rejection> {
        let line = line.parse(keys)?;
        line.event().check_fresh(self.now, &self.network)?;
        let to = &line.event().to;
        if !to.is_empty() && !to.contains(&self.me) {
            return Err(Rejection::NotForMe);
        }
        if !to.is_empty() && self.is_nameless {
            return Err(Rejection::TypeDenied);
        }
        line.check_hops()?;
        Ok(line)
    }
}

/// A line on its way, with its place in the body.
type Placed<T> = (usize, T);

fn verify(context: &Context, (place, line): Placed<Unverified>) -> Placed<Result<Arrived, Rejection>> {
    let (hops, duty, begun) = (line.hops, line.duty, Instant::now());
    let verified = line.verify();
    context.counters().verify_seconds.observe(begun.elapsed());
    (place, verified.map(|envelope| Arrived { envelope, hops, duty }))
}

/// The outcomes of one body, filled in as they become known.
#[derive(Default)]
struct Batch {
    outcomes: Vec<Option<Outcome>>,
    /// Places of the lines that the core decides about.
    handed: Vec<usize>,
}

impl Batch {
    /// Takes the lines that the neighbour may send now.
    fn limit_neighbour(
        &mut self,
        context: &Context,
        caller: Caller,
        is_known: bool,
        looked: Vec<Result<Unverified, Outcome>>,
    ) -> Vec<Placed<Unverified>> {
        let key = Neighbour::of(caller.id, caller.address.ip());
        let mut held: Option<Duration> = None;
        let mut within = Vec::with_capacity(looked.len());
        for (place, line) in looked.into_iter().enumerate() {
            let outcome = match line {
                Err(outcome) => Some(outcome),
                Ok(line) => {
                    held = held.or_else(|| context.rates().neighbour(&key, is_known).err());
                    match held {
                        Some(after) => Some(Outcome::Refused(Rejection::Rate { after })),
                        None => {
                            within.push((place, line));
                            None
                        }
                    }
                }
            };
            self.outcomes.push(outcome);
        }
        within
    }

    /// Takes the events that their sources may send now: only a good signature uses up a source's rate,
    /// since anybody can name a victim.
    fn limit_sources(&mut self, context: &Context, checked: Vec<Placed<Result<Arrived, Rejection>>>) -> Vec<Arrived> {
        let mut held: BTreeMap<NodeId, Duration> = BTreeMap::new();
        let mut arrived = Vec::with_capacity(checked.len());
        for (place, line) in checked {
            let limited = line.and_then(|line| {
                let source = line.envelope.event().source;
                if let Some(after) = held.get(&source) {
                    return Err(Rejection::Rate { after: *after });
                }
                match context.rates().source(&source, context.is_neighbour(&source)) {
                    Ok(()) => Ok(line),
                    Err(after) => {
                        held.insert(source, after);
                        Err(Rejection::Rate { after })
                    }
                }
            });
            match limited {
                Ok(line) => {
                    self.handed.push(place);
                    arrived.push(line);
                }
                Err(rejection) => self.outcomes[place] = Some(Outcome::Refused(rejection)),
            }
        }
        arrived
    }

    /// Puts the core's outcomes where their lines stand.
    fn settle(&mut self, outcomes: Vec<Outcome>) {
        for (place, outcome) in self.handed.iter().zip(outcomes) {
            self.outcomes[*place] = Some(outcome);
        }
    }
}

/// Asks the core about lines that are durable here and are to be carried on; `None` when the driver is behind
/// or gone.
async fn carry_again(
    context: &Context,
    reports: &Reports,
    caller: Caller,
    is_known: bool,
    looked: Vec<Result<Unverified, Settled>>,
) -> Option<Vec<Result<Unverified, Outcome>>> {
    let again = |line: &Result<Unverified, Settled>| match line {
        Err(Settled::Again(event)) => Some(*event),
        _ => None,
    };
    // What is asked beyond the neighbour's rate is a duplicate and no more.
    let key = Neighbour::of(caller.id, caller.address.ip());
    let within = |_: &Digest| context.rates().neighbour(&key, is_known).is_ok();
    let events: Vec<Digest> = looked.iter().filter_map(again).take_while(within).collect();
    let mut outcomes = Vec::new().into_iter();
    if let Some(from) = caller.id.filter(|_| !events.is_empty()) {
        let (sender, answer) = oneshot::channel();
        reports.try_send(Report::Again { from, events, answer: sender }).ok()?;
        outcomes = answer.await.ok()?.outcomes.into_iter();
    }
    let settle = |line: Result<Unverified, Settled>| {
        line.map_err(|settled| match settled {
            Settled::By(outcome) => outcome,
            Settled::Again(_) => outcomes.next().unwrap_or(Outcome::Duplicate),
        })
    };
    Some(looked.into_iter().map(settle).collect())
}

/// Asks the core; `None` when the driver is behind or gone.
async fn hand_over(context: &Context, reports: &Reports, caller: Caller, arrived: Vec<Arrived>) -> Option<Answer> {
    let count = arrived.len();
    let (sender, answer) = oneshot::channel();
    match reports.try_send(Report::Received { from: caller.id, arrived, answer: sender }) {
        Ok(()) => {}
        Err(TrySendError::Full(_) | TrySendError::Closed(_)) => return None,
    }
    let answer = answer.await.ok()?;
    assert_eq!(answer.outcomes.len(), count, "the core answers for every event it was given");
    context.0.credit.store(answer.credit.min(CREDIT_MAX), Ordering::Relaxed);
    Some(answer)
}

/// The receipt; for a body of one line, the status says it too.
fn reply(context: &Context, outcomes: &[Outcome]) -> Reply {
    for outcome in outcomes {
        match outcome {
            Outcome::Stored { .. } => context.counters().stored.one(),
            Outcome::Duplicate | Outcome::Uncarried => context.counters().duplicates.one(),
            Outcome::Refused(rejection) => context.counters().reject(rejection.code()),
        }
    }
    let status = match outcomes {
        [Outcome::Refused(rejection)] => return Reply::rejection(rejection),
        [Outcome::Stored { .. }] => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    let credit = context.0.credit.load(Ordering::Relaxed);
    let receipt = Receipt::of(outcomes, credit, context.settings().durability);
    Reply::with(status, "application/json", serde_json::to_vec(&receipt).expect("a receipt always encodes"))
}
