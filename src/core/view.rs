//! What people may look at: a copy, never a handle.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Node;
use super::peers::State;
use super::ports::{Origin, Seq};
use crate::time::{Mono, Wall};
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
    /// Refused by the core or the journal.
    pub refused: BTreeMap<Code, u64>,
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
    /// Everybody we know.
    pub peers: Vec<PeerView>,
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
    /// The last round trip.
    pub rtt: Option<Duration>,
    /// Events it gave us, stored.
    pub events_in: u64,
    /// Events it took from us.
    pub events_out: u64,
    /// Lines in hand for it.
    pub in_hand: usize,
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
    /// There is nowhere to dial: it must call.
    Waiting,
}

pub(super) fn of(node: &Node) -> View {
    let peers = node.peers.iter().map(|(id, peer)| {
        let figures = node.outbox.figures(id);
        PeerView {
            id: *id,
            alias: peer.alias.clone(),
            addresses: peer.addresses(),
            state: match &peer.state {
                State::Dialling { .. } => PeerState::Dialling,
                State::Connected { since, .. } => PeerState::Connected { since: *since },
                State::Backoff { until, why } => PeerState::Backoff { until: *until, why: why.clone() },
                State::Waiting => PeerState::Waiting,
            },
            origin: peer.origin,
            rtt: peer.rtt,
            events_in: peer.events_in,
            events_out: figures.taken,
            in_hand: figures.in_hand,
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
        counts: Counts { expired_unsent: node.outbox.expired_unsent, ..node.counts.clone() },
    }
}
