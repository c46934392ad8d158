//! What happens, and what follows from it: every output of every node is carried out, for any two of them.

use std::time::Duration;

use bytes::Bytes;

use super::host::{Asker, Role, Row};
use super::links::mixed;
use super::{AWAY_MOST, Swarm};
use crate::core::ports::{Appended, BatchId, Entry, Input, LaneId, Output, Page, SendError, Seq, ShipmentId, Stored};
use crate::time::Wall;
use crate::wire::message::Receipt;
use crate::wire::{NodeId, Word};

/// What a commit takes.
const COMMIT: Duration = Duration::from_millis(2);
/// The same on a slow machine.
const COMMIT_SLOW: Duration = Duration::from_secs(1);
/// What reading a page takes.
const PAGE: Duration = Duration::from_micros(300);
/// Entries of a page.
const PAGE_ENTRIES: usize = 64;
/// What a request costs that nobody answers.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The bounds of queues are looked at whenever a node handled so many inputs more, all nodes together.
const LOOK_EVERY: u64 = 256;

pub(super) enum Happening {
    Resumed {
        host: u32,
        life: u32,
        after: Seq,
    },
    Recalled {
        host: u32,
        life: u32,
        seq: Seq,
        digits: u8,
    },
    Start {
        host: u32,
    },
    /// From now on things go wrong.
    Rough,
    Publish,
    Crash {
        host: u32,
        back: Duration,
    },
    Tick {
        host: u32,
        life: u32,
    },
    Commit {
        host: u32,
        life: u32,
        batch: BatchId,
        entries: Vec<Entry>,
    },
    /// A dial reaches the other end.
    Knock {
        from: u32,
        life: u32,
        to: u32,
        lane: LaneId,
    },
    /// Its answer is back.
    Open {
        from: u32,
        life: u32,
        to: u32,
        lane: LaneId,
    },
    Broken {
        from: u32,
        life: u32,
        to: u32,
        lane: LaneId,
    },
    /// A body reaches the other end.
    Lines {
        from: u32,
        life: u32,
        to: u32,
        lane: LaneId,
        shipment: ShipmentId,
        lines: Vec<Bytes>,
    },
    /// Its answer is back.
    Sent {
        from: u32,
        life: u32,
        to: u32,
        shipment: ShipmentId,
        result: Result<Box<Receipt>, SendError>,
    },
    Scanned {
        host: u32,
        life: u32,
        peer: NodeId,
        after: Seq,
    },
}

impl Swarm {
    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Start { host } => self.start(host),
            Happening::Rough => {
                self.is_rough = true;
                self.links.set(self.plan.faults.jitter, self.plan.faults.loss);
            }
            Happening::Publish => self.publish(),
            Happening::Crash { host, back } => self.crash(host, back),
            Happening::Tick { host, life } => {
                // One that an earlier deadline overtook is asked for anew by whatever came before it.
                let one = &mut self.hosts[host as usize];
                if one.life == life && one.wake == Some(self.now) {
                    one.wake = None;
                    self.feed(host, life, Input::Tick);
                }
            }
            Happening::Commit { host, life, batch, entries } => self.commit(host, life, batch, &entries),
            Happening::Knock { from, life, to, lane } => self.knock(from, life, to, lane),
            Happening::Open { from, life, to, lane } => {
                let record = self.hosts[to as usize].record.clone();
                let (peer, rtt) = (record.id(), self.links.latency(from, to) * 2);
                self.feed(from, life, Input::Met { record, word: Word::Far });
                self.feed(from, life, Input::Connected { peer, lane, rtt });
            }
            Happening::Broken { from, life, to, lane } => {
                let (peer, why) = (self.hosts[to as usize].id, String::from("no answer"));
                self.feed(from, life, Input::Broken { peer, lane, why });
            }
            Happening::Lines { from, life, to, lane, shipment, lines } => {
                self.lines(from, life, to, lane, shipment, &lines);
            }
            Happening::Sent { from, life, to, shipment, result } => {
                let peer = self.hosts[to as usize].id;
                self.feed(from, life, Input::Sent { peer, shipment, result: result.map(|receipt| *receipt) });
            }
            Happening::Scanned { host, life, peer, after } => {
                let page = Ok(self.page(host, after));
                self.feed(host, life, Input::Scanned { peer, after, page });
            }
            Happening::Resumed { host, life, after } => {
                let page = Ok(self.page(host, after));
                self.feed(host, life, Input::Resumed { after, page });
            }
            Happening::Recalled { host, life, seq, digits } => {
                let row = self.hosts[host as usize].journal.at(seq);
                let stored = row.map(|row| Box::new(Stored { seq, entry: self.entry(row) }));
                self.feed(host, life, Input::Recalled { digits, stored });
            }
        }
    }

    pub(super) fn feed(&mut self, host: u32, life: u32, input: Input) {
        let now = self.moment(host);
        let one = &mut self.hosts[host as usize];
        if one.life != life {
            return;
        }
        let Some(node) = &mut one.node else { return };
        self.steps += 1;
        self.trace = mixed(self.trace ^ now.mono.0 ^ u64::from(host) << 40);
        let mut outputs = std::mem::take(&mut self.outputs);
        node.handle(input, now, &mut outputs);
        if self.steps.is_multiple_of(LOOK_EVERY) {
            let most = node.view().peers.iter().map(|peer| peer.in_hand).max().unwrap_or(0);
            self.ledger.in_hand_max = self.ledger.in_hand_max.max(most);
        }
        let deadline = node.deadline().map(|deadline| deadline.max(now.mono));
        if let Some(deadline) = deadline.filter(|deadline| one.wake.is_none_or(|wake| *deadline < wake)) {
            one.wake = Some(deadline);
            self.queue.push(deadline, Happening::Tick { host, life });
        }
        for output in outputs.drain(..) {
            self.carry_out(host, life, output);
        }
        self.outputs = outputs;
    }

    fn carry_out(&mut self, host: u32, life: u32, output: Output) {
        match output {
            Output::Append { batch, entries } => {
                // One disk: commits end in the order in which they were asked for, and many share one.
                let is_slow = self.is_rough && self.hosts[host as usize].role == Role::Slow;
                let span = if is_slow { COMMIT_SLOW } else { COMMIT };
                self.later(span, Happening::Commit { host, life, batch, entries });
            }
            Output::Answer { ticket, outcomes, credit } => self.answer(host, ticket, outcomes, credit),
            Output::Dial { peer, lane, .. } => {
                let to = self.by_id[&peer];
                self.ledger.dials += 1;
                if self.plan.warm {
                    return self.later(Duration::ZERO, Happening::Open { from: host, life, to, lane });
                }
                let delay = self.links.delay(host, to, &mut self.rng);
                self.later(delay, Happening::Knock { from: host, life, to, lane });
            }
            Output::Send { peer, lane, shipment, lines } => {
                let to = self.by_id[&peer];
                self.note_body(host, to, &lines);
                let delay = self.links.delay(host, to, &mut self.rng);
                self.later(delay, Happening::Lines { from: host, life, to, lane, shipment, lines });
            }
            Output::Scan { peer, after } => self.later(PAGE, Happening::Scanned { host, life, peer, after }),
            Output::Resume { after } => self.later(PAGE, Happening::Resumed { host, life, after }),
            Output::Recall { seq, digits } => self.later(PAGE, Happening::Recalled { host, life, seq, digits }),
            Output::SaveDuty { cursor } => self.hosts[host as usize].journal.set_duty(cursor),
            Output::SaveCursor { peer, cursor } => self.hosts[host as usize].journal.set_cursor(peer, cursor),
            Output::ForgetCursor { peer } => self.hosts[host as usize].journal.forget_cursor(&peer),
            Output::SavePeers { peers, .. } => self.hosts[host as usize].peers = peers,
            // Everybody knows everybody here: no tier is on, and what is refused is looked at again.
            Output::Lookup { .. } | Output::Introduce { .. } | Output::Exchange { .. } | Output::Remember(_) => {}
            Output::Reconcile { .. } => {}
            Output::SaveBook { .. } | Output::Hangup { .. } | Output::Neighbours(_) | Output::Blocked(_) => {}
            Output::Note(_) => {}
        }
    }

    /// Is nobody there to answer, or does what was said get lost?
    pub(super) fn is_lost(&mut self, from: u32, to: u32) -> bool {
        let (one, other) = (&self.hosts[from as usize], &self.hosts[to as usize]);
        let is_cut = self.is_rough && one.is_apart != other.is_apart;
        is_cut || other.node.is_none() || self.links.loses(&mut self.rng)
    }

    /// The receptor's hello and record exchange.
    fn knock(&mut self, from: u32, life: u32, to: u32, lane: LaneId) {
        if self.is_lost(from, to) {
            self.ledger.lost += 1;
            return self.later(TIMEOUT, Happening::Broken { from, life, to, lane });
        }
        let (caller, callee_life) = (self.hosts[from as usize].record.clone(), self.hosts[to as usize].life);
        self.feed(to, callee_life, Input::Contact { peer: caller.id() });
        self.feed(to, callee_life, Input::Met { record: caller, word: Word::Far });
        let delay = self.links.delay(to, from, &mut self.rng);
        self.later(delay, Happening::Open { from, life, to, lane });
    }

    /// No answer comes to a body.
    pub(super) fn lose(&mut self, from: u32, life: u32, to: u32, lane: LaneId, shipment: ShipmentId) {
        self.ledger.lost += 1;
        self.later(TIMEOUT, Happening::Sent { from, life, to, shipment, result: Err(SendError::Lost) });
        self.later(TIMEOUT, Happening::Broken { from, life, to, lane });
    }

    /// A commit becomes durable.
    fn commit(&mut self, host: u32, life: u32, batch: BatchId, entries: &[Entry]) {
        let one = &self.hosts[host as usize];
        if one.life != life || one.node.is_none() {
            return;
        }
        let is_timed = one.is_timed();
        self.hosts[host as usize].journal.commit();
        let mut verdicts = Vec::with_capacity(entries.len());
        for entry in entries {
            let event = self.ledger.number_of(&entry.envelope.digest()).expect("only events of the swarm travel");
            let from = entry.from.map_or(host, |from| self.by_id[&from]);
            let row = Row { event, from, hops: entry.hops, duty: entry.duty, received: entry.received.0 };
            let one = &mut self.hosts[host as usize];
            verdicts.push(match one.journal.store(row) {
                Some(seq) => Appended::Stored(seq),
                None => Appended::Duplicate,
            });
            let is_new = matches!(verdicts.last(), Some(Appended::Stored(_)));
            if is_new && one.is_interested && self.ledger.event(event).origin != host {
                self.ledger.deliver(event, entry.hops, self.now, is_timed);
            }
        }
        self.feed(host, life, Input::Appended { batch, result: Ok(verdicts) });
    }

    fn page(&self, host: u32, after: Seq) -> Page {
        let stored = |(seq, row): (Seq, Row)| Stored { seq, entry: self.entry(row) };
        let journal = &self.hosts[host as usize].journal;
        let entries: Vec<Stored> = journal.after(after).take(PAGE_ENTRIES).map(stored).collect();
        let upto = entries.last().map_or(after, |stored| stored.seq);
        Page { entries, upto }
    }

    fn entry(&self, row: Row) -> Entry {
        Entry {
            envelope: self.ledger.event(row.event).envelope.clone(),
            from: Some(self.hosts[row.from as usize].id),
            hops: row.hops,
            duty: row.duty,
            received: Wall(row.received),
            claims: Box::default(),
            hold: None,
        }
    }

    fn crash(&mut self, host: u32, back: Duration) {
        debug_assert!(back <= AWAY_MOST);
        let one = &mut self.hosts[host as usize];
        if one.node.take().is_none() {
            return;
        }
        one.life += 1;
        one.journal.crash();
        let askers = one.take_askers();
        self.ledger.crashes += 1;
        for asker in askers {
            if let Asker::Peer { from, life, lane, shipment, .. } = asker {
                self.lose(from, life, host, lane, shipment);
            }
        }
        self.later(back, Happening::Start { host });
    }
}
