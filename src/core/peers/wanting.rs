//! Who wants what from us.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::duty::Duty;
use super::super::params::Accept;
use super::super::ports::Entry;
use super::super::roster::{Crowd, Roster, Snapshot};
use super::Peers;
use crate::time::Wall;
use crate::wire::{EventType, NodeId, Pattern, Record, Verified};

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
    /// Its record is held, and it is welcome: as a peer, or as anybody is in an open mesh.
    pub(in crate::core) fn gives_duty(&self, id: &NodeId, now: Wall) -> bool {
        let is_welcome = self.is_served(id) || (self.rules.accept == Accept::Open && !self.knows(id));
        is_welcome && self.roster.get(id).is_some_and(|member| now < member.record.expires())
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

    /// Everybody who wants this type, peer or not: asked once for an event.
    pub(in crate::core) fn crowd(&mut self, kind: &EventType) -> Arc<Crowd> {
        self.roster.crowd(kind)
    }

    /// Is this peer in the crowd of this type? One that the roster does not hold (its quarantine has just ended, or
    /// a date that was not right swept it out) is asked by the record that the table keeps: what it is owed
    /// hangs on nothing else.
    pub(in crate::core) fn is_among(&self, crowd: &Crowd, id: &NodeId, kind: &EventType) -> bool {
        self.table.get(id).is_some_and(|peer| {
            crowd.contains_at(&peer.position)
                || (self.roster.at(&peer.position).is_none() && self.is_interested(id, kind))
        })
    }

    /// Does this one peer want this type, by its patterns?
    pub(in crate::core) fn is_interested(&self, id: &NodeId, kind: &EventType) -> bool {
        self.table.get(id).is_some_and(|peer| {
            let serves = |pattern: &&Pattern| !pattern.is_firehose() || self.is_served_everything(id);
            let patterns = peer.record.iter().flat_map(|record| record.interests.patterns());
            patterns.filter(serves).any(|pattern| pattern.matches(kind))
        })
    }

    fn is_served_everything(&self, id: &NodeId) -> bool {
        self.is_manual(id) || self.rules.firehose.contains(id)
    }

    /// Begins with a view of the mesh that somebody else gathered. Of whom we have a record ourselves, ours
    /// counts when it is newer.
    pub(in crate::core) fn begin_with(&mut self, snapshot: Arc<Snapshot>, now: Wall) {
        let before = std::mem::replace(&mut self.roster, Roster::on(snapshot));
        for member in before.iter() {
            self.enrol(&member.record, member.teller, now);
            self.roster.known_since(&member.record.id(), member.since);
        }
        let shunned = self.shunned.iter(now).map(|(id, _)| *id).filter(|id| self.is_shunned(id, now));
        shunned.collect::<Vec<NodeId>>().iter().for_each(|id| self.roster.remove(id));
        self.serve_everything_to(self.rules.firehose.clone());
        self.enrol_all(now);
    }

    /// Takes a record into the roster: of nodes that may take part and are listened to, and not of ourselves.
    /// `teller` is who brought it, when it was not the node.
    pub(super) fn enrol(&mut self, record: &Verified<Record>, teller: Option<NodeId>, now: Wall) {
        let id = record.id();
        if id != self.me && !self.is_closed_to(&id) && !self.is_shunned(&id, now) {
            self.roster.take(record, teller, self.is_served_everything(&id), now);
        }
    }

    /// The same for every peer; and whoever may not take part any more leaves the roster.
    pub(super) fn enrol_all(&mut self, now: Wall) {
        if !self.rules.allow.is_empty() {
            let all = self.roster.iter().map(|member| member.record.id());
            let closed: Vec<NodeId> = all.filter(|id| self.is_closed_to(id)).collect();
            closed.iter().for_each(|id| self.roster.remove(id));
        }
        let records: Vec<Verified<Record>> = self.table.values().filter_map(|peer| peer.record.clone()).collect();
        records.iter().for_each(|record| self.enrol(record, None, now));
    }

    /// These nodes, and those that were typed in, are served what asks for (nearly) everything.
    pub(super) fn serve_everything_to(&mut self, firehose: BTreeSet<NodeId>) {
        let before = std::mem::replace(&mut self.rules.firehose, firehose);
        let listed: Vec<NodeId> = before.union(&self.rules.firehose).copied().collect();
        for id in listed {
            self.roster.serve_everything(&id, self.is_served_everything(&id));
        }
    }

    /// Whoever's record has ended leaves the roster.
    pub(in crate::core) fn sweep(&mut self, now: Wall) {
        self.roster.sweep(now);
    }
}
