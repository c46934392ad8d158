//! A layout of the operator's own: each field of the bus, and what stands in it.
//!
//! | written | is |
//! |---|---|
//! | `subject` | this attribute, as text |
//! | `data` | the JSON text of the data, as signed |
//! | `data.user.name` | what stands there in the data: a string without its quotes, else JSON text |
//! | `mesh_hops` | one of the fields `mesh_*` of `plain` |
//! | `envelope` | the signed line |
//! | `=order` | these very characters |

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Fields, mesh};
use crate::core::pick::Pick;
use crate::core::ports::Stored;
use crate::core::trust::Verdict;

/// The fields in the order they are appended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mapping(pub Vec<(String, Pick)>);

impl Mapping {
    /// A value that is not there leaves its field out. `mesh_digest` is always there.
    pub(super) fn lay_out(&self, stored: &Stored, trust: Verdict) -> Fields {
        let about = mesh(stored, trust);
        let find = |pick: &Pick| match pick {
            Pick::Attribute(name) => stored.entry.envelope.event().attribute(name),
            Pick::Data(path) => within(stored.entry.envelope.event().data()?, path),
            Pick::Mesh(name) => about.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()),
            Pick::Envelope => Some(stored.entry.envelope.line(stored.entry.hops, false)),
            Pick::Text(text) => Some(text.clone()),
        };
        let picked = self.0.iter().filter_map(|(name, pick)| find(pick).map(|value| (name.clone(), value)));
        let mut fields: Fields = picked.filter(|(name, _)| name != IDENTITY).collect();
        fields.extend(about.into_iter().filter(|(name, _)| name == IDENTITY));
        fields
    }
}

const IDENTITY: &str = "mesh_digest";

/// The value at the end of the path.
fn within(json: &str, path: &[String]) -> Option<String> {
    let Some((key, rest)) = path.split_first() else {
        return Some(json.to_owned());
    };
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).ok()?;
    let value = members.get(key)?.get();
    if rest.is_empty() {
        return Some(serde_json::from_str::<String>(value).unwrap_or_else(|_| value.to_owned()));
    }
    within(value, rest)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOON, stored, value};
    use super::*;
    use crate::wire::{Draft, Scalar};

    #[test]
    fn each_field_is_what_its_pick_says() {
        let data = r#"{"user": {"name": "J\u00f6rg", "tags": [1, 2]}, "n": 1.50, "none": null}"#;
        let draft = Draft::new("e-1", "a.b", NOON)
            .with("subject", Scalar::Text("web".into()))
            .with("urgent", Scalar::Bool(true))
            .with_data(RawValue::from_string(data.into()).expect("JSON"));
        let stored = stored(&draft, None);
        let path = |keys: &[&str]| Pick::Data(keys.iter().map(|key| (*key).to_owned()).collect());
        let picks = [
            ("kind", Pick::Attribute("type".into()), Some("a.b")),
            ("urgent", Pick::Attribute("urgent".into()), Some("true")),
            ("nothing", Pick::Attribute("color".into()), None),
            ("body", path(&[]), Some(data)),
            ("who", path(&["user", "name"]), Some("J\u{f6}rg")),
            ("tags", path(&["user", "tags"]), Some("[1, 2]")),
            ("n", path(&["n"]), Some("1.50")),
            ("null", path(&["none"]), Some("null")),
            ("astray", path(&["n", "deeper"]), None),
            ("hops", Pick::Mesh("mesh_hops".into()), Some("3")),
            ("line", Pick::Envelope, Some(stored.entry.envelope.line(3, false).as_str())),
            ("_class", Pick::Text("org.example.Order".into()), Some("org.example.Order")),
        ]
        .map(|(name, pick, expected)| (name, pick, expected.map(str::to_owned)));
        let mapping = Mapping(picks.iter().map(|(name, pick, _)| ((*name).to_owned(), pick.clone())).collect());
        let fields = mapping.lay_out(&stored, Verdict::Accepted);
        for (name, _, expected) in &picks {
            assert_eq!(value(&fields, name), expected.as_deref(), "{name}");
        }
        assert_eq!(value(&fields, "mesh_digest"), Some(stored.entry.envelope.digest().to_string().as_str()));
        assert_eq!(fields.len(), 11, "{fields:?}");
    }

    #[test]
    fn the_identity_cannot_be_mapped_away() {
        let mapping = Mapping(vec![("mesh_digest".into(), Pick::Text("forged".into()))]);
        let stored = stored(&Draft::new("e-1", "a.b", NOON), None);
        let fields = mapping.lay_out(&stored, Verdict::Accepted);
        assert_eq!(fields, [("mesh_digest".to_owned(), stored.entry.envelope.digest().to_string())]);
    }
}
