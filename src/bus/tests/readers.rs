//! Consumer groups of a stream that is full: waited for, overtaken, told.

use std::sync::atomic::Ordering;

use super::journal::events;
use super::*;

const GROUP: &str = "event-processor";

/// A node with a short stream, and a group on it that has read nothing.
async fn with_reader(server: &Server, patience: Duration) -> Node {
    server.type_in(&["XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM"]).await;
    let mut node = Node::at(&server.url());
    node.settings.maxlen = 200;
    node.settings.timing.patience = patience;
    node.log.append(events(&neighbour(), "a.b", 0, 2_000), None);
    node
}

/// Reads and acknowledges what is there; the ids of the events.
async fn read(server: &Server, count: usize) -> Vec<String> {
    let mut redis = server.connect().await;
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg(GROUP).arg("me").arg("COUNT").arg(count).arg("NOACK").arg("STREAMS").arg(STREAM).arg(">");
    let reply: Option<redis::streams::StreamReadReply> = read.query_async(&mut redis).await.expect("a group");
    let entries = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
    entries.map(|entry| entry.get::<String>("id").expect("an id")).collect()
}

/// The state of the one stream; blank before the bridge has begun.
fn stream_of(state: &BusState) -> StreamState {
    state.streams.first().cloned().unwrap_or_default()
}

async fn length(server: &Server) -> u64 {
    redis::from_redis_value(server.type_in(&["XLEN", STREAM]).await).expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catch_up_trims_nothing_that_a_group_has_not_read() {
    let server = Server::start().await;
    let mut node = with_reader(&server, PATIENCE).await;
    node.start();
    let full = |state: &BusState| stream_of(state).waits_for.as_deref() == Some(GROUP);
    node.reaches("the bridge to wait", full).await;
    assert!(length(&server).await <= 200 + 64, "no more than a batch above its length");
    let mut seen = Vec::new();
    until("the reader to have all", async || {
        seen.extend(read(&server, 37).await);
        seen.len() >= 2_000
    })
    .await;
    assert!(seen == numbers(0..2_000), "something is missing, twice, or out of order");
    node.catches_up().await;
    assert!(length(&server).await < 400, "it is trimmed again");
    assert_eq!(node.counters.unread.load(Ordering::Relaxed), 0);
    node.reaches("the wait to be over", |state| stream_of(state).waits_for.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_stands_still_is_overtaken_and_told_so() {
    let server = Server::start().await;
    let mut node = with_reader(&server, Duration::from_millis(100)).await;
    assert_eq!(read(&server, 1).await, Vec::<String>::new());
    node.start();
    node.catches_up().await;
    assert!(length(&server).await < 400);
    let left = length(&server).await;
    let all = |state: &BusState| stream_of(state).missed >= 2_000 - left;
    let told = node.reaches("the whole loss to be told", all).await;
    let stream = &told.streams[0];
    assert_eq!(stream.missed_by.as_deref(), Some(GROUP));
    assert!(stream.waits_for.is_none());
    assert_eq!(stream.missed, 2_000 - left, "each once");
    assert_eq!(node.counters.unread.load(Ordering::Relaxed), 2_000 - left);
    // It reads on: the gap is an old one now, and is not told again.
    assert_eq!(read(&server, 5_000).await.len() as u64, left);
    node.log.append(events(&neighbour(), "a.b", 2_000, 10), None);
    node.catches_up().await;
    assert_eq!(read(&server, 5_000).await, numbers(2_000..2_010));
    assert_eq!(node.counters.unread.load(Ordering::Relaxed), 2_000 - left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_trims_is_told_as_well() {
    let server = Server::start().await;
    let mut node = with_reader(&server, PATIENCE).await;
    node.settings.maxlen = 1_000_000;
    node.start();
    node.catches_up().await;
    assert_eq!(read(&server, 500).await, numbers(0..500));
    server.type_in(&["XTRIM", STREAM, "MAXLEN", "=", "1000"]).await;
    node.reaches("the loss to be told", |state| stream_of(state).missed == 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_readers_is_only_trimmed() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    node.settings.maxlen = 200;
    node.log.append(events(&neighbour(), "a.b", 0, 2_000), None);
    node.start();
    node.catches_up().await;
    assert!(length(&server).await < 400);
    assert_eq!(node.counters.unread.load(Ordering::Relaxed), 0);
}

/// Has the bridge waited for anybody, ever, from now until `is_over`?
async fn waited_until(node: &Node, is_over: impl AsyncFnMut() -> bool) -> bool {
    let mut states = node.state.subscribe();
    let watcher =
        tokio::spawn(async move { states.wait_for(|state| stream_of(state).waits_for.is_some()).await.is_ok() });
    until("the end of the watch", is_over).await;
    let has_waited = watcher.is_finished();
    watcher.abort();
    has_waited
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_was_given_up_stays_so_when_the_connection_breaks_and_its_loss_is_told_once() {
    let server = Server::start().await;
    let mut node = with_reader(&server, Duration::from_millis(300)).await;
    node.start();
    node.catches_up().await;
    node.reaches("the wait to be over", |state| stream_of(state).waits_for.is_none()).await;
    let lost = 2_000 - length(&server).await;
    node.reaches("the whole loss to be told", |state| stream_of(state).missed == lost).await;
    let troubles = node.counters.troubles.load(Ordering::Relaxed);
    server.type_in(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    until("trouble", async || node.counters.troubles.load(Ordering::Relaxed) > troubles).await;
    node.catches_up().await;
    node.log.append(events(&neighbour(), "a.b", 2_000, 2_000), None);
    let is_over = async || node.log.cursor("bus:mesh:events") == Some(node.log.head());
    assert!(!waited_until(&node, is_over).await, "it was waited for again");
    let lost = 4_000 - length(&server).await;
    node.reaches("the whole loss to be told", |state| stream_of(state).missed >= lost).await;
    assert_eq!(stream_of(&node.state.borrow()).missed, lost, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_group_by_which_this_node_once_read_the_stream_is_no_reader() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let ours = format!("mesh-out:{}", node.settings.node);
    server.type_in(&["XGROUP", "CREATE", STREAM, &ours, "0", "MKSTREAM"]).await;
    node.settings.maxlen = 200;
    node.log.append(events(&neighbour(), "a.b", 0, 2_000), None);
    node.start();
    let is_over = async || node.log.cursor("bus:mesh:events") == Some(node.log.head());
    assert!(!waited_until(&node, is_over).await);
    node.catches_up().await;
    assert_eq!(node.counters.unread.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_abandoned_groups_cost_no_more_patience_than_one() {
    let server = Server::start().await;
    let mut node = with_reader(&server, Duration::from_secs(1)).await;
    for number in 0..20 {
        server.type_in(&["XGROUP", "CREATE", STREAM, &format!("gone-{number}"), "0"]).await;
    }
    node.start();
    // Twenty times the patience would be more than this test has.
    node.catches_up().await;
    assert!(length(&server).await < 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_reads_one_entry_now_and_then_does_not_set_the_pace() {
    let server = Server::start().await;
    let mut node = with_reader(&server, Duration::from_millis(300)).await;
    node.start();
    let mut redis = server.connect().await;
    let reader = tokio::spawn(async move {
        let mut slowly = tokio::time::interval(Duration::from_millis(50));
        loop {
            slowly.tick().await;
            let mut read = redis::cmd("XREADGROUP");
            read.arg("GROUP").arg(GROUP).arg("me").arg("COUNT").arg(1).arg("NOACK");
            read.arg("STREAMS").arg(STREAM).arg(">").exec_async(&mut redis).await.expect("a group");
        }
    });
    node.catches_up().await;
    reader.abort();
    assert!(length(&server).await < 400);
}
