//! What a service manager is told: ready, reloading, stopping, and signs of life only while there is life.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Daemon, PATIENCE, eventually, signal};

/// The socket of a service manager that only listens.
struct Manager {
    dir: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Manager {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        Manager { dir, socket }
    }

    /// The environment that a unit with this watchdog gives to its process.
    fn environment(&self, watchdog: Duration) -> Vec<(&'static str, String)> {
        let path = self.dir.path().join("notify").display().to_string();
        vec![("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", watchdog.as_micros().to_string())]
    }

    /// The next message; `None` when none comes for this long.
    fn hear(&self, patience: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(patience)).expect("a timeout");
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// Messages until one holds `word`; that one.
    fn hear_of(&self, word: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "`{word}` is never said");
            if let Some(message) = self.hear(PATIENCE).filter(|message| message.contains(word)) {
                return message;
            }
        }
    }
}

#[test]
fn a_service_manager_hears_of_every_change_and_of_every_third_of_its_watchdog() {
    let manager = Manager::new();
    let mut a = Daemon::new("a", &[], "", "");
    a.spawn_with(&manager.environment(Duration::from_millis(600)));
    manager.hear_of("READY=1\n");
    // No waiting here: ready means that the socket answers and the receptor listens.
    assert!(a.afferent(&["status"]).status.success());
    assert!(std::net::TcpStream::connect(("127.0.0.1", a.port)).is_ok());
    let alive = manager.hear_of("WATCHDOG=1\n");
    assert!(alive.contains("STATUS=no peers yet\n"), "{alive}");
    let began = Instant::now();
    (0..10).for_each(|_| drop(manager.hear_of("WATCHDOG=1\n")));
    assert!(began.elapsed() > Duration::from_secs(1), "not as fast as it can");
    signal(a.pid(), "HUP");
    let reloading = manager.hear_of("RELOADING=1\n");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.hear_of("READY=1\n");
    signal(a.pid(), "TERM");
    manager.hear_of("STOPPING=1\n");
    assert_eq!(a.ended(), Some(0));
}

#[test]
fn the_log_says_ready_once_the_service_manager_knows() {
    let manager = Manager::new();
    let mut a = Daemon::new("a", &[], "", "");
    a.spawn_with(&manager.environment(Duration::from_secs(30)));
    eventually("the log says it", PATIENCE, || a.log().contains("ready").then_some(()));
    let first = manager.hear(Duration::from_millis(1));
    assert_eq!(first.as_deref(), Some("READY=1\n"), "it was said before");
    a.kill();
}

#[test]
fn no_sign_of_life_comes_from_a_stuck_journal_though_the_process_lives() {
    let manager = Manager::new();
    let mut a = Daemon::new("a", &[], "", "");
    a.spawn_with(&manager.environment(Duration::from_millis(600)));
    manager.hear_of("READY=1\n");
    // Every sync of the disk takes five seconds from now on.
    let mut strace = Command::new("strace")
        .args(["-f", "-q", "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:delay_enter=5s", "-p"])
        .arg(a.pid().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace is missing: run tests/run");
    let mut publisher = None;
    eventually("the disk is stuck", PATIENCE, || {
        publisher.get_or_insert_with(|| {
            let mut command = a.command(&["publish", "a.b"]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command starts")
        });
        // Half a watchdog more than one, and nothing was heard.
        manager.hear(Duration::from_millis(900)).is_none().then_some(())
    });
    assert!(a.is_running(), "the silence is not that of the dead");
    if let Some(mut publisher) = publisher {
        publisher.kill().expect("a child");
        publisher.wait().expect("a child");
    }
    a.kill();
    strace.kill().expect("a child");
    strace.wait().expect("a child");
}

#[test]
fn a_daemon_that_cannot_start_is_never_ready() {
    let manager = Manager::new();
    let a = Daemon::running("a", &[], "", "");
    let mut second = Daemon::new("second", &[], "", "");
    std::fs::copy(a.config(), second.config()).expect("a copy");
    second.spawn_with(&manager.environment(Duration::from_secs(30)));
    assert_eq!(second.ended(), Some(1));
    assert_eq!(manager.hear(Duration::from_millis(10)), None);
}
