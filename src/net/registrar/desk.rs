//! What is asked over HTTPS, cheap checks first: size → rate → challenge and its time → work → signature,
//! network, number → address policy → the address is the caller's → somebody answers there → quotas →
//! update. No answer is `200` before the name server said `NOERROR`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::{Method, Request, StatusCode, header};

use super::super::exchange;
use super::super::limits::address_of;
use super::super::routes::{self, Caller, Reply};
use super::{Denied, Limiter, REANNOUNCE, Registrar, Requests};
use crate::core::registrar::{Applicant, LIST_TTL, challenge};
use crate::wire::registration::{
    CHALLENGE_ROUTE, Challenge, Goodbye, REGISTER_ROUTE, REGISTRAR_HEALTH_ROUTE, REGISTRATION_BYTES_MAX,
    REGISTRATION_TYPE, Refused, Registered, Registration,
};
use crate::wire::zone::Label;
use crate::wire::{Code, Host, Keys, Line, NodeId, Record, Rejection, Verified};

impl From<Denied> for Reply {
    fn from(denied: Denied) -> Reply {
        let status = StatusCode::from_u16(denied.why.status()).expect("every no has a valid status");
        Reply::problem_after(status, denied.why.as_str(), &denied.title, denied.after)
    }
}

/// A no, in a word of registrars or of every receptor.
enum No {
    Denied(Denied),
    Other(Reply),
}

impl From<Denied> for No {
    fn from(denied: Denied) -> No {
        No::Denied(denied)
    }
}

impl From<Reply> for No {
    fn from(reply: Reply) -> No {
        No::Other(reply)
    }
}

impl From<No> for Reply {
    fn from(no: No) -> Reply {
        match no {
            No::Denied(denied) => denied.into(),
            No::Other(reply) => reply,
        }
    }
}

/// Counts what came of a request.
fn noted(requests: &Requests, outcome: Result<Reply, No>) -> Result<Reply, No> {
    match &outcome {
        Ok(_) => requests.done(),
        Err(No::Denied(denied)) => requests.refused(denied.why),
        Err(No::Other(_)) => requests.unreadable(),
    }
    outcome
}

impl Registrar {
    /// Answers one request, whose framing is beyond doubt.
    pub(in crate::net) async fn answer(&self, caller: Caller, request: Request<Incoming>) -> Reply {
        let allowed = match request.uri().path() {
            CHALLENGE_ROUTE | REGISTRAR_HEALTH_ROUTE => "GET",
            REGISTER_ROUTE => "POST, DELETE",
            _ => return Reply::problem(StatusCode::NOT_FOUND, "not_found", "no such route"),
        };
        let outcome = match (request.method(), request.uri().path()) {
            (&Method::GET, CHALLENGE_ROUTE) => self.challenge(caller, request.uri().query()),
            (&Method::GET, REGISTRAR_HEALTH_ROUTE) => return self.health(),
            (&Method::POST, REGISTER_ROUTE) => {
                noted(&self.0.counters.registrations, self.register(caller, request).await)
            }
            (&Method::DELETE, REGISTER_ROUTE) => noted(&self.0.counters.goodbyes, self.strike(caller, request).await),
            _ => {
                let title = "another method is needed";
                let reply = Reply::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", title);
                return Reply { allow: Some(allowed), ..reply };
            }
        };
        outcome.unwrap_or_else(Reply::from)
    }

    fn health(&self) -> Reply {
        match self.is_well() {
            true => Reply::ok("text/plain", "ready\n"),
            false => Reply::with(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not ready\n"),
        }
    }

    fn challenge(&self, caller: Caller, query: Option<&str>) -> Result<Reply, No> {
        self.spend(&self.0.challenges, caller)?;
        let id = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("id=")));
        let id: NodeId = id
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Denied::new(Refused::Malformed, "an id is needed: 56 characters of a-z and 2-7"))?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|_| Denied::unavailable())?;
        let (now, bits) = (self.now(), self.0.settings.policy.work_bits);
        let challenge = self.0.secret.challenge(&id, caller.address.ip(), bits, nonce, now);
        let challenge = Challenge { challenge, bits, expires: (now + challenge::LIFE).as_secs() };
        self.0.counters.challenges.one();
        Ok(Reply::ok(REGISTRATION_TYPE, serde_json::to_vec(&challenge).expect("a challenge always encodes")))
    }

    async fn register(&self, caller: Caller, request: Request<Incoming>) -> Result<Reply, No> {
        let body = self.body(&self.0.registrations, caller, request).await?;
        let registration: Registration = serde_json::from_slice(&body)
            .map_err(|_| Denied::new(Refused::Malformed, "record, challenge and counter are expected as JSON"))?;
        let line = Bytes::from(registration.record);
        let id = named(&line)?;
        let source = caller.address.ip();
        let bits = self.0.secret.check(&registration.challenge, &id, source, self.now());
        let bits = bits.map_err(|error| Denied::new(Refused::Challenge, error.to_string()))?;
        // Never less than what is asked for now, whoever made the challenge.
        if !challenge::is_done(
            &registration.challenge,
            bits.max(self.0.settings.policy.work_bits),
            registration.counter,
        ) {
            return Err(Denied::new(Refused::Work, "the work is not done: the hash has too few zero bits").into());
        }
        let record = self.record(id, line).await?;
        let at = self.own_address(&record, source)?;
        let applicant = Applicant { id, at, seq: record.seq };
        let policy = self.0.settings.policy;
        // What would be refused anyway is worth no dial. The quotas are asked again of the zone that is
        // written to.
        self.listing().await?.admit(&applicant, self.now(), &policy, 0).map_err(Denied::from)?;
        self.call_on(&applicant).await?;
        let draw = fastrand::u64(..);
        self.change(|listing, now| listing.admit(&applicant, now, &policy, draw).map(|()| ((), true))).await?;
        tracing::info!(id = %id.short(), %at, "listed");
        Ok(self.done(&id))
    }

    async fn strike(&self, caller: Caller, request: Request<Incoming>) -> Result<Reply, No> {
        let body = self.body(&self.0.goodbyes, caller, request).await?;
        let goodbye: Goodbye = serde_json::from_slice(&body)
            .map_err(|_| Denied::new(Refused::Malformed, "a record is expected as JSON"))?;
        let line = Bytes::from(goodbye.record);
        let id = named(&line)?;
        let record = self.record(id, line).await?;
        if !record.bye {
            return Err(Denied::new(Refused::Malformed, "the record says no goodbye").into());
        }
        let stood = self.change(|listing, _| listing.leave(&id, record.seq).map(|stood| (stood, stood))).await?;
        if stood {
            tracing::info!(id = %id.short(), "said goodbye and is struck out");
        }
        Ok(self.done(&id))
    }

    fn done(&self, id: &NodeId) -> Reply {
        let done = Registered { label: Label::of(id).to_string(), ttl: LIST_TTL };
        let reply = Reply::ok(REGISTRATION_TYPE, serde_json::to_vec(&done).expect("an answer always encodes"));
        Reply { reannounce_after: Some(REANNOUNCE + Duration::from_secs(fastrand::u64(0..300))), ..reply }
    }

    /// Size before rate before reading.
    async fn body(&self, limiter: &Limiter<IpAddr>, caller: Caller, request: Request<Incoming>) -> Result<Bytes, No> {
        if request.body().size_hint().lower() > REGISTRATION_BYTES_MAX as u64 {
            return Err(Denied::new(Refused::TooLarge, "more than 8 KiB").into());
        }
        self.spend(limiter, caller)?;
        let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
        if kind != Some(REGISTRATION_TYPE.as_bytes()) || request.headers().contains_key(header::CONTENT_ENCODING) {
            let why = "application/json is needed, in no coding";
            return Err(Reply::problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", why).into());
        }
        let held = routes::read(&self.0.context, request.into_body(), REGISTRATION_BYTES_MAX, false).await?;
        Ok(held.bytes)
    }

    fn spend(&self, limiter: &Limiter<IpAddr>, caller: Caller) -> Result<(), Denied> {
        limiter.check(&address_of(caller.address.ip())).map_err(|after| {
            self.0.context.counters().reject(Code::Rate);
            Denied::new(Refused::Rate, "too often from this address").after(after)
        })
    }

    /// The record with all checks; its signature is checked by the workers.
    async fn record(&self, id: NodeId, line: Bytes) -> Result<Verified<Record>, Denied> {
        let (network, now) = (self.0.context.settings().network.clone(), self.now());
        let read = move |line: Bytes, keys: &mut Keys| exchange::record_of(&id, &line, now, &network, keys);
        let read = self.0.context.0.workers.map(vec![line], read).await;
        let mut read = read.map_err(|_| Denied::unavailable())?;
        match read.pop() {
            Some(Ok(Some(record))) => Ok(record),
            Some(Err(rejection)) => Err(malformed(&rejection)),
            _ => Err(Denied::unavailable()),
        }
    }

    /// The one address of the record that the caller really has.
    fn own_address(&self, record: &Record, source: IpAddr) -> Result<SocketAddr, Denied> {
        let profile = self.0.context.settings().profile;
        for address in &record.addresses {
            profile.allows_host(address).map_err(|why| Denied::new(Refused::Bogon, format!("{address}: {why}")))?;
        }
        let is_own = |host: &Host| *host == Host::Ip(source.to_canonical());
        let own = record.addresses.iter().find(|address| is_own(&address.host));
        own.map(|address| SocketAddr::new(source.to_canonical(), address.port)).ok_or_else(|| {
            let why = format!("you call from {source}, which is no address of the record; names are not taken");
            Denied::new(Refused::AddressMismatch, why)
        })
    }

    async fn call_on(&self, applicant: &Applicant) -> Result<(), Denied> {
        let Some(_reserved) = self.reserve(applicant.at.ip()) else {
            let why = "another registration from this address is under way";
            return Err(Denied::new(Refused::Rate, why).after(Duration::from_secs(5)));
        };
        self.visit(&applicant.id, applicant.at).await.map_err(|(why, title)| Denied::new(why, title))
    }
}

/// Whose record it claims to be: read in full, its signature not looked at.
fn named(line: &Bytes) -> Result<NodeId, Denied> {
    let read = Line::split(line).and_then(|line| line.parse(&mut Keys::default()));
    read.map(|line| line.event().source).map_err(|rejection| malformed(&rejection))
}

fn malformed(rejection: &Rejection) -> Denied {
    Denied::new(Refused::Malformed, format!("the record is refused: {rejection}"))
}
