//! One variant for each way to be wrong. The sender learns the stable [`Code`]; the log has the rest.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The stable word for an answer, part of the protocol (2-wire.md). Never renamed, only added to: a
/// word that a newer version says is read as [`Code::Unknown`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the protocol's own words")]
pub enum Code {
    Malformed,
    TooLarge,
    BadSignature,
    Expired,
    Future,
    Conflict,
    Hops,
    NotForMe,
    TypeDenied,
    NotSubscribed,
    Muted,
    Blocked,
    OtherNetwork,
    Rate,
    Unavailable,
    /// A word that this version does not know: refused for good, whatever the reason. Only ever read;
    /// no [`Rejection`] has it.
    #[serde(other)]
    Unknown,
}

/// Who can mend it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// The one who signed it: the same bytes are refused by everybody, for ever.
    Signer,
    /// The one who sent it to us: it should have known better, or its view of us is old.
    Sender,
    /// Nobody: time or policy; the same bytes may be fine elsewhere.
    Nobody,
    /// We ourselves: try again later.
    Us,
}

/// A way to be wrong. Nothing was stored when one of these is returned.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// The line is not `hops SP sig SP event`.
    #[error("the line is not `hops sig event`: {0}")]
    Framing(&'static str),
    /// A line longer than any valid one; its bytes were not looked at.
    #[error("the event is larger than 65536 bytes")]
    TooLarge,
    /// The text is not the strict JSON that 2-wire.md allows.
    #[error("not acceptable JSON: {0}")]
    Json(&'static str),
    /// A known attribute is missing, of the wrong kind, or outside its limits.
    #[error("attribute `{name}`: {why}")]
    Attribute {
        /// The attribute, always one of ours: never text from the peer.
        name: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An extension attribute breaks the rule for names or values.
    #[error("extension attribute: {0}")]
    Extension(&'static str),
    /// A node id that cannot be one: length, alphabet, checksum, version, or no usable key in it.
    #[error("node id: {0}")]
    NodeId(&'static str),
    /// The event expires further ahead than anybody may ask others to remember.
    #[error("`expirytime` is more than 7 days ahead")]
    ExpiryTooFar,
    /// A pattern that breaks the grammar of 4-dissemination.md.
    #[error("pattern: {0}")]
    Pattern(&'static str),
    /// A node record that breaks its limits.
    #[error("node record: {0}")]
    Record(&'static str),
    /// The signature is not one by `source` over these bytes.
    #[error("the signature does not match `source` and these bytes")]
    BadSignature,
    /// `expirytime` has passed.
    #[error("the event expired")]
    Expired,
    /// `time` is ahead of our clock by more than 2 minutes.
    #[error("`time` is more than 2 minutes ahead of this node's clock")]
    Future,
    /// The same (source, id) is stored with other bytes; the first stays.
    #[error("the same source and id are stored with other bytes")]
    Conflict,
    /// An event signed by our own key that we never made: the key is used on another machine.
    #[error("signed by this node's own key, but not made here")]
    OwnKeyElsewhere,
    /// More links crossed than the event allows.
    #[error("more hops than the event allows")]
    Hops,
    /// `to` names other nodes.
    #[error("addressed to other nodes")]
    NotForMe,
    /// A reserved or locally refused type.
    #[error("this type is reserved, or not accepted from there")]
    TypeDenied,
    /// Matches none of our interests; the sender's view of us is old.
    #[error("matches none of this node's interests")]
    NotSubscribed,
    /// The source is muted here.
    #[error("the source is muted here")]
    Muted,
    /// A person here will have nothing to do with whoever brings it. The event itself is not refused.
    #[error("the caller is blocked here")]
    Blocked,
    /// An event of another network.
    #[error("belongs to another network")]
    OtherNetwork,
    /// Above the rate; the rest of the line was not looked at.
    #[error("above the rate limit; send again in {} ms", after.as_millis())]
    Rate {
        /// When to try again.
        after: Duration,
    },
    /// We cannot promise durability now.
    #[error("this node cannot store events now; send again in {} ms", after.as_millis())]
    Unavailable {
        /// When to try again.
        after: Duration,
    },
}

impl Rejection {
    /// What is said to bytes of which only the answer is remembered.
    pub fn again(code: Code) -> Rejection {
        match code {
            Code::Conflict => Rejection::Conflict,
            Code::Muted => Rejection::Muted,
            Code::TypeDenied => Rejection::TypeDenied,
            Code::BadSignature => Rejection::BadSignature,
            Code::Expired => Rejection::Expired,
            Code::Hops => Rejection::Hops,
            Code::NotForMe => Rejection::NotForMe,
            Code::NotSubscribed => Rejection::NotSubscribed,
            Code::OtherNetwork => Rejection::OtherNetwork,
            Code::TooLarge => Rejection::TooLarge,
            // The first has many causes, of which none is remembered; the rest is about a moment, not
            // about bytes, and nobody remembers it.
            Code::Malformed | Code::Blocked | Code::Future | Code::Rate | Code::Unavailable | Code::Unknown => {
                Rejection::Framing("refused before")
            }
        }
    }

    /// The stable word the peer is told.
    pub fn code(&self) -> Code {
        match self {
            Rejection::Framing(_)
            | Rejection::Json(_)
            | Rejection::Attribute { .. }
            | Rejection::Extension(_)
            | Rejection::NodeId(_)
            | Rejection::ExpiryTooFar
            | Rejection::Pattern(_)
            | Rejection::Record(_) => Code::Malformed,
            Rejection::TooLarge => Code::TooLarge,
            Rejection::BadSignature => Code::BadSignature,
            Rejection::Expired => Code::Expired,
            Rejection::Future => Code::Future,
            Rejection::Conflict | Rejection::OwnKeyElsewhere => Code::Conflict,
            Rejection::Hops => Code::Hops,
            Rejection::NotForMe => Code::NotForMe,
            Rejection::TypeDenied => Code::TypeDenied,
            Rejection::NotSubscribed => Code::NotSubscribed,
            Rejection::Muted => Code::Muted,
            Rejection::Blocked => Code::Blocked,
            Rejection::OtherNetwork => Code::OtherNetwork,
            Rejection::Rate { .. } => Code::Rate,
            Rejection::Unavailable { .. } => Code::Unavailable,
        }
    }

    /// When the same bytes may be sent again; `None` when that would never help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Rejection::Rate { after } | Rejection::Unavailable { after } => Some(*after),
            _ => None,
        }
    }

    /// Who can mend it.
    pub fn blame(&self) -> Blame {
        match self.code() {
            Code::Malformed | Code::TooLarge | Code::BadSignature | Code::Conflict => Blame::Signer,
            Code::Hops | Code::NotForMe | Code::NotSubscribed | Code::OtherNetwork | Code::Rate => Blame::Sender,
            Code::Expired | Code::Future | Code::TypeDenied | Code::Muted | Code::Blocked | Code::Unknown => {
                Blame::Nobody
            }
            Code::Unavailable => Blame::Us,
        }
    }
}

impl Code {
    /// Every word of the protocol, and so without `Unknown`; in the order of 2-wire.md.
    pub const ALL: [Code; 15] = [
        Code::Malformed,
        Code::TooLarge,
        Code::BadSignature,
        Code::Expired,
        Code::Future,
        Code::Conflict,
        Code::Hops,
        Code::NotForMe,
        Code::TypeDenied,
        Code::NotSubscribed,
        Code::Muted,
        Code::Blocked,
        Code::OtherNetwork,
        Code::Rate,
        Code::Unavailable,
    ];

    /// The HTTP status when the answer is about one line alone.
    pub fn status(self) -> u16 {
        match self {
            Code::Malformed | Code::Future | Code::Hops | Code::Unknown => 400,
            Code::BadSignature => 401,
            Code::TypeDenied | Code::Muted | Code::Blocked | Code::NotSubscribed | Code::NotForMe => 403,
            Code::Conflict => 409,
            Code::Expired => 410,
            Code::TooLarge => 413,
            Code::OtherNetwork => 421,
            Code::Rate => 429,
            Code::Unavailable => 503,
        }
    }

    /// The word as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Malformed => "malformed",
            Code::TooLarge => "too_large",
            Code::BadSignature => "bad_signature",
            Code::Expired => "expired",
            Code::Future => "future",
            Code::Conflict => "conflict",
            Code::Hops => "hops",
            Code::NotForMe => "not_for_me",
            Code::TypeDenied => "type_denied",
            Code::NotSubscribed => "not_subscribed",
            Code::Muted => "muted",
            Code::Blocked => "blocked",
            Code::OtherNetwork => "other_network",
            Code::Rate => "rate",
            Code::Unavailable => "unavailable",
            Code::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_code_is_the_same_in_json_and_in_text() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_string(&code).expect("a code"), format!("\"{code}\""));
        }
    }

    #[test]
    fn a_word_of_a_newer_version_is_a_code_too() {
        for word in ["unknown", "quarantined", ""] {
            let code: Code = serde_json::from_str(&format!("\"{word}\"")).expect("a code");
            assert_eq!((code, code.as_str(), code.status()), (Code::Unknown, "unknown", 400));
        }
        for code in Code::ALL {
            assert_eq!(serde_json::from_str::<Code>(&format!("\"{code}\"")).expect("a code"), code);
        }
        assert!(!Code::ALL.contains(&Code::Unknown), "no word of the protocol");
    }

    #[test]
    fn only_what_is_our_trouble_or_the_rate_may_be_sent_again() {
        let after = Duration::from_secs(2);
        assert_eq!(Rejection::Rate { after }.retry_after(), Some(after));
        assert_eq!(Rejection::Unavailable { after }.blame(), Blame::Us);
        assert_eq!(Rejection::BadSignature.retry_after(), None);
    }
}
