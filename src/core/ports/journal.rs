//! What is said with the journal on the other side: positions, entries, and how others read it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Claim, Hold};
use crate::time::Wall;
use crate::wire::{Code, Digest, Envelope, NodeId, Question, Verified};

/// A position in the journal: the first entry is 1, 0 stands before everything. Strictly increasing,
/// with gaps allowed; meaningful only within one incarnation of the journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// One `Append`, so its answer finds the way back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BatchId(pub u64);

/// One event as the journal keeps it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The signed event.
    pub envelope: Verified<Envelope>,
    /// Who gave it to us: ourselves for what was published here, `None` for a nameless sender.
    pub from: Option<NodeId>,
    /// Links crossed until here.
    pub hops: u8,
    /// We took on to carry it further.
    pub duty: bool,
    /// When, by our clock.
    pub received: Wall,
    /// Idempotency keys that are used up for it, on its way to the disk. They are kept beside the
    /// event, not with it: what is read back has none.
    pub claims: Box<[Claim]>,
    /// It answers a question: no peer gets it before its turn, or after the deadline.
    pub hold: Option<Hold>,
}

/// An entry with its place.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where in the journal.
    pub seq: Seq,
    /// What.
    pub entry: Entry,
}

/// What became of one entry of an `Append`. The journal has the last word on what is new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Appended {
    /// New, and durable now.
    Stored(Seq),
    /// Its digest was durable before.
    Duplicate,
    /// Refused: its (source, id) is durable with another digest, or its own digest is remembered as
    /// refused, with this answer.
    Refused(Code),
}

/// An event refused after a good signature, for a reason that lies in the event alone: the same bytes
/// are to get the same answer until they expire, without another look (2-wire.md, "Checks").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Which event.
    pub digest: Digest,
    /// When it may be forgotten: the event's `expirytime`.
    pub expires: Wall,
    /// The answer.
    pub code: Code,
}

/// Why nothing of an `Append` was stored. The disk stays as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendError {
    /// No space, or the journal's own quota is used up by what may not be dropped yet.
    Full,
    /// The journal is closing.
    Closed,
}

/// Part of the journal in order.
#[derive(Clone, Debug)]
pub struct Page {
    /// What stands there, in order.
    pub entries: Vec<Stored>,
    /// The last position looked at: where to go on. Equal to the position asked for when nothing follows.
    pub upto: Seq,
}

/// Why a page cannot be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PageError {
    /// The position was dropped by retention.
    #[error("the journal begins at {earliest:?} now")]
    Gone {
        /// The first position that is still there.
        earliest: Seq,
    },
    /// The disk failed to read.
    #[error("the journal cannot be read")]
    Unreadable,
}

/// What a digest means to this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// It is durable here.
    Stored,
    /// It was refused after a good signature, with this answer.
    Refused(Code),
}

/// The dedupe index where requests are: asked before the dear checks. The journal decides again.
pub trait Known: Send + Sync {
    /// What this digest means; `None` = never seen, or forgotten after its expiry.
    fn seen(&self, digest: &Digest) -> Option<Seen>;
}

/// The journal as its readers see it: the bus bridge, streams, subscribers. Calls may touch the disk.
pub trait Log: Send + Sync {
    /// Random, made with the journal: positions of another incarnation mean nothing.
    fn incarnation(&self) -> u64;

    /// The last durable position.
    fn head(&self) -> Seq;

    /// The first position still there; one after the head when there is none.
    fn earliest(&self) -> Seq;

    /// Entries after `after`, at most `entries_max` and, once there is one, `bytes_max` of events.
    ///
    /// # Errors
    /// [`PageError`].
    fn page(&self, after: Seq, entries_max: usize, bytes_max: usize) -> Result<Page, PageError>;

    /// The first position received at or after this moment; the end when there is none.
    ///
    /// # Errors
    /// [`PageError::Unreadable`].
    fn since(&self, moment: Wall) -> Result<Seq, PageError>;

    /// The entry of this event; `None` when it is not there, not any more, or cannot be read.
    fn find(&self, digest: &Digest) -> Option<Stored>;

    /// What this event asks; `None` also when it is not there.
    fn question(&self, digest: &Digest) -> Option<Question> {
        self.find(digest).and_then(|stored| Question::of(stored.entry.envelope.event()))
    }

    /// A named cursor: `bus:mesh:events`, `peer:<id>`.
    fn cursor(&self, name: &str) -> Option<Seq>;

    /// Moves a named cursor. Durable with the next commit at the latest; a cursor lost in a crash
    /// costs a repetition, never a gap. Retention never drops what a `bus:` cursor has not passed.
    fn set_cursor(&self, name: &str, seq: Seq);
}
