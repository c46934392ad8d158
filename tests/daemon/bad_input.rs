//! The bad-input table of 7-promises.md against a real daemon: the stated answer, nothing journaled,
//! and a good event accepted on a new connection right after.

use std::time::Duration;

use afferent::time::Wall;
use afferent::wire::envelope::{EVENT_PAYLOAD_TYPE, SIGNATURE_LEN};
use afferent::wire::message::{HELLO_PAYLOAD_TYPE, LINES_TYPE};
use afferent::wire::{Draft, Envelope, Keypair, NodeId, Scalar, Signature, Verified, envelope, timestamp};
use serde_json::Value;

use crate::support::{Daemon, now};

fn key(seed: u8) -> Keypair {
    Keypair::from_seed(&[seed; 32])
}

fn good(name: &str) -> Verified<Envelope> {
    envelope::seal(&Draft::new(name, "good.event", now()), &key(1)).expect("a good draft")
}

/// An event of key 1 with these members changed (`None` = left out), signed as it stands.
fn signed(changes: &[(&str, Option<String>)]) -> String {
    let quoted = |text: String| format!("\"{text}\"");
    let mut members = vec![
        ("specversion", "\"1.0\"".to_owned()),
        ("id", "\"bad-1\"".to_owned()),
        ("source", quoted(key(1).id().uri())),
        ("type", "\"good.event\"".to_owned()),
        ("time", quoted(timestamp::format(now()))),
        ("expirytime", quoted(timestamp::format(now() + Duration::from_secs(3_600)))),
    ];
    for (name, value) in changes {
        members.retain(|(known, _)| known != name);
        members.extend(value.clone().map(|value| (*name, value)));
    }
    let written: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    line(format!("{{{}}}", written.join(",")).as_bytes())
}

/// Key 1 signs these bytes, whatever they are.
fn line(event: &[u8]) -> String {
    let signature = Signature::sign(&key(1), EVENT_PAYLOAD_TYPE, event);
    format!("0 {signature} {}", String::from_utf8(event.to_vec()).expect("text"))
}

fn with(name: &'static str, value: &str) -> String {
    signed(&[(name, Some(value.to_owned()))])
}

fn at(name: &'static str, moment: Wall) -> String {
    signed(&[(name, Some(format!("\"{}\"", timestamp::format(moment))))])
}

/// A node id with this key in it, usable or not.
fn id_of(key: [u8; 32]) -> String {
    use sha2::{Digest as _, Sha256};
    let sum = Sha256::new().chain_update(b"afferent-node-id").chain_update(key).chain_update([1]).finalize();
    let raw = [key.as_slice(), &sum[..2], &[1]].concat();
    data_encoding::BASE32_NOPAD.encode(&raw).to_lowercase()
}

fn rows() -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let mut rows: Vec<(&'static str, Vec<u8>, u16, &'static str)> = Vec::new();
    let mut row = |name, body: String, status, code| rows.push((name, body.into_bytes(), status, code));
    let malformed = [
        ("not our framing", "hello".to_owned()),
        ("byte order mark", line("\u{feff}{}".as_bytes())),
        ("lone surrogate", with("data", r#""\ud800""#)),
        ("NaN", with("data", "NaN")),
        ("trailing bytes", signed(&[]) + " x"),
        ("depth 33", with("data", &format!("{}{}", "[".repeat(32), "]".repeat(32)))),
        ("duplicate key inside", with("data", r#"{"a":{"b":1,"b":2}}"#)),
        ("duplicate key behind an escape", with("data", r#"{"a":1,"\u0061":2}"#)),
        ("1e400", with("data", "1e400")),
        ("2^64", with("data", "18446744073709551616")),
        ("5000 digits", with("data", &"9".repeat(5_000))),
        ("1025 values", with("data", &format!("[{}]", vec!["0"; 1_018].join(",")))),
        ("an upper-case attribute", with("Level", "3")),
        ("data and data_base64", signed(&[("data", Some("1".into())), ("data_base64", Some("\"aGk=\"".into()))])),
        ("a small-order key", with("source", &format!("\"mesh:{}\"", id_of([0; 32])))),
        ("an undecodable key", with("source", &format!("\"mesh:{}\"", id_of([2; 32])))),
        (
            "a wrong checksum",
            with(
                "source",
                &format!("\"mesh:{}\"", key(1).id().to_string().replace(&key(1).id().to_string()[50..53], "aaa")),
            ),
        ),
        ("expiry too far", at("expirytime", now() + Duration::from_secs(7 * 86_400 + 180))),
        ("one segment", with("type", "\"good\"")),
    ];
    for (name, body) in malformed {
        row(name, body, 400, "malformed");
    }
    let fine = good("fine").line(0, false);
    let (head, event) = fine.split_at(2 + SIGNATURE_LEN + 1);
    row("a short signature", format!("0 {} {event}", &head[3..2 + SIGNATURE_LEN]), 400, "malformed");
    row("a padded signature", format!("0 {}= {event}", &head[2..2 + SIGNATURE_LEN]), 400, "malformed");
    row("a flipped bit in the event", fine.replace("fine", "fins"), 401, "bad_signature");
    let other = Signature::sign(&key(2), EVENT_PAYLOAD_TYPE, event.as_bytes());
    row("another key's signature", format!("0 {other} {event}"), 401, "bad_signature");
    let hello = Signature::sign(&key(1), HELLO_PAYLOAD_TYPE, event.as_bytes());
    row("a hello posted as an event", format!("0 {hello} {event}"), 401, "bad_signature");
    row("S plus the order", format!("0 {} {event}", s_plus_order(&head[2..2 + SIGNATURE_LEN])), 401, "bad_signature");
    row("a reserved type", with("type", "\"mesh.hello\""), 403, "type_denied");
    row("from the future", at("time", now() + Duration::from_secs(130)), 400, "future");
    row("expired", at("expirytime", now() - Duration::from_secs(1)), 410, "expired");
    row("another network", with("net", "\"lab\""), 421, "other_network");
    row("not asked for", with("type", "\"other.event\""), 403, "not_subscribed");
    row("not asked for, with duty", with("type", "\"other.event\"").replacen('0', "0+", 1), 403, "not_subscribed");
    row("too many hops", signed(&[("maxhops", Some("2".into()))]).replacen('0', "3", 1), 400, "hops");
    row("65537 bytes", with("data", &format!("\"{}\"", "x".repeat(65_536))), 413, "too_large");
    let not_utf8: Vec<u8> = fine.bytes().map(|byte| if byte == b'f' { 0xff } else { byte }).collect();
    rows.push(("not UTF-8", not_utf8, 400, "malformed"));
    rows
}

/// The same signature with the group order added to S.
fn s_plus_order(signature: &str) -> String {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = data_encoding::BASE64URL_NOPAD.decode(signature.as_bytes()).expect("a signature");
    let mut carry = 0u16;
    for (byte, order) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    data_encoding::BASE64URL_NOPAD.encode(&bytes)
}

#[test]
fn each_bad_line_gets_its_answer_and_a_good_event_passes_right_after() {
    let b = Daemon::running("b", &["good.*"], "", "");
    for (i, (name, body, status, code)) in rows().into_iter().enumerate() {
        let before = b.journal_events();
        let answer = Caller::new(&b).post(&body);
        assert_eq!((answer.status, answer.code.as_deref()), (status, Some(code)), "{name}");
        assert_eq!(b.journal_events(), before, "{name} was journaled");
        let fine = good(&format!("after-{i}")).line(0, false);
        assert_eq!(Caller::new(&b).post(fine.as_bytes()).status, 202, "a good event after {name}");
    }
}

#[test]
fn repeats_conflicts_and_mixed_bodies_are_told_line_by_line() {
    let mut b = Daemon::running("b", &["good.*"], "", "");
    let first = good("one");
    let line = first.line(0, false);
    assert_eq!(Caller::new(&b).post(line.as_bytes()).status, 202);
    assert_eq!(Caller::new(&b).post(line.as_bytes()).status, 200);
    let other =
        envelope::seal(&Draft::new("one", "good.event", now()).with("subject", Scalar::Text("x".into())), &key(1))
            .expect("a draft");
    let conflict = Caller::new(&b).post(other.line(0, false).as_bytes());
    assert_eq!((conflict.status, conflict.code.as_deref()), (409, Some("conflict")));

    let body = [good("two").line(0, false), "junk".to_owned(), good("three").line(0, false), line.clone()].join("\n");
    let mixed = Caller::new(&b).post(body.as_bytes());
    assert_eq!(mixed.status, 200);
    assert_eq!((mixed.body["stored"].as_u64(), mixed.body["duplicate"].as_u64()), (Some(2), Some(1)));
    assert_eq!(mixed.body["rejected"], serde_json::json!([{"i": 1, "code": "malformed"}]));

    b.kill();
    b.start();
    assert_eq!(Caller::new(&b).post(line.as_bytes()).status, 200, "a repeat is known after kill -9");
    let again = Caller::new(&b).post(other.line(0, false).as_bytes());
    assert_eq!(again.code.as_deref(), Some("conflict"), "and so is a conflict");
    assert_eq!(b.journal_events(), 3);
}

#[test]
fn a_body_is_judged_before_it_is_read() {
    let b = Daemon::running("b", &["good.*"], "", "");
    let post = || Caller::new(&b);
    let fine = good("fine").line(0, false);
    assert_eq!(post().post(b"").status, 400);
    assert_eq!(post().post(&vec![b'x'; (1 << 20) + 1]).status, 413);
    assert_eq!(post().post("x\n".repeat(257).as_bytes()).status, 413);
    assert_eq!(post().send("POST", "/mesh/v1/events", &[("content-type", "text/plain")], fine.as_bytes()).status, 415);
    assert_eq!(post().send("POST", "/mesh/v1/events", &[], fine.as_bytes()).status, 415);
    let gzip = [("content-type", LINES_TYPE), ("content-encoding", "gzip")];
    assert_eq!(post().send("POST", "/mesh/v1/events", &gzip, fine.as_bytes()).status, 415);
    assert_eq!(post().send("GET", "/mesh/v1/events", &[], b"").status, 405);
    assert_eq!(post().send("GET", "/mesh/v2/events", &[], b"").status, 404);
    assert_eq!(post().send("GET", "/mesh/v1/health", &[], b"").status, 200);
    assert_eq!(b.journal_events(), 0);
    assert_eq!(post().post(fine.as_bytes()).status, 202);
}

#[test]
fn above_the_rate_a_sender_is_told_when_to_come_back() {
    let b = Daemon::new("b", &["good.*"], "", "");
    let text = std::fs::read_to_string(b.config()).expect("a configuration");
    std::fs::write(b.config(), text.replace("20000/s burst 40000", "5/s burst 10")).expect("a configuration");
    let mut b = b;
    b.start();
    let body: Vec<String> = (0..30).map(|i| good(&format!("n{i}")).line(0, false)).collect();
    let answer = Caller::new(&b).post(body.join("\n").as_bytes());
    assert_eq!(answer.status, 200);
    let (stored, retry) = (answer.body["stored"].as_u64(), answer.body["retry"].as_array().map(Vec::len));
    assert!(stored.is_some_and(|stored| (10..15).contains(&stored)), "{}", answer.body);
    assert_eq!(stored.expect("a count") + retry.expect("retries") as u64, 30);
    assert_eq!(b.journal_events(), stored.expect("a count"), "the ones within are stored");
    let alone = Caller::new(&b).post(good("alone").line(0, false).as_bytes());
    assert_eq!(alone.status, 429);
    assert!(alone.retry_after.is_some());
}

struct Answer {
    status: u16,
    code: Option<String>,
    body: Value,
    retry_after: Option<String>,
}

/// A nameless client with a connection of its own.
struct Caller {
    client: reqwest::Client,
    base: String,
}

impl Caller {
    fn new(daemon: &Daemon) -> Caller {
        let client = crate::support::tls::client();
        Caller { client, base: format!("https://127.0.0.1:{}", daemon.port) }
    }

    fn post(&self, body: &[u8]) -> Answer {
        self.send("POST", "/mesh/v1/events", &[("content-type", LINES_TYPE)], body)
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let method = method.parse().expect("a method");
            let mut request = self.client.request(method, format!("{}{path}", self.base)).body(body.to_vec());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let response = request.send().await.expect("an answer");
            let status = response.status().as_u16();
            let retry_after =
                response.headers().get("retry-after").map(|value| value.to_str().expect("text").to_owned());
            let body: Value = serde_json::from_slice(&response.bytes().await.expect("a body")).unwrap_or_default();
            Answer { status, code: body["code"].as_str().map(str::to_owned), body, retry_after }
        })
    }
}

#[test]
fn a_node_id_is_what_its_key_says() {
    let id: NodeId = id_of(*key(1).id().as_bytes()).parse().expect("an id made by hand");
    assert_eq!(id, key(1).id());
}
