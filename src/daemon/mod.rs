//! Floor 4: one running node. Starts the devices in order, owns the driver, stops everything in the
//! reverse order.
//!
//! ```text
//!   start  data directory, key, journal → TLS, receptor's sockets → record → admin socket → driver → bus → receptor
//!   run    devices report to the driver; the driver alone owns the Node and carries out its outputs
//!   stop   no more connections, requests, entries → what is in hand is answered → driver → journal
//! ```
//!
//! How it is driven: [`run`] blocks until SIGTERM, SIGINT, or a [`Fatal`] of the journal; SIGHUP makes
//! it read its configuration again. A service manager is told when it is ready, and that it gets on. Nothing here
//! takes a decision of the protocol, and nothing here is shared: devices get channels, the driver has
//! the rest.

mod announce;
mod clock;
mod clocks;
mod discovery;
mod driver;
mod facts;
mod groups;
mod leave;
mod metrics;
mod neighbours;
mod notes;
mod orders;
mod reading;
mod record;
mod registrar;
mod reload;
mod requests;
mod saving;
mod streams;
mod supervisor;
mod survey;
mod tiers;
mod trust;
mod turns;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::config::{BusUrl, RedisUrl, Settings};
use crate::core::params::Params;
use crate::core::ports::{Input, Log, Seq};
use crate::core::trust::Policy;
use crate::store::{DataDir, Journal, JournalSettings, interests, key, mutes};
use crate::wire::{Interests, Keypair};
use crate::{admin, bus, config, net};
use clock::{Clock, wall};
use driver::{Driver, Hands, Inbox, Waiting};
use facts::{Bus, Facts};
use metrics::Metrics;
use record::{Basis, OwnRecord};
use reload::Reload;
use supervisor::Supervisor;
use tiers::tiers_of;
use trust::Trust;

pub use clocks::CLOCKS_MAX;
pub use driver::Fatal;
pub use metrics::LATENCY_MAX;
pub use notes::AWAY_MAX;
pub use record::CHANGES_MAX;
pub use registrar::{SECRET_BYTES_MAX, run_registrar};
pub use reload::{Reread, Rereader};
pub use survey::{SURVEY_DIALS_MAX, SURVEY_MAX, SURVEY_PLACES_MAX, look};
pub use turns::FOLLOWED_MAX;

/// Reports of the network that wait for the driver; full = requests are told 503.
pub const REPORTS_MAX: usize = 1_024;
/// Publications of the bus that wait for the driver.
pub const PUBLICATIONS_MAX: usize = 16;
/// Orders of people that wait for the bridge.
pub const ORDERS_MAX: usize = 16;
/// How long devices get to finish what is in hand.
pub const STOP_MAX: Duration = Duration::from_secs(9);

/// Runs a node until it is told to stop. SIGHUP calls `reread`.
///
/// # Errors
/// What kept it from starting, or [`Fatal`].
pub fn run(settings: Settings, reread: &Rereader<'_>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads")?;
    let outcome = runtime.block_on(serve(settings, reread));
    // A device that outlived its patience must not keep a fatal end waiting.
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome
}

async fn serve(settings: Settings, reread: &Rereader<'_>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    // From the first moment: without a handler the signal would end the process.
    let mut hangup = signal(SignalKind::hangup()).context("no signal handler")?;
    let supervisor = Supervisor::of_process();
    let House { mut devices, driver, quiet, shutdown, reloads, mut quits } =
        start(settings, supervisor.clone()).await?;
    let mut driver = tokio::spawn(driver);
    loop {
        tokio::select! {
            // Dropping the signals loses nothing: we stop once, and a hangup that is missed while one is
            // dealt with was about the same file. The driver's handle is kept.
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // Goodbye was said.
            Some(()) = quits.recv() => break,
            _ = hangup.recv() => {
                supervisor.reloading();
                // Fails when the driver has ended, which the next turn sees.
                let _ = reloads.send(reread()).await;
            }
            ended = &mut driver => return Ok(ended.context("the driver panicked")??),
            // Each runs until it is told to stop. Without one of them we would be deaf and look well.
            Some(ended) = devices.join_next() => {
                ended.context("a part of the daemon panicked")?;
                anyhow::bail!("a part of the daemon ended by itself; see the log above");
            }
        }
    }
    tracing::info!("told to stop");
    supervisor.stopping();
    shutdown.send_replace(true);
    let all_ended = async { while devices.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_MAX, all_ended).await.is_err() {
        tracing::warn!("some connections did not end in time and are cut");
        devices.abort_all();
    }
    let _ = quiet.send(());
    driver.await.context("the driver panicked")??;
    tracing::info!("stopped");
    Ok(())
}

/// Everything that runs.
struct House<D> {
    devices: JoinSet<()>,
    driver: D,
    quiet: oneshot::Sender<()>,
    shutdown: watch::Sender<bool>,
    reloads: mpsc::Sender<Reload>,
    /// The driver asks for the end.
    quits: mpsc::Receiver<()>,
}

async fn start(
    settings: Settings,
    supervisor: Supervisor,
) -> anyhow::Result<House<impl Future<Output = Result<(), Fatal>>>> {
    let clock = Clock::start();
    let dir = DataDir::open(&settings.node.data_dir)?;
    let key = Arc::new(identity(&settings, &dir)?);
    let (journal_reports, journal_inbox) = mpsc::unbounded_channel();
    let journal = Journal::open(&dir, journal_settings(&settings), move |report| {
        // The driver has ended: nobody is left to be told.
        let _ = journal_reports.send(report);
    })?;

    let wanted = interests::load(&dir, &settings.interests).unwrap_or_else(|| settings.interests.clone());
    let (record_line, record_lines) = watch::channel(Arc::<str>::from(""));
    let announced = record_lines.clone();
    let (neighbours, neighbours_seen) = watch::channel(Arc::default());
    let (blocked, blocked_seen) = watch::channel(Arc::default());
    let (head, heads) = watch::channel(Seq(0));
    let (interests, interests_seen) = watch::channel(Interests::default());
    let (ready, readies) = watch::channel(false);
    let (shutdown, stopping) = watch::channel(false);
    let (changes, _) = broadcast::channel(admin::CHANGES_MAX);
    let context = net::Context::new(net::Settings {
        key: key.clone(),
        network: settings.node.network.clone(),
        profile: settings.node.profile,
        listen: settings.node.listen.clone(),
        known: Arc::new(journal.clone()),
        clock: Arc::new(wall),
        record: record_lines,
        neighbours: neighbours_seen,
        blocked: blocked_seen,
        ready: readies,
        rate: net::Rate {
            per_second: settings.limits.per_source.per_second.get(),
            burst: settings.limits.per_source.burst.get(),
        },
        durability: settings.node.durability,
        limits: net::Limits::default(),
    })?;
    let receptor = net::Receptor::bind(&context).await?;
    let listen = receptor.addresses().to_vec();
    let basis = Basis {
        key: key.clone(),
        dir: dir.clone(),
        network: settings.node.network.clone(),
        profile: settings.node.profile,
        configured: settings.node.addresses.clone(),
        listening: &listen,
        interests: wanted,
    };
    let record = OwnRecord::new(basis, record_line, clock.now())?;
    let socket = admin::bind(&settings.admin.socket).await?;

    let scraped = match settings.metrics.listen {
        Some(address) => Some(admin::bind_scrape(address, "metrics.listen").await?),
        None => None,
    };

    let (reports, net_inbox) = mpsc::channel(REPORTS_MAX);
    let (publications, publications_inbox) = mpsc::channel(PUBLICATIONS_MAX);
    let (requests, requests_inbox) = mpsc::channel(admin::REQUESTS_MAX);
    let (orders, orders_inbox) = mpsc::channel(ORDERS_MAX);
    let url = bus_url(&settings, &journal).await;
    let (bus_state, bus_states) = watch::channel(bus::BusState::default());
    let bus_facts = match &url {
        Some(url) => Bus::Redis { place: bus::place(url), state: bus_states },
        None => Bus::Embedded,
    };
    let facts = Facts {
        name: settings.node.name.to_string(),
        network: settings.node.network.clone(),
        profile: settings.node.profile,
        listen: listen.clone(),
        durability: settings.node.durability,
        bus: bus_facts,
        started: clock.mono(),
        peers_max: settings.discovery.max_peers,
        rate: settings.limits.per_source,
        configured: settings.interests.clone(),
        reading: reload::Reading::of_start(&settings),
    };
    let (trust, params) = trust_of(&settings, &dir, &key);
    let params = Params { own: record::own_places(&listen, &settings.node.addresses), ..params };
    let policies = trust.policy.subscribe();
    let bus_counters: Arc<bus::Counters> = Arc::default();
    let metrics = Metrics::new(Arc::clone(&bus_counters), journal.sync_seconds());
    let (quit, quits) = mpsc::channel(1);
    let (announcer, farewells) = announce::channel(settings.discovery.registrar.as_ref());
    let hands = Hands {
        quit,
        announcer,
        tiers: tiers_of(&settings, Some(key.id()), record.addresses()),
        journal: journal.clone(),
        dir: dir.clone(),
        orders: url.as_ref().map(|_| orders),
        net: context.clone(),
        reports: reports.clone(),
        neighbours,
        blocked,
        head,
        interests,
        ready,
        supervisor,
        changes: changes.clone(),
    };
    let mut driver = Driver::new(params, clock, hands, record, facts, trust, metrics);
    driver.restore();
    add_configured_peers(&mut driver, &settings);

    let mut devices = JoinSet::new();
    let bus_settings = url.map(|url| bus_settings(&settings, url, &key, journal.head()));
    let former = streams::take_up(&journal, &dir, bus_settings.as_ref().map(bus::Routing::of))?;
    if let Some(mut bus_settings) = bus_settings {
        bus_settings.former = former;
        let ends = bus::Ends {
            log: Arc::new(journal.clone()),
            head: heads.clone(),
            interests: interests_seen,
            policy: policies.clone(),
            key: key.clone(),
            publications,
            orders: orders_inbox,
            state: bus_state,
            counters: bus_counters,
            shutdown: stopping.clone(),
        };
        devices.spawn(bus::run(bus_settings, ends));
    }
    if let Some(listener) = scraped {
        let mut told = stopping.clone();
        let stop = async move { drop(told.wait_for(|stops| *stops).await) };
        devices.spawn(admin::scrape(listener, requests.clone(), stop));
    }
    let desk = admin::Desk {
        requests,
        changes,
        keep_alive: admin::KEEP_ALIVE,
        claims: Arc::new(journal.clone()),
        cursors: Arc::new(journal.clone()),
        log: Arc::new(journal),
        head: heads,
        policy: policies,
        key: key.clone(),
        network: settings.node.network.clone(),
        durability: settings.node.durability,
        clock: Arc::new(wall),
    };
    let mut told = stopping.clone();
    devices.spawn(async move {
        let stop = async move { drop(told.wait_for(|stops| *stops).await) };
        if let Err(error) = admin::serve(socket, desk, stop).await {
            tracing::error!("the local API has ended: {error}");
        }
    });
    if let Some(origin) = settings.discovery.registrar.clone() {
        let network = settings.node.network.clone();
        devices.spawn(announce::run(context, origin, network, announced, farewells, stopping.clone()));
    }
    devices.spawn(receptor.run(reports, stopping));
    let (reloads, reloads_inbox) = mpsc::channel(1);
    let inbox = Inbox {
        net: net_inbox,
        journal: journal_inbox,
        publications: publications_inbox,
        requests: requests_inbox,
        reloads: reloads_inbox,
    };
    let (quiet, told) = oneshot::channel();
    Ok(House { devices, driver: driver.run(inbox, told), quiet, shutdown, reloads, quits })
}

fn identity(settings: &Settings, dir: &DataDir) -> anyhow::Result<Keypair> {
    let given = settings.node.credential.as_ref().and_then(|path| path.parent());
    match key::from_credentials(given.map(Path::as_os_str))? {
        Some(key) => Ok(key),
        None => Ok(key::load_or_create(&dir.key_path())?),
    }
}

/// Local trust: what is configured, and what was typed since.
fn trust_of(settings: &Settings, dir: &DataDir, key: &Keypair) -> (Trust, Params) {
    let configured = settings.trust.mute.clone();
    let (typed, warning) = mutes::load(dir, &configured);
    if let Some(warning) = warning {
        tracing::error!("{warning}");
    }
    let params = Params { mute: typed.over(&configured), ..settings.params() };
    let (policy, _) = watch::channel(Policy::of(key.id(), &params));
    (Trust { configured, typed, policy }, params)
}

fn journal_settings(settings: &Settings) -> JournalSettings {
    JournalSettings {
        keep: settings.journal.keep,
        bytes_max: settings.journal.bytes,
        durability: settings.node.durability,
        ..JournalSettings::default()
    }
}

/// Where the bus is; `None` = the journal itself. Without a word in the configuration it is a Redis at
/// the default address, if one answers now or was bridged to before.
async fn bus_url(settings: &Settings, journal: &Journal) -> Option<String> {
    match &settings.bus.url {
        BusUrl::Embedded => None,
        BusUrl::Redis(url) => Some(url.expose().to_owned()),
        BusUrl::Auto => {
            // Whatever its streams were called then.
            let was_used = journal.cursors().iter().any(|(name, _)| name.starts_with("bus:"));
            let is_there = was_used || bus::probe(RedisUrl::DEFAULT, Duration::from_millis(500)).await;
            is_there.then(|| RedisUrl::DEFAULT.to_owned())
        }
    }
}

fn bus_settings(settings: &Settings, url: String, key: &Keypair, start: Seq) -> bus::Settings {
    bus::Settings {
        url,
        stream: settings.bus.stream.clone(),
        shards: settings.bus.shards,
        routes: settings.bus.routes.iter().map(route).collect(),
        spreads: settings.bus.spreads.iter().map(spread).collect(),
        former: Vec::new(),
        layout: layout(&settings.bus.layout),
        outbox: settings.bus.outbox.clone(),
        maxlen: settings.bus.maxlen,
        own: settings.bus.own,
        node: key.id(),
        network: settings.node.network.clone(),
        start,
        timing: bus::Timing::default(),
    }
}

fn route(route: &config::Route) -> bus::Route {
    bus::Route { pattern: route.pattern.clone(), stream: route.stream.clone() }
}

fn spread(spread: &config::Spread) -> bus::Spread {
    bus::Spread { pattern: spread.pattern.clone(), window: spread.window }
}

fn layout(layout: &config::Layout) -> bus::Layout {
    match layout {
        config::Layout::Plain => bus::Layout::Plain,
        config::Layout::Teleclaude => bus::Layout::Teleclaude,
        config::Layout::Named(fields) => bus::Layout::Mapping(Arc::new(bus::Mapping(fields.clone()))),
    }
}

fn add_configured_peers(driver: &mut Driver, settings: &Settings) {
    for peer in &settings.peers {
        let (nobody, _) = oneshot::channel();
        let ticket = driver.ticket(Waiting::Saved(nobody));
        driver.feed(Input::PeerAdded { ticket, id: peer.id, at: peer.at.clone(), alias: peer.alias.clone() });
    }
}
