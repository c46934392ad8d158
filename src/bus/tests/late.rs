//! Events that wait for their turn: each once, whatever happens to either side meanwhile.

use super::super::intake::now;
use super::*;
use crate::core::offset;
use crate::time::Wall;
use crate::wire::{Draft, envelope};

const WINDOW: Duration = Duration::from_secs(2);

/// Events of a type that is spread, received now.
fn spread(count: usize, received: Wall) -> Vec<Verified<Envelope>> {
    let one = |number: usize| {
        let draft = Draft::new(format!("s{number}"), "a.spread", received);
        envelope::seal(&draft, &neighbour()).expect("a good draft")
    };
    (0..count).map(one).collect()
}

/// The ids in the order of their turns.
fn by_turn(node: &Node, envelopes: &[Verified<Envelope>]) -> Vec<String> {
    let turn = |envelope: &Verified<Envelope>| {
        offset::delay(&envelope.digest(), &node.key.id(), WINDOW, WINDOW * 1_000).as_millis()
    };
    let mut sorted: Vec<&Verified<Envelope>> = envelopes.iter().collect();
    sorted.sort_by_key(|envelope| turn(envelope));
    sorted.iter().map(|envelope| envelope.event().id.to_string()).collect()
}

fn node_at(server: &Server) -> Node {
    let mut node = Node::at(&server.url());
    let spreads = vec![Spread { pattern: "a.spread".parse().expect("a pattern"), window: WINDOW }];
    node.settings.spreads = spreads;
    node
}

async fn has(server: &Server, count: usize) {
    until("all to be there", async || on_the_bus(server).await.len() == count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_spread_comes_by_its_turn_and_holds_nothing_up() {
    let server = Server::start().await;
    let mut node = node_at(&server);
    let events = spread(30, now());
    node.log.append_at(events.clone(), now());
    node.log.append(journal::events(&neighbour(), "a.b", 0, 3), None);
    node.start();
    node.catches_up_to(&["0", "1", "2"], &server).await;
    let early = on_the_bus(&server).await;
    assert!(early.len() < 20, "most still wait: {early:?}");
    has(&server, 33).await;
    let shown: Vec<String> = on_the_bus(&server).await.into_iter().filter(|id| id.starts_with('s')).collect();
    // On a busy machine some turns come together, and then the journal's order holds among them.
    let turns = by_turn(&node, &events);
    let places: Vec<usize> = shown.iter().filter_map(|id| turns.iter().position(|other| other == id)).collect();
    let swapped = places.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!((shown.len(), places.len()) == (30, 30) && swapped <= 6, "{shown:?} by {turns:?}");
    until("the journal to be free", async || node.log.cursor("bus:mesh:events") == Some(node.log.head())).await;
    let mut redis = server.connect().await;
    let key = cursor::key(STREAM, node.key.id());
    let waits: String = redis::cmd("HGET").arg(&key).arg("late").query_async(&mut redis).await.expect("a hash");
    assert_eq!(waits, "", "nothing waits any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_the_bridge_neither_repeat_nor_lose_what_waits() {
    let server = Server::start().await;
    let mut node = node_at(&server);
    let mut chance = fastrand::Rng::with_seed(5);
    let events = spread(200, now());
    node.log.append_at(events.clone(), now());
    for _ in 0..12 {
        node.start();
        tokio::time::sleep(Duration::from_millis(chance.u64(1..250))).await; // kills at any moment are the point
        node.crash().await;
    }
    node.start();
    has(&server, 200).await;
    node.catches_up().await;
    let mut shown = on_the_bus(&server).await;
    shown.sort();
    shown.dedup();
    assert_eq!(shown.len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_holds_the_journal_and_survives_a_stop_and_a_flush() {
    let server = Server::start().await;
    let mut node = node_at(&server);
    let events = spread(40, now());
    node.log.append_at(events.clone(), now());
    node.start();
    let key = cursor::key(STREAM, node.key.id());
    let mut redis = server.connect().await;
    until("some to wait in Redis", async || {
        let waits: Option<String> =
            redis::cmd("HGET").arg(&key).arg("late").query_async(&mut redis).await.expect("a hash");
        waits.is_some_and(|waits| waits.split(' ').count() > 5)
    })
    .await;
    assert!(node.log.cursor("bus:mesh:events") < Some(node.log.head()), "retention drops nothing that waits");
    node.stop().await;
    let before = on_the_bus(&server).await.len();
    assert!(before < 40, "{before}");
    redis::cmd("FLUSHALL").exec_async(&mut redis).await.expect("flushed");
    node.settings.spreads.clear(); // the configuration is another one: what comes again comes as it comes
    node.start();
    has(&server, 40).await;
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await.len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_events_addressed_ones_and_old_ones_are_not_spread() {
    let server = Server::start().await;
    let mut node = node_at(&server);
    node.settings.own = true;
    let old = now() - WINDOW * 2;
    let own = envelope::seal(&Draft::new("own", "a.spread", now()), &node.key).expect("a good draft");
    let to = crate::wire::Scalar::Text(node.key.id().uri());
    let addressed = Draft::new("addressed", "a.spread", now()).with("to", to);
    let addressed = envelope::seal(&addressed, &neighbour()).expect("a good draft");
    node.log.append_at([own, addressed], now());
    node.log.append_at(spread(1, old), old);
    node.start();
    node.catches_up().await;
    assert_eq!(on_the_bus(&server).await, ["own", "addressed", "s0"]);
}
