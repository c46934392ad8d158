//! The door of each machine: bodies of lines come in, receipts go out.

use bytes::Bytes;

use super::Swarm;
use super::engine::Happening;
use super::host::{Asker, Role};
use crate::core::ports::{Arrived, Input, LaneId, ShipmentId, Ticket};
use crate::wire::message::{Durability, Outcome, Receipt};
use crate::wire::{Digest, Envelope, Line, Network, NodeId, Rejection, Verified, envelope};

/// In a swarm of fewer nodes every signature is checked wherever it arrives.
const ALL_CHECKED_BELOW: usize = 1_000;

impl Swarm {
    /// What one machine sends to another is counted when it goes out, whatever becomes of it.
    pub(super) fn note_body(&mut self, from: u32, to: u32, lines: &[Bytes]) {
        let mut bytes = 0;
        for line in lines {
            let digest = Line::split(line).expect("a node writes lines").digest();
            let event = self.ledger.number_of(&digest).expect("only events of the swarm travel");
            self.ledger.send(from, to, event, line.len() + 1);
            bytes += line.len() + 1;
        }
        let (lines_max, bytes_max) = &mut self.ledger.body_max;
        (*lines_max, *bytes_max) = ((*lines_max).max(lines.len()), (*bytes_max).max(bytes));
    }

    /// The receptor's part of one body of lines.
    pub(super) fn lines(&mut self, from: u32, life: u32, to: u32, lane: LaneId, shipment: ShipmentId, lines: &[Bytes]) {
        if self.is_lost(from, to) {
            return self.lose(from, life, to, lane, shipment);
        }
        let (mut known, mut arrived) = (Vec::with_capacity(lines.len()), Vec::with_capacity(lines.len()));
        for line in lines {
            let is_asked_for = self.hosts[to as usize].is_interested;
            self.ledger.arrive(to, is_asked_for, line.len() + 1);
            match self.open(to, line) {
                Ok(one) => {
                    known.push(None);
                    arrived.push(one);
                }
                Err(outcome) => known.push(Some(outcome)),
            }
        }
        let neighbour = self.hosts[from as usize].id;
        self.carry_again(to, neighbour, lines, &mut known);
        let host = &mut self.hosts[to as usize];
        let ticket = host.ask(Asker::Peer { from, life, lane, shipment, known });
        let life = host.life;
        self.feed(to, life, Input::Received { ticket, from: Some(neighbour), arrived });
    }

    /// Lines that are durable there already, and that it is asked to carry on.
    fn carry_again(&mut self, to: u32, from: NodeId, lines: &[Bytes], known: &mut [Option<Outcome>]) {
        if self.is_dropping(to) {
            return;
        }
        let asked = lines.iter().zip(known.iter()).enumerate().filter_map(|(i, (line, known))| {
            let line = Line::split(line).ok().filter(|line| line.duty)?;
            matches!(known, Some(Outcome::Duplicate)).then(|| (i, line.digest()))
        });
        let (places, events): (Vec<usize>, Vec<Digest>) = asked.unzip();
        if events.is_empty() {
            return;
        }
        let host = &mut self.hosts[to as usize];
        let (ticket, life) = (host.ask(Asker::Again), host.life);
        self.feed(to, life, Input::Again { ticket, from, events });
        for (i, outcome) in places.into_iter().zip(std::mem::take(&mut self.again)) {
            known[i] = Some(outcome);
        }
    }

    fn is_dropping(&self, host: u32) -> bool {
        self.is_rough && self.hosts[host as usize].role == Role::Dropper
    }

    fn open(&mut self, host: u32, line: &Bytes) -> Result<Arrived, Outcome> {
        let refused = |rejection: Rejection| Outcome::Refused(rejection);
        let split = Line::split(line).map_err(refused)?;
        let event = self.ledger.number_of(&split.digest()).expect("only events of the swarm travel");
        let one = &self.hosts[host as usize];
        if one.journal.holds(event) {
            return Err(Outcome::Duplicate);
        }
        let (hops, duty) = (split.hops, split.duty && !self.is_dropping(host));
        let envelope = self.verified(host, event, hops, line).map_err(refused)?;
        Ok(Arrived { envelope, hops, duty })
    }

    fn verified(&mut self, host: u32, event: u32, hops: u8, line: &Bytes) -> Result<Verified<Envelope>, Rejection> {
        let wall = self.wall(host);
        if self.plan.nodes < ALL_CHECKED_BELOW {
            return envelope::open(line, wall, &Network::default(), &mut self.keys);
        }
        // The digest says that these are the bytes that were signed here. The rest is as for any line.
        let envelope = self.ledger.event(event).envelope.clone();
        envelope.event().check_fresh(wall, &Network::default())?;
        if hops > envelope.event().hops_max { Err(Rejection::Hops) } else { Ok(envelope) }
    }

    pub(super) fn answer(&mut self, host: u32, ticket: Ticket, outcomes: Vec<Outcome>, credit: u32) {
        match self.hosts[host as usize].asker(ticket) {
            Some(Asker::Publisher { event }) => {
                if matches!(outcomes.as_slice(), [Outcome::Stored { .. }]) {
                    assert!(self.hosts[host as usize].journal.holds(event), "acknowledged before it was durable");
                    self.ledger.acknowledge(event);
                }
            }
            Some(Asker::Peer { from, life, lane, shipment, known }) => {
                let mut late = outcomes.into_iter();
                let all: Vec<Outcome> =
                    known.into_iter().map(|one| one.or_else(|| late.next()).expect("one each")).collect();
                self.count_refused(&all);
                if self.is_lost(host, from) {
                    return self.lose(from, life, host, lane, shipment);
                }
                let receipt = Box::new(Receipt::of(&all, credit, Durability::Fsync));
                let delay = self.links.delay(host, from, &mut self.rng);
                self.later(delay, Happening::Sent { from, life, to: host, shipment, result: Ok(receipt) });
            }
            Some(Asker::Again) => self.again = outcomes,
            None => {}
        }
    }

    fn count_refused(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            if let Outcome::Refused(rejection) = outcome
                && rejection.retry_after().is_none()
            {
                *self.ledger.refused.entry(rejection.code()).or_insert(0) += 1;
            }
        }
    }
}
