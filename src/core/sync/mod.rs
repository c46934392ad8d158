//! The full view is repaired by set reconciliation with one neighbour at a time (3-discovery.md, tier 2).
//!
//! The exchange tells each neighbour a part of what is known, by chance, and to one that knows no more than
//! 16 others it tells everything. So up to there the exchange does it alone. Beyond it a part says little about
//! the rest, and a neighbour is asked what it has that we lack: at once when its part held news, and else every
//! five minutes somebody, by chance. Items are (`seq`, digest) of each living record that may be handed on.
//!
//! We pull, and the one who is asked learns nothing. What comes is what we asked for, so the allowance of the
//! exchange does not count it; the bounds of a [`Run`] do. Every other check is the same. What was fetched and is
//! not kept (no room, older than what we hold, a forbidden place) is remembered as useless, so that the next run does
//! not fetch it again.

mod run;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Node;
use super::exchange::{GIVEN_LEAST, is_passable};
use super::note::Note;
use super::params::{RECONCILE_BUSY, RECONCILE_EVERY, RECONCILE_ON, RECONCILE_REST, RUN_MAX, SNAPSHOT_KEPT};
use super::ports::{LaneId, Output};
use crate::time::{Mono, Now, Wall};
use crate::wire::record::RECORD_LIFETIME;
use crate::wire::{Digest, NodeId, Record, Verified};

pub use run::{Fault, ROUNDS_MAX, RUN_BYTES_MAX, Run, Step, Tally, WANTED_MAX};
pub use snapshot::{Nonsense, Snapshot};

/// Digests remembered of records that were fetched in vain, some 60 bytes each. Of more all are forgotten, and
/// fetched once more.
pub const USELESS_MAX: usize = 8_192;

/// A run that left something brought so many at least, or its neighbour waits like others.
const WORTH_IT: usize = 64;

/// When the view is repaired, and with whom.
pub(super) struct Repair {
    is_on: bool,
    rng: fastrand::Rng,
    /// When somebody is asked by chance; `None` = the disk has not said yet what it remembers.
    next: Option<Mono>,
    /// Whose part held news, and when they are asked.
    soon: BTreeMap<NodeId, Mono>,
    /// Who is left alone until then.
    resting: BTreeMap<NodeId, Mono>,
    running: Option<Running>,
    own: Option<Verified<Record>>,
    useless: BTreeMap<Digest, Wall>,
    /// What neighbours are answered from, and since when it is so.
    snapshot: Option<(Mono, Arc<Snapshot>)>,
}

struct Running {
    peer: NodeId,
    lane: LaneId,
    /// Given up then.
    until: Mono,
}

/// Why somebody is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cause {
    /// It told news.
    News,
    /// It is its turn.
    Turn,
}

impl Repair {
    pub(super) fn new(is_on: bool, seed: u64) -> Repair {
        Repair {
            is_on,
            rng: fastrand::Rng::with_seed(seed),
            next: None,
            soon: BTreeMap::new(),
            resting: BTreeMap::new(),
            running: None,
            own: None,
            useless: BTreeMap::new(),
            snapshot: None,
        }
    }

    pub(super) fn start(&mut self, now: Mono) {
        self.next = self.is_on.then(|| now + self.about(RECONCILE_EVERY));
    }

    /// Our own record, which belongs to the set.
    pub(super) fn sign(&mut self, record: Verified<Record>) {
        self.own = Some(record);
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        match &self.running {
            Some(running) => Some(running.until),
            None => self.next.into_iter().chain(self.soon.values().copied()).min(),
        }
    }

    /// The lane is gone, and a run with it.
    pub(super) fn on_broken(&mut self, peer: NodeId, lane: LaneId, now: Mono) {
        if self.is_running(&peer, lane) {
            self.running = None;
            self.rest(peer, RECONCILE_EVERY, now);
        }
    }

    fn is_running(&self, peer: &NodeId, lane: LaneId) -> bool {
        self.running.as_ref().is_some_and(|running| running.peer == *peer && running.lane == lane)
    }

    fn give_up(&mut self, now: Mono) {
        if let Some(running) = self.running.take_if(|running| running.until <= now) {
            self.rest(running.peer, RECONCILE_EVERY, now);
        }
    }

    /// A neighbour told news: it is asked for the rest, unless that was done just now.
    fn stir(&mut self, peer: NodeId, after: Duration, now: Mono) {
        if self.is_on {
            let rested = self.resting.get(&peer).copied().unwrap_or(now);
            let at = rested.max(now + self.about(after));
            self.soon.entry(peer).or_insert(at);
        }
    }

    fn rest(&mut self, peer: NodeId, span: Duration, now: Mono) {
        self.resting.insert(peer, now + span);
    }

    /// Whom to ask now, of those to whom a lane stands; those who are gone are forgotten.
    fn choose(&mut self, lanes: &BTreeMap<NodeId, LaneId>, now: Mono) -> Option<(NodeId, LaneId, Cause)> {
        self.resting.retain(|_, until| now < *until);
        self.soon.retain(|peer, _| lanes.contains_key(peer));
        let first = self.soon.iter().filter(|(_, at)| **at <= now).min_by_key(|(_, at)| **at).map(|(peer, _)| *peer);
        if let Some(peer) = first {
            self.soon.remove(&peer);
            return Some((peer, lanes[&peer], Cause::News));
        }
        if self.next.is_none_or(|next| now < next) {
            return None;
        }
        self.next = Some(now + self.about(RECONCILE_EVERY));
        let free = lanes.iter().filter(|(peer, _)| !self.resting.contains_key(peer));
        let free: Vec<(NodeId, LaneId)> = free.map(|(peer, lane)| (*peer, *lane)).collect();
        let (peer, lane) = *self.rng.choice(&free)?;
        Some((peer, lane, Cause::Turn))
    }

    /// Give or take a fifth, so that a mesh that started as one does not ask as one.
    fn about(&mut self, span: Duration) -> Duration {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.u64(micros / 5 * 4..=micros / 5 * 6))
    }

    fn discard(&mut self, digest: Digest, until: Wall, now: Wall) {
        if self.useless.len() >= USELESS_MAX {
            self.useless.retain(|_, until| now < *until);
        }
        if self.useless.len() >= USELESS_MAX {
            self.useless.clear();
        }
        self.useless.insert(digest, until);
    }
}

impl Node {
    /// What a neighbour that asks is answered from. `None`: it is not entitled to it, for it is no neighbour
    /// whose record we hold, or we tell nobody of others.
    pub fn reconcile_with(&mut self, asker: &NodeId, now: Now) -> Option<Arc<Snapshot>> {
        self.on_called(asker, now);
        if !self.repair.is_on || !self.peers.is_entitled(asker, now.wall) {
            return None;
        }
        match &self.repair.snapshot {
            Some((at, snapshot)) if now.mono.since(*at) < SNAPSHOT_KEPT => Some(Arc::clone(snapshot)),
            _ => Some(self.take_snapshot(now)),
        }
    }

    fn take_snapshot(&mut self, now: Now) -> Arc<Snapshot> {
        let useless = self.repair.useless.iter().filter(|(_, until)| now.wall < **until).map(|(digest, _)| *digest);
        let held = self.peers.records().map(|record| record.envelope().digest());
        let snapshot = Arc::new(Snapshot::new(self.reconcilable(now.wall), held.chain(useless)));
        self.repair.snapshot = Some((now.mono, Arc::clone(&snapshot)));
        snapshot
    }

    /// The living records that we may hand on, our own among them.
    fn reconcilable(&self, now: Wall) -> impl Iterator<Item = (NodeId, &Verified<Record>)> {
        let own = self.repair.own.as_ref();
        let own = own.filter(move |own| now < own.expires() && is_passable(own, self.params.profile));
        let others = self.peers.shareable(now).filter(|record| record.id() != self.me);
        let others = others.filter(|record| !self.peers.is_closed_to(&record.id()));
        own.into_iter().chain(others).map(|record| (record.id(), record))
    }

    /// A neighbour answered whom it knows. Was that but a part, and news in it?
    pub(super) fn look_for_more(&mut self, teller: NodeId, records: &[Verified<Record>], now: Mono) {
        let is_news = |record: &Verified<Record>| {
            record.id() != self.me
                && !self.repair.useless.contains_key(&record.envelope().digest())
                && self.peers.record_of(&record.id()).is_none_or(|held| record.supersedes(held))
        };
        if records.len() >= GIVEN_LEAST && records.iter().any(is_news) {
            self.repair.stir(teller, Duration::from_secs(1), now);
        }
    }

    /// Asks somebody, if it is time.
    pub(super) fn reconcile_due(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.repair.deadline().is_none_or(|due| now.mono < due) {
            return;
        }
        self.repair.give_up(now.mono);
        if self.repair.running.is_some() {
            return;
        }
        let lanes: BTreeMap<NodeId, LaneId> = self.peers.lanes().collect();
        let Some((peer, lane, cause)) = self.repair.choose(&lanes, now.mono) else { return };
        let snapshot = self.take_snapshot(now);
        if cause == Cause::Turn && snapshot.len() < GIVEN_LEAST {
            return; // so few are told whole by the exchange
        }
        self.repair.running = Some(Running { peer, lane, until: now.mono + RUN_MAX });
        out.push(Output::Reconcile { peer, lane, snapshot });
    }

    /// What we asked for has come.
    pub(super) fn on_gained(
        &mut self,
        peer: NodeId,
        lane: LaneId,
        records: Vec<Verified<Record>>,
        useless: Vec<Digest>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        if !self.repair.is_running(&peer, lane) || !self.listens_to(&peer, now.wall) {
            return self.ignore(records.len());
        }
        for digest in useless {
            self.repair.discard(digest, now.wall + RECORD_LIFETIME, now.wall);
        }
        for record in records {
            let (id, digest, until) = (record.id(), record.envelope().digest(), record.expires());
            self.on_told(record, peer, now, out);
            if self.peers.record_of(&id).is_some_and(|held| held.envelope().digest() == digest) {
                self.counts.sync.gained += 1;
            } else {
                self.repair.discard(digest, until, now.wall);
            }
        }
        self.discovery.stir(now.mono);
    }

    /// A run ended.
    pub(super) fn on_reconciled(
        &mut self,
        peer: NodeId,
        lane: LaneId,
        result: Result<Tally, Fault>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        if !self.repair.is_running(&peer, lane) {
            return;
        }
        self.repair.running = None;
        let sync = &mut self.counts.sync;
        match result {
            Ok(tally) => {
                sync.runs += 1;
                sync.rounds += u64::from(tally.rounds);
                sync.bytes += u64::try_from(tally.bytes).unwrap_or(u64::MAX);
                if !tally.is_whole && tally.given >= WORTH_IT {
                    self.repair.stir(peer, RECONCILE_ON, now.mono);
                } else {
                    self.repair.rest(peer, RECONCILE_EVERY, now.mono);
                }
            }
            Err(fault) => {
                sync.failed += 1;
                let span = match fault {
                    Fault::Busy => RECONCILE_BUSY,
                    Fault::Refused(_) => RECONCILE_EVERY * 2, // it may know us better by then, or be newer
                    _ => RECONCILE_REST,
                };
                self.repair.rest(peer, span, now.mono);
                if fault.is_guilt() {
                    out.push(Output::Note(Note::PeerUnreconciled { peer, fault }));
                }
            }
        }
    }
}
