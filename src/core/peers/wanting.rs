//! Who wants what from us.

use std::collections::BTreeSet;

use super::super::duty::Duty;
use super::super::ports::{Entry, Origin};
use super::Peers;
use crate::time::Wall;
use crate::wire::{EventType, NodeId, Pattern};

/// Does a peer want an entry from us?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::core) enum Want {
    Yes,
    No,
    /// It would have, but the event expired.
    Expired,
    /// Its patterns are not known, or were so long ago that they do not count.
    Unknown,
}

impl Peers {
    /// Do we hold a living record of it? A goodbye is none: it does not say what its node will want when it
    /// comes back, so until then nothing is settled for it.
    pub(in crate::core) fn is_acquainted(&self, id: &NodeId, now: Wall) -> bool {
        let record = self.table.get(id).and_then(|peer| peer.record.as_ref());
        record.is_some_and(|record| !record.bye && now < record.expires())
    }

    /// May this neighbour ask us to carry its events on?
    pub(in crate::core) fn gives_duty(&self, id: &NodeId, now: Wall) -> bool {
        self.is_served(id) && self.is_acquainted(id, now)
    }

    /// What we answer for with this entry.
    pub(in crate::core) fn duty(&self, entry: &Entry) -> Option<Duty> {
        Duty::of(&self.me, &self.position, entry)
    }

    /// Does this peer want this entry, from us?
    pub(in crate::core) fn wants(
        &self,
        id: &NodeId,
        entry: &Entry,
        duty: Option<Duty>,
        now: Wall,
        is_interested: impl FnOnce() -> bool,
    ) -> Want {
        let (Some(peer), Some(duty)) = (self.table.get(id), duty) else { return Want::No };
        let event = entry.envelope.event();
        let is_giver = entry.from == Some(*id) || event.source == *id;
        if is_giver || event.kind.is_reserved() || self.is_closed_to(id) || !duty.covers(&peer.position) {
            return Want::No;
        }
        if event.to.is_empty() && !self.is_acquainted(id, now) {
            return Want::Unknown;
        }
        let wanted = if event.to.is_empty() { is_interested() } else { event.to.contains(id) };
        match (wanted, event.is_alive(now)) {
            (true, true) => Want::Yes,
            (true, false) => Want::Expired,
            (false, _) => Want::No,
        }
    }

    /// Everybody who wants this type, by their patterns: asked once for an event.
    pub(in crate::core) fn interested(&self, kind: &EventType) -> BTreeSet<NodeId> {
        self.index.interested(kind)
    }

    /// Does this one peer want this type, by its patterns?
    pub(in crate::core) fn is_interested(&self, id: &NodeId, kind: &EventType) -> bool {
        self.table.get(id).is_some_and(|peer| {
            let serves = |pattern: &&Pattern| !pattern.is_firehose() || self.is_served_everything(id, peer.origin);
            let patterns = peer.record.iter().flat_map(|record| record.interests.patterns());
            patterns.filter(serves).any(|pattern| pattern.matches(kind))
        })
    }

    pub(super) fn is_served_everything(&self, id: &NodeId, origin: Origin) -> bool {
        origin == Origin::Manual || self.rules.firehose.contains(id)
    }
}
