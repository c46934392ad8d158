//! What the readers of a stream could not take, and what people do about it.

use std::sync::atomic::Ordering;

use super::journal::{NOON, events};
use super::*;
use crate::core::letter::Letter;
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

/// One of them with its original.
async fn whole(node: &Node, id: &str) -> Letter {
    node.order(|answer| Order::Letter { id: id.to_owned(), answer }).await.expect("there")
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
    assert!(found.iter().all(|letter| letter.envelope.is_empty()), "the list is brief");
    let last = whole(&node, &found[4].id).await;
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
    let newest = letters(&node).await[0].id.clone();
    let line = whole(&node, &newest).await.envelope.replace(r#""level":"7""#, r#""level":"3""#);
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

/// An entry of the outbox as any client may write it.
async fn add_raw(server: &Server, fields: &[&[u8]]) {
    let mut add = redis::cmd("XADD");
    add.arg(OUTBOX).arg("*").arg(fields);
    add.exec_async(&mut server.connect().await).await.expect("room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_no_text_is_listed_and_never_published_in_another_form() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    add_raw(&server, &[b"type", b"a.b", b"\xff\x00", b"x"]).await;
    add_raw(&server, &[b"type", b"a.b", b"subject", b"caf\xe9"]).await;
    add_raw(&server, &[b"type", b"a.b", b"subject", b"1", b"subject", b"2"]).await;
    node.start();
    let driver = intake::Driver::default();
    driver.serve(&mut node);
    let mut redis = server.connect().await;
    until("all to be buried", async || {
        let count: u64 = redis::cmd("XLEN").arg("mesh:outbox:dead").query_async(&mut redis).await.expect("a number");
        count == 3
    })
    .await;
    let found = letters(&node).await;
    assert_eq!(found.len(), 3);
    for letter in &found {
        let id = letter.id.clone();
        let refused = node.order(|answer| Order::Retry { id, answer }).await;
        let Err(Refusal::Again(cause)) = refused else { panic!("{refused:?}") };
        assert_eq!((cause.field, cause.reason), (letter.field.clone(), letter.reason.clone()));
    }
    assert_eq!(driver.subjects(), [""; 0], "nothing was published");
    assert_eq!(letters(&node).await.len(), 3, "they stay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_that_cannot_be_mended_keeps_no_other_from_it() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let route = |stream: &str| Route { pattern: "a.deploy.*".parse().expect("a pattern"), stream: stream.to_owned() };
    node.settings.routes = vec![route("deploys"), route("zoo")];
    node.log.append(events(&neighbour(), "a.deploy.done", 0, 3), None);
    node.log.append(events(&neighbour(), "a.b", 3, 3), None);
    node.start();
    let streams = [STREAM, "deploys", "zoo"];
    until("all to catch up", async || {
        streams.iter().all(|stream| node.log.cursor(&format!("bus:{stream}")) == Some(node.log.head()))
    })
    .await;
    node.stop().await;
    for stream in streams {
        server.type_in(&["DEL", &cursor::key(stream, node.settings.node)]).await;
    }
    server.type_in(&["DEL", "deploys"]).await;
    server.type_in(&["SET", "deploys", "mine"]).await;
    node.start();
    node.reaches("all to stop", |state| {
        let is_stopped = |stream: &StreamState| matches!(stream.condition, Condition::Stopped { .. });
        state.streams.len() == 3 && state.streams.iter().all(is_stopped)
    })
    .await;
    let mended = node.order(|answer| Order::Mend { replay: false, answer }).await.expect("two of three");
    let head = node.log.head();
    let placed = [STREAM, "zoo"].map(|stream| Placed { stream: stream.into(), after: head });
    assert_eq!(mended.placed, placed);
    let [(stream, why)] = &mended.failed[..] else { panic!("{mended:?}") };
    assert!(stream == "deploys" && why.contains("WRONGTYPE"), "{mended:?}");
    node.reaches("two of them to run", |state| {
        state.streams.iter().filter(|stream| stream.condition == Condition::Running).count() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_keeps_its_entry_byte_for_byte_or_says_that_it_does_not() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let entry: [&[u8]; 6] = [b"zz", b"caf\xe9", b"\xff", b"x", b"zz", b""];
    add_raw(&server, &entry).await;
    add_raw(&server, &[b"type", b"a.b", &[b'n'; 65], b"x"]).await;
    let many: Vec<Vec<u8>> = (0..65).flat_map(|number| [format!("f{number}").into_bytes(), vec![b'x']]).collect();
    add_raw(&server, &many.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
    node.start();
    let mut redis = server.connect().await;
    until("all to be buried", async || {
        let count: u64 = redis::cmd("XLEN").arg("mesh:outbox:dead").query_async(&mut redis).await.expect("a number");
        count == 3
    })
    .await;
    let mut shown = Vec::new();
    for letter in letters(&node).await.into_iter().rev() {
        assert!(letter.fields.is_empty(), "the list is brief");
        shown.push(whole(&node, &letter.id).await);
    }
    let pairs: Vec<(Vec<u8>, Vec<u8>)> =
        entry.chunks_exact(2).map(|pair| (pair[0].to_vec(), pair[1].to_vec())).collect();
    assert_eq!(shown[0].fields.0, pairs);
    assert_eq!(shown.iter().map(|letter| letter.is_cut).collect::<Vec<_>>(), [false, true, true]);
    let id = shown[1].id.clone();
    let refused = node.order(|answer| Order::Retry { id, answer }).await;
    assert!(matches!(refused, Err(Refusal::Again(ref cause)) if cause.reason.contains("too large")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_many_pages_has_the_newest_of_all_streams() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    node.start();
    node.runs().await;
    for number in 1..=90 {
        let stream = if number % 3 == 0 { DEAD } else { "mesh:outbox:dead" };
        server.type_in(&["XADD", stream, &format!("{number}-0"), "reason", "x"]).await;
    }
    let list = node.order(|answer| Order::Letters { count: 40, answer }).await.expect("Redis answers");
    let expected: Vec<String> = (51..=90).rev().map(|number| format!("{number}-0")).collect();
    assert_eq!(list.into_iter().map(|letter| letter.id).collect::<Vec<_>>(), expected);
    assert_eq!(letters(&node).await.len(), 90);
    server.type_in(&["DEL", DEAD]).await;
    server.type_in(&["SET", DEAD, "mine"]).await;
    let refused = node.order(|answer| Order::Letters { count: 9, answer }).await;
    assert!(matches!(refused, Err(Refusal::Trouble(ref why)) if why.contains(DEAD)), "{refused:?}");
}
