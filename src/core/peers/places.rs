//! Where a node may be, when several say so.

use super::super::tier::Tier;
use super::known::Known;
use super::state::Tally;
use crate::time::Now;
use crate::wire::HostPort;

impl Known {
    /// A tier names this node, without a record of it. Gives the places it has from now on, if that is news.
    ///
    /// What the node itself says, or where its key answered, comes first. Else the newest word does, but that
    /// seeds count more than a zone: one that names a seed where it is not would hide it otherwise.
    pub(super) fn also_at(&mut self, at: &[HostPort], tier: Tier, root: Tier, now: Now) -> Option<Vec<HostPort>> {
        let is_proved = self.record.is_some() || self.verified.is_some();
        let is_better = !is_proved && tier == Tier::Seed && self.tier == Tier::Dns;
        let is_first = is_better || (!is_proved && tier == self.tier);
        if is_better {
            (self.tier, self.root) = (tier, root);
            // What became of the places of the zone says nothing about those of the seeds.
            (self.tally, self.dead, self.until) = (Tally::default(), None, now.mono);
        }
        let is_news = at.iter().any(|place| !self.at.contains(place));
        let places = if is_first { [at, &self.at].concat() } else { [&self.at, at].concat() };
        is_news.then_some(places)
    }
}
