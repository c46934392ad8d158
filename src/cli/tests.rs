//! Whole commands against a served API with a scripted driver: what they print, how they exit.

use std::io::Cursor;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::Value;

use super::arguments::{Arguments, Command};
use super::failure::{Exit, Failure};
use super::output::Output;
use super::output::tests::{Page, pages};
use super::{bus, dead, discover, id, interests, matching, peers, ping, publish, status, sub, wait};
use crate::admin::tests::Scene;

/// What a command left behind.
struct Done {
    exit: Exit,
    results: String,
    remarks: String,
}

impl Done {
    fn json(&self) -> Vec<Value> {
        self.results.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
    }
}

fn parse(scene: &Scene, line: &[&str]) -> Arguments {
    let socket = scene.path.to_str().expect("UTF-8");
    let all = ["afferent", "--socket", socket].into_iter().chain(line.iter().copied());
    Arguments::try_parse_from(all).unwrap_or_else(|error| panic!("{error}"))
}

fn finish(ended: Result<Exit, Failure>, mut output: Output, results: &Page, remarks: &Page) -> Done {
    let exit = ended.unwrap_or_else(|failure| {
        output.report(&failure);
        failure.exit
    });
    output.flush().expect("written");
    Done { exit, results: results.text(), remarks: remarks.text() }
}

async fn run(scene: &Scene, line: &[&str]) -> Done {
    let Arguments { global, command } = parse(scene, line);
    let (mut output, results, remarks) = pages(global.json);
    let out = &mut output;
    let ended = match &command {
        Command::Status(status) => status::perform(status, &global, out).await,
        Command::Wait(wait) => wait::perform(wait, &global, out).await,
        Command::Match(matching) => matching::perform(matching, &global, out).await,
        Command::Ping(ping) => ping::perform(ping, &global, out).await,
        Command::Discover(discover) => discover::perform(discover, &global, out).await,
        Command::Id => id::perform(&global, out).await,
        Command::Peers(peers) => peers::perform(peers, &global, out).await,
        Command::Publish(publish) => publish::perform(publish, &global, out).await,
        Command::Sub(sub) => sub::perform(sub, &global, out).await,
        Command::Interests(interests) => interests::perform(interests, &global, out).await,
        Command::Dead(dead) => dead::perform(dead, &global, out).await,
        Command::Bus(bus) => bus::perform(bus, &global, out).await,
        other => panic!("{other:?} needs no daemon"),
    };
    finish(ended, output, &results, &remarks)
}

#[tokio::test]
async fn status_exits_by_how_the_node_is() {
    let scene = Scene::open().await;
    let done = run(&scene, &["status"]).await;
    assert_eq!(done.exit, Exit::Done);
    assert!(done.results.starts_with("birch  ") && done.results.contains("  ready  "), "{}", done.results);
    let scene = Scene::open_as(false).await;
    let done = run(&scene, &["status", "--json"]).await;
    assert_eq!(done.exit, Exit::Degraded);
    assert_eq!(done.json()[0]["warnings"], serde_json::json!(["the disk is full"]));
}

#[tokio::test]
async fn without_a_daemon_every_command_says_how_to_start_one() {
    let scene = Scene::open().await;
    let gone = scene.path.with_file_name("gone.sock");
    let gone = gone.to_str().expect("UTF-8");
    for line in
        [&["status"][..], &["peers"], &["publish", "a.b"], &["sub"], &["interests"], &["dead"], &["bus", "resume"]]
    {
        let done = run(&scene, &[line, &["--socket", gone]].concat()).await;
        assert_eq!(done.exit, Exit::Unreachable, "{line:?}");
        assert!(done.results.is_empty() && done.remarks.contains("\nnext: afferent run"), "{}", done.remarks);
    }
}

#[tokio::test]
async fn tiers_are_asked_by_the_daemon_and_said_line_by_line() {
    let scene = Scene::open().await;
    let done = run(&scene, &["discover"]).await;
    assert_eq!(done.exit, Exit::Done);
    assert!(done.results.contains("new, dialled: its key answered"), "{}", done.results);
    let done = run(&scene, &["discover", "--tier", "seeds", "--tier", "dns", "--dry-run"]).await;
    assert_eq!(done.exit, Exit::Degraded, "a tier that was asked for by name is off");
    assert!(done.results.contains("new, may be dialled") && !done.results.contains("manual"), "{}", done.results);
    let done = run(&scene, &["discover", "--json"]).await;
    assert_eq!(done.json()[0]["schema"], "afferent.discovery/1");
    assert_eq!(done.json()[0]["tiers"].as_array().map(Vec::len), Some(4));
    let gone = scene.path.with_file_name("gone.sock");
    let done = run(&scene, &["discover", "--socket", gone.to_str().expect("UTF-8")]).await;
    assert_eq!(done.exit, Exit::Unreachable);
    assert!(done.remarks.contains("afferent discover --dry-run"), "{}", done.remarks);
}

#[tokio::test]
async fn a_peer_is_added_waited_for_listed_and_forgotten() {
    let scene = Scene::open().await;
    let friend = crate::wire::Keypair::from_seed(&[2; 32]).id();
    let address = format!("mesh://{friend}@cedar.example:7443");
    assert!(run(&scene, &["peers"]).await.remarks.contains("nobody is known yet"));
    let done = run(&scene, &["peers", "add", &address, "--alias", "slow"]).await;
    assert_eq!(
        (done.exit, done.results),
        (Exit::Done, format!("slow ({}) is connected, round trip -\n", friend.short()))
    );
    let done = run(&scene, &["peers", "list"]).await;
    let row: Vec<&str> = done.results.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row[..4], ["slow", &friend.short(), "cedar.example:7443", "connected"]);
    let done = run(&scene, &["peers", "--json"]).await;
    assert_eq!(done.json()[0]["peers"][0]["addresses"][0], address);
    let done = run(&scene, &["peers", "add", "cedar.example", "--trust-first-use", "--no-wait"]).await;
    assert_eq!(done.exit, Exit::Done);
    assert!(done.remarks.contains(&format!("at cedar.example:7443 answers the node {friend}")), "{}", done.remarks);
    let done = run(&scene, &["peers", "rm", &friend.short()]).await;
    assert_eq!((done.exit, done.results), (Exit::Done, format!("{} is forgotten\n", friend.short())));
    let done = run(&scene, &["peers", "rm", "slow"]).await;
    assert_eq!(done.exit, Exit::NoSuchPeer);
    assert!(done.remarks.ends_with("(AF0301)\nnext: afferent peers list\n"), "{}", done.remarks);
    let done = run(&scene, &["peers", "add", "cedar.example:9", "--trust-first-use"]).await;
    assert_eq!(done.exit, Exit::Timeout);
}

#[tokio::test]
async fn a_peer_is_accepted_blocked_and_let_in_again() {
    let scene = Scene::open().await;
    let friend = crate::wire::Keypair::from_seed(&[2; 32]).id();
    let short = friend.short();
    run(&scene, &["peers", "add", &format!("mesh://{friend}@cedar.example"), "--alias", "cedar", "--no-wait"]).await;
    let done = run(&scene, &["peers", "accept", "cedar"]).await;
    assert_eq!((done.exit, done.results), (Exit::Done, format!("cedar ({short}) may be a neighbour\n")));
    let done = run(&scene, &["peers", "block", "cedar", "--reason", "floods"]).await;
    assert_eq!(done.results, format!("cedar ({short}) is blocked\n"));
    assert!(done.remarks.contains(&format!("next: afferent mute {short}")), "{}", done.remarks);
    let done = run(&scene, &["peers", "show", "cedar"]).await;
    assert!(done.results.contains("state     blocked: floods\n"), "{}", done.results);
    assert!(done.results.contains("history   "), "{}", done.results);
    let done = run(&scene, &["peers", "accept", "cedar"]).await;
    assert_eq!(done.exit, Exit::Refused);
    assert!(done.remarks.ends_with("(AF0332)\nnext: afferent peers unblock PEER\n"), "{}", done.remarks);
    let done = run(&scene, &["peers", "unblock", &short, "--json"]).await;
    assert_eq!(done.json()[0]["state"], "probing");
    assert_eq!(run(&scene, &["peers", "unblock", "nobody"]).await.exit, Exit::NoSuchPeer);
    run(&scene, &["peers", "block", "cedar"]).await;
    let done = run(&scene, &["peers", "rm", "cedar"]).await;
    assert_eq!(done.results, format!("cedar ({short}) is forgotten, and stays blocked\n"));
}

#[tokio::test]
async fn what_is_published_is_seen_by_who_watches() {
    let scene = Scene::open().await;
    let done = run(&scene, &["publish", "demo.hello", "--data", "{\"n\":1}", "--attr", "subject=x"]).await;
    assert_eq!(done.exit, Exit::Done);
    let digest = done.results.trim_end().to_owned();
    assert_eq!(digest.len(), 43);
    scene.arrive("demo.other", 2);
    let done = run(&scene, &["sub", "--since", "all", "--count", "2", "--json"]).await;
    let seen = done.json();
    assert_eq!((done.exit, seen.len()), (Exit::Done, 2));
    assert_eq!((&seen[0]["digest"], &seen[0]["event"]["subject"]), (&digest.into(), &"x".into()));
    assert_eq!(seen[1]["event"]["data"], 2);
    let done = run(&scene, &["sub", "demo.hello", "--since", "all", "--count", "1"]).await;
    assert!(done.results.ends_with(" demo.hello {\"n\":1} (own)\n"), "{}", done.results);
    let done = run(&scene, &["sub", "demo.hello", "--since", "all", "--count", "1", "--raw"]).await;
    assert!(done.results.starts_with(r#"{"specversion":"1.0","id":""#), "as it was signed: {}", done.results);
    let done = run(&scene, &["sub", "--since", "soon"]).await;
    assert_eq!(done.exit, Exit::Failed);
}

#[tokio::test]
async fn a_reader_of_a_group_never_sees_what_it_printed_before() {
    let scene = Scene::open().await;
    for number in 0..3 {
        scene.arrive("demo.other", number);
    }
    let read = ["sub", "--group", "app", "--since", "all", "--json", "--count"];
    let data = |done: &Done| done.json().iter().map(|line| line["event"]["data"].clone()).collect::<Vec<_>>();
    assert_eq!(data(&run(&scene, &[&read[..], &["2"]].concat()).await), [0, 1]);
    assert_eq!(data(&run(&scene, &[&read[..], &["1"]].concat()).await), [2]);
    let done = run(&scene, &["sub", "--group", "a b"]).await;
    assert_eq!(done.exit, Exit::Failed);
    assert!(done.remarks.contains("the name of a group is"), "{}", done.remarks);
}

#[tokio::test]
async fn a_group_that_finds_nothing_does_not_read_the_same_again() {
    let scene = Scene::open().await;
    let heads: Vec<_> = (0..600).map(|number| scene.arrive("demo.other", number)).collect();
    let line = ["sub", "rare.*", "--group", "app", "--since", "all", "--count", "1"];
    let arrives = async {
        let deadline = Instant::now() + Duration::from_secs(20);
        while scene.acknowledged("app") != heads.last().copied() {
            assert!(Instant::now() < deadline, "it is at {:?}", scene.acknowledged("app"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        scene.arrive("rare.hello", 600)
    };
    let (done, seq) = tokio::join!(run(&scene, &line), arrives);
    assert_eq!((done.exit, done.results.lines().count()), (Exit::Done, 1), "{}", done.results);
    assert_eq!(scene.acknowledged("app"), Some(seq));
    let done = run(&scene, &["sub", "--list-groups"]).await;
    assert_eq!(done.results, format!("GROUP  POSITION  BEHIND\napp    {}      0\n", seq.0));
    assert_eq!(run(&scene, &["sub", "--list-groups", "--json"]).await.json()[0]["groups"][0]["group"], "app");
    assert_eq!(run(&scene, &["sub", "--forget-group", "app"]).await.results, "app is forgotten\n");
    let done = run(&scene, &["sub", "--forget-group", "app"]).await;
    assert!(done.exit == Exit::Failed && done.remarks.contains("AF0423"), "{}", done.remarks);
    assert!(run(&scene, &["sub", "--list-groups"]).await.remarks.contains("sub --group NAME"));
}

#[tokio::test]
async fn a_peer_is_shown_named_pinged_and_matched() {
    let scene = Scene::open().await;
    let friend = crate::wire::Keypair::from_seed(&[2; 32]).id();
    run(&scene, &["peers", "add", &format!("mesh://{friend}@cedar.example"), "--no-wait"]).await;
    let done = run(&scene, &["peers", "alias", &friend.short(), "birch"]).await;
    assert!(done.exit == Exit::Done && done.results.contains("alias     birch\n"), "{}", done.results);
    let done = run(&scene, &["peers", "show", "birch"]).await;
    assert!(done.results.starts_with(&format!("id        {friend}\n")), "{}", done.results);
    assert_eq!(run(&scene, &["peers", "alias", "birch", "a b"]).await.exit, Exit::Refused);
    assert_eq!(run(&scene, &["peers", "show", "cedar"]).await.exit, Exit::NoSuchPeer);
    let done = run(&scene, &["ping", "birch", "--count", "2", "--interval", "1ms"]).await;
    assert_eq!(done.results.lines().count(), 2, "{}", done.results);
    let done = run(&scene, &["match", "demo.wanted"]).await;
    assert!(done.exit == Exit::Done && done.results.contains("later"), "{}", done.results);
    assert_eq!(run(&scene, &["match", "demo.other"]).await.exit, Exit::Failed, "nobody");
    assert_eq!(run(&scene, &["match", "demo"]).await.exit, Exit::Refused);
    run(&scene, &["peers", "alias", "birch"]).await;
    assert_eq!(run(&scene, &["peers", "show", "birch"]).await.exit, Exit::NoSuchPeer, "called nothing now");
}

#[tokio::test]
async fn a_script_waits_for_what_it_needs() {
    let scene = Scene::open().await;
    assert_eq!(run(&scene, &["wait", "--ready"]).await.exit, Exit::Done);
    let done = run(&scene, &["wait", "--peers", "1", "--timeout", "1ms"]).await;
    assert_eq!(done.exit, Exit::Timeout);
    assert!(done.remarks.contains("0 peers connected, 1 are waited for, after 1ms"), "{}", done.remarks);
    let scene = Scene::open_as(false).await;
    assert_eq!(run(&scene, &["wait"]).await.exit, Exit::Done, "it answers");
    let done = run(&scene, &["wait", "--ready", "--timeout", "1ms"]).await;
    assert!(done.exit == Exit::Timeout && done.remarks.contains("the disk is full"), "{}", done.remarks);
    let gone = scene.path.with_file_name("gone.sock");
    let line = ["wait", "--timeout", "1ms", "--socket", gone.to_str().expect("UTF-8")];
    assert_eq!(run(&scene, &line).await.exit, Exit::Timeout);
    // 503 is no answer either, as from a daemon on its way out before the next one starts.
    scene.freeze();
    let began = Instant::now();
    let done = run(&scene, &["wait", "--timeout", "200ms"]).await;
    assert!(began.elapsed() >= Duration::from_millis(200), "it waits as long as it was told");
    assert!(done.exit == Exit::Timeout && done.remarks.contains("after 200ms (AF0215)"), "{}", done.remarks);
}

#[tokio::test]
async fn a_daemon_that_is_silent_is_waited_for_no_longer_than_was_said() {
    let scene = Scene::open().await;
    let silent = scene.path.with_file_name("silent.sock");
    let _listening = tokio::net::UnixListener::bind(&silent).expect("a socket");
    let line = ["wait", "--timeout", "1ms", "--socket", silent.to_str().expect("UTF-8")];
    let done = run(&scene, &line).await;
    assert_eq!(done.exit, Exit::Timeout);
    assert!(done.remarks.contains("the daemon does not answer, after 1ms"), "{}", done.remarks);
}

#[tokio::test]
async fn a_refused_event_is_an_answer_too() {
    let scene = Scene::open().await;
    let done = run(&scene, &["publish", "mesh.node", "--json"]).await;
    assert_eq!(done.exit, Exit::Refused);
    let answer = &done.json()[0];
    assert_eq!((&answer["stored"], &answer["code"]), (&false.into(), &"type_denied".into()));
    let done = run(&scene, &["publish", "a.b", "--to", "nobody"]).await;
    assert_eq!((done.exit, done.results.as_str()), (Exit::NoSuchPeer, ""));
    let stranger = crate::wire::Keypair::from_seed(&[9; 32]).id();
    let own = crate::wire::Keypair::from_seed(&[1; 32]).id();
    let done = run(&scene, &["publish", "a.b", "--to", &stranger.to_string(), "--to", &own.to_string()]).await;
    assert_eq!(done.exit, Exit::Done);
    assert!(done.remarks.contains(&format!("not for {stranger}: it is no peer of this node")), "{}", done.remarks);
    assert!(!done.remarks.contains(&format!("not for {own}")), "{}", done.remarks);
    let done = run(&scene, &["publish", "demo.full"]).await;
    assert!(done.remarks.ends_with("(AF0414)\nnext: the same again in 500ms\n"), "{}", done.remarks);
}

#[tokio::test]
async fn a_publisher_that_waits_for_peers_says_who_stored_it() {
    let scene = Scene::open().await;
    let friend = crate::wire::Keypair::from_seed(&[2; 32]).id();
    run(&scene, &["peers", "add", &format!("mesh://{friend}@cedar.example"), "--alias", "cedar", "--no-wait"]).await;
    let done = run(&scene, &["publish", "demo.taken", "--wait", "2", "--timeout", "1h"]).await;
    assert_eq!(done.exit, Exit::Done, "{}", done.remarks);
    assert!(done.remarks.contains("stored by cedar, "), "{}", done.remarks);
    let line = ["publish", "demo.taken", "--wait", "3", "--timeout", "10ms", "--json"];
    let done = run(&scene, &line).await;
    assert_eq!((done.exit, done.json()[0]["stored_by"][0].as_str()), (Exit::Timeout, Some(&*friend.to_string())));
    assert!(done.remarks.contains("2 peers stored it within 10ms, 3 were waited for"), "{}", done.remarks);
    let done = run(&scene, &["publish", "demo.taken", "--reply-to", "self", "--wait", "0"]).await;
    assert_eq!(done.exit, Exit::Done, "{}", done.remarks);
    assert_eq!(run(&scene, &["publish", "a.b", "--reply-to", "nobody"]).await.exit, Exit::NoSuchPeer);
}

#[tokio::test]
async fn every_line_of_standard_input_has_its_answer() {
    let scene = Scene::open().await;
    let lines = "{\"type\":\"demo.a\",\"id\":\"1\"}\nnot JSON\n\n{\"type\":\"demo.b\",\"id\":\"2\"}";
    for is_json in [true, false] {
        let mut client = crate::admin::Client::connect(&scene.path).await.expect("a connection");
        let (sender, pieces) = tokio::sync::mpsc::channel(1);
        std::thread::spawn(move || publish::pump(Cursor::new(lines), &sender));
        let (mut output, results, remarks) = pages(is_json);
        let refused = publish::exchange(&mut client, publish::body(pieces), true, None, &mut output).await;
        assert_eq!(refused, Ok(publish::Tally { refused: 1, short: 0 }));
        let done = finish(Ok(Exit::Refused), output, &results, &remarks);
        assert!(done.remarks.starts_with("afferent: publish: line 2: not acceptable JSON"), "{}", done.remarks);
        if is_json {
            let stored: Vec<bool> = done.json().iter().map(|answer| answer["stored"] == true).collect();
            assert_eq!(stored, [true, false, true]);
        } else {
            assert_eq!(done.results.lines().count(), 2, "the digests alone");
        }
    }
}

#[tokio::test]
async fn interests_are_shown_as_they_are_after_a_change() {
    let scene = Scene::open().await;
    assert!(run(&scene, &["interests"]).await.remarks.starts_with("nothing is wanted"));
    assert_eq!(run(&scene, &["interests", "add", "b.*", "a.b"]).await.results, "a.b\nb.*\n");
    assert_eq!(run(&scene, &["interests", "rm", "a.b"]).await.results, "b.*\n");
    run(&scene, &["interests", "add", "b.c"]).await;
    let done = run(&scene, &["interests", "add", "a.c", "*"]).await;
    assert_eq!(done.results, "*\n");
    assert!(done.remarks.contains("`*` covers `a.c`, `b.*`: not kept beside it"), "{}", done.remarks);
    let done = run(&scene, &["interests", "set", "x.*", "--json"]).await;
    assert_eq!((done.json()[0]["patterns"].clone(), done.remarks.as_str()), (serde_json::json!(["x.*"]), ""));
    let done = run(&scene, &["interests", "rm", "a.b"]).await;
    assert_eq!(done.exit, Exit::Failed);
    assert!(done.remarks.ends_with("(AF0311)\nnext: afferent interests\n"), "{}", done.remarks);
}

#[tokio::test]
async fn dead_letters_are_listed_shown_and_dropped() {
    let scene = Scene::open().await;
    let done = run(&scene, &["dead"]).await;
    let row: Vec<&str> = done.results.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row[..3], ["1795262400000-0", "mesh:events", "intake"]);
    assert_eq!(run(&scene, &["dead", "list", "--count", "1", "--json"]).await.json()[0]["letters"][0]["field"], "type");
    let done = run(&scene, &["dead", "show", "mesh:events/1795262400000-0"]).await;
    assert!(done.results.contains("event       0 sig {}\n  data = 1\n"), "{}", done.results);
    let done = run(&scene, &["dead", "retry", "1795262400000-0"]).await;
    assert_eq!(done.exit, Exit::Refused);
    assert!(done.remarks.contains("type: missing (AF0605)"), "{}", done.remarks);
    let done = run(&scene, &["dead", "drop", "1795262400000-0"]).await;
    assert_eq!(done.results, "1795262400000-0 of mesh:events is dropped\n");
    let done = run(&scene, &["dead", "show", "7"]).await;
    assert_eq!(done.exit, Exit::Failed);
    assert!(done.remarks.ends_with("(AF0603)\nnext: afferent dead list\n"), "{}", done.remarks);
}

#[tokio::test]
async fn a_stopped_stream_goes_on_as_it_is_told() {
    let scene = Scene::open().await;
    let done = run(&scene, &["bus", "replay"]).await;
    assert_eq!(done.results, "mesh:events gets everything that the journal holds\n");
    assert_eq!(run(&scene, &["bus", "replay", "--json"]).await.json()[0]["streams"][0]["after"], 0);
    let done = run(&scene, &["bus", "resume"]).await;
    assert!(done.exit == Exit::Failed && done.remarks.contains("AF0606"), "{}", done.remarks);
}
