//! May this come in? Local policy, asked after the signature and before the disk.
//!
//! Time, network, hops, rates and known digests were judged before, where requests are; the journal
//! has the last word on what is new.

use super::Node;
use super::params::{Params, REMEMBERED_EVERY, REMEMBERED_MAX};
use super::ports::{Note, Output, Refusal};
use super::trust::{self, Verdict};
use crate::time::{Mono, Wall};
use crate::wire::record::RECORD_TYPE;
use crate::wire::{Envelope, NodeId, Record, Rejection, Verified};

/// Refusals that lie in the event alone, whoever brings it: remembered until it expires.
pub(super) fn lasting(node: &Node, envelope: &Envelope, rejection: &Rejection) -> Option<Refusal> {
    let event = envelope.event();
    let lasts = match rejection {
        Rejection::OwnKeyElsewhere | Rejection::TypeDenied => true,
        Rejection::Muted => is_source_refused(&node.params, &event.source),
        _ => false,
    };
    lasts.then(|| Refusal { digest: event.digest(), expires: event.expires, code: rejection.code() })
}

fn is_source_refused(params: &Params, source: &NodeId) -> bool {
    params.mute.contains(source) || !(params.allow.is_empty() || params.allow.contains(source))
}

/// How many refusals may still be remembered: each takes its place on the disk for up to seven days,
/// and nobody may fill it.
#[derive(Default)]
pub(super) struct Memory {
    since: Option<Mono>,
    remembered: usize,
}

impl Memory {
    /// Keeps of these what the hour allows.
    pub(super) fn allow(&mut self, refusals: &mut Vec<Refusal>, now: Mono) {
        if self.since.is_none_or(|since| now.since(since) >= REMEMBERED_EVERY) {
            *self = Memory { since: Some(now), remembered: 0 };
        }
        refusals.truncate(REMEMBERED_MAX - self.remembered);
        self.remembered += refusals.len();
    }
}

/// Judges one event given to us by `from`. What is admitted is for this node, reserved types apart: who puts
/// it on the local bus later counts on that, and asks no interests again.
pub(super) fn admit(
    node: &Node,
    from: Option<NodeId>,
    envelope: &Verified<Envelope>,
    now: Wall,
    out: &mut Vec<Output>,
) -> Result<(), Rejection> {
    let event = envelope.event();
    // The door refuses whole requests of it; these were let in a moment before.
    if from.is_some_and(|from| node.peers.is_blocked(&from)) {
        return Err(Rejection::Blocked);
    }
    if event.source == node.me {
        // A record of our own is handed round by everybody, and brought back by anybody.
        if !Record::read(envelope).is_ok_and(|record| node.records.is_ours(&record)) {
            out.push(Output::Note(Note::OwnKeyElsewhere { event: envelope.digest(), seq: None }));
        }
        return Err(Rejection::OwnKeyElsewhere);
    }
    let by_member = node.params.allow.is_empty() || from.is_some_and(|from| node.params.allow.contains(&from));
    if !by_member || is_source_refused(&node.params, &event.source) {
        return Err(Rejection::Muted);
    }
    if event.kind.as_str() == RECORD_TYPE {
        // A stranger's record is nobody's business here yet: stored, it would only use up the quota.
        return if node.peers.is_served(&event.source) && !node.peers.is_shunned(&event.source, now) {
            Record::read(envelope).map(drop)
        } else {
            Err(Rejection::NotSubscribed)
        };
    }
    if event.kind.is_reserved() && !event.kind.as_str().starts_with("mesh.group.") {
        return Err(Rejection::TypeDenied);
    }
    if trust::by_rules(&node.params.rules, event) == Verdict::Dropped {
        return Err(Rejection::TypeDenied);
    }
    if !event.to.is_empty() {
        return if event.to.contains(&node.me) { Ok(()) } else { Err(Rejection::NotForMe) };
    }
    if node.interests.matches(&event.kind) { Ok(()) } else { Err(Rejection::NotSubscribed) }
}
