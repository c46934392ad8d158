//! Requests that are refused before anything in them is read.

use super::*;
use crate::wire::message::BODY_BYTES_MAX;

/// Sends exactly these bytes, nameless.
async fn raw(node: &Node, text: &str) -> Reply {
    node.ask(None, text).await
}

#[tokio::test]
async fn paths_and_methods_have_their_answers() {
    let node = Node::start(1).await;
    for (method, path, status, allow) in [
        ("GET", "/mesh/v1/events", 405, "post"),
        ("POST", "/mesh/v1/hello", 405, "get"),
        ("PUT", "/mesh/v1/peers", 405, "post"),
        ("HEAD", "/mesh/v1/health", 405, "get"),
        ("GET", "/", 404, ""),
        ("POST", "/mesh/v1/events/", 404, ""),
        ("POST", "/mesh/v2/events", 404, ""),
        ("GET", "/mesh/v1/health", 200, ""),
    ] {
        let answer = raw(&node, &format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        if method == "HEAD" {
            continue; // an answer to HEAD has a length and no body
        }
        assert_eq!(answer.status, status, "{method} {path}");
        let says = answer.head.lines().any(|line| line == format!("allow: {allow}"));
        assert_eq!(says, status == 405, "{method} {path}");
    }
    node.strings.ready.send_replace(false);
    assert_eq!(raw(&node, "GET /mesh/v1/health HTTP/1.1\r\nHost: x\r\n\r\n").await.status, 503);
    node.still_takes_events().await;
}

#[tokio::test]
async fn shapes_that_two_readers_read_differently_are_refused() {
    let node = Node::start(1).await;
    let line = event(&key(3), "smuggled");
    let kind = format!("Content-Type: {LINES_TYPE}\r\n");
    let chunked = format!("{:x}\r\n{line}\r\n0\r\n\r\n", line.len());
    let length = line.len();
    for head in [
        format!(
            "POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\n{kind}Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"
        ),
        format!(
            "POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\n{kind}Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"
        ),
        format!("POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\n{kind}Transfer-Encoding: gzip, chunked\r\n"),
        format!("POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\n{kind}Transfer-Encoding: chunked, chunked\r\n"),
        format!(
            "POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\n{kind}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"
        ),
        format!("POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\n{kind}Transfer-Encoding: gzip\r\n"),
        format!("POST /mesh/v1/events HTTP/1.1\r\n{kind}Transfer-Encoding: chunked\r\n"),
        format!("POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\nHost: y\r\n{kind}Transfer-Encoding: chunked\r\n"),
        format!("POST https://x/mesh/v1/events HTTP/1.1\r\nHost: x\r\n{kind}Transfer-Encoding: chunked\r\n"),
        format!("POST /mesh/v1/events HTTP/1.1\nHost: x\r\n{kind}Transfer-Encoding: chunked\r\n"),
        format!("POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\n{kind}Content-Length: 5\r\nContent-Length: 6\r\n"),
        format!("POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\n{kind}Content-Length: -5\r\n"),
        format!("POST /mesh/v1/events HTTP/1.1\r\nHost : x\r\n{kind}Transfer-Encoding: chunked\r\n"),
    ] {
        let answer = raw(&node, &format!("{head}\r\n{chunked}")).await;
        assert_eq!(answer.status, 400, "{head}");
    }
    let old = format!("POST /mesh/v1/events HTTP/1.0\r\nHost: x\r\n{kind}Content-Length: {length}\r\n\r\n{line}");
    assert_eq!(raw(&node, &old).await.status, 400);
    assert_eq!(raw(&node, "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n").await.status, 400);
    assert!(node.memory.order.lock().expect("unpoisoned").is_empty(), "nothing was let in");
    let good = format!("POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\n{kind}Transfer-Encoding: chunked\r\n\r\n{chunked}");
    assert_eq!(raw(&node, &good).await.status, 202);
    node.still_takes_events().await;
}

#[tokio::test]
async fn a_smuggled_request_behind_an_ambiguous_one_is_never_read() {
    let node = Node::start(1).await;
    let inner = request("POST", "/mesh/v1/events", &event(&key(3), "inner"));
    let head = format!(
        "POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: {LINES_TYPE}\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        inner.len() + 5
    );
    let mut stream = connect(node.at, None, b"http/1.1").await.expect("a connection");
    stream.write_all(format!("{head}{inner}").as_bytes()).await.expect("bytes are taken");
    let answer = read_reply(&mut stream).await;
    assert_eq!(answer.status, 400);
    assert!(answer.head.contains("connection: close"));
    ends(&mut stream).await;
    assert!(node.memory.order.lock().expect("unpoisoned").is_empty());
}

#[tokio::test]
async fn connections_are_kept_between_plain_requests() {
    let node = Node::start(1).await;
    let mut stream = connect(node.at, None, b"http/1.1").await.expect("a connection");
    for number in 0..3 {
        let request = request("POST", "/mesh/v1/events", &event(&key(3), &format!("e{number}")));
        stream.write_all(request.replace("Connection: close\r\n", "").as_bytes()).await.expect("bytes are taken");
        assert_eq!(read_reply(&mut stream).await.status, 202);
    }
}

#[tokio::test]
async fn sizes_are_refused_before_they_are_read() {
    let node = Node::start(1).await;
    let head = |length: u64| {
        format!(
            "POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: {LINES_TYPE}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    for length in [BODY_BYTES_MAX as u64 + 1, 10_000_000_000] {
        let answer = raw(&node, &head(length)).await;
        assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));
    }
    // Chunked, without a length to begin with.
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let mut stream = connect(node.at, None, b"http/1.1").await.expect("a connection");
    let head = "POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n";
    stream.write_all(format!("{head}Content-Type: {LINES_TYPE}\r\n\r\n").as_bytes()).await.expect("bytes are taken");
    let (mut reader, mut writer) = tokio::io::split(stream);
    let writing = tokio::spawn(async move {
        for _ in 0..100 {
            if writer.write_all(chunk.as_bytes()).await.is_err() {
                break;
            }
        }
    });
    assert_eq!(read_reply(&mut reader).await.status, 413);
    drop(reader);
    timeout(PATIENCE, writing).await.expect("the connection is closed").expect("no panic");
    node.still_takes_events().await;
}

#[tokio::test]
async fn other_types_and_codings_are_refused() {
    let node = Node::start(1).await;
    let line = event(&key(3), "e");
    for extra in [
        "Content-Type: text/plain\r\n".to_owned(),
        String::new(),
        format!("Content-Type: {LINES_TYPE}\r\nContent-Encoding: gzip\r\n"),
        format!("Content-Type: {LINES_TYPE}\r\nContent-Encoding: identity\r\n"),
        format!("Content-Type: {LINES_TYPE}\r\nContent-Type: {LINES_TYPE}\r\n"),
        "Content-Type: application/cloudevents+json\r\n".to_owned(),
    ] {
        let head = format!("POST /mesh/v1/events HTTP/1.1\r\nHost: x\r\n{extra}Content-Length: {}\r\n\r\n", line.len());
        let answer = raw(&node, &format!("{head}{line}")).await;
        assert_eq!(answer.status, 415, "{extra:?}");
        assert!(answer.head.contains("content-type: application/problem+json"));
    }
    node.still_takes_events().await;
}

#[tokio::test]
async fn heads_beyond_their_size_are_refused() {
    let node = Node::start(1).await;
    let many: String = (0..100).map(|number| format!("X-{number}: y\r\n")).collect();
    let long = format!("X: {}\r\n", "y".repeat(20_000));
    for extra in [many, long] {
        let answer = raw(&node, &format!("GET /mesh/v1/health HTTP/1.1\r\nHost: x\r\n{extra}\r\n")).await;
        assert_eq!(answer.status, 431);
    }
    node.still_takes_events().await;
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_closed() {
    let node = Node::start(1).await;
    let mut stream = TcpStream::connect(node.at).await.expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("bytes are taken");
    ends(&mut stream).await;
    node.still_takes_events().await;
    assert_eq!(node.context.counters().handshakes_failed.value(), 1);
}
