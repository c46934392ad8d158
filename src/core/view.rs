//! What people may look at: a copy, never a handle.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Node;
use super::peers::{Standing, State};
use super::ports::{Origin, Seq, Welcome};
use super::tier::Tier;
use super::tree::TreeCounts;
use crate::time::{Mono, Now, Wall};
use crate::wire::{Code, HostPort, Interests, NodeId};

/// Counts since start.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Events of others, stored.
    pub received: u64,
    /// Events of our own, stored.
    pub emitted: u64,
    /// Events that were stored before; those that the index answered are counted by `net`.
    pub duplicate: u64,
    /// Events that expired before their peer could take them.
    pub expired_unsent: u64,
    /// What became of duties and of lines to nodes that are no peers.
    pub tree: TreeCounts,
    /// Answers that were not sent to their peer before the deadline of the question.
    pub answers_late: u64,
    /// Records of others that a node told us and that were not taken: too many at once, by somebody to whom we do
    /// not listen, or at places that it cannot tell us of.
    pub records_ignored: u64,
    /// How the view was repaired.
    pub sync: SyncCounts,
    /// Refused by the core or the journal.
    pub refused: BTreeMap<Code, u64>,
}

/// Reconciliation with neighbours whom we asked, since start.
#[derive(Clone, Copy, Debug, Default)]
pub struct SyncCounts {
    /// Runs that came to their end.
    pub runs: u64,
    /// Runs that did not.
    pub failed: u64,
    /// Frames sent in those that did.
    pub rounds: u64,
    /// Bytes of their frames, both ways.
    pub bytes: u64,
    /// Records that came by them and are kept.
    pub gained: u64,
}

impl Counts {
    pub(super) fn refuse(&mut self, code: Code) {
        *self.refused.entry(code).or_default() += 1;
    }
}

/// The node at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// Who.
    pub me: NodeId,
    /// What we want.
    pub interests: Interests,
    /// The last durable position.
    pub head: Seq,
    /// Events waiting for the disk.
    pub appending: usize,
    /// The journal takes nothing now.
    pub journal_full: bool,
    /// The peers: everybody that events are owed to.
    pub peers: Vec<PeerView>,
    /// Nodes that we heard of beside them.
    pub strangers: usize,
    /// Since when no lane stands and nobody called, though there is somebody to look for.
    pub alone_since: Option<Mono>,
    /// Counts since start.
    pub counts: Counts,
}

/// One peer at one moment.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Who.
    pub id: NodeId,
    /// A name of our own.
    pub alias: Option<String>,
    /// What was typed in first, then what its record says.
    pub addresses: Vec<HostPort>,
    /// Where it stands.
    pub state: PeerState,
    /// How it came to be known.
    pub origin: Origin,
    /// What named it first.
    pub tier: Tier,
    /// Which neighbour told of it first, if one did.
    pub teller: Option<NodeId>,
    /// It holds one of our outbound slots.
    pub chosen: bool,
    /// It came by itself, and nobody has accepted it yet.
    pub asks: bool,
    /// Failed dials in a row.
    pub failures: u32,
    /// The last round trip.
    pub rtt: Option<Duration>,
    /// Events it gave us, stored.
    pub events_in: u64,
    /// Events it took from us.
    pub events_out: u64,
    /// Lines in hand for it.
    pub in_hand: usize,
    /// Answers that wait for their turn.
    pub held: usize,
    /// Journal positions it is behind.
    pub behind: u64,
    /// It takes less than comes in, and is read for from the journal.
    pub lagging: bool,
    /// What it wants, by its last record.
    pub interests: Interests,
    /// When it last answered or called.
    pub seen: Option<Wall>,
}

/// Where a peer stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// Told of, and not dialled lately.
    Heard,
    /// Its key answered within a day.
    Verified,
    /// A lane is being made.
    Dialling,
    /// A lane stands since this moment.
    Connected {
        /// When it was made.
        since: Mono,
    },
    /// The next dial comes at this moment.
    Backoff {
        /// When.
        until: Mono,
        /// What happened last.
        why: String,
    },
    /// Its lane broke just now; the next dial comes at this moment.
    Suspect {
        /// When.
        until: Mono,
        /// What happened.
        why: String,
    },
    /// There is nowhere to dial: it must call.
    Waiting,
    /// It came by itself, and waits for a person to accept it.
    Asking,
    /// Given up, but for a dial now and then.
    Dead {
        /// What happened last.
        why: String,
    },
    /// It said goodbye.
    Left {
        /// When it is looked for again.
        until: Mono,
    },
    /// Nothing is taken from it.
    Quarantine {
        /// When that ends.
        until: Mono,
        /// What it did.
        why: String,
    },
    /// A person blocked it.
    Blocked {
        /// The reason given; may be empty.
        why: String,
    },
}

impl PeerState {
    fn of(state: &State) -> PeerState {
        match state {
            State::Dialling { .. } => PeerState::Dialling,
            State::Connected { since, .. } => PeerState::Connected { since: *since },
            State::Suspect { until, why } => PeerState::Suspect { until: *until, why: why.clone() },
            State::Backoff { until, why } => PeerState::Backoff { until: *until, why: why.clone() },
            State::Waiting => PeerState::Waiting,
            State::Dead { why, .. } => PeerState::Dead { why: why.clone() },
            State::Asking => PeerState::Asking,
            State::Shut { until: None, why, .. } => PeerState::Blocked { why: why.clone() },
            State::Shut { until: Some(until), standing: Standing::Left, .. } => PeerState::Left { until: *until },
            State::Shut { until: Some(until), why, .. } => PeerState::Quarantine { until: *until, why: why.clone() },
        }
    }

    fn of_stranger(standing: Standing, until: Mono, why: &str) -> PeerState {
        let why = why.to_owned();
        match standing {
            Standing::Heard => PeerState::Heard,
            Standing::Verified => PeerState::Verified,
            Standing::Probing | Standing::Connected => PeerState::Dialling,
            Standing::Suspect | Standing::Backoff => PeerState::Backoff { until, why },
            Standing::Dead => PeerState::Dead { why },
            Standing::Left => PeerState::Left { until },
            Standing::Quarantine => PeerState::Quarantine { until, why },
            Standing::Asking => PeerState::Asking,
            Standing::Blocked => PeerState::Blocked { why },
        }
    }
}

/// The nodes of the book that are no peers.
pub(super) fn strangers(node: &Node, now: Now) -> Vec<PeerView> {
    let of = |(id, known): (&NodeId, &super::peers::Known)| PeerView {
        addresses: known.at.clone(),
        tier: known.tier,
        teller: known.teller,
        failures: known.tally.tries,
        interests: known.record.as_ref().map(|record| record.interests.clone()).unwrap_or_default(),
        seen: known.verified,
        ..nobody(*id, PeerState::of_stranger(known.standing(now), known.until, &known.why))
    };
    node.peers.strangers().map(of).collect()
}

/// The nodes that are not listened to and that are no peers.
pub(super) fn outcasts(node: &Node, now: Now) -> Vec<PeerView> {
    node.peers.shunned(now.wall).map(|(id, ban)| nobody(*id, PeerState::of(&ban.state(now)))).collect()
}

/// One that is no peer.
fn nobody(id: NodeId, state: PeerState) -> PeerView {
    PeerView {
        id,
        alias: None,
        addresses: Vec::new(),
        state,
        origin: Origin::Found,
        tier: Tier::Exchange,
        teller: None,
        chosen: false,
        asks: false,
        failures: 0,
        rtt: None,
        events_in: 0,
        events_out: 0,
        in_hand: 0,
        held: 0,
        behind: 0,
        lagging: false,
        interests: Interests::default(),
        seen: None,
    }
}

pub(super) fn of(node: &Node) -> View {
    let peers = node.peers.iter().map(|(id, peer)| {
        let figures = node.outbox.figures(id);
        PeerView {
            id: *id,
            alias: peer.alias.clone(),
            addresses: peer.addresses(),
            state: PeerState::of(&peer.state),
            origin: peer.origin,
            tier: peer.tier,
            teller: node.peers.teller(id),
            chosen: peer.chosen,
            asks: peer.welcome == Welcome::Asks,
            failures: peer.tally.tries,
            rtt: peer.rtt,
            events_in: peer.events_in,
            events_out: figures.taken,
            in_hand: figures.in_hand,
            held: figures.held,
            behind: figures.behind,
            lagging: figures.lagging,
            interests: peer.record.as_ref().map(|record| record.interests.clone()).unwrap_or_default(),
            seen: peer.seen,
        }
    });
    View {
        me: node.me,
        interests: node.interests.clone(),
        head: node.head(),
        appending: node.appending.len(),
        journal_full: node.appending.is_full(),
        peers: peers.collect(),
        strangers: node.peers.strangers().count(),
        alone_since: node.alone_since(),
        counts: Counts {
            expired_unsent: node.outbox.expired_unsent,
            answers_late: node.outbox.answers_late + node.tree.answers_late,
            tree: node.tree.counts,
            ..node.counts.clone()
        },
    }
}
