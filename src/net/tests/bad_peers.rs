//! Peers that answer badly: every answer is bounded, and every reason is in our own words.

use super::lanes::{broken, connected, counting, lines, sent};
use super::*;
use crate::core::ports::{LaneId, SendError, ShipmentId};
use crate::wire::message::PROBLEM_TYPE;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a bad peer answers on one route; on the others it is a good one.
#[derive(Clone)]
pub(super) struct Bad {
    pub(super) route: &'static str,
    pub(super) answer: String,
}

pub(super) fn answer(status: &str, kind: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A node in HTTP/1.1 that does as it is told.
pub(super) async fn bad_peer(number: u8, bad: Bad) -> HostPort {
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
        let _lane = open(&birch.context, key(2).id(), LaneId(1), vec![at], Word::Near, birch.reports.clone());
        let why = broken(&mut birch).await;
        assert!(why.contains(reason), "{why}");
        assert!(!why.contains("evil"), "{why}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0, "the redirect was not followed");
}

/// A receipt in the words of a newer version.
const NEWER: &str = r#"{"stored":0,"duplicate":0,"rejected":[{"i":0,"code":"quarantined"}],"credit":1}"#;

#[tokio::test]
async fn bad_receipts_are_told_apart() {
    let mut birch = Node::start(1).await;
    let problem = |code: &str| format!(r#"{{"status":409,"code":"{code}","title":"x"}}"#);
    let many = r#"{"stored":9,"duplicate":0,"credit":1}"#;
    let later = |millis| Err(SendError::Busy(Duration::from_millis(millis)));
    for (answer, result) in [
        (answer("409 Conflict", PROBLEM_TYPE, &problem("conflict")), Ok(1)),
        (answer("409 Conflict", PROBLEM_TYPE, &problem("unheard_of")), Ok(1)),
        (answer("403 No", PROBLEM_TYPE, &problem("unheard_of")), later(2_000)),
        (answer("200 OK", "application/json", NEWER), Ok(1)),
        (answer("415 No", PROBLEM_TYPE, "{}"), Err(SendError::Refused(415))),
        (answer("413 No", "text/html", ""), Err(SendError::Refused(413))),
        (answer("400 No", "text/html", ""), Err(SendError::Refused(400))),
        (answer("302 Found", PROBLEM_TYPE, "{}"), Err(SendError::Lost)),
        (answer("500 Oops", "text/html", ""), later(2_000)),
        (answer("502 Oops\r\nRetry-After: 3", "text/html", ""), later(3_000)),
        (answer("404 Nothing", "text/html", ""), later(2_000)),
        (answer("408 Slow", "text/html", ""), later(2_000)),
        (answer("403 No", "text/html", ""), later(2_000)),
        (answer("503 Busy\r\nRetry-After: 7", "text/plain", ""), later(7_000)),
        (answer("503 Busy\r\nRetry-After: 0", "text/plain", ""), later(100)),
        (answer("200 OK", "application/json", many), Err(SendError::Lost)),
        (answer("200 OK", "application/json", "x"), Err(SendError::Lost)),
        (String::from("HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n") + &"x".repeat(90_000), Err(SendError::Lost)),
    ] {
        let at = bad_peer(2, Bad { route: "/mesh/v1/events", answer }).await;
        let lane = open(&birch.context, key(2).id(), LaneId(1), vec![at], Word::Near, birch.reports.clone());
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
