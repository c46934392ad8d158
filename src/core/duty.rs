//! Whom must I serve for this event?
//!
//! `cpl(a, b)` is the length of the common prefix of two positions ([`super::position`]). Whoever got an
//! event with duty from neighbour `f` answers for all interested nodes whose position shares its own first
//! `cpl(f, me) + 1` digits; the origin answers for all. Duty is implied by who sent it, so there is no
//! range to forge and it strictly shrinks. Here all of them are served directly, as leaves; splitting a
//! large set over delegates comes behind the same question.

use crate::wire::NodeId;

use super::ports::Entry;
use super::position::{Position, Prefix};

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

    /// Everybody whom we answer for.
    pub(super) fn prefix(&self) -> Prefix {
        Prefix::new(self.mine, self.digits)
    }

    /// Is a node at this position ours to serve?
    pub(super) fn covers(&self, position: &Position) -> bool {
        self.mine.cpl(position) >= self.digits
    }
}
