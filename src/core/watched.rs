//! Events whose takers somebody wants to know, from before they are stored.

use std::collections::{BTreeMap, BTreeSet};

use super::outbox::Owed;
use super::params::WATCHED_MAX;
use super::ports::{Note, Output, Seq, Stored};
use crate::wire::message::Receipt;
use crate::wire::{Digest, NodeId};

/// The events, and the peers that were told of.
#[derive(Default)]
pub(super) struct Watched {
    /// Position 0 while it is not stored yet.
    at: BTreeMap<Digest, Seq>,
    stored: BTreeMap<Seq, (Digest, BTreeSet<NodeId>)>,
}

impl Watched {
    pub(super) fn add(&mut self, event: Digest) {
        if self.at.len() < WATCHED_MAX {
            self.at.entry(event).or_default();
        }
    }

    pub(super) fn remove(&mut self, event: &Digest) {
        if let Some(seq) = self.at.remove(event) {
            self.stored.remove(&seq);
        }
    }

    pub(super) fn on_stored(&mut self, stored: &Stored) {
        let digest = stored.entry.envelope.digest();
        if let Some(at) = self.at.get_mut(&digest) {
            *at = stored.seq;
            self.stored.insert(stored.seq, (digest, BTreeSet::new()));
        }
    }

    /// A peer answered a body: which watched lines of it does it have now? Each peer is told of once.
    pub(super) fn on_taken(&mut self, peer: NodeId, owed: &[Owed], receipt: &Receipt, out: &mut Vec<Output>) {
        if self.stored.is_empty() {
            return;
        }
        let is_open = |i: u32| {
            receipt.rejected.iter().any(|refused| refused.i == i) || receipt.retry.iter().any(|retry| retry.i == i)
        };
        for (i, one) in (0u32..).zip(owed) {
            if !is_open(i) {
                self.tell(peer, one.seq, out);
            }
        }
    }

    /// A peer has the event at this position now.
    pub(super) fn tell(&mut self, peer: NodeId, seq: Seq, out: &mut Vec<Output>) {
        if let Some((event, told)) = self.stored.get_mut(&seq)
            && told.insert(peer)
        {
            out.push(Output::Note(Note::Taken { peer, event: *event }));
        }
    }
}
