//! A lane: our own way to one peer, from the first call until it breaks.
//!
//! ```text
//!   resolve, check → TLS pinned → hello → exchange → Met, Connected
//!   then, one at a time:  a changed record → exchange → Met
//!                         a shipment       → events   → Sent
//!                         a question       → exchange → Met, Heard
//!                         a repair         → sync, get → Gained, Reconciled; whatever else is due goes first
//!                           not_subscribed → exchange → Met
//!                         silence          → hello    → Pong, and Met for a newer record
//!   another key answers:  Mistaken, and the next address
//!   until it breaks:      Sent(Lost) for what was queued, then Broken
//! ```
//!
//! The HTTP client may make its connection anew between two requests; the peer then proves the same
//! key at the same checked address. A request is repeated here only when it was never sent, or when
//! the peer said in HTTP/2's own words that it did not look at it (RFC 9113 section 8.7).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::dial::{Call, Exchanged, Trouble};
use super::reconcile::{Progress, Repair};
use super::resolve::{Policy, resolve};
use super::{Context, Report, Reports};
use crate::core::params::RETRY_BUSY;
use crate::core::ports::{LaneId, SendError, ShipmentId};
use crate::core::sync::Snapshot;
use crate::wire::message::Hello;
use crate::wire::{Code, HostPort, NodeId, Record, Verified, Word, timestamp};

/// Addresses tried in one dial, over all places.
pub const DIALS_MAX: usize = 8;
/// Questions for others that wait in one lane: one of the search, one of a person.
pub const QUESTIONS_MAX: usize = 2;
/// Pings that wait in one lane.
pub const PINGS_MAX: usize = 8;

/// The driver's end of a lane. Dropping it closes the lane at once and without a report.
#[derive(Debug)]
pub struct LaneHandle {
    shipments: mpsc::Sender<(ShipmentId, Vec<Bytes>)>,
    pings: mpsc::Sender<Asked>,
    exchanges: mpsc::Sender<Question>,
    repairs: mpsc::Sender<Arc<Snapshot>>,
    task: AbortHandle,
}

/// What a person learns of a lane.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Echo {
    /// Waited behind other traffic of the lane.
    pub waited: Duration,
    /// There and back.
    pub rtt: Duration,
    /// How far the peer's clock is ahead of ours, in milliseconds, give or take the round trip.
    pub clock_ahead_ms: i64,
}

/// What a peer answered to the question whom else it knows.
#[derive(Clone, Debug)]
pub struct Told {
    /// Of others than itself; each passed every check but the core's.
    pub records: Vec<Verified<Record>>,
    /// There and back.
    pub took: Duration,
}

/// Whom else do you know? Somebody may wait for the answer beside the driver.
#[derive(Debug)]
struct Question {
    asker: Option<oneshot::Sender<Told>>,
    /// The driver is told, too.
    is_reported: bool,
}

/// When a ping was asked for, and by whom.
type Asked = (Instant, oneshot::Sender<Echo>);

impl LaneHandle {
    /// Posts these lines (without LF) as one body, after what was given before. [`Report::Sent`] says
    /// what became of them.
    ///
    /// # Errors
    /// [`SendError::Busy`] when too many shipments wait, [`SendError::Lost`] when the lane is gone;
    /// no report follows then.
    pub fn send(&self, shipment: ShipmentId, lines: Vec<Bytes>) -> Result<(), SendError> {
        self.shipments.try_send((shipment, lines)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Busy(RETRY_BUSY),
            mpsc::error::TrySendError::Closed(_) => SendError::Lost,
        })
    }

    /// Asks the peer for a sign of life, behind what the lane is doing now. No answer: the lane broke,
    /// or too many ask.
    pub fn ping(&self) -> oneshot::Receiver<Echo> {
        let (answer, echo) = oneshot::channel();
        // Whoever is one too many gets no answer.
        let _ = self.pings.try_send((Instant::now(), answer));
        echo
    }

    /// Asks the peer whom else it knows: [`Report::Heard`] follows, unless the lane breaks or the peer is
    /// busy.
    pub fn exchange(&self) {
        // Full: it is about to be asked.
        let _ = self.exchanges.try_send(Question { asker: None, is_reported: true });
    }

    /// The same, and the answer comes here too; here alone when it `is_private`. None comes when the lane
    /// breaks, the peer is busy, or is about to be asked already.
    pub fn ask_others(&self, is_private: bool) -> oneshot::Receiver<Told> {
        let (answer, told) = oneshot::channel();
        let _ = self.exchanges.try_send(Question { asker: Some(answer), is_reported: !is_private });
        told
    }

    /// Pulls what the peer has beyond this: [`Report::Gained`] as records come, and [`Report::Reconciled`], unless
    /// the lane breaks. One at a time: of a second one nothing comes.
    pub fn reconcile(&self, snapshot: Arc<Snapshot>) {
        // Full: the owner of the node gives it up after a while.
        let _ = self.repairs.try_send(snapshot);
    }

    /// Closes the lane at once; no report follows.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for LaneHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Begins to make a lane to `peer`, trying the places in their order, as far as the address policy allows
/// it on this `word`. Must be called within a tokio runtime.
pub fn open(
    context: &Context,
    peer: NodeId,
    lane: LaneId,
    at: Vec<HostPort>,
    word: Word,
    reports: Reports,
) -> LaneHandle {
    let (shipments, queue) = mpsc::channel(context.limits().shipments);
    let (pings, asked) = mpsc::channel(PINGS_MAX);
    let (exchanges, curious) = mpsc::channel(QUESTIONS_MAX);
    let (repairs, lacking) = mpsc::channel(1);
    let dialler = Dialler { context: context.clone(), peer, lane, reports };
    let task = tokio::spawn(dialler.run(at, word, Wishes { queue, asked, curious, lacking })).abort_handle();
    LaneHandle { shipments, pings, exchanges, repairs, task }
}

/// What a shipment taught.
struct Shipped {
    /// The peer refused lines as `not_subscribed`: it wants something else than we believe.
    view_is_old: bool,
}

/// What the driver wants of the lane.
struct Wishes {
    queue: mpsc::Receiver<(ShipmentId, Vec<Bytes>)>,
    asked: mpsc::Receiver<Asked>,
    curious: mpsc::Receiver<Question>,
    lacking: mpsc::Receiver<Arc<Snapshot>>,
}

struct Dialler {
    context: Context,
    peer: NodeId,
    lane: LaneId,
    reports: Reports,
}

/// A lane that stands.
struct Standing {
    call: Call,
    /// Our own record, as it changes.
    record: watch::Receiver<Arc<str>>,
    /// `seq` of the newest record of the peer that was reported.
    met: u64,
}

impl Dialler {
    async fn run(self, at: Vec<HostPort>, word: Word, mut wishes: Wishes) {
        let why = match self.connect(&at, word).await {
            Ok(mut standing) => {
                self.context.counters().lanes_connected.one();
                match self.serve(&mut standing, &mut wishes).await {
                    Some(why) => why,
                    None => return, // the driver is gone, and with it everybody who would listen
                }
            }
            Err(why) => why,
        };
        self.context.counters().lanes_broken.one();
        wishes.queue.close();
        while let Some((shipment, _)) = wishes.queue.recv().await {
            self.report_sent(shipment, Err(SendError::Lost)).await;
        }
        self.report(Report::Broken { peer: self.peer, lane: self.lane, why }).await;
    }

    /// Tries every address of every place until one is the peer.
    async fn connect(&self, at: &[HostPort], word: Word) -> Result<Standing, String> {
        if self.peer == self.context.id() {
            return Err("this is the node's own id: it does not call itself".to_owned());
        }
        let mut why = "no address is known".to_owned();
        let mut dials = 0;
        let policy = Policy { profile: self.context.settings().profile, word, counters: self.context.counters() };
        for place in at {
            let addresses = match resolve(place, &policy).await {
                Ok(addresses) => addresses,
                Err(unmet) => {
                    why = unmet.why;
                    continue;
                }
            };
            for address in addresses.into_iter().take(DIALS_MAX - dials) {
                dials += 1;
                self.context.counters().dialled.one();
                match self.greet(place, address).await {
                    Ok(standing) => return Ok(standing),
                    Err(reason) => why = reason,
                }
            }
        }
        Err(why)
    }

    /// Hello and exchange; then the lane stands.
    async fn greet(&self, place: &HostPort, at: SocketAddr) -> Result<Standing, String> {
        let call = Call::new(&self.context, self.peer, place, at)?;
        let why = |trouble: Trouble| trouble.why(at);
        let asked = Instant::now();
        let hello = match call.hello().await {
            Ok(hello) => hello,
            Err(trouble) => {
                if let Some(found) = call.stranger() {
                    let (peer, lane, at) = (self.peer, self.lane, place.clone());
                    self.report(Report::Mistaken { peer, lane, at, found }).await;
                }
                return Err(why(trouble));
            }
        };
        // Before anything can fail that fails by a wrong clock.
        self.report_clock(&hello, asked.elapsed()).await;
        let observed = hello.observed.parse().map_err(|_| format!("{at} names an address of ours that is none"))?;
        let mut record = self.context.settings().record.clone();
        let own = record.borrow_and_update().clone();
        let asked = Instant::now(); // the hello had to make the connection first
        let Exchanged { own: met, others } = call.exchange(&own).await.map_err(why)?;
        let rtt = asked.elapsed();
        self.report(Report::Told { peer: self.peer, record: own }).await;
        let mut standing = Standing { call, record, met: met.seq };
        self.report_met(&mut standing, met).await;
        self.report(Report::Connected { peer: self.peer, lane: self.lane, rtt, observed }).await;
        self.report_heard(others).await;
        Ok(standing)
    }

    /// Serves until something breaks, and says what; `None` when the driver's end is gone.
    async fn serve(&self, standing: &mut Standing, wishes: &mut Wishes) -> Option<String> {
        let mut probe_at = Instant::now() + self.context.limits().probe;
        let mut renew_at: Option<Instant> = None;
        let mut repair: Option<Repair> = None;
        loop {
            let done = tokio::select! {
                biased;
                // Only looks at a version: a change that is not taken now is seen next time. First, so
                // that no neighbour is sent events by a view of us that we know to be old.
                Ok(()) = standing.record.changed() => self.renew(standing).await,
                // Cancel safe; the moment is kept outside the loop.
                () = sleep_until(renew_at.unwrap_or(probe_at)), if renew_at.is_some() => {
                    self.renew(standing).await
                }
                // Cancel safe: a shipment is taken only when this arm runs.
                shipment = wishes.queue.recv() => {
                    let (shipment, lines) = shipment?;
                    match self.ship(&standing.call, shipment, &lines).await {
                        Ok(Shipped { view_is_old: true }) => self.renew(standing).await,
                        Ok(Shipped { view_is_old: false }) => Ok(renew_at),
                        Err(why) => Err(why),
                    }
                }
                // Cancel safe: a question is taken only when this arm runs.
                Some((since, answer)) = wishes.asked.recv() => {
                    self.echo(&standing.call, since, answer).await.map(|()| renew_at)
                }
                // Cancel safe: the wish is taken only when this arm runs.
                Some(question) = wishes.curious.recv() => self.exchange(standing, Some(question)).await,
                // Cancel safe: the wish is taken only when this arm runs.
                Some(snapshot) = wishes.lacking.recv(), if repair.is_none() => {
                    repair = Some(Repair::of(snapshot));
                    Ok(renew_at)
                }
                // Step by step, so that events wait for one answer and not for all of them.
                () = std::future::ready(()), if repair.is_some() => {
                    self.repair(&standing.call, &mut repair).await.map(|()| renew_at)
                }
                // Cancel safe; the moment is kept outside the loop.
                () = sleep_until(probe_at) => self.probe(standing).await.map(|()| renew_at),
            };
            match done {
                Ok(again) => renew_at = again,
                Err(why) => return Some(why),
            }
            probe_at = Instant::now() + self.context.limits().probe;
        }
    }

    /// Posts our record and takes the peer's; when it is too busy for that, says when to try again. What
    /// it tells of others counts where it was asked for: nobody provokes questions to talk more.
    async fn renew(&self, standing: &mut Standing) -> Result<Option<Instant>, String> {
        self.exchange(standing, None).await
    }

    async fn exchange(&self, standing: &mut Standing, question: Option<Question>) -> Result<Option<Instant>, String> {
        let asked = Instant::now();
        let own = standing.record.borrow_and_update().clone();
        match standing.call.exchange(&own).await {
            Ok(Exchanged { own: record, others }) => {
                self.report(Report::Told { peer: self.peer, record: own }).await;
                self.report_met(standing, record).await;
                if let Some(Question { asker, is_reported }) = question {
                    if let Some(asker) = asker {
                        // Whoever asked may be gone.
                        let _ = asker.send(Told { records: others.clone(), took: asked.elapsed() });
                    }
                    if is_reported {
                        self.report_heard(others).await;
                    }
                }
                Ok(None)
            }
            Err(Trouble::Busy(after)) => Ok(Some(Instant::now() + after)),
            Err(trouble) => Err(trouble.why(standing.call.at)),
        }
    }

    /// One more step.
    async fn repair(&self, call: &Call, repair: &mut Option<Repair>) -> Result<(), String> {
        let Some(mut now) = repair.take() else { return Ok(()) };
        let (peer, lane) = (self.peer, self.lane);
        match now.step(&self.context, call).await {
            Ok(Progress::On { records, useless }) => {
                if !records.is_empty() || !useless.is_empty() {
                    self.report(Report::Gained { peer, lane, records, useless }).await;
                }
                *repair = Some(now);
            }
            Ok(Progress::Over(result)) => self.report(Report::Reconciled { peer, lane, result }).await,
            Err(trouble) => return Err(trouble.why(call.at)),
        }
        Ok(())
    }

    async fn ship(&self, call: &Call, shipment: ShipmentId, lines: &[Bytes]) -> Result<Shipped, String> {
        self.context.counters().lines_sent.add(lines.len());
        let unread = Shipped { view_is_old: false };
        let (result, shipped) = match call.post(lines).await {
            Ok(receipt) => {
                let view_is_old = receipt.rejected.iter().any(|refused| refused.code == Code::NotSubscribed);
                (Ok(receipt), Ok(Shipped { view_is_old }))
            }
            Err(Trouble::Busy(after) | Trouble::Failed { after, .. }) => (Err(SendError::Busy(after)), Ok(unread)),
            Err(Trouble::Refused(status)) => (Err(SendError::Refused(status)), Ok(unread)),
            Err(Trouble::Lost(why)) => (Err(SendError::Lost), Err(why)),
        };
        self.report_sent(shipment, result).await;
        shipped
    }

    /// A sign of life that a person asked for at `since`.
    async fn echo(&self, call: &Call, since: Instant, answer: oneshot::Sender<Echo>) -> Result<(), String> {
        let asked = Instant::now();
        match call.hello().await {
            Ok(hello) => {
                let rtt = asked.elapsed();
                let clock_ahead_ms = self.clock_ahead_ms(&hello, rtt).unwrap_or(0);
                // Whoever asked may be gone.
                let _ = answer.send(Echo { waited: asked - since, rtt, clock_ahead_ms });
                self.report(Report::Pong { peer: self.peer, rtt }).await;
                Ok(())
            }
            Err(Trouble::Busy(_)) => Ok(()),
            Err(trouble) => Err(trouble.why(call.at)),
        }
    }

    /// Still there? A peer that does not call on us tells of its new patterns here alone.
    async fn probe(&self, standing: &mut Standing) -> Result<(), String> {
        let asked = Instant::now();
        match standing.call.hello().await {
            Ok(hello) => {
                let rtt = asked.elapsed();
                self.report_clock(&hello, rtt).await;
                let record = standing.call.record_in(&hello).filter(|record| record.seq > standing.met);
                if let Some(record) = record {
                    self.report_met(standing, record).await;
                }
                self.report(Report::Pong { peer: self.peer, rtt }).await;
                Ok(())
            }
            // Busy, but there.
            Err(Trouble::Busy(_)) => Ok(()),
            Err(trouble) => Err(trouble.why(standing.call.at)),
        }
    }

    /// How far the peer's clock is ahead; `None` when it says no time.
    fn clock_ahead_ms(&self, hello: &Hello, rtt: Duration) -> Option<i64> {
        let now = (self.context.settings().clock)();
        // The peer looked at its clock about half way.
        let clock = timestamp::parse(&hello.clock).ok()? + rtt / 2;
        Some(clock.as_millis().saturating_sub(now.as_millis()))
    }

    async fn report_clock(&self, hello: &Hello, rtt: Duration) {
        if let Some(ahead_ms) = self.clock_ahead_ms(hello, rtt) {
            self.report(Report::Clock { peer: self.peer, ahead_ms }).await;
        }
    }

    async fn report_heard(&self, records: Vec<Verified<Record>>) {
        self.report(Report::Heard { teller: self.peer, records }).await;
    }

    async fn report_met(&self, standing: &mut Standing, record: Verified<Record>) {
        standing.met = standing.met.max(record.seq);
        let word = Word::from(standing.call.at.ip());
        self.report(Report::Met { record, word }).await;
    }

    async fn report_sent(&self, shipment: ShipmentId, result: Result<crate::wire::message::Receipt, SendError>) {
        self.report(Report::Sent { peer: self.peer, shipment, result }).await;
    }

    /// An error means that the driver is gone; the lane ends with its handle then.
    async fn report(&self, report: Report) {
        let _ = self.reports.send(report).await;
    }
}
