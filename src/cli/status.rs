//! `afferent status`: one screen, and an exit code that says whether all is well.

use std::time::Duration;

use super::arguments::{Global, Status as Arguments};
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::{reach, words};
use crate::admin::answers::{BusKind, BusStatus, PeersStatus, Status};
use crate::admin::tiers::{TierName, TierState, TierStatus};
use crate::time::Wall;

/// How often `--watch` looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn perform(arguments: &Arguments, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let mut client = reach::connect("status", global).await?;
    let mut shown: Option<Status> = None;
    loop {
        let failed = |error| Failure::of_client("status", &error);
        let text = client.get("/v1/status").await.map_err(failed)?;
        let status: Status = serde_json::from_str(&text)
            .map_err(|error| failed(crate::admin::ClientError::Unreadable(error.to_string())))?;
        if shown.as_ref().map(timeless) != Some(timeless(&status)) {
            if shown.is_some() && !output.is_json() {
                output.line("")?;
            }
            let exit = show(&text, &status, output)?;
            output.flush()?;
            if !arguments.watch {
                return Ok(exit);
            }
            shown = Some(status);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Time alone is no change.
fn timeless(status: &Status) -> Status {
    let mut status = Status { uptime_s: 0, ..status.clone() };
    status.discovery.iter_mut().for_each(|tier| (tier.at, tier.next_in_ms) = (None, None));
    status
}

fn show(text: &str, status: &Status, output: &mut Output) -> Result<Exit, Failure> {
    if output.is_json() {
        output.json(text)?;
    } else {
        for line in screen(status, words::now()) {
            output.line(&line)?;
        }
    }
    Ok(if status.ready { Exit::Done } else { Exit::Degraded })
}

fn screen(status: &Status, now: Wall) -> Vec<String> {
    let ready = if status.ready { "ready" } else { "NOT READY" };
    let up = words::brief(Duration::from_secs(status.uptime_s.max(1)));
    let mut lines =
        vec![format!("{}  {}  {ready}  v{}  up {up}", plain(&status.name), status.id.short(), status.version)];
    let mut row = |name: &str, text: &str| lines.push(format!("{name:<9} {text}"));
    row("id", &status.id.to_string());
    row("network", &status.network);
    row("listen", &status.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    if status.addresses.is_empty() {
        row("address", "none known yet: learned from peers, or set node.addresses");
    }
    for address in &status.addresses {
        row("address", &address.to_string());
    }
    row("bus", &bus(&status.bus));
    row("peers", &peers(&status.peers));
    for tier in &status.discovery {
        row(tier.tier.as_str(), &search(tier, now));
    }
    let journal = &status.journal;
    row("journal", &format!("{}, {}", words::count(journal.events, "event"), words::size(journal.bytes)));
    for warning in &status.warnings {
        row("warning", &plain(warning));
    }
    lines
}

fn peers(peers: &PeersStatus) -> String {
    let asking = match peers.asking {
        0 => String::new(),
        1 => ", 1 asks to be a neighbour: afferent peers".to_owned(),
        many => format!(", {many} ask to be neighbours: afferent peers"),
    };
    format!("{} connected, {} known{asking}", peers.connected, peers.known)
}

/// A tier of discovery: what it said last and when, and when it is asked next.
fn search(tier: &TierStatus, now: Wall) -> String {
    if tier.tier == TierName::Manual {
        let retry = tier.next_in_ms.map(|ms| format!("; next try in {}", words::brief(Duration::from_millis(ms))));
        return match tier.found {
            0 => "nobody was added by hand".to_owned(),
            found => format!("{} added by hand{}", words::count(found, "peer"), retry.unwrap_or_default()),
        };
    }
    if tier.state == TierState::Off {
        return "off".to_owned();
    }
    let ago = match words::ago(tier.at, now).as_str() {
        "now" => "just now".to_owned(),
        ago => format!("{ago} ago"),
    };
    let last = match (tier.at, &tier.why) {
        (None, _) => "not asked yet".to_owned(),
        (Some(_), Some(why)) if tier.found == 0 => format!("failed {ago}: {}", plain(why)),
        (Some(_), Some(why)) => format!("{}, {ago}; but {}", words::count(tier.found, "node"), plain(why)),
        (Some(_), None) => format!("{}, {ago}", words::count(tier.found, "node")),
    };
    let next = match (tier.state, tier.next_in_ms) {
        (TierState::Asking, _) => "; being asked".to_owned(),
        (TierState::Waiting, Some(ms)) => format!("; next in {}", words::brief(Duration::from_millis(ms))),
        (TierState::Resting, _) if tier.tier == TierName::Exchange => "; nobody is connected to be asked".to_owned(),
        (TierState::Resting, _) => "; not needed now".to_owned(),
        (TierState::Waiting | TierState::Unknown | TierState::Off, _) => String::new(),
    };
    format!("{last}{next}")
}

fn bus(bus: &BusStatus) -> String {
    let place = bus.url.as_deref().map(|url| format!(" {}", plain(url))).unwrap_or_default();
    match (bus.kind, bus.connected) {
        (BusKind::Embedded, _) => "embedded: the journal itself, read by `afferent sub`".to_owned(),
        (BusKind::Redis, true) if bus.lag == 0 => format!("redis{place}, up to date"),
        (BusKind::Redis, true) => format!("redis{place}, {} behind", words::count(bus.lag, "event")),
        (BusKind::Redis, false) => {
            let why = bus.why.as_deref().map(|why| format!(": {}", plain(why))).unwrap_or_default();
            let kept = match bus.lag {
                0 => String::new(),
                lag => format!("; {} kept for it in the journal", words::count(lag, "event")),
            };
            format!("redis{place}, not connected{why}{kept}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::answers::JournalStatus;
    use crate::wire::message::Durability;
    use crate::wire::{Keypair, PeerAddress};

    fn tier(tier: TierName, state: TierState) -> TierStatus {
        TierStatus { tier, state, at: None, found: 0, why: None, next_in_ms: None }
    }

    #[test]
    fn a_tier_is_one_short_line() {
        let now = Wall::from_millis(1_000_000);
        let asked = Some(now - Duration::from_secs(12));
        let dns =
            TierStatus { at: asked, found: 2, next_in_ms: Some(40_000), ..tier(TierName::Dns, TierState::Waiting) };
        assert_eq!(search(&dns, now), "2 nodes, 12s ago; next in 40s");
        let why = Some("zone z: \u{1b}no answer".to_owned());
        let failed = TierStatus { found: 0, why, ..dns };
        assert_eq!(search(&failed, now), "failed 12s ago: zone z: \\u{1b}no answer; next in 40s");
        assert_eq!(
            search(&TierStatus { found: 1, ..failed }, now),
            "1 node, 12s ago; but zone z: \\u{1b}no answer; next in 40s"
        );
        let resting = TierStatus { at: Some(now), state: TierState::Resting, ..dns };
        assert_eq!(search(&resting, now), "2 nodes, just now; not needed now");
        let lonely = tier(TierName::Exchange, TierState::Resting);
        assert_eq!(search(&lonely, now), "not asked yet; nobody is connected to be asked");
        assert_eq!(search(&tier(TierName::Seeds, TierState::Asking), now), "not asked yet; being asked");
        assert_eq!(search(&tier(TierName::Manual, TierState::Off), now), "nobody was added by hand");
        let friends = TierStatus { found: 2, next_in_ms: Some(3_000), ..tier(TierName::Manual, TierState::Waiting) };
        assert_eq!(search(&friends, now), "2 peers added by hand; next try in 3s");
    }

    #[test]
    fn time_alone_is_no_change() {
        let now = Wall::from_millis(1_000_000);
        let at = |found, next| TierStatus {
            at: Some(now),
            found,
            next_in_ms: next,
            ..tier(TierName::Dns, TierState::Waiting)
        };
        let with = |tier| Status { discovery: vec![tier], ..status() };
        assert_eq!(timeless(&with(at(1, Some(7)))), timeless(&with(at(1, Some(6)))));
        assert_ne!(timeless(&with(at(1, None))), timeless(&with(at(2, None))));
    }

    fn status() -> Status {
        let id = Keypair::from_seed(&[7; 32]).id();
        let at = "birch.example:7443".parse().expect("an address");
        Status {
            id,
            name: "birch\u{1b}[2J".to_owned(),
            ready: false,
            bus: BusStatus {
                kind: BusKind::Redis,
                connected: false,
                lag: 3,
                url: Some("redis://127.0.0.1:6379".to_owned()),
                why: Some("connection refused".to_owned()),
            },
            peers: PeersStatus { connected: 1, known: 3, asking: 2 },
            journal: JournalStatus { events: 1, bytes: 2_048 },
            discovery: vec![tier(TierName::Seeds, TierState::Off)],
            warnings: vec!["the bus is down".to_owned()],
            version: "0.1.0".to_owned(),
            network: "main".to_owned(),
            listen: vec!["[::]:7443".parse().expect("a socket address")],
            addresses: vec![PeerAddress { id: Some(id), at }],
            uptime_s: 75,
            durability: Durability::Fsync,
        }
    }

    #[test]
    fn one_screen_says_how_the_node_is() {
        let id = status().id;
        assert_eq!(screen(&status(), Wall::default()), [
            format!("birch\\u{{1b}}[2J  {}  NOT READY  v0.1.0  up 1m", id.short()),
            format!("id        {id}"),
            "network   main".to_owned(),
            "listen    [::]:7443".to_owned(),
            format!("address   mesh://{id}@birch.example:7443"),
            "bus       redis redis://127.0.0.1:6379, not connected: connection refused; 3 events kept for it in the journal"
                .to_owned(),
            "peers     1 connected, 3 known, 2 ask to be neighbours: afferent peers".to_owned(),
            "seeds     off".to_owned(),
            "journal   1 event, 2.0 KiB".to_owned(),
            "warning   the bus is down".to_owned(),
        ]);
    }

    #[test]
    fn the_json_begins_as_the_design_says() {
        let json = crate::admin::document(&status());
        let id = status().id;
        let expected = format!(
            r#"{{"schema":"afferent.status/1","id":"{id}","name":"birch\u001b[2J","ready":false,"bus":{{"kind":"redis","connected":false,"lag":3,"#
        );
        assert!(json.starts_with(&expected), "{json}");
        assert!(json.contains(
            r#""peers":{"connected":1,"known":3,"asking":2},"journal":{"events":1,"bytes":2048},"discovery":[{"tier":"seeds","state":"off","at":null,"found":0}],"warnings":["the bus is down"]"#
        ));
        assert_eq!(serde_json::from_str::<Status>(&json).expect("read back"), status());
    }
}
