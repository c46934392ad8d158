//! A round of visits to everybody listed, and what it changes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Entry, Listing};
use crate::time::Wall;
use crate::wire::NodeId;

/// What came of one visit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Visit {
    /// Where.
    pub at: SocketAddr,
    /// Did the node answer?
    pub answered: bool,
}

/// A finished round.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Visits(pub BTreeMap<NodeId, Visit>);

impl Visits {
    /// How many did not answer.
    pub fn missed(&self) -> usize {
        self.0.values().filter(|visit| !visit.answered).count()
    }

    /// More than half did not answer: then it is our own network, and nobody is to blame.
    pub fn blames_us(&self) -> bool {
        self.missed() * 2 > self.0.len()
    }

    /// Notes the round in `listing`, which may have changed since it began: whoever came or moved
    /// meanwhile was not visited there and keeps what it has. Gives who lost its place; when the round
    /// blames ourselves, nothing changes.
    pub fn note_in(&self, listing: &mut Listing, now: Wall) -> Vec<NodeId> {
        if self.blames_us() {
            return Vec::new();
        }
        let mut out = Vec::new();
        for (id, visit) in &self.0 {
            let is_visited = |entry: &&mut Entry| entry.at == visit.at && !entry.is_away();
            let Some(entry) = listing.entries_mut().get_mut(id).filter(is_visited) else { continue };
            if visit.answered {
                entry.answered(now);
            } else if entry.missed() {
                listing.unseat(id, now);
                out.push(*id);
            }
        }
        listing.forget(now);
        out
    }
}
