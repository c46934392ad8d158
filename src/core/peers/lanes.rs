//! Lanes: who is dialled when, and what follows from an answer or none.

use std::time::Duration;

use super::super::note::Note;
use super::super::params::{AWAY_MAX, FAILURES_MAX, NEVER_FAILURES_MAX, SUSPECT_FOR, SUSPECT_RETRY_MAX};
use super::super::ports::{LaneId, Origin, Output, Welcome};
use super::super::tier::Tier;
use super::book::{Said, group_of};
use super::state::{Standing, State};
use super::{Peer, Peers};
use crate::time::{Mono, Now, Wall};
use crate::wire::{HostPort, NodeId, Word};

impl Peers {
    /// True when this is the lane we wait for.
    pub(in crate::core) fn on_connected(
        &mut self,
        id: NodeId,
        lane: LaneId,
        rtt: Duration,
        now: Now,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(peer) = self.table.get_mut(&id) else {
            if self.book.lane_to(&id) == Some(lane) {
                // It is there, and there is no room for it in the table.
                out.push(Output::Hangup { lane, peer: id });
                self.answered(id, now, out);
            }
            return false;
        };
        if !matches!(peer.state, State::Dialling { lane: expected } if expected == lane) {
            return false;
        }
        peer.state = State::Connected { lane, since: now.mono };
        (peer.rtt, peer.seen, peer.verified) = (Some(rtt), Some(now.wall), Some(now.wall));
        (peer.suspected, peer.exchange_at) = (None, now.mono);
        self.changed |= !std::mem::replace(&mut peer.proven, true);
        self.neighbours_changed = true;
        self.luck.answered(id, now.mono);
        self.enter(id, now);
        self.turns.tell(id, Standing::Connected, "", now.wall, out);
        out.push(Output::Note(Note::PeerConnected(id)));
        true
    }

    /// A peer that let itself be dialled is worth remembering beyond its place in the table. One that was
    /// typed in is remembered as such.
    fn enter(&mut self, id: NodeId, now: Now) {
        let Some(peer) = self.table.get(&id).filter(|peer| peer.origin != Origin::Manual) else { return };
        let at = peer.told(self.rules.profile, &self.own);
        let Some(first) = at.first() else { return };
        let source = group_of(&first.host);
        let record = peer.record.clone();
        let (tier, root, word) = (peer.tier, peer.root, peer.word.unwrap_or(Word::Far));
        if let [only] = at.as_slice() {
            // Of several nobody knows here which one answered.
            self.make_way(&id, only);
        }
        self.book.hear(Said { id, record, at, tier, root, teller: None, source, word }, now);
        self.book.verify(&id, now);
    }

    /// The key of a node answered there: whoever is only said to be there does not keep it out of the book.
    pub(super) fn make_way(&mut self, id: &NodeId, at: &HostPort) {
        for gone in self.book.make_way(id, at) {
            if !self.table.contains_key(&gone) {
                self.turns.forget(&gone);
                self.roster.remove(&gone);
            }
        }
    }

    /// The key of a node of the book answered, and no lane to it stands.
    pub(super) fn answered(&mut self, id: NodeId, now: Now, out: &mut Vec<Output>) {
        self.luck.answered(id, now.mono);
        self.book.verify(&id, now);
        self.roster.vouch(&id);
        if self.book.get(&id).is_some() {
            self.turns.tell(id, Standing::Verified, "", now.wall, out);
        }
    }

    /// True when this was the lane in use.
    pub(in crate::core) fn on_broken(
        &mut self,
        id: NodeId,
        lane: LaneId,
        why: String,
        now: Now,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(peer) = self.table.get_mut(&id) else {
            if self.book.lane_to(&id) == Some(lane) {
                self.missed(id, &why, now, out);
            }
            return false;
        };
        match peer.state {
            State::Dialling { lane: current } if current == lane => {}
            State::Connected { lane: current, since } if current == lane => {
                if now.mono.since(since) >= self.rules.steady_after {
                    peer.tally.succeed(now.mono);
                    peer.suspected = Some(now.mono);
                }
            }
            _ => return false,
        }
        peer.suspected = peer.suspected.filter(|since| now.mono.since(*since) < SUSPECT_FOR);
        let longest = match (peer.suspected, peer.origin) {
            (Some(_), _) => SUSPECT_RETRY_MAX,
            (None, Origin::Manual) => self.rules.backoff_manual_max,
            (None, Origin::Inbound | Origin::Found) => self.rules.backoff_max,
        };
        let cap = peer.tally.fail(&id, &self.luck, longest, now.mono);
        let wait = Duration::from_micros(self.rng.u64(0..=u64::try_from(cap.as_micros()).unwrap_or(u64::MAX)));
        let until = now.mono + wait;
        self.neighbours_changed = true;
        if peer.is_hopeless(now.wall) {
            peer.state = State::Dead { since: now.wall, why: why.clone() };
            peer.chosen = false;
            self.turns.tell(id, Standing::Dead, &why, now.wall, out);
            return true;
        }
        let (state, standing) = match peer.suspected {
            Some(_) => (State::Suspect { until, why: why.clone() }, Standing::Suspect),
            None => (State::Backoff { until, why: why.clone() }, Standing::Backoff),
        };
        peer.state = state;
        self.turns.tell(id, standing, &why, now.wall, out);
        out.push(Output::Note(Note::PeerBackoff { peer: id, why, retry: wait }));
        true
    }

    /// A dial of a node of the book came to nothing.
    pub(super) fn missed(&mut self, id: NodeId, why: &str, now: Now, out: &mut Vec<Output>) {
        let longest = self.rules.backoff_max;
        let Some(known) = self.book.get_mut(&id) else { return };
        known.probe = None;
        known.why = why.to_owned();
        let cap = known.tally.fail(&id, &self.luck, longest, now.mono);
        let wait = Duration::from_micros(self.rng.u64(0..=u64::try_from(cap.as_micros()).unwrap_or(u64::MAX)));
        known.until = now.mono + wait;
        let failures = known.tally.failures;
        let is_dead = match known.verified {
            None => failures >= NEVER_FAILURES_MAX,
            Some(at) => failures >= FAILURES_MAX && now.wall.since(at) >= AWAY_MAX,
        };
        if is_dead {
            known.dead.get_or_insert(now.wall);
        }
        let standing = if is_dead { Standing::Dead } else { Standing::Backoff };
        self.book.changed = true;
        self.turns.tell(id, standing, why, now.wall, out);
        self.book.demote(&id);
    }

    /// Another key answered where this node should be.
    pub(in crate::core) fn on_mistaken(
        &mut self,
        id: NodeId,
        at: &HostPort,
        found: NodeId,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let known = self.book.get(&id);
        let teller = known.and_then(|known| known.teller);
        let (tier, root, word) =
            known.map_or((Tier::Exchange, Tier::Exchange, Word::Far), |known| (known.tier, known.root, known.word));
        let is_typed = self.table.get(&id).is_some_and(|peer| peer.typed.contains(at));
        if is_typed {
            return; // that is for the person who typed it: the reason of the backoff says it
        }
        let lane = self.book.lane_to(&id);
        self.book.strike(&id, at);
        if self.book.get(&id).is_none() && !self.table.contains_key(&id) {
            if let Some(lane) = lane {
                out.push(Output::Hangup { lane, peer: id });
            }
            self.turns.forget(&id);
            self.roster.remove(&id);
        }
        self.blame(teller, now, out);
        // Whoever it is, he is there: better known than by any word.
        if found != self.me && !self.is_closed_to(&found) && self.allows(at) {
            let source = group_of(&at.host);
            self.make_way(&found, at);
            let said = Said { id: found, record: None, at: vec![at.clone()], tier, root, teller: None, source, word };
            self.hear(said, "its key answered where another was looked for", now, out);
            if self.book.get(&found).is_some() {
                self.answered(found, now, out);
            }
        }
    }

    pub(in crate::core) fn on_pong(&mut self, id: NodeId, rtt: Duration, now: Now) {
        if let Some(peer) = self.table.get_mut(&id) {
            peer.rtt = Some(rtt);
            self.on_answered(id, now);
        }
    }

    pub(in crate::core) fn on_answered(&mut self, id: NodeId, now: Now) {
        if let Some(peer) = self.table.get_mut(&id) {
            (peer.seen, peer.verified) = (Some(now.wall), Some(now.wall));
            self.luck.answered(id, now.mono);
        }
    }

    /// Dials every peer whose time has come.
    pub(in crate::core) fn dial_due(&mut self, now: Now, out: &mut Vec<Output>) {
        for (id, peer) in &mut self.table {
            if peer.state.due().is_none_or(|until| until > now.mono) {
                continue;
            }
            if peer.welcome == Welcome::Asks {
                peer.state = State::Asking;
                continue;
            }
            let Some((at, word)) = peer.next_address(self.rules.profile, &self.own) else {
                peer.state = State::Waiting;
                continue;
            };
            let lane = LaneId(self.next_lane);
            self.next_lane += 1;
            peer.state = State::Dialling { lane };
            peer.last_dial = Some(now.mono);
            self.turns.tell(*id, Standing::Probing, "", now.wall, out);
            out.push(Output::Dial { peer: *id, lane, at, word });
        }
    }

    pub(in crate::core) fn hang_up_all(&mut self, out: &mut Vec<Output>) {
        for (id, peer) in &self.table {
            if let Some(lane) = peer.state.lane() {
                out.push(Output::Hangup { lane, peer: *id });
            }
        }
        for (id, _) in self.book.iter() {
            if let Some(lane) = self.book.lane_to(id) {
                out.push(Output::Hangup { lane, peer: *id });
            }
        }
    }

    pub(in crate::core) fn deadline(&self) -> Option<Mono> {
        self.table.values().filter_map(|peer| peer.state.due()).min()
    }
}

impl Peer {
    /// Given up, but for a dial now and then. One that calls on us is not, and one that was typed in never.
    fn is_hopeless(&self, now: Wall) -> bool {
        let last = self.seen.unwrap_or(self.since);
        match (self.origin, self.proven) {
            (Origin::Manual, _) => false,
            (_, false) => self.tally.failures >= NEVER_FAILURES_MAX && now.since(last) > SUSPECT_FOR * 10,
            (_, true) => self.tally.failures >= FAILURES_MAX && now.since(last) >= AWAY_MAX,
        }
    }
}
