//! Idempotency keys: who hands in the same twice under one key gets one event, and the same answer.
//!
//! ```text
//!   POST /v1/events   Idempotency-Key: 8e03978e
//!     known, same body  -> 200, the digest and id of the first time, `duplicate`
//!     known, other body -> 409 `conflict`
//!     unknown           -> the claim is staked, the event goes to the journal, one commit keeps both
//! ```
//!
//! A key holds for [`KEY_LIFE`]. Of a body of many events each has a key of its own: the header's and
//! its number. The same body is the same JSON value: spaces and the order of members are the writer's
//! (draft-ietf-httpapi-idempotency-key-header, section 2.4, leaves the fingerprint to the server).
//!
//! A CloudEvent brings a key along: by its specification (source, id) is the event. It is remembered by
//! that key beside the header's, and as long as the journal may know its id: beyond that the same
//! event would be stored again, before that the journal would call it a conflict, since what this node
//! fills in (`time`) is another each time.

use axum::http::HeaderMap;
use serde_json::Value;

use super::answers::Published;
use super::fault::{Fault, FaultCode};
use super::routes::Desk;
use crate::core::ports::{Claim, Claimed};
use crate::time::Wall;
use crate::wire::event::LIFETIME_MAX;
use crate::wire::{Digest, Rejection};

/// How long a key is remembered.
pub const KEY_LIFE: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;
const HEADER: &str = "idempotency-key";

/// A key as it was named, for one event or for each of many.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Key(String, Kind);

/// Where a key comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Header,
    CloudEvent,
}

impl Key {
    /// The key of a request. Quotes around it, as structured fields have them (RFC 8941), count for nothing.
    ///
    /// # Errors
    /// [`FaultCode::BadRequest`] for one that is empty, too long, or not printable ASCII.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Key>, Fault> {
        let Some(header) = headers.get(HEADER) else { return Ok(None) };
        let text = header.to_str().unwrap_or_default().trim();
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        if !(1..=KEY_BYTES_MAX).contains(&text.len()) {
            let why = "`Idempotency-Key` is 1 to 255 printable ASCII characters, such as a UUID";
            return Err(Fault::new(FaultCode::BadRequest, why));
        }
        Ok(Some(Key(text.to_owned(), Kind::Header)))
    }

    /// The key that a CloudEvent brings along.
    pub(super) fn of_cloudevent(source: &str, id: &str) -> Key {
        Key(format!("cloudevent\n{source}\n{id}"), Kind::CloudEvent)
    }

    /// That of one event of many.
    pub(super) fn numbered(&self, number: u64) -> Key {
        Key(format!("{}\n{number}", self.0), self.1)
    }

    /// Its use for the body with this fingerprint.
    pub(super) fn used_for(&self, body: Digest) -> KeyUse {
        let conflict = match self.1 {
            Kind::Header => "this idempotency key was used for another event within the last 24 h",
            Kind::CloudEvent => "a CloudEvent with this source and id was published before, and was another one",
        };
        KeyUse { key: Digest::of(self.0.as_bytes()), body, conflict, outlives: None }
    }
}

/// What tells one body from another: its value, however it is written down.
///
/// # Errors
/// [`Rejection::Json`] for what is none; the members of an event were read before.
pub(super) fn fingerprint(body: &str) -> Result<Digest, Rejection> {
    let mut value: Value = serde_json::from_str(body).map_err(|_| Rejection::Json("not valid JSON"))?;
    value.sort_all_objects();
    Ok(Digest::of(value.to_string().as_bytes()))
}

/// One use of a key: which, and for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KeyUse {
    key: Digest,
    body: Digest,
    /// What is said when it means another body.
    conflict: &'static str,
    /// Remembered longer than the journal knows the id of an event that lives until then.
    outlives: Option<Wall>,
}

impl KeyUse {
    /// As the journal keeps it.
    pub(super) fn claim(&self, now: Wall) -> Claim {
        let least = now + KEY_LIFE;
        // The journal forgets ids by periods of days, some days after their events expired.
        let until = self.outlives.map_or(least, |expires| least.max(expires + LIFETIME_MAX));
        Claim { key: self.key, body: self.body, until }
    }

    /// The key stands for the event itself, which expires then.
    pub(super) fn outliving(self, expires: Wall) -> KeyUse {
        KeyUse { outlives: Some(expires), ..self }
    }

    /// The answer, if the key was used before. Touches the disk.
    pub(super) fn answered(&self, desk: &Desk) -> Option<Published> {
        let Claimed { body, event, id, .. } = desk.claims.claimed(&self.key, (desk.clock)())?;
        Some(if body == self.body {
            Published::again(event, &id, desk.durability)
        } else {
            Published::never_because(&Rejection::Conflict, self.conflict)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Key {
        Key(text.to_owned(), Kind::Header)
    }

    #[test]
    fn a_body_is_its_value_however_it_is_written() {
        let of = |text| fingerprint(text).expect("JSON");
        let plain = of(r#"{"type":"a.b","data":{"x":[1,"\u0061"],"y":null}}"#);
        assert_eq!(plain, of("{ \"data\" : {\n\t\"y\":null, \"x\":[ 1, \"a\" ] }, \"type\": \"a.b\" }"));
        for other in [r#"{"type":"a.b","data":{"x":["a",1],"y":null}}"#, r#"{"type":"a.b","data":{"x":[1,"a"]}}"#] {
            assert_ne!(plain, of(other), "{other}");
        }
    }

    fn key(text: &str) -> Result<Option<Key>, Fault> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, text.parse().expect("a header"));
        Key::of(&headers)
    }

    #[test]
    fn a_key_is_a_short_printable_text_in_quotes_or_not() {
        assert_eq!(Key::of(&HeaderMap::new()), Ok(None));
        assert_eq!(key("\"8e03 978e\""), key(" 8e03 978e "));
        assert!(key(&"x".repeat(KEY_BYTES_MAX)).is_ok());
        for wrong in ["", "\"\"", "\u{fc}", &"x".repeat(KEY_BYTES_MAX + 1)] {
            assert_eq!(key(wrong).map_err(|fault| fault.code), Err(FaultCode::BadRequest), "{wrong:?}");
        }
    }

    #[test]
    fn no_key_can_pass_itself_off_as_one_of_another_kind() {
        let uses = [header("a"), header("a").numbered(1), Key::of_cloudevent("a", "1"), Key::of_cloudevent("a\n1", "")]
            .map(|key| key.used_for(Digest::of(b"body")).key);
        assert!(uses.iter().enumerate().all(|(at, key)| !uses[..at].contains(key)));
    }
}
