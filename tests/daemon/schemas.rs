//! What a real daemon says is what the schemas say, and nothing beside it.

use serde_json::Value;

use crate::publishing::{answer, ask};
use crate::support::{Daemon, PATIENCE, Redis, eventually, text};
use crate::validator::{Case, judge};

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
        ("status", &["wait", "--ready", "--peers", "1"]),
        ("match", &["match", "order.placed"]),
        ("ping", &["ping", "birch"]),
        ("peer", &["peers", "show", "birch"]),
        ("peer", &["peers", "alias", "birch", "cedar"]),
        ("peer", &["peers", "alias", "cedar", "birch"]),
        ("keys", &["keys", "show"]),
        ("arrival", &["sub", "--since", "all", "--count", "3", "--seq"]),
        ("arrival", &["sub", "--since", "all", "--count", "3"]),
    ] {
        let output = a.afferent(&[args, &["--json"]].concat());
        let lines = text(&output.stdout);
        assert!(!lines.is_empty(), "{args:?}: {}", text(&output.stderr));
        cases.extend(lines.lines().map(|line| Case::good(thing, line)));
    }
    let raw = text(&a.afferent(&["sub", "--since", "all", "--count", "3", "--raw"]).stdout);
    cases.extend(raw.lines().map(|line| Case::good("event", line)));

    let identify = format!(r#"{{"address":"127.0.0.1:{}"}}"#, b.port);
    for (thing, status, route, body) in [
        ("ready", 200, "GET /readyz", ""),
        ("status", 200, "GET /v1/status", ""),
        ("id", 200, "GET /v1/id", ""),
        ("peers", 200, "GET /v1/peers", ""),
        ("peer", 200, "GET /v1/peers/birch", ""),
        ("interests", 200, "GET /v1/interests", ""),
        ("interests", 200, "POST /v1/interests", r#"{"add":["x.*"]}"#),
        ("identified", 200, "POST /v1/identify", &identify),
        ("group", 200, "GET /v1/groups/app", ""),
        ("group", 200, "POST /v1/groups/app", r#"{"seq":1}"#),
        ("publish", 202, "POST /v1/events", r#"{"type":"order.placed"}"#),
        ("match", 200, "GET /v1/match/other.x", ""),
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
    let made = tempfile::tempdir().expect("a directory");
    let config = made.path().join("new.toml");
    let init = crate::support::binary().args(["init", "--json", "--config"]).arg(config).output().expect("runs");
    cases.push(Case::good("init", &text(&init.stdout)));
    judge(&cases, true);

    let (status, description) = answer(ask(&a, "GET /openapi.json", &[], "")).expect("an answer");
    assert_eq!((status, &description["openapi"]), (200, &Value::from("3.1.0")));
}
