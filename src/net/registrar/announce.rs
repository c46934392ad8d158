//! A node asks a registrar to list it, or to strike it out.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode};
use rustls::RootCertStore;
use serde::de::DeserializeOwned;

use super::super::dial::client;
use super::super::resolve::{Policy, resolve};
use super::Context;
use crate::core::registrar::challenge;
use crate::wire::message::Problem;
use crate::wire::registration::{
    CHALLENGE_ROUTE, Challenge, Goodbye, Origin, REANNOUNCE_AFTER, REGISTER_ROUTE, REGISTRATION_TYPE, Refused,
    Registered, Registration,
};
use crate::wire::{NodeId, Word};

/// Largest answer that is read.
pub const REGISTRAR_ANSWER_BYTES_MAX: usize = 16 << 10;
/// Counters tried before others have a turn: a twentieth of a second.
const PORTION: u64 = 1 << 18;
/// A registrar may ask to be left alone for this long at most, and no less than that.
const AGAIN: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(86_400)];
const AGAIN_DEFAULT: Duration = Duration::from_secs(3_600);

/// The name server confirmed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The name in the zone, 16 characters.
    pub label: String,
    /// When to announce oneself again.
    pub again: Duration,
}

/// Why a node is not listed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnnounceError {
    /// No registrar answered, in our words.
    #[error("{0}")]
    Unreachable(String),
    /// It answered what cannot be read.
    #[error("the registrar answered what this version cannot read")]
    Unreadable,
    /// It asks for more work than any node does.
    #[error("the registrar asks for {0} bits of work; {max} are the most that is done", max = challenge::BITS_MAX)]
    Work(u8),
    /// It said no.
    #[error("the registrar refuses: {word} ({status})", word = .why.map_or("unknown", Refused::as_str))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its word, if we know it.
        why: Option<Refused>,
        /// When it wants to be asked again.
        after: Option<Duration>,
    },
}

/// Asks `origin` to list the node of this record, one line as it travels. The work is done on a thread of
/// its own.
///
/// # Errors
/// [`AnnounceError`].
pub async fn register(context: &Context, origin: &Origin, record: &str) -> Result<Listed, AnnounceError> {
    let id = context.id();
    let mut last = AnnounceError::Unreachable(format!("{origin} has no address"));
    for at in addresses(context, origin).await? {
        match Line::to(context, origin, at)?.register(&id, record).await {
            // Perhaps we call from the address of the other family.
            Err(
                error @ (AnnounceError::Unreachable(_)
                | AnnounceError::Refused { why: Some(Refused::AddressMismatch), .. }),
            ) => {
                last = error;
            }
            other => return other,
        }
    }
    Err(last)
}

/// Asks `origin` to strike out the node whose goodbye this is.
///
/// # Errors
/// [`AnnounceError`].
pub async fn leave(context: &Context, origin: &Origin, goodbye: &str) -> Result<(), AnnounceError> {
    let mut last = AnnounceError::Unreachable(format!("{origin} has no address"));
    for at in addresses(context, origin).await? {
        let line = Line::to(context, origin, at)?;
        let body = serde_json::to_vec(&Goodbye { record: goodbye.to_owned() }).expect("a goodbye always encodes");
        let request = line.client.delete(line.url(REGISTER_ROUTE)).header(CONTENT_TYPE, REGISTRATION_TYPE).body(body);
        match line.send::<Registered>(request).await {
            Err(error @ AnnounceError::Unreachable(_)) => last = error,
            other => return other.map(drop),
        }
    }
    Err(last)
}

async fn addresses(context: &Context, origin: &Origin) -> Result<Vec<SocketAddr>, AnnounceError> {
    // The operator wrote it down.
    let policy = Policy { profile: context.settings().profile, word: Word::Typed, counters: context.counters() };
    resolve(origin.place(), &policy).await.map_err(|unmet| AnnounceError::Unreachable(unmet.why))
}

/// A registrar at one address.
struct Line {
    client: reqwest::Client,
    base: String,
    at: SocketAddr,
}

impl Line {
    fn to(context: &Context, origin: &Origin, at: SocketAddr) -> Result<Line, AnnounceError> {
        let identity = &context.0.identity;
        let tls = match origin {
            Origin::Web(_) => identity.web_client(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }),
            Origin::Pinned(id, _) => identity.client(&identity.pin(Some(*id))),
        };
        let made = client(context, tls, origin.place(), at);
        let (client, base) = made.map_err(AnnounceError::Unreachable)?;
        Ok(Line { client, base, at })
    }

    fn url(&self, route: &str) -> String {
        format!("{}{route}", self.base)
    }

    async fn register(&self, id: &NodeId, record: &str) -> Result<Listed, AnnounceError> {
        let request = self.client.get(format!("{}?id={id}", self.url(CHALLENGE_ROUTE)));
        let (asked, _) = self.send::<Challenge>(request).await?;
        let counter = solve(&asked).await?;
        let registration = Registration { record: record.to_owned(), challenge: asked.challenge, counter };
        let body = serde_json::to_vec(&registration).expect("a registration always encodes");
        let request = self.client.post(self.url(REGISTER_ROUTE)).header(CONTENT_TYPE, REGISTRATION_TYPE).body(body);
        // A dial and some exchanges with a name server take longer than a call between nodes.
        let (done, again) = self.send::<Registered>(request.timeout(Duration::from_secs(30))).await?;
        let label = done.label.parse::<crate::wire::zone::Label>().map_err(|_| AnnounceError::Unreadable)?;
        let again = again.unwrap_or(AGAIN_DEFAULT).clamp(AGAIN[0], AGAIN[1]);
        Ok(Listed { label: label.to_string(), again })
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<(T, Option<Duration>), AnnounceError> {
        let lost = |error: reqwest::Error| {
            let why = match (error.is_timeout(), error.is_connect()) {
                (true, _) => format!("no answer from {} in time", self.at),
                (false, true) => format!("no connection to {}, or its certificate is not the one expected", self.at),
                (false, false) => format!("the connection to {} was lost", self.at),
            };
            AnnounceError::Unreachable(why)
        };
        let mut response = request.send().await.map_err(lost)?;
        let seconds = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            value.parse().ok().map(Duration::from_secs)
        };
        let (status, after, again) = (response.status(), seconds(RETRY_AFTER.as_str()), seconds(REANNOUNCE_AFTER));
        let mut body = BytesMut::new();
        while let Some(part) = response.chunk().await.map_err(lost)? {
            if body.len() + part.len() > REGISTRAR_ANSWER_BYTES_MAX {
                return Err(AnnounceError::Unreadable);
            }
            body.extend_from_slice(&part);
        }
        if status != StatusCode::OK {
            let problem = serde_json::from_slice::<Problem>(&body).ok();
            let why = problem.and_then(|problem| Refused::ALL.into_iter().find(|why| why.as_str() == problem.code));
            return Err(AnnounceError::Refused { status: status.as_u16(), why, after });
        }
        let read = serde_json::from_slice(&body).map_err(|_| AnnounceError::Unreadable)?;
        Ok((read, again))
    }
}

/// Looks for the counter in portions, so that a node that stops does not work on.
async fn solve(asked: &Challenge) -> Result<u64, AnnounceError> {
    if asked.bits > challenge::BITS_MAX {
        return Err(AnnounceError::Work(asked.bits));
    }
    if asked.challenge.len() > challenge::TEXT_MAX {
        return Err(AnnounceError::Unreadable);
    }
    // 2^26 is the mean; a hundred times as much is luck that nobody has.
    for portion in 0..100 << (u32::from(challenge::BITS_MAX) - PORTION.trailing_zeros()) {
        let (text, bits) = (asked.challenge.clone(), asked.bits);
        let counters = portion * PORTION..(portion + 1) * PORTION;
        let found = tokio::task::spawn_blocking(move || challenge::search(&text, bits, counters)).await;
        match found {
            Ok(Some(counter)) => return Ok(counter),
            Ok(None) => {}
            Err(_) => break,
        }
    }
    Err(AnnounceError::Work(asked.bits))
}
