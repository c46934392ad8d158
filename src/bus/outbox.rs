//! What a local program writes to the outbox, and the event it becomes.
//!
//! ```text
//!   XADD mesh:outbox * type deployment.started data '{"service":"web"}' subject web
//! ```
//!
//! | field | meaning | when absent |
//! |---|---|---|
//! | `type` | the event type | malformed |
//! | `data` | JSON text; blank lines and indentation between its tokens are dropped | no data |
//! | `data_base64` | binary data, padded base64; not together with `data` | |
//! | `id` | unique within this node | eight characters for the stream, then the entry's id |
//! | `time` | RFC 3339 | the milliseconds of the entry's id |
//! | `expirytime` | RFC 3339, at most 7 days ahead | `time` and 24 h |
//! | `maxhops`, `spread` | decimal integers | |
//! | `to` | up to 16 `mesh:` ids with one space between | everybody; where `causationid` names a question, whoever asked |
//! | `source`, `specversion`, `net` | this node's to say: allowed when they say the same | |
//! | any other `[a-z0-9]{1,20}` | an attribute by its name, as text: also `true` and `7` | |
//!
//! The same entry always becomes the same bytes, so a redelivered one is the same event. A program
//! that writes an entry twice gets two events, unless it names `id` and `time` itself.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::dead::Cause;
use crate::core::ports::Log;
use crate::time::Wall;
use crate::wire::{Digest, Draft, Envelope, Keypair, Network, NodeId, Rejection, Scalar, Verified};
use crate::wire::{envelope, json, timestamp};

/// One entry as Redis delivers it: any bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Taken {
    /// Its id in the stream: `milliseconds-number`.
    pub(super) id: String,
    /// Names and values in turn; `None` when the entry was deleted after it was delivered.
    pub(super) fields: Option<Vec<Vec<u8>>>,
}

/// By a rule that the entry broke; its fields name the one at fault.
pub(super) fn by(rejection: &Rejection, taken: &Taken) -> Cause {
    let fields = taken.fields.as_deref().unwrap_or_default();
    let text = |wanted: &str| {
        let mut pairs = fields.chunks_exact(2);
        pairs.find(|pair| pair[0] == wanted.as_bytes()).and_then(|pair| std::str::from_utf8(&pair[1]).ok())
    };
    let field = match rejection {
        Rejection::Attribute { name, .. } => (*name).to_owned(),
        Rejection::Json(_) | Rejection::TooLarge => "data".to_owned(),
        Rejection::TypeDenied => "type".to_owned(),
        Rejection::OtherNetwork => "net".to_owned(),
        Rejection::Expired | Rejection::ExpiryTooFar => "expirytime".to_owned(),
        Rejection::Future => "time".to_owned(),
        Rejection::Conflict => "id".to_owned(),
        Rejection::NodeId(_) => if text("to").is_some_and(|to| !are_nodes(to)) { "to" } else { "replyto" }.to_owned(),
        Rejection::Extension(_) => {
            let is_bad = |value: &str| value.len() > EXTENSION_BYTES_MAX || value.chars().any(char::is_control);
            let mut names = fields.chunks_exact(2).filter_map(|pair| std::str::from_utf8(&pair[0]).ok());
            names.find(|name| !OURS.contains(name) && text(name).is_some_and(is_bad)).unwrap_or("").to_owned()
        }
        _ => String::new(),
    };
    Cause { code: rejection.code(), ..Cause::intake(&field, rejection.to_string()) }
}

fn are_nodes(text: &str) -> bool {
    text.split(' ').all(|uri| uri.strip_prefix("mesh:").is_some_and(|id| id.parse::<NodeId>().is_ok()))
}

/// Attributes with limits of their own: never at fault when an extension is.
const OURS: [&str; 5] = ["data", "data_base64", "subject", "dataschema", "to"];
/// Longest value of an extension attribute.
pub const EXTENSION_BYTES_MAX: usize = 256;

/// Makes entries of one outbox into events of one node.
#[derive(Clone)]
pub(super) struct Sealer {
    /// Signs.
    pub(super) key: Arc<Keypair>,
    /// The network they belong to.
    pub(super) network: Network,
    /// What every id begins with.
    pub(super) mark: String,
    /// Where the questions are that entries answer.
    pub(super) log: Arc<dyn Log>,
}

impl Sealer {
    pub(super) fn new(key: Arc<Keypair>, network: Network, outbox: &str, log: Arc<dyn Log>) -> Sealer {
        Sealer { key, network, mark: mark(outbox), log }
    }

    /// The event that this entry is; 20 µs of signing. One that answers a question goes to whoever asked: the
    /// same entry is the same event for as long as the journal holds the question, at least until it expires.
    ///
    /// # Errors
    /// [`Cause`], for ever.
    pub(super) fn seal(&self, taken: &Taken) -> Result<Verified<Envelope>, Cause> {
        let mut draft = self.draft(taken)?;
        if let Some(question) = draft.causation().and_then(|digest| self.log.question(&digest)) {
            draft = draft.answering(&question);
        }
        let sealed = envelope::seal(&draft, &self.key).map_err(|rejection| by(&rejection, taken))?;
        if sealed.event().kind.is_reserved() {
            return Err(by(&Rejection::TypeDenied, taken));
        }
        Ok(sealed)
    }

    fn draft(&self, taken: &Taken) -> Result<Draft, Cause> {
        let fields = Fields::read(taken)?;
        let kind = fields.text("type").ok_or_else(|| Cause::intake("type", "missing"))?;
        let time = match fields.text("time") {
            Some(text) => timestamp::parse(text).map_err(|why| Cause::intake("time", why))?,
            None => time_of(&taken.id).ok_or_else(|| Cause::intake("", "the id of the entry is not one of Redis"))?,
        };
        let mut draft = Draft::new(format!("{}-{}", self.mark, taken.id), kind, time).in_network(&self.network);
        for (name, value) in &fields.0 {
            draft = match *name {
                "data" => draft.with_data(json_of(value)?),
                "source" | "specversion" | "net" => {
                    self.check_ours(name, value)?;
                    draft
                }
                "maxhops" | "spread" => {
                    let number = value.parse().map_err(|_| Cause::intake(name, "must be an integer"))?;
                    draft.with(name, Scalar::Integer(number))
                }
                _ => draft.with(name, Scalar::Text((*value).to_owned())),
            };
        }
        Ok(draft)
    }

    /// What only the node can say may be repeated, never contradicted.
    fn check_ours(&self, name: &str, value: &str) -> Result<(), Cause> {
        let expected = match name {
            "source" => self.key.id().uri(),
            "net" => self.network.as_str().to_owned(),
            _ => "1.0".to_owned(),
        };
        if value == expected { Ok(()) } else { Err(Cause::intake(name, "is this node's to say: leave it out")) }
    }
}

/// Eight characters that stand for a stream: what is read from two of them never shares an id.
pub(super) fn mark(stream: &str) -> String {
    Digest::of(stream.as_bytes()).to_string()[..8].to_owned()
}

/// The fields as text, each name once.
struct Fields<'t>(Vec<(&'t str, &'t str)>);

impl<'t> Fields<'t> {
    fn read(taken: &'t Taken) -> Result<Fields<'t>, Cause> {
        let mut fields: Vec<(&str, &str)> = Vec::new();
        for pair in taken.fields.as_deref().unwrap_or_default().chunks_exact(2) {
            let lossy = || String::from_utf8_lossy(&pair[0]).into_owned();
            let name = std::str::from_utf8(&pair[0]).map_err(|_| Cause::intake(&lossy(), "the name is not UTF-8"))?;
            let value = std::str::from_utf8(&pair[1]).map_err(|_| Cause::intake(name, "not UTF-8"))?;
            if !is_name(name) {
                return Err(Cause::intake(name, "a name is 1-20 characters of a-z and 0-9"));
            }
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(Cause::intake(name, "is there twice"));
            }
            if fields.len() == FIELDS_MAX {
                return Err(Cause::intake(name, "more than 32 fields"));
            }
            fields.push((name, value));
        }
        Ok(Fields(fields))
    }

    fn text(&self, name: &str) -> Option<&'t str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

/// An event has no more members than this.
pub const FIELDS_MAX: usize = 32;

fn is_name(name: &str) -> bool {
    let is_attribute = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    name == "data_base64" || ((1..=20).contains(&name.len()) && is_attribute(name))
}

/// JSON text on one line, as events are signed. What is dropped cannot stand inside a string: JSON
/// allows no raw control character there.
pub(super) fn json_line(field: &str, text: &str) -> Result<String, Cause> {
    // Of the text as it came: without its line breaks, a broken token could look whole.
    json::check(text).map_err(|why| Cause::intake(field, why.to_string()))?;
    Ok(text.trim().chars().filter(|c| !matches!(c, '\n' | '\r' | '\t')).collect())
}

fn json_of(text: &str) -> Result<Box<RawValue>, Cause> {
    RawValue::from_string(json_line("data", text)?).map_err(|_| Cause::intake("data", "not JSON"))
}

/// The milliseconds before the `-`.
pub(super) fn time_of(entry: &str) -> Option<Wall> {
    let millis: u64 = entry.split('-').next()?.parse().ok()?;
    Some(Wall::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::journal::{Journal, NOON};
    use super::*;
    use crate::wire::{Code, Event};

    const ENTRY: &str = "1795262400123-7";

    fn sealer(network: &str) -> Sealer {
        let key = Arc::new(Keypair::from_seed(&[5; 32]));
        let log = Arc::new(Journal::new(7));
        Sealer::new(key, network.parse().expect("a network"), "mesh:outbox", log)
    }

    fn taken(fields: &[(&str, &str)]) -> Taken {
        let bytes = fields.iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value.as_bytes().to_vec()]);
        Taken { id: ENTRY.into(), fields: Some(bytes.collect()) }
    }

    fn event(fields: &[(&str, &str)]) -> Event {
        sealer("main").seal(&taken(fields)).expect("a good entry").event().clone()
    }

    fn fault(fields: &[(&str, &str)]) -> (String, Code) {
        let malformed = sealer("main").seal(&taken(fields)).expect_err("a malformed entry");
        assert!(!malformed.reason.is_empty());
        (malformed.field, malformed.code)
    }

    #[test]
    fn an_answer_goes_to_whoever_asked_unless_it_says_whom_it_is_for() {
        let asker = Keypair::from_seed(&[9; 32]);
        let other = Keypair::from_seed(&[8; 32]).id().uri();
        let question = Draft::new("q", "a.ask", NOON).with("spread", Scalar::Integer(1_000));
        let question = envelope::seal(&question, &asker).expect("a good draft");
        let fact = envelope::seal(&Draft::new("f", "a.fact", NOON), &asker).expect("a good draft");
        let log = Arc::new(Journal::new(7));
        log.append([question.clone(), fact.clone()], None);
        let sealer = Sealer { log, ..sealer("main") };
        let to = |fields: &[(&str, &str)]| sealer.seal(&taken(fields)).expect("a good entry").event().to.clone();
        let cause = question.digest().to_string();
        assert_eq!(to(&[("type", "a.b"), ("causationid", &cause)]), [asker.id()]);
        assert_eq!(
            to(&[("type", "a.b"), ("causationid", &cause), ("to", &other)]),
            [Keypair::from_seed(&[8; 32]).id()]
        );
        assert_eq!(to(&[("type", "a.b"), ("causationid", &fact.digest().to_string())]), [], "it asks nothing");
        assert_eq!(to(&[("type", "a.b"), ("causationid", "ticket-7")]), []);
    }

    #[test]
    fn seventeen_nodes_are_too_many_and_the_letter_says_so() {
        let uri = |seed: u8| Keypair::from_seed(&[seed; 32]).id().uri();
        let to = |count: u8| (1..=count).map(uri).collect::<Vec<_>>().join(" ");
        assert_eq!(event(&[("type", "a.b"), ("to", &to(16))]).to.len(), 16);
        let entry = taken(&[("type", "a.b"), ("to", &to(17))]);
        let cause = sealer("main").seal(&entry).expect_err("too many");
        assert_eq!((cause.field.as_str(), cause.reason.contains("16 nodes")), ("to", true), "{}", cause.reason);
    }

    #[test]
    fn an_entry_is_the_same_event_each_time() {
        let least = event(&[("type", "a.b")]);
        assert_eq!(least.bytes(), event(&[("type", "a.b")]).bytes());
        assert_eq!(least.time, Wall::from_millis(1_795_262_400_123));
        assert!(least.id.ends_with("-1795262400123-7") && least.id.len() == 24, "{}", least.id);
        assert_eq!(least.expires.since(least.time).as_secs(), 86_400);
        assert_eq!(least.data(), None);
        let other = Sealer::new(sealer("main").key, Network::default(), "another", sealer("main").log);
        assert_ne!(other.seal(&taken(&[("type", "a.b")])).expect("good").event().id, least.id);
    }

    #[test]
    fn every_attribute_has_its_kind() {
        let to = Keypair::from_seed(&[6; 32]).id().uri();
        let full = event(&[
            ("type", "a.b"),
            ("id", "mine"),
            ("time", "2026-11-21T12:00:00.5+01:00"),
            ("expirytime", "2026-11-22T12:00:00Z"),
            ("data", "{\n\t\"x\": [1,\r\n 2], \"y\": \"a\\nb\"\n}\n"),
            ("subject", "web"),
            ("to", &to),
            ("maxhops", "3"),
            ("spread", "250"),
            ("urgent", "true"),
            ("level", "7"),
            ("source", &Keypair::from_seed(&[5; 32]).id().uri()),
            ("specversion", "1.0"),
            ("net", "main"),
        ]);
        assert_eq!((&*full.id, full.hops_max, full.to.len()), ("mine", 3, 1));
        assert_eq!(full.data(), Some(r#"{"x": [1, 2], "y": "a\nb"}"#));
        for member in
            [r#""spread":250"#, r#""urgent":"true""#, r#""level":"7""#, r#""time":"2026-11-21T12:00:00.5+01:00""#]
        {
            assert!(full.text().contains(member), "{}", full.text());
        }
        assert!(!full.text().contains("\"net\""), "the default network is left out");
        assert_eq!(event(&[("type", "a.b"), ("data_base64", "AAEC")]).data_base64().as_deref(), Some("AAEC"));
    }

    #[test]
    fn an_event_of_another_network_says_so() {
        let sealed = sealer("lab").seal(&taken(&[("type", "a.b")])).expect("good");
        assert_eq!(sealed.event().network(), "lab");
        assert!(sealer("lab").seal(&taken(&[("type", "a.b"), ("net", "main")])).is_err());
    }

    #[test]
    fn a_malformed_entry_names_the_field() {
        let long = "x".repeat(257);
        let huge = format!("\"{}\"", "x".repeat(65_536));
        for (field, value) in [
            ("type", "one"),
            ("type", "a..b"),
            ("data", "{"),
            ("data", "tr\nue"),
            ("data", ""),
            ("data", r#"{"a":1,"a":2}"#),
            ("data", "1e999"),
            ("data", huge.as_str()),
            ("data_base64", "A"),
            ("id", "a b"),
            ("id", ""),
            ("time", "yesterday"),
            ("expirytime", "tomorrow"),
            ("subject", ""),
            ("subject", "a\u{7}b"),
            ("to", "mesh:nobody"),
            ("to", "nobody"),
            ("replyto", "mesh:nobody"),
            ("maxhops", "17"),
            ("maxhops", "many"),
            ("spread", "1.5"),
            ("source", "mesh:me"),
            ("specversion", "0.3"),
            ("net", "other"),
            ("mesh_digest", "from-the-bus"),
            ("Upper", "x"),
            ("", "x"),
            ("averyveryverylongname", "x"),
            ("urgent", long.as_str()),
            ("urgent", "a\nb"),
        ] {
            let mut fields = vec![(field, value)];
            if field != "type" {
                fields.push(("type", "a.b"));
            }
            assert_eq!(fault(&fields).0, field, "{field}={value}");
        }
        assert_eq!(fault(&[("data", "1")]), ("type".into(), Code::Malformed));
        assert_eq!(fault(&[("type", "mesh.node.up")]), ("type".into(), Code::TypeDenied));
        assert_eq!(fault(&[("type", "mesh.peer.connected")]), ("type".into(), Code::TypeDenied));
        assert_eq!(fault(&[("type", "a.b"), ("data", &huge)]), ("data".into(), Code::TooLarge));
        assert_eq!(fault(&[("type", "a.b"), ("x", "1"), ("x", "2")]).0, "x");
        assert_eq!(fault(&[("type", "a.b"), ("data", "1"), ("data_base64", "AAEC")]).0, "data");
        let to = Keypair::from_seed(&[6; 32]).id().uri();
        assert_eq!(fault(&[("type", "a.b"), ("to", &to), ("replyto", "mesh:nobody")]).0, "replyto");
    }

    #[test]
    fn bytes_that_are_no_text_are_malformed() {
        let mut entry = taken(&[("type", "a.b"), ("subject", "x")]);
        let fields = entry.fields.as_mut().expect("set");
        fields[3] = vec![0xff];
        assert_eq!(sealer("main").seal(&entry).expect_err("not UTF-8").field, "subject");
        entry.fields.as_mut().expect("set")[2] = vec![0xff, b'\n'];
        assert_eq!(sealer("main").seal(&entry).expect_err("not UTF-8").field, "\u{fffd}\\n");
        let many: Vec<(String, &str)> = (0..40).map(|number| (format!("f{number}"), "x")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(fault(&many).0, "f32");
    }

    #[test]
    fn a_strange_entry_id_cannot_break_the_time() {
        for (id, is_good) in [("18446744073709551615-1", true), ("0-1", true), ("x-1", false), ("", false)] {
            let entry = Taken { id: id.into(), ..taken(&[("type", "a.b")]) };
            assert_eq!(sealer("main").seal(&entry).is_ok(), is_good, "{id}");
        }
    }
}
