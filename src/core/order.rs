//! What a person decides about one node: that it may be a neighbour, or that nothing is to do with it.

use super::Node;
use super::ports::{Output, Ticket};
use crate::time::Now;
use crate::wire::NodeId;

/// The decision. Said twice it changes nothing more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// It may be a neighbour.
    Accept,
    /// Nothing is taken from it and nothing given to it, until a person says otherwise.
    Block {
        /// Why, for people of this node; at most [`super::params::REASON_MAX`] characters.
        why: String,
    },
    /// It may come again.
    Unblock,
}

impl Node {
    pub(super) fn on_order(&mut self, ticket: Ticket, id: NodeId, order: Order, now: Now, out: &mut Vec<Output>) {
        match order {
            Order::Accept => {
                self.peers.accept(&id, now);
                self.open_welcomed(out);
                self.save_peers(Some(ticket), out);
            }
            Order::Block { why } => {
                self.peers.block(id, &why, now, out);
                self.close_forgotten(out);
                self.save_book(Some(ticket), now.wall, out);
            }
            Order::Unblock => {
                self.peers.unblock(&id, now, out);
                self.open_welcomed(out);
                self.save_book(Some(ticket), now.wall, out);
            }
        }
    }

    /// Whoever may be a neighbour from now on is owed what comes from now on.
    pub(super) fn open_welcomed(&mut self, out: &mut Vec<Output>) {
        for peer in self.peers.take_welcomed() {
            self.tree.begin_with(peer, self.outbox.head());
            self.open_account(peer, out);
        }
    }
}
