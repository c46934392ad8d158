//! What is published on one node, whichever way: one digest everywhere, one event for one key.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use afferent::time::Wall;
use afferent::wire::timestamp;
use serde_json::Value;

use crate::support::{Daemon, PATIENCE, Redis, eventually, text};

/// A request as `curl --unix-socket` sends it, written and not answered yet.
pub(crate) fn ask(daemon: &Daemon, route: &str, headers: &[(&str, &str)], body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.socket()).expect("the daemon listens");
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let request =
        format!("{route} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).expect("written");
    stream
}

/// The status and the JSON of its answer; `None` when it broke off.
pub(crate) fn answer(mut stream: UnixStream) -> Option<(u16, Value)> {
    let mut whole = String::new();
    stream.read_to_string(&mut whole).ok()?;
    let (head, body) = whole.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().expect("a status");
    Some((status, serde_json::from_str(body.trim()).expect("JSON")))
}

fn post(daemon: &Daemon, key: &str, body: &str) -> UnixStream {
    ask(daemon, "POST /v1/events", &[("idempotency-key", key)], body)
}

#[test]
fn a_key_survives_kill_9_between_the_append_and_the_answer() {
    let mut a = Daemon::running("a", &[], "", "");
    let body = r#"{"type":"order.placed","data":{"n":1}}"#;
    let (status, first) = answer(post(&a, "k", body)).expect("an answer");
    assert_eq!((status, &first["stored"]), (202, &Value::Bool(true)), "{first}");
    let (mut in_between, mut rng) = (0, fastrand::Rng::with_seed(20_261_121));
    let mut round = 0;
    while in_between < 3 {
        round += 1;
        assert!(round <= 150, "no kill came between the two in {round} rounds");
        let key = format!("k-{round}");
        let events = a.journal_events();
        let asked = post(&a, &key, body);
        // From here on the kill comes at any step of it.
        std::thread::park_timeout(Duration::from_micros(rng.u64(0..6_000)));
        a.kill();
        let answered = answer(asked);
        a.start();
        let was_stored = a.journal_events() == events + 1;
        assert!(was_stored || answered.is_none(), "an answer without an event");
        let (status, again) = answer(post(&a, &key, body)).expect("an answer");
        assert_eq!((status, a.journal_events()), (if was_stored { 200 } else { 202 }, events + 1), "{again}");
        if let Some((_, answered)) = &answered {
            assert_eq!(answered["digest"], again["digest"], "the same answer");
        }
        in_between += u32::from(was_stored && answered.is_none());
        let (status, other) = answer(post(&a, &key, r#"{"type":"order.placed","data":{"n":2}}"#)).expect("an answer");
        assert_eq!((status, &other["code"]), (409, &Value::from("conflict")), "{other}");
    }
    let (status, again) = answer(post(&a, "k", body)).expect("an answer");
    assert_eq!((status, &again["digest"]), (200, &first["digest"]), "the first key outlived {round} kills");
}

#[test]
fn the_same_event_has_one_digest_whichever_way_it_comes_and_wherever_it_is_seen() {
    let (redis, there) = (Redis::start(), Redis::start());
    let mut a = Daemon::new("a", &["order.*"], &redis.url(), "");
    a.is_chatty = true;
    a.start();
    let b = Daemon::running("b", &["order.*"], &there.url(), "");
    a.befriend(&b);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let time = timestamp::format(Wall::default() + now);
    let (data, subject) = (r#"{"n": 1}"#, "web");
    // By the outbox stream first: the others are told that it was stored before.
    redis.command(&[
        "XADD",
        "mesh:outbox",
        "*",
        "type",
        "order.placed",
        "id",
        "o-1",
        "time",
        &time,
        "data",
        data,
        "subject",
        subject,
    ]);
    let digest = eventually("it crosses", PATIENCE, || there.digests().pop());
    assert_eq!(b.digests(1), std::slice::from_ref(&digest), "the field on the bus and `sub`, on the other side");

    let body = format!(r#"{{"type":"order.placed","id":"o-1","time":"{time}","subject":"{subject}","data":{data}}}"#);
    let (status, http) = answer(ask(&a, "POST /v1/events", &[], &body)).expect("an answer");
    assert_eq!((status, http["digest"].as_str(), &http["duplicate"]), (200, Some(&*digest), &Value::Bool(true)));

    let subject_attr = format!("subject={subject}");
    let time_attr = format!("time={time}");
    let typed =
        ["publish", "order.placed", "--id", "o-1", "--attr", &time_attr, "--attr", &subject_attr, "--data", data];
    let cli = a.json(&typed);
    assert_eq!((cli["digest"].as_str(), &cli["duplicate"]), (Some(&*digest), &Value::Bool(true)));

    assert_eq!(a.digests(1), std::slice::from_ref(&digest), "sub");
    let output = a.afferent(&["sub", "--since", "all", "--count", "1", "--raw"]);
    let raw = text(&output.stdout);
    assert_eq!(afferent::wire::Digest::of(raw.trim_end().as_bytes()).to_string(), digest, "of the bytes themselves");
    let log = a.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let told = |message: &str| {
        lines.iter().filter(|line| line["message"] == message).filter(|line| line["digest"] == *digest).count()
    };
    assert_eq!((told("published"), told("published before")), (1, 2), "{log}");
    assert_eq!(a.journal_events(), 1);
}

#[test]
fn a_publisher_learns_which_peers_have_stored_it() {
    let a = Daemon::running("a", &[], "", "");
    let b = Daemon::running("b", &["order.*"], "", "");
    let c = Daemon::running("c", &["other.*"], "", "");
    a.befriend(&b);
    a.befriend(&c);
    let stored = a.json(&["publish", "order.placed", "--wait", "1", "--timeout", "30s"]);
    assert_eq!(stored["stored_by"], Value::from(vec![b.id()]), "{stored}");
    assert_eq!(b.digests(1)[0], stored["digest"].as_str().expect("a digest"));
    let output = a.afferent(&["publish", "order.placed", "--wait", "2", "--timeout", "300ms"]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("1 peer stored it within 300ms"), "{}", text(&output.stderr));
}

#[test]
fn a_new_group_begins_when_it_is_first_asked_for() {
    let a = Daemon::running("a", &[], "", "");
    a.publish("order.placed", "1");
    let mut reader = a.command(&["sub", "--group", "late"]).stdout(Stdio::null()).spawn().expect("it runs");
    eventually("the group begins", PATIENCE, || {
        let (_, group) = answer(ask(&a, "GET /v1/groups/late", &[], ""))?;
        (!group["seq"].is_null()).then_some(())
    });
    reader.kill().expect("it runs");
    reader.wait().expect("it ends");
    let missed = a.publish("order.placed", "2");
    assert_eq!(a.json(&["sub", "--group", "late", "--count", "1"])["digest"], missed.as_str());
}

#[test]
fn frames_and_groups_outlive_the_daemon() {
    let mut a = Daemon::running("a", &[], "", "");
    let first = a.publish("order.placed", "1");
    let second = a.publish("order.placed", "2");
    let read = |a: &Daemon| a.json(&["sub", "--group", "app", "--since", "all", "--count", "1"]);
    assert_eq!(read(&a)["digest"], first.as_str());

    let frames = ("accept", "text/event-stream");
    let mut stream = ask(&a, "GET /v1/events?since=all", &[frames], "");
    let mut read_until = |mark: &str| {
        let (mut whole, mut piece) = (String::new(), [0; 4_096]);
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        while !whole.contains(mark) {
            let count = stream.read(&mut piece).expect("before the deadline");
            assert!(count > 0, "it ended: {whole}");
            whole.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
        whole
    };
    let whole = read_until(&second);
    assert!(whole.contains(&first), "{whole}");
    let id = whole.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    assert_eq!(a.stop(), Some(0), "a stream that is open does not keep the daemon");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("a clean end");

    a.start();
    assert_eq!(read(&a)["digest"], second.as_str());
    let mut again = String::new();
    let mut stream = ask(&a, "GET /v1/events?count=1", &[frames, ("last-event-id", &id)], "");
    stream.read_to_string(&mut again).expect("read");
    assert!(again.contains(&second) && !again.contains(&first), "{again}");
}

#[test]
fn who_watches_sees_a_peer_come_and_go() {
    let a = Daemon::running("a", &[], "", "");
    let mut b = Daemon::running("b", &["order.*"], "", "");
    let id = b.id();
    let mut stream = ask(&a, "GET /v1/watch", &[("accept", "text/event-stream")], "");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut whole = String::new();
    let mut read_until = |mark: &str| {
        let mut piece = [0; 4_096];
        while !whole.contains(mark) {
            let count = stream.read(&mut piece).expect("before the deadline");
            assert!(count > 0, "it ended: {whole}");
            whole.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    };
    read_until(":\n\n");
    a.befriend(&b);
    read_until(&format!("\"what\":\"peer_connected\",\"peer\":\"{id}\""));
    b.kill();
    // The lane breaks when it is used next.
    a.publish("order.placed", "1");
    read_until(&format!("\"what\":\"peer_backoff\",\"peer\":\"{id}\""));
}
