//! Whom a daemon listens to: mutes that outlive it, and rules of every action.

use serde_json::Value;

use crate::configuration::reload;
use crate::support::{Daemon, PATIENCE, Redis, eventually, text};

fn muted(daemon: &Daemon) -> Vec<String> {
    let view = daemon.json(&["mute"]);
    let muted = view["muted"].as_array().expect("a list").iter();
    muted.map(|muted| muted["id"].as_str().expect("an id").to_owned()).collect()
}

/// What `sub --since all --withheld` shows first: type and verdict of `count` events.
fn shown(daemon: &Daemon, count: usize, withheld: bool) -> Vec<(String, String)> {
    let count = count.to_string();
    let mut args = vec!["sub", "--since", "all", "--count", &count, "--json"];
    args.extend(withheld.then_some("--withheld"));
    let lines = text(&daemon.afferent(&args).stdout);
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        let word = |value: &Value| value.as_str().expect("text").to_owned();
        (word(&line["event"]["type"]), word(&line["trust"]))
    };
    lines.lines().map(line).collect()
}

/// Until the peer has got the answer to everything published so far.
fn refused_by(daemon: &Daemon, count: usize) {
    eventually(&format!("{count} refused\n{}", daemon.log()), PATIENCE, || {
        (daemon.log().matches("peer refused an event for good").count() >= count).then_some(())
    });
}

#[test]
fn a_mute_holds_at_once_and_after_a_restart_until_it_is_taken_back() {
    let mut a = Daemon::running("a", &[], "", "");
    let mut b = Daemon::running("b", &["demo.*"], "", "");
    a.befriend(&b);
    let first = a.publish("demo.first", "1");
    assert_eq!(b.digests(1), std::slice::from_ref(&first));

    let id = a.id();
    let output = b.afferent(&["mute", &id]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    a.publish("demo.refused", "2");
    refused_by(&a, 1);
    assert!(a.log().contains("code=\"muted\"") || a.log().contains("\"code\":\"muted\""), "{}", a.log());
    assert_eq!(b.journal_events(), 1);
    assert_eq!(shown(&b, 1, true), [("demo.first".to_owned(), "dropped".to_owned())], "what is there is not shown");

    for daemon in [&mut a, &mut b] {
        daemon.kill(); // both: a says once only that it was refused
        daemon.start();
    }
    assert_eq!(muted(&b), std::slice::from_ref(&id));
    a.wait_connected(&b);
    a.publish("demo.refused", "3");
    refused_by(&a, 2);

    let output = b.afferent(&["unmute", &id[..8]]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("stay refused"), "{}", text(&output.stderr));
    assert_eq!(muted(&b), Vec::<String>::new());
    let last = a.publish("demo.last", "4");
    assert_eq!(b.digests(2), [first, last]);
    let again = b.afferent(&["unmute", &id]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again.stderr));
    assert!(text(&again.stderr).contains("AF0331"), "{}", text(&again.stderr));
    let own = b.id();
    assert_eq!(b.afferent(&["mute", &own]).status.code(), Some(5));
}

#[test]
fn what_was_typed_counts_more_than_the_configuration_as_long_as_it_names_the_source() {
    let stranger = "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenawvib";
    let mut b = Daemon::running("b", &[], "", &format!("[trust]\nmute = [\"{stranger}\"]"));
    assert_eq!(muted(&b), [stranger]);
    assert!(b.afferent(&["unmute", stranger]).status.success());
    let configured = std::fs::read_to_string(b.config()).expect("a configuration");
    let restart = |b: &mut Daemon, config: &str| {
        std::fs::write(b.config(), config).expect("a configuration");
        b.stop();
        b.start();
    };
    restart(&mut b, &configured);
    assert_eq!(muted(&b), Vec::<String>::new(), "unmuted, whatever the configuration says");
    let other = configured.replace(stranger, &b.id());
    restart(&mut b, &other);
    restart(&mut b, &configured);
    assert_eq!(muted(&b), [stranger], "it was named anew");
    // The same without a restart.
    assert!(b.afferent(&["unmute", stranger]).status.success());
    for config in [&other, &configured] {
        std::fs::write(b.config(), config).expect("a configuration");
        assert!(reload(&b).contains("is in force"));
    }
    assert_eq!(muted(&b), [stranger], "it was named anew");
}

#[test]
fn rules_accept_flag_keep_back_and_refuse() {
    let (redis, a) = (Redis::start(), Daemon::running("a", &[], "", ""));
    let rule = |types: &str, action: &str| {
        format!("[[trust.rule]]\nsource = [\"ann\"]\ntypes = [\"{types}\"]\naction = \"{action}\"\n")
    };
    let rules = [rule("demo.fine", "accept"), rule("demo.doubted", "flag"), rule("demo.held", "quarantine")];
    let peer = format!("[[peers]]\naddress = \"{}\"\nalias = \"ann\"\n", a.address());
    let more = format!("{peer}{}{}", rules.concat(), rule("demo.*", "drop"));
    let b = Daemon::running("b", &["demo.*"], &redis.url(), &more);
    b.wait_connected(&a);
    a.befriend(&b);
    for kind in ["demo.gone", "demo.held", "demo.doubted", "demo.fine"] {
        a.publish(kind, "1");
    }
    refused_by(&a, 1);
    assert!(a.log().contains("type_denied"), "{}", a.log());
    let bridged = || redis.entries("mesh:events").into_iter().map(|(_, fields)| fields);
    eventually("both are on the bus", PATIENCE, || (bridged().count() == 2).then_some(()));
    let trust: Vec<(String, String)> =
        bridged().map(|fields| (fields["type"].clone(), fields["mesh_trust"].clone())).collect();
    let pair = |kind: &str, verdict: &str| (kind.to_owned(), verdict.to_owned());
    assert_eq!(trust, [pair("demo.doubted", "flagged"), pair("demo.fine", "accepted")]);
    assert_eq!(shown(&b, 2, false), trust, "local programs without Redis see the same");
    assert_eq!(shown(&b, 3, true)[0], pair("demo.held", "quarantined"), "stored it is");
    assert_eq!(b.journal_events(), 3);

    let view = b.json(&["mute"]);
    assert_eq!(view["rules"][3]["action"], "drop");
    assert_eq!(view["rules"][3]["source"][0], a.id().as_str());
}
