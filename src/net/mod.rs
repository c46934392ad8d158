//! Floor 3, towards the mesh: TLS by node key, the HTTPS receptor, and the lanes to other receptors.
//!
//! ```text
//!   peers -> receptor -> connections, tls, meter -> routes -> verify -> Report -> driver
//!   driver -> lane::open -> resolve, dial -> peers
//! ```
//!
//! How it is driven: `daemon` fills [`Settings`], makes one [`Context`] of it, binds a
//! [`Receptor`] and runs it with the sending end of a bounded channel of [`Report`]s and a shutdown
//! signal; it opens one [`LaneHandle`] for each `Dial` of the core and drops it on `Hangup`. Every
//! report is for the task that owns the `Node`; [`Report::Received`] alone wants an answer. When that
//! task is behind, requests are told `503 unavailable` and everything else waits.
//!
//! What it never does: it takes no decision of the protocol. It proves who speaks (the key of the
//! TLS connection), bounds what they may cost, checks form, freshness, rates and signatures in the
//! order of 2-wire.md, and hands on what passed. It dials only addresses that it was told, checks
//! each resolved address against the policy at the socket, follows no redirect and uses no proxy.
//! Nothing a peer says reaches a log line, a metric label or an assertion as it stands.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::core::ports::{Arrived, LaneId, SendError, ShipmentId};
use crate::core::sync::{Fault, Snapshot, Tally};
use crate::wire::message::{Outcome, Receipt};
use crate::wire::{Digest, Group, HostPort, NodeId, Record, Verified, Word};

mod connections;
mod counters;
mod dial;
pub mod dns;
mod events;
mod exchange;
mod lane;
mod limits;
mod meet;
mod meter;
mod receptor;
mod reconcile;
pub mod registrar;
mod resolve;
mod routes;
mod settings;
mod tls;
mod verify;
mod watch;

/// What bounds this room beside [`Limits`], for whoever prints it.
pub mod bounds {
    pub use super::dial::{ANSWER_BYTES_MAX, ANSWER_RECORDS_MAX, RETRY_MAX};
    pub use super::dns::bounds::{HOST_ADDRESSES_MAX, SERVERS_MAX, TEXTS_MAX};
    pub use super::dns::{ENTRIES_MAX, MANIFESTS_MAX};
    pub use super::lane::{DIALS_MAX, PINGS_MAX, QUESTIONS_MAX};
    pub use super::meter::LINE_MAX;
    pub use super::receptor::{HEAD_BYTES_MAX, HEADERS_MAX};
    pub use super::registrar::VISITS_MAX;
    pub use super::registrar::bounds::{REGISTRAR_ANSWER_BYTES_MAX, ZONE_BYTES_MAX};
    pub use super::resolve::ADDRESSES_MAX;
}

/// A line of an exchange and what it is judged by, for whoever tries lines of any shape.
pub mod hearing {
    pub use super::exchange::{Hearing, Told};
}

pub use counters::{Count, Counters, VerifySeconds};
pub use lane::{Echo, LaneHandle, Told, open};
pub use meet::{Miss, Unmet, dialled_at, identify, meet};
pub use receptor::Receptor;
pub use settings::{Limits, Rate, Settings, StartError};
pub use tls::Certificate;

/// What the network tells the driver.
#[derive(Debug)]
pub enum Report {
    /// Lines of one request that passed every check but the core's. The request waits for `answer`.
    Received {
        /// The neighbour by its TLS key; `None` = nameless.
        from: Option<NodeId>,
        /// The events, in the order of the body.
        arrived: Vec<Arrived>,
        /// Takes one outcome for each event, in the same order. Dropping it answers 503.
        answer: oneshot::Sender<Answer>,
    },
    /// A neighbour asks us to carry on events that are durable here already. The request waits.
    Again {
        /// Who.
        from: NodeId,
        /// Which.
        events: Vec<Digest>,
        /// Takes `Duplicate` or `Uncarried` for each, in the same order. Dropping it answers 503.
        answer: oneshot::Sender<Answer>,
    },
    /// A node gave us its own record over a connection that proved its key.
    Met {
        /// The record; its `id()` is the key that was proved.
        record: Verified<Record>,
        /// From near or far.
        word: Word,
    },
    /// A node answered what we asked: whom else it knows. Each record passed every check but the core's.
    Heard {
        /// Who.
        teller: NodeId,
        /// Of others than itself.
        records: Vec<Verified<Record>>,
    },
    /// A node with a proved key asks whom else we know ([`Report::Met`] came before). The request waits.
    Asked {
        /// Who.
        from: NodeId,
        /// The number of the record of its own that it showed.
        shown: Option<u64>,
        /// From which network.
        group: Group,
        /// What it tells us of others; each record passed every check but the core's.
        records: Vec<Verified<Record>>,
        /// Takes the lines that it is given, without our own. Dropping it answers 503.
        answer: oneshot::Sender<Vec<String>>,
    },
    /// A node with a proved key asks what we have that it lacks. The request waits.
    Reconciling {
        /// Who.
        from: NodeId,
        /// Takes what it is answered from; `None` = it is not entitled to it. Dropping it answers 503.
        answer: oneshot::Sender<Option<Arc<Snapshot>>>,
    },
    /// A peer gave records that we asked for to repair our view. Each passed every check but the core's.
    Gained {
        /// Who.
        peer: NodeId,
        /// By which lane.
        lane: LaneId,
        /// Those.
        records: Vec<Verified<Record>>,
        /// Digests of those that did not pass.
        useless: Vec<Digest>,
    },
    /// How the repair with a peer ended.
    Reconciled {
        /// With whom.
        peer: NodeId,
        /// By which lane.
        lane: LaneId,
        /// What it was, or why it came to nothing.
        result: Result<Tally, Fault>,
    },
    /// A node with a proved key called on us.
    Contact {
        /// Who.
        peer: NodeId,
    },
    /// A lane stands: TLS pinned, hello answered, records exchanged ([`Report::Met`] came before).
    Connected {
        /// To whom.
        peer: NodeId,
        /// By which lane.
        lane: LaneId,
        /// One round trip.
        rtt: Duration,
        /// Our own address as the peer sees it. The port is that of this connection, not of our receptor.
        observed: HostPort,
    },
    /// Another key than the peer's answered at one of its addresses; [`Report::Connected`] or
    /// [`Report::Broken`] says how the dial ends.
    Mistaken {
        /// Whom we meant.
        peer: NodeId,
        /// By which lane.
        lane: LaneId,
        /// Where, as it was asked for.
        at: HostPort,
        /// Whose key it was.
        found: NodeId,
    },
    /// A peer said what time it is.
    Clock {
        /// Who, by the key that it proved.
        peer: NodeId,
        /// How far its clock is ahead of ours, in milliseconds, give or take the round trip.
        ahead_ms: i64,
    },
    /// A peer took a record of ours.
    Told {
        /// Who.
        peer: NodeId,
        /// Its line, as the driver gave it.
        record: Arc<str>,
    },
    /// A lane could not be made, or is gone; nothing more comes from it.
    Broken {
        /// To whom.
        peer: NodeId,
        /// Which lane.
        lane: LaneId,
        /// What happened, in our own words.
        why: String,
    },
    /// A lane answered a probe.
    Pong {
        /// Who.
        peer: NodeId,
        /// One round trip.
        rtt: Duration,
    },
    /// What became of a shipment.
    Sent {
        /// By whom.
        peer: NodeId,
        /// Which shipment.
        shipment: ShipmentId,
        /// The peer's receipt, checked against the lines it is about.
        result: Result<Receipt, SendError>,
    },
}

/// The driver's answer to [`Report::Received`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// One for each event, in order.
    pub outcomes: Vec<Outcome>,
    /// Lines we take next.
    pub credit: u32,
}

/// Where reports go.
pub type Reports = mpsc::Sender<Report>;

/// What stands behind a receptor.
#[derive(Clone)]
enum Desk {
    /// The routes of a node; reports go to its driver.
    Mesh(Reports),
    /// Those of a registrar.
    Registrar(registrar::Registrar),
}

/// Everything that the receptor and the lanes share. Cheap to clone; the last clone to go ends the
/// verification workers.
#[derive(Clone)]
pub struct Context(Arc<Shared>);

struct Shared {
    settings: Settings,
    identity: tls::Identity,
    workers: verify::Workers,
    /// Replaced when the operator changes them; whoever asks takes the present ones.
    rates: RwLock<Arc<limits::Rates>>,
    bodies: limits::Bodies,
    counters: Counters,
    /// The core's last word on how many lines it takes next, for answers it is not asked about.
    credit: std::sync::atomic::AtomicU32,
}

impl Context {
    /// Makes the certificate and starts the verification workers.
    ///
    /// # Errors
    /// [`StartError`] when the key cannot be used for TLS or a thread cannot be started.
    pub fn new(settings: Settings) -> Result<Context, StartError> {
        Context::serving(settings, None)
    }

    /// The same; callers are shown `certificate` instead of our own.
    fn serving(settings: Settings, certificate: Option<&Certificate>) -> Result<Context, StartError> {
        let identity = match certificate {
            None => tls::Identity::new(&settings.key)?,
            Some(shown) => tls::Identity::showing(&settings.key, shown)?,
        };
        let workers = verify::Workers::start(&settings.limits).map_err(StartError::Threads)?;
        let rates = limits::Rates::new(&settings.rate, settings.limits.rate_keys_max);
        let rates = RwLock::new(Arc::new(rates));
        let bodies = limits::Bodies::new(settings.limits.body_bytes_in_all);
        Ok(Context(Arc::new(Shared {
            settings,
            identity,
            workers,
            rates,
            bodies,
            counters: Counters::default(),
            credit: std::sync::atomic::AtomicU32::new(crate::core::params::CREDIT_MAX),
        })))
    }

    /// Who we are.
    pub fn id(&self) -> NodeId {
        self.0.settings.key.id()
    }

    /// Other rates from now on; everybody begins with a whole burst.
    pub fn set_rate(&self, rate: &Rate) {
        let rates = Arc::new(limits::Rates::new(rate, self.0.settings.limits.rate_keys_max));
        *self.0.rates.write().unwrap_or_else(PoisonError::into_inner) = rates;
    }

    fn rates(&self) -> Arc<limits::Rates> {
        Arc::clone(&self.0.rates.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }

    fn limits(&self) -> &Limits {
        &self.0.settings.limits
    }

    fn is_blocked(&self, id: &NodeId) -> bool {
        self.0.settings.blocked.borrow().contains(id)
    }

    fn is_neighbour(&self, id: &NodeId) -> bool {
        self.0.settings.neighbours.borrow().contains(id)
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({:?})", self.id())
    }
}

#[cfg(test)]
mod tests;
