//! The API over a real socket, with a scripted driver and a journal in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::answers::*;
use super::tiers::{Discovery, Place, PlaceOutcome, Source, TierAnswer, TierName, TierState};
use super::*;
use crate::core::params::Params;
use crate::core::ports::{Claim, Claimed, Claims, Emitted, Entry, Log, Order, Origin, Page, PageError, Seq, Stored};
use crate::core::trust::Policy;
use crate::time::Wall;
use crate::wire::message::{Durability, Outcome};
use crate::wire::{Digest, Envelope, Interests, Keypair, Network, NodeId, PeerAddress, Rejection, Verified};

mod asking;
mod groups;
mod idempotency;
mod letters;
mod publishing;
mod watching;

/// Nothing here takes longer, on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(20);
const NOW: Wall = Wall::from_millis(1_795_243_262_123);

fn key(seed: u8) -> Keypair {
    Keypair::from_seed(&[seed; 32])
}

/// A journal in memory; positions are 1, 3, 5: gaps are allowed.
#[derive(Default)]
struct Memory(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    entries: Vec<Stored>,
    digests: BTreeSet<Digest>,
    last: u64,
    /// Positions below were dropped.
    dropped: u64,
    cursors: BTreeMap<String, Seq>,
    /// A cursor was set below where it was.
    went_back: bool,
    claimed: BTreeMap<Digest, Claimed>,
}

impl Memory {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("no test panics while it holds this")
    }

    fn push(&self, envelope: Verified<Envelope>, from: Option<NodeId>, hops: u8, received: Wall) -> Seq {
        let mut kept = self.kept();
        kept.last += if kept.last == 0 { 1 } else { 2 };
        let seq = Seq(kept.last);
        kept.digests.insert(envelope.digest());
        let claims = Box::default();
        kept.entries
            .push(Stored { seq, entry: Entry { envelope, from, hops, duty: false, received, claims, hold: None } });
        seq
    }

    fn went_back(&self) -> bool {
        self.kept().went_back
    }

    fn has(&self, digest: &Digest) -> bool {
        self.kept().digests.contains(digest)
    }

    fn drop_before(&self, seq: u64) {
        let mut kept = self.kept();
        kept.dropped = seq;
        kept.entries.retain(|stored| stored.seq.0 >= seq);
    }
}

impl Log for Memory {
    fn incarnation(&self) -> u64 {
        7
    }
    fn head(&self) -> Seq {
        Seq(self.kept().last)
    }
    fn earliest(&self) -> Seq {
        let kept = self.kept();
        kept.entries.first().map_or(Seq(kept.last + 1), |stored| stored.seq)
    }
    fn page(&self, after: Seq, entries_max: usize, _: usize) -> Result<Page, PageError> {
        let earliest = self.earliest();
        let kept = self.kept();
        if kept.dropped > after.0 + 1 {
            return Err(PageError::Gone { earliest });
        }
        let entries: Vec<Stored> =
            kept.entries.iter().filter(|stored| stored.seq > after).take(entries_max).cloned().collect();
        let upto = entries.last().map_or(after, |stored| stored.seq);
        Ok(Page { entries, upto })
    }
    fn since(&self, moment: Wall) -> Result<Seq, PageError> {
        let kept = self.kept();
        let first = kept.entries.iter().find(|stored| stored.entry.received >= moment);
        Ok(first.map_or(Seq(kept.last + 1), |stored| stored.seq))
    }
    fn find(&self, digest: &Digest) -> Option<Stored> {
        self.kept().entries.iter().find(|stored| stored.entry.envelope.digest() == *digest).cloned()
    }
    fn cursor(&self, name: &str) -> Option<Seq> {
        self.kept().cursors.get(name).copied()
    }
    fn set_cursor(&self, name: &str, seq: Seq) {
        let mut kept = self.kept();
        kept.went_back |= kept.cursors.insert(name.to_owned(), seq).is_some_and(|before| before > seq);
    }
}

impl Cursors for Memory {
    fn all(&self) -> Vec<(String, Seq)> {
        self.kept().cursors.iter().map(|(name, seq)| (name.clone(), *seq)).collect()
    }
    fn forget(&self, name: &str) {
        self.kept().cursors.remove(name);
    }
}

impl Claims for Memory {
    fn claimed(&self, key: &Digest, now: Wall) -> Option<Claimed> {
        self.kept().claimed.get(key).filter(|claimed| now < claimed.until).cloned()
    }
}

impl Memory {
    /// Remembers the keys of this event; false when one of them means another event.
    fn keep_claims(&self, emitted: &Emitted) -> bool {
        let kept = &mut *self.kept();
        let (event, id) = (emitted.envelope.digest(), &emitted.envelope.event().id);
        let is_free = |claim: &Claim| kept.claimed.get(&claim.key).is_none_or(|claimed| claimed.event == event);
        let are_free = emitted.claims.iter().all(is_free);
        for &Claim { key, body, until } in emitted.claims.iter().filter(|_| are_free) {
            kept.claimed.insert(key, Claimed { body, until, event, id: id.clone() });
        }
        are_free
    }
}

/// What the scripted driver knows and was told.
struct Script {
    log: Arc<Memory>,
    head: watch::Sender<Seq>,
    peers: Vec<Peer>,
    interests: Interests,
    muted: Vec<NodeId>,
    ready: bool,
    /// Sizes of the batches that were published.
    batches: Arc<Mutex<Vec<usize>>>,
}

impl Script {
    async fn drive(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(request) = requests.recv().await {
            self.on_request(request);
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Status { answer } => drop(answer.send(status(self.ready))),
            Request::Id { answer } => drop(answer.send(identity())),
            Request::Peers { all, answer } => {
                // Whoever is called `slow` needs three looks to be connected.
                for peer in self.peers.iter_mut().filter(|peer| peer.alias.as_deref() == Some("slow")) {
                    peer.events_in += 1;
                    if peer.events_in > 3 {
                        peer.state = PeerState::Connected;
                    }
                }
                let known = self.peers.iter().filter(|peer| all || peer.origin != Origin::Found);
                let peers: Vec<Peer> = known.cloned().collect();
                let strangers = (self.peers.len() - peers.len()) as u64;
                let _ = answer.send(Peers { peers, strangers });
            }
            Request::History { answer, .. } => {
                let moved = Moved { at: Some(NOW), state: PeerState::Probing, why: String::new() };
                let _ = answer.send(vec![moved]);
            }
            Request::Order { id, order, answer } => drop(answer.send(self.order(id, order))),
            Request::Identify { at, answer } => {
                let id = key(2).id();
                let found = Identified { address: PeerAddress { id: Some(id), at: at.clone() }, id };
                let nobody = Fault::new(FaultCode::Unreachable, "connection refused");
                let _ = answer.send(if at.port == 9 { Err(nobody) } else { Ok(found) });
            }
            Request::AddPeer { id, at, alias, answer } => {
                self.peers.retain(|peer| peer.id != id);
                self.peers.push(peer(id, alias.as_deref(), &at.to_string()));
                let _ = answer.send(Ok(()));
            }
            Request::NamePeer { id, alias, answer } => {
                self.peers.iter_mut().filter(|peer| peer.id == id).for_each(|peer| peer.alias.clone_from(&alias));
                let _ = answer.send(Ok(()));
            }
            Request::Ping { id, answer } => {
                let pinged = Pinged { id, alias: None, rtt_ms: 1.5, waited_ms: 0.0, clock_ahead_ms: 0 };
                let _ = answer.send(Ok(pinged));
            }
            Request::Match { kind, answer } => {
                let matched = |peer: &Peer| Matched {
                    id: peer.id,
                    alias: peer.alias.clone(),
                    connected: false,
                    wants: kind.as_str() == "demo.wanted",
                    why: "it asks for `demo.*`".to_owned(),
                };
                let peers = self.peers.iter().map(matched).collect();
                let _ = answer.send(Matches { kind: kind.to_string(), own: true, peers });
            }
            Request::RemovePeer { id, answer } => {
                self.peers.retain(|peer| peer.id != id);
                let _ = answer.send(Ok(()));
            }
            Request::Discovery { answer } => drop(answer.send(discovery(false, true, &TierName::ALL.into()))),
            Request::Discover { tiers, dry_run, answer } => drop(answer.send(discovery(true, dry_run, &tiers))),
            Request::Leave { answer } => {
                let told = self.peers.iter().map(|peer| peer.id).collect();
                let _ = answer.send(Ok(Left { told, missed: Vec::new(), registrar: None }));
            }
            Request::Publish { emitted, taken, answer } => {
                self.batches.lock().expect("not poisoned").push(emitted.len());
                let is_taken = |envelope: &&Verified<Envelope>| envelope.event().kind.as_str() == "demo.taken";
                for envelope in emitted.iter().map(|one| &one.envelope).filter(is_taken) {
                    let taken = taken.as_ref().expect("somebody asks");
                    for seed in [2, 2, 3] {
                        taken.send((envelope.digest(), key(seed).id())).expect("still waiting");
                    }
                }
                let _ = answer.send(emitted.into_iter().map(|one| self.store(one)).collect());
            }
            Request::Interests { answer } => drop(answer.send(self.view())),
            Request::Reach { to, answer, .. } => {
                let is_peer = |id: &NodeId| *id == key(1).id() || self.peers.iter().any(|peer| peer.id == *id);
                let why = "it is no peer of this node".to_owned();
                let strangers = to.into_iter().filter(|id| !is_peer(id));
                drop(answer.send(strangers.map(|id| Unreached { id, why: why.clone() }).collect()));
            }
            Request::Metrics { answer } => drop(answer.send("# EOF\n".to_owned())),
            Request::Trust { answer } => drop(answer.send(self.trust())),
            Request::SetMuted { mute, unmute, answer } => {
                self.muted.extend(mute);
                self.muted.retain(|id| !unmute.contains(id));
                let _ = answer.send(Ok(self.trust()));
            }
            Request::SetInterests { change, answer } => {
                let changed = change.apply(&self.interests).map(|interests| {
                    self.interests = interests;
                    self.view()
                });
                let _ = answer.send(changed);
            }
            Request::Letters { count, answer } => drop(answer.send(Ok(vec![letters::letter(); count.min(2)]))),
            Request::Letter { id, answer } | Request::DropLetter { id, answer } => {
                drop(answer.send(letters::find(&id)));
            }
            Request::RetryLetter { id, answer } => drop(answer.send(letters::retry(&id))),
            Request::MendBus { replay, answer } => drop(answer.send(letters::mend(replay))),
        }
    }

    fn order(&mut self, id: NodeId, order: Order) -> Result<(), Fault> {
        if matches!(order, Order::Block { .. }) && !self.peers.iter().any(|peer| peer.id == id) {
            self.peers.push(Peer { addresses: Vec::new(), ..peer(id, None, "x.example") });
        }
        let peer = self.peers.iter_mut().find(|peer| peer.id == id).expect("selected");
        let is_blocked = peer.state == PeerState::Blocked;
        (peer.state, peer.why) = match order {
            Order::Accept if is_blocked => return Err(Fault::new(FaultCode::Blocked, "it is blocked")),
            Order::Block { why } => (PeerState::Blocked, Some(why).filter(|why| !why.is_empty())),
            Order::Accept | Order::Unblock => (PeerState::Probing, None),
        };
        Ok(())
    }

    fn trust(&self) -> TrustView {
        let muted = self.muted.iter().map(|id| Muted { id: *id, alias: None, by_hand: true });
        TrustView { muted: muted.collect(), rules: Vec::new() }
    }

    fn store(&self, emitted: Emitted) -> Outcome {
        let event = emitted.envelope.event();
        if event.kind.as_str() == "demo.full" {
            return Outcome::Refused(Rejection::Unavailable { after: Duration::from_millis(500) });
        }
        if self.log.has(&emitted.envelope.digest()) {
            return Outcome::Duplicate;
        }
        let same_name = |stored: &Stored| {
            let other = stored.entry.envelope.event();
            (other.source, &other.id) == (event.source, &event.id)
        };
        if self.log.kept().entries.iter().any(same_name) || !self.log.keep_claims(&emitted) {
            return Outcome::Refused(Rejection::Conflict);
        }
        let own = event.source;
        self.head.send_replace(self.log.push(emitted.envelope, Some(own), 0, NOW));
        Outcome::Stored { no_duty: false }
    }

    fn view(&self) -> InterestsView {
        InterestsView { patterns: self.interests.patterns().to_vec(), lasting: true, peers: Vec::new() }
    }
}

fn status(ready: bool) -> Status {
    Status {
        id: key(1).id(),
        name: "birch".to_owned(),
        ready,
        bus: BusStatus { kind: BusKind::Embedded, connected: true, lag: 0, url: None, why: None },
        peers: PeersStatus { connected: 0, known: 0, asking: 0 },
        journal: JournalStatus { events: 0, bytes: 0 },
        discovery: Vec::new(),
        warnings: if ready { Vec::new() } else { vec!["the disk is full".to_owned()] },
        version: "0.1.0".to_owned(),
        network: "main".to_owned(),
        listen: Vec::new(),
        addresses: Vec::new(),
        uptime_s: 1,
        durability: Durability::Fsync,
    }
}

/// Seeds name node 2, which is dialled; nothing else is on.
fn discovery(asked: bool, dry_run: bool, tiers: &BTreeSet<TierName>) -> Discovery {
    let outcome = if dry_run { PlaceOutcome::Found } else { PlaceOutcome::Verified };
    let at = "127.0.0.2:7443".parse().expect("an address");
    let place = Place { id: Some(key(2).id()), address: at, known: false, outcome, ms: None, failure: None };
    let source = Source {
        source: "stable".to_owned(),
        at: Some(NOW),
        ms: None,
        found: 1,
        refused: 0,
        ignored: 0,
        failure: None,
        places: vec![place],
    };
    let answer = |tier: &TierName| {
        let is_on = *tier == TierName::Seeds;
        let state = if is_on { TierState::Waiting } else { TierState::Off };
        let sources = if is_on { vec![source.clone()] } else { Vec::new() };
        TierAnswer { tier: *tier, state, next_in_ms: None, note: None, sources }
    };
    Discovery { asked, dry_run, standing: Some(0), wanted: Some(8), tiers: tiers.iter().map(answer).collect() }
}

fn identity() -> Identity {
    Identity { id: key(1).id(), name: "birch".to_owned(), network: "main".to_owned(), addresses: Vec::new() }
}

fn peer(id: NodeId, alias: Option<&str>, at: &str) -> Peer {
    Peer {
        id,
        alias: alias.map(str::to_owned),
        addresses: vec![PeerAddress { id: Some(id), at: at.parse().expect("an address") }],
        state: PeerState::Probing,
        origin: Origin::Manual,
        via: None,
        rtt_ms: None,
        events_in: 0,
        events_out: 0,
        last_seen: None,
        why: None,
        failures: 0,
        retry_in_ms: None,
        lagging: false,
        history: None,
    }
}

/// A served API; the tests of the command line use it too.
pub(crate) struct Scene {
    pub(crate) path: PathBuf,
    log: Arc<Memory>,
    head: watch::Sender<Seq>,
    policy: watch::Sender<Policy>,
    batches: Arc<Mutex<Vec<usize>>>,
    driver: JoinHandle<()>,
    server: JoinHandle<std::io::Result<()>>,
    stop: oneshot::Sender<()>,
    changes: broadcast::Sender<Change>,
    /// Seconds since [`NOW`], by the clock of the node.
    later: Arc<AtomicU64>,
    _directory: tempfile::TempDir,
}

impl Scene {
    pub(crate) async fn open() -> Scene {
        Scene::open_as(true).await
    }

    pub(crate) async fn open_as(ready: bool) -> Scene {
        Scene::open_with(ready, KEEP_ALIVE).await
    }

    /// With these peers.
    pub(crate) async fn open_among(peers: &[Peer]) -> Scene {
        Scene::open_of(true, KEEP_ALIVE, peers.to_vec()).await
    }

    async fn open_with(ready: bool, keep_alive: Duration) -> Scene {
        Scene::open_of(ready, keep_alive, Vec::new()).await
    }

    async fn open_of(ready: bool, keep_alive: Duration, peers: Vec<Peer>) -> Scene {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        let (head, heads) = watch::channel(Seq(0));
        let (stop, stopped) = oneshot::channel();
        let (changes, _) = broadcast::channel(4);
        let (log, batches) = (Arc::new(Memory::default()), Arc::default());
        let later: Arc<AtomicU64> = Arc::default();
        let seconds = Arc::clone(&later);
        let script = Script {
            log: Arc::clone(&log),
            head: head.clone(),
            peers,
            interests: Interests::default(),
            muted: Vec::new(),
            ready,
            batches: Arc::clone(&batches),
        };
        let (policies, policy) = watch::channel(Policy::of(key(1).id(), &Params::default()));
        let desk = Desk {
            requests,
            key: Arc::new(key(1)),
            network: Network::default(),
            durability: Durability::Fsync,
            clock: Arc::new(move || NOW + Duration::from_secs(seconds.load(Ordering::Relaxed))),
            keep_alive,
            changes: changes.clone(),
            claims: Arc::clone(&log) as Arc<dyn Claims>,
            log: Arc::clone(&log) as Arc<dyn Log>,
            cursors: Arc::clone(&log) as Arc<dyn Cursors>,
            head: heads,
            policy,
        };
        let socket = bind(&path).await.expect("a socket");
        let stopped = async { drop(stopped.await) };
        Scene {
            path,
            log,
            head,
            policy: policies,
            batches,
            driver: tokio::spawn(script.drive(received)),
            server: tokio::spawn(serve(socket, desk, stopped)),
            stop,
            changes,
            later,
            _directory: directory,
        }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.path).await.expect("a connection")
    }

    /// Any request, as `curl` would send it: status, headers as text, body.
    async fn raw(&self, method: &str, uri: &str, kind: Option<&str>, body: &[u8]) -> (u16, String, String) {
        let kind = kind.map(|kind| ("content-type", kind));
        self.raw_with(method, uri, kind.as_slice(), body).await
    }

    /// The same with any headers.
    async fn raw_with(&self, method: &str, uri: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String, String) {
        let stream = UnixStream::connect(&self.path).await.expect("a connection");
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(async { drop(connection.await) });
        let mut request = hyper::Request::builder().method(method).uri(uri).header("host", "x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), format!("{:?}", response.headers()));
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, headers, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    /// How far a group of subscribers has come.
    pub(crate) fn acknowledged(&self, group: &str) -> Option<Seq> {
        self.log.cursor(&format!("sub:{group}"))
    }

    /// Nobody answers questions any more.
    pub(crate) fn freeze(&self) {
        self.driver.abort();
    }

    /// Time goes by.
    fn pass(&self, span: Duration) {
        self.later.fetch_add(span.as_secs(), Ordering::Relaxed);
    }

    /// An event by a peer arrives.
    pub(crate) fn arrive(&self, kind: &str, number: u64) -> Seq {
        let envelope = event(2, kind, number);
        let seq = self.log.push(envelope, Some(key(2).id()), 1, NOW + Duration::from_secs(number));
        self.head.send_replace(seq);
        seq
    }
}

fn event(seed: u8, kind: &str, number: u64) -> Verified<Envelope> {
    let data = serde_json::value::RawValue::from_string(number.to_string()).expect("JSON");
    let draft = crate::wire::Draft::new(format!("e-{number}"), kind, NOW).with_data(data);
    crate::wire::envelope::seal(&draft, &key(seed)).expect("an event")
}

/// Waits for what has to happen, and not for ever.
async fn soon<T>(happening: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, happening).await.expect("it happens before the deadline")
}

fn problem(error: ClientError) -> (u16, String, String) {
    match error {
        ClientError::Problem(Problem { problem, number }) => (problem.status, problem.code, number),
        other => panic!("a problem, not {other:?}"),
    }
}
