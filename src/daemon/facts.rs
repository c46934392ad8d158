//! What people see of this node that the core does not know: filled in once at start, or read from
//! the devices at the moment of asking.

use std::net::SocketAddr;

use tokio::sync::watch;

use super::clock::Clock;
use super::reload::Reading;
use crate::admin::answers::{
    BusKind, BusStatus, Identity, InterestsView, JournalStatus, Peer, PeerInterests, PeerState, Peers, PeersStatus,
    Status, Via, Way,
};
use crate::bus::{BusState, Condition, StreamState};
use crate::core::ports::Origin;
use crate::core::tier::Tier;
use crate::core::{PeerView, Standing, View};
use crate::store::Stats;
use crate::time::Mono;
use crate::wire::message::Durability;
use crate::wire::{HostPort, Network, NodeId, PeerAddress, Profile};

/// Fixed at start, but for what a new configuration may change.
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) network: Network,
    pub(super) profile: Profile,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) durability: Durability,
    pub(super) bus: Bus,
    pub(super) started: Mono,
    pub(super) peers_max: usize,
    pub(super) rate: crate::config::Rate,
    /// The patterns of the configuration: a change by command line lasts while these stay.
    pub(super) configured: crate::wire::Interests,
    /// What became of the last reading of the configuration.
    pub(super) reading: Reading,
}

/// The local bus.
pub(super) enum Bus {
    Embedded,
    Redis {
        /// Without its password.
        place: String,
        state: watch::Receiver<BusState>,
    },
}

impl Bus {
    /// How it is, as that changes; `None` for the embedded one, which is always well.
    pub(super) fn states(&self) -> Option<watch::Receiver<BusState>> {
        match self {
            Bus::Embedded => None,
            Bus::Redis { state, .. } => Some(state.clone()),
        }
    }
}

impl Facts {
    pub(super) fn identity(&self, me: NodeId, addresses: &[HostPort]) -> Identity {
        Identity {
            id: me,
            name: self.name.clone(),
            network: self.network.as_str().to_owned(),
            addresses: pasteable(me, addresses),
        }
    }

    pub(super) fn status(&self, view: &View, stats: &Stats, addresses: &[HostPort], clock: &Clock) -> Status {
        let connected = view.peers.iter().filter(|peer| state_of(peer) == PeerState::Connected).count();
        let alone = view.alone_for(clock.mono());
        let mut warnings = self.warnings(view, stats, addresses, alone.is_some());
        if let Some(span) = alone {
            warnings.insert(usize::from(stats.full.is_some()), alone_sentence(view, span));
        }
        let bus = self.bus_status();
        Status {
            id: view.me,
            name: self.name.clone(),
            ready: stats.full.is_none() && bus.connected && alone.is_none(),
            bus,
            peers: PeersStatus {
                connected: connected as u64,
                known: view.peers.len() as u64,
                asking: view.peers.iter().filter(|peer| peer.asks).count() as u64,
            },
            journal: JournalStatus { events: stats.entries, bytes: stats.bytes_on_disk },
            discovery: Vec::new(),
            warnings,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: self.network.as_str().to_owned(),
            listen: self.listen.clone(),
            addresses: pasteable(view.me, addresses),
            uptime_s: clock.mono().since(self.started).as_secs(),
            durability: self.durability,
        }
    }

    /// How the bridge is; `None` without one.
    pub(super) fn bus_state(&self) -> Option<BusState> {
        match &self.bus {
            Bus::Embedded => None,
            Bus::Redis { state, .. } => Some(state.borrow().clone()),
        }
    }

    fn bus_status(&self) -> BusStatus {
        let Bus::Redis { place, state } = &self.bus else {
            return BusStatus { kind: BusKind::Embedded, connected: true, lag: 0, url: None, why: None };
        };
        let state = state.borrow();
        let trouble = [&state.egress, &state.intake, &state.travel].into_iter().find_map(trouble);
        BusStatus {
            kind: BusKind::Redis,
            connected: state.is_well(),
            lag: state.lag,
            url: Some(place.clone()),
            why: trouble.or_else(|| (!state.is_well()).then(|| String::from("connecting"))),
        }
    }

    fn warnings(&self, view: &View, stats: &Stats, addresses: &[HostPort], is_alone: bool) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(why) = &stats.full {
            warnings.push(format!("nothing is stored or acknowledged: {why}"));
        }
        if let Bus::Redis { place, state } = &self.bus {
            let state = state.borrow();
            let streams = state.streams.iter().map(|stream| &stream.condition);
            for condition in streams.chain([&state.egress]) {
                if let Some(why) = trouble(condition) {
                    warnings.push(format!("the bus at {place} gets nothing now, the journal keeps it: {why}"));
                }
            }
            for condition in [&state.intake, &state.travel] {
                if let Some(why) = trouble(condition) {
                    warnings.push(format!("what programs publish through the bus at {place} waits there: {why}"));
                }
            }
            for stream in &state.streams {
                warnings.extend(readers(stream));
            }
        }
        warnings.extend(self.reading.warnings());
        if stats.damaged > 0 {
            warnings.push(format!("{} damaged journal entries were skipped: check the disk", stats.damaged));
        }
        if self.durability == Durability::Interval {
            warnings.push("durability = \"interval\": a power loss may take the last second".to_owned());
        }
        if addresses.is_empty() {
            warnings.push(
                "no address to be dialled at is known yet: set node.addresses, or wait for the first peer".to_owned(),
            );
        }
        if view.peers.is_empty() && !is_alone {
            warnings.push("no peers: afferent peers add mesh://<id>@host:port".to_owned());
        } else if view.alone_since.is_some() && !is_alone {
            warnings.push("no peer is connected: afferent peers says why".to_owned());
        }
        warnings.dedup();
        warnings
    }

    pub(super) fn interests(&self, view: &View, lasting: bool) -> InterestsView {
        let wants = |peer: &PeerView| PeerInterests {
            id: peer.id,
            alias: peer.alias.clone(),
            patterns: peer.interests.patterns().to_vec(),
        };
        InterestsView {
            patterns: view.interests.patterns().to_vec(),
            lasting,
            peers: view.peers.iter().filter(|peer| !peer.asks).map(wants).collect(),
        }
    }
}

/// The status as a service manager shows it.
pub(super) fn in_one_line(status: &Status, full: Option<&str>) -> String {
    let peers = match status.peers {
        PeersStatus { known: 0, .. } => String::from("no peers yet"),
        PeersStatus { connected, known, .. } => format!("{connected} of {known} peers connected"),
    };
    if status.ready {
        return peers;
    }
    let bus = || status.bus.why.as_ref().filter(|_| !status.bus.connected).map(|why| format!("bus: {why}"));
    let alone = || (status.peers.connected == 0 && status.bus.connected).then(|| String::from("nobody is connected"));
    let why = full.map(|why| format!("nothing is stored: {why}")).or_else(bus).or_else(alone);
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    format!("NOT READY{why}; {peers}").replace(['\n', '\r'], " ")
}

fn trouble(condition: &Condition) -> Option<String> {
    match condition {
        Condition::Running | Condition::Connecting | Condition::Off => None,
        Condition::Waiting { why } => Some(why.clone()),
        Condition::Stopped { why, remedy } => Some(format!("{why}; {remedy}")),
    }
}

/// Why a node that is alone is not ready, and what to do.
fn alone_sentence(view: &View, span: std::time::Duration) -> String {
    let minutes = span.as_secs() / 60;
    let how = if minutes == 0 { format!("{} s", span.as_secs()) } else { format!("{minutes} min") };
    let next = match view.peers.is_empty() {
        true => "`afferent discover` says what each tier answers; or afferent peers add",
        false => "`afferent peers` says why for each; when it is all of them, look at network and firewall here",
    };
    format!(
        "no peer has been connected for {how}, so events neither come nor go, and what is published waits; next: {next}"
    )
}

/// What the readers of a stream should know.
fn readers(stream: &StreamState) -> Vec<String> {
    let name = &stream.name;
    let mut warnings = Vec::new();
    if let Some(group) = &stream.waits_for {
        warnings.push(format!("`{name}` is full of entries that the group `{group}` has not read: waiting for it"));
    }
    if let Some(group) = &stream.missed_by {
        let missed = stream.missed;
        warnings.push(format!("`{name}`: {missed} entries were trimmed before the group `{group}` read them"));
    }
    warnings
}

/// In the order in which they are shown, and how many more were heard of.
pub(super) fn peers(views: &[PeerView], strangers: usize, now: Mono) -> Peers {
    let mut peers: Vec<Peer> = views.iter().map(|peer| describe(peer, now)).collect();
    peers.sort_by_key(|peer| (peer.state, std::cmp::Reverse(peer.last_seen)));
    Peers { peers, strangers: strangers as u64 }
}

/// The same for a standing of the past.
pub(super) fn state_by(standing: Standing) -> PeerState {
    match standing {
        Standing::Heard => PeerState::Heard,
        Standing::Probing => PeerState::Probing,
        Standing::Verified => PeerState::Verified,
        Standing::Connected => PeerState::Connected,
        Standing::Suspect => PeerState::Suspect,
        Standing::Backoff => PeerState::Backoff,
        Standing::Dead => PeerState::Dead,
        Standing::Left => PeerState::Left,
        Standing::Quarantine => PeerState::Quarantine,
        Standing::Asking => PeerState::Asking,
        Standing::Blocked => PeerState::Blocked,
    }
}

pub(super) fn state_of(peer: &PeerView) -> PeerState {
    match peer.state {
        crate::core::PeerState::Connected { .. } => PeerState::Connected,
        crate::core::PeerState::Dialling => PeerState::Probing,
        crate::core::PeerState::Suspect { .. } => PeerState::Suspect,
        crate::core::PeerState::Backoff { .. } => PeerState::Backoff,
        crate::core::PeerState::Waiting | crate::core::PeerState::Heard => PeerState::Heard,
        crate::core::PeerState::Verified => PeerState::Verified,
        crate::core::PeerState::Dead { .. } => PeerState::Dead,
        crate::core::PeerState::Left { .. } => PeerState::Left,
        crate::core::PeerState::Quarantine { .. } => PeerState::Quarantine,
        crate::core::PeerState::Asking => PeerState::Asking,
        crate::core::PeerState::Blocked { .. } => PeerState::Blocked,
    }
}

fn via(peer: &PeerView) -> Via {
    let way = match (peer.origin, peer.tier) {
        (Origin::Manual, _) => Way::Manual,
        (_, Tier::Dns) => Way::Dns,
        (_, Tier::Seed) => Way::Seeds,
        (_, Tier::Exchange | Tier::Manual) if peer.teller.is_some() => Way::Told,
        (Origin::Inbound, _) => Way::Called,
        (Origin::Found, _) => Way::Remembered,
    };
    Via { way, teller: peer.teller.filter(|_| way == Way::Told) }
}

fn describe(peer: &PeerView, now: Mono) -> Peer {
    let (why, retry) = match &peer.state {
        crate::core::PeerState::Backoff { until, why }
        | crate::core::PeerState::Suspect { until, why }
        | crate::core::PeerState::Quarantine { until, why } => (Some(why.clone()), Some(until.since(now))),
        crate::core::PeerState::Left { until } => (Some(String::from("it said goodbye")), Some(until.since(now))),
        crate::core::PeerState::Dead { why } => (Some(why.clone()), None),
        crate::core::PeerState::Blocked { why } => (Some(why.clone()).filter(|why| !why.is_empty()), None),
        crate::core::PeerState::Waiting => (
            Some(String::from("it gave no address that this node may dial; it has to call, or be added by hand")),
            None,
        ),
        _ => (None, None),
    };
    Peer {
        id: peer.id,
        alias: peer.alias.clone(),
        addresses: pasteable(peer.id, &peer.addresses),
        state: state_of(peer),
        origin: peer.origin,
        via: Some(via(peer)),
        rtt_ms: peer.rtt.map(|rtt| (rtt.as_secs_f64() * 1e6).round() / 1e3),
        events_in: peer.events_in,
        events_out: peer.events_out,
        last_seen: peer.seen,
        why,
        failures: u64::from(peer.failures),
        retry_in_ms: retry.map(|retry| u64::try_from(retry.as_millis()).unwrap_or(u64::MAX)),
        lagging: peer.lagging,
        history: None,
    }
}

fn pasteable(id: NodeId, addresses: &[HostPort]) -> Vec<PeerAddress> {
    addresses.iter().map(|at| PeerAddress { id: Some(id), at: at.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;

    fn status(ready: bool, peers: PeersStatus, why: Option<&str>) -> Status {
        Status {
            id: Keypair::from_seed(&[1; 32]).id(),
            name: String::new(),
            ready,
            bus: BusStatus { kind: BusKind::Redis, connected: ready, lag: 0, url: None, why: why.map(str::to_owned) },
            peers,
            journal: JournalStatus { events: 0, bytes: 0 },
            discovery: Vec::new(),
            warnings: Vec::new(),
            version: String::new(),
            network: String::new(),
            listen: Vec::new(),
            addresses: Vec::new(),
            uptime_s: 1,
            durability: Durability::Fsync,
        }
    }

    #[test]
    fn a_service_manager_is_told_why_not_and_never_of_0_of_0() {
        let (nobody, some) =
            (PeersStatus { connected: 0, known: 0, asking: 0 }, PeersStatus { connected: 1, known: 2, asking: 0 });
        let line = |ready, peers: &PeersStatus, why, full| in_one_line(&status(ready, peers.clone(), why), full);
        assert_eq!(line(true, &nobody, None, None), "no peers yet");
        assert_eq!(line(true, &some, None, None), "1 of 2 peers connected");
        assert_eq!(line(false, &nobody, Some("connecting"), None), "NOT READY: bus: connecting; no peers yet");
        let full = line(false, &some, None, Some("no\nspace"));
        assert_eq!(full, "NOT READY: nothing is stored: no space; 1 of 2 peers connected");
    }
}
