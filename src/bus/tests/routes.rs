//! Several streams of one node, each with its own cursor.

use super::journal::events;
use super::*;

fn route(pattern: &str, stream: &str) -> Route {
    Route { pattern: pattern.parse().expect("a pattern"), stream: stream.to_owned() }
}

/// Ten events of each type, in turn.
fn more(node: &Node, first: usize) {
    for number in first..first + 10 {
        for kind in ["a.deploy.done", "a.other"] {
            node.log.append(events(&neighbour(), kind, number * 2 + usize::from(kind == "a.other"), 1), None);
        }
    }
}

async fn ids(server: &Server, stream: &str) -> Vec<String> {
    column(&mut server.connect().await, stream, "id").await
}

fn every_second(from: usize, to: usize) -> Vec<String> {
    (from..to).step_by(2).map(|number| number.to_string()).collect()
}

async fn all_caught_up(node: &Node) {
    let streams = streams(&node.settings);
    until("all streams to catch up", async || {
        streams.iter().all(|stream| node.log.cursor(&format!("bus:{stream}")) == Some(node.log.head()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_route_has_its_stream_and_passes_the_rest_by() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    node.settings.routes = vec![route("a.deploy.*", "deploys"), route("a.deploy.done", "done")];
    more(&node, 0);
    node.start();
    all_caught_up(&node).await;
    assert_eq!(ids(&server, "deploys").await, every_second(0, 20));
    assert_eq!(ids(&server, "done").await, every_second(0, 20));
    assert_eq!(on_the_bus(&server).await, every_second(1, 20));
    let state = node.reaches("the state of each", |state| state.is_well() && state.lag == 0).await;
    assert_eq!(state.streams.iter().map(|stream| &*stream.name).collect::<Vec<_>>(), [STREAM, "deploys", "done"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_stopped_stops_no_other() {
    let server = Server::start().await;
    server.type_in(&["SET", "deploys", "mine"]).await;
    let mut node = Node::at(&server.url());
    node.settings.routes = vec![route("a.deploy.*", "deploys")];
    more(&node, 0);
    node.start();
    assert!(node.stops("WRONGTYPE: the key `deploys`").await.contains("TYPE"));
    until("the other stream", async || on_the_bus(&server).await == every_second(1, 20)).await;
    server.type_in(&["DEL", "deploys"]).await;
    all_caught_up(&node).await;
    assert_eq!(ids(&server, "deploys").await, every_second(0, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_stream_goes_on_where_the_old_one_ended() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    more(&node, 0);
    node.start();
    node.catches_up().await;
    node.stop().await;
    more(&node, 10);
    // As the daemon does it: see `daemon::streams`.
    pin(&*node.log, "renamed", node.log.head(), node.log.cursor("bus:mesh:events"));
    node.settings.stream = "renamed".into();
    node.start();
    all_caught_up(&node).await;
    assert_eq!(on_the_bus(&server).await, numbers(0..20));
    assert_eq!(ids(&server, "renamed").await, numbers(20..40));

    // And back: what the first one lacks went to the second.
    node.stop().await;
    node.log.forget("bus:mesh:events");
    more(&node, 20);
    pin(&*node.log, STREAM, node.log.head(), node.log.cursor("bus:renamed"));
    node.settings.stream = STREAM.into();
    node.start();
    all_caught_up(&node).await;
    assert_eq!(on_the_bus(&server).await, [numbers(0..20), numbers(40..60)].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_share_the_events_and_keep_each_source_in_order() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    (node.settings.stream, node.settings.shards) = ("s:{n}".into(), 3);
    for number in 0..30 {
        for seed in 20..26 {
            node.log.append(events(&Keypair::from_seed(&[seed; 32]), "a.b", number, 1), None);
        }
    }
    node.start();
    all_caught_up(&node).await;
    let mut redis = server.connect().await;
    let mut seen = 0;
    for stream in streams(&node.settings) {
        let sources = column(&mut redis, &stream, "source").await;
        let ids = column(&mut redis, &stream, "id").await;
        seen += ids.len();
        for source in sources.iter().collect::<std::collections::BTreeSet<_>>() {
            let mine = sources.iter().zip(&ids).filter(|(of, _)| *of == source).map(|(_, id)| id.clone());
            assert_eq!(mine.collect::<Vec<_>>(), numbers(0..30), "{stream}");
        }
    }
    assert_eq!(seen, 180);
}

/// Another configuration, taken up as the daemon does it when it starts: see `daemon::streams`.
fn start_with(node: &mut Node, history: &mut History, change: impl FnOnce(&mut Settings)) {
    change(&mut node.settings);
    let log = Arc::clone(&node.log);
    let position =
        |stream: &str| ["", "#renamed", "#first"].iter().find_map(|mark| log.cursor(&format!("bus:{stream}{mark}")));
    history.take_up(Routing::of(&node.settings), log.head(), position);
    node.settings.former = history.former().to_vec();
    for stream in history.streams() {
        pin(&*log, stream, log.head(), history.begins(stream));
    }
    node.start();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_route_gets_what_it_lacks_and_then_holds_nothing_back() {
    let server = Server::start().await;
    server.type_in(&["SET", "deploys", "mine"]).await;
    let mut node = Node::at(&server.url());
    node.settings.routes = vec![route("a.deploy.*", "deploys")];
    let mut history = History::begin(77, Routing::of(&node.settings));
    start_with(&mut node, &mut history, |_| {});
    more(&node, 0);
    node.stops("WRONGTYPE: the key `deploys`").await;
    until("the other stream", async || node.log.cursor("bus:mesh:events") == Some(node.log.head())).await;
    node.stop().await;

    start_with(&mut node, &mut history, |settings| settings.routes.clear());
    more(&node, 10);
    node.stops("WRONGTYPE: the key `deploys`").await;
    server.type_in(&["DEL", "deploys"]).await;
    all_caught_up(&node).await;
    assert_eq!(ids(&server, "deploys").await, every_second(0, 20), "what was stored for it");
    assert_eq!(on_the_bus(&server).await, [every_second(1, 20), numbers(20..40)].concat(), "and later nothing");
    let is_over = |state: &BusState| state.is_well() && state.lag == 0 && state.streams[1].condition == Condition::Off;
    node.reaches("the end of the removed stream", is_over).await;
    more(&node, 20);
    all_caught_up(&node).await;
    node.stop().await;
    start_with(&mut node, &mut history, |_| {});
    assert_eq!(streams(&node.settings), [STREAM], "it is over");
    all_caught_up(&node).await;
    assert_eq!(on_the_bus(&server).await.len(), 10 + 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_that_move_to_another_stream_are_neither_lost_nor_doubled() {
    let server = Server::start().await;
    server.type_in(&["SET", "deploys", "mine"]).await;
    let mut node = Node::at(&server.url());
    node.settings.routes = vec![route("a.deploy.*", "deploys")];
    let mut history = History::begin(77, Routing::of(&node.settings));
    start_with(&mut node, &mut history, |_| {});
    more(&node, 0);
    node.stops("WRONGTYPE: the key `deploys`").await;
    until("the other stream", async || node.log.cursor("bus:mesh:events") == Some(node.log.head())).await;
    node.stop().await;

    server.type_in(&["DEL", "deploys"]).await;
    start_with(&mut node, &mut history, |settings| settings.routes = vec![route("a.other", "deploys")]);
    more(&node, 10);
    all_caught_up(&node).await;
    assert_eq!(ids(&server, "deploys").await, [every_second(0, 20), every_second(21, 40)].concat());
    assert_eq!(on_the_bus(&server).await, [every_second(1, 20), every_second(20, 40)].concat());
}
