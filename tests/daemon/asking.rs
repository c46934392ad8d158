//! Questions and answers between real daemons: answers come spread, all of them, to whoever asked, also when a
//! daemon is killed while it holds one.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use afferent::core::offset;
use afferent::wire::{Digest, timestamp};
use serde_json::Value;

use crate::publishing::{answer, ask};
use crate::support::{Daemon, PATIENCE, Redis, eventually, text};

/// Daemons that answer; `ANSWERERS=20` for more.
fn answerers() -> usize {
    std::env::var("ANSWERERS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

const NAMES: [&str; 20] = [
    "n01", "n02", "n03", "n04", "n05", "n06", "n07", "n08", "n09", "n10", "n11", "n12", "n13", "n14", "n15", "n16",
    "n17", "n18", "n19", "n20",
];

/// An asker, and others that know it and want its questions.
fn crowd(count: usize, redis: &[Redis]) -> (Daemon, Vec<Daemon>) {
    let asker = Daemon::running("asker", &[], "", "");
    let answerers: Vec<Daemon> = NAMES[..count]
        .iter()
        .enumerate()
        .map(|(i, &name)| Daemon::running(name, &["q.*"], &redis.get(i).map(Redis::url).unwrap_or_default(), ""))
        .collect();
    for one in &answerers {
        one.befriend(&asker);
    }
    for one in &answerers {
        asker.wait_connected(one);
    }
    (asker, answerers)
}

/// The question that this daemon holds, once it does.
fn question_at(daemon: &Daemon, redis: Option<&Redis>) -> String {
    eventually(&format!("{} has the question", daemon.name), PATIENCE, || match redis {
        Some(redis) => redis.digests().pop(),
        None => (daemon.journal_events() > 0).then(|| daemon.digests(1).pop()).flatten(),
    })
}

/// `ask --json`: the answers, the summary, and the exit code.
fn asked(asker: &Daemon, args: &[&str], then: impl FnOnce()) -> (Vec<Value>, Value, Option<i32>) {
    let mut child = asker.command(&[&["ask"][..], args, &["--json"]].concat());
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let reading = std::thread::spawn(move || {
        let read = |line: std::io::Result<String>| serde_json::from_str(&line.expect("UTF-8")).expect("JSON");
        lines.map(read).collect::<Vec<Value>>()
    });
    then();
    let mut read = reading.join().expect("it reads");
    let code = child.wait().expect("a child").code();
    let summary = read.pop().expect("a summary");
    (read, summary, code)
}

#[test]
fn answers_by_the_outbox_and_by_the_local_api_come_spread_and_all_of_them() {
    let count = answerers().min(NAMES.len());
    let redis: Vec<Redis> = (0..count / 2).map(|_| Redis::start()).collect();
    let (asker, answerers) = crowd(count, &redis);
    let expect = count.to_string();
    let question = ["q.load", r#"{"of":"cpu"}"#, "--spread", "10s", "--deadline", "60s", "--expect", &expect];
    let (answers, summary, code) = asked(&asker, &question, || {
        for (i, daemon) in answerers.iter().enumerate() {
            let digest = question_at(daemon, redis.get(i));
            let data = format!(r#"{{"load":{i}}}"#);
            match redis.get(i) {
                Some(redis) => {
                    let fields = ["type", "q.answer", "causationid", &digest, "data", &data];
                    redis.command(&[&["XADD", "mesh:outbox", "*"][..], &fields].concat());
                }
                None => {
                    let body = format!(r#"{{"type":"q.answer","causationid":"{digest}","data":{data}}}"#);
                    let (status, told) = answer(ask(daemon, "POST /v1/events", &[], &body)).expect("an answer");
                    assert_eq!((status, &told["stored"], told.get("unreached")), (202, &Value::Bool(true), None));
                }
            }
        }
    });
    assert_eq!(code, Some(0), "{summary}");
    assert_eq!((&summary["answers"], &summary["nodes"]), (&Value::from(count), &Value::from(count)), "{summary}");
    assert_eq!((&summary["asked"], &summary["ended"]), (&Value::from(count), &Value::from("expected")));
    let sources: BTreeSet<String> = answers.iter().map(|line| line["event"]["source"].to_string()).collect();
    assert_eq!(sources.len(), count, "each once");
    let to = format!("mesh:{}", asker.id());
    assert!(answers.iter().all(|line| line["event"]["to"] == *to), "to the asker alone");
    // Anybody can compute when each of them had its turn.
    let question: Digest = summary["digest"].as_str().expect("a digest").parse().expect("one");
    for line in &answers {
        let moment = |value: &Value| timestamp::parse(value.as_str().expect("text")).expect("a moment");
        let waited = moment(&line["received"]).since(moment(&line["event"]["time"]));
        let id = line["from"].as_str().expect("an id").parse().expect("one");
        let turn = offset::delay(&question, &id, Duration::from_secs(10), Duration::from_secs(60));
        assert!(waited >= turn && waited < turn + PATIENCE / 5, "{waited:?} instead of {turn:?}");
    }
}

#[test]
fn a_daemon_killed_while_it_holds_an_answer_sends_it_after_the_restart() {
    let (asker, mut answerers) = crowd(3, &[]);
    // Behind the held answers nothing waits, and a kill loses neither.
    let question = ["q.load", "--spread", "20s", "--deadline", "90s", "--expect", "3"];
    let (answers, summary, code) = asked(&asker, &question, || {
        for daemon in &mut answerers {
            let digest = question_at(daemon, None);
            let stored = daemon.json(&["publish", "q.answer", "--causation-id", &digest]);
            assert_eq!(stored["stored"], true, "{stored}");
            daemon.kill();
        }
        for daemon in &mut answerers {
            daemon.start();
        }
    });
    assert_eq!((code, &summary["nodes"]), (Some(0), &Value::from(3)), "{summary}");
    let digests: BTreeSet<String> = answers.iter().map(|line| line["digest"].to_string()).collect();
    assert_eq!((answers.len(), digests.len()), (3, 3), "each once");
    assert_eq!(asker.journal_events(), 4, "the question and three answers");
}

#[test]
fn who_answers_nobody_or_too_late_is_told() {
    let (asker, answerers) = crowd(1, &[]);
    let one = &answerers[0];
    let (answers, summary, code) = asked(&asker, &["q.load", "--spread", "off", "--deadline", "1s"], || {});
    assert_eq!((answers.len(), code, &summary["spread_ms"]), (0, Some(1), &Value::Null), "nobody answered");
    let digest = question_at(one, None);
    let late = one.json(&["publish", "q.answer", "--causation-id", &digest]);
    let why = late["unreached"][0]["why"].as_str().expect("a reason");
    assert!(late["stored"] == true && why.contains("deadline"), "{late}");
    assert!(one.log().contains("an answer was not sent"), "{}", one.log());

    let stranger = "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenawvib";
    let output = one.afferent(&["publish", "q.x", "--to", stranger]);
    assert_eq!(output.status.code(), Some(0), "it is stored");
    assert!(text(&output.stderr).contains("no peer of this node"), "{}", text(&output.stderr));

    let seventeen: Vec<String> = (0..17).map(|_| format!("mesh:{stranger}")).collect();
    let body = format!(r#"{{"type":"q.x","to":"{}"}}"#, seventeen.join(" "));
    let (status, refused) = answer(ask(one, "POST /v1/events", &[], &body)).expect("an answer");
    assert!(status == 400 && refused["title"].as_str().is_some_and(|why| why.contains("16 nodes")), "{refused}");
    let many: Vec<&str> = ["--to", stranger].into_iter().cycle().take(34).collect();
    let output = one.afferent(&[&["publish", "q.x"][..], &many].concat());
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("16 nodes"), "{}", text(&output.stderr));

    for window in ["365d", "16m"] {
        let output = asker.afferent(&["ask", "q.load", "--spread", window]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("15m at most"), "{}", text(&output.stderr));
    }
    let few = asker.afferent(&["ask", "q.load", "--deadline", "1s", "--expect", "2"]);
    assert_eq!(few.status.code(), Some(6), "{}", text(&few.stderr));
}

#[test]
fn what_is_spread_on_the_bus_comes_later_than_what_is_not_and_survives_a_kill() {
    let redis = Redis::start();
    let spread = "[[bus.spread]]\nmatch = \"q.*\"\nwindow = \"8s\"";
    let a = Daemon::running("a", &[], "", "");
    let mut b = Daemon::running("b", &["q.*", "r.*"], &redis.url(), spread);
    a.befriend(&b);
    let mut all: BTreeSet<String> = (0..20).map(|i| a.publish("q.x", &i.to_string())).collect();
    all.insert(a.publish("r.x", "0"));
    let types = || redis.entries("mesh:events").into_iter().map(|(_, fields)| fields["type"].clone());
    eventually("the other one overtakes them", PATIENCE, || types().any(|kind| kind == "r.x").then_some(()));
    let early = redis.digests().len();
    assert!(early < 21, "some wait: {early}");
    b.kill();
    b.start();
    eventually("all are there", PATIENCE, || (redis.digests().len() >= 21).then_some(()));
    let shown = redis.digests();
    assert_eq!((shown.len(), shown.iter().cloned().collect::<BTreeSet<_>>()), (21, all), "each once");
}
