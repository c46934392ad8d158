//! `GET /mesh/v1/hello` and `POST /mesh/v1/peers`: who we are, and who the caller is.
//!
//! In this version an exchange is about the two nodes alone: records about others are counted and not
//! read.

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::limits::Neighbour;
use super::routes::{self, Caller, Reply};
use super::{Context, Report, Reports};
use crate::time::Wall;
use crate::wire::message::{Hello, LINES_TYPE, PEERS_BYTES_MAX, RECORDS_MAX};
use crate::wire::{Code, HostPort, Keys, Line, Network, NodeId, Record, Rejection, Verified, timestamp};

/// Answers with our record and the caller's nonce, signed.
pub(super) fn hello(context: &Context, caller: Caller, query: Option<&str>) -> Reply {
    let nonce = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("nonce=")));
    let Some(nonce) = nonce.filter(|nonce| Hello::is_nonce(nonce)) else {
        let why = "a nonce of 1 to 64 letters, digits, `_` or `-` is needed";
        return Reply::problem(StatusCode::BAD_REQUEST, Code::Malformed.as_str(), why);
    };
    if let Err(reply) = spend(context, caller, 1) {
        return reply;
    }
    let settings = context.settings();
    let hello = Hello::answer(
        &settings.key,
        caller.id.as_ref(),
        nonce,
        HostPort::from_socket(caller.address).to_string(),
        timestamp::format((settings.clock)()),
        own_line(context),
    );
    Reply::ok("application/json", serde_json::to_vec(&hello).expect("a hello always encodes"))
}

/// Takes the caller's own record and gives ours.
pub(super) async fn peers(context: &Context, reports: &Reports, caller: Caller, request: Request<Incoming>) -> Reply {
    match take(context, reports, caller, request).await {
        Ok(()) => Reply::ok(LINES_TYPE, own_line(context) + "\n"),
        Err(reply) => reply,
    }
}

async fn take(context: &Context, reports: &Reports, caller: Caller, request: Request<Incoming>) -> Result<(), Reply> {
    let Some(caller_id) = caller.id else {
        let why = "a node shows its key before it exchanges records";
        return Err(Reply::problem(StatusCode::FORBIDDEN, "nameless", why));
    };
    routes::check_kind(request.headers())?;
    let body = routes::read(context, request.into_body(), PEERS_BYTES_MAX, context.is_neighbour(&caller_id)).await?;
    let lines: Vec<Bytes> = match body.bytes.strip_suffix(b"\n").unwrap_or(&body.bytes) {
        [] => Vec::new(),
        text => text.split(|byte| *byte == b'\n').map(Bytes::copy_from_slice).collect(),
    };
    if lines.len() > RECORDS_MAX {
        let why = "more than 32 records";
        return Err(Reply::problem(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge.as_str(), why));
    }
    spend(context, caller, lines.len())?;
    let read = reader(context, caller_id);
    let records = context.0.workers.map(lines, move |line, keys| read(&line, keys)).await.map_err(|_| {
        context.counters().overloaded.one();
        Reply::unavailable()
    })?;
    for record in records {
        match record {
            Ok(Some(record)) => {
                // An error means that the driver is gone; then nobody wants to know.
                let _ = reports.send(Report::Met { record }).await;
            }
            Ok(None) => context.counters().records_ignored.one(),
            Err(rejection) => {
                context.counters().reject(rejection.code());
                return Err(Reply::rejection(&rejection));
            }
        }
    }
    Ok(())
}

/// Reads a line: the record of `id` with all checks, `None` for anybody else's.
fn reader(
    context: &Context,
    id: NodeId,
) -> impl Fn(&Bytes, &mut Keys) -> Result<Option<Verified<Record>>, Rejection> + Send + Sync + 'static {
    let settings = context.settings();
    let (network, now) = (settings.network.clone(), (settings.clock)());
    move |line, keys| record_of(&id, line, now, &network, keys)
}

/// The record in this line if it is `id`'s own, with all checks; `None` when it is about another node.
///
/// # Errors
/// The first rule broken.
pub(super) fn record_of(
    id: &NodeId,
    line: &Bytes,
    now: Wall,
    network: &Network,
    keys: &mut Keys,
) -> Result<Option<Verified<Record>>, Rejection> {
    let line = Line::split(line)?.parse(keys)?;
    if line.event().source != *id {
        return Ok(None);
    }
    line.event().check_fresh(now, network)?;
    line.check_hops()?;
    Record::read(&line.verify()?).map(Some)
}

/// Takes the price of so many lines from the caller's rate.
pub(super) fn spend(context: &Context, caller: Caller, lines: usize) -> Result<(), Reply> {
    let key = Neighbour::of(caller.id, caller.address.ip());
    let is_known = caller.id.is_some_and(|id| context.is_neighbour(&id));
    for _ in 0..lines.max(1) {
        if let Err(after) = context.rates().neighbour(&key, is_known) {
            context.counters().reject(Code::Rate);
            return Err(Reply::rejection(&Rejection::Rate { after }));
        }
    }
    Ok(())
}

fn own_line(context: &Context) -> String {
    context.settings().record.borrow().to_string()
}
