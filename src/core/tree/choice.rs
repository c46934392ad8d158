//! Who carries a bucket: a node of it that we have known for a while, that keeps up, that we trust, to
//! which a lane stands, and then by a hash that stays for an hour, so that a node settles at few neighbours.

use std::collections::{BTreeMap, BTreeSet};

use super::super::params::{KNOWN_LONG, SAMPLED_MAX};
use super::super::peers::Peers;
use super::super::position::{Position, Prefix};
use super::super::roster::Crowd;
use crate::time::Now;
use crate::wire::{Digest, NodeId};

/// Everybody to whom a lane stands, by position.
#[derive(Default)]
pub(super) struct Candidates {
    connected: BTreeMap<Position, NodeId>,
}

impl Candidates {
    pub(super) fn connect(&mut self, id: NodeId) {
        self.connected.insert(Position::of(&id), id);
    }

    pub(super) fn disconnect(&mut self, id: &NodeId) {
        self.connected.remove(&Position::of(id));
    }

    /// Of a bucket, the best that passes; none when nobody does. Those to whom a lane stands are all looked at, of
    /// the others a few: by the hash, so that it is the same few for an hour.
    pub(super) fn choose(
        &self,
        me: &NodeId,
        bucket: &Prefix,
        crowd: &Crowd,
        peers: &Peers,
        passes: impl Fn(&NodeId) -> bool,
        now: Now,
    ) -> Option<NodeId> {
        let hour = now.wall.hour();
        let connected: BTreeSet<NodeId> =
            self.connected.range(bucket.first()..=bucket.last()).map(|(_, id)| *id).collect();
        let is_in = |id: &&NodeId| crowd.contains(id) && passes(id);
        let best = |ids: &mut dyn Iterator<Item = NodeId>| {
            ids.max_by_key(|id| {
                let is_old = peers.known_since(id).is_some_and(|since| now.wall.since(since) >= KNOWN_LONG);
                (is_old, peers.is_trusted(id), connected.contains(id), lot(hour, me, id))
            })
        };
        let count = crowd.count(bucket);
        let sampled = (0..SAMPLED_MAX.min(count)).filter_map(|turn| {
            let at = draw(hour, me, bucket, turn) % count as u64;
            crowd.nth(bucket, usize::try_from(at).unwrap_or(0))
        });
        let sampled: Vec<NodeId> = sampled.filter(|id| passes(id)).collect();
        let mut all = connected.iter().filter(is_in).copied().chain(sampled);
        if let Some(id) = best(&mut all) {
            return Some(id);
        }
        // Most of the bucket is away, or was tried: whoever passes, in the order of positions.
        crowd.iter(bucket).take(SAMPLED_MAX * 8).find(|id| passes(id))
    }
}

/// The lot of a candidate in this hour.
fn lot(hour: u64, me: &NodeId, candidate: &NodeId) -> u64 {
    let mut bytes = Vec::with_capacity(72);
    bytes.extend_from_slice(&hour.to_be_bytes());
    bytes.extend_from_slice(me.as_bytes());
    bytes.extend_from_slice(candidate.as_bytes());
    first_eight(&bytes)
}

/// Which of a bucket is looked at in this turn.
fn draw(hour: u64, me: &NodeId, bucket: &Prefix, turn: usize) -> u64 {
    let mut bytes = Vec::with_capacity(80 + bucket.digits());
    bytes.extend_from_slice(&hour.to_be_bytes());
    bytes.extend_from_slice(me.as_bytes());
    bytes.extend((0..bucket.digits()).map(|index| bucket.first().digit(index)));
    bytes.extend_from_slice(&turn.to_be_bytes());
    first_eight(&bytes)
}

fn first_eight(bytes: &[u8]) -> u64 {
    let digest = Digest::of(bytes);
    u64::from_be_bytes(digest.as_bytes()[..8].try_into().expect("eight of 32 bytes"))
}
