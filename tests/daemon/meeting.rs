//! Real daemons that never met: a cold start, strangers in a chain, a DNS that is dead, and one that lies.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Instant;

use afferent::wire::Keypair;

use crate::support::primary::{Primary, Zone};
use crate::support::{Daemon, PATIENCE, eventually, seeds, text};

const NAMES: [&str; 8] = ["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7"];

/// Takes every question by UDP and TCP and answers none.
struct Silence {
    _udp: UdpSocket,
    _tcp: TcpListener,
    at: SocketAddr,
}

fn silence() -> Silence {
    eventually("a port that is free for both", PATIENCE, || {
        let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
        let at = udp.local_addr().ok()?;
        Some(Silence { _tcp: TcpListener::bind(at).ok()?, _udp: udp, at })
    })
}

fn asking(zones: &[&str], server: SocketAddr, seeds: &str) -> String {
    format!("[discovery]\ndns = {zones:?}\ndns_server = \"{server}\"\nseeds = \"{seeds}\"")
}

/// A line of a zone that says who is where.
fn entry(node: &Daemon) -> String {
    format!("_mesh._tcp TXT \"id={}\" \"addr={}:{}\"", node.id(), node.host, node.port)
}

/// How many of these a node knows.
fn known(node: &Daemon, ids: &[String]) -> usize {
    let peers = node.json(&["peers", "list"]);
    let peers = peers["peers"].as_array().expect("a list").iter();
    peers.filter(|peer| ids.iter().any(|id| peer["id"] == id.as_str())).count()
}

/// Two seconds at most where nothing else runs, and from the start of the process a tenth of that as a rule.
#[test]
fn the_first_peer_of_a_cold_start_by_the_dns_is_there_in_seconds() {
    let b = Daemon::running("b", &[], "", "");
    let primary = Primary::start(&[Zone::written("mesh.test", entry(&b))]);
    let mut a = Daemon::housed("a", "127.11.0.1", &[], &asking(&["mesh.test"], primary.at(), ""));
    let begun = Instant::now();
    a.spawn();
    let waited = a.afferent(&["wait", "--peers", "1", "--timeout", "10s"]);
    assert_eq!(waited.status.code(), Some(0), "{:?} {}", begun.elapsed(), text(&waited.stderr));
    a.wait_connected(&b);
}

/// Each asks whom it met whom else they know, at once: it takes about a second, and no round of a minute.
#[test]
fn eight_strangers_in_a_chain_find_each_other_and_one_that_is_killed_is_waited_for() {
    let mut nodes: Vec<Daemon> =
        (1..).zip(NAMES).map(|(n, name)| Daemon::housed(name, &format!("127.3{n}.0.1"), &["a.*"], "")).collect();
    nodes.iter_mut().for_each(Daemon::spawn);
    for node in &nodes {
        assert_eq!(node.afferent(&["wait", "--ready"]).status.code(), Some(0), "{}", node.log());
    }
    let ids: Vec<String> = nodes.iter().map(Daemon::id).collect();
    for pair in nodes.windows(2) {
        assert!(pair[0].afferent(&["peers", "add", &pair[1].address(), "--no-wait"]).status.success());
    }
    eventually("each knows three quarters of the others", PATIENCE, || {
        nodes.iter().all(|node| known(node, &ids) >= 6).then_some(())
    });
    eventually("a lane of each neighbour to one of them stands", PATIENCE, || {
        nodes.iter().all(|node| node.id() == ids[3] || node.state_of(&ids[3]) == Some("connected".into())).then_some(())
    });

    let mut killed = nodes.remove(3);
    killed.kill();
    let missed: Vec<String> = nodes.iter().map(|node| node.publish("a.meanwhile", "1")).collect();
    let states = || nodes.iter().filter_map(|node| node.state_of(&ids[3])).collect::<Vec<_>>();
    eventually("it is missed", PATIENCE, || {
        let states = states();
        let is_expected = |state: &String| ["connected", "suspect", "backoff", "probing"].contains(&state.as_str());
        assert!(states.len() == 7 && states.iter().all(is_expected), "{states:?}");
        states.iter().any(|state| state != "connected").then_some(())
    });
    killed.start();
    eventually("all neighbours are back", PATIENCE, || states().iter().all(|state| state == "connected").then_some(()));
    let mut taken = killed.digests(missed.len());
    taken.sort();
    let mut missed = missed;
    missed.sort();
    assert_eq!(taken, missed, "what was published meanwhile");
}

/// The rest of its way, from suspect to backoff after half a minute, is in the tests of the core.
#[test]
fn a_peer_whose_steady_lane_broke_is_a_suspect_and_not_given_up() {
    let a = Daemon::running("a", &[], "", "");
    let mut b = Daemon::running("b", &["a.*"], "", "");
    a.befriend(&b);
    let id = b.id();
    eventually("the lane is steady", PATIENCE, || (a.json(&["status"])["uptime_s"].as_u64()? > 11).then_some(()));
    b.kill();
    let missed = a.publish("a.meanwhile", "1");
    eventually("a suspects", PATIENCE, || (a.state_of(&id)? == "suspect").then_some(()));
    let shown = text(&a.afferent(&["peers"]).stdout);
    assert!(shown.contains("lost just now: connection refused by 127.0.0.1"), "{shown}");
    b.start();
    a.wait_connected(&b);
    assert_eq!(b.digests(1), [missed]);
}

#[test]
fn where_the_dns_is_dead_and_there_are_no_seeds_one_address_typed_in_is_enough() {
    let dead = silence();
    let [b, c] = ["b", "c"].map(|name| Daemon::running(name, &[], "", ""));
    b.befriend(&c);
    let a = Daemon::running("a", &[], "", &asking(&["mesh.test"], dead.at, ""));
    a.befriend(&b);
    a.wait_connected(&c);
}

#[test]
fn a_zone_full_of_lies_keeps_nobody_from_an_honest_seed_or_a_friend() {
    let [seed, friend] = [("seed", "127.61.0.1"), ("friend", "127.62.0.1")].map(|(name, host)| {
        let mut node = Daemon::housed(name, host, &[], "");
        node.start();
        node
    });
    let mut other = Daemon::housed("other", "127.63.0.1", &[], "");
    other.spawn_with(&[("AFFERENT_NODE__NETWORK", "elsewhere".to_owned())]);
    assert_eq!(other.afferent(&["wait"]).status.code(), Some(0));
    // Somebody else's key under the seed's name and under none; the seed, and ids that nobody has, at places
    // that take a connection and say nothing; and places where nobody is.
    let mut lies = format!("_mesh._tcp TXT \"id={}\" \"addr={}:{}\"\n", seed.id(), other.host, other.port);
    let _ = writeln!(lies, "_mesh._tcp SRV 1 0 {} other\nother A {}", other.port, other.host);
    let mute: Vec<TcpListener> = (1..=16)
        .map(|n: u8| {
            let listener = TcpListener::bind((format!("127.{}.0.1", 70 + n), 0)).expect("a port");
            let (id, at) = (Keypair::from_seed(&[n; 32]).id().to_string(), listener.local_addr().expect("bound"));
            let id = if n == 1 { seed.id() } else { id };
            let _ = writeln!(lies, "_mesh._tcp TXT \"id={id}\" \"addr={at}\"");
            listener
        })
        .collect();
    for n in 1..=12 {
        let _ = writeln!(lies, "_mesh._tcp SRV 1 0 7443 nobody{n}\nnobody{n} A 127.{}.0.1", 100 + n);
    }
    let primary = Primary::start(&[Zone::written("mesh.test", lies)]);
    let list = seeds(&[seed.address()]);
    let section = asking(&["mesh.test"], primary.at(), &list.path().display().to_string());
    let mut a = Daemon::housed("a", "127.60.0.1", &[], &section);
    a.start();
    eventually("the lies are believed so far that some are tried", PATIENCE, || {
        mute.iter()
            .any(|listener| {
                listener.set_nonblocking(true).expect("a socket");
                listener.accept().is_ok()
            })
            .then_some(())
    });
    // Before the friend: where a connection stands, seeds wait for half a minute.
    a.wait_connected(&seed);
    a.befriend(&friend);
    assert_ne!(a.state_of(&other.id()).as_deref(), Some("connected"));
}

#[test]
fn each_zone_that_fails_says_why_and_one_that_works_is_enough() {
    let b = Daemon::running("b", &[], "", "");
    let primary = Primary::start(&[
        Zone::written("good.test", entry(&b)),
        Zone::written("empty.test", "www A 127.0.0.1".to_owned()),
        Zone::written("closed.test", "_mesh._tcp SRV 0 0 0 .".to_owned()),
        Zone { lines: None, ..Zone::written("broken.test", String::new()) },
    ]);
    let zones = ["elsewhere.test", "broken.test", "closed.test", "empty.test", "good.test"];
    let a = Daemon::running("a", &[], "", &asking(&zones, primary.at(), ""));
    a.wait_connected(&b);
    for (zone, why) in
        [("elsewhere", "REFUSED"), ("broken", "SERVFAIL"), ("closed", "has no mesh"), ("empty", "NXDOMAIN")]
    {
        eventually(&format!("{zone}: {why}"), PATIENCE, || {
            let told = format!("zone {zone}.test brings no peers: ");
            a.log().lines().any(|line| line.contains(&told) && line.contains(why)).then_some(())
        });
    }
    assert!(!a.log().contains("zone good.test brings no peers"));
}
