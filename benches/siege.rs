//! Attackers at the door of a real daemon: each is closed at its limit, and an honest caller who posts
//! over one warm connection meanwhile hardly notices. Needs a machine with nothing else on it; panics
//! when a limit of 7-promises.md is not kept. `cargo bench --bench siege`

#![expect(clippy::print_stdout, reason = "figures are what a bench is for")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use afferent::wire::message::LINES_TYPE;

use afferent::time::Wall;
use afferent::wire::{Draft, Envelope, Keypair, Verified, envelope};
use support::{Daemon, PATIENCE, tls};

#[path = "../tests/daemon/support.rs"]
#[allow(dead_code)]
mod support;

#[path = "siege/frames.rs"]
mod frames;

/// Attackers of one kind at once.
const ATTACKERS: usize = 2;
/// Posts that a p99 is made of, at least.
const POSTS: usize = 300;
/// A flood is over its limits at once; this is for a niced attacker to get that far.
const FLOOD_CLOSED: Duration = Duration::from_secs(10);
/// What a slow caller may stay beyond its limit.
const GRACE: Duration = Duration::from_secs(3);
/// Memory that a siege may cost the daemon for good.
const GROWTH_MAX_KIB: u64 = 64 << 10;
/// Below this a p99 on a shared machine says nothing.
const NOISE: Duration = Duration::from_millis(50);
/// Above this it is too much however slow the machine is.
const P99_MAX: Duration = Duration::from_millis(500);

/// Stays until closed, until then at most; says how long it could.
type Stay<'a> = &'a (dyn Fn(Instant) -> Duration + Sync);
type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

fn good(name: &str) -> Verified<Envelope> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let draft = Draft::new(name, "good.event", Wall::default() + since);
    envelope::seal(&draft, &Keypair::from_seed(&[1; 32])).expect("a good draft")
}

fn main() {
    // `cargo test --benches` asks for nothing to be measured.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let b = Daemon::running("b", &["good.*"], "", "");
    let mut honest = Honest::new(&b);
    for _ in 0..20 {
        honest.post();
    }
    let (median, quiet) = spread((0..POSTS).map(|_| honest.post()).collect());
    let bound = (10 * quiet).max(NOISE).min(P99_MAX);
    let before = resident_kib(&b);
    tell(&format!("quiet: median {median:?}, p99 {quiet:?}, bound {bound:?}, {before} KiB"));

    let mut failed = Vec::new();
    for flood in frames::floods() {
        let (posts, rounds) = under_flood(&b, &mut honest, &flood);
        let (count, (median, p99)) = (posts.len(), spread(posts));
        tell(&format!("{}: median {median:?}, p99 {p99:?} of {count} posts; closed {rounds} times", flood.name));
        if p99 > bound {
            failed.push((flood.name, p99));
        }
    }
    let (posts, stays) = under_slow_callers(&b, &mut honest);
    let (count, (median, p99)) = (posts.len(), spread(posts));
    tell(&format!("slow callers: median {median:?}, p99 {p99:?} of {count} posts; closed after {stays:?}"));
    if p99 > bound {
        failed.push(("slow callers", p99));
    }

    Honest::new(&b).posts("after").post();
    let after = resident_kib(&b);
    tell(&format!("after: {after} KiB"));
    assert!(after < before + GROWTH_MAX_KIB, "from {before} KiB to {after} KiB");
    assert_eq!(failed, [], "p99 above {bound:?}; quiet it was {quiet:?}");
}

/// The honest posts while attackers flood again and again, and how often the daemon closed one.
fn under_flood(b: &Daemon, honest: &mut Honest, flood: &frames::Flood) -> (Vec<Duration>, usize) {
    let (enough, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let end = Instant::now() + PATIENCE;
    let attack = || {
        be_nice();
        while !enough.load(Ordering::Relaxed) && Instant::now() < end {
            is_flooded_away(b, flood);
            rounds.fetch_add(1, Ordering::Relaxed);
        }
    };
    let posts = std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..ATTACKERS).map(|_| scope.spawn(attack)).collect();
        let mut posts = Vec::new();
        while (posts.len() < POSTS || rounds.load(Ordering::Relaxed) < ATTACKERS)
            && !attackers.iter().any(std::thread::ScopedJoinHandle::is_finished)
        {
            posts.push(honest.post());
        }
        enough.store(true, Ordering::Relaxed);
        for attacker in attackers {
            attacker.join().unwrap_or_else(|_| panic!("{} was not closed", flood.name));
        }
        posts
    });
    (posts, rounds.into_inner())
}

/// One flood on one connection, which the daemon must close.
fn is_flooded_away(b: &Daemon, flood: &frames::Flood) {
    let begun = Instant::now();
    let mut stream = connect(b, b"h2", FLOOD_CLOSED);
    for part in flood.bytes.chunks(4 << 10) {
        assert!(begun.elapsed() < FLOOD_CLOSED, "{}: still taken", flood.name);
        if let Err(error) = stream.write_all(part) {
            assert!(!is_timeout(&error), "{}: neither taken nor closed", flood.name);
            return;
        }
    }
    assert!(reads_the_end(&mut stream, begun + FLOOD_CLOSED), "{}: all of it was taken", flood.name);
}

/// The honest posts while slow callers of every kind are there, and how long each kind stayed.
fn under_slow_callers(b: &Daemon, honest: &mut Honest) -> (Vec<Duration>, Vec<(&'static str, Duration)>) {
    let head: &[u8] = b"POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\n";
    let body = [head, b"Content-Type: ", LINES_TYPE.as_bytes(), b"\r\nContent-Length: 1000\r\n\r\n0 "].concat();
    let five = Duration::from_secs(5);
    let ten = Duration::from_secs(10);
    let kinds: [(&str, Duration, Stay<'_>); 5] = [
        ("slow TLS", five, &|end| is_silent(b, end)),
        ("no preface", five, &|end| drips(b, b"h2", b"", None, end)),
        ("slow headers", five, &|end| drips(b, b"http/1.1", head, Some(b'x'), end)),
        ("slow body", ten, &|end| drips(b, b"http/1.1", &body, Some(b'x'), end)),
        ("slow read", ten, &|end| never_reads(b, end)),
    ];
    std::thread::scope(|scope| {
        let mut callers = Vec::new();
        for (name, limit, stay) in kinds.into_iter().cycle().take(ATTACKERS * kinds.len()) {
            let caller = move || {
                be_nice();
                let begun = Instant::now();
                // A reader that never reads has to fill the buffers between us first.
                let stayed = stay(begun + 2 * PATIENCE / 3);
                assert!(stayed < limit + GRACE, "{name}: stayed for {stayed:?}");
                let all = begun.elapsed();
                assert!(all > limit - Duration::from_secs(1), "{name}: closed for another reason, after {all:?}");
                (name, stayed)
            };
            callers.push(scope.spawn(caller));
        }
        let mut posts = Vec::new();
        while posts.len() < POSTS || !callers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            posts.push(honest.post());
        }
        (posts, callers.into_iter().map(|caller| caller.join().expect("a slow caller is closed in time")).collect())
    })
}

/// Connects and says nothing.
fn is_silent(b: &Daemon, end: Instant) -> Duration {
    let mut stream = TcpStream::connect(("127.0.0.1", b.port)).expect("a connection");
    let begun = Instant::now();
    stream.set_read_timeout(Some(end - begun)).expect("a timeout");
    let read = stream.read(&mut [0; 1]);
    assert!(!read.is_err_and(|error| is_timeout(&error)), "never closed");
    begun.elapsed()
}

/// Says `start`, then one byte at a time.
fn drips(b: &Daemon, alpn: &[u8], start: &[u8], drop: Option<u8>, end: Instant) -> Duration {
    let mut stream = connect(b, alpn, Duration::from_millis(500));
    let begun = Instant::now();
    stream.write_all(start).expect("bytes are taken");
    loop {
        let turn = (Instant::now() + Duration::from_millis(500)).min(end);
        if reads_the_end(&mut stream, turn) || drop.is_some_and(|byte| stream.write_all(&[byte]).is_err()) {
            return begun.elapsed();
        }
        assert!(Instant::now() < end, "never closed");
    }
}

/// Asks and asks and never reads: how long is it kept once nothing is taken any more?
fn never_reads(b: &Daemon, end: Instant) -> Duration {
    let mut stream = connect(b, b"http/1.1", Duration::from_millis(500));
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream.sock, 4 << 10).expect("a small buffer");
    // One line that is known after the first time, so that all is well, and many that are answered at
    // length: this fills the buffers between us fast.
    let body = good("unread").line(0, false) + &"\nx".repeat(255);
    let head = format!("POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: {LINES_TYPE}\r\n");
    let asking = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.sock.set_write_timeout(Some(end - Instant::now())).expect("a timeout");
    // rustls tells of a failed write only at the next one, so the one before is the one that stalled.
    let mut stalled = Instant::now();
    loop {
        let begun = Instant::now();
        assert!(begun < end, "never stalled");
        if let Err(error) = stream.write_all(asking.as_bytes()) {
            assert!(!is_timeout(&error), "never closed");
            return stalled.elapsed();
        }
        stalled = begun;
    }
}

fn connect(b: &Daemon, alpn: &[u8], patience: Duration) -> Tls {
    let socket = TcpStream::connect(("127.0.0.1", b.port)).expect("a connection");
    socket.set_nodelay(true).expect("no delay");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    let name = "127.0.0.1".try_into().expect("an address");
    let client = rustls::ClientConnection::new(Arc::new(tls::config(alpn)), name).expect("a client");
    let mut stream = Tls::new(client, socket);
    stream.conn.complete_io(&mut stream.sock).expect("a handshake");
    stream.sock.set_read_timeout(Some(patience)).expect("a timeout");
    stream.sock.set_write_timeout(Some(patience)).expect("a timeout");
    stream
}

/// Reads until the connection ends; false when it has not by then.
fn reads_the_end(stream: &mut Tls, by: Instant) -> bool {
    while Instant::now() < by {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(_) => return true,
        }
    }
    false
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// On Linux this is about the calling thread alone, so the honest caller stays as it is.
fn be_nice() {
    rustix::process::nice(19).expect("a thread may be nicer");
}

/// Posts good events, one at a time, over one connection.
struct Honest {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    url: String,
    prefix: &'static str,
    count: usize,
}

impl Honest {
    fn new(b: &Daemon) -> Honest {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let url = format!("https://127.0.0.1:{}/mesh/v1/events", b.port);
        Honest { runtime, client: tls::client(), url, prefix: "honest", count: 0 }
    }

    fn posts(mut self, prefix: &'static str) -> Honest {
        self.prefix = prefix;
        self
    }

    /// One event that must be accepted, and how long that took.
    fn post(&mut self) -> Duration {
        self.count += 1;
        let line = good(&format!("{}-{}", self.prefix, self.count)).line(0, false);
        let begun = Instant::now();
        let request = self.client.post(&self.url).header("content-type", LINES_TYPE).timeout(PATIENCE).body(line);
        let status = self.runtime.block_on(async {
            let response = request.send().await.expect("an answer");
            let status = response.status().as_u16();
            response.bytes().await.expect("a body");
            status
        });
        assert_eq!(status, 202, "honest post {}", self.count);
        begun.elapsed()
    }
}

/// The median, for whoever reads the figures, and the p99.
fn spread(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn resident_kib(b: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", b.pid())).expect("a running daemon");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn tell(text: &str) {
    println!("{text}");
}
