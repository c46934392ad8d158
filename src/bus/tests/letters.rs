//! What the readers of a stream could not take, and what people do about it.

use std::sync::atomic::Ordering;

use super::journal::{NOON, events};
use super::*;
use crate::wire::{Draft, Scalar, envelope};

const DEAD: &str = "mesh:events:dead";

fn leveled(id: usize, level: &str) -> Verified<Envelope> {
    let draft = Draft::new(id.to_string(), "a.b", NOON).with("level", Scalar::Text(level.into()));
    envelope::seal(&draft, &neighbour()).expect("a good draft")
}

/// A node on TeleClaude's layout whose journal holds ten events, the odd ones poison.
async fn poisoned(server: &Server) -> Node {
    let node = poisoned_at(server);
    node.catches_up().await;
    node
}

/// The same, just started.
fn poisoned_at(server: &Server) -> Node {
    let mut node = Node::at(&server.url());
    node.settings.layout = Layout::Teleclaude;
    let via = Keypair::from_seed(&[8; 32]);
    node.log.append((0..10).map(|id| leveled(id, if id % 2 == 0 { "3" } else { "7" })), Some(&via));
    node.start();
    node
}

async fn letters(node: &Node) -> Vec<Letter> {
    node.order(|answer| Order::Letters { count: 100, answer }).await.expect("Redis answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_goes_to_the_dead_letters_once_and_the_rest_to_the_stream() {
    let server = Server::start().await;
    let mut node = poisoned(&server).await;
    let mut redis = server.connect().await;
    assert_eq!(column(&mut redis, STREAM, "event").await.len(), 5);
    assert_eq!(column(&mut redis, STREAM, "level").await, ["3"; 5]);
    assert_eq!(node.counters.bridged.load(Ordering::Relaxed), 5);
    assert_eq!(node.counters.dead.load(Ordering::Relaxed), 5);
    let found = letters(&node).await;
    assert_eq!(found.len(), 5);
    let digest = leveled(1, "7").digest().to_string();
    let last = found.last().expect("five");
    let via = Keypair::from_seed(&[8; 32]).id().to_string();
    assert_eq!(
        [&last.stream, &last.kind, &last.code, &last.field, &last.peer, &last.digest, &last.first_seen],
        [STREAM, "layout", "malformed", "level", &via, &digest, "2026-11-21T12:00:00.000000Z"]
    );
    assert!(last.envelope.starts_with("1 ") && last.envelope.contains(r#""level":"7""#), "{last:?}");
    // The cursor is past them: nothing comes again.
    node.stop().await;
    node.start();
    node.catches_up().await;
    assert_eq!(letters(&node).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_is_delivered_after_all_once_its_stream_can_take_it() {
    let server = Server::start().await;
    let mut node = poisoned(&server).await;
    let id = letters(&node).await[0].id.clone();
    let refused = node.order(|answer| Order::Retry { id: id.clone(), answer }).await;
    assert!(matches!(refused, Err(Refusal::Again(Cause { ref field, .. })) if field == "level"), "{refused:?}");
    assert_eq!(letters(&node).await.len(), 5, "it stays");

    node.stop().await;
    node.settings.layout = Layout::Plain;
    node.start();
    node.runs().await;
    let retried = node.order(|answer| Order::Retry { id: id.clone(), answer }).await.expect("it fits now");
    assert_eq!(retried.digest, leveled(9, "7").digest());
    assert_eq!(on_the_bus(&server).await.last().map(String::as_str), Some("9"));
    assert_eq!(letters(&node).await.len(), 4);
    let again = node.order(|answer| Order::Retry { id, answer }).await;
    assert_eq!(again, Err(Refusal::NoSuchLetter));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_is_shown_and_dropped_and_strange_ids_find_none() {
    let server = Server::start().await;
    let node = poisoned(&server).await;
    let id = letters(&node).await[2].id.clone();
    let shown = node.order(|answer| Order::Letter { id: format!("{STREAM}/{id}"), answer }).await.expect("there");
    assert_eq!(node.order(|answer| Order::Drop { id: id.clone(), answer }).await, Ok(shown));
    assert_eq!(letters(&node).await.len(), 4);
    for strange in [&*id, "", "-", "+", "0-0", "x", "1", "other/0-1", "1-2-3", "99999999999999999999-1"] {
        let id = strange.to_owned();
        assert_eq!(node.order(|answer| Order::Drop { id, answer }).await, Err(Refusal::NoSuchLetter), "{strange}");
    }
    server.type_in(&["XADD", DEAD, "9795262400000-0", "reason", "x"]).await;
    server.type_in(&["XADD", "mesh:outbox:dead", "9795262400000-0", "reason", "y"]).await;
    let both = node.order(|answer| Order::Letter { id: "9795262400000-0".into(), answer }).await;
    assert_eq!(both, Err(Refusal::Ambiguous(vec![STREAM.into(), OUTBOX.into()])));
    let id = format!("{OUTBOX}/9795262400000-0");
    assert_eq!(node.order(|answer| Order::Letter { id, answer }).await.expect("one").reason, "y");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_letter_is_never_delivered() {
    let server = Server::start().await;
    let node = poisoned(&server).await;
    let line = letters(&node).await[0].envelope.replace(r#""level":"7""#, r#""level":"3""#);
    server.type_in(&["XADD", DEAD, "9795262400000-0", "envelope", &line]).await;
    server.type_in(&["XADD", DEAD, "9795262400000-1", "envelope", "nonsense"]).await;
    for id in ["9795262400000-0", "9795262400000-1"] {
        let refused = node.order(|answer| Order::Retry { id: id.into(), answer }).await;
        assert!(matches!(refused, Err(Refusal::Again(Cause { ref field, .. })) if field == "envelope"), "{refused:?}");
    }
    assert_eq!(on_the_bus(&server).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_trust_holds_back_is_a_letter_that_a_person_releases_as_long_as_the_source_is_heard() {
    use crate::core::trust::{Rule, Sources, Verdict};
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let rule =
        Rule { sources: Sources::Any, types: vec!["a.b".parse().expect("a pattern")], verdict: Verdict::Quarantined };
    let params = Params { rules: [rule].into(), ..Params::default() };
    node.policy.send_replace(Policy::of(node.key.id(), &params));
    node.log.append(events(&neighbour(), "a.b", 0, 2), None);
    node.start();
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, [""; 0]);
    let [second, first] = letters(&node).await.try_into().expect("two of them");
    assert_eq!([&*first.kind, &*first.code], ["quarantine", "type_denied"]);
    node.order(|answer| Order::Retry { id: first.id, answer }).await.expect("a person released it");
    assert_eq!(on_the_bus(&server).await, ["0"]);
    let muted = node.policy.borrow().with_muted([neighbour().id()].into());
    node.policy.send_replace(muted);
    let refused = node.order(|answer| Order::Retry { id: second.id, answer }).await;
    assert!(matches!(refused, Err(Refusal::Again(_))), "{refused:?}");
    assert_eq!(on_the_bus(&server).await, ["0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_that_are_no_stream_stop_the_bridge_and_double_nothing() {
    let server = Server::start().await;
    server.type_in(&["RPUSH", DEAD, "a list"]).await;
    let node = poisoned_at(&server);
    node.stops("mesh:events:dead").await;
    assert_eq!(on_the_bus(&server).await, [""; 0], "not one of the batch, however often it is tried");
    server.type_in(&["DEL", DEAD]).await;
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_say_what_is_wrong_with_redis() {
    let mut server = Server::start().await;
    let node = poisoned(&server).await;
    server.kill();
    let refused = node.order(|answer| Order::Letters { count: 1, answer }).await;
    assert!(matches!(refused, Err(Refusal::Trouble(ref why)) if !why.is_empty()), "{refused:?}");
}
