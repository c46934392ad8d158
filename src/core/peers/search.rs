//! What the scheduler asks of the table and the book: who is there, who could be, who is chosen next.

use std::collections::BTreeSet;

use super::super::exchange::is_passable;
use super::super::params::{ANCHORS_MAX, EXCHANGE_EVERY, HEAL_DIALS, VERIFIED_FOR};
use super::super::ports::{LaneId, Origin, Output, SavedBook, Welcome};
use super::super::tier::{Find, Tier};
use super::book::{Said, group_of};
use super::known::{Known, Probe};
use super::peer::may_tell;
use super::shunned::Ban;
use super::state::{Standing, State};
use super::{Peer, Peers};
use crate::time::{Mono, Now, Wall};
use crate::wire::{HostPort, NodeId, Profile, Record, Verified, Word};

/// How the outbound slots are used.
#[derive(Clone, Copy, Default, Debug)]
pub(in crate::core) struct Slots {
    /// Connections of our own choice, and those that were typed in.
    pub(in crate::core) standing: usize,
    /// Dials to make more of them.
    pub(in crate::core) coming: usize,
    /// Of both, those that DNS or seeds named.
    bootstrap: usize,
    /// Of both, those that only the DNS, or whoever called on us, led to.
    unvouched: usize,
}

/// What became of a choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::core) enum Choice {
    /// It is being dialled.
    Dialled,
    /// A lane to it stood already: it holds a slot now.
    Taken,
}

fn is_bootstrap(tier: Tier) -> bool {
    matches!(tier, Tier::Dns | Tier::Seed)
}

/// Does nothing but the DNS, or somebody who called on us, lead there? Seeds come with the release, a person
/// typed others in, and some were there in an earlier life.
fn is_unvouched(root: Tier) -> bool {
    matches!(root, Tier::Dns | Tier::Exchange)
}

impl Peers {
    /// Takes what is said of a node into the book. Who was typed in stands beside it.
    pub(super) fn hear(&mut self, said: Said, why: &str, now: Now, out: &mut Vec<Output>) {
        let id = said.id;
        if self.is_manual(&id) || self.is_shunned(&id, now.wall) {
            return;
        }
        let (is_new, gone) = self.book.hear(said, now);
        if let Some(gone) = gone.filter(|gone| !self.table.contains_key(gone)) {
            self.turns.forget(&gone);
        }
        if is_new && !self.table.contains_key(&id) {
            self.turns.tell(id, Standing::Heard, why, now.wall, out);
        }
    }

    /// A neighbour gave us a record of another node, checked and newer than what we held. False when it is of
    /// no use.
    pub(in crate::core) fn on_heard(
        &mut self,
        record: Verified<Record>,
        teller: NodeId,
        now: Now,
        out: &mut Vec<Output>,
    ) -> bool {
        let id = record.id();
        if id == self.me || self.is_closed_to(&id) || record.bye || self.is_shunned(&teller, now.wall) {
            return false;
        }
        // Of a teller that has not spoken to us itself nobody knows where it is.
        let word = self.table.get(&teller).and_then(|peer| peer.word).unwrap_or(Word::Far);
        self.on_record_heard(record.clone(), word, now.wall);
        let places = self.table.get(&teller).map(Peer::addresses).unwrap_or_default();
        let is_good = |at: &&HostPort| may_tell(self.rules.profile, word, at) && self.allows(at);
        let at: Vec<HostPort> = record.addresses.iter().filter(is_good).cloned().collect();
        if at.is_empty() {
            return self.table.contains_key(&id);
        }
        self.enrol(&record, Some(teller), now.wall);
        let source = places.first().map_or_else(|| format!("node {}", teller.short()), |place| group_of(&place.host));
        let root = self.table.get(&teller).map_or(Tier::Exchange, |peer| peer.root);
        let (record, tier, teller) = (Some(record), Tier::Exchange, Some(teller));
        let said = Said { id, record, at, tier, root, teller, source, word };
        self.hear(said, "a neighbour told of it", now, out);
        true
    }

    /// A tier names a node, with its id.
    pub(in crate::core) fn on_find(&mut self, id: NodeId, find: &Find, tier: Tier, now: Now, out: &mut Vec<Output>) {
        if id == self.me || self.is_closed_to(&id) {
            return;
        }
        let at: Vec<HostPort> = find.at.iter().filter(|at| self.allows(at)).cloned().collect();
        let source = String::from(if tier == Tier::Seed { "seed" } else { "dns" });
        // The operator named the zone, or the list.
        let said = Said { id, record: None, at, tier, root: tier, teller: None, source, word: Word::Near };
        let why = if tier == Tier::Seed { "the list of seeds names it" } else { "the DNS names it" };
        self.hear(said, why, now, out);
    }

    /// The key of somebody answered at a place that a tier names without saying whose it is.
    pub(in crate::core) fn on_introduced(
        &mut self,
        id: NodeId,
        at: HostPort,
        tier: Tier,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        if !self.is_closed_to(&id) && !self.is_shunned(&id, now.wall) {
            self.make_way(&id, &at);
        }
        self.on_find(id, &Find { id: Some(id), at: vec![at] }, tier, now, out);
        if self.book.get(&id).is_some() {
            self.answered(id, now, out);
        }
    }

    /// How a feeler ended.
    pub(in crate::core) fn on_felt(
        &mut self,
        id: NodeId,
        at: &HostPort,
        result: Result<NodeId, String>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        match result {
            Ok(found) if found == id => {
                if self.book.get(&id).is_some() {
                    self.answered(id, now, out);
                }
            }
            Ok(found) => {
                if let Some(known) = self.book.get_mut(&id) {
                    known.probe = None;
                }
                self.on_mistaken(id, at, found, now, out);
            }
            Err(why) => self.missed(id, &why, now, out),
        }
    }

    pub(in crate::core) fn slots(&self) -> Slots {
        let mut slots = Slots::default();
        let mut count = |tier: Tier, root: Tier| {
            slots.bootstrap += usize::from(is_bootstrap(tier));
            slots.unvouched += usize::from(is_unvouched(root));
        };
        let (mut standing, mut coming) = (0, 0);
        for peer in self.table.values().filter(|peer| peer.is_ours()) {
            match peer.state {
                State::Connected { .. } => standing += 1,
                State::Dialling { .. } if peer.chosen => coming += 1,
                _ => continue,
            }
            count(peer.tier, peer.root);
        }
        for (_, known) in self.book.iter().filter(|(_, known)| matches!(known.probe, Some(Probe::Lane(_)))) {
            coming += 1;
            count(known.tier, known.root);
        }
        Slots { standing, coming, ..slots }
    }

    /// Fills one outbound slot by chance, if somebody fits. What DNS and seeds name gets no more than half
    /// of the slots once others are there. And where seeds can be asked, the last slot waits for one of
    /// them, or for somebody that a friend or an earlier life vouches for: whoever owns our resolver and
    /// calls on us in crowds must not own all our neighbours.
    pub(in crate::core) fn choose(
        &mut self,
        target: usize,
        has_seeds: bool,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Option<Choice> {
        let slots = self.slots();
        let others = (slots.standing + slots.coming).saturating_sub(slots.bootstrap);
        let no_bootstrap = others > 0 && slots.bootstrap >= target / 2;
        let is_last = has_seeds && slots.unvouched + 1 >= target;
        let groups = if self.rules.profile == Profile::Public { self.groups() } else { BTreeSet::new() };
        let mut rng = self.rng.fork();
        let passes = |id: &NodeId, known: &Known| {
            let is_free = |peer: &Peer| matches!(peer.state, State::Asking) || (!peer.is_ours() && peer.is_connected());
            let is_free = self.table.get(id).is_none_or(is_free);
            is_free
                && known.is_ready(now.mono)
                && !(no_bootstrap && is_bootstrap(known.tier) && !is_last)
                && !(is_last && is_unvouched(known.root))
                && known.group().is_some_and(|group| !groups.contains(&group))
        };
        let anchor = self.book.iter().find(|(id, known)| known.anchor && passes(id, known)).map(|(id, _)| *id);
        let id = anchor.or_else(|| self.book.pick(&mut rng, passes))?;
        if let Some(peer) = self.table.get_mut(&id) {
            peer.chosen = true;
            if !matches!(peer.state, State::Asking) {
                return Some(Choice::Taken);
            }
            // It asked before we found it ourselves: whom we choose need not ask.
            (peer.origin, peer.welcome, peer.state) = (Origin::Found, Welcome::Open, State::dial_at(now.mono));
            (self.neighbours_changed, self.changed) = (true, true);
            self.welcomed.push(id);
            return Some(Choice::Dialled);
        }
        self.probe(id, now, out);
        Some(Choice::Dialled)
    }

    /// Networks in which we have a connection of our own choice, or are about to.
    fn groups(&self) -> BTreeSet<String> {
        let peers = self.table.iter().filter(|(_, peer)| peer.chosen && peer.state.lane().is_some());
        let probed = self.book.iter().filter(|(_, known)| matches!(known.probe, Some(Probe::Lane(_))));
        let ids = peers.map(|(id, _)| id).chain(probed.map(|(id, _)| id));
        ids.filter_map(|id| self.book.get(id)?.group()).collect()
    }

    fn probe(&mut self, id: NodeId, now: Now, out: &mut Vec<Output>) {
        let lane = self.new_lane();
        let Some(known) = self.book.get_mut(&id) else { return };
        known.probe = Some(Probe::Lane(lane));
        out.push(Output::Dial { peer: id, lane, at: known.at.clone(), word: known.word });
        self.turns.tell(id, Standing::Probing, "", now.wall, out);
    }

    /// Somebody to be felt for, and where: first whoever holds a place that another could have, then
    /// by chance one of whom we do not know whether he is there.
    pub(in crate::core) fn feel(&mut self, now: Now, out: &mut Vec<Output>) -> Option<(NodeId, HostPort, Word)> {
        let mut rng = self.rng.fork();
        let is_free = |id: &NodeId, known: &Known| known.is_ready(now.mono) && !self.table.contains_key(id);
        let doubted = self.book.doubted.iter().find(|id| self.book.get(id).is_some_and(|known| is_free(id, known)));
        let unsure = |id: &NodeId, known: &Known| is_free(id, known) && !known.is_verified(now.wall);
        let id = doubted.copied().or_else(|| self.book.pick(&mut rng, unsure))?;
        let known = self.book.get_mut(&id)?;
        let (at, word) = (known.next_place()?, known.word);
        known.probe = Some(Probe::Feeler(at.clone()));
        self.turns.tell(id, Standing::Probing, "", now.wall, out);
        Some((id, at, word))
    }

    /// Which neighbour told us of a node first; `None` = something else led to it.
    pub(in crate::core) fn teller(&self, id: &NodeId) -> Option<NodeId> {
        self.book.get(id)?.teller
    }

    /// Is anybody remembered who is no peer?
    pub(in crate::core) fn has_book(&self) -> bool {
        !self.book.is_empty()
    }

    /// A feeler was not sent after all.
    pub(in crate::core) fn spare(&mut self, id: &NodeId, until: Mono) {
        if let Some(known) = self.book.get_mut(id) {
            (known.probe, known.until) = (None, until);
        }
    }

    /// Is anybody away, so that looking for him could heal a partition?
    pub(in crate::core) fn misses_somebody(&self) -> bool {
        self.has_book() || self.table.values().any(|peer| peer.state.is_away())
    }

    /// Dials some of those that are away, those first that were there once. They become peers whatever
    /// slots are free: after a partition everybody's slots are full of the own side.
    pub(in crate::core) fn heal(&mut self, now: Now, out: &mut Vec<Output>) {
        let is_waiting = |state: &State| match state {
            State::Dead { .. } => true,
            State::Backoff { until, .. } => *until > now.mono,
            _ => false,
        };
        let away = self.table.iter().filter(|(_, peer)| is_waiting(&peer.state)).map(|(id, peer)| (*id, peer.proven));
        let is_missing = |known: &Known| {
            (known.dead.is_some() || known.until > now.mono) && known.probe.is_none() && known.is_open(now.mono)
        };
        let missing = self.book.iter().filter(|(id, known)| is_missing(known) && !self.table.contains_key(id));
        let all: Vec<(NodeId, bool)> = away.chain(missing.map(|(id, known)| (*id, known.verified.is_some()))).collect();
        let (mut once, mut never): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, proven)| *proven);
        self.rng.shuffle(&mut once);
        self.rng.shuffle(&mut never);
        for (id, _) in once.into_iter().chain(never).take(HEAL_DIALS) {
            match self.table.get_mut(&id) {
                Some(peer) => peer.state = State::Backoff { until: now.mono, why: String::from("looked for again") },
                None => self.probe(id, now, out),
            }
        }
    }

    /// Forgets whoever was not there for a month, and what became of those who are forgotten.
    pub(in crate::core) fn tidy(&mut self, now: Now, out: &mut Vec<Output>) {
        let (table, book) = (&self.table, &mut self.book);
        book.purge(now.wall, |id| table.contains_key(id));
        let gone = |peer: &Peer| match peer.state {
            State::Dead { since, .. } => now.wall.since(since) > super::super::params::PURGE_AFTER,
            _ => false,
        };
        let gone: Vec<NodeId> = self.table.iter().filter(|(_, peer)| gone(peer)).map(|(id, _)| *id).collect();
        for id in gone {
            self.forget(id, "it was away for a month", out);
        }
        let (table, book) = (&self.table, &self.book);
        let is_shunned = |id: &NodeId| self.shunned.get(id, now.wall).is_some();
        self.turns.retain(|id| table.contains_key(id) || book.get(id).is_some() || is_shunned(id));
    }

    /// Asks every neighbour for records whose turn it is.
    pub(in crate::core) fn exchange_due(&mut self, now: Mono, out: &mut Vec<Output>) {
        let every = u64::try_from(EXCHANGE_EVERY.as_micros()).unwrap_or(u64::MAX);
        for (id, peer) in &mut self.table {
            let State::Connected { lane, .. } = peer.state else { continue };
            if peer.exchange_at <= now {
                out.push(Output::Exchange { peer: *id, lane });
                let pause = self.rng.u64(every / 4 * 3..=every / 4 * 5);
                peer.exchange_at = Mono(now.0.saturating_add(pause));
            }
        }
    }

    pub(in crate::core) fn next_exchange(&self) -> Option<Mono> {
        self.table.values().filter(|peer| peer.is_connected()).map(|peer| peer.exchange_at).min()
    }

    /// Lets connections go that are wanted no more: what DNS and seeds named, once others fill the slots,
    /// and the youngest of too many. A peer that is being caught up stays. Whoever wants events of us
    /// stays a peer and gives back its slot alone, so that nothing it asked for is lost.
    pub(in crate::core) fn release(
        &mut self,
        target: usize,
        is_behind: impl Fn(&NodeId) -> bool,
        out: &mut Vec<Output>,
    ) {
        let standing = |peer: &&Peer| peer.is_ours() && peer.is_connected();
        let others = self.table.values().filter(standing).filter(|peer| !is_bootstrap(peer.tier)).count();
        let is_free = |(id, peer): &(&NodeId, &Peer)| peer.chosen && peer.is_connected() && !is_behind(id);
        let mut released: Vec<NodeId> = Vec::new();
        if others >= target {
            let named = self.table.iter().filter(is_free).filter(|(_, peer)| is_bootstrap(peer.tier));
            released.extend(named.map(|(id, _)| *id));
        } else if self.table.values().filter(standing).count() > target + ANCHORS_MAX {
            let since = |peer: &Peer| match peer.state {
                State::Connected { since, .. } => since,
                _ => Mono(0),
            };
            released.extend(self.table.iter().filter(is_free).max_by_key(|(_, peer)| since(peer)).map(|(id, _)| *id));
        }
        for id in released {
            let Some(peer) = self.table.get_mut(&id) else { continue };
            peer.chosen = false;
            let wants_nothing = peer.record.as_ref().is_none_or(|record| record.interests.patterns().is_empty());
            if wants_nothing && peer.origin == Origin::Found {
                self.forget(id, "let go: enough others are connected", out);
            }
        }
    }

    /// Does any lane stand?
    pub(in crate::core) fn has_lane(&self) -> bool {
        self.table.values().any(Peer::is_connected)
    }

    /// Is there a peer that should be connected, and did not end that by itself?
    pub(in crate::core) fn is_anybody_missed(&self) -> bool {
        self.table.iter().any(|(id, peer)| self.is_familiar(id) && !peer.is_shut())
    }

    /// Does a person's word lead anywhere?
    pub(in crate::core) fn has_manual(&self) -> bool {
        self.table.values().any(|peer| peer.origin == Origin::Manual && !peer.is_blocked())
    }

    /// Nodes of the book whose key answered within a day.
    pub(in crate::core) fn verified(&self, now: Wall) -> usize {
        self.book.verified(now)
    }

    /// Records that we may hand on: of nodes that answered us within a day, no word of mouth alone, and
    /// goodbyes.
    pub(in crate::core) fn shareable(&self, now: Wall) -> impl Iterator<Item = &Verified<Record>> {
        let is_fresh = move |at: Option<Wall>| at.is_some_and(|at| now.since(at) <= VERIFIED_FOR);
        let peers = self.table.values().filter(move |peer| peer.is_connected() || is_fresh(peer.verified));
        let peers = peers.filter_map(|peer| peer.record.as_ref());
        let is_known = move |id: &NodeId, known: &Known| is_fresh(known.verified) && !self.table.contains_key(id);
        let known = self.book.iter().filter(move |(id, known)| is_known(id, known));
        let known = known.filter_map(|(_, known)| known.record.as_ref());
        let is_good = move |record: &&Verified<Record>| {
            now < record.expires() && is_passable(record, self.rules.profile) && !self.is_shunned(&record.id(), now)
        };
        peers.chain(known).filter(is_good)
    }

    /// Every record that is kept, handed on or not.
    pub(in crate::core) fn records(&self) -> impl Iterator<Item = &Verified<Record>> {
        let peers = self.table.values().filter_map(|peer| peer.record.as_ref());
        let known = self.book.iter().filter_map(|(_, known)| known.record.as_ref());
        peers.chain(known).chain(self.roster.iter().map(|member| &member.record))
    }

    /// Lanes that stand.
    pub(in crate::core) fn lanes(&self) -> impl Iterator<Item = (NodeId, LaneId)> {
        let lane = |(id, peer): (&NodeId, &Peer)| match peer.state {
            State::Connected { lane, .. } => Some((*id, lane)),
            _ => None,
        };
        self.table.iter().filter_map(lane)
    }

    /// Is this a neighbour whose living record we hold, and that nobody shut out?
    pub(in crate::core) fn is_entitled(&self, id: &NodeId, now: Wall) -> bool {
        let is_living = |record: &Verified<Record>| !record.bye && now < record.expires();
        let is_neighbour = |peer: &Peer| peer.welcome != Welcome::Asks && peer.record.as_ref().is_some_and(is_living);
        self.table.get(id).is_some_and(is_neighbour) && !self.is_closed_to(id) && !self.is_shunned(id, now)
    }

    /// The nodes of the book that are no peers.
    pub(in crate::core) fn strangers(&self) -> impl Iterator<Item = (&NodeId, &Known)> {
        self.book.iter().filter(|(id, _)| !self.table.contains_key(id))
    }

    /// The nodes that are not listened to now.
    pub(in crate::core) fn shunned(&self, now: Wall) -> impl Iterator<Item = (&NodeId, &Ban)> {
        self.shunned.iter(now).filter(|(id, _)| !self.table.contains_key(id))
    }

    pub(in crate::core) fn is_book_changed(&self) -> bool {
        self.book.changed || self.shunned.changed
    }

    /// The book as it is written down, with its anchors: the two connections of our own choice that stand
    /// longest. Until there are two, those of the last life stay: a crash in a bad moment loses none.
    pub(in crate::core) fn saved_book(&mut self, now: Wall) -> SavedBook {
        (self.book.changed, self.shunned.changed) = (false, false);
        let since = |(id, peer): (&NodeId, &Peer)| match peer.state {
            State::Connected { since, .. } if peer.chosen => Some((since, *id)),
            _ => None,
        };
        let mut longest: Vec<(Mono, NodeId)> = self.table.iter().filter_map(since).collect();
        longest.sort_unstable();
        longest.truncate(ANCHORS_MAX);
        if longest.len() == ANCHORS_MAX {
            self.book.set_anchors(&longest.into_iter().map(|(_, id)| id).collect());
        }
        SavedBook { nodes: self.book.saved(), shunned: self.shunned.saved(now) }
    }

    pub(in crate::core) fn remember(&mut self, book: SavedBook, now: Wall) {
        for ban in book.shunned {
            self.shunned.restore(ban, now);
        }
        for mut node in book.nodes {
            node.at.retain(|at| self.allows(at));
            if node.id != self.me && !self.is_closed_to(&node.id) && !self.is_shunned(&node.id, now) {
                self.book.restore(node);
            }
        }
        self.book.purge(now, |_| false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_tells_us_of_places_that_mean_another_machine() {
        let place = |text: &str| text.parse::<HostPort>().expect("an address");
        for (word, told, good) in [
            (Word::Near, "10.0.0.2:7443", true),
            (Word::Far, "10.0.0.2:7443", false),
            (Word::Far, "8.8.8.8:7443", true),
            (Word::Near, "127.0.0.1:7443", false),
            (Word::Near, "birch.example:22", false),
            (Word::Far, "birch.example:7443", true),
        ] {
            assert_eq!(may_tell(Profile::Private, word, &place(told)), good, "{word:?} {told}");
        }
    }
}
