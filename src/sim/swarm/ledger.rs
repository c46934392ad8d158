//! What is counted while a swarm runs: every delivery, every line, every byte.

use std::collections::{BTreeMap, HashMap};

use crate::time::Mono;
use crate::wire::{Code, Digest, Envelope, Verified};

/// An event of the swarm.
pub(super) struct Published {
    pub(super) envelope: Verified<Envelope>,
    pub(super) origin: u32,
    pub(super) at: Mono,
    /// Its publisher was told that it is durable.
    pub(super) is_acknowledged: bool,
}

/// What one machine sent and got.
#[derive(Clone, Default)]
pub(super) struct Traffic {
    pub(super) bytes_out: u64,
    pub(super) bytes_in: u64,
    /// To whom it sent lines, in order.
    pub(super) neighbours: Vec<u32>,
}

/// All accounts of a run.
#[derive(Default)]
pub(super) struct Ledger {
    events: Vec<Published>,
    by_digest: HashMap<Digest, u32>,
    /// Microseconds of each delivery to a machine that is timed, in no order that means anything.
    pub(super) spans: Vec<u32>,
    /// Deliveries: an event that is durable at a machine that asked for it, and is not its origin.
    pub(super) deliveries: u64,
    pub(super) hops_sum: u64,
    pub(super) hops_max: u8,
    /// Lines that reached machines that ask for them.
    pub(super) lines: u64,
    /// Lines that reached anybody else, and the bytes of them.
    pub(super) unasked: (u64, u64),
    /// Lines that each machine sent of each event.
    sends: HashMap<u64, u32>,
    pub(super) sends_max: u32,
    pub(super) traffic: Vec<Traffic>,
    /// Lines that were refused for good.
    pub(super) refused: BTreeMap<Code, u64>,
    /// Requests that came to nothing: they, or their answers, got lost, or nobody was there.
    pub(super) lost: u64,
    pub(super) dials: u64,
    pub(super) crashes: u64,
    /// Most lines that a node had in hand for one peer, wherever that was looked at.
    pub(super) in_hand_max: usize,
    /// Most lines of one body, and most bytes of it.
    pub(super) body_max: (usize, usize),
}

impl Ledger {
    pub(super) fn new(hosts: usize) -> Ledger {
        Ledger { traffic: vec![Traffic::default(); hosts], ..Ledger::default() }
    }

    pub(super) fn publish(&mut self, envelope: Verified<Envelope>, origin: u32, at: Mono) -> u32 {
        let event = u32::try_from(self.events.len()).expect("few events");
        self.by_digest.insert(envelope.digest(), event);
        self.events.push(Published { envelope, origin, at, is_acknowledged: false });
        event
    }

    pub(super) fn acknowledge(&mut self, event: u32) {
        self.events[event as usize].is_acknowledged = true;
    }

    pub(super) fn event(&self, event: u32) -> &Published {
        &self.events[event as usize]
    }

    pub(super) fn events(&self) -> impl Iterator<Item = (u32, &Published)> {
        (0u32..).zip(&self.events)
    }

    pub(super) fn number_of(&self, digest: &Digest) -> Option<u32> {
        self.by_digest.get(digest).copied()
    }

    /// `from` sends one line to `to`.
    pub(super) fn send(&mut self, from: u32, to: u32, event: u32, bytes: usize) {
        let sent = self.sends.entry(u64::from(event) << 32 | u64::from(from)).or_insert(0);
        *sent += 1;
        self.sends_max = self.sends_max.max(*sent);
        let traffic = &mut self.traffic[from as usize];
        traffic.bytes_out += bytes as u64;
        if let Err(at) = traffic.neighbours.binary_search(&to) {
            traffic.neighbours.insert(at, to);
        }
    }

    /// One line reached `to`.
    pub(super) fn arrive(&mut self, to: u32, is_asked_for: bool, bytes: usize) {
        self.traffic[to as usize].bytes_in += bytes as u64;
        if is_asked_for {
            self.lines += 1;
        } else {
            self.unasked.0 += 1;
            self.unasked.1 += bytes as u64;
        }
    }

    /// An event became durable where it was asked for, `hops` links from its origin.
    pub(super) fn deliver(&mut self, event: u32, hops: u8, at: Mono, is_timed: bool) {
        self.deliveries += 1;
        self.hops_sum += u64::from(hops);
        self.hops_max = self.hops_max.max(hops);
        if is_timed {
            let span = at.since(self.event(event).at);
            self.spans.push(u32::try_from(span.as_micros()).unwrap_or(u32::MAX));
        }
    }
}
