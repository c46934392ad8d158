//! From the outbox to the driver: each entry once, in order, and nothing is ever stuck.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use super::server::Proxy;
use super::*;
use crate::wire::{Digest, Rejection};

/// The driver and its journal, reduced to what a publisher sees.
#[derive(Clone, Default)]
pub(super) struct Driver {
    journal: Arc<Mutex<Stored>>,
}

#[derive(Default)]
struct Stored {
    known: BTreeSet<Digest>,
    events: Vec<Verified<Envelope>>,
}

impl Driver {
    /// Stores one event, as the journal would.
    pub(super) fn store(&self, envelope: &Verified<Envelope>) -> Outcome {
        let mut stored = self.journal.lock().expect("no test panics while holding it");
        if !stored.known.insert(envelope.digest()) {
            return Outcome::Duplicate;
        }
        stored.events.push(envelope.clone());
        Outcome::Stored { no_duty: false }
    }

    /// Answers all publications of a node from now on.
    pub(super) fn serve(&self, node: &mut Node) -> JoinHandle<()> {
        let mut publications = node.publications.take().expect("the bridge runs");
        let driver = self.clone();
        tokio::spawn(async move {
            while let Some(Publication { envelopes, answer }) = publications.recv().await {
                let _ = answer.send(envelopes.iter().map(|envelope| driver.store(envelope)).collect());
            }
        })
    }

    /// One attribute of each event, in the order they were stored.
    pub(super) fn column(&self, of: impl Fn(&crate::wire::Event) -> String) -> Vec<String> {
        let stored = self.journal.lock().expect("no test panics while holding it");
        stored.events.iter().map(|envelope| of(envelope.event())).collect()
    }

    pub(super) fn subjects(&self) -> Vec<String> {
        self.column(|event| event.attribute("subject").unwrap_or_default())
    }

    pub(super) async fn has(&self, count: usize) {
        until("the events", async || self.subjects().len() >= count).await;
    }
}

/// One publication, as the driver takes it.
pub(super) async fn next(node: &mut Node) -> Publication {
    let publications = node.publications.as_mut().expect("the bridge runs");
    tokio::time::timeout(PATIENCE, publications.recv()).await.expect("in time").expect("the bridge runs")
}

fn subjects_of(publication: &Publication) -> Vec<String> {
    let subject = |envelope: &Verified<Envelope>| envelope.event().attribute("subject").unwrap_or_default();
    publication.envelopes.iter().map(subject).collect()
}

async fn add(server: &Server, fields: &[&str]) -> String {
    let id = server.type_in(&[&["XADD", OUTBOX, "*"], fields].concat()).await;
    redis::from_redis_value(id).expect("an id")
}

/// Entries whose subjects are these numbers.
async fn add_numbered(server: &Server, range: std::ops::Range<usize>) {
    let mut all = redis::pipe();
    for number in range {
        all.cmd("XADD").arg(OUTBOX).arg("*").arg("type").arg("a.b").arg("subject").arg(number).ignore();
    }
    all.exec_async(&mut server.connect().await).await.expect("room");
}

/// Nothing is left in the outbox, and nothing is pending.
async fn is_done(server: &Server, node: &Node) {
    let group = format!("mesh-out:{}", node.settings.node);
    let mut redis = server.connect().await;
    until("the outbox to be empty", async || {
        let mut ask = redis::pipe();
        ask.cmd("XLEN").arg(OUTBOX).cmd("XPENDING").arg(OUTBOX).arg(&group);
        let (left, pending): (u64, Vec<redis::Value>) = ask.query_async(&mut redis).await.expect("the outbox");
        left == 0 && pending.first() == Some(&redis::Value::Int(0))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_every_form_become_events_and_leave_the_outbox() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let to = neighbour().id().uri();
    let first = add(&server, &["type", "a.b", "data", r#"{"x": 1}"#]).await;
    add(&server, &["type", "a.b", "subject", "web", "to", &to, "maxhops", "2", "spread", "10", "urgent", "true"]).await;
    add(&server, &["data_base64", "AAEC", "type", "a.b", "id", "mine", "time", "2026-11-21T12:00:00Z"]).await;
    node.start();
    let driver = Driver::default();
    driver.serve(&mut node);
    driver.has(3).await;
    add(&server, &["type", "a.b", "subject", "later"]).await;
    driver.has(4).await;
    is_done(&server, &node).await;

    let ids = driver.column(|event| event.id.to_string());
    assert!(ids[0].ends_with(&first) && ids[2] == "mine", "{ids:?}");
    let data = driver.column(|event| event.data().unwrap_or_default().to_owned());
    assert_eq!(data[0], r#"{"x": 1}"#);
    let sources: BTreeSet<String> = driver.column(|event| event.source.to_string()).into_iter().collect();
    assert_eq!(sources, BTreeSet::from([node.settings.node.to_string()]));
    assert_eq!(node.counters.published.load(Ordering::Relaxed), 4);
    node.reaches("both sides to be well", BusState::is_well).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_be_an_event_goes_to_the_dead_letters_and_blocks_nobody() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    add(&server, &["type", "a.b", "subject", "0"]).await;
    let entry = add(&server, &["type", "a.b", "subject", "bad", "data", "{not json"]).await;
    add(&server, &["subject", "no type"]).await;
    add(&server, &["type", "mesh.node.up"]).await;
    add(&server, &["type", "a.b", "mesh_digest", "from the bus"]).await;
    add(&server, &["type", "a.b", "subject", "1"]).await;
    node.start();
    let driver = Driver::default();
    driver.serve(&mut node);
    driver.has(2).await;
    add(&server, &["type", "a.b", "subject", "2"]).await;
    driver.has(3).await;
    is_done(&server, &node).await;
    assert_eq!(driver.subjects(), numbers(0..3));

    let mut redis = server.connect().await;
    let dead = format!("{OUTBOX}:dead");
    assert_eq!(column(&mut redis, &dead, "field").await, ["data", "type", "type", "mesh_digest"]);
    assert_eq!(column(&mut redis, &dead, "code").await, ["malformed", "malformed", "type_denied", "malformed"]);
    assert_eq!(column(&mut redis, &dead, "entry").await[0], entry);
    assert_eq!(column(&mut redis, &dead, "entry.data").await[0], "{not json");
    assert!(column(&mut redis, &dead, "first_seen").await.iter().all(|time| time.ends_with('Z')));
    assert!(column(&mut redis, &dead, "reason").await.iter().all(|reason| !reason.is_empty()));
    assert_eq!(node.counters.dead.load(Ordering::Relaxed), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_core_refuses_for_good_is_buried_with_its_code() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    add_numbered(&server, 0..3).await;
    node.start();
    let Publication { envelopes, answer } = next(&mut node).await;
    assert_eq!(envelopes.len(), 3);
    let stored = Outcome::Stored { no_duty: false };
    answer.send(vec![stored.clone(), Outcome::Refused(Rejection::Expired), stored]).expect("it waits");
    is_done(&server, &node).await;
    let mut redis = server.connect().await;
    let dead = format!("{OUTBOX}:dead");
    assert_eq!(column(&mut redis, &dead, "code").await, ["expired"]);
    assert_eq!(column(&mut redis, &dead, "entry.subject").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_redis_with_a_fast_clock_dates_waits_and_what_a_producer_dates_is_buried() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let future = || vec![Outcome::Refused(Rejection::Future)];
    server.type_in(&["XADD", OUTBOX, "*", "type", "a.b", "time", "2099-01-01T00:00:00Z"]).await;
    node.start();
    next(&mut node).await.answer.send(future()).expect("it waits");
    is_done(&server, &node).await;
    let dead = format!("{OUTBOX}:dead");
    let mut redis = server.connect().await;
    assert_eq!(column(&mut redis, &dead, "code").await, ["future"]);

    server.type_in(&["XADD", OUTBOX, "*", "type", "a.b"]).await;
    next(&mut node).await.answer.send(future()).expect("it waits");
    let waiting =
        |state: &BusState| matches!(&state.intake, Condition::Waiting { why } if why.contains("clock of Redis"));
    node.reaches("the reason to show", waiting).await;
    assert_eq!(column(&mut redis, &dead, "code").await.len(), 1);
    assert_eq!(column(&mut redis, OUTBOX, "type").await, ["a.b"], "it is still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_the_journal_and_before_the_acknowledgement_doubles_nothing() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    let driver = Driver::default();
    for round in 0..10 {
        add_numbered(&server, round * 10..(round + 1) * 10).await;
        node.start();
        let newest = (round * 10 + 9).to_string();
        loop {
            let Publication { envelopes, answer } = next(&mut node).await;
            let outcomes = envelopes.iter().map(|envelope| driver.store(envelope)).collect();
            if driver.subjects().last() == Some(&newest) {
                break; // the journal has it; the bridge never hears of it
            }
            answer.send(outcomes).expect("it waits");
        }
        node.crash().await;
    }
    node.start();
    driver.serve(&mut node);
    is_done(&server, &node).await;
    assert_eq!(driver.subjects(), numbers(0..100));
    assert_eq!(node.counters.duplicates.load(Ordering::Relaxed), 100);
    let mut redis = server.connect().await;
    assert!(column(&mut redis, &format!("{OUTBOX}:dead"), "entry").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_for_now_waits_and_nothing_overtakes_it() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    add_numbered(&server, 0..3).await;
    node.start();
    let busy = || Outcome::Refused(Rejection::Unavailable { after: Duration::from_millis(15) });
    let stored = Outcome::Stored { no_duty: false };

    let first = next(&mut node).await;
    first.answer.send(vec![stored.clone(), busy(), busy()]).expect("it waits");
    add_numbered(&server, 3..6).await;
    let waiting =
        |state: &BusState| matches!(&state.intake, Condition::Waiting { why } if why.contains("cannot store"));
    node.reaches("the pressure to show", waiting).await;
    for _ in 0..5 {
        let again = next(&mut node).await;
        assert_eq!(subjects_of(&again), numbers(1..3));
        again.answer.send(vec![busy(), busy()]).expect("it waits");
    }
    // No answer at all is no answer: the same comes again.
    drop(next(&mut node).await);
    let again = next(&mut node).await;
    assert_eq!(subjects_of(&again), numbers(1..3));
    again.answer.send(vec![stored.clone(), Outcome::Duplicate]).expect("it waits");

    let after = next(&mut node).await;
    assert_eq!(subjects_of(&after), numbers(3..6));
    after.answer.send(vec![stored.clone(), stored.clone(), stored]).expect("it waits");
    is_done(&server, &node).await;
    node.reaches("the intake to run", |state| state.intake == Condition::Running).await;
    let mut redis = server.connect().await;
    assert!(column(&mut redis, &format!("{OUTBOX}:dead"), "entry").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_another_consumer_left_behind_are_taken_over() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    add_numbered(&server, 0..100).await;
    let group = format!("mesh-out:{}", node.settings.node);
    server.type_in(&["XGROUP", "CREATE", OUTBOX, &group, "0"]).await;
    server.type_in(&["XREADGROUP", "GROUP", &group, "an-older-version", "COUNT", "70", "STREAMS", OUTBOX, ">"]).await;
    // Deleted after it was delivered: nothing to publish, still to be acknowledged.
    server.type_in(&["XTRIM", OUTBOX, "MAXLEN", "99"]).await;
    node.start();
    let driver = Driver::default();
    driver.serve(&mut node);
    driver.has(99).await;
    is_done(&server, &node).await;
    let stored: BTreeSet<String> = driver.subjects().into_iter().collect();
    assert_eq!(stored, numbers(1..100).into_iter().collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pending_entry_is_only_acknowledged() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    add_numbered(&server, 0..3).await;
    node.start();
    drop(next(&mut node).await.envelopes);
    node.crash().await;
    server.type_in(&["XTRIM", OUTBOX, "MAXLEN", "1"]).await;
    node.start();
    let driver = Driver::default();
    driver.serve(&mut node);
    driver.has(1).await;
    is_done(&server, &node).await;
    assert_eq!(driver.subjects(), ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_redis_gets_its_group_back() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    node.start();
    let driver = Driver::default();
    driver.serve(&mut node);
    add_numbered(&server, 0..5).await;
    driver.has(5).await;
    server.type_in(&["FLUSHALL"]).await;
    add_numbered(&server, 5..10).await;
    driver.has(10).await;
    is_done(&server, &node).await;
    assert_eq!(driver.subjects(), numbers(0..10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_under_load_loses_and_doubles_no_entry() {
    // One kill for each server: see the head of `egress.rs` for what a second one can do.
    for _ in 0..4 {
        let mut server = Server::durable().await;
        let mut node = Node::at(&server.url());
        node.start();
        let driver = Driver::default();
        driver.serve(&mut node);
        add_numbered(&server, 0..1_000).await;
        driver.has(300).await;
        server.kill();
        node.reaches("trouble", |state| matches!(state.intake, Condition::Waiting { .. })).await;
        server.rise().await;
        driver.has(1_000).await;
        is_done(&server, &node).await;
        assert_eq!(driver.subjects(), numbers(0..1_000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_of_redis_lose_and_double_no_entry() {
    let server = Server::start().await;
    let proxy = Proxy::before(&server).await;
    let mut node = Node::at(&proxy.url());
    node.start();
    let driver = Driver::default();
    driver.serve(&mut node);
    for round in 0..10 {
        let before = proxy.faults.swallowed.load(Ordering::SeqCst);
        proxy.faults.deaf.store(true, Ordering::SeqCst);
        add_numbered(&server, round * 100..(round + 1) * 100).await;
        add(&server, &["type", "bad"]).await;
        until("lost answers", async || proxy.faults.swallowed.load(Ordering::SeqCst) > before + 2).await;
        proxy.faults.deaf.store(false, Ordering::SeqCst);
        driver.has((round + 1) * 100).await;
        is_done(&server, &node).await;
    }
    assert_eq!(driver.subjects(), numbers(0..1_000));
    let mut redis = server.connect().await;
    assert_eq!(column(&mut redis, &format!("{OUTBOX}:dead"), "field").await, vec!["type"; 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_is_emptied_all_the_same_and_its_dead_letters_wait() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    node.start();
    let driver = Driver::default();
    node.reaches("both sides to be well", BusState::is_well).await;
    node.stop().await;
    add_numbered(&server, 0..100).await;
    add(&server, &["type", "bad"]).await;
    server.type_in(&["CONFIG", "SET", "maxmemory", "1"]).await;
    node.start();
    driver.serve(&mut node);
    driver.has(100).await;
    let full = |state: &BusState| matches!(&state.intake, Condition::Waiting { why } if why.contains("OOM"));
    node.reaches("the dead letter to wait", full).await;
    server.type_in(&["CONFIG", "SET", "maxmemory", "0"]).await;
    is_done(&server, &node).await;
    assert_eq!(driver.subjects(), numbers(0..100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_of_another_kind_stops_the_intake_alone() {
    let server = Server::start().await;
    server.type_in(&["SET", OUTBOX, "mine"]).await;
    let mut node = Node::at(&server.url());
    node.start();
    let driver = Driver::default();
    driver.serve(&mut node);
    let named = |state: &BusState| matches!(&state.intake, Condition::Stopped { why, .. } if why.contains(OUTBOX));
    node.reaches("the intake to stop", named).await;
    node.runs().await;
    server.type_in(&["DEL", OUTBOX]).await;
    add_numbered(&server, 0..3).await;
    driver.has(3).await;
    is_done(&server, &node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_outbox_nothing_is_read() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    node.settings.outbox = String::new();
    node.start();
    let state = node.reaches("both sides to be well", BusState::is_well).await;
    assert_eq!(state.intake, Condition::Off);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_waits_for_the_answer_in_hand_and_acknowledges_it() {
    let server = Server::start().await;
    let mut node = Node::at(&server.url());
    add_numbered(&server, 0..3).await;
    node.start();
    let in_hand = next(&mut node).await;
    let (task, shutdown) = node.bridge.take().expect("it runs");
    shutdown.send_replace(true);
    in_hand.answer.send(vec![Outcome::Stored { no_duty: false }; 3]).expect("it waits");
    tokio::time::timeout(PATIENCE, task).await.expect("it ends in time").expect("it does not panic");
    is_done(&server, &node).await;

    // A driver that never answers does not hold the shutdown up, and nothing is lost.
    add_numbered(&server, 3..6).await;
    node.start();
    let _in_hand = next(&mut node).await;
    node.stop().await;
    node.start();
    let driver = Driver::default();
    driver.serve(&mut node);
    is_done(&server, &node).await;
    assert_eq!(driver.subjects(), numbers(3..6));
}
