//! The local bus under trouble, with whole daemons.

use std::time::Duration;

use crate::support::{Daemon, PATIENCE, Redis, eventually, signal};

#[test]
fn an_entry_of_the_outbox_becomes_an_event_on_the_other_side() {
    let (here, there) = (Redis::start(), Redis::start());
    let a = Daemon::running("a", &[], &here.url(), "");
    let b = Daemon::running("b", &["deployment.*"], &there.url(), "");
    a.befriend(&b);
    here.command(&["XADD", "mesh:outbox", "*", "type", "deployment.started", "data", r#"{"x":1}"#, "subject", "proxy"]);
    here.command(&["XADD", "mesh:outbox", "*", "type", "one-segment", "data", "{}"]);
    here.command(&["XADD", "mesh:outbox", "*", "type", "deployment.ended", "data", "{}"]);
    let entries = eventually("both good entries cross", PATIENCE, || {
        Some(there.entries("mesh:events")).filter(|entries| entries.len() == 2)
    });
    assert_eq!(entries[0].1["subject"], "proxy");
    assert_eq!(entries[1].1["type"], "deployment.ended");
    let dead = eventually("the bad one is a dead letter", PATIENCE, || {
        Some(here.entries("mesh:outbox:dead")).filter(|entries| !entries.is_empty())
    });
    assert!(dead[0].1["reason"].contains("segment"), "{:?}", dead[0]);
    assert_eq!(dead.len(), 1);
}

#[test]
fn redis_away_slow_or_full_never_refuses_a_peer_and_loses_nothing() {
    let mut redis = Redis::start();
    let a = Daemon::running("a", &[], "", "");
    let b = Daemon::running("b", &["t.*"], &redis.url(), "");
    a.befriend(&b);
    let mut expected = vec![a.publish("t.well", "0")];
    let stored = |count: u64| eventually("b took it", PATIENCE, || (b.journal_events() == count).then_some(()));
    eventually("the bridge works", PATIENCE, || (redis.digests().len() == 1).then_some(()));

    redis.kill();
    expected.push(a.publish("t.down", "1"));
    stored(2);
    redis.run();

    signal(redis.pid(), "STOP");
    expected.push(a.publish("t.slow", "2"));
    stored(3);
    signal(redis.pid(), "CONT");

    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    expected.push(a.publish("t.full", "3"));
    stored(4);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);

    redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
    expected.push(a.publish("t.readonly", "4"));
    stored(5);
    redis.command(&["REPLICAOF", "NO", "ONE"]);

    eventually("everything is on the bus", Duration::from_secs(60), || (redis.digests().len() >= 5).then_some(()));
    assert_eq!(redis.digests(), expected);
}

#[test]
fn a_daemon_whose_redis_comes_late_catches_it_up() {
    let mut redis = Redis::start();
    redis.kill();
    let a = Daemon::running("a", &[], "", "");
    let b = Daemon::running("b", &["t.*"], &redis.url(), "");
    a.befriend(&b);
    let digest = a.publish("t.x", "1");
    eventually("b took it", PATIENCE, || (b.journal_events() == 1).then_some(()));
    let status: serde_json::Value = serde_json::from_slice(&b.afferent(&["status", "--json"]).stdout).expect("JSON");
    assert_eq!(status["bus"]["connected"], false);
    redis.run();
    eventually("it is on the bus", PATIENCE, || (redis.digests() == [digest.clone()]).then_some(()));
}
