//! May this come in? Local policy, asked after the signature and before the disk.
//!
//! Time, network, hops, rates and known digests were judged before, where requests are; the journal
//! has the last word on what is new.

use super::Node;
use super::ports::{Note, Output};
use crate::wire::record::RECORD_TYPE;
use crate::wire::{Envelope, NodeId, Record, Rejection, Verified};

/// Judges one event given to us by `from`.
pub(super) fn admit(
    node: &Node,
    from: Option<NodeId>,
    envelope: &Verified<Envelope>,
    out: &mut Vec<Output>,
) -> Result<(), Rejection> {
    let event = envelope.event();
    if event.source == node.me {
        out.push(Output::Note(Note::OwnKeyElsewhere(envelope.digest())));
        return Err(Rejection::OwnKeyElsewhere);
    }
    let params = &node.params;
    let is_private = !params.allow.is_empty();
    let is_member = |id: &NodeId| params.allow.contains(id);
    let by_outsider = is_private && !(is_member(&event.source) && from.as_ref().is_some_and(is_member));
    if by_outsider || params.mute.contains(&event.source) {
        return Err(Rejection::Muted);
    }
    if event.kind.as_str() == RECORD_TYPE {
        // A stranger's record is nobody's business here yet: stored, it would only use up the quota.
        return if node.peers.knows(&event.source) {
            Record::read(envelope).map(drop)
        } else {
            Err(Rejection::NotSubscribed)
        };
    }
    if event.kind.is_reserved() && !event.kind.as_str().starts_with("mesh.group.") {
        return Err(Rejection::TypeDenied);
    }
    if !event.to.is_empty() {
        return if event.to.contains(&node.me) { Ok(()) } else { Err(Rejection::NotForMe) };
    }
    if node.interests.matches(&event.kind) { Ok(()) } else { Err(Rejection::NotSubscribed) }
}
