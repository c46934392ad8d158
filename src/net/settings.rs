//! What `daemon` decides for this room, and every limit of it with its reason.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::core::ports::{Known, Seen};
use crate::time::Wall;
use crate::wire::message::Durability;
use crate::wire::{Digest, Keypair, Network, NodeId, Profile, Record, Verified};

/// What the receptor and the lanes need to know.
#[derive(Clone)]
pub struct Settings {
    /// Our identity.
    pub key: Arc<Keypair>,
    /// The mesh we belong to.
    pub network: Network,
    /// Which addresses may be dialled. In [`Profile::Loopback`] the connection limits per address do
    /// not apply to loopback addresses, since there everybody shares them.
    pub profile: Profile,
    /// Where the receptor listens. In [`Profile::Loopback`] lanes call from the first specific
    /// loopback address among these: Linux would otherwise call from 127.0.0.1 whoever we are.
    pub listen: Vec<SocketAddr>,
    /// The dedupe index, asked before the dear checks.
    pub known: Arc<dyn Known>,
    /// Reads the wall clock.
    pub clock: Arc<dyn Fn() -> Wall + Send + Sync>,
    /// Our own record as one line without LF; a change is posted to every peer we have a lane to.
    pub record: watch::Receiver<Arc<str>>,
    /// Known peers: ten times the rates, and connections kept for them.
    pub neighbours: watch::Receiver<Arc<BTreeSet<NodeId>>>,
    /// Nodes whose requests are refused, whatever they ask for.
    pub blocked: watch::Receiver<Arc<BTreeSet<NodeId>>>,
    /// What `/health` says.
    pub ready: watch::Receiver<bool>,
    /// Lines a neighbour or a source may send.
    pub rate: Rate,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Figures that only tests change.
    pub limits: Limits,
}

impl Settings {
    /// For somebody who only calls on nodes of this machine: it listens nowhere, has seen nothing, and
    /// its record never changes.
    pub fn of_caller(
        key: Arc<Keypair>,
        record: &Verified<Record>,
        clock: impl Fn() -> Wall + Send + Sync + 'static,
    ) -> Settings {
        let record = watch::Sender::new(record.envelope().line(0, false).into()).subscribe();
        Settings { record, ..Settings::without_record(key, clock) }
    }

    /// For somebody who is no node: it has no record, has seen nothing, and listens nowhere.
    pub(super) fn without_record(key: Arc<Keypair>, clock: impl Fn() -> Wall + Send + Sync + 'static) -> Settings {
        Settings {
            key,
            network: Network::default(),
            profile: Profile::Loopback,
            listen: Vec::new(),
            known: Arc::new(NothingKnown),
            clock: Arc::new(clock),
            record: watch::Sender::new(Arc::<str>::from("")).subscribe(),
            neighbours: watch::Sender::default().subscribe(),
            blocked: watch::Sender::default().subscribe(),
            ready: watch::Sender::default().subscribe(),
            rate: Rate::default(),
            durability: Durability::Fsync,
            limits: Limits::default(),
        }
    }

    /// The address that lanes to `target` call from; `None` = the system's choice.
    pub(super) fn source_ip(&self, target: IpAddr) -> Option<IpAddr> {
        if self.profile != Profile::Loopback || !target.is_loopback() {
            return None;
        }
        let fits = |ip: &IpAddr| ip.is_loopback() && ip.is_ipv4() == target.is_ipv4();
        self.listen.iter().map(SocketAddr::ip).find(fits)
    }
}

struct NothingKnown;

impl Known for NothingKnown {
    fn seen(&self, _: &Digest) -> Option<Seen> {
        None
    }
}

/// A rate of lines, per neighbour and per source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Sustained. Known peers get ten times this.
    pub per_second: u32,
    /// At once. Known peers get ten times this.
    pub burst: u32,
}

impl Default for Rate {
    fn default() -> Rate {
        Rate { per_second: 50, burst: 200 }
    }
}

/// Every limit of the receptor and the lanes (7-promises.md, "Server settings that matter"). Times
/// are kept to within one `tick`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How often a connection looks at its own deadlines.
    pub tick: Duration,
    /// From accept to a finished TLS handshake.
    pub handshake: Duration,
    /// Handshakes past the client's first message at once; each costs a signature.
    pub handshakes: usize,
    /// Until the first byte of HTTP/1.1, or the whole preface of HTTP/2.
    pub first_byte: Duration,
    /// One request head.
    pub head: Duration,
    /// One request body, from head to last byte.
    pub body: Duration,
    /// One request, until our answer is handed over.
    pub request: Duration,
    /// No byte of ours accepted although we have some.
    pub write_stall: Duration,
    /// HTTP/2 connections are pinged this often; the answer is due within `write_stall`.
    pub keep_alive: Duration,
    /// Nothing asked.
    pub idle: Duration,
    /// Connections in all.
    pub connections: usize,
    /// Of these, kept for known peers.
    pub connections_for_known: usize,
    /// From one IPv4 address or one IPv6 /64.
    pub connections_per_address: usize,
    /// From one IPv4 /24 or one IPv6 /48.
    pub connections_per_block: usize,
    /// Bytes a second that a connection may use up without carrying a body or ending a request well.
    pub overhead_per_second: u32,
    /// The same at once.
    pub overhead_burst: u32,
    /// HTTP/2 frames a second that are neither DATA nor HEADERS: PING and SETTINGS floods end here.
    pub control_per_second: u32,
    /// The same at once.
    pub control_burst: u32,
    /// Bytes of request bodies in memory at once, half of them for strangers.
    pub body_bytes_in_all: usize,
    /// Rate limiter keys remembered; a new key beyond that shares one bucket with all such keys.
    pub rate_keys_max: usize,
    /// How often idle rate limiter keys are forgotten.
    pub sweep: Duration,
    /// Chunks of lines waiting for a verification worker; one is 16 lines.
    pub verify_queue: usize,
    /// A stop waits this long for requests under way.
    pub stop: Duration,
    /// A lane's TCP and TLS.
    pub connect: Duration,
    /// A lane's whole request.
    pub call: Duration,
    /// Silence after which a lane asks whether the peer is still there.
    pub probe: Duration,
    /// Shipments queued in a lane.
    pub shipments: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        let seconds = Duration::from_secs;
        Limits {
            tick: Duration::from_millis(500),
            handshake: seconds(5),
            handshakes: 64,
            first_byte: seconds(5),
            head: seconds(5),
            body: seconds(10),
            request: seconds(30),
            write_stall: seconds(10),
            keep_alive: seconds(20),
            idle: seconds(60),
            connections: 1_024,
            connections_for_known: 64,
            connections_per_address: 16,
            connections_per_block: 64,
            overhead_per_second: 64 << 10,
            overhead_burst: 256 << 10,
            control_per_second: 100,
            control_burst: 1_000,
            body_bytes_in_all: 64 << 20,
            rate_keys_max: 65_536,
            sweep: seconds(10),
            verify_queue: 1_024,
            stop: seconds(10),
            connect: seconds(3),
            call: seconds(10),
            probe: seconds(15),
            shipments: 8,
        }
    }
}

/// Why the network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The key makes no certificate.
    #[error("the node key makes no TLS certificate: {0}")]
    Certificate(String),
    /// The certificate for callers, or its key, cannot be used.
    #[error("the server certificate cannot be used: {0}")]
    ServerCertificate(String),
    /// A thread could not be started.
    #[error("cannot start a verification thread")]
    Threads(#[source] std::io::Error),
    /// An address could not be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}
