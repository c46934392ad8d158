//! Every limit of the protocol, with its reason. Each queue names its bound here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::trust::Rule;
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
    /// Who may send which types, at most [`super::trust::RULES_MAX`]: the first that fits decides.
    pub rules: Arc<[Rule]>,
    /// Who may subscribe to everything; manual peers may in any case.
    pub firehose: BTreeSet<NodeId>,
    /// Events waiting for the disk. More costs memory and only delays the refusal: at 20 k events/s
    /// and 4 ms a commit 80 are waiting.
    pub appending_max: usize,
    /// Bytes of events waiting for the disk.
    pub appending_bytes_max: usize,
    /// Events in flight to one peer, and as many queued behind them; beyond that it is served from
    /// the journal. Also the size of one `Scan`, so that a page always fits the queue.
    pub peer_queue_max: usize,
    /// The same in bytes of lines; a body of `/events` may not be larger than 1 MiB.
    pub peer_queue_bytes_max: usize,
    /// Peers with a durable cursor, all manual ones counted.
    pub peers_max: usize,
    /// Longest wait between two dials of a peer that came by itself.
    pub backoff_max: Duration,
    /// The same for a manual peer: somebody typed it in and waits for it.
    pub backoff_manual_max: Duration,
    /// A lane that stood this long starts its backoff anew when it breaks.
    pub steady_after: Duration,
    /// Settled events of a peer after which its cursor is saved.
    pub cursor_every: u64,
    /// Time after which a moved cursor is saved all the same.
    pub cursor_delay: Duration,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            profile: Profile::Public,
            allow: BTreeSet::new(),
            mute: BTreeSet::new(),
            rules: Arc::default(),
            firehose: BTreeSet::new(),
            appending_max: 4_096,
            appending_bytes_max: 16 << 20,
            peer_queue_max: 64,
            peer_queue_bytes_max: 1 << 20,
            peers_max: 64,
            backoff_max: Duration::from_secs(15 * 60),
            backoff_manual_max: Duration::from_secs(30),
            steady_after: Duration::from_secs(10),
            cursor_every: 256,
            cursor_delay: Duration::from_secs(1),
        }
    }
}

/// Refusals remembered in [`REMEMBERED_EVERY`]: with some 60 bytes each for up to seven days they take
/// 40 MiB of disk at most. Beyond it the same bytes get the same answer after another look.
pub const REMEMBERED_MAX: usize = 4_096;
/// See [`REMEMBERED_MAX`].
pub const REMEMBERED_EVERY: Duration = Duration::from_secs(3_600);
/// Events whose takers are told at once; of more nobody is told.
pub const WATCHED_MAX: usize = 1_024;
/// Lines we take in one body, by the wire format.
pub const CREDIT_MAX: u32 = 256;
/// What a sender is told to wait when the disk is behind.
pub const RETRY_BUSY: Duration = Duration::from_millis(500);
/// What a sender is told to wait when the disk is full.
pub const RETRY_FULL: Duration = Duration::from_secs(5);
/// How long a peer that took no line at all (credit 0) is left alone.
pub const RETRY_NO_CREDIT: Duration = Duration::from_millis(500);
/// Least and most that a peer's "later" counts for.
pub const RETRY_LEAST: Duration = Duration::from_millis(100);
/// See [`RETRY_LEAST`].
pub const RETRY_MOST: Duration = Duration::from_secs(60);
/// Wait before a line that the peer calls `future` is offered again.
pub const RETRY_FUTURE: Duration = Duration::from_secs(60);
/// Pause after the journal could not be read for a peer.
pub const RETRY_SCAN: Duration = Duration::from_secs(1);
/// New peers that came by themselves: this many at once, and one more every so often. Each costs a
/// write of the peer file and a dial (3-discovery.md, tier 2).
pub const NEWCOMERS_MAX: u32 = 64;
/// See [`NEWCOMERS_MAX`].
pub const NEWCOMER_EVERY: Duration = Duration::from_secs(10);
/// A peer that had a lane once is not dropped for a newcomer before it was away this long: whatever is
/// owed to it has expired by then.
pub const AWAY_MAX: Duration = crate::wire::event::LIFETIME_MAX;
/// The peer file is written this often at most for what may be lost in a crash.
pub const SAVE_PAUSE: Duration = Duration::from_secs(1);
/// A jump of the wall clock by more than this is not believed before it stood for a day: until then
/// nothing counts as expired by it.
pub const JUMP_MAX: Duration = Duration::from_secs(120);
/// See [`JUMP_MAX`].
pub const JUMP_BELIEVED_AFTER: Duration = Duration::from_secs(86_400);
/// Shortest time between two dials of one peer, whoever asks for the second.
pub const DIAL_PAUSE: Duration = Duration::from_secs(1);
/// Introductions under way at once: dials of addresses whose key is not known or to be proved.
pub const INTRODUCTIONS_MAX: usize = 4;
