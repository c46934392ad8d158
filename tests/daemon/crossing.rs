//! One event from one machine to another, as the README tells it.

use std::process::Command;

use crate::support::{Daemon, PATIENCE, Redis, eventually, project, text};

#[test]
fn an_event_published_on_a_stands_on_the_stream_of_b_and_nowhere_else() {
    let redis = Redis::start();
    let a = Daemon::running("a", &[], "", "");
    let b = Daemon::running("b", &["deployment.*"], &redis.url(), "");
    let c = Daemon::running("c", &["infrastructure.*"], "", "");
    a.befriend(&b);
    a.befriend(&c);
    let digest = a.publish("deployment.started", r#"{"service":"proxy","n":1.50}"#);
    let nobody = a.publish("nobody.asked", "{}");
    let entries = eventually("the event is on the stream of b", PATIENCE, || {
        Some(redis.entries("mesh:events")).filter(|entries| !entries.is_empty())
    });
    let fields = &entries[0].1;
    assert_eq!(fields["mesh_digest"], digest);
    assert_eq!(fields["type"], "deployment.started");
    assert_eq!(fields["data"], r#"{"service":"proxy","n":1.50}"#, "the data is not touched");
    assert_eq!(fields["mesh_from"], a.id());
    assert_eq!(fields["mesh_hops"], "1");

    // C asked for something else: its journal is empty after the next event it did ask for.
    let disk = a.publish("infrastructure.disk.full", "{}");
    assert_eq!(c.digests(1), [disk]);
    assert!(!redis.digests().contains(&nobody));
    assert_eq!(redis.digests().len(), 1);
}

#[test]
fn a_python_program_verifies_the_stored_line_again() {
    let redis = Redis::start();
    let a = Daemon::running("a", &[], "", "");
    let b = Daemon::running("b", &["deployment.*"], &redis.url(), "");
    a.befriend(&b);
    a.publish("deployment.started", r#"{"note":"Déploiement"}"#);
    let entries = eventually("the event is on the stream of b", PATIENCE, || {
        Some(redis.entries("mesh:events")).filter(|entries| !entries.is_empty())
    });
    let line = &entries[0].1["envelope"];
    let verify = |line: &str| {
        let script = project("tests/verify.py");
        Command::new("/usr/bin/python3").arg(script).arg(line).output().expect("python3 is missing: run tests/run")
    };
    let output = verify(line);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).trim(), format!("good: deployment.started by {}", a.id()));
    assert!(!verify(&line.replace("deployment.started", "deployment.stopped")).status.success());
}

#[test]
fn events_flow_both_ways_after_one_side_added_the_other() {
    let a = Daemon::running("a", &["b.*"], "", "");
    let b = Daemon::running("b", &["a.*"], "", "");
    a.befriend(&b);
    b.wait_connected(&a);
    let one = a.publish("a.x", "1");
    let other = b.publish("b.x", "2");
    assert_eq!(a.digests(2), [one.clone(), other.clone()]);
    eventually("b has both", PATIENCE, || (b.journal_events() == 2).then_some(()));
    let at_b = b.digests(2);
    assert!(at_b.contains(&one) && at_b.contains(&other));
}

#[test]
fn new_patterns_reach_the_neighbours_at_once() {
    let a = Daemon::running("a", &[], "", "");
    let b = Daemon::running("b", &["x.y"], "", "");
    a.befriend(&b);
    let output = b.afferent(&["interests", "add", "deployment.*"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let id = b.id();
    eventually("a knows what b wants now", PATIENCE, || {
        let wants = a.json(&["interests"]);
        wants.to_string().contains("deployment.*").then_some(())
    });
    let digest = a.publish("deployment.started", "{}");
    assert_eq!(b.digests(1), [digest], "{id}");
}
