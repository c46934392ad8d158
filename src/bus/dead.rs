//! Dead letters: what could not be delivered, with the reason, where people find it.
//!
//! Each stream has one beside it, `<stream>:dead`, with at most about 10 000 entries:
//!
//! | field | value |
//! |---|---|
//! | `kind` | `layout`: an event that would stick the reader of the stream; `quarantine`: one that local policy holds back; `intake`: an entry that cannot be published |
//! | `reason` | the rule it broke, in words |
//! | `code` | the stable word, as peers are told it |
//! | `field` | the field at fault; empty when it is the whole |
//! | `peer` | node id of the neighbour that gave the event; this node's own for what was published here |
//! | `digest` | of the event; empty for an entry that never became one |
//! | `first_seen` | when this node stored the event, or read the entry; RFC 3339 |
//! | `envelope` | `layout`, `quarantine`: the signed line, to show it and to try again |
//! | `entry`, `entry.NAME` | `intake`: the id of the entry and its fields, byte for byte and in their order |
//! | `cut` | the entry was too large to be kept whole: what is there is its beginning |
//!
//! They are part of the bus in Redis: with the embedded bus there are none, since nothing is laid out
//! and whoever publishes is told at once.

use redis::Pipeline;

use super::layout::Fields;
use super::trouble::printable;
use crate::core::ports::Stored;
use crate::time::Wall;
use crate::wire::{Code, timestamp};

/// The dead letters beside a stream.
pub(super) fn stream_of(stream: &str) -> String {
    format!("{stream}:dead")
}

/// What kind of letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An event that the reader of the stream could not take.
    Layout,
    /// An event that local policy holds back.
    Quarantine,
    /// An entry of a local program that cannot be published.
    Intake,
}

impl Kind {
    /// The word in the field `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Layout => "layout",
            Kind::Quarantine => "quarantine",
            Kind::Intake => "intake",
        }
    }
}

/// Why something is dead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cause {
    /// What kind of letter it becomes.
    pub kind: Kind,
    /// The stable word.
    pub code: Code,
    /// The field at fault; empty when it is the whole.
    pub field: String,
    /// The rule it broke.
    pub reason: String,
}

impl Cause {
    /// A rule of local trust.
    pub(super) fn quarantine() -> Cause {
        let reason = "a [[trust.rule]] holds events of this type by this source back".to_owned();
        Cause { kind: Kind::Quarantine, code: Code::TypeDenied, field: String::new(), reason }
    }

    /// A source or type that is not listened to any more.
    pub(super) fn dropped() -> Cause {
        let reason = "its source is muted by now, or a [[trust.rule]] drops it".to_owned();
        Cause { code: Code::TypeDenied, reason, ..Cause::quarantine() }
    }

    /// A rule of a layout.
    pub(super) fn layout(field: &str, reason: impl Into<String>) -> Cause {
        Cause { kind: Kind::Layout, code: Code::Malformed, field: field.to_owned(), reason: reason.into() }
    }

    /// A rule for entries; `field` is whatever somebody wrote.
    pub(super) fn intake(field: &str, reason: impl Into<String>) -> Cause {
        Cause { kind: Kind::Intake, code: Code::Malformed, field: printable(field), reason: reason.into() }
    }

    fn fields(&self, peer: String, digest: String, first_seen: Wall) -> Fields {
        let field = |name: &str, value: String| (name.to_owned(), value);
        vec![
            field("kind", self.kind.as_str().to_owned()),
            field("reason", self.reason.clone()),
            field("code", self.code.as_str().to_owned()),
            field("field", self.field.clone()),
            field("peer", peer),
            field("digest", digest),
            field("first_seen", timestamp::format(first_seen)),
        ]
    }
}

/// The letter of an event.
pub(super) fn of_event(stored: &Stored, cause: &Cause) -> Fields {
    let entry = &stored.entry;
    let peer = entry.from.map_or_else(String::new, |via| via.to_string());
    let mut fields = cause.fields(peer, entry.envelope.digest().to_string(), entry.received);
    fields.push(("envelope".to_owned(), entry.envelope.line(entry.hops, false)));
    fields
}

/// Adds the letter of an entry that cannot be published: its id, and names and values in turn.
pub(super) fn add_entry(
    pipe: &mut Pipeline,
    stream: &str,
    me: String,
    (id, fields): (&str, &[Vec<u8>]),
    cause: &Cause,
    now: Wall,
) {
    let add = pipe.cmd("XADD").arg(stream_of(stream)).arg("MAXLEN").arg("~").arg(LETTERS_MAX).arg("*");
    for (name, value) in cause.fields(me, String::new(), now) {
        add.arg(name).arg(value);
    }
    add.arg("entry").arg(id);
    let mut left = ENTRY_BYTES_MAX;
    let mut is_cut = fields.len() / 2 > ENTRY_FIELDS_MAX;
    for pair in fields.chunks_exact(2).take(ENTRY_FIELDS_MAX) {
        let name = &pair[0][..pair[0].len().min(ENTRY_NAME_MAX)];
        let value = &pair[1][..pair[1].len().min(left)];
        left -= value.len();
        is_cut |= name.len() < pair[0].len() || value.len() < pair[1].len();
        add.arg([ENTRY.as_bytes(), name].concat()).arg(value);
    }
    if is_cut {
        add.arg(CUT).arg("1");
    }
    add.ignore();
}

/// Before the name of each field of an entry.
pub(super) const ENTRY: &str = "entry.";
/// Marks a letter that does not have all of its entry.
pub(super) const CUT: &[u8] = b"cut";
/// Dead letters kept beside one stream, roughly. More would only hide the newest from whoever looks.
pub const LETTERS_MAX: usize = 10_000;
/// What a dead letter keeps of its entry: all of it, unless it could not be an event by far.
pub const ENTRY_FIELDS_MAX: usize = 64;
/// See [`ENTRY_FIELDS_MAX`].
pub const ENTRY_NAME_MAX: usize = 64;
/// See [`ENTRY_FIELDS_MAX`].
pub const ENTRY_BYTES_MAX: usize = 2 * crate::wire::event::EVENT_BYTES_MAX;
