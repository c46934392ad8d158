//! Once, in order, whatever happens.

use std::sync::atomic::Ordering;

use super::journal::{NOON, events};
use super::server::Proxy;
use super::*;
use crate::wire::{Draft, Scalar, envelope};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_interest_reach_the_stream_in_order_and_others_do_not() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let (them, me) = (neighbour(), Arc::clone(&node.key));
    let addressed = |id: &str, to: &Keypair| {
        let draft = Draft::new(id, "b.c", NOON).with("to", Scalar::Text(to.id().uri()));
        envelope::seal(&draft, &them).expect("a good draft")
    };
    node.log.append(events(&them, "a.b", 0, 2), Some(&them));
    node.log.append(events(&me, "a.b", 3, 1), Some(&me));
    node.log.append(events(&them, "mesh.node.up", 4, 1), Some(&them));
    node.log.append([addressed("for-me", &me), addressed("for-them", &them)], None);
    node.start();
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, ["0", "1", "for-me"]);
    assert_eq!(node.counters.skipped.load(Ordering::Relaxed), 3);

    // Whatever is stored was wanted when it came, and a new event wakes the bridge.
    node.log.append(events(&them, "b.c", 5, 1), None);
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, ["0", "1", "for-me", "5"]);
    let mut redis = server.connect().await;
    assert_eq!(column(&mut redis, STREAM, "mesh_via").await.last().map(String::as_str), Some(""));
    node.stop().await;
    assert!(node.state.borrow().is_well() || node.state.borrow().egress == Condition::Running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_peers_are_on_the_bus_where_they_are_asked_for_by_name() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let (them, me) = (neighbour(), Arc::clone(&node.key));
    let wanting = |texts: &[&str]| Interests::new(texts.iter().map(|text| text.parse().expect("a pattern")));
    node.settings.routes = vec![Route { pattern: "mesh.peer.*".parse().expect("one"), stream: "peers".to_owned() }];
    node.interests.send_replace(wanting(&["*", "+.peer.*"]).expect("interests"));
    node.log.append(events(&me, "mesh.peer.connected", 0, 1), Some(&me));
    node.start();
    node.catches_up().await;
    node.interests.send_replace(wanting(&["a.*", "mesh.peer.*"]).expect("interests"));
    node.log.append(events(&me, "mesh.peer.suspect", 1, 1), Some(&me));
    node.log.append(events(&them, "mesh.peer.connected", 2, 1), Some(&them)); // the core takes none
    node.log.append(events(&them, "a.b", 3, 1), Some(&them));
    node.log.append(events(&me, "mesh.peer.backoff", 4, 1), Some(&me));
    node.catches_up().await;
    let mut redis = server.connect().await;
    until("both streams to have all", async || column(&mut redis, "peers", "id").await.len() == 2).await;
    assert_eq!(column(&mut redis, "peers", "id").await, ["1", "4"], "without bus.own, and by their route");
    assert_eq!(on_the_bus(&server).await, ["3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_under_a_pattern_reaches_the_bus_also_when_the_pattern_is_gone_by_then() {
    let mut server = Server::absent(&[]);
    let mut node = Node::at(&server.url());
    node.start();
    node.waits("nothing listens there").await;
    node.log.append(events(&neighbour(), "a.b", 0, 3), None);
    node.interests.send_replace(Interests::default());
    server.rise().await;
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, numbers(0..3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_is_asked_at_the_moment_of_bridging() {
    use crate::core::trust::{Rule, Sources, Verdict};
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let them = neighbour();
    let rule = |kind: &str, verdict| Rule {
        sources: Sources::These([them.id()].into()),
        types: vec![kind.parse().expect("a pattern")],
        verdict,
    };
    let rules = [
        rule("a.doubted", Verdict::Flagged),
        rule("a.held", Verdict::Quarantined),
        rule("a.gone", Verdict::Dropped),
        rule("z.z", Verdict::Quarantined),
    ];
    let params = Params { rules: rules.into(), ..Params::default() };
    for (number, kind) in ["a.fine", "a.doubted", "a.held", "a.gone", "z.z"].into_iter().enumerate() {
        node.log.append(events(&them, kind, number, 1), Some(&them)); // they were stored before there were rules
    }
    node.policy.send_replace(Policy::of(node.key.id(), &params));
    node.start();
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, ["0", "1"]);
    let mut redis = server.connect().await;
    assert_eq!(column(&mut redis, STREAM, "mesh_trust").await, ["accepted", "flagged"]);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &node.counters;
    assert_eq!((count(&counters.flagged), count(&counters.quarantined), count(&counters.skipped)), (1, 2, 1));

    let muted = node.policy.borrow().with_muted([them.id()].into());
    node.policy.send_replace(muted);
    node.log.append(events(&them, "a.fine", 9, 1), Some(&them));
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, ["0", "1"], "muted while it waited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_events_are_appended_only_when_asked_for() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    node.settings.own = true;
    node.log.append(events(&Arc::clone(&node.key), "a.b", 0, 1), Some(&Arc::clone(&node.key)));
    node.start();
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, ["0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_events_go_in_batches_of_their_own_and_the_stream_is_trimmed() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    node.settings.maxlen = 100;
    let them = neighbour();
    let large = |number: usize| {
        let data = format!("\"{}\"", "x".repeat(60_000));
        let draft = Draft::new(number.to_string(), "a.b", NOON);
        let data = serde_json::value::RawValue::from_string(data).expect("JSON");
        envelope::seal(&draft.with_data(data), &them).expect("a good draft")
    };
    node.log.append((0..20).map(large), None);
    node.log.append(events(&them, "a.b", 20, 2_000), None);
    node.start();
    node.catches_up().await;
    assert_eq!(node.counters.bridged.load(Ordering::Relaxed), 2_020);
    let left = on_the_bus(&server).await;
    assert!(left.len() < 300 && left.ends_with(&numbers(2_010..2_020)), "{} entries", left.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_bridge_at_any_moment_neither_repeats_nor_loses() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let them = neighbour();
    let mut chance = fastrand::Rng::with_seed(11);
    let mut count = 0;
    for _ in 0..40 {
        node.log.append(events(&them, "a.b", count, 300), None);
        count += 300;
        let so_far = node.counters.bridged.load(Ordering::Relaxed);
        node.start();
        let enough = so_far + chance.u64(1..500);
        // Somewhere in the middle: the next step of the bridge is cut wherever it is.
        until("some events", async || {
            node.counters.bridged.load(Ordering::Relaxed) >= enough
                || node.log.cursor("bus:mesh:events") == Some(node.log.head())
        })
        .await;
        for _ in 0..chance.usize(0..40) {
            tokio::task::yield_now().await;
        }
        node.crash().await;
    }
    node.start();
    node.catches_up().await;
    assert!(on_the_bus(&server).await == numbers(0..count), "something is missing, twice, or out of order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_that_may_have_lost_its_tail_is_caught_up_without_repetition() {
    // One kill for each server: see the head of `egress.rs` for what a second one can do.
    for round in 1..5 {
        let mut server = Server::everysec().await;
        let mut node = Node::at(&server.url());
        node.log.append(events(&neighbour(), "a.b", 0, 3_000), None);
        node.start();
        until("a part of them", async || node.counters.bridged.load(Ordering::Relaxed) >= round * 500).await;
        server.kill();
        node.reaches("trouble", |state| matches!(state.egress, Condition::Waiting { .. })).await;
        assert!(!node.state.borrow().connected);
        node.log.append(events(&neighbour(), "a.b", 3_000, 100), None);
        server.rise().await;
        node.catches_up().await;
        assert!(on_the_bus(&server).await == numbers(0..3_100), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_log_of_redis_repeats_one_batch_at_most_and_loses_nothing() {
    let mut server = Server::durable().await;
    let mut node = Node::at(&server.url());
    node.start();
    for round in 0..2 {
        node.log.append(events(&neighbour(), "a.b", round * 100, 100), None);
        node.catches_up().await;
    }
    server.kill();
    server.tear(2_000);
    server.rise().await;
    until("what was torn off", async || on_the_bus(&server).await.len() == 200).await;
    assert_eq!(on_the_bus(&server).await, numbers(0..200));
    // Now Redis runs the torn piece as well.
    server.kill();
    server.rise().await;
    node.runs().await;
    let mut found = on_the_bus(&server).await;
    assert!(found.len() <= 200 + 64, "{} entries", found.len());
    found.sort_by_key(|id| id.parse::<usize>().expect("a number"));
    found.dedup();
    assert_eq!(found, numbers(0..200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_after_the_append_repeats_nothing() {
    let server = Server::start().await;
    let proxy = Proxy::before(&server).await;
    let mut node = Node::at(&proxy.url());
    node.settings.outbox = String::new();
    node.settings.timing.survey = PATIENCE;
    let them = neighbour();
    node.start();
    node.runs().await;
    for round in 0..25 {
        let before = proxy.faults.swallowed.load(Ordering::SeqCst);
        proxy.faults.deaf.store(true, Ordering::SeqCst);
        node.log.append(events(&them, "a.b", round * 100, 100), None);
        until("a lost answer", async || proxy.faults.swallowed.load(Ordering::SeqCst) > before).await;
        proxy.faults.deaf.store(false, Ordering::SeqCst);
        node.catches_up().await;
    }
    assert!(on_the_bus(&server).await == numbers(0..2_500), "something is missing, twice, or out of order");
    assert!(node.counters.troubles.load(Ordering::Relaxed) >= 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_arrives_after_its_successors_appends_nothing() {
    let server = Server::start().await;
    let proxy = Proxy::before(&server).await;
    let mut node = Node::at(&proxy.url());
    node.settings.outbox = String::new();
    node.settings.timing.survey = PATIENCE;
    node.start();
    node.runs().await;
    proxy.faults.late.store(true, Ordering::SeqCst);
    node.log.append(events(&neighbour(), "a.b", 0, 100), None);
    node.waits("no answer in time").await;
    proxy.faults.late.store(false, Ordering::SeqCst);
    node.catches_up().await;
    // Only now does Redis get the first batch of all, from a connection that nobody listens to.
    proxy.faults.release.send_replace(true);
    until("the late batch", async || proxy.faults.answered_late.load(Ordering::SeqCst) > 0).await;
    node.log.append(events(&neighbour(), "a.b", 100, 100), None);
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, numbers(0..200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_journal_that_was_set_back_stored_since_is_bridged() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    node.log.append(events(&neighbour(), "a.b", 0, 8), None);
    // The process began with three events; an earlier life of this journal had come to the fifth.
    let positions = node.log.page(Seq(0), 8, 1 << 20).expect("there").entries;
    node.settings.start = positions[2].seq;
    server.type_in(&["XADD", STREAM, "*", "id", "earlier"]).await;
    let key = format!("{{{STREAM}}}:mesh-cursor:{}", node.key.id());
    let bridged = positions[4].seq.0.to_string();
    server.type_in(&["HSET", &key, "epoch", "77", "seq", &bridged]).await;
    node.start();
    let expected: Vec<String> = std::iter::once("earlier".to_owned()).chain(numbers(3..8)).collect();
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, expected, "the fourth and the fifth too");
}

/// How often the bridge has looked at its stream: three keys each time.
async fn looks(server: &Server) -> u64 {
    let stats = server.type_in(&["INFO", "commandstats"]).await;
    let stats: String = redis::from_redis_value(stats).expect("text");
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_type:calls="));
    let calls = line.and_then(|rest| rest.split(',').next()).and_then(|calls| calls.parse::<u64>().ok());
    calls.unwrap_or_default() / 3
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_while_an_empty_redis_was_away_is_not_appended_twice() {
    let mut server = Server::absent(&[]);
    let mut node = Node::at(&server.url());
    node.log.append(events(&neighbour(), "a.b", 0, 5), None);
    node.settings.start = node.log.head();
    node.start();
    node.waits("nothing listens there").await;
    node.log.append(events(&neighbour(), "a.b", 5, 5), None);
    server.rise().await;
    node.catches_up().await;
    let before = looks(&server).await;
    until("some more looks", async || looks(&server).await >= before + 3).await;
    assert_eq!(on_the_bus(&server).await, numbers(0..10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_is_no_text_is_mended_like_any_other() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    node.log.append(events(&neighbour(), "a.b", 0, 5), None);
    node.start();
    node.catches_up().await;
    let mut spoil = redis::cmd("HSET");
    spoil.arg(cursor::key(STREAM, node.settings.node)).arg("seq").arg(&b"\xff\xfe"[..]);
    spoil.exec_async(&mut server.connect().await).await.expect("a hash");
    node.stops("damaged").await;
    node.order(|answer| Order::Mend { replay: false, answer }).await.expect("it is stopped");
    node.log.append(events(&neighbour(), "a.b", 5, 5), None);
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, numbers(0..10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_makes_the_stream_after_a_flush_does_not_stop_the_replay() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    node.log.append(events(&neighbour(), "a.b", 0, 5), None);
    node.start();
    node.catches_up().await;
    node.stop().await;
    server.type_in(&["FLUSHALL"]).await;
    server.type_in(&["XGROUP", "CREATE", STREAM, "app", "0", "MKSTREAM"]).await;
    node.start();
    node.runs().await;
    until("all are there again", async || on_the_bus(&server).await == numbers(0..5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_redis_gets_again_what_the_journal_holds() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let them = neighbour();
    node.log.append(events(&them, "a.b", 0, 100), None);
    node.start();
    node.catches_up().await;
    node.log.drop_before(Seq(3 * 11)); // 10 events: positions 3, 6, ...
    server.type_in(&["FLUSHALL"]).await;
    until("the replay", async || on_the_bus(&server).await.len() == 90).await;
    node.log.append(events(&them, "a.b", 100, 10), None);
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, numbers(10..110));
    assert_eq!(node.counters.lost.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_redis_in_its_place_gets_what_the_journal_holds_once() {
    // It keeps nothing on disk, so what comes up on its port is another one.
    let mut server = Server::start().await;
    let mut node = Node::at(&server.url());
    node.log.append(events(&neighbour(), "a.b", 0, 100), None);
    node.start();
    node.catches_up().await;
    server.kill();
    node.reaches("trouble", |state| matches!(state.egress, Condition::Waiting { .. })).await;
    node.log.append(events(&neighbour(), "a.b", 100, 10), None);
    server.rise().await;
    until("the replay", async || on_the_bus(&server).await.len() >= 110).await;
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, numbers(0..110));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_cursor_stops_the_bridge_and_a_person_says_where_it_goes_on() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let them = neighbour();
    node.log.append(events(&them, "a.b", 0, 10), None);
    node.start();
    node.catches_up().await;
    let cursor = cursor::key(STREAM, node.settings.node);

    server.type_in(&["DEL", &cursor]).await;
    assert!(node.stops("its cursor is gone").await.contains("afferent bus resume"));
    node.log.append(events(&them, "a.b", 10, 5), None);
    assert_eq!(on_the_bus(&server).await, numbers(0..10), "nothing is appended meanwhile");
    // It asks after a restart, too, and even while Redis is away nothing is guessed.
    node.stop().await;
    node.start();
    node.stops("its cursor is gone").await;
    let placed = node.order(|answer| Order::Mend { replay: false, answer }).await.expect("it is stopped");
    assert_eq!(placed.placed, [Placed { stream: STREAM.into(), after: Seq(30) }]);
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, numbers(0..15));
    let nothing = node.order(|answer| Order::Mend { replay: true, answer }).await;
    assert_eq!(nothing, Err(Refusal::NothingStopped), "a stream that is well is never replayed");

    server.type_in(&["HSET", &cursor, "epoch", "78"]).await;
    assert!(node.stops("belongs to another journal").await.contains("afferent bus replay"));
    node.order(|answer| Order::Mend { replay: true, answer }).await.expect("it is stopped");
    until("the replay", async || on_the_bus(&server).await.len() == 30).await;
    assert_eq!(on_the_bus(&server).await, [numbers(0..15), numbers(0..15)].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_on_a_stream_of_others_begins_where_the_daemon_says() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let them = neighbour();
    server.type_in(&["XADD", STREAM, "*", "id", "theirs"]).await;
    node.log.append(events(&them, "a.b", 0, 10), None);
    node.settings.start = node.log.head();
    node.start();
    node.catches_up().await;
    node.log.append(events(&them, "a.b", 10, 5), None);
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, [vec!["theirs".to_owned()], numbers(10..15)].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_is_pinned_from_the_first_start_on_until_redis_appears() {
    let mut server = Server::durable().await;
    server.type_in(&["XADD", STREAM, "*", "id", "theirs"]).await;
    server.kill();
    let mut node = Node::at(&server.url());
    let them = neighbour();
    node.log.append(events(&them, "a.b", 0, 10), None);
    node.settings.start = node.log.head();
    node.start();
    node.waits("nothing listens there").await;
    node.crash().await;
    node.log.append(events(&them, "a.b", 10, 10), None);
    // The daemon says something else after its restart; the first start counts.
    node.settings.start = node.log.head();
    node.start();
    assert_eq!(node.log.cursor("bus:mesh:events#first"), Some(Seq(30)));
    node.reaches("the lag to show", |state| state.lag > 0).await;
    server.rise().await;
    node.catches_up().await;
    assert_eq!(node.log.cursor("bus:mesh:events"), Some(Seq(60)));
    assert_eq!(on_the_bus(&server).await, [vec!["theirs".to_owned()], numbers(10..20)].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_dropped_before_it_was_bridged_is_counted() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let them = neighbour();
    node.log.append(events(&them, "a.b", 0, 10), None);
    node.start();
    node.catches_up().await;
    node.stop().await;
    node.log.append(events(&them, "a.b", 10, 10), None);
    node.log.drop_before(Seq(3 * 16));
    node.start();
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, [numbers(0..10), numbers(15..20)].concat());
    assert_eq!(node.counters.lost.load(Ordering::Relaxed), 17, "positions 31 to 47");
}
