//! Where the events of a run are to arrive, made sure of before the first one is published.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::Note;
use crate::admin::answers::{Identity, InterestsView, Matches, Peer, PeerState};
use crate::admin::client::{LineReader, escape};
use crate::admin::{Client, ClientError};
use crate::cli::arguments::BenchE2e;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::plain;
use crate::cli::{codes, publish};
use crate::wire::{EventType, NodeId};

const THING: &str = "bench e2e";
const VIA: &str = "bench e2e: --via";
const TO: &str = "bench e2e: --to";
/// Interests travel to the publishing node within moments, if at all.
const TRAVEL_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where events arrive.
pub(super) enum FarEnd {
    /// At the publishing daemon: readable there.
    Here,
    /// At another daemon of this machine: readable there.
    There {
        client: Client,
        socket: PathBuf,
        id: NodeId,
        /// What people call it.
        name: String,
    },
    /// At a peer that says it has stored them.
    Peer { id: NodeId, name: String },
}

/// The way of a run.
pub(super) struct Route {
    pub(super) end: FarEnd,
    /// For this node alone.
    pub(super) to: Option<NodeId>,
}

impl Route {
    /// Finds the far end, and makes sure that events of this type get there.
    ///
    /// # Errors
    /// What is missing, and the command that mends it.
    pub(super) async fn find(bench: &BenchE2e, kind: &EventType, here: &mut Client) -> Result<Route, Failure> {
        let to = match &bench.to {
            Some(name) => publish::recipients(TO, std::slice::from_ref(name), here).await?.pop(),
            None => None,
        };
        let end = match (&bench.via, to) {
            (Some(socket), _) => there(socket, to, kind, here).await?,
            (None, Some(id)) => FarEnd::Peer { id, name: connected(id, here).await? },
            (None, None) => FarEnd::Here,
        };
        Ok(Route { end, to })
    }

    /// Subscribes at the far end. Once this returns, whatever is published arrives.
    ///
    /// # Errors
    /// What the daemon there says.
    pub(super) async fn subscribe(
        &mut self,
        kind: &EventType,
        mut here: Client,
    ) -> Result<Option<LineReader>, Failure> {
        let path = format!("/v1/events?pattern={}", escape(kind.as_str()));
        let lines = match &mut self.end {
            FarEnd::Peer { .. } => return Ok(None),
            FarEnd::Here => here.lines(&path).await,
            FarEnd::There { client, .. } => client.lines(&path).await,
        };
        lines.map(Some).map_err(|error| Failure::of_client(THING, &error))
    }

    /// How people call the last step.
    pub(super) fn arrival(&self) -> String {
        match &self.end {
            FarEnd::Here => "readable here".to_owned(),
            FarEnd::There { name, .. } => format!("readable at {}", plain(name)),
            FarEnd::Peer { name, .. } => format!("stored by {}", plain(name)),
        }
    }

    /// The socket of the second daemon.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        match &self.end {
            FarEnd::There { socket, .. } => Some(socket.clone()),
            FarEnd::Here | FarEnd::Peer { .. } => None,
        }
    }

    /// The peer at the far end.
    pub(super) fn peer(&self) -> Option<NodeId> {
        match &self.end {
            FarEnd::Here => None,
            FarEnd::There { id, .. } | FarEnd::Peer { id, .. } => Some(*id),
        }
    }
}

/// A second daemon on this machine.
async fn there(socket: &Path, to: Option<NodeId>, kind: &EventType, here: &mut Client) -> Result<FarEnd, Failure> {
    let failed = |error: ClientError| Failure::of_client(VIA, &error);
    let mut client = Client::connect(socket).await.map_err(failed)?;
    let own: Identity = here.get_as("/v1/id").await.map_err(|error| Failure::of_client(THING, &error))?;
    let far: Identity = client.get_as("/v1/id").await.map_err(failed)?;
    let wrong = |what: &str| Failure::new(Exit::Usage, codes::USAGE, VIA, what);
    if own.id == far.id {
        return Err(wrong("this is the socket of the publishing daemon").next("afferent bench e2e, without --via"));
    }
    match to {
        Some(to) if to != far.id => {
            return Err(wrong("the daemon there is not the peer of --to").next("afferent bench e2e, with one of them"));
        }
        Some(to) => drop(connected(to, here).await?),
        None => asked_for(kind, &far, socket, &mut client, here).await?,
    }
    Ok(FarEnd::There { client, socket: socket.to_owned(), id: far.id, name: far.name })
}

/// Makes sure of a lane to this peer; what it is called.
async fn connected(id: NodeId, here: &mut Client) -> Result<String, Failure> {
    let failed = |error: ClientError| Failure::of_client(TO, &error);
    let peer: Peer = here.get_as(&format!("/v1/peers/{id}")).await.map_err(failed)?;
    let name = peer.alias.unwrap_or_else(|| id.short());
    if peer.state == PeerState::Connected {
        return Ok(name);
    }
    let why = peer.why.map(|why| format!(": {}", plain(&why))).unwrap_or_default();
    let failure = Failure::new(Exit::Timeout, codes::PENDING, THING, format!("{name} is not connected{why}"));
    Err(failure.next(format!("afferent peers show {name}")))
}

/// Makes sure that the daemon there asks for this type, and that its wish has reached us.
async fn asked_for(
    kind: &EventType,
    far: &Identity,
    socket: &Path,
    there: &mut Client,
    here: &mut Client,
) -> Result<(), Failure> {
    let name = plain(&far.name).into_owned();
    let wants: InterestsView = there.get_as("/v1/interests").await.map_err(|error| Failure::of_client(VIA, &error))?;
    if !wants.patterns.iter().any(|pattern| pattern.matches(kind)) {
        let pattern = if kind.as_str().starts_with("afferent.bench.") { "afferent.bench.*" } else { kind.as_str() };
        let failure = Failure::new(Exit::Failed, codes::UNWANTED, VIA, format!("{name} does not ask for {kind}"));
        let add = format!("afferent interests add '{pattern}' --socket {}", socket.display());
        return Err(failure.next(format!("{add}; or --to {}", far.id.short())));
    }
    let deadline = Instant::now() + TRAVEL_MAX;
    loop {
        let path = format!("/v1/match/{}", escape(kind.as_str()));
        let matches: Matches = here.get_as(&path).await.map_err(|error| Failure::of_client(THING, &error))?;
        let gets = |peer: &&crate::admin::answers::Matched| peer.wants && peer.connected;
        let known = matches.peers.iter().find(|peer| peer.id == far.id);
        // Whom we do not know may be reached through somebody who asks for the same.
        if known.or_else(|| matches.peers.iter().find(gets)).is_some_and(|peer| gets(&peer)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(unreached(&name, far, known));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Why events do not get to a daemon that asks for them.
fn unreached(name: &str, far: &Identity, known: Option<&crate::admin::answers::Matched>) -> Failure {
    match known {
        None => {
            let address = far.addresses.first().map_or_else(|| format!("{}@HOST:PORT", far.id), ToString::to_string);
            Failure::new(Exit::NoSuchPeer, "AF0301", VIA, format!("{name} is no peer of the publishing daemon"))
                .next(format!("afferent peers add {address}"))
        }
        Some(peer) if !peer.connected => {
            Failure::new(Exit::Timeout, codes::PENDING, VIA, format!("{name} is not connected"))
                .next(format!("afferent peers show {}", far.id.short()))
        }
        Some(peer) => {
            let what = format!("{name} would not get it: {}", plain(&peer.why));
            Failure::new(Exit::Failed, codes::UNWANTED, VIA, what).next("afferent match TYPE")
        }
    }
}

/// One line of a subscription; whatever else is in it is not looked at.
#[derive(Deserialize)]
struct Arrival<'l> {
    #[serde(borrow)]
    event: Inner<'l>,
}

#[derive(Deserialize)]
struct Inner<'l> {
    #[serde(borrow)]
    data: Option<&'l RawValue>,
}

#[derive(Deserialize)]
struct Known {
    run: String,
    n: u64,
}

/// Tells of every event of this run that can be read at the far end.
pub(super) async fn watch(mut lines: LineReader, run: &str, notes: &mpsc::Sender<Note>) -> Result<(), ClientError> {
    while let Some(line) = lines.next().await? {
        let at = Instant::now();
        if let Some(number) = number(&line, run) {
            let _ = notes.send(Note::Arrived { number, at }).await;
        }
    }
    Err(ClientError::Broken("it stopped".to_owned()))
}

/// Which event of this run it is; `None` for an event of somebody else.
fn number(line: &[u8], run: &str) -> Option<u64> {
    let arrival: Arrival<'_> = serde_json::from_slice(line).ok()?;
    let known: Known = serde_json::from_str(arrival.event.data?.get()).ok()?;
    (known.run == run).then_some(known.n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_of_this_run_count() {
        let line = |data: &str| format!(r#"{{"digest":"x","event":{{"id":"7","data":{data}}}}}"#).into_bytes();
        assert_eq!(number(&line(r#"{"run":"a","n":17,"pad":"x"}"#), "a"), Some(17));
        for other in [r#"{"run":"b","n":17}"#, r#"{"n":17}"#, "1", "null"] {
            assert_eq!(number(&line(other), "a"), None, "{other}");
        }
        assert_eq!(number(br#"{"event":{"id":"7"}}"#, "a"), None);
    }
}
