//! Everything that can be answered instead of an answer, with its stable word, number and status.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::message;
use crate::wire::{Code, Rejection};

/// The kind of a fault: stable, never renamed, only added to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultCode {
    /// The request cannot be read.
    BadRequest,
    /// There is no such route.
    NotFound,
    /// The route does not know this method.
    Method,
    /// The body is of another type than the route reads.
    ContentType,
    /// The body is larger than the route reads.
    BodyTooLarge,
    /// The caller may not change anything.
    Forbidden,
    /// The daemon is on its way out, or too busy to answer.
    Stopping,
    /// Nobody is called that.
    NoSuchPeer,
    /// More than one peer is called that.
    Ambiguous,
    /// The address leads to this very node.
    OwnAddress,
    /// An address without an id, and no word that whoever answers there is to be trusted.
    Unpinned,
    /// Nobody answers there.
    Unreachable,
    /// Somebody else answers there.
    WrongKey,
    /// No place for another peer.
    PeersFull,
    /// The alias cannot be one, or means another peer already.
    Alias,
    /// The disk did not take the change.
    Storage,
    /// The patterns break the limits of a record.
    Interests,
    /// This pattern is none of ours.
    NoSuchPattern,
    /// The source cannot be muted.
    Mute,
    /// The source is not muted.
    NotMuted,
    /// The node is blocked, and a person has to unblock it first.
    Blocked,
    /// No place for another blocked node.
    BlockedFull,
    /// Retention dropped this position of the journal.
    PositionGone,
    /// The journal never came as far as this position.
    PositionAhead,
    /// The disk did not give the journal.
    Unreadable,
    /// No group of subscribers is called that.
    NoSuchGroup,
    /// No place for another group of subscribers.
    GroupsFull,
    /// There is no Redis: the journal itself is the bus.
    NoBus,
    /// The Redis of the bus does not do it now.
    BusTrouble,
    /// No dead letter is called that.
    NoSuchLetter,
    /// Dead letters of several streams are called that.
    AmbiguousLetter,
    /// The dead letter cannot be delivered now either.
    LetterRefused,
    /// No stream waits for a person.
    NothingStopped,
    /// The event was refused.
    Event(Code),
}

/// The word, the number, the HTTP status, what it means.
type Row = (&'static str, &'static str, u16, &'static str);

impl FaultCode {
    fn row(self) -> Row {
        match self {
            FaultCode::BadRequest => ("bad_request", "AF0201", 400, "the request to the local API cannot be read"),
            FaultCode::NotFound => ("not_found", "AF0202", 404, "the local API has no such route"),
            FaultCode::Method => ("method", "AF0203", 405, "the route does not know this method"),
            FaultCode::ContentType => ("content_type", "AF0204", 415, "the route reads another type of body"),
            FaultCode::BodyTooLarge => ("body_too_large", "AF0205", 413, "the body is larger than the route reads"),
            FaultCode::Forbidden => ("forbidden", "AF0206", 403, "the caller may look but not change anything"),
            FaultCode::Stopping => ("stopping", "AF0207", 503, "the daemon is stopping, or does not answer in time"),
            FaultCode::NoSuchPeer => ("no_such_peer", "AF0301", 404, "no peer has this alias, id or address"),
            FaultCode::Ambiguous => ("ambiguous", "AF0302", 409, "more than one peer has an id that begins like this"),
            FaultCode::OwnAddress => ("own_address", "AF0303", 409, "the address leads to this very node"),
            FaultCode::Unpinned => ("unpinned", "AF0304", 409, "an address without an id, and nobody vouched for it"),
            FaultCode::Unreachable => ("unreachable", "AF0305", 502, "nobody answers at the address"),
            FaultCode::WrongKey => ("wrong_key", "AF0306", 409, "somebody else answers at the address"),
            FaultCode::PeersFull => ("peers_full", "AF0307", 409, "no place for another peer"),
            FaultCode::Alias => ("alias", "AF0308", 409, "the alias cannot be one, or means another peer"),
            FaultCode::Storage => ("storage", "AF0309", 503, "the disk did not take the change"),
            FaultCode::Interests => ("interests", "AF0310", 400, "the patterns break the limits of a record"),
            FaultCode::NoSuchPattern => ("no_such_pattern", "AF0311", 404, "the pattern is none of this node's"),
            FaultCode::Mute => ("mute", "AF0330", 409, "the source is this node, or too many are muted already"),
            FaultCode::NotMuted => ("not_muted", "AF0331", 404, "the source is not muted"),
            FaultCode::Blocked => {
                ("peer_blocked", "AF0332", 409, "the node is blocked here, and has to be unblocked first")
            }
            FaultCode::BlockedFull => ("blocked_full", "AF0333", 409, "too many nodes are blocked already"),
            FaultCode::PositionGone => ("position_gone", "AF0420", 410, "the journal has dropped this position"),
            FaultCode::PositionAhead => ("position_ahead", "AF0421", 409, "the journal never came this far"),
            FaultCode::Unreadable => ("unreadable", "AF0422", 503, "the disk did not give the journal"),
            FaultCode::NoSuchGroup => ("no_such_group", "AF0423", 404, "no group of subscribers has this name"),
            FaultCode::GroupsFull => ("groups_full", "AF0424", 409, "no place for another group of subscribers"),
            FaultCode::NoBus => ("no_bus", "AF0601", 409, "there is no Redis: the journal itself is the bus"),
            FaultCode::BusTrouble => ("bus_trouble", "AF0602", 503, "the Redis of the bus does not do it now"),
            FaultCode::NoSuchLetter => ("no_such_letter", "AF0603", 404, "no dead letter has this id"),
            FaultCode::AmbiguousLetter => {
                ("ambiguous_letter", "AF0604", 409, "dead letters of several streams have this id: write stream/id")
            }
            FaultCode::LetterRefused => {
                ("letter_refused", "AF0605", 409, "the dead letter breaks a rule still, and cannot be delivered")
            }
            FaultCode::NothingStopped => {
                ("nothing_stopped", "AF0606", 409, "no stream is stopped for want of its cursor")
            }
            FaultCode::Event(code) => (code.as_str(), number(code), code.status(), meaning(code)),
        }
    }

    /// The stable word, as programs compare it.
    pub fn word(self) -> &'static str {
        self.row().0
    }

    /// The stable number, as people look it up.
    pub fn number(self) -> &'static str {
        self.row().1
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        self.row().2
    }

    /// What it means, for `afferent explain`.
    pub fn meaning(self) -> &'static str {
        self.row().3
    }

    /// Every code there is.
    pub fn all() -> impl Iterator<Item = FaultCode> {
        use FaultCode::*;
        let own = [
            BadRequest,
            NotFound,
            Method,
            ContentType,
            BodyTooLarge,
            Forbidden,
            Stopping,
            NoSuchPeer,
            Ambiguous,
            OwnAddress,
            Unpinned,
            Unreachable,
            WrongKey,
            PeersFull,
            Alias,
            Storage,
            Interests,
            NoSuchPattern,
            Mute,
            NotMuted,
            Blocked,
            BlockedFull,
            PositionGone,
            PositionAhead,
            Unreadable,
            NoSuchGroup,
            GroupsFull,
            NoBus,
            BusTrouble,
            NoSuchLetter,
            AmbiguousLetter,
            LetterRefused,
            NothingStopped,
        ];
        own.into_iter().chain(Code::ALL.into_iter().chain([Code::Unknown]).map(Event))
    }

    /// The code with this word.
    pub fn of_word(word: &str) -> Option<FaultCode> {
        FaultCode::all().find(|code| code.word() == word)
    }
}

fn number(code: Code) -> &'static str {
    match code {
        Code::Malformed => "AF0401",
        Code::TooLarge => "AF0402",
        Code::BadSignature => "AF0403",
        Code::Expired => "AF0404",
        Code::Future => "AF0405",
        Code::Conflict => "AF0406",
        Code::Hops => "AF0407",
        Code::NotForMe => "AF0408",
        Code::TypeDenied => "AF0409",
        Code::NotSubscribed => "AF0410",
        Code::Muted => "AF0411",
        Code::OtherNetwork => "AF0412",
        Code::Rate => "AF0413",
        Code::Unavailable => "AF0414",
        Code::Blocked => "AF0415",
        Code::Unknown => "AF0400",
    }
}

fn meaning(code: Code) -> &'static str {
    match code {
        Code::Malformed => "the event breaks a rule of the format",
        Code::TooLarge => "the event is larger than 65536 bytes",
        Code::BadSignature => "the signature is not one by the source over these bytes",
        Code::Expired => "the event expired",
        Code::Future => "the time of the event is more than 2 minutes ahead",
        Code::Conflict => "the same source and id are stored with other bytes",
        Code::Hops => "the event crossed more links than it allows",
        Code::NotForMe => "the event is addressed to other nodes",
        Code::TypeDenied => "the type is reserved, or not accepted from there",
        Code::NotSubscribed => "the type matches none of the node's interests",
        Code::Muted => "the source is muted there",
        Code::Blocked => "the node that sends is blocked there: `afferent peers unblock` over there lets it in",
        Code::OtherNetwork => "the event belongs to another network",
        Code::Rate => "above the rate limit: it can be sent again later",
        Code::Unavailable => "the node cannot store events now: it can be sent again later",
        Code::Unknown => "a newer node refused the event in a word that this version does not know",
    }
}

/// An answer of the driver, or of a route, that is no success. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{why}")]
pub struct Fault {
    /// What kind.
    pub code: FaultCode,
    /// One sentence for people: lower case, no full stop, never text that a peer chose.
    pub why: String,
    /// When another try makes sense.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A fault that another try does not mend.
    pub fn new(code: FaultCode, why: impl Into<String>) -> Fault {
        Fault { code, why: why.into(), retry_after: None }
    }

    /// The daemon gave no answer.
    pub(super) fn stopping() -> Fault {
        Fault {
            retry_after: Some(Duration::from_secs(1)),
            ..Fault::new(FaultCode::Stopping, "the daemon is stopping, or too busy to answer")
        }
    }

    /// As it travels.
    pub fn problem(&self) -> Problem {
        Problem {
            problem: message::Problem {
                status: self.code.status(),
                code: self.code.word().to_owned(),
                title: self.why.clone(),
                retry_after_ms: self.retry_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            },
            number: self.code.number().to_owned(),
        }
    }
}

impl From<&Rejection> for Fault {
    fn from(rejection: &Rejection) -> Fault {
        Fault {
            code: FaultCode::Event(rejection.code()),
            why: rejection.to_string(),
            retry_after: rejection.retry_after(),
        }
    }
}

/// An error body (RFC 9457): that of the receptor, with the number that `afferent explain` knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// Status, word, sentence.
    #[serde(flatten)]
    pub problem: message::Problem,
    /// `AFnnnn`.
    pub number: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_codes_share_a_word_or_a_number() {
        let all: Vec<FaultCode> = FaultCode::all().collect();
        assert_eq!(all.iter().map(|code| code.word()).collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(all.iter().map(|code| code.number()).collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.iter().all(|code| FaultCode::of_word(code.word()) == Some(*code)));
        assert!(all.iter().all(|code| (400..600).contains(&code.status())));
    }

    #[test]
    fn a_problem_is_one_flat_object() {
        let fault = Fault::new(FaultCode::NoSuchPeer, "no peer is called `x`");
        assert_eq!(
            serde_json::to_string(&fault.problem()).expect("a problem"),
            r#"{"status":404,"code":"no_such_peer","title":"no peer is called `x`","number":"AF0301"}"#
        );
    }
}
