//! The registrar role: who may stand in the zone, for how long, and what the zone should say.
//!
//! ```text
//!   challenge   what has to be done before anything else is looked at
//!   listing     who stands in the zone, the quotas, and what an announcement changes
//!   sweep       what a round of visits changes
//!   records     the zone as resource records, read and written
//! ```
//!
//! **The zone is the state.** Nothing here is remembered between two questions: every decision is made
//! from the records of the zone as they were read a moment ago, and holds only if they still are so
//! when the name server takes the change. So there may be several registrars, and each may be killed.
//!
//! What the quotas can and cannot do: a key costs nothing, so they count networks. Somebody with many
//! addresses in few networks gets two places in each of these. Somebody with addresses in as many networks
//! as there are places looks like as many people: what decides then is who was there first. A node that
//! stood here for a week and falls silent keeps the claim to its place for another, and takes it back from
//! whoever came last; of places that are claimed so, a newcomers' share is lent and no more. So whoever
//! comes when the list is full holds no more than that share for as long as those who filled it come back.
//! Where they leave for good, or the list is new, latecomers are as good as anybody, and clients bound what
//! comes of it: they give what they found by DNS at most half of their connections.

use std::time::Duration;

pub mod challenge;
mod listing;
mod records;
mod sweep;

pub use challenge::Secret;
pub use listing::{Applicant, Entry, Listing, Refusal};
pub use records::{Book, Change, Data, LIST_TTL, MANIFEST_LIFE, NODE_TTL, Rr};
pub use sweep::{Visit, Visits};

/// How often everybody listed is visited.
pub const SWEEP: Duration = Duration::from_secs(300);
/// Until an entry has stood for this long it counts as a newcomer.
pub const NEWCOMER: Duration = Duration::from_secs(7 * 86_400);
/// For so long after its last answer a node that was no newcomer keeps the claim to its place.
pub const AWAY: Duration = Duration::from_secs(7 * 86_400);
/// Until then it is told after the others: priority 20 instead of 10.
pub const SETTLED: Duration = Duration::from_secs(86_400);
/// Two sweeps without an answer: the entry gives way to whoever comes when all places are taken.
pub const FAILING: Duration = Duration::from_secs(720);
/// The best score.
pub const SCORE_MAX: u8 = 16;
/// Most entries of one IPv4 /16 or IPv6 /32. Of one /24 or /48 there is one.
pub const PER_GROUP_MAX: usize = 2;

/// What the operator decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Entries at most, those written by hand counted; a client takes 32.
    pub places: usize,
    /// Share of them that newcomers may have, in percent; at least one place.
    pub newcomers_percent: u8,
    /// Newcomers admitted in an hour.
    pub newcomers_per_hour: usize,
    /// One entry of a /24 or /48 and two of a /16 or /32. In a private network the owner of the network
    /// gives the addresses out, and everybody is of one block.
    pub is_spread: bool,
    /// Zero bits that a registration has to show: 20 are a fifth of a second.
    pub work_bits: u8,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { places: 40, newcomers_percent: 20, newcomers_per_hour: 4, is_spread: true, work_bits: 20 }
    }
}

impl Policy {
    /// Places that newcomers may have.
    pub fn newcomers(&self) -> usize {
        (self.places * usize::from(self.newcomers_percent) / 100).max(1)
    }
}

#[cfg(test)]
mod tests;
