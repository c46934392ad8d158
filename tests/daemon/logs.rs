//! What a daemon writes about itself: whole lines, nothing that a terminal obeys, no secret.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

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
