//! `afferent bench`: what this node can do, measured with real events through its local API.
//!
//! ```text
//!   load ---- Sent, Answered ----> notes ----> ledger ----> report
//!   route --- Arrived ------------>
//! ```
//!
//! `pub` publishes as fast as it goes; `e2e` at a pace, and waits until the events are readable: at the
//! same daemon, at a second one on this machine (`--via`), or until a peer says that it has stored them
//! (`--to`). A subscription stands before the first event is published. Beside the figures stand those
//! of the same machine for the parts of the way ([`limits`]): a ratio says more than a number.

mod ledger;
mod limits;
mod load;
mod report;
mod route;

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::ledger::{Answer, Ledger};
use self::limits::Syncs;
use self::load::{Load, Pace};
use self::report::{Parts, Refused, Report};
use self::route::{FarEnd, Route};
use super::arguments::{self, Bench, BenchAction, BenchE2e, BenchPub, Global};
use super::failure::{Exit, Failure};
use super::output::Output;
use super::{codes, reach, words};
use crate::admin::{self, Client, ClientError, FaultCode};
use crate::wire::NodeId;

/// Notes that wait to be entered.
const NOTES_MAX: usize = 1_024;
/// How long a run that is complete listens for what comes twice.
const QUIET: Duration = Duration::from_millis(200);
/// Events live this much longer than anybody waits for them.
const LIFE_MORE: Duration = Duration::from_secs(60);
/// An answer that waits for a peer comes this much later at most.
const ANSWER_MORE: Duration = Duration::from_secs(5);

/// How long the last look at the metrics may take: the report does without them.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// What happened to one event.
enum Note {
    Sent {
        number: u64,
        at: Instant,
    },
    Answered {
        number: u64,
        at: Instant,
        answer: Answer,
    },
    Arrived {
        number: u64,
        at: Instant,
    },
    /// A connection broke: nothing more comes by it.
    Broke(ClientError),
}

/// How a run ended.
enum Ended {
    /// All accounts are settled.
    Settled,
    /// By Ctrl-C.
    Interrupted,
    /// Nothing moved any more.
    Stuck,
    /// A daemon went away.
    Broke(ClientError),
}

pub(super) async fn perform(bench: &Bench, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    match &bench.action {
        BenchAction::Pub(bench) => publish(bench, global, output).await,
        BenchAction::E2e(bench) => end_to_end(bench, global, output).await,
    }
}

async fn publish(bench: &BenchPub, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let mut run = Run::new("pub", &bench.load, bench.count, global).await?;
    let mut clients = Vec::new();
    for _ in 0..u64::from(bench.concurrency).min(bench.count) {
        clients.push(run.connect().await?);
    }
    output.remark(&format!(
        "{} of {} by {}, each with {} unanswered at most; Ctrl-C shows what was measured so far",
        words::count(bench.count, "event"),
        run.load.kind,
        words::count(clients.len() as u64, "connection"),
        bench.window
    ));
    run.measure(None, None).await?;
    let load = Arc::new(run.load.clone());
    for client in clients {
        let (load, window) = (Arc::clone(&load), usize::from(bench.window));
        run.start(|notes| async move { load::by_lines(client, &load, window, &notes).await });
    }
    run.finish(Ledger::new(bench.count, false), "", output).await
}

async fn end_to_end(bench: &BenchE2e, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let mut run = Run::new("e2e", &bench.load, bench.count, global).await?;
    let mut route = Route::find(bench, &run.load.kind, &mut run.here).await?;
    let subscriber = run.connect().await?;
    if let Some(lines) = route.subscribe(&run.load.kind, subscriber).await? {
        let mark = run.load.run.clone();
        run.start(|notes| async move { route::watch(lines, &mark, &notes).await });
    }
    let publisher = run.connect().await?;
    output.remark(&format!(
        "{} of {}, {}/s, until {}; Ctrl-C shows what was measured so far",
        words::count(bench.count, "event"),
        run.load.kind,
        bench.rate,
        route.arrival()
    ));
    run.measure(route.socket(), route.peer()).await?;
    run.load.to = route.to;
    run.load.pace = Some(Pace { began: Instant::now(), rate: bench.rate });
    run.patience += Duration::from_secs(1) / bench.rate;
    let load = Arc::new(run.load.clone());
    if matches!(route.end, FarEnd::Peer { .. }) {
        run.patience += ANSWER_MORE;
        let (socket, within) = (run.socket.clone(), bench.load.timeout);
        run.start(|notes| async move { load::one_by_one(&socket, &load, within, &notes).await });
    } else {
        run.start(|notes| async move { load::by_lines(publisher, &load, load::PACED_WINDOW, &notes).await });
    }
    run.finish(Ledger::new(bench.count, true), &route.arrival(), output).await
}

/// One run.
struct Run {
    /// `pub` or `e2e`.
    bench: &'static str,
    socket: PathBuf,
    /// For questions; who publishes or listens has a connection of its own.
    here: Client,
    load: Load,
    /// Who publishes and listens; they end with the run.
    tasks: JoinSet<()>,
    sender: mpsc::Sender<Note>,
    notes: mpsc::Receiver<Note>,
    /// How long it may stand still.
    patience: Duration,
    parts: Parts,
    /// The socket of the second daemon.
    there: Option<PathBuf>,
    /// The commits before the first event, here and there.
    before: (Syncs, Option<Syncs>),
}

impl Run {
    async fn new(bench: &'static str, load: &arguments::Load, count: u64, global: &Global) -> Result<Run, Failure> {
        let socket = reach::socket(global)?;
        let failed = |error: ClientError| Failure::of_client(&thing(bench), &error);
        let here = Client::connect(&socket).await.map_err(failed)?;
        let mark = format!("{:08x}", fastrand::u32(..));
        let kind = load.kind.clone();
        let kind = kind.unwrap_or_else(|| format!("afferent.bench.{mark}").parse().expect("segments of a type"));
        let patience = load.timeout;
        let load = Load {
            kind,
            run: mark,
            count,
            size: load.size as usize,
            to: None,
            life: patience + LIFE_MORE,
            pace: None,
            next: Arc::new(AtomicU64::new(0)),
        };
        let (sender, notes) = mpsc::channel(NOTES_MAX);
        Ok(Run {
            bench,
            socket,
            here,
            patience,
            load,
            tasks: JoinSet::new(),
            sender,
            notes,
            parts: Parts::default(),
            there: None,
            before: (Syncs::default(), None),
        })
    }

    fn failed(&self, error: &ClientError) -> Failure {
        Failure::of_client(&thing(self.bench), error)
    }

    async fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&self.socket).await.map_err(|error| self.failed(&error))
    }

    /// Measures the parts of the way, before there is traffic.
    async fn measure(&mut self, there: Option<PathBuf>, peer: Option<NodeId>) -> Result<(), Failure> {
        self.there = there;
        self.parts.cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.parts.seal = limits::seal(&self.load);
        if let Some(peer) = peer {
            self.parts.round_trip = limits::round_trip(&mut self.here, peer).await;
        }
        self.before = self.syncs().await.map_err(|error| self.failed(&error))?;
        Ok(())
    }

    async fn syncs(&mut self) -> Result<(Syncs, Option<Syncs>), ClientError> {
        let there = match &self.there {
            Some(socket) => Some(Syncs::of(&mut Client::connect(socket).await?).await?),
            None => None,
        };
        Ok((Syncs::of(&mut self.here).await?, there))
    }

    /// Starts somebody who publishes or listens.
    fn start<W>(&mut self, work: impl FnOnce(mpsc::Sender<Note>) -> W)
    where
        W: Future<Output = Result<(), ClientError>> + Send + 'static,
    {
        let (working, notes) = (work(self.sender.clone()), self.sender.clone());
        self.tasks.spawn(async move {
            if let Err(error) = working.await {
                let _ = notes.send(Note::Broke(error)).await;
            }
        });
    }

    /// Enters notes until all is settled, or nothing moves any more.
    async fn collect(&mut self, ledger: &mut Ledger) -> Ended {
        let mut interrupt = pin!(tokio::signal::ctrl_c());
        let mut until = Instant::now() + self.patience;
        loop {
            // No arm loses anything when dropped: a note stays in the queue, and the rest only waits.
            let moved = tokio::select! {
                note = self.notes.recv() => match note.expect("we hold a sender ourselves") {
                    Note::Sent { number, at } => ledger.on_sent(number, at),
                    Note::Answered { number, at, answer } => ledger.on_answer(number, at, answer),
                    Note::Arrived { number, at } => ledger.on_arrival(number, at),
                    Note::Broke(error) => return Ended::Broke(error),
                },
                () = tokio::time::sleep_until(until.into()) => {
                    return if ledger.is_settled() { Ended::Settled } else { Ended::Stuck };
                }
                _ = &mut interrupt => return Ended::Interrupted,
            };
            if moved && ledger.is_settled() {
                until = Instant::now() + if ledger.arrived().is_some() { QUIET } else { Duration::ZERO };
            } else if moved {
                until = Instant::now() + self.patience;
            }
        }
    }

    /// Waits for the end and says what was measured.
    async fn finish(mut self, mut ledger: Ledger, arrival: &str, output: &mut Output) -> Result<Exit, Failure> {
        let ended = self.collect(&mut ledger).await;
        self.tasks.abort_all();
        if let Ok(Ok((here, there))) = tokio::time::timeout(LOOK_MAX, self.syncs()).await {
            self.parts.syncs = here.since(self.before.0);
            self.parts.syncs_there = there.zip(self.before.1).and_then(|(after, before)| after.since(before));
        }
        let is_cut_short = matches!(ended, Ended::Interrupted | Ended::Broke(_));
        let report = Report::of(self.bench, self.load.kind.to_string(), &ledger, is_cut_short, &self.parts);
        if output.is_json() {
            output.line(&admin::document(&report))?;
        } else {
            for line in report.lines(arrival, &self.parts) {
                output.line(&line)?;
            }
        }
        output.flush()?;
        match ended {
            Ended::Broke(error) => return Err(self.failed(&error)),
            Ended::Interrupted => output.remark("interrupted: what is pending counts for nothing"),
            Ended::Settled | Ended::Stuck => {}
        }
        self.judge(&report, !is_cut_short)
    }

    /// Was that a good run?
    fn judge(&self, report: &Report, was_waited_for: bool) -> Result<Exit, Failure> {
        let (thing, patience) = (thing(self.bench), words::brief(self.patience));
        if was_waited_for && (report.pending > 0 || report.sent < self.load.count) {
            let missing = words::count(report.pending + self.load.count - report.sent, "event");
            let what = format!("{missing} without an answer, and nothing moved for {patience}");
            return Err(Failure::new(Exit::Timeout, codes::NOT_YET, &thing, what).next("afferent status"));
        }
        if report.lost > 0 || report.duplicated > 0 {
            let lost = words::count(report.lost, "event");
            let what = format!(
                "{lost} did not arrive and nothing moved for {patience}, {} came more than once",
                report.duplicated
            );
            let failure = Failure::new(Exit::Failed, codes::UNSOUND, &thing, what);
            return Err(failure.next("afferent status and afferent peers, on both sides"));
        }
        match report.refused.first() {
            None => Ok(Exit::Done),
            Some(Refused { code, .. }) => {
                let number = FaultCode::of_word(code).map_or("AF0414", FaultCode::number);
                let what = format!("{} were refused", words::count(report.refused_events(), "event"));
                let failure = Failure::new(Exit::Refused, number, &thing, what);
                Err(failure.next(format!("afferent explain {number}")))
            }
        }
    }
}

fn thing(bench: &str) -> String {
    format!("bench {bench}")
}
