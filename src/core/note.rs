//! What the core says for people and metrics to hear; nobody answers to it.

use std::time::Duration;

use super::peers::Standing;
use super::ports::Seq;
use super::sync::Fault;
use crate::wire::{Code, Digest, NodeId};

/// What people and metrics want to hear of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// A lane stands.
    PeerConnected(NodeId),
    /// A lane is gone or was never made; the next try comes after `retry`.
    PeerBackoff {
        /// Who.
        peer: NodeId,
        /// What happened.
        why: String,
        /// When the next try comes.
        retry: Duration,
    },
    /// A node changed its standing. Beside it stands the note that says more, where there is one.
    PeerMoved {
        /// Who.
        peer: NodeId,
        /// To what.
        to: Standing,
        /// Why, in our own words; empty where it goes without saying.
        why: String,
    },
    /// The peer said goodbye: it is not called until it comes back by itself.
    PeerLeft(NodeId),
    /// The peer signed two records with one number: its key is used twice, or somebody plays games.
    PeerEquivocates {
        /// Who.
        peer: NodeId,
        /// A person typed it in, so it is listened to all the same; else nothing is, for a day.
        is_exempt: bool,
    },
    /// The peer takes less than comes in; its cursor waits in the journal.
    PeerLagging(NodeId),
    /// The peer has all it is owed.
    PeerCaughtUp(NodeId),
    /// Retention overtook a peer: events up to `earliest` were never sent to it.
    PeerGap {
        /// Who.
        peer: NodeId,
        /// Where it goes on.
        earliest: Seq,
    },
    /// A peer refused an event for good.
    PeerRefused {
        /// Who.
        peer: NodeId,
        /// Why.
        code: Code,
    },
    /// A peer stored an event that is watched, or had it already.
    Taken {
        /// Who.
        peer: NodeId,
        /// Which.
        event: Digest,
    },
    /// The peer did not play by the rules of reconciliation: it is left alone for a while.
    PeerUnreconciled {
        /// Who.
        peer: NodeId,
        /// What it did.
        fault: Fault,
    },
    /// An answer of ours was not sent to this peer before the deadline of its question.
    AnswerLate {
        /// To whom.
        peer: NodeId,
        /// Which.
        answer: Digest,
    },
    /// An event signed by our own key that we never made: the key is used on another machine.
    OwnKeyElsewhere {
        /// Which.
        event: Digest,
        /// Its number, when it is a record.
        seq: Option<u64>,
    },
    /// The journal takes no more; peers and publishers are told to wait.
    JournalFull,
    /// It takes events again.
    JournalWell,
}
