//! The registrar as a process: a key, a name server, a receptor, and rounds. No journal, no driver: the
//! zone is the state, so it may be stopped and started at any time, and there may be several.

use std::fs::{self, DirBuilder, File};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::clock::wall;
use super::supervisor::Supervisor;
use crate::admin;
use crate::config::Settings;
use crate::core::registrar::{Book, Policy, SWEEP};
use crate::net::{self, Certificate, registrar};
use crate::store::key;
use crate::wire::registration::Origin;
use crate::wire::{HostPort, Keypair, Profile};

mod metrics;

/// A file with a secret or a certificate chain.
pub const SECRET_BYTES_MAX: u64 = 256 << 10;
const OTHERS: u32 = 0o007;

/// Runs a registrar until SIGTERM or SIGINT. `settings` lacks nothing that one needs
/// ([`Settings::registrar_lacks`]).
///
/// # Errors
/// What kept it from starting.
pub fn run_registrar(settings: &Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads")?;
    let outcome = runtime.block_on(serve(settings));
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    outcome
}

async fn serve(settings: &Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    let supervisor = Supervisor::of_process();
    let (context, receptor, registrar) = start(settings).await?;
    let scraped = match settings.registrar.metrics {
        Some(address) => Some(admin::bind_scrape(address, "registrar.metrics").await?),
        None => None,
    };
    match registrar.look().await {
        Ok(listed) => tracing::info!(listed, "the zone was read"),
        // It may come up later than we; until then everybody is told 503.
        Err(error) => tracing::error!("{error}; nobody is listed until this is mended"),
    }
    let (shutdown, stopping) = watch::channel(false);
    let mut parts = JoinSet::new();
    let zone = settings.registrar.zone.as_ref().map(ToString::to_string).unwrap_or_default();
    for address in receptor.addresses() {
        tracing::info!(key = %context.id(), %address, zone, "ready");
    }
    if let Some(listener) = scraped {
        let (requests, asked) = mpsc::channel(admin::REQUESTS_MAX);
        let mut told = stopping.clone();
        let stop = async move { drop(told.wait_for(|stops| *stops).await) };
        parts.spawn(admin::scrape(listener, requests, stop));
        parts.spawn(metrics::answer(registrar.clone(), context.clone(), asked, stopping.clone()));
    }
    parts.spawn(receptor.run_registrar(registrar.clone(), stopping.clone()));
    parts.spawn(registrar.rounds(stopping));
    supervisor.ready();
    let mut beat = tokio::time::interval(supervisor.beat());
    loop {
        tokio::select! {
            // Dropping the signals loses nothing: we stop once. The next tick comes all the same.
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = beat.tick() => supervisor.alive("registrar"),
            // Both run until they are told to stop.
            Some(ended) = parts.join_next() => {
                ended.context("a part of the registrar panicked")?;
                anyhow::bail!("a part of the registrar ended by itself; see the log above");
            }
        }
    }
    tracing::info!("told to stop");
    supervisor.stopping();
    shutdown.send_replace(true);
    let all_ended = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(super::STOP_MAX, all_ended).await.is_err() {
        tracing::warn!("some connections did not end in time and are cut");
    }
    tracing::info!("stopped");
    Ok(())
}

async fn start(settings: &Settings) -> anyhow::Result<(net::Context, net::Receptor, registrar::Registrar)> {
    let own = &settings.registrar;
    let (Some(zone), Some(server), Some(tsig)) = (&own.zone, own.server, &own.tsig) else {
        anyhow::bail!("zone, server and tsig of [registrar] are needed");
    };
    let key = signing_key(settings)?;
    let secret = String::from_utf8(read(tsig, true)?).with_context(|| format!("{} is no text", tsig.display()))?;
    let about_tsig = |why| anyhow::anyhow!("{}: {why}", tsig.display());
    let tsig = registrar::Tsig::parse(&secret).map_err(about_tsig)?;
    let server = registrar::NameServer::new(server, zone, tsig).map_err(about_tsig)?;
    let certificate = match (&own.certificate, &own.certificate_key) {
        (Some(chain), Some(private)) => {
            let read = Certificate::from_pem(&read(chain, false)?, &read(private, true)?);
            Some(read.map_err(|why| anyhow::anyhow!("{} with {}: {why}", chain.display(), private.display()))?)
        }
        _ => None,
    };
    let (network, profile) = (settings.node.network.clone(), settings.node.profile);
    let listen = own.listen.clone();
    let shared = Arc::new(key.clone());
    let context = registrar::context(shared, network.clone(), profile, listen, certificate.as_ref(), wall)?;
    let receptor = net::Receptor::bind(&context).await?;
    let first = receptor.addresses().first().copied().context("it listens nowhere")?;
    let origin = own.origin.clone().unwrap_or_else(|| Origin::Pinned(key.id(), HostPort::from_socket(first)));
    let policy = Policy { is_spread: profile != Profile::Private, ..own.policy };
    let book = Book { zone: zone.clone(), network, key, fellows: own.fellows.clone() };
    let duties = registrar::Settings { book, policy, server, origin: origin.to_string(), sweep: SWEEP };
    Ok((context.clone(), receptor, registrar::Registrar::new(&context, duties)))
}

/// Not the data directory's lock: a node may run beside, with the same configuration.
fn signing_key(settings: &Settings) -> anyhow::Result<Keypair> {
    let path = settings.registrar_key();
    if let Some(folder) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    Ok(key::load_or_create(&path)?)
}

fn read(path: &Path, is_secret: bool) -> anyhow::Result<Vec<u8>> {
    let shown = || format!("{} cannot be read", path.display());
    let file = File::open(path).with_context(shown)?;
    let mode = file.metadata().map(|meta: fs::Metadata| meta.permissions().mode() & 0o777).with_context(shown)?;
    anyhow::ensure!(
        !is_secret || mode & OTHERS == 0,
        "{} is open to everybody (mode {mode:o}): chmod o= {}",
        path.display(),
        path.display()
    );
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX).read_to_end(&mut bytes).with_context(shown)?;
    Ok(bytes)
}
