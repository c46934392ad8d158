//! `afferent peers`: who is known, and how things stand with them.

use std::io::{self, BufRead, IsTerminal};
use std::time::{Duration, Instant};

use serde_json::json;

use super::arguments::{AddPeer, Global, Peers as Arguments, PeersAction};
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::table::table;
use super::{codes, reach, words};
use crate::admin::answers::{Identified, Peer, PeerState, Peers};
use crate::admin::{Client, ClientError};
use crate::core::ports::Origin;
use crate::time::Wall;
use crate::wire::PeerAddress;

mod told;

use told::{sentence, via};

/// How long `add` waits for the first connection.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn perform(peers: &Arguments, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let mut client = reach::connect("peers", global).await?;
    match &peers.action {
        None => list(false, &mut client, global, output).await,
        Some(PeersAction::List(listed)) => list(listed.all, &mut client, global, output).await,
        Some(PeersAction::Add(add)) => self::add(add, &mut client, output).await,
        Some(PeersAction::Show(shown)) => {
            let text = client.get(&path(&shown.peer)).await.map_err(failed)?;
            told::show(&text, output)
        }
        Some(PeersAction::Accept(accepted)) => {
            let text = order(&accepted.peer, "accept", String::new(), &mut client).await?;
            decided(&text, "may be a neighbour", output)
        }
        Some(PeersAction::Block(block)) => {
            let body = json!({ "reason": block.reason }).to_string();
            let text = order(&block.peer, "block", body, &mut client).await?;
            let exit = decided(&text, "is blocked", output)?;
            let peer: Peer = decode(&text)?;
            let id = peer.id.short();
            output
                .remark(&format!("what it signs still comes by way of others\nnext: afferent mute {id}, to end that"));
            Ok(exit)
        }
        Some(PeersAction::Unblock(unblock)) => {
            let text = order(&unblock.peer, "unblock", String::new(), &mut client).await?;
            decided(&text, "is not blocked", output)
        }
        Some(PeersAction::Alias(naming)) => {
            let body = json!({ "alias": naming.name }).to_string();
            let text = client.post(&path(&naming.peer), body).await.map_err(failed)?;
            told::show(&text, output)
        }
        Some(PeersAction::Rm(remove)) => self::remove(&remove.peer, &mut client, output).await,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err calls")]
fn failed(error: ClientError) -> Failure {
    Failure::of_client("peers", &error)
}

fn decode<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| failed(ClientError::Unreadable(error.to_string())))
}

async fn order(peer: &str, what: &str, body: String, client: &mut Client) -> Result<String, Failure> {
    client.post(&format!("{}/{what}", path(peer)), body).await.map_err(failed)
}

/// What a person decided holds.
fn decided(text: &str, how: &str, output: &mut Output) -> Result<Exit, Failure> {
    if output.is_json() {
        output.json(text)?;
    } else {
        output.line(&format!("{} {how}", called(&decode(text)?)))?;
    }
    Ok(Exit::Done)
}

async fn list(all: bool, client: &mut Client, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let text = client.get(if all { "/v1/peers?all=true" } else { "/v1/peers" }).await.map_err(failed)?;
    if output.is_json() {
        output.json(&text)?;
        return Ok(Exit::Done);
    }
    let Peers { peers, strangers } = decode(&text)?;
    if peers.is_empty() && strangers == 0 {
        output.remark(
            "nobody is known yet\nnext: afferent peers add mesh://ID@HOST:PORT, as `afferent id` prints it over there",
        );
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = peers.iter().map(|peer| row(peer, &peers, words::now(), global.verbose > 0)).collect();
    for line in table(&["PEER", "ID", "ADDRESS", "STATE", "RTT", "IN", "OUT", "VIA", "SEEN"], &rows) {
        output.line(&line)?;
    }
    for remark in told::remarks(&peers, strangers) {
        output.remark(&remark);
    }
    Ok(Exit::Done)
}

/// With `is_long` the address carries the whole id, so it can be pasted without a question.
fn row(peer: &Peer, all: &[Peer], now: Wall, is_long: bool) -> Vec<String> {
    let address = peer.addresses.first();
    let address = address.map(|address| if is_long { address.to_string() } else { address.at.to_string() });
    vec![
        plain(peer.alias.as_deref().unwrap_or("-")).into_owned(),
        peer.id.short(),
        address.map_or("-".to_owned(), |address| plain(&address).into_owned()),
        sentence(peer),
        words::round_trip(peer.rtt_ms),
        peer.events_in.to_string(),
        peer.events_out.to_string(),
        via(peer, all),
        words::ago(peer.last_seen, now),
    ]
}

fn path(peer: &str) -> String {
    format!("/v1/peers/{}", crate::admin::client::escape(peer))
}

fn called(peer: &Peer) -> String {
    match &peer.alias {
        Some(alias) => format!("{} ({})", plain(alias), peer.id.short()),
        None => peer.id.short(),
    }
}

async fn add(add: &AddPeer, client: &mut Client, output: &mut Output) -> Result<Exit, Failure> {
    let address = match add.address.id {
        Some(_) => add.address.clone(),
        None => identify(add, client, output).await?,
    };
    let body = json!({ "address": address, "alias": add.alias });
    let mut text = client.post("/v1/peers", body.to_string()).await.map_err(failed)?;
    let mut peer: Peer = decode(&text)?;
    if !add.no_wait {
        let path = format!("/v1/peers/{}", peer.id);
        let deadline = Instant::now() + WAIT_MAX;
        while peer.state != PeerState::Connected && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
            text = client.get(&path).await.map_err(failed)?;
            peer = decode(&text)?;
        }
    }
    if output.is_json() {
        output.json(&text)?;
    }
    outcome(&peer, add.no_wait, output)
}

/// What is said of a peer that was added and given its time.
fn outcome(peer: &Peer, is_hasty: bool, output: &mut Output) -> Result<Exit, Failure> {
    let name = called(peer);
    if peer.state == PeerState::Connected {
        if !output.is_json() {
            output.line(&format!("{name} is connected, round trip {}", words::round_trip(peer.rtt_ms)))?;
        }
        return Ok(Exit::Done);
    }
    if is_hasty {
        if !output.is_json() {
            output.line(&format!("{name} is stored and being called"))?;
        }
        return Ok(Exit::Done);
    }
    let what = format!("{name} is stored, and {}; it is tried again by itself", sentence(peer));
    Err(Failure::new(Exit::Degraded, codes::PENDING, "peers", what).next("afferent peers list"))
}

/// Trust on first use: who answers there, and does a person believe it?
async fn identify(add: &AddPeer, client: &mut Client, output: &mut Output) -> Result<PeerAddress, Failure> {
    let body = json!({ "address": add.address.at });
    let found: Identified = decode(&client.post("/v1/identify", body.to_string()).await.map_err(failed)?)?;
    output.remark(&format!("at {} answers the node {}", add.address.at, found.id));
    if add.trust_first_use {
        return Ok(found.address);
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let what = format!("{} names no id, and nobody is here to be asked about the one found there", add.address.at);
        let next = format!("compare it with `afferent id` over there, then: afferent peers add {}", found.address);
        return Err(Failure::new(Exit::Refused, "AF0304", "peers", what).next(next));
    }
    output.ask("is this the id that `afferent id` prints over there? [y/N]");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(found.address),
        _ => Err(Failure::new(Exit::Refused, "AF0304", "peers", "not confirmed, nothing was changed")
            .next("ask your friend for the line that `afferent id` prints")),
    }
}

async fn remove(peer: &str, client: &mut Client, output: &mut Output) -> Result<Exit, Failure> {
    let text = client.delete(&path(peer)).await.map_err(failed)?;
    let gone: Peer = decode(&text)?;
    if output.is_json() {
        output.json(&text)?;
    } else {
        let rest = if gone.state == PeerState::Blocked { ", and stays blocked" } else { "" };
        output.line(&format!("{} is forgotten{rest}", called(&gone)))?;
    }
    if let Some(remark) = comes_back(&gone) {
        output.remark(&remark);
    }
    Ok(Exit::Done)
}

/// Whoever calls by itself does not stay forgotten.
fn comes_back(gone: &Peer) -> Option<String> {
    let calls = match (gone.state, gone.origin) {
        (PeerState::Blocked, _) => return None,
        (_, Origin::Inbound) => "it calls by itself, and its next call brings it back",
        (_, Origin::Manual | Origin::Found) => "should it call by itself, that brings it back",
    };
    Some(format!("{calls}\nnext: afferent peers block {}, to have nothing to do with it", gone.id))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::output::tests::pages;
    use super::*;
    use crate::admin::answers::{Via, Way};
    use crate::wire::Keypair;

    pub(super) fn peer(state: PeerState) -> Peer {
        let id = Keypair::from_seed(&[7; 32]).id();
        Peer {
            id,
            alias: Some("cedar".to_owned()),
            addresses: vec![format!("{id}@cedar.example").parse().expect("an address")],
            state,
            origin: Origin::Manual,
            via: None,
            rtt_ms: None,
            events_in: 3,
            events_out: 4,
            last_seen: None,
            why: None,
            failures: 0,
            retry_in_ms: None,
            lagging: false,
            history: None,
        }
    }

    #[test]
    fn every_address_in_the_table_can_be_pasted() {
        let now = Wall::from_millis(1_000_000);
        let seen = Peer { last_seen: Some(now), rtt_ms: Some(12.3), ..peer(PeerState::Connected) };
        let id = seen.id;
        let short = row(&seen, &[], now, false);
        let (name, place) = (id.short(), "cedar.example:7443".to_owned());
        assert_eq!(short, ["cedar", &name, &place, "connected", "12ms", "3", "4", "-", "now"]);
        for is_long in [false, true] {
            let pasted: PeerAddress = row(&seen, &[], now, is_long)[2].parse().expect("pasteable");
            assert_eq!(pasted.id, is_long.then_some(id));
        }
        let hostile = Peer { alias: None, why: Some("\u{1b}[31m".into()), ..peer(PeerState::Backoff) };
        assert_eq!(row(&hostile, &[], now, false)[3], "not reachable: \\u{1b}[31m");
    }

    #[test]
    fn what_led_to_a_peer_is_said_with_the_name_of_the_teller() {
        let cedar = peer(PeerState::Connected);
        let of = |way, teller| Peer { via: Some(Via { way, teller }), alias: None, ..cedar.clone() };
        let told = of(Way::Told, Some(cedar.id));
        assert_eq!(via(&told, std::slice::from_ref(&cedar)), "told by cedar");
        assert_eq!(via(&told, &[]), format!("told by {}", cedar.id.short()));
        assert_eq!([Way::Called, Way::Manual].map(|way| via(&of(way, None), &[])), ["called us", "added by hand"]);
    }

    #[test]
    fn whoever_calls_by_itself_comes_back_after_it_was_removed_and_that_is_said() {
        let caller = Peer { origin: Origin::Inbound, ..peer(PeerState::Connected) };
        let next = format!("\nnext: afferent peers block {}, to have nothing to do with it", caller.id);
        let said = |peer: &Peer| comes_back(peer).unwrap_or_default();
        assert_eq!(said(&caller), format!("it calls by itself, and its next call brings it back{next}"));
        let typed = peer(PeerState::Backoff);
        assert_eq!(said(&typed), format!("should it call by itself, that brings it back{next}"));
        assert_eq!(comes_back(&Peer { state: PeerState::Blocked, ..caller }), None);
    }

    #[test]
    fn adding_ends_by_how_things_stand() {
        let (mut output, results, _) = pages(false);
        let up = Peer { rtt_ms: Some(0.5), ..peer(PeerState::Connected) };
        assert_eq!(outcome(&up, false, &mut output), Ok(Exit::Done));
        assert_eq!(outcome(&peer(PeerState::Probing), true, &mut output), Ok(Exit::Done));
        let down = Peer { why: Some("connection refused".to_owned()), ..peer(PeerState::Backoff) };
        let failure = outcome(&down, false, &mut output).expect_err("not yet");
        assert_eq!(failure.exit, Exit::Degraded);
        let name = format!("cedar ({})", down.id.short());
        assert_eq!(
            failure.to_string(),
            format!(
                "afferent: peers: {name} is stored, and not reachable: connection refused; it is tried again by \
                 itself (AF0321)\nnext: afferent peers list"
            )
        );
        output.flush().expect("written");
        assert_eq!(
            results.text(),
            format!("{name} is connected, round trip 0.5ms\n{name} is stored and being called\n")
        );
    }

    #[test]
    fn the_json_of_a_peer_is_the_one_of_the_design() {
        let json = crate::admin::document(&Peers { peers: vec![peer(PeerState::Connected)], strangers: 14 });
        let id = peer(PeerState::Connected).id;
        assert_eq!(
            json,
            format!(
                r#"{{"schema":"afferent.peers/1","peers":[{{"id":"{id}","alias":"cedar","addresses":["mesh://{id}@cedar.example:7443"],"state":"connected","origin":"manual","rtt_ms":null,"events_in":3,"events_out":4,"last_seen":null,"why":null,"lagging":false}}],"strangers":14}}"#
            )
        );
    }
}
