//! A node that leaves is called no more, and one that only restarts is waited for.

use crate::support::{Daemon, PATIENCE, eventually, text};

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
