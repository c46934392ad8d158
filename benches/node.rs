//! Whole nodes, as ratios of one run: what an event costs beyond its signature check, how long one hop
//! takes against its unavoidable parts, what an idle node holds. `cargo bench --bench node`
//!
//! Everything shares the machine: the daemons, the load generator and Redis. Quote ratios only.

#![expect(clippy::print_stdout, reason = "figures are what a bench is for")]

#[path = "../tests/daemon/support.rs"]
#[allow(dead_code)]
mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afferent::core::ports::{LaneId, ShipmentId};
use afferent::net;
use afferent::time::Wall;
use afferent::wire::{Draft, Keypair, Keys, Line, PeerAddress, RecordDraft, Scalar, Word, envelope};
use bytes::Bytes;
use support::{Daemon, Redis};
use tokio::sync::mpsc;

const EVENTS: usize = 40_000;
const BATCH: usize = 64;
const LANES: usize = 4;
const HOPS: usize = 300;

fn main() {
    // `cargo test --benches` asks for nothing to be measured.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    idle();
    receive();
    hop();
}

fn now() -> Wall {
    Wall::default() + std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970")
}

/// Events of about 1 KB.
fn lines(key: &Keypair, count: usize) -> Vec<Bytes> {
    let pad = "0123456789abcdef".repeat(36);
    let line = |n: usize| {
        let data = format!(r#"{{"service":"proxy","n":{n},"duration_s":42.5,"log":["{pad}"]}}"#);
        let draft = Draft::new(format!("bench-{n}"), "load.event", now())
            .with("subject", Scalar::Text("service:proxy".into()))
            .with_data(serde_json::value::RawValue::from_string(data).expect("JSON"));
        Bytes::from(envelope::seal(&draft, key).expect("a good draft").line(1, false))
    };
    (0..count).map(line).collect()
}

/// Microseconds of CPU of one check, while every core does nothing else for a second: as busy as they
/// are under the load it is compared with, and by the same clock.
fn signature_check(cores: usize) -> f64 {
    let mut keys = Keys::default();
    let parsed: Vec<_> = lines(&Keypair::from_seed(&[9; 32]), 200)
        .iter()
        .map(|line| Line::split(line).and_then(|line| line.parse(&mut keys)).expect("a good line"))
        .collect();
    let before = cpu_seconds(std::process::id());
    let began = Instant::now();
    let checks_for_a_second = || {
        let mut checks = 0;
        while began.elapsed() < Duration::from_secs(1) {
            assert!(parsed.iter().all(|one| one.clone().verify().is_ok()));
            checks += parsed.len();
        }
        checks
    };
    let checks: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(checks_for_a_second)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).sum()
    });
    (cpu_seconds(std::process::id()) - before) * 1e6 / checks as f64
}

fn idle() {
    let daemon = Daemon::running("idle", &["a.*"], "", "");
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("a process");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    println!("idle node                 {:>8}", rss.trim());
}

/// User and system time of a process, in seconds.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let after_name = stat.rsplit_once(')').expect("a name in brackets").1;
    let ticks: Vec<f64> =
        after_name.split_whitespace().skip(11).take(2).map(|number| number.parse().expect("ticks")).collect();
    ticks.iter().sum::<f64>() / 100.0
}

fn receive() {
    let daemon = Daemon::new("receiver", &["load.*"], "", "");
    let text = std::fs::read_to_string(daemon.config()).expect("a configuration");
    std::fs::write(daemon.config(), text.replace("20000/s burst 40000", "1000000/s burst 1000000"))
        .expect("a configuration");
    let mut daemon = daemon;
    daemon.start();
    let address: PeerAddress = daemon.address().parse().expect("an address");
    let key = Arc::new(Keypair::from_seed(&[9; 32]));
    let lines = lines(&key, EVENTS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let check_before = signature_check(cores);
    let before = cpu_seconds(daemon.pid());
    let began = Instant::now();
    runtime.block_on(async {
        let share = EVENTS / LANES;
        let tasks: Vec<_> = (0..LANES)
            .map(|lane| {
                let mine = lines[lane * share..(lane + 1) * share].to_vec();
                tokio::spawn(send(Arc::clone(&key), address.clone(), mine))
            })
            .collect();
        for task in tasks {
            task.await.expect("a lane");
        }
    });
    let took = began.elapsed().as_secs_f64();
    let cpu = (cpu_seconds(daemon.pid()) - before) * 1e6 / EVENTS as f64;
    let check_after = signature_check(cores);
    let check = f64::midpoint(check_before, check_after);
    let bound = cores as f64 * 1e6 / check;
    println!("signature check           {check:>8.1} us of CPU ({check_before:.1} before, {check_after:.1} after)");
    println!("receive, verified, fsynced{:>8.1} us of CPU an event", cpu);
    println!("  beyond the check        {:>8.1} us", cpu - check);
    println!(
        "  rate                    {:>8.0} events/s = {:.2} of nothing but checks on {cores} cores, load generator included",
        EVENTS as f64 / took,
        EVENTS as f64 / took / bound
    );
    assert_eq!(daemon.journal_events(), EVENTS as u64);
}

/// Sends everything over one lane, a batch at a time.
async fn send(key: Arc<Keypair>, to: PeerAddress, lines: Vec<Bytes>) {
    let record = RecordDraft { seq: 1, ..RecordDraft::default() }.seal(now(), &key).expect("a record");
    let context = net::Context::new(net::Settings::of_caller(key, &record, now)).expect("a context");
    let (reports, mut inbox) = mpsc::channel(16);
    let lane = net::open(&context, to.id.expect("an id"), LaneId(0), vec![to.at], Word::Typed, reports);
    let mut batches = lines.chunks(BATCH).map(<[Bytes]>::to_vec).enumerate();
    let mut stored = 0;
    while let Some(report) = inbox.recv().await {
        match report {
            net::Report::Connected { .. } => {}
            net::Report::Sent { result, .. } => stored += result.expect("a receipt").stored as usize,
            net::Report::Broken { why, .. } => panic!("{why}"),
            _ => continue,
        }
        match batches.next() {
            Some((number, batch)) => lane.send(ShipmentId(number as u64), batch).expect("room"),
            None => break,
        }
    }
    assert_eq!(stored, lines.len());
}

/// One hop and its unavoidable parts, in turns at one pace: a machine that was idle for some
/// milliseconds takes its time to wake, and both sides of the ratio pay for that alike.
fn hop() {
    let redis = Redis::start();
    let a = Daemon::running("a", &[], "", "");
    let b = Daemon::running("b", &["load.*"], &redis.url(), "");
    a.befriend(&b);
    let mut publisher = LocalApi::connect(&a);
    let mut parts = Parts::new(&b, &redis);
    let client = redis::Client::open(redis.url()).expect("a URL");
    let mut reader = client.get_connection().expect("a connection");
    let mut last = String::from("0");
    let (mut hops, mut syncs, mut trips, mut xadds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 0..HOPS {
        hops.push(paced(|| {
            publisher.post(&format!(r#"{{"type":"load.hop","data":{n}}}"#));
            let mut read = redis::cmd("XREAD");
            read.arg("BLOCK").arg(10_000).arg("STREAMS").arg("mesh:events").arg(&last);
            let found: redis::streams::StreamReadReply = read.query(&mut reader).expect("an entry");
            last = found.keys[0].ids.last().expect("an entry").id.clone();
        }));
        publisher.finish();
        syncs.push(paced(|| parts.fdatasync()));
        trips.push(paced(|| parts.round_trip()));
        xadds.push(paced(|| parts.xadd()));
    }
    let (sync, trip, xadd) = (median(&mut syncs), median(&mut trips), median(&mut xadds));
    let floor = 2.0 * sync + trip + xadd;
    let p50 = median(&mut hops);
    println!("hop, publish -> readable  {p50:>8.2} ms p50, {:.2} ms p99", hops[hops.len() * 99 / 100]);
    println!("  two fdatasync, a TLS round trip, an XADD: 2x{sync:.2} + {trip:.2} + {xadd:.2} = {floor:.2} ms");
    println!("  ratio                   {:>8.2}", p50 / floor);
}

/// How long this takes, in milliseconds, 5 ms after whatever was before.
fn paced(action: impl FnOnce()) -> f64 {
    std::thread::park_timeout(Duration::from_millis(5));
    let began = Instant::now();
    action();
    began.elapsed().as_secs_f64() * 1e3
}

/// A program that publishes through the socket of its daemon.
struct LocalApi {
    stream: BufReader<UnixStream>,
}

impl LocalApi {
    fn connect(daemon: &Daemon) -> LocalApi {
        let socket = daemon.config().with_file_name("sock");
        LocalApi { stream: BufReader::new(UnixStream::connect(socket).expect("a socket")) }
    }

    fn post(&mut self, body: &str) {
        let head = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length";
        let request = format!("{head}: {}\r\n\r\n{body}", body.len());
        self.stream.get_mut().write_all(request.as_bytes()).expect("a socket");
    }

    /// Reads the answer, which must say that the event is stored.
    fn finish(&mut self) {
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a line of the head");
            match line.trim().to_ascii_lowercase().split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse().expect("a length"),
                None if line.trim().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
        assert!(String::from_utf8_lossy(&body).contains("\"stored\":true"), "{}", String::from_utf8_lossy(&body));
    }
}

/// What a hop cannot do without.
struct Parts {
    _dir: tempfile::TempDir,
    file: std::fs::File,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    url: String,
    redis: redis::Connection,
}

impl Parts {
    fn new(daemon: &Daemon, redis: &Redis) -> Parts {
        let dir = tempfile::tempdir().expect("a directory");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let client = redis::Client::open(redis.url()).expect("a URL");
        Parts {
            file: std::fs::File::create(dir.path().join("log")).expect("a file"),
            _dir: dir,
            runtime,
            client: support::tls::client(),
            url: format!("https://127.0.0.1:{}/mesh/v1/health", daemon.port),
            redis: client.get_connection().expect("a connection"),
        }
    }

    fn fdatasync(&mut self) {
        self.file.write_all(&[7; 1_200]).and_then(|()| self.file.sync_data()).expect("a disk");
    }

    /// A request over a warm connection that does nothing but answer.
    fn round_trip(&self) {
        self.runtime.block_on(async {
            let answer = self.client.get(&self.url).send().await.expect("an answer");
            answer.bytes().await.expect("a body");
        });
    }

    fn xadd(&mut self) {
        let value = "x".repeat(1_000);
        let _: String =
            redis::cmd("XADD").arg("bench").arg("*").arg("v").arg(value).query(&mut self.redis).expect("an entry");
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
