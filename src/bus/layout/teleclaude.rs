//! The layout `teleclaude`: exactly what TeleClaude's `EventEnvelope.to_stream_dict` writes and its
//! `from_stream_dict` reads, both ways and without loss, with the `mesh_*` fields riding along (that
//! reader ignores fields it does not know).
//!
//! | field of the bus | in the event | what its reader raises on |
//! |---|---|---|
//! | `event` | `type` | nothing that is a type |
//! | `version` | the end of `dataschema`: `…/teleclaude/event/<version>` | no whole number |
//! | `source` | `data.producer`; the node's id where the event was not made by TeleClaude | |
//! | `timestamp` | `time`, as written where Python can read that | no ISO date of the years 1 to 9999 |
//! | `idempotency_key` | `idempotencykey` | |
//! | `level` | `level` | missing, or not 0 to 3 |
//! | `domain` | `domain` | |
//! | `entity` | `subject` | |
//! | `description` | `data.description` | no string |
//! | `visibility` | `visibility`; `public` when the event does not say | not `local`, `cluster` or `public` |
//! | `payload` | `data.payload`, byte for byte; all of `data` where the event was not made by TeleClaude | no object |
//! | `actions` | `data.actions` | no object of `{description, produces, outcome_shape?}` |
//! | `terminal_when` | `data.terminal_when` | no string |
//! | `resolution_shape` | `data.resolution_shape` | no object of strings |
//! | `_extra`, only when there is one | `data.extra` | no object, or a key that is declared above |
//!
//! An empty field and one that is not there are the same to that reader, and an absent attribute here.
//! It never acknowledges an entry that it raised on, and meets it again at each start: so such an event
//! goes to the dead letters instead, and an entry of a local producer that breaks the same rules never
//! leaves this node.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::super::dead::Cause;
use super::{Fields, mesh};
use crate::core::ports::Stored;
use crate::core::trust::Verdict;
use crate::wire::{Event, timestamp};

/// The declared fields, in their order.
pub(in crate::bus) const FIELDS: [&str; 14] = [
    "event",
    "version",
    "source",
    "timestamp",
    "idempotency_key",
    "level",
    "domain",
    "entity",
    "description",
    "visibility",
    "payload",
    "actions",
    "terminal_when",
    "resolution_shape",
];
/// What does not fit into the declared fields.
pub(in crate::bus) const EXTRA: &str = "_extra";
/// The schema of an event that TeleClaude made, up to its version.
pub(in crate::bus) const SCHEMA: &str = "https://schemas.instrukt.ai/teleclaude/event/";
/// How such a schema ends, whoever hosts it.
const SCHEMA_PATH: &str = "/teleclaude/event/";
/// Versions have so many digits at most: what every reader holds in an integer.
pub const VERSION_DIGITS_MAX: usize = 9;

/// The layout `teleclaude`: see the table above.
pub(super) fn lay_out(stored: &Stored, trust: Verdict) -> Result<Fields, Cause> {
    let event = stored.entry.envelope.event();
    let parts = Parts::of(event)?;
    let attribute = |name: &str| event.attribute(name).unwrap_or_default();
    let level = event.attribute("level").ok_or_else(|| Cause::layout("level", "missing: it is 0, 1, 2 or 3"))?;
    let timestamp = python_time(event).map_err(|why| Cause::layout("timestamp", why))?;
    let mut values: [Cow<'_, str>; 14] = [
        event.kind.as_str().into(),
        parts.version.into(),
        parts.producer.unwrap_or_else(|| event.source.to_string()).into(),
        timestamp.into(),
        attribute("idempotencykey").into(),
        level.into(),
        attribute("domain").into(),
        attribute("subject").into(),
        parts.description.into(),
        event.attribute("visibility").unwrap_or_else(|| "public".to_owned()).into(),
        parts.payload.into(),
        parts.actions.into(),
        parts.terminal_when.into(),
        parts.resolution_shape.into(),
    ];
    let field = |name: &str| FIELDS.iter().position(|known| *known == name).map(|at| &*values[at]);
    check(|name| if name == EXTRA { parts.extra } else { field(name) })?;
    let taken = values.iter_mut().map(|value| std::mem::take(value).into_owned());
    let mut fields: Fields = FIELDS.iter().map(|name| (*name).to_owned()).zip(taken).collect();
    if let Some(extra) = parts.extra {
        fields.push((EXTRA.to_owned(), extra.to_owned()));
    }
    fields.extend(mesh(stored, trust));
    Ok(fields)
}

/// Every rule whose breach makes the reader raise, for an entry in either direction. `timestamp` has
/// its own: [`python_time`] writes one, [`timestamp::parse`] reads one.
///
/// # Errors
/// The first rule broken, with its field.
pub(in crate::bus) fn check<'t>(field: impl Fn(&str) -> Option<&'t str>) -> Result<(), Cause> {
    let text = |name: &str| field(name).unwrap_or_default();
    let is_version = |text: &str| text.is_empty() || is_canonical(text);
    if !is_version(text("version")) {
        return Err(Cause::layout("version", "must be a whole number without leading zeros"));
    }
    match field("level") {
        Some("0" | "1" | "2" | "3") => {}
        None => return Err(Cause::layout("level", "missing: it is 0, 1, 2 or 3")),
        Some(_) => return Err(Cause::layout("level", "must be 0, 1, 2 or 3")),
    }
    if !matches!(text("visibility"), "local" | "cluster" | "public") {
        return Err(Cause::layout("visibility", "must be local, cluster or public"));
    }
    let object = |name: &str| -> Result<Option<BTreeMap<String, &'t RawValue>>, Cause> {
        let Some(text) = field(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|_| Cause::layout(name, "must be a JSON object"))
    };
    object("payload")?;
    for action in object("actions")?.unwrap_or_default().values() {
        // serde would take a list for the members in their order.
        let is_object = action.get().starts_with('{');
        if !is_object || serde_json::from_str::<Action<'_>>(action.get()).is_err() {
            let why = "each must be {description, produces, outcome_shape?}: two strings and an object of strings";
            return Err(Cause::layout("actions", why));
        }
    }
    if field("resolution_shape") != Some("null")
        && object("resolution_shape")?.unwrap_or_default().values().any(|value| !is_string(value))
    {
        return Err(Cause::layout("resolution_shape", "its values must be strings"));
    }
    if object(EXTRA)?.unwrap_or_default().keys().any(|key| FIELDS.contains(&key.as_str())) {
        return Err(Cause::layout(EXTRA, "redefines a declared field"));
    }
    Ok(())
}

fn is_canonical(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits && (1..=VERSION_DIGITS_MAX).contains(&text.len()) && (text.len() == 1 || !text.starts_with('0'))
}

fn is_string(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

/// One of `actions`, as its reader declares it; what else is in there is ignored.
#[derive(Deserialize)]
#[expect(dead_code, reason = "read for their kinds alone")]
struct Action<'t> {
    #[serde(borrow)]
    description: Cow<'t, str>,
    #[serde(borrow)]
    produces: Cow<'t, str>,
    #[serde(default)]
    outcome_shape: Option<BTreeMap<String, String>>,
}

/// What an event holds beside its attributes.
struct Parts<'t> {
    version: &'t str,
    producer: Option<String>,
    description: String,
    payload: &'t str,
    actions: &'t str,
    terminal_when: String,
    resolution_shape: &'t str,
    extra: Option<&'t str>,
}

/// The data of an event that TeleClaude made. A member is as long absent as it is empty.
#[derive(Deserialize)]
struct Data<'t> {
    #[serde(borrow, default, deserialize_with = "there")]
    producer: Option<&'t RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    description: Option<&'t RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    payload: Option<&'t RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    actions: Option<&'t RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    terminal_when: Option<&'t RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    resolution_shape: Option<&'t RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    extra: Option<&'t RawValue>,
}

/// A member that is `null` is there.
fn there<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

impl<'t> Parts<'t> {
    fn of(event: &'t Event) -> Result<Parts<'t>, Cause> {
        let schema = event.attribute("dataschema").unwrap_or_default();
        let Some((_, version)) = schema.rsplit_once(SCHEMA_PATH) else { return Ok(Parts::foreign(event)) };
        if !is_canonical(version) {
            return Err(Cause::layout("version", "the schema of the event does not end with one"));
        }
        // The schema is a copy; the event holds the same digits.
        let at = event.text().find(&format!("{SCHEMA_PATH}{version}\"")).map(|at| at + SCHEMA_PATH.len());
        let version = at.map_or("1", |at| &event.text()[at..at + version.len()]);
        let not_ours = || Cause::layout("payload", "the data is not what the schema of the event says");
        let data = event.data().unwrap_or("{}");
        if !data.starts_with('{') {
            return Err(not_ours());
        }
        let data: Data<'t> = serde_json::from_str(data).map_err(|_| not_ours())?;
        let text = |name: &'static str, value: Option<&RawValue>| match value {
            None => Ok(None),
            Some(value) => serde_json::from_str::<String>(value.get())
                .map(Some)
                .map_err(|_| Cause::layout(name, "must be a string")),
        };
        let raw = |value: Option<&'t RawValue>| value.map_or("", RawValue::get);
        Ok(Parts {
            version,
            producer: text("source", data.producer)?,
            description: text("description", data.description)?.unwrap_or_default(),
            payload: raw(data.payload),
            actions: raw(data.actions),
            terminal_when: text("terminal_when", data.terminal_when)?.unwrap_or_default(),
            resolution_shape: raw(data.resolution_shape),
            extra: data.extra.map(RawValue::get),
        })
    }

    /// An event that something else than TeleClaude made: its data is the payload.
    fn foreign(event: &'t Event) -> Parts<'t> {
        Parts {
            version: "1",
            producer: None,
            description: String::new(),
            payload: event.data().unwrap_or(""),
            actions: "",
            terminal_when: String::new(),
            resolution_shape: "",
            extra: None,
        }
    }
}

/// The time of an event as every Python since 3.7 reads it: as written when it has an offset and 0, 3
/// or 6 decimals, else the same moment with 6 and, for `Z`, `+00:00`.
fn python_time(event: &Event) -> Result<String, &'static str> {
    let written = event.attribute("time").unwrap_or_default();
    if written.starts_with("0000") {
        return Err("Python knows no year 0");
    }
    // The shape was checked when the event was read.
    let (civil, rest) = written.split_at_checked(19).ok_or("not a time")?;
    let zone_at = rest.find(['Z', '+', '-']).ok_or("not a time")?;
    let (fraction, zone) = rest.split_at(zone_at);
    let zone = if zone == "Z" { "+00:00" } else { zone };
    let digits = fraction.trim_start_matches('.');
    let is_readable = matches!(digits.len(), 0 | 3 | 6) && !written.ends_with('Z');
    if is_readable {
        return Ok(written);
    }
    Ok(format!("{civil}.{:0<6}{zone}", &digits[..digits.len().min(6)]))
}

/// What `timestamp` of a local producer must be to travel: RFC 3339 as the wire has it.
pub(in crate::bus) fn travelling_time(text: &str) -> Result<(), Cause> {
    match timestamp::parse(text) {
        Ok(_) if text.starts_with("0000") => Err(Cause::layout("timestamp", "Python knows no year 0")),
        Ok(_) => Ok(()),
        Err(why) => Err(Cause::layout("timestamp", why)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOON, stored, value};
    use super::*;
    use crate::wire::{Draft, Keypair, Scalar};

    fn draft(data: &str) -> Draft {
        Draft::new("e-1", "deployment.failed", NOON)
            .with("dataschema", Scalar::Text(format!("{SCHEMA}1")))
            .with("level", Scalar::Integer(3))
            .with("visibility", Scalar::Text("public".into()))
            .with_data(RawValue::from_string(data.into()).expect("JSON"))
    }

    fn fault(draft: &Draft) -> String {
        let cause = lay_out(&stored(draft, None), Verdict::Accepted).expect_err("its reader would raise");
        assert!(!cause.reason.is_empty());
        cause.field
    }

    #[test]
    fn an_event_of_teleclaude_is_its_fourteen_fields_again() {
        let data = r#"{"producer":"deploy-worker","description":"D\u00e9p\nloi","payload":{"n": 1.50,  "x": [null]},"actions":{"retry":{"description":"again","produces":"deployment.started","outcome_shape":{"ok":"bool"},"more":1}},"terminal_when":"done","resolution_shape":{"by":"str"},"extra":{"trace": "7"}}"#;
        let draft = draft(data)
            .with("time", Scalar::Text("2026-11-21T06:41:02.123456+00:00".into()))
            .with("subject", Scalar::Text("service:proxy".into()))
            .with("domain", Scalar::Text("infrastructure".into()))
            .with("idempotencykey", Scalar::Text("deployment.failed:proxy".into()));
        let fields = lay_out(&stored(&draft, None), Verdict::Accepted).expect("nothing is wrong with it");
        for (name, expected) in [
            ("event", "deployment.failed"),
            ("version", "1"),
            ("source", "deploy-worker"),
            ("timestamp", "2026-11-21T06:41:02.123456+00:00"),
            ("idempotency_key", "deployment.failed:proxy"),
            ("level", "3"),
            ("domain", "infrastructure"),
            ("entity", "service:proxy"),
            ("description", "D\u{e9}p\nloi"),
            ("visibility", "public"),
            ("payload", r#"{"n": 1.50,  "x": [null]}"#),
            (
                "actions",
                r#"{"retry":{"description":"again","produces":"deployment.started","outcome_shape":{"ok":"bool"},"more":1}}"#,
            ),
            ("terminal_when", "done"),
            ("resolution_shape", r#"{"by":"str"}"#),
            ("_extra", r#"{"trace": "7"}"#),
            ("mesh_hops", "3"),
            ("mesh_trust", "accepted"),
        ] {
            assert_eq!(value(&fields, name), Some(expected), "{name}");
        }
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).take(14).collect();
        assert_eq!((names.as_slice(), fields.len()), (FIELDS.as_slice(), 14 + 1 + 6));
    }

    #[test]
    fn an_event_of_somebody_else_is_laid_out_as_well() {
        let draft = Draft::new("e-1", "a.b", NOON)
            .with("level", Scalar::Text("0".into()))
            .with_data(RawValue::from_string(r#"{"x":1}"#.into()).expect("JSON"));
        let fields = lay_out(&stored(&draft, None), Verdict::Accepted).expect("nothing is wrong with it");
        let source = Keypair::from_seed(&[7; 32]).id().to_string();
        for (name, expected) in [
            ("source", &*source),
            ("version", "1"),
            ("payload", r#"{"x":1}"#),
            ("visibility", "public"),
            ("actions", ""),
        ] {
            assert_eq!(value(&fields, name), Some(expected), "{name}");
        }
        assert_eq!(value(&fields, "_extra"), None);
        assert_eq!(value(&fields, "timestamp"), Some("2026-11-21T12:00:00.000000+00:00"));
    }

    #[test]
    fn nothing_that_would_stick_its_reader_is_laid_out() {
        let plain = |kind: &str| Draft::new("e-1", kind, NOON);
        assert_eq!(fault(&plain("a.b")), "level");
        for level in ["7", "3.0", "", "-1", "03"] {
            assert_eq!(fault(&draft("{}").with("level", Scalar::Text(level.into()))), "level", "{level}");
        }
        for visibility in ["Public", "all", ""] {
            assert_eq!(fault(&draft("{}").with("visibility", Scalar::Text(visibility.into()))), "visibility");
        }
        for end in ["x", "", "-1", "01", "1.0", "1234567890"] {
            assert_eq!(
                fault(&draft("{}").with("dataschema", Scalar::Text(format!("{SCHEMA}{end}")))),
                "version",
                "{end}"
            );
        }
        assert_eq!(fault(&draft("{}").with("time", Scalar::Text("0000-11-21T12:00:00Z".into()))), "timestamp");
        for (data, field) in [
            ("[]", "payload"),
            ("7", "payload"),
            (r#"{"payload":[1]}"#, "payload"),
            (r#"{"payload":null}"#, "payload"),
            (r#"{"payload":"{}"}"#, "payload"),
            (r#"{"producer":7}"#, "source"),
            (r#"{"description":null}"#, "description"),
            (r#"{"terminal_when":true}"#, "terminal_when"),
            (r#"{"actions":null}"#, "actions"),
            (r#"{"actions":[]}"#, "actions"),
            (r#"{"actions":{"a":7}}"#, "actions"),
            (r#"{"actions":{"a":["x","y"]}}"#, "actions"),
            (r#"{"actions":{"a":{"description":"x"}}}"#, "actions"),
            (r#"{"actions":{"a":{"description":"x","produces":null}}}"#, "actions"),
            (r#"{"actions":{"a":{"description":"x","produces":"y","outcome_shape":{"k":1}}}}"#, "actions"),
            (r#"{"actions":{"a":{"description":"x","produces":"y","outcome_shape":[]}}}"#, "actions"),
            (r#"{"resolution_shape":["x"]}"#, "resolution_shape"),
            (r#"{"resolution_shape":{"k":null}}"#, "resolution_shape"),
            (r#"{"extra":null}"#, "_extra"),
            (r#"{"extra":[1]}"#, "_extra"),
            (r#"{"extra":{"event":"forged"}}"#, "_extra"),
            (r#"{"extra":{"\u006cevel":"forged"}}"#, "_extra"),
        ] {
            assert_eq!(fault(&draft(data)), field, "{data}");
        }
        for data in [r#"{"resolution_shape":null}"#, r#"{"actions":{}}"#, r#"{"extra":{}}"#, "{}"] {
            assert!(lay_out(&stored(&draft(data), None), Verdict::Accepted).is_ok(), "{data}");
        }
    }

    #[test]
    fn every_time_becomes_one_that_every_python_reads() {
        for (written, read) in [
            ("2026-11-21T12:00:00+00:00", "2026-11-21T12:00:00+00:00"),
            ("2026-11-21T12:00:00.123-05:30", "2026-11-21T12:00:00.123-05:30"),
            ("2026-11-21T12:00:00.123456+00:00", "2026-11-21T12:00:00.123456+00:00"),
            ("2026-11-21T12:00:00Z", "2026-11-21T12:00:00.000000+00:00"),
            ("2026-11-21T12:00:00.1Z", "2026-11-21T12:00:00.100000+00:00"),
            ("2026-11-21T12:00:00.123456789+01:00", "2026-11-21T12:00:00.123456+01:00"),
            ("2026-11-21T12:00:00.1234-01:00", "2026-11-21T12:00:00.123400-01:00"),
        ] {
            let fields =
                lay_out(&stored(&draft("{}").with("time", Scalar::Text(written.into())), None), Verdict::Accepted)
                    .expect("good");
            assert_eq!(value(&fields, "timestamp"), Some(read), "{written}");
        }
    }
}
