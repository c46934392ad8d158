//! What is still to happen, in the order of time; of two things at one moment the one that was said first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Mono;

/// A queue of things. The heap holds small keys alone; what they stand for stays where it was put.
pub(super) struct Queue<T> {
    due: BinaryHeap<Reverse<(Mono, u64, u32)>>,
    things: Vec<Option<T>>,
    free: Vec<u32>,
    order: u64,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Queue<T> {
        Queue { due: BinaryHeap::new(), things: Vec::new(), free: Vec::new(), order: 0 }
    }

    pub(super) fn push(&mut self, at: Mono, thing: T) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.things[slot as usize] = Some(thing);
                slot
            }
            None => {
                self.things.push(Some(thing));
                u32::try_from(self.things.len() - 1).expect("fewer than four billion things wait")
            }
        };
        self.order += 1;
        self.due.push(Reverse((at, self.order, slot)));
    }

    /// The next thing, unless it is later than `end`.
    pub(super) fn pop(&mut self, end: Mono) -> Option<(Mono, T)> {
        let Reverse((at, _, _)) = self.due.peek()?;
        if *at > end {
            return None;
        }
        let Reverse((at, _, slot)) = self.due.pop().expect("it was there");
        self.free.push(slot);
        Some((at, self.things[slot as usize].take().expect("one thing for each key")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_the_order_of_time_and_then_of_their_saying() {
        let mut queue = Queue::new();
        for (at, thing) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b'), (9, 'e')] {
            queue.push(Mono(at), thing);
        }
        let first: Vec<char> = std::iter::from_fn(|| queue.pop(Mono(5))).map(|(_, thing)| thing).collect();
        assert_eq!(first, ['a', 'b', 'c', 'd']);
        queue.push(Mono(7), 'x');
        assert_eq!(queue.pop(Mono(10)), Some((Mono(7), 'x')));
        assert_eq!(queue.pop(Mono(10)), Some((Mono(9), 'e')));
        assert_eq!(queue.pop(Mono(10)), None);
        assert_eq!(queue.things.len(), 5, "places are used again");
    }
}
