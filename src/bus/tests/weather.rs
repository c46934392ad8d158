//! Redis in every bad state: the bridge waits or stops, says so, and is whole again after repair.

use std::sync::atomic::Ordering;

use super::journal::events;
use super::server::Proxy;
use super::*;

/// A bridge that has appended ten events and is well.
async fn well(server: &Server) -> Node {
    let mut node = Node::at(&server.url());
    node.log.append(events(&neighbour(), "a.b", 0, 10), None);
    node.start();
    node.catches_up().await;
    node
}

/// Five more events come while something is wrong.
fn more(node: &Node) {
    node.log.append(events(&neighbour(), "a.b", 10, 5), None);
}

/// All of it is there, once, in order.
async fn is_whole(node: &Node, server: &Server) {
    node.catches_up().await;
    assert_eq!(on_the_bus(server).await, numbers(0..15));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_absent_at_the_start_is_waited_for() {
    let mut server = Server::absent(&[]);
    let mut node = Node::at(&server.url());
    node.start();
    node.waits("nothing listens there").await;
    assert!(!node.state.borrow().connected);
    node.log.append(events(&neighbour(), "a.b", 0, 15), None);
    node.reaches("the lag", |state| state.lag == 45).await;
    server.rise().await;
    is_whole(&node, &server).await;
    assert!(node.state.borrow().connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_is_waited_for() {
    let server = Server::start().await;
    let node = well(&server).await;
    server.type_in(&["CONFIG", "SET", "maxmemory", "1"]).await;
    more(&node);
    node.waits("OOM").await;
    // However often it tries: one state, and so one line in the log.
    until("many tries", async || {
        assert!(matches!(node.state.borrow().egress, Condition::Waiting { .. }), "{:?}", node.state.borrow());
        node.counters.troubles.load(Ordering::Relaxed) > 10
    })
    .await;
    server.type_in(&["CONFIG", "SET", "maxmemory", "0"]).await;
    is_whole(&node, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_waited_for_until_it_takes_writes() {
    let server = Server::start().await;
    let node = well(&server).await;
    // A replica of nobody yet: it keeps its data and refuses writes.
    server.type_in(&["REPLICAOF", "127.0.0.1", "1"]).await;
    more(&node);
    node.waits("READONLY").await;
    server.type_in(&["REPLICAOF", "NO", "ONE"]).await;
    is_whole(&node, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_set_later_stops_the_bridge_until_it_is_taken_back() {
    let server = Server::start().await;
    let mut node = well(&server).await;
    node.crash().await;
    server.type_in(&["CONFIG", "SET", "requirepass", "hush"]).await;
    node.start();
    more(&node);
    assert!(node.stops("NOAUTH").await.contains("bus.url"));
    let mut redis = server.connect_as(":hush@").await;
    redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("").exec_async(&mut redis).await.expect("allowed");
    is_whole(&node, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_stops_the_bridge_and_is_never_said() {
    let server = Server::with(&["--requirepass", "right"]).await;
    let mut node = Node::at(&server.url().replace("redis://", "redis://:hush-hush@"));
    node.start();
    node.stops("refuses the user or the password").await;
    assert!(!format!("{:?}{:?}", node.state.borrow(), node.settings).contains("hush"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_kind_stops_the_bridge_and_is_named() {
    let server = Server::start().await;
    server.type_in(&["SET", STREAM, "mine"]).await;
    let mut node = Node::at(&server.url());
    node.log.append(events(&neighbour(), "a.b", 0, 15), None);
    node.start();
    assert!(node.stops("WRONGTYPE: the key `mesh:events`").await.contains("TYPE 'mesh:events'"));
    server.type_in(&["DEL", STREAM]).await;
    is_whole(&node, &server).await;

    let cursor = cursor::key(STREAM, node.settings.node);
    server.type_in(&["SET", &cursor, "mine"]).await;
    node.stops("mesh-cursor").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_the_right_to_append_stops_the_bridge_until_it_is_given() {
    let server = Server::start().await;
    server.type_in(&["ACL", "SETUSER", "bob", "on", ">pw", "~*", "+@all", "-xadd"]).await;
    let mut node = Node::at(&server.url().replace("redis://", "redis://bob:pw@"));
    node.log.append(events(&neighbour(), "a.b", 0, 15), None);
    node.start();
    assert!(node.stops("can't run this command").await.contains("+@stream"));
    server.type_in(&["ACL", "SETUSER", "bob", "+xadd"]).await;
    is_whole(&node, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rights_that_the_remedy_names_are_enough() {
    let server = Server::start().await;
    let rights = "+@stream +eval +evalsha +hmget +hset +type +multi +exec +ping +info";
    let mut user = vec!["ACL", "SETUSER", "bob", "on", ">pw", "~*"];
    user.extend(rights.split(' '));
    server.type_in(&user).await;
    let mut node = Node::at(&server.url().replace("redis://", "redis://bob:pw@"));
    node.log.append(events(&neighbour(), "a.b", 0, 15), None);
    node.start();
    is_whole(&node, &server).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_is_waited_for() {
    let server = Server::start().await;
    let node = well(&server).await;
    server.freeze();
    more(&node);
    node.waits("no answer in time").await;
    assert!(!node.state.borrow().connected);
    server.thaw();
    is_whole(&node, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_evicts_at_will_stops_the_bridge() {
    let server = Server::with(&["--maxmemory-policy", "allkeys-lru"]).await;
    let mut node = Node::at(&server.url());
    node.log.append(events(&neighbour(), "a.b", 0, 15), None);
    node.start();
    assert!(node.stops("maxmemory-policy is allkeys-lru").await.contains("CONFIG SET maxmemory-policy noeviction"));
    server.type_in(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]).await;
    is_whole(&node, &server).await;
    // Noticed as well when somebody changes it later.
    server.type_in(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]).await;
    node.stops("allkeys-random").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn something_else_on_the_port_stops_the_bridge() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = client.read(&mut [0; 1_024]).await;
                let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                let _ = client.read(&mut [0; 1_024]).await;
            });
        }
    });
    for (scheme, words) in [("redis", "does not answer like a Redis"), ("rediss", "TLS to Redis failed")] {
        let mut node = Node::at(&format!("{scheme}://127.0.0.1:{port}"));
        node.start();
        node.stops(words).await;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unusable_address_or_database_stops_the_bridge() {
    let server = Server::start().await;
    for (url, words) in [
        ("redis+sentinel://a,b/mymaster".to_owned(), "bus.url"),
        ("not a url".to_owned(), "bus.url"),
        (format!("{}/9", server.url()), "DB index"),
    ] {
        let mut node = Node::at(&url);
        node.start();
        node.stops(words).await;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_and_another_database_serve_as_well() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("redis.sock");
    let socket = socket.to_str().expect("a plain path");
    let server = Server::with(&["--unixsocket", socket]).await;
    for url in [format!("unix://{socket}"), format!("{}/1", server.url())] {
        let mut node = Node::at(&url);
        node.log.append(events(&neighbour(), "a.b", 0, 15), None);
        node.start();
        node.catches_up().await;
        assert_eq!(node.counters.bridged.load(Ordering::Relaxed), 15);
    }
    assert_eq!(on_the_bus(&server).await, numbers(0..15));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_the_bridge_in_every_condition() {
    let server = Server::start().await;
    let proxy = Proxy::before(&server).await;
    let absent = Server::absent(&[]);
    for url in [server.url(), proxy.url(), absent.url(), "redis+sentinel://somewhere".to_owned()] {
        let mut node = Node::at(&url);
        node.start();
        node.reaches("any condition", |state| state.egress != Condition::Connecting).await;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_finds_a_redis_that_lets_us_in_and_nothing_else() {
    let (open, closed) = (Server::start().await, Server::with(&["--requirepass", "hush"]).await);
    assert!(probe(&open.url(), PATIENCE).await);
    assert!(!probe(&closed.url(), PATIENCE).await);
    assert!(!probe(&Server::absent(&[]).url(), PATIENCE).await);
    assert!(!probe("unix:///nowhere/redis.sock", PATIENCE).await);
    open.freeze();
    assert!(!probe(&open.url(), Duration::from_millis(200)).await);
    open.thaw();
}
