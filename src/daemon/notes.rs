//! What the core wants people to hear of: one log line for each change of state, with the number that
//! `afferent explain` knows where there is one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::admin::FaultCode;
use crate::admin::answers::{Change, Changed};
use crate::core::Standing;
use crate::core::params::DAY;
use crate::core::ports::Note;
use crate::time::Wall;
use crate::wire::message::Outcome;
use crate::wire::{Code, Digest, EventType, NodeId, timestamp};

/// What was said, so that the same is not said again with every try.
#[derive(Default)]
pub(super) struct Notes {
    /// Peers that are not reachable, and why, as it was said last.
    away: BTreeMap<NodeId, String>,
    /// When something was last seen that our key signed and we did not.
    key_elsewhere: Option<Wall>,
}

/// Peers come and go; when this many are remembered as away, all are forgotten, and said once more.
pub const AWAY_MAX: usize = 1_024;

/// A copy of this node is told in the log again after so long without a word of it.
const SAID_AGAIN: Duration = Duration::from_secs(3_600);

impl Notes {
    pub(super) fn tell(&mut self, note: &Note, now: Wall) {
        match note {
            Note::PeerConnected(peer) => {
                self.away.remove(peer);
                tracing::info!(peer = %peer.short(), "peer connected");
            }
            Note::PeerBackoff { peer, why, retry } => {
                let retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
                if self.is_news(*peer, why) {
                    tracing::info!(peer = %peer.short(), retry_ms, "peer not reachable: {why}");
                } else {
                    tracing::debug!(peer = %peer.short(), retry_ms, "peer still not reachable: {why}");
                }
            }
            Note::PeerMoved { peer, to: to @ Standing::Quarantine, why } => {
                tracing::warn!(peer = %peer.short(), to = to.as_str(), "peer is not listened to: {why}");
            }
            Note::PeerMoved { peer, to: Standing::Asking, .. } => {
                let id = peer.short();
                tracing::info!(peer = %id, "a node asks to be a neighbour; next: afferent peers accept {id}");
            }
            Note::PeerMoved { peer, to: to @ Standing::Blocked, why } => {
                self.away.remove(peer);
                tracing::info!(peer = %peer.short(), to = to.as_str(), "peer is blocked by hand: {why}");
            }
            Note::PeerMoved { to: Standing::Connected | Standing::Backoff, .. } => {} // each has a note that says more
            Note::PeerMoved { peer, to, why } => {
                tracing::debug!(peer = %peer.short(), to = to.as_str(), "peer moved: {why}");
            }
            Note::PeerLeft(peer) => {
                self.away.remove(peer);
                tracing::info!(peer = %peer.short(), "peer said goodbye");
            }
            Note::PeerEquivocates { peer, is_exempt: true } => {
                tracing::error!(peer = %peer.short(), "a peer that was added by hand signed two records with one number: its key may be used on two machines; it is listened to all the same");
            }
            Note::PeerEquivocates { is_exempt: false, .. } => {} // told as its way into quarantine
            Note::PeerLagging(peer) => {
                tracing::debug!(peer = %peer.short(), "peer is behind and is read for from the journal");
            }
            Note::PeerCaughtUp(peer) => tracing::debug!(peer = %peer.short(), "peer has all it is owed"),
            Note::PeerGap { peer, earliest } => {
                tracing::warn!(peer = %peer.short(), earliest = earliest.0, "events were dropped by age or size before this peer could take them");
            }
            Note::PeerRefused { peer, code } => {
                tracing::warn!(peer = %peer.short(), %code, number = number(*code), "peer refused an event for good");
            }
            Note::PeerUnreconciled { peer, fault } => {
                tracing::warn!(peer = %peer.short(), "peer is not asked for its view for an hour: {fault}");
            }
            Note::Taken { peer, event } => {
                tracing::debug!(peer = %peer.short(), digest = %event, "peer has the event");
            }
            Note::AnswerLate { peer, answer } => {
                tracing::warn!(peer = %peer.short(), digest = %answer, "an answer was not sent: the deadline of its question passed before the peer could take it");
            }
            Note::OwnKeyElsewhere { event, .. } => {
                let before = self.key_elsewhere.replace(now);
                // Every neighbour says it with every exchange.
                if before.is_none_or(|before| now.since(before) >= SAID_AGAIN) {
                    tracing::error!(digest = %event, number = number(Code::Conflict), "this key is used on another machine: something signed by it came in that was never made here");
                }
            }
            // The journal itself says it with its reason.
            Note::JournalFull => tracing::debug!("the journal is full: peers and publishers are told to wait"),
            Note::JournalWell => tracing::debug!("the journal takes events again"),
        }
    }

    /// Somebody publishes for a node that does not get it.
    pub(super) fn tell_unreached(&mut self, id: NodeId, why: &str) {
        let said = format!("addressed: {why}");
        if self.is_news(id, &said) {
            tracing::warn!(peer = %id.short(), "an event is addressed to a node that does not get it: {why}");
        } else {
            tracing::debug!(peer = %id.short(), "another event is addressed to a node that does not get it: {why}");
        }
    }

    /// For `status`.
    pub(super) fn warning(&self, now: Wall) -> Option<String> {
        let seen = self.key_elsewhere.filter(|seen| now.since(*seen) < DAY)?;
        let at = timestamp::format(seen);
        Some(format!(
            "this node's key is used on another machine too, seen last at {at}: peers may drop both; next: find the \
             copy and give it a key of its own (afferent init)"
        ))
    }

    fn is_news(&mut self, peer: NodeId, why: &str) -> bool {
        if self.away.len() >= AWAY_MAX && !self.away.contains_key(&peer) {
            self.away.clear();
        }
        self.away.insert(peer, why.to_owned()).is_none_or(|before| before != why)
    }
}

/// The same for whoever watches; `None` for what is no state.
pub(super) fn change(note: &Note, now: Wall) -> Option<Change> {
    let of = |what, peer| Change { at: Some(now), what, peer, why: None, retry_in_ms: None };
    Some(match note {
        Note::PeerConnected(peer) => of(Changed::PeerConnected, Some(*peer)),
        Note::PeerBackoff { peer, why, retry } => Change {
            why: Some(why.clone()),
            retry_in_ms: Some(u64::try_from(retry.as_millis()).unwrap_or(u64::MAX)),
            ..of(Changed::PeerBackoff, Some(*peer))
        },
        Note::PeerLeft(peer) => of(Changed::PeerLeft, Some(*peer)),
        Note::PeerMoved { peer, to: Standing::Asking, .. } => of(Changed::PeerAsks, Some(*peer)),
        Note::PeerEquivocates { peer, .. } => of(Changed::PeerEquivocates, Some(*peer)),
        Note::PeerLagging(peer) => of(Changed::PeerLagging, Some(*peer)),
        Note::PeerCaughtUp(peer) => of(Changed::PeerCaughtUp, Some(*peer)),
        Note::PeerGap { peer, .. } => of(Changed::PeerGap, Some(*peer)),
        Note::JournalFull => of(Changed::JournalFull, None),
        Note::JournalWell => of(Changed::JournalWell, None),
        Note::PeerMoved { .. }
        | Note::PeerRefused { .. }
        | Note::PeerUnreconciled { .. }
        | Note::Taken { .. }
        | Note::AnswerLate { .. }
        | Note::OwnKeyElsewhere { .. } => return None,
    })
}

/// One line for each event published here, whichever way it came: by its digest it is found again on
/// the bus, in the answers and on other nodes.
pub(super) fn tell_published(events: &[(Digest, EventType)], outcomes: &[Outcome]) {
    for ((digest, kind), outcome) in events.iter().zip(outcomes) {
        match outcome {
            Outcome::Stored { .. } => tracing::debug!(%digest, %kind, "published"),
            Outcome::Duplicate | Outcome::Uncarried => tracing::debug!(%digest, %kind, "published before"),
            Outcome::Refused(rejection) => tracing::debug!(%digest, %kind, code = %rejection.code(), "not published"),
        }
    }
}

/// What people type after `afferent explain`.
pub(super) fn number(code: Code) -> &'static str {
    FaultCode::Event(code).number()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;

    const NOON: Wall = Wall::from_millis(1_795_262_400_000);

    #[test]
    fn a_key_that_is_used_twice_is_warned_of_for_a_day() {
        let mut notes = Notes::default();
        assert_eq!(notes.warning(NOON), None);
        let seen = crate::wire::Draft::new("1", "a.b", NOON);
        let seen = crate::wire::envelope::seal(&seen, &Keypair::from_seed(&[1; 32])).expect("an event");
        notes.tell(&Note::OwnKeyElsewhere { event: seen.digest(), seq: None }, NOON);
        assert!(notes.warning(NOON).expect("seen now").contains("on another machine"));
        assert_eq!(notes.warning(NOON + DAY), None);
    }

    #[test]
    fn a_peer_that_stays_away_is_said_once_for_each_reason() {
        let mut notes = Notes::default();
        let id = |number: u16| {
            let mut seed = [0; 32];
            seed[..2].copy_from_slice(&number.to_le_bytes());
            Keypair::from_seed(&seed).id()
        };
        let news = ["refused", "refused", "no route", "no route", "refused"].map(|why| notes.is_news(id(1), why));
        assert_eq!(news, [true, false, true, false, true]);
        notes.tell(&Note::PeerConnected(id(1)), NOON);
        assert!(notes.is_news(id(1), "refused"), "it was there in between");
        for number in 0..3_000 {
            notes.is_news(id(number), "refused");
            assert!(notes.away.len() <= AWAY_MAX);
        }
    }
}
