//! Keys and CloudEvents through the socket.

use super::*;

fn answers(body: &str) -> Vec<Published> {
    body.lines().map(|line| serde_json::from_str(line).expect("an answer")).collect()
}

fn headers<'h>(kind: &'h str, key: &'h str) -> [(&'h str, &'h str); 2] {
    [("content-type", kind), ("idempotency-key", key)]
}

#[tokio::test]
async fn a_key_makes_one_event_of_the_same_body_and_refuses_another() {
    let scene = Scene::open().await;
    let with = headers("application/json", "k-1");
    let body = br#"{"type":"demo.hello"}"#;
    let (status, _, first) = scene.raw_with("POST", "/v1/events", &with, body).await;
    assert_eq!(status, 202, "{first}");
    let (status, _, again) = scene.raw_with("POST", "/v1/events", &with, body).await;
    assert_eq!((status, again), (200, first.replace("true}", "true,\"duplicate\":true}")));
    let (status, _, other) = scene.raw_with("POST", "/v1/events", &with, br#"{"type":"demo.bye"}"#).await;
    assert!(status == 409 && other.contains("AF0406") && other.contains("idempotency key"), "{other}");
    let with = headers("application/json", "k-2");
    assert_eq!(scene.raw_with("POST", "/v1/events", &with, body).await.0, 202, "another key, another event");
    assert_eq!(scene.log.kept().entries.len(), 2);
    let (status, ..) = scene.raw_with("POST", "/v1/events", &headers("application/json", ""), body).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn two_at_once_under_one_key_are_one_event() {
    let scene = Scene::open().await;
    let with = headers("application/json", "k-1");
    let ask = || scene.raw_with("POST", "/v1/events", &with, br#"{"type":"demo.hello"}"#);
    let (one, two, three) = soon(async { tokio::join!(ask(), ask(), ask()) }).await;
    let digests: BTreeSet<_> = [one.2, two.2, three.2].iter().map(|body| answers(body)[0].digest).collect();
    assert_eq!((digests.len(), scene.log.kept().entries.len()), (1, 1));
}

#[tokio::test]
async fn each_line_of_a_body_has_a_key_of_its_own() {
    let scene = Scene::open().await;
    let with = headers("application/x-ndjson", "k");
    let lines = "{\"type\":\"demo.a\"}\n{\"type\":\"demo.b\"}\n{\"type\":\"demo.b\"}\n";
    let (_, _, first) = scene.raw_with("POST", "/v1/events", &with, lines.as_bytes()).await;
    // One more line than the first time, and another second one.
    let lines = "{\"type\":\"demo.a\"}\n{\"type\":\"demo.x\"}\n{\"type\":\"demo.b\"}\n{\"type\":\"demo.c\"}\n";
    let (_, _, second) = scene.raw_with("POST", "/v1/events", &with, lines.as_bytes()).await;
    let (first, second) = (answers(&first), answers(&second));
    assert!(first.iter().all(|answer| answer.stored && !answer.duplicate));
    assert_eq!((second[0].digest, second[2].digest), (first[0].digest, first[2].digest));
    assert!(second[0].duplicate && second[2].duplicate && !second[3].duplicate);
    assert_eq!((second[1].stored, second[1].code), (false, Some(crate::wire::Code::Conflict)));
    assert_eq!(scene.log.kept().entries.len(), 4);
}

const CLOUDEVENT: &str = r#"{"specversion":"1.0","id":"A234-1234","source":"https://github.com/cloudevents",
    "type":"com.github.pull","subject":"123","comexampleextension1":"value","comexampleothervalue":5,
    "dataschema":null,"datacontenttype":"application/json","data":{"x":[1]}}"#;

#[tokio::test]
async fn a_cloudevent_of_somebody_elses_library_becomes_an_event_of_this_node_once() {
    let scene = Scene::open().await;
    let kind = Some("application/cloudevents+json; charset=UTF-8");
    let (status, _, body) = scene.raw("POST", "/v1/events", kind, CLOUDEVENT.as_bytes()).await;
    assert_eq!(status, 202, "{body}");
    let stored = scene.log.kept().entries[0].entry.envelope.clone();
    let event = stored.event();
    assert_eq!((event.source, event.kind.as_str(), event.time), (key(1).id(), "com.github.pull", NOW));
    for (name, value) in [
        ("originsource", "https://github.com/cloudevents"),
        ("originid", "A234-1234"),
        ("comexampleothervalue", "5"),
        ("subject", "123"),
    ] {
        assert_eq!(event.attribute(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!((event.attribute("dataschema"), event.data()), (None, Some(r#"{"x":[1]}"#)));
    let (status, _, again) = scene.raw("POST", "/v1/events", kind, CLOUDEVENT.as_bytes()).await;
    assert_eq!((status, answers(&again)[0].digest), (200, answers(&body)[0].digest), "(source, id) is the event");
    let other = CLOUDEVENT.replace("[1]", "[2]");
    assert_eq!(scene.raw("POST", "/v1/events", kind, other.as_bytes()).await.0, 409);
    for key in ["k-1", "k-2"] {
        let with = headers("application/cloudevents+json", key);
        let (status, _, again) = scene.raw_with("POST", "/v1/events", &with, CLOUDEVENT.as_bytes()).await;
        assert_eq!((status, answers(&again)[0].digest), (200, answers(&body)[0].digest), "whatever key the hop uses");
    }
    let binary = r#"{"specversion":"1.0","id":"1","source":"/x","type":"a.b","data_base64":"AAEC"}"#;
    assert_eq!(scene.raw("POST", "/v1/events", kind, binary.as_bytes()).await.0, 202);
}

#[tokio::test]
async fn a_cloudevent_is_the_same_whatever_key_comes_along_and_as_long_as_it_is_remembered() {
    let scene = Scene::open().await;
    let with = |key| [("content-type", "application/cloudevents+json"), ("idempotency-key", key)];
    let day = Duration::from_secs(86_400);
    // An event that lives for seven days from now.
    let long = CLOUDEVENT.replace("\"subject\"", "\"expirytime\":\"2026-11-28T06:00:00Z\",\"subject\"");
    let (status, _, first) = scene.raw_with("POST", "/v1/events", &with("k-1"), long.as_bytes()).await;
    assert_eq!(status, 202, "{first}");
    for (later, key) in
        [(Duration::from_secs(5), "k-1"), (Duration::from_secs(5), "k-2"), (3 * day, "k-3"), (3 * day, "k-1")]
    {
        scene.pass(later);
        let (status, _, again) = scene.raw_with("POST", "/v1/events", &with(key), long.as_bytes()).await;
        assert_eq!((status, answers(&again)[0].digest), (200, answers(&first)[0].digest), "{key}: {again}");
    }
    let (status, _, other) = scene.raw_with("POST", "/v1/events", &with("k-4"), CLOUDEVENT.as_bytes()).await;
    assert!(status == 409 && other.contains("with this source and id"), "{other}");
    let own = headers("application/json", "k-5");
    assert_eq!(scene.raw_with("POST", "/v1/events", &own, br#"{"type":"demo.hello"}"#).await.0, 202);
    let (status, ..) = scene.raw_with("POST", "/v1/events", &with("k-5"), CLOUDEVENT.as_bytes()).await;
    assert_eq!(status, 409, "the key means another event");
}

#[tokio::test]
async fn the_same_value_under_a_key_is_the_same_body_however_it_is_written() {
    let scene = Scene::open().await;
    let with = headers("application/json", "k-1");
    let (_, _, first) =
        scene.raw_with("POST", "/v1/events", &with, br#"{"type":"demo.hello","data":{"a":1,"b":2}}"#).await;
    let again = b"{ \"data\": {\"b\": 2, \"a\": 1},\n \"type\": \"demo.hello\" }";
    let (status, _, again) = scene.raw_with("POST", "/v1/events", &with, again).await;
    assert_eq!((status, answers(&again)[0].digest), (200, answers(&first)[0].digest), "{again}");
}

#[tokio::test]
async fn an_event_of_long_ago_lives_from_now_on_or_is_told_why_not() {
    let scene = Scene::open().await;
    let kind = Some("application/cloudevents+json");
    let old = CLOUDEVENT.replace("\"subject\"", "\"time\":\"2020-01-01T00:00:00Z\",\"subject\"");
    let (status, _, body) = scene.raw("POST", "/v1/events", kind, old.as_bytes()).await;
    assert_eq!(status, 202, "{body}");
    let event = scene.log.kept().entries[0].entry.envelope.clone();
    assert_eq!(event.event().attribute("time").as_deref(), Some("2020-01-01T00:00:00Z"));
    assert_eq!(event.event().expires, NOW + Duration::from_secs(86_400));
    scene.pass(Duration::from_secs(5));
    assert_eq!(scene.raw("POST", "/v1/events", kind, old.as_bytes()).await.0, 200, "the same one");
    let own = br#"{"type":"a.b","time":"2020-01-01T00:00:00Z"}"#;
    let (status, _, body) = scene.raw("POST", "/v1/events", None, own).await;
    assert!(status == 410 && body.contains("name an `expirytime`") && body.contains("AF0404"), "{body}");
}

#[tokio::test]
async fn a_batch_of_cloudevents_is_answered_one_by_one() {
    let scene = Scene::open().await;
    let kind = Some("application/cloudevents-batch+json");
    let batch = format!("[{CLOUDEVENT},\n {{\"type\":\"a.b\"}}, {CLOUDEVENT}]");
    let (status, _, body) = scene.raw("POST", "/v1/events", kind, batch.as_bytes()).await;
    let answers = answers(&body);
    assert_eq!((status, answers.len()), (200, 3), "{body}");
    assert!(answers[0].stored && answers[2].stored && answers[0].digest == answers[2].digest);
    assert_eq!(answers[1].code, Some(crate::wire::Code::Malformed));
    assert_eq!((answers[1].line, answers[1].number.as_deref()), (Some(2), Some("AF0401")), "which element");
    for (batch, status) in [("[]", 200), ("{}", 400), ("[", 400), ("\"x\"", 400)] {
        assert_eq!(scene.raw("POST", "/v1/events", kind, batch.as_bytes()).await.0, status, "{batch}");
    }
}

#[tokio::test]
async fn an_answer_names_the_peers_it_waited_for() {
    let scene = Scene::open().await;
    let taken = br#"{"type":"demo.taken"}"#;
    let (status, _, body) = scene.raw("POST", "/v1/events?wait=2&timeout=1m", None, taken).await;
    assert_eq!((status, answers(&body)[0].stored_by.clone()), (202, Some(vec![key(2).id(), key(3).id()])), "{body}");
    let (status, _, body) = scene.raw("POST", "/v1/events?wait=3&timeout=10ms", None, taken).await;
    assert_eq!((status, answers(&body)[0].stored_by.as_deref().map(<[_]>::len)), (202, Some(2)), "time is over");
    let (status, _, body) = scene.raw("POST", "/v1/events?waiting=1", None, taken).await;
    assert!(status == 400 && body.contains("wait and timeout"), "{body}");
}
