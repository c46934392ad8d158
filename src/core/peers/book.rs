//! Everybody we heard of: nodes that are no peers of ours yet, where they are, and who said so.
//!
//! Bounded by its buckets, and within them by address: at most two ids at one address and ten in one
//! block, so that thousands of ids on a handful of machines are a handful of entries. A node that was
//! once tried gives way only when it is tested and does not answer.

use std::collections::{BTreeMap, BTreeSet};

use super::super::params::{
    IDS_PER_BLOCK_MAX, IDS_PER_HOST_MAX, NEVER_FAILURES_MAX, PLACES_MAX, PURGE_AFTER, SETTLED_FOR, STRUCK_MAX,
};
use super::super::ports::{LaneId, SavedNode};
use super::super::tier::Tier;
use super::buckets::{Buckets, Place};
use super::known::{Known, Probe};
use super::state::{Standing, Tally};
use crate::time::{Mono, Now, Wall};
use crate::wire::{Block, Group, Host, HostPort, NodeId, Record, Verified, Word};

/// What is said of a node.
pub(super) struct Said {
    pub(super) id: NodeId,
    pub(super) record: Option<Verified<Record>>,
    /// Addresses that passed the policy.
    pub(super) at: Vec<HostPort>,
    pub(super) tier: Tier,
    pub(super) root: Tier,
    pub(super) teller: Option<NodeId>,
    pub(super) source: String,
    pub(super) word: Word,
}

/// All of them.
pub(super) struct Book {
    known: BTreeMap<NodeId, Known>,
    buckets: Buckets,
    hosts: BTreeMap<Host, BTreeSet<NodeId>>,
    blocks: BTreeMap<String, BTreeSet<NodeId>>,
    /// Nodes of *tried* whose place somebody else could have, if they do not answer.
    pub(super) doubted: BTreeSet<NodeId>,
    pub(super) changed: bool,
}

/// The network of a host, as sources and buckets know it: of a name the domain that one registers.
pub(super) fn group_of(host: &Host) -> String {
    match host {
        Host::Ip(ip) => Group::of(*ip).to_string(),
        Host::Name(name) => domain(name),
    }
}

fn block_of(host: &Host) -> String {
    match host {
        Host::Ip(ip) => Block::of(*ip).to_string(),
        Host::Name(name) => domain(name),
    }
}

fn domain(name: &str) -> String {
    let labels: Vec<&str> = name.rsplit('.').take(2).collect();
    labels.join(".")
}

impl Book {
    pub(super) fn new(secret: [u8; 32]) -> Book {
        Book {
            known: BTreeMap::new(),
            buckets: Buckets::new(secret),
            hosts: BTreeMap::new(),
            blocks: BTreeMap::new(),
            doubted: BTreeSet::new(),
            changed: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeId, &Known)> {
        self.known.iter()
    }

    pub(super) fn get(&self, id: &NodeId) -> Option<&Known> {
        self.known.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &NodeId) -> Option<&mut Known> {
        self.known.get_mut(id)
    }

    /// The lane that is being made to a node of the book.
    pub(super) fn lane_to(&self, id: &NodeId) -> Option<LaneId> {
        match self.known.get(id)?.probe {
            Some(Probe::Lane(lane)) => Some(lane),
            _ => None,
        }
    }

    /// Takes what is said of a node. True when it is new here; one that is known already may have moved.
    /// Gives whoever had to go for it, too.
    pub(super) fn hear(&mut self, said: Said, now: Now) -> (bool, Option<NodeId>) {
        let Said { id, record, at, tier, root, teller, source, word } = said;
        if let Some(known) = self.known.get_mut(&id) {
            known.heard = now.wall;
            let is_newer = match (&record, &known.record) {
                (Some(new), Some(old)) => new.supersedes(old),
                (Some(_), None) => true,
                (None, _) => false,
            };
            if is_newer {
                if matches!(known.shut, Some((_, Standing::Left))) {
                    known.shut = None; // a higher number takes a goodbye back
                }
                known.record = record;
                self.move_to(&id, at, word);
            } else if record.is_none()
                && let Some(places) = known.also_at(&at, tier, root, now)
            {
                // Places of both words in one list: the lesser one holds for all.
                let word = if known.word == Word::Far { Word::Far } else { word };
                self.move_to(&id, places, word);
            }
            return (false, None);
        }
        let at = self.with_room(&id, at);
        let Some(first) = at.first() else { return (false, None) };
        let place = self.buckets.place_new(&id, &group_of(&first.host), &source);
        let gone = match self.buckets.occupant(place) {
            Some(occupant) if !self.is_terrible(&occupant, now.wall) => return (false, None),
            occupant => occupant,
        };
        if let Some(gone) = gone {
            self.remove(&gone);
        }
        self.buckets.put(place, id);
        let known = Known {
            record,
            at: Vec::new(),
            word,
            struck: Vec::new(),
            tier,
            root,
            teller,
            source,
            place,
            heard: now.wall,
            verified: None,
            dead: None,
            tally: Tally::default(),
            until: Mono(0),
            probe: None,
            why: String::new(),
            anchor: false,
            shut: None,
        };
        self.known.insert(id, known);
        self.settle_at(&id, at);
        (true, gone)
    }

    /// Of these addresses those where there is room for one more id, each once.
    fn with_room(&self, id: &NodeId, at: Vec<HostPort>) -> Vec<HostPort> {
        let struck = self.known.get(id).map_or(&[][..], |known| &known.struck);
        let has_room =
            |ids: Option<&BTreeSet<NodeId>>, max: usize| ids.is_none_or(|ids| ids.contains(id) || ids.len() < max);
        let mut kept: Vec<HostPort> = Vec::new();
        for place in at {
            let is_free = has_room(self.hosts.get(&place.host), IDS_PER_HOST_MAX)
                && has_room(self.blocks.get(&block_of(&place.host)), IDS_PER_BLOCK_MAX);
            if is_free && !struck.contains(&place) && !kept.contains(&place) && kept.len() < PLACES_MAX {
                kept.push(place);
            }
        }
        kept
    }

    /// The key of a node answered at this place. Where the room there is full, those give way who are only said
    /// to be there, one by one as it takes; also who answered once, and is said to be at this very place, is
    /// there no more. Gives those that are gone.
    pub(super) fn make_way(&mut self, id: &NodeId, at: &HostPort) -> Vec<NodeId> {
        let mut gone = Vec::new();
        while let Some(other) = self.in_the_way(id, at) {
            let known = self.known.get(&other).expect("it stands at an address");
            let rest: Vec<HostPort> = known.at.iter().filter(|place| *place != at).cloned().collect();
            if known.verified.is_some() && !rest.is_empty() {
                self.settle_at(&other, rest);
            } else {
                self.remove(&other);
                gone.push(other);
            }
        }
        gone
    }

    fn in_the_way(&self, id: &NodeId, at: &HostPort) -> Option<NodeId> {
        let of_host = self.hosts.get(&at.host).filter(|ids| ids.len() >= IDS_PER_HOST_MAX);
        let of_block = || self.blocks.get(&block_of(&at.host)).filter(|ids| ids.len() >= IDS_PER_BLOCK_MAX);
        let there = of_host.or_else(of_block).filter(|ids| !ids.contains(id))?;
        let known = there.iter().filter_map(|other| Some((other, self.known.get(other)?)));
        let is_idle = |known: &Known| known.probe.is_none() && known.shut.is_none();
        let weak = known.filter(|(_, known)| is_idle(known) && (known.verified.is_none() || known.at.contains(at)));
        // First those who are said to be at this very place, which is wrong for sure.
        weak.min_by_key(|(_, known)| !known.at.contains(at)).map(|(other, _)| *other)
    }

    /// A node says that it is elsewhere now; where nothing of that is possible it stays where it was.
    fn move_to(&mut self, id: &NodeId, at: Vec<HostPort>, word: Word) {
        let at = self.with_room(id, at);
        if at.is_empty() {
            return;
        }
        self.settle_at(id, at);
        if let Some(known) = self.known.get_mut(id) {
            known.word = word;
        }
    }

    /// A node is at these places and no others.
    pub(super) fn settle_at(&mut self, id: &NodeId, at: Vec<HostPort>) {
        self.leave_places(id);
        for place in &at {
            self.hosts.entry(place.host.clone()).or_default().insert(*id);
            self.blocks.entry(block_of(&place.host)).or_default().insert(*id);
        }
        if let Some(known) = self.known.get_mut(id) {
            known.at = at;
        }
        self.changed = true;
    }

    fn leave_places(&mut self, id: &NodeId) {
        let Some(known) = self.known.get(id) else { return };
        for place in &known.at {
            let block = block_of(&place.host);
            if let Some(ids) = self.hosts.get_mut(&place.host) {
                ids.remove(id);
                if ids.is_empty() {
                    self.hosts.remove(&place.host);
                }
            }
            if let Some(ids) = self.blocks.get_mut(&block) {
                ids.remove(id);
                if ids.is_empty() {
                    self.blocks.remove(&block);
                }
            }
        }
    }

    pub(super) fn remove(&mut self, id: &NodeId) {
        self.leave_places(id);
        if let Some(known) = self.known.remove(id) {
            self.buckets.free(known.place, id);
            self.doubted.remove(id);
            self.changed = true;
        }
    }

    /// Worth less than anybody else who could have its place.
    fn is_terrible(&self, id: &NodeId, now: Wall) -> bool {
        let Some(known) = self.known.get(id) else { return true };
        if known.anchor || known.probe.is_some() || known.shut.is_some() {
            return false;
        }
        let is_old = now.since(known.verified.unwrap_or(known.heard)) > PURGE_AFTER;
        let never_came = known.verified.is_none() && known.tally.failures >= NEVER_FAILURES_MAX;
        known.dead.is_some() || is_old || never_came
    }

    /// Its key answered at one of its addresses. It gets its place in *tried*, unless somebody who answered
    /// lately has it; one who did not is tested before he goes.
    pub(super) fn verify(&mut self, id: &NodeId, now: Now) {
        let Some(known) = self.known.get_mut(id) else { return };
        known.verified = Some(now.wall);
        known.dead = None;
        known.tally.succeed(now.mono);
        known.probe = None;
        known.until = now.mono;
        known.why.clear();
        self.doubted.remove(id);
        self.changed = true;
        let Some(group) = self.known.get(id).and_then(|known| known.at.first()).map(|at| group_of(&at.host)) else {
            return;
        };
        let place = self.buckets.place_tried(id, &group);
        match self.buckets.occupant(place) {
            Some(occupant) if occupant == *id => {}
            Some(occupant) if !self.is_terrible(&occupant, now.wall) => {
                let lately = self.known.get(&occupant).and_then(|known| known.verified);
                if lately.is_none_or(|at| now.wall.since(at) > SETTLED_FOR) {
                    self.doubted.insert(occupant);
                }
            }
            occupant => {
                if let Some(gone) = occupant {
                    self.remove(&gone);
                }
                self.put(*id, place);
            }
        }
    }

    fn put(&mut self, id: NodeId, place: Place) {
        if let Some(known) = self.known.get_mut(&id) {
            let before = std::mem::replace(&mut known.place, place);
            self.buckets.free(before, &id);
            self.buckets.put(place, id);
        }
    }

    /// A doubted node did not answer: it goes back to *new*, if there is room, and its place is free.
    pub(super) fn demote(&mut self, id: &NodeId) {
        if !self.doubted.remove(id) {
            return;
        }
        let Some(known) = self.known.get(id) else { return };
        let group = known.at.first().map(|at| group_of(&at.host)).unwrap_or_default();
        let place = self.buckets.place_new(id, &group, &known.source);
        match self.buckets.occupant(place) {
            None => self.put(*id, place),
            Some(_) => self.remove(id),
        }
    }

    /// Somebody else answered there: this address is not dialled for this node again.
    pub(super) fn strike(&mut self, id: &NodeId, at: &HostPort) {
        let Some(known) = self.known.get_mut(id) else { return };
        if known.struck.len() < STRUCK_MAX && !known.struck.contains(at) {
            known.struck.push(at.clone());
        }
        let rest: Vec<HostPort> = known.at.iter().filter(|place| *place != at).cloned().collect();
        if rest.is_empty() {
            self.remove(id);
        } else {
            self.settle_at(id, rest);
        }
    }

    /// One of those that pass, by chance: a table, a bucket of it, a node of that bucket, so that who
    /// fills a bucket is not chosen more often for it. Failures make a node less likely.
    pub(super) fn pick(&self, rng: &mut fastrand::Rng, passes: impl Fn(&NodeId, &Known) -> bool) -> Option<NodeId> {
        let mut tables: [BTreeMap<u16, Vec<&NodeId>>; 2] = Default::default();
        for (place, id) in self.buckets.iter() {
            if self.known.get(id).is_some_and(|known| passes(id, known)) {
                tables[usize::from(place.is_tried())].entry(place.bucket()).or_default().push(id);
            }
        }
        let mut chosen = None;
        for _ in 0..100 {
            let table = match tables.each_ref().map(BTreeMap::is_empty) {
                [true, true] => return None,
                [false, false] => usize::from(rng.bool()),
                [_, no_tried] => usize::from(!no_tried),
            };
            let bucket = rng.usize(..tables[table].len());
            let bucket = tables[table].values().nth(bucket).expect("one of them");
            let id = *bucket[rng.usize(..bucket.len())];
            chosen = Some(id);
            let failures = self.known.get(&id).map_or(0, |known| known.tally.failures.min(8));
            if rng.f64() < 0.66f64.powi(i32::try_from(failures).unwrap_or(8)) {
                break;
            }
        }
        chosen
    }

    /// Forgets whoever was not there for a month. Gives them.
    pub(super) fn purge(&mut self, now: Wall, is_peer: impl Fn(&NodeId) -> bool) -> Vec<NodeId> {
        let is_old = |known: &Known| now.since(known.verified.unwrap_or(known.heard)) > PURGE_AFTER;
        let old = self.known.iter().filter(|(id, known)| is_old(known) && known.probe.is_none() && !is_peer(id));
        let old: Vec<NodeId> = old.map(|(id, _)| *id).collect();
        for id in &old {
            self.remove(id);
        }
        old
    }

    /// Nodes whose key answered within a day.
    pub(super) fn verified(&self, now: Wall) -> usize {
        self.known.values().filter(|known| known.is_verified(now)).count()
    }

    /// These and no others are dialled first by the next life.
    pub(super) fn set_anchors(&mut self, anchors: &BTreeSet<NodeId>) {
        self.known.iter_mut().for_each(|(id, known)| known.anchor = anchors.contains(id));
    }

    /// As it is written down.
    pub(super) fn saved(&self) -> Vec<SavedNode> {
        let save = |(id, known): (&NodeId, &Known)| SavedNode {
            id: *id,
            at: known.at.clone(),
            tier: known.tier,
            source: known.source.clone(),
            heard: known.heard,
            verified: known.verified,
            failures: known.tally.failures,
            dead: known.dead,
            anchor: known.anchor,
            near: known.word == Word::Near,
        };
        self.known.iter().map(save).collect()
    }

    /// Takes back what was written down, into the order of this life's secret.
    pub(super) fn restore(&mut self, saved: SavedNode) {
        let SavedNode { id, at, tier, source, heard, verified, failures, dead, anchor, near } = saved;
        let then = Now { mono: Mono(0), wall: heard };
        // Whatever led to it then, it answered us in an earlier life.
        let root = if verified.is_some() { Tier::Anchor } else { tier };
        let word = if near { Word::Near } else { Word::Far };
        let said = Said { id, record: None, at, tier, root, teller: None, source, word };
        self.hear(said, then);
        if let Some(verified) = verified {
            self.verify(&id, Now { mono: Mono(0), wall: verified });
        }
        if let Some(known) = self.known.get_mut(&id) {
            (known.dead, known.anchor, known.tally) = (dead, anchor, Tally::restored(failures));
        }
        self.doubted.clear();
        self.changed = false;
    }
}

#[cfg(test)]
mod tests;
