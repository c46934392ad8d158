//! Who gets in when the table is full.

use super::super::params::{AWAY_MAX, NEWCOMER_EVERY, NEWCOMERS_MAX, SUSPECT_FOR};
use super::super::ports::{Origin, Output};
use super::{Peer, Peers};
use crate::time::{Mono, Wall};
use crate::wire::NodeId;

/// How many more may come by themselves now.
pub(super) struct Newcomers {
    left: u32,
    since: Mono,
}

impl Default for Newcomers {
    fn default() -> Newcomers {
        Newcomers { left: NEWCOMERS_MAX, since: Mono(0) }
    }
}

impl Newcomers {
    pub(super) fn admit(&mut self, now: Mono) -> bool {
        let every = NEWCOMER_EVERY.as_micros();
        let more = now.since(self.since).as_micros() / every;
        if more > 0 {
            self.left = self.left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(NEWCOMERS_MAX);
            self.since = now;
        }
        let admitted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        admitted
    }
}

impl Peers {
    /// Room for one that came by itself, or was typed in. Places that are kept for nodes of our own choice
    /// are not given away: who calls on us in crowds does not choose our neighbours.
    pub(super) fn make_room(&mut self, now: Wall, out: &mut Vec<Output>) -> bool {
        let chosen = self.table.values().filter(|peer| peer.origin == Origin::Found).count();
        let kept = self.rules.kept.saturating_sub(chosen);
        if self.table.len() + kept < self.rules.peers_max {
            return true;
        }
        match self.droppable(now) {
            Some(id) => {
                self.forget(id, "its place in the table was given to another", out);
                true
            }
            None => false,
        }
    }

    /// Room for one that we chose: whoever is away gives way to it, the one that was seen longest ago first.
    pub(super) fn make_room_by_choice(&mut self, now: Wall, out: &mut Vec<Output>) -> bool {
        if self.table.len() < self.rules.peers_max {
            return true;
        }
        let is_away = |peer: &Peer| peer.state.is_away() && peer.seen.is_none_or(|seen| now.since(seen) > SUSPECT_FOR);
        let away = self.table.iter().filter(|(_, peer)| !peer.is_kept() && is_away(peer));
        let longest = away.min_by_key(|(_, peer)| peer.seen).map(|(id, _)| *id);
        match self.droppable(now).or(longest) {
            Some(id) => {
                self.forget(id, "its place in the table was given to another", out);
                true
            }
            None => false,
        }
    }

    /// One that came by itself and is away: the youngest that never had a lane, so that a crowd of
    /// strangers pushes out strangers, else one that is away so long that nothing is owed to it.
    fn droppable(&self, now: Wall) -> Option<NodeId> {
        let candidates = || self.table.iter().filter(|(_, peer)| !peer.is_kept() && peer.state.is_away());
        let strangers = candidates().filter(|(_, peer)| !peer.proven);
        let is_gone = |peer: &Peer| peer.seen.is_none_or(|seen| now.since(seen) > AWAY_MAX);
        let gone = candidates().filter(|(_, peer)| is_gone(peer));
        let chosen = strangers.max_by_key(|(_, peer)| peer.since).or_else(|| gone.min_by_key(|(_, peer)| peer.seen));
        chosen.map(|(id, _)| *id)
    }
}
