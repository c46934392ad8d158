//! Slow callers are closed at their deadlines; an honest request is answered meanwhile.

use super::*;
use std::time::Instant;

const SHORT: Duration = Duration::from_millis(150);

/// A node with one deadline shortened; the others stay as they are, so nothing else can close.
async fn short(change: impl FnOnce(&mut Limits)) -> Node {
    Node::with(1, |settings| change(&mut settings.limits)).await
}

/// The connection is open until the deadline and closed soon after; events are taken before and after.
async fn closes(node: &Node, stream: &mut (impl tokio::io::AsyncRead + Unpin), since: Instant) {
    node.still_takes_events().await;
    ends(stream).await;
    assert!(since.elapsed() >= SHORT, "closed early: {:?}", since.elapsed());
    node.still_takes_events().await;
}

#[tokio::test]
async fn slow_tls_is_closed() {
    let node = short(|limits| limits.handshake = SHORT).await;
    let since = Instant::now();
    let mut silent = TcpStream::connect(node.at).await.expect("a connection");
    let mut half = TcpStream::connect(node.at).await.expect("a connection");
    half.write_all(&[0x16, 3, 1, 2, 0, 1, 0]).await.expect("bytes are taken");
    closes(&node, &mut silent, since).await;
    closes(&node, &mut half, since).await;
}

#[tokio::test]
async fn silent_handshakes_keep_nobody_from_being_met() {
    let node = short(|limits| limits.handshakes = 1).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(node.at).await.expect("a connection"));
    }
    let since = Instant::now();
    node.still_takes_events().await;
    assert!(since.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_caller_that_says_nothing_is_closed() {
    for alpn in [b"h2".as_slice(), b"http/1.1"] {
        let node = short(|limits| limits.first_byte = SHORT).await;
        let since = Instant::now();
        let mut silent = connect(node.at, None, alpn).await.expect("a connection");
        closes(&node, &mut silent, since).await;
        assert_eq!(node.context.counters().timed_out.value(), 1);
    }
}

#[tokio::test]
async fn half_a_preface_is_nothing() {
    let node = short(|limits| limits.first_byte = SHORT).await;
    let since = Instant::now();
    let mut stream = connect(node.at, None, b"h2").await.expect("a connection");
    stream.write_all(b"PRI * HTTP/2.0").await.expect("bytes are taken");
    closes(&node, &mut stream, since).await;
}

#[tokio::test]
async fn a_slow_head_is_closed() {
    let node = short(|limits| limits.head = SHORT).await;
    let since = Instant::now();
    let mut one = connect(node.at, None, b"http/1.1").await.expect("a connection");
    one.write_all(b"GET /mesh/v1/health HTTP/1.1\r\nHo").await.expect("bytes are taken");
    let mut two = connect(node.at, None, b"h2").await.expect("a connection");
    // Preface, SETTINGS, and HEADERS without END_HEADERS.
    two.write_all(&flood::opening()).await.expect("bytes are taken");
    two.write_all(&flood::frame(1, 0, 1, &[0x82])).await.expect("bytes are taken");
    closes(&node, &mut one, since).await;
    closes(&node, &mut two, since).await;
}

#[tokio::test]
async fn a_slow_body_is_answered_and_closed() {
    let node = short(|limits| limits.body = SHORT).await;
    let since = Instant::now();
    let mut stream = connect(node.at, None, b"http/1.1").await.expect("a connection");
    let request = request("POST", "/mesh/v1/events", &event(&key(3), "e"));
    stream.write_all(&request.as_bytes()[..request.len() - 10]).await.expect("bytes are taken");
    assert_eq!(read_reply(&mut stream).await.status, 408);
    closes(&node, &mut stream, since).await;
}

#[tokio::test]
async fn an_idle_connection_is_let_go() {
    for alpn in [b"h2".as_slice(), b"http/1.1"] {
        let node = short(|limits| limits.idle = SHORT).await;
        let since = Instant::now();
        let mut stream = connect(node.at, None, alpn).await.expect("a connection");
        match alpn {
            b"h2" => stream.write_all(&flood::opening()).await.expect("bytes are taken"),
            _ => {
                let health = b"GET /mesh/v1/health HTTP/1.1\r\nHost: x\r\n\r\n";
                stream.write_all(health).await.expect("bytes are taken");
                assert_eq!(read_reply(&mut stream).await.status, 200);
            }
        }
        closes(&node, &mut stream, since).await;
    }
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_closed() {
    let node = short(|limits| {
        limits.write_stall = SHORT;
        limits.overhead_burst = u32::MAX;
    })
    .await;
    let stream = connect(node.at, None, b"http/1.1").await.expect("a connection");
    // Many pipelined requests, no answer read: the answers fill every buffer between us.
    let hello = "GET /mesh/v1/hello?nonce=n HTTP/1.1\r\nHost: x\r\n\r\n".repeat(500);
    let (_reader, mut writer) = tokio::io::split(stream);
    let flooding = async { while writer.write_all(hello.as_bytes()).await.is_ok() {} };
    timeout(PATIENCE, flooding).await.expect("the connection is closed");
    assert_eq!(node.context.counters().timed_out.value(), 1);
    node.still_takes_events().await;
}

#[tokio::test]
async fn an_answer_that_a_window_holds_back_does_not_keep_the_connection() {
    let node = short(|limits| limits.idle = SHORT).await;
    let stream = connect(node.at, None, b"h2").await.expect("a connection");
    let (client, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream).await.expect("a handshake");
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.expect("ready");
    let request = hyper::Request::get("https://x/mesh/v1/health").body(()).expect("a request");
    let (response, _) = client.send_request(request, true).expect("a stream");
    assert_eq!(response.await.expect("a head").status(), 200);
    let _ = timeout(PATIENCE, connection).await.expect("the connection ends").expect("no panic");
    node.still_takes_events().await;
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_then_ends() {
    let mut node = Node::start(1).await;
    node.script.send_replace(Script::Hold);
    let mut asking = connect(node.at, Some(&key(9)), b"http/1.1").await.expect("a connection");
    asking.write_all(request("POST", "/mesh/v1/hello", "").as_bytes()).await.expect("bytes are taken");
    assert_eq!(read_reply(&mut asking).await.status, 405);
    let idle = connect(node.at, Some(&key(8)), b"h2").await.expect("a connection");
    let (_client, idle) = h2::client::handshake(idle).await.expect("a handshake");
    let idle = tokio::spawn(idle);
    // A request whose body comes only after the stop was called for.
    let mut late = connect(node.at, Some(&key(7)), b"http/1.1").await.expect("a connection");
    let request = request("POST", "/mesh/v1/events", &event(&key(3), "late"));
    let (head, body) = request.split_at(request.len() - 10);
    late.write_all(head.as_bytes()).await.expect("bytes are taken");
    let requests = &node.context.counters().requests;
    let begun = async {
        while requests.value() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, begun).await.expect("the request begins");
    node.script.send_replace(Script::Store);
    node.shutdown.send_replace(true);
    timeout(PATIENCE, idle).await.expect("the connection ends").expect("no panic").expect("a goodbye");
    late.write_all(body.as_bytes()).await.expect("bytes are taken");
    assert_eq!(read_reply(&mut late).await.status, 202);
    timeout(PATIENCE, &mut node.receptor).await.expect("the receptor ends").expect("no panic");
    assert!(TcpStream::connect(node.at).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let mut node = short(|limits| limits.stop = SHORT).await;
    node.script.send_replace(Script::Hold);
    let mut asking = connect(node.at, None, b"http/1.1").await.expect("a connection");
    asking.write_all(request("POST", "/mesh/v1/events", &event(&key(3), "e")).as_bytes()).await.expect("taken");
    let requests = &node.context.counters().requests;
    let begun = async {
        while requests.value() < 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, begun).await.expect("the request begins");
    node.shutdown.send_replace(true);
    timeout(PATIENCE, &mut node.receptor).await.expect("the receptor ends").expect("no panic");
}

#[tokio::test]
async fn places_are_limited_per_address_outside_the_loopback_profile() {
    let node = Node::with(1, |settings| {
        settings.profile = Profile::Private;
        settings.limits.connections_per_address = 3;
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(connect(node.at, None, b"http/1.1").await.expect("a connection"));
    }
    assert!(connect(node.at, None, b"http/1.1").await.is_err(), "a fourth");
    assert_eq!(node.context.counters().turned_away.value(), 1);
    held.clear();
    let free = async { while connect(node.at, None, b"http/1.1").await.is_err() {} };
    timeout(PATIENCE, free).await.expect("places come back");
}

#[tokio::test]
async fn a_known_peer_gets_in_when_strangers_have_taken_their_places() {
    let node = Node::with(1, |settings| {
        settings.limits.connections = 6;
        settings.limits.connections_for_known = 2;
    })
    .await;
    node.befriend(&[key(9).id()]);
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = connect(node.at, None, b"http/1.1").await.expect("a connection");
        stream.write_all(b"GET /mesh/v1/health HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("bytes are taken");
        assert_eq!(read_reply(&mut stream).await.status, 200);
        held.push(stream);
    }
    assert_eq!(node.post(Some(&key(8)), "x").await.status, 0, "a stranger is turned away after TLS");
    for _ in 0..10 {
        // Unfinished handshakes do not take the places of known peers either.
        let _ = TcpStream::connect(node.at).await.expect("a connection");
    }
    assert_eq!(node.post(Some(&key(9)), &event(&key(3), "e")).await.status, 202);
}
