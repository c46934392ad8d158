//! Which peer is meant: by alias, by the beginning of its id, by address.

use super::answers::Peers;
use super::fault::{Fault, FaultCode};
use crate::wire::{HostPort, NodeId, PeerAddress};

/// Shortest beginning of an id that is taken for one.
const PREFIX_MIN: usize = 4;

/// The peer that is called this: its alias, its id or a beginning of it of at least four characters
/// that no other peer shares, an address of it, or what a friend pastes.
///
/// # Errors
/// [`FaultCode::NoSuchPeer`], [`FaultCode::Ambiguous`].
pub fn select(peers: &Peers, text: &str) -> Result<NodeId, Fault> {
    let peers = &peers.peers;
    if let Some(peer) = peers.iter().find(|peer| peer.alias.as_deref() == Some(text)) {
        return Ok(peer.id);
    }
    let bare = text.strip_prefix("mesh:").filter(|rest| !rest.starts_with("//")).unwrap_or(text).to_ascii_lowercase();
    if bare.len() >= PREFIX_MIN {
        let mut alike = peers.iter().filter(|peer| peer.id.to_string().starts_with(&bare));
        match (alike.next(), alike.next()) {
            (Some(peer), None) => return Ok(peer.id),
            (Some(_), Some(_)) => {
                let why = format!("the ids of several peers begin with `{bare}`");
                return Err(Fault::new(FaultCode::Ambiguous, why));
            }
            (None, _) => {}
        }
    }
    by_address(peers, text).ok_or_else(|| {
        if !bare.is_empty() && peers.iter().any(|peer| peer.id.to_string().starts_with(&bare)) {
            let why = format!("`{bare}` is too short: the beginning of an id is {PREFIX_MIN} characters at least");
            return Fault::new(FaultCode::NoSuchPeer, why);
        }
        let shown: String = text.chars().filter(|letter| !letter.is_control()).take(80).collect();
        Fault::new(FaultCode::NoSuchPeer, format!("no peer has the alias, id or address `{shown}`"))
    })
}

fn by_address(peers: &[super::answers::Peer], text: &str) -> Option<NodeId> {
    let address: PeerAddress = text.parse().ok()?;
    let stands_at = |peer: &super::answers::Peer, at: &HostPort| peer.addresses.iter().any(|own| own.at == *at);
    match address.id {
        Some(id) => peers.iter().find(|peer| peer.id == id),
        None => peers.iter().find(|peer| stands_at(peer, &address.at)),
    }
    .map(|peer| peer.id)
}
