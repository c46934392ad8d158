//! The stage of the demo: three daemons and perhaps a Redis server, as child processes in one
//! temporary directory that is removed at the end, whatever happens.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::time::Wall;
use crate::wire::timestamp;

/// One daemon.
pub(super) struct Actor {
    pub(super) name: &'static str,
    pub(super) patterns: &'static [&'static str],
    /// What a friend pastes.
    pub(super) address: String,
    config: PathBuf,
    child: Child,
}

/// Everything that runs, and its files.
pub(super) struct Stage {
    pub(super) actors: Vec<Actor>,
    redis: Option<Redis>,
    folder: Folder,
}

/// One event as it was seen at a node.
pub(super) struct Sighting {
    pub(super) kind: String,
    pub(super) digest: String,
    /// Who gave it.
    pub(super) via: String,
    pub(super) hops: u64,
    /// From the event's own time to where programs read it.
    pub(super) ms: i64,
    pub(super) place: String,
    /// The exact text that birch signed.
    pub(super) event: String,
}

struct Redis {
    child: Child,
    socket: PathBuf,
}

/// Removed when dropped.
struct Folder(PathBuf);

/// Who plays: name, what it wants, and the address that it listens on.
pub(super) struct Role {
    pub(super) name: &'static str,
    pub(super) patterns: &'static [&'static str],
    pub(super) host: String,
}

/// The three of the usual play.
pub(super) static CAST: LazyLock<[Role; 3]> = LazyLock::new(|| {
    let role = |name, patterns| Role { name, patterns, host: "127.0.0.1".to_owned() };
    [
        role("birch", &["status.*"]),
        role("cedar", &["deployment.*"]),
        role("maple", &["deployment.*", "infrastructure.*"]),
    ]
});

impl Stage {
    /// Starts everything and waits until it answers.
    pub(super) fn build(cast: &[Role], deadline: Instant) -> anyhow::Result<Stage> {
        let folder = Folder::make()?;
        let redis = Redis::start(&folder.0, deadline)?;
        let mut stage = Stage { actors: Vec::new(), redis, folder };
        for role in cast {
            let actor = Actor::start(role, &stage.folder.0, stage.redis.as_ref())?;
            stage.actors.push(actor);
        }
        for i in 0..stage.actors.len() {
            stage.actors[i].wait_until_it_answers(deadline)?;
        }
        Ok(stage)
    }

    pub(super) fn actor(&self, name: &str) -> &Actor {
        self.actors.iter().find(|actor| actor.name == name).expect("one of the cast")
    }

    pub(super) fn name_of(&self, id: &str) -> Option<&'static str> {
        self.actors.iter().find(|actor| actor.address.contains(id)).map(|actor| actor.name)
    }

    pub(super) fn bus_sentence(&self) -> &'static str {
        match self.redis {
            Some(_) => "each writing into a stream of a real Redis",
            None => "each with the embedded bus, since no redis-server is installed",
        }
    }

    /// Birch learns where the others are, as a person would tell it.
    pub(super) fn introduce(&self, deadline: Instant) -> anyhow::Result<()> {
        let birch = self.actor("birch");
        for friend in self.actors.iter().filter(|actor| actor.name != "birch") {
            birch.add(friend)?;
        }
        until(deadline, "birch is connected to both", || {
            let status = birch.ask(&["status", "--json"])?;
            Ok((status["peers"]["connected"] == 2).then_some(()))
        })
    }

    /// One node is told of another by hand; then both call each other.
    pub(super) fn befriend(&self, one: &str, other: &str, deadline: Instant) -> anyhow::Result<()> {
        let pair = [self.actor(one), self.actor(other)];
        pair[0].add(pair[1])?;
        for (actor, friend) in [(pair[0], other), (pair[1], one)] {
            until(deadline, &format!("{} is connected to {friend}", actor.name), || {
                let answer = actor.ask(&["peers", "list", "--json"])?;
                let mut peers = answer["peers"].as_array().into_iter().flatten();
                let is_there = |peer: &Value| peer["id"] == self.id_of(friend) && peer["state"] == "connected";
                Ok(peers.any(is_there).then_some(()))
            })?;
        }
        Ok(())
    }

    /// The id of a node: what stands between `mesh://` and `@` of its address.
    pub(super) fn id_of(&self, name: &str) -> &str {
        let address = &self.actor(name).address;
        address.trim_start_matches("mesh://").split('@').next().unwrap_or(address)
    }

    /// Waits until this event stands where the programs of this node read.
    pub(super) fn wait_for(&self, name: &str, digest: &str, deadline: Instant) -> anyhow::Result<Sighting> {
        until(deadline, &format!("{name} gets {digest}"), || {
            Ok(self.everything_at(name)?.into_iter().find(|seen| seen.digest == digest))
        })
    }

    /// All events where the programs of this node read, in order.
    pub(super) fn everything_at(&self, name: &str) -> anyhow::Result<Vec<Sighting>> {
        match &self.redis {
            Some(redis) => redis.entries(&stream(name)),
            None => self.actor(name).journal(),
        }
    }

    pub(super) fn how_to_talk(&self) -> String {
        let program = program();
        let mut text = String::from("\nthey go on running; talk to them from another terminal:\n");
        for actor in &self.actors {
            text +=
                &format!("\n  # {}\n  {} status --config {}\n", actor.name, program.display(), actor.config.display());
            if let Some(redis) = &self.redis {
                text += &format!("  redis-cli -s {} XRANGE {} - +\n", redis.socket.display(), stream(actor.name));
            }
        }
        let config = &self.actor("birch").config;
        text += &format!(
            "\n  {} publish deployment.started --data '{{\"x\":1}}' --config {}\n",
            program.display(),
            config.display()
        );
        text +=
            &format!("  {} sub 'deployment.*' --config {}\n", program.display(), self.actor("cedar").config.display());
        text
    }

    /// Waits for Ctrl-C or SIGTERM.
    pub(super) fn wait_for_interrupt(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                // Dropping either loses nothing: we end with the first.
                interrupted = tokio::signal::ctrl_c() => interrupted?,
                _ = terminate.recv() => {}
            }
            Ok(())
        })
    }

    /// Stops every daemon the way a service manager does; each must end with exit code 0.
    pub(super) fn strike(mut self) -> anyhow::Result<()> {
        for actor in &self.actors {
            actor.terminate()?;
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        for actor in &mut self.actors {
            let code = until(deadline, "the daemon stops", || Ok(actor.child.try_wait()?))?;
            ensure!(code.success(), "{} ended with {code}", actor.name);
        }
        Ok(())
    }
}

impl Actor {
    fn start(Role { name, patterns, host }: &Role, folder: &Path, redis: Option<&Redis>) -> anyhow::Result<Actor> {
        let home = folder.join(name);
        std::fs::create_dir(&home).context("no directory for a node")?;
        let config = home.join("afferent.toml");
        let url = redis.map(|redis| format!("unix://{}", redis.socket.display())).unwrap_or_default();
        let quoted: Vec<String> = patterns.iter().map(|pattern| format!("\"{pattern}\"")).collect();
        let text = format!(
            "[node]\nname = \"{name}\"\ndata_dir = \"{data}\"\nlisten = [\"{host}:0\"]\nprofile = \"loopback\"\n\n\
             [interests]\npatterns = [{patterns}]\n\n[bus]\nurl = \"{url}\"\nstream = \"{stream}\"\noutbox = \"{name}:outbox\"\n\n\
             [admin]\nsocket = \"{socket}\"\n",
            data = home.join("data").display(),
            patterns = quoted.join(", "),
            stream = stream(name),
            socket = home.join("sock").display(),
        );
        std::fs::write(&config, text).context("no configuration for a node")?;
        let log = std::fs::File::create(home.join("log")).context("no log for a node")?;
        let child = Command::new(program())
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("a daemon does not start")?;
        Ok(Actor { name, patterns, address: String::new(), config, child })
    }

    fn add(&self, friend: &Actor) -> anyhow::Result<()> {
        let output = self.command(&["peers", "add", &friend.address, "--alias", friend.name]).output()?;
        ensure!(output.status.success(), "peers add: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    fn wait_until_it_answers(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let answered = until(deadline, &format!("{} answers", self.name), || {
            if let Some(code) = self.child.try_wait()? {
                bail!("{} ended with {code}: {}", self.name, self.log().trim());
            }
            let Ok(status) = self.ask(&["id", "--json"]) else { return Ok(None) };
            Ok(status["addresses"][0].as_str().map(str::to_owned))
        });
        self.address = answered?;
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.config.with_file_name("log")).unwrap_or_default()
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args).arg("--config").arg(&self.config).stdin(Stdio::null());
        command
    }

    fn terminate(&self) -> anyhow::Result<()> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).context("no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("a daemon cannot be stopped")
    }

    /// What `afferent sub` shows of the journal.
    fn journal(&self) -> anyhow::Result<Vec<Sighting>> {
        let stored = self.ask(&["status", "--json"])?["journal"]["events"].as_u64().unwrap_or(0);
        if stored == 0 {
            return Ok(Vec::new());
        }
        let output = self.command(&["sub", "--since", "all", "--json", "--count", &stored.to_string()]).output()?;
        String::from_utf8(output.stdout)?.lines().map(Sighting::of_line).collect()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Already gone after a clean end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Redis {
    /// A server of our own on a Unix socket, if one is installed.
    fn start(folder: &Path, deadline: Instant) -> anyhow::Result<Option<Redis>> {
        let socket = folder.join("redis.sock");
        let mut command = Command::new("redis-server");
        command
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(folder);
        let child = match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("redis-server does not start"),
        };
        let redis = Redis { child, socket };
        until(deadline, "redis-server answers", || Ok(redis.connect().is_ok().then_some(())))?;
        Ok(Some(redis))
    }

    fn connect(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(format!("unix://{}", self.socket.display()))?.get_connection()
    }

    fn entries(&self, stream: &str) -> anyhow::Result<Vec<Sighting>> {
        type Fields = std::collections::BTreeMap<String, String>;
        let found: Vec<(String, Fields)> =
            redis::cmd("XRANGE").arg(stream).arg("-").arg("+").query(&mut self.connect()?)?;
        let sighting = |(id, fields): (String, Fields)| {
            let field =
                |name: &str| fields.get(name).cloned().with_context(|| format!("no field `{name}` in {stream}"));
            let happened = moment(&field("time")?)?;
            let written: i64 = id.split('-').next().and_then(|ms| ms.parse().ok()).context("a stream id")?;
            Ok(Sighting {
                kind: field("type")?,
                digest: field("mesh_digest")?,
                via: field("mesh_via")?,
                hops: field("mesh_hops")?.parse()?,
                ms: written - happened.as_millis(),
                place: format!("its Redis stream {stream}"),
                event: field("envelope")?.splitn(3, ' ').nth(2).context("a stored line")?.to_owned(),
            })
        };
        found.into_iter().map(sighting).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sighting {
    /// From a line of `sub --raw --json`.
    fn of_line(line: &str) -> anyhow::Result<Sighting> {
        let seen: Value = serde_json::from_str(line)?;
        let text =
            |value: &Value, name: &str| value[name].as_str().map(str::to_owned).with_context(|| format!("no `{name}`"));
        let received = moment(&text(&seen, "received")?)?;
        let happened = moment(&text(&seen["event"], "time")?)?;
        Ok(Sighting {
            kind: text(&seen["event"], "type")?,
            digest: text(&seen, "digest")?,
            via: text(&seen, "from")?,
            hops: seen["hops"].as_u64().context("no `hops`")?,
            ms: received.as_millis() - happened.as_millis(),
            place: String::from("its embedded bus"),
            event: line[line.find(r#""event":"#).context("no `event`")? + 8..line.len() - 1].to_owned(),
        })
    }
}

impl Folder {
    fn make() -> anyhow::Result<Folder> {
        let name = format!("afferent-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A temporary directory that stays is a nuisance, not a failure.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn stream(name: &str) -> String {
    format!("{name}:events")
}

fn moment(text: &str) -> anyhow::Result<Wall> {
    timestamp::parse(text).map_err(anyhow::Error::msg)
}

fn program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("afferent"))
}

/// Asks until there is an answer, or the demo has taken too long.
pub(super) fn until<T>(
    deadline: Instant,
    what: &str,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    loop {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "this did not happen in time: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
