//! What the API answers: the JSON of 6-operations.md as types, filled in by the driver.

use serde::{Deserialize, Serialize};

use super::fault::FaultCode;
use super::tiers::TierStatus;
use crate::core::ports::Seq;
use crate::time::Wall;
use crate::wire::message::{Durability, Outcome};
use crate::wire::timestamp;
use crate::wire::{Code, Digest, NodeId, Pattern, PeerAddress, Rejection};

mod peers;

pub use peers::{Moved, Peer, PeerState, Peers, Via, Way};

/// An object of the API with a schema of its own.
pub trait Document: Serialize {
    /// `afferent.<thing>/1`.
    const SCHEMA: &'static str;
}

/// The one line of JSON that stands for a document: its schema first, then its members.
pub fn document<T: Document>(value: &T) -> String {
    #[derive(Serialize)]
    struct Tagged<'v, T> {
        schema: &'static str,
        #[serde(flatten)]
        value: &'v T,
    }
    serde_json::to_string(&Tagged { schema: T::SCHEMA, value }).expect("an answer always encodes")
}

/// One screen: how is this node? Schema `afferent.status/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Who.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// It takes events now, the bus gets them, and it is not alone; else `warnings` says why not.
    pub ready: bool,
    /// The local bus.
    pub bus: BusStatus,
    /// Peers, by number.
    pub peers: PeersStatus,
    /// What is stored.
    pub journal: JournalStatus,
    /// Where others are looked for, one for each tier.
    #[serde(default)]
    pub discovery: Vec<TierStatus>,
    /// What an operator should know, one sentence each, the worst first.
    pub warnings: Vec<String>,
    /// The software.
    pub version: String,
    /// The mesh it belongs to.
    pub network: String,
    /// Where the receptor listens.
    pub listen: Vec<std::net::SocketAddr>,
    /// What others dial, as they would paste it.
    pub addresses: Vec<PeerAddress>,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// What an acknowledgement promises.
    pub durability: Durability,
}

impl Document for Status {
    const SCHEMA: &'static str = "afferent.status/1";
}

/// Does it take events, does the bus get them, is anybody there? Schema `afferent.ready/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// The answer.
    pub ready: bool,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Why not, the worst first.
    pub warnings: Vec<String>,
}

impl Document for Ready {
    const SCHEMA: &'static str = "afferent.ready/1";
}

/// The local bus.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BusStatus {
    /// What it is.
    pub kind: BusKind,
    /// It takes events; always true for the embedded one.
    pub connected: bool,
    /// Events in the journal that the bus has not got yet.
    pub lag: u64,
    /// Where it is, without its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Why it is not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What the local bus is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BusKind {
    /// A Redis stream.
    Redis,
    /// The journal itself.
    Embedded,
}

/// Peers, by number.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PeersStatus {
    /// With a lane that stands.
    pub connected: u64,
    /// All of them.
    pub known: u64,
    /// Of these, those that came by themselves and wait for a person to accept them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub asking: u64,
}

pub(super) fn is_none(count: &u64) -> bool {
    *count == 0
}

/// What is stored.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct JournalStatus {
    /// Events.
    pub events: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Who this node is and how others reach it. Schema `afferent.id/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Who.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// The mesh it belongs to.
    pub network: String,
    /// What a friend pastes; empty while no address is known.
    pub addresses: Vec<PeerAddress>,
}

impl Document for Identity {
    const SCHEMA: &'static str = "afferent.id/1";
}

/// Who answers at an address. Schema `afferent.identified/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Identified {
    /// The address with the id that answers there.
    pub address: PeerAddress,
    /// The id alone: what both sides compare.
    pub id: NodeId,
}

impl Document for Identified {
    const SCHEMA: &'static str = "afferent.identified/1";
}

/// What we want, and who wants what from us. Schema `afferent.interests/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct InterestsView {
    /// Ours, canonical: sorted, none covered by another.
    pub patterns: Vec<Pattern>,
    /// True when they survive a restart of the daemon.
    pub lasting: bool,
    /// What the neighbours want.
    pub peers: Vec<PeerInterests>,
}

impl Document for InterestsView {
    const SCHEMA: &'static str = "afferent.interests/1";
}

/// What one neighbour wants.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PeerInterests {
    /// Who.
    pub id: NodeId,
    /// Our own name for it.
    pub alias: Option<String>,
    /// Its patterns.
    pub patterns: Vec<Pattern>,
}

/// Whom this node does not listen to, and who may send which types. Schema `afferent.trust/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TrustView {
    /// Sources whose events are dropped.
    pub muted: Vec<Muted>,
    /// In their order: the first that names source and type decides; where none does, `accept`.
    pub rules: Vec<TrustRule>,
}

impl Document for TrustView {
    const SCHEMA: &'static str = "afferent.trust/1";
}

/// A source that is muted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Muted {
    /// Who.
    pub id: NodeId,
    /// Our own name for it, when it is a peer.
    pub alias: Option<String>,
    /// It was typed; else `trust.mute` of the configuration names it.
    pub by_hand: bool,
}

/// One `[[trust.rule]]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TrustRule {
    /// Whose events: ids, or `*` alone.
    pub source: Vec<String>,
    /// Which types.
    pub types: Vec<Pattern>,
    /// `accept`, `flag`, `quarantine` or `drop`.
    pub action: String,
}

/// What became of one event that was published here. Schema `afferent.publish/1`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Published {
    /// The identity of the event everywhere; absent when it never became one.
    pub digest: Option<Digest>,
    /// Its `id` attribute; absent when it never became an event.
    pub id: Option<String>,
    /// It is durable here.
    pub stored: bool,
    /// It was durable before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
    /// Why not, as a stable word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The same as `AFnnnn`, which `afferent explain` knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// Why not, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Which line of the body was refused, or which element of its array; the first is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Milliseconds until another try makes sense; absent when none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Present and `"interval"` when the operator chose to acknowledge before the disk did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// The peers that have stored it, in the order in which they said so; only when the answer was to
    /// wait for them, and the event is new here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_by: Option<Vec<NodeId>>,
    /// Of those in `to`, whoever does not get it, as far as that is known now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreached: Vec<Unreached>,
}

/// A node that an event is addressed to, and that does not get it from here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unreached {
    /// Who.
    pub id: NodeId,
    /// Why, for people.
    pub why: String,
}

impl Document for Published {
    const SCHEMA: &'static str = "afferent.publish/1";
}

impl Published {
    /// What became of an event of ours.
    pub fn of(digest: Digest, id: &str, outcome: &Outcome, durability: Durability) -> Published {
        let known = Published { digest: Some(digest), id: Some(id.to_owned()), ..Published::default() };
        let durability = (durability == Durability::Interval).then_some(durability);
        match outcome {
            Outcome::Stored { .. } => Published { stored: true, durability, ..known },
            Outcome::Duplicate | Outcome::Uncarried => Published { stored: true, duplicate: true, durability, ..known },
            Outcome::Refused(rejection) => Published { ..known }.refused(rejection),
        }
    }

    /// What was published before under the same idempotency key.
    pub fn again(digest: Digest, id: &str, durability: Durability) -> Published {
        Published::of(digest, id, &Outcome::Duplicate, durability)
    }

    /// A line that never became an event.
    pub fn never(rejection: &Rejection) -> Published {
        Published::default().refused(rejection)
    }

    /// The same for a reason that is said better than the rejection says it.
    pub fn never_because(rejection: &Rejection, why: &str) -> Published {
        Published { why: Some(why.to_owned()), ..Published::never(rejection) }
    }

    /// With the line that it stood on, where it was refused.
    #[must_use]
    pub fn on_line(self, line: u64) -> Published {
        Published { line: self.code.map(|_| line), ..self }
    }

    fn refused(self, rejection: &Rejection) -> Published {
        Published {
            stored: false,
            code: Some(rejection.code()),
            number: Some(FaultCode::Event(rejection.code()).number().to_owned()),
            why: Some(rejection.to_string()),
            retry_after_ms: rejection.retry_after().map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            ..self
        }
    }
}

/// The round trip to a peer by its lane. Schema `afferent.ping/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Pinged {
    /// Who.
    pub id: NodeId,
    /// Our own name for it.
    pub alias: Option<String>,
    /// There and back, in milliseconds.
    pub rtt_ms: f64,
    /// Milliseconds behind other traffic of the lane.
    pub waited_ms: f64,
    /// How far its clock is ahead of ours, in milliseconds, give or take the round trip.
    pub clock_ahead_ms: i64,
}

impl Document for Pinged {
    const SCHEMA: &'static str = "afferent.ping/1";
}

/// Who would get an event of some type, were it published now. Schema `afferent.match/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Matches {
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
    /// This node wants it from others.
    pub own: bool,
    /// Everybody we know: those that would get it first.
    pub peers: Vec<Matched>,
}

impl Document for Matches {
    const SCHEMA: &'static str = "afferent.match/1";
}

/// How a question ended that was asked from the command line: the last line of `ask --json`, after the answers.
/// Schema `afferent.asked/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// The question.
    pub digest: Digest,
    /// Nodes that it was for, as far as this one knew.
    pub asked: u64,
    /// The span over which the answers came; `None` = each as it came.
    pub spread_ms: Option<u64>,
    /// Until when answers were waited for.
    #[serde(with = "moment")]
    pub deadline: Option<Wall>,
    /// Answers that arrived.
    pub answers: u64,
    /// Nodes that gave them.
    pub nodes: u64,
    /// Why no more were waited for.
    pub ended: Ended,
}

impl Document for Asked {
    const SCHEMA: &'static str = "afferent.asked/1";
}

/// Why no more answers were waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The deadline came.
    Deadline,
    /// As many came as were expected.
    Expected,
    /// Somebody interrupted it.
    Interrupted,
}

/// What one peer would get.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Matched {
    /// Who.
    pub id: NodeId,
    /// Our own name for it.
    pub alias: Option<String>,
    /// A lane to it stands; else it gets the event once one does, unless that expires before.
    pub connected: bool,
    /// It would get the event.
    pub wants: bool,
    /// Why, or why not.
    pub why: String,
}

/// How far a group of subscribers is. Schema `afferent.group/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub group: String,
    /// The last position that it acknowledged; absent before the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// The last position of the journal.
    pub head: Seq,
}

impl Document for Group {
    const SCHEMA: &'static str = "afferent.group/1";
}

/// All groups of subscribers. Schema `afferent.groups/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Groups {
    /// By name; each has acknowledged something.
    pub groups: Vec<Group>,
}

impl Document for Groups {
    const SCHEMA: &'static str = "afferent.groups/1";
}

/// How far a stream of events has come where none of the ones before was asked for: a line of it.
/// Schema `afferent.progress/1`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// Everything up to here was sent, or is nothing that was asked for.
    pub seq: Seq,
}

impl Document for Progress {
    const SCHEMA: &'static str = "afferent.progress/1";
}

/// Who has the goodbye of this node. Schema `afferent.left/1`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Left {
    /// Peers that took it.
    pub told: Vec<NodeId>,
    /// Peers that were connected and did not take it in time.
    pub missed: Vec<NodeId>,
    /// The registrar that keeps the list of nodes in the DNS; null when none is configured.
    #[serde(default)]
    pub registrar: Option<StruckOut>,
}

/// What became of a node's entry in the list of its registrar.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StruckOut {
    /// What `discovery.registrar` says.
    pub origin: String,
    /// Why this node may stand in the list still; null = it does not.
    pub why_not: Option<String>,
}

impl Document for Left {
    const SCHEMA: &'static str = "afferent.left/1";
}

/// Something that is another way now. Schema `afferent.change/1`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// When, by our clock.
    #[serde(with = "moment")]
    pub at: Option<Wall>,
    /// What.
    pub what: Changed,
    /// Whom it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<NodeId>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Milliseconds until the next try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
}

impl Document for Change {
    const SCHEMA: &'static str = "afferent.change/1";
}

/// What can change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// A lane to a peer stands.
    PeerConnected,
    /// A peer cannot be reached; the next try has a time.
    PeerBackoff,
    /// A peer said goodbye: it is not called until it comes back by itself.
    PeerLeft,
    /// A node came by itself, and waits for a person to accept it.
    PeerAsks,
    /// A peer signed two records with one number; see the log.
    PeerEquivocates,
    /// A peer takes less than comes in; the rest waits in the journal.
    PeerLagging,
    /// A peer has all that it is owed.
    PeerCaughtUp,
    /// Retention overtook a peer: some events were never sent to it.
    PeerGap,
    /// Nothing is stored or acknowledged.
    JournalFull,
    /// Events are stored again.
    JournalWell,
    /// The local bus takes events.
    BusWell,
    /// The local bus takes nothing; the journal keeps it.
    BusTrouble,
    /// The watcher was too slow: some changes are not told. Ask for the status.
    Missed,
}

/// Moments as RFC 3339.
pub(super) mod moment {
    use super::*;
    use serde::{Deserializer, Serializer, de::Error as _};

    #[expect(clippy::ref_option, reason = "the shape that serde calls")]
    pub(in crate::admin) fn serialize<S: Serializer>(moment: &Option<Wall>, serializer: S) -> Result<S::Ok, S::Error> {
        moment.map(timestamp::format).serialize(serializer)
    }

    pub(in crate::admin) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Wall>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| timestamp::parse(&text).map_err(D::Error::custom)).transpose()
    }
}
