//! Every number that Prometheus is given, on daemons that do something.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use afferent::wire::{Draft, Forbidden, Keypair, envelope};
use serde_json::Value;

use crate::support::{Daemon, PATIENCE, Publisher, Redis, eventually, free_port, project, text, tls};

const ASK: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                   Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n\r\n";
/// As a scraper of before asks, or `curl`.
const ASK_CLASSIC: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: */*\r\n\r\n";

pub(crate) fn page(daemon: &Daemon) -> String {
    let mut stream = UnixStream::connect(daemon.socket()).expect("a connection");
    stream.write_all(ASK.as_bytes()).expect("written");
    body(stream, "application/openmetrics-text; version=1.0.0")
}

pub(crate) fn body(mut stream: impl std::io::Read, kind: &str) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains(&format!("content-type: {kind}")), "{head}");
    body.to_owned()
}

/// The page as the library of Prometheus reads it.
fn read(page: &str) -> BTreeMap<String, Value> {
    read_as(page, &[])
}

fn read_as(page: &str, format: &[&str]) -> BTreeMap<String, Value> {
    let mut python = Command::new("/usr/bin/python3")
        .arg(project("tests/metrics.py"))
        .args(format)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3");
    python.stdin.take().expect("a pipe").write_all(page.as_bytes()).expect("written");
    let output = python.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}\n{page}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The samples of a page by name and labels: `afferent_peers{state=connected}`.
pub(crate) struct Samples(BTreeMap<String, f64>);

impl Samples {
    pub(crate) fn of(daemon: &Daemon) -> Samples {
        Samples::read(&page(daemon))
    }

    pub(crate) fn read(page: &str) -> Samples {
        let mut samples = BTreeMap::new();
        for family in read(page).values() {
            for sample in family["samples"].as_array().expect("samples") {
                let labels = sample[1].as_object().expect("labels");
                let labels: Vec<String> =
                    labels.iter().map(|(name, value)| format!("{name}={}", value.as_str().expect("text"))).collect();
                let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                let name = format!("{}{labels}", sample[0].as_str().expect("a name"));
                samples.insert(name, sample[2].as_f64().expect("a number"));
            }
        }
        Samples(samples)
    }

    pub(crate) fn at(&self, name: &str) -> f64 {
        *self.0.get(&format!("afferent_{name}")).unwrap_or_else(|| panic!("{name}: {:#?}", self.0.keys()))
    }
}

/// Waits until each of these numbers is what it should be.
fn settles(daemon: &Daemon, expected: &[(&str, f64)]) {
    eventually(&format!("{expected:?}"), PATIENCE, || {
        let samples = Samples::of(daemon);
        expected.iter().all(|(name, value)| samples.at(name) == *value).then_some(())
    });
}

fn assert_positive(samples: &Samples, names: &[&str]) {
    for name in names {
        assert!(samples.at(name) > 0.0, "{name}");
    }
}

/// Posts these lines as a nameless stranger.
fn post(daemon: &Daemon, lines: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let url = format!("https://127.0.0.1:{}/mesh/v1/events", daemon.port);
    let kind = afferent::wire::message::LINES_TYPE;
    let sent = tls::client().post(url).header("content-type", kind).body(lines.to_owned());
    runtime.block_on(async { sent.send().await.expect("an answer") });
}

#[test]
fn every_number_is_about_something_that_happened() {
    let mut redis = Redis::start();
    let a = Daemon::running("a", &[], "", "");
    let rule = |types: &str, action: &str| {
        format!("[[trust.rule]]\nsource = [\"*\"]\ntypes = [\"{types}\"]\naction = \"{action}\"\n")
    };
    let rules = [rule("demo.doubted", "flag"), rule("demo.held", "quarantine"), rule("demo.gone", "drop")].concat();
    let b = Daemon::new("b", &["demo.*"], &redis.url(), &format!("[trust]\nmute = [\"{}\"]\n{rules}", a_stranger()));
    let mut b = b;
    b.start();
    a.befriend(&b);
    let quiet = Samples::of(&b);
    for kind in ["demo.fine", "demo.fine", "demo.doubted", "demo.held", "demo.gone"] {
        a.publish(kind, "1");
    }
    b.publish("own.event", "1");
    redis.command(&["XADD", "mesh:outbox", "*", "type", "own.other", "data", "1"]);
    redis.command(&["XADD", "mesh:outbox", "*", "type", "not a type", "data", "1"]);
    let key = Keypair::from_seed(&[9; 32]);
    let now = afferent::time::Wall::default()
        + std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let line = envelope::seal(&Draft::new("1", "demo.fine", now), &key).expect("a draft").line(1, false);
    post(&b, &line);
    post(&b, &line);
    post(&b, &line.replace("demo.fine", "demo.fane"));
    TcpStream::connect(("127.0.0.1", b.port))
        .expect("a connection")
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .expect("written");

    settles(
        &a,
        &[
            ("events_published_total", 5.0),
            ("events_out_total", 4.0),
            ("peers{state=connected}", 1.0),
            ("peers_behind", 0.0),
            ("peers_behind_most", 0.0),
            ("peers_lagging", 0.0),
            ("bus_info{kind=embedded}", 1.0),
            ("bus_connected", 1.0),
            ("bus_condition{condition=off,side=egress}", 1.0),
        ],
    );
    assert_positive(
        &Samples::of(&a),
        &["dials_total", "lanes_connected_total", "lines_sent_total", "peers_round_trip_longest_seconds"],
    );
    settles(
        &b,
        &[
            ("events_in_total", 5.0),
            ("events_published_total", 2.0),
            ("events_duplicate_total", 1.0),
            ("events_rejected_total{code=type_denied}", 1.0),
            ("events_rejected_total{code=bad_signature}", 1.0),
            ("events_rejected_total{code=rate}", 0.0),
            ("event_latency_seconds_count", 5.0),
            ("signatures_checked_total", 7.0),
            ("verification_seconds_count", 7.0),
            ("lines_total", 8.0),
            ("journal_entries", 7.0),
            ("journal_full", 0.0),
            ("journal_waiting", 0.0),
            ("bus_info{kind=redis}", 1.0),
            ("bus_connected", 1.0),
            ("bus_lag", 0.0),
            ("bus_bridged_total", 4.0),
            ("bus_flagged_total", 1.0),
            ("bus_quarantined_total", 1.0),
            ("bus_skipped_total", 2.0),
            ("bus_published_total", 1.0),
            ("bus_dead_total", 1.0),
            ("bus_condition{condition=running,side=egress}", 1.0),
            ("bus_condition{condition=running,side=intake}", 1.0),
            ("bus_condition{condition=off,side=travel}", 1.0),
            ("connections_refused_total{reason=handshake}", 1.0),
            ("muted_sources", 1.0),
            ("ready", 1.0),
            ("alone", 0.0),
            ("peer_changes_total", 0.0),
            ("peer_changes_skipped_total", 0.0),
        ],
    );
    let busy = Samples::of(&b);
    assert!((0.0..150.0).contains(&busy.at("event_latency_seconds_sum")));
    assert!(busy.at("journal_position") >= 7.0);
    for name in ["journal_commits_total", "journal_syncs_total", "journal_sync_seconds_count", "journal_used_bytes"] {
        assert!(busy.at(name) > quiet.at(name), "{name}");
    }
    assert_positive(
        &busy,
        &[
            "journal_disk_bytes",
            "journal_sync_seconds_sum",
            "verification_seconds_sum",
            "connections",
            "connections_accepted_total",
            "requests_total",
            "requests_refused_total",
            "request_body_bytes_total",
        ],
    );

    // What goes wrong, where a test can make it go wrong; the rest stands at nothing.
    redis.kill();
    let more = a.publish("demo.fine", "2");
    settles(
        &b,
        &[("bus_connected", 0.0), ("bus_lag", 1.0), ("ready", 0.0), ("warnings", 2.0), ("events_in_total", 6.0)],
    );
    let broken = Samples::of(&b);
    assert_positive(&broken, &["bus_troubles_total", "bus_condition{condition=waiting,side=egress}"]);
    b.kill();
    eventually("a lane broke", PATIENCE, || (Samples::of(&a).at("lanes_broken_total") > 0.0).then_some(()));
    settles(&a, &[("peers{state=connected}", 0.0)]);
    assert!(!more.is_empty());
    let nothing = [
        "events_expired_unsent",
        "answers_late",
        "journal_damaged",
        "bus_lost",
        "bus_duplicates",
        "bus_unread",
        "accept_errors",
        "requests_overloaded",
        "records_ignored",
        "sync_runs",
        "sync_runs_failed",
        "sync_rounds",
        "sync_frames_bytes",
        "sync_records",
        "sync_answered",
        "sync_lines_given",
        "zone_entries_ignored",
        "zone_addresses_refused",
    ];
    for (name, label, words) in [
        ("lookups_failed", "tier", &["dns", "seed"][..]),
        ("dials_forbidden", "reason", &Forbidden::WORDS[..]),
        ("duties", "outcome", &["reselected", "unserved", "refused"][..]),
    ] {
        assert!(words.iter().all(|word| broken.at(&format!("{name}_total{{{label}={word}}}")) == 0.0), "{name}");
    }
    assert!(nothing.iter().all(|name| broken.at(&format!("{name}_total")) == 0.0));
    assert_eq!(broken.at("answers_held"), 0.0);
    assert!(broken.at("uptime_seconds") >= 0.0);
    assert_eq!(broken.at(&format!("build_info{{durability=fsync,version={}}}", env!("CARGO_PKG_VERSION"))), 1.0);
    // Whoever adds a number says here what it is about.
    let nowhere = broken.0.keys().map(|name| name["afferent_".len()..].split('{').next().expect("a name"));
    let base = |name: &str| {
        let ends = ["_total", "_bucket", "_sum", "_count", "_created"];
        ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    let unsaid: BTreeSet<String> =
        nowhere.map(base).filter(|name| !include_str!("metrics.rs").contains(&format!("\"{name}"))).collect();
    assert!(unsaid.is_empty(), "{unsaid:?}");
}

fn a_stranger() -> &'static str {
    "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenawvib"
}

#[test]
fn what_is_above_the_rate_is_counted_as_that() {
    let a = Daemon::running("a", &[], "", "");
    let mut b = Daemon::new("b", &["demo.*"], "", "");
    let config = std::fs::read_to_string(b.config()).expect("a configuration");
    std::fs::write(b.config(), config.replace("20000/s burst 40000", "5/s burst 5")).expect("a configuration");
    b.start();
    a.befriend(&b);
    let mut publisher = Publisher::start(&a);
    for number in 0..300 {
        assert!(publisher.write(&format!("{{\"type\":\"demo.fine\",\"data\":{number}}}")));
    }
    publisher.finish();
    eventually("some are above it", PATIENCE, || {
        (Samples::of(&b).at("events_rejected_total{code=rate}") > 0.0).then_some(())
    });
}

#[test]
fn a_prometheus_without_unix_sockets_is_served_on_loopback() {
    let port = free_port();
    let a = Daemon::running("a", &[], "", &format!("[metrics]\nlisten = \"127.0.0.1:{port}\""));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.write_all(ASK.as_bytes()).expect("written");
    let families = read(&body(stream, "application/openmetrics-text"));
    assert_eq!(families.keys().collect::<Vec<_>>(), read(&page(&a)).keys().collect::<Vec<_>>());
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.write_all(ASK.replace("localhost", "evil.example").as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(TcpStream::connect(("127.0.0.2", port)).is_err(), "nowhere else");
}

/// Names with labels, and what each is: the older format calls a counter by the name of its sample.
fn samples(families: &BTreeMap<String, Value>) -> BTreeSet<(String, String)> {
    let of = |family: &Value| {
        let kind = match family["type"].as_str().expect("a type") {
            "info" => "gauge",
            known => known,
        };
        let some = family["samples"].as_array().expect("samples").iter();
        some.map(|sample| (format!("{}{}", sample[0], sample[1]), kind.to_owned())).collect::<Vec<_>>()
    };
    families.values().flat_map(of).collect()
}

#[test]
fn a_scraper_that_does_not_name_openmetrics_gets_the_same_in_the_format_before() {
    let port = free_port();
    let a = Daemon::running("a", &[], "", &format!("[metrics]\nlisten = \"127.0.0.1:{port}\""));
    let mut over_tcp = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let mut over_socket = UnixStream::connect(a.socket()).expect("a connection");
    over_tcp.write_all(ASK_CLASSIC.as_bytes()).expect("written");
    over_socket.write_all(ASK_CLASSIC.as_bytes()).expect("written");
    let kind = "text/plain; version=0.0.4";
    for page in [body(over_tcp, kind), body(over_socket, kind)] {
        assert_eq!(samples(&read_as(&page, &["--classic"])), samples(&read(&self::page(&a))));
    }
}

/// Every `afferent_...` in a text.
pub(crate) fn names(text: &str) -> BTreeSet<&str> {
    let starts = text.match_indices("afferent_").map(|(at, _)| &text[at..]);
    let is_name = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    starts.map(|rest| &rest[..rest.find(|letter| !is_name(letter)).unwrap_or(rest.len())]).collect()
}

#[test]
fn dashboard_and_alerts_name_only_what_exists() {
    let a = Daemon::running("a", &[], "", "");
    let page = page(&a);
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let exist: BTreeSet<&str> = lines.map(|line| line.split(['{', ' ']).next().expect("a name")).collect();
    for file in ["deploy/grafana/afferent.json", "deploy/prometheus/alerts.yml"] {
        let text = std::fs::read_to_string(project(file)).expect(file);
        let named = names(&text);
        assert!(named.len() > 8, "{file}: {named:?}");
        // Those of a registrar are on its own page: `registrar::what_a_registrar_does_is_counted`.
        let is_missing = |name: &&&str| !name.starts_with("afferent_registrar_");
        let missing: Vec<_> = named.difference(&exist).filter(is_missing).collect();
        assert!(missing.is_empty(), "{file} names what does not exist: {missing:?}");
    }
    let dashboard = std::fs::read(project("deploy/grafana/afferent.json")).expect("a dashboard");
    let dashboard: Value = serde_json::from_slice(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let is_whole = |panel: &Value| {
        let asks = panel["targets"].as_array().is_some_and(|targets| {
            !targets.is_empty() && targets.iter().all(|target| target["expr"].as_str().is_some())
        });
        panel["type"] == "row" || (asks && panel["title"].is_string() && panel["gridPos"].is_object())
    };
    assert!(panels.iter().all(is_whole));
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has a number of its own");
    let alerts = std::fs::read_to_string(project("deploy/prometheus/alerts.yml")).expect("alerts");
    for alert in alerts.split("- alert: ").skip(1) {
        for part in ["expr:", "for:", "severity:", "summary:", "description:"] {
            assert!(alert.contains(part), "{part} is missing in {alert}");
        }
    }
}
