//! CloudEvents 1.0 in JSON, as somebody else's library writes them, made into events of this node.
//!
//! | member | becomes |
//! |---|---|
//! | `source` of another | `originsource`: on the mesh an event is said by who signs it, and that is this node |
//! | `id` of another source | `originid`; the event's own `id` is the hash of both, so the same one comes out each time |
//! | `source` of this node (`mesh:<id>`), and its `id` | themselves |
//! | `time`, `subject`, `type`, extensions, `data`, `data_base64` | themselves, within the limits of every event |
//! | a member that is `null` | nothing: CloudEvents says that it is not there |
//! | `time` of more than 24 h ago, and no `expirytime` | itself, and it lives 24 h from now: no library knows of `expirytime` |

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::idempotency::Key;
use crate::time::Wall;
use crate::wire::event::LIFETIME_DEFAULT;
use crate::wire::{Digest, NodeId, Rejection, Scalar, timestamp};

/// The attribute that keeps the `source` of another.
pub(super) const ORIGIN_SOURCE: &str = "originsource";
/// The attribute that keeps the `id` of another.
pub(super) const ORIGIN_ID: &str = "originid";
/// Content type of one.
pub(super) const ONE_TYPE: &str = "application/cloudevents+json";
/// Content type of an array of them.
pub(super) const BATCH_TYPE: &str = "application/cloudevents-batch+json";

/// The members of an event, each as JSON text.
pub(super) type Members = BTreeMap<String, Box<RawValue>>;

/// Makes the members of a CloudEvent into those that `publish` reads, and names the key it brings along.
///
/// # Errors
/// The rule of CloudEvents, or of this node, that it breaks.
pub(super) fn adopt(mut members: Members, me: NodeId, now: Wall) -> Result<(Members, Key), Rejection> {
    members.retain(|name, value| name == "data" || value.get() != "null");
    if let Some(expires) = late_expiry(&members, now) {
        members.insert("expirytime".to_owned(), json_of(&timestamp::format(expires)));
    }
    let source = required(&members, "source")?;
    let id = required(&members, "id")?;
    if required(&members, "specversion")? != "1.0" {
        return Err(Rejection::Attribute { name: "specversion", why: "1.0 is expected" });
    }
    let key = Key::of_cloudevent(&source, &id);
    if source == me.uri() {
        return Ok((members, key));
    }
    if members.contains_key(ORIGIN_SOURCE) || members.contains_key(ORIGIN_ID) {
        let why = "originsource and originid are written by this node, from `source` and `id`";
        return Err(Rejection::Extension(why));
    }
    members.remove("source");
    let own = Digest::of(format!("{source}\n{id}").as_bytes()).to_string();
    let attributes = [("id", &own[..32]), (ORIGIN_SOURCE, &source), (ORIGIN_ID, &id)];
    members.extend(attributes.map(|(name, text)| (name.to_owned(), json_of(text))));
    Ok((members, key))
}

/// When an event of long ago expires that does not say so.
fn late_expiry(members: &Members, now: Wall) -> Option<Wall> {
    let time: String = serde_json::from_str(members.get("time")?.get()).ok()?;
    let usual = timestamp::parse(&time).ok()? + LIFETIME_DEFAULT;
    (!members.contains_key("expirytime") && usual <= now).then(|| now + LIFETIME_DEFAULT)
}

/// The array of a batch, cut into its elements.
///
/// # Errors
/// [`Rejection::Json`] for what is no array.
pub(super) fn batch(text: &str) -> Result<Vec<Box<RawValue>>, Rejection> {
    serde_json::from_str(text).map_err(|_| Rejection::Json("an array of CloudEvents is expected"))
}

fn required(members: &Members, name: &'static str) -> Result<String, Rejection> {
    let wrong = |why| Rejection::Attribute { name, why };
    let value = members.get(name).ok_or(wrong("missing: a CloudEvent has specversion, id, source and type"))?;
    match serde_json::from_str(value.get()) {
        Ok(Scalar::Text(text)) if !text.is_empty() => Ok(text),
        _ => Err(wrong("a string that is not empty is expected")),
    }
}

fn json_of(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).expect("a string always encodes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;

    fn adopted(text: &str) -> Result<BTreeMap<String, String>, Rejection> {
        let members = serde_json::from_str(text).expect("an object");
        let (members, _) = adopt(members, Keypair::from_seed(&[7; 32]).id(), Wall::from_millis(1_795_243_262_123))?;
        Ok(members.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect())
    }

    #[test]
    fn a_foreign_source_is_kept_and_the_same_event_comes_out_each_time() {
        let text = r#"{"specversion":"1.0","type":"com.example.x","source":"https://shop.example/orders","id":"A 1",
                       "subject":null,"comexampleext":"v","data":null}"#;
        let members = adopted(text).expect("a CloudEvent");
        assert_eq!(members["originsource"], "\"https://shop.example/orders\"");
        assert_eq!((members["originid"].as_str(), members["data"].as_str()), ("\"A 1\"", "null"));
        assert!(!members.contains_key("source") && !members.contains_key("subject"));
        assert_eq!(members["comexampleext"], "\"v\"");
        assert_eq!(adopted(text).expect("again")["id"], members["id"]);
        let other = adopted(&text.replace("orders", "returns")).expect("a CloudEvent");
        assert_ne!(other["id"], members["id"], "the same id of another source is another event");
    }

    #[test]
    fn an_event_of_this_node_stays_as_it_is() {
        let me = Keypair::from_seed(&[7; 32]).id().uri();
        let members = adopted(&format!(r#"{{"specversion":"1.0","type":"a.b","source":"{me}","id":"7"}}"#));
        let members = members.expect("a CloudEvent");
        assert_eq!((members["id"].as_str(), members.contains_key("originid")), ("\"7\"", false));
    }

    #[test]
    fn what_is_no_cloudevent_says_what_is_missing() {
        for (text, word) in [
            (r#"{"type":"a.b","source":"x","id":"7"}"#, "specversion"),
            (r#"{"specversion":"0.3","type":"a.b","source":"x","id":"7"}"#, "specversion"),
            (r#"{"specversion":"1.0","type":"a.b","id":"7"}"#, "source"),
            (r#"{"specversion":"1.0","type":"a.b","source":"x","id":""}"#, "id"),
            (r#"{"specversion":"1.0","type":"a.b","source":"x","id":7}"#, "id"),
            (r#"{"specversion":"1.0","type":"a.b","source":"x","id":"7","originid":"y"}"#, "originid"),
        ] {
            let why = adopted(text).expect_err(text).to_string();
            assert!(why.contains(word), "{text}: {why}");
        }
    }
}
