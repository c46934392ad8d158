//! What comes out: what the core asks of the devices.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::super::sync::Snapshot;
use super::super::tier::Tier;
use super::{BatchId, Entry, LaneId, Note, Refusal, SavedBook, SavedPeer, Seq, ShipmentId, Ticket};
use crate::wire::message::Outcome;
use crate::wire::{HostPort, NodeId, Word};

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
    /// Pull what this peer has beyond this (`POST /mesh/v1/sync`, `/get`), by the steps of a
    /// [`Run`](crate::core::sync::Run); then `Gained`, as often as records come, and `Reconciled`, unless the lane
    /// breaks.
    Reconcile {
        /// Whom.
        peer: NodeId,
        /// By which lane.
        lane: LaneId,
        /// What we have.
        snapshot: Arc<Snapshot>,
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
    /// Read what the last life may have left of its duties; then `Resumed`.
    Resume {
        /// Entries after this position.
        after: Seq,
    },
    /// Read this one event again, for a larger duty than it came with; then `Recalled`, always.
    Recall {
        /// Where it stands.
        seq: Seq,
        /// Echoed in the answer.
        digits: u8,
    },
    /// Remember that every duty up to here is done: `Log::set_cursor`.
    SaveDuty {
        /// Up to where.
        cursor: Seq,
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
