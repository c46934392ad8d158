//! Who stands in the zone, and what an announcement changes: the quotas.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::{AWAY, FAILING, NEWCOMER, PER_GROUP_MAX, Policy, SCORE_MAX, SETTLED, SWEEP};
use crate::time::Wall;
use crate::wire::NodeId;
use crate::wire::address::{Block, Group};

/// One node in the zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Where it answers.
    pub at: SocketAddr,
    /// Of the record that was announced last.
    pub seq: u64,
    /// When it was taken in; it keeps this as long as it stays.
    pub since: Wall,
    /// When it last answered.
    pub ok: Wall,
    /// One more for each visit it answers, half for each it does not; at 0 it is out, or away.
    pub score: u8,
}

impl Entry {
    /// It answered. Announcing oneself every minute earns nothing: visits count as often as sweeps do.
    pub(super) fn answered(&mut self, now: Wall) {
        if now.since(self.ok) >= SWEEP / 2 {
            self.score = self.score.saturating_add(1).min(SCORE_MAX);
        }
        self.ok = self.ok.max(now);
    }

    /// It did not. True when it has lost its place.
    pub(super) fn missed(&mut self) -> bool {
        self.score /= 2;
        self.is_away()
    }

    /// It stood here for long and does not answer: it has no place, and the claim to one.
    pub fn is_away(&self) -> bool {
        self.score == 0
    }

    /// It keeps its claim when it falls silent.
    fn is_elder(&self, now: Wall) -> bool {
        now.since(self.since) >= NEWCOMER
    }

    /// The priority of its SRV record: whoever came today is asked after the others, and whoever is away last.
    pub fn priority(&self, now: Wall) -> u16 {
        match (self.is_away(), now.since(self.since) >= SETTLED) {
            (true, _) => 30,
            (false, true) => 10,
            (false, false) => 20,
        }
    }

    /// The weight of its SRV record, 1 to 97.
    pub fn weight(&self) -> u16 {
        1 + 6 * u16::from(self.score.min(SCORE_MAX))
    }
}

/// Somebody who announces itself, after every check but these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applicant {
    /// Whose key answered.
    pub id: NodeId,
    /// Where.
    pub at: SocketAddr,
    /// Of its record.
    pub seq: u64,
}

/// Why somebody is not taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// There is a newer record of it, or it left with this one.
    #[error("the zone has a newer record of this node")]
    Older,
    /// One of its /24 or /48 stands there.
    #[error("one node of this /24 or /48 is listed, and that is all there may be")]
    Block,
    /// Two of its /16 or /32 stand there.
    #[error("two nodes of this /16 or /32 are listed, and that is all there may be")]
    Group,
    /// Too many came lately.
    #[error("newcomers have all the places they may have; one becomes free when one of them is 7 days old")]
    Newcomers,
    /// Too many came within the hour.
    #[error("enough newcomers were admitted within the hour")]
    Hour,
    /// Everybody listed answers, or has stood there for longer and may come back.
    #[error("every place is taken by a node that answers, or kept for one that was there before")]
    Full,
}

impl Refusal {
    /// When it is worth asking again; `None` = never with this record.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Refusal::Older => None,
            Refusal::Hour => Some(Duration::from_secs(900)),
            Refusal::Block | Refusal::Group | Refusal::Newcomers | Refusal::Full => Some(Duration::from_secs(3_600)),
        }
    }
}

/// Everybody in the zone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    entries: BTreeMap<NodeId, Entry>,
    by_hand: usize,
}

impl Listing {
    /// As it was read; `by_hand` places are taken by records that are nobody's here.
    pub fn new(entries: BTreeMap<NodeId, Entry>, by_hand: usize) -> Listing {
        Listing { entries, by_hand }
    }

    /// Everybody, in the order of their ids, those who are away as well.
    pub fn entries(&self) -> &BTreeMap<NodeId, Entry> {
        &self.entries
    }

    /// Those who have a place, likewise.
    pub fn placed(&self) -> impl Iterator<Item = (&NodeId, &Entry)> {
        self.entries.iter().filter(|(_, entry)| !entry.is_away())
    }

    /// For the rounds of [`super::Visits`].
    pub(super) fn entries_mut(&mut self) -> &mut BTreeMap<NodeId, Entry> {
        &mut self.entries
    }

    /// Takes the applicant in, or notes that it is still there. `draw` decides who gives way where
    /// several could.
    ///
    /// # Errors
    /// The quota that is used up.
    pub fn admit(&mut self, applicant: &Applicant, now: Wall, policy: &Policy, draw: u64) -> Result<(), Refusal> {
        let listed = self.entries.get(&applicant.id).copied();
        // The same record at another address is another record with the same number.
        let is_older =
            |entry: Entry| applicant.seq < entry.seq || (applicant.seq == entry.seq && applicant.at != entry.at);
        if listed.is_some_and(is_older) {
            return Err(Refusal::Older);
        }
        if policy.is_spread {
            self.check_networks(applicant)?;
        }
        let is_full = self.placed().count() + self.by_hand >= policy.places;
        let gives_way = match listed {
            Some(entry) if entry.is_away() && is_full => {
                Some(self.failing(now, draw).or_else(|| self.youngest_after(entry.since)).ok_or(Refusal::Full)?)
            }
            Some(_) => None,
            None => {
                self.check_newcomers(now, policy)?;
                let gives_way = if is_full { Some(self.failing(now, draw).ok_or(Refusal::Full)?) } else { None };
                let goes = gives_way.is_some_and(|id| !self.entries[&id].is_elder(now));
                // What is lent of the places of those who are away is a newcomer's share, and no more.
                let claims = self.entries.len() + self.by_hand - usize::from(goes);
                if claims >= policy.places + policy.newcomers() {
                    return Err(Refusal::Full);
                }
                gives_way
            }
        };
        if let Some(id) = gives_way {
            self.unseat(&id, now);
        }
        let mut entry = listed.unwrap_or(Entry { at: applicant.at, seq: applicant.seq, since: now, ok: now, score: 1 });
        entry.answered(now);
        entry.score = entry.score.max(1);
        let entry = Entry { at: applicant.at, seq: applicant.seq, ..entry };
        self.entries.insert(applicant.id, entry);
        Ok(())
    }

    /// Takes a node's place from it. Who had it for long may come back.
    pub(super) fn unseat(&mut self, id: &NodeId, now: Wall) {
        match self.entries.get_mut(id) {
            Some(entry) if entry.is_elder(now) => entry.score = 0,
            _ => {
                self.entries.remove(id);
            }
        }
    }

    /// Forgets whoever is away for too long.
    pub(super) fn forget(&mut self, now: Wall) {
        self.entries.retain(|_, entry| !entry.is_away() || now.since(entry.ok) < AWAY);
    }

    /// Strikes a node out that said goodbye with this record. False when it does not stand there.
    ///
    /// # Errors
    /// [`Refusal::Older`]: it came back since.
    pub fn leave(&mut self, id: &NodeId, seq: u64) -> Result<bool, Refusal> {
        if self.entries.get(id).is_some_and(|entry| seq < entry.seq) {
            return Err(Refusal::Older);
        }
        Ok(self.entries.remove(id).is_some())
    }

    fn check_networks(&self, applicant: &Applicant) -> Result<(), Refusal> {
        let others = || self.placed().filter(|(id, _)| **id != applicant.id).map(|(_, entry)| entry.at.ip());
        let ip = applicant.at.ip();
        if others().any(|other| Block::of(other) == Block::of(ip)) {
            return Err(Refusal::Block);
        }
        if others().filter(|other| Group::of(*other) == Group::of(ip)).count() >= PER_GROUP_MAX {
            return Err(Refusal::Group);
        }
        Ok(())
    }

    fn check_newcomers(&self, now: Wall, policy: &Policy) -> Result<(), Refusal> {
        let came_within = |span: Duration| self.placed().filter(|(_, entry)| now.since(entry.since) < span).count();
        if came_within(NEWCOMER) >= policy.newcomers() {
            return Err(Refusal::Newcomers);
        }
        if came_within(Duration::from_secs(3_600)) >= policy.newcomers_per_hour {
            return Err(Refusal::Hour);
        }
        Ok(())
    }

    /// One of those that did not answer lately, by lot: the one with the least score would be known
    /// beforehand.
    fn failing(&self, now: Wall, draw: u64) -> Option<NodeId> {
        let failing: Vec<NodeId> =
            self.placed().filter(|(_, entry)| now.since(entry.ok) > FAILING).map(|(id, _)| *id).collect();
        let count = u64::try_from(failing.len()).ok().filter(|count| *count > 0)?;
        failing.get(usize::try_from(draw % count).ok()?).copied()
    }

    /// Who came last, if that was after `since`: it gives way to whoever was there before and comes back.
    fn youngest_after(&self, since: Wall) -> Option<NodeId> {
        let later = self.placed().filter(|(_, entry)| entry.since > since);
        later.max_by_key(|(_, entry)| entry.since).map(|(id, _)| *id)
    }
}
