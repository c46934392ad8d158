//! Every limit of the protocol, with its reason. Each queue names its bound here.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::wire::{NodeId, Profile};

/// What the operator can say, and the limits that tests may tighten.
#[derive(Clone, Debug)]
pub struct Params {
    /// Which addresses learned from others may be dialled.
    pub profile: Profile,
    /// Non-empty: a private mesh; events by any other source and calls of any other node are refused.
    pub allow: BTreeSet<NodeId>,
    /// Sources whose events are dropped.
    pub mute: BTreeSet<NodeId>,
    /// Who may subscribe to everything; manual peers may in any case.
    pub firehose: BTreeSet<NodeId>,
    /// Events waiting for the disk. More costs memory and only delays the refusal: at 20 k events/s
    /// and 4 ms a commit 80 are waiting.
    pub appending_max: usize,
    /// Bytes of events waiting for the disk.
    pub appending_bytes_max: usize,
    /// Events queued or in flight for one peer; beyond that it is served from the journal.
    pub peer_queue_max: usize,
    /// Bytes queued or in flight for one peer.
    pub peer_queue_bytes_max: usize,
    /// Entries looked at in one `Scan`.
    pub scan_entries_max: usize,
    /// Peers with a durable cursor, all manual ones counted.
    pub peers_max: usize,
    /// Longest wait between two dials of a peer that came by itself.
    pub backoff_max: Duration,
    /// The same for a manual peer: somebody typed it in and waits for it.
    pub backoff_manual_max: Duration,
    /// Settled events of a peer after which its cursor is saved.
    pub cursor_every: u32,
    /// Time after which a moved cursor is saved all the same.
    pub cursor_delay: Duration,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            profile: Profile::Public,
            allow: BTreeSet::new(),
            mute: BTreeSet::new(),
            firehose: BTreeSet::new(),
            appending_max: 4_096,
            appending_bytes_max: 16 << 20,
            peer_queue_max: 64,
            peer_queue_bytes_max: 1 << 20,
            scan_entries_max: 256,
            peers_max: 64,
            backoff_max: Duration::from_secs(15 * 60),
            backoff_manual_max: Duration::from_secs(30),
            cursor_every: 256,
            cursor_delay: Duration::from_secs(1),
        }
    }
}

/// Lines we take in one body, by the wire format.
pub const CREDIT_MAX: u32 = 256;
/// What a sender is told to wait when the disk is behind.
pub const RETRY_BUSY: Duration = Duration::from_millis(500);
/// What a sender is told to wait when the disk is full.
pub const RETRY_FULL: Duration = Duration::from_secs(5);
