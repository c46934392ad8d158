//! A receptor with a scripted driver, and callers good and bad. Loopback, port 0, no sleeps.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::core::ports::{Known, Seen};
use crate::time::Wall;
use crate::wire::message::{Durability, LINES_TYPE};
use crate::wire::{Code, Digest, Draft, Envelope, Keypair, Network, Profile, RecordDraft, Rejection, Word, envelope};

mod bad_peers;
mod blocked;
mod exchange;
mod flood;
mod framing;
mod identity;
mod items;
mod lanes;
mod policy;
mod primary;
mod reconcile;
mod registrar;
mod slow;

/// Longer than anything here takes; reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(20);
const NOW: Wall = Wall::from_millis(1_795_243_262_123);

/// What the driver knows, as the journal would.
#[derive(Default)]
struct Memory {
    stored: Mutex<HashSet<Digest>>,
    refused: Mutex<Vec<(Digest, Code)>>,
    /// Lines of others that are given to whoever asks.
    known: Mutex<Vec<String>>,
    /// What neighbours that reconcile are answered from; `None` = they are none.
    view: Mutex<Option<Arc<Snapshot>>>,
    /// Digests in the order in which they were stored.
    order: Mutex<Vec<Digest>>,
}

impl Known for Memory {
    fn seen(&self, digest: &Digest) -> Option<Seen> {
        let refused = self.refused.lock().expect("unpoisoned");
        if let Some((_, code)) = refused.iter().find(|(other, _)| other == digest) {
            return Some(Seen::Refused(*code));
        }
        self.stored.lock().expect("unpoisoned").contains(digest).then_some(Seen::Stored)
    }
}

/// What the scripted driver does with lines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Store,
    Unwanted,
    Hold,
    Drop,
}

/// One node: receptor, driver, and what it is told.
struct Node {
    key: Arc<Keypair>,
    context: Context,
    at: SocketAddr,
    memory: Arc<Memory>,
    script: watch::Sender<Script>,
    strings: Strings,
    shutdown: watch::Sender<bool>,
    reports: mpsc::Sender<Report>,
    told: mpsc::UnboundedReceiver<Report>,
    receptor: JoinHandle<()>,
}

fn key(number: u8) -> Arc<Keypair> {
    Arc::new(Keypair::from_seed(&[number; 32]))
}

fn record_line(key: &Keypair, seq: u64) -> Arc<str> {
    let record = RecordDraft { seq, ..RecordDraft::default() }.seal(NOW, key).expect("a record");
    record.envelope().line(0, false).into()
}

/// The ends of what the settings watch.
struct Strings {
    record: watch::Sender<Arc<str>>,
    neighbours: watch::Sender<Arc<BTreeSet<NodeId>>>,
    blocked: watch::Sender<Arc<BTreeSet<NodeId>>>,
    ready: watch::Sender<bool>,
}

/// Ready-made figures, for tests to change.
fn settings(number: u8) -> (Settings, Strings) {
    let key = key(number);
    let (record, record_seen) = watch::channel(record_line(&key, 1));
    let (neighbours, neighbours_seen) = watch::channel(Arc::default());
    let (blocked, blocked_seen) = watch::channel(Arc::default());
    let (ready, ready_seen) = watch::channel(true);
    let settings = Settings {
        key,
        network: Network::default(),
        profile: Profile::Loopback,
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        known: Arc::new(Memory::default()),
        clock: Arc::new(|| NOW),
        record: record_seen,
        neighbours: neighbours_seen,
        blocked: blocked_seen,
        ready: ready_seen,
        rate: Rate { per_second: 1_000, burst: 10_000 },
        durability: Durability::Fsync,
        limits: Limits { tick: Duration::from_millis(10), ..Limits::default() },
    };
    (settings, Strings { record, neighbours, blocked, ready })
}

impl Node {
    async fn start(number: u8) -> Node {
        Node::with(number, |_| ()).await
    }

    async fn with(number: u8, change: impl FnOnce(&mut Settings)) -> Node {
        let (mut settings, strings) = settings(number);
        let memory = Arc::new(Memory::default());
        settings.known = Arc::clone(&memory) as Arc<dyn Known>;
        change(&mut settings);
        let key = Arc::clone(&settings.key);
        let context = Context::new(settings).expect("a context");
        let bound = Receptor::bind(&context).await.expect("a free port");
        let at = bound.addresses()[0];
        let (reports, inbox) = mpsc::channel(16);
        let (shutdown, stop) = watch::channel(false);
        let (script, plot) = watch::channel(Script::Store);
        let (tell, told) = mpsc::unbounded_channel();
        let receptor = tokio::spawn(bound.run(reports.clone(), stop));
        tokio::spawn(drive(inbox, Arc::clone(&memory), plot, tell));
        Node { key, context, at, memory, script, strings, shutdown, reports, told, receptor }
    }

    fn id(&self) -> NodeId {
        self.key.id()
    }

    fn place(&self) -> HostPort {
        HostPort::from_socket(self.at)
    }

    fn befriend(&self, ids: &[NodeId]) {
        self.strings.neighbours.send_replace(Arc::new(ids.iter().copied().collect()));
    }

    /// The next report that is one of these.
    async fn told<T>(&mut self, pick: impl Fn(Report) -> Option<T>) -> T {
        let wanted = async {
            loop {
                let report = self.told.recv().await.expect("the driver runs");
                if let Some(found) = pick(report) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, wanted).await.expect("the report comes")
    }

    fn lane(&self, to: &Node) -> LaneHandle {
        open(&self.context, to.id(), LaneId(1), vec![to.place()], Word::Near, self.reports.clone())
    }

    /// Every event on a new connection, as its own body; all must be taken.
    async fn still_takes_events(&self) {
        let caller = key(200);
        let line = event(&caller, &format!("after-{}", fastrand::u64(..)));
        let answer = self.post(Some(&caller), &line).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
    }

    async fn post(&self, caller: Option<&Keypair>, body: &str) -> Reply {
        self.ask(caller, &request("POST", "/mesh/v1/events", body)).await
    }

    /// One HTTP/1.1 request as raw bytes on a connection of its own.
    async fn ask(&self, caller: Option<&Keypair>, request: &str) -> Reply {
        let mut stream = connect(self.at, caller, b"http/1.1").await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("bytes are taken");
        read_reply(&mut stream).await
    }
}

async fn drive(
    mut inbox: mpsc::Receiver<Report>,
    memory: Arc<Memory>,
    plot: watch::Receiver<Script>,
    tell: mpsc::UnboundedSender<Report>,
) {
    let mut held = Vec::new();
    while let Some(report) = inbox.recv().await {
        let (arrived, answer) = match report {
            Report::Received { arrived, answer, .. } => (arrived, answer),
            Report::Reconciling { from, answer } => {
                let _ = answer.send(memory.view.lock().expect("unpoisoned").clone());
                let (silent, _) = oneshot::channel();
                let _ = tell.send(Report::Reconciling { from, answer: silent });
                continue;
            }
            Report::Asked { from, shown, group, records, answer } => {
                let given = memory.known.lock().expect("unpoisoned").clone();
                let _ = answer.send(given);
                let (silent, _) = oneshot::channel();
                let _ = tell.send(Report::Asked { from, shown, group, records, answer: silent });
                continue;
            }
            _ => {
                let _ = tell.send(report);
                continue;
            }
        };
        match *plot.borrow() {
            Script::Hold => held.push(answer),
            Script::Drop => drop(answer),
            Script::Unwanted => {
                let outcomes = vec![Outcome::Refused(Rejection::NotSubscribed); arrived.len()];
                let _ = answer.send(Answer { outcomes, credit: 128 });
            }
            Script::Store => {
                let store = |line: &Arrived| {
                    let digest = line.envelope.digest();
                    match memory.stored.lock().expect("unpoisoned").insert(digest) {
                        true => {
                            memory.order.lock().expect("unpoisoned").push(digest);
                            Outcome::Stored { no_duty: line.duty }
                        }
                        false => Outcome::Duplicate,
                    }
                };
                let _ = answer.send(Answer { outcomes: arrived.iter().map(store).collect(), credit: 128 });
            }
        }
    }
}

fn sealed(key: &Keypair, id: &str) -> Verified<Envelope> {
    envelope::seal(&Draft::new(id, "build.finished", NOW), key).expect("an event")
}

/// One good line, without LF.
fn event(key: &Keypair, id: &str) -> String {
    sealed(key, id).line(1, false)
}

fn request(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {LINES_TYPE}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// An HTTP/1.1 answer.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    text: String,
}

impl Reply {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).expect("a JSON body")
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Reads an answer with a length; what follows it stays in the stream.
async fn read_reply(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Reply {
    let reading = async {
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.trim().parse::<usize>().expect("a length"))
                });
                if body.len() >= length.unwrap_or(0) {
                    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
                    return Reply { status, head: head.to_ascii_lowercase(), text: body.to_owned() };
                }
            }
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return Reply { status: 0, head: String::new(), text },
                Ok(count) => bytes.extend_from_slice(&part[..count]),
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("an answer or an end")
}

/// Until the other side ends the connection.
async fn ends(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut sink = [0; 4096];
    let reading = async { while !matches!(stream.read(&mut sink).await, Ok(0) | Err(_)) {} };
    timeout(PATIENCE, reading).await.expect("the connection ends");
}

/// A TLS client configuration that takes any node, with or without a key of its own.
fn client_config(caller: Option<&Keypair>, alpn: &[u8]) -> ClientConfig {
    let identity = tls::Identity::new(caller.unwrap_or(&key(250))).expect("an identity");
    let pin = identity.pin(None);
    let mut config = match caller {
        Some(_) => identity.client(&pin),
        None => ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(pin)
            .with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

async fn connect(at: SocketAddr, caller: Option<&Keypair>, alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    connect_by(at, Arc::new(client_config(caller, alpn))).await
}

async fn connect_by(at: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let connecting = async {
        let stream = TcpStream::connect(at).await?;
        TlsConnector::from(config).connect(at.ip().into(), stream).await
    };
    timeout(PATIENCE, connecting).await.expect("a connection or a refusal")
}
