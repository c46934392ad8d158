//! What a publisher hands in, before this node signs it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::event::{LIFETIME_DEFAULT, Network};
use super::identity::{Digest, NodeId};
use super::question::Question;
use super::timestamp;
use crate::time::Wall;

/// The value of an attribute: the three kinds that CloudEvents has in JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// `true`, `false`.
    Bool(bool),
    /// 32 bits.
    Integer(i32),
    /// Everything else.
    Text(String),
}

/// An event to be: attributes and data, not yet checked. [`super::envelope::seal`] writes it down,
/// checks it as if it came from a peer, and signs it.
///
/// The same draft always becomes the same bytes: intake relies on that to be idempotent.
#[derive(Clone, Debug)]
pub struct Draft {
    id: String,
    kind: String,
    time: String,
    expires: String,
    attributes: BTreeMap<String, Scalar>,
    data: Option<Box<RawValue>>,
}

impl Draft {
    /// An event of this type, happening at `time`, with the default life of 24 h.
    pub fn new(id: impl Into<String>, kind: impl Into<String>, time: Wall) -> Draft {
        Draft {
            id: id.into(),
            kind: kind.into(),
            time: timestamp::format(time),
            expires: timestamp::format(time + LIFETIME_DEFAULT),
            attributes: BTreeMap::new(),
            data: None,
        }
    }

    /// How long everybody remembers it, from `time` on.
    #[must_use]
    pub fn living(mut self, time: Wall, life: Duration) -> Draft {
        self.expires = timestamp::format(time + life);
        self
    }

    /// The network it belongs to; the default network is left out, as every reader assumes it.
    #[must_use]
    pub fn in_network(self, network: &Network) -> Draft {
        if network.as_str() == Network::DEFAULT {
            return self;
        }
        self.with("net", Scalar::Text(network.as_str().to_owned()))
    }

    /// Sets an attribute. `id`, `type`, `time` and `expirytime` replace what `new` set; `source` and
    /// `specversion` are this node's to say and are ignored.
    #[must_use]
    pub fn with(mut self, name: &str, value: Scalar) -> Draft {
        match (name, value) {
            ("source" | "specversion", _) => {}
            ("id", Scalar::Text(text)) => self.id = text,
            ("type", Scalar::Text(text)) => self.kind = text,
            ("time", Scalar::Text(text)) => self.time = text,
            ("expirytime", Scalar::Text(text)) => self.expires = text,
            (name, value) => {
                self.attributes.insert(name.to_owned(), value);
            }
        }
        self
    }

    /// Sets `data` to this JSON text, byte for byte.
    #[must_use]
    pub fn with_data(mut self, data: Box<RawValue>) -> Draft {
        self.data = Some(data);
        self
    }

    /// The event that it answers or follows from, where it names one by its digest.
    pub fn causation(&self) -> Option<Digest> {
        match self.attributes.get("causationid") {
            Some(Scalar::Text(text)) => text.parse().ok(),
            _ => None,
        }
    }

    /// Makes it an answer to this question: for the asker alone, unless it says itself whom it is for.
    #[must_use]
    pub fn answering(self, question: &Question) -> Draft {
        if self.attributes.contains_key("to") {
            return self;
        }
        self.with("to", Scalar::Text(question.asker.uri()))
    }

    /// The event as this node signs it: protocol attributes first, then the others by name, then data.
    pub(super) fn to_json(&self, source: NodeId) -> Vec<u8> {
        let quoted = |text: &str| serde_json::to_string(text).expect("a string always encodes");
        let mut json = format!(
            r#"{{"specversion":"1.0","id":{},"source":"{}","type":{},"time":{},"expirytime":{}"#,
            quoted(&self.id),
            source.uri(),
            quoted(&self.kind),
            quoted(&self.time),
            quoted(&self.expires),
        );
        for (name, value) in &self.attributes {
            json.push(',');
            json.push_str(&quoted(name));
            json.push(':');
            json.push_str(&serde_json::to_string(value).expect("a scalar always encodes"));
        }
        if let Some(data) = &self.data {
            json.push_str(r#","data":"#);
            json.push_str(data.get());
        }
        json.push('}');
        json.into_bytes()
    }
}
