//! The wire vectors of an independent implementation, and what seal and open promise each other.

use proptest::prelude::*;

use super::*;
use crate::wire::draft::Scalar;
use crate::wire::rejection::Code;

fn open_at(line: &str, now: Wall) -> Result<Verified<Envelope>, Rejection> {
    open(&Bytes::copy_from_slice(line.as_bytes()), now, &Network::default(), &mut Keys::default())
}

const NOW: Wall = Wall::from_millis(1_795_243_262_123);

fn key() -> Keypair {
    Keypair::from_seed(&[1; 32])
}

fn sealed() -> Verified<Envelope> {
    let data = serde_json::value::RawValue::from_string(r#"{"x":1}"#.into()).expect("JSON");
    seal(&Draft::new("e-1", "deployment.started", NOW).with("level", Scalar::Integer(3)).with_data(data), &key())
        .expect("a good draft")
}

#[test]
fn the_wire_vectors_get_the_stated_answers_at_the_stated_moment() {
    let text = include_str!("../../../tests/vectors/envelope.json");
    let file: serde_json::Value = serde_json::from_str(text).expect("the vector file");
    assert_eq!(file["payload_type"], EVENT_PAYLOAD_TYPE);
    let now = Wall((file["now"].as_f64().expect("a number") * 1e6).round() as i64);
    for key in file["keys"].as_array().expect("keys") {
        let seed = data_encoding::HEXLOWER.decode(key["seed"].as_str().expect("hex").as_bytes()).expect("hex");
        let pair = Keypair::from_seed(&seed.try_into().expect("32 bytes"));
        assert_eq!(pair.id().to_string(), key["node_id"].as_str().expect("an id"));
    }
    let vectors = file["vectors"].as_array().expect("vectors");
    for vector in vectors {
        let name = vector["name"].as_str().expect("a name");
        let line = vector["line"].as_str().expect("a line");
        let answer = open_at(line.strip_suffix('\n').unwrap_or(line), now);
        match vector["expect"].as_str() {
            Some("stored") => {
                let envelope = answer.unwrap_or_else(|rejection| panic!("{name}: {rejection}"));
                if name == "plain" {
                    assert_eq!(envelope.digest().to_string(), file["digest_of_plain"].as_str().expect("a digest"));
                }
            }
            _ => {
                let code = answer.map(drop).map_err(|rejection| rejection.code().as_str().to_owned());
                assert_eq!(code, Err(vector["code"].as_str().expect("a code").to_owned()), "{name}");
            }
        }
    }
    assert!(vectors.len() >= 13);
}

#[test]
fn a_line_reads_back_as_what_was_sealed() {
    let envelope = sealed();
    for (hops, duty) in [(0, false), (3, true), (8, false)] {
        let line = Line::split(&Bytes::from(envelope.line(hops, duty))).expect("our own line");
        assert_eq!((line.hops, line.duty, line.digest()), (hops, duty, envelope.digest()));
        let opened = open_at(&envelope.line(hops, duty), NOW).expect("our own line");
        assert_eq!(opened.event().bytes(), envelope.event().bytes());
        assert_eq!(opened.signature(), envelope.signature());
    }
    assert!(envelope.line(16, true).len() < envelope.line_len());
}

#[test]
fn the_same_draft_becomes_the_same_bytes() {
    assert_eq!(sealed().line(0, false), sealed().line(0, false));
}

#[test]
fn more_hops_than_the_event_allows_are_refused() {
    assert_eq!(open_at(&sealed().line(9, false), NOW).map(drop), Err(Rejection::Hops));
}

#[test]
fn framing_is_checked_before_anything_is_read() {
    let line = sealed().line(0, false);
    let (head, event) = line.split_at(2 + SIGNATURE_LEN + 1);
    let signature = &head[2..2 + SIGNATURE_LEN];
    let last = if signature.ends_with('A') { "B" } else { "A" };
    for bad in [
        String::new(),
        event.to_owned(),
        format!("0 {event}"),
        format!("0  {signature} {event}"),
        format!(" {signature} {event}"),
        format!("-1 {signature} {event}"),
        format!("+ {signature} {event}"),
        format!("0++ {signature} {event}"),
        format!("01 {signature} {event}"),
        format!("17 {signature} {event}"),
        format!("0 {signature}= {event}"),
        format!("0 {} {event}", &signature[1..]),
        format!("0 {signature}A {event}"),
        format!("0 {} {event}", signature.replace(&signature[..1], "*")),
        format!("0 {signature}\u{20}\u{20}{event}"),
        format!("0 {signature} {event}\r"),
    ] {
        assert_eq!(open_at(&bad, NOW).map(drop).map_err(|rejection| rejection.code()), Err(Code::Malformed), "{bad}");
    }
    // The last of 86 characters carries four spare bits, which must be zero.
    let spare = format!("0 {}{last} {event}", &signature[..SIGNATURE_LEN - 1]);
    assert!(open_at(&spare, NOW).is_err());
    let long = format!("0 {signature} {{{}}}", " ".repeat(EVENT_BYTES_MAX));
    assert_eq!(open_at(&long, NOW).map(drop), Err(Rejection::TooLarge));
}

#[test]
fn a_draft_that_others_would_refuse_is_not_signed() {
    for draft in [
        Draft::new("", "a.b", NOW),
        Draft::new("x", "a", NOW),
        Draft::new("x", "a.b", NOW).with("Level", Scalar::Integer(1)),
        Draft::new("x", "a.b", NOW).with("to", Scalar::Text("mesh:nobody".into())),
        Draft::new("x", "a.b", NOW).with("subject", Scalar::Text("x".repeat(513))),
    ] {
        assert!(seal(&draft, &key()).is_err(), "{draft:?}");
    }
    let forged = Draft::new("x", "a.b", NOW).with("source", Scalar::Text("mesh:somebody".into()));
    assert_eq!(seal(&forged, &key()).expect("the source is ours to say").event().source, key().id());
}

#[test]
fn the_journal_gives_back_what_it_was_given() {
    let envelope = sealed();
    let again = Envelope::from_journal(*envelope.signature(), envelope.event().bytes().clone(), &mut Keys::default());
    assert_eq!(again.expect("what was written").line(1, false), envelope.line(1, false));
}

proptest! {
    #[test]
    fn a_flipped_bit_in_the_signature_is_bad(bit in 0usize..512) {
        let envelope = sealed();
        let mut bytes = *envelope.signature().as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let line = format!("0 {} {}", Signature::from_bytes(bytes), envelope.event().text());
        prop_assert_eq!(open_at(&line, NOW).map(drop), Err(Rejection::BadSignature));
    }

    #[test]
    fn a_changed_byte_anywhere_is_never_accepted(at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let line = sealed().line(0, false).into_bytes();
        let at = at.index(line.len());
        let mut changed = line.clone();
        changed[at] = with;
        // The hop count is not signed; everything else is.
        prop_assume!(changed != line && at > 0);
        prop_assert!(open(&Bytes::from(changed), NOW, &Network::default(), &mut Keys::default()).is_err());
    }
}
