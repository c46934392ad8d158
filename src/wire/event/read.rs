//! Reading an event: one visitor pass over the top level, `data` walked in full, nothing kept twice.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::Deserializer as _;
use serde::de::{DeserializeSeed as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{EVENT_BYTES_MAX, Event, HOPS_DEFAULT, HOPS_MAX, Network, TO_MAX};
use crate::time::Wall;
use crate::wire::identity::{Digest, Keys, NodeId};
use crate::wire::json::{self, KeySeed, KeysSeen};
use crate::wire::rejection::Rejection;
use crate::wire::timestamp;

/// Most members of an event.
pub const MEMBERS_MAX: usize = 32;
/// Longest value of an attribute, in bytes.
pub const TEXT_MAX: usize = 256;
/// The same of `subject` and `dataschema`.
pub const LONG_TEXT_MAX: usize = 512;
/// The same of `to`.
pub const TO_BYTES_MAX: usize = 991;

pub(super) fn event(bytes: Bytes, digest: Digest, keys: &mut Keys) -> Result<Event, Rejection> {
    if bytes.len() > EVENT_BYTES_MAX {
        return Err(Rejection::TooLarge);
    }
    if bytes.first() != Some(&b'{') || bytes.last() != Some(&b'}') {
        return Err(Rejection::Framing("an event begins with `{` and ends with `}`"));
    }
    if bytes.iter().any(|byte| *byte < 0x20) {
        return Err(Rejection::Json("a control byte"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Rejection::Json("not UTF-8"))?;
    json::check_numbers(text.as_bytes())?;

    let mut members = Members::new(text, keys);
    let mut reader = serde_json::Deserializer::from_str(text);
    let outcome = reader.deserialize_map(&mut members).and_then(|()| reader.end());
    match (members.fault.take(), outcome) {
        (Some(fault), _) => return Err(fault),
        (None, Err(error)) => return Err(json::broken(&error)),
        (None, Ok(())) => {}
    }
    let Members { specversion, id, source, kind, time, expires, to, causation, hops_max, network, data, .. } = members;
    let missing = |name| Rejection::Attribute { name, why: "missing" };
    specversion.ok_or(missing("specversion"))?;
    let (id, source) = (id.ok_or(missing("id"))?, source.ok_or(missing("source"))?);
    let kind = kind.ok_or(missing("type"))?.parse()?;
    let (time, expires) = (time.ok_or(missing("time"))?, expires.ok_or(missing("expirytime"))?);
    Ok(Event {
        digest,
        source,
        id: id.into(),
        kind,
        time,
        expires,
        to,
        causation,
        hops_max: hops_max.unwrap_or(HOPS_DEFAULT),
        network: network.map(Into::into),
        data,
        bytes,
    })
}

/// What the visitor fills in. A broken rule of ours lands in `fault`, so that its words need not
/// travel through serde_json's error text.
struct Members<'t, 'k> {
    text: &'t str,
    keys: &'k mut Keys,
    fault: Option<Rejection>,
    values: usize,
    specversion: Option<()>,
    id: Option<String>,
    source: Option<NodeId>,
    kind: Option<String>,
    time: Option<Wall>,
    expires: Option<Wall>,
    to: Vec<NodeId>,
    causation: Option<Digest>,
    hops_max: Option<u8>,
    network: Option<String>,
    data: Option<std::ops::Range<usize>>,
    has_data_base64: bool,
}

/// The value of an attribute: CloudEvents allows three kinds.
enum Value<'t> {
    Text(Cow<'t, str>),
    Bool,
    Integer(i64),
}

impl<'t, 'k> Members<'t, 'k> {
    fn new(text: &'t str, keys: &'k mut Keys) -> Members<'t, 'k> {
        Members {
            text,
            keys,
            fault: None,
            values: 1, // the event itself
            specversion: None,
            id: None,
            source: None,
            kind: None,
            time: None,
            expires: None,
            to: Vec::new(),
            causation: None,
            hops_max: None,
            network: None,
            data: None,
            has_data_base64: false,
        }
    }

    fn member(&mut self, name: &str, raw: &'t RawValue) -> Result<(), Rejection> {
        if name == "data" {
            let start = raw.get().as_ptr() as usize - self.text.as_ptr() as usize;
            self.data = Some(start..start + raw.get().len());
            json::walk(raw.get(), 2, &mut self.values)?;
            return self.check_one_data();
        }
        self.values += 1;
        match (name, value_of(raw)?) {
            ("data_base64", Value::Text(text)) => {
                self.has_data_base64 = true;
                if BASE64.decode_len(text.len()).is_err() || BASE64.decode(text.as_bytes()).is_err() {
                    return Err(attribute("data_base64", "not padded base64"));
                }
                self.check_one_data()
            }
            ("data_base64", _) => Err(attribute("data_base64", NOT_TEXT)),
            (name, value) => {
                if !is_attribute_name(name) {
                    return Err(Rejection::Extension("a name is 1-20 characters of a-z and 0-9"));
                }
                self.attribute(name, value)
            }
        }
    }

    fn check_one_data(&self) -> Result<(), Rejection> {
        if self.data.is_some() && self.has_data_base64 {
            return Err(attribute("data", "not together with `data_base64`"));
        }
        Ok(())
    }

    fn attribute(&mut self, name: &str, value: Value<'t>) -> Result<(), Rejection> {
        match (known(name), value) {
            (Some(Known::Integer { name, most }), Value::Integer(number)) => {
                if !(0..=most).contains(&number) {
                    return Err(attribute(name, "outside its range"));
                }
                if name == "maxhops" {
                    self.hops_max = u8::try_from(number).ok();
                }
                Ok(())
            }
            (Some(Known::Integer { name, .. }), _) => Err(attribute(name, "must be an integer")),
            // Seventeen are too long as well; that would not say what is wrong.
            (Some(Known::Text { name: "to", .. }), Value::Text(text)) if text.split(' ').count() > TO_MAX => {
                Err(attribute("to", "more than 16 nodes"))
            }
            (Some(Known::Text { name, bytes_max }), Value::Text(text)) => {
                check_text(&text, bytes_max).map_err(|why| attribute(name, why))?;
                if text.is_empty() {
                    return Err(attribute(name, "must not be empty"));
                }
                self.text_attribute(name, &text)
            }
            (Some(Known::Text { name, .. }), _) => Err(attribute(name, NOT_TEXT)),
            (None, Value::Text(text)) => check_text(&text, TEXT_MAX).map_err(Rejection::Extension),
            (None, Value::Integer(number)) if i32::try_from(number).is_err() => {
                Err(Rejection::Extension("an integer outside 32 bits"))
            }
            (None, Value::Bool | Value::Integer(_)) => Ok(()),
        }
    }

    fn text_attribute(&mut self, name: &'static str, text: &str) -> Result<(), Rejection> {
        match name {
            "specversion" if text == "1.0" => self.specversion = Some(()),
            "specversion" => return Err(attribute(name, "must be \"1.0\"")),
            "id" if is_event_id(text) => self.id = Some(text.to_owned()),
            "id" => return Err(attribute(name, "1-64 characters of A-Z a-z 0-9 . _ ~ -")),
            "source" => self.source = Some(NodeId::from_uri(text, self.keys)?),
            "type" => self.kind = Some(text.to_owned()),
            "time" => self.time = Some(timestamp::parse(text).map_err(|why| attribute(name, why))?),
            "expirytime" => self.expires = Some(timestamp::parse(text).map_err(|why| attribute(name, why))?),
            "to" => self.to = self.node_ids(text)?,
            "replyto" => drop(NodeId::from_uri(text, self.keys)?),
            // Any text may stand there: what is no digest names nothing here.
            "causationid" => self.causation = text.parse().ok(),
            "prev" => drop(text.parse::<Digest>().map_err(|_| attribute(name, "must be a digest of 43 characters"))?),
            "net" => {
                text.parse::<Network>()?;
                self.network = Some(text.to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn node_ids(&mut self, text: &str) -> Result<Vec<NodeId>, Rejection> {
        let mut ids = Vec::new();
        for uri in text.split(' ') {
            let id = NodeId::from_uri(uri, self.keys)?;
            if ids.contains(&id) {
                return Err(attribute("to", "names a node twice"));
            }
            ids.push(id);
        }
        Ok(ids)
    }
}

impl<'t> Visitor<'t> for &mut Members<'t, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = KeysSeen::default();
        let mut members = 0;
        while let Some(name) = map.next_key_seed(KeySeed)? {
            members += 1;
            let raw: &'t RawValue = map.next_value()?;
            let outcome = if members > MEMBERS_MAX {
                Err(Rejection::Json("more than 32 members"))
            } else {
                self.member(&name, raw)
            };
            if let Err(fault) = outcome {
                self.fault = Some(fault);
                return Err(A::Error::custom("refused"));
            }
            seen.add::<A::Error>(name)?;
        }
        Ok(())
    }
}

/// An attribute that the protocol knows, with its limit.
enum Known {
    Text { name: &'static str, bytes_max: usize },
    Integer { name: &'static str, most: i64 },
}

fn known(name: &str) -> Option<Known> {
    let text = |name, bytes_max| Some(Known::Text { name, bytes_max });
    match name {
        "specversion" => text("specversion", TEXT_MAX),
        "id" => text("id", TEXT_MAX),
        "source" => text("source", TEXT_MAX),
        "type" => text("type", TEXT_MAX),
        "time" => text("time", TEXT_MAX),
        "expirytime" => text("expirytime", TEXT_MAX),
        "to" => text("to", TO_BYTES_MAX),
        "replyto" => text("replyto", TEXT_MAX),
        "prev" => text("prev", TEXT_MAX),
        "net" => text("net", TEXT_MAX),
        "datacontenttype" => text("datacontenttype", TEXT_MAX),
        "correlationid" => text("correlationid", TEXT_MAX),
        "causationid" => text("causationid", TEXT_MAX),
        "traceparent" => text("traceparent", TEXT_MAX),
        "subject" => text("subject", LONG_TEXT_MAX),
        "dataschema" => text("dataschema", LONG_TEXT_MAX),
        "tracestate" => text("tracestate", LONG_TEXT_MAX),
        "maxhops" => Some(Known::Integer { name: "maxhops", most: i64::from(HOPS_MAX) }),
        "spread" => Some(Known::Integer { name: "spread", most: i64::from(i32::MAX) }),
        _ => None,
    }
}

const NOT_TEXT: &str = "must be a string";

fn attribute(name: &'static str, why: &'static str) -> Rejection {
    Rejection::Attribute { name, why }
}

fn check_text(text: &str, bytes_max: usize) -> Result<(), &'static str> {
    if text.len() > bytes_max {
        return Err("longer than allowed");
    }
    if text.chars().any(char::is_control) {
        return Err("contains a control character");
    }
    Ok(())
}

fn is_attribute_name(name: &str) -> bool {
    (1..=20).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn is_event_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-'))
}

fn value_of(raw: &RawValue) -> Result<Value<'_>, Rejection> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => unescape(text).map(Value::Text),
        Some(b't' | b'f') => Ok(Value::Bool),
        Some(b'-' | b'0'..=b'9') => {
            let integer = text.parse().map_err(|_| Rejection::Extension("a number that is not an integer"))?;
            Ok(Value::Integer(integer))
        }
        _ => Err(Rejection::Extension("must be a string, a boolean or an integer")),
    }
}

/// The string behind a JSON string token, borrowed where it holds no escape.
fn unescape(token: &str) -> Result<Cow<'_, str>, Rejection> {
    let mut reader = serde_json::Deserializer::from_str(token);
    KeySeed.deserialize(&mut reader).map_err(|error| json::broken(&error))
}

/// Every member but the data, of a text that was checked before.
pub(super) fn attributes(text: &str) -> Vec<(String, String)> {
    let is_attribute = |name: &str| name != "data" && name != "data_base64";
    let mut found = Vec::new();
    let mut visit = EachMember(|name: &str, raw: &RawValue| {
        if is_attribute(name) {
            found.push((name.to_owned(), value_text(raw)));
        }
    });
    visit.over(text);
    found
}

/// One member as text, of a text that was checked before.
pub(super) fn member(text: &str, wanted: &str) -> Option<String> {
    let mut found = None;
    let mut visit = EachMember(|name: &str, raw: &RawValue| {
        if name == wanted {
            found = Some(value_text(raw));
        }
    });
    visit.over(text);
    found
}

fn value_text(raw: &RawValue) -> String {
    unescape(raw.get()).map_or_else(|_| raw.get().to_owned(), Cow::into_owned)
}

struct EachMember<F>(F);

impl<F: FnMut(&str, &RawValue)> EachMember<F> {
    fn over(&mut self, text: &str) {
        let mut reader = serde_json::Deserializer::from_str(text);
        reader.deserialize_map(self).expect("an event was checked to be a JSON object");
    }
}

impl<'t, F: FnMut(&str, &RawValue)> Visitor<'t> for &mut EachMember<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(KeySeed)? {
            let raw: &'t RawValue = map.next_value()?;
            (self.0)(&name, raw);
        }
        Ok(())
    }
}
