//! What the core wants people to hear of: one log line for each change of state.

use crate::admin::answers::{Change, Changed};
use crate::core::ports::Note;
use crate::time::Wall;
use crate::wire::message::Outcome;
use crate::wire::{Digest, EventType};

pub(super) fn tell(note: &Note) {
    match note {
        Note::PeerConnected(peer) => tracing::info!(peer = %peer.short(), "peer connected"),
        Note::PeerBackoff { peer, why, retry } => {
            tracing::info!(peer = %peer.short(), retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX), "peer not reachable: {why}");
        }
        Note::PeerLagging(peer) => {
            tracing::debug!(peer = %peer.short(), "peer is behind and is read for from the journal");
        }
        Note::PeerCaughtUp(peer) => tracing::debug!(peer = %peer.short(), "peer has all it is owed"),
        Note::PeerGap { peer, earliest } => {
            tracing::warn!(peer = %peer.short(), earliest = earliest.0, "events were dropped by age or size before this peer could take them");
        }
        Note::PeerRefused { peer, code } => {
            tracing::warn!(peer = %peer.short(), %code, "peer refused an event for good");
        }
        Note::Taken { peer, event } => tracing::debug!(peer = %peer.short(), digest = %event, "peer has the event"),
        Note::OwnKeyElsewhere(digest) => {
            tracing::error!(%digest, "this key is used on another machine: an event signed by it came in that was never made here");
        }
        Note::JournalFull => tracing::error!("the journal is full: peers and publishers are told to wait"),
        Note::JournalWell => tracing::info!("the journal takes events again"),
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
        Note::PeerLagging(peer) => of(Changed::PeerLagging, Some(*peer)),
        Note::PeerCaughtUp(peer) => of(Changed::PeerCaughtUp, Some(*peer)),
        Note::PeerGap { peer, .. } => of(Changed::PeerGap, Some(*peer)),
        Note::JournalFull => of(Changed::JournalFull, None),
        Note::JournalWell => of(Changed::JournalWell, None),
        Note::PeerRefused { .. } | Note::Taken { .. } | Note::OwnKeyElsewhere(_) => return None,
    })
}

/// One line for each event published here, whichever way it came: by its digest it is found again on
/// the bus, in the answers and on other nodes.
pub(super) fn tell_published(events: &[(Digest, EventType)], outcomes: &[Outcome]) {
    for ((digest, kind), outcome) in events.iter().zip(outcomes) {
        match outcome {
            Outcome::Stored { .. } => tracing::debug!(%digest, %kind, "published"),
            Outcome::Duplicate => tracing::debug!(%digest, %kind, "published before"),
            Outcome::Refused(rejection) => tracing::debug!(%digest, %kind, code = %rejection.code(), "not published"),
        }
    }
}
