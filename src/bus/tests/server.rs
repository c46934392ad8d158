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
        until("Redis to listen", async || TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()).await;
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

/// Forwards to a server and, when told to, swallows the answer to what it forwarded, then breaks the
/// connection: the client never learns what became of it.
pub(super) struct Proxy {
    port: u16,
    /// Swallow the answers from now on.
    pub(super) deaf: Arc<AtomicBool>,
    /// Answers swallowed so far.
    pub(super) swallowed: Arc<AtomicU32>,
}

impl Proxy {
    pub(super) async fn before(server: &Server) -> Proxy {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (deaf, swallowed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (target, proxy) = (server.port(), Proxy { port, deaf, swallowed });
        let (deaf, swallowed) = (Arc::clone(&proxy.deaf), Arc::clone(&proxy.swallowed));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, target, Arc::clone(&deaf), Arc::clone(&swallowed)));
            }
        });
        proxy
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

async fn forward(client: TcpStream, target: u16, deaf: Arc<AtomicBool>, swallowed: Arc<AtomicU32>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let upstream = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut answer = vec![0; 64 << 10];
    while let Ok(length) = from_server.read(&mut answer).await
        && length > 0
    {
        if deaf.load(Ordering::SeqCst) {
            swallowed.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if to_client.write_all(&answer[..length]).await.is_err() {
            break;
        }
    }
    upstream.abort();
}
