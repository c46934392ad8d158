//! What local programs are told of peers: events `mesh.peer.<state>` of real daemons.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Daemon, PATIENCE, Redis, eventually, text};
use crate::validator::{Case, judge};

/// Type and data of each entry of the bus, in order.
fn told(redis: &Redis) -> Vec<(String, BTreeMap<String, String>)> {
    let entries = redis.entries("mesh:events").into_iter();
    entries.map(|(_, fields)| (fields["type"].clone(), fields)).collect()
}

/// Waits for one of these types behind the first `after` entries; how many there are up to it.
fn waits_for(redis: &Redis, kinds: &[&str], after: usize) -> usize {
    eventually(&kinds.join(" or "), PATIENCE, || {
        let told = told(redis);
        let found = told[after.min(told.len())..].iter().position(|(told, _)| kinds.contains(&told.as_str()));
        found.map(|at| after + at + 1)
    })
}

#[test]
fn programs_hear_when_a_peer_goes_and_when_it_comes_back() {
    let redis = Redis::start();
    let a = Daemon::running("a", &["mesh.peer.*"], &redis.url(), "");
    let mut b = Daemon::running("b", &["mesh.peer.*", "order.*"], "", "");
    let output = a.afferent(&["peers", "add", &b.address(), "--alias", "birch"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (first, id) = (waits_for(&redis, &["mesh.peer.connected"], 0), b.id());
    b.wait_connected(&a);
    b.kill();
    // It depends on whether the lane was seen to stand for 10 s, and has not to do with what is told.
    let gone = waits_for(&redis, &["mesh.peer.suspect", "mesh.peer.backoff"], first);
    b.start();
    let back = waits_for(&redis, &["mesh.peer.connected"], gone);
    assert!(a.afferent(&["peers", "rm", "birch"]).status.success());
    // One that was typed in is in no book: what is left of it is a name. It may call again at once.
    let removed = waits_for(&redis, &["mesh.peer.heard"], back);

    let mut entries = told(&redis);
    entries.truncate(removed);
    let mut before = Value::from("heard");
    let mut cases = Vec::new();
    for (kind, fields) in &entries {
        let data: Value = serde_json::from_str(&fields["data"]).expect("JSON");
        assert_eq!((&data["peer"], &data["alias"], &data["from"]), (&id.as_str().into(), &"birch".into(), &before));
        assert_eq!(*kind, format!("mesh.peer.{}", data["to"].as_str().expect("a state")));
        assert_eq!((&fields["subject"], &fields["mesh_from"], &fields["mesh_hops"]), (&id, &a.id(), &"0".to_owned()));
        assert!(!fields.contains_key("to"), "addressed to nobody: {fields:?}");
        before = data["to"].clone();
        cases.push(Case::good("peer-change", &fields["data"]));
    }
    judge(&cases, true);
    let reason = |at: usize| serde_json::from_str::<Value>(&entries[at].1["data"]).expect("JSON")["reason"].clone();
    assert!(!reason(gone - 1).as_str().expect("a text").is_empty(), "{entries:?}");

    // The same events, in the same order, for whoever reads the journal.
    let count = entries.len().to_string();
    let output = a.afferent(&["sub", "mesh.peer.*", "--since", "all", "--count", &count, "--json"]);
    let digest = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["digest"].clone();
    let digests: Vec<Value> = text(&output.stdout).lines().map(digest).collect();
    assert_eq!(digests, entries.iter().map(|(_, fields)| Value::from(&*fields["mesh_digest"])).collect::<Vec<_>>());
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));

    // They stayed at home: what b has of the kind, b made.
    a.befriend(&b);
    b.publish("order.placed", "1");
    let output = b.afferent(&["sub", "mesh.peer.*", "order.*", "--since", "all", "--count", "2", "--json"]);
    for line in text(&output.stdout).lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["from"], id.as_str(), "{line}");
    }
}

#[test]
fn nobody_can_pretend_to_be_the_daemon_that_speaks_of_its_peers() {
    let redis = Redis::start();
    let a = Daemon::running("a", &["mesh.peer.*"], &redis.url(), "");
    let refused = a.afferent(&["publish", "mesh.peer.dead", "--data", "{}"]);
    assert_eq!(refused.status.code(), Some(5), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("AF0409"), "{}", text(&refused.stderr));
    redis.command(&["XADD", "mesh:outbox", "*", "type", "mesh.peer.dead", "data", "{}"]);
    let dead = eventually("a dead letter", PATIENCE, || redis.entries("mesh:outbox:dead").pop());
    assert_eq!((&*dead.1["code"], &*dead.1["field"]), ("type_denied", "type"));
    assert_eq!(a.journal_events(), 0);
}

#[test]
fn a_node_whose_programs_do_not_ask_writes_nothing_and_says_how_to_ask() {
    let a = Daemon::running("a", &["*"], "", "");
    let b = Daemon::running("b", &[], "", "");
    a.befriend(&b);
    b.wait_connected(&a);
    assert_eq!((a.journal_events(), b.journal_events()), (0, 0));
    a.publish("order.placed", "1");
    let output = a.afferent(&["sub", "mesh.peer.*", "order.*", "--since", "all", "--count", "1"]);
    assert!(text(&output.stderr).contains("afferent interests add 'mesh.peer.*'"), "{}", text(&output.stderr));
    assert!(a.afferent(&["interests", "add", "mesh.peer.*"]).status.success());
    assert!(a.afferent(&["peers", "rm", &b.id()]).status.success());
    let output = a.afferent(&["sub", "mesh.peer.*", "--since", "all", "--count", "1", "--raw"]);
    let event: Value = serde_json::from_slice(&output.stdout).expect("one event");
    assert_eq!(
        (&event["data"]["from"], &event["data"]["reason"]),
        (&"connected".into(), &"it was removed by hand".into())
    );
    assert!(!text(&output.stderr).contains("next:"), "{}", text(&output.stderr));
}
