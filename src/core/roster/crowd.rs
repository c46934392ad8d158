//! Everybody who wants one type, in the order of positions; and the answers that were given lately.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::snapshot::{Layout, Seat};
use crate::core::params::CROWDS_MAX;
use crate::core::position::{Position, Prefix};
use crate::wire::{EventType, NodeId};

/// S(type): every node with a living record that wants events of this type. It may hold us, too, when others
/// gave us the roster; whoever asks passes over himself.
///
/// Kept as a set of seats that is often shared, and the little in which we know better. So one answer for
/// 100 000 nodes is some 100 bytes where one pattern says it all, 12 KiB where several do.
#[derive(Default)]
pub struct Crowd {
    layout: Arc<Layout>,
    pub(super) seats: Arc<RoaringBitmap>,
    /// Who of `seats` is not meant, each by the number of those before it there; ascending.
    gone: Box<[u32]>,
    /// Who is meant beside them, by position.
    more: Box<[Late]>,
}

/// One that is not in the snapshot, or wants something else than it says.
#[derive(Clone, Copy)]
pub(super) struct Late {
    pub(super) node: Seat,
    /// Seats of the snapshot before it.
    pub(super) seat: u32,
    /// How many of the seats that are meant stand before it.
    before: u32,
}

impl Late {
    pub(super) fn new(node: Seat, seat: u32) -> Late {
        Late { node, seat, before: 0 }
    }
}

impl Crowd {
    /// Those of `seats` that are not `stale`, and those of `late`, which come in the order of positions.
    pub(super) fn of(
        layout: &Arc<Layout>,
        seats: Option<Arc<RoaringBitmap>>,
        stale: &RoaringBitmap,
        late: Vec<Late>,
    ) -> Crowd {
        let seats = seats.unwrap_or_default();
        let both = if stale.is_empty() { RoaringBitmap::new() } else { &*seats & stale };
        let gone = ranks(&seats, both.iter()).collect();
        let mut crowd = Crowd { layout: Arc::clone(layout), seats, gone, more: Box::default() };
        let ranks: Vec<u32> = ranks(&crowd.seats, late.iter().map(|late| late.seat)).collect();
        let more = late.into_iter().zip(ranks).map(|(late, rank)| Late { before: crowd.settled(rank), ..late });
        crowd.more = more.collect();
        crowd
    }

    /// How many nodes.
    pub fn len(&self) -> usize {
        self.settled(u32::try_from(self.seats.len()).unwrap_or(u32::MAX)) as usize + self.more.len()
    }

    /// Is it nobody?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Is this node one of them?
    pub fn contains(&self, id: &NodeId) -> bool {
        self.contains_at(&Position::of(id))
    }

    /// Is the node at this position one of them?
    pub fn contains_at(&self, position: &Position) -> bool {
        let is_settled = |seat: u32| {
            self.seats.contains(seat)
                && (self.gone.is_empty() || self.gone.binary_search(&below(&self.seats, seat)).is_err())
        };
        self.layout.find(position).is_ok_and(is_settled)
            || self.more.binary_search_by(|late| late.node.position.cmp(position)).is_ok()
    }

    /// How many of them stand at positions of this prefix.
    pub fn count(&self, prefix: &Prefix) -> usize {
        self.numbers(prefix).len()
    }

    /// The one of this prefix with so many of them before it.
    pub fn nth(&self, prefix: &Prefix, n: usize) -> Option<NodeId> {
        let numbers = self.numbers(prefix);
        let number = numbers.start.checked_add(n).filter(|number| numbers.contains(number))?;
        // Late ones stand at ascending numbers: so many of the settled and of the late before each.
        let late = first(self.more.len(), |at| self.more[at].before as usize + at >= number);
        if let Some(found) = self.more.get(late).filter(|found| found.before as usize + late == number) {
            return Some(found.node.id);
        }
        let settled = number - late;
        let gone = first(self.gone.len(), |at| self.gone[at] as usize - at > settled);
        let seat = self.seats.select(u32::try_from(settled + gone).ok()?)?;
        Some(self.layout.at(seat).id)
    }

    /// All of this prefix.
    pub fn iter(&self, prefix: &Prefix) -> impl Iterator<Item = NodeId> {
        let seats = self.layout.range(prefix);
        let ranked = self.seats.range(seats.clone()).zip(below(&self.seats, seats.start)..);
        let settled = ranked.filter(|(_, rank)| self.gone.binary_search(rank).is_err());
        let mut settled = settled.map(|(seat, _)| self.layout.at(seat)).peekable();
        let mut late = self.more[self.late(prefix)].iter().map(|late| &late.node).peekable();
        let next = move || match (settled.peek(), late.peek()) {
            (Some(one), Some(other)) if one.position < other.position => settled.next(),
            (_, Some(_)) => late.next(),
            (_, None) => settled.next(),
        };
        std::iter::from_fn(next).map(|node| node.id)
    }

    /// All those of this prefix, numbered in the order of positions over the whole crowd.
    fn numbers(&self, prefix: &Prefix) -> Range<usize> {
        let (seats, late) = (self.layout.range(prefix), self.late(prefix));
        let settled = |seat: u32| self.settled(below(&self.seats, seat)) as usize;
        settled(seats.start) + late.start..settled(seats.end) + late.end
    }

    fn late(&self, prefix: &Prefix) -> Range<usize> {
        let (lowest, highest) = (prefix.first(), prefix.last());
        let start = self.more.partition_point(|late| late.node.position < lowest);
        start..start + self.more[start..].partition_point(|late| late.node.position <= highest)
    }

    /// Of so many first of `seats`, how many are meant.
    fn settled(&self, rank: u32) -> u32 {
        let gone = self.gone.partition_point(|gone| *gone < rank);
        rank - u32::try_from(gone).unwrap_or(0)
    }
}

/// How many of `seats` stand before this one.
fn below(seats: &RoaringBitmap, seat: u32) -> u32 {
    u32::try_from(seats.range_cardinality(0..seat)).expect("no more than there are numbers")
}

/// The same for each of these, which ascend, in one pass.
fn ranks(seats: &RoaringBitmap, of: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
    let (mut from, mut rank) = (0, 0);
    of.map(move |seat| {
        rank += u32::try_from(seats.range_cardinality(from..seat)).expect("no more than there are numbers");
        from = seat;
        rank
    })
}

/// The first of `0..length` for which this holds, as it does for all that follow; `length` when there is none.
fn first(length: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, length);
    while low < high {
        let middle = low.midpoint(high);
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// Crowds that were asked for lately. Two generations: what nobody asks for while half of the room fills is
/// forgotten.
#[derive(Default)]
pub(super) struct Crowds {
    young: BTreeMap<EventType, Arc<Crowd>>,
    old: BTreeMap<EventType, Arc<Crowd>>,
}

impl Crowds {
    pub(super) fn get(&mut self, kind: &EventType) -> Option<Arc<Crowd>> {
        if let Some(crowd) = self.young.get(kind) {
            return Some(Arc::clone(crowd));
        }
        let crowd = self.old.remove(kind)?;
        self.put(kind, &crowd);
        Some(crowd)
    }

    pub(super) fn put(&mut self, kind: &EventType, crowd: &Arc<Crowd>) {
        if self.young.len() >= CROWDS_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(kind.clone(), Arc::clone(crowd));
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}
