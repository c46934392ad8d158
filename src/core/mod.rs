//! Floor 2: the protocol. One way in, one way out, one wake-up time.
//!
//! The driver hands [`Node::handle`] one [`Input`] at one moment and carries out every [`Output`] in
//! order; answers come back as further inputs. When nothing happens before [`Node::deadline`] it
//! sends [`Input::Tick`]. Nothing here does IO, reads a clock, rolls dice it was not seeded with, or
//! waits: the same inputs give the same outputs, in a daemon and in the simulator.
//!
//! An event comes in by `Received` or `Emitted`, is admitted ([`admission`]), waits for the disk
//! ([`appending`]), and only then is it answered and owed to others: [`duty`] says to whom,
//! [`outbox`] keeps the accounts, [`peers`] the lanes. *Taken* is said only after `Appended`. An answer waits for its
//! turn first, which [`offset`] computes. Whom to look for and when, [`discovery`] decides.

mod admission;
mod appending;
mod calendar;
mod claims;
mod company;
mod discovery;
mod duty;
mod exchange;
pub mod letter;
mod note;
pub mod offset;
mod order;
mod outbox;
pub mod params;
mod peers;
pub mod pick;
pub mod ports;
pub mod position;
mod prospect;
mod records;
pub mod registrar;
pub mod roster;
mod saved;
pub mod sync;
pub mod tier;
mod tree;
pub mod trust;
mod view;
mod watched;

/// What bounds these rooms, for whoever prints it.
pub mod bounds {
    pub use super::exchange::{CHOICES_MAX, GIVEN_MAX, HEAP_MAX, TOLD_MAX};
    pub use super::records::HELD_MAX;
    pub use super::sync::{ROUNDS_MAX, RUN_BYTES_MAX, USELESS_MAX, WANTED_MAX};
}

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::time::{Mono, Now, Wall};
use crate::wire::message::Outcome;
use crate::wire::{Digest, Envelope, Interests, NodeId, Record, Rejection, Verified};

use appending::Appending;
use calendar::Calendar;
use company::Company;
use discovery::Discovery;
pub use discovery::{Due, Search};
use exchange::Exchange;
use outbox::Outbox;
use params::{BOOK_PAUSE, Params, RETRY_BUSY, SAVE_PAUSE};
use peers::{Members, Peers};
pub use peers::{Standing, Turn};
use ports::{AppendError, Appended, Arrived, BatchId, Emitted, Entry, Input, Output, SavedPeer, Seq, Stored, Ticket};
pub use prospect::{Prospect, Unreached};
use records::Records;
use sync::Repair;
pub use tree::TreeCounts;
use tree::{Again, Tree};
pub use view::{Counts, PeerState, PeerView, View};

/// One node of the mesh: everything it knows and decides.
pub struct Node {
    me: NodeId,
    params: Params,
    interests: Interests,
    appending: Appending,
    peers: Peers,
    discovery: Discovery,
    records: Records,
    exchange: Exchange,
    repair: Repair,
    outbox: Outbox,
    tree: Tree,
    calendar: Calendar,
    company: Company,
    memory: admission::Memory,
    /// When the peer file is written at the latest.
    save_due: Option<Mono>,
    /// The same for the book.
    book_due: Option<Mono>,
    neighbours: Arc<BTreeSet<NodeId>>,
    counts: Counts,
}

impl Node {
    /// A node that knows nothing yet; `seed` feeds its only source of chance, the jitter of backoffs.
    pub fn new(me: NodeId, params: Params, seed: u64) -> Node {
        Node {
            me,
            interests: Interests::default(),
            appending: Appending::default(),
            peers: Peers::new(me, &params, seed),
            discovery: Discovery::new(&params, seed),
            records: Records::default(),
            exchange: Exchange::new(seed.rotate_left(32)),
            repair: Repair::new(params.tiers.exchange, seed.rotate_left(16)),
            outbox: Outbox::new(&params),
            tree: Tree::new(me, &params),
            calendar: Calendar::default(),
            company: Company::default(),
            memory: admission::Memory::default(),
            save_due: None,
            book_due: None,
            neighbours: Arc::default(),
            counts: Counts::default(),
            params,
        }
    }

    /// Takes one input at one moment and pushes what is wanted in return, to be done in order.
    pub fn handle(&mut self, input: Input, now: Now, out: &mut Vec<Output>) {
        // By this date, not by the clock's, what is owed expires.
        let steady = self.calendar.believe(now);
        self.peers.sweep(steady.wall);
        if !input.is_traffic() {
            self.discovery.touch();
        }
        match input {
            Input::Tick => {}
            Input::Roster(snapshot) => self.peers.begin_with(snapshot, now.wall),
            Input::Remembered(book) => self.peers.remember(book, now.wall),
            Input::Dutiful(cursor) => self.tree.remember(cursor),
            Input::Restored { head, peers } => self.on_restored(head, peers, now, out),
            Input::Interests(interests) => self.interests = interests,
            Input::Trust { mute, rules } => (self.params.mute, self.params.rules) = (mute, rules),
            Input::Members { allow, firehose, peers_max, min_peers, accept } => {
                self.params.allow.clone_from(&allow);
                self.discovery.aim(min_peers, peers_max);
                self.peers.on_members(Members { allow, firehose, peers_max, min_peers, accept }, now, out);
                self.close_forgotten(out);
                self.open_welcomed(out);
            }
            Input::Received { ticket, from, arrived } => self.on_received(ticket, from, arrived, now, out),
            Input::Again { ticket, from, events } => self.on_again(ticket, from, &events, now, out),
            Input::Emitted { ticket, emitted } => self.on_emitted(ticket, emitted, now, out),
            Input::Local { ticket, envelope } => self.on_local(ticket, *envelope, now, out),
            Input::Watch(event) => self.outbox.watch(event),
            Input::Unwatch(event) => self.outbox.unwatch(&event),
            Input::Appended { batch, result } => self.on_appended(batch, result, now, steady, out),
            Input::Scanned { peer, after, page } => self.outbox.on_scanned(peer, after, page, &self.peers, steady, out),
            Input::Resumed { after, page } => {
                let outbox = &self.outbox;
                self.tree.on_resumed(after, page, |id, seq| outbox.is_behind(id, seq), &mut self.peers, steady);
            }
            Input::Recalled { digits, stored } => {
                if let Some(stored) = stored {
                    self.tree.on_recalled(&stored, digits, &mut self.peers, steady);
                }
            }
            Input::Signed { record } => {
                self.records.sign(&record, now.wall);
                self.repair.sign(record);
            }
            Input::Met { record, word } => self.on_met(record, word, now, out),
            Input::Contact { peer } => self.on_contact(peer, now),
            Input::PeerAdded { ticket, id, at, alias } => {
                self.peers.on_added(id, at, alias, now, out);
                self.close_forgotten(out);
                if self.peers.is_served(&id) {
                    self.open_account(id, out);
                }
                self.save_peers(Some(ticket), out);
            }
            Input::Ordered { ticket, id, order } => self.on_order(ticket, id, order, now, out),
            Input::PeerNamed { ticket, id, alias } => {
                self.peers.on_named(&id, alias);
                self.save_peers(Some(ticket), out);
            }
            Input::PeerRemoved { ticket, id } => {
                self.peers.on_removed(id, out);
                self.close_forgotten(out);
                self.save_peers(Some(ticket), out);
            }
            Input::Connected { peer, lane, rtt } => {
                if self.peers.on_connected(peer, lane, rtt, now, out) {
                    self.outbox.on_connected(peer, lane);
                    self.tree.on_peer(&peer, &mut self.peers, steady);
                    self.tree.on_connected(peer);
                } else {
                    self.tree.on_linked(peer, lane, rtt, &mut self.peers, steady);
                }
                self.discovery.stir(now.mono);
            }
            Input::Broken { peer, lane, why } => {
                if self.peers.on_broken(peer, lane, why, now, out) {
                    self.outbox.on_broken(&peer);
                    self.tree.lane_is_gone(&peer, &mut self.peers, steady);
                } else {
                    self.tree.on_unlinked(peer, lane, &mut self.peers, steady);
                }
                self.repair.on_broken(peer, lane, now.mono);
                self.discovery.stir(now.mono);
            }
            Input::Heard { teller, asked, records } => {
                if asked {
                    self.look_for_more(teller, &records, now.mono);
                }
                self.on_heard(teller, asked, records, now, out);
                self.discovery.stir(now.mono);
            }
            Input::Gained { peer, lane, records, useless } => self.on_gained(peer, lane, records, useless, now, out),
            Input::Reconciled { peer, lane, result } => self.on_reconciled(peer, lane, result, now, out),
            Input::Pong { peer, rtt } => self.peers.on_pong(peer, rtt, now),
            Input::Mistaken { peer, at, found, .. } => self.peers.on_mistaken(peer, &at, found, now, out),
            Input::Found { tier, result } => self.discovery.on_found(tier, result, &mut self.peers, now, out),
            Input::Introduced { at, tier, result } => {
                self.discovery.on_introduced(at, tier, result, &mut self.peers, now, out);
            }
            Input::Sent { peer, shipment, result } => {
                if result.is_ok() {
                    self.peers.on_answered(peer, now);
                }
                if Tree::owns(shipment) {
                    let taken = self.tree.on_sent(peer, shipment, result, &mut self.peers, steady);
                    taken.into_iter().for_each(|seq| self.outbox.watched.tell(peer, seq, out));
                } else {
                    self.outbox.on_sent(peer, shipment, result, now, out);
                }
            }
            Input::Stop => {
                self.outbox.save_all(out);
                self.tree.save(self.outbox.head(), out);
                self.tree.hang_up_all(out);
                self.peers.hang_up_all(out);
                self.save_peers(None, out);
                self.save_book(None, now.wall, out);
                return;
            }
        }
        let outbox = &self.outbox;
        self.discovery.run(&mut self.peers, |id| outbox.is_catching_up(id), now, out);
        self.reconcile_due(now, out);
        self.open_welcomed(out);
        self.close_cut(steady);
        self.close_forgotten(out);
        self.peers.dial_due(now, out);
        self.outbox.run(&self.peers, steady, out);
        self.tree.run(self.outbox.head(), &mut self.peers, steady, out);
        self.save_if_due(now, out);
        self.tell_neighbours(now.mono, out);
    }

    /// When to come back with [`Input::Tick`] if nothing happens before.
    pub fn deadline(&self) -> Option<Mono> {
        let rooms = [self.peers.deadline(), self.discovery.deadline(), self.repair.deadline(), self.outbox.deadline()];
        rooms.into_iter().chain([self.tree.deadline(), self.save_due, self.book_due]).flatten().min()
    }

    /// Did a person block this node?
    pub fn is_blocked(&self, id: &NodeId) -> bool {
        self.peers.is_blocked(id)
    }

    /// Did a person type this peer in?
    pub fn is_manual(&self, peer: &NodeId) -> bool {
        self.peers.is_manual(peer)
    }

    /// What a person calls this peer.
    pub fn alias(&self, peer: &NodeId) -> Option<&str> {
        self.peers.alias(peer)
    }

    /// Is it a peer that a person typed in, or one to which a lane stood once?
    pub fn is_familiar(&self, peer: &NodeId) -> bool {
        self.peers.is_familiar(peer)
    }

    /// A copy of what people may look at.
    pub fn view(&self) -> View {
        view::of(self)
    }

    /// How the search for others goes.
    pub fn search(&self) -> Search {
        self.discovery.search(&self.peers)
    }

    /// The nodes that we heard of and that are no peers, as they would be looked at.
    pub fn strangers(&self, now: Now) -> Vec<PeerView> {
        view::strangers(self, now)
    }

    /// The nodes that are not listened to and that are no peers either, likewise.
    pub fn outcasts(&self, now: Now) -> Vec<PeerView> {
        view::outcasts(self, now)
    }

    /// What became of one node, the oldest change first.
    pub fn history(&self, id: &NodeId) -> Vec<Turn> {
        self.peers.history(id)
    }

    /// The records that we may hand on, in the order of their ids: of nodes whose key answered us within
    /// a day.
    pub fn shareable(&self, now: Wall) -> Vec<Verified<Record>> {
        self.peers.shareable(now).cloned().collect()
    }

    fn on_received(
        &mut self,
        ticket: Ticket,
        from: Option<NodeId>,
        arrived: Vec<Arrived>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        if let Some(from) = from {
            self.on_called(&from, now);
        }
        let mut request = appending::Request::new(ticket, arrived.len());
        let mut lasting = Vec::new();
        let mut closed = false; // once one line must wait, those behind it must too: order holds
        for Arrived { envelope, hops, duty } in arrived {
            let rejection = match admission::admit(self, from, &envelope, now.wall, out) {
                Err(rejection) => rejection,
                Ok(()) if closed || !self.appending.has_room_beside(&request, &envelope, &self.params) => {
                    closed = true;
                    Rejection::Unavailable { after: RETRY_BUSY }
                }
                Ok(()) => {
                    let takes_duty =
                        duty && from.is_some_and(|from| self.tree.takes_duty_from(&from, &self.peers, now));
                    let (received, claims) = (now.wall, Box::default());
                    let entry = Entry { envelope, from, hops, duty: takes_duty, received, claims, hold: None };
                    request.append(entry, duty && !takes_duty);
                    continue;
                }
            };
            lasting.extend(admission::lasting(self, &envelope, &rejection));
            self.counts.refuse(rejection.code());
            request.refuse(rejection);
        }
        self.memory.allow(&mut lasting, now.mono);
        if !lasting.is_empty() {
            out.push(Output::Remember(lasting));
        }
        self.submit(request, out);
    }

    fn on_emitted(&mut self, ticket: Ticket, emitted: Vec<Emitted>, now: Now, out: &mut Vec<Output>) {
        let mut request = appending::Request::new(ticket, emitted.len());
        let mut closed = false;
        for Emitted { envelope, claims, question } in emitted {
            debug_assert_eq!(envelope.event().source, self.me, "only we publish here");
            if envelope.event().kind.is_reserved() {
                request.refuse(Rejection::TypeDenied);
            } else if let Err(rejection) = envelope.event().check_times(now.wall) {
                request.refuse(rejection); // every peer would refuse it
            } else if closed || !self.appending.has_room_beside(&request, &envelope, &self.params) {
                closed = true;
                request.refuse(Rejection::Unavailable { after: RETRY_BUSY });
            } else {
                let (from, received) = (Some(self.me), now.wall);
                let hold = question.map(|question| offset::hold(&question, &self.me, received));
                let entry = Entry { envelope, from, hops: 0, duty: true, received, claims, hold };
                request.append(entry, false);
            }
        }
        self.submit(request, out);
    }

    /// Stored like what is published here, and for nobody else: no peer is owed a reserved type.
    fn on_local(&mut self, ticket: Ticket, envelope: Verified<Envelope>, now: Now, out: &mut Vec<Output>) {
        debug_assert!(envelope.event().source == self.me && envelope.event().kind.is_local(), "only for here");
        let mut request = appending::Request::new(ticket, 1);
        if self.appending.has_room_beside(&request, &envelope, &self.params) {
            let (from, received, claims) = (Some(self.me), now.wall, Box::default());
            let entry = Entry { envelope, from, hops: 0, duty: false, received, claims, hold: None };
            request.append(entry, false);
        } else {
            request.refuse(Rejection::Unavailable { after: RETRY_BUSY });
        }
        self.submit(request, out);
    }

    /// Sends what a request wants stored to the disk, or answers at once when that is nothing.
    fn submit(&mut self, request: appending::Request, out: &mut Vec<Output>) {
        if request.is_settled() {
            let (ticket, outcomes) = request.finish();
            out.push(Output::Answer { ticket, outcomes, credit: self.appending.credit(&self.params) });
        } else {
            let (batch, entries) = self.appending.begin(request);
            out.push(Output::Append { batch, entries });
        }
    }

    fn on_appended(
        &mut self,
        batch: BatchId,
        result: Result<Vec<Appended>, AppendError>,
        now: Now,
        steady: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(finished) = self.appending.finish(batch, result) else { return };
        if let Some(note) = finished.note {
            out.push(Output::Note(note));
        }
        for (seq, entry) in finished.stored {
            if let Ok(record) = Record::read(&entry.envelope) {
                self.on_record_heard(record, entry.from, now, out);
            }
            self.on_stored(&Stored { seq, entry }, steady, out);
        }
        for outcome in &finished.outcomes {
            match outcome {
                Outcome::Duplicate => self.counts.duplicate += 1,
                Outcome::Refused(rejection) if finished.reached_disk => self.counts.refuse(rejection.code()),
                _ => {}
            }
        }
        let credit = self.appending.credit(&self.params);
        out.push(Output::Answer { ticket: finished.ticket, outcomes: finished.outcomes, credit });
    }

    /// A new event is durable: who else is owed it?
    fn on_stored(&mut self, stored: &Stored, now: Now, out: &mut Vec<Output>) {
        if stored.entry.from == Some(self.me) {
            self.counts.emitted += u64::from(!stored.entry.envelope.event().kind.is_local());
        } else {
            self.counts.received += 1;
            if let Some(from) = stored.entry.from {
                self.peers.count_in(&from);
            }
        }
        let outbox = &self.outbox;
        self.tree.on_stored(stored, |id| outbox.serves(id), &mut self.peers, now);
        let crowd = self.peers.crowd(&stored.entry.envelope.event().kind);
        self.outbox.on_stored(stored, &self.peers, &crowd, now, out);
    }

    /// A neighbour asks us to carry on what we have: done where that is more than was done before.
    fn on_again(&mut self, ticket: Ticket, from: NodeId, events: &[Digest], now: Now, out: &mut Vec<Output>) {
        let outcomes = events.iter().map(|event| match self.tree.on_again(&from, event, &self.peers, now) {
            Again::Done => Outcome::Duplicate,
            Again::Refused => Outcome::Uncarried,
            Again::Larger { seq, digits } => {
                out.push(Output::Recall { seq, digits });
                Outcome::Duplicate
            }
        });
        let outcomes = outcomes.collect();
        out.push(Output::Answer { ticket, outcomes, credit: self.appending.credit(&self.params) });
    }

    /// A new peer is owed what comes from now on. Its cursor is said before anything is stored for it:
    /// the commit that makes such an event durable makes the cursor durable too.
    fn open_account(&mut self, peer: NodeId, out: &mut Vec<Output>) {
        self.outbox.open(peer, self.outbox.head());
        out.push(Output::SaveCursor { peer, cursor: self.outbox.settled(&peer) });
    }

    fn on_restored(&mut self, head: Seq, peers: Vec<SavedPeer>, now: Now, out: &mut Vec<Output>) {
        self.outbox.restore(head);
        self.tree.restore(head, now.mono, out);
        for peer in peers {
            if let Some(record) = &peer.record {
                self.records.hold(record, now.wall);
            }
            let (id, cursor) = (peer.id, peer.cursor);
            self.peers.restore(peer, now);
            match cursor {
                _ if !self.peers.is_served(&id) => {}
                Some(cursor) => self.outbox.open(id, cursor.min(head)),
                None => self.open_account(id, out),
            }
        }
        self.close_forgotten(out);
        self.company.look(false, now.mono);
        self.discovery.start(&self.peers, now);
        self.repair.start(now.mono);
    }

    /// What was in hand for peers whose lane we closed goes back to their accounts.
    fn close_cut(&mut self, now: Now) {
        for peer in self.peers.take_cut() {
            self.outbox.on_broken(&peer);
            self.tree.lane_is_gone(&peer, &mut self.peers, now);
        }
    }

    /// Before the peer file is written: a peer that comes again begins anew.
    fn close_forgotten(&mut self, out: &mut Vec<Output>) {
        for peer in self.peers.take_forgotten() {
            self.outbox.close(&peer);
            self.tree.lost.push(peer);
            out.push(Output::ForgetCursor { peer });
        }
    }

    /// Who joined is written down at once, since events may be owed to it from now on; the rest may
    /// wait a little, so that no peer makes us write as often as it calls.
    fn save_if_due(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.peers.take_changed() {
            self.save_due.get_or_insert(now.mono + SAVE_PAUSE);
        }
        if self.peers.take_joined() || self.save_due.is_some_and(|due| due <= now.mono) {
            self.save_peers(None, out);
        }
        if self.peers.is_book_changed() {
            self.book_due.get_or_insert(now.mono + BOOK_PAUSE);
        }
        if self.book_due.is_some_and(|due| due <= now.mono) {
            self.save_book(None, now.wall, out);
        }
    }

    fn save_book(&mut self, ticket: Option<Ticket>, now: Wall, out: &mut Vec<Output>) {
        self.book_due = None;
        if self.peers.is_book_changed() || ticket.is_some() {
            out.push(Output::SaveBook { ticket, book: self.peers.saved_book(now) });
        }
    }

    fn save_peers(&mut self, ticket: Option<Ticket>, out: &mut Vec<Output>) {
        self.peers.take_changed();
        self.peers.take_joined();
        self.save_due = None;
        let peers = self.peers.saved(|id| self.outbox.settled(id));
        out.push(Output::SavePeers { ticket, peers });
    }

    fn tell_neighbours(&mut self, now: Mono, out: &mut Vec<Output>) {
        if self.peers.take_neighbours_changed() {
            self.company.look(self.peers.has_lane(), now);
            self.neighbours = Arc::new(self.peers.neighbours());
            out.push(Output::Neighbours(Arc::clone(&self.neighbours)));
        }
        if let Some(blocked) = self.peers.take_blocked() {
            out.push(Output::Blocked(Arc::new(blocked)));
        }
    }

    fn head(&self) -> Seq {
        self.outbox.head()
    }
}

#[cfg(test)]
mod tests;
