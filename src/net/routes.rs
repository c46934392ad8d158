//! One request: is it one of ours, is it framed beyond doubt, and what is the answer as HTTP.
//!
//! hyper takes more than two readers can agree on; what it lets through of that is refused here with
//! 400 (RFC 9112 sections 3.2, 6.1, 6.3). Errors are problem+json with a stable code.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use super::watch::{Activity, Answering, Begun};
use super::{Context, Desk, Reports, events, exchange, reconcile, registrar};
use crate::wire::message::{
    EVENTS_ROUTE, GET_ROUTE, HEALTH_ROUTE, HELLO_ROUTE, LINES_TYPE, PEERS_ROUTE, PROBLEM_TYPE, Problem, SYNC_ROUTE,
};
use crate::wire::registration::{LIVENESS_ROUTE, REANNOUNCE_AFTER};
use crate::wire::{Code, NodeId, Rejection};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// By the key that TLS proved; `None` = nameless.
    pub(super) id: Option<NodeId>,
    /// From where.
    pub(super) address: SocketAddr,
}

/// An answer, not yet HTTP.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) body: Bytes,
    pub(super) retry_after: Option<Duration>,
    pub(super) allow: Option<&'static str>,
    /// A registrar's: when the node should announce itself again.
    pub(super) reannounce_after: Option<Duration>,
    /// HTTP/1.1: the connection ends with this answer.
    pub(super) closes: bool,
}

/// What requests are told while we are behind.
pub(super) const RETRY_BEHIND: Duration = Duration::from_millis(500);

impl Reply {
    pub(super) fn ok(kind: &'static str, body: impl Into<Bytes>) -> Reply {
        Reply::with(StatusCode::OK, kind, body)
    }

    pub(super) fn with(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
        let body = body.into();
        Reply { status, kind, body, retry_after: None, allow: None, reannounce_after: None, closes: false }
    }

    /// An error of the route itself.
    pub(super) fn problem(status: StatusCode, code: &str, title: &str) -> Reply {
        Reply::problem_after(status, code, title, None)
    }

    /// The same, with when to ask again.
    pub(super) fn problem_after(status: StatusCode, code: &str, title: &str, after: Option<Duration>) -> Reply {
        let problem = Problem {
            status: status.as_u16(),
            code: code.to_owned(),
            title: title.to_owned(),
            retry_after_ms: after.map(|after| after.as_millis().try_into().unwrap_or(u64::MAX)),
        };
        let body = serde_json::to_vec(&problem).expect("a problem always encodes");
        Reply { retry_after: after, ..Reply::with(status, PROBLEM_TYPE, body) }
    }

    /// An error with a code of the protocol.
    pub(super) fn rejection(rejection: &Rejection) -> Reply {
        let code = rejection.code();
        let status = StatusCode::from_u16(code.status()).expect("every code has a valid status");
        Reply::problem_after(status, code.as_str(), &rejection.to_string(), rejection.retry_after())
    }

    /// We are behind.
    pub(super) fn unavailable() -> Reply {
        Reply::rejection(&Rejection::Unavailable { after: RETRY_BEHIND })
    }

    /// As HTTP; the request lasts until the body was handed over.
    pub(super) fn into_response(self, request: Begun, is_http2: bool) -> Response<Answering> {
        let body = Answering::new(Full::new(self.body), request, self.status.is_success());
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(after) = self.reannounce_after {
            headers.insert(REANNOUNCE_AFTER, HeaderValue::from(after.as_secs()));
        }
        if self.closes && !is_http2 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Answers one request, within the time that a request may take.
pub(super) async fn answer(
    context: &Context,
    desk: &Desk,
    caller: Caller,
    activity: &Activity,
    request: Request<Incoming>,
) -> Reply {
    context.counters().requests.one();
    let reply = judge(context, desk, caller, activity, request).await;
    if reply.status.is_client_error() {
        context.counters().refused.one();
    }
    reply
}

async fn judge(
    context: &Context,
    desk: &Desk,
    caller: Caller,
    activity: &Activity,
    request: Request<Incoming>,
) -> Reply {
    if let Some(why) = doubt(&request, activity) {
        let reply = Reply::problem(StatusCode::BAD_REQUEST, Code::Malformed.as_str(), why);
        return Reply { closes: true, ..reply };
    }
    let has_body = !request.body().is_end_stream();
    let answer = async {
        match desk {
            Desk::Mesh(reports) => route(context, reports, caller, request).await,
            Desk::Registrar(registrar) => registrar.answer(caller, request).await,
        }
    };
    let reply = match timeout(context.limits().request, answer).await {
        Ok(reply) => reply,
        Err(_) => {
            context.counters().overloaded.one();
            Reply::unavailable()
        }
    };
    let closes = reply.closes || activity.is_last() || (has_body && !reply.status.is_success());
    Reply { closes, ..reply }
}

async fn route(context: &Context, reports: &Reports, caller: Caller, request: Request<Incoming>) -> Reply {
    if caller.id.is_some_and(|id| context.is_blocked(&id)) {
        context.counters().reject(Code::Blocked);
        return Reply { closes: true, ..Reply::rejection(&Rejection::Blocked) };
    }
    let (allowed, route) = match request.uri().path() {
        EVENTS_ROUTE => ("POST", EVENTS_ROUTE),
        PEERS_ROUTE => ("POST", PEERS_ROUTE),
        SYNC_ROUTE => ("POST", SYNC_ROUTE),
        GET_ROUTE => ("POST", GET_ROUTE),
        HELLO_ROUTE => ("GET", HELLO_ROUTE),
        LIVENESS_ROUTE => ("GET", LIVENESS_ROUTE),
        HEALTH_ROUTE => ("GET", HEALTH_ROUTE),
        _ => return Reply::problem(StatusCode::NOT_FOUND, "not_found", "no such route"),
    };
    if request.method().as_str() != allowed {
        let reply = Reply::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "another method is needed");
        return Reply { allow: Some(allowed), ..reply };
    }
    match route {
        EVENTS_ROUTE => events::post(context, reports, caller, request).await,
        PEERS_ROUTE => exchange::peers(context, reports, caller, request).await,
        SYNC_ROUTE => reconcile::sync(context, reports, caller, request).await,
        GET_ROUTE => reconcile::get(context, reports, caller, request).await,
        HELLO_ROUTE => exchange::hello(context, caller, request.uri().query()),
        LIVENESS_ROUTE => registrar::liveness(context, caller, request.uri().query()),
        _ => health(context),
    }
}

fn health(context: &Context) -> Reply {
    match *context.settings().ready.borrow() {
        true => Reply::ok("text/plain", "ready\n"),
        false => Reply::with(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not ready\n"),
    }
}

/// Could another reader of this request read it differently, or is it not meant for a node at all?
fn doubt(request: &Request<Incoming>, activity: &Activity) -> Option<&'static str> {
    if request.method() == Method::CONNECT {
        return Some("this is no proxy");
    }
    match request.version() {
        Version::HTTP_2 => return None,
        Version::HTTP_11 => {}
        _ => return Some("HTTP/1.1 or HTTP/2 is needed"),
    }
    if activity.is_ambiguous() {
        return Some("the length of the request is ambiguous");
    }
    if request.uri().scheme().is_some() || request.uri().authority().is_some() {
        return Some("the request target is a path");
    }
    let hosts: Vec<&HeaderValue> = request.headers().get_all(header::HOST).iter().collect();
    if hosts.len() != 1 || hosts[0].is_empty() {
        return Some("one Host is needed");
    }
    let codings: Vec<&HeaderValue> = request.headers().get_all(header::TRANSFER_ENCODING).iter().collect();
    match codings.as_slice() {
        [] => None,
        [one] if one.as_bytes().eq_ignore_ascii_case(b"chunked") => None,
        _ => Some("`chunked` is the only transfer coding"),
    }
}

/// Are these lines of ours, in no coding?
pub(super) fn check_kind(headers: &HeaderMap) -> Result<(), Reply> {
    check_kind_is(LINES_TYPE, "the content type of lines is needed", headers)
}

/// Is this a body of this type, in no coding?
pub(super) fn check_kind_is(wanted: &str, otherwise: &str, headers: &HeaderMap) -> Result<(), Reply> {
    let refuse = |why| Reply::problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", why);
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(refuse("no content encoding is accepted"));
    }
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    match (kinds.next().map(HeaderValue::as_bytes), kinds.next()) {
        (Some(kind), None) if kind.eq_ignore_ascii_case(wanted.as_bytes()) => Ok(()),
        _ => Err(refuse(otherwise)),
    }
}

/// A body in memory, with the room it takes up.
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// Reads a whole body, within its size, its time, and the memory there is for bodies.
pub(super) async fn read(
    context: &Context,
    mut body: Incoming,
    bytes_max: usize,
    is_known: bool,
) -> Result<Held, Reply> {
    let too_large = || {
        context.counters().reject(Code::TooLarge);
        Reply::problem(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge.as_str(), "the body is too large")
    };
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let deadline = Instant::now() + context.limits().body;
    let mut bytes = BytesMut::new();
    let mut room: Option<OwnedSemaphorePermit> = None;
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                return Err(Reply::problem(StatusCode::BAD_REQUEST, Code::Malformed.as_str(), "the body is broken"));
            }
            Err(_) => {
                return Err(Reply::problem(StatusCode::REQUEST_TIMEOUT, "timeout", "the body took too long"));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(too_large());
        }
        let Some(more) = context.0.bodies.room(data.len(), is_known) else {
            context.counters().overloaded.one();
            return Err(Reply::unavailable());
        };
        match &mut room {
            Some(room) => room.merge(more),
            None => room = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    context.counters().body_bytes.add(bytes.len());
    Ok(Held { bytes: bytes.freeze(), _room: room })
}
