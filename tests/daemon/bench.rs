//! What `afferent bench` says of real daemons is what happened to them.

use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{Daemon, PATIENCE, eventually, signal, text};
use crate::validator::{Case, judge};

/// The report of a run, which is what the schema says.
fn report(output: &Output) -> Value {
    let line = text(&output.stdout);
    judge(&[Case::good("bench", &line)], true);
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}{}", text(&output.stderr)))
}

fn bench(daemon: &Daemon, args: &[&str]) -> Output {
    daemon.afferent(&[&["bench"][..], args].concat())
}

/// The same, which must end like this and say why.
fn ends(daemon: &Daemon, args: &[&str], code: i32, why: &str) -> Output {
    let output = bench(daemon, args);
    let remarks = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {remarks}");
    assert!(remarks.contains(why), "{args:?}: {remarks}");
    output
}

#[test]
fn every_event_of_bench_pub_is_in_the_journal_and_was_measured() {
    let mut a = Daemon::running("a", &[], "", "");
    let args = ["pub", "--count", "200", "--concurrency", "3", "--window", "4", "--json"];
    let done = report(&ends(&a, &args, 0, ""));
    assert_eq!((&done["stored"]["events"], &done["sent"], &done["complete"]), (&200.into(), &200.into(), &true.into()));
    assert_eq!((a.journal_events(), &done["arrived"]), (200, &Value::Null));
    let ms = |name: &str| done["stored"][name].as_f64().expect("a number");
    assert!(ms("p50_ms") > 0.0 && ms("p50_ms") <= ms("p95_ms") && ms("p99_ms") <= ms("max_ms"), "{done}");
    let limit = |name: &str| done["limits"][name].as_f64().expect("a number");
    assert!(limit("seal_ms") > 0.0 && limit("sync_ms") > 0.0 && limit("events_per_sync") > 0.0, "{done}");

    let output = ends(&a, &["pub", "--count", "5", "--size", "1000", "--type", "demo.bench"], 0, "Ctrl-C");
    assert!(text(&output.stdout).contains("\nsent 5, refused 0, duplicated 0\nsigning "), "{}", text(&output.stdout));
    let shown = a.json(&["sub", "demo.*", "--since", "all", "--count", "1"]);
    assert_eq!(shown["event"]["data"].to_string().len(), 1_000);

    let output = ends(&a, &["pub", "--count", "3", "--type", "mesh.bench", "--json"], 5, "3 events were refused");
    assert_eq!(report(&output)["refused"][0]["code"], "type_denied");
    a.stop();
    ends(&a, &["pub"], 3, "afferent run");
    ends(&a, &["e2e"], 3, "afferent run");
}

#[test]
fn bench_e2e_measures_the_way_to_a_second_daemon_and_says_what_is_missing_on_it() {
    let (a, b) = (Daemon::running("a", &[], "", ""), Daemon::running("b", &[], "", ""));
    let (via, own) = (b.socket(), a.socket());
    let (via, own) = (via.to_str().expect("UTF-8"), own.to_str().expect("UTF-8"));
    let short = ["--count", "50", "--rate", "500", "--json"];
    let e2e = |more: &[&'static str]| [&["e2e"][..], more, &short[..]].concat();

    let here = report(&ends(&a, &e2e(&[]), 0, ""));
    assert_eq!((&here["arrived"]["events"], &here["lost"], &here["duplicated"]), (&50.into(), &0.into(), &0.into()));

    let there = [&["e2e", "--via", via][..], &short[..]].concat();
    ends(&a, &there, 1, "afferent interests add 'afferent.bench.*' --socket");
    assert!(b.afferent(&["interests", "add", "afferent.bench.*"]).status.success());
    ends(&a, &there, 4, &format!("afferent peers add {}", b.address()));
    a.befriend(&b);
    let crossed = report(&ends(&a, &there, 0, "readable at b"));
    assert_eq!((&crossed["arrived"]["events"], &crossed["lost"]), (&50.into(), &0.into()));
    assert_eq!(b.journal_events(), 50, "they really went there");
    assert!(crossed["limits"]["sync_there_ms"].is_number() && crossed["limits"]["rtt_ms"].is_number(), "{crossed}");

    assert!(a.afferent(&["peers", "alias", &b.id(), "birch"]).status.success());
    let told = report(&ends(&a, &e2e(&["--to", "birch", "--type", "demo.unasked"]), 0, "stored by birch"));
    assert_eq!((&told["arrived"]["events"], b.journal_events()), (&50.into(), 100));
    ends(&a, &[&["e2e", "--via", via, "--to", "birch", "--type", "demo.unasked"][..], &short[..]].concat(), 0, "");
    assert_eq!(b.journal_events(), 150);

    ends(&a, &["e2e", "--via", own], 2, "without --via");
    ends(&a, &["e2e", "--via", "/nowhere/sock"], 3, "/nowhere/sock");
    ends(&a, &["e2e", "--to", "nobody"], 4, "nobody");
}

#[test]
fn what_does_not_arrive_is_lost_and_exit_1() {
    let rule = "[[trust.rule]]\nsource = [\"*\"]\ntypes = [\"afferent.bench.*\"]\naction = \"quarantine\"";
    let (a, b) = (Daemon::running("a", &[], "", ""), Daemon::running("b", &["afferent.bench.*"], "", rule));
    a.befriend(&b);
    let via = b.socket();
    let args = ["e2e", "--via", via.to_str().expect("UTF-8"), "--count", "5", "--timeout", "1s", "--json"];
    let lost = report(&ends(&a, &args, 1, "AF0324"));
    assert_eq!((&lost["stored"]["events"], &lost["lost"]), (&5.into(), &5.into()));
    assert_eq!((&lost["complete"], &lost["arrived"]["p50_ms"]), (&false.into(), &Value::Null));
}

#[test]
fn an_interrupted_run_and_one_whose_daemon_is_gone_show_what_was_measured() {
    let mut a = Daemon::running("a", &[], "", "");
    let start = |a: &Daemon| {
        let before = a.journal_events();
        let mut command = a.command(&["bench", "e2e", "--count", "100000", "--json"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
        eventually("events of the run", PATIENCE, || (a.journal_events() >= before + 5).then_some(()));
        child
    };
    let child = start(&a);
    signal(child.id(), "INT");
    let output = child.wait_with_output().expect("it ends");
    let short = report(&output);
    assert_eq!((output.status.code(), &short["complete"], &short["lost"]), (Some(0), &false.into(), &0.into()));
    assert!(short["stored"]["events"].as_u64() >= Some(5), "{short}");

    let child = start(&a);
    a.kill();
    let output = child.wait_with_output().expect("it ends");
    let broken = report(&output);
    assert_eq!((output.status.code(), &broken["lost"]), (Some(3), &0.into()), "{}", text(&output.stderr));
    assert!(broken["stored"]["events"].as_u64() >= Some(5), "{broken}");
}

#[test]
fn a_daemon_that_stands_still_is_a_timeout() {
    let a = Daemon::running("a", &[], "", "");
    let mut command = a.command(&["bench", "e2e", "--count", "100000", "--timeout", "1s", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    eventually("events of the run", PATIENCE, || (a.journal_events() >= 5).then_some(()));
    signal(a.pid(), "STOP");
    let output = child.wait_with_output().expect("it ends");
    signal(a.pid(), "CONT");
    let short = report(&output);
    assert_eq!((output.status.code(), &short["complete"]), (Some(6), &false.into()), "{}", text(&output.stderr));
    assert!(short["pending"].as_u64() >= Some(1), "{short}");
}
