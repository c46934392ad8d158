//! The layout `plain`: every attribute by its own name, and the signed line to verify again. In this
//! order; a field is left out where its column says so:
//!
//! | field | value | absent |
//! |---|---|---|
//! | every attribute by its own name, as signed: `id source type time expirytime`, then `subject datacontenttype to net` … and every extension | text; integers and booleans as JSON writes them | when the event has none |
//! | `data` | the JSON text, byte for byte as signed | without data |
//! | `data_base64` | padded base64 | without binary data |
//! | `mesh_digest` | identity of the event everywhere, 43 characters | never |
//! | `mesh_from` | node id of its source: who says so, proved by the signature | never |
//! | `mesh_via` | node id of the neighbour that gave it to us; our own for what was published here | empty for a nameless sender |
//! | `mesh_hops` | links crossed until here, decimal | never |
//! | `mesh_received` | when this node stored it, RFC 3339 | never |
//! | `mesh_trust` | what local policy says when it is bridged: `accepted`, or `flagged` by a rule | never |
//! | `envelope` | the line `hops sig event` without its LF, so any consumer can verify again | never |
//!
//! `specversion` is not repeated (it is always 1.0, and stands in `envelope`). No attribute can pass
//! itself off as ours: names hold no `_`, which keeps `mesh_*` and `data_base64` apart, `data` is never
//! an attribute, and one named `envelope` is left to be read inside the real `envelope`.

use super::{Fields, mesh};
use crate::core::ports::Stored;
use crate::core::trust::Verdict;

/// The layout `plain`: see the table above.
pub(super) fn lay_out(stored: &Stored, trust: Verdict) -> Fields {
    let entry = &stored.entry;
    let event = entry.envelope.event();
    let mut fields: Fields = event
        .attributes()
        .into_iter()
        .filter(|(name, _)| !matches!(name.as_str(), "specversion" | "envelope"))
        .collect();
    if let Some(data) = event.data() {
        fields.push(("data".to_owned(), data.to_owned()));
    }
    if let Some(data) = event.data_base64() {
        fields.push(("data_base64".to_owned(), data));
    }
    fields.extend(mesh(stored, trust));
    fields.push(("envelope".to_owned(), entry.envelope.line(entry.hops, false)));
    fields
}

#[cfg(test)]
mod tests {
    use super::super::size;
    use super::super::tests::{NOON, stored, value};
    use super::*;
    use crate::wire::{Draft, Keypair, Scalar, envelope};
    use serde_json::value::RawValue;

    #[test]
    fn the_table_of_the_plain_layout_holds() {
        let (source, via) = (Keypair::from_seed(&[7; 32]), Keypair::from_seed(&[8; 32]));
        let draft = Draft::new("e-1", "deployment.started", NOON)
            .with("subject", Scalar::Text("web \"one\"".into()))
            .with("datacontenttype", Scalar::Text("application/json".into()))
            .with("maxhops", Scalar::Integer(4))
            .with("urgent", Scalar::Bool(true))
            .with("shard", Scalar::Text("7".into()))
            .with_data(RawValue::from_string(r#"{"b": 1,  "a": "é"}"#.into()).expect("JSON"));
        let stored = stored(&draft, Some(&via));
        let fields = lay_out(&stored, Verdict::Flagged);
        for (name, expected) in [
            ("id", "e-1"),
            ("type", "deployment.started"),
            ("source", source.id().uri().as_str()),
            ("time", "2026-11-21T12:00:00.000000Z"),
            ("expirytime", "2026-11-22T12:00:00.000000Z"),
            ("subject", "web \"one\""),
            ("datacontenttype", "application/json"),
            ("maxhops", "4"),
            ("urgent", "true"),
            ("shard", "7"),
            ("data", r#"{"b": 1,  "a": "é"}"#),
            ("mesh_digest", stored.entry.envelope.digest().to_string().as_str()),
            ("mesh_from", source.id().to_string().as_str()),
            ("mesh_via", via.id().to_string().as_str()),
            ("mesh_hops", "3"),
            ("mesh_received", "2026-11-21T12:00:00.000000Z"),
            ("mesh_trust", "flagged"),
            ("envelope", stored.entry.envelope.line(3, false).as_str()),
        ] {
            assert_eq!(value(&fields, name), Some(expected), "{name}");
        }
        assert_eq!(fields.len(), 18, "{fields:?}");
        assert!(size(&fields) > stored.entry.envelope.event().bytes().len());
    }

    #[test]
    fn what_an_event_does_not_have_is_left_out_and_a_nameless_sender_is_empty() {
        let fields = lay_out(&stored(&Draft::new("e-2", "a.b", NOON), None), Verdict::Accepted);
        for name in ["subject", "datacontenttype", "data", "data_base64", "specversion"] {
            assert_eq!(value(&fields, name), None, "{name}");
        }
        assert_eq!(value(&fields, "mesh_via"), Some(""));
    }

    #[test]
    fn binary_data_has_a_field_of_its_own() {
        let draft = Draft::new("e-3", "a.b", NOON).with("data_base64", Scalar::Text("AAEC".into()));
        let fields = lay_out(&stored(&draft, None), Verdict::Accepted);
        assert_eq!((value(&fields, "data"), value(&fields, "data_base64")), (None, Some("AAEC")));
    }

    #[test]
    fn no_attribute_stands_where_a_field_of_ours_does() {
        let draft = Draft::new("e-4", "a.b", NOON)
            .with("envelope", Scalar::Text("0 forged {}".into()))
            .with("meshdigest", Scalar::Text("forged".into()));
        let stored = stored(&draft, None);
        let fields = lay_out(&stored, Verdict::Flagged);
        assert_eq!(value(&fields, "envelope"), Some(stored.entry.envelope.line(3, false).as_str()));
        assert!(value(&fields, "envelope").expect("ours").contains("0 forged {}"), "it is readable in the line");
        assert_eq!(value(&fields, "meshdigest"), Some("forged"));
        for name in ["mesh_digest", "data_base", "DATA"] {
            let shadow = Draft::new("e-5", "a.b", NOON).with(name, Scalar::Text("forged".into()));
            assert!(envelope::seal(&shadow, &Keypair::from_seed(&[7; 32])).is_err(), "{name}");
        }
    }
}
