//! Is this node alone, though it should not be?
//!
//! It is alone while no lane of ours stands and nobody it knows calls on it. It should not be when there
//! is anybody to look for: a peer that was typed in, one to which a lane stood once, a zone, a list of
//! seeds, or a book that is dialled from. Whoever said goodbye, or is in quarantine, is not looked for.
//!
//! How that began does not matter. A node that finds nobody after its start and one that lost everybody
//! are the same to whoever asks whether events get through: they do not. Only the first minutes differ from
//! the rest, and [`ALONE_AFTER`] covers both.

use super::Node;
use super::params::ALONE_AFTER;
use super::view::View;
use crate::time::{Mono, Now};
use crate::wire::NodeId;

/// Since when nobody is there.
#[derive(Default)]
pub(super) struct Company {
    /// The last lane went then, or the start; `None` = a lane stands, or nothing is known yet.
    without_lane: Option<Mono>,
    /// A node of the table called on us then.
    called: Option<Mono>,
}

impl Company {
    /// The disk said what it remembers, or lanes came and went.
    pub(super) fn look(&mut self, has_lane: bool, now: Mono) {
        match has_lane {
            true => self.without_lane = None,
            false => self.without_lane = self.without_lane.or(Some(now)),
        }
    }

    /// `None` = somebody is there.
    pub(super) fn alone_since(&self) -> Option<Mono> {
        self.without_lane.max(self.called.filter(|_| self.without_lane.is_some()))
    }
}

impl Node {
    /// Somebody called: whoever cannot be dialled is company all the same.
    pub(super) fn on_called(&mut self, caller: &NodeId, now: Now) {
        if self.peers.knows(caller) && !self.peers.is_shunned(caller, now.wall) {
            self.company.called = Some(now.mono);
        }
    }

    /// Since when this node is alone; `None` also where it looks for nobody.
    pub(super) fn alone_since(&self) -> Option<Mono> {
        let tiers = self.params.tiers;
        let is_looking = tiers.dns || tiers.seeds || (tiers.is_any_on() && self.peers.has_book());
        self.company.alone_since().filter(|_| is_looking || self.peers.is_anybody_missed())
    }
}

impl View {
    /// For so long nobody was there, and that it is worth a word: see the head of this file.
    pub fn alone_for(&self, now: Mono) -> Option<std::time::Duration> {
        self.alone_since.map(|since| now.since(since)).filter(|span| *span >= ALONE_AFTER)
    }
}
