//! TeleClaude's stream at both ends: what a producer writes on one side, its unmodified reader finds on
//! the other; and nothing that would stick it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::publishing;
use crate::support::{Daemon, PATIENCE, Publisher, Redis, binary, eventually, project, stored_digests, text};

const BUS: &str = "teleclaude:events";
const LAYOUT: &str = "[bus]\nstream = \"teleclaude:events\"\nlayout = \"teleclaude\"\n";
const DECLARED: [&str; 15] = [
    "event",
    "version",
    "source",
    "timestamp",
    "idempotency_key",
    "level",
    "domain",
    "entity",
    "description",
    "visibility",
    "payload",
    "actions",
    "terminal_when",
    "resolution_shape",
    "_extra",
];

type Fields = BTreeMap<String, String>;

/// A daemon on TeleClaude's stream.
fn on_teleclaude(name: &'static str, patterns: &[&str], redis: &Redis) -> Daemon {
    let mut daemon = Daemon::new(name, patterns, &redis.url(), "");
    // `[bus]` stands there already, with the URL.
    let config = std::fs::read_to_string(daemon.config()).expect("readable").replace("[bus]\n", LAYOUT);
    std::fs::write(daemon.config(), config).expect("writable");
    daemon.is_chatty = true;
    daemon.start();
    daemon
}

/// Two of them, of which `b` wants everything; `a` reads its stream from here on.
fn pair(here: &Redis, there: &Redis) -> (Daemon, Daemon) {
    let a = on_teleclaude("a", &[], here);
    let b = on_teleclaude("b", &["*"], there);
    a.befriend(&b);
    (a, b)
}

fn python(args: &[&str], input: &[u8]) -> std::process::Output {
    let mut child = Command::new("/usr/bin/python3")
        .arg(project("tests/teleclaude_reader.py"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is missing: run tests/run");
    let mut pipe = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || pipe.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    feeder.join().expect("no panic").expect("it reads all");
    output
}

/// Entries as a producer writes them.
fn written(count: usize, seed: u64) -> Vec<Fields> {
    let output = python(&["write", &count.to_string(), &seed.to_string()], b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("an object of texts")).collect()
}

fn declared(entry: &Fields) -> Fields {
    let is_declared = |name: &str| DECLARED.contains(&name);
    entry.iter().filter(|(name, _)| is_declared(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[test]
fn what_a_producer_writes_its_unmodified_reader_finds_on_the_other_side() {
    let count = std::env::var("EVENTS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000);
    let (here, there) = (Redis::start(), Redis::start());
    let (a, _b) = pair(&here, &there);
    let entries = written(count, 7);
    here.append(BUS, &entries);
    let found = eventually("all of them cross", PATIENCE * 4, || {
        Some(there.entries(BUS)).filter(|found| found.len() == entries.len())
    });
    assert_eq!(here.entries("teleclaude:events:dead"), []);
    // In their order, field for field.
    for ((_, there), here) in found.iter().zip(&entries) {
        assert_eq!(&declared(there), here);
        assert_eq!(there["mesh_from"], a.id());
    }
    let lines: String = found.iter().map(|(_, entry)| serde_json::to_string(entry).expect("JSON") + "\n").collect();
    let read = python(&["read"], lines.as_bytes());
    assert!(read.status.success(), "its reader raised: {}", text(&read.stderr));
    let read: Vec<Fields> =
        text(&read.stdout).lines().map(|line| serde_json::from_str(line).expect("an object of texts")).collect();
    assert!(read == entries, "the reader understood something else than was written");
    // Nothing came back over the mesh.
    assert_eq!(here.entries(BUS).len(), entries.len());
}

/// `publishing` shows it for the outbox too, which knows text alone and cannot repeat the number `level`.
#[test]
fn an_entry_of_the_bus_has_one_digest_too_whichever_way_it_comes_again() {
    let (here, there) = (Redis::start(), Redis::start());
    let (a, b) = pair(&here, &there);
    here.append(BUS, &written(1, 7));
    let (_, found) = eventually("it crosses", PATIENCE, || there.entries(BUS).pop());
    let digest = found["mesh_digest"].clone();
    assert_eq!((a.digests(1), b.digests(1)), (vec![digest.clone()], vec![digest.clone()]), "sub, on both sides");
    let raw = text(&a.afferent(&["sub", "--since", "all", "--count", "1", "--raw"]).stdout);
    assert_eq!(afferent::wire::Digest::of(raw.trim_end().as_bytes()).to_string(), digest);

    let source = format!(r#""source":"mesh:{}","#, a.id());
    let again = raw.trim_end().replace(r#""specversion":"1.0","#, "").replace(&source, "");
    let (status, http) = publishing::answer(publishing::ask(&a, "POST /v1/events", &[], &again)).expect("an answer");
    assert_eq!((status, http["digest"].as_str()), (200, Some(&*digest)), "{http}");
    let mut publisher = Publisher::start(&a);
    assert!(publisher.write(&again));
    assert_eq!(stored_digests(&publisher.finish()), std::slice::from_ref(&digest));

    let log = a.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let told = |message: &str| {
        lines.iter().filter(|line| line["message"] == message).filter(|line| line["digest"] == *digest).count()
    };
    assert_eq!((told("published"), told("published before")), (1, 2), "{log}");
    assert_eq!((a.journal_events(), there.entries(BUS).len()), (1, 1));
}

#[test]
fn poison_is_a_dead_letter_with_its_reason_and_the_stream_never_sees_it() {
    let (here, there) = (Redis::start(), Redis::start());
    // The sender has no such layout: whatever can be signed leaves it.
    let a = Daemon::running("a", &[], &here.url(), "");
    let b = on_teleclaude("b", &["*"], &there);
    a.befriend(&b);
    let schema = "https://schemas.instrukt.ai/teleclaude/event/";
    let poison: &[(&str, &str, &str, &str)] = &[
        ("level", "", "1", "{}"),
        ("level", "7", "1", "{}"),
        ("level", "3.0", "1", "{}"),
        ("visibility", "3", "1", "{}"),
        ("version", "3", "x", "{}"),
        ("timestamp", "3", "1", "{}"),
        ("payload", "3", "1", r#"{"payload":[]}"#),
        ("actions", "3", "1", r#"{"actions":null}"#),
        ("actions", "3", "1", r#"{"actions":{"a":{"description":"x"}}}"#),
        ("resolution_shape", "3", "1", r#"{"resolution_shape":{"a":1}}"#),
        ("_extra", "3", "1", r#"{"extra":{"event":"forged"}}"#),
        ("_extra", "3", "1", r#"{"extra":null}"#),
        ("terminal_when", "3", "1", r#"{"terminal_when":7}"#),
        ("description", "3", "1", r#"{"description":7}"#),
    ];
    let expiry = format!("expirytime={}", in_an_hour());
    for (field, level, version, data) in poison {
        let dataschema = format!("dataschema={schema}{version}");
        let mut args = vec!["publish", "a.b", "--data", data, "--attr", &dataschema];
        let level = format!("level={level}");
        if level != "level=" {
            args.extend(["--attr", &level]);
        }
        if *field == "visibility" {
            args.extend(["--attr", "visibility=everybody"]);
        }
        if *field == "timestamp" {
            args.extend(["--attr", "time=0000-11-21T12:00:00Z", "--attr", &expiry]);
        }
        let output = a.afferent(&args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    }
    let good = a.afferent(&["publish", "a.b", "--data", "{}", "--attr", "level=3"]);
    assert!(good.status.success(), "{}", text(&good.stderr));
    eventually("the good one crosses", PATIENCE, || (there.entries(BUS).len() == 1).then_some(()));

    let listed = b.json(&["dead"]);
    let letters = listed["letters"].as_array().expect("a list");
    let fields: Vec<&str> = letters.iter().rev().map(|letter| letter["field"].as_str().expect("a field")).collect();
    let expected: Vec<&str> = poison.iter().map(|(field, ..)| *field).collect();
    assert_eq!(fields, expected);
    assert!(letters.iter().all(|letter| !letter["reason"].as_str().expect("a reason").is_empty()));
    assert!(letters.iter().all(|letter| letter["kind"] == "layout" && letter["peer"] == a.id().as_str()));

    let id = letters[0]["id"].as_str().expect("an id");
    let shown = b.json(&["dead", "show", id]);
    assert!(shown["envelope"].as_str().expect("a line").contains("\"description\":7"), "{shown}");
    let refused = b.afferent(&["dead", "retry", id]);
    assert_eq!(refused.status.code(), Some(5), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("description: must be a string (AF0605)"), "{}", text(&refused.stderr));
    b.json(&["dead", "drop", id]);
    assert_eq!(b.json(&["dead", "list"])["letters"].as_array().expect("a list").len(), poison.len() - 1);
    assert_eq!(there.entries(BUS).len(), 1);
}

#[test]
fn a_lost_cursor_is_asked_about_and_a_lost_redis_is_not() {
    let redis = Redis::start();
    let a = Daemon::running("a", &[], "", "");
    let b = Daemon::running("b", &["t.*"], &redis.url(), "");
    a.befriend(&b);
    let mut expected: Vec<String> = (0..5).map(|number| a.publish("t.x", &number.to_string())).collect();
    eventually("they are bridged", PATIENCE, || (redis.digests() == expected).then_some(()));
    let nothing = b.afferent(&["bus", "resume"]);
    assert_eq!(nothing.status.code(), Some(1), "{}", text(&nothing.stderr));
    assert!(text(&nothing.stderr).contains("AF0606"), "{}", text(&nothing.stderr));

    redis.command(&["FLUSHALL"]);
    eventually("the journal replays", PATIENCE, || (redis.digests() == expected).then_some(()));

    redis.command(&["DEL", &format!("{{mesh:events}}:mesh-cursor:{}", b.id())]);
    eventually("it stops and says what to type", PATIENCE, || {
        let status: Value = serde_json::from_slice(&b.afferent(&["status", "--json"]).stdout).ok()?;
        status["warnings"].to_string().contains("afferent bus resume").then_some(())
    });
    expected.push(a.publish("t.x", "5"));
    eventually("b took it", PATIENCE, || (b.journal_events() == 6).then_some(()));
    assert_eq!(redis.digests().len(), 5, "nothing is appended meanwhile");
    let mended = b.json(&["bus", "resume"]);
    assert_eq!(mended["streams"][0]["stream"], "mesh:events");
    eventually("it goes on", PATIENCE, || (redis.digests() == expected).then_some(()));
}

#[test]
fn a_renamed_stream_gets_what_the_old_one_did_not() {
    let redis = Redis::start();
    let a = Daemon::running("a", &[], "", "");
    let mut b = Daemon::running("b", &["t.*"], &redis.url(), "");
    a.befriend(&b);
    let first = a.publish("t.x", "0");
    eventually("it is bridged", PATIENCE, || (redis.digests() == [first.clone()]).then_some(()));
    assert_eq!(b.stop(), Some(0));
    let config = std::fs::read_to_string(b.config()).expect("readable").replace("[bus]\n", "[bus]\nstream = \"new\"\n");
    std::fs::write(b.config(), config + "[[bus.route]]\nmatch = \"t.routed.*\"\nstream = \"routed\"\n")
        .expect("writable");
    b.start();
    let (second, third) = (a.publish("t.x", "1"), a.publish("t.routed.x", "2"));
    let digests = |stream: &str| -> Vec<String> {
        redis.entries(stream).into_iter().map(|(_, fields)| fields["mesh_digest"].clone()).collect()
    };
    eventually("both streams get theirs", PATIENCE, || {
        (digests("new") == [second.clone()] && digests("routed") == [third.clone()]).then_some(())
    });
    assert_eq!(redis.digests(), [first]);
}

#[test]
fn a_route_that_is_removed_gets_what_it_lacks_and_the_bus_what_comes_later() {
    let redis = Redis::start();
    redis.command(&["SET", "routed", "of another program"]);
    let a = Daemon::running("a", &[], "", "");
    let mut b = Daemon::new("b", &["t.*"], &redis.url(), "");
    let plain = std::fs::read_to_string(b.config()).expect("readable");
    let route = "[[bus.route]]\nmatch = \"t.routed.*\"\nstream = \"routed\"\n";
    std::fs::write(b.config(), plain.clone() + route).expect("writable");
    b.start();
    a.befriend(&b);
    let (first, second) = (a.publish("t.routed.x", "0"), a.publish("t.x", "1"));
    eventually("the other stream goes on", PATIENCE, || (redis.digests() == [second.clone()]).then_some(()));
    assert_eq!(b.stop(), Some(0));
    std::fs::write(b.config(), plain).expect("writable");
    redis.command(&["DEL", "routed"]);
    b.start();
    let third = a.publish("t.routed.x", "2");
    eventually("both get theirs", PATIENCE, || {
        let routed = redis.entries("routed");
        let is_first = routed.len() == 1 && routed[0].1["mesh_digest"] == first;
        (is_first && redis.digests() == [second.clone(), third.clone()]).then_some(())
    });
}

fn in_an_hour() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let later = afferent::time::Wall::default() + now + std::time::Duration::from_secs(3_600);
    afferent::wire::timestamp::format(later)
}

#[test]
fn without_redis_there_are_no_dead_letters_and_nothing_to_mend() {
    let a = Daemon::running("a", &[], "", "");
    assert_eq!(a.json(&["dead"])["letters"], serde_json::json!([]));
    let output = binary().args(["bus", "resume", "--config"]).arg(a.config()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("AF0601"), "{}", text(&output.stderr));
}

#[test]
fn a_layout_of_ones_own_and_shards_are_written_as_configured() {
    let redis = Redis::start();
    let a = Daemon::running("a", &[], "", "");
    let mut b = Daemon::new("b", &["t.*"], &redis.url(), "");
    let own = "[bus]\nstream = \"s:{n}\"\nshards = 2\nlayout = \"mine\"\n";
    let config = std::fs::read_to_string(b.config()).expect("readable").replace("[bus]\n", own);
    let layout = "[bus.layouts.mine]\nkind = \"type\"\nuser = \"data.user.name\"\n_class = \"=Order\"\n";
    std::fs::write(b.config(), config + layout).expect("writable");
    b.start();
    a.befriend(&b);
    let digest = a.publish("t.x", r#"{"user":{"name":"Ann"}}"#);
    let found = eventually("one of the shards has it", PATIENCE, || {
        let entries = [redis.entries("s:0"), redis.entries("s:1")].concat();
        entries.into_iter().next()
    });
    let expected = [("kind", "t.x"), ("user", "Ann"), ("_class", "Order"), ("mesh_digest", &*digest)];
    assert_eq!(found.1, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}
