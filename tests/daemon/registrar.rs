//! `afferent registrar` as a process, with a real name server and daemons that want to be listed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use afferent::core::ports::{Known, Seen};
use afferent::core::registrar::{Book, Entry};
use afferent::net;
use afferent::net::registrar::{AnnounceError, NameServer, Tsig, register};
use afferent::time::Wall;
use afferent::wire::message::Durability;
use afferent::wire::registration::Origin;
use afferent::wire::{Digest, HostPort, Keypair, Network, NodeId, Profile, RecordDraft};
use tempfile::TempDir;
use tokio::sync::watch;

use super::metrics::{Samples, body, names};
use super::support::primary::{Primary, ZONE, Zone};
use super::support::{Daemon, PATIENCE, binary, eventually, free_port, now, project, signal, text};

/// A registrar: its configuration, and the process while it runs.
struct Office {
    dir: TempDir,
    port: u16,
    metrics: u16,
    child: Option<Child>,
}

impl Office {
    fn running(primary: &Primary) -> Office {
        Office::with(primary, "")
    }

    /// The same with more in `[registrar]`.
    fn with(primary: &Primary, more: &str) -> Office {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (port, metrics) = (free_port(), free_port());
        let tsig = dir.path().join("registrar.tsig");
        std::fs::write(&tsig, Primary::tsig()).expect("a key file");
        std::fs::set_permissions(&tsig, std::fs::Permissions::from_mode(0o640)).expect("our file");
        let config = format!(
            "[node]\ndata_dir = \"{data}\"\nprofile = \"loopback\"\n\
             [registrar]\nzone = \"{ZONE}\"\nserver = \"{server}\"\ntsig = \"{tsig}\"\n\
             listen = [\"127.0.0.1:{port}\"]\nwork_bits = 8\n\
             metrics = \"127.0.0.1:{metrics}\"\n{more}",
            data = dir.path().join("data").display(),
            server = primary.at(),
            tsig = tsig.display(),
        );
        std::fs::write(dir.path().join("registrar.toml"), config).expect("a configuration");
        let mut office = Office { dir, port, metrics, child: None };
        office.start();
        office
    }

    fn start(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).expect("a log file");
        let mut command = binary();
        command.args(["registrar", "--config"]).arg(self.dir.path().join("registrar.toml"));
        let child = command.stderr(log).stdout(Stdio::null()).stdin(Stdio::null()).spawn();
        self.child = Some(child.expect("the registrar starts"));
        eventually("the registrar is ready", PATIENCE, || self.log().contains("\"ready\"").then_some(()));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a running process");
            child.wait().expect("a killed process");
        }
    }

    fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("a running registrar");
        signal(child.id(), "TERM");
        eventually("the registrar ends", PATIENCE, || child.try_wait().expect("a child")).code()
    }

    fn key(&self) -> Keypair {
        let pem = std::fs::read_to_string(self.dir.path().join("data/registrar.key")).expect("made at the start");
        Keypair::from_pkcs8_pem(&pem).expect("a key")
    }

    /// Its page of metrics, as Prometheus reads it.
    fn samples(&self) -> Samples {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).expect("a connection");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\n\r\n")
            .expect("written");
        Samples::read(&body(stream, "application/openmetrics-text"))
    }

    fn origin(&self) -> String {
        format!("mesh://{}@127.0.0.1:{}", self.key().id(), self.port)
    }

    /// Who stands in the zone.
    fn listed(&self, primary: &Primary) -> BTreeMap<NodeId, Entry> {
        let zone = ZONE.parse().expect("a zone");
        let tsig = Tsig::parse(&Primary::tsig()).expect("a key");
        let server = NameServer::new(primary.at(), &zone, tsig).expect("a client");
        let book = Book { zone, network: Network::default(), key: self.key(), fellows: Vec::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let records = runtime.block_on(server.read(&book)).expect("the zone");
        book.read(&records, Wall(i64::MAX)).entries().clone()
    }
}

impl Drop for Office {
    #[expect(clippy::print_stderr, reason = "a failed test shows the registrar's side of it")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- log of the registrar\n{}", self.log());
        }
    }
}

/// A daemon that asks `office` to list it, once it stands in the zone.
fn listed(name: &'static str, office: &Office) -> Daemon {
    let more = format!("[discovery]\nregistrar = \"{}\"", office.origin());
    let daemon = Daemon::running(name, &["a.*"], "", &more);
    hears_that_it_is_listed(&daemon, 1);
    daemon
}

fn hears_that_it_is_listed(daemon: &Daemon, times: usize) {
    eventually(&format!("it is listed, for the {times}. time\n{}", daemon.log()), PATIENCE, || {
        (daemon.log().matches("listed by the registrar").count() >= times).then_some(())
    });
}

fn id_of(daemon: &Daemon) -> NodeId {
    daemon.id().parse().expect("an id")
}

#[test]
fn a_daemon_is_listed_and_stays_so_when_the_registrar_is_killed() {
    let primary = Primary::start(&[Zone::of_registrar()]);
    let mut office = Office::running(&primary);
    let birch = listed("birch", &office);
    let id = id_of(&birch);
    assert_eq!(office.listed(&primary)[&id].at.to_string(), format!("127.0.0.1:{}", birch.port));

    office.kill();
    office.start();
    // Its first round begins at once, and finds birch by the zone alone.
    eventually(&format!("a round\n{}", office.log()), PATIENCE, || office.log().contains("round done").then_some(()));
    assert!(office.listed(&primary).contains_key(&id));
    assert!(office.log().contains("\"visited\":1"), "{}", office.log());
    assert_eq!(office.stop(), Some(0));
}

#[test]
fn who_leaves_is_out_of_the_zone_before_it_ends_and_a_restart_is_no_goodbye() {
    let primary = Primary::start(&[Zone::of_registrar()]);
    let office = Office::running(&primary);
    let mut birch = listed("birch", &office);
    let id = id_of(&birch);

    assert_eq!(birch.stop(), Some(0));
    assert!(office.listed(&primary).contains_key(&id), "a stop is no goodbye");
    birch.start();
    hears_that_it_is_listed(&birch, 2);

    let left = birch.json(&["leave"]);
    assert_eq!(left["registrar"]["origin"], office.origin(), "{left}");
    assert!(left["registrar"]["why_not"].is_null(), "{left}");
    assert!(office.listed(&primary).is_empty(), "it is out when `leave` says so");
    assert_eq!(birch.ended(), Some(0));

    // It comes back with the next start, and says it to a person in a sentence the second time.
    birch.start();
    hears_that_it_is_listed(&birch, 3);
    assert!(office.listed(&primary).contains_key(&id));
    let output = birch.afferent(&["leave"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let sentence = format!("this node is not in the list of {} any more", office.origin());
    assert!(text(&output.stdout).contains(&sentence), "{}", text(&output.stdout));
    assert!(office.listed(&primary).is_empty());
    assert_eq!(birch.ended(), Some(0));
}

#[test]
fn a_goodbye_that_cannot_be_taken_is_told_and_keeps_nobody() {
    let mut primary = Primary::start(&[Zone::of_registrar()]);
    let mut office = Office::running(&primary);
    let mut birch = listed("birch", &office);
    let id = id_of(&birch);

    primary.kill();
    let output = birch.afferent(&["leave"]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("perhaps still in the list of mesh://") && said.contains("unavailable (503)"), "{said}");
    assert_eq!(birch.ended(), Some(0));
    primary.run();
    assert!(office.listed(&primary).contains_key(&id), "which was the truth");

    birch.start();
    hears_that_it_is_listed(&birch, 2);
    office.kill();
    let left = birch.json(&["leave"]);
    let why = left["registrar"]["why_not"].as_str().expect("a reason");
    assert!(why.contains("no connection to 127.0.0.1"), "{why}");
    assert_eq!(birch.ended(), Some(0));
}

#[test]
fn a_node_finds_another_by_the_list_of_a_pinned_registrar_and_by_no_other() {
    let primary = Primary::start(&[Zone::of_registrar()]);
    let office = Office::running(&primary);
    let birch = listed("birch", &office);
    let calls = || Samples::of(&birch).at("connections_accepted_total");
    let before = calls();
    let pinning = |key: NodeId| {
        format!("[discovery]\ndns = [\"{ZONE}\"]\ndns_server = \"{}\"\ndns_keys = [\"{key}\"]", primary.at())
    };

    let cedar = Daemon::running("cedar", &["a.*"], "", &pinning(Keypair::from_seed(&[9; 32]).id()));
    let told = eventually("the log says what is wrong with the zone", PATIENCE, || {
        cedar.log().lines().find(|line| line.contains("zone mesh.test brings no peers")).map(str::to_owned)
    });
    assert!(told.contains("signed by a registrar key that is not pinned"), "{told}");
    let known = || cedar.json(&["peers", "list"])["peers"].as_array().map(Vec::len);
    assert_eq!((known(), calls()), (Some(0), before), "nobody is dialled");

    let alder = Daemon::running("alder", &["a.*"], "", &pinning(office.key().id()));
    alder.wait_connected(&birch);
    let digest = birch.publish("a.told", "1");
    assert_eq!(alder.digests(1), [digest]);
    assert!(calls() > before, "or this test shows nothing");
    assert_eq!(known(), Some(0));
}

/// A node of the library alone, at 127.NUMBER.0.1, that answers visits.
struct Guest {
    context: net::Context,
    line: String,
    _held: (watch::Sender<Arc<str>>, watch::Sender<bool>, tokio::sync::mpsc::Receiver<net::Report>),
}

struct NothingKnown;

impl Known for NothingKnown {
    fn seen(&self, _: &Digest) -> Option<Seen> {
        None
    }
}

impl Guest {
    async fn at(number: u8) -> Guest {
        let key = Arc::new(Keypair::from_seed(&[number; 32]));
        let (record, record_seen) = watch::channel(Arc::<str>::from(""));
        let (stop, stops) = watch::channel(false);
        let context = net::Context::new(net::Settings {
            key: Arc::clone(&key),
            network: Network::default(),
            profile: Profile::Loopback,
            listen: vec![SocketAddr::new(IpAddr::from([127, number, 0, 1]), 0)],
            known: Arc::new(NothingKnown),
            clock: Arc::new(now),
            record: record_seen,
            neighbours: watch::Sender::default().subscribe(),
            blocked: watch::Sender::default().subscribe(),
            ready: watch::Sender::default().subscribe(),
            rate: net::Rate::default(),
            durability: Durability::Fsync,
            limits: net::Limits::default(),
        });
        let context = context.expect("a context");
        let receptor = net::Receptor::bind(&context).await.expect("a free port");
        let addresses = vec![HostPort::from_socket(receptor.addresses()[0])];
        let draft = RecordDraft { seq: 1, addresses, ..RecordDraft::default() };
        let line = draft.seal(now(), &key).expect("a record").envelope().line(0, false);
        record.send_replace(line.as_str().into());
        let (reports, heard) = tokio::sync::mpsc::channel(16);
        tokio::spawn(receptor.run(reports, stops));
        Guest { context, line, _held: (record, stop, heard) }
    }

    /// Asks until it is told yes.
    async fn register(&self, origin: &Origin) {
        let asking = async {
            let mut turn = tokio::time::interval(Duration::from_millis(20));
            while let Err(error) = register(&self.context, origin, &self.line).await {
                let is_trouble =
                    matches!(error, AnnounceError::Unreachable(_) | AnnounceError::Refused { status: 503, .. });
                assert!(is_trouble, "{error}");
                turn.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("it says yes in the end");
    }
}

#[test]
fn a_registrar_that_is_killed_while_twelve_nodes_register_forgets_nobody() {
    let primary = Primary::start(&[Zone::of_registrar()]);
    let mut office = Office::with(&primary, "newcomers_percent = 100\nnewcomers_per_hour = 1000\n");
    let origin: Origin = office.origin().parse().expect("an origin");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let (told, heard) = mpsc::channel();
    for number in 10..22 {
        let (origin, told) = (origin.clone(), told.clone());
        runtime.spawn(async move {
            let guest = Guest::at(number).await;
            guest.register(&origin).await;
            told.send(guest.context.id()).expect("somebody listens");
            // It goes on answering visits.
            std::future::pending::<()>().await;
        });
    }
    let mut yes = BTreeSet::new();
    for enough in [2, 5, 8, 12] {
        while yes.len() < enough {
            yes.insert(heard.recv_timeout(PATIENCE).expect("one more is told yes"));
        }
        office.kill();
        yes.extend(heard.try_iter());
        let zone: BTreeSet<NodeId> = office.listed(&primary).into_keys().collect();
        assert!(yes.is_subset(&zone), "{} were told yes, {} stand there", yes.len(), zone.len());
        office.start();
    }
    eventually("a round", PATIENCE, || office.log().contains("\"visited\":12").then_some(()));
    assert_eq!(office.listed(&primary).len(), 12);
}

#[test]
fn what_a_registrar_does_is_counted() {
    let mut primary = Primary::start(&[Zone::of_registrar()]);
    let office = Office::running(&primary);
    eventually("the first round", PATIENCE, || office.log().contains("round done").then_some(()));
    let mut birch = listed("birch", &office);
    let samples = office.samples();
    for (name, value) in [
        ("ready", 1.0),
        ("entries", 1.0),
        ("places", 40.0),
        ("challenges_total", 1.0),
        ("registrations_total{outcome=done}", 1.0),
        ("registrations_total{outcome=unreachable}", 0.0),
        ("visits_total{outcome=answered}", 1.0),
        ("visits_total{outcome=wrong_key}", 0.0),
        // The first round signs an empty list, the registration is the second.
        ("updates_total{answer=noerror}", 2.0),
        ("updates_total{answer=refused}", 0.0),
        ("rounds_total{outcome=done}", 1.0),
        ("rounds_total{outcome=lost}", 0.0),
        ("rounds_blamed_total", 0.0),
        ("struck_out_total", 0.0),
        ("accept_errors_total", 0.0),
    ] {
        assert_eq!(samples.at(&format!("registrar_{name}")), value, "{name}");
    }
    let age = samples.at("registrar_round_age_seconds");
    assert!(age > 0.0 && age <= samples.at("registrar_uptime_seconds"), "{age}");
    assert!(samples.at("registrar_readings_total{answer=noerror}") >= 3.0);
    let alerts = std::fs::read_to_string(project("deploy/prometheus/alerts.yml")).expect("alerts");
    let named = names(&alerts).into_iter().filter_map(|name| name.strip_prefix("afferent_"));
    let named: Vec<&str> = named.filter(|name| name.starts_with("registrar_")).collect();
    assert!(named.len() > 2, "{named:?}");
    for name in named {
        samples.at(name);
    }

    primary.kill();
    assert_eq!(birch.afferent(&["leave"]).status.code(), Some(7));
    let samples = office.samples();
    assert_eq!(samples.at("registrar_ready"), 0.0);
    assert!(samples.at("registrar_goodbyes_total{outcome=unavailable}") >= 1.0);
    assert!(samples.at("registrar_readings_total{answer=unreachable}") >= 1.0);
    assert_eq!(birch.ended(), Some(0));

    let asked = |line: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", office.metrics)).expect("a connection");
        stream
            .write_all(
                format!("{line} HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\n\r\n")
                    .as_bytes(),
            )
            .expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.get(9..12).map(str::to_owned)
    };
    assert_eq!(asked("GET /v1/challenge").as_deref(), Some("404"), "there is nothing else");
}

#[test]
fn what_a_registrar_lacks_is_said_before_it_starts() {
    let lacks = |set: &[&str]| {
        let mut command = binary();
        command.arg("registrar").args(set.iter().flat_map(|set| ["--set", set]));
        let output = command.env("XDG_DATA_HOME", "/nonexistent").output().expect("the command runs");
        (output.status.code(), text(&output.stderr))
    };
    let (zone, server) = ("registrar.zone=mesh.example", "registrar.server=127.0.0.1:53");
    let tsig = "registrar.tsig=/nonexistent/registrar.tsig";
    for (set, word) in [
        (&[][..], "`registrar.zone` is missing"),
        (&[zone], "`registrar.server` is missing"),
        (&[zone, server], "`registrar.tsig` is missing"),
        (&[zone, server, tsig, "registrar.certificate=/x.pem"], "`registrar.certificate_key` is missing"),
        (&["registrar.zone=127.0.0.1"], "`registrar.zone` cannot be used"),
        (&["registrar.places=7"], "from 8 to 100"),
        (&["discovery.registrar=registrar.example"], "https://host"),
    ] {
        let (code, said) = lacks(set);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(word) && said.contains("next: "), "{said}");
    }
}
