//! What is owed to whom: one account a peer, over the one journal.
//!
//! There are no queues per peer beyond a few lines: an account is a position in the journal
//! (`examined`: everything up to there was looked at for this peer) and the lines in hand. A peer that
//! takes events as they come is at the head of the journal; one that is away, slow or busy stays
//! behind and is read for, a page at a time, in order. `settled`, the position below the first line
//! that is not answered for, is saved now and then: after a crash the peer gets some lines again and
//! answers `duplicate`, and misses none. An answer that waits for its turn keeps that position below it, and holds
//! up nothing else: see [`held`].

mod held;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use self::held::{Held, Taken};
use super::params::{CREDIT_MAX, Params, RETRY_FUTURE, RETRY_LEAST, RETRY_MOST, RETRY_NO_CREDIT, RETRY_SCAN};
use super::peers::{Peers, Want};
use super::ports::{Entry, LaneId, Note, Output, Page, PageError, SendError, Seq, ShipmentId, Stored};
use super::roster::Crowd;
use super::watched::Watched;
use crate::time::{Mono, Now, Wall};
use crate::wire::message::Receipt;
use crate::wire::{Code, Digest, NodeId};

/// All accounts, and the head of the journal.
pub(super) struct Outbox {
    accounts: BTreeMap<NodeId, Account>,
    head: Seq,
    next_shipment: u64,
    limits: Limits,
    /// Events whose takers somebody wants to know.
    pub(super) watched: Watched,
    /// Events that expired before their peer could take them.
    pub(super) expired_unsent: u64,
    /// Answers whose question had its deadline before.
    pub(super) answers_late: u64,
}

#[derive(Clone, Copy)]
struct Limits {
    lines: usize,
    bytes: usize,
    cursor_every: u64,
    cursor_delay: Duration,
}

/// One line owed.
#[derive(Clone)]
pub(super) struct Owed {
    pub(super) seq: Seq,
    line: Bytes,
    expires: Wall,
    /// Its digest, where it answers a question.
    answer: Option<Digest>,
}

/// Lines that were not sent in time.
#[derive(Clone, Copy, Default)]
struct Unsent {
    expired: u64,
    late: u64,
}

/// How an account stands.
#[derive(Clone, Copy, Default)]
pub(super) struct Figures {
    /// Lines the peer took.
    pub(super) taken: u64,
    /// Lines queued or in flight.
    pub(super) in_hand: usize,
    /// Answers that wait for their turn, those in hand included.
    pub(super) held: usize,
    /// Journal positions it is behind.
    pub(super) behind: u64,
    /// It is read for from the journal.
    pub(super) lagging: bool,
}

struct Account {
    /// Everything up to here was looked at; what was owed of it is in hand or settled.
    examined: Seq,
    lane: Option<LaneId>,
    flight: Option<(ShipmentId, Vec<Owed>)>,
    queue: VecDeque<Owed>,
    queue_bytes: usize,
    held: Held,
    scanning: bool,
    /// Nothing is sent or scanned before.
    not_before: Option<Mono>,
    credit: u32,
    /// Bodies that carry one line only: one of these lines made the peer refuse a whole body.
    singly: usize,
    /// Codes by which it refused lines since the lane stands: each is told once.
    refused: BTreeSet<Code>,
    lagging: bool,
    saved: Seq,
    unsaved_since: Option<Mono>,
    /// Lines this peer took.
    taken: u64,
}

impl Account {
    fn new(cursor: Seq) -> Account {
        Account {
            examined: cursor,
            lane: None,
            flight: None,
            queue: VecDeque::new(),
            queue_bytes: 0,
            held: Held::default(),
            scanning: false,
            not_before: None,
            credit: CREDIT_MAX,
            singly: 0,
            refused: BTreeSet::new(),
            lagging: false,
            saved: cursor,
            unsaved_since: None,
            taken: 0,
        }
    }

    /// Everything up to here is answered for, but for what is held.
    fn passed(&self) -> Seq {
        let in_hand = self.flight.iter().flat_map(|(_, owed)| owed).chain(&self.queue);
        let first = in_hand.map(|owed| owed.seq).find(|seq| !self.held.holds(*seq));
        first.map_or(self.examined, |seq| Seq(seq.0 - 1))
    }

    /// Everything up to here is answered for.
    fn settled(&self) -> Seq {
        let held = self.held.first().map(|seq| Seq(seq.0 - 1));
        held.map_or(self.passed(), |held| held.min(self.passed()))
    }

    fn is_idle(&self) -> bool {
        self.flight.is_none() && self.queue.is_empty()
    }

    fn has_room_for(&self, line: usize, limits: Limits) -> bool {
        self.queue.len() < limits.lines && (self.queue.is_empty() || self.queue_bytes + line <= limits.bytes)
    }

    fn push(&mut self, owed: Owed) {
        self.queue_bytes += owed.line.len() + 1;
        self.queue.push_back(owed);
    }

    /// Gives back what was in hand: it will be read from the journal again, or wait for another lane.
    fn drop_hand(&mut self) {
        self.examined = self.passed();
        self.held.take_back_all();
        self.flight = None;
        self.queue.clear();
        self.queue_bytes = 0;
        self.scanning = false;
    }

    fn is_ready(&self, now: Mono) -> bool {
        self.not_before.is_none_or(|moment| moment <= now)
    }
}

impl Outbox {
    pub(super) fn new(params: &Params) -> Outbox {
        Outbox {
            accounts: BTreeMap::new(),
            head: Seq(0),
            next_shipment: 0,
            limits: Limits {
                lines: params.peer_queue_max,
                bytes: params.peer_queue_bytes_max,
                cursor_every: params.cursor_every,
                cursor_delay: params.cursor_delay,
            },
            watched: Watched::default(),
            expired_unsent: 0,
            answers_late: 0,
        }
    }

    pub(super) fn restore(&mut self, head: Seq) {
        self.head = head;
    }

    pub(super) fn head(&self) -> Seq {
        self.head
    }

    /// Does this node have an account?
    pub(super) fn serves(&self, peer: &NodeId) -> bool {
        self.accounts.contains_key(peer)
    }

    /// Has this node an account that did not come to this position yet?
    pub(super) fn is_behind(&self, peer: &NodeId, seq: Seq) -> bool {
        self.accounts.get(peer).is_some_and(|account| account.settled() < seq)
    }

    /// Opens an account at this position; one that is open stays as it is.
    pub(super) fn open(&mut self, peer: NodeId, cursor: Seq) {
        self.accounts.entry(peer).or_insert_with(|| Account::new(cursor));
    }

    pub(super) fn close(&mut self, peer: &NodeId) {
        self.accounts.remove(peer);
    }

    /// Everything up to here is answered for.
    pub(super) fn settled(&self, peer: &NodeId) -> Seq {
        self.accounts.get(peer).map_or(self.head, Account::settled)
    }

    /// How one account stands.
    pub(super) fn figures(&self, peer: &NodeId) -> Figures {
        self.accounts.get(peer).map_or_else(Figures::default, |account| {
            let in_flight = account.flight.as_ref().map_or(0, |(_, owed)| owed.len());
            Figures {
                taken: account.taken,
                in_hand: in_flight + account.queue.len(),
                held: account.held.len(),
                behind: self.head.0.saturating_sub(account.passed().0),
                lagging: account.lagging,
            }
        })
    }

    /// It is read for from the journal, or will be in a moment: it came back just now.
    pub(super) fn is_catching_up(&self, peer: &NodeId) -> bool {
        let Figures { in_hand, behind, lagging, .. } = self.figures(peer);
        lagging || (behind > 0 && in_hand == 0)
    }

    pub(super) fn watch(&mut self, event: Digest) {
        self.watched.add(event);
    }

    pub(super) fn unwatch(&mut self, event: &Digest) {
        self.watched.remove(event);
    }

    pub(super) fn on_connected(&mut self, peer: NodeId, lane: LaneId) {
        let Some(account) = self.accounts.get_mut(&peer) else { return };
        account.drop_hand();
        account.lane = Some(lane);
        account.not_before = None;
        account.credit = CREDIT_MAX;
        account.refused.clear();
    }

    pub(super) fn on_broken(&mut self, peer: &NodeId) {
        let Some(account) = self.accounts.get_mut(peer) else { return };
        account.drop_hand();
        account.lane = None;
    }

    /// A new entry at the head: whoever is at the head and has room gets it in hand at once.
    /// Also where delegates carry it: what they lose is healed by nothing else yet, and a peer has an account.
    pub(super) fn on_stored(&mut self, stored: &Stored, peers: &Peers, crowd: &Crowd, now: Now, out: &mut Vec<Output>) {
        let previous = std::mem::replace(&mut self.head, stored.seq);
        self.watched.on_stored(stored);
        let duty = peers.duty(&stored.entry);
        let kind = &stored.entry.envelope.event().kind;
        let mut line: Option<Bytes> = None; // written once, shared by all
        for (peer, account) in &mut self.accounts {
            if account.examined < previous {
                continue; // behind: it will come to this one by scanning
            }
            if account.examined >= stored.seq {
                continue; // a page brought it: the journal shows it to readers before we are told
            }
            match peers.wants(peer, &stored.entry, duty, now.wall, || peers.is_among(crowd, peer, kind)) {
                Want::Expired => {
                    self.expired_unsent += 1;
                    account.examined = stored.seq;
                }
                Want::No => account.examined = stored.seq,
                Want::Unknown => {}
                Want::Yes => {
                    if account.lane.is_none() {
                        continue;
                    }
                    let line = line.get_or_insert_with(|| line_of(&stored.entry));
                    match account.take(stored, line, self.limits, now) {
                        Taken::Full => continue,
                        Taken::Here => {}
                        Taken::Late(answer) => {
                            self.answers_late += 1;
                            out.push(Output::Note(Note::AnswerLate { peer: *peer, answer }));
                        }
                    }
                    account.examined = stored.seq;
                }
            }
        }
    }

    /// A page of the journal for a peer that is behind.
    pub(super) fn on_scanned(
        &mut self,
        peer: NodeId,
        after: Seq,
        page: Result<Page, PageError>,
        peers: &Peers,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let limits = self.limits;
        let Some(account) = self.accounts.get_mut(&peer) else { return };
        if !account.scanning || account.examined != after {
            return; // asked for before the lane broke
        }
        account.scanning = false;
        let page = match page {
            Ok(page) => page,
            Err(PageError::Gone { earliest }) => {
                account.examined = Seq(earliest.0.saturating_sub(1)).max(after);
                out.push(Output::Note(Note::PeerGap { peer, earliest }));
                return;
            }
            Err(PageError::Unreadable) => {
                account.not_before = Some(now.mono + RETRY_SCAN);
                return;
            }
        };
        for stored in page.entries {
            let kind = &stored.entry.envelope.event().kind;
            let duty = peers.duty(&stored.entry);
            match peers.wants(&peer, &stored.entry, duty, now.wall, || peers.is_interested(&peer, kind)) {
                Want::Unknown => return,
                Want::Expired => self.expired_unsent += 1,
                Want::No => {}
                Want::Yes => match account.take(&stored, &line_of(&stored.entry), limits, now) {
                    Taken::Full => return,
                    Taken::Here => {}
                    Taken::Late(answer) => {
                        self.answers_late += 1;
                        out.push(Output::Note(Note::AnswerLate { peer, answer }));
                    }
                },
            }
            account.examined = stored.seq;
        }
        account.examined = account.examined.max(page.upto);
    }

    pub(super) fn on_sent(
        &mut self,
        peer: NodeId,
        shipment: ShipmentId,
        result: Result<Receipt, SendError>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(account) = self.accounts.get_mut(&peer) else { return };
        let Some((_, owed)) = account.flight.take_if(|(id, _)| *id == shipment) else { return };
        match result {
            Ok(receipt) => {
                account.credit = receipt.credit.min(CREDIT_MAX);
                account.taken += u64::from(receipt.stored) + u64::from(receipt.duplicate);
                for refused in receipt.rejected.iter().filter(|refused| refused.code != Code::Future) {
                    if account.refused.insert(refused.code) {
                        out.push(Output::Note(Note::PeerRefused { peer, code: refused.code }));
                    }
                }
                self.watched.on_taken(peer, &owed, &receipt, out);
                let answers: Vec<Seq> = owed.iter().map(|one| one.seq).filter(|seq| account.held.holds(*seq)).collect();
                let (again, wait) = unsettled(owed, &receipt);
                for seq in answers.into_iter().filter(|seq| !again.iter().any(|one| one.seq == *seq)) {
                    account.held.remove(seq);
                }
                account.not_before = match wait {
                    None if account.credit == 0 => Some(now.mono + RETRY_NO_CREDIT),
                    wait => wait.map(|wait| now.mono + wait),
                };
                account.put_back(again);
            }
            Err(SendError::Busy(after)) => {
                account.not_before = Some(now.mono + bounded(after));
                account.put_back(owed);
            }
            // One line spoils the body: found by sending each alone, and given up alone.
            Err(SendError::Refused(_)) if owed.len() > 1 => {
                account.singly = owed.len();
                account.put_back(owed);
            }
            Err(SendError::Refused(_)) => {
                for one in &owed {
                    account.held.remove(one.seq);
                }
                out.push(Output::Note(Note::PeerRefused { peer, code: Code::Malformed }));
            }
            Err(SendError::Lost) => {
                account.put_back(owed);
                account.drop_hand();
                account.lane = None; // `Broken` says when the next one comes
            }
        }
    }

    /// Sends, scans and saves whatever is due.
    pub(super) fn run(&mut self, peers: &Peers, now: Now, out: &mut Vec<Output>) {
        let (head, limits) = (self.head, self.limits);
        for (peer, account) in &mut self.accounts {
            self.answers_late += account.take_turns(*peer, limits, now, out);
            account.save_if_due(*peer, limits, now.mono, out);
            let Some(lane) = account.lane else { continue };
            if !account.is_ready(now.mono) {
                continue;
            }
            account.not_before = None;
            if account.flight.is_none() {
                let unsent = account.ship(*peer, lane, &mut self.next_shipment, limits, now, out);
                self.expired_unsent += unsent.expired;
                self.answers_late += unsent.late;
            }
            let behind = account.examined < head;
            if behind && account.queue.is_empty() && !account.scanning && peers.is_acquainted(peer, now.wall) {
                account.scanning = true;
                out.push(Output::Scan { peer: *peer, after: account.examined });
            }
            account.tell_lag(*peer, behind, out);
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let of = |account: &Account| {
            let waits =
                account.lane.and(account.not_before).filter(|_| !account.is_idle() || account.examined < self.head);
            let save = account.unsaved_since.map(|since| since + self.limits.cursor_delay);
            let turn = account.held.next().filter(|(_, _, answer)| {
                // Without room it is what comes back from the peer that wakes us.
                account.lane.is_some() && account.has_room_for(answer.line.len() + 1, self.limits)
            });
            [waits, save, turn.map(|(turn, ..)| turn), account.held.next_end()].into_iter().flatten().min()
        };
        self.accounts.values().filter_map(of).min()
    }

    /// Saves every cursor that moved.
    pub(super) fn save_all(&mut self, out: &mut Vec<Output>) {
        for (peer, account) in &mut self.accounts {
            account.save(*peer, out);
        }
    }
}

impl Account {
    /// Puts lines back before those that wait, in their order.
    fn put_back(&mut self, owed: Vec<Owed>) {
        for one in owed.into_iter().rev() {
            self.queue_bytes += one.line.len() + 1;
            self.queue.push_front(one);
        }
    }

    /// Sends the next body; gives the number of lines whose time was over while they waited.
    fn ship(
        &mut self,
        peer: NodeId,
        lane: LaneId,
        next: &mut u64,
        limits: Limits,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Unsent {
        let lines_max = if self.singly > 0 { 1 } else { limits.lines.min(self.credit.max(1) as usize) };
        self.singly = self.singly.saturating_sub(1);
        let (mut owed, mut bytes, mut unsent) = (Vec::new(), 0, Unsent::default());
        while let Some(first) = self.queue.front() {
            let size = first.line.len() + 1;
            if owed.len() == lines_max || (bytes + size > limits.bytes && !owed.is_empty()) {
                break;
            }
            let first = self.queue.pop_front().expect("it was there");
            self.queue_bytes -= size;
            if first.expires <= now.wall {
                self.held.remove(first.seq);
                match first.answer {
                    None => unsent.expired += 1,
                    Some(answer) => {
                        unsent.late += 1;
                        out.push(Output::Note(Note::AnswerLate { peer, answer }));
                    }
                }
                continue;
            }
            bytes += size;
            owed.push(first);
        }
        if !owed.is_empty() {
            let shipment = ShipmentId(*next);
            *next += 1;
            let lines = owed.iter().map(|one: &Owed| one.line.clone()).collect();
            self.flight = Some((shipment, owed));
            out.push(Output::Send { peer, lane, shipment, lines });
        }
        unsent
    }

    fn tell_lag(&mut self, peer: NodeId, behind: bool, out: &mut Vec<Output>) {
        let lagging = behind || (self.lagging && !self.is_idle());
        if lagging != self.lagging {
            self.lagging = lagging;
            out.push(Output::Note(if lagging { Note::PeerLagging(peer) } else { Note::PeerCaughtUp(peer) }));
        }
    }

    fn save_if_due(&mut self, peer: NodeId, limits: Limits, now: Mono, out: &mut Vec<Output>) {
        let unsaved = self.settled().0.saturating_sub(self.saved.0);
        if unsaved == 0 {
            return;
        }
        let since = *self.unsaved_since.get_or_insert(now);
        if unsaved >= limits.cursor_every || since + limits.cursor_delay <= now {
            self.save(peer, out);
        }
    }

    fn save(&mut self, peer: NodeId, out: &mut Vec<Output>) {
        self.unsaved_since = None;
        let settled = self.settled();
        if settled > self.saved {
            self.saved = settled;
            out.push(Output::SaveCursor { peer, cursor: settled });
        }
    }
}

fn line_of(entry: &Entry) -> Bytes {
    Bytes::from(entry.envelope.line(entry.hops + 1, false))
}

/// Of the lines of a body: those to send again, and the wait before.
fn unsettled(owed: Vec<Owed>, receipt: &Receipt) -> (Vec<Owed>, Option<Duration>) {
    let retry = |i: usize| {
        receipt.retry.iter().find(|retry| retry.i as usize == i).map(|retry| Duration::from_millis(retry.after_ms))
    };
    // Our clock and the peer's differ, or it blocked us just now: one of them will be put right, or the event
    // expires.
    let passes = |code: Code| matches!(code, Code::Future | Code::Blocked);
    let future = |i: usize| receipt.rejected.iter().any(|refused| refused.i as usize == i && passes(refused.code));
    let mut wait = None;
    let mut again = Vec::new();
    for (i, one) in owed.into_iter().enumerate() {
        if let Some(after) = retry(i).or_else(|| future(i).then_some(RETRY_FUTURE)) {
            wait = wait.max(Some(bounded(after)));
            again.push(one);
        }
    }
    (again, wait)
}

/// No peer can make us wait for ever, or send the same again and again without a pause.
fn bounded(wait: Duration) -> Duration {
    wait.clamp(RETRY_LEAST, RETRY_MOST)
}
