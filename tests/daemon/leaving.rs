//! A node that leaves is called no more, and one that only restarts is waited for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use afferent::time::Wall;
use afferent::wire::message::{EVENTS_ROUTE, PEERS_ROUTE};
use afferent::wire::{Keypair, RecordDraft};

use crate::support::{Daemon, PATIENCE, eventually, text, tls};

/// What `of` says of `whom`.
fn why(of: &Daemon, whom: &str) -> String {
    let peers = of.json(&["peers", "list"]);
    let peers = peers["peers"].as_array().expect("a list");
    let peer = peers.iter().find(|peer| peer["id"] == whom).expect("a known peer");
    peer["why"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn who_leaves_is_let_go_and_comes_back_with_the_next_start() {
    let a = Daemon::running("a", &["order.*"], "", "");
    let mut b = Daemon::running("b", &["order.*"], "", "");
    a.befriend(&b);
    b.wait_connected(&a);
    let (id, other) = (b.id(), a.id());

    let left = b.json(&["leave"]);
    assert_eq!((left["told"][0].as_str(), left["missed"].as_array().map(Vec::len)), (Some(other.as_str()), Some(0)));
    assert_eq!(b.ended(), Some(0));
    assert_eq!(why(&a, &id), "it said goodbye");
    // It waits in the journal for the one that may come back.
    a.publish("order.placed", "1");
    assert_eq!(why(&a, &id), "it said goodbye", "and nobody calls it");

    b.start();
    a.wait_connected(&b);
    a.publish("order.placed", "2");
    eventually("b takes what it missed too", PATIENCE, || (b.journal_events() == 2).then_some(()));

    assert_eq!(b.stop(), Some(0));
    let gone = eventually("a notices", PATIENCE, || Some(why(&a, &id)).filter(|why| !why.is_empty()));
    assert!(!gone.contains("goodbye"), "a stop is no goodbye: {gone}");
    b.start();
    a.wait_connected(&b);
}

#[test]
fn alone_one_leaves_at_once() {
    let mut a = Daemon::running("a", &[], "", "");
    let output = a.afferent(&["leave"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "goodbye: 0 peers took it\n");
    assert!(text(&output.stderr).contains("afferent run"), "{}", text(&output.stderr));
    assert_eq!(a.ended(), Some(0));
}

/// Somebody else who takes part, and hands on what he likes.
fn gossip(to: &Daemon, line: &str) -> u16 {
    let key = Keypair::from_seed(&[66; 32]);
    let now = Wall::default() + SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let own = RecordDraft { seq: 1, ..RecordDraft::default() }.seal(now, &key).expect("a record");
    tls::post(to, Some(&key), PEERS_ROUTE, &[&own.envelope().line(0, false), line])
}

#[test]
fn only_the_key_itself_says_goodbye_and_no_old_copy_takes_it_back() {
    let [a, mut b, mut c] = [("a", 1), ("b", 2), ("c", 3)].map(|(name, n)| {
        let mut node = Daemon::housed(name, &format!("127.4{n}.0.1"), &[], "");
        node.start();
        node
    });
    b.befriend(&a);
    b.befriend(&c);
    c.wait_connected(&b);
    c.wait_connected(&a);
    let (id, forger) = (b.id(), Keypair::from_seed(&[67; 32]));
    let old = tls::get(&b, "/mesh/v1/hello?nonce=x")["record"].as_str().expect("a record").to_owned();

    let now = Wall::default() + SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let goodbye = RecordDraft { seq: (1 << 53) - 1, ..RecordDraft::default() }.seal_goodbye(now, &forger);
    let forged = goodbye.expect("a record").envelope().line(0, false).replace(&forger.id().to_string(), &id);
    assert_eq!(tls::post(&a, None, EVENTS_ROUTE, &[&forged]), 401);
    assert_eq!(gossip(&a, &forged), 200, "who hands it on may not know");
    assert_eq!(a.state_of(&id).as_deref(), Some("connected"), "a goodbye by another key");

    c.kill();
    b.json(&["leave"]);
    assert_eq!(b.ended(), Some(0));
    eventually("a knows", Duration::from_secs(5), || (why(&a, &id) == "it said goodbye").then_some(()));
    tls::post(&a, None, EVENTS_ROUTE, &[&old]);
    assert_eq!(gossip(&a, &old), 200);
    assert_eq!(why(&a, &id), "it said goodbye", "an old copy from anybody");
    // It was away, and holds nothing but the old record.
    c.start();
    c.wait_connected(&a);
    a.wait_connected(&c);
    eventually("c learns of it", PATIENCE, || (why(&c, &id) == "it said goodbye").then_some(()));
    assert_eq!(why(&a, &id), "it said goodbye", "an old copy from a neighbour that was away");
}
