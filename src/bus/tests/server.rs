//! Real `redis-server` processes on 127.0.0.1, and a proxy in front that loses answers.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::until;

/// One server and its directory. Killed when dropped.
pub(super) struct Server {
    port: u16,
    dir: TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// A server that keeps nothing on disk.
    pub(super) async fn start() -> Server {
        Server::with(&["--appendonly", "no"]).await
    }

    /// A server that answers only when it is on disk.
    pub(super) async fn durable() -> Server {
        Server::with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// A server as most are set up: a kill may lose what it answered a moment ago.
    pub(super) async fn everysec() -> Server {
        Server::with(&["--appendonly", "yes"]).await
    }

    pub(super) async fn with(arguments: &[&str]) -> Server {
        let mut server = Server::absent(arguments);
        server.rise().await;
        server
    }

    /// A server that is to be; its port is chosen already.
    pub(super) fn absent(arguments: &[&str]) -> Server {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let dir = tempfile::tempdir().expect("a directory for Redis");
        Server { port, dir, arguments: arguments.iter().map(|&one| one.to_owned()).collect(), child: None }
    }

    /// Starts the process, again or for the first time, on the same port and directory.
    pub(super) async fn rise(&mut self) {
        self.child = Some(spawn(self.port, self.dir.path(), &self.arguments));
        until("Redis to serve", async || is_serving(&self.url()).await).await;
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// kill -9.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    /// Cuts the end off its append-only file, as a kill in the middle of a write does.
    pub(super) fn tear(&self, bytes: u64) {
        let files = std::fs::read_dir(self.dir.path().join("appendonlydir")).expect("it kept a log");
        let is_tail = |path: &std::path::PathBuf| path.to_string_lossy().ends_with(".incr.aof");
        let tail = files.map(|file| file.expect("readable").path()).find(is_tail).expect("a log being written");
        let file = std::fs::OpenOptions::new().write(true).open(tail).expect("writable");
        let length = file.metadata().expect("readable").len();
        file.set_len(length - bytes).expect("writable");
    }

    /// It stays, holds its sockets, and does nothing more.
    pub(super) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(super) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().expect("it runs").id();
        let pid = Pid::from_raw(id.try_into().expect("a process id")).expect("a process id");
        kill_process(pid, signal).expect("our own child");
    }

    /// A connection of a person looking on.
    pub(super) async fn connect(&self) -> MultiplexedConnection {
        self.connect_as("").await
    }

    /// The same with `user:password@`.
    pub(super) async fn connect_as(&self, who: &str) -> MultiplexedConnection {
        let url = format!("redis://{who}127.0.0.1:{}", self.port);
        let client = redis::Client::open(url).expect("a URL");
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(super::PATIENCE))
            .set_response_timeout(Some(super::PATIENCE));
        client.get_multiplexed_async_connection_with_config(&patient).await.expect("Redis runs")
    }

    /// One command as a person types it.
    pub(super) async fn type_in(&self, words: &[&str]) -> redis::Value {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.connect().await).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// It answers, if only that it wants a password.
async fn is_serving(url: &str) -> bool {
    let client = redis::Client::open(url).expect("a URL");
    let Ok(mut redis) = client.get_multiplexed_async_connection().await else { return false };
    match redis::cmd("PING").exec_async(&mut redis).await {
        Ok(()) => true,
        Err(error) => error.code() == Some("NOAUTH"),
    }
}

fn spawn(port: u16, dir: &Path, arguments: &[String]) -> Child {
    let port = port.to_string();
    Command::new("redis-server")
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--databases", "2", "--dir"])
        .arg(dir)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is missing: run tests/run")
}

/// Forwards to a server, and misbehaves when told to.
pub(super) struct Proxy {
    port: u16,
    pub(super) faults: Arc<Faults>,
}

/// What goes wrong on the way.
#[derive(Default)]
pub(super) struct Faults {
    /// Answers are swallowed and their connection breaks: the client never learns what was done.
    pub(super) deaf: AtomicBool,
    /// Answers swallowed so far.
    pub(super) swallowed: AtomicU32,
    /// What clients send is held back, also when they are long gone.
    pub(super) late: AtomicBool,
    /// What was held back goes on now.
    pub(super) release: watch::Sender<bool>,
    /// Answers to what was held back.
    pub(super) answered_late: AtomicU32,
}

impl Proxy {
    pub(super) async fn before(server: &Server) -> Proxy {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (target, faults) = (server.port(), Arc::<Faults>::default());
        let proxy = Proxy { port, faults: Arc::clone(&faults) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, target, Arc::clone(&faults)));
            }
        });
        proxy
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

async fn forward(client: TcpStream, target: u16, faults: Arc<Faults>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let held = Arc::new(AtomicBool::new(false));
    let upstream = tokio::spawn({
        let (faults, held) = (Arc::clone(&faults), Arc::clone(&held));
        async move {
            let mut sent = vec![0; 64 << 10];
            while let Ok(length @ 1..) = from_client.read(&mut sent).await {
                if faults.late.load(Ordering::SeqCst) {
                    held.store(true, Ordering::SeqCst);
                    let _ = faults.release.subscribe().wait_for(|release| *release).await;
                }
                if to_server.write_all(&sent[..length]).await.is_err() {
                    break;
                }
            }
        }
    });
    let mut answer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from_server.read(&mut answer).await {
        if held.load(Ordering::SeqCst) {
            faults.answered_late.fetch_add(1, Ordering::SeqCst);
        }
        if faults.deaf.load(Ordering::SeqCst) {
            faults.swallowed.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if to_client.write_all(&answer[..length]).await.is_err() {
            break;
        }
    }
    upstream.abort();
}
