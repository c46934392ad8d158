//! Dead letters and stopped streams as programs meet them.

use super::*;
use crate::admin::dead::{EntryFields, Letter, Letters, Mended, MendedStream, Retried};

pub(super) fn letter() -> Letter {
    Letter {
        id: "1795262400000-0".into(),
        stream: "mesh:events".into(),
        kind: "intake".into(),
        reason: "missing".into(),
        code: "malformed".into(),
        field: "type".into(),
        peer: String::new(),
        digest: String::new(),
        first_seen: "2026-11-21T12:00:00.000000Z".into(),
        envelope: "0 sig {}".into(),
        entry: "1795262399999-0".into(),
        fields: [("data", "1")].into_iter().collect::<EntryFields>(),
        is_cut: false,
    }
}

pub(super) fn find(id: &str) -> Result<Letter, Fault> {
    match id {
        "1795262400000-0" | "mesh:events/1795262400000-0" => Ok(letter()),
        _ => Err(Fault::new(FaultCode::NoSuchLetter, "no dead letter has this id")),
    }
}

pub(super) fn retry(id: &str) -> Result<Retried, Fault> {
    let Letter { id, stream, field, .. } = find(id)?;
    match field.as_str() {
        "type" => Err(Fault::new(FaultCode::LetterRefused, "type: missing")),
        _ => Ok(Retried { id, stream, digest: Digest::of(b"") }),
    }
}

pub(super) fn mend(replay: bool) -> Result<Mended, Fault> {
    match replay {
        true => Ok(Mended { streams: vec![MendedStream { stream: "mesh:events".into(), after: 0 }], failed: vec![] }),
        false => Err(Fault::new(FaultCode::NothingStopped, "no stream is stopped")),
    }
}

#[tokio::test]
async fn letters_are_listed_without_their_originals_and_shown_with_them() {
    let scene = Scene::open().await;
    let mut client = scene.client().await;
    let list: Letters = client.get_as("/v1/dead").await.expect("letters");
    assert_eq!(list.letters.len(), 2);
    assert!(list.letters[0].envelope.is_empty() && list.letters[0].fields.is_empty());
    let one: Letters = client.get_as("/v1/dead?count=1").await.expect("letters");
    assert_eq!(one.letters.len(), 1);
    for path in ["/v1/dead/1795262400000-0", "/v1/dead/mesh%3Aevents%2F1795262400000-0"] {
        assert_eq!(client.get_as::<Letter>(path).await.expect("a letter"), letter());
    }
    for query in ["count=0", "count=501", "count=x", "page=1"] {
        assert_eq!(scene.raw("GET", &format!("/v1/dead?{query}"), None, b"").await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_has_its_code() {
    let scene = Scene::open().await;
    for (method, path, expected, number) in [
        ("GET", "/v1/dead/7", 404, "AF0603"),
        ("DELETE", "/v1/dead/7", 404, "AF0603"),
        ("POST", "/v1/dead/1795262400000-0/retry", 409, "AF0605"),
        ("POST", "/v1/bus/resume", 409, "AF0606"),
        ("GET", "/v1/bus/resume", 405, "AF0203"),
    ] {
        let (status, _, body) = scene.raw(method, path, None, b"").await;
        assert!(status == expected && body.contains(number), "{method} {path}: {status} {body}");
    }
    let (status, _, body) = scene.raw("POST", "/v1/bus/replay", None, b"").await;
    let expected = r#"{"schema":"afferent.mended/1","streams":[{"stream":"mesh:events","after":0}]}"#;
    assert_eq!((status, body.trim_end()), (200, expected));
    let (status, _, body) = scene.raw("DELETE", "/v1/dead/1795262400000-0", None, b"").await;
    assert!(status == 200 && body.starts_with(r#"{"schema":"afferent.letter/1","id":"1795262400000-0""#), "{body}");
}
