//! HTTP/2 callers that cost more than they carry (the attacks of research/reliability, section 4).

use super::*;

/// One HTTP/2 frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The preface and empty SETTINGS.
pub(super) fn opening() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat()
}

/// Writes `bytes` again and again while reading what comes, until the connection ends. How often?
async fn pour(node: &Node, opening: &[u8], bytes: &[u8]) -> usize {
    let mut stream = connect(node.at, None, b"h2").await.expect("a connection");
    stream.write_all(opening).await.expect("bytes are taken");
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = tokio::spawn(async move { ends(&mut reader).await });
    let mut count = 0;
    let pouring = async {
        while writer.write_all(bytes).await.is_ok() && writer.flush().await.is_ok() {
            count += 1;
        }
    };
    timeout(PATIENCE, pouring).await.expect("the connection ends");
    reading.await.expect("the connection ends");
    count
}

#[tokio::test]
async fn floods_of_control_frames_are_closed_by_the_meter() {
    let node = Node::start(1).await;
    let ping = frame(6, 0, 0, &[7; 8]);
    let settings = frame(4, 0, 0, &[]);
    let unknown = frame(0xfa, 0, 0, &[0; 100]);
    let priority = frame(2, 0, 1, &[0, 0, 0, 3, 1]);
    for (number, flood) in [ping, settings, unknown, priority].into_iter().enumerate() {
        pour(&node, &opening(), &flood.repeat(10)).await;
        let flooded = node.context.counters().flooded.value();
        assert_eq!(flooded, number as u64 + 1, "the meter closed it");
        node.still_takes_events().await;
    }
}

#[tokio::test]
async fn rapid_resets_start_few_requests() {
    let node = Node::start(1).await;
    let stream = connect(node.at, None, b"h2").await.expect("a connection");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("a handshake");
    let connection = tokio::spawn(connection);
    let resetting = async {
        for _ in 0..5_000 {
            let Ok(ready) = client.ready().await else { return };
            client = ready;
            let request = hyper::Request::post("https://x/mesh/v1/events").body(()).expect("a request");
            let Ok((_, mut body)) = client.send_request(request, false) else { return };
            let _ = body.send_data(Bytes::new(), false);
            body.send_reset(h2::Reason::CANCEL);
            tokio::task::yield_now().await;
        }
        panic!("5 000 resets were taken");
    };
    timeout(PATIENCE, resetting).await.expect("the connection ends");
    assert!(timeout(PATIENCE, connection).await.expect("it ends").expect("no panic").is_err());
    node.still_takes_events().await;
}

#[tokio::test]
async fn continuations_and_empty_data_without_end_are_closed() {
    let node = Node::start(1).await;
    let headers = [opening(), frame(1, 0, 1, &[0x82])].concat();
    pour(&node, &headers, &frame(9, 0, 1, &[])).await;
    node.still_takes_events().await;
    // :method POST, :scheme https, :path /mesh/v1/events as a literal, then DATA of no bytes.
    let path = b"/mesh/v1/events";
    let block = [&[0x83, 0x87, 0x04, path.len() as u8][..], path, &[0x01, 1, b'x']].concat();
    let post = [opening(), frame(1, 4, 1, &block)].concat();
    pour(&node, &post, &frame(0, 0, 1, &[])).await;
    node.still_takes_events().await;
}

#[tokio::test]
async fn requests_that_come_to_nothing_are_metered_too() {
    let node = Node::with(1, |settings| settings.limits.overhead_burst = 20_000).await;
    let mut stream = connect(node.at, None, b"http/1.1").await.expect("a connection");
    let nothing = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut count = 0;
    while stream.write_all(nothing).await.is_ok() && read_reply(&mut stream).await.status == 404 {
        count += 1;
        assert!(count < 1_000_000, "never closed");
    }
    assert_eq!(node.context.counters().flooded.value(), 1);
    node.still_takes_events().await;
}

#[tokio::test]
async fn honest_work_is_never_metered_away() {
    let node = Node::with(1, |settings| settings.limits.overhead_burst = 20_000).await;
    let stream = connect(node.at, Some(&key(9)), b"h2").await.expect("a connection");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("a handshake");
    tokio::spawn(connection);
    for number in 0..1_000 {
        client = client.ready().await.expect("ready");
        let request = hyper::Request::post("https://x/mesh/v1/events")
            .header("content-type", LINES_TYPE)
            .header("x-padding", format!("{number:0>100}"))
            .body(())
            .expect("a request");
        let (response, mut body) = client.send_request(request, false).expect("a stream");
        body.send_data(event(&key(3), &format!("e{number}")).into(), true).expect("sent");
        assert_eq!(response.await.expect("an answer").status(), 202);
    }
    assert_eq!(node.context.counters().flooded.value(), 0);
}

#[tokio::test]
async fn bodies_in_memory_are_bounded() {
    let node = Node::with(1, |settings| settings.limits.body_bytes_in_all = 100_000).await;
    node.befriend(&[key(9).id()]);
    let big = "x\n".repeat(60_000);
    assert_eq!(node.post(None, &big).await.status, 503);
    assert_eq!(node.post(Some(&key(9)), &event(&key(3), "e")).await.status, 202);
    node.still_takes_events().await;
}
