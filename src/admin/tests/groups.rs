//! Groups of subscribers: where they go on, how many there are, and how they end.

use super::watching::{all, read};
use super::*;

#[tokio::test]
async fn a_group_goes_on_where_it_acknowledged() {
    let scene = Scene::open().await;
    for number in 0..4 {
        scene.arrive("demo.hello", number); // at 1, 3, 5, 7
    }
    assert_eq!(all(&scene, "group=app&since=all&count=2").await, Ok(vec![0, 1]), "not acknowledged: all again");
    assert_eq!(all(&scene, "group=app&since=all&count=2").await, Ok(vec![0, 1]));
    let mut client = scene.client().await;
    let mut acknowledge = async |seq: u64| client.post("/v1/groups/app", format!("{{\"seq\":{seq}}}")).await;
    let answer = acknowledge(3).await.expect("acknowledged");
    assert_eq!(answer, r#"{"schema":"afferent.group/1","group":"app","seq":3,"head":7}"#);
    assert_eq!(acknowledge(1).await.expect("acknowledged"), answer, "a group never goes back");
    assert_eq!(problem(acknowledge(99).await.expect_err("ahead")).0, 409);
    assert_eq!(all(&scene, "group=app&since=all&count=2").await, Ok(vec![2, 3]));
    assert_eq!(all(&scene, "group=other&since=all&count=1").await, Ok(vec![0]));
    let (status, _, body) = scene.raw("GET", "/v1/groups/other", None, b"").await;
    assert_eq!((status, body.trim_end()), (200, r#"{"schema":"afferent.group/1","group":"other","head":7}"#));
    assert_eq!(scene.raw("GET", "/v1/groups/a%20b", None, b"").await.0, 400);
    assert_eq!(all(&scene, "group=a%20b").await.map_err(|problem| problem.0), Err(400));
}

#[tokio::test]
async fn groups_are_listed_and_deleted() {
    let scene = Scene::open().await;
    scene.arrive("demo.hello", 0);
    scene.log.set_cursor("peer:x", Seq(1));
    let mut client = scene.client().await;
    for name in ["b", "a"] {
        client.post(&format!("/v1/groups/{name}"), r#"{"seq":1}"#.to_owned()).await.expect("acknowledged");
    }
    let list = client.get("/v1/groups").await.expect("a list");
    let expected =
        r#"{"schema":"afferent.groups/1","groups":[{"group":"a","seq":1,"head":1},{"group":"b","seq":1,"head":1}]}"#;
    assert_eq!(list, expected);
    let gone = client.delete("/v1/groups/a").await.expect("deleted");
    assert_eq!(gone, r#"{"schema":"afferent.group/1","group":"a","seq":1,"head":1}"#);
    let missing = (404, "no_such_group".to_owned(), "AF0423".to_owned());
    assert_eq!(problem(client.delete("/v1/groups/a").await.expect_err("gone")), missing);
    assert_eq!(scene.acknowledged("a"), None);
    assert_eq!(scene.log.cursor("peer:x"), Some(Seq(1)), "nobody else's cursor is touched");
}

#[tokio::test]
async fn there_are_only_so_many_groups() {
    let scene = Scene::open().await;
    scene.arrive("demo.hello", 0);
    for number in 0..GROUPS_MAX {
        scene.log.set_cursor(&format!("sub:g{number}"), Seq(0));
    }
    let mut client = scene.client().await;
    let mut acknowledge =
        async |name: &str| client.post(&format!("/v1/groups/{name}"), r#"{"seq":1}"#.to_owned()).await;
    acknowledge("g7").await.expect("one that is there goes on");
    let full = (409, "groups_full".to_owned(), "AF0424".to_owned());
    assert_eq!(problem(acknowledge("new").await.expect_err("no place")), full);
    scene.client().await.delete("/v1/groups/g8").await.expect("deleted");
    acknowledge("new").await.expect("there is a place now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_never_goes_back_whoever_acknowledges_at_once() {
    let scene = Arc::new(Scene::open().await);
    for number in 0..200 {
        scene.arrive("demo.hello", number);
    }
    let mut readers = Vec::new();
    for first in 0..4 {
        let scene = Arc::clone(&scene);
        readers.push(tokio::spawn(async move {
            let mut client = scene.client().await;
            for seq in (1..400).skip(first).step_by(4) {
                let answer = client.post("/v1/groups/app", format!("{{\"seq\":{seq}}}")).await.expect("acknowledged");
                let group: Group = serde_json::from_str(&answer).expect("a group");
                assert!(group.seq >= Some(Seq(seq)), "{answer}");
            }
        }));
    }
    for reader in readers {
        soon(reader).await.expect("no panic");
    }
    assert_eq!(scene.acknowledged("app"), Some(Seq(399)));
    assert!(!scene.log.went_back(), "no cursor was ever set below where it was");
}

#[tokio::test]
async fn progress_is_told_where_nothing_was_asked_for() {
    let scene = Scene::open().await;
    for number in 0..600 {
        scene.arrive("demo.hello", number);
    }
    let mut client = scene.client().await;
    let mut lines = client.lines("/v1/events?pattern=rare.*&since=all&progress=true").await.expect("a stream");
    let mut upto = 0;
    while upto < 1_199 {
        let line = &read(&mut lines, 1).await[0];
        assert_eq!(line["schema"], "afferent.progress/1");
        let seq = line["seq"].as_u64().expect("a position");
        assert!(seq > upto, "only what is new");
        upto = seq;
    }
    scene.arrive("rare.hello", 600);
    assert_eq!(read(&mut lines, 1).await[0]["event"]["data"], 600);
    let mut client = scene.client().await;
    let mut plain = client.lines("/v1/events?pattern=rare.*&since=all").await.expect("a stream");
    assert_eq!(read(&mut plain, 1).await[0]["event"]["data"], 600, "nobody else is told");
}
