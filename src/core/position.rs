//! Where a node stands, and what stands around it.
//!
//! A node's *position* is SHA-256 of its public key, read as hex digits. Nobody chooses his own, and all
//! agree on everybody's: the order of positions is the order in which the mesh is divided.

use std::fmt;

use crate::wire::{Digest, NodeId};

/// Hex digits of a position.
pub const DIGITS: usize = 64;

/// SHA-256 of a public key; compared by hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position([u8; 32]);

impl Position {
    /// Where this node stands.
    pub fn of(id: &NodeId) -> Position {
        Position(*Digest::of(id.as_bytes()).as_bytes())
    }

    /// Length of the common prefix, in hex digits.
    pub fn cpl(&self, other: &Position) -> usize {
        let mut digits = 0;
        for (mine, theirs) in self.0.iter().zip(&other.0) {
            match mine ^ theirs {
                0 => digits += 2,
                differing => return digits + usize::from(differing < 0x10),
            }
        }
        digits
    }

    /// The digit at `index`, counted from 0: 0 to 15.
    ///
    /// # Panics
    /// From [`DIGITS`] on.
    pub fn digit(&self, index: usize) -> u8 {
        let byte = self.0[index / 2];
        if index.is_multiple_of(2) { byte >> 4 } else { byte & 0xf }
    }

    fn with_digit(mut self, index: usize, digit: u8) -> Position {
        let byte = &mut self.0[index / 2];
        *byte = if index.is_multiple_of(2) { digit << 4 | *byte & 0xf } else { *byte & 0xf0 | digit & 0xf };
        self
    }

    /// The same first digits, and nothing but `filler` behind them.
    fn filled(self, digits: usize, filler: u8) -> Position {
        (digits..DIGITS).fold(self, |position, index| position.with_digit(index, filler))
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}..", self.0[0], self.0[1])
    }
}

/// All positions that share their first digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The lowest of them.
    position: Position,
    digits: usize,
}

impl Prefix {
    /// Every position there is.
    pub const ALL: Prefix = Prefix { position: Position([0; 32]), digits: 0 };

    /// All positions that share the first `digits` of this one; beyond [`DIGITS`], this one alone.
    pub fn new(position: Position, digits: usize) -> Prefix {
        let digits = digits.min(DIGITS);
        Prefix { position: position.filled(digits, 0), digits }
    }

    /// How many digits they share.
    pub fn digits(&self) -> usize {
        self.digits
    }

    /// Is this one of them?
    pub fn contains(&self, position: &Position) -> bool {
        self.position.cpl(position) >= self.digits
    }

    /// Those of them that go on with this digit.
    ///
    /// # Panics
    /// When all digits are shared already.
    #[must_use]
    pub fn child(&self, digit: u8) -> Prefix {
        Prefix { position: self.position.with_digit(self.digits, digit), digits: self.digits + 1 }
    }

    /// The lowest of them.
    pub fn first(&self) -> Position {
        self.position
    }

    /// The highest of them.
    pub fn last(&self) -> Position {
        self.position.filled(self.digits, 0xf)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..self.digits).try_for_each(|index| write!(f, "{:x}", self.position.digit(index)))?;
        f.write_str("*")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn a_prefix_is_read_by_people_as_its_digits() {
        let prefix = Prefix::ALL.child(0xa).child(3).child(0);
        assert_eq!(format!("{prefix:?} {:?}", Prefix::ALL), "a30* *");
        assert_eq!((prefix.digits(), prefix.first().digit(0), prefix.first().digit(1)), (3, 0xa, 3));
    }

    proptest! {
        /// Three ways to say the same: by digits, by order, by descent.
        #[test]
        fn a_prefix_is_a_range_of_positions(one: [u8; 32], near in 0usize..80, other: [u8; 32], digits in 0usize..70) {
            let one = Position(one);
            // Random positions share hardly a digit: this one shares `near`.
            let other = (0..near.min(DIGITS)).fold(Position(other), |there, index| there.with_digit(index, one.digit(index)));
            let prefix = Prefix::new(one, digits);
            let shares = (0..digits.min(DIGITS)).all(|index| one.digit(index) == other.digit(index));
            prop_assert_eq!(prefix.contains(&other), shares);
            prop_assert_eq!(prefix.first() <= other && other <= prefix.last(), shares);
            let descended = (0..digits.min(DIGITS)).fold(Prefix::ALL, |at, index| at.child(one.digit(index)));
            prop_assert_eq!(descended, prefix);
        }
    }
}
