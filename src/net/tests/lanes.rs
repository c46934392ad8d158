//! Lanes: greeting, order, reasons, records, probes, and where they may call.

use super::*;
use crate::core::ports::{LaneId, SendError, ShipmentId};
use crate::wire::message::Receipt;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;

pub(super) fn lines(key: &Keypair, names: &[&str]) -> Vec<Bytes> {
    names.iter().map(|name| event(key, name).into()).collect()
}

pub(super) async fn connected(node: &mut Node) -> HostPort {
    node.told(|report| match report {
        Report::Connected { observed, .. } => Some(observed),
        Report::Broken { why, .. } => panic!("broken: {why}"),
        _ => None,
    })
    .await
}

pub(super) async fn sent(node: &mut Node) -> (ShipmentId, Result<Receipt, SendError>) {
    node.told(|report| match report {
        Report::Sent { shipment, result, .. } => Some((shipment, result)),
        _ => None,
    })
    .await
}

pub(super) async fn broken(node: &mut Node) -> String {
    node.told(|report| match report {
        Report::Broken { why, .. } => Some(why),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_lane_greets_exchanges_and_ships_in_order() {
    let (mut birch, mut cedar) = (Node::start(1).await, Node::start(2).await);
    let lane = birch.lane(&cedar);
    let met = |report| match report {
        Report::Met { record, .. } => Some(record.id()),
        _ => None,
    };
    assert_eq!(birch.told(met).await, cedar.id());
    assert_eq!(connected(&mut birch).await.host, "127.0.0.1".parse().expect("a host"));
    let contact = |report| match report {
        Report::Contact { peer } => Some(peer),
        _ => None,
    };
    assert_eq!(cedar.told(contact).await, birch.id());
    assert_eq!(cedar.told(met).await, birch.id());

    let many: Vec<String> = (0..40).map(|number| format!("e{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    lane.send(ShipmentId(1), lines(&birch.key, &many)).expect("room");
    lane.send(ShipmentId(2), lines(&birch.key, &["last"])).expect("room");
    let (first, receipt) = sent(&mut birch).await;
    assert_eq!((first, receipt.map(|receipt| (receipt.stored, receipt.credit))), (ShipmentId(1), Ok((40, 128))));
    let (second, receipt) = sent(&mut birch).await;
    assert_eq!((second, receipt.map(|receipt| receipt.stored)), (ShipmentId(2), Ok(1)));
    let expected: Vec<Digest> = many.iter().chain(&["last"]).map(|name| sealed(&birch.key, name).digest()).collect();
    assert_eq!(*cedar.memory.order.lock().expect("unpoisoned"), expected);
}

#[tokio::test]
async fn a_duplicate_and_a_refusal_reach_the_sender() {
    let (mut birch, cedar) = (Node::start(1).await, Node::start(2).await);
    let lane = birch.lane(&cedar);
    connected(&mut birch).await;
    let good = lines(&birch.key, &["good"]);
    let forged: Bytes = event(&birch.key, "x").replace("build.finished", "build.finishee").into();
    let mixed = [good.clone(), vec![forged.clone()]].concat();
    let shipments = [good.clone(), good, vec![forged], mixed];
    for (number, shipment) in (0..).zip(shipments) {
        lane.send(ShipmentId(number), shipment).expect("room");
    }
    let mut said = Vec::new();
    for _ in 0..4 {
        let receipt = sent(&mut birch).await.1.expect("a receipt");
        said.push((receipt.stored, receipt.duplicate, receipt.rejected));
    }
    let refused = |i| vec![crate::wire::message::Refused { i, code: Code::BadSignature }];
    assert_eq!(said, [(1, 0, vec![]), (0, 1, vec![]), (0, 0, refused(0)), (0, 1, refused(1))]);
}

#[tokio::test]
async fn lines_above_the_rate_come_back_to_be_sent_again() {
    let rate = Rate { per_second: 1, burst: 5 };
    let (mut birch, cedar) = (Node::start(1).await, Node::with(2, |settings| settings.rate = rate).await);
    let lane = birch.lane(&cedar);
    connected(&mut birch).await;
    // Hello and exchange took two of five.
    lane.send(ShipmentId(1), lines(&birch.key, &["a", "b", "c", "d", "e"])).expect("room");
    let receipt = sent(&mut birch).await.1.expect("a receipt");
    assert_eq!(receipt.retry.iter().map(|retry| retry.i).collect::<Vec<_>>(), [3, 4]);
    lane.send(ShipmentId(2), lines(&birch.key, &["d"])).expect("room");
    let receipt = sent(&mut birch).await.1.expect("a receipt");
    assert_eq!(receipt.retry.len(), 1);
}

#[tokio::test]
async fn a_peer_that_is_behind_is_busy() {
    let limits = |settings: &mut Settings| settings.limits.request = Duration::from_millis(100);
    let (mut birch, cedar) = (Node::start(1).await, Node::with(2, limits).await);
    let lane = birch.lane(&cedar);
    connected(&mut birch).await;
    cedar.script.send_replace(Script::Hold);
    lane.send(ShipmentId(1), lines(&birch.key, &["a", "b"])).expect("room");
    assert_eq!(sent(&mut birch).await.1, Err(SendError::Busy(Duration::from_secs(1))));
    cedar.script.send_replace(Script::Store);
    lane.send(ShipmentId(2), lines(&birch.key, &["a", "b"])).expect("room");
    assert_eq!(sent(&mut birch).await.1.map(|receipt| receipt.stored), Ok(2), "the lane still stands");
}

#[tokio::test]
async fn another_key_is_named_in_the_reason() {
    let (mut birch, cedar) = (Node::start(1).await, Node::start(2).await);
    let expected = key(77).id();
    let _lane = open(&birch.context, expected, LaneId(4), vec![cedar.place()], Word::Typed, birch.reports.clone());
    let mistaken = birch
        .told(|report| match report {
            Report::Mistaken { peer, lane, at, found } => Some((peer, lane, at, found)),
            _ => None,
        })
        .await;
    assert_eq!(mistaken, (expected, LaneId(4), cedar.place(), cedar.id()));
    let why = broken(&mut birch).await;
    let at = cedar.at;
    assert_eq!(why, format!("{at} answered with another key: expected {expected}, found {}", cedar.id()));
}

#[tokio::test]
async fn a_node_never_calls_itself() {
    let mut birch = Node::start(1).await;
    let _lane = open(&birch.context, birch.id(), LaneId(4), vec![birch.place()], Word::Typed, birch.reports.clone());
    assert!(broken(&mut birch).await.contains("own id"));
    assert_eq!(birch.context.counters().accepted.value(), 0);
}

/// A listener that counts who comes.
pub(super) async fn counting() -> (HostPort, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = HostPort::from_socket(listener.local_addr().expect("bound"));
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (at, count)
}

#[tokio::test]
async fn forbidden_addresses_are_never_called_unless_typed_in_by_hand() {
    let mut birch = Node::with(1, |settings| settings.profile = Profile::Public).await;
    let (at, count) = counting().await;
    let named: HostPort = format!("localhost:{}", at.port).parse().expect("a place");
    for place in [at.clone(), named] {
        let _lane = open(&birch.context, key(5).id(), LaneId(1), vec![place], Word::Near, birch.reports.clone());
        let why = broken(&mut birch).await;
        assert!(why.contains("is not dialled"), "{why}");
    }
    let why = identify(&birch.context, &at, Word::Near).await.expect_err("not dialled");
    assert!(why.contains("is not dialled"), "{why}");
    assert_eq!(count.load(Ordering::SeqCst), 0);
    let _lane = open(&birch.context, key(5).id(), LaneId(1), vec![at], Word::Typed, birch.reports.clone());
    broken(&mut birch).await;
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn places_are_tried_in_order_and_the_last_reason_is_told() {
    let (mut birch, cedar) = (Node::start(1).await, Node::start(2).await);
    // A port that was free a moment ago.
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let wrong = HostPort::from_socket(closed);
    let _lane = open(&birch.context, cedar.id(), LaneId(1), vec![wrong.clone()], Word::Near, birch.reports.clone());
    assert_eq!(broken(&mut birch).await, format!("connection refused by {closed}"));
    let both = vec![wrong, cedar.place()];
    let _lane = open(&birch.context, cedar.id(), LaneId(2), both, Word::Near, birch.reports.clone());
    connected(&mut birch).await;
    let _lane = open(&birch.context, cedar.id(), LaneId(3), vec![], Word::Near, birch.reports.clone());
    assert_eq!(broken(&mut birch).await, "no address is known");
}

#[tokio::test]
async fn a_name_is_resolved_once_and_called_at_that_address() {
    let (mut birch, cedar) = (Node::start(1).await, Node::start(2).await);
    let named = format!("localhost:{}", cedar.at.port()).parse().expect("a place");
    let _lane = open(&birch.context, cedar.id(), LaneId(1), vec![named], Word::Near, birch.reports.clone());
    connected(&mut birch).await;
}

#[tokio::test]
async fn a_changed_record_is_posted_before_anything_else() {
    let (mut birch, mut cedar) = (Node::start(1).await, Node::start(2).await);
    let _lane = birch.lane(&cedar);
    connected(&mut birch).await;
    birch.strings.record.send_replace(record_line(&birch.key, 2));
    let newer = |report| match report {
        Report::Met { record, .. } if record.seq == 2 => Some(record.id()),
        _ => None,
    };
    assert_eq!(cedar.told(newer).await, birch.id());
    cedar.strings.record.send_replace(record_line(&cedar.key, 2));
    birch.strings.record.send_replace(record_line(&birch.key, 3));
    assert_eq!(birch.told(newer).await, cedar.id());
}

#[tokio::test]
async fn silence_is_probed_until_the_peer_is_gone() {
    let probe = |settings: &mut Settings| settings.limits.probe = Duration::from_millis(50);
    let (mut birch, cedar) = (Node::with(1, probe).await, Node::start(2).await);
    let lane = birch.lane(&cedar);
    connected(&mut birch).await;
    let pong = |report| match report {
        Report::Pong { peer, .. } => Some(peer),
        _ => None,
    };
    assert_eq!(birch.told(pong).await, cedar.id());
    assert_eq!(birch.told(pong).await, cedar.id());
    cedar.shutdown.send_replace(true);
    let why = broken(&mut birch).await;
    assert!(why.contains(&cedar.at.to_string()), "{why}");
    assert_eq!(lane.send(ShipmentId(1), Vec::new()), Err(SendError::Lost));
}

/// Records of the peer up to the next [`Report`] that ends the count, by their `seq`.
async fn met_until(node: &mut Node, ends: impl Fn(&Report) -> bool) -> Vec<u64> {
    let met = std::cell::RefCell::new(Vec::new());
    node.told(|report| {
        if let Report::Met { record, .. } = &report {
            met.borrow_mut().push(record.seq);
        }
        ends(&report).then_some(())
    })
    .await;
    met.into_inner()
}

fn is_pong(report: &Report) -> bool {
    matches!(report, Report::Pong { .. })
}

#[tokio::test]
async fn a_probe_tells_of_a_newer_record_once() {
    let probe = |settings: &mut Settings| settings.limits.probe = Duration::from_millis(50);
    let (mut birch, cedar) = (Node::with(1, probe).await, Node::start(2).await);
    let _lane = birch.lane(&cedar);
    connected(&mut birch).await;
    assert!(met_until(&mut birch, is_pong).await.is_empty(), "the record of the greeting is known");
    cedar.strings.record.send_replace(record_line(&cedar.key, 3));
    let newer = met_until(&mut birch, |report| matches!(report, Report::Met { .. })).await;
    assert_eq!(newer, [3]);
    // Neither the same one again nor an older one.
    for seq in [3, 2] {
        cedar.strings.record.send_replace(record_line(&cedar.key, seq));
        for _ in 0..2 {
            assert!(met_until(&mut birch, is_pong).await.is_empty());
        }
    }
    // Nor another node's, nor what is no record; and the lane stands.
    let context = birch.context.clone();
    cedar.strings.record.send_replace(record_line(&key(9), 9));
    while context.counters().records_ignored.value() == 0 {
        assert!(met_until(&mut birch, is_pong).await.is_empty());
    }
    cedar.strings.record.send_replace("x".into());
    while context.counters().rejected(Code::Malformed) == 0 {
        assert!(met_until(&mut birch, is_pong).await.is_empty());
    }
}

#[tokio::test]
async fn a_refusal_as_not_subscribed_asks_for_the_record_once_a_shipment() {
    let (mut birch, cedar) = (Node::start(1).await, Node::start(2).await);
    let lane = birch.lane(&cedar);
    connected(&mut birch).await;
    cedar.strings.record.send_replace(record_line(&cedar.key, 2));
    lane.send(ShipmentId(1), lines(&birch.key, &["wanted"])).expect("room");
    sent(&mut birch).await.1.expect("a receipt");
    cedar.script.send_replace(Script::Unwanted);
    for (number, names) in [(2, vec!["a"]), (3, vec!["b", "c"])] {
        lane.send(ShipmentId(number), lines(&birch.key, &names)).expect("room");
        let is_sent = |report: &Report| matches!(report, Report::Sent { .. });
        assert!(met_until(&mut birch, is_sent).await.is_empty(), "the receipt comes first");
        let told = met_until(&mut birch, |report| matches!(report, Report::Met { .. })).await;
        assert_eq!(told, [2]);
    }
    cedar.script.send_replace(Script::Store);
    lane.send(ShipmentId(4), lines(&birch.key, &["d"])).expect("room");
    assert!(met_until(&mut birch, |report| matches!(report, Report::Sent { .. })).await.is_empty(), "once each");
}

#[tokio::test]
async fn a_full_queue_is_busy_and_a_dropped_lane_is_silent() {
    let (mut birch, cedar) = (Node::start(1).await, Node::start(2).await);
    let lane = birch.lane(&cedar);
    connected(&mut birch).await;
    cedar.script.send_replace(Script::Hold);
    let mut number = 0;
    let full = loop {
        number += 1;
        if let Err(error) = lane.send(ShipmentId(number), lines(&birch.key, &["e"])) {
            break error;
        }
    };
    assert!(matches!(full, SendError::Busy(_)));
    lane.close();
    // Another lane's reports come, so those of the closed one would have come before.
    cedar.script.send_replace(Script::Store);
    let _lane = open(&birch.context, cedar.id(), LaneId(2), vec![cedar.place()], Word::Near, birch.reports.clone());
    birch
        .told(|report| match report {
            Report::Connected { lane: LaneId(2), .. } => Some(()),
            Report::Connected { .. } | Report::Sent { .. } | Report::Broken { .. } => panic!("the closed lane reports"),
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn lanes_call_from_the_address_that_the_receptor_listens_on() {
    let listen = |settings: &mut Settings| settings.listen = vec!["127.3.0.1:0".parse().expect("an address")];
    let (mut birch, cedar) = (Node::with(1, listen).await, Node::start(2).await);
    let _lane = birch.lane(&cedar);
    assert_eq!(connected(&mut birch).await.host, "127.3.0.1".parse().expect("a host"));
}
