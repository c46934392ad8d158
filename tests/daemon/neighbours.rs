//! Who may be a neighbour of a real daemon: one that asks and is accepted, one that is blocked and let in again.

use serde_json::Value;

use crate::configuration::reload;
use crate::publishing::{answer, ask};
use crate::support::{Daemon, PATIENCE, eventually, text};

/// A daemon to which nobody comes by himself without being accepted.
fn asking(name: &'static str, patterns: &[&str]) -> Daemon {
    let mut daemon = Daemon::new(name, patterns, "", "");
    let config = std::fs::read_to_string(daemon.config()).expect("a configuration");
    let config = config.replace("profile = \"loopback\"", "profile = \"loopback\"\naccept = \"ask\"");
    std::fs::write(daemon.config(), config).expect("a configuration");
    daemon.start();
    daemon
}

/// How `daemon` sees the node `id`; null when it does not.
fn seen(daemon: &Daemon, id: &str) -> Value {
    let peers = daemon.json(&["peers", "list", "--all"]);
    let mut peers = peers["peers"].as_array().expect("a list").iter();
    peers.find(|peer| peer["id"] == id).cloned().unwrap_or_default()
}

fn wait_for_state(daemon: &Daemon, id: &str, state: &str) -> Value {
    eventually(&format!("{} sees it as {state}\n{}", daemon.name, daemon.log()), PATIENCE, || {
        Some(seen(daemon, id)).filter(|peer| peer["state"] == state)
    })
}

fn succeeds(daemon: &Daemon, args: &[&str]) -> String {
    let output = daemon.afferent(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn who_comes_by_itself_asks_and_is_a_neighbour_once_it_is_accepted() {
    let mut b = asking("b", &["a.*"]);
    let a = Daemon::running("a", &["b.*"], "", "");
    let id = a.id();
    a.befriend(&b);
    wait_for_state(&b, &id, "asking");
    assert_eq!(b.json(&["status"])["peers"]["asking"], 1);
    let listed = b.afferent(&["peers"]);
    assert!(text(&listed.stdout).contains("asks to be a neighbour"), "{}", text(&listed.stdout));
    assert!(text(&listed.stderr).contains(&format!("afferent peers accept {}", &id[..10])), "{}", text(&listed.stderr));
    let given = a.publish("a.given", "1");
    assert_eq!(b.digests(1), std::slice::from_ref(&given), "its events are taken");
    b.publish("b.kept", "2");
    assert_eq!(b.afferent(&["match", "b.kept"]).status.code(), Some(1), "nobody would get it");

    b.kill();
    b.start();
    assert_eq!(seen(&b, &id)["state"], "asking", "a restart is no answer");
    a.wait_connected(&b);

    for _ in 0..2 {
        assert!(succeeds(&b, &["peers", "accept", &id[..8]]).contains("may be a neighbour"), "said twice");
    }
    b.wait_connected(&a);
    let told = b.publish("b.told", "3");
    assert_eq!(a.digests(2), [given, told], "what came before it was accepted is not owed to it");
    let shown = succeeds(&b, &["peers", "show", &id[..8]]);
    assert!(shown.contains("history   ") && (shown.contains(" ago") || shown.contains("just now")), "{shown}");
    assert_eq!(b.afferent(&["peers", "accept", "nobody"]).status.code(), Some(4));
}

#[test]
fn a_change_of_the_file_lets_in_who_waits() {
    let b = asking("b", &[]);
    let a = Daemon::running("a", &[], "", "");
    a.befriend(&b);
    wait_for_state(&b, &a.id(), "asking");
    let config = std::fs::read_to_string(b.config()).expect("a configuration");
    let config = config.replace("\"ask\"", "\"open\"") + "[discovery]\nmin_peers = 3\n";
    std::fs::write(b.config(), config).expect("a configuration");
    let line = reload(&b);
    assert!(line.contains("is in force"), "{line}");
    b.wait_connected(&a);
}

#[test]
fn a_blocked_node_is_refused_also_after_a_restart_until_it_is_unblocked() {
    let a = Daemon::running("a", &["b.*"], "", "");
    let mut b = Daemon::running("b", &["a.*"], "", "");
    let (id, short) = (a.id(), a.id()[..10].to_owned());
    a.befriend(&b);
    b.wait_connected(&a);
    let blocked = b.afferent(&["peers", "block", &short, "--reason", "it floods"]);
    assert!(blocked.status.success(), "{}", text(&blocked.stderr));
    assert!(text(&blocked.stderr).contains(&format!("afferent mute {short}")), "{}", text(&blocked.stderr));

    let refused = || {
        let peer = seen(&a, &b.id());
        let why = peer["why"].as_str().unwrap_or_default().to_owned();
        why.ends_with("has blocked this node").then_some(())
    };
    let waiting = a.publish("a.waits", "1");
    b.publish("b.kept", "2");
    eventually(&format!("a is told so\n{}", a.log()), PATIENCE, refused);
    let peer = seen(&b, &id);
    assert_eq!((&peer["state"], &peer["why"]), (&"blocked".into(), &"it floods".into()));
    assert!(seen(&a, &b.id())["events_in"] == 0 && b.journal_events() == 1, "nothing crossed");

    b.kill(); // and not stopped: it was durable when it was answered
    b.start();
    assert_eq!(seen(&b, &id)["state"], "blocked");
    // Two pauses of a peer that was added by hand, at the most.
    eventually(&format!("it is refused by its code\n{}", a.log()), PATIENCE * 3, || {
        let count = |line: &str| line.strip_prefix(REFUSED)?.parse::<u64>().ok();
        crate::metrics::page(&b).lines().find_map(count).filter(|count| *count > 0)
    });
    assert_eq!(b.journal_events(), 1);
    for (args, code) in [
        (&["peers", "add", &a.address()][..], 5),
        (&["peers", "accept", &short], 5),
        (&["peers", "block", &b.id()], 5),
        (&["peers", "block", "nobody"], 4),
    ] {
        let output = b.afferent(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
    }
    let (status, problem) = answer(ask(&b, &format!("POST /v1/peers/{short}/accept"), &[], "")).expect("an answer");
    assert_eq!((status, &problem["code"]), (409, &"peer_blocked".into()));

    succeeds(&b, &["peers", "unblock", &short]);
    succeeds(&b, &["peers", "unblock", &short]);
    for (one, other) in [(&b, &a), (&a, &b)] {
        one.wait_connected(other);
    }
    let own = b.digests(1);
    assert_eq!(b.digests(2), [own[0].clone(), waiting], "nothing of it was refused for good");
    let told = b.publish("b.told", "3");
    eventually("what is published now crosses", PATIENCE, || a.digests(2).contains(&told).then_some(()));
    assert_eq!(a.journal_events(), 2, "and what was published meanwhile does not");
}

const REFUSED: &str = "afferent_events_rejected_total{code=\"blocked\"} ";
