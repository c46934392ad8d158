//! The schemas say what the types say: every example decodes, encodes to the same bytes again, and
//! validates; what breaks a rule does not. Real outputs are judged in `tests/daemon/schemas.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use afferent::admin::answers::{
    Asked, Change, Document, Group, Groups, Identified, Identity, InterestsView, Left, Matches, Peer, Peers, Pinged,
    Progress, Published, Ready, Status, TrustView,
};
use afferent::admin::dead::{Letter, Letters, Mended, Retried};
use afferent::admin::tiers::Discovery;
use afferent::admin::{PeerChange, Problem, SCHEMA_URN, SCHEMAS, document};
use afferent::time::Wall;
use afferent::wire::{Draft, Event, Keypair, Keys, Record, RecordDraft, envelope};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

mod validator;
use validator::{Case, judge};

/// What decodes an example and encodes it again.
type Again = fn(&str) -> String;

/// The type behind each schema; `None` for what a command prints without one.
const TYPES: &[(&str, Option<Again>)] = &[
    ("arrival", Some(arrival)),
    ("asked", Some(of::<Asked>)),
    ("bench", None),
    ("change", Some(of::<Change>)),
    ("codes", None),
    ("config", None),
    ("config-check", None),
    ("dead", Some(of::<Letters>)),
    ("discovery", Some(of::<Discovery>)),
    ("event", Some(event)),
    ("explain", None),
    ("group", Some(of::<Group>)),
    ("groups", Some(of::<Groups>)),
    ("id", Some(of::<Identity>)),
    ("identified", Some(of::<Identified>)),
    ("init", None),
    ("interests", Some(of::<InterestsView>)),
    ("keys", None),
    ("left", Some(of::<Left>)),
    ("letter", Some(of::<Letter>)),
    ("limits", None),
    ("match", Some(of::<Matches>)),
    ("mended", Some(of::<Mended>)),
    ("peer", Some(of::<Peer>)),
    ("peer-change", Some(of::<PeerChange>)),
    ("peers", Some(of::<Peers>)),
    ("ping", Some(of::<Pinged>)),
    ("problem", Some(problem)),
    ("progress", Some(of::<Progress>)),
    ("publish", Some(of::<Published>)),
    ("ready", Some(of::<Ready>)),
    ("record", Some(record)),
    ("retried", Some(of::<Retried>)),
    ("simulation", None),
    ("status", Some(of::<Status>)),
    ("trust", Some(of::<TrustView>)),
];

fn of<T: Document + DeserializeOwned>(text: &str) -> String {
    document(&serde_json::from_str::<T>(text).expect("decodes"))
}

fn problem(text: &str) -> String {
    serde_json::to_string(&serde_json::from_str::<Problem>(text).expect("decodes")).expect("encodes")
}

fn event(text: &str) -> String {
    let event = Event::parse(Bytes::copy_from_slice(text.as_bytes()), &mut Keys::default()).expect("an event");
    event.text().to_owned()
}

fn arrival(text: &str) -> String {
    let members: std::collections::BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).expect("an object");
    let inner = members["event"].get();
    let digest = Event::parse(Bytes::copy_from_slice(inner.as_bytes()), &mut Keys::default()).expect("one").digest();
    assert_eq!(members["digest"].get(), format!("\"{digest}\""), "of these very bytes");
    text.to_owned()
}

fn record(text: &str) -> String {
    let (key, now) = (Keypair::from_seed(&[7; 32]), Wall::from_millis(1_795_243_262_123));
    let data = RawValue::from_string(text.to_owned()).expect("JSON");
    let sealed = envelope::seal(&Draft::new("r", "mesh.node", now).with_data(data), &key).expect("an event");
    let record = Record::read(&sealed).expect("a record");
    let draft = RecordDraft {
        seq: record.seq,
        addresses: record.addresses.clone(),
        interests: record.interests.clone(),
        network: Default::default(),
    };
    let again = draft.seal(now, &key).expect("a record");
    let ours = format!("\"software\":\"{}\"", again.software);
    let data = again.envelope().event().data().expect("data").to_owned();
    data.replace(&ours, &format!("\"software\":\"{}\"", record.software))
}

fn examples(name: &str, text: &str) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Examples {
        examples: Vec<Box<RawValue>>,
    }
    let read: Examples = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(!read.examples.is_empty(), "{name} has no example");
    read.examples.iter().map(|example| example.get().to_owned()).collect()
}

#[test]
fn every_file_is_named_and_has_its_type() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let files = std::fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file").file_name());
    let files: BTreeSet<String> = files.map(|name| name.into_string().expect("a plain name")).collect();
    let named: BTreeSet<String> = SCHEMAS.iter().map(|(name, _)| format!("{name}.json")).collect();
    assert_eq!(files, named);
    let typed: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
    assert_eq!(typed, SCHEMAS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, text) in SCHEMAS {
        let schema: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(schema["$id"], format!("{SCHEMA_URN}{name}:1"));
        if let Some(tag) = schema["properties"].get("schema") {
            assert_eq!(tag["const"], format!("afferent.{name}/1"));
        }
    }
}

#[test]
fn every_example_decodes_encodes_to_the_same_bytes_and_validates() {
    let mut cases = Vec::new();
    for ((name, text), (_, again)) in SCHEMAS.iter().zip(TYPES) {
        for example in examples(name, text) {
            if let Some(again) = again {
                assert_eq!(again(&example), example, "{name}");
            }
            cases.push(Case::good(name, &example));
        }
    }
    judge(&cases, true);
}

#[test]
fn what_lacks_a_member_or_has_another_kind_of_value_is_refused() {
    let mut cases = Vec::new();
    for (name, text) in SCHEMAS {
        let schema: Value = serde_json::from_str(text).expect("JSON");
        let example: Value = serde_json::from_str(&examples(name, text)[0]).expect("JSON");
        let mut refused = |value: Value| {
            cases.push(Case { thing: (*name).to_owned(), text: value.to_string(), is_good: false });
        };
        for member in schema["required"].as_array().expect("a list") {
            let mut lacking = example.clone();
            lacking.as_object_mut().expect("an object").remove(member.as_str().expect("a name"));
            refused(lacking);
        }
        for (member, value) in example.as_object().expect("an object") {
            if schema["properties"][member].get("type").or(schema["properties"][member].get("const")).is_some() {
                let mut other = example.clone();
                other[member] = if value.is_object() { Value::from(7) } else { serde_json::json!({}) };
                refused(other);
            }
        }
    }
    assert!(cases.len() > 100, "{}", cases.len());
    judge(&cases, false);
}

/// What `Event::parse` refuses and a schema can say, the schema refuses; and the other way round.
#[test]
fn the_schema_of_events_draws_the_same_lines_as_the_reader() {
    let good = examples("event", SCHEMAS.iter().find(|(name, _)| *name == "event").expect("there").1).remove(0);
    let me = good.split("\"source\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a source");
    let with = |name: &str, value: &str| {
        let mut members: serde_json::Map<String, Value> = serde_json::from_str(&good).expect("an object");
        members.insert(name.to_owned(), serde_json::from_str(value).expect("JSON"));
        Value::from(members).to_string()
    };
    let long = |count: usize| format!("\"{}\"", "x".repeat(count));
    let cases = [
        ("type", "\"one\"".to_owned()),
        ("type", "\"a..b\"".to_owned()),
        ("type", "\"a.b.c.d.e.f.g.h.i\"".to_owned()),
        ("type", "\"a._b\"".to_owned()),
        ("id", "\"a b\"".to_owned()),
        ("id", long(65)),
        ("id", long(64)),
        ("subject", "\"\"".to_owned()),
        ("subject", long(512)),
        ("subject", long(513)),
        ("maxhops", "16".to_owned()),
        ("maxhops", "17".to_owned()),
        ("spread", "-1".to_owned()),
        ("net", "\"a.b\"".to_owned()),
        ("to", format!("\"{me} nobody\"")),
        ("to", format!("\"{me}\"")),
        ("urgent", "true".to_owned()),
        ("urgent", "null".to_owned()),
        ("urgent", "1.5".to_owned()),
        ("urgent", "2147483648".to_owned()),
        ("urgent", long(256)),
        ("urgent", long(257)),
        ("Urgent", "1".to_owned()),
        ("averyveryverylongname1", "1".to_owned()),
        ("data_base64", "\"AA==\"".to_owned()),
        ("prev", long(42)),
    ];
    let judged: Vec<Case> = cases
        .iter()
        .map(|(name, value)| {
            let text = with(name, value);
            let is_good = Event::parse(Bytes::from(text.clone()), &mut Keys::default()).is_ok();
            Case { thing: "event".to_owned(), text, is_good }
        })
        .collect();
    assert!(judged.iter().filter(|case| case.is_good).count() > 4);
    judge(&judged, false);
}
