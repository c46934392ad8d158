//! What a real daemon says is what the schemas say, and nothing beside it.

use serde_json::Value;

use crate::publishing::{answer, ask};
use crate::support::{Daemon, PATIENCE, Redis, eventually, text};
use crate::validator::{Case, judge};

/// Nobody whom the daemons know.
const STRANGER: &str = "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenawvib";

/// What a command prints, line by line.
fn printed(daemon: &Daemon, thing: &str, args: &[&str]) -> Vec<Case> {
    let output = daemon.afferent(&[args, &["--json"]].concat());
    let lines = text(&output.stdout);
    assert!(!lines.is_empty(), "{args:?}: {}", text(&output.stderr));
    lines.lines().map(|line| Case::good(thing, line)).collect()
}

#[test]
fn real_outputs_are_what_the_schemas_say() {
    let redis = Redis::start();
    let a = Daemon::running("a", &["order.*"], &redis.url(), "");
    let b = Daemon::running("b", &["order.*"], "", "");
    a.befriend(&b);
    let output = a.afferent(&["peers", "add", &b.address(), "--alias", "birch"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    a.publish("order.placed", r#"{"n":1}"#);
    eventually("b took it", PATIENCE, || (b.journal_events() == 1).then_some(()));
    b.publish("order.placed", "\"back\"");
    eventually("it came back", PATIENCE, || (a.journal_events() == 2).then_some(()));

    let mut cases = Vec::new();
    for (thing, args) in [
        ("status", &["status"][..]),
        ("id", &["id"]),
        ("peers", &["peers"]),
        ("interests", &["interests"]),
        ("publish", &["publish", "order.placed", "--wait", "1"]),
        ("publish", &["publish", "order.placed", "--data", "1", "--id", "7"]),
        ("publish", &["publish", "order"]),
        ("publish", &["publish", "order.placed", "--id", "7"]),
        ("explain", &["explain", "AF0301"]),
        ("codes", &["explain"]),
        ("config", &["config", "show"]),
        ("config", &["config", "show", "--set", "bus.own=true"]),
        ("config-check", &["config", "check"]),
        ("config-check", &["run", "--check"]),
        ("config-check", &["config", "check", "--set", "bus.maxlen=7"]),
        ("limits", &["run", "--print-limits"]),
        ("trust", &["mute"]),
        ("trust", &["mute", STRANGER]),
        ("trust", &["unmute", STRANGER]),
        ("status", &["wait", "--ready", "--peers", "1"]),
        ("match", &["match", "order.placed"]),
        ("ping", &["ping", "birch"]),
        ("discovery", &["discover"]),
        ("discovery", &["discover", "--tier", "seeds", "--dry-run"]),
        ("peer", &["peers", "show", "birch"]),
        ("peer", &["peers", "alias", "birch", "cedar"]),
        ("peer", &["peers", "alias", "cedar", "birch"]),
        ("peer", &["peers", "accept", "birch"]),
        ("peer", &["peers", "block", STRANGER, "--reason", "it floods"]),
        ("peers", &["peers", "list", "--all"]),
        ("peer", &["peers", "show", STRANGER]),
        ("peer", &["peers", "unblock", STRANGER]),
        ("keys", &["keys", "show"]),
        ("arrival", &["sub", "--since", "all", "--count", "3", "--seq"]),
        ("arrival", &["sub", "--since", "all", "--count", "3"]),
        ("arrival", &["sub", "--since", "all", "--count", "3", "--withheld"]),
    ] {
        cases.extend(printed(&a, thing, args));
    }
    let asked = printed(&a, "asked", &["ask", "order.asked", "--deadline", "1s"]);
    assert_eq!(asked.len(), 1, "nobody answers");
    cases.extend(asked);
    cases.extend(printed(&a, "publish", &["publish", "order.placed", "--to", STRANGER]));
    let raw = text(&a.afferent(&["sub", "--since", "all", "--count", "3", "--raw"]).stdout);
    cases.extend(raw.lines().map(|line| Case::good("event", line)));

    let identify = format!(r#"{{"address":"127.0.0.1:{}"}}"#, b.port);
    for (thing, status, route, body) in [
        ("ready", 200, "GET /readyz", ""),
        ("status", 200, "GET /v1/status", ""),
        ("id", 200, "GET /v1/id", ""),
        ("peers", 200, "GET /v1/peers", ""),
        ("peer", 200, "GET /v1/peers/birch", ""),
        ("peers", 200, "GET /v1/peers?all=true", ""),
        ("problem", 400, "GET /v1/peers?all=maybe", ""),
        ("peer", 200, "POST /v1/peers/birch/accept", ""),
        ("problem", 409, &format!("POST /v1/peers/{}/block", a.id()), ""),
        ("interests", 200, "GET /v1/interests", ""),
        ("interests", 200, "POST /v1/interests", r#"{"add":["x.*"]}"#),
        ("identified", 200, "POST /v1/identify", &identify),
        ("group", 200, "GET /v1/groups/app", ""),
        ("group", 200, "POST /v1/groups/app", r#"{"seq":1}"#),
        ("groups", 200, "GET /v1/groups", ""),
        ("group", 200, "DELETE /v1/groups/app", ""),
        ("problem", 404, "DELETE /v1/groups/app", ""),
        ("discovery", 200, "GET /v1/discovery", ""),
        ("discovery", 200, "POST /v1/discovery", r#"{"tiers":["manual"]}"#),
        ("problem", 400, "POST /v1/discovery", r#"{"tiers":["lan"]}"#),
        ("publish", 202, "POST /v1/events", r#"{"type":"order.placed"}"#),
        ("match", 200, "GET /v1/match/other.x", ""),
        ("trust", 200, "GET /v1/trust", ""),
        ("trust", 200, "POST /v1/trust", &format!(r#"{{"mute":["{STRANGER}"]}}"#)),
        ("dead", 200, "GET /v1/dead", ""),
        ("problem", 404, "GET /v1/dead/7", ""),
        ("problem", 409, "POST /v1/bus/resume", ""),
        ("problem", 400, "GET /v1/match/other", ""),
        ("problem", 400, "POST /v1/events", r#"{"type":"order"}"#),
        ("problem", 404, "GET /v1/peers/nobody", ""),
        ("problem", 404, "GET /nowhere", ""),
        ("problem", 405, "DELETE /v1/status", ""),
        ("peer", 200, "DELETE /v1/peers/birch", ""),
    ] {
        let (answered, json) = answer(ask(&a, route, &[], body)).expect("an answer");
        assert_eq!(answered, status, "{route}: {json}");
        cases.push(Case::good(thing, &json.to_string()));
    }
    cases.extend(printed(&b, "left", &["leave"]));
    let made = tempfile::tempdir().expect("a directory");
    let config = made.path().join("new.toml");
    let init = crate::support::binary().args(["init", "--json", "--config"]).arg(config).output().expect("runs");
    cases.push(Case::good("init", &text(&init.stdout)));
    judge(&cases, true);

    let (status, description) = answer(ask(&a, "GET /openapi.json", &[], "")).expect("an answer");
    assert_eq!((status, &description["openapi"]), (200, &Value::from("3.1.0")));
}

/// A quarantined event, two entries that are none, and a stream whose cursor is lost twice.
#[test]
fn what_is_said_of_the_bus_in_trouble_is_what_the_schemas_say() {
    let redis = Redis::start();
    let rule = "[[trust.rule]]\nsource = [\"*\"]\ntypes = [\"held.*\"]\naction = \"quarantine\"";
    let a = Daemon::running("a", &["held.*", "order.*"], &redis.url(), rule);
    let b = Daemon::running("b", &[], "", "");
    a.befriend(&b);
    b.publish("held.back", "1");
    b.publish("order.placed", "2");
    // One after the other: letters of two streams that come in one millisecond have one id.
    let has_one = || (a.json(&["dead", "list"])["letters"].as_array().expect("a list").len() == 1).then_some(());
    eventually("the first letter", PATIENCE, has_one);
    for kind in ["one", "two"] {
        redis.command(&["XADD", "mesh:outbox", "*", "type", kind, "data", "{}"]);
    }
    let letters = eventually("three letters", PATIENCE, || {
        Some(a.json(&["dead", "list"])["letters"].as_array().expect("a list").clone()).filter(|all| all.len() == 3)
    });
    let id = |kind: &str| {
        let mut some = letters.iter().filter(|letter| letter["kind"] == kind);
        some.next().expect("there")["id"].as_str().expect("an id")
    };
    let (event, entry) = (id("quarantine"), id("intake"));
    let mut cases = Vec::new();
    for (thing, args) in [
        ("dead", &["dead"][..]),
        ("letter", &["dead", "show", event]),
        ("letter", &["dead", "show", entry]),
        ("arrival", &["sub", "--since", "all", "--count", "2", "--withheld"]),
        ("retried", &["dead", "retry", event]),
        ("letter", &["dead", "drop", entry]),
    ] {
        cases.extend(printed(&a, thing, args));
    }
    let cursor = format!("{{mesh:events}}:mesh-cursor:{}", a.id());
    let lose_cursor = || {
        redis.command(&["DEL", &cursor]);
        b.publish("order.placed", "3");
        eventually("the stream is stopped", PATIENCE, || (a.json(&["status"])["ready"] == false).then_some(()));
    };
    lose_cursor();
    cases.extend(printed(&a, "status", &["status"]));
    cases.extend(printed(&a, "mended", &["bus", "resume"]));
    eventually("the stream goes on", PATIENCE, || (a.json(&["status"])["ready"] == true).then_some(()));
    lose_cursor();
    let last = letters.iter().filter_map(|letter| letter["id"].as_str()).find(|id| ![event, entry].contains(id));
    let letter = format!("/v1/dead/{}", last.expect("the third"));
    for (thing, status, route) in [
        ("ready", 503, "GET /readyz"),
        ("mended", 200, "POST /v1/bus/replay"),
        ("letter", 200, &format!("GET {letter}")),
        ("problem", 409, &format!("POST {letter}/retry")),
        ("letter", 200, &format!("DELETE {letter}")),
    ] {
        let (answered, json) = answer(ask(&a, route, &[], "")).expect("an answer");
        assert_eq!(answered, status, "{route}: {json}");
        cases.push(Case::good(thing, &json.to_string()));
    }
    judge(&cases, true);
}
