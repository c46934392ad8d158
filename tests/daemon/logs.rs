//! What a daemon writes about itself: whole lines, nothing that a terminal obeys, no secret.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;

use serde_json::Value;

use crate::support::{Daemon, PATIENCE, eventually, free_port};

const HOSTILE: &str = "\u{1b}[31m\u{7}\u{9b}2J {\"level\":\"ERROR\"} \u{202e} gone";

/// A "Redis" that takes any password and answers everything else with an error of its own choice.
fn hostile_redis() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let (mut stream, mut block) = (stream, [0; 4_096]);
                while let Ok(length @ 1..) = stream.read(&mut block) {
                    let asked = String::from_utf8_lossy(&block[..length]);
                    let commands = asked.lines().filter(|line| line.starts_with('*')).count();
                    let is_greeting = asked.contains("AUTH");
                    let answer = if is_greeting { "+OK\r\n".to_owned() } else { format!("-EVIL {HOSTILE}\r\n") };
                    if stream.write_all(answer.repeat(commands).as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    port
}

fn is_harmless(text: &str) -> bool {
    let is_trick = |letter: char| letter.is_control() || ('\u{202a}'..='\u{202e}').contains(&letter);
    !text.contains(|letter: char| letter != '\n' && is_trick(letter))
}

#[test]
fn nothing_that_a_server_says_is_obeyed_by_whoever_reads_the_log() {
    for format in ["auto", "text"] {
        let more = format!("[log]\nformat = \"{format}\"");
        let url = format!("redis://ann:hush-hush@127.0.0.1:{}", hostile_redis());
        let mut a = Daemon::running("a", &[], &url, &more);
        eventually("the bus is in trouble", PATIENCE, || a.log().contains("EVIL").then_some(()));
        assert_eq!(a.stop(), Some(0));
        let log = a.log();
        assert!(is_harmless(&log), "{log:?}");
        assert!(!log.contains("hush"), "{log}");
        for line in log.lines() {
            let parsed = serde_json::from_str::<Value>(line);
            assert_eq!(parsed.is_ok(), format == "auto", "{line}");
        }
    }
}

#[test]
fn a_peer_that_stays_away_is_one_line_and_a_refusal_has_its_number() {
    let id = "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenawvib";
    let a = Daemon::running("a", &[], "", "");
    let b = Daemon::running("b", &["demo.*"], "", "");
    a.afferent(&["peers", "add", &format!("mesh://{id}@127.0.0.1:{}", free_port()), "--no-wait", "--alias", "away"]);
    a.befriend(&b);
    assert!(b.afferent(&["mute", &a.id()]).status.success());
    a.publish("demo.refused", "1");
    eventually("it is refused", PATIENCE, || a.log().contains("for good").then_some(()));
    assert!(a.log().contains("AF0411"), "{}", a.log());
    // Tried again, and again: the sentence stands once.
    eventually("it was tried more than once", PATIENCE, || {
        let peers = a.json(&["peers", "list"]);
        let away = peers["peers"].as_array()?.iter().find(|peer| peer["alias"] == "away")?.clone();
        (away["retry_in_ms"].as_u64()? > 4_000).then_some(())
    });
    assert_eq!(a.log().matches("peer not reachable").count(), 1, "{}", a.log());
}

#[test]
fn the_journal_of_systemd_is_told_how_bad_each_line_is() {
    for format in ["auto", "text"] {
        let mut a = Daemon::new("a", &[], "", &format!("[log]\nformat = \"{format}\""));
        std::fs::create_dir(a.data()).expect("a directory");
        std::fs::write(a.data().join("book"), "no book").expect("written");
        let log = std::fs::File::create(a.config().with_file_name("log")).expect("a file").metadata().expect("a file");
        let journal = format!("{}:{}", log.dev(), log.ino());
        a.spawn_with(&[("JOURNAL_STREAM", journal.clone())]);
        eventually("it is ready", PATIENCE, || a.log().contains("ready").then_some(()));
        // A second one on the same directory fails: that is what `journalctl -p err` is asked for.
        let mut command = a.command(&["run"]);
        let errors = std::fs::File::options().append(true).open(a.config().with_file_name("log")).expect("a file");
        assert_eq!(command.env("JOURNAL_STREAM", &journal).stderr(errors).status().expect("runs").code(), Some(1));
        assert_eq!(a.stop(), Some(0));
        let log = a.log();
        let of = |prefix: &str| log.lines().filter(|line| line.starts_with(prefix)).count();
        assert_eq!(of("<3>") + of("<4>") + of("<6>") + of("<7>"), log.lines().count(), "{log}");
        assert!(of("<3>") >= 1 && of("<4>") >= 1 && of("<6>") >= 1, "{log}");
        assert!(log.lines().any(|line| line.starts_with("<4>") && line.contains("book")), "{log}");
        assert!(log.lines().any(|line| line.starts_with("<3>afferent: run:")), "{log}");
    }
    let mut elsewhere = Daemon::new("b", &[], "", "");
    elsewhere.spawn_with(&[("JOURNAL_STREAM", "8:12345".to_owned())]);
    eventually("it is ready", PATIENCE, || elsewhere.log().contains("ready").then_some(()));
    assert!(elsewhere.log().starts_with('{'), "{}", elsewhere.log());
    elsewhere.kill();
}
