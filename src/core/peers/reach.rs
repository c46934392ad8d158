//! What the tree asks of the table: is there a lane to this node, where could it be dialled, how well do
//! we know it?

use std::time::Duration;

use super::super::params::Accept;
use super::super::ports::{LaneId, Origin};
use super::Peers;
use super::peer::may_tell;
use super::state::State;
use crate::time::{Now, Wall};
use crate::wire::{HostPort, NodeId, Record, Verified, Word};

/// Whether lines can go to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::core) enum Reach {
    /// By this lane, with this round trip.
    Up(LaneId, Option<Duration>),
    /// A lane is being made.
    Coming,
    /// Not now: it did not answer lately, or we have nothing to do with it.
    Away,
    /// It was not tried.
    Untried,
}

impl Peers {
    /// How a node of the table is reached, or one that is dialled to become a peer; `None` = it is neither.
    pub(in crate::core) fn reach(&self, id: &NodeId) -> Option<Reach> {
        match self.table.get(id) {
            Some(peer) => Some(match peer.state {
                State::Connected { lane, .. } => Reach::Up(lane, peer.rtt),
                State::Dialling { .. } => Reach::Coming,
                _ => Reach::Away,
            }),
            None => self.book.lane_to(id).map(|_| Reach::Coming),
        }
    }

    /// Where a node that is no peer may be dialled, and on whose word.
    pub(in crate::core) fn places_of(&self, id: &NodeId) -> Option<(Vec<HostPort>, Word)> {
        if let Some(known) = self.book.get(id).filter(|known| !known.at.is_empty()) {
            return Some((known.at.clone(), known.word));
        }
        let told = &self.roster.get(id)?.record.addresses;
        let is_open = |at: &&HostPort| may_tell(self.rules.profile, Word::Far, at) && self.allows(at);
        let at: Vec<HostPort> = told.iter().filter(is_open).cloned().collect();
        (!at.is_empty()).then_some((at, Word::Far))
    }

    /// A node that is no peer showed its record on a lane of the tree.
    pub(in crate::core) fn on_met_by_link(&mut self, record: &Verified<Record>, now: Now) {
        self.enrol(record, None, now.wall);
    }

    /// Does anybody take part here, and not only those whom a person accepted?
    pub(in crate::core) fn is_open(&self) -> bool {
        self.rules.accept == Accept::Open
    }

    /// Do we hold its record?
    pub(in crate::core) fn holds(&self, id: &NodeId) -> bool {
        self.roster.get(id).is_some()
    }

    /// When we first heard of it.
    pub(in crate::core) fn known_since(&self, id: &NodeId) -> Option<Wall> {
        self.roster.get(id).map(|member| member.since)
    }

    /// A person typed it in, or named it a member.
    pub(in crate::core) fn is_trusted(&self, id: &NodeId) -> bool {
        self.rules.allow.contains(id) || self.table.get(id).is_some_and(|peer| peer.origin == Origin::Manual)
    }
}
