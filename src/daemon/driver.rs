//! The task that owns the `Node`: takes what devices report, feeds it in, carries out what comes out.
//!
//! One task, one owner, no locks. Every wait is in [`Driver::run`]; everything else is plain calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::block_in_place;

use super::announce::Announcer;
use super::clock::Clock;
use super::clocks::Clocks;
use super::facts::{self, Facts};
use super::leave::{self, Leaving};
use super::metrics::Metrics;
use super::notes::{Notes, number};
use super::reading;
use super::record::OwnRecord;
use super::reload::Reload;
use super::requests;
use super::supervisor::Supervisor;
use super::tiers::{self, Tiers};
use super::trust::Trust;
use super::turns::Turns;
use crate::admin::answers::{Change, Changed};
use crate::admin::{Fault, PeerChange};
use crate::core::Node;
use crate::core::params::{DAY, Params, WATCHED_MAX};
use crate::core::ports::{Emitted, Input, LaneId, Log, Note, Output, SavedBook, SavedPeer, SendError, Seq, Ticket};
use crate::store::{DataDir, Journal, book, journal, peers};
use crate::time::Wall;
use crate::wire::message::Outcome;
use crate::wire::{Code, Digest, EventType, Interests, NodeId};
use crate::{admin, bus, net};

/// What devices report by. All but `journal` and `scanned` are bounded; those two never hold more than
/// the core has asked for (`Params::appending_max`, one scan a peer).
pub(super) struct Inbox {
    pub(super) net: mpsc::Receiver<net::Report>,
    pub(super) journal: mpsc::UnboundedReceiver<journal::Report>,
    pub(super) publications: mpsc::Receiver<bus::Publication>,
    pub(super) requests: mpsc::Receiver<admin::Request>,
    /// One for each SIGHUP.
    pub(super) reloads: mpsc::Receiver<Reload>,
}

/// Everything the driver acts on.
pub(super) struct Hands {
    pub(super) journal: Journal,
    pub(super) dir: DataDir,
    /// To the bridge; `None` = the bus is embedded.
    pub(super) orders: Option<mpsc::Sender<bus::Order>>,
    pub(super) net: net::Context,
    pub(super) reports: net::Reports,
    pub(super) neighbours: watch::Sender<Arc<BTreeSet<NodeId>>>,
    pub(super) blocked: watch::Sender<Arc<BTreeSet<NodeId>>>,
    pub(super) head: watch::Sender<Seq>,
    pub(super) interests: watch::Sender<Interests>,
    pub(super) ready: watch::Sender<bool>,
    pub(super) supervisor: Supervisor,
    pub(super) changes: broadcast::Sender<Change>,
    /// Asks for the end of the daemon.
    pub(super) quit: mpsc::Sender<()>,
    pub(super) tiers: Tiers,
    /// Keeps this node in the list of a registrar; `None` = none is configured.
    pub(super) announcer: Option<Announcer>,
}

/// Who waits for an answer of the core.
pub(super) enum Waiting {
    Neighbour(oneshot::Sender<net::Answer>),
    /// With what is told of each event in the log, if anybody listens.
    Publisher(oneshot::Sender<Vec<Outcome>>, Vec<(Digest, EventType)>),
    /// An event of our own about a peer.
    Turn(PeerChange),
    /// A change of the peer table, answered when it is durable.
    Saved(oneshot::Sender<Result<(), Fault>>),
}

/// Why the daemon ends by itself: nothing more may be acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("the journal cannot go on: {0}")]
pub struct Fatal(pub String);

/// The owner of the node.
pub(super) struct Driver {
    pub(super) node: Node,
    pub(super) clock: Clock,
    pub(super) hands: Hands,
    pub(super) record: OwnRecord,
    pub(super) facts: Facts,
    pub(super) trust: Trust,
    /// A copy of our key was last outdone then.
    outdone: Option<Wall>,
    /// Goodbye was said.
    pub(super) leaving: Option<Leaving>,
    /// The journal was asked for a sign of life and has not given it yet.
    is_probed: bool,
    /// Somebody was told that we are ready.
    is_announced: bool,
    pub(super) metrics: Metrics,
    pub(super) notes: Notes,
    pub(super) turns: Turns,
    pub(super) clocks: Clocks,
    pub(super) waiting: BTreeMap<Ticket, Waiting>,
    next_ticket: u64,
    pub(super) lanes: BTreeMap<NodeId, (LaneId, net::LaneHandle)>,
    /// Pages of the journal that the core has asked for.
    pub(super) read: (mpsc::UnboundedSender<Input>, mpsc::UnboundedReceiver<Input>),
    /// Never holds more than the core has asked for (`INTRODUCTIONS_MAX`).
    pub(super) introduced: (mpsc::UnboundedSender<Input>, mpsc::UnboundedReceiver<Input>),
    /// One for each tier at most, and one of a survey: the core asks again when it has the answer, or has
    /// given it up.
    pub(super) answered: (mpsc::UnboundedSender<tiers::Answer>, mpsc::UnboundedReceiver<tiers::Answer>),
    /// One survey after the other.
    pub(super) surveys: Arc<Semaphore>,
    pub(super) page_max: (usize, usize),
    /// As it was told last.
    bus_is_well: Option<bool>,
    /// Who asked to be told which peers take an event.
    takers: BTreeMap<Digest, admin::Taken>,
    /// The peer file as it should be, since writing it failed.
    pub(super) unsaved: Option<Vec<SavedPeer>>,
    /// The same for the book.
    pub(super) unsaved_book: Option<SavedBook>,
    out: Vec<Output>,
}

impl Driver {
    pub(super) fn new(
        params: Params,
        clock: Clock,
        hands: Hands,
        record: OwnRecord,
        facts: Facts,
        trust: Trust,
        metrics: Metrics,
    ) -> Driver {
        let page_max = (params.peer_queue_max, params.peer_queue_bytes_max);
        Driver {
            node: Node::new(hands.net.id(), params, fastrand::u64(..)),
            clock,
            hands,
            record,
            facts,
            trust,
            is_probed: false,
            is_announced: false,
            leaving: None,
            outdone: None,
            metrics,
            notes: Notes::default(),
            turns: Turns::default(),
            clocks: Clocks::default(),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            lanes: BTreeMap::new(),
            read: mpsc::unbounded_channel(),
            introduced: mpsc::unbounded_channel(),
            answered: mpsc::unbounded_channel(),
            surveys: Arc::new(Semaphore::new(1)),
            page_max,
            takers: BTreeMap::new(),
            bus_is_well: None,
            unsaved: None,
            unsaved_book: None,
            out: Vec::new(),
        }
    }

    /// Reads what the disk remembers and says it to the node. First of all.
    pub(super) fn restore(&mut self) {
        let now = self.clock.now();
        let loaded = peers::load(&self.hands.dir.peers_path(), now.wall);
        if let Some(warning) = loaded.warning {
            tracing::warn!("{warning}");
        }
        if let Some(mark) = self.hands.journal.clock_mark().filter(|mark| *mark > now.wall) {
            let behind_s = mark.since(now.wall).as_secs();
            tracing::warn!(
                behind_s,
                "the clock is behind what it was before; nothing is forgotten early by that, but peers may refuse what is published now"
            );
        }
        let head = self.hands.journal.head();
        let mut peers = loaded.peers;
        for peer in &mut peers {
            peer.cursor = peer.cursor.max(self.hands.journal.cursor(&cursor_name(&peer.id)));
        }
        self.hands.head.send_replace(head);
        let interests = self.record.interests().clone();
        self.hands.interests.send_replace(interests.clone());
        self.feed(Input::Interests(interests));
        let remembered = book::load(&self.hands.dir.book_path());
        if let Some(warning) = remembered.warning {
            tracing::warn!("{warning}");
        }
        self.feed(Input::Remembered(remembered.book));
        if let Some(cursor) = self.hands.journal.cursor(reading::DUTY_CURSOR) {
            self.feed(Input::Dutiful(cursor));
        }
        self.feed(Input::Restored { head, peers });
        self.hands.ready.send_replace(true);
    }

    /// Runs until `stop`, which comes when every device that asks has ended.
    ///
    /// # Errors
    /// [`Fatal`] when the journal can promise nothing any more.
    pub(super) async fn run(mut self, mut inbox: Inbox, mut stop: oneshot::Receiver<()>) -> Result<(), Fatal> {
        let mut minute = tokio::time::interval(std::time::Duration::from_secs(60));
        minute.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut beat = tokio::time::interval(self.hands.supervisor.beat());
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut bus = self.facts.bus.states();
        loop {
            self.tell_turns();
            let turns = self.turns.deadline().map(|mono| tokio::time::Instant::from_std(self.clock.instant(mono)));
            let deadline = self.node.deadline().map(|mono| tokio::time::Instant::from_std(self.clock.instant(mono)));
            let (owed, leaves) = (self.record.owed_at(), self.leaves_at());
            let owed = owed.map(|mono| tokio::time::Instant::from_std(self.clock.instant(mono)));
            // Dropping any of these arms loses nothing: receiving from a channel, a timer, a watched
            // value and a oneshot by reference are all cancel safe.
            tokio::select! {
                Some(report) = inbox.journal.recv() => self.on_journal(report)?,
                Some(read) = self.read.1.recv() => self.feed(read),
                Some(introduced) = self.introduced.1.recv() => self.feed(introduced),
                Some(answer) = self.answered.1.recv() => self.on_tier(answer),
                Some(report) = inbox.net.recv() => self.on_net(report),
                Some(publication) = inbox.publications.recv() => self.on_publication(publication),
                Some(request) = inbox.requests.recv() => self.on_request(request),
                Some(is_well) = turn_of(&mut bus) => self.on_bus(is_well),
                () = sleep_until(deadline) => self.feed(Input::Tick),
                () = sleep_until(owed) => self.renew_record(),
                () = sleep_until(leaves) => self.end_leaving(),
                outcome = leave::heard_of_registrar(&mut self.leaving) => self.on_struck_out(outcome),
                () = sleep_until(turns) => {} // told above
                Some(reload) = inbox.reloads.recv() => self.on_reload(reload),
                _ = minute.tick() => self.on_minute(),
                _ = beat.tick() => self.on_beat(),
                _ = &mut stop => break,
            }
        }
        self.feed(Input::Stop);
        self.lanes.clear();
        block_in_place(|| self.hands.journal.close());
        Ok(())
    }

    /// One input, and everything that follows from it at once.
    pub(super) fn feed(&mut self, input: Input) {
        let mut out = std::mem::take(&mut self.out);
        if let Some(record) = self.record.take_news() {
            self.node.handle(Input::Signed { record }, self.clock.now(), &mut out);
        }
        self.node.handle(input, self.clock.now(), &mut out);
        for output in out.drain(..) {
            self.carry_out(output);
        }
        self.out = out;
    }

    /// A ticket under which somebody waits.
    pub(super) fn ticket(&mut self, waiting: Waiting) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.insert(ticket, waiting);
        ticket
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Remember(refusals) => self.hands.journal.remember(refusals),
            Output::Append { batch, entries } => {
                self.metrics.on_append(self.hands.net.id(), &entries);
                self.hands.journal.append(batch, entries);
            }
            Output::Answer { ticket, outcomes, credit } => self.answer(ticket, outcomes, credit),
            Output::Dial { peer, lane, at, word } => {
                let handle = net::open(&self.hands.net, peer, lane, at, word, self.hands.reports.clone());
                self.lanes.insert(peer, (lane, handle));
            }
            Output::Hangup { lane, peer } => self.close_lane(&peer, lane),
            Output::Lookup { tier } => self.look_up(tier),
            Output::Introduce { at, tier, word } => self.introduce(at, tier, word),
            Output::Exchange { peer, lane } => {
                if let Some((_, handle)) = self.lanes.get(&peer).filter(|(current, _)| *current == lane) {
                    handle.exchange();
                }
            }
            Output::Reconcile { peer, lane, snapshot } => {
                if let Some((_, handle)) = self.lanes.get(&peer).filter(|(current, _)| *current == lane) {
                    handle.reconcile(snapshot);
                }
            }
            Output::Send { peer, lane, shipment, lines } => {
                let handle = self.lanes.get(&peer).filter(|(current, _)| *current == lane);
                let given = handle.map_or(Err(SendError::Lost), |(_, handle)| handle.send(shipment, lines));
                if let Err(error) = given {
                    self.feed(Input::Sent { peer, shipment, result: Err(error) });
                }
            }
            Output::Scan { peer, after } => self.scan(peer, after),
            Output::Resume { after } => self.resume(after),
            Output::Recall { seq, digits } => self.recall(seq, digits),
            Output::SaveDuty { cursor } => self.hands.journal.set_cursor(reading::DUTY_CURSOR, cursor),
            Output::SaveCursor { peer, cursor } => self.hands.journal.set_cursor(&cursor_name(&peer), cursor),
            Output::ForgetCursor { peer } => self.hands.journal.forget_cursor(&cursor_name(&peer)),
            Output::SavePeers { ticket, peers } => self.save_peers(ticket, peers),
            Output::SaveBook { ticket, book } => self.save_book(ticket, book),
            Output::Neighbours(neighbours) => drop(self.hands.neighbours.send_replace(neighbours)),
            Output::Blocked(blocked) => drop(self.hands.blocked.send_replace(blocked)),
            Output::Note(note) => {
                self.outdo_copy(&note);
                self.notes.tell(&note, self.clock.now().wall);
                if let Some(change) = super::notes::change(&note, self.clock.now().wall) {
                    self.tell_watchers(change);
                }
                self.tell_takers(&note);
                if let Note::PeerMoved { peer, to, why } = &note {
                    self.on_turn(*peer, *to, why);
                }
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, outcomes: Vec<Outcome>, credit: u32) {
        // Whoever gave up waiting asks again and learns `duplicate`.
        match self.waiting.remove(&ticket) {
            Some(Waiting::Neighbour(asker)) => drop(asker.send(net::Answer { outcomes, credit })),
            Some(Waiting::Publisher(asker, events)) => {
                super::notes::tell_published(&events, &outcomes);
                drop(asker.send(outcomes));
            }
            Some(Waiting::Turn(change)) => self.on_turn_answered(change, &outcomes),
            Some(Waiting::Saved(_)) | None => {}
        }
    }

    fn close_lane(&mut self, peer: &NodeId, lane: LaneId) {
        if self.lanes.get(peer).is_some_and(|(current, _)| *current == lane) {
            self.lanes.remove(peer);
        }
    }

    fn on_journal(&mut self, report: journal::Report) -> Result<(), Fatal> {
        match report {
            journal::Report::Appended { batch, result } => self.feed(Input::Appended { batch, result }),
            journal::Report::Head(head) => drop(self.hands.head.send_replace(head)),
            journal::Report::Full(why) => {
                tracing::error!(number = number(Code::Unavailable), "nothing is stored or acknowledged: {why}");
                self.hands.ready.send_replace(false);
            }
            journal::Report::Well => {
                tracing::info!("events are stored again");
                self.hands.ready.send_replace(true);
            }
            journal::Report::Swept(swept) if swept.entries > 0 => {
                tracing::info!(entries = swept.entries, earliest = swept.earliest.0, "old events dropped");
            }
            journal::Report::Swept(_) => {}
            journal::Report::Alive => self.on_alive(),
            journal::Report::Fatal(why) => return Err(Fatal(why)),
        }
        Ok(())
    }

    fn on_net(&mut self, report: net::Report) {
        match report {
            net::Report::Received { from, arrived, answer } => {
                let ticket = self.ticket(Waiting::Neighbour(answer));
                self.feed(Input::Received { ticket, from, arrived });
            }
            net::Report::Again { from, events, answer } => {
                let ticket = self.ticket(Waiting::Neighbour(answer));
                self.feed(Input::Again { ticket, from, events });
            }
            net::Report::Met { record, word } => self.feed(Input::Met { record, word }),
            net::Report::Contact { peer } => self.feed(Input::Contact { peer }),
            net::Report::Connected { peer, lane, rtt, observed } => {
                let now = self.clock.now();
                let is_trusted = self.node.is_manual(&peer);
                if let Err(error) = block_in_place(|| self.record.learn(&observed, is_trusted, now)) {
                    tracing::error!(number = STORAGE, "the node record is not renewed: {error}");
                }
                self.feed(Input::Connected { peer, lane, rtt });
            }
            net::Report::Mistaken { peer, lane, at, found } => self.feed(Input::Mistaken { peer, lane, at, found }),
            net::Report::Heard { teller, records } => self.on_heard(teller, records),
            net::Report::Asked { from, shown, group, records, answer } => {
                if !records.is_empty() {
                    self.feed(Input::Heard { teller: from, asked: false, records });
                }
                let (shares, now) = (self.hands.tiers.exchange, self.clock.now());
                let newer = shown.and_then(|seq| self.node.newer_record(&from, seq, now));
                let given = if shares { self.node.share(&from, group, now) } else { Vec::new() };
                // Whoever gave up waiting asks again.
                let _ = answer.send(newer.into_iter().chain(given).collect());
            }
            net::Report::Reconciling { from, answer } => {
                // Whoever gave up waiting asks again.
                let _ = answer.send(self.node.reconcile_with(&from, self.clock.now()));
            }
            net::Report::Gained { peer, lane, records, useless } => {
                self.feed(Input::Gained { peer, lane, records, useless });
            }
            net::Report::Reconciled { peer, lane, result } => self.feed(Input::Reconciled { peer, lane, result }),
            net::Report::Clock { peer, ahead_ms } => self.clocks.hear(peer, ahead_ms, self.clock.mono()),
            net::Report::Told { peer, record } => self.on_told(peer, &record),
            net::Report::Broken { peer, lane, why } => {
                self.close_lane(&peer, lane);
                self.feed(Input::Broken { peer, lane, why });
                self.on_untold(peer);
            }
            net::Report::Pong { peer, rtt } => self.feed(Input::Pong { peer, rtt }),
            net::Report::Sent { peer, shipment, result } => {
                self.metrics.on_sent(&result);
                self.feed(Input::Sent { peer, shipment, result });
            }
        }
    }

    fn on_publication(&mut self, publication: bus::Publication) {
        let bus::Publication { envelopes, answer } = publication;
        self.emit(envelopes.into_iter().map(Emitted::from).collect(), answer);
    }

    /// Where all ways to publish meet.
    fn emit(&mut self, mut emitted: Vec<Emitted>, answer: oneshot::Sender<Vec<Outcome>>) {
        for one in &mut emitted {
            let event = one.envelope.event();
            one.question = event.causation.and_then(|digest| block_in_place(|| self.hands.journal.question(&digest)));
            for id in &event.to {
                if let Some(why) = self.node.unreached(id) {
                    self.notes.tell_unreached(*id, requests::unreached(why));
                }
            }
        }
        let told = |one: &Emitted| (one.envelope.digest(), one.envelope.event().kind.clone());
        let events = tracing::enabled!(tracing::Level::DEBUG).then(|| emitted.iter().map(told).collect());
        let ticket = self.ticket(Waiting::Publisher(answer, events.unwrap_or_default()));
        self.feed(Input::Emitted { ticket, emitted });
    }

    /// Progress is proved by a round trip: this loop asks, the writer of the journal answers, this loop
    /// hears it. Whichever of the two is stuck, the service manager is told nothing more.
    fn on_beat(&mut self) {
        if !std::mem::replace(&mut self.is_probed, true) {
            self.hands.journal.probe();
        }
    }

    fn on_alive(&mut self) {
        self.is_probed = false;
        if !std::mem::replace(&mut self.is_announced, true) {
            // Whoever reads the log may take it from there that the service manager knows.
            self.hands.supervisor.ready();
            for address in &self.facts.listen {
                tracing::info!(id = %self.hands.net.id(), %address, "ready");
            }
        }
        let stats = block_in_place(|| self.hands.journal.stats());
        let status = self.status(&self.node.view(), &stats);
        self.hands.supervisor.alive(&facts::in_one_line(&status, stats.full.as_deref()));
    }

    /// Publishes what the local API was given; `taken` is told who stores it.
    pub(super) fn publish(
        &mut self,
        emitted: Vec<Emitted>,
        taken: Option<admin::Taken>,
        answer: oneshot::Sender<Vec<Outcome>>,
    ) {
        if let Some(taken) = taken {
            if self.takers.len() + emitted.len() > WATCHED_MAX {
                self.forget_takers();
            }
            for one in emitted.iter().take(WATCHED_MAX.saturating_sub(self.takers.len())) {
                self.takers.insert(one.envelope.digest(), taken.clone());
                self.feed(Input::Watch(one.envelope.digest()));
            }
        }
        self.emit(emitted, answer);
    }

    /// Without a watcher nothing is lost: who comes asks for the status.
    fn tell_watchers(&self, change: Change) {
        let _ = self.hands.changes.send(change);
    }

    fn on_bus(&mut self, is_well: bool) {
        if self.bus_is_well.replace(is_well) != Some(is_well) {
            let what = if is_well { Changed::BusWell } else { Changed::BusTrouble };
            let at = Some(self.clock.now().wall);
            self.tell_watchers(Change { at, what, peer: None, why: None, retry_in_ms: None });
        }
    }

    fn tell_takers(&self, note: &Note) {
        if let Note::Taken { peer, event } = note
            && let Some(taken) = self.takers.get(event)
        {
            // Whoever stopped waiting is forgotten within a minute.
            let _ = taken.send((*event, *peer));
        }
    }

    fn forget_takers(&mut self) {
        let gone = self.takers.extract_if(.., |_, taken| taken.is_closed());
        let gone: Vec<Digest> = gone.map(|(event, _)| event).collect();
        for event in gone {
            self.feed(Input::Unwatch(event));
        }
    }

    fn on_minute(&mut self) {
        self.forget_takers();
        self.hands.journal.sweep(self.clock.now());
        if let Some(peers) = self.unsaved.take() {
            self.save_peers(None, peers);
        }
        if let Some(book) = self.unsaved_book.take() {
            self.save_book(None, book);
        }
        self.renew_record();
    }

    /// Another machine signs with our key, and others hold its record: one of ours above it makes that
    /// machine hear of us too. Once a day, since it does the same.
    fn outdo_copy(&mut self, note: &Note) {
        let now = self.clock.now().wall;
        let Note::OwnKeyElsewhere { seq: Some(seq), .. } = note else { return };
        if self.outdone.is_some_and(|at| now.since(at) < DAY) {
            return;
        }
        self.outdone = Some(now);
        if let Err(error) = block_in_place(|| self.record.outdo(*seq, now)) {
            tracing::error!(number = STORAGE, "the node record is not renewed: {error}");
        }
    }

    fn renew_record(&mut self) {
        let now = self.clock.now();
        if let Err(error) = block_in_place(|| self.record.renew_if_due(now)) {
            tracing::error!(number = STORAGE, "the node record is not renewed: {error}");
        }
    }
}

/// What the log says of a disk that did not take a change.
pub(super) const STORAGE: &str = "AF0309"; // FaultCode::Storage

/// The name of a peer's cursor in the journal.
fn cursor_name(peer: &NodeId) -> String {
    format!("peer:{peer}")
}

/// How the bus is after its next change; `None` when there is nobody left to say so.
async fn turn_of(bus: &mut Option<watch::Receiver<bus::BusState>>) -> Option<bool> {
    match bus {
        Some(states) => {
            states.changed().await.ok()?;
            Some(states.borrow_and_update().is_well())
        }
        None => None,
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
