//! How an event looks as an entry of a Redis stream: flat fields of text, so that any client reads them.
//!
//! | layout | for whom | what may keep an event out |
//! |---|---|---|
//! | [`Layout::Plain`] | programs written for the mesh | nothing |
//! | [`Layout::Teleclaude`] | TeleClaude's own consumer, unchanged | all that would make it raise |
//! | [`Layout::Mapping`] | whoever wants other names | nothing: a field without a value is left out |
//!
//! An event that a layout cannot carry becomes a dead letter with the rule and the field; its stream
//! never sees it. Whatever the layout, the identity rides along as `mesh_digest`: an entry that has it
//! came over the bridge, and is never taken for one that asks to travel.

use std::sync::Arc;

use super::dead::Cause;
use crate::core::ports::Stored;
use crate::core::trust::Verdict;
use crate::wire::timestamp;

mod mapping;
mod plain;
pub(super) mod teleclaude;

pub use mapping::Mapping;

/// Field names and values in the order they are appended.
pub(super) type Fields = Vec<(String, String)>;

/// The fields of an entry.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Layout {
    /// Every attribute by its own name.
    #[default]
    Plain,
    /// The 14 fields of TeleClaude's event envelope.
    Teleclaude,
    /// Fields of the operator's own.
    Mapping(Arc<Mapping>),
}

impl Layout {
    /// The entry that this event is.
    ///
    /// # Errors
    /// [`Cause`] when its reader could not take it, for ever.
    pub(super) fn lay_out(&self, stored: &Stored, trust: Verdict) -> Result<Fields, Cause> {
        match self {
            Layout::Plain => Ok(plain::lay_out(stored, trust)),
            Layout::Teleclaude => teleclaude::lay_out(stored, trust),
            Layout::Mapping(mapping) => Ok(mapping.lay_out(stored, trust)),
        }
    }
}

/// What every layout says about the way of an event: `mesh_digest mesh_from mesh_via mesh_hops
/// mesh_received mesh_trust`.
fn mesh(stored: &Stored, trust: Verdict) -> Fields {
    let entry = &stored.entry;
    let event = entry.envelope.event();
    let field = |name: &str, value: String| (name.to_owned(), value);
    vec![
        field("mesh_digest", event.digest().to_string()),
        field("mesh_from", event.source.to_string()),
        field("mesh_via", entry.from.map_or_else(String::new, |via| via.to_string())),
        field("mesh_hops", entry.hops.to_string()),
        field("mesh_received", timestamp::format(entry.received)),
        field("mesh_trust", trust.as_str().to_owned()),
    ]
}

/// Bytes that these fields take in a command, roughly.
pub(super) fn size(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len() + 16).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ports::{Entry, Seq};
    use crate::time::Wall;
    use crate::wire::{Draft, Keypair, Scalar, envelope};

    pub(super) const NOON: Wall = Wall::from_millis(1_795_262_400_000);

    /// An event as the journal has it, three links away from its source.
    pub(super) fn stored(draft: &Draft, via: Option<&Keypair>) -> Stored {
        let key = Keypair::from_seed(&[7; 32]);
        let entry = Entry {
            envelope: envelope::seal(draft, &key).expect("a good draft"),
            from: via.map(Keypair::id),
            hops: 3,
            duty: true,
            received: NOON,
            claims: Box::default(),
            hold: None,
        };
        Stored { seq: Seq(1), entry }
    }

    #[test]
    fn a_change_of_a_peer_makes_an_entry_in_every_layout() {
        // As the daemon makes it.
        let data = r#"{"schema":"afferent.peer-change/1","peer":"x","alias":"cedar","from":"connected","to":"suspect","reason":"gone","since":"2026-11-21T12:00:00.000000Z"}"#;
        let text = |text: &str| Scalar::Text(text.to_owned());
        let draft = Draft::new("1", "mesh.peer.suspect", NOON)
            .with("subject", text("x"))
            .with("level", Scalar::Integer(0))
            .with("domain", text("mesh"))
            .with("visibility", text("local"))
            .with_data(serde_json::value::RawValue::from_string(data.to_owned()).expect("JSON"));
        let stored = stored(&draft, Some(&Keypair::from_seed(&[7; 32])));
        let alias = crate::core::pick::Pick::Data(vec!["alias".to_owned()]);
        let own = Layout::Mapping(Arc::new(Mapping(vec![("who".to_owned(), alias)])));
        for (layout, expected) in [
            (Layout::Plain, &[("type", "mesh.peer.suspect"), ("subject", "x"), ("data", data)][..]),
            (
                Layout::Teleclaude,
                &[
                    ("event", "mesh.peer.suspect"),
                    ("level", "0"),
                    ("domain", "mesh"),
                    ("entity", "x"),
                    ("visibility", "local"),
                    ("payload", data),
                ],
            ),
            (own, &[("who", "cedar")]),
        ] {
            let fields = layout.lay_out(&stored, Verdict::Accepted).expect("an entry");
            for (name, wanted) in expected {
                assert_eq!(value(&fields, name), Some(*wanted), "{layout:?}");
            }
            assert!(value(&fields, "mesh_digest").is_some(), "so it is never taken for one that asks to travel");
        }
    }

    /// A field, which stands there once at most.
    pub(super) fn value<'f>(fields: &'f Fields, name: &str) -> Option<&'f str> {
        let mut found = fields.iter().filter(|(field, _)| field == name);
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is there twice");
        first
    }
}
