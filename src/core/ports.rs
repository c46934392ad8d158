//! The whole border of the protocol: what goes in, what comes out. Logged, counted and simulated here.
//!
//! ```text
//!   net   Received, Met, Contact, Connected, Broken, Sent    ->|      |-> Dial, Hangup, Send, Neighbours
//!   bus, admin   Emitted                                     ->| Node |-> Answer
//!   store Appended, Scanned, Restored                        ->|      |-> Append, Remember, Scan, SaveCursor, ForgetCursor, SavePeers
//!   people  PeerAdded, PeerRemoved, Ordered, Interests, Trust, Members ->| |-> Note
//!   tiers Found, Introduced, Heard; sim Roster               ->|      |-> Lookup, Introduce, Exchange
//! ```
//!
//! The driver carries out every output in order and brings each answer back as an input. Nothing here
//! waits, reads a clock or rolls dice.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use super::note::Note;
pub use super::order::Order;
use super::params::Accept;
pub use super::saved::{Origin, SavedBan, SavedBook, SavedNode, SavedPeer, Welcome};
use super::tier::{Find, Tier};
use super::trust::Rule;
use crate::time::Wall;
use crate::wire::message::{Outcome, Receipt};
use crate::wire::{Code, Digest, Envelope, HostPort, Interests, NodeId, Record, Verified, Word};

/// A position in the journal: the first entry is 1, 0 stands before everything. Strictly increasing,
/// with gaps allowed; meaningful only within one incarnation of the journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Whom to answer: chosen by the driver, opaque to the core.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// One `Append`, so its answer finds the way back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BatchId(pub u64);

/// One connection that we made to a peer. A newer lane makes reports of older ones meaningless.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneId(pub u64);

/// One body of lines in flight to a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShipmentId(pub u64);

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
}

/// An event published here, before anything is decided about it.
#[derive(Clone, Debug)]
pub struct Emitted {
    /// The event, signed by us.
    pub envelope: Verified<Envelope>,
    /// The idempotency keys it was handed in under.
    pub claims: Box<[Claim]>,
}

impl From<Verified<Envelope>> for Emitted {
    /// An event that came without a key.
    fn from(envelope: Verified<Envelope>) -> Emitted {
        Emitted { envelope, claims: Box::default() }
    }
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

/// A verified event that reached us.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// What.
    pub envelope: Verified<Envelope>,
    /// Links crossed, as the sender said.
    pub hops: u8,
    /// The sender asks us to carry it on.
    pub duty: bool,
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

    /// A named cursor: `bus:mesh:events`, `peer:<id>`.
    fn cursor(&self, name: &str) -> Option<Seq>;

    /// Moves a named cursor. Durable with the next commit at the latest; a cursor lost in a crash
    /// costs a repetition, never a gap. Retention never drops what a `bus:` cursor has not passed.
    fn set_cursor(&self, name: &str, seq: Seq);
}

/// What an idempotency key of a local publisher is used for, while its event is on the way to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Hash of the key: no text of a caller is kept.
    pub key: Digest,
    /// Hash of what was handed in under it.
    pub body: Digest,
    /// From then on the key is free again.
    pub until: Wall,
}

/// What an idempotency key was used for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimed {
    /// Hash of what was handed in under it.
    pub body: Digest,
    /// From then on the key is free again.
    pub until: Wall,
    /// The event that it became.
    pub event: Digest,
    /// The `id` of that event.
    pub id: Box<str>,
}

/// Idempotency keys, remembered by the same commit as the events they stand for ([`Entry::claims`]): a
/// crash leaves both or neither. A key that means another event already is told as
/// `Appended::Refused(Code::Conflict)`.
pub trait Claims: Send + Sync {
    /// What this key means at this moment; `None` = nothing, or nothing any more.
    fn claimed(&self, key: &Digest, now: Wall) -> Option<Claimed>;
}

/// Why a shipment was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SendError {
    /// The whole body is to be sent again after this.
    Busy(Duration),
    /// The peer refuses the whole body for ever, with this HTTP status: a fault of ours.
    Refused(u16),
    /// No answer; the lane is gone. `Broken` follows or was said before.
    Lost,
}

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// The deadline was reached.
    Tick,
    /// First of all: what the disk remembers.
    Restored {
        /// The last durable position.
        head: Seq,
        /// The peer file.
        peers: Vec<SavedPeer>,
    },
    /// Everybody, as somebody else gathered them: a simulated mesh shares one view. Before `Restored`, if at all.
    Roster(Arc<super::roster::Snapshot>),
    /// The book of the last life. Before `Restored`, if at all.
    Remembered(SavedBook),
    /// What we want from now on.
    Interests(Interests),
    /// Whom we do not listen to, and who may send which types, from now on.
    Trust {
        /// Sources whose events are dropped.
        mute: BTreeSet<NodeId>,
        /// In their order.
        rules: Arc<[Rule]>,
    },
    /// Who may take part from now on, and how: the part of `Params` that an operator may change.
    Members {
        /// See `Params::allow`.
        allow: BTreeSet<NodeId>,
        /// See `Params::firehose`.
        firehose: BTreeSet<NodeId>,
        /// See `Params::peers_max`. Nobody is dropped at once when it shrinks.
        peers_max: usize,
        /// See `Params::min_peers`.
        min_peers: usize,
        /// See `Params::accept`. Who is a neighbour stays one.
        accept: Accept,
    },
    /// Lines of one request, verified, not known by their digest.
    Received {
        /// Answered by `Answer`, outcomes in this order.
        ticket: Ticket,
        /// The neighbour by its TLS key; `None` = nameless.
        from: Option<NodeId>,
        /// The events.
        arrived: Vec<Arrived>,
    },
    /// Events published here: by the outbox stream, the local API, the command line.
    Emitted {
        /// Answered by `Answer`, outcomes in this order.
        ticket: Ticket,
        /// The events.
        emitted: Vec<Emitted>,
    },
    /// What this node itself tells its own programs: an event of a type that never leaves it
    /// (`EventType::is_local`).
    Local {
        /// Answered by `Answer`.
        ticket: Ticket,
        /// The event, signed by us.
        envelope: Box<Verified<Envelope>>,
    },
    /// Say who takes this event, once it is stored: `Note::Taken` for each peer, until `Unwatch`.
    Watch(Digest),
    /// Nobody asks about this event any more.
    Unwatch(Digest),
    /// The journal's answer to `Append`.
    Appended {
        /// Which.
        batch: BatchId,
        /// One for each entry, in order; or nothing was stored.
        result: Result<Vec<Appended>, AppendError>,
    },
    /// The journal's answer to `Scan`.
    Scanned {
        /// For whom.
        peer: NodeId,
        /// The position that was asked for.
        after: Seq,
        /// What stands there.
        page: Result<Page, PageError>,
    },
    /// We signed a record of our own: whatever else bears our key is not ours.
    Signed {
        /// The newest.
        record: Verified<Record>,
    },
    /// A node gave us its own record over a connection that proved its key.
    Met {
        /// The record; its `id()` is the key that was proved.
        record: Verified<Record>,
        /// From near or far: what it says of addresses, its own or others', counts accordingly.
        word: Word,
    },
    /// A node with a proved key called on us: it is up, whatever we thought.
    Contact {
        /// Who.
        peer: NodeId,
    },
    /// A person adds a peer, or changes its address or alias.
    PeerAdded {
        /// Answered once it is durable.
        ticket: Ticket,
        /// Who.
        id: NodeId,
        /// Where.
        at: HostPort,
        /// A name of our own.
        alias: Option<String>,
    },
    /// A person calls a known peer something else, or nothing.
    PeerNamed {
        /// Answered once it is durable.
        ticket: Ticket,
        /// Who.
        id: NodeId,
        /// A name of our own; `None` = none any more.
        alias: Option<String>,
    },
    /// A person decides about a node.
    Ordered {
        /// Answered once it is durable.
        ticket: Ticket,
        /// About whom.
        id: NodeId,
        /// What.
        order: Order,
    },
    /// A person removes a peer.
    PeerRemoved {
        /// Answered once it is durable.
        ticket: Ticket,
        /// Who.
        id: NodeId,
    },
    /// A lane stands: TLS pinned, hello answered, records exchanged (`Met` came before).
    Connected {
        /// To whom.
        peer: NodeId,
        /// By which lane.
        lane: LaneId,
        /// One round trip.
        rtt: Duration,
    },
    /// A lane could not be made, or is gone.
    Broken {
        /// To whom.
        peer: NodeId,
        /// Which lane.
        lane: LaneId,
        /// What happened, for people: our own words, never the peer's.
        why: String,
    },
    /// Another key than the peer's answered at one of the addresses of a `Dial`. `Connected` or `Broken`
    /// says how the dial ends.
    Mistaken {
        /// Whom we meant.
        peer: NodeId,
        /// By which lane.
        lane: LaneId,
        /// Where, as `Dial` said it.
        at: HostPort,
        /// Whose key it was.
        found: NodeId,
    },
    /// The answer to `Lookup`: what this tier names, or why it cannot be asked, for people. A tier that
    /// is off answers with an error.
    Found {
        /// Which was asked.
        tier: Tier,
        /// In the order in which the tier prefers them.
        result: Result<Vec<Find>, String>,
    },
    /// The answer to `Introduce`.
    Introduced {
        /// Where.
        at: HostPort,
        /// As it was asked.
        tier: Tier,
        /// The key that was proved there, or why there was none, for people.
        result: Result<NodeId, String>,
    },
    /// Records of others that a node handed us, each checked like any line from a peer.
    Heard {
        /// Who handed them over, by its TLS key.
        teller: NodeId,
        /// They answer an `Exchange` of ours.
        asked: bool,
        /// The records, in no order that means anything.
        records: Vec<Verified<Record>>,
    },
    /// The daemon is about to end: remember what is worth it.
    Stop,
    /// A lane answered a probe.
    Pong {
        /// Who.
        peer: NodeId,
        /// One round trip.
        rtt: Duration,
    },
    /// The answer to `Send`.
    Sent {
        /// By whom.
        peer: NodeId,
        /// To which shipment.
        shipment: ShipmentId,
        /// What became of the lines.
        result: Result<Receipt, SendError>,
    },
}

impl Input {
    /// Events on their way: they change nothing in who is known.
    pub(super) fn is_traffic(&self) -> bool {
        use Input::*;
        matches!(
            self,
            Tick | Received { .. }
                | Emitted { .. }
                | Local { .. }
                | Appended { .. }
                | Scanned { .. }
                | Sent { .. }
                | Pong { .. }
        ) || matches!(self, Watch(_) | Unwatch(_) | Interests(_) | Trust { .. })
    }
}

/// One thing to do.
#[derive(Debug)]
pub enum Output {
    /// Store these durably, in order, all or none; then `Appended`.
    Append {
        /// Echoed in the answer.
        batch: BatchId,
        /// What.
        entries: Vec<Entry>,
    },
    /// Remember these as refused. No answer: what a crash takes of it costs another look.
    Remember(Vec<Refusal>),
    /// What became of the events of a request, in its order.
    Answer {
        /// Whose.
        ticket: Ticket,
        /// One for each event.
        outcomes: Vec<Outcome>,
        /// Lines we take next.
        credit: u32,
    },
    /// Make a lane: resolve, check the address policy, TLS pinned to `peer`, hello, exchange; then
    /// `Connected` or `Broken`.
    Dial {
        /// Whom.
        peer: NodeId,
        /// Echoed in every report.
        lane: LaneId,
        /// Where, to be tried in order.
        at: Vec<HostPort>,
        /// On whose word: what a name among them may lead to.
        word: Word,
    },
    /// Ask this tier, `Dns` or `Seed`, whom it names; then `Found`, always.
    Lookup {
        /// Which.
        tier: Tier,
    },
    /// Dial here under the address policy, learn by TLS whose key answers, close; then
    /// `Introduced`, always. Nothing of ours is handed over.
    Introduce {
        /// Where.
        at: HostPort,
        /// Echoed in the answer.
        tier: Tier,
        /// On whose word: what a name may lead to.
        word: Word,
    },
    /// Ask this peer for others that it knows (`POST /mesh/v1/peers`); then `Heard`. Without an answer
    /// nothing is lost: it is asked again.
    Exchange {
        /// Whom.
        peer: NodeId,
        /// By which lane.
        lane: LaneId,
    },
    /// Close the lane to this peer. No report follows.
    Hangup {
        /// Which.
        lane: LaneId,
        /// To whom.
        peer: NodeId,
    },
    /// Post these lines as one body; then `Sent`.
    Send {
        /// To whom.
        peer: NodeId,
        /// By which lane.
        lane: LaneId,
        /// Echoed in the answer.
        shipment: ShipmentId,
        /// Lines without LF, shared between all who get them.
        lines: Vec<Bytes>,
    },
    /// Read the journal for a peer that lags; then `Scanned`.
    Scan {
        /// For whom.
        peer: NodeId,
        /// Entries after this position.
        after: Seq,
    },
    /// Remember how far this peer is served: `Log::set_cursor`.
    SaveCursor {
        /// Who.
        peer: NodeId,
        /// Everything up to here is settled.
        cursor: Seq,
    },
    /// This peer is served no more: `store::Journal::forget_cursor`.
    ForgetCursor {
        /// Who.
        peer: NodeId,
    },
    /// Replace the peer file, durably; then answer `ticket`, if any, with no outcomes.
    SavePeers {
        /// Who waits for it.
        ticket: Option<Ticket>,
        /// All of it.
        peers: Vec<SavedPeer>,
    },
    /// Replace the file of the book, durably; then answer `ticket`, if any, with no outcomes. What is lost of
    /// its nodes in a crash is heard again.
    SaveBook {
        /// Who waits for it.
        ticket: Option<Ticket>,
        /// All of it.
        book: SavedBook,
    },
    /// The ids whose requests are refused from now on, all of them.
    Blocked(Arc<BTreeSet<NodeId>>),
    /// The ids that now get the rates and connection slots of known peers.
    Neighbours(Arc<BTreeSet<NodeId>>),
    /// Something for the log and, later, the local bus.
    Note(Note),
}
