//! A dead letter: what the local bus could not take, or could not give, and why. The bridge reads it
//! from Redis, the local API shows it: one value for both.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

/// What could not be delivered, and why. Alone its schema is `afferent.letter/1`. Its texts are as they
/// stand in Redis: `field` and the original may hold anything.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Letter {
    /// By which it is called: its id among those of its stream.
    pub id: String,
    /// The stream it could not get to, or that it came from.
    pub stream: String,
    /// `layout`: the reader of the stream could not take it; `quarantine`: local policy holds it back;
    /// `intake`: an entry that cannot be published.
    pub kind: String,
    /// The rule it broke.
    pub reason: String,
    /// The stable word.
    pub code: String,
    /// The field at fault; empty when it is the whole.
    pub field: String,
    /// The neighbour that gave the event, this node for what was published here.
    pub peer: String,
    /// Of the event; empty for an entry.
    pub digest: String,
    /// When this node first saw it, RFC 3339.
    pub first_seen: String,
    /// The event, where it was one: the line that was signed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub envelope: String,
    /// The id of the entry, where it was one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub entry: String,
    /// The fields of the entry.
    #[serde(flatten)]
    pub fields: EntryFields,
    /// The entry was too large to be kept whole: what `fields` has is its beginning.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_cut: bool,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The fields of an entry as they stood: any bytes, in their order, a name perhaps twice. As JSON they are
/// `fields`, an object of texts; where that cannot tell them exactly it shows what is no text escaped
/// (`\xff`), and `raw` beside it has all of them as pairs of base64.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct EntryFields(pub Vec<(Vec<u8>, Vec<u8>)>);

impl EntryFields {
    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values for people, what is no text escaped.
    pub fn shown(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.0.iter().map(|(name, value)| (shown(name), shown(value)))
    }

    /// Every name and value is text, and no name is there twice.
    fn are_plain(&self) -> bool {
        let mut names = BTreeSet::new();
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        self.0.iter().all(|(name, value)| is_text(name) && is_text(value) && names.insert(name))
    }
}

impl<N: Into<Vec<u8>>, V: Into<Vec<u8>>> FromIterator<(N, V)> for EntryFields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> EntryFields {
        EntryFields(fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

fn shown(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string().into(), Cow::Borrowed)
}

/// [`EntryFields`] as JSON.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    raw: Vec<(String, String)>,
}

impl From<EntryFields> for Written {
    fn from(entry: EntryFields) -> Written {
        let mut fields = BTreeMap::new();
        for (name, value) in entry.shown() {
            fields.entry(name.into_owned()).or_insert(value.into_owned());
        }
        let pair = |(name, value): &(Vec<u8>, Vec<u8>)| (BASE64.encode(name), BASE64.encode(value));
        let raw = if entry.are_plain() { Vec::new() } else { entry.0.iter().map(pair).collect() };
        Written { fields, raw }
    }
}

impl TryFrom<Written> for EntryFields {
    type Error = data_encoding::DecodeError;

    fn try_from(written: Written) -> Result<EntryFields, Self::Error> {
        if written.raw.is_empty() {
            return Ok(written.fields.into_iter().collect());
        }
        let decode = |text: &String| BASE64.decode(text.as_bytes());
        let pairs = written.raw.iter().map(|(name, value)| Ok((decode(name)?, decode(value)?)));
        pairs.collect::<Result<Vec<_>, _>>().map(EntryFields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(fields: &EntryFields) -> String {
        serde_json::to_string(&Letter { fields: fields.clone(), ..Letter::default() }).expect("it encodes")
    }

    #[test]
    fn whatever_an_entry_holds_comes_back_byte_for_byte() {
        let some: [&[(&[u8], &[u8])]; 5] = [
            &[],
            &[(b"data", b"{}"), (b"type", b"a.b")],
            &[(b"\xff\x00", b"x"), (b"type", b"a.b")],
            &[(b"subject", b"1"), (b"subject", b"2")],
            &[(b"", b"caf\xe9")],
        ];
        for fields in some {
            let fields: EntryFields = fields.iter().map(|(name, value)| (*name, *value)).collect();
            let text = json(&fields);
            let again: Letter = serde_json::from_str(&text).expect("it decodes");
            assert_eq!(again.fields, fields, "{text}");
        }
    }

    #[test]
    fn text_is_shown_as_it_is_and_anything_else_escaped_with_its_bytes_beside_it() {
        let plain = json(&[("type", "a.b")].into_iter().collect());
        assert!(plain.contains(r#""fields":{"type":"a.b"}"#) && !plain.contains("raw"), "{plain}");
        let other = json(&[(&b"\xff"[..], &b"x"[..])].into_iter().collect());
        assert!(other.contains(r#""fields":{"\\xff":"x"},"raw":[["/w==","eA=="]]"#), "{other}");
        assert!(serde_json::from_str::<EntryFields>(r#"{"raw":[["?",""]]}"#).is_err());
    }
}
