//! What goes in: what the devices tell the core.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::params::Accept;
use super::super::roster::Snapshot;
use super::super::sync::{Fault, Tally};
use super::super::tier::{Find, Tier};
use super::super::trust::Rule;
use super::{
    AppendError, Appended, Arrived, BatchId, Emitted, LaneId, Order, Page, PageError, SavedBook, SavedPeer, SendError,
    Seq, ShipmentId, Stored, Ticket,
};
use crate::wire::message::Receipt;
use crate::wire::{Digest, Envelope, HostPort, Interests, NodeId, Record, Verified, Word};

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
    Roster(Arc<Snapshot>),
    /// The book of the last life. Before `Restored`, if at all.
    Remembered(SavedBook),
    /// Every duty up to here was done in the last life. Before `Restored`, if at all.
    Dutiful(Seq),
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
    /// Events that a neighbour asks us to carry on, and that are durable here already.
    Again {
        /// Answered by `Answer`: `Duplicate` or `Uncarried` for each.
        ticket: Ticket,
        /// The neighbour by its TLS key.
        from: NodeId,
        /// Which.
        events: Vec<Digest>,
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
    /// The journal's answer to `Resume`.
    Resumed {
        /// The position that was asked for.
        after: Seq,
        /// What stands there.
        page: Result<Page, PageError>,
    },
    /// The journal's answer to `Recall`.
    Recalled {
        /// As it was asked.
        digits: u8,
        /// The event; `None` when it cannot be read any more.
        stored: Option<Box<Stored>>,
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
    /// Records that a neighbour gave in answer to a `Reconcile` of ours, each checked like any line from a peer:
    /// what we asked for, and no more.
    Gained {
        /// Who gave them.
        peer: NodeId,
        /// By which lane.
        lane: LaneId,
        /// The records.
        records: Vec<Verified<Record>>,
        /// Digests of those that did not pass the checks: they are not asked for again.
        useless: Vec<Digest>,
    },
    /// How a `Reconcile` ended.
    Reconciled {
        /// With whom.
        peer: NodeId,
        /// By which lane.
        lane: LaneId,
        /// What it was, or why it came to nothing.
        result: Result<Tally, Fault>,
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
    pub(in super::super) fn is_traffic(&self) -> bool {
        use Input::*;
        matches!(
            self,
            Tick | Received { .. }
                | Emitted { .. }
                | Local { .. }
                | Appended { .. }
                | Scanned { .. }
                | Again { .. }
                | Resumed { .. }
                | Recalled { .. }
                | Sent { .. }
                | Pong { .. }
        ) || matches!(self, Watch(_) | Unwatch(_) | Interests(_) | Trust { .. })
    }
}
