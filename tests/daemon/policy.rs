//! What zones and neighbours say never makes a daemon knock where no node should be: nobody comes where it was
//! sent, and it counts what it did not do.

use std::net::TcpListener;
use std::process::Command;

use afferent::core::registrar::{Change, Data, Rr};
use afferent::net::registrar::{NameServer, Tsig};

use crate::support::primary::{Primary, Zone};
use crate::support::{Daemon, PATIENCE, eventually, text};

/// The sum of a counter over its labels.
fn count(daemon: &Daemon, name: &str) -> u64 {
    let page = crate::metrics::page(daemon);
    let samples = page.lines().filter_map(|line| line.strip_prefix("afferent_")?.strip_prefix(name));
    let values = samples.filter(|rest| rest.starts_with(['{', ' '])).filter_map(|rest| rest.rsplit(' ').next());
    values.map(|value| value.parse::<f64>().expect("a number") as u64).sum()
}

/// A place where nobody may come.
struct Trap(TcpListener);

impl Trap {
    fn set() -> Trap {
        Trap::at(0)
    }

    fn at(port: u16) -> Trap {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        Trap(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().expect("bound").port()
    }

    /// Connections wait in the queue of the listener until somebody asks.
    fn came(&self) -> usize {
        std::iter::from_fn(|| self.0.accept().ok()).count()
    }
}

/// A daemon as in the internet, but for its own address.
fn public(name: &'static str, section: &str) -> Daemon {
    public_at(name, "127.0.0.1", section)
}

fn public_at(name: &'static str, host: &str, section: &str) -> Daemon {
    let daemon = Daemon::housed(name, host, &["a.*"], &format!("[discovery]\n{section}"));
    let text = std::fs::read_to_string(daemon.config()).expect("a configuration");
    std::fs::write(daemon.config(), text.replace("\"loopback\"", "\"public\"")).expect("a configuration");
    daemon
}

#[test]
fn a_zone_full_of_forbidden_places_makes_nobody_knock_there() {
    let trap = Trap::set();
    let port = trap.port();
    let id = |number: u8| afferent::wire::Keypair::from_seed(&[number; 32]).id();
    // Without ids, with ids, by name and by literal, in every spelling that a zone has for it.
    let hosts = [
        ("v4", "A 127.0.0.1"),
        ("other", "A 127.1.2.3"),
        ("v6", "AAAA ::1"),
        ("mapped", "AAAA ::ffff:10.0.0.1"),
        ("looped", "AAAA ::ffff:127.0.0.1"),
        ("lan", "A 10.0.0.1"),
        ("cloud", "A 169.254.169.254"),
        ("nat", "AAAA 64:ff9b::7f00:1"),
        ("any", "A 0.0.0.0"),
    ];
    let mut zone = String::new();
    for (name, address) in hosts {
        zone += &format!("_mesh._tcp SRV 10 5 {port} {name}\n{name} {address}\n");
    }
    zone += "_mesh._tcp SRV 10 5 6379 far\nfar A 8.8.8.8\n";
    for (number, at) in ["127.0.0.1", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433", "v4.bad.test"].iter().enumerate() {
        let id = id(100 + u8::try_from(number).expect("few"));
        zone += &format!("_mesh._tcp TXT \"id={id}\" \"addr={at}:{port}\"\n");
    }
    let b = Daemon::running("b", &["a.*"], "", "");
    let friend = format!("_mesh._tcp TXT \"id={}\" \"addr=127.0.0.1:{}\"", b.id(), b.port);
    let primary = Primary::start(&[Zone::written("bad.test", zone), Zone::written("good.test", friend)]);

    let mut a = public("a", &format!("dns = [\"bad.test\", \"good.test\"]\ndns_server = \"{}\"", primary.at()));
    a.start();
    // Ten addresses by SRV, the friend's own, and three by TXT; two are no addresses at all.
    eventually("it has looked at both zones", PATIENCE, || {
        (count(&a, "zone_addresses_refused_total") >= 14 && count(&a, "lookups_failed_total") >= 2).then_some(())
    });
    assert!(count(&a, "zone_entries_ignored_total") >= 14);
    assert_eq!(count(&a, "dials_total"), 0);
    assert_eq!(trap.came(), 0);
    assert!(a.json(&["peers", "list"])["peers"].as_array().expect("a list").is_empty(), "and no entry in its table");

    // The same zone in a profile that allows such places: the test can fail.
    let c = Daemon::running(
        "c",
        &["a.*"],
        "",
        &format!("[discovery]\ndns = [\"bad.test\"]\ndns_server = \"{}\"", primary.at()),
    );
    eventually("the trap works", PATIENCE, || (trap.came() > 0).then_some(()));
    assert!(count(&c, "dials_total") > 0);
}

#[test]
fn a_record_that_names_a_forbidden_place_makes_nobody_knock_there() {
    let trap = Trap::set();
    // Who stays with those that were typed in: all three may dial the trap, and look for nobody.
    let b = Daemon::running("b", &["a.*"], "", "[discovery]\nmin_peers = 0");
    // One names the trap as it is, the other hides it behind a name that may lead anywhere.
    let naming = |name: &'static str, at: &str| {
        let daemon = Daemon::new(name, &["a.*"], "", "[discovery]\nmin_peers = 0\nexchange = false");
        let text = std::fs::read_to_string(daemon.config()).expect("a configuration");
        let text = text.replace("[node]\n", &format!("[node]\naddresses = [\"{at}:{}\"]\n", trap.port()));
        std::fs::write(daemon.config(), text).expect("a configuration");
        daemon
    };
    let (mut plain, mut hidden) = (naming("plain", "127.0.0.1"), naming("hidden", "localhost"));
    for daemon in [&mut plain, &mut hidden] {
        daemon.start();
        b.befriend(daemon);
    }

    let mut a = public("a", "");
    a.start();
    a.befriend(&b);
    eventually("it is told of both, and dials neither", PATIENCE, || {
        let is_refused = count(&a, "dials_forbidden_total") >= 1 && count(&a, "records_ignored_total") >= 1;
        is_refused.then_some(())
    });
    assert_eq!(trap.came(), 0);
    let peers = a.json(&["peers", "list"]);
    let peers = peers["peers"].as_array().expect("a list");
    let id = plain.id();
    assert!(peers.iter().all(|peer| peer["id"] != id.as_str()), "judged before it is remembered: {peers:?}");
    let is_connected =
        |peer: &&serde_json::Value| peer["state"].as_str().is_some_and(|state| state.starts_with("connected"));
    assert_eq!(peers.iter().filter(is_connected).count(), 1, "the friend that was typed in: {peers:?}");
}

/// Where the node is, as everybody in the internet sees it.
const GOOD: &str = "8.8.4.4";
/// Where somebody is who knows it.
const FRIEND: &str = "9.9.9.9";
const NAME: &str = "moving.n.mesh.test";

/// Runs the test within a network of its own, in which this machine has addresses of the internet and asks the
/// name server of [`Primary`] about every name: there `name`, which is the test's, begins anew.
fn in_a_network_of_its_own(name: &str, test: impl FnOnce()) {
    const INSIDE: &str = "AFFERENT_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("resolv.conf"), "nameserver 127.0.0.1\n").expect("a file");
    std::fs::write(dir.path().join("nsswitch.conf"), "hosts: files dns\n").expect("a file");
    let script = format!(
        "ip link set lo up && ip address add {GOOD}/32 dev lo && ip address add {FRIEND}/32 dev lo && \
         mount --bind \"$0/resolv.conf\" /etc/resolv.conf && \
         mount --bind \"$0/nsswitch.conf\" /etc/nsswitch.conf && exec \"$@\""
    );
    let inside = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", &script])
        .arg(dir.path())
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare (util-linux) runs");
    assert!(inside.status.success(), "{}\n{}", text(&inside.stdout), text(&inside.stderr));
    assert!(text(&inside.stdout).contains("1 passed"), "no test is called {name}");
}

/// Changes the answer about [`NAME`] at the name server, which has said so when this returns.
fn lead(primary: &Primary, from: &str, to: &str) {
    let at = |ip: &str| Rr { owner: NAME.to_owned(), ttl: 1, data: Data::A(ip.parse().expect("an address")) };
    let owner = "_mesh._tcp.mesh.test".to_owned();
    let change = Change { owner, was: Vec::new(), delete: vec![at(from)], add: vec![at(to)] };
    let tsig = Tsig::parse(&Primary::tsig()).expect("a key");
    let server = NameServer::new(primary.at(), &"mesh.test".parse().expect("a zone"), tsig).expect("a client");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(server.apply(&change)).expect("changed");
}

#[test]
fn a_name_that_changes_its_answer_makes_nobody_knock_there() {
    in_a_network_of_its_own("policy::a_name_that_changes_its_answer_makes_nobody_knock_there", || {
        let mut moving = public_at("moving", GOOD, "min_peers = 0");
        let (port, config) = (moving.port, std::fs::read_to_string(moving.config()).expect("a configuration"));
        let config = config.replace("[node]\n", &format!("[node]\naddresses = [\"{NAME}:{port}\"]\n"));
        std::fs::write(moving.config(), config).expect("a configuration");
        let zone = format!("moving.n 1 A {GOOD}\n_mesh._tcp SRV 10 5 {port} moving.n");
        let primary = Primary::start_at(53, &[Zone { updates: true, ..Zone::written("mesh.test", zone) }]);
        // On the port of the node, at an address that the node has not.
        let trap = Trap::at(port);
        moving.start();
        let id = moving.id();

        // One was typed in the address and is told the name, one is told of the node by that one, one reads the zone.
        let mut friend = public_at("friend", FRIEND, "min_peers = 0");
        friend.start();
        friend.befriend(&moving);
        let mut told = public("told", "");
        told.start();
        told.befriend(&friend);
        told.wait_connected(&moving);
        let addresses = told.peer(&id).expect("a peer")["addresses"].to_string();
        assert!(addresses.contains(NAME) && !addresses.contains(GOOD), "by its name alone: {addresses}");
        let section = format!("exchange = false\ndns = [\"mesh.test\"]\ndns_server = \"{}\"", primary.at());
        let mut reader = public("reader", &section);
        reader.start();
        reader.wait_connected(&moving);
        for daemon in [&friend, &told, &reader] {
            assert_eq!(count(daemon, "dials_forbidden_total") + count(daemon, "zone_addresses_refused_total"), 0);
        }

        lead(&primary, GOOD, "127.0.0.1");
        moving.kill();
        for daemon in [&friend, &told] {
            eventually("the name is asked about and nobody dialled", PATIENCE, || {
                (count(daemon, "dials_forbidden_total") >= 2).then_some(())
            });
        }
        let words = format!("{NAME}:{port} is not dialled: 127.0.0.1:{port} is a loopback address");
        let shown = text(&told.afferent(&["peers", "show", &id]).stdout);
        assert!(shown.contains(&words), "{shown}");
        assert!(crate::metrics::page(&told).contains("dials_forbidden_total{reason=\"loopback\"}"));
        let asked = text(&reader.afferent(&["discover", "--tier", "dns"]).stdout);
        assert!(asked.contains(&format!("127.0.0.1:{port}")) && asked.contains("loopback address"), "{asked}");
        assert!(count(&reader, "zone_addresses_refused_total") >= 1);
        // What is remembered of it is judged anew in the next life.
        told.kill();
        told.start();
        eventually("nor in the next life", PATIENCE, || (count(&told, "dials_forbidden_total") >= 1).then_some(()));
        assert_eq!(trap.came(), 0);

        // Whoever types the name in has his way: the trap works.
        told.afferent(&["peers", "add", &format!("mesh://{id}@{NAME}:{port}")]);
        eventually("the trap works", PATIENCE, || (trap.came() > 0).then_some(()));
    });
}
