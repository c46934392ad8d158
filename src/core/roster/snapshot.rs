//! Everybody at one moment, in the order of positions, with the index of who wants what. Never changed:
//! whoever learns more keeps what he learned beside it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use super::index::Index;
use super::{Member, asks_for_everybody};
use crate::core::position::{Position, Prefix};
use crate::time::Wall;
use crate::wire::{EventType, NodeId};

/// Where one node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) position: Position,
    pub(super) id: NodeId,
}

/// Who stands where, and who wants what: all that it takes to say whom an event is for. A *seat* is the number of
/// a node in the order of positions, so that a prefix of positions is a range of seats.
#[derive(Default)]
pub(super) struct Layout {
    seats: Vec<Seat>,
    everybody: Arc<RoaringBitmap>,
    index: Index<Arc<RoaringBitmap>>,
}

/// The number of a seat.
pub(super) fn seat(index: usize) -> u32 {
    u32::try_from(index).expect("a roster has room for far fewer")
}

impl Layout {
    pub(super) fn at(&self, seat: u32) -> &Seat {
        &self.seats[seat as usize]
    }

    /// The seat at this position, or where it would be.
    pub(super) fn find(&self, position: &Position) -> Result<u32, u32> {
        let found = self.seats.binary_search_by(|seat| seat.position.cmp(position));
        found.map(seat).map_err(seat)
    }

    /// The seats of all whose position is one of these.
    pub(super) fn range(&self, prefix: &Prefix) -> Range<u32> {
        let (first, last) = (prefix.first(), prefix.last());
        let start = self.seats.partition_point(|seat| seat.position < first);
        let length = self.seats[start..].partition_point(|seat| seat.position <= last);
        seat(start)..seat(start + length)
    }

    /// The seats of those who want this type; `None` = nobody does. Nothing is copied where one pattern
    /// says it all.
    pub(super) fn wanting(&self, kind: &EventType) -> Option<Arc<RoaringBitmap>> {
        if asks_for_everybody(kind) {
            return (!self.seats.is_empty()).then(|| Arc::clone(&self.everybody));
        }
        let mut first = None;
        let mut more: Vec<&RoaringBitmap> = Vec::new();
        self.index.visit(kind, |set| match first {
            None => first = Some(set),
            Some(_) => more.push(set),
        });
        let first = first?;
        if more.is_empty() {
            return Some(Arc::clone(first));
        }
        more.push(first);
        Some(Arc::new(more.union()))
    }

    /// How many distinct patterns ask for this type.
    fn matching(&self, kind: &EventType) -> usize {
        let mut count = 0;
        self.index.visit(kind, |_| count += 1);
        count
    }
}

/// Everybody at one moment. Many nodes of one process may share it: what each of them learned since stands
/// in its own [`super::Roster`].
#[derive(Default)]
pub struct Snapshot {
    pub(super) layout: Arc<Layout>,
    /// By seat.
    pub(super) members: Vec<Arc<Member>>,
    /// When whose record ends, the soonest first.
    pub(super) endings: Vec<(Wall, u32)>,
    foreseen: BTreeMap<EventType, Option<Arc<RoaringBitmap>>>,
}

impl Snapshot {
    /// These nodes, each with its newest record. Who said goodbye is not among them.
    pub fn of(members: impl IntoIterator<Item = Member>) -> Snapshot {
        let mut newest: BTreeMap<Position, Arc<Member>> = BTreeMap::new();
        for member in members {
            let held = newest.get(&member.position);
            if held.is_none_or(|held| member.record.supersedes(&held.record)) {
                newest.insert(member.position, Arc::new(member));
            }
        }
        newest.retain(|_, member| !member.record.bye);
        Snapshot::default().merged(newest.values(), &RoaringBitmap::new(), &BTreeMap::new())
    }

    /// The same, with the answers for these types made ahead: whoever shares the snapshot shares them too.
    #[must_use]
    pub fn foreseeing(mut self, kinds: impl IntoIterator<Item = EventType>) -> Snapshot {
        self.foreseen.extend(kinds.into_iter().map(|kind| {
            let wanting = self.layout.wanting(&kind);
            (kind, wanting)
        }));
        self
    }

    /// How many nodes.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Is it nobody?
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many distinct patterns ask for this type; for whoever measures.
    pub fn matching(&self, kind: &EventType) -> usize {
        self.layout.matching(kind)
    }

    pub(super) fn wanting(&self, kind: &EventType) -> Option<Arc<RoaringBitmap>> {
        match self.foreseen.get(kind) {
            Some(wanting) => wanting.clone(),
            None => self.layout.wanting(kind),
        }
    }

    /// This one without the seats that are `stale`, with other records of the same interests for those that
    /// are `renewed`, and with newcomers, which come in the order of positions. No string is compared for
    /// whoever stays.
    pub(super) fn merged<'a>(
        &self,
        newcomers: impl Iterator<Item = &'a Arc<Member>>,
        stale: &RoaringBitmap,
        renewed: &BTreeMap<u32, Arc<Member>>,
    ) -> Snapshot {
        const GONE: u32 = u32::MAX;
        let mut newcomers = newcomers.peekable();
        let mut members: Vec<Arc<Member>> = Vec::with_capacity(self.len());
        let mut seats_of: Vec<u32> = Vec::with_capacity(self.len());
        let mut new_seats = Vec::new();
        for (old, member) in self.members.iter().enumerate() {
            while let Some(newcomer) = newcomers.next_if(|newcomer| newcomer.position <= member.position) {
                new_seats.push(members.len());
                members.push(Arc::clone(newcomer));
            }
            let old = seat(old);
            if stale.contains(old) {
                seats_of.push(GONE);
            } else {
                seats_of.push(seat(members.len()));
                members.push(Arc::clone(renewed.get(&old).unwrap_or(member)));
            }
        }
        for newcomer in newcomers {
            new_seats.push(members.len());
            members.push(Arc::clone(newcomer));
        }
        let mut index = self.layout.index.map(|seats| {
            let moved = seats.iter().map(|old| seats_of[old as usize]).filter(|seat| *seat != GONE);
            let moved = RoaringBitmap::from_sorted_iter(moved).expect("who stays keeps the order");
            (!moved.is_empty()).then(|| Arc::new(moved))
        });
        for at in new_seats {
            for pattern in members[at].wanted() {
                Arc::make_mut(index.entry(pattern)).insert(seat(at));
            }
        }
        let mut everybody = RoaringBitmap::new();
        everybody.insert_range(0..seat(members.len()));
        let seats = members.iter().map(|member| Seat { position: member.position, id: member.record.id() });
        let layout = Arc::new(Layout { seats: seats.collect(), everybody: Arc::new(everybody), index });
        let kinds = self.foreseen.keys().cloned();
        Snapshot { endings: endings(&members), members, layout, ..Snapshot::default() }.foreseeing(kinds)
    }

    /// This one with other records of the same interests. Nothing is indexed anew.
    pub(super) fn renewed(&self, renewed: &BTreeMap<u32, Arc<Member>>) -> Snapshot {
        let mut members = self.members.clone();
        for (seat, member) in renewed {
            members[*seat as usize] = Arc::clone(member);
        }
        let (layout, foreseen) = (Arc::clone(&self.layout), self.foreseen.clone());
        Snapshot { endings: endings(&members), members, layout, foreseen }
    }
}

fn endings(members: &[Arc<Member>]) -> Vec<(Wall, u32)> {
    let mut endings: Vec<(Wall, u32)> =
        members.iter().enumerate().map(|(at, member)| (member.record.expires(), seat(at))).collect();
    endings.sort_unstable();
    endings
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} nodes)", self.len())
    }
}
