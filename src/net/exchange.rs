//! `GET /mesh/v1/hello` and `POST /mesh/v1/peers`: who we are, who the caller is, and whom both know.
//!
//! What a node says of itself must hold, or its request is refused. What it says of others is taken
//! line by line: who hands on a record that expired on the way did nothing wrong.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use tokio::sync::oneshot;

use super::limits::Neighbour;
use super::routes::{self, Caller, Reply};
use super::{Context, Report, Reports};
use crate::time::Wall;
use crate::wire::message::{Hello, LINES_TYPE, PEERS_BYTES_MAX, RECORDS_MAX};
use crate::wire::{
    Code, Group, Host, HostPort, Keys, Line, Network, NodeId, Profile, Record, Rejection, Unverified, Verified, Word,
    timestamp,
};

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

/// Takes the caller's own record and what it tells of others; gives ours and some that we know.
pub(super) async fn peers(context: &Context, reports: &Reports, caller: Caller, request: Request<Incoming>) -> Reply {
    match take(context, reports, caller, request).await {
        Ok(others) => {
            let mut body = own_line(context) + "\n";
            for line in others {
                if body.len() + line.len() < PEERS_BYTES_MAX {
                    body += &line;
                    body.push('\n');
                }
            }
            Reply::ok(LINES_TYPE, body)
        }
        Err(reply) => reply,
    }
}

/// Gives the lines of others that the caller is given.
async fn take(
    context: &Context,
    reports: &Reports,
    caller: Caller,
    request: Request<Incoming>,
) -> Result<Vec<String>, Reply> {
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
    let overloaded = || {
        context.counters().overloaded.one();
        Reply::unavailable()
    };
    let read = reader(context, caller_id, caller.address.ip());
    let read = context.0.workers.map(lines, move |line, keys| read(&line, keys)).await.map_err(|_| overloaded())?;
    let sorted = sort(context, read).map_err(|rejection| Reply::rejection(&rejection))?;
    let word = Word::from(caller.address.ip());
    let shown = sorted.own.iter().map(|record| record.seq).max();
    for record in sorted.own {
        // An error means that the driver is gone; then nobody wants to know.
        let _ = reports.send(Report::Met { record, word }).await;
    }
    let (answer, answered) = oneshot::channel();
    let group = Group::of(caller.address.ip());
    let _ = reports.send(Report::Asked { from: caller_id, shown, group, records: sorted.others, answer }).await;
    let given = answered.await.map_err(|_| overloaded())?;
    // What is given counts like what is taken: a small question has a large answer.
    let (key, is_known) = (Neighbour::of(caller.id, caller.address.ip()), context.is_neighbour(&caller_id));
    for _ in &given {
        let _ = context.rates().neighbour(&key, is_known);
    }
    Ok(given)
}

/// A line of an exchange, after every check.
#[derive(Debug)]
pub enum Told {
    /// The record of the node that speaks.
    Own(Verified<Record>),
    /// Another node's.
    Other(Verified<Record>),
    /// Another node's, at addresses that mean nothing to us.
    Pointless,
    /// Another node's that broke this rule. Whoever hands it on may not have known.
    Unsound(Code),
}

/// The records of an exchange.
#[derive(Default)]
pub(super) struct Sorted {
    /// Of the node that speaks.
    pub(super) own: Vec<Verified<Record>>,
    /// Of others.
    pub(super) others: Vec<Verified<Record>>,
}

/// Sorts what was read, and counts what is of no use.
///
/// # Errors
/// What the speaker itself did wrong first.
pub(super) fn sort(context: &Context, read: Vec<Result<Told, Rejection>>) -> Result<Sorted, Rejection> {
    let mut sorted = Sorted::default();
    for told in read {
        match told {
            Ok(Told::Own(record)) => sorted.own.push(record),
            Ok(Told::Other(record)) => sorted.others.push(record),
            Ok(Told::Pointless) => context.counters().records_ignored.one(),
            Ok(Told::Unsound(code)) => context.counters().reject(code),
            Err(rejection) => {
                context.counters().reject(rejection.code());
                return Err(rejection);
            }
        }
    }
    Ok(sorted)
}

/// What a line of an exchange is judged by.
#[derive(Clone, Debug)]
pub struct Hearing {
    /// Who speaks.
    pub speaker: NodeId,
    /// From where.
    pub ip: IpAddr,
    /// The mesh that we belong to.
    pub network: Network,
    /// Which addresses may be dialled.
    pub profile: Profile,
    /// By our clock.
    pub now: Wall,
}

impl Hearing {
    /// Reads one line.
    ///
    /// # Errors
    /// The first rule that the speaker itself broke: of framing, or in its own record.
    pub fn read(&self, line: &Bytes, keys: &mut Keys) -> Result<Told, Rejection> {
        let line = Line::split(line)?.parse(keys)?;
        let is_own = line.event().source == self.speaker;
        match check(line, self.now, &self.network) {
            Ok(record) if is_own => Ok(Told::Own(record)),
            Ok(record) if may_be_told(&record, self.ip, self.profile) => Ok(Told::Other(record)),
            Ok(_) => Ok(Told::Pointless),
            Err(rejection) if is_own => Err(rejection),
            Err(rejection) => Ok(Told::Unsound(rejection.code())),
        }
    }
}

/// Reads a line of an exchange with node `speaker` at this address.
pub(super) fn reader(
    context: &Context,
    speaker: NodeId,
    ip: IpAddr,
) -> impl Fn(&Bytes, &mut Keys) -> Result<Told, Rejection> + Send + Sync + 'static {
    let settings = context.settings();
    let (network, now, profile) = (settings.network.clone(), (settings.clock)(), settings.profile);
    let hearing = Hearing { speaker, ip, network, profile, now };
    move |line, keys| hearing.read(line, keys)
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
    check(line, now, network).map(Some)
}

fn check(line: Unverified, now: Wall, network: &Network) -> Result<Verified<Record>, Rejection> {
    line.event().check_fresh(now, network)?;
    line.check_hops()?;
    Record::read(&line.verify()?)
}

/// Is this worth hearing from somebody at `teller`? A goodbye is; else every address must be one that he
/// may tell us of. A name is judged when it is dialled.
fn may_be_told(record: &Record, teller: IpAddr, profile: Profile) -> bool {
    let is_good = |at: &HostPort| match at.host {
        Host::Ip(ip) => profile.may_relay(teller, SocketAddr::new(ip, at.port)).is_ok(),
        Host::Name(_) => profile.allows_host(at).is_ok(),
    };
    record.bye || (!record.addresses.is_empty() && record.addresses.iter().all(is_good))
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
