//! What zones and neighbours say never makes a daemon knock where no node should be: nobody comes where it was
//! sent, and it counts what it did not do.

use std::net::TcpListener;

use crate::support::primary::{Primary, Zone};
use crate::support::{Daemon, PATIENCE, eventually};

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
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
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
    let daemon = Daemon::new(name, &["a.*"], "", &format!("[discovery]\n{section}"));
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
