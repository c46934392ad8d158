//! A caller that a person blocked: told so on every route, and nothing that it sends is given up.

use super::lanes::{broken, connected, lines, sent};
use super::*;
use crate::core::ports::{SendError, ShipmentId};

fn block(node: &Node, ids: &[NodeId]) {
    node.strings.blocked.send_replace(Arc::new(ids.iter().copied().collect()));
}

#[tokio::test]
async fn every_route_says_that_the_caller_is_blocked_and_no_other_caller_notices() {
    let node = Node::start(1).await;
    let caller = key(7);
    block(&node, &[caller.id()]);
    let hello = request("GET", "/mesh/v1/hello?nonce=abc", "");
    let record = record_line(&caller, 1);
    for request in [
        request("POST", "/mesh/v1/events", &event(&caller, "1")),
        request("POST", "/mesh/v1/peers", &record),
        request("GET", "/mesh/v1/health", ""),
        hello.clone(),
    ] {
        let reply = node.ask(Some(&caller), &request).await;
        assert_eq!((reply.status, reply.code().as_str()), (403, "blocked"), "{request}: {}", reply.text);
    }
    assert_eq!(node.ask(Some(&key(8)), &hello).await.status, 200);
    node.still_takes_events().await;
    block(&node, &[]);
    assert_eq!(node.ask(Some(&caller), &hello).await.status, 200, "at once");
}

#[tokio::test]
async fn a_node_learns_that_it_is_blocked_and_keeps_what_it_has_for_later() {
    let (mut a, b) = (Node::start(1).await, Node::start(2).await);
    let lane = a.lane(&b);
    connected(&mut a).await;
    block(&b, &[a.id()]);
    lane.send(ShipmentId(1), lines(&a.key, &["1"])).expect("taken");
    assert_eq!(sent(&mut a).await.1, Err(SendError::Lost), "one line alone would be given up");
    let why = broken(&mut a).await;
    assert!(why.ends_with("has blocked this node"), "{why}");
    let _again = a.lane(&b);
    let why = broken(&mut a).await;
    assert!(why.ends_with("has blocked this node"), "before anything is sent: {why}");
}
