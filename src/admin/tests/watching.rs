//! Live events: where a stream begins, what is in it, that nothing is missing or repeated.

use super::*;

pub(super) async fn read(lines: &mut client::LineReader, count: usize) -> Vec<serde_json::Value> {
    let mut read = Vec::new();
    for _ in 0..count {
        let line = soon(lines.next()).await.expect("whole").expect("a line");
        read.push(serde_json::from_slice(&line).expect("JSON"));
    }
    read
}

fn data(lines: &[serde_json::Value]) -> Vec<u64> {
    lines.iter().map(|line| line["event"]["data"].as_u64().expect("a number")).collect()
}

/// The data of what a query gives, which ends by itself.
pub(super) async fn all(scene: &Scene, query: &str) -> Result<Vec<u64>, (u16, String, String)> {
    let mut client = scene.client().await;
    let mut lines = client.lines(&format!("/v1/events?{query}")).await.map_err(problem)?;
    let mut read = Vec::new();
    while let Some(line) = soon(lines.next()).await.expect("whole") {
        read.push(serde_json::from_slice(&line).expect("JSON"));
    }
    Ok(data(&read))
}

#[tokio::test]
async fn a_line_is_the_event_exactly_as_it_was_signed() {
    let scene = Scene::open().await;
    let mut client = scene.client().await;
    let mut lines = client.lines("/v1/events").await.expect("a stream");
    scene.arrive("demo.hello", 7);
    let line = soon(lines.next()).await.expect("whole").expect("a line");
    let envelope = event(2, "demo.hello", 7);
    let expected = format!(
        r#"{{"digest":"{}","hops":1,"from":"{}","received":"2026-11-21T06:41:09.123000Z","trust":"accepted","event":{}}}"#,
        envelope.digest(),
        key(2).id(),
        envelope.event().text()
    );
    assert_eq!(std::str::from_utf8(&line).expect("UTF-8"), expected);
    scene.head.send_replace(scene.log.push(event(3, "demo.hello", 8), None, 2, NOW));
    let line = soon(lines.next()).await.expect("whole").expect("a line");
    assert!(std::str::from_utf8(&line).expect("UTF-8").contains(r#""hops":2,"from":null,"received""#));
}

#[tokio::test]
async fn what_is_kept_from_local_programs_is_shown_only_when_asked_for() {
    use crate::core::params::Params;
    use crate::core::trust::{Policy, Rule, Sources, Verdict};
    let scene = Scene::open().await;
    let rule =
        |kind: &str, verdict| Rule { sources: Sources::Any, types: vec![kind.parse().expect("a pattern")], verdict };
    let rules =
        [rule("a.doubted", Verdict::Flagged), rule("a.held", Verdict::Quarantined), rule("a.gone", Verdict::Dropped)];
    let params = Params { rules: rules.into(), ..Params::default() };
    scene.policy.send_replace(Policy::of(key(1).id(), &params));
    for (number, kind) in (0..).zip(["a.fine", "a.doubted", "a.held", "a.gone"]) {
        scene.arrive(kind, number);
    }
    let of = async |query: &str| {
        let mut client = scene.client().await;
        let mut lines = client.lines(&format!("/v1/events?{query}")).await.expect("a stream");
        let mut verdicts = Vec::new();
        while let Some(line) = soon(lines.next()).await.expect("whole") {
            let line: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
            verdicts.push(line["trust"].as_str().expect("a word").to_owned());
        }
        verdicts
    };
    assert_eq!(of("since=all&count=2").await, ["accepted", "flagged"]);
    let all = of("since=all&count=4&withheld=true").await;
    assert_eq!(all, ["accepted", "flagged", "quarantined", "dropped"]);
}

#[tokio::test]
async fn a_stream_begins_where_it_was_asked_to() {
    let scene = Scene::open().await;
    for number in 0..6 {
        scene.arrive("demo.hello", number); // at 1, 3, 5, 7, 9, 11; received a second apart
    }
    assert_eq!(all(&scene, "since=all&count=6").await, Ok(vec![0, 1, 2, 3, 4, 5]));
    assert_eq!(all(&scene, "since=0&count=2").await, Ok(vec![0, 1]));
    assert_eq!(all(&scene, "since=5&count=3").await, Ok(vec![3, 4, 5]), "after that position");
    assert_eq!(all(&scene, "since=2026-11-21T06%3A41%3A05.123Z&count=3").await, Ok(vec![3, 4, 5]));
    assert_eq!(all(&scene, "since=1m&count=1").await, Ok(vec![0]));
    let mut client = scene.client().await;
    let mut lines = client.lines("/v1/events?seq=true&since=9").await.expect("a stream");
    let last = &read(&mut lines, 1).await[0];
    assert_eq!((last["seq"].as_u64(), &last["event"]["data"]), (Some(11), &serde_json::json!(5)));
    let mut from_now = scene.client().await;
    let mut from_now = from_now.lines("/v1/events").await.expect("a stream");
    scene.arrive("demo.hello", 6);
    assert_eq!(data(&read(&mut from_now, 1).await), [6], "nothing of the past");
}

#[tokio::test]
async fn a_position_that_is_not_there_is_said_before_anything_is_missed() {
    let scene = Scene::open().await;
    for number in 0..6 {
        scene.arrive("demo.hello", number);
    }
    scene.log.drop_before(5);
    let code = |result: Result<Vec<u64>, (u16, String, String)>| result.expect_err("refused");
    assert_eq!(code(all(&scene, "since=0").await), (410, "position_gone".into(), "AF0420".into()));
    assert_eq!(code(all(&scene, "since=12").await), (409, "position_ahead".into(), "AF0421".into()));
    assert_eq!(all(&scene, "since=4&count=4").await, Ok(vec![2, 3, 4, 5]));
    assert_eq!(all(&scene, "since=all&count=4").await, Ok(vec![2, 3, 4, 5]));
}

#[tokio::test]
async fn only_what_was_asked_for_is_shown_and_never_the_protocols_own() {
    let scene = Scene::open().await;
    scene.arrive("mesh.node.x", 0);
    scene.arrive("demo.hello", 1);
    scene.arrive("demo.done", 2);
    scene.arrive("other.hello", 3);
    let mut client = scene.client().await;
    let own = r#"{"type":"demo.own","data":4}"#.to_owned();
    client.post("/v1/events", own).await.expect("published");
    assert_eq!(all(&scene, "since=all&count=4").await, Ok(vec![1, 2, 3, 4]));
    assert_eq!(all(&scene, "since=all&count=3&own=false").await, Ok(vec![1, 2, 3]));
    assert_eq!(all(&scene, "since=all&count=3&pattern=demo.*").await, Ok(vec![1, 2, 4]));
    assert_eq!(all(&scene, "since=all&count=2&pattern=demo.done&pattern=other.%2B").await, Ok(vec![2, 3]));
}

#[tokio::test]
async fn changes_of_peers_are_shown_to_whoever_names_them() {
    let scene = Scene::open().await;
    let own = |number| {
        let envelope = event(1, "mesh.peer.connected", number);
        scene.head.send_replace(scene.log.push(envelope, Some(key(1).id()), 0, NOW));
    };
    scene.arrive("demo.hello", 0);
    own(1);
    scene.arrive("mesh.peer.connected", 2); // by a peer; the core takes none, and it would not be believed here
    own(3);
    scene.arrive("demo.hello", 4);
    for (query, expected) in [
        ("count=2", vec![0, 4]),
        ("count=2&pattern=*", vec![0, 4]),
        ("count=2&pattern=%2B.hello&pattern=%2B.peer.connected", vec![0, 4]),
        ("count=2&pattern=mesh.peer.*", vec![1, 3]),
        ("count=2&pattern=mesh.*", vec![1, 3]),
        ("count=2&pattern=mesh.%2B.connected", vec![1, 3]),
        ("count=4&pattern=mesh.peer.connected&pattern=demo.*", vec![0, 1, 3, 4]),
        ("count=2&pattern=mesh.peer.*&own=false", vec![1, 3]),
    ] {
        assert_eq!(all(&scene, &format!("since=all&{query}")).await, Ok(expected), "{query}");
    }
}

#[tokio::test]
async fn a_question_that_cannot_be_read_is_answered_with_what_can() {
    let scene = Scene::open().await;
    for (query, why) in [
        ("since=yesterday", "`since`: a time such as"),
        ("pattern=a..b", "`pattern`: pattern: segments"),
        ("count=0", "`count`: a number from 1"),
        ("count=x", "`count`"),
        ("own=maybe", "`own`: true or false"),
        ("patern=a.b", "pattern, since, count, causation, own, seq, withheld, group and progress"),
    ] {
        let (status, _, body) = scene.raw("GET", &format!("/v1/events?{query}"), None, b"").await;
        assert!(status == 400 && body.contains(why) && body.contains("AF0201"), "{query}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_or_repeated_while_events_arrive() {
    const EVENTS: u64 = 3_000;
    let scene = Arc::new(Scene::open().await);
    let mut readers = Vec::new();
    for _ in 0..3 {
        let scene = Arc::clone(&scene);
        readers.push(tokio::spawn(async move {
            let mut client = scene.client().await;
            let mut lines = client.lines("/v1/events?since=all").await.expect("a stream");
            data(&read(&mut lines, EVENTS as usize).await)
        }));
    }
    let writer = Arc::clone(&scene);
    let writing = tokio::task::spawn_blocking(move || {
        for number in 0..EVENTS {
            writer.arrive("demo.hello", number);
        }
    });
    let expected: Vec<u64> = (0..EVENTS).collect();
    for reader in readers {
        assert_eq!(soon(reader).await.expect("no panic"), expected);
    }
    writing.await.expect("no panic");
}

#[tokio::test]
async fn a_reader_goes_on_exactly_where_it_stopped() {
    let scene = Scene::open().await;
    for number in 0..10 {
        scene.arrive("demo.hello", number);
    }
    let (mut position, mut seen) = (0, Vec::new());
    while seen.len() < 10 {
        let mut client = scene.client().await;
        let mut lines = client.lines(&format!("/v1/events?seq=true&since={position}&count=3")).await.expect("a stream");
        let count = 3.min(10 - seen.len());
        let some = read(&mut lines, count).await;
        position = some[count - 1]["seq"].as_u64().expect("a position");
        seen.extend(data(&some));
    }
    assert_eq!(seen, (0..10).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_stream_that_retention_overtook_breaks_off_instead_of_skipping() {
    let scene = Scene::open().await;
    scene.arrive("demo.hello", 0);
    let mut client = scene.client().await;
    let mut lines = client.lines("/v1/events?since=all").await.expect("a stream");
    assert_eq!(data(&read(&mut lines, 1).await), [0]);
    {
        let mut kept = scene.log.kept();
        kept.last = 100;
        kept.dropped = 90;
        kept.entries.clear();
    }
    scene.arrive("demo.hello", 1);
    let broken = soon(lines.next()).await.expect_err("a gap is an error");
    assert!(matches!(broken, ClientError::Broken(_)), "{broken:?}");
}

/// A stream of frames: the next pieces of its body.
async fn frames(scene: &Scene, query: &str, last: Option<&str>) -> (u16, hyper::body::Incoming) {
    frames_of(scene, &format!("/v1/events{query}"), last).await
}

async fn frames_of(scene: &Scene, uri: &str, last: Option<&str>) -> (u16, hyper::body::Incoming) {
    let stream = UnixStream::connect(&scene.path).await.expect("a connection");
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(async { drop(connection.await) });
    let request = hyper::Request::builder().uri(uri).header("host", "x");
    let mut request = request.header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let request = request.body(Full::new(Bytes::new())).expect("a request");
    // The sender is kept by the task, or the connection would end with it.
    let response = sender.send_request(request).await.expect("an answer");
    tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop(sender);
    });
    (response.status().as_u16(), response.into_body())
}

/// The text up to the end of so many frames and comments.
async fn text(body: &mut hyper::body::Incoming, blocks: usize) -> String {
    let mut text = String::new();
    while text.matches("\n\n").count() < blocks {
        let frame = soon(body.frame()).await.expect("more").expect("whole");
        text.push_str(std::str::from_utf8(frame.data_ref().expect("data")).expect("UTF-8"));
    }
    text
}

#[tokio::test]
async fn frames_go_on_after_the_last_id_and_end_with_the_daemon() {
    let scene = Scene::open().await;
    let (status, mut body) = frames(&scene, "?pattern=demo.*", None).await;
    assert_eq!((status, text(&mut body, 1).await.as_str()), (200, ":\n\n"), "the client learns that it is connected");
    for number in 0..3 {
        scene.arrive("demo.hello", number);
    }
    let read = text(&mut body, 3).await;
    let (first, rest) = read.split_once("\n\n").expect("a frame");
    let expected = format!("id: 0000000000000007-1\ndata: {{\"digest\":\"{}\",", event(2, "demo.hello", 0).digest());
    assert!(first.starts_with(&expected), "{first}");
    assert!(rest.contains("id: 0000000000000007-3\n") && rest.contains("id: 0000000000000007-5\n"), "{rest}");
    let (_, mut again) = frames(&scene, "?since=all", Some("0000000000000007-1")).await;
    let read = text(&mut again, 2).await;
    assert!(read.starts_with("id: 0000000000000007-3\n"), "exactly what follows: {read}");
    for (last, status) in [("0000000000000008-1", 409), ("0000000000000007-99", 409), ("17", 400)] {
        assert_eq!(frames(&scene, "", Some(last)).await.0, status, "{last}");
    }
    scene.log.drop_before(5);
    assert_eq!(frames(&scene, "", Some("0000000000000007-1")).await.0, 410);
    scene.stop.send(()).expect("served");
    while let Some(frame) = soon(body.frame()).await {
        frame.expect("a clean end");
    }
}

#[tokio::test]
async fn a_frame_without_an_event_says_how_far_the_stream_is() {
    let scene = Scene::open_with(true, Duration::from_millis(20)).await;
    let (_, mut body) = frames(&scene, "?pattern=rare.*", None).await;
    scene.arrive("demo.hello", 0);
    let mut read = String::new();
    while !read.contains("id: ") {
        read.push_str(&text(&mut body, 1).await);
    }
    assert!(read.ends_with(":\nid: 0000000000000007-1\n\n") && !read.contains("data:"), "{read}");
    scene.arrive("rare.hello", 1);
    let mut read = String::new();
    while !read.contains("data: ") {
        read.push_str(&text(&mut body, 1).await);
    }
    assert!(read.contains("id: 0000000000000007-3\ndata: "), "{read}");
}

#[tokio::test]
async fn silence_is_broken_by_comments() {
    let scene = Scene::open_with(true, Duration::from_millis(1)).await;
    let (_, mut body) = frames(&scene, "", None).await;
    assert!(text(&mut body, 3).await.starts_with(":\n\n:\n\n:\n\n"));
}

#[tokio::test]
async fn who_watches_is_told_what_changes_and_when_it_was_too_slow() {
    let scene = Scene::open().await;
    let (status, mut body) = frames_of(&scene, "/v1/watch", None).await;
    assert_eq!((status, text(&mut body, 1).await.as_str()), (200, ":\n\n"));
    let change = |what| Change { at: Some(NOW), what, peer: None, why: None, retry_in_ms: None };
    scene.changes.send(change(Changed::JournalFull)).expect("somebody watches");
    let expected =
        "data: {\"schema\":\"afferent.change/1\",\"at\":\"2026-11-21T06:41:02.123000Z\",\"what\":\"journal_full\"}\n\n";
    assert_eq!(text(&mut body, 1).await, expected);
    let mut client = scene.client().await;
    let mut lines = client.lines("/v1/watch").await.expect("a stream");
    for _ in 0..9 {
        scene.changes.send(change(Changed::JournalWell)).expect("somebody watches");
    }
    let first = soon(lines.next()).await.expect("whole").expect("a line");
    assert!(std::str::from_utf8(&first).expect("UTF-8").contains("\"what\":\"missed\""), "{first:?}");
    scene.stop.send(()).expect("served");
    while let Some(line) = soon(lines.next()).await.expect("a clean end") {
        assert!(std::str::from_utf8(&line).expect("UTF-8").contains("journal_well"), "{line:?}");
    }
}
