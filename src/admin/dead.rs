//! Dead letters and stopped streams: what people see and decide of the bus.
//!
//! ```text
//!   GET    /v1/dead?count=100          the newest first
//!   GET    /v1/dead/{id}               one, with all it keeps of the original
//!   DELETE /v1/dead/{id}               thrown away
//!   POST   /v1/dead/{id}/retry         delivered after all, if it can be now
//!   POST   /v1/bus/resume, /replay     streams go on whose cursor was lost
//! ```
//!
//! An id that letters of two streams share is written `stream/id`, with the slash as `%2F`.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::answers::Document;
use super::caller::Writer;
use super::fault::{Fault, FaultCode};
use super::request::Request;
use super::routes::{Answer, Office, ok};
use crate::wire::Digest;

pub use crate::core::letter::{EntryFields, Letter};

/// Letters of one answer when the caller names no count.
const COUNT_DEFAULT: usize = 100;
/// Letters of one answer.
pub const LETTERS_MAX: usize = 500;

/// Dead letters of all streams, the newest first. Schema `afferent.dead/1`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Letters {
    /// Without their originals.
    pub letters: Vec<Letter>,
}

impl Document for Letters {
    const SCHEMA: &'static str = "afferent.dead/1";
}

impl Document for Letter {
    const SCHEMA: &'static str = "afferent.letter/1";
}

/// A letter that was delivered after all. Schema `afferent.retried/1`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Retried {
    /// By which it was called.
    pub id: String,
    /// The stream it went to, or that it came from.
    pub stream: String,
    /// Of the event.
    pub digest: Digest,
}

impl Document for Retried {
    const SCHEMA: &'static str = "afferent.retried/1";
}

/// Streams that go on. Schema `afferent.mended/1`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mended {
    /// Each of them.
    pub streams: Vec<MendedStream>,
    /// Streams of which that is not known: they could not be asked, or not be changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<UnmendedStream>,
}

impl Document for Mended {
    const SCHEMA: &'static str = "afferent.mended/1";
}

/// One stream that goes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MendedStream {
    /// Its name.
    pub stream: String,
    /// After this position of the journal; 0 = from the first event there is.
    pub after: u64,
}

/// One stream that could not be dealt with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UnmendedStream {
    /// Its name.
    pub stream: String,
    /// What is in the way.
    pub why: String,
}

pub(super) fn routes() -> Router<Office> {
    Router::new()
        .route("/v1/dead", get(letters))
        .route("/v1/dead/{id}", get(letter).delete(drop_letter))
        .route("/v1/dead/{id}/retry", post(retry))
        .route("/v1/bus/resume", post(resume))
        .route("/v1/bus/replay", post(replay))
}

async fn letters(State(office): State<Office>, Query(query): Query<Vec<(String, String)>>) -> Answer {
    let mut count = COUNT_DEFAULT;
    for (name, value) in query {
        let wrong = || Fault::new(FaultCode::BadRequest, format!("the query takes `count`, from 1 to {LETTERS_MAX}"));
        count = match (name.as_str(), value.parse()) {
            ("count", Ok(count @ 1..=LETTERS_MAX)) => count,
            _ => return Err(wrong()),
        };
    }
    let letters = office.ask(|answer| Request::Letters { count, answer }).await??;
    let brief = |letter| Letter { envelope: String::new(), fields: EntryFields::default(), ..letter };
    ok(&Letters { letters: letters.into_iter().map(brief).collect() })
}

async fn letter(State(office): State<Office>, Path(id): Path<String>) -> Answer {
    ok(&office.ask(|answer| Request::Letter { id, answer }).await??)
}

async fn drop_letter(State(office): State<Office>, writer: Writer, Path(id): Path<String>) -> Answer {
    tracing::info!(uid = writer.uid, "a dead letter is dropped by hand");
    ok(&office.ask(|answer| Request::DropLetter { id, answer }).await??)
}

async fn retry(State(office): State<Office>, writer: Writer, Path(id): Path<String>) -> Answer {
    tracing::info!(uid = writer.uid, "a dead letter is tried again by hand");
    ok(&office.ask(|answer| Request::RetryLetter { id, answer }).await??)
}

async fn resume(State(office): State<Office>, _: Writer) -> Answer {
    ok(&office.ask(|answer| Request::MendBus { replay: false, answer }).await??)
}

async fn replay(State(office): State<Office>, _: Writer) -> Answer {
    ok(&office.ask(|answer| Request::MendBus { replay: true, answer }).await??)
}
