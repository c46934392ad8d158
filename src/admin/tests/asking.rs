//! Documents, peers, interests, and how the server comes and goes.

use super::*;

#[tokio::test]
async fn every_question_has_its_document() {
    let scene = Scene::open().await;
    let mut client = scene.client().await;
    for (path, schema) in [
        ("/v1/status", "afferent.status/1"),
        ("/v1/id", "afferent.id/1"),
        ("/v1/peers", "afferent.peers/1"),
        ("/v1/interests", "afferent.interests/1"),
        ("/v1/trust", "afferent.trust/1"),
        ("/readyz", "afferent.ready/1"),
    ] {
        let text = client.get(path).await.expect(path);
        assert!(text.starts_with(&format!(r#"{{"schema":"{schema}","#)), "{path}: {text}");
    }
    assert_eq!(client.get_as::<Status>("/v1/status").await.expect("a status"), status(true));
    assert_eq!(client.get("/livez").await.expect("alive"), "alive");
}

#[tokio::test]
async fn a_node_that_is_not_ready_says_so_and_why() {
    let scene = Scene::open_as(false).await;
    let (status, _, body) = scene.raw("GET", "/readyz", None, b"").await;
    let expected =
        r#"{"schema":"afferent.ready/1","ready":false,"durability":"fsync","warnings":["the disk is full"]}"#;
    assert_eq!((status, body.trim_end()), (503, expected));
    assert_eq!(scene.raw("GET", "/livez", None, b"").await.0, 200, "alive all the same");
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_with_a_code() {
    let scene = Scene::open().await;
    let (status, headers, body) = scene.raw("GET", "/v2/x", None, b"").await;
    assert_eq!(status, 404);
    assert!(headers.contains("application/problem+json"), "{headers}");
    assert_eq!(
        body.trim_end(),
        r#"{"status":404,"code":"not_found","title":"there is no such route; the API begins at /v1/status","number":"AF0202"}"#
    );
    let (status, headers, body) = scene.raw("PUT", "/v1/events", None, b"").await;
    assert!(status == 405 && headers.contains("allow") && body.contains("AF0203"), "{status} {headers} {body}");
    let (status, _, body) = scene.raw("POST", "/v1/interests", Some("application/json"), b"{\"sett\":[]}").await;
    assert!(status == 400 && body.contains("unknown field `sett`"), "{body}");
}

#[tokio::test]
async fn peers_are_added_found_and_removed() {
    let scene = Scene::open().await;
    let mut client = scene.client().await;
    let ids: Vec<NodeId> = (10..60).map(|seed| key(seed).id()).collect();
    let add = |body: serde_json::Value| body.to_string();
    let with = |id: &NodeId, at: &str, alias: &str| {
        add(serde_json::json!({ "address": format!("mesh://{id}@{at}"), "alias": alias }))
    };
    let text = client.post("/v1/peers", with(&ids[0], "cedar.example:7443", "cedar")).await.expect("added");
    assert!(text.starts_with(&format!(r#"{{"schema":"afferent.peer/1","id":"{}","alias":"cedar","#, ids[0])), "{text}");
    for (number, id) in ids.iter().enumerate().skip(1) {
        client.post("/v1/peers", with(id, &format!("h{number}.example"), &format!("h{number}"))).await.expect("added");
    }
    let mut found = async |name: &str| {
        let path = format!("/v1/peers/{}", client::escape(name));
        client.get_as::<Peer>(&path).await.map(|peer| peer.id).map_err(problem)
    };
    let full = ids[3].to_string();
    assert_eq!(found("cedar").await, Ok(ids[0]));
    assert_eq!(found(&full).await, Ok(ids[3]));
    assert_eq!(found(&full[..12].to_uppercase()).await, Ok(ids[3]));
    assert_eq!(found(&format!("mesh:{full}")).await, Ok(ids[3]));
    assert_eq!(found("h4.example").await, Ok(ids[4]));
    assert_eq!(found(&format!("mesh://{full}@elsewhere.example:1")).await, Ok(ids[3]));
    let nobody = Err((404, "no_such_peer".to_owned(), "AF0301".to_owned()));
    for name in ["nobody", "h4.example:1", &full[..3], "", "../status", "a b/c?d"] {
        if !name.is_empty() {
            assert_eq!(found(name).await, nobody, "{name}");
        }
    }
    let (status, ..) = scene.raw("POST", "/v1/peers/cedar", None, b"{}").await;
    assert_eq!(status, 400, "a body that says nothing takes no name away");
    let gone = client.delete("/v1/peers/cedar").await.expect("removed");
    assert!(gone.contains(&ids[0].to_string()));
    assert_eq!(problem(client.delete("/v1/peers/cedar").await.expect_err("gone")).1, "no_such_peer");
}

#[tokio::test]
async fn who_is_blocked_is_a_peer_or_a_whole_id_and_the_reason_is_one_line() {
    let scene = Scene::open().await;
    let mut client = scene.client().await;
    let [known, stranger] = [2, 9].map(|seed| key(seed).id());
    client
        .post("/v1/peers", format!(r#"{{"address":"mesh://{known}@a.example","alias":"cedar"}}"#))
        .await
        .expect("added");
    let mut order = async |route: &str, body: &str| {
        let text =
            client.post(&format!("/v1/peers/{route}"), body.to_owned()).await.map_err(|error| problem(error).1)?;
        let peer: Peer = serde_json::from_str(&text).expect("a peer");
        Ok::<_, String>((peer.id, peer.state, peer.why))
    };
    let blocked = |id, why: Option<&str>| Ok((id, PeerState::Blocked, why.map(str::to_owned)));
    for _ in 0..2 {
        assert_eq!(order("cedar/block", r#"{"reason":"it floods"}"#).await, blocked(known, Some("it floods")));
    }
    assert_eq!(order(&format!("mesh:{stranger}/block"), "").await, blocked(stranger, None));
    assert_eq!(order("cedar/accept", "").await, Err("peer_blocked".to_owned()));
    assert_eq!(order("cedar/unblock", "").await, Ok((known, PeerState::Probing, None)));
    assert_eq!(order("cedar/accept", "").await, Ok((known, PeerState::Probing, None)));
    for (route, body, code) in [
        ("nobody/block", "", "no_such_peer"),
        ("nobody/accept", "", "no_such_peer"),
        ("nobody/unblock", "", "no_such_peer"),
        ("cedar/block", r#"{"why":"x"}"#, "bad_request"),
        ("cedar/block", "{\"reason\":\"a\\nb\"}", "bad_request"),
        ("cedar/block", &format!(r#"{{"reason":"{}"}}"#, "x".repeat(201)), "bad_request"),
    ] {
        assert_eq!(order(route, body).await, Err(code.to_owned()), "{route} {body}");
    }
}

#[tokio::test]
async fn strangers_are_counted_and_listed_when_they_are_asked_for() {
    let scene = Scene::open_among(&[Peer { origin: Origin::Found, ..peer(key(9).id(), None, "x.example") }]).await;
    let mut client = scene.client().await;
    let known: Peers = client.get_as("/v1/peers").await.expect("peers");
    assert_eq!((known.peers.len(), known.strangers), (0, 1));
    let known: Peers = client.get_as("/v1/peers?all=true").await.expect("peers");
    assert_eq!((known.peers.len(), known.strangers), (1, 0));
    let one: Peer = client.get_as(&format!("/v1/peers/{}", key(9).id())).await.expect("a stranger can be shown");
    assert_eq!(one.history.map(|history| history.len()), Some(1));
    let (status, _, body) = scene.raw("GET", "/v1/peers?everybody=1", None, b"").await;
    assert!(status == 400 && body.contains("everybody"), "{status} {body}");
}

#[test]
fn a_beginning_that_two_share_means_neither() {
    let mut ids: Vec<NodeId> = (0..=255).map(|seed| key(seed).id()).collect();
    ids.sort_by_key(ToString::to_string);
    let twin = |a: &str, b: &str| a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let peers: Vec<Peer> = ids.iter().map(|id| peer(*id, None, "x.example")).collect();
    let closest = ids.windows(2).map(|pair| (twin(&pair[0].to_string(), &pair[1].to_string()), pair[0])).max();
    let (shared, id) = closest.expect("many ids");
    let peers = Peers { peers, strangers: 0 };
    let text = id.to_string();
    if shared >= 4 {
        assert_eq!(select(&peers, &text[..shared]).expect_err("two").code, FaultCode::Ambiguous);
    }
    assert_eq!(select(&peers, &text[..(shared + 1).max(4)]), Ok(id));
    let short = select(&peers, &text[..3]).expect_err("too short");
    assert_eq!(short.code, FaultCode::NoSuchPeer);
    assert!(short.why.contains("4 characters at least"), "{}", short.why);
}

#[tokio::test]
async fn an_address_without_an_id_needs_somebody_who_vouches() {
    let scene = Scene::open().await;
    let mut client = scene.client().await;
    let mut add = async |body: &str| client.post("/v1/peers", body.to_owned()).await.map_err(problem);
    let fault = |status, code: &str, number: &str| Err((status, code.to_owned(), number.to_owned()));
    assert_eq!(add(r#"{"address":"cedar.example"}"#).await, fault(409, "unpinned", "AF0304"));
    let nobody = r#"{"address":"cedar.example:9","trust_first_use":true}"#;
    assert_eq!(add(nobody).await, fault(502, "unreachable", "AF0305"));
    let text = add(r#"{"address":"cedar.example","trust_first_use":true}"#).await.expect("added");
    assert!(text.contains(&format!("mesh://{}@cedar.example:7443", key(2).id())), "{text}");
    let own = format!(r#"{{"address":"{}@here.example"}}"#, key(1).id());
    assert_eq!(add(&own).await, fault(409, "own_address", "AF0303"));
    let wrong_alias = format!(r#"{{"address":"{}@a.example","alias":"a b"}}"#, key(3).id());
    assert_eq!(add(&wrong_alias).await, fault(409, "alias", "AF0308"));
    for (seed, expected) in [(3, true), (3, true), (4, false)] {
        let body = format!(r#"{{"address":"{}@a.example","alias":"oak"}}"#, key(seed).id());
        assert_eq!(add(&body).await.is_ok(), expected, "an alias means one peer");
    }
    assert_eq!(add(r#"{"address":"a b"}"#).await, fault(400, "bad_request", "AF0201"));
    let found: Identified = serde_json::from_str(
        &client.post("/v1/identify", r#"{"address":"cedar.example:7"}"#.to_owned()).await.expect("found"),
    )
    .expect("an answer");
    assert_eq!((found.id, found.address.to_string()), (key(2).id(), format!("mesh://{}@cedar.example:7", key(2).id())));
}

#[tokio::test]
async fn sources_are_muted_by_whole_id_and_by_what_a_peer_is_called() {
    let scene = Scene::open().await;
    let mut client = scene.client().await;
    let mut change = async |body: String| {
        let text = client.post("/v1/trust", body).await.map_err(|error| problem(error).1)?;
        let view: TrustView = serde_json::from_str(&text).expect("a view");
        Ok::<_, String>(view.muted.into_iter().map(|muted| muted.id).collect::<Vec<_>>())
    };
    let [known, stranger] = [2, 9].map(|seed| key(seed).id());
    let peer = format!(r#"{{"address":"mesh://{known}@cedar.example:7443","alias":"cedar"}}"#);
    scene.client().await.post("/v1/peers", peer).await.expect("a peer");
    let both = format!(r#"{{"mute":["cedar","mesh:{stranger}"]}}"#);
    assert_eq!(change(both).await, Ok(vec![known, stranger]));
    assert_eq!(change(format!(r#"{{"unmute":["{stranger}"]}}"#)).await, Ok(vec![known]));
    assert_eq!(change(r#"{"mute":["nobody"]}"#.to_owned()).await, Err("no_such_peer".to_owned()));
    assert_eq!(change(r#"{"muted":["cedar"]}"#.to_owned()).await, Err("bad_request".to_owned()));
}

#[tokio::test]
async fn interests_change_and_are_told() {
    let scene = Scene::open().await;
    let mut client = scene.client().await;
    let mut change = async |body: &str| {
        let text = client.post("/v1/interests", body.to_owned()).await.map_err(problem)?;
        let view: InterestsView = serde_json::from_str(&text).expect("a view");
        Ok(view.patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(change(r#"{"set":["b.*","a.*","a.b"]}"#).await, Ok(vec!["a.*".to_owned(), "b.*".to_owned()]));
    assert_eq!(change(r#"{"add":["c.d"],"remove":["b.*"]}"#).await, Ok(vec!["a.*".to_owned(), "c.d".to_owned()]));
    let missing = (404, "no_such_pattern".to_owned(), "AF0311".to_owned());
    assert_eq!(change(r#"{"remove":["x.y"]}"#).await, Err(missing));
    assert_eq!(change(r#"{"add":["x..y"]}"#).await.expect_err("refused").0, 400);
}

#[tokio::test]
async fn a_web_page_is_no_caller() {
    let scene = Scene::open().await;
    for header in [("origin", "https://evil.example"), ("origin", "null"), ("host", "evil.example:8080")] {
        for (method, uri) in [("GET", "/v1/status"), ("POST", "/v1/events"), ("GET", "/nothing")] {
            let (status, _, body) = scene.raw_with(method, uri, &[header], b"{\"type\":\"demo.hello\"}").await;
            assert!(status == 403 && body.contains("AF0206"), "{header:?} {uri}: {status} {body}");
        }
    }
}

#[tokio::test]
async fn a_driver_that_is_gone_is_said_and_not_waited_for() {
    let scene = Scene::open().await;
    scene.driver.abort();
    let (status, headers, body) = soon(scene.raw("GET", "/v1/status", None, b"")).await;
    assert!(status == 503 && headers.contains("retry-after") && body.contains("AF0207"), "{headers} {body}");
    let mut client = scene.client().await;
    let event = r#"{"type":"demo.hello"}"#.to_owned();
    let refused = problem(soon(client.post("/v1/events", event)).await.expect_err("nobody takes it"));
    assert_eq!(refused, (503, "unavailable".to_owned(), "AF0414".to_owned()));
}

#[tokio::test]
async fn the_server_stops_when_told_and_ends_what_would_never_end() {
    let scene = Scene::open().await;
    let mut client = scene.client().await;
    let mut lines = client.lines("/v1/events").await.expect("a stream");
    scene.arrive("demo.hello", 1);
    assert!(soon(lines.next()).await.expect("whole").is_some());
    scene.stop.send(()).expect("served");
    assert_eq!(soon(lines.next()).await.expect("a clean end"), None);
    soon(scene.server).await.expect("no panic").expect("no error");
    assert!(!scene.path.exists(), "the socket is gone");
    let absent = Client::connect(&scene.path).await.err().expect("nobody");
    assert!(matches!(absent, ClientError::Absent { .. }), "{absent:?}");
}
