//! Every line of the attribute table, both sides of each limit.

use proptest::prelude::*;

use super::*;
use crate::wire::identity::Keypair;

const NOW: Wall = Wall::from_millis(1_795_243_262_123);

fn id(seed: u8) -> NodeId {
    Keypair::from_seed(&[seed; 32]).id()
}

/// An event with these members added or, when named again, replaced (`None` = left out).
fn event_with(changes: &[(&str, Option<&str>)]) -> String {
    let source = format!("\"{}\"", id(1).uri());
    let mut members: Vec<(&str, String)> = vec![
        ("specversion", r#""1.0""#.into()),
        ("id", r#""e-1""#.into()),
        ("source", source),
        ("type", r#""deployment.started""#.into()),
        ("time", r#""2026-11-21T06:41:02Z""#.into()),
        ("expirytime", r#""2026-11-21T12:41:02Z""#.into()),
    ];
    for (name, value) in changes {
        members.retain(|(known, _)| known != name);
        members.extend(value.map(|value| (*name, value.to_owned())));
    }
    let written: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", written.join(","))
}

fn parse(text: &str) -> Result<Event, Rejection> {
    Event::parse(Bytes::copy_from_slice(text.as_bytes()), &mut Keys::default())
}

fn with(name: &str, value: &str) -> Result<Event, Rejection> {
    parse(&event_with(&[(name, Some(value))]))
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}

#[test]
fn a_plain_event_is_read() {
    let text = event_with(&[("data", Some(r#"{"b":1, "a":[true,null]}"#)), ("subject", Some(r#""caf\u00e9""#))]);
    let event = parse(&text).expect("a good event");
    assert_eq!((event.source, &*event.id, event.kind.as_str()), (id(1), "e-1", "deployment.started"));
    assert_eq!(event.text(), text);
    assert_eq!(event.data(), Some(r#"{"b":1, "a":[true,null]}"#), "the data is not touched");
    assert_eq!(event.attribute("subject").as_deref(), Some("café"));
    assert_eq!(event.attributes().len(), 7);
    assert_eq!((event.hops_max, event.network()), (HOPS_DEFAULT, "main"));
    assert_eq!(event.digest(), Digest::of(text.as_bytes()));
}

#[test]
fn each_required_attribute_is_missed() {
    for name in ["specversion", "id", "source", "type", "time", "expirytime"] {
        assert_eq!(parse(&event_with(&[(name, None)])).map(drop), Err(Rejection::Attribute { name, why: "missing" }));
    }
}

#[test]
fn attributes_outside_their_limits_are_malformed() {
    let me = id(1);
    let many_ids = |count: u8| quoted(&(0..count).map(|seed| id(seed).uri()).collect::<Vec<_>>().join(" "));
    let long = |count: usize| quoted(&"x".repeat(count));
    let good: Vec<(&str, String)> = vec![
        ("id", long(64)),
        ("to", many_ids(16)),
        ("replyto", quoted(&me.uri())),
        ("maxhops", "16".into()),
        ("maxhops", "0".into()),
        ("spread", "10000".into()),
        ("subject", long(512)),
        ("dataschema", long(512)),
        ("tracestate", long(512)),
        ("correlationid", long(256)),
        ("prev", quoted(&Digest::of(b"x").to_string())),
        ("net", quoted("lab")),
        ("level", "3".into()),
        ("flag", "true".into()),
        ("negative", "-2147483648".into()),
        ("a23456789012345678zz", quoted("")),
        ("data_base64", quoted("aGk=")),
        ("data", "null".into()),
        ("type", quoted("a.b.c.d.e.f.g.H-_9")),
    ];
    for (name, value) in good {
        assert_eq!(with(name, &value).map(drop), Ok(()), "{name}: {value}");
    }
    let bad: Vec<(&str, String)> = vec![
        ("specversion", quoted("0.3")),
        ("specversion", "1.0".into()),
        ("id", long(65)),
        ("id", quoted("")),
        ("id", quoted("a b")),
        ("id", "7".into()),
        ("source", quoted(&me.to_string())),
        ("source", quoted(&me.uri()[..60])),
        ("source", quoted(&format!("mesh:{}", me.to_string().to_uppercase()))),
        ("type", quoted("deployment")),
        ("type", quoted("a..b")),
        ("type", quoted("a.b.c.d.e.f.g.h.i")),
        ("type", quoted(&format!("{}.{}.c", "a".repeat(64), "b".repeat(64)))),
        ("type", quoted("-a.b")),
        ("type", quoted("a.b*")),
        ("time", quoted("2026-11-21 06:41:02Z")),
        ("time", "1795243262".into()),
        ("expirytime", quoted("2026-11-21T06:41:60Z")),
        ("to", quoted("")),
        ("to", many_ids(17)),
        ("to", quoted(&format!("{0} {0}", me.uri()))),
        ("to", quoted(&format!("{}  {}", me.uri(), id(2).uri()))),
        ("replyto", quoted("mesh:nobody")),
        ("maxhops", "17".into()),
        ("maxhops", "-1".into()),
        ("maxhops", "1.0".into()),
        ("maxhops", quoted("3")),
        ("spread", "-1".into()),
        ("spread", "2147483648".into()),
        ("subject", long(513)),
        ("subject", quoted("")),
        ("subject", quoted("a\nb")),
        ("subject", quoted("a\u{85}b")),
        ("correlationid", long(257)),
        ("prev", quoted("abc")),
        ("net", quoted("a b")),
        ("net", long(65)),
        ("level", "2147483648".into()),
        ("level", "1.5".into()),
        ("level", "null".into()),
        ("level", "[]".into()),
        ("note", long(257)),
        ("Level", "3".into()),
        ("under_score", quoted("x")),
        ("a23456789012345678901", quoted("x")),
        ("data_base64", quoted("aGk")),
        ("data_base64", quoted("a*k=")),
        ("data_base64", "1".into()),
        ("data", r#"{"a":1,"a":2}"#.into()),
        ("data", "9007199254740992".into()),
        ("data", r#""\ud800""#.into()),
    ];
    for (name, value) in bad {
        let code = with(name, &value).map(drop).map_err(|rejection| rejection.code());
        assert_eq!(code, Err(crate::wire::Code::Malformed), "{name}: {value}");
    }
    let both = event_with(&[("data", Some("1")), ("data_base64", Some(r#""aGk=""#))]);
    assert!(parse(&both).is_err());
}

#[test]
fn the_limits_of_the_whole_event_hold() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(with("data", &nested(31)).is_ok(), "the event itself is depth 1");
    assert!(with("data", &nested(32)).is_err());
    let values = |count: usize| format!("[{}]", vec!["0"; count - 1].join(","));
    assert!(with("data", &values(1_024 - 7)).is_ok(), "the event and its six attributes count");
    assert!(with("data", &values(1_024 - 6)).is_err());

    let extensions = |count: usize| -> String {
        let names: Vec<String> = (0..count).map(|i| format!("x{i}")).collect();
        let changes: Vec<(&str, Option<&str>)> = names.iter().map(|name| (name.as_str(), Some("1"))).collect();
        event_with(&changes)
    };
    assert!(parse(&extensions(26)).is_ok());
    assert!(parse(&extensions(27)).is_err());

    let empty = event_with(&[("data", Some(r#""""#))]).len();
    let sized = |bytes: usize| with("data", &quoted(&"x".repeat(bytes - empty)));
    assert!(sized(EVENT_BYTES_MAX).is_ok());
    assert_eq!(sized(EVENT_BYTES_MAX + 1).map(drop), Err(Rejection::TooLarge));
}

#[test]
fn bytes_that_are_no_event_are_malformed() {
    let good = event_with(&[]);
    for text in [
        "",
        "{",
        "}",
        "[]",
        "null",
        "{}",
        "\u{feff}{}",
        &format!("{good} "),
        &format!(" {good}"),
        &good.replace(',', ",\n"),
        &good.replace(',', ",\t"),
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
    assert!(parse(&good.replace("e-1", "e\\u002d1")).is_ok(), "escapes mean what they say");
    assert!(parse(&good.replace("\"id\"", "\"\\u0069d\"")).is_ok());
    assert!(parse(&good.replacen('{', r#"{"\u0069d":"other","#, 1)).is_err(), "twice behind an escape");
    let mut not_utf8 = good.into_bytes();
    let at = not_utf8.len() - 3;
    not_utf8[at] = 0xff;
    assert!(Event::parse(Bytes::from(not_utf8), &mut Keys::default()).is_err());
}

#[test]
fn freshness_ends_exactly_at_its_limits() {
    let network = Network::default();
    let event = |time: Wall, expires: Wall| {
        let quote = |wall| quoted(&crate::wire::timestamp::format(wall));
        parse(&event_with(&[("time", Some(&quote(time))), ("expirytime", Some(&quote(expires)))])).expect("an event")
    };
    let hour = Duration::from_secs(3_600);
    let tick = Duration::from_micros(1);
    let fresh = |time, expires| event(time, expires).check_fresh(NOW, &network);
    assert_eq!(fresh(NOW + SKEW, NOW + hour), Ok(()));
    assert_eq!(fresh(NOW + SKEW + tick, NOW + hour), Err(Rejection::Future));
    assert_eq!(fresh(NOW, NOW), Err(Rejection::Expired));
    assert_eq!(fresh(NOW, NOW + tick), Ok(()));
    assert_eq!(fresh(NOW - hour * 24 * 365, NOW + hour), Ok(()), "`time` has no lower bound");
    assert_eq!(fresh(NOW, NOW + LIFETIME_MAX + SKEW), Ok(()));
    assert_eq!(fresh(NOW, NOW + LIFETIME_MAX + SKEW + tick), Err(Rejection::ExpiryTooFar));
    let lab = "lab".parse().expect("a network");
    assert_eq!(event(NOW, NOW + hour).check_fresh(NOW, &lab), Err(Rejection::OtherNetwork));
}

proptest! {
    #[test]
    fn no_bytes_can_panic_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Event::parse(Bytes::from(bytes), &mut Keys::default());
    }

    #[test]
    fn one_changed_byte_never_panics(at in 0usize..300, byte in any::<u8>()) {
        let mut bytes = event_with(&[("data", Some(r#"{"a":[1,2,{"b":"\u00e9"}]}"#))]).into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = Event::parse(Bytes::from(bytes), &mut Keys::default());
    }
}
