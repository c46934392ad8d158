//! The settings of one daemon: checked, typed, with every default filled in.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::values::{BusUrl, NodeName, Rate};
use crate::core::params::{Accept, Params, Tiers};
use crate::core::pick::Pick;
use crate::core::registrar::Policy;
use crate::core::trust::Rule;
use crate::wire::message::Durability;
use crate::wire::registration::Origin;
use crate::wire::{HostPort, Interests, Network, NodeId, Pattern, Profile, ZoneName};

/// Everything the operator can say. What each value costs stands in [`super::FIELDS`].
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// The file they came from; `None` = none was found, and none is needed.
    pub file: Option<PathBuf>,
    /// `[node]`: who this is and where it lives.
    pub node: Node,
    /// `[interests] patterns`: what it wants from others.
    pub interests: Interests,
    /// `[bus]`: the local Redis.
    pub bus: Bus,
    /// `[discovery]`: how peers are found.
    pub discovery: Discovery,
    /// `[[peers]]`: the manual ones.
    pub peers: Vec<Peer>,
    /// `[trust]`: whom to listen to.
    pub trust: Trust,
    /// `[limits]`: what neighbours may send.
    pub limits: Limits,
    /// `[journal]`: what is kept.
    pub journal: Journal,
    /// `[metrics]`: numbers for Prometheus.
    pub metrics: Metrics,
    /// `[log]`: what is written to standard error.
    pub log: Log,
    /// `[admin]`: the local API.
    pub admin: Admin,
    /// `[registrar]`: that role, of a process of its own.
    pub registrar: Registrar,
}

/// `[node]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// Shown to people.
    pub name: NodeName,
    /// Key, journal and peer file live here; absolute.
    pub data_dir: PathBuf,
    /// A key file given by the service manager (`$CREDENTIALS_DIRECTORY/node.key`): it is used when it
    /// exists, before the one in `data_dir`.
    pub credential: Option<PathBuf>,
    /// Where the receptor listens; port 0 = any free one.
    pub listen: Vec<SocketAddr>,
    /// What others dial; empty = learned from peers.
    pub addresses: Vec<HostPort>,
    /// Events and records of another network are refused.
    pub network: Network,
    /// Which addresses learned from others may be dialled.
    pub profile: Profile,
    /// What becomes of nodes that come by themselves; `None` = it depends on the profile.
    pub accept: Option<Accept>,
    /// What an acknowledgement promises.
    pub durability: Durability,
}

impl Node {
    /// What becomes of nodes that come by themselves, in a node of this profile: on a network of one's own
    /// one knows who belongs to it.
    pub fn accept_in(&self, profile: Profile) -> Accept {
        self.accept.unwrap_or(match profile {
            Profile::Private => Accept::Ask,
            Profile::Public | Profile::Loopback => Accept::Open,
        })
    }
}

/// `[bus]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Bus {
    /// Where the Redis is, if there is one.
    pub url: BusUrl,
    /// The stream that events are appended to which no route takes; `{n}` in it is the shard.
    pub stream: String,
    /// Over how many streams it is spread; 0 = one.
    pub shards: u16,
    /// The fields of an entry.
    pub layout: Layout,
    /// `[[bus.route]]`: streams for certain types.
    pub routes: Vec<Route>,
    /// `[[bus.spread]]`: events that are shown at a moment of this node's own.
    pub spreads: Vec<Spread>,
    /// The stream that local programs publish through.
    pub outbox: String,
    /// About how many entries `stream` keeps.
    pub maxlen: u64,
    /// Write events published here to our own `stream` too.
    pub own: bool,
}

/// `bus.layout`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Every attribute by its own name.
    Plain,
    /// TeleClaude's 14 fields; entries of the stream that ask to travel are published.
    Teleclaude,
    /// `[bus.layouts.NAME]`: each field, and what stands in it.
    Named(Vec<(String, Pick)>),
}

/// One `[[bus.route]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Which types.
    pub pattern: Pattern,
    /// The stream they go to.
    pub stream: String,
}

/// One `[[bus.spread]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spread {
    /// Which types.
    pub pattern: Pattern,
    /// Within which span after they are stored.
    pub window: Duration,
}

/// `[discovery]`: how peers are found besides `[[peers]]` and `afferent peers add`.
#[derive(Clone, PartialEq, Debug)]
pub struct Discovery {
    /// Zones to look peers up in.
    pub dns: Vec<ZoneName>,
    /// Who is asked about them; `None` = the system's servers.
    pub dns_server: Option<SocketAddr>,
    /// Keys of registrars; not empty = only zones that one of them signed count.
    pub dns_keys: Vec<NodeId>,
    /// Peers are asked whom they know.
    pub exchange: bool,
    /// The channel of first peers that come with the release; `None` = none.
    pub seeds: Option<String>,
    /// Who must have signed it; `None` = nobody.
    pub seeds_key: Option<NodeId>,
    /// Connections that are looked for, manual ones counted.
    pub min_peers: usize,
    /// Peers with a durable cursor, all manual ones counted.
    pub max_peers: usize,
    /// Who lists this node in the DNS.
    pub registrar: Option<Origin>,
}

/// One `[[peers]]`: the same as `afferent peers add`.
#[derive(Clone, PartialEq, Debug)]
pub struct Peer {
    /// Whose key must answer there.
    pub id: NodeId,
    /// Where.
    pub at: HostPort,
    /// A name of our own for it.
    pub alias: Option<String>,
}

/// `[trust]`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Trust {
    /// Non-empty: a private mesh; all others are refused.
    pub allow: BTreeSet<NodeId>,
    /// Sources whose events are dropped.
    pub mute: BTreeSet<NodeId>,
    /// Who may subscribe to everything; manual peers may in any case.
    pub firehose: BTreeSet<NodeId>,
    /// `[[trust.rule]]`, in the order of the file: who may send which types.
    pub rules: Vec<Rule>,
}

/// `[limits]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Limits {
    /// Events per neighbour and per source; known peers get ten times as much.
    pub per_source: Rate,
}

/// `[journal]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Journal {
    /// Age at which events are dropped.
    pub keep: Duration,
    /// Size from which the oldest events are dropped.
    pub bytes: u64,
}

/// `[metrics]`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Metrics {
    /// Where they are served over TCP: on loopback; `None` = nowhere.
    pub listen: Option<SocketAddr>,
}

/// `[log]`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Log {
    /// How its lines look.
    pub format: LogFormat,
}

/// How the lines of the log look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One object a line.
    Json,
    /// For people.
    Text,
}

/// `[admin]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Admin {
    /// The Unix socket of the local API; absolute.
    pub socket: PathBuf,
}

/// The file in the data directory, where nobody names another.
const REGISTRAR_KEY: &str = "registrar.key";

/// `[registrar]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Registrar {
    /// What it writes to; `None` = this is no registrar.
    pub zone: Option<ZoneName>,
    /// The primary of the zone.
    pub server: Option<SocketAddr>,
    /// The file with the key shared with it.
    pub tsig: Option<PathBuf>,
    /// The file with the key that signs; `None` = `registrar.key` in the data directory.
    pub key: Option<PathBuf>,
    /// Keys of other registrars of the zone.
    pub fellows: Vec<NodeId>,
    /// Where nodes register.
    pub listen: Vec<SocketAddr>,
    /// What nodes call it.
    pub origin: Option<Origin>,
    /// The certificate for the name in `origin`.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub certificate_key: Option<PathBuf>,
    /// Who may stand in the zone.
    pub policy: Policy,
    /// Where its numbers are served for Prometheus; `None` = nowhere.
    pub metrics: Option<SocketAddr>,
}

impl Default for Registrar {
    fn default() -> Registrar {
        Registrar {
            zone: None,
            server: None,
            tsig: None,
            key: None,
            fellows: Vec::new(),
            listen: vec!["[::]:8443".parse().expect("a socket address")],
            origin: None,
            certificate: None,
            certificate_key: None,
            policy: Policy::default(),
            metrics: None,
        }
    }
}

impl Settings {
    /// The file with the key that a registrar signs with.
    pub fn registrar_key(&self) -> PathBuf {
        self.registrar.key.clone().unwrap_or_else(|| self.node.data_dir.join(REGISTRAR_KEY))
    }

    /// The key of `[registrar]` that is missing to start one: section.key, why, and what to write.
    pub fn registrar_lacks(&self) -> Option<(String, &'static str, String)> {
        let (field, why) = super::registrar::lacks(&self.registrar)?;
        let name = format!("{}.{}", field.section, field.key);
        Some((name, why, format!("write `{} = {}` below [{}]", field.key, field.example, field.section)))
    }

    /// The settings of a node that nobody configured, living here.
    pub fn default_at(name: NodeName, data_dir: &Path, socket: &Path) -> Settings {
        Settings {
            file: None,
            node: Node {
                name,
                data_dir: data_dir.to_owned(),
                credential: None,
                listen: vec!["[::]:7443".parse().expect("a socket address")],
                addresses: Vec::new(),
                network: Network::default(),
                profile: Profile::Public,
                accept: None,
                durability: Durability::Fsync,
            },
            interests: Interests::default(),
            bus: Bus {
                url: BusUrl::Auto,
                stream: "mesh:events".to_owned(),
                shards: 0,
                layout: Layout::Plain,
                routes: Vec::new(),
                spreads: Vec::new(),
                outbox: "mesh:outbox".to_owned(),
                maxlen: 100_000,
                own: false,
            },
            discovery: Discovery {
                dns: Vec::new(),
                dns_server: None,
                dns_keys: Vec::new(),
                exchange: true,
                seeds: None,
                seeds_key: None,
                min_peers: 8,
                max_peers: 64,
                registrar: None,
            },
            peers: Vec::new(),
            trust: Trust::default(),
            limits: Limits { per_source: "50/s burst 200".parse().expect("a rate") },
            journal: Journal { keep: Duration::from_secs(7 * 86_400), bytes: 1 << 30 },
            metrics: Metrics::default(),
            log: Log::default(),
            admin: Admin { socket: socket.to_owned() },
            registrar: Registrar { key: Some(data_dir.join(REGISTRAR_KEY)), ..Registrar::default() },
        }
    }

    /// What of this the protocol core has to know.
    pub fn params(&self) -> Params {
        Params {
            profile: self.node.profile,
            accept: self.node.accept_in(self.node.profile),
            allow: self.trust.allow.clone(),
            mute: self.trust.mute.clone(),
            rules: self.trust.rules.clone().into(),
            firehose: self.trust.firehose.clone(),
            peers_max: self.discovery.max_peers,
            min_peers: self.discovery.min_peers,
            tiers: Tiers {
                dns: !self.discovery.dns.is_empty(),
                exchange: self.discovery.exchange,
                seeds: self.discovery.seeds.is_some(),
            },
            ..Params::default()
        }
    }
}
