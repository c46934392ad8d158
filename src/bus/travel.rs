//! An entry of the bus stream itself that asks to travel, and the event it becomes. Only where the
//! stream has the layout `teleclaude`: its producers say with each event how far it may go.
//!
//! | entry | what happens |
//! |---|---|
//! | with `mesh_digest` | nothing: it came over the bridge |
//! | `visibility` is `local`, empty or missing | nothing: it never leaves |
//! | `visibility` is `cluster` or `public` | it is published, as the table of `layout::teleclaude` maps it |
//! | anything else, or a field that the reader of the bus would raise on | a dead letter; the entry stays on the bus |
//!
//! `id` follows from the id of the entry, and so do 24 h of life; `time` is the producer's `timestamp`.
//! So the same entry always becomes the same bytes.

use std::sync::Arc;

use super::dead::{Cause, Kind};
use super::layout::teleclaude::{self, EXTRA, FIELDS, SCHEMA};
use super::outbox::{Taken, json_line, mark, time_of};
use crate::wire::{Draft, Envelope, Keypair, Network, Rejection, Scalar, Verified};
use crate::wire::{envelope, json};

/// Makes entries of the bus into events of one node.
#[derive(Clone)]
pub(super) struct Traveller {
    key: Arc<Keypair>,
    network: Network,
    /// What every id begins with.
    mark: String,
}

impl Traveller {
    pub(super) fn new(key: Arc<Keypair>, network: Network, stream: &str) -> Traveller {
        Traveller { key, network, mark: mark(stream) }
    }

    /// The event that this entry is; `None` when it does not ask to travel.
    ///
    /// # Errors
    /// [`Cause`], for ever.
    pub(super) fn seal(&self, taken: &Taken) -> Result<Option<Verified<Envelope>>, Cause> {
        let raw = Raw(taken.fields.as_deref().unwrap_or_default());
        if raw.find("mesh_digest").is_some() || matches!(raw.find("visibility"), None | Some(b"" | b"local")) {
            return Ok(None);
        }
        let fields = raw.read()?;
        let draft = self.draft(taken, &fields)?;
        let sealed = envelope::seal(&draft, &self.key).map_err(|rejection| by(&rejection, taken))?;
        if sealed.event().kind.is_reserved() {
            return Err(by(&Rejection::TypeDenied, taken));
        }
        Ok(Some(sealed))
    }

    fn draft(&self, taken: &Taken, fields: &Fields<'_>) -> Result<Draft, Cause> {
        let needed = |name: &str| fields.find(name).ok_or_else(|| Cause::intake(name, "missing"));
        let (kind, source, timestamp) = (needed("event")?, needed("source")?, needed("timestamp")?);
        teleclaude::check(|name| fields.find(name))
            .and_then(|()| teleclaude::travelling_time(timestamp))
            .map_err(|cause| Cause { kind: Kind::Intake, ..cause })?;
        let written = time_of(&taken.id).ok_or_else(|| Cause::intake("", "the id of the entry is not one of Redis"))?;
        let version = Some(fields.text("version")).filter(|text| !text.is_empty()).unwrap_or("1");
        let level = fields.text("level").parse().expect("checked to be 0 to 3");
        let mut draft = Draft::new(format!("{}-{}", self.mark, taken.id), kind, written)
            .in_network(&self.network)
            .with("time", Scalar::Text(timestamp.to_owned()))
            .with("dataschema", Scalar::Text(format!("{SCHEMA}{version}")))
            .with("level", Scalar::Integer(level))
            .with("visibility", Scalar::Text(fields.text("visibility").to_owned()))
            .with_data(data(source, fields)?);
        for (field, attribute) in ATTRIBUTES {
            let text = fields.text(field);
            if !text.is_empty() {
                draft = draft.with(attribute, Scalar::Text(text.to_owned()));
            }
        }
        Ok(draft)
    }
}

/// Fields that are an attribute of their own unless they are empty.
const ATTRIBUTES: [(&str, &str); 3] =
    [("domain", "domain"), ("entity", "subject"), ("idempotency_key", "idempotencykey")];

/// What is no attribute. The JSON of a field stays as it was written, but for line breaks.
fn data(source: &str, fields: &Fields<'_>) -> Result<Box<serde_json::value::RawValue>, Cause> {
    let quoted = |text: &str| serde_json::to_string(text).expect("a string always encodes");
    let mut data = format!("{{\"producer\":{}", quoted(source));
    for (field, member) in [
        ("description", "description"),
        ("payload", "payload"),
        ("actions", "actions"),
        ("terminal_when", "terminal_when"),
        ("resolution_shape", "resolution_shape"),
        (EXTRA, "extra"),
    ] {
        let text = fields.text(field);
        if text.is_empty() {
            continue;
        }
        let value =
            if matches!(field, "description" | "terminal_when") { quoted(text) } else { json_line(field, text)? };
        data.push_str(&format!(",\"{member}\":{value}"));
    }
    data.push('}');
    let whole = json::check(&data).map_err(|why| Cause::intake("payload", why.to_string()));
    whole.map(|()| serde_json::value::RawValue::from_string(data).expect("checked to be JSON"))
}

/// By a rule of the format that the event broke.
pub(super) fn by(rejection: &Rejection, taken: &Taken) -> Cause {
    let raw = Raw(taken.fields.as_deref().unwrap_or_default());
    let is_long =
        |name: &&str| raw.find(name).is_some_and(|text| text.len() > 256 || text.iter().any(|byte| *byte < 0x20));
    let field = match rejection {
        Rejection::Attribute { name: "type", .. } | Rejection::TypeDenied => "event",
        Rejection::Attribute { name: "time", .. } | Rejection::Future | Rejection::Expired => "timestamp",
        Rejection::Attribute { name: "subject", .. } => "entity",
        Rejection::Attribute { name: "dataschema", .. } => "version",
        Rejection::Extension(_) => {
            ["domain", "idempotency_key"].iter().copied().find(|name| is_long(name)).unwrap_or("domain")
        }
        Rejection::Json(_) | Rejection::TooLarge => "payload",
        _ => "",
    };
    Cause { code: rejection.code(), ..Cause::intake(field, rejection.to_string()) }
}

/// Names and values as Redis has them.
struct Raw<'t>(&'t [Vec<u8>]);

impl<'t> Raw<'t> {
    fn find(&self, name: &str) -> Option<&'t [u8]> {
        self.0.chunks_exact(2).find(|pair| pair[0] == name.as_bytes()).map(|pair| pair[1].as_slice())
    }

    /// The declared fields as text, each there once; what else stands in the entry does not travel.
    fn read(&self) -> Result<Fields<'t>, Cause> {
        let mut fields: Vec<(&'static str, &'t str)> = Vec::new();
        for pair in self.0.chunks_exact(2) {
            let mut names = FIELDS.iter().copied().chain([EXTRA]);
            let Some(name) = names.find(|name| name.as_bytes() == pair[0]) else { continue };
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(Cause::intake(name, "is there twice"));
            }
            let text = std::str::from_utf8(&pair[1]).map_err(|_| Cause::intake(name, "not UTF-8"))?;
            fields.push((name, text));
        }
        Ok(Fields(fields))
    }
}

/// The declared fields that are there.
struct Fields<'t>(Vec<(&'static str, &'t str)>);

impl<'t> Fields<'t> {
    fn find(&self, name: &str) -> Option<&'t str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// A field that is not there is empty.
    fn text(&self, name: &str) -> &'t str {
        self.find(name).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::Layout;
    use super::*;
    use crate::core::ports::{Entry, Seq, Stored};
    use crate::wire::Code;
    use proptest::prelude::*;

    const ENTRY: &str = "1795262400123-7";

    fn traveller() -> Traveller {
        Traveller::new(Arc::new(Keypair::from_seed(&[5; 32])), Network::default(), "teleclaude:events")
    }

    fn taken(fields: &[(&str, &str)]) -> Taken {
        let bytes = fields.iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value.as_bytes().to_vec()]);
        Taken { id: ENTRY.into(), fields: Some(bytes.collect()) }
    }

    /// An entry as its producer writes it, with some fields replaced or, where they are `None`, left out.
    fn entry<'t>(changes: &[(&'t str, Option<&'t str>)]) -> Vec<(&'t str, &'t str)> {
        let mut fields = vec![
            ("event", "deployment.failed"),
            ("version", "1"),
            ("source", "deploy-worker"),
            ("timestamp", "2026-11-21T12:00:00.123456+00:00"),
            ("idempotency_key", ""),
            ("level", "3"),
            ("domain", "infrastructure"),
            ("entity", "service:proxy"),
            ("description", "two\nlines"),
            ("visibility", "cluster"),
            ("payload", r#"{"n": 1.50, "x": "\u00e9"}"#),
            ("actions", ""),
            ("terminal_when", ""),
            ("resolution_shape", ""),
        ];
        for (name, value) in changes {
            fields.retain(|(known, _)| known != name);
            fields.extend(value.map(|value| (*name, value)));
        }
        fields
    }

    fn fault(changes: &[(&str, Option<&str>)]) -> (String, Code) {
        let cause = traveller().seal(&taken(&entry(changes))).expect_err("a malformed entry");
        assert!(!cause.reason.is_empty() && cause.kind == Kind::Intake);
        (cause.field, cause.code)
    }

    /// The fields of the entry on another bus, without those that ride along.
    fn elsewhere(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let envelope = traveller().seal(&taken(fields)).expect("good").expect("it travels");
        let received = crate::time::Wall::from_millis(1_795_262_401_000);
        let stored = Stored {
            seq: Seq(1),
            entry: Entry { envelope, from: None, hops: 1, duty: false, received, claims: Box::default(), hold: None },
        };
        let mut there = Layout::Teleclaude.lay_out(&stored, crate::core::trust::Verdict::Accepted).expect("good");
        there.retain(|(name, _)| !name.starts_with("mesh_"));
        there.sort();
        there
    }

    fn sorted(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        fields.sort();
        fields
    }

    #[test]
    fn an_entry_is_the_same_event_each_time_and_the_same_fields_elsewhere() {
        let fields = entry(&[("_extra", Some(r#"{"trace": [1, null]}"#)), ("visibility", Some("public"))]);
        let first = traveller().seal(&taken(&fields)).expect("good").expect("it travels");
        let again = traveller().seal(&taken(&fields)).expect("good").expect("it travels");
        assert_eq!(first.event().bytes(), again.event().bytes());
        assert!(first.event().id.ends_with(ENTRY));
        assert_eq!(elsewhere(&fields), sorted(&fields));
    }

    #[test]
    fn what_does_not_ask_to_travel_stays() {
        for changes in [
            &[("visibility", Some("local"))][..],
            &[("visibility", Some(""))],
            &[("visibility", None)],
            &[("mesh_digest", Some("over the bridge"))],
            &[("mesh_digest", Some("")), ("level", Some("7"))],
            &[("visibility", Some("local")), ("level", Some("7"))],
        ] {
            assert_eq!(traveller().seal(&taken(&entry(changes))).expect("nothing to refuse").map(|_| ()), None);
        }
        assert!(traveller().seal(&Taken { id: ENTRY.into(), fields: None }).expect("deleted").is_none());
    }

    #[test]
    fn a_malformed_entry_names_the_field() {
        let long = "x".repeat(600);
        let deep = format!("{}1{}", r#"{"a":"#.repeat(40), "}".repeat(40));
        for (field, value) in [
            ("event", None),
            ("event", Some("one")),
            ("source", None),
            ("timestamp", None),
            ("timestamp", Some("2026-11-21 12:00:00")),
            ("timestamp", Some("2026-11-21T12:00:00")),
            ("timestamp", Some("2026-11-21T12:00:60+00:00")),
            ("timestamp", Some("2026-11-21t12:00:00z")),
            ("version", Some("1.0")),
            ("level", None),
            ("level", Some("7")),
            ("level", Some("3.0")),
            ("visibility", Some("everybody")),
            ("payload", Some("[]")),
            ("payload", Some("{")),
            ("payload", Some(r#"{"n": NaN}"#)),
            ("payload", Some(r#"{"n": 9007199254740993}"#)),
            ("payload", Some(r#"{"a": 1, "a": 2}"#)),
            ("payload", Some(r#"{"a": "\ud800"}"#)),
            ("payload", Some(&deep)),
            ("actions", Some("null")),
            ("actions", Some(r#"{"a": {}}"#)),
            ("resolution_shape", Some(r#"{"a": 1}"#)),
            ("_extra", Some("[]")),
            ("_extra", Some(r#"{"event": 1}"#)),
            ("domain", Some(&long)),
            ("domain", Some("a\u{7}b")),
            ("idempotency_key", Some(&long)),
            ("entity", Some(&long)),
        ] {
            assert_eq!(fault(&[(field, value)]).0, field, "{field}={value:?}");
        }
        assert_eq!(fault(&[("event", Some("mesh.node.up"))]), ("event".into(), Code::TypeDenied));
        assert_eq!(fault(&[("event", Some("mesh.peer.dead"))]), ("event".into(), Code::TypeDenied));
        let huge = format!(r#"{{"x":"{}"}}"#, "x".repeat(65_536));
        assert_eq!(fault(&[("payload", Some(&huge))]), ("payload".into(), Code::TooLarge));
        let mut twice = entry(&[]);
        twice.push(("level", "3"));
        assert_eq!(traveller().seal(&taken(&twice)).expect_err("twice").field, "level");
        let mut binary = taken(&entry(&[]));
        binary.fields.as_mut().expect("set")[17] = vec![0xff];
        assert_eq!(traveller().seal(&binary).expect_err("not UTF-8").field, "description");
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            ".{0,12}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("\\PC{0,8}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_a_producer_writes_is_the_same_elsewhere(
            texts in prop::collection::vec("\\PC{0,40}", 4),
            free in prop::collection::vec(".{0,60}", 3),
            payload in prop::collection::btree_map("[a-z]{1,5}", json(), 0..4),
            level in 0..4u8,
            version in 0..100u32,
        ) {
            let [level, version] = [level.to_string(), version.to_string()];
            let payload = serde_json::to_string(&payload).expect("JSON");
            let fields = entry(&[
                ("source", Some(&texts[0])),
                ("idempotency_key", Some(&texts[1])),
                ("domain", Some(&texts[2])),
                ("entity", Some(&texts[3])),
                ("description", Some(&free[0])),
                ("terminal_when", Some(&free[1])),
                ("level", Some(&level)),
                ("version", Some(&version)),
                ("payload", Some(&payload)),
            ]);
            prop_assert_eq!(elsewhere(&fields), sorted(&fields));
        }

        #[test]
        fn no_entry_can_panic(
            names in prop::collection::vec(prop::sample::select([&FIELDS[..], &[EXTRA, "mesh", ""]].concat()), 0..20),
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 20),
        ) {
            let mut fields: Vec<Vec<u8>> = vec![b"visibility".to_vec(), b"public".to_vec()];
            for (name, value) in names.iter().zip(values) {
                fields.extend([name.as_bytes().to_vec(), value]);
            }
            let _ = traveller().seal(&Taken { id: ENTRY.into(), fields: Some(fields) });
        }
    }
}
