//! Lanes to good receptors and to bad ones.

use super::*;
use crate::core::ports::{LaneId, SendError, ShipmentId};
use crate::wire::message::{PROBLEM_TYPE, Receipt};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn lines(key: &Keypair, names: &[&str]) -> Vec<Bytes> {
    names.iter().map(|name| event(key, name).into()).collect()
}

async fn connected(node: &mut Node) -> HostPort {
    node.told(|report| match report {
        Report::Connected { observed, .. } => Some(observed),
        Report::Broken { why, .. } => panic!("broken: {why}"),
        _ => None,
    })
    .await
}

async fn sent(node: &mut Node) -> (ShipmentId, Result<Receipt, SendError>) {
    node.told(|report| match report {
        Report::Sent { shipment, result, .. } => Some((shipment, result)),
        _ => None,
    })
    .await
}

async fn broken(node: &mut Node) -> String {
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
        Report::Met { record } => Some(record.id()),
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
    let _lane = open(&birch.context, expected, LaneId(4), vec![cedar.place()], true, birch.reports.clone());
    let why = broken(&mut birch).await;
    let at = cedar.at;
    assert_eq!(why, format!("{at} answered with another key: expected {expected}, found {}", cedar.id()));
}

#[tokio::test]
async fn a_node_never_calls_itself() {
    let mut birch = Node::start(1).await;
    let _lane = open(&birch.context, birch.id(), LaneId(4), vec![birch.place()], true, birch.reports.clone());
    assert!(broken(&mut birch).await.contains("own id"));
    assert_eq!(birch.context.counters().accepted.value(), 0);
}

/// A listener that counts who comes.
async fn counting() -> (HostPort, Arc<AtomicUsize>) {
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
        let _lane = open(&birch.context, key(5).id(), LaneId(1), vec![place], false, birch.reports.clone());
        let why = broken(&mut birch).await;
        assert!(why.contains("is not dialled"), "{why}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
    let _lane = open(&birch.context, key(5).id(), LaneId(1), vec![at], true, birch.reports.clone());
    broken(&mut birch).await;
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn places_are_tried_in_order_and_the_last_reason_is_told() {
    let (mut birch, cedar) = (Node::start(1).await, Node::start(2).await);
    // A port that was free a moment ago.
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let wrong = HostPort::from_socket(closed);
    let _lane = open(&birch.context, cedar.id(), LaneId(1), vec![wrong.clone()], false, birch.reports.clone());
    assert_eq!(broken(&mut birch).await, format!("connection refused by {closed}"));
    let both = vec![wrong, cedar.place()];
    let _lane = open(&birch.context, cedar.id(), LaneId(2), both, false, birch.reports.clone());
    connected(&mut birch).await;
    let _lane = open(&birch.context, cedar.id(), LaneId(3), vec![], false, birch.reports.clone());
    assert_eq!(broken(&mut birch).await, "no address is known");
}

#[tokio::test]
async fn a_name_is_resolved_once_and_called_at_that_address() {
    let (mut birch, cedar) = (Node::start(1).await, Node::start(2).await);
    let named = format!("localhost:{}", cedar.at.port()).parse().expect("a place");
    let _lane = open(&birch.context, cedar.id(), LaneId(1), vec![named], false, birch.reports.clone());
    connected(&mut birch).await;
}

#[tokio::test]
async fn a_changed_record_is_posted_before_anything_else() {
    let (mut birch, mut cedar) = (Node::start(1).await, Node::start(2).await);
    let _lane = birch.lane(&cedar);
    connected(&mut birch).await;
    birch.record.send_replace(record_line(&birch.key, 2));
    let newer = |report| match report {
        Report::Met { record } if record.seq == 2 => Some(record.id()),
        _ => None,
    };
    assert_eq!(cedar.told(newer).await, birch.id());
    cedar.record.send_replace(record_line(&cedar.key, 2));
    birch.record.send_replace(record_line(&birch.key, 3));
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
    let _lane = open(&birch.context, cedar.id(), LaneId(2), vec![cedar.place()], false, birch.reports.clone());
    birch
        .told(|report| match report {
            Report::Connected { lane, .. } => Some(assert_eq!(lane, LaneId(2))),
            Report::Sent { .. } | Report::Broken { .. } => panic!("the closed lane reports"),
            _ => None,
        })
        .await;
}

/// What a bad peer answers on one route; on the others it is a good one.
#[derive(Clone)]
struct Bad {
    route: &'static str,
    answer: String,
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A node in HTTP/1.1 that does as it is told.
async fn bad_peer(number: u8, bad: Bad) -> HostPort {
    let key = key(number);
    let mut server = (*tls::Identity::new(&key).expect("an identity").server()).clone();
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let server = Arc::new(server);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = HostPort::from_socket(listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((stream, from)) = listener.accept().await {
            let (bad, key, acceptor) = (bad.clone(), Arc::clone(&key), TlsAcceptor::from(Arc::clone(&server)));
            tokio::spawn(async move {
                let config = |server: &mut rustls::ServerConnection| server.set_buffer_limit(None);
                let Ok(mut stream) = acceptor.accept_with(stream, config).await else { return };
                let asker = stream.get_ref().1.peer_certificates().and_then(tls::node_of);
                while let Some(request) = read_request(&mut stream).await {
                    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                    let nonce = path.split("nonce=").nth(1).unwrap_or_default();
                    let reply = if path.starts_with(bad.route) {
                        bad.answer.clone()
                    } else if path.starts_with("/mesh/v1/hello") {
                        let observed = from.to_string();
                        let hello = crate::wire::message::Hello::answer(
                            &key,
                            asker.as_ref(),
                            nonce,
                            observed,
                            String::new(),
                            String::new(),
                        );
                        answer("200 OK", "application/json", &serde_json::to_string(&hello).expect("a hello"))
                    } else if path == "/mesh/v1/peers" {
                        answer("200 OK", LINES_TYPE, &record_line(&key, 1))
                    } else {
                        answer("200 OK", "application/json", r#"{"stored":1,"duplicate":0,"credit":1}"#)
                    };
                    if stream.write_all(reply.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    at
}

/// Head and body of one request with a length.
async fn read_request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0usize) {
                return Some(text);
            }
        }
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
        }
    }
}

#[tokio::test]
async fn bad_greetings_break_the_lane_with_a_reason_of_ours() {
    let mut birch = Node::start(1).await;
    let (trap, count) = counting().await;
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: https://{trap}/\r\nContent-Length: 0\r\n\r\n");
    let huge = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n{}", "x".repeat(200 << 10));
    let others = record_line(&key(9), 1);
    let evil = "\u{1b}[31mevil";
    for (route, answer, reason) in [
        ("/mesh/v1/hello", redirect.clone(), "answered with a redirect (302), which is never followed"),
        ("/mesh/v1/peers", redirect, "answered with a redirect (302), which is never followed"),
        ("/mesh/v1/hello", huge.clone(), "answered with more than it was asked for"),
        ("/mesh/v1/peers", huge, "answered with more than it was asked for"),
        ("/mesh/v1/hello", answer("200 OK", "application/json", "{}"), "said hello in a way that cannot be read"),
        ("/mesh/v1/hello", answer("500 Oops", "text/plain", evil), "refused with status 500"),
        ("/mesh/v1/hello", answer("503 Busy", "text/plain", evil), "is busy"),
        ("/mesh/v1/hello", format!("HTTP/1.1 {evil}\r\n\r\n"), "was lost"),
        ("/mesh/v1/peers", answer("200 OK", LINES_TYPE, &others), "gave no record of its own"),
        ("/mesh/v1/peers", answer("200 OK", LINES_TYPE, evil), "gave a record that is refused"),
    ] {
        let at = bad_peer(2, Bad { route, answer }).await;
        let _lane = open(&birch.context, key(2).id(), LaneId(1), vec![at], false, birch.reports.clone());
        let why = broken(&mut birch).await;
        assert!(why.contains(reason), "{why}");
        assert!(!why.contains("evil"), "{why}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0, "the redirect was not followed");
}

#[tokio::test]
async fn bad_receipts_are_told_apart() {
    let mut birch = Node::start(1).await;
    let problem = |code: &str| format!(r#"{{"status":409,"code":"{code}","title":"x"}}"#);
    let many = r#"{"stored":9,"duplicate":0,"credit":1}"#;
    for (answer, result) in [
        (answer("409 Conflict", PROBLEM_TYPE, &problem("conflict")), Ok(1)),
        (answer("409 Conflict", PROBLEM_TYPE, &problem("unheard_of")), Err(SendError::Refused(409))),
        (answer("415 No", PROBLEM_TYPE, "{}"), Err(SendError::Refused(415))),
        (answer("302 Found", PROBLEM_TYPE, "{}"), Err(SendError::Refused(302))),
        (answer("503 Busy\r\nRetry-After: 7", "text/plain", ""), Err(SendError::Busy(Duration::from_secs(7)))),
        (answer("200 OK", "application/json", many), Err(SendError::Lost)),
        (answer("200 OK", "application/json", "x"), Err(SendError::Lost)),
        (String::from("HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n") + &"x".repeat(90_000), Err(SendError::Lost)),
    ] {
        let at = bad_peer(2, Bad { route: "/mesh/v1/events", answer }).await;
        let lane = open(&birch.context, key(2).id(), LaneId(1), vec![at], false, birch.reports.clone());
        connected(&mut birch).await;
        lane.send(ShipmentId(1), lines(&birch.key, &["e"])).expect("room");
        lane.send(ShipmentId(2), lines(&birch.key, &["f"])).expect("room");
        for _ in 0..2 {
            let found = sent(&mut birch).await.1.map(|receipt| receipt.rejected.len());
            assert_eq!(found, result);
        }
        if result == Err(SendError::Lost) {
            assert!(!broken(&mut birch).await.is_empty(), "broken after all shipments are accounted for");
        }
    }
}

#[tokio::test]
async fn lanes_call_from_the_address_that_the_receptor_listens_on() {
    let listen = |settings: &mut Settings| settings.listen = vec!["127.3.0.1:0".parse().expect("an address")];
    let (mut birch, cedar) = (Node::with(1, listen).await, Node::start(2).await);
    let _lane = birch.lane(&cedar);
    assert_eq!(connected(&mut birch).await.host, "127.3.0.1".parse().expect("a host"));
}
