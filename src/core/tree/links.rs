//! Lanes to nodes that are no peers: made when something is to be sent, kept while it goes on.
//!
//! A peer's lane is used where there is one. A node that becomes a peer meanwhile gets a lane of its own,
//! and the link is forgotten: the newer lane to one node replaces the older.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::params::{LINK_IDLE, LINK_RETRY_MOST, LINK_TIDY, LINKS_MAX};
use super::super::peers::{Peers, Reach};
use super::super::ports::{LaneId, Output};
use crate::time::Mono;
use crate::wire::NodeId;

/// All links.
#[derive(Default)]
pub(super) struct Links {
    all: BTreeMap<NodeId, Link>,
    tidy_at: Mono,
}

struct Link {
    state: State,
    /// Dials in a row that failed.
    failures: u32,
    used: Mono,
}

enum State {
    Coming(LaneId),
    Up(LaneId, Duration),
    Down(Mono),
}

impl Links {
    pub(super) fn reach(&self, id: &NodeId, now: Mono) -> Reach {
        match self.all.get(id).map(|link| &link.state) {
            Some(State::Up(lane, rtt)) => Reach::Up(*lane, Some(*rtt)),
            Some(State::Coming(_)) => Reach::Coming,
            Some(State::Down(until)) if *until > now => Reach::Away,
            Some(State::Down(_)) | None => Reach::Untried,
        }
    }

    /// Is a dial of ours to it under way?
    pub(super) fn is_coming(&self, id: &NodeId) -> bool {
        self.all.get(id).is_some_and(|link| matches!(link.state, State::Coming(_)))
    }

    /// Begins to make a lane. False when there is nowhere to dial, or no room for one more.
    pub(super) fn dial(&mut self, id: NodeId, peers: &mut Peers, now: Mono, out: &mut Vec<Output>) -> bool {
        let is_full = self.all.len() >= LINKS_MAX && !self.all.contains_key(&id);
        let Some((at, word)) = peers.places_of(&id).filter(|_| !is_full) else { return false };
        let lane = peers.new_lane();
        let link = self.all.entry(id).or_insert(Link { state: State::Coming(lane), failures: 0, used: now });
        (link.state, link.used) = (State::Coming(lane), now);
        out.push(Output::Dial { peer: id, lane, at, word });
        true
    }

    /// True when this is the lane we wait for.
    pub(super) fn on_connected(&mut self, id: &NodeId, lane: LaneId, rtt: Duration, now: Mono) -> bool {
        let Some(link) = self.all.get_mut(id) else { return false };
        if !matches!(link.state, State::Coming(expected) if expected == lane) {
            return false;
        }
        (link.state, link.failures, link.used) = (State::Up(lane, rtt), 0, now);
        true
    }

    /// True when this was a lane of ours.
    pub(super) fn on_broken(&mut self, id: &NodeId, lane: LaneId, now: Mono) -> bool {
        let Some(link) = self.all.get_mut(id) else { return false };
        if !matches!(link.state, State::Coming(current) | State::Up(current, _) if current == lane) {
            return false;
        }
        let pause = LINK_RETRY_MOST.min(Duration::from_secs(1 << link.failures.min(16)));
        link.failures += 1;
        link.state = State::Down(now + pause);
        true
    }

    /// What was sent by it is lost, whatever we believed: another lane took its place, or it is gone.
    pub(super) fn lose(&mut self, id: &NodeId, now: Mono) {
        if let Some(link) = self.all.get_mut(id).filter(|link| matches!(link.state, State::Up(..))) {
            link.state = State::Down(now + Duration::from_secs(1));
        }
    }

    pub(super) fn used(&mut self, id: &NodeId, now: Mono) {
        if let Some(link) = self.all.get_mut(id) {
            link.used = now;
        }
    }

    /// It is a peer now. True when there was a link.
    pub(super) fn forget(&mut self, id: &NodeId) -> bool {
        self.all.remove(id).is_some()
    }

    fn hang_up(&mut self, id: &NodeId, out: &mut Vec<Output>) {
        if let Some(Link { state: State::Coming(lane) | State::Up(lane, _), .. }) = self.all.remove(id) {
            out.push(Output::Hangup { lane, peer: *id });
        }
    }

    /// Lets go those that were not used for long; gives their ids.
    pub(super) fn tidy(&mut self, now: Mono, out: &mut Vec<Output>) -> Vec<NodeId> {
        if self.all.is_empty() || self.tidy_at > now {
            return Vec::new();
        }
        self.tidy_at = now + LINK_TIDY;
        let is_idle = |link: &Link| now.since(link.used) >= LINK_IDLE;
        let idle: Vec<NodeId> = self.all.iter().filter(|(_, link)| is_idle(link)).map(|(id, _)| *id).collect();
        idle.iter().for_each(|id| self.hang_up(id, out));
        idle
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        (!self.all.is_empty()).then_some(self.tidy_at)
    }

    pub(super) fn hang_up_all(&mut self, out: &mut Vec<Output>) {
        let all: Vec<NodeId> = self.all.keys().copied().collect();
        all.iter().for_each(|id| self.hang_up(id, out));
    }

    /// Where there is room for no more, whoever was used longest ago gives way.
    pub(super) fn make_room(&mut self, now: Mono, out: &mut Vec<Output>) -> Option<NodeId> {
        if self.all.len() < LINKS_MAX {
            return None;
        }
        // Who did not answer keeps its pause.
        let is_free = |link: &Link| match link.state {
            State::Coming(_) => false,
            State::Up(..) => true,
            State::Down(until) => until <= now,
        };
        let idlest = self.all.iter().filter(|(_, link)| is_free(link)).min_by_key(|(_, link)| link.used);
        let id = idlest.map(|(id, _)| *id)?;
        self.hang_up(&id, out);
        Some(id)
    }
}
