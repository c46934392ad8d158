//! The receptor: listens, lets in, proves who calls, and hands each connection to hyper under watch.
//!
//! HTTP/1.1 or HTTP/2 is chosen by ALPN after the handshake. hyper-util's `auto` is not used: it
//! has no deadline before the first byte.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::connections::{Gate, Place};
use super::meter::{Cutter, Frames, Heads};
use super::registrar::Registrar;
use super::routes::{self, Caller};
use super::settings::StartError;
use super::watch::{Activity, Answering, Verdict, Watched};
use super::{Context, Desk, Limits, Report, Reports, tls};
use crate::wire::NodeId;

/// Sockets that listen, not yet served.
pub struct Receptor {
    context: Context,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Receptor {
    /// Listens on every address of the settings.
    ///
    /// # Errors
    /// [`StartError::Listen`] names the first address that cannot be had.
    pub async fn bind(context: &Context) -> Result<Receptor, StartError> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for &address in &context.settings().listen {
            let failed = |source| StartError::Listen { address, source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            addresses.push(listener.local_addr().map_err(failed)?);
            listeners.push(listener);
        }
        Ok(Receptor { context: context.clone(), listeners, addresses })
    }

    /// Where it really listens: with the system's choice where port 0 was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until `shutdown` says true or its sender is gone; then accepts no more, lets requests
    /// under way finish within [`Limits::stop`], and returns when every connection is closed.
    pub async fn run(self, reports: Reports, shutdown: watch::Receiver<bool>) {
        self.serve(Desk::Mesh(reports), shutdown).await;
    }

    /// The same for a registrar, whose context this receptor was made of.
    pub async fn run_registrar(self, registrar: Registrar, shutdown: watch::Receiver<bool>) {
        self.serve(Desk::Registrar(registrar), shutdown).await;
    }

    async fn serve(self, desk: Desk, mut shutdown: watch::Receiver<bool>) {
        let Receptor { context, listeners, .. } = self;
        let house = House {
            gate: Gate::new(context.limits(), context.settings().profile),
            handshakes: Arc::new(Semaphore::new(context.limits().handshakes)),
            shutdown: shutdown.clone(),
            context,
            desk,
        };
        let counters = house.context.counters();
        let mut connections = JoinSet::new();
        let mut sweep = interval(house.context.limits().sweep);
        let mut is_accepting = true;
        let mut turn = 0;
        loop {
            tokio::select! {
                biased;
                // Only looks at a value: nothing is lost.
                () = stopped(&mut shutdown) => break,
                // Cancel safe; the ended task's result stays in the set until taken.
                Some(_) = connections.join_next() => counters.ended.one(),
                // Cancel safe; the next tick comes all the same.
                _ = sweep.tick() => house.sweep(),
                // A connection stays in the listener's queue until poll_accept returns it.
                accepted = accept(&listeners, &mut turn) => match accepted {
                    Ok((stream, address)) => {
                        if !std::mem::replace(&mut is_accepting, true) {
                            tracing::info!("accepting connections again");
                        }
                        house.welcome(stream, address, &mut connections);
                    }
                    Err(error) => {
                        counters.accept_errors.one();
                        if std::mem::replace(&mut is_accepting, false) {
                            tracing::warn!(%error, "cannot accept connections");
                        }
                        // Out of file descriptors, mostly: others give theirs back in a moment.
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listeners);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if timeout(house.context.limits().stop, all_ended).await.is_err() {
            tracing::warn!(open = connections.len(), "connections did not end in time and are cut");
            connections.shutdown().await;
        }
    }
}

/// After an error of `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What an HTTP/1.1 head may take up.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Header fields of one head.
pub const HEADERS_MAX: usize = 64;

impl std::fmt::Debug for Receptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receptor({:?})", self.addresses)
    }
}

/// Ready once the stop was called for, or nobody is left to call for it.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// The next connection on any of the listeners, each of which has its turn.
async fn accept(listeners: &[TcpListener], turn: &mut usize) -> io::Result<(TcpStream, SocketAddr)> {
    std::future::poll_fn(|cx| {
        for _ in listeners {
            *turn = (*turn + 1) % listeners.len();
            if let Poll::Ready(accepted) = listeners[*turn].poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

/// What every connection shares.
struct House {
    context: Context,
    gate: Arc<Gate>,
    handshakes: Arc<Semaphore>,
    desk: Desk,
    shutdown: watch::Receiver<bool>,
}

impl House {
    fn sweep(&self) {
        self.context.rates().sweep();
        if let Desk::Registrar(registrar) = &self.desk {
            registrar.sweep_rates();
        }
    }

    fn welcome(&self, stream: TcpStream, address: SocketAddr, connections: &mut JoinSet<()>) {
        let counters = self.context.counters();
        counters.accepted.one();
        match self.gate.admit(address.ip()) {
            Ok((place, gives_way)) => {
                let newcomer = Newcomer {
                    context: self.context.clone(),
                    place,
                    address: SocketAddr::new(address.ip().to_canonical(), address.port()),
                    desk: self.desk.clone(),
                    shutdown: self.shutdown.clone(),
                };
                counters.let_in.one();
                connections.spawn(newcomer.meet(stream, gives_way, Arc::clone(&self.handshakes)));
            }
            Err(_) => counters.turned_away.one(),
        }
    }
}

/// A connection that was let in.
struct Newcomer {
    context: Context,
    place: Place,
    address: SocketAddr,
    desk: Desk,
    shutdown: watch::Receiver<bool>,
}

impl Newcomer {
    async fn meet(mut self, stream: TcpStream, gives_way: oneshot::Receiver<()>, handshakes: Arc<Semaphore>) {
        let counters = self.context.counters();
        let handshake = timeout(self.context.limits().handshake, handshake(&self.context, stream, &handshakes));
        let stream = tokio::select! {
            // Dropping an unfinished handshake closes the socket, which is what is wanted.
            handshaken = handshake => match handshaken {
                Ok(Ok(stream)) => stream,
                Ok(Err(_)) | Err(_) => {
                    tracing::debug!(address = %self.address, "no TLS handshake");
                    return counters.handshakes_failed.one();
                }
            },
            // Resolves only when the place was given to somebody else.
            _ = gives_way => return counters.turned_away.one(),
        };
        let (_, session) = stream.get_ref();
        let id = session.peer_certificates().and_then(tls::node_of);
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        if self.place.settle(id.is_some_and(|id| self.context.is_neighbour(&id))).is_err() {
            return counters.turned_away.one();
        }
        let caller = Caller { id, address: self.address };
        let contact = announce(self.desk.clone(), id);
        // Requests are served meanwhile: they are told at once when the driver is behind.
        let patience = self.context.limits().request;
        let _ = tokio::join!(timeout(patience, contact), Box::pin(self.serve(stream, caller, is_http2)));
    }

    async fn serve(self, stream: TlsStream<TcpStream>, caller: Caller, is_http2: bool) {
        let limits = self.context.limits();
        let activity = Activity::new(Instant::now());
        let cutter = if is_http2 { Cutter::Frames(Frames::default()) } else { Cutter::Heads(Heads::default()) };
        let io = TokioIo::new(Watched::new(stream, &activity, cutter, limits));
        let service = service_fn(|request: Request<Incoming>| {
            let begun = activity.begin(Instant::now());
            let (context, desk) = (self.context.clone(), self.desk.clone());
            let activity = Arc::clone(&activity);
            async move {
                let reply = routes::answer(&context, &desk, caller, &activity, request).await;
                Ok::<Response<Answering>, Infallible>(reply.into_response(begun, is_http2))
            }
        });
        let watch = Watch { limits, activity: &activity, shutdown: self.shutdown.clone() };
        let end = if is_http2 {
            watch.over(http2_of(limits).serve_connection(io, service), http2::Connection::graceful_shutdown).await
        } else {
            watch.over(http1_of(limits).serve_connection(io, service), http1::Connection::graceful_shutdown).await
        };
        let counters = self.context.counters();
        match end {
            End::Late(why) => {
                counters.timed_out.one();
                tracing::debug!(address = %self.address, why, "connection closed");
            }
            End::Flooded => {
                counters.flooded.one();
                tracing::debug!(address = %self.address, "connection closed: it costs more than it carries");
            }
            End::Closed => {}
        }
    }
}

/// Tells the driver who called. When it is gone there is nobody to tell.
async fn announce(desk: Desk, caller: Option<NodeId>) {
    if let (Desk::Mesh(reports), Some(peer)) = (desk, caller) {
        let _ = reports.send(Report::Contact { peer }).await;
    }
}

/// The first message of the client is waited for without a permit, so connections that say nothing
/// keep nobody else from being met; only the part that costs a signature is limited in number.
async fn handshake(context: &Context, stream: TcpStream, handshakes: &Semaphore) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    let _permit = handshakes.acquire().await.map_err(io::Error::other)?;
    hello.into_stream(context.0.identity.server()).await
}

fn http1_of(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Heads have their own deadline in `watch`; this one also ends idle connections.
    builder.timer(TokioTimer::new()).header_read_timeout(limits.idle);
    builder.max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX);
    builder
}

fn http2_of(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        // Honest clients open up to 100 streams before they see our SETTINGS; each refused one counts
        // as a reset of ours.
        .max_concurrent_streams(100)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(256)
        .max_header_list_size(16 << 10)
        .max_frame_size(16 << 10)
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(256 << 10)
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(limits.keep_alive)
        .keep_alive_timeout(limits.write_stall);
    builder
}

/// How a connection ended.
#[derive(Debug)]
enum End {
    Closed,
    Late(&'static str),
    Flooded,
}

struct Watch<'a> {
    limits: &'a Limits,
    activity: &'a Activity,
    shutdown: watch::Receiver<bool>,
}

impl Watch<'_> {
    /// Drives a connection and keeps its deadlines. `wind_down` lets what is under way finish.
    async fn over<C>(mut self, connection: C, wind_down: fn(Pin<&mut C>)) -> End
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut connection = pin!(connection);
        let mut ticks = interval(self.limits.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leaves_at: Option<Instant> = None;
        loop {
            tokio::select! {
                // Pinned outside the loop: another arm only pauses it.
                _ = connection.as_mut() => {
                    return if self.activity.is_flooded() { End::Flooded } else { End::Closed };
                }
                // Cancel safe; the next tick comes all the same.
                _ = ticks.tick() => {
                    let now = Instant::now();
                    if leaves_at.is_some_and(|at| now > at) {
                        return End::Late("did not leave in time");
                    }
                    match self.activity.verdict(self.limits, now) {
                        Verdict::InTime => {}
                        Verdict::Late(why) => return End::Late(why),
                        Verdict::Idle if leaves_at.is_none() => {
                            wind_down(connection.as_mut());
                            leaves_at = Some(now + self.limits.tick * 4);
                        }
                        Verdict::Idle => {}
                    }
                }
                // Only looks at a value: nothing is lost.
                () = stopped(&mut self.shutdown), if leaves_at.is_none() => {
                    wind_down(connection.as_mut());
                    leaves_at = Some(Instant::now() + self.limits.stop);
                }
            }
        }
    }
}
