//! Server-sent events (WHATWG HTML, section 9.2): the frames, and where a client goes on after a break.
//!
//! The id of a frame is a position of the journal with the journal's incarnation, `<incarnation>-<seq>`:
//! a client that comes back with it in `Last-Event-ID` gets exactly what follows. After another journal
//! took the place of the first one, such a position means nothing and is refused. Now and then a frame
//! has an id and no data: where the client is, though nothing that it asked for came since.

use std::time::Duration;

use axum::http::{HeaderMap, header};

use super::fault::{Fault, FaultCode};
use crate::core::ports::Seq;

/// Content type of a stream of frames.
pub(super) const STREAM_TYPE: &str = "text/event-stream";
/// Silence after which a comment is sent, so that nobody between takes the connection for dead.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The comment. The first frame of a stream is one too: the client learns that it is connected.
pub(super) const COMMENT: &str = ":\n\n";
const LAST_EVENT_ID: &str = "last-event-id";

/// Does the caller ask for frames?
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    accepted.flat_map(|accept| accept.split(',')).any(|kind| kind.split(';').next().unwrap_or("").trim() == STREAM_TYPE)
}

/// Writes one frame; `data` is one line.
pub(super) fn write_frame(frames: &mut String, incarnation: u64, seq: Seq, data: &str) {
    use std::fmt::Write as _;
    let _ = write!(frames, "id: {}\ndata: {data}\n\n", id(incarnation, seq));
}

/// A comment, and a position without an event: the client dispatches nothing, and remembers the id.
pub(super) fn position_frame(incarnation: u64, seq: Seq) -> String {
    format!(":\nid: {}\n\n", id(incarnation, seq))
}

/// A position as text that is good for one journal.
pub(super) fn id(incarnation: u64, seq: Seq) -> String {
    format!("{incarnation:016x}-{}", seq.0)
}

/// Reads such a position.
///
/// # Errors
/// [`FaultCode::BadRequest`] for what is none, [`FaultCode::PositionAhead`] for one of another journal.
pub(super) fn position(text: &str, incarnation: u64) -> Result<Seq, Fault> {
    let parts = text.split_once('-').and_then(|(journal, seq)| {
        Some((u64::from_str_radix(journal, 16).ok().filter(|_| journal.len() == 16)?, seq.parse().ok()?))
    });
    match parts {
        Some((journal, seq)) if journal == incarnation => Ok(Seq(seq)),
        Some(_) => Err(Fault::new(FaultCode::PositionAhead, "this is a position of another journal; begin anew")),
        None => {
            let why = "a position as this node writes it is expected, such as 00f1a6a5c0ffee00-17";
            Err(Fault::new(FaultCode::BadRequest, why))
        }
    }
}

/// Where the caller was when its stream broke.
///
/// # Errors
/// As [`position`].
pub(super) fn last_event_id(headers: &HeaderMap, incarnation: u64) -> Result<Option<Seq>, Fault> {
    let Some(id) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let text = id.to_str().unwrap_or_default().trim();
    if text.is_empty() { Ok(None) } else { position(text, incarnation).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_good_for_one_journal() {
        assert_eq!(position(&id(7, Seq(3)), 7), Ok(Seq(3)));
        assert_eq!(position(&id(8, Seq(3)), 7).map_err(|fault| fault.code), Err(FaultCode::PositionAhead));
        for wrong in ["3", "-3", "7-3", "0000000000000007-", "0000000000000007-x", "+00000000000000x-1", ""] {
            assert_eq!(position(wrong, 7).map_err(|fault| fault.code), Err(FaultCode::BadRequest), "{wrong}");
        }
    }

    #[test]
    fn frames_are_asked_for_by_name() {
        let of = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("a header"));
            is_asked_for(&headers)
        };
        assert!(of("text/event-stream") && of("application/json, text/event-stream;q=0.9"));
        assert!(!of("*/*") && !of("application/x-ndjson") && !is_asked_for(&HeaderMap::new()));
    }
}
