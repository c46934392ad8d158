//! What a run showed: figures, and the promises that were broken.

use std::time::Duration;

use super::Swarm;
use super::host::Role;
use crate::wire::event::HOPS_MAX;
use crate::wire::message::{BODY_BYTES_MAX, LINES_MAX};

/// What a run showed.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// Events whose publishers were told that they are durable.
    pub acknowledged: usize,
    /// Nodes that ask for the events, dead ones not counted.
    pub interested: usize,
    /// Events that became durable at a node that asked for them.
    pub deliveries: u64,
    /// Lines that reached a node that asks for them, for each delivery: 1 = nothing came twice.
    pub copies: f64,
    /// Most links that an event crossed to a node.
    pub hops_max: u8,
    /// The mean.
    pub hops_avg: f64,
    /// From handing in to durable at the other end; of nodes that are neither slow nor were away.
    pub p50: Duration,
    /// Of 99 in 100.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
    /// Share of the deliveries that are owed that were made five seconds after the last event.
    pub coverage_before: f64,
    /// The same after some time without faults.
    pub coverage: f64,
    /// Most lines that one node sent of one event.
    pub sends_max: u32,
    /// Most nodes to which one node sent lines.
    pub neighbours_max: usize,
    /// The mean.
    pub neighbours_avg: f64,
    /// Bytes of lines that a node got, the mean.
    pub bytes_in_avg: f64,
    /// Bytes of lines that one node sent at most.
    pub bytes_out_max: u64,
    /// Lines that reached nodes that did not ask for them.
    pub unasked_lines: u64,
    /// Their bytes.
    pub unasked_bytes: u64,
    /// Most lines that a node had in hand for one peer.
    pub in_hand_max: usize,
    /// Connections that were made.
    pub dials: u64,
    /// Requests that were not answered.
    pub lost: u64,
    /// Nodes that crashed.
    pub crashes: u64,
    /// Virtual time that passed.
    pub lasted: Duration,
    /// Inputs that nodes handled.
    pub steps: u64,
    /// Equal for equal plans, and for nothing else.
    pub trace: u64,
    /// Promises that were broken, in words; none in a sound run.
    pub broken: Vec<String>,
}

impl Swarm {
    /// Share of the deliveries that are owed that were made: each event whose publisher was told that it is
    /// durable is owed to every node that asks for it, and is not dead.
    pub(super) fn coverage(&self) -> f64 {
        let (made, owed) = self.owed();
        if owed == 0 { 1.0 } else { made as f64 / owed as f64 }
    }

    fn owed(&self) -> (u64, u64) {
        let (mut made, mut owed) = (0, 0);
        for (number, host) in (0u32..).zip(&self.hosts) {
            if !host.is_interested || host.role == Role::Dead {
                continue;
            }
            for (event, published) in self.ledger.events() {
                if published.is_acknowledged && published.origin != number {
                    owed += 1;
                    made += u64::from(host.journal.holds(event));
                }
            }
        }
        (made, owed)
    }

    pub(super) fn report(&mut self) -> Report {
        let broken = self.broken();
        let coverage = self.coverage();
        let interested = self.hosts.iter().filter(|host| host.is_interested && host.role != Role::Dead).count();
        self.ledger.spans.sort_unstable();
        let ledger = &self.ledger;
        let [p50, p99, max] = [50, 99, 100].map(|percent| percentile(&ledger.spans, percent));
        let per_delivery = |count: u64| count as f64 / ledger.deliveries.max(1) as f64;
        let living = self.hosts.iter().filter(|host| host.role != Role::Dead).count().max(1);
        let neighbours = || ledger.traffic.iter().map(|traffic| traffic.neighbours.len());
        Report {
            acknowledged: ledger.events().filter(|(_, event)| event.is_acknowledged).count(),
            interested,
            deliveries: ledger.deliveries,
            copies: per_delivery(ledger.lines),
            hops_max: ledger.hops_max,
            hops_avg: per_delivery(ledger.hops_sum),
            p50,
            p99,
            max,
            coverage_before: self.coverage_before,
            coverage,
            sends_max: ledger.sends_max,
            neighbours_max: neighbours().max().unwrap_or(0),
            neighbours_avg: neighbours().sum::<usize>() as f64 / living as f64,
            bytes_in_avg: ledger.traffic.iter().map(|traffic| traffic.bytes_in).sum::<u64>() as f64 / living as f64,
            bytes_out_max: ledger.traffic.iter().map(|traffic| traffic.bytes_out).max().unwrap_or(0),
            unasked_lines: ledger.unasked.0,
            unasked_bytes: ledger.unasked.1,
            in_hand_max: ledger.in_hand_max,
            dials: ledger.dials,
            lost: ledger.lost,
            crashes: ledger.crashes,
            lasted: Duration::from_micros(self.now.0),
            steps: self.steps,
            trace: self.trace,
            broken,
        }
    }

    /// Every promise that holds once all is quiet, and does not.
    fn broken(&self) -> Vec<String> {
        let ledger = &self.ledger;
        let mut broken = Vec::new();
        let (made, owed) = self.owed();
        if made < owed {
            let example = self.missing().unwrap_or_default();
            broken.push(format!("{} of {owed} deliveries were never made{example}", owed - made));
        }
        if ledger.unasked.0 > 0 {
            broken.push(format!("{} lines reached nodes that did not ask for them", ledger.unasked.0));
        }
        for (code, lines) in &ledger.refused {
            broken.push(format!("{lines} lines were refused as {code}"));
        }
        let in_hand_max = 2 * self.params.peer_queue_max;
        if ledger.in_hand_max > in_hand_max {
            broken.push(format!("{} lines in hand for one peer, {in_hand_max} at most", ledger.in_hand_max));
        }
        if ledger.body_max.0 > LINES_MAX || ledger.body_max.1 > BODY_BYTES_MAX {
            broken.push(format!("a body of {} lines and {} bytes", ledger.body_max.0, ledger.body_max.1));
        }
        if ledger.hops_max > HOPS_MAX {
            broken.push(format!("an event crossed {} links", ledger.hops_max));
        }
        broken
    }

    fn missing(&self) -> Option<String> {
        let owes = |(number, _): &(u32, _)| {
            let miss = self.ledger.events().find(|(event, published)| {
                let host = &self.hosts[*number as usize];
                let is_owed = host.is_interested && host.role != Role::Dead && published.origin != *number;
                published.is_acknowledged && is_owed && !host.journal.holds(*event)
            });
            miss.map(|(event, published)| (*number, event, published.origin))
        };
        let (host, event, origin) = (0u32..).zip(&self.hosts).find_map(|one| owes(&one))?;
        Some(format!(", such as event {event} of node {origin} to node {host}"))
    }
}

/// Of sorted spans the smallest that so many of a hundred do not exceed.
fn percentile(spans: &[u32], percent: usize) -> Duration {
    let rank = (spans.len() * percent).div_ceil(100).max(1);
    Duration::from_micros(spans.get(rank - 1).copied().unwrap_or(0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let spans: Vec<u32> = (1..=200).collect();
        let of = |percent| percentile(&spans, percent).as_micros();
        assert_eq!((of(50), of(99), of(100)), (100, 198, 200));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
        assert_eq!(percentile(&[7], 99).as_micros(), 7);
    }
}
