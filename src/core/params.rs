//! Every limit of the protocol, with its reason. Each queue names its bound here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::trust::Rule;
use crate::wire::{HostPort, NodeId, Profile};

/// What the operator can say, and the limits that tests may tighten.
#[derive(Clone, Debug)]
pub struct Params {
    /// Which addresses learned from others may be dialled.
    pub profile: Profile,
    /// What becomes of a node that comes by itself.
    pub accept: Accept,
    /// Where this node listens, and is by its configuration. Nobody else is ever dialled there.
    pub own: BTreeSet<HostPort>,
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
    /// Connections of our own choice that are looked for, manual ones counted; 0 = none.
    pub min_peers: usize,
    /// Which ways to find peers are used.
    pub tiers: Tiers,
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
            accept: Accept::Open,
            own: BTreeSet::new(),
            allow: BTreeSet::new(),
            mute: BTreeSet::new(),
            rules: Arc::default(),
            firehose: BTreeSet::new(),
            appending_max: 4_096,
            appending_bytes_max: 16 << 20,
            peer_queue_max: 64,
            peer_queue_bytes_max: 1 << 20,
            peers_max: 64,
            min_peers: 8,
            tiers: Tiers::default(),
            backoff_max: Duration::from_secs(15 * 60),
            backoff_manual_max: Duration::from_secs(30),
            steady_after: Duration::from_secs(10),
            cursor_every: 256,
            cursor_delay: Duration::from_secs(1),
        }
    }
}

/// What becomes of a node that nobody typed in, that `allow` does not name, and that calls on us. One that this
/// node finds by itself and chooses is not asked about: the tiers that lead to it were turned on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Accept {
    /// It is a neighbour at once.
    #[default]
    Open,
    /// It waits until a person accepts it: it may exchange records and give events, and is sent none.
    Ask,
}

/// The ways to find peers that an operator turns on. With none of them peers are those that were typed in,
/// and those that come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tiers {
    /// Zones of the DNS.
    pub dns: bool,
    /// Neighbours are asked whom they know.
    pub exchange: bool,
    /// The list that comes with the release.
    pub seeds: bool,
}

impl Tiers {
    /// Is anybody looked for at all?
    pub fn is_any_on(self) -> bool {
        self.dns || self.exchange || self.seeds
    }
}

/// Refusals remembered in [`REMEMBERED_EVERY`]: with some 60 bytes each for up to seven days they take
/// 40 MiB of disk at most. Beyond it the same bytes get the same answer after another look.
pub const REMEMBERED_MAX: usize = 4_096;
/// See [`REMEMBERED_MAX`].
pub const REMEMBERED_EVERY: Duration = Duration::from_secs(3_600);
/// Answers that wait for their turn, for one peer; of more, and of more bytes than its queue holds, each is
/// sent as it comes. Only whoever asks so many questions at once loses the spread by it.
pub const HELD_ANSWERS_MAX: usize = 256;
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
pub const JUMP_BELIEVED_AFTER: Duration = DAY;
/// Peers whose telling of others is counted one by one: more than can be in the table, and of a full
/// count those that owe nothing are forgotten first.
pub const TELLERS_MAX: usize = 2_048;
/// Records are asked for this often, give or take a quarter.
pub const EXCHANGE_EVERY: Duration = Duration::from_secs(60);
/// The view is repaired this often, with one neighbour each time, give or take a fifth: a record lives for a day
/// and is signed anew twice in it, so what is missed is missed for minutes.
pub const RECONCILE_EVERY: Duration = Duration::from_secs(300);
/// Pause after a run that could not want all there was.
pub const RECONCILE_ON: Duration = Duration::from_secs(10);
/// How long a neighbour is left alone that does not reconcile by the rules.
pub const RECONCILE_REST: Duration = Duration::from_secs(3_600);
/// The same of one that is busy.
pub const RECONCILE_BUSY: Duration = Duration::from_secs(60);
/// A run that a device owes for so long is given up.
pub const RUN_MAX: Duration = Duration::from_secs(120);
/// What neighbours are answered from is this old at most.
pub const SNAPSHOT_KEPT: Duration = Duration::from_secs(10);
/// A day.
pub const DAY: Duration = Duration::from_secs(86_400);
/// Shortest time between two dials of one peer, whoever asks for the second.
pub const DIAL_PAUSE: Duration = Duration::from_secs(1);
/// Introductions under way at once: dials of addresses whose key is not known or to be proved.
pub const INTRODUCTIONS_MAX: usize = 4;
/// Addresses that wait for an introduction; of more a later answer of their tier brings them again.
pub const INTRODUCTIONS_WAITING_MAX: usize = 32;
/// Nodes taken from one answer of a tier (3-discovery.md, "take ≤ 32").
pub const FINDS_MAX: usize = 32;
/// An answer that a device owes for so long is given up; the tier is asked again.
pub const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Dials of nodes that are in the book alone, under way at once.
pub const PROBES_MAX: usize = 8;
/// Nodes in the book with one and the same address.
pub const IDS_PER_HOST_MAX: usize = 2;
/// Nodes in the book from one IPv4 /24 or IPv6 /48.
pub const IDS_PER_BLOCK_MAX: usize = 10;
/// Addresses kept of one node; as many as a record may name.
pub const PLACES_MAX: usize = crate::wire::record::ADDRESSES_MAX;
/// Addresses remembered as wrong for one node.
pub const STRUCK_MAX: usize = 8;
/// Changes remembered of one node.
pub const HISTORY_MAX: usize = 16;
/// Longest pause between two dials while nobody answers at all: then it is our own network that is down.
pub const OUTAGE_RETRY_MAX: Duration = Duration::from_secs(25);
/// A peer whose steady lane broke is a suspect for so long, and dialled at once.
pub const SUSPECT_FOR: Duration = Duration::from_secs(30);
/// Longest pause between two dials of a suspect.
pub const SUSPECT_RETRY_MAX: Duration = Duration::from_secs(4);
/// For so long an answer proves that a node is there; only such nodes are told of to others.
pub const VERIFIED_FOR: Duration = DAY;
/// A node of *tried* that answered this lately does not give way to another.
pub const SETTLED_FOR: Duration = Duration::from_secs(4 * 3_600);
/// Failures after which a node that never answered is dead.
pub const NEVER_FAILURES_MAX: u32 = 3;
/// Failures after which a node that answered once is dead, if it was away for [`AWAY_MAX`] too.
pub const FAILURES_MAX: u32 = 10;
/// A node that was not there for so long is forgotten.
pub const PURGE_AFTER: Duration = DAY.saturating_mul(30);
/// Dead nodes, and such as are in backoff, dialled in one round: what heals a partition.
pub const HEAL_DIALS: usize = 2;
/// Shortest and longest time between two rounds of them.
pub const HEAL_EVERY: (Duration, Duration) = (Duration::from_secs(65), Duration::from_secs(125));
/// Mean time between two feelers: dials that only learn whether a node is there.
pub const FEELER_EVERY: Duration = Duration::from_secs(120);
/// The same while fewer than [`FEW_VERIFIED`] nodes are known to be there.
pub const FEELER_HURRY: Duration = Duration::from_secs(5);
/// See [`FEELER_HURRY`].
pub const FEW_VERIFIED: usize = 4;
/// Pause after nobody was found to dial.
pub const PICK_PAUSE: Duration = Duration::from_secs(1);
/// When seeds are asked for the first time, if no connection stands by then.
pub const SEEDS_AFTER: Duration = Duration::from_secs(3);
/// The same when one stands, and more are wanted: what other tiers name may all be one liar's.
pub const SEEDS_LATER: Duration = Duration::from_secs(30);
/// When the DNS is asked for the first time by a node that knows enough nodes to begin with.
pub const DNS_LATER: Duration = Duration::from_secs(11);
/// First and longest of the growing spans in which a tier is asked again at some moment.
pub const LOOKUP_EVERY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// Shortest time between two questions to one tier.
pub const LOOKUP_PAUSE: Duration = Duration::from_secs(5);
/// Connections that are dialled first by the next life of this node.
pub const ANCHORS_MAX: usize = 2;
/// Nodes told of by one teller that turned out to be somebody else; then it is in quarantine.
pub const MISTAKES_MAX: u32 = 8;
/// A node that nobody is connected to for so long, and that has anybody to look for, is not ready. Until
/// then the DNS has answered or failed (6 s), the seeds were asked (3 s) and every peer was dialled five times
/// (1 + 2 + 4 + 8 + 16 s at most between them). When its own network was away, it dials again within
/// [`OUTAGE_RETRY_MAX`]. And a node that only calls on us, and is not to be dialled, asks for records every
/// 75 s at the latest ([`EXCHANGE_EVERY`]): that is company, too.
pub const ALONE_AFTER: Duration = Duration::from_secs(90);
/// How long a quarantine lasts.
pub const QUARANTINE: Duration = DAY;
/// Nodes in quarantine at once, some 100 bytes each; as many as have a record remembered. Beyond it the
/// one that ends first is forgotten.
pub const QUARANTINED_MAX: usize = 8_192;
/// Nodes blocked by hand. Who wants more of it names in `trust.allow` whom to listen to.
pub const BLOCKED_MAX: usize = 1_024;
/// Characters of the reason that a person gives for it.
pub const REASON_MAX: usize = 200;
/// How long a goodbye counts. No record lives longer ([`crate::wire::record::RECORD_LIFETIME`]), so every
/// older one has expired by then.
pub const LEFT_FOR: Duration = DAY;
/// The book is written this often at most.
pub const BOOK_PAUSE: Duration = Duration::from_secs(60);
/// Nodes that one node serves by itself for one event; of more, delegates serve theirs. A tree over fewer would
/// save nothing: sixteen buckets a row cost as many lines.
pub const DIRECT_MAX: usize = 64;
/// Bytes that it sends for that: 2 KiB to a thousand nodes would be two seconds of a 10 Mbit/s uplink.
pub const DIRECT_BYTES_MAX: usize = 256 << 10;
/// What a line costs beside its own bytes: headers of HTTP/2, TLS, TCP and IP, and the answer.
pub const LINE_OVERHEAD: usize = 600;
/// Lines that are owed by the tree and not taken yet; what is more is left to the ring.
pub const TASKS_MAX: usize = 65_536;
/// Lines of those that one node that is no peer has not taken yet: whoever is away, or is made up, fills no more.
pub const LEAVES_MAX: usize = 64;
/// Delegates that are asked to carry one bucket, one after the other.
pub const DELEGATES_MAX: usize = 8;
/// Shortest and longest wait for a delegate's answer.
pub const ACK_LEAST: Duration = Duration::from_millis(250);
/// See [`ACK_LEAST`].
pub const ACK_MOST: Duration = Duration::from_secs(2);
/// A commit that takes so long is slow: a delegate is granted twice as much before another is asked.
pub const APPEND_LATE: Duration = Duration::from_millis(5);
/// The same wait where a lane has to be made first.
pub const DIAL_WAIT: Duration = Duration::from_secs(1);
/// New choices of a delegate in ten seconds: one in so many delegations...
pub const REDELEGATED_SHARE: u64 = 10;
/// ...and no fewer than this.
pub const REDELEGATED_LEAST: u64 = 16;
/// Beyond them a bucket waits so long for whoever was asked, and is then left to the ring.
pub const REDELEGATE_WAIT: Duration = Duration::from_secs(2);
/// First and longest pause before a leaf that did not take a line is offered it again.
pub const LEAF_RETRY: Duration = Duration::from_secs(1);
/// See [`LEAF_RETRY`].
pub const LEAF_RETRY_MOST: Duration = Duration::from_secs(60);
/// How long somebody else's event is carried, and how old one may be that a restart carries on. Nodes catch up by
/// themselves over the same span.
pub const RESUMED_FOR: Duration = Duration::from_secs(600);
/// Events in hand beyond which a restart reads on no further.
pub const RESUMED_MAX: usize = 256;
/// When a restart begins with it: first its neighbours, then its duties.
pub const RESUME_AFTER: Duration = Duration::from_secs(2);
/// A node known for so long is preferred as a delegate: whoever makes up ids has to wait.
pub const KNOWN_LONG: Duration = Duration::from_secs(3_600);
/// Nodes of a bucket to which no lane stands, that are looked at as delegates.
pub const SAMPLED_MAX: usize = 8;
/// Events of which it is remembered what duty was done, for [`DUTIES_KEPT_FOR`].
pub const DUTIES_MAX: usize = 65_536;
/// See [`DUTIES_MAX`].
pub const DUTIES_KEPT_FOR: Duration = RESUMED_FOR;
/// Bytes that one neighbour's duties may make us send at once...
pub const DUTY_BYTES_MAX: u64 = 64 << 20;
/// ...and in every second.
pub const DUTY_BYTES_PER_S: u64 = 4 << 20;
/// Lanes to nodes that are no peers, some 64 KiB each.
pub const LINKS_MAX: usize = 256;
/// Such a lane ends when nothing was sent on it for so long.
pub const LINK_IDLE: Duration = Duration::from_secs(600);
/// How often that is looked at.
pub const LINK_TIDY: Duration = Duration::from_secs(60);
/// Longest pause between two dials of such a node.
pub const LINK_RETRY_MOST: Duration = Duration::from_secs(60);
/// Nodes whose living record is held: everybody, in a mesh of 100 000. Beyond it whoever brought the most loses
/// his oldest.
pub const ROSTER_MAX: usize = 131_072;
/// Types whose crowd is remembered: as many as a busy mesh talks of. At 100 000 nodes one is 12 KiB at most.
pub const CROWDS_MAX: usize = 1_024;
