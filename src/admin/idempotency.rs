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
//! its number. A CloudEvent of another source brings one along: by its specification (source, id) is
//! the event.

use axum::http::HeaderMap;

use super::answers::Published;
use super::fault::{Fault, FaultCode};
use super::routes::Desk;
use crate::core::ports::{Claim, Claimed};
use crate::time::Wall;
use crate::wire::{Code, Digest};

/// How long a key is remembered.
pub const KEY_LIFE: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;
const HEADER: &str = "idempotency-key";

/// A key as it was named, for one event or for each of many.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Key(String);

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
        Ok(Some(Key(text.to_owned())))
    }

    /// The key that a CloudEvent brings along.
    pub(super) fn of_cloudevent(source: &str, id: &str) -> Key {
        Key(format!("cloudevent\n{source}\n{id}"))
    }

    /// That of one event of many.
    pub(super) fn numbered(&self, number: u64) -> Key {
        Key(format!("{}\n{number}", self.0))
    }

    /// Its use for this body.
    pub(super) fn used_for(&self, body: &str) -> KeyUse {
        KeyUse { key: Digest::of(self.0.as_bytes()), body: Digest::of(body.as_bytes()) }
    }
}

/// One use of a key: which, and for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KeyUse {
    key: Digest,
    body: Digest,
}

impl KeyUse {
    /// As the journal keeps it.
    pub(super) fn claim(&self, now: Wall) -> Claim {
        Claim { key: self.key, body: self.body, until: now + KEY_LIFE }
    }

    /// The answer, if the key was used before. Touches the disk.
    pub(super) fn answered(&self, desk: &Desk) -> Option<Published> {
        let Claimed { body, event, id, .. } = desk.claims.claimed(&self.key, (desk.clock)())?;
        Some(if body == self.body {
            Published::again(event, &id, desk.durability)
        } else {
            let why = "this idempotency key was used for another event within the last 24 h";
            Published { code: Some(Code::Conflict), why: Some(why.to_owned()), ..Published::default() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let uses = [
            Key("a".to_owned()),
            Key("a".to_owned()).numbered(1),
            Key::of_cloudevent("a", "1"),
            Key::of_cloudevent("a\n1", ""),
        ]
        .map(|key| key.used_for("body").key);
        assert!(uses.iter().enumerate().all(|(at, key)| !uses[..at].contains(key)));
    }
}
