//! Who may be a neighbour: nodes that come by themselves and wait for a person, and those that a person has
//! nothing to do with.
//!
//! A node that asks is in the table, so that people see it, and that is all: no account is opened for it, it
//! is not dialled, its word moves no more than a stranger's, and whoever comes after it may have its place. What
//! it gives is taken as from any caller. A blocked one keeps its place, name and address, and its account is
//! closed: what comes while it is blocked is not owed to it later.

use std::collections::BTreeSet;

use super::super::params::Accept;
use super::super::ports::{Output, Welcome};
use super::Peers;
use super::state::{Standing, State, Tally};
use crate::time::Now;
use crate::wire::NodeId;

impl Peers {
    /// May this node be a neighbour, when it comes by itself?
    pub(super) fn welcome(&self, id: &NodeId) -> Welcome {
        match self.rules.accept {
            Accept::Ask if !self.rules.allow.contains(id) => Welcome::Asks,
            _ => Welcome::Open,
        }
    }

    /// Are events owed to this node?
    pub(in crate::core) fn is_served(&self, id: &NodeId) -> bool {
        self.table.get(id).is_some_and(|peer| peer.welcome != Welcome::Asks && !peer.is_blocked())
    }

    /// A person accepts a peer; one that did not have to ask stays as it is.
    pub(in crate::core) fn accept(&mut self, id: &NodeId, now: Now) {
        self.let_join(id, Welcome::Accepted, now);
    }

    /// The operator changed who has to ask: whoever waits, and need not any more, is a neighbour now.
    pub(super) fn accept_waiting(&mut self, now: Now) {
        let waiting = self.table.iter().filter(|(_, peer)| peer.welcome == Welcome::Asks).map(|(id, _)| *id);
        let free: Vec<NodeId> = waiting.filter(|id| self.welcome(id) == Welcome::Open).collect();
        for id in free {
            self.let_join(&id, Welcome::Open, now);
        }
    }

    fn let_join(&mut self, id: &NodeId, welcome: Welcome, now: Now) {
        let Some(peer) = self.table.get_mut(id).filter(|peer| peer.welcome == Welcome::Asks) else { return };
        peer.welcome = welcome;
        if matches!(peer.state, State::Asking) {
            peer.state = State::dial_at(now.mono);
        }
        if !peer.is_blocked() {
            self.welcomed.push(*id);
        }
        self.joined = true;
    }

    /// A person blocked it.
    pub(in crate::core) fn is_blocked(&self, id: &NodeId) -> bool {
        self.shunned.is_blocked(id)
    }

    /// From now on there is nothing to do with this node.
    pub(in crate::core) fn block(&mut self, id: NodeId, why: &str, now: Now, out: &mut Vec<Output>) {
        self.shunned.block(id, why, now.wall);
        self.cross_out(&id, out);
        self.roster.remove(&id);
        if self.leave_alone(id, None, Standing::Blocked, why, now, out) {
            self.forgotten.push(id); // its account, not its place
        } else {
            self.turns.tell(id, Standing::Blocked, why, now.wall, out);
        }
    }

    /// It may come again; one that was typed in is dialled at once.
    pub(in crate::core) fn unblock(&mut self, id: &NodeId, now: Now, out: &mut Vec<Output>) {
        if !self.shunned.unblock(id) {
            return;
        }
        self.turns.tell(*id, Standing::Heard, "a person unblocked it", now.wall, out);
        let Some(peer) = self.table.get_mut(id) else { return };
        peer.tally = Tally::default();
        peer.state = State::dial_at(now.mono);
        self.neighbours_changed = true;
        if peer.welcome != Welcome::Asks {
            self.welcomed.push(*id);
        }
        if let Some(record) = peer.record.clone() {
            self.enrol(&record, None, now.wall);
        }
    }

    /// Peers to which events are owed anew since the last call.
    pub(in crate::core) fn take_welcomed(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.welcomed)
    }

    /// Everybody whose requests are refused, once after that changed.
    pub(in crate::core) fn take_blocked(&mut self) -> Option<BTreeSet<NodeId>> {
        std::mem::take(&mut self.shunned.blocks_changed).then(|| self.shunned.blocked().collect())
    }
}
