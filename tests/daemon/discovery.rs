//! Real daemons that find each other: by a friend's friends, by a zone on a real BIND, by a list of seeds.

use std::net::{TcpListener, UdpSocket};

use crate::support::named::Named;
use crate::support::{Daemon, PATIENCE, eventually};

fn discovering(name: &'static str, section: &str) -> Daemon {
    Daemon::running(name, &["a.*"], "", &format!("[discovery]\n{section}"))
}

#[test]
fn a_friends_friend_becomes_a_peer_by_itself() {
    let [a, b, c] = ["a", "b", "c"].map(|name| discovering(name, ""));
    b.befriend(&c);
    a.befriend(&b);
    for (one, other) in [(&a, &c), (&c, &a)] {
        one.wait_connected(other);
    }
    let digest = a.publish("a.told", "1");
    assert_eq!(c.digests(1), [digest]);
}

#[test]
fn without_the_exchange_peers_are_those_that_were_typed_in_and_those_that_call() {
    let a = discovering("a", "exchange = false");
    let [b, c] = ["b", "c"].map(|name| discovering(name, "exchange = false"));
    b.befriend(&c);
    a.befriend(&b);
    b.wait_connected(&a);
    let known = a.json(&["peers", "list"])["peers"].as_array().map(Vec::len);
    assert_eq!(known, Some(1), "nobody was told of c");
}

#[test]
fn a_node_that_knows_nobody_begins_with_a_zone() {
    let b = discovering("b", "exchange = true");
    let entry = format!("_mesh._tcp TXT \"id={}\" \"addr=127.0.0.1:{}\"", b.id(), b.port);
    let named = Named::start(&[("mesh.test", entry)]);
    let a = discovering("a", &format!("dns = [\"mesh.test\"]\ndns_server = \"{}\"", named.at()));
    a.wait_connected(&b);
}

#[test]
fn seeds_lead_on_where_the_dns_takes_questions_and_never_answers() {
    let b = discovering("b", "exchange = true");
    // Both ends of a server that is silent.
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let at = udp.local_addr().expect("an address");
    let _tcp = TcpListener::bind(at).expect("the same port");
    let list = tempfile::NamedTempFile::new().expect("a file");
    let seed = format!("format = 1\nchannel = \"test\"\nnetwork = \"main\"\n[[seed]]\naddress = \"{}\"\n", b.address());
    std::fs::write(list.path(), seed).expect("a list");
    let section = format!("dns = [\"mesh.test\"]\ndns_server = \"{at}\"\nseeds = \"{}\"", list.path().display());
    let a = discovering("a", &section);
    a.wait_connected(&b);
    let told = eventually("the log names the tier that failed", PATIENCE, || {
        a.log().lines().find(|line| line.contains("zone mesh.test brings no peers")).map(str::to_owned)
    });
    assert!(told.contains("no answer from the DNS server in time"), "{told}");
}

#[test]
fn a_list_that_cannot_be_used_is_told_once_and_nothing_else_suffers() {
    let a = discovering("a", "seeds = \"/nowhere/seeds.toml\"");
    let b = discovering("b", "");
    eventually("it is told", PATIENCE, || a.log().contains("/nowhere/seeds.toml").then_some(()));
    a.befriend(&b);
}
