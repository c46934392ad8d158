//! What a node and a registrar say to one another, and how a node shows that it is where it says.
//!
//! ```text
//!   node                                         registrar                            name server
//!     | GET  /v1/challenge?id=                       |
//!     |--------------------------------------------->|   bound to id and network, 120 s
//!     |<-- 200 Challenge {challenge, bits, expires}  |
//!     |    ... 2^bits hashes ...                     |
//!     | POST /v1/register Registration               |
//!     |--------------------------------------------->|
//!     |     GET /mesh/v1/liveness?nonce=&origin=&at= |   one dial, pinned to the id
//!     |<---------------------------------------------|
//!     | 200 Liveness {id, sig}                       |
//!     |--------------------------------------------->|
//!     |                                              | UPDATE, if the manifest is as it was read
//!     |                                              |--------------------------------------->|
//!     |                                              |<-- NOERROR ----------------------------|
//!     |<-- 200 Registered {label, ttl}               |
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::address::{AddressError, HostPort, PeerAddress};
use super::envelope::Signature;
use super::identity::{Keypair, NodeId};

/// Where work is asked for, with `?id=`.
pub const CHALLENGE_ROUTE: &str = "/v1/challenge";
/// `POST` a [`Registration`], `DELETE` with a [`Goodbye`].
pub const REGISTER_ROUTE: &str = "/v1/register";
/// For load balancers: no details.
pub const REGISTRAR_HEALTH_ROUTE: &str = "/v1/health";
/// A node's answer to a registrar: `?nonce=&origin=&at=`.
pub const LIVENESS_ROUTE: &str = "/mesh/v1/liveness";

/// Largest body that a registrar takes.
pub const REGISTRATION_BYTES_MAX: usize = 8 << 10;
/// Largest answer to `/mesh/v1/liveness` that a registrar reads.
pub const LIVENESS_BYTES_MAX: usize = 4 << 10;
/// Longest origin, in bytes.
pub const ORIGIN_MAX: usize = 255;
/// Content type of everything a registrar says and takes, problems apart.
pub const REGISTRATION_TYPE: &str = "application/json";
/// Seconds until the node should announce itself again.
pub const REANNOUNCE_AFTER: &str = "reannounce-after";
/// Payload type of a signed liveness answer.
pub const LIVENESS_PAYLOAD_TYPE: &str = "application/vnd.afferent.liveness.v1";

/// Where a registrar is, and how one knows that it is the one: `https://registrar.example` by the
/// certificate of its name, `mesh://<id>@host:port` by its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// By name.
    Web(HostPort),
    /// By key.
    Pinned(NodeId, HostPort),
}

impl Origin {
    /// Where.
    pub fn place(&self) -> &HostPort {
        match self {
            Origin::Web(at) | Origin::Pinned(_, at) => at,
        }
    }
}

const HTTPS_PORT: u16 = 443;

impl FromStr for Origin {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Origin, AddressError> {
        if let Some(rest) = text.strip_prefix("https://") {
            let place = rest.strip_suffix('/').unwrap_or(rest);
            let after_bracket = place.rfind(']').map_or(0, |at| at + 1);
            let has_port = place[after_bracket..].contains(':');
            let place = if has_port { place.to_owned() } else { format!("{place}:{HTTPS_PORT}") };
            return place.parse().map(Origin::Web);
        }
        let address: PeerAddress = match text.starts_with("mesh://") {
            true => text.parse()?,
            false => return Err(AddressError("a registrar is https://host, or mesh://<id>@host:port")),
        };
        let id = address.id.ok_or(AddressError("the id is missing: mesh://<id>@host:port"))?;
        Ok(Origin::Pinned(id, address.at))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Web(at) if at.port == HTTPS_PORT => write!(f, "https://{}", at.host),
            Origin::Web(at) => write!(f, "https://{at}"),
            Origin::Pinned(id, at) => write!(f, "mesh://{id}@{at}"),
        }
    }
}

/// What a registrar wants to see done before it looks at a record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Challenge {
    /// Opaque to the node, at most 128 characters of base64url.
    pub challenge: String,
    /// Leading zero bits that the hash needs.
    pub bits: u8,
    /// Unix seconds after which it is worth nothing.
    pub expires: i64,
}

/// List me.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Registration {
    /// The node record, one line of 2-wire.md.
    pub record: String,
    /// The challenge, back.
    pub challenge: String,
    /// What makes its hash good.
    pub counter: u64,
}

/// Strike me out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Goodbye {
    /// A record with `bye`, one line.
    pub record: String,
}

/// It is in the zone, or out of it: the name server said so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Registered {
    /// The node stands at `<label>.n.<zone>`.
    pub label: String,
    /// Seconds that resolvers may keep it for.
    pub ttl: u32,
}

/// Why a registrar said no, as its problem+json and metrics carry it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refused {
    /// 400: not what it takes.
    Malformed,
    /// 413: more than 8 KiB.
    TooLarge,
    /// 403: not this registrar's challenge, another node's or network's, or too old.
    Challenge,
    /// 403: the hash has too few zero bits.
    Work,
    /// 403: the record names no address that the caller has.
    AddressMismatch,
    /// 403: the address is of a kind that nobody may be sent to.
    Bogon,
    /// 409: the zone has a newer record of this node.
    Older,
    /// 422: the node did not answer at its address.
    Unreachable,
    /// 422: somebody else answered there.
    WrongKey,
    /// 429: too often, or no place is free for this network or for newcomers.
    Rate,
    /// 429: no place is free.
    Full,
    /// 503: the name server did not say that it is done.
    Unavailable,
}

impl Refused {
    /// Every one.
    pub const ALL: [Refused; 12] = [
        Refused::Malformed,
        Refused::TooLarge,
        Refused::Challenge,
        Refused::Work,
        Refused::AddressMismatch,
        Refused::Bogon,
        Refused::Older,
        Refused::Unreachable,
        Refused::WrongKey,
        Refused::Rate,
        Refused::Full,
        Refused::Unavailable,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Malformed => "malformed",
            Refused::TooLarge => "too_large",
            Refused::Challenge => "challenge",
            Refused::Work => "work",
            Refused::AddressMismatch => "address_mismatch",
            Refused::Bogon => "bogon",
            Refused::Older => "older",
            Refused::Unreachable => "unreachable",
            Refused::WrongKey => "wrong_key",
            Refused::Rate => "rate",
            Refused::Full => "full",
            Refused::Unavailable => "unavailable",
        }
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Refused::Malformed => 400,
            Refused::Challenge | Refused::Work | Refused::AddressMismatch | Refused::Bogon => 403,
            Refused::Older => 409,
            Refused::TooLarge => 413,
            Refused::Unreachable | Refused::WrongKey => 422,
            Refused::Rate | Refused::Full => 429,
            Refused::Unavailable => 503,
        }
    }
}

/// The answer to `GET /mesh/v1/liveness`: the asker has come to where this node says it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Liveness {
    /// Who answers.
    pub id: NodeId,
    /// Base64url signature; see [`Liveness::payload`].
    pub sig: String,
}

impl Liveness {
    /// The bytes under the signature: id (32), then origin, nonce and address, each preceded by its
    /// length as one byte. The origin keeps an answer to one registrar from being shown to another.
    fn payload(id: &NodeId, origin: &str, nonce: &str, at: SocketAddr) -> Option<Vec<u8>> {
        let at = at.to_string();
        let mut payload = Vec::with_capacity(35 + origin.len() + nonce.len() + at.len());
        payload.extend_from_slice(id.as_bytes());
        for text in [origin, nonce, &at] {
            payload.push(u8::try_from(text.len()).ok()?);
            payload.extend_from_slice(text.as_bytes());
        }
        Some(payload)
    }

    /// Signs the answer; `None` when origin or nonce is longer than 255 bytes.
    pub fn answer(key: &Keypair, origin: &str, nonce: &str, at: SocketAddr) -> Option<Liveness> {
        let payload = Liveness::payload(&key.id(), origin, nonce, at)?;
        let sig = Signature::sign(key, LIVENESS_PAYLOAD_TYPE, &payload).to_string();
        Some(Liveness { id: key.id(), sig })
    }

    /// Did `id` answer this very question?
    pub fn is_answer_of(&self, id: &NodeId, origin: &str, nonce: &str, at: SocketAddr) -> bool {
        let Ok(signature) = Signature::parse(self.sig.as_bytes()) else { return false };
        let Some(payload) = Liveness::payload(id, origin, nonce, at) else { return false };
        self.id == *id && signature.is_by(id, LIVENESS_PAYLOAD_TYPE, &payload)
    }

    /// Is this text usable as the origin of a registrar? It stands in a query as it is.
    pub fn is_origin(text: &str) -> bool {
        let is_safe = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'/' | b'@' | b'[' | b']')
        };
        (1..=ORIGIN_MAX).contains(&text.len()) && text.bytes().all(is_safe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_liveness_answer_is_worth_nothing_anywhere_else() {
        let (key, other) = (Keypair::from_seed(&[1; 32]), Keypair::from_seed(&[2; 32]).id());
        let (origin, at) = ("https://registrar.example", "192.0.2.1:7443".parse().expect("an address"));
        let answer = Liveness::answer(&key, origin, "n-1", at).expect("an answer");
        assert!(answer.is_answer_of(&key.id(), origin, "n-1", at));
        assert!(!answer.is_answer_of(&key.id(), "https://other.example", "n-1", at));
        assert!(!answer.is_answer_of(&key.id(), origin, "n-2", at));
        assert!(!answer.is_answer_of(&key.id(), origin, "n-1", "192.0.2.1:7444".parse().expect("an address")));
        assert!(!answer.is_answer_of(&other, origin, "n-1", at));
        assert!(!Liveness { id: other, ..answer }.is_answer_of(&other, origin, "n-1", at));
        assert_eq!(Liveness::answer(&key, &"x".repeat(256), "n", at), None);
    }

    #[test]
    fn a_registrar_is_known_by_its_name_or_its_key() {
        let id = Keypair::from_seed(&[1; 32]).id();
        for (text, shown) in [
            ("https://registrar.example", "https://registrar.example".to_owned()),
            ("https://registrar.example:443/", "https://registrar.example".to_owned()),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443".to_owned()),
            (&format!("mesh://{id}@127.0.0.1:8443"), format!("mesh://{id}@127.0.0.1:8443")),
        ] {
            let origin: Origin = text.parse().expect(text);
            assert_eq!(origin.to_string(), shown);
            assert!(Liveness::is_origin(&shown));
        }
        for wrong in ["", "registrar.example", "http://registrar.example", "https://", "https://x/path", "mesh://x:1"] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_stands_in_a_query_needs_no_escapes() {
        for good in ["https://registrar.example:8443", "mesh://abc@[2001:db8::1]:7443"] {
            assert!(Liveness::is_origin(good), "{good}");
        }
        for bad in ["", "https://x/?a", "a b", "a&b", "a%20b", "a\n", &"x".repeat(256)] {
            assert!(!Liveness::is_origin(bad), "{bad}");
        }
    }

    #[test]
    fn every_no_has_a_word_of_its_own() {
        let words: std::collections::BTreeSet<&str> = Refused::ALL.iter().map(|refused| refused.as_str()).collect();
        assert_eq!(words.len(), Refused::ALL.len());
    }
}
