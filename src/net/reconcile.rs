//! `POST /mesh/v1/sync` and `POST /mesh/v1/get`, both ends: what a neighbour has that the other lacks.
//!
//! Both routes are for neighbours whose record we hold. That is asked before a body is read, and the owner of the node
//! hands out what is answered from; the work itself, which grows with all records, is done by the workers.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use tokio::sync::oneshot;

use super::dial::{Call, Trouble};
use super::exchange::{self, Told};
use super::routes::{self, Caller, Reply};
use super::{Context, Report, Reports};
use crate::core::sync::{Fault, Nonsense, Run, Snapshot, Step, Tally};
use crate::wire::message::{DIGESTS_TYPE, LINES_TYPE, SYNC_TYPE};
use crate::wire::sync::{
    DIGESTS_MAX, Frame, GIVEN_BYTES_MAX, Misframed, SYNC_BYTES_MAX, Subject, digests_body, read_digests,
};
use crate::wire::{Code, Digest, Line, NodeId, Record, Verified};

/// What a frame costs of the caller's rate: with 100 000 records some milliseconds of a core.
const FRAME_PRICE: usize = 16;
/// Lines that cost as much as one that is checked.
const LINES_FOR_ONE: usize = 8;

/// Answers a frame.
pub(super) async fn sync(context: &Context, reports: &Reports, caller: Caller, request: Request<Incoming>) -> Reply {
    answer_frame(context, reports, caller, request).await.unwrap_or_else(|reply| reply)
}

async fn answer_frame(
    context: &Context,
    reports: &Reports,
    caller: Caller,
    request: Request<Incoming>,
) -> Result<Reply, Reply> {
    let from = named(caller)?;
    routes::check_kind_is(SYNC_TYPE, "the content type of reconciliation is needed", request.headers())?;
    exchange::spend(context, caller, FRAME_PRICE)?;
    let snapshot = entitled(context, reports, from).await?;
    let body = routes::read(context, request.into_body(), SYNC_BYTES_MAX, context.is_neighbour(&from)).await?;
    let Frame { subject: Subject::Records, message } = Frame::read(&body.bytes).map_err(misframed)?;
    let message = body.bytes.slice_ref(message);
    let answered = on_worker(context, move || snapshot.answer(&message)).await.map_err(|Behind| overloaded(context))?;
    let message = answered.map_err(|Nonsense| malformed("it is no message of reconciliation"))?;
    context.counters().frames.one();
    Ok(Reply::ok(SYNC_TYPE, Frame { subject: Subject::Records, message: &message }.bytes()))
}

/// Gives lines by their digests: those that are here and may be handed on.
pub(super) async fn get(context: &Context, reports: &Reports, caller: Caller, request: Request<Incoming>) -> Reply {
    give(context, reports, caller, request).await.unwrap_or_else(|reply| reply)
}

async fn give(
    context: &Context,
    reports: &Reports,
    caller: Caller,
    request: Request<Incoming>,
) -> Result<Reply, Reply> {
    let from = named(caller)?;
    routes::check_kind_is(DIGESTS_TYPE, "the content type of digests is needed", request.headers())?;
    exchange::spend(context, caller, 1)?;
    let snapshot = entitled(context, reports, from).await?;
    let body = routes::read(context, request.into_body(), DIGESTS_MAX * 32, context.is_neighbour(&from)).await?;
    let digests = read_digests(&body.bytes).map_err(misframed)?;
    exchange::spend(context, caller, digests.len().div_ceil(LINES_FOR_ONE))?;
    let lines = on_worker(context, move || snapshot.lines(&digests)).await.map_err(|Behind| overloaded(context))?;
    let mut body = String::new();
    for line in lines {
        if body.len() + line.len() < GIVEN_BYTES_MAX {
            body += &line;
            body.push('\n');
            context.counters().lines_given.one();
        }
    }
    Ok(Reply::ok(LINES_TYPE, body))
}

fn named(caller: Caller) -> Result<NodeId, Reply> {
    let why = "a node shows its key before it reconciles";
    caller.id.ok_or_else(|| Reply::problem(StatusCode::FORBIDDEN, "nameless", why))
}

/// What this neighbour is answered from.
async fn entitled(context: &Context, reports: &Reports, from: NodeId) -> Result<Arc<Snapshot>, Reply> {
    let (answer, answered) = oneshot::channel();
    // An error means that the driver is gone, and the answer with it.
    let _ = reports.send(Report::Reconciling { from, answer }).await;
    let answered = answered.await.map_err(|_| overloaded(context))?;
    let why = "only a neighbour whose record this node holds may ask for that";
    answered.ok_or_else(|| Reply::problem(StatusCode::FORBIDDEN, "no_neighbour", why))
}

fn overloaded(context: &Context) -> Reply {
    context.counters().overloaded.one();
    Reply::unavailable()
}

fn malformed(why: &str) -> Reply {
    Reply::problem(StatusCode::BAD_REQUEST, Code::Malformed.as_str(), why)
}

fn misframed(misframed: Misframed) -> Reply {
    Reply::problem(StatusCode::BAD_REQUEST, misframed.code(), &misframed.to_string())
}

struct Behind;

/// Off the tasks of the network.
async fn on_worker<T: Send + 'static>(
    context: &Context,
    work: impl Fn() -> T + Send + Sync + 'static,
) -> Result<T, Behind> {
    let done = context.0.workers.map(vec![()], move |(), _| work()).await;
    done.ok().and_then(|mut done| done.pop()).ok_or(Behind)
}

/// A run with one peer, between two of its steps.
pub(super) struct Repair {
    snapshot: Arc<Snapshot>,
    /// `None` = not begun.
    run: Option<(Run, Step)>,
}

/// What a step brought.
pub(super) enum Progress {
    /// There are more steps.
    On {
        /// Records that came by it.
        records: Vec<Verified<Record>>,
        /// Digests of those that did not pass every check.
        useless: Vec<Digest>,
    },
    /// It was the last one.
    Over(Result<Tally, Fault>),
}

impl Repair {
    pub(super) fn of(snapshot: Arc<Snapshot>) -> Repair {
        Repair { snapshot, run: None }
    }

    /// One question and its answer.
    ///
    /// # Errors
    /// There is no use in the connection any more.
    pub(super) async fn step(&mut self, context: &Context, call: &Call) -> Result<Progress, Trouble> {
        let begun = match self.run.take() {
            Some(begun) => begun,
            None => {
                let snapshot = Arc::clone(&self.snapshot);
                match on_worker(context, move || Run::begin(Arc::clone(&snapshot))).await {
                    Ok(begun) => begun,
                    Err(Behind) => return Ok(Progress::Over(Err(Fault::Busy))),
                }
            }
        };
        match begun {
            (run, Step::Sync(message)) => self.ask(context, call, run, message).await,
            (run, Step::Get(digests)) => self.fetch(context, call, run, &digests).await,
            (run, Step::Done) => Ok(Progress::Over(Ok(run.tally()))),
        }
    }

    async fn ask(&mut self, context: &Context, call: &Call, run: Run, message: Vec<u8>) -> Result<Progress, Trouble> {
        let frame = Frame { subject: Subject::Records, message: &message }.bytes();
        let answer = match call.reconcile(frame).await {
            Ok(answer) => answer,
            Err(Trouble::Busy(_)) if run.tally().wanted > 0 => {
                let mut run = run;
                let step = run.cut();
                self.run = Some((run, step));
                return Ok(Progress::On { records: Vec::new(), useless: Vec::new() });
            }
            Err(trouble) => return over(trouble),
        };
        let Ok(Frame { subject: Subject::Records, message }) = Frame::read(&answer) else {
            return Ok(Progress::Over(Err(Fault::Nonsense)));
        };
        let message = answer.slice_ref(message);
        let heard = context.0.workers.map(vec![run], move |mut run, _| {
            let step = run.hear(&message);
            (run, step)
        });
        let heard = heard.await.ok().and_then(|mut heard| heard.pop());
        Ok(match heard {
            None => Progress::Over(Err(Fault::Busy)), // we are, that is
            Some((_, Err(fault))) => Progress::Over(Err(fault)),
            Some((run, Ok(step))) => {
                self.run = Some((run, step));
                Progress::On { records: Vec::new(), useless: Vec::new() }
            }
        })
    }

    async fn fetch(
        &mut self,
        context: &Context,
        call: &Call,
        mut run: Run,
        digests: &[Digest],
    ) -> Result<Progress, Trouble> {
        let lines = match call.fetch(digests_body(digests)).await {
            Ok(lines) => lines,
            Err(trouble) => return over(trouble),
        };
        let Some(named) = lines.iter().map(digest_of).collect::<Option<Vec<Digest>>>() else {
            return Ok(Progress::Over(Err(Fault::Nonsense)));
        };
        let step = match run.got(&named) {
            Ok(step) => step,
            Err(fault) => return Ok(Progress::Over(Err(fault))),
        };
        let read = exchange::reader(context, call.peer(), call.at.ip());
        let Ok(read) = context.0.workers.map(lines, move |line, keys| read(&line, keys)).await else {
            return Ok(Progress::Over(Err(Fault::Busy)));
        };
        let (mut records, mut useless) = (Vec::new(), Vec::new());
        for (digest, told) in named.into_iter().zip(read) {
            match told {
                Ok(Told::Own(record) | Told::Other(record)) => records.push(record),
                Ok(Told::Pointless) => {
                    context.counters().records_ignored.one();
                    useless.push(digest);
                }
                Ok(Told::Unsound(code)) => {
                    context.counters().reject(code);
                    useless.push(digest);
                }
                Err(rejection) => {
                    context.counters().reject(rejection.code());
                    useless.push(digest);
                }
            }
        }
        self.run = Some((run, step));
        Ok(Progress::On { records, useless })
    }
}

/// Which event a line says it is; the rest of it is looked at later.
fn digest_of(line: &Bytes) -> Option<Digest> {
    Line::split(line).ok().map(|line| line.digest())
}

/// What a call that brought nothing means for the run.
fn over(trouble: Trouble) -> Result<Progress, Trouble> {
    match trouble {
        Trouble::Busy(_) => Ok(Progress::Over(Err(Fault::Busy))),
        Trouble::Refused(status) | Trouble::Failed { status, .. } => Ok(Progress::Over(Err(Fault::Refused(status)))),
        lost @ Trouble::Lost(_) => Err(lost),
    }
}
