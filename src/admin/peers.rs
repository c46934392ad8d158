//! Who is known, who may be a neighbour, and what people call them.
//!
//! ```text
//!   GET    /v1/peers?all=true           everybody, strangers too
//!   POST   /v1/peers                    one more, by hand
//!   GET    /v1/peers/{peer}             one, with what became of it
//!   POST   /v1/peers/{peer}             another name for it
//!   DELETE /v1/peers/{peer}             forgotten; one that is blocked stays blocked
//!   POST   /v1/peers/{peer}/accept      it asked, and may be a neighbour
//!   POST   /v1/peers/{peer}/block       nothing to do with it, until
//!   POST   /v1/peers/{peer}/unblock     somebody says otherwise
//!   POST   /v1/peers/{peer}/ping        how long is the way?
//! ```
//!
//! `{peer}` is an alias, the beginning of an id, or an address; to block somebody the whole id will do.

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use serde::Deserialize;

use super::answers::{Peer, PeerState, Peers};
use super::caller::Writer;
use super::fault::{Fault, FaultCode};
use super::request::Request;
use super::routes::{Answer, Office, answer, ask_who, ok, parse, read, whole};
use super::select;
use crate::core::params::REASON_MAX;
use crate::core::ports::Order;
use crate::wire::{NodeId, PeerAddress};

pub(super) fn routes() -> Router<Office> {
    Router::new()
        .route("/v1/peers", get(peers).post(add_peer))
        .route("/v1/peers/{peer}", delete(remove_peer).get(peer).post(name_peer))
        .route("/v1/peers/{peer}/accept", post(accept))
        .route("/v1/peers/{peer}/block", post(block))
        .route("/v1/peers/{peer}/unblock", post(unblock))
        .route("/v1/peers/{peer}/ping", post(ping))
}

impl Office {
    /// The peers, and whoever is blocked.
    pub(super) async fn peers(&self) -> Result<Peers, Fault> {
        self.ask(|answer| Request::Peers { all: false, answer }).await
    }

    /// These, and everybody who was only heard of.
    async fn everybody(&self) -> Result<Peers, Fault> {
        self.ask(|answer| Request::Peers { all: true, answer }).await
    }

    async fn peer(&self, id: NodeId) -> Result<Peer, Fault> {
        let mut peers = self.peers().await?.peers;
        let at = peers.iter().position(|peer| peer.id == id);
        at.map(|at| peers.swap_remove(at)).ok_or_else(|| Fault::new(FaultCode::NoSuchPeer, "the peer is gone already"))
    }
}

/// What is asked of `GET /v1/peers`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    /// With everybody who was only heard of.
    #[serde(default)]
    all: bool,
}

async fn peers(State(office): State<Office>, which: Result<Query<Which>, QueryRejection>) -> Answer {
    let Query(Which { all }) =
        which.map_err(|why| Fault::new(FaultCode::BadRequest, format!("the query: {}", why.body_text())))?;
    ok(&office.ask(|answer| Request::Peers { all, answer }).await?)
}

async fn peer(State(office): State<Office>, Path(name): Path<String>) -> Answer {
    let mut known = office.everybody().await?;
    let id = select(&known, &name)?;
    let at = known.peers.iter().position(|peer| peer.id == id).expect("it was selected");
    let history = Some(office.ask(|answer| Request::History { id, answer }).await?);
    ok(&Peer { history, ..known.peers.swap_remove(at) })
}

/// The body of `POST /v1/peers`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPeer {
    address: PeerAddress,
    #[serde(default)]
    alias: Option<String>,
    /// Pin whatever key answers there now.
    #[serde(default)]
    trust_first_use: bool,
}

async fn add_peer(State(office): State<Office>, writer: Writer, body: Body) -> Answer {
    let NewPeer { address, alias, trust_first_use } = read(body).await?;
    let id = match address.id {
        Some(id) => id,
        None if trust_first_use => ask_who(&office, address.at.clone()).await?.id,
        None => {
            let why = "the address names no id, and nobody vouched for the one that answers there";
            return Err(Fault::new(FaultCode::Unpinned, why));
        }
    };
    if id == office.desk.key.id() {
        return Err(Fault::new(FaultCode::OwnAddress, "this is the address of this very node"));
    }
    if let Some(alias) = &alias {
        check_alias(alias, id, &office.peers().await?)?;
    }
    let at = address.at;
    tracing::info!(uid = writer.uid, peer = %id, %at, "a peer is added by hand");
    office.ask(|answer| Request::AddPeer { id, at, alias, answer }).await??;
    Ok(answer(StatusCode::CREATED, &office.peer(id).await?))
}

/// An alias means one peer, and is never mistaken for an address.
fn check_alias(alias: &str, id: NodeId, peers: &Peers) -> Result<(), Fault> {
    let shaped = (1..=64).contains(&alias.len())
        && alias.starts_with(|first: char| first.is_ascii_alphanumeric())
        && alias.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if !shaped {
        let why = "an alias is a letter or digit, then letters, digits, `.`, `_` or `-`, 64 at most";
        return Err(Fault::new(FaultCode::Alias, why));
    }
    match peers.peers.iter().find(|peer| peer.alias.as_deref() == Some(alias) && peer.id != id) {
        Some(other) => Err(Fault::new(FaultCode::Alias, format!("`{alias}` is what {} is called", other.id.short()))),
        None => Ok(()),
    }
}

async fn remove_peer(State(office): State<Office>, writer: Writer, Path(name): Path<String>) -> Answer {
    let id = select(&office.peers().await?, &name)?;
    let gone = office.peer(id).await?;
    tracing::info!(uid = writer.uid, peer = %id, "a peer is removed by hand");
    office.ask(|answer| Request::RemovePeer { id, answer }).await??;
    ok(&gone)
}

/// The body of `POST /v1/peers/{peer}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewName {
    /// Named, even when it is null: a body without it is a slip, and must not take a name away.
    #[serde(deserialize_with = "Option::deserialize")]
    alias: Option<String>,
}

async fn name_peer(State(office): State<Office>, writer: Writer, Path(name): Path<String>, body: Body) -> Answer {
    let NewName { alias } = read(body).await?;
    let peers = office.peers().await?;
    let id = select(&peers, &name)?;
    if let Some(alias) = &alias {
        check_alias(alias, id, &peers)?;
    }
    tracing::info!(uid = writer.uid, peer = %id, "a peer is named by hand");
    office.ask(|answer| Request::NamePeer { id, alias, answer }).await??;
    ok(&office.peer(id).await?)
}

async fn accept(State(office): State<Office>, writer: Writer, Path(name): Path<String>) -> Answer {
    let id = select(&office.peers().await?, &name)?;
    tracing::info!(uid = writer.uid, peer = %id, "a peer is accepted by hand");
    office.ask(|answer| Request::Order { id, order: Order::Accept, answer }).await??;
    ok(&office.peer(id).await?)
}

/// The body of `POST /v1/peers/{peer}/block`; none is the same as one that gives no reason.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    #[serde(default)]
    reason: Option<String>,
}

async fn block(State(office): State<Office>, writer: Writer, Path(name): Path<String>, body: Body) -> Answer {
    let body = whole(body).await?;
    let Reason { reason } = match body.is_empty() {
        true => Reason::default(),
        false => parse(&body)?,
    };
    let why = reason.unwrap_or_default();
    if why.chars().count() > REASON_MAX || why.chars().any(char::is_control) {
        let why = format!("a reason is one line of {REASON_MAX} characters at most");
        return Err(Fault::new(FaultCode::BadRequest, why));
    }
    let id = source(&office.everybody().await?, &name)?;
    tracing::info!(uid = writer.uid, peer = %id, "a node is blocked by hand");
    office.ask(|answer| Request::Order { id, order: Order::Block { why }, answer }).await??;
    ok(&office.peer(id).await?)
}

async fn unblock(State(office): State<Office>, writer: Writer, Path(name): Path<String>) -> Answer {
    let known = office.everybody().await?;
    let id = select(&known, &name)?;
    tracing::info!(uid = writer.uid, peer = %id, "a node is unblocked by hand");
    office.ask(|answer| Request::Order { id, order: Order::Unblock, answer }).await??;
    let was = known.peers.into_iter().find(|peer| peer.id == id).expect("it was selected");
    let now = office.everybody().await?.peers.into_iter().find(|peer| peer.id == id);
    // One that was no peer is a stranger like any again.
    ok(&now.unwrap_or(Peer { state: PeerState::Heard, why: None, ..was }))
}

async fn ping(State(office): State<Office>, _: Writer, Path(name): Path<String>) -> Answer {
    let id = select(&office.peers().await?, &name)?;
    ok(&office.ask(|answer| Request::Ping { id, answer }).await??)
}

/// A source need not be a peer: its whole id is enough, also as it stands in an event.
pub(super) fn source(peers: &Peers, text: &str) -> Result<NodeId, Fault> {
    match text.strip_prefix("mesh:").unwrap_or(text).parse() {
        Ok(id) => Ok(id),
        Err(_) => select(peers, text),
    }
}
