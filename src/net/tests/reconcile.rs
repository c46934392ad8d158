//! What a neighbour has that the other lacks, by `/sync` and `/get`: who is answered, and what a lane makes of answers.

use super::bad_peers::{Bad, answer, bad_peer};
use super::lanes::{connected, lines, sent};
use super::*;
use crate::core::ports::ShipmentId;
use crate::core::sync::{Run, Step};
use crate::wire::message::{DIGESTS_TYPE, SYNC_TYPE};
use crate::wire::sync::{DIGESTS_MAX, Frame, SYNC_BYTES_MAX, Subject, digests_body};

fn told(number: u8) -> Verified<Record> {
    let at = format!("127.0.0.{number}:7443").parse().expect("an address");
    RecordDraft { seq: 1, addresses: vec![at], ..RecordDraft::default() }.seal(NOW, &key(number)).expect("a record")
}

fn snapshot(numbers: std::ops::Range<u8>) -> Arc<Snapshot> {
    let records: Vec<Verified<Record>> = numbers.map(told).collect();
    Arc::new(Snapshot::new(records.iter().map(|record| (record.id(), record)), std::iter::empty()))
}

fn show(node: &Node, view: Option<Arc<Snapshot>>) {
    *node.memory.view.lock().expect("unpoisoned") = view;
}

fn question(of: Arc<Snapshot>) -> Vec<u8> {
    let (_, Step::Sync(message)) = Run::begin(of) else { panic!("a run begins with a question") };
    Frame { subject: Subject::Records, message: &message }.bytes()
}

/// The answer to one request with a body of any bytes.
async fn post(node: &Node, caller: Option<&Keypair>, path: &str, kind: &str, body: &[u8]) -> Reply {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = connect(node.at, caller, b"http/1.1").await.expect("a connection");
    stream.write_all(head.as_bytes()).await.expect("bytes are taken");
    if body.len() <= DIGESTS_MAX * 32 {
        stream.write_all(body).await.expect("bytes are taken"); // what is larger is refused by its head
    }
    read_reply(&mut stream).await
}

#[tokio::test]
async fn only_who_is_entitled_is_answered_and_only_what_makes_sense() {
    let node = Node::start(1).await;
    let caller = key(9);
    let (sync, get) = ("/mesh/v1/sync", "/mesh/v1/get");
    let good = question(snapshot(10..20));
    let wanted = [told(30), told(31), told(99)].map(|record| record.envelope().digest());
    let wanted = digests_body(&wanted);
    for (path, kind, body) in [(sync, SYNC_TYPE, &good), (get, DIGESTS_TYPE, &wanted)] {
        let code = |reply: &Reply| (reply.status, reply.code());
        let nameless = post(&node, None, path, kind, body).await;
        assert_eq!(code(&nameless), (403, "nameless".to_owned()), "{path}");
        let stranger = post(&node, Some(&caller), path, kind, body).await;
        assert_eq!(code(&stranger), (403, "no_neighbour".to_owned()), "{path}");
        let lines = post(&node, Some(&caller), path, LINES_TYPE, body).await;
        assert_eq!(code(&lines), (415, "unsupported_media_type".to_owned()), "{path}");
        let asked = node.ask(Some(&caller), &request("GET", path, "")).await;
        assert_eq!((asked.status, asked.head.contains("allow: post")), (405, true), "{path}");
    }
    show(&node, Some(snapshot(10..60)));
    for (path, kind, body, status, code) in [
        (sync, SYNC_TYPE, &b""[..], 400, "malformed"),
        (sync, SYNC_TYPE, b"\x01", 400, "malformed"),
        (sync, SYNC_TYPE, b"\x02\x61", 400, "unknown_subject"),
        (sync, SYNC_TYPE, b"\x01\x61\x00\x00\x07", 400, "malformed"),
        (sync, SYNC_TYPE, b"\x01\x61\x00\x00\x02\xff\xff\xff\x7f", 400, "malformed"),
        (sync, SYNC_TYPE, &vec![1; SYNC_BYTES_MAX + 1], 413, "too_large"),
        (get, DIGESTS_TYPE, b"", 400, "malformed"),
        (get, DIGESTS_TYPE, &[7; 33], 400, "malformed"),
        (get, DIGESTS_TYPE, &vec![7; DIGESTS_MAX * 32 + 32], 413, "too_large"),
    ] {
        let reply = post(&node, Some(&caller), path, kind, body).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{path}: {} bytes", body.len());
    }
    let reply = post(&node, Some(&caller), sync, SYNC_TYPE, &good).await;
    assert!(reply.status == 200 && reply.head.contains(SYNC_TYPE), "{reply:?}");
    let reply = post(&node, Some(&caller), get, DIGESTS_TYPE, &wanted).await;
    let given = [told(30), told(31)].map(|record| record.envelope().line(0, false) + "\n").concat();
    assert_eq!((reply.status, reply.text), (200, given), "those of them that are here");
    assert_eq!((node.context.counters().frames.value(), node.context.counters().lines_given.value()), (1, 2));
    node.still_takes_events().await;
}

#[tokio::test]
async fn who_asks_without_a_pause_is_told_to_wait() {
    let node = Node::with(1, |settings| settings.rate = Rate { per_second: 1, burst: 40 }).await;
    show(&node, Some(snapshot(10..20)));
    let good = question(snapshot(10..20));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(post(&node, Some(&key(9)), "/mesh/v1/sync", SYNC_TYPE, &good).await.status);
    }
    assert_eq!(statuses, [200, 200, 429]);
}

/// What a run brought, and how it ended.
async fn ended(node: &mut Node) -> (Vec<NodeId>, Vec<Digest>, Result<Tally, Fault>) {
    let gained = Mutex::new((Vec::new(), Vec::new()));
    let result = node
        .told(|report| match report {
            Report::Gained { records, useless, .. } => {
                let mut gained = gained.lock().expect("unpoisoned");
                gained.0.extend(records.iter().map(|record| record.id()));
                gained.1.extend(useless);
                None
            }
            Report::Reconciled { result, .. } => Some(result),
            Report::Broken { why, .. } => panic!("broken: {why}"),
            _ => None,
        })
        .await;
    let (ids, useless) = gained.into_inner().expect("unpoisoned");
    (ids, useless, result)
}

#[tokio::test]
async fn a_lane_pulls_what_the_peer_has_beyond_us_in_bites() {
    let (mut birch, cedar) = (Node::start(1).await, Node::start(2).await);
    let lane = birch.lane(&cedar);
    connected(&mut birch).await;
    // One at somebody else's door, which is worth nothing to us and is not to be fetched again.
    let door = RecordDraft { seq: 1, addresses: vec!["10.0.0.1:6379".parse().expect("one")], ..RecordDraft::default() };
    let door = door.seal(NOW, &key(3)).expect("a record");
    let many: Vec<Verified<Record>> = (10..250).map(told).chain([door.clone()]).collect();
    show(&cedar, Some(Arc::new(Snapshot::new(many.iter().map(|record| (record.id(), record)), std::iter::empty()))));
    lane.reconcile(snapshot(10..100));
    let (mut ids, useless, result) = ended(&mut birch).await;
    ids.sort();
    let mut expected: Vec<NodeId> = (100..250).map(|number| key(number).id()).collect();
    expected.sort();
    assert_eq!((ids, useless), (expected, vec![door.envelope().digest()]));
    let tally = result.expect("a whole run");
    assert!(tally.is_whole && (tally.wanted, tally.given) == (151, 151), "{tally:?}");
    // Nothing that differs: one frame, and the lane is as good as before.
    lane.reconcile(Arc::new(Snapshot::new(many.iter().map(|record| (record.id(), record)), std::iter::empty())));
    let (ids, useless, result) = ended(&mut birch).await;
    assert!(ids.is_empty() && useless.is_empty() && result.is_ok_and(|tally| tally.rounds == 1 && tally.is_whole));
    lane.send(ShipmentId(1), lines(&birch.key, &["e"])).expect("room");
    assert!(sent(&mut birch).await.1.is_ok());
}

#[tokio::test]
async fn a_peer_that_reconciles_badly_loses_its_turn_and_keeps_its_lane() {
    let problem = |status| answer(status, "application/problem+json", "{}");
    for (bad, fault) in [
        (answer("200 OK", SYNC_TYPE, ""), Fault::Nonsense),
        (answer("200 OK", SYNC_TYPE, "\x01\x62"), Fault::Nonsense),
        (answer("200 OK", SYNC_TYPE, "\x02\x61"), Fault::Nonsense),
        (answer("200 OK", SYNC_TYPE, "\x01\x61\0\0\x07"), Fault::Nonsense),
        // A fingerprint of everything that is never ours: whatever is asked, ask again.
        (answer("200 OK", SYNC_TYPE, "\x01\x61\0\0\x010123456789abcdef"), Fault::Endless),
        (problem("404 Not Found"), Fault::Refused(404)),
        (problem("403 Forbidden"), Fault::Refused(403)),
        (problem("400 Bad Request"), Fault::Refused(400)),
        (problem("429 Too Many Requests"), Fault::Busy),
    ] {
        let mut birch = Node::start(1).await;
        let at = bad_peer(2, Bad { route: "/mesh/v1/sync", answer: bad.clone() }).await;
        let lane = open(&birch.context, key(2).id(), LaneId(1), vec![at], Word::Near, birch.reports.clone());
        connected(&mut birch).await;
        lane.reconcile(snapshot(10..60));
        assert_eq!(ended(&mut birch).await.2, Err(fault), "{bad:?}");
        lane.send(ShipmentId(1), lines(&birch.key, &["e"])).expect("room");
        assert!(sent(&mut birch).await.1.is_ok(), "{bad:?}");
    }
}
