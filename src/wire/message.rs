//! What peers say on each route: the protocol, drawn once.
//!
//! ```text
//!   dialler                                              receptor (TLS 1.3, both keys pinned)
//!     | GET  /mesh/v1/hello?nonce=N                            |
//!     |------------------------------------------------------->|   who are you?
//!     |<-- 200 Hello {id, record, nonce, sig, observed, clock} |   the record, N signed
//!     | POST /mesh/v1/peers   <own record line>                |
//!     |------------------------------------------------------->|   this is me, this is what I want
//!     |<-- 200 <record lines>                                  |   this is me, and these I know
//!     |                                                        |
//!     | POST /mesh/v1/events  1*256 line                       |
//!     |------------------------------------------------------->|   verify, journal, fsync
//!     |<-- 200 Receipt (one line: the status mirrors the item) |   durable
//!     |         ... again and again, in order ...              |
//!     | GET  /mesh/v1/hello?nonce=N'     after 15 s of silence |
//!     |------------------------------------------------------->|   still there? (round trip, clock)
//!     |                                                        |
//!     | POST /mesh/v1/sync    frame      now and then          |   only where the receptor holds the
//!     |------------------------------------------------------->|   dialler's record, else 403
//!     |<-- 200 frame                                           |   what differs, ever narrower
//!     |         ... a few times, until all is told ...         |
//!     | POST /mesh/v1/get     1*128 digest                     |
//!     |------------------------------------------------------->|   these I lack
//!     |<-- 200 <lines>                                         |   those of them that I have
//! ```
//!
//! A node whose patterns change posts its record again, so neighbours never send by an old view for
//! long. Who is not called by it finds the new record in the next hello, and after a line refused as
//! `not_subscribed` asks for it at once by an exchange. Each direction of events has its own connection, made by the sender.
//! Reconciliation ([`super::sync`]) pulls: the dialler learns what it lacks, and the receptor nothing.

use serde::{Deserialize, Serialize};

use super::envelope::Signature;
use super::identity::{Keypair, NodeId};
use super::rejection::{Code, Rejection};

/// The receptor proper: events in.
pub const EVENTS_ROUTE: &str = "/mesh/v1/events";
/// Who are you?
pub const HELLO_ROUTE: &str = "/mesh/v1/hello";
/// Record exchange.
pub const PEERS_ROUTE: &str = "/mesh/v1/peers";
/// Reconciliation: what do you have that I lack?
pub const SYNC_ROUTE: &str = "/mesh/v1/sync";
/// Lines by their digests.
pub const GET_ROUTE: &str = "/mesh/v1/get";
/// For load balancers: no details.
pub const HEALTH_ROUTE: &str = "/mesh/v1/health";

/// Content type of lines, in requests and answers.
pub const LINES_TYPE: &str = "application/vnd.afferent.events.v1";
/// Content type of frames of `/sync`, in requests and answers.
pub const SYNC_TYPE: &str = "application/vnd.afferent.sync.v1";
/// Content type of the digests that `/get` takes.
pub const DIGESTS_TYPE: &str = "application/vnd.afferent.digests.v1";
/// Content type of errors (RFC 9457).
pub const PROBLEM_TYPE: &str = "application/problem+json";
/// Payload type of a signed hello.
pub const HELLO_PAYLOAD_TYPE: &str = "application/vnd.afferent.hello.v1";

/// Most lines in one body.
pub const LINES_MAX: usize = 256;
/// Largest body of `/events`.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Most records of others that an answer gives, and most lines of a request.
pub const RECORDS_MAX: usize = 32;
/// Largest answer of `/peers`.
pub const PEERS_BYTES_MAX: usize = 160 << 10;
/// Longest nonce, in characters of `[A-Za-z0-9_-]`.
pub const NONCE_MAX: usize = 64;

/// The answer to `POST /mesh/v1/events`, sent only after the durable append.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Receipt {
    /// Lines now durable here for the first time.
    pub stored: u32,
    /// Lines that were durable here before.
    pub duplicate: u32,
    /// Lines that will never be taken, by index.
    #[serde(default)]
    pub rejected: Vec<Refused>,
    /// Lines to send again later, by index.
    #[serde(default)]
    pub retry: Vec<Retry>,
    /// Stored, but the carry-on was not accepted: choose another delegate.
    #[serde(default)]
    pub no_duty: Vec<u32>,
    /// Lines we take next.
    pub credit: u32,
    /// Present and `"interval"` when the operator chose to acknowledge before the disk did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

/// A line refused for good.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// Index of the line in the body.
    pub i: u32,
    /// Why; [`Code::Unknown`] when a newer peer says it in a word of its own.
    pub code: Code,
}

/// A line to send again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Retry {
    /// Index of the line in the body.
    pub i: u32,
    /// Not before, in milliseconds from now.
    pub after_ms: u64,
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The disk said so. The default.
    #[default]
    Fsync,
    /// The disk will be asked within a second; opt-in, and named in every acknowledgement. Also how a
    /// word of a newer version is read: whatever it promises, it is not the default.
    #[serde(other)]
    Interval,
}

/// What became of one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Durable now. `no_duty`: it asked to be carried on and will not be by us.
    Stored {
        /// The carry-on was not accepted.
        no_duty: bool,
    },
    /// Was durable before.
    Duplicate,
    /// Was durable before, and it asked to be carried on and will not be by us.
    Uncarried,
    /// Not taken; [`Rejection::retry_after`] says whether ever.
    Refused(Rejection),
}

impl Receipt {
    /// Sums up the outcomes of a body's lines, in their order.
    pub fn of(outcomes: &[Outcome], credit: u32, durability: Durability) -> Receipt {
        let mut receipt = Receipt { credit, ..Receipt::default() };
        receipt.durability = (durability == Durability::Interval).then_some(durability);
        for (i, outcome) in (0u32..).zip(outcomes) {
            match outcome {
                Outcome::Stored { no_duty } => {
                    receipt.stored += 1;
                    if *no_duty {
                        receipt.no_duty.push(i);
                    }
                }
                Outcome::Duplicate => receipt.duplicate += 1,
                Outcome::Uncarried => {
                    receipt.duplicate += 1;
                    receipt.no_duty.push(i);
                }
                Outcome::Refused(rejection) => match rejection.retry_after() {
                    Some(after) => {
                        receipt.retry.push(Retry { i, after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX) });
                    }
                    None => receipt.rejected.push(Refused { i, code: rejection.code() }),
                },
            }
        }
        receipt
    }
}

/// The answer to `GET /mesh/v1/hello?nonce=`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Who answers.
    pub id: NodeId,
    /// The asker's nonce, back.
    pub nonce: String,
    /// Base64url signature over nonce, both ids and `observed`; see [`Hello::payload`].
    pub sig: String,
    /// The asker's address as the receptor sees it: how a node learns where it is.
    pub observed: String,
    /// The receptor's clock, RFC 3339.
    pub clock: String,
    /// Protocol versions it speaks.
    pub versions: Vec<u32>,
    /// Its node record: one line of 2-wire.md.
    pub record: String,
}

impl Hello {
    /// The bytes under the signature: answering id (32), asking id (32, zero when anonymous), then
    /// nonce and observed address, each preceded by its length as one byte.
    pub fn payload(id: &NodeId, asker: Option<&NodeId>, nonce: &str, observed: &str) -> Vec<u8> {
        let mut payload = Vec::with_capacity(66 + nonce.len() + observed.len());
        payload.extend_from_slice(id.as_bytes());
        payload.extend_from_slice(asker.map_or(&[0; 32], NodeId::as_bytes).as_slice());
        for text in [nonce, observed] {
            payload.push(u8::try_from(text.len()).expect("bounded by is_nonce and by an address"));
            payload.extend_from_slice(text.as_bytes());
        }
        payload
    }

    /// Signs the answer to `nonce`.
    pub fn answer(
        key: &Keypair,
        asker: Option<&NodeId>,
        nonce: &str,
        observed: String,
        clock: String,
        record: String,
    ) -> Hello {
        let payload = Hello::payload(&key.id(), asker, nonce, &observed);
        Hello {
            id: key.id(),
            nonce: nonce.to_owned(),
            sig: Signature::sign(key, HELLO_PAYLOAD_TYPE, &payload).to_string(),
            observed,
            clock,
            versions: vec![super::record::PROTOCOL],
            record,
        }
    }

    /// Did `id` answer this very nonce of this asker?
    pub fn is_answer_of(&self, id: &NodeId, asker: Option<&NodeId>, nonce: &str) -> bool {
        let Ok(signature) = Signature::parse(self.sig.as_bytes()) else { return false };
        self.id == *id
            && self.nonce == nonce
            && self.observed.len() < 256
            && signature.is_by(id, HELLO_PAYLOAD_TYPE, &Hello::payload(id, asker, nonce, &self.observed))
    }

    /// Is this text usable as a nonce?
    pub fn is_nonce(text: &str) -> bool {
        (1..=NONCE_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    }
}

/// An error body (RFC 9457) with our stable code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status, repeated.
    pub status: u16,
    /// The stable word: a [`Code`], or one of the route's own such as `not_found`.
    pub code: String,
    /// One sentence for people.
    pub title: String,
    /// Milliseconds until another try makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_receipt_names_lines_by_their_index() {
        let outcomes = [
            Outcome::Stored { no_duty: false },
            Outcome::Refused(Rejection::BadSignature),
            Outcome::Duplicate,
            Outcome::Refused(Rejection::Rate { after: Duration::from_secs(2) }),
            Outcome::Stored { no_duty: true },
        ];
        let receipt = Receipt::of(&outcomes, 64, Durability::Fsync);
        assert_eq!(
            serde_json::to_string(&receipt).expect("a receipt"),
            r#"{"stored":2,"duplicate":1,"rejected":[{"i":1,"code":"bad_signature"}],"retry":[{"i":3,"after_ms":2000}],"no_duty":[4],"credit":64}"#
        );
        assert!(Receipt::of(&[], 0, Durability::Interval).durability.is_some());
    }

    #[test]
    fn a_receipt_with_an_unknown_code_is_still_a_receipt() {
        let text = r#"{"stored":1,"duplicate":0,"rejected":[{"i":1,"code":"quarantined"},{"i":2,"code":"muted"}],"credit":64}"#;
        let receipt: Receipt = serde_json::from_str(text).expect("a receipt");
        let refused = [Refused { i: 1, code: Code::Unknown }, Refused { i: 2, code: Code::Muted }];
        assert_eq!(receipt.rejected, refused);
    }

    #[test]
    fn a_receipt_with_an_unknown_durability_is_still_a_receipt() {
        for (word, durability) in
            [("fsync", Durability::Fsync), ("interval", Durability::Interval), ("quorum", Durability::Interval)]
        {
            let text = format!(r#"{{"stored":1,"duplicate":0,"credit":64,"durability":"{word}"}}"#);
            let receipt: Receipt = serde_json::from_str(&text).expect("a receipt");
            assert_eq!(receipt.durability, Some(durability));
        }
    }

    #[test]
    fn a_hello_answers_one_asker_and_one_nonce() {
        let (key, asker) = (Keypair::from_seed(&[1; 32]), Keypair::from_seed(&[2; 32]).id());
        let hello = Hello::answer(&key, Some(&asker), "n-1", "127.0.0.1:5".into(), String::new(), String::new());
        assert!(hello.is_answer_of(&key.id(), Some(&asker), "n-1"));
        assert!(!hello.is_answer_of(&key.id(), Some(&asker), "n-2"));
        assert!(!hello.is_answer_of(&key.id(), None, "n-1"));
        assert!(!hello.is_answer_of(&asker, Some(&asker), "n-1"));
        let moved = Hello { observed: "127.0.0.1:6".into(), ..hello };
        assert!(!moved.is_answer_of(&key.id(), Some(&asker), "n-1"));
    }
}
