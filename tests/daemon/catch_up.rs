//! A peer that was away.

use std::time::{Duration, Instant};

use crate::support::{Daemon, PATIENCE, Publisher, Redis, eventually, stored_digests};

/// Resident memory of a process, in KiB.
fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn ten_thousand_events_wait_on_disk_for_a_peer_that_is_down() {
    let redis = Redis::start();
    let a = Daemon::running("a", &[], "", "");
    let mut b = Daemon::new("b", &["load.*"], &redis.url(), "");
    // With the rates that everybody has who configures nothing.
    let text = std::fs::read_to_string(b.config()).expect("a configuration");
    std::fs::write(b.config(), text.replace("20000/s burst 40000", "50/s burst 200")).expect("a configuration");
    b.start();
    a.befriend(&b);
    a.publish("load.first", "0");
    eventually("the lane works", PATIENCE, || (redis.digests().len() == 1).then_some(()));
    b.kill();

    let mut publisher = Publisher::start(&a);
    for n in 0..10_000 {
        assert!(publisher.write(&format!(r#"{{"type":"load.event","data":{{"n":{n},"pad":"{:0200}"}}}}"#, 0)));
    }
    let digests = stored_digests(&publisher.finish());
    assert_eq!(digests.len(), 10_000);
    let memory = rss_kib(a.pid());
    assert!(memory < 160 << 10, "a holds {memory} KiB for a peer that is away");

    let returned = Instant::now();
    b.start();
    eventually("b has them all", Duration::from_secs(30), || (redis.digests().len() > 10_000).then_some(()));
    let took = returned.elapsed();
    assert_eq!(redis.digests()[1..], digests, "once, and in a's order");
    assert!(took < Duration::from_secs(30), "{took:?}");
}
