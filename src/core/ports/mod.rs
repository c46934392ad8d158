//! The whole border of the protocol: what goes in, what comes out. Logged, counted and simulated here.
//!
//! ```text
//!   net   Received, Met, Contact, Connected, Broken, Sent    ->|      |-> Dial, Hangup, Send, Neighbours
//!   bus, admin   Emitted                                     ->| Node |-> Answer
//!   store Appended, Scanned, Restored                        ->|      |-> Append, Remember, Scan, SaveCursor, ForgetCursor, SavePeers
//!   people  PeerAdded, PeerRemoved, Ordered, Interests, Trust, Members ->| |-> Note
//!   tiers Found, Introduced, Heard, Gained, Reconciled       ->|      |-> Lookup, Introduce, Exchange, Reconcile
//!   sim   Roster                                             ->|      |
//! ```
//!
//! The driver carries out every output in order and brings each answer back as an input. Nothing here
//! waits, reads a clock or rolls dice.

mod input;
mod journal;
mod net;
mod output;

pub use self::input::Input;
pub use self::journal::{
    AppendError, Appended, BatchId, Entry, Known, Log, Page, PageError, Refusal, Seen, Seq, Stored,
};
pub use self::net::{Arrived, LaneId, SendError, ShipmentId};
pub use self::output::Output;
pub use super::claims::{Claim, Claimed, Claims};
pub use super::note::Note;
pub use super::offset::Hold;
pub use super::order::Order;
pub use super::saved::{Origin, SavedBan, SavedBook, SavedNode, SavedPeer, Welcome};
use crate::wire::{Envelope, Question, Verified};

/// Whom to answer: chosen by the driver, opaque to the core.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// An event published here, before anything is decided about it.
#[derive(Clone, Debug)]
pub struct Emitted {
    /// The event, signed by us.
    pub envelope: Verified<Envelope>,
    /// The idempotency keys it was handed in under.
    pub claims: Box<[Claim]>,
    /// The question that it answers, where the journal holds that: whoever hands it in looks it up.
    pub question: Option<Question>,
}

impl From<Verified<Envelope>> for Emitted {
    /// An event that came without a key.
    fn from(envelope: Verified<Envelope>) -> Emitted {
        Emitted { envelope, claims: Box::default(), question: None }
    }
}
