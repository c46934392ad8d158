//! `kill -9` of either daemon, or of Redis, at random moments under load.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::support::{Daemon, Publisher, Redis, eventually, stored_digests};

const KILLS: usize = 33;

#[test]
fn whatever_was_acknowledged_is_on_the_stream_of_b_exactly_once() {
    let mut rng = fastrand::Rng::with_seed(20_261_121);
    let mut redis = Redis::start();
    let mut a = Daemon::running("a", &[], "", "");
    let mut b = Daemon::running("b", &["load.*"], &redis.url(), "");
    a.befriend(&b);
    let mut acked = Vec::new();
    let mut number = 0;
    let mut publisher = Publisher::start(&a);
    for kill in 0..KILLS {
        let lines = rng.usize(20..400);
        for _ in 0..lines {
            number += 1;
            if !publisher.write(&format!(r#"{{"type":"load.event","data":{number}}}"#)) {
                break;
            }
        }
        // The pipe and the daemon are in the middle of it: that is when it happens.
        std::thread::park_timeout(Duration::from_millis(rng.u64(0..60)));
        match kill % 3 {
            0 => {
                a.kill();
                acked.extend(stored_digests(&publisher.finish()));
                a.start();
                publisher = Publisher::start(&a);
            }
            1 => {
                b.kill();
                b.start();
            }
            _ => {
                redis.kill();
                redis.run();
            }
        }
        acked.extend(stored_digests(&publisher.answers()));
    }
    acked.extend(stored_digests(&publisher.finish()));
    assert!(acked.len() > 1_000, "{} acknowledged events prove little", acked.len());

    let wanted: BTreeSet<&String> = acked.iter().collect();
    eventually("everything acknowledged arrived", Duration::from_secs(60), || {
        let there: BTreeSet<String> = redis.digests().into_iter().collect();
        wanted.iter().all(|digest| there.contains(*digest)).then_some(())
    });
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for digest in redis.digests() {
        *times.entry(digest).or_default() += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{} of {} stand there twice", twice.len(), times.len());
}

#[test]
fn a_graceful_stop_is_quick_and_loses_nothing() {
    let a = Daemon::running("a", &[], "", "");
    let mut b = Daemon::running("b", &["load.*"], "", "");
    a.befriend(&b);
    let digest = a.publish("load.x", "1");
    assert_eq!(b.digests(1), std::slice::from_ref(&digest));
    let before = std::time::Instant::now();
    assert_eq!(b.stop(), Some(0));
    assert!(before.elapsed() < Duration::from_secs(10));
    b.start();
    assert_eq!(b.digests(1), [digest]);
}
