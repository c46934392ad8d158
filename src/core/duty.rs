//! Whom must I serve for this event?
//!
//! A node's *position* is SHA-256 of its public key, read as hex digits; `cpl(a, b)` is the length of
//! the common prefix of two positions. Whoever got an event with duty from neighbour `f` answers for
//! all interested nodes whose position shares its own first `cpl(f, me) + 1` digits; the origin
//! answers for all. Duty is implied by who sent it, so there is no range to forge and it strictly
//! shrinks. Here all of them are served directly, as leaves; splitting a large set over delegates
//! comes behind the same question.

use std::fmt;

use crate::wire::{Digest, NodeId};

use super::ports::Entry;

/// SHA-256 of a public key; compared by hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Position([u8; 32]);

impl Position {
    pub(super) fn of(id: &NodeId) -> Position {
        Position(*Digest::of(id.as_bytes()).as_bytes())
    }

    /// Length of the common prefix, in hex digits.
    pub(super) fn cpl(&self, other: &Position) -> usize {
        let mut digits = 0;
        for (mine, theirs) in self.0.iter().zip(&other.0) {
            match mine ^ theirs {
                0 => digits += 2,
                differing => return digits + usize::from(differing < 0x10),
            }
        }
        digits
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}..", self.0[0], self.0[1])
    }
}

/// What we answer for with one event: everybody interested whose position shares our first `digits`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Duty {
    mine: Position,
    digits: usize,
}

impl Duty {
    /// Our duty for this entry; `None` for a leaf.
    pub(super) fn of(me: &NodeId, mine: &Position, entry: &Entry) -> Option<Duty> {
        let digits = match entry.from {
            Some(from) if from == *me => 0,
            Some(from) if entry.duty => Position::of(&from).cpl(mine) + 1,
            _ => return None,
        };
        let may_cross = entry.hops < entry.envelope.event().hops_max;
        may_cross.then_some(Duty { mine: *mine, digits })
    }

    /// Is a node at this position ours to serve?
    pub(super) fn covers(&self, position: &Position) -> bool {
        self.mine.cpl(position) >= self.digits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_prefix_counts_hex_digits() {
        let position = |first: u8, second: u8| {
            let mut bytes = [0; 32];
            (bytes[0], bytes[1]) = (first, second);
            Position(bytes)
        };
        assert_eq!(position(0x12, 0).cpl(&position(0x12, 0)), 64);
        assert_eq!(position(0x12, 0).cpl(&position(0x13, 0)), 1);
        assert_eq!(position(0x12, 0).cpl(&position(0x22, 0)), 0);
        assert_eq!(position(0x12, 0x30).cpl(&position(0x12, 0x40)), 2);
        assert_eq!(position(0x12, 0x34).cpl(&position(0x12, 0x35)), 3);
    }
}
