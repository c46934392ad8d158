//! Events published through the socket.

use http_body_util::StreamBody;
use hyper::body::Frame;

use super::*;

const JSON: Option<&str> = Some("application/json");

/// A body that is fed by hand.
fn open_body() -> (mpsc::Sender<Bytes>, client::Outgoing) {
    let (sender, mut pieces) = mpsc::channel::<Bytes>(64);
    let frames = futures_util::stream::poll_fn(move |context| {
        pieces.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    });
    (sender, StreamBody::new(frames).boxed())
}

fn answer(line: &[u8]) -> Published {
    serde_json::from_slice(line).expect("an answer")
}

#[tokio::test]
async fn one_event_is_signed_by_this_node_and_durable_when_answered() {
    let scene = Scene::open().await;
    let event = "{\n\t\"type\": \"demo.hello\", \"subject\": \"x\",\r\n \"data\": {\"a\":\n [1]}, \"n\": 5 }";
    for (kind, seq) in [(JSON, 0), (None, 1), (Some("application/x-www-form-urlencoded"), 2)] {
        let (status, _, body) = scene.raw("POST", "/v1/events", kind, event.as_bytes()).await;
        assert_eq!(status, 202, "{body}");
        let published = answer(body.as_bytes());
        let stored = scene.log.kept().entries[seq].entry.envelope.clone();
        assert_eq!(published.digest, Some(stored.digest()));
        let event = stored.event();
        assert_eq!((event.source, published.id.as_deref()), (key(1).id(), Some(&*event.id)));
        assert_eq!((event.kind.as_str(), event.time), ("demo.hello", NOW));
        assert_eq!(event.data(), Some("{\"a\":  [1]}"));
        assert_eq!(event.attribute("subject").as_deref(), Some("x"));
        assert_eq!(event.attribute("n").as_deref(), Some("5"));
        assert_eq!(uuid::Uuid::parse_str(&event.id).expect("a UUID").get_version_num(), 7);
    }
}

#[tokio::test]
async fn the_same_event_again_is_a_duplicate_and_no_error() {
    let scene = Scene::open().await;
    let event = br#"{"type":"demo.hello","id":"7"}"#;
    let (status, _, body) = scene.raw("POST", "/v1/events", JSON, event).await;
    let digest = answer(body.as_bytes()).digest.expect("a digest");
    let plain = format!(r#"{{"schema":"afferent.publish/1","digest":"{digest}","id":"7","stored":true}}"#);
    assert_eq!((status, body.trim_end()), (202, plain.as_str()));
    let (status, _, body) = scene.raw("POST", "/v1/events", JSON, event).await;
    let again = plain.replace("true}", "true,\"duplicate\":true}");
    assert_eq!((status, body.trim_end()), (200, again.as_str()));
}

#[tokio::test]
async fn what_this_node_would_refuse_from_others_it_does_not_sign() {
    let scene = Scene::open().await;
    let long = format!(r#"{{"type":"demo.hello","data":"{}"}}"#, "x".repeat(65_536));
    let cases: &[(&str, u16, &str, &str)] = &[
        ("", 400, "malformed", "JSON"),
        ("[]", 400, "malformed", "an object is expected"),
        ("{}", 400, "malformed", "`type`"),
        (r#"{"type":"hello"}"#, 400, "malformed", "two segments"),
        (r#"{"type":5}"#, 400, "malformed", "`type`: a string is expected"),
        (r#"{"type":"a.b","type":"a.c"}"#, 400, "malformed", "twice"),
        (r#"{"type":"a.b","x":[1]}"#, 400, "malformed", "goes in `data`"),
        (r#"{"type":"a.b","x":null}"#, 400, "malformed", "goes in `data`"),
        (r#"{"type":"a.b","Upper":"x"}"#, 400, "malformed", ""),
        (r#"{"type":"a.b","source":"mesh:x"}"#, 400, "malformed", "its own id"),
        (r#"{"type":"a.b","specversion":"2.0"}"#, 400, "malformed", "1.0"),
        (r#"{"type":"a.b","net":"other"}"#, 421, "other_network", ""),
        (r#"{"type":"a.b","data":1,"data_base64":"AA=="}"#, 400, "malformed", "not together"),
        (r#"{"type":"a.b","expirytime":"2020-01-01T00:00:00Z"}"#, 410, "expired", ""),
        (r#"{"type":"a.b","time":"2030-01-01T00:00:00Z","expirytime":"2030-01-02T00:00:00Z"}"#, 400, "future", ""),
        (r#"{"type":"mesh.node","data":{}}"#, 403, "type_denied", ""),
        (r#"{"type":"mesh.other.x"}"#, 403, "type_denied", ""),
        (r#"{"type":"mesh.peer.connected"}"#, 403, "type_denied", ""),
        (&long, 413, "too_large", ""),
        (r#"{"type":"demo.full"}"#, 503, "unavailable", "send again in 500 ms"),
    ];
    for (event, status, code, why) in cases {
        let (answered, _, body) = scene.raw("POST", "/v1/events", JSON, event.as_bytes()).await;
        let shown: String = event.chars().take(80).collect();
        assert_eq!(answered, *status, "{shown}: {body}");
        assert!(body.contains(&format!("\"code\":\"{code}\"")) && body.contains(why), "{shown}: {body}");
    }
    assert!(scene.log.kept().entries.is_empty());
    let own = format!(r#"{{"type":"a.b","source":"{}","specversion":"1.0","net":"main"}}"#, key(1).id().uri());
    assert_eq!(scene.raw("POST", "/v1/events", JSON, own.as_bytes()).await.0, 202, "saying the same is fine");
}

#[tokio::test]
async fn bodies_are_bounded_and_of_a_known_type() {
    let scene = Scene::open().await;
    let (status, _, body) = scene.raw("POST", "/v1/events", Some("text/plain"), b"{}").await;
    assert!(status == 415 && body.contains("AF0204"), "{body}");
    let (status, _, body) = scene.raw("POST", "/v1/events", JSON, &vec![b' '; BODY_BYTES_MAX + 1]).await;
    assert!(status == 413 && body.contains("AF0205"), "{body}");
}

#[tokio::test]
async fn a_line_is_answered_while_the_next_one_is_not_written_yet() {
    let scene = Scene::open().await;
    let mut client = scene.client().await;
    let (sender, body) = open_body();
    sender.send(Bytes::from_static(b"{\"type\":\"demo.a\"}\n")).await.expect("open");
    let mut answers = soon(client.exchange_lines("/v1/events", body)).await.expect("a stream");
    let first = soon(answers.next()).await.expect("whole").expect("an answer");
    assert!(answer(&first).stored);
    // In pieces, with a blank line between, and without a line end at the end.
    for piece in ["{\"type\":", "\"demo.b\"}\n\n  \n", "{\"type\":\"demo.c\"}"] {
        sender.send(Bytes::from_static(piece.as_bytes())).await.expect("open");
    }
    assert!(answer(&soon(answers.next()).await.expect("whole").expect("an answer")).stored);
    drop(sender);
    assert!(answer(&soon(answers.next()).await.expect("whole").expect("an answer")).stored);
    assert_eq!(soon(answers.next()).await.expect("whole"), None);
    assert_eq!(scene.log.kept().entries.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_lines_are_answered_in_order_in_bounded_batches() {
    const LINES: usize = 5_000;
    let scene = Scene::open().await;
    let mut client = scene.client().await;
    let line = |i: usize| match i % 100 {
        50 => "{\"type\":\"bad\"}\n".to_owned(),
        51 => format!("{{\"type\":\"demo.x\",\"data\":\"{}\"}}\n", "x".repeat(2 * LINE_BYTES_MAX)),
        52 => "not JSON at all\n".to_owned(),
        _ => format!("{{\"type\":\"demo.x\",\"id\":\"{i}\",\"data\":{i}}}\n"),
    };
    let (sender, body) = open_body();
    let feeding = tokio::spawn(async move {
        let all: String = (0..LINES).map(line).collect();
        for piece in all.into_bytes().chunks(10_007) {
            sender.send(Bytes::copy_from_slice(piece)).await.expect("open");
        }
    });
    let mut answers = soon(client.exchange_lines("/v1/events", body)).await.expect("a stream");
    for i in 0..LINES {
        let published = answer(&soon(answers.next()).await.expect("whole").expect("an answer"));
        match i % 100 {
            50 | 52 => assert_eq!(published.code, Some(crate::wire::Code::Malformed), "{i}"),
            51 => assert_eq!(published.code, Some(crate::wire::Code::TooLarge), "{i}"),
            _ => {
                assert_eq!(published.id, Some(i.to_string()));
                assert!(published.stored && scene.log.has(&published.digest.expect("a digest")), "{i}");
            }
        }
    }
    assert_eq!(soon(answers.next()).await.expect("whole"), None);
    feeding.await.expect("no panic");
    let batches = scene.batches.lock().expect("not poisoned").clone();
    assert_eq!(batches.iter().sum::<usize>(), LINES - 150);
    assert!(batches.iter().all(|size| (1..=PUBLISH_BATCH_MAX).contains(size)), "{batches:?}");
}

#[tokio::test]
async fn a_refused_line_says_which_it_was_and_has_a_number() {
    let scene = Scene::open().await;
    let lines = format!("\n{{\"type\":\"bad\"}}\n\n{{\"type\":\"demo.a\"}}\n{}\n oops", "x".repeat(2 * LINE_BYTES_MAX));
    let (_, _, body) = scene.raw("POST", "/v1/events", Some("application/x-ndjson"), lines.as_bytes()).await;
    let answers: Vec<Published> = body.lines().map(|line| answer(line.as_bytes())).collect();
    let of = |answer: &Published| (answer.line, answer.number.clone());
    let number = |line, number: &str| (Some(line), Some(number.to_owned()));
    let told: Vec<_> = answers.iter().map(of).collect();
    assert_eq!(told, [number(2, "AF0401"), (None, None), number(5, "AF0402"), number(6, "AF0401")], "{body}");
}

#[tokio::test]
async fn a_publisher_that_breaks_off_published_its_whole_lines_alone() {
    let scene = Scene::open().await;
    let stream = UnixStream::connect(&scene.path).await.expect("a connection");
    let text = "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n\
                content-length: 1000\r\n\r\n{\"type\":\"demo.a\"}\n{\"type\":\"demo.b\"}";
    stream.writable().await.expect("open");
    assert_eq!(stream.try_write(text.as_bytes()).expect("written"), text.len());
    let mut head = scene.head.subscribe();
    soon(head.wait_for(|seq| seq.0 >= 1)).await.expect("stored");
    drop(stream);
    // Another request goes through after the broken one was noticed or not: order does not matter.
    let mut client = scene.client().await;
    soon(client.post("/v1/events", r#"{"type":"demo.c"}"#.to_owned())).await.expect("stored");
    let kinds: Vec<String> =
        scene.log.kept().entries.iter().map(|stored| stored.entry.envelope.event().kind.to_string()).collect();
    assert_eq!(kinds, ["demo.a", "demo.c"]);
}
