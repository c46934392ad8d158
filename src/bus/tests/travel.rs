//! From TeleClaude's stream to the driver, and from a driver to TeleClaude's stream.

use super::intake::Driver;
use super::*;

const BUS: &str = "teleclaude:events";

fn node_on(server: &Server) -> Node {
    let mut node = Node::at(&server.url());
    node.settings.stream = BUS.to_owned();
    node.settings.layout = Layout::Teleclaude;
    node
}

/// What a producer writes; `entity` tells entries apart.
async fn write(server: &Server, entity: usize, visibility: &str, more: &[&str]) {
    let entity = entity.to_string();
    let fields = [
        "event",
        "a.b",
        "version",
        "1",
        "source",
        "worker",
        "timestamp",
        "2026-11-21T12:00:00+00:00",
        "level",
        "1",
        "entity",
        &entity,
        "visibility",
        visibility,
        "payload",
        "{}",
    ];
    server.type_in(&[&["XADD", BUS, "*"], &fields[..], more].concat()).await;
}

fn subjects(from: usize, to: usize) -> Vec<String> {
    numbers(from..to)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_ask_to_travel_do_and_all_stay_on_the_bus() {
    let server = Server::start().await;
    // Written before this node was here: not for the mesh.
    write(&server, 99, "public", &[]).await;
    let mut node = node_on(&server);
    node.start();
    let driver = Driver::default();
    driver.serve(&mut node);
    node.reaches("all sides to be well", BusState::is_well).await;
    group_exists(&server, &node).await;
    write(&server, 0, "cluster", &[]).await;
    write(&server, 98, "local", &[]).await;
    write(&server, 97, "public", &["mesh_digest", "over the bridge"]).await;
    write(&server, 96, "public", &["actions", "null"]).await;
    write(&server, 1, "public", &[]).await;
    driver.has(2).await;
    assert_eq!(driver.subjects(), subjects(0, 2));
    let mut redis = server.connect().await;
    until("everything to be acknowledged", async || pending(&server, &node).await == 0).await;
    assert_eq!(column(&mut redis, BUS, "entity").await.len(), 6, "nothing is deleted");
    let dead = format!("{BUS}:dead");
    assert_eq!(column(&mut redis, &dead, "field").await, ["actions"]);
    assert_eq!(column(&mut redis, &dead, "kind").await, ["intake"]);
    assert_eq!(column(&mut redis, &dead, "entry.entity").await, ["96"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_no_text_keeps_no_other_from_travelling() {
    let server = Server::start().await;
    let mut add = redis::cmd("XADD");
    add.arg(BUS).arg("*").arg(&b"\xff"[..]).arg("x");
    add.exec_async(&mut server.connect().await).await.expect("room");
    let mut node = node_on(&server);
    node.start();
    let driver = Driver::default();
    driver.serve(&mut node);
    node.reaches("all sides to be well", BusState::is_well).await;
    group_exists(&server, &node).await;
    write(&server, 0, "public", &[]).await;
    driver.has(1).await;
    assert_eq!(driver.subjects(), subjects(0, 1));
}

async fn pending(server: &Server, node: &Node) -> i64 {
    let group = format!("mesh-out:{}", node.settings.node);
    let reply: Vec<redis::Value> =
        redis::from_redis_value(server.type_in(&["XPENDING", BUS, &group]).await).expect("a reply");
    redis::from_redis_value(reply.into_iter().next().expect("a count")).expect("a number")
}

async fn group_exists(server: &Server, node: &Node) {
    let group = format!("mesh-out:{}", node.settings.node);
    let mut redis = server.connect().await;
    until("the group", async || {
        let mut ask = redis::cmd("XINFO");
        ask.arg("GROUPS").arg(BUS);
        let groups: Result<redis::streams::StreamInfoGroupsReply, _> = ask.query_async(&mut redis).await;
        groups.is_ok_and(|groups| groups.groups.iter().any(|known| known.name == group))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_before_the_acknowledgement_doubles_nothing_and_a_flush_loses_nothing() {
    let server = Server::start().await;
    let mut node = node_on(&server);
    let driver = Driver::default();
    node.start();
    node.reaches("all sides to be well", BusState::is_well).await;
    // There was no stream when this node looked: whatever comes, comes after it.
    until("the look", async || node.log.cursor(&format!("entries:{BUS}")).is_some()).await;
    write(&server, 0, "public", &[]).await;
    let Publication { envelopes, .. } = intake::next(&mut node).await;
    driver.store(&envelopes[0]);
    node.crash().await;
    node.start();
    driver.serve(&mut node);
    write(&server, 1, "public", &[]).await;
    driver.has(2).await;
    until("everything to be acknowledged", async || pending(&server, &node).await == 0).await;
    assert_eq!(driver.subjects(), subjects(0, 2));
    server.type_in(&["FLUSHALL"]).await;
    write(&server, 2, "public", &[]).await;
    write(&server, 3, "public", &[]).await;
    driver.has(4).await;
    assert_eq!(driver.subjects(), subjects(0, 4));
    // Somebody deletes the group: it goes on where it was.
    let group = format!("mesh-out:{}", node.settings.node);
    until("everything to be acknowledged", async || pending(&server, &node).await == 0).await;
    server.type_in(&["XGROUP", "DESTROY", BUS, &group]).await;
    write(&server, 4, "public", &[]).await;
    driver.has(5).await;
    assert_eq!(driver.subjects(), subjects(0, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_own_events_what_came_from_the_bus_is_not_written_there_again() {
    let server = Server::start().await;
    let mut node = node_on(&server);
    node.settings.own = true;
    node.start();
    until("the look", async || node.log.cursor(&format!("entries:{BUS}")).is_some()).await;
    write(&server, 0, "public", &[]).await;
    let Publication { envelopes, answer } = intake::next(&mut node).await;
    answer.send(vec![Outcome::Stored { no_duty: false }]).expect("it waits");
    let me = Arc::clone(&node.key);
    node.log.append(envelopes, Some(&me));
    until("it to be passed over", async || node.log.cursor("bus:teleclaude:events") == Some(node.log.head())).await;
    assert_eq!(column(&mut server.connect().await, BUS, "entity").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_of_an_entry_is_published_once_it_can_be() {
    let server = Server::start().await;
    let mut node = node_on(&server);
    node.start();
    until("the look", async || node.log.cursor(&format!("entries:{BUS}")).is_some()).await;
    write(&server, 0, "public", &[]).await;
    let Publication { answer, .. } = intake::next(&mut node).await;
    answer.send(vec![Outcome::Refused(crate::wire::Rejection::Muted)]).expect("it waits");
    let driver = Driver::default();
    driver.serve(&mut node);
    let mut letters = Vec::new();
    until("the letter", async || {
        letters = node.order(|answer| Order::Letters { count: 9, answer }).await.expect("Redis answers");
        !letters.is_empty()
    })
    .await;
    assert_eq!([&*letters[0].code, &*letters[0].stream], ["muted", BUS]);
    let id = letters[0].id.clone();
    let retried = node.order(|answer| Order::Retry { id, answer }).await.expect("the driver takes it now");
    assert_eq!(driver.column(|event| event.digest().to_string()), [retried.digest.to_string()]);
    let left = node.order(|answer| Order::Letters { count: 9, answer }).await.expect("Redis answers");
    assert_eq!(left, []);
}
