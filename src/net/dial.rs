//! The calling end: one HTTPS client that knows one peer at one checked address, and the few things
//! it says there.
//!
//! reqwest never resolves a name here: a name that was resolved and checked is given to it with its
//! address, any other is refused by its resolver. Redirects are answers like any other, there is no
//! proxy, and no answer is read beyond its bound.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use data_encoding::BASE64URL_NOPAD;
use reqwest::dns::{Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode};

use super::exchange::Sorted;
use super::tls::Pin;
use super::{Context, exchange};
use crate::core::params::CREDIT_MAX;
use crate::wire::message::{
    DIGESTS_TYPE, EVENTS_ROUTE, GET_ROUTE, HELLO_ROUTE, Hello, LINES_TYPE, PEERS_BYTES_MAX, PEERS_ROUTE, Problem,
    RECORDS_MAX, Receipt, Refused, Retry, SYNC_ROUTE, SYNC_TYPE,
};
use crate::wire::sync::{DIGESTS_MAX, GIVEN_BYTES_MAX, SYNC_BYTES_MAX};
use crate::wire::{Code, Host, HostPort, Keys, NodeId, Record, Rejection, Verified};

/// Largest answer but that of `/peers`.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Most records in an answer of `/peers`, the peer's own and twice as many as it should give
/// (3-discovery.md, tier 2).
pub const ANSWER_RECORDS_MAX: usize = 1 + 2 * RECORDS_MAX;
/// Longest wait that a peer can ask for.
pub const RETRY_MAX: Duration = Duration::from_secs(600);
/// Shortest wait that a peer can ask for, so that nobody makes us send without a pause.
const RETRY_LEAST: Duration = Duration::from_millis(100);
/// What is waited when a peer says it is busy and not for how long.
const RETRY_DEFAULT: Duration = Duration::from_secs(1);
/// What is waited when a peer fails, and does not say for how long.
const RETRY_FAILED: Duration = Duration::from_secs(2);

/// Why a call brought nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// The peer is there and wants to be asked again after this.
    Busy(Duration),
    /// Something there does not work, with this status, whatever it was asked: it may after a while.
    Failed {
        /// The HTTP status.
        status: u16,
        /// When to ask again.
        after: Duration,
    },
    /// The peer is there and refuses what it was sent, with this status: the same bytes never pass.
    Refused(u16),
    /// There is no use in this connection; the reason in our own words.
    Lost(String),
}

impl Trouble {
    /// For people, about the peer at `at`.
    pub(super) fn why(&self, at: SocketAddr) -> String {
        match self {
            Trouble::Busy(_) => format!("{at} is busy"),
            Trouble::Failed { status, .. } | Trouble::Refused(status) => format!("{at} refused with status {status}"),
            Trouble::Lost(why) => why.clone(),
        }
    }
}

/// One peer at one address.
pub(super) struct Call {
    context: Context,
    peer: NodeId,
    pub(super) at: SocketAddr,
    pin: Arc<Pin>,
    client: reqwest::Client,
    origin: String,
}

/// What an exchange brought.
pub(super) struct Exchanged {
    /// The peer's own record.
    pub(super) own: Verified<Record>,
    /// What it told us of others.
    pub(super) others: Vec<Verified<Record>>,
}

/// An answer that was read to its end.
struct Answered {
    status: StatusCode,
    retry_after: Option<Duration>,
    kind: String,
    body: Bytes,
}

impl Call {
    /// Nothing is sent yet. `place` is what `at` was resolved from: TLS names it, for proxies that pass
    /// connections on by name.
    ///
    /// # Errors
    /// Why the client cannot be made.
    pub(super) fn new(context: &Context, peer: NodeId, place: &HostPort, at: SocketAddr) -> Result<Call, String> {
        let pin = context.0.identity.pin(Some(peer));
        let (client, origin) = client(context, context.0.identity.client(&pin), place, at)?;
        Ok(Call { context: context.clone(), peer, at, pin, client, origin })
    }

    /// Any route, which must answer 200.
    pub(super) async fn get(&self, route: &str, bytes_max: usize) -> Result<Bytes, Trouble> {
        Ok(self.call(self.client.get(format!("{}{route}", self.origin)), bytes_max).await?.body)
    }

    /// Whom we mean.
    pub(super) fn peer(&self) -> NodeId {
        self.peer
    }

    /// Somebody else answered there.
    pub(super) fn met_another(&self) -> bool {
        self.pin.found().is_some_and(|found| found != self.peer)
    }

    /// Who are you? The first one makes the connection.
    pub(super) async fn hello(&self) -> Result<Hello, Trouble> {
        let nonce = nonce().map_err(Trouble::Lost)?;
        let request = self.client.get(format!("{}{HELLO_ROUTE}?nonce={nonce}", self.origin));
        let answer = self.call(request, ANSWER_BYTES_MAX).await?;
        let hello: Hello = answer.json().ok_or_else(|| self.odd("said hello in a way that cannot be read"))?;
        if !hello.is_answer_of(&self.peer, Some(&self.context.id()), &nonce) {
            return Err(self.odd("did not sign the hello it was asked for"));
        }
        Ok(hello)
    }

    /// This is me, who are you, and whom else do you know? Every record with all checks; of a heap that
    /// is larger than anybody may send only the first one counts, which is the peer's own.
    pub(super) async fn exchange(&self, own: &str) -> Result<Exchanged, Trouble> {
        let request = self.lines(PEERS_ROUTE, Bytes::from(format!("{own}\n")));
        let answer = self.call(request, PEERS_BYTES_MAX).await?;
        let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut lines: Vec<Bytes> = lines.map(|line| answer.body.slice_ref(line)).collect();
        if lines.len() > ANSWER_RECORDS_MAX {
            self.context.counters().records_ignored.add(lines.len() - 1);
            lines.truncate(1);
        }
        let read = exchange::reader(&self.context, self.peer, self.at.ip());
        let mut keys = Keys::default();
        let read = lines.iter().map(|line| read(line, &mut keys)).collect();
        let refused = |rejection: Rejection| self.odd(&format!("gave a record that is refused: {rejection}"));
        let Sorted { own, others } = exchange::sort(&self.context, read).map_err(refused)?;
        let own = own.into_iter().max_by_key(|record| record.seq);
        Ok(Exchanged { own: own.ok_or_else(|| self.odd("gave no record of its own"))?, others })
    }

    /// The record in a hello, with all checks. One that does not pass is counted and costs nothing
    /// more: the hello itself is good.
    pub(super) fn record_in(&self, hello: &Hello) -> Option<Verified<Record>> {
        match self.read_record(hello.record.as_bytes()) {
            Ok(Some(record)) => return Some(record),
            Ok(None) => self.context.counters().records_ignored.one(),
            Err(rejection) => self.context.counters().reject(rejection.code()),
        }
        None
    }

    fn read_record(&self, line: &[u8]) -> Result<Option<Verified<Record>>, Rejection> {
        let settings = self.context.settings();
        let now = (settings.clock)();
        let line = Bytes::copy_from_slice(line);
        exchange::record_of(&self.peer, &line, now, &settings.network, &mut Keys::default())
    }

    /// What do you have that I lack? A frame for a frame.
    pub(super) async fn reconcile(&self, frame: Vec<u8>) -> Result<Bytes, Trouble> {
        let request = self.client.post(format!("{}{SYNC_ROUTE}", self.origin)).header(CONTENT_TYPE, SYNC_TYPE);
        Ok(self.call(request.body(frame), SYNC_BYTES_MAX).await?.body)
    }

    /// Lines by these digests, as they come.
    pub(super) async fn fetch(&self, digests: Vec<u8>) -> Result<Vec<Bytes>, Trouble> {
        let request = self.client.post(format!("{}{GET_ROUTE}", self.origin)).header(CONTENT_TYPE, DIGESTS_TYPE);
        let answer = self.call(request.body(digests), GIVEN_BYTES_MAX).await?;
        let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(lines.map(|line| answer.body.slice_ref(line)).take(DIGESTS_MAX + 1).collect())
    }

    /// Takes these lines, in this order.
    pub(super) async fn post(&self, lines: &[Bytes]) -> Result<Receipt, Trouble> {
        let mut body = BytesMut::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            body.extend_from_slice(line);
            body.extend_from_slice(b"\n");
        }
        let answer = self.send(self.lines(EVENTS_ROUTE, body.freeze()), ANSWER_BYTES_MAX).await?;
        let receipt = match answer.status {
            StatusCode::OK | StatusCode::ACCEPTED => answer.json(),
            _ => Some(answer.about_the_one_line(lines.len()).ok_or_else(|| answer.trouble(self.at))?),
        };
        receipt
            .and_then(|receipt| plausible(receipt, lines.len()))
            .ok_or_else(|| self.odd("gave a receipt that does not fit what it was sent"))
    }

    fn lines(&self, route: &str, body: Bytes) -> RequestBuilder {
        self.client.post(format!("{}{route}", self.origin)).header(CONTENT_TYPE, LINES_TYPE).body(body)
    }

    async fn call(&self, request: RequestBuilder, bytes_max: usize) -> Result<Answered, Trouble> {
        let answer = self.send(request, bytes_max).await?;
        if answer.status == StatusCode::OK { Ok(answer) } else { Err(answer.trouble(self.at)) }
    }

    async fn send(&self, request: RequestBuilder, bytes_max: usize) -> Result<Answered, Trouble> {
        let mut response = request.send().await.map_err(|error| self.lost(&error))?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = header(RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let kind = header(CONTENT_TYPE).unwrap_or_default().to_owned();
        let status = response.status();
        let mut body = BytesMut::new();
        while let Some(part) = response.chunk().await.map_err(|error| self.lost(&error))? {
            if body.len() + part.len() > bytes_max {
                return Err(self.odd("answered with more than it was asked for"));
            }
            body.extend_from_slice(&part);
        }
        Ok(Answered { status, retry_after, kind, body: body.freeze() })
    }

    /// Whose key answered instead of the peer's.
    pub(super) fn stranger(&self) -> Option<NodeId> {
        self.pin.found().filter(|found| *found != self.peer)
    }

    fn odd(&self, what: &str) -> Trouble {
        Trouble::Lost(format!("{} {what}", self.at))
    }

    fn lost(&self, error: &reqwest::Error) -> Trouble {
        Trouble::Lost(reason(error, self.at, &self.peer, self.pin.found()))
    }
}

/// A client for one place at one checked address, and how URLs there begin.
///
/// # Errors
/// Why it cannot be made.
pub(super) fn client(
    context: &Context,
    tls: rustls::ClientConfig,
    place: &HostPort,
    at: SocketAddr,
) -> Result<(reqwest::Client, String), String> {
    let limits = context.limits();
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(NoNames)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .https_only(true)
        .connect_timeout(limits.connect)
        .timeout(limits.call)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(None)
        .http2_keep_alive_interval(limits.keep_alive)
        .http2_keep_alive_timeout(limits.write_stall)
        .http2_keep_alive_while_idle(true)
        .local_address(context.settings().source_ip(at.ip()));
    let origin = match &place.host {
        Host::Ip(_) => format!("https://{at}"),
        Host::Name(name) => {
            builder = builder.resolve_to_addrs(name, &[at]);
            format!("https://{name}:{}", at.port())
        }
    };
    let client = builder.build().map_err(|_| "the HTTPS client cannot be made".to_owned())?;
    Ok((client, origin))
}

impl Answered {
    fn json<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    fn retry_after(&self, default: Duration) -> Duration {
        self.retry_after.unwrap_or(default).clamp(RETRY_LEAST, RETRY_MAX)
    }

    /// What an answer about a whole body means. Only the three statuses that speak of its very bytes
    /// are a refusal, for what is refused is given up: a proxy's `502` must not cost an event.
    fn trouble(&self, at: SocketAddr) -> Trouble {
        let status = self.status.as_u16();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Trouble::Busy(self.retry_after(RETRY_DEFAULT))
            }
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Trouble::Refused(status)
            }
            StatusCode::FORBIDDEN if self.says(Code::Blocked) => Trouble::Lost(format!("{at} has blocked this node")),
            _ if self.status.is_redirection() => {
                Trouble::Lost(format!("{at} answered with a redirect ({status}), which is never followed"))
            }
            _ => Trouble::Failed { status, after: self.retry_after(RETRY_FAILED) },
        }
    }

    fn says(&self, code: Code) -> bool {
        self.json::<Problem>().is_some_and(|problem| problem.code == code.as_str())
    }

    /// A body of one line is answered by the status; turned back into what a longer one would get.
    fn about_the_one_line(&self, lines: usize) -> Option<Receipt> {
        if lines != 1 || !self.kind.starts_with(crate::wire::message::PROBLEM_TYPE) {
            return None;
        }
        let problem: Problem = self.json()?;
        let status = self.status.as_u16();
        let code = match Code::ALL.into_iter().find(|code| code.as_str() == problem.code) {
            Some(Code::Blocked) => return None, // about us, not about the line
            Some(code) if code.status() == status => code,
            Some(_) => return None,
            // A word of a newer version, as it would stand in a receipt.
            None if problem.status == status && refuses_a_line(status) => Code::Unknown,
            None => return None,
        };
        let mut receipt = Receipt { credit: CREDIT_MAX, ..Receipt::default() };
        match code {
            Code::Rate | Code::Unavailable => {
                let after = problem.retry_after_ms.map_or(self.retry_after(RETRY_DEFAULT), Duration::from_millis);
                receipt.retry.push(Retry { i: 0, after_ms: after.as_millis().try_into().unwrap_or(u64::MAX) });
            }
            code => receipt.rejected.push(Refused { i: 0, code }),
        }
        Some(receipt)
    }
}

/// Is this one of the statuses by which a line alone is refused for good?
fn refuses_a_line(status: u16) -> bool {
    let settled = |code: &Code| !matches!(code, Code::Rate | Code::Unavailable);
    Code::ALL.iter().filter(|code| settled(code)).any(|code| code.status() == status)
}

/// The receipt if it accounts for every line once, with its figures cut to what makes sense.
fn plausible(mut receipt: Receipt, lines: usize) -> Option<Receipt> {
    let named = receipt.rejected.iter().map(|refused| refused.i).chain(receipt.retry.iter().map(|retry| retry.i));
    let mut places: Vec<u32> = named.collect();
    let count = places.len();
    places.sort_unstable();
    places.dedup();
    let is_within = |place: &u32| (*place as usize) < lines;
    let sum = u64::from(receipt.stored) + u64::from(receipt.duplicate) + count as u64;
    let fits = places.len() == count
        && places.iter().all(is_within)
        && receipt.no_duty.iter().all(is_within)
        && receipt.no_duty.len() <= receipt.stored as usize
        && sum == lines as u64;
    receipt.credit = receipt.credit.min(CREDIT_MAX);
    for retry in &mut receipt.retry {
        retry.after_ms = retry.after_ms.min(RETRY_MAX.as_millis() as u64);
    }
    fits.then_some(receipt)
}

/// The words for an operator: ours, whatever the peer or a library says.
fn reason(error: &reqwest::Error, at: SocketAddr, expected: &NodeId, found: Option<NodeId>) -> String {
    if let Some(found) = found.filter(|found| found != expected) {
        return format!("{at} answered with another key: expected {expected}, found {found}");
    }
    let mut cause = error.source();
    while let Some(next) = cause {
        if let Some(error) = next.downcast_ref::<io::Error>()
            && let Some(words) = words(error, at)
        {
            return words;
        }
        cause = next.source();
    }
    match (error.is_timeout(), error.is_connect()) {
        (true, true) => format!("no connection to {at} in time"),
        (true, false) => format!("no answer from {at} in time"),
        (false, true) => format!("no connection to {at}"),
        (false, false) => format!("the connection to {at} was lost"),
    }
}

pub(super) fn words(error: &io::Error, at: SocketAddr) -> Option<String> {
    if let Some(inner) = error.get_ref() {
        // An IO error in another is not in its chain of sources.
        return match inner.downcast_ref::<io::Error>() {
            Some(inner) => words(inner, at),
            None if inner.is::<rustls::Error>() => Some(format!("{at} does not speak TLS 1.3 with a node key")),
            None => None,
        };
    }
    Some(match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("connection refused by {at}"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => format!("connection reset by {at}"),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => format!("no route to {at}"),
        io::ErrorKind::AddrNotAvailable => format!("no local address to call {at} from"),
        io::ErrorKind::TimedOut => format!("no connection to {at} in time"),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => format!("the connection was closed by {at}"),
        _ => return None,
    })
}

/// 16 random bytes as text.
pub(super) fn nonce() -> Result<String, String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|_| "the system has no random bytes".to_owned())?;
    Ok(BASE64URL_NOPAD.encode(&bytes))
}

/// The resolver for names that were not resolved before: it knows none.
struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, _name: Name) -> Resolving {
        Box::pin(async { Err("names are resolved before".into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(json: &str) -> Receipt {
        serde_json::from_str(json).expect("a receipt")
    }

    #[test]
    fn a_receipt_accounts_for_every_line_once() {
        for (json, lines) in [
            (r#"{"stored":2,"duplicate":1,"credit":9}"#, 3),
            (
                r#"{"stored":0,"duplicate":0,"rejected":[{"i":1,"code":"muted"}],"retry":[{"i":0,"after_ms":5}],"credit":9}"#,
                2,
            ),
            (r#"{"stored":1,"duplicate":0,"no_duty":[0],"credit":9}"#, 1),
        ] {
            assert!(plausible(receipt(json), lines).is_some(), "{json}");
        }
        for (json, lines) in [
            (r#"{"stored":2,"duplicate":1,"credit":9}"#, 2),
            (r#"{"stored":4294967295,"duplicate":4294967295,"credit":9}"#, 2),
            (r#"{"stored":0,"duplicate":0,"retry":[{"i":0,"after_ms":5},{"i":0,"after_ms":5}],"credit":9}"#, 2),
            (r#"{"stored":0,"duplicate":0,"rejected":[{"i":2,"code":"muted"}],"credit":9}"#, 1),
            (r#"{"stored":1,"duplicate":0,"no_duty":[1],"credit":9}"#, 1),
            (r#"{"stored":1,"duplicate":0,"no_duty":[0,0],"credit":9}"#, 1),
        ] {
            assert!(plausible(receipt(json), lines).is_none(), "{json}");
        }
        let cut = plausible(
            receipt(r#"{"stored":0,"duplicate":0,"retry":[{"i":0,"after_ms":99999999999}],"credit":999}"#),
            1,
        );
        assert!(cut.is_some_and(|cut| cut.credit == CREDIT_MAX && cut.retry[0].after_ms == 600_000));
    }

    #[test]
    fn the_status_of_one_line_is_read_as_its_receipt() {
        let answer = |status: u16, code: &str| Answered {
            status: StatusCode::from_u16(status).expect("a status"),
            retry_after: None,
            kind: "application/problem+json".to_owned(),
            body: format!(r#"{{"status":{status},"code":"{code}","title":"x","retry_after_ms":7}}"#).into(),
        };
        let refused = answer(409, "conflict").about_the_one_line(1).expect("a receipt");
        assert_eq!(refused.rejected, [Refused { i: 0, code: Code::Conflict }]);
        let later = answer(429, "rate").about_the_one_line(1).expect("a receipt");
        assert_eq!(later.retry, [Retry { i: 0, after_ms: 7 }]);
        let unheard_of = Some(vec![Refused { i: 0, code: Code::Unknown }]);
        for status in [400, 401, 403, 409, 410, 413, 421] {
            let receipt = answer(status, "quarantined").about_the_one_line(1);
            assert_eq!(receipt.map(|receipt| receipt.rejected), unheard_of, "{status}");
        }
        for (status, code) in
            [(404, "not_found"), (405, "method_not_allowed"), (408, "timeout"), (429, "x"), (500, "x")]
        {
            assert!(answer(status, code).about_the_one_line(1).is_none(), "not about the line: {status}");
        }
        assert!(answer(409, "conflict").about_the_one_line(2).is_none(), "a whole body");
        assert!(answer(415, "unsupported_media_type").about_the_one_line(1).is_none());
        assert!(answer(200, "conflict").about_the_one_line(1).is_none(), "a status that says something else");
    }

    #[test]
    fn only_what_speaks_of_the_bytes_is_a_refusal_of_them() {
        let at = SocketAddr::from(([127, 0, 0, 1], 7443));
        let trouble = |status: u16, seconds: Option<u64>| {
            let status = StatusCode::from_u16(status).expect("a status");
            let retry_after = seconds.map(Duration::from_secs);
            Answered { status, retry_after, kind: String::new(), body: Bytes::new() }.trouble(at)
        };
        for status in [400, 413, 415] {
            assert_eq!(trouble(status, Some(1)), Trouble::Refused(status));
        }
        for status in [204, 401, 403, 404, 405, 408, 409, 421, 500, 502, 504, 599] {
            assert_eq!(trouble(status, None), Trouble::Failed { status, after: RETRY_FAILED });
            assert_eq!(trouble(status, Some(7)), Trouble::Failed { status, after: Duration::from_secs(7) });
            assert_eq!(trouble(status, Some(0)), Trouble::Failed { status, after: RETRY_LEAST });
        }
        for status in [429, 503] {
            assert_eq!(trouble(status, None), Trouble::Busy(RETRY_DEFAULT));
            assert_eq!(trouble(status, Some(0)), Trouble::Busy(RETRY_LEAST));
            assert_eq!(trouble(status, Some(u64::MAX)), Trouble::Busy(RETRY_MAX));
        }
        for status in [301, 302, 307, 308] {
            assert!(matches!(trouble(status, None), Trouble::Lost(why) if why.contains("never followed")));
        }
    }
}
