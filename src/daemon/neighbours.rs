//! Who is known, how that came, and what a person decides about one of them.

use tokio::sync::oneshot;

use super::driver::{Driver, Waiting};
use super::facts;
use crate::admin::answers::{Moved, Peers};
use crate::admin::{Fault, FaultCode};
use crate::core::params::BLOCKED_MAX;
use crate::core::ports::{Input, Order};
use crate::core::{PeerState, PeerView, Turn};
use crate::wire::NodeId;

impl Driver {
    /// The peers and whoever is blocked; with everybody else, when `all` are asked for.
    pub(super) fn known(&self, all: bool) -> Peers {
        let now = self.clock.now();
        let view = self.node.view();
        let is_blocked = |peer: &PeerView| matches!(peer.state, PeerState::Blocked { .. });
        let (blocked, quarantined): (Vec<_>, Vec<_>) = self.node.outcasts(now).into_iter().partition(is_blocked);
        let mut peers: Vec<PeerView> = view.peers.into_iter().chain(blocked).collect();
        if !all {
            return facts::peers(&peers, view.strangers + quarantined.len(), now.mono);
        }
        peers.extend(quarantined);
        peers.extend(self.node.strangers(now));
        facts::peers(&peers, 0, now.mono)
    }

    pub(super) fn history(&self, id: &NodeId) -> Vec<Moved> {
        let moved = |turn: Turn| Moved { at: Some(turn.at), state: facts::state_by(turn.to), why: turn.why };
        self.node.history(id).into_iter().map(moved).collect()
    }

    /// What holds already is not written again.
    pub(super) fn decide(&mut self, id: NodeId, order: Order, answer: oneshot::Sender<Result<(), Fault>>) {
        match self.may_decide(id, &order) {
            Ok(true) => {
                let ticket = self.ticket(Waiting::Saved(answer));
                self.feed(Input::Ordered { ticket, id, order });
            }
            Ok(false) => drop(answer.send(Ok(()))),
            Err(fault) => drop(answer.send(Err(fault))),
        }
    }

    /// True when it changes something.
    fn may_decide(&self, id: NodeId, order: &Order) -> Result<bool, Fault> {
        let is_blocked = self.node.is_blocked(&id);
        match order {
            Order::Accept if is_blocked => Err(blocked()),
            Order::Accept => {
                let peers = self.node.view().peers;
                let peer = peers.iter().find(|peer| peer.id == id);
                let peer = peer.ok_or_else(|| Fault::new(FaultCode::NoSuchPeer, "it has not asked"))?;
                Ok(peer.asks || self.unsaved.is_some())
            }
            Order::Block { .. } if id == self.hands.net.id() => {
                Err(Fault::new(FaultCode::OwnAddress, "this is the id of this very node"))
            }
            Order::Block { .. } if !is_blocked && self.hands.blocked.borrow().len() >= BLOCKED_MAX => {
                let why = format!("{BLOCKED_MAX} nodes are the most; `trust.allow` names those that may come instead");
                Err(Fault::new(FaultCode::BlockedFull, why))
            }
            Order::Block { .. } => Ok(true),
            Order::Unblock => Ok(is_blocked || self.unsaved_book.is_some()),
        }
    }
}

/// What stands in the way of everything else.
pub(super) fn blocked() -> Fault {
    Fault::new(FaultCode::Blocked, "the node is blocked here, and has to be unblocked first")
}
