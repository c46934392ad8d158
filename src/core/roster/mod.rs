//! The full view: every node whose living record we hold, and who of them wants what.
//!
//! Records travel to everybody, so everybody computes for himself whom an event is for: [`Roster::crowd`].
//! Most of what is known stands in a [`Snapshot`] that never changes and may be shared; what we learned since
//! stands beside it and is merged into a new one when it grows. A record that says the same as before but for
//! its number changes no index.
//!
//! In it are nodes with a living record: no goodbyes, nobody who is blocked, in quarantine or not allowed;
//! [`super::peers`] sees to the latter. Bounded by `ROSTER_MAX`: beyond it whoever brought the most loses his
//! oldest, and what we know from a node itself gives way to nobody.

mod crowd;
mod index;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::time::Wall;
use crate::wire::record::RECORD_TYPE;
use crate::wire::{EventType, NodeId, Pattern, Record, Verified};

use super::params::ROSTER_MAX;
use super::position::Position;
pub use crowd::Crowd;
use crowd::{Crowds, Late};
use index::Index;
use snapshot::Seat;
pub use snapshot::Snapshot;

/// One of `ROSTER_PART` goes at once when there is no room: looking for the ones to go costs a look at
/// everybody.
const ROSTER_PART: usize = 512;
/// Changes that may stand beside a snapshot of nobody: below it a small mesh has no snapshot at all.
const SLACK: usize = 512;

/// One node of the mesh, as we know it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its newest record.
    pub record: Verified<Record>,
    /// Where it stands.
    pub position: Position,
    /// When we first heard of it; never what its record says.
    pub since: Wall,
    /// Who told us of it first; `None` = it did so itself.
    pub teller: Option<NodeId>,
    /// Do patterns that ask for (nearly) everything count?
    firehose: bool,
}

impl Member {
    /// A node that is known since then, served no firehose.
    pub fn new(record: Verified<Record>, since: Wall) -> Member {
        Member { position: Position::of(&record.id()), record, since, teller: None, firehose: false }
    }

    /// The patterns that count.
    fn wanted(&self) -> impl Iterator<Item = &Pattern> {
        self.record.interests.patterns().iter().filter(|pattern| self.firehose || !pattern.is_firehose())
    }

    fn wants_the_same_as(&self, other: &Member) -> bool {
        self.wanted().eq(other.wanted())
    }

    fn seat(&self) -> Seat {
        Seat { position: self.position, id: self.record.id() }
    }
}

/// Is an event of this type for everybody, whatever they ask for?
fn asks_for_everybody(kind: &EventType) -> bool {
    kind.as_str() == RECORD_TYPE
}

/// Every node whose living record we hold.
pub struct Roster {
    base: Arc<Snapshot>,
    /// Seats of `base` that do not count: their nodes are gone, or stand in `own`.
    stale: RoaringBitmap,
    /// Seats of `base` whose nodes signed another record of the same interests.
    renewed: BTreeMap<u32, Arc<Member>>,
    /// Everybody else.
    own: BTreeMap<Position, Own>,
    index: Index<BTreeSet<Position>>,
    /// When the records of `own` and `renewed` end.
    endings: BTreeSet<(Wall, Position)>,
    /// So many endings of `base` were seen.
    ended: usize,
    epoch: u64,
    crowds: Crowds,
    bounds: Bounds,
}

/// How much may stand where.
#[derive(Clone, Copy)]
struct Bounds {
    /// Nodes.
    room: usize,
    /// Changes beside a snapshot of nobody.
    slack: usize,
}

impl Bounds {
    /// How many changes may stand beside a snapshot of so many before a new one is made: one part in `of`, so
    /// that the work for each change stays the same, and some more, so that a small mesh is not made anew for
    /// each.
    fn part(self, count: usize, of: usize) -> usize {
        self.slack + count / of
    }
}

struct Own {
    member: Arc<Member>,
    /// Seats of `base` before it.
    seat: u32,
}

/// Where somebody stands in the roster.
enum Found<'a> {
    Own(&'a Arc<Member>),
    Seat(u32, &'a Arc<Member>),
}

impl<'a> Found<'a> {
    fn member(&self) -> &'a Arc<Member> {
        match self {
            Found::Own(member) | Found::Seat(_, member) => member,
        }
    }
}

impl Default for Roster {
    fn default() -> Roster {
        Roster::on(Arc::default())
    }
}

impl Roster {
    /// One that begins with what somebody else gathered.
    pub fn on(base: Arc<Snapshot>) -> Roster {
        Roster {
            base,
            stale: RoaringBitmap::new(),
            renewed: BTreeMap::new(),
            own: BTreeMap::new(),
            index: Index::default(),
            endings: BTreeSet::new(),
            ended: 0,
            epoch: 0,
            crowds: Crowds::default(),
            bounds: Bounds { room: ROSTER_MAX, slack: SLACK },
        }
    }

    /// How many nodes.
    pub fn len(&self) -> usize {
        self.base.len() - usize::try_from(self.stale.len()).unwrap_or(usize::MAX) + self.own.len()
    }

    /// Is it nobody?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Grows whenever somebody may want something else than before, comes or goes.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What we know of this node.
    pub fn get(&self, id: &NodeId) -> Option<&Member> {
        self.at(&Position::of(id))
    }

    /// What we know of the node at this position.
    pub fn at(&self, position: &Position) -> Option<&Member> {
        self.find(position).map(|found| &**found.member())
    }

    /// Everybody, in the order of positions.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        let mut own = self.own.values().map(|own| &*own.member).peekable();
        let mut settled = self.settled().map(|(_, member)| &**member).peekable();
        std::iter::from_fn(move || match (settled.peek(), own.peek()) {
            (Some(one), Some(other)) if one.position < other.position => settled.next(),
            (_, Some(_)) => own.next(),
            (_, None) => settled.next(),
        })
    }

    /// S(type): everybody who wants events of this type. What nobody wants is not remembered: whoever
    /// invents types fills nothing.
    pub fn crowd(&mut self, kind: &EventType) -> Arc<Crowd> {
        if let Some(crowd) = self.crowds.get(kind) {
            return crowd;
        }
        let crowd = Arc::new(self.gather(kind));
        if !crowd.is_empty() {
            self.crowds.put(kind, &crowd);
        }
        crowd
    }

    /// Takes a record. True when it is the first of its node, or supersedes the one we held; a goodbye takes
    /// its node out. `teller` is who brought it, `None` for the node itself; one that told of itself once
    /// counts as such. With `firehose`, patterns that ask for (nearly) everything count.
    pub fn take(&mut self, record: &Verified<Record>, teller: Option<NodeId>, firehose: bool, now: Wall) -> bool {
        let position = Position::of(&record.id());
        let new = |record: &Verified<Record>, since, teller| {
            Arc::new(Member { record: record.clone(), position, since, teller, firehose })
        };
        let Some(held) = self.at(&position) else {
            let is_living = !record.bye && now < record.expires();
            return is_living && self.make_room() && {
                self.put(new(record, now, teller));
                true
            };
        };
        let is_newer = record.supersedes(&held.record) && now < record.expires();
        if is_newer && record.bye {
            self.remove_at(&position);
            return true;
        }
        let teller = teller.and(held.teller);
        if is_newer || held.teller != teller || held.firehose != firehose {
            let record = if is_newer { record } else { &held.record };
            self.put(new(record, held.since, teller));
        }
        is_newer
    }

    /// We know of this node since then, if that is earlier: an earlier life of ours wrote it down.
    pub fn known_since(&mut self, id: &NodeId, since: Wall) {
        if let Some(held) = self.get(id).filter(|held| since < held.since) {
            let member = Arc::new(Member { since, ..held.clone() });
            self.put(member);
        }
    }

    /// The key of this node answered us: it gives way to nobody from now on.
    pub fn vouch(&mut self, id: &NodeId) {
        if let Some(held) = self.get(id).filter(|held| held.teller.is_some()) {
            let member = Arc::new(Member { teller: None, ..held.clone() });
            self.put(member);
        }
    }

    /// Do patterns of this node that ask for (nearly) everything count?
    pub fn serve_everything(&mut self, id: &NodeId, firehose: bool) {
        if let Some(held) = self.get(id).filter(|held| held.firehose != firehose) {
            let member = Arc::new(Member { firehose, ..held.clone() });
            self.put(member);
        }
    }

    /// Forgets a node.
    pub fn remove(&mut self, id: &NodeId) {
        self.remove_at(&Position::of(id));
    }

    /// Whoever's record ended leaves. Costs a look when nobody's did, so it is done before each question and
    /// needs no clock of its own. Give it a date that is believed: who leaves comes back by another record
    /// only.
    pub fn sweep(&mut self, now: Wall) {
        while let Some((_, seat)) = self.base.endings.get(self.ended).copied().filter(|(until, _)| *until <= now) {
            self.ended += 1;
            if !self.stale.contains(seat) && !self.renewed.contains_key(&seat) {
                let position = self.base.layout.at(seat).position;
                self.remove_at(&position);
            }
        }
        while let Some((_, position)) = self.endings.first().copied().filter(|(until, _)| *until <= now) {
            self.remove_at(&position);
        }
    }

    fn gather(&self, kind: &EventType) -> Crowd {
        if kind.is_local() {
            return Crowd::default();
        }
        let mut positions: Vec<Position> = Vec::new();
        if asks_for_everybody(kind) {
            positions.extend(self.own.keys());
        } else {
            self.index.visit(kind, |set| positions.extend(set));
            positions.sort_unstable();
            positions.dedup();
        }
        let late = positions.iter().map(|position| &self.own[position]);
        let late = late.map(|own| Late::new(own.member.seat(), own.seat)).collect();
        Crowd::of(&self.base.layout, self.base.wanting(kind), &self.stale, late)
    }

    fn find(&self, position: &Position) -> Option<Found<'_>> {
        if let Some(own) = self.own.get(position) {
            return Some(Found::Own(&own.member));
        }
        let seat = self.base.layout.find(position).ok().filter(|seat| !self.stale.contains(*seat))?;
        Some(Found::Seat(seat, self.seated(seat)))
    }

    fn seated(&self, seat: u32) -> &Arc<Member> {
        self.renewed.get(&seat).unwrap_or(&self.base.members[seat as usize])
    }

    /// Everybody who counts as `base` says it.
    fn settled(&self) -> impl Iterator<Item = (u32, &Arc<Member>)> {
        let seats = (0..snapshot::seat(self.base.len())).filter(|seat| !self.stale.contains(*seat));
        seats.map(|seat| (seat, self.seated(seat)))
    }

    /// Puts a node where it belongs, or another record of it in place of the one that is held.
    fn put(&mut self, member: Arc<Member>) {
        let position = member.position;
        let same = self.find(&position).filter(|found| found.member().wants_the_same_as(&member));
        let seat = match same {
            Some(Found::Seat(seat, _)) => Some(seat),
            Some(Found::Own(_)) => None,
            None => return self.put_anew(member),
        };
        self.unwatch(&position);
        self.endings.insert((member.record.expires(), position));
        match seat {
            Some(seat) => {
                self.renewed.insert(seat, member);
                if self.renewed.len() > self.bounds.part(self.base.len(), 4) {
                    self.base = Arc::new(self.base.renewed(&std::mem::take(&mut self.renewed)));
                    self.endings = self.own.iter().map(|(at, own)| (own.member.record.expires(), *at)).collect();
                    self.ended = 0;
                }
            }
            None => self.own.get_mut(&position).expect("found there").member = member,
        }
    }

    fn put_anew(&mut self, member: Arc<Member>) {
        self.take_out(&member.position);
        let position = member.position;
        self.endings.insert((member.record.expires(), position));
        for pattern in member.wanted() {
            self.index.entry(pattern).insert(position);
        }
        let (Ok(seat) | Err(seat)) = self.base.layout.find(&position);
        self.own.insert(position, Own { member, seat });
        self.change();
    }

    fn remove_at(&mut self, position: &Position) {
        if self.take_out(position) {
            self.change();
        }
    }

    /// True when it was there.
    fn take_out(&mut self, position: &Position) -> bool {
        self.unwatch(position);
        if let Some(own) = self.own.remove(position) {
            for pattern in own.member.wanted() {
                self.index.release(pattern, |set| {
                    set.remove(position);
                    set.is_empty()
                });
            }
            return true;
        }
        let seat = self.base.layout.find(position).ok();
        seat.is_some_and(|seat| {
            self.renewed.remove(&seat);
            self.stale.insert(seat)
        })
    }

    /// What is held of this node now ends no more.
    fn unwatch(&mut self, position: &Position) {
        if let Some(held) = self.at(position) {
            let until = held.record.expires();
            self.endings.remove(&(until, *position));
        }
    }

    /// Who wants what has changed.
    fn change(&mut self) {
        self.epoch += 1;
        self.crowds.clear();
        let changes = self.own.len() + usize::try_from(self.stale.len()).unwrap_or(usize::MAX);
        if changes > self.bounds.part(self.base.len(), 128) {
            let newcomers = self.own.values().map(|own| &own.member);
            let base = self.base.merged(newcomers, &self.stale, &self.renewed);
            let (epoch, bounds) = (self.epoch, self.bounds);
            *self = Roster { epoch, bounds, ..Roster::on(Arc::new(base)) };
        }
    }

    /// Room for one more: whoever brought the most loses his oldest. False when everybody told of himself.
    fn make_room(&mut self) -> bool {
        if self.len() < self.bounds.room {
            return true;
        }
        let mut brought: BTreeMap<NodeId, Vec<(Wall, Position)>> = BTreeMap::new();
        for member in self.iter() {
            if let Some(teller) = member.teller {
                brought.entry(teller).or_default().push((member.since, member.position));
            }
        }
        brought.values_mut().for_each(|members| members.sort_unstable_by(|one, other| other.cmp(one)));
        let mut most: BTreeSet<(usize, NodeId)> =
            brought.iter().map(|(teller, members)| (members.len(), *teller)).collect();
        let mut gone = Vec::new();
        for _ in 0..(self.bounds.room / ROSTER_PART).max(1) {
            let Some((count, teller)) = most.pop_last() else { break };
            let oldest = brought.get_mut(&teller).and_then(Vec::pop);
            gone.extend(oldest.map(|(_, position)| position));
            if count > 1 {
                most.insert((count - 1, teller));
            }
        }
        gone.iter().for_each(|position| self.remove_at(position));
        !gone.is_empty()
    }
}

#[cfg(test)]
mod tests;
