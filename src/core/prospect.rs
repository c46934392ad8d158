//! Who would get an event of some type from us, were it published now? Asked by people; nothing is sent.

use super::Node;
use crate::time::Wall;
use crate::wire::{EventType, NodeId, Pattern};

/// What stands between a peer and an event of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Prospect {
    /// Nothing: this pattern of it asks for the type.
    Wanted(Pattern),
    /// This pattern asks for everything, which strangers do not get.
    Firehose(Pattern),
    /// None of its patterns asks for the type.
    Unwanted,
    /// We hold no record of it that counts any more, so its patterns are not known.
    Unknown,
    /// The mesh is private, and it is not in it.
    Outside,
    /// It came by itself, and nobody has accepted it.
    Asking,
    /// A person blocked it.
    Blocked,
    /// Such events never leave this node.
    Kept,
}

/// Why what is addressed to a node does not get there from here. An event with `to` goes to peers, and to whoever's
/// record is held where anybody may take part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreached {
    /// It is no peer of ours, and we hold no record of it; or only peers are sent anything.
    Unknown,
    /// It came by itself, and nobody has accepted it.
    Asking,
    /// The mesh is private, and it is not in it.
    Outside,
    /// A person blocked it.
    Blocked,
}

impl Node {
    /// Why an event with this node in `to` would not be owed to it; `None` = it would, or it is for us.
    pub fn unreached(&self, id: &NodeId) -> Option<Unreached> {
        match () {
            () if *id == self.me => None,
            () if self.peers.is_blocked(id) => Some(Unreached::Blocked),
            () if self.peers.is_closed_to(id) => Some(Unreached::Outside),
            () if !self.peers.knows(id) && self.peers.is_open() && self.peers.holds(id) => None,
            () if !self.peers.knows(id) => Some(Unreached::Unknown),
            () if !self.peers.is_served(id) => Some(Unreached::Asking),
            () => None,
        }
    }

    /// What every peer would get, in the order of their ids.
    pub fn prospects(&self, kind: &EventType, now: Wall) -> Vec<(NodeId, Prospect)> {
        let is_outside = |id: &NodeId| self.peers.is_closed_to(id);
        let of = |id: &NodeId, patterns: &[Pattern]| {
            let asking = patterns.iter().find(|pattern| pattern.matches(kind));
            match asking {
                _ if kind.is_local() => Prospect::Kept,
                _ if is_outside(id) => Prospect::Outside,
                _ if self.peers.is_blocked(id) => Prospect::Blocked,
                _ if !self.peers.is_served(id) => Prospect::Asking,
                _ if !self.peers.is_acquainted(id, now) => Prospect::Unknown,
                None => Prospect::Unwanted,
                Some(_) if self.peers.is_interested(id, kind) => {
                    let served = patterns.iter().filter(|pattern| pattern.matches(kind));
                    let named = served.min_by_key(|pattern| pattern.is_firehose()).expect("one asks for it");
                    Prospect::Wanted(named.clone())
                }
                Some(pattern) => Prospect::Firehose(pattern.clone()),
            }
        };
        let of_peer = |(id, peer): (&NodeId, &super::peers::Peer)| {
            let patterns = peer.record.as_ref().map_or(&[][..], |record| record.interests.patterns());
            (*id, of(id, patterns))
        };
        self.peers.iter().map(of_peer).collect()
    }

    /// Do we want events of this type?
    pub fn wants(&self, kind: &EventType) -> bool {
        self.interests.asks_for(kind)
    }
}
