//! What Prometheus is told: one page, made when it is asked for, of numbers that others keep anyway.
//!
//! Every name begins with `afferent_`, every label value is a word of this program: nothing that a peer
//! chose, and no peer, has a label, so no peer can make the page longer. Counters count from the start of
//! the process.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::tiers;
use super::turns::Turns;
use crate::admin::answers::{BusKind, PeerState, Status};
use crate::bus::{self, BusState, Condition};
use crate::core::View;
use crate::core::ports::{Entry, SendError};
use crate::net;
use crate::store::Stats;
use crate::wire::message::Receipt;
use crate::wire::{Code, Forbidden, NodeId};

/// What only the driver sees, and so has to count.
pub(super) struct Metrics {
    /// From an event's `time` to its arrival here, over all links.
    latency: Histogram,
    /// Events that peers took from us.
    taken: u64,
    /// What the bridge did.
    pub(super) bus: Arc<bus::Counters>,
    /// Of the journal: commits with their fsync.
    syncs: Histogram,
}

/// Everything that is looked at for one page.
pub(super) struct Seen<'a> {
    pub(super) status: &'a Status,
    pub(super) view: &'a View,
    pub(super) stats: &'a Stats,
    pub(super) net: &'a net::Counters,
    pub(super) tiers: tiers::Counts,
    pub(super) bus: Option<&'a BusState>,
    pub(super) states: &'a [PeerState],
    pub(super) muted: usize,
    pub(super) alone: bool,
    pub(super) turns: &'a Turns,
}

impl Metrics {
    pub(super) fn new(bus: Arc<bus::Counters>, syncs: Histogram) -> Metrics {
        Metrics { latency: Histogram::new(LATENCY_BUCKETS), taken: 0, bus, syncs }
    }

    /// Events on their way to the journal. Clocks differ: what seems to come from the future took no
    /// time. What is a day old tells of a peer that was away, not of links, and counts as a day.
    pub(super) fn on_append(&self, me: NodeId, entries: &[Entry]) {
        for entry in entries.iter().filter(|entry| entry.from != Some(me)) {
            let span = entry.received.since(entry.envelope.event().time);
            self.latency.observe(span.min(LATENCY_MAX).as_secs_f64());
        }
    }

    /// A peer answered a shipment.
    pub(super) fn on_sent(&mut self, result: &Result<Receipt, SendError>) {
        if let Ok(receipt) = result {
            self.taken += u64::from(receipt.stored) + u64::from(receipt.duplicate);
        }
    }

    /// The page, as OpenMetrics 1.0 text.
    pub(super) fn page(&self, seen: &Seen<'_>) -> String {
        let mut page = Page::new("afferent");
        self.node(&mut page, seen);
        self.events(&mut page, seen);
        self.journal(&mut page, seen);
        self.bridge(&mut page, seen);
        peers(&mut page, seen);
        discovery(&mut page, seen);
        callers(&mut page, seen.net);
        lanes(&mut page, seen.net);
        page.written()
    }

    fn node(&self, page: &mut Page, seen: &Seen<'_>) {
        page.build(vec![("version", seen.status.version.clone()), ("durability", durability(seen.status))]);
        page.gauge_in("uptime", "Since the start", Unit::Seconds, seen.status.uptime_s as f64);
        page.flag("ready", "1 while events are taken, the bus gets them and peers are there", seen.status.ready);
        page.flag("alone", "1 while no peer is connected though there is somebody to look for", seen.alone);
        page.gauge("warnings", "Sentences in the warnings of afferent status", seen.status.warnings.len());
        page.gauge("muted_sources", "Sources whose events are dropped", seen.muted);
    }

    fn events(&self, page: &mut Page, seen: &Seen<'_>) {
        let counts = &seen.view.counts;
        page.count("events_in", "Events of other nodes, stored", counts.received);
        page.count("events_published", "Events of this node, stored", counts.emitted);
        page.count("peer_changes", "Changes of peers that were told as events to local programs", seen.turns.told);
        let help = "Changes of peers that were too many to be told one by one";
        page.count("peer_changes_skipped", help, seen.turns.skipped);
        page.count("events_out", "Events that peers took from this node", self.taken);
        page.count("events_expired_unsent", "Events that expired before their peer took them", counts.expired_unsent);
        let help = "Duties, and lines to nodes that are no peers: taken by a delegate or by whoever wants it, given to \
                    another delegate, left to be healed, or not taken over by this node";
        let tree = counts.tree;
        let outcomes = [
            ("delegated", tree.delegated),
            ("leaf", tree.leaves),
            ("reselected", tree.reselected),
            ("unserved", tree.unserved),
            ("refused", tree.refused),
        ];
        page.counts("duties", help, "outcome", outcomes);
        let help = "Answers that were not sent before the deadline of their question";
        page.count("answers_late", help, counts.answers_late);
        let held = seen.view.peers.iter().map(|peer| peer.held).sum::<usize>();
        page.gauge("answers_held", "Answers of this node that wait for their turn", held);
        page.count("events_duplicate", "Lines of peers that were stored before", seen.net.duplicates.value());
        let rejected = Code::ALL.map(|code| (code.as_str(), seen.net.rejected(code)));
        let help = "Lines and requests of peers that were refused, by the code they were told";
        page.counts("events_rejected", help, "code", rejected);
        let help = "From the time in an event to its arrival here, 0 when that lies ahead, 86400 at most";
        page.register_in("event_latency", help, Unit::Seconds, self.latency.clone());
        page.count("signatures_checked", "Signatures of events that were checked", seen.net.verified.value());
        let help = "One check of a signature";
        page.register_in("verification", help, Unit::Seconds, seen.net.verify_seconds.histogram());
    }

    fn journal(&self, page: &mut Page, seen: &Seen<'_>) {
        let Seen { stats, view, .. } = seen;
        page.gauge("journal_entries", "Events in the journal", stats.entries);
        let help = "What counts against journal.bytes";
        page.gauge_in("journal_used", help, Unit::Bytes, stats.bytes as f64);
        page.gauge_in("journal_disk", "What its files take on the disk", Unit::Bytes, stats.bytes_on_disk as f64);
        page.gauge("journal_position", "Position of the last durable event", stats.head.0);
        page.count("journal_commits", "Commits", stats.commits);
        page.count("journal_syncs", "Commits that asked the disk", stats.syncs);
        page.register_in("journal_sync", "One commit with its fsync", Unit::Seconds, self.syncs.clone());
        page.count("journal_damaged", "Entries that could not be read back and were skipped", stats.damaged);
        page.flag("journal_full", "1 while nothing is stored or acknowledged", stats.full.is_some());
        page.gauge("journal_waiting", "Events that wait for the disk", view.appending);
    }

    fn bridge(&self, page: &mut Page, seen: &Seen<'_>) {
        let kind = match seen.status.bus.kind {
            BusKind::Redis => "redis",
            BusKind::Embedded => "embedded",
        };
        page.registry.register("bus", "What the local bus is", Info::new([("kind", kind)]));
        page.flag("bus_connected", "1 while the local bus takes and gives events", seen.status.bus.connected);
        page.gauge("bus_lag", "Journal positions not yet bridged", seen.status.bus.lag);
        let conditions: Family<[(&str, &str); 2], Gauge> = Family::default();
        let sides = [
            ("egress", seen.bus.map(|bus| &bus.egress)),
            ("intake", seen.bus.map(|bus| &bus.intake)),
            ("travel", seen.bus.map(|bus| &bus.travel)),
        ];
        for (side, condition) in sides {
            for word in ["connecting", "running", "off", "waiting", "stopped"] {
                let holds = condition.map_or("off", condition_word) == word;
                conditions.get_or_create(&[("side", side), ("condition", word)]).set(i64::from(holds));
            }
        }
        page.registry.register("bus_condition", "1 for how each direction of the bridge is", conditions);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let bus = &self.bus;
        page.count("bus_bridged", "Events appended to the streams", count(&bus.bridged));
        page.count("bus_flagged", "Of these, events that a trust rule doubts", count(&bus.flagged));
        page.count("bus_quarantined", "Events that a trust rule sent to the dead letters", count(&bus.quarantined));
        page.count("bus_skipped", "Events that are not for the bus", count(&bus.skipped));
        page.count("bus_lost", "Positions that retention dropped before they were bridged", count(&bus.lost));
        page.count("bus_published", "Entries of outbox and bus that became events", count(&bus.published));
        page.count("bus_duplicates", "Entries of outbox and bus that were events already", count(&bus.duplicates));
        page.count("bus_dead", "Events and entries that went to the dead letters for what they are", count(&bus.dead));
        page.count("bus_unread", "Entries trimmed before a group of readers read them", count(&bus.unread));
        page.count("bus_troubles", "Troubles with Redis, each try counted", count(&bus.troubles));
    }
}

/// All of them together: no peer has a label.
fn peers(page: &mut Page, seen: &Seen<'_>) {
    let of = |state: PeerState| seen.states.iter().filter(|other| **other == state).count();
    let states = [
        ("connected", of(PeerState::Connected)),
        ("probing", of(PeerState::Probing)),
        ("backoff", of(PeerState::Backoff)),
        ("heard", of(PeerState::Heard)),
        ("suspect", of(PeerState::Suspect)),
        ("dead", of(PeerState::Dead)),
        ("left", of(PeerState::Left)),
        ("quarantine", of(PeerState::Quarantine)),
        ("asking", of(PeerState::Asking)),
        ("blocked", of(PeerState::Blocked)),
    ];
    page.gauges("peers", "Peers by how things stand with them", "state", states);
    let peers = &seen.view.peers;
    page.gauge("peers_lagging", "Peers that take less than comes in", peers.iter().filter(|peer| peer.lagging).count());
    let behind = peers.iter().map(|peer| peer.behind);
    page.gauge("peers_behind", "Journal positions that all peers together are behind", behind.clone().sum::<u64>());
    page.gauge("peers_behind_most", "The same of the one that is behind most", behind.max().unwrap_or(0));
    let round_trips: Vec<f64> = peers.iter().filter_map(|peer| peer.rtt).map(|rtt| rtt.as_secs_f64()).collect();
    let longest = round_trips.into_iter().fold(0.0, f64::max);
    page.gauge_in("peers_round_trip_longest", "The longest round trip to a peer", Unit::Seconds, longest);
}

/// What strangers say of others, and where it was not believed.
fn discovery(page: &mut Page, seen: &Seen<'_>) {
    let Seen { net, tiers, view, .. } = seen;
    let ignored = net.records_ignored.value() + view.counts.records_ignored;
    page.count("records_ignored", "Records of others that were told and are of no use", ignored);
    let sync = view.counts.sync;
    page.count("sync_runs", "Times that a neighbour was asked to the end what it has that this node lacks", sync.runs);
    page.count("sync_runs_failed", "Times without an end: refused, broken off, or against the rules", sync.failed);
    page.count("sync_rounds", "Frames that were sent in those that came to their end", sync.rounds);
    page.count_in("sync_frames", "These frames and their answers", Unit::Bytes, sync.bytes);
    page.count("sync_records", "Records that came by it and are kept", sync.gained);
    page.count("sync_answered", "Frames of neighbours that were answered", net.frames.value());
    page.count("sync_lines_given", "Records given to neighbours that lacked them", net.lines_given.value());
    let failed = [("dns", tiers.dns_failed), ("seed", tiers.seeds_failed)];
    page.counts("lookups_failed", "Zones and lists of seeds that brought nothing when asked", "tier", failed);
    page.count("zone_entries_ignored", "Entries of zones that are of no use", tiers.ignored);
    page.count("zone_addresses_refused", "Addresses in zones that may not be dialled", tiers.refused);
    page.count("dials", "Addresses that were dialled, whether anybody answered or not", net.dialled.value());
    let forbidden = Forbidden::WORDS.map(|word| (word, net.forbidden(word)));
    let help = "Addresses that were to be dialled and were not, by what the address policy has against them";
    page.counts("dials_forbidden", help, "reason", forbidden);
}

/// Whoever calls a receptor, that of a registrar too.
pub(super) fn callers(page: &mut Page, net: &net::Counters) {
    let open = net.let_in.value().saturating_sub(net.ended.value());
    page.gauge("connections", "Callers that are connected", open);
    page.count("connections_accepted", "Callers that came", net.accepted.value());
    let closed = [
        ("limit", net.turned_away.value()),
        ("handshake", net.handshakes_failed.value()),
        ("deadline", net.timed_out.value()),
        ("flood", net.flooded.value()),
    ];
    page.counts("connections_refused", "Callers that were turned away or cut, by the reason", "reason", closed);
    page.count("accept_errors", "Times that no connection could be accepted", net.accept_errors.value());
    page.count("requests", "Requests of callers", net.requests.value());
    page.count("requests_refused", "Of these, refused for what they were", net.refused.value());
    page.count("requests_overloaded", "Of these, told to come later: this node was behind", net.overloaded.value());
}

fn lanes(page: &mut Page, net: &net::Counters) {
    page.count("lines", "Events in requests of peers, good or not", net.lines.value());
    page.count_in("request_body", "Bodies of requests", Unit::Bytes, net.body_bytes.value());
    page.count("lanes_connected", "Connections to peers that stood", net.lanes_connected.value());
    page.count("lanes_broken", "Connections to peers that broke or never stood", net.lanes_broken.value());
    page.count("lines_sent", "Events sent to peers, each try counted", net.lines_sent.value());
}

fn durability(status: &Status) -> String {
    match status.durability {
        crate::wire::message::Durability::Fsync => "fsync".to_owned(),
        crate::wire::message::Durability::Interval => "interval".to_owned(),
    }
}

fn condition_word(condition: &Condition) -> &'static str {
    match condition {
        Condition::Connecting => "connecting",
        Condition::Running => "running",
        Condition::Off => "off",
        Condition::Waiting { .. } => "waiting",
        Condition::Stopped { .. } => "stopped",
    }
}

/// A page in the making.
pub(super) struct Page {
    registry: Registry,
}

impl Page {
    /// Every name on it begins with `prefix`.
    pub(super) fn new(prefix: &str) -> Page {
        Page { registry: Registry::with_prefix(prefix) }
    }

    /// As OpenMetrics 1.0 text.
    pub(super) fn written(&self) -> String {
        let mut written = String::new();
        text::encode(&mut written, &self.registry).expect("a string takes everything");
        written
    }

    /// The software, with more that never changes.
    pub(super) fn build(&mut self, labels: Vec<(&'static str, String)>) {
        self.registry.register("build", "The software", Info::new(labels));
    }

    fn register_in(
        &mut self,
        name: &str,
        help: &str,
        unit: Unit,
        metric: impl EncodeMetric + Debug + Send + Sync + 'static,
    ) {
        self.registry.register_with_unit(name, help, unit, metric);
    }

    pub(super) fn count(&mut self, name: &str, help: &str, value: u64) {
        self.registry.register(name, help, ConstCounter::new(value));
    }

    fn count_in(&mut self, name: &str, help: &str, unit: Unit, value: u64) {
        self.register_in(name, help, unit, ConstCounter::new(value));
    }

    pub(super) fn counts(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        rows: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let family: Family<[(&str, &str); 1], prometheus_client::metrics::counter::Counter> = Family::default();
        for (word, value) in rows {
            family.get_or_create(&[(label, word)]).inc_by(value);
        }
        self.registry.register(name, help, family);
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl TryInto<i64>) {
        self.registry.register(name, help, ConstGauge::new(value.try_into().unwrap_or(i64::MAX)));
    }

    pub(super) fn gauge_in(&mut self, name: &str, help: &str, unit: Unit, value: f64) {
        self.register_in(name, help, unit, ConstGauge::new(value));
    }

    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        rows: [(&'static str, usize); N],
    ) {
        let family: Family<[(&str, &str); 1], Gauge> = Family::default();
        for (word, value) in rows {
            family.get_or_create(&[(label, word)]).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.registry.register(name, help, family);
    }

    pub(super) fn flag(&mut self, name: &str, help: &str, holds: bool) {
        self.gauge(name, help, i64::from(holds));
    }
}

/// From a hop on one machine to a peer that was away for hours.
const LATENCY_BUCKETS: [f64; 14] =
    [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, 3_600.0];
/// What took longer counts as this long.
pub const LATENCY_MAX: Duration = Duration::from_secs(86_400);
