//! Daemons and Redis servers to have and to kill.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use afferent::time::Wall;
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

#[path = "../../src/net/tests/primary.rs"]
pub(crate) mod primary;
#[path = "support/tls.rs"]
pub(crate) mod tls;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `claim` gives something; fails with `what` when it does not in time.
pub(crate) fn eventually<T>(what: &str, patience: Duration, mut claim: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = claim() {
            return found;
        }
        assert!(Instant::now() < end, "not within {patience:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// What the clock says.
pub(crate) fn now() -> Wall {
    Wall::default() + SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// A list of seeds that names these.
pub(crate) fn seeds(addresses: &[String]) -> NamedTempFile {
    let list = NamedTempFile::new().expect("a file");
    let rows = addresses.iter().map(|address| format!("[[seed]]\naddress = \"{address}\"\n"));
    let text = format!("format = 1\nchannel = \"test\"\nnetwork = \"main\"\n{}", rows.collect::<String>());
    std::fs::write(list.path(), text).expect("a list");
    list
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// One daemon: its configuration, its directory, and the process while it runs.
pub(crate) struct Daemon {
    dir: TempDir,
    pub(crate) name: &'static str,
    /// Where it listens, as it stands in an address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Logs every event too.
    pub(crate) is_chatty: bool,
    child: Option<Child>,
}

impl Daemon {
    /// Writes the configuration of a daemon that wants `patterns`; `more` is TOML put at the end.
    pub(crate) fn new(name: &'static str, patterns: &[&str], redis: &str, more: &str) -> Daemon {
        Daemon::living_at(None, name, patterns, redis, more)
    }

    /// The same on a loopback address of its own: of those that share one, nodes remember two.
    pub(crate) fn housed(name: &'static str, host: &str, patterns: &[&str], more: &str) -> Daemon {
        Daemon::made(None, name, host, patterns, "", more)
    }

    /// The same, with its data under another directory.
    pub(crate) fn living_at(
        home: Option<&Path>,
        name: &'static str,
        patterns: &[&str],
        redis: &str,
        more: &str,
    ) -> Daemon {
        Daemon::made(home, name, "127.0.0.1", patterns, redis, more)
    }

    fn made(home: Option<&Path>, name: &'static str, host: &str, patterns: &[&str], redis: &str, more: &str) -> Daemon {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = home.unwrap_or(dir.path()).join("data");
        let port = free_port();
        let patterns: Vec<String> = patterns.iter().map(|pattern| format!("\"{pattern}\"")).collect();
        let config = format!(
            "[node]\nname = \"{name}\"\ndata_dir = \"{data}\"\nlisten = [\"{host}:{port}\"]\nprofile = \"loopback\"\n\
             [interests]\npatterns = [{patterns}]\n[bus]\nurl = \"{redis}\"\n[admin]\nsocket = \"{socket}\"\n\
             [limits]\nper_source = \"20000/s burst 40000\"\n{more}\n",
            data = data.display(),
            socket = dir.path().join("sock").display(),
            patterns = patterns.join(", "),
        );
        std::fs::write(dir.path().join("afferent.toml"), config).expect("a configuration");
        Daemon { dir, name, host: host.to_owned(), port, is_chatty: false, child: None }
    }

    /// The same, running.
    pub(crate) fn running(name: &'static str, patterns: &[&str], redis: &str, more: &str) -> Daemon {
        let mut daemon = Daemon::new(name, patterns, redis, more);
        daemon.start();
        daemon
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("afferent.toml")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts the process and waits until it answers.
    pub(crate) fn start(&mut self) {
        self.spawn();
        eventually(&format!("{} answers\n{}", self.name, self.log()), PATIENCE, || {
            let status = self.afferent(&["status", "--json"]);
            (status.status.code() == Some(0) || status.status.code() == Some(7)).then_some(())
        });
    }

    /// Its local API.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// Starts the process and does not wait. For it alone `/etc/hosts` is this file, which may change.
    pub(crate) fn spawn_seeing(&mut self, hosts: &Path) {
        let mount = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", mount]).arg(hosts).arg(env!("CARGO_BIN_EXE_afferent"));
        self.spawn_by(command, &[]);
    }

    /// Starts the process and does not wait.
    pub(crate) fn spawn(&mut self) {
        self.spawn_with(&[]);
    }

    /// The same with more in its environment.
    pub(crate) fn spawn_with(&mut self, environment: &[(&str, String)]) {
        self.spawn_by(binary(), environment);
    }

    fn spawn_by(&mut self, mut program: Command, environment: &[(&str, String)]) {
        assert!(self.child.is_none(), "{} runs", self.name);
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let child = program
            .arg("run")
            .args(self.is_chatty.then_some("-v"))
            .arg("--config")
            .arg(self.config())
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stderr(log)
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn();
        self.child = Some(child.expect("the daemon starts"));
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a running process");
            child.wait().expect("a killed process");
        }
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("a running daemon");
        signal(child.id(), "TERM");
        let code = eventually("the daemon ends", PATIENCE, || child.try_wait().expect("a child"));
        code.code()
    }

    /// The exit code, once the process has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("a running daemon");
        eventually("the daemon ends", PATIENCE, || child.try_wait().expect("a child")).code()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("a child").is_none())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running daemon").id()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// `afferent ARGS --config ...`.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = binary();
        command.args(args).arg("--config").arg(self.config()).stdin(Stdio::null());
        command
    }

    /// Runs that.
    pub(crate) fn afferent(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the command runs")
    }

    /// The same, which must succeed; what it printed as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.push("--json");
        let output = self.afferent(&args);
        // 7: it works but is degraded, which some tests are about.
        assert!(matches!(output.status.code(), Some(0 | 7)), "{} {args:?}: {}", self.name, text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
    }

    pub(crate) fn id(&self) -> String {
        self.json(&["id"])["id"].as_str().expect("an id").to_owned()
    }

    /// What a friend pastes.
    pub(crate) fn address(&self) -> String {
        format!("mesh://{}@{}:{}", self.id(), self.host, self.port)
    }

    /// Adds the other by hand and waits until a lane stands.
    pub(crate) fn befriend(&self, other: &Daemon) {
        let output = self.afferent(&["peers", "add", &other.address()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        self.wait_connected(other);
    }

    pub(crate) fn wait_connected(&self, other: &Daemon) {
        let id = other.id();
        eventually(&format!("{} is connected to {}\n{}", self.name, other.name, self.log()), PATIENCE, || {
            (self.state_of(&id)? == "connected").then_some(())
        });
    }

    /// What it says of a peer.
    pub(crate) fn peer(&self, id: &str) -> Option<Value> {
        let peers = self.json(&["peers", "list"]);
        peers["peers"].as_array()?.iter().find(|peer| peer["id"] == id).cloned()
    }

    /// How things stand with a peer, as one word.
    pub(crate) fn state_of(&self, id: &str) -> Option<String> {
        Some(self.peer(id)?["state"].as_str()?.to_owned())
    }

    /// Does any warning of its status say this?
    pub(crate) fn warns_of(&self, words: &str) -> bool {
        self.json(&["status"])["warnings"].to_string().contains(words)
    }

    /// Publishes one event and gives its digest.
    pub(crate) fn publish(&self, kind: &str, data: &str) -> String {
        let answer = self.json(&["publish", kind, "--data", data]);
        assert_eq!(answer["stored"], true, "{answer}");
        answer["digest"].as_str().expect("a digest").to_owned()
    }

    /// Events in its journal.
    pub(crate) fn journal_events(&self) -> u64 {
        self.json(&["status"])["journal"]["events"].as_u64().expect("a count")
    }

    /// Digests that `sub --since all` shows, once it shows `count` of them.
    pub(crate) fn digests(&self, count: usize) -> Vec<String> {
        let output = binary()
            .args(["sub", "--since", "all", "--json", "--count", &count.to_string(), "--config"])
            .arg(self.config())
            .stdin(Stdio::null())
            .output()
            .expect("the command runs");
        let lines = text(&output.stdout);
        let digest = |line: &str| {
            serde_json::from_str::<Value>(line).expect("a line of JSON")["digest"]
                .as_str()
                .expect("a digest")
                .to_owned()
        };
        lines.lines().map(digest).collect()
    }
}

impl Drop for Daemon {
    #[expect(clippy::print_stderr, reason = "a failed test shows the daemon's side of it")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- log of {}\n{}", self.name, self.log());
        }
    }
}

/// `afferent publish --stdin --json`, fed and read line by line.
pub(crate) struct Publisher {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: mpsc::Receiver<Value>,
}

impl Publisher {
    pub(crate) fn start(daemon: &Daemon) -> Publisher {
        let mut child = binary()
            .args(["publish", "--stdin", "--json", "--config"])
            .arg(daemon.config())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the command starts");
        let (sender, answers) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let Ok(answer) = serde_json::from_str(&line) else { break };
                if sender.send(answer).is_err() {
                    break;
                }
            }
        });
        Publisher { stdin: child.stdin.take(), child, answers }
    }

    /// False when nobody reads any more.
    pub(crate) fn write(&mut self, line: &str) -> bool {
        self.stdin.as_mut().is_some_and(|pipe| writeln!(pipe, "{line}").and_then(|()| pipe.flush()).is_ok())
    }

    /// Answers that are there, without waiting.
    pub(crate) fn answers(&self) -> Vec<Value> {
        self.answers.try_iter().collect()
    }

    /// Ends the input and gives every answer that still comes.
    pub(crate) fn finish(mut self) -> Vec<Value> {
        self.stdin = None;
        let rest = self.answers.iter().collect();
        self.child.wait().expect("a child");
        rest
    }
}

/// Digests of answers that say `stored`.
pub(crate) fn stored_digests(answers: &[Value]) -> Vec<String> {
    let stored = answers.iter().filter(|answer| answer["stored"] == true);
    stored.map(|answer| answer["digest"].as_str().expect("a digest").to_owned()).collect()
}

/// A real `redis-server` with an append-only file.
pub(crate) struct Redis {
    dir: TempDir,
    pub(crate) port: u16,
    child: Option<Child>,
}

impl Redis {
    pub(crate) fn start() -> Redis {
        let mut redis =
            Redis { dir: tempfile::tempdir().expect("a temporary directory"), port: free_port(), child: None };
        redis.run();
        redis
    }

    pub(crate) fn run(&mut self) {
        let port = self.port.to_string();
        let child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir"])
            .arg(self.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("redis-server is missing: run tests/run"));
        eventually("redis answers", PATIENCE, || self.try_command(&["PING"]));
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a running process");
            child.wait().expect("a killed process");
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    fn try_command(&self, words: &[&str]) -> Option<redis::Value> {
        let client = redis::Client::open(self.url()).expect("a URL");
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(2)).ok()?;
        let (name, args) = words.split_first().expect("a command");
        redis::cmd(name).arg(args).query(&mut connection).ok()
    }

    pub(crate) fn command(&self, words: &[&str]) -> redis::Value {
        self.try_command(words).unwrap_or_else(|| panic!("{words:?}"))
    }

    /// The entries of a stream: id and fields.
    pub(crate) fn entries(&self, stream: &str) -> Vec<(String, std::collections::BTreeMap<String, String>)> {
        let client = redis::Client::open(self.url()).expect("a URL");
        let mut connection = client.get_connection().expect("a connection");
        redis::cmd("XRANGE").arg(stream).arg("-").arg("+").query(&mut connection).expect("entries")
    }

    /// Appends entries to a stream.
    pub(crate) fn append(&self, stream: &str, entries: &[std::collections::BTreeMap<String, String>]) {
        let client = redis::Client::open(self.url()).expect("a URL");
        let mut connection = client.get_connection().expect("a connection");
        for some in entries.chunks(200) {
            let mut all = redis::pipe();
            for entry in some {
                let add = all.cmd("XADD").arg(stream).arg("*");
                for (name, value) in entry {
                    add.arg(name).arg(value);
                }
                add.ignore();
            }
            all.exec(&mut connection).expect("room");
        }
    }

    /// Digests on `mesh:events`, in order.
    pub(crate) fn digests(&self) -> Vec<String> {
        self.entries("mesh:events").into_iter().map(|(_, fields)| fields["mesh_digest"].clone()).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afferent"));
    command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default()).env("HOME", "/nonexistent");
    command
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(status.expect("kill runs").success());
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
