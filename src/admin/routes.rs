//! The routes, and the server that answers them.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, serve as serve_http};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::answers::{Change, Document, Ready, Status, document};
use super::caller::{Caller, Gate, Writer};
use super::exposition;
use super::fault::{Fault, FaultCode};
use super::groups::{Cursors, GroupName, Register};
use super::idempotency::Key;
use super::openapi::OPENAPI;
use super::publish::{Form, Terms};
use super::request::{InterestsChange, Request};
use super::socket::Socket;
use super::tiers::TierName;
use super::waiting::Wait;
use super::{BODY_BYTES_MAX, changes, cloudevents, live, peers, publish, sse};
use crate::core::ports::{Claims, Log, Seq};
use crate::core::trust::Policy;
use crate::time::Wall;
use crate::wire::message::{Durability, PROBLEM_TYPE};
use crate::wire::{Code, EventType, HostPort, Keypair, Network, NodeId, Rejection};

/// Content type of one object a line.
pub(super) const LINES_TYPE: &str = "application/x-ndjson";
/// How long the driver may take for an answer; dialling a stranger is the longest.
pub const ANSWER_MAX: Duration = Duration::from_secs(15);
/// How long asking all tiers of discovery may take, with the dials that follow.
pub const DISCOVER_MAX: Duration = Duration::from_secs(45);
/// How long a probe waits: longer means that nobody is driving.
pub const PROBE_MAX: Duration = Duration::from_secs(5);
/// How long answers in the making may take once the daemon stops.
pub const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// What the local API works with.
pub struct Desk {
    /// The driver.
    pub requests: mpsc::Sender<Request>,
    /// Who signs what is published here.
    pub key: Arc<Keypair>,
    /// The mesh it belongs to.
    pub network: Network,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// The wall clock.
    pub clock: Arc<dyn Fn() -> Wall + Send + Sync>,
    /// The journal.
    pub log: Arc<dyn Log>,
    /// Its cursors: where groups of subscribers are.
    pub cursors: Arc<dyn Cursors>,
    /// What changes, for whoever watches.
    pub changes: broadcast::Sender<Change>,
    /// Silence after which a stream of frames says that it is alive.
    pub keep_alive: Duration,
    /// Idempotency keys, kept by the journal.
    pub claims: Arc<dyn Claims>,
    /// Its head; every move wakes the subscribers.
    pub head: watch::Receiver<Seq>,
    /// What we think of events; asked when they are shown.
    pub policy: watch::Receiver<Policy>,
}

/// A desk in use: what every handler gets.
#[derive(Clone)]
pub(super) struct Office {
    pub(super) desk: Arc<Desk>,
    groups: Arc<Register>,
    /// Becomes true when the daemon stops.
    stop: watch::Receiver<bool>,
}

/// Answers until `shutdown` completes, then for two more seconds at most what is being answered.
/// The socket's file is gone afterwards.
///
/// # Errors
/// When the socket itself breaks.
pub async fn serve(socket: Socket, desk: Desk, shutdown: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let (stopping, stop) = watch::channel(false);
    let groups = Register::new(Arc::clone(&desk.log), Arc::clone(&desk.cursors));
    let office = Office { desk: Arc::new(desk), groups: Arc::new(groups), stop: stop.clone() };
    let service = routes(office).into_make_service_with_connect_info::<Caller>();
    let told = async move {
        shutdown.await;
        stopping.send_replace(true);
    };
    let mut is_late = stop;
    let too_late = async move {
        // An error means that `told` is done and dropped: the same as a change.
        let _ = is_late.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(FAREWELL_MAX).await;
    };
    tokio::select! {
        served = serve_http(Gate::new(socket), service).with_graceful_shutdown(told).into_future() => served,
        () = too_late => Ok(()),
    }
}

fn routes(office: Office) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/openapi.json", get(openapi))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/id", get(id))
        .route("/v1/match/{type}", get(matches))
        .route("/v1/discovery", get(discovery).post(discover))
        .route("/v1/leave", post(leave))
        .route("/v1/identify", post(identify))
        .route("/v1/events", get(events).post(publish_events))
        .route("/v1/groups", get(groups))
        .route("/v1/groups/{group}", get(group).post(acknowledge).delete(forget_group))
        .route("/v1/watch", get(watch_changes))
        .route("/v1/interests", get(interests).post(set_interests))
        .route("/v1/trust", get(trust).post(set_trust))
        .merge(peers::routes())
        .merge(super::dead::routes())
        .fallback(async || Fault::new(FaultCode::NotFound, "there is no such route; the API begins at /v1/status"))
        .method_not_allowed_fallback(async || Fault::new(FaultCode::Method, "this route does not know the method"))
        .layer(axum::middleware::from_fn(super::origin::refuse_pages))
        .with_state(office)
}

impl Office {
    /// Asks the driver.
    pub(super) async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Fault> {
        self.ask_within(ANSWER_MAX, make).await
    }

    async fn ask_within<T>(
        &self,
        limit: Duration,
        make: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Fault> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.desk.requests.send(make(answer)).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout(limit, asked).await.ok().flatten().ok_or_else(Fault::stopping)
    }
}

pub(super) type Answer = Result<Response, Fault>;

pub(super) fn answer<T: Document>(status: StatusCode, value: &T) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], document(value) + "\n").into_response()
}

pub(super) fn ok<T: Document>(value: &T) -> Answer {
    Ok(answer(StatusCode::OK, value))
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).expect("every status of the table is one");
        let body = serde_json::to_string(&self.problem()).expect("a problem always encodes") + "\n";
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_TYPE)], body).into_response();
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().max(1).into());
        }
        response
    }
}

/// A body that is read as a whole.
pub(super) async fn whole(body: Body) -> Result<Bytes, Fault> {
    let too_large = |_| {
        Fault::new(
            FaultCode::BodyTooLarge,
            format!("one body has {BODY_BYTES_MAX} bytes at most; lines may be streamed"),
        )
    };
    axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(too_large)
}

pub(super) async fn read<T: for<'de> Deserialize<'de>>(body: Body) -> Result<T, Fault> {
    parse(&whole(body).await?)
}

pub(super) fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|why| Fault::new(FaultCode::BadRequest, format!("the body: {why}")))
}

async fn livez(State(office): State<Office>) -> Answer {
    office.ask_within(PROBE_MAX, |answer| Request::Status { answer }).await?;
    Ok((StatusCode::OK, "alive\n").into_response())
}

async fn readyz(State(office): State<Office>) -> Answer {
    let Status { ready, durability, warnings, .. } =
        office.ask_within(PROBE_MAX, |answer| Request::Status { answer }).await?;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(answer(status, &Ready { ready, durability, warnings }))
}

async fn openapi() -> Answer {
    Ok(([(header::CONTENT_TYPE, "application/json")], OPENAPI.as_str()).into_response())
}

async fn metrics(State(office): State<Office>, headers: HeaderMap) -> Answer {
    let page = office.ask(|answer| Request::Metrics { answer }).await?;
    Ok(exposition::respond(&headers, page))
}

async fn status(State(office): State<Office>) -> Answer {
    ok(&office.ask(|answer| Request::Status { answer }).await?)
}

async fn id(State(office): State<Office>) -> Answer {
    ok(&office.ask(|answer| Request::Id { answer }).await?)
}

async fn leave(State(office): State<Office>, writer: Writer) -> Answer {
    tracing::info!(uid = writer.uid, "this node leaves the mesh by hand");
    ok(&office.ask(|answer| Request::Leave { answer }).await??)
}

async fn discovery(State(office): State<Office>) -> Answer {
    ok(&office.ask(|answer| Request::Discovery { answer }).await?)
}

/// The body of `POST /v1/discovery`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Survey {
    /// All of them when absent.
    #[serde(default)]
    tiers: Option<BTreeSet<TierName>>,
    #[serde(default)]
    dry_run: bool,
}

async fn discover(State(office): State<Office>, _: Writer, body: Body) -> Answer {
    let Survey { tiers, dry_run } = read(body).await?;
    let tiers = tiers.unwrap_or_else(|| TierName::ALL.into());
    ok(&office.ask_within(DISCOVER_MAX, |answer| Request::Discover { tiers, dry_run, answer }).await?)
}

async fn matches(State(office): State<Office>, Path(kind): Path<String>) -> Answer {
    let kind: EventType = kind.parse().map_err(|rejection| Fault::from(&rejection))?;
    if kind.is_reserved() {
        return Err(Fault::from(&Rejection::TypeDenied));
    }
    ok(&office.ask(|answer| Request::Match { kind, answer }).await?)
}

/// The body of `POST /v1/identify`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Where {
    address: HostPort,
}

async fn identify(State(office): State<Office>, _: Writer, body: Body) -> Answer {
    let Where { address } = read(body).await?;
    ok(&ask_who(&office, address).await?)
}

pub(super) async fn ask_who(office: &Office, at: HostPort) -> Result<super::answers::Identified, Fault> {
    office.ask(|answer| Request::Identify { at, answer }).await?
}

async fn interests(State(office): State<Office>) -> Answer {
    ok(&office.ask(|answer| Request::Interests { answer }).await?)
}

async fn set_interests(State(office): State<Office>, writer: Writer, body: Body) -> Answer {
    let change: InterestsChange = read(body).await?;
    tracing::info!(uid = writer.uid, %change, "the interests are changed by hand");
    ok(&office.ask(|answer| Request::SetInterests { change, answer }).await??)
}

async fn trust(State(office): State<Office>) -> Answer {
    ok(&office.ask(|answer| Request::Trust { answer }).await?)
}

/// The body of `POST /v1/trust`: sources by alias, id, or the beginning of the id of a peer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustChange {
    #[serde(default)]
    mute: Vec<String>,
    #[serde(default)]
    unmute: Vec<String>,
}

async fn set_trust(State(office): State<Office>, writer: Writer, body: Body) -> Answer {
    let change: TrustChange = read(body).await?;
    let known = office.peers().await?;
    let ids = |texts: &[String]| texts.iter().map(|text| peers::source(&known, text)).collect::<Result<Vec<_>, _>>();
    let (mute, unmute) = (ids(&change.mute)?, ids(&change.unmute)?);
    let shown = |ids: &[NodeId]| ids.iter().map(NodeId::short).collect::<Vec<_>>().join(" ");
    let (muted, unmuted) = (shown(&mute), shown(&unmute));
    tracing::info!(uid = writer.uid, muted, unmuted, "sources are muted or listened to again by hand");
    ok(&office.ask(|answer| Request::SetMuted { mute, unmute, answer }).await??)
}

async fn events(
    State(office): State<Office>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Answer {
    let mut wish = live::Wish::parse(&query, (office.desk.clock)())?;
    let mut kind = LINES_TYPE;
    if sse::is_asked_for(&headers) {
        kind = sse::STREAM_TYPE;
        wish = wish.into_frames(sse::last_event_id(&headers, office.desk.log.incarnation())?);
    }
    let events = live::events(&office.desk, wish, office.stop.clone()).await?;
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(events)).into_response())
}

async fn watch_changes(State(office): State<Office>, headers: HeaderMap) -> Answer {
    let kind = if sse::is_asked_for(&headers) { sse::STREAM_TYPE } else { LINES_TYPE };
    let changes = changes::changes(&office.desk, &headers, office.stop.clone());
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(changes)).into_response())
}

fn group_name(name: &str) -> Result<GroupName, Fault> {
    name.parse().map_err(|why| Fault::new(FaultCode::BadRequest, why))
}

async fn groups(State(office): State<Office>) -> Answer {
    ok(&office.groups.all())
}

async fn group(State(office): State<Office>, Path(name): Path<String>) -> Answer {
    ok(&office.groups.one(&group_name(&name)?))
}

/// The body of `POST /v1/groups/{group}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    seq: Seq,
}

async fn acknowledge(State(office): State<Office>, _: Writer, Path(name): Path<String>, body: Body) -> Answer {
    let (name, Done { seq }) = (group_name(&name)?, read(body).await?);
    ok(&office.groups.acknowledge(&name, seq)?)
}

async fn forget_group(State(office): State<Office>, writer: Writer, Path(name): Path<String>) -> Answer {
    let gone = office.groups.forget(&group_name(&name)?)?;
    tracing::info!(uid = writer.uid, group = gone.group, "a group of subscribers is deleted by hand");
    ok(&gone)
}

async fn publish_events(
    State(office): State<Office>,
    _: Writer,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let terms =
        |form| -> Result<Terms, Fault> { Ok(Terms { form, key: Key::of(&headers)?, wait: Wait::parse(&query)? }) };
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim() {
        // What `curl -d` says of everything; there is no form here that it could be taken for.
        "" | "application/x-www-form-urlencoded" | "application/json" => {
            publish_one(&office, terms(Form::Own)?, whole(body).await?).await
        }
        cloudevents::ONE_TYPE => publish_one(&office, terms(Form::CloudEvent)?, whole(body).await?).await,
        cloudevents::BATCH_TYPE => {
            let terms = terms(Form::CloudEvent)?;
            let events = cloudevents::batch(utf8(&whole(body).await?)?).map_err(|rejection| Fault::from(&rejection))?;
            let texts = events.into_iter().map(|event| Bytes::from(Box::<str>::from(event).into_string())).collect();
            Ok(lines(publish::all(office.desk, texts, terms)))
        }
        LINES_TYPE | "application/jsonl" => {
            Ok(lines(publish::many(office.desk, body.into_data_stream(), terms(Form::Own)?)))
        }
        _ => {
            let why = "one event is application/json or application/cloudevents+json, lines of events are \
                       application/x-ndjson, an array of CloudEvents is application/cloudevents-batch+json";
            Err(Fault::new(FaultCode::ContentType, why))
        }
    }
}

fn lines(answers: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let answers = answers.map(Ok::<Bytes, std::convert::Infallible>);
    ([(header::CONTENT_TYPE, LINES_TYPE)], Body::from_stream(answers)).into_response()
}

fn utf8(body: &Bytes) -> Result<&str, Fault> {
    std::str::from_utf8(body).map_err(|_| Fault::new(FaultCode::Event(Code::Malformed), "the body is not UTF-8"))
}

async fn publish_one(office: &Office, terms: Terms, body: Bytes) -> Answer {
    let published = publish::one(&office.desk, body, &terms).await;
    match published.code {
        None if published.duplicate => Ok(answer(StatusCode::OK, &published)),
        None => Ok(answer(StatusCode::ACCEPTED, &published)),
        Some(code) => Err(Fault {
            code: FaultCode::Event(code),
            why: published.why.unwrap_or_default(),
            retry_after: published.retry_after_ms.map(Duration::from_millis),
        }),
    }
}
