//! Who is left alone for a while: a node that said goodbye, and one that is in quarantine.

use super::super::params::{LEFT_FOR, MISTAKES_MAX, QUARANTINE};
use super::super::ports::{Origin, Output};
use super::state::{Standing, State};
use super::{Peer, Peers};
use crate::time::{Mono, Now, Wall};
use crate::wire::{NodeId, Record, Verified};

impl Peers {
    /// A node said goodbye. One that was typed in is looked for now and then, since it may come back
    /// without a way to tell us. True when it was a peer.
    pub(in crate::core) fn on_left(&mut self, goodbye: Verified<Record>, now: Now, out: &mut Vec<Output>) -> bool {
        let id = goodbye.id();
        let held = self.table.get(&id).and_then(|peer| peer.record.as_ref());
        let held = held.or_else(|| self.book.get(&id).and_then(|known| known.record.as_ref()));
        if held.is_some_and(|held| !goodbye.supersedes(held)) {
            return false; // said before, or taken back since
        }
        let is_manual = self.is_manual(&id);
        self.enrol(&goodbye, None, now.wall);
        if let Some(peer) = self.table.get_mut(&id) {
            peer.seen = Some(now.wall);
            self.take_record(goodbye, now.wall);
        }
        let wait = if is_manual { self.rules.backoff_max } else { LEFT_FOR };
        self.leave_alone(id, Some(now.mono + wait), Standing::Left, "it said goodbye", now, out)
    }

    /// A node cheated: nothing is taken from it for a day. True when that is news. One that a person typed in
    /// is listened to all the same.
    pub(in crate::core) fn quarantine(&mut self, id: NodeId, why: &str, now: Now, out: &mut Vec<Output>) -> bool {
        let is_new = self.shunned.quarantine(id, why, now.wall);
        if !self.is_manual(&id) && !self.is_blocked(&id) {
            if self.leave_alone(id, Some(now.mono + QUARANTINE), Standing::Quarantine, why, now, out) {
                self.cut.push(id);
            }
            self.cross_out(&id, out);
            self.roster.remove(&id);
        }
        is_new
    }

    /// Is nothing taken from this node now?
    pub(in crate::core) fn is_shunned(&self, id: &NodeId, now: Wall) -> bool {
        self.is_blocked(id) || (self.shunned.get(id, now).is_some() && !self.is_manual(id))
    }

    /// Lets a node go until then. True when it was a peer.
    pub(super) fn leave_alone(
        &mut self,
        id: NodeId,
        until: Option<Mono>,
        standing: Standing,
        why: &str,
        now: Now,
        out: &mut Vec<Output>,
    ) -> bool {
        let is_known = self.table.contains_key(&id) || self.book.get(&id).is_some();
        if let Some(known) = self.book.get_mut(&id) {
            known.shut = until.map(|until| (until, standing));
            known.why = why.to_owned();
        }
        if is_known {
            self.turns.tell(id, standing, why, now.wall, out);
        }
        let Some(peer) = self.table.get_mut(&id) else { return false };
        if let Some(lane) = peer.state.lane() {
            out.push(Output::Hangup { lane, peer: id });
        }
        peer.tally.succeed(now.mono);
        peer.suspected = None;
        peer.chosen = false;
        peer.state = State::Shut { until, standing, why: why.to_owned() };
        self.neighbours_changed = true;
        true
    }

    /// A node told of somebody who is not there. Who does so again and again is not listened to.
    pub(super) fn blame(&mut self, teller: Option<NodeId>, now: Now, out: &mut Vec<Output>) {
        let Some(id) = teller else { return };
        let Some(peer) = self.table.get_mut(&id).filter(|peer| peer.origin != Origin::Manual) else { return };
        peer.mistakes += 1;
        if peer.mistakes >= MISTAKES_MAX {
            peer.mistakes = 0;
            self.quarantine(id, "it told of too many nodes that are somebody else", now, out);
        }
    }
}

impl Peer {
    /// The last that it said is goodbye.
    pub(super) fn has_left(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.bye)
    }

    /// Nothing is looked for there: it left, or is in quarantine, or blocked.
    pub(super) fn is_shut(&self) -> bool {
        matches!(self.state, State::Shut { .. }) || self.has_left()
    }
}
