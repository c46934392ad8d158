//! Peers in sentences: how things stand with one, why, and how that came.

use std::time::Duration;

use super::super::failure::{Exit, Failure};
use super::super::output::{Output, plain};
use super::super::words;
use super::decode;
use crate::admin::answers::{Moved, Peer, PeerState, Via, Way};
use crate::core::ports::Origin;
use crate::time::Wall;
use crate::wire::NodeId;

/// The state as a sentence: what, why, what comes next.
pub(super) fn sentence(peer: &Peer) -> String {
    let why = peer.why.as_deref().map(|why| format!(": {}", plain(why))).unwrap_or_default();
    let span = peer.retry_in_ms.map(|ms| words::brief(Duration::from_millis(ms)));
    let within =
        |before: &str, after: &str| span.as_ref().map(|span| format!("; {before}{span}{after}")).unwrap_or_default();
    let retry = within("next try in ", "");
    let failures = match peer.failures {
        0 | 1 => String::new(),
        many => format!(", {many} failures"),
    };
    match peer.state {
        PeerState::Connected if peer.lagging => "connected, behind: the journal feeds it".to_owned(),
        PeerState::Connected => "connected".to_owned(),
        PeerState::Probing => format!("being called{}", if why.is_empty() { why } else { format!(", before{why}") }),
        PeerState::Backoff => format!("not reachable{failures}{why}{retry}"),
        PeerState::Heard if peer.origin == Origin::Inbound && peer.addresses.is_empty() => {
            "calls us, gave no address".to_owned()
        }
        PeerState::Heard if peer.origin == Origin::Found => "heard of, not called yet".to_owned(),
        PeerState::Heard => format!("known, not called{why}{retry}"),
        PeerState::Verified => "there, and not needed now".to_owned(),
        PeerState::Suspect => format!("lost just now{why}{retry}"),
        PeerState::Dead => format!("given up{failures}{why}; called now and then"),
        PeerState::Left => format!("gone{why}{}", within("looked for again in ", "")),
        PeerState::Quarantine => format!("not listened to{why}{}", within("for another ", "")),
        PeerState::Asking => "asks to be a neighbour, gets nothing until it is accepted".to_owned(),
        PeerState::Blocked => format!("blocked{why}"),
    }
}

/// What stands below the table.
pub(super) fn remarks(peers: &[Peer], strangers: u64) -> Vec<String> {
    let asking: Vec<&Peer> = peers.iter().filter(|peer| peer.state == PeerState::Asking).collect();
    let asked = match asking.as_slice() {
        [] => None,
        [one] => Some(format!("one node asks to be a neighbour\nnext: afferent peers accept {}", one.id.short())),
        many => Some(format!("{} nodes ask to be neighbours\nnext: afferent peers accept PEER", many.len())),
    };
    let heard = match strangers {
        0 => None,
        1 => Some("and one node heard of, no peer: afferent peers list --all shows it".to_owned()),
        many => Some(format!("and {many} nodes heard of, no peers: afferent peers list --all shows them")),
    };
    heard.into_iter().chain(asked).collect()
}

/// One peer, a line for each thing known of it.
pub(super) fn show(text: &str, output: &mut Output) -> Result<Exit, Failure> {
    if output.is_json() {
        output.json(text)?;
        return Ok(Exit::Done);
    }
    let peer: Peer = decode(text)?;
    let now = words::now();
    for (name, text) in rows(&peer, now) {
        output.line(&format!("{name:<8}  {text}"))?;
    }
    Ok(Exit::Done)
}

/// What is known of a peer, each thing with its name.
fn rows(peer: &Peer, now: Wall) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let mut row = |name: &'static str, text: &str| rows.push((name, text.to_owned()));
    row("id", &peer.id.to_string());
    row("alias", &plain(peer.alias.as_deref().unwrap_or("-")));
    for address in &peer.addresses {
        row("address", &plain(&address.to_string()));
    }
    row("state", &sentence(peer));
    if let Some(next) = next(peer) {
        row("next", &next);
    }
    row("origin", &origin(peer));
    row("rtt", &words::round_trip(peer.rtt_ms));
    row("events", &format!("{} in, {} out, since the start", peer.events_in, peer.events_out));
    row("seen", &words::ago(peer.last_seen, now));
    for (at, moved) in peer.history.iter().flatten().enumerate() {
        row(if at == 0 { "history" } else { "" }, &turn(moved, now));
    }
    rows
}

/// What can be typed about how things stand.
fn next(peer: &Peer) -> Option<String> {
    let id = peer.id.short();
    match peer.state {
        PeerState::Asking => Some(format!("afferent peers accept {id}, or block {id}")),
        PeerState::Blocked => Some(format!("afferent peers unblock {id}")),
        _ => None,
    }
}

/// What led to a peer, in a word or two.
pub(super) fn via(peer: &Peer, all: &[Peer]) -> String {
    let Some(via) = &peer.via else { return "-".to_owned() };
    let name = |id: &NodeId| {
        let known = all.iter().find(|peer| peer.id == *id).and_then(|peer| peer.alias.as_deref());
        known.map_or_else(|| id.short(), |alias| plain(alias).into_owned())
    };
    match (via.way, &via.teller) {
        (Way::Told, Some(teller)) => format!("told by {}", name(teller)),
        (Way::Told, None) => "told by a peer".to_owned(),
        (Way::Manual, _) => "added by hand".to_owned(),
        (Way::Called, _) => "called us".to_owned(),
        (Way::Dns, _) => "the DNS".to_owned(),
        (Way::Seeds, _) => "the seeds".to_owned(),
        (Way::Remembered, _) => "remembered".to_owned(),
    }
}

fn origin(peer: &Peer) -> String {
    let via = match &peer.via {
        Some(Via { way: Way::Dns, .. }) => "named by the DNS".to_owned(),
        Some(Via { way: Way::Seeds, .. }) => "named by the list of seeds".to_owned(),
        Some(Via { way: Way::Remembered, .. }) => "known from an earlier life of this node".to_owned(),
        Some(Via { teller: Some(teller), .. }) => format!("told of by {}", teller.short()),
        Some(_) | None => "told of by a peer".to_owned(),
    };
    match (peer.origin, peer.state) {
        (Origin::Manual, _) => "added by hand".to_owned(),
        (Origin::Inbound, _) => "came by itself".to_owned(),
        (Origin::Found, PeerState::Connected | PeerState::Suspect) => format!("{via}, chosen by this node"),
        (Origin::Found, _) => via,
    }
}

/// One change: `2 min ago   not reachable: connection refused`.
fn turn(moved: &Moved, now: Wall) -> String {
    let what = match moved.state {
        PeerState::Connected => "connected",
        PeerState::Suspect => "lost",
        PeerState::Probing => "called",
        PeerState::Backoff => "not reachable",
        PeerState::Verified => "it answered",
        PeerState::Heard => "heard of",
        PeerState::Dead => "given up",
        PeerState::Left => "gone",
        PeerState::Quarantine => "not listened to",
        PeerState::Asking => "asked to be a neighbour",
        PeerState::Blocked => "blocked",
    };
    let why = if moved.why.is_empty() { String::new() } else { format!(": {}", plain(&moved.why)) };
    format!("{:<10}  {what}{why}", words::passed(moved.at, now))
}

#[cfg(test)]
mod tests {
    use super::super::tests::peer;
    use super::*;

    #[test]
    fn the_state_is_a_sentence_with_its_reason_and_what_comes_next() {
        let down =
            Peer { why: Some("connection refused".to_owned()), retry_in_ms: Some(12_000), ..peer(PeerState::Backoff) };
        assert_eq!(sentence(&down), "not reachable: connection refused; next try in 12s");
        let again = Peer { failures: 3, retry_in_ms: Some(40_000), ..down.clone() };
        assert_eq!(sentence(&again), "not reachable, 3 failures: connection refused; next try in 40s");
        assert_eq!(sentence(&Peer { state: PeerState::Probing, ..down }), "being called, before: connection refused");
        assert_eq!(sentence(&peer(PeerState::Connected)), "connected");
        let behind = Peer { lagging: true, ..peer(PeerState::Connected) };
        assert_eq!(sentence(&behind), "connected, behind: the journal feeds it");
        let caller = Peer { origin: Origin::Inbound, addresses: Vec::new(), ..peer(PeerState::Heard) };
        assert_eq!(sentence(&caller), "calls us, gave no address");
    }

    #[test]
    fn whoever_is_not_let_in_is_said_with_what_can_be_typed() {
        let hostile = |state| Peer { why: Some("x\u{1b}[2J".to_owned()), ..peer(state) };
        assert_eq!(sentence(&hostile(PeerState::Blocked)), "blocked: x\\u{1b}[2J");
        assert_eq!(
            next(&peer(PeerState::Blocked)),
            Some(format!("afferent peers unblock {}", peer(PeerState::Dead).id.short()))
        );
        let shut = Peer { retry_in_ms: Some(7_200_000), ..hostile(PeerState::Quarantine) };
        assert_eq!(sentence(&shut), "not listened to: x\\u{1b}[2J; for another 2h");
        assert_eq!(next(&peer(PeerState::Connected)), None);
    }

    #[test]
    fn below_the_table_stands_who_asks_and_how_many_were_heard_of() {
        let asking = peer(PeerState::Asking);
        let id = asking.id.short();
        assert!(remarks(&[peer(PeerState::Connected)], 0).is_empty());
        let told = remarks(std::slice::from_ref(&asking), 14).join("\n");
        let heard = "and 14 nodes heard of, no peers: afferent peers list --all shows them";
        assert_eq!(told, format!("{heard}\none node asks to be a neighbour\nnext: afferent peers accept {id}"));
        assert!(remarks(&[asking.clone(), asking], 1).concat().contains("2 nodes ask to be neighbours"));
    }

    #[test]
    fn a_history_is_told_with_times_and_reasons() {
        let now = Wall::from_millis(10_000_000);
        let moved =
            |ago_s, state, why: &str| Moved { at: Some(now - Duration::from_secs(ago_s)), state, why: why.to_owned() };
        let history = vec![
            moved(7_200, PeerState::Heard, "the DNS names it"),
            moved(130, PeerState::Probing, ""),
            moved(0, PeerState::Backoff, "connection\u{1b} refused"),
        ];
        let shown = rows(&Peer { history: Some(history), ..peer(PeerState::Backoff) }, now);
        let shown: Vec<String> = shown.into_iter().map(|(name, text)| format!("{name}|{text}")).collect();
        let expected = [
            "history|2 h ago     heard of: the DNS names it",
            "|2 min ago   called",
            "|just now    not reachable: connection\\u{1b} refused",
        ];
        assert_eq!(shown[shown.len() - 3..], expected);
    }
}
