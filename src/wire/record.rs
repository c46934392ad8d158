//! The node record: who a node is, where it is reached, what it wants. An ordinary signed event of
//! type `mesh.node`, so one format carries everything.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::HostPort;
use super::draft::{Draft, Scalar};
use super::envelope::{self, Envelope, Verified};
use super::event::Network;
use super::identity::{Keypair, NodeId};
use super::pattern::{Interests, Pattern};
use super::rejection::Rejection;
use crate::time::Wall;

/// The reserved type of a record.
pub const RECORD_TYPE: &str = "mesh.node";
/// Largest record event, in bytes.
pub const RECORD_BYTES_MAX: usize = 4_096;
/// Longest life of a record.
pub const RECORD_LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// Most addresses in a record.
pub const ADDRESSES_MAX: usize = 4;
/// The protocol version this crate speaks.
pub const PROTOCOL: u32 = 1;

/// What a node says about itself. Comparable by `seq`: the highest wins.
#[derive(Clone, Debug)]
pub struct Record {
    envelope: Arc<Envelope>,
    /// Grows by one at least with every change.
    pub seq: u64,
    /// Where it can be dialled; empty = not dialled, or `bye`.
    pub addresses: Vec<HostPort>,
    /// What it wants.
    pub interests: Interests,
    /// It left for good.
    pub bye: bool,
    /// Its software, for people; at most 64 characters, none of them control characters.
    pub software: String,
}

/// The `data` of a record as it stands on the wire. Members that a newer version adds are ignored.
#[derive(Serialize, Deserialize)]
struct Body {
    seq: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<HostPort>,
    #[serde(default)]
    reach: Reach,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    patterns: Vec<Pattern>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    leased: Vec<Pattern>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    capabilities: Vec<String>,
    #[serde(default)]
    protocol: u32,
    #[serde(default)]
    software: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    bye: bool,
}

/// How others reach it. `homes` (nodes that cannot be dialled) is read but not yet served.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reach {
    #[default]
    Direct,
    Homes,
}

impl Record {
    /// Reads a record out of a checked envelope. Addresses are as the peer wrote them: the address
    /// policy is the caller's.
    ///
    /// # Errors
    /// [`Rejection::TypeDenied`] for another type, [`Rejection::Record`] and [`Rejection::Pattern`]
    /// for one outside its limits.
    pub fn read(envelope: &Verified<Envelope>) -> Result<Verified<Record>, Rejection> {
        let event = envelope.event();
        if event.kind.as_str() != RECORD_TYPE {
            return Err(Rejection::TypeDenied);
        }
        if event.bytes().len() > RECORD_BYTES_MAX {
            return Err(Rejection::Record("larger than 4096 bytes"));
        }
        let expires_at_most = event.time + RECORD_LIFETIME + super::event::SKEW;
        if event.expires > expires_at_most {
            return Err(Rejection::Record("expires more than 24 h after its time"));
        }
        let data = event.data().ok_or(Rejection::Record("no data"))?;
        let body: Body = serde_json::from_str(data).map_err(|_| Rejection::Record("data does not fit"))?;
        if body.addresses.len() > ADDRESSES_MAX {
            return Err(Rejection::Record("more than 4 addresses"));
        }
        if body.software.len() > 64 || body.software.chars().any(char::is_control) {
            return Err(Rejection::Record("software is 64 printable characters at most"));
        }
        if body.bye && !body.addresses.is_empty() {
            return Err(Rejection::Record("a goodbye names no address"));
        }
        Interests::new(body.leased)?; // its limits hold although leases are served later
        Ok(Verified::vouch(Record {
            envelope: Arc::new(Envelope::clone(envelope)),
            seq: body.seq,
            addresses: body.addresses,
            interests: Interests::new(body.patterns)?,
            bye: body.bye,
            software: body.software,
        }))
    }

    /// Whose record it is.
    pub fn id(&self) -> NodeId {
        self.envelope.event().source
    }

    /// When it stops to count.
    pub fn expires(&self) -> Wall {
        self.envelope.event().expires
    }

    /// The signed envelope, to pass on.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The same, for whoever keeps it longer than the record.
    pub fn shared_envelope(&self) -> Arc<Envelope> {
        Arc::clone(&self.envelope)
    }

    /// Newer by the only order there is.
    pub fn supersedes(&self, other: &Record) -> bool {
        self.seq > other.seq
    }
}

/// A record of our own, to be signed.
#[derive(Clone, Debug, Default)]
pub struct RecordDraft {
    /// Higher than any used before; the caller keeps it on disk.
    pub seq: u64,
    /// Where others may dial.
    pub addresses: Vec<HostPort>,
    /// What we want.
    pub interests: Interests,
    /// The mesh we belong to.
    pub network: Network,
}

impl RecordDraft {
    /// Writes the record down and signs it.
    ///
    /// # Errors
    /// The limit that it breaks.
    pub fn seal(&self, now: Wall, key: &Keypair) -> Result<Verified<Record>, Rejection> {
        self.sealed(self.addresses.clone(), self.interests.patterns().to_vec(), false, now, key)
    }

    /// Signs a goodbye instead: no address, nothing wanted. Whoever reads it stops calling, until a
    /// record with a higher `seq` takes it back.
    ///
    /// # Errors
    /// None that this can break; the type is the one of [`RecordDraft::seal`].
    pub fn seal_goodbye(&self, now: Wall, key: &Keypair) -> Result<Verified<Record>, Rejection> {
        self.sealed(Vec::new(), Vec::new(), true, now, key)
    }

    fn sealed(
        &self,
        addresses: Vec<HostPort>,
        patterns: Vec<Pattern>,
        bye: bool,
        now: Wall,
        key: &Keypair,
    ) -> Result<Verified<Record>, Rejection> {
        let body = Body {
            seq: self.seq,
            addresses,
            reach: Reach::Direct,
            patterns,
            leased: Vec::new(),
            capabilities: Vec::new(),
            protocol: PROTOCOL,
            software: concat!("afferent/", env!("CARGO_PKG_VERSION")).to_owned(),
            bye,
        };
        let data = serde_json::value::to_raw_value(&body).expect("a record always encodes");
        let draft = Draft::new(format!("record-{}", self.seq), RECORD_TYPE, now)
            .living(now, RECORD_LIFETIME)
            .in_network(&self.network)
            .with("maxhops", Scalar::Integer(i32::from(super::event::HOPS_MAX)))
            .with_data(data);
        Record::read(&envelope::seal(&draft, key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Keypair {
        Keypair::from_seed(&[7; 32])
    }

    const NOW: Wall = Wall::from_millis(1_795_243_262_123);

    fn sealed(data: &str) -> Result<Verified<Record>, Rejection> {
        let raw = serde_json::value::RawValue::from_string(data.to_owned()).expect("JSON");
        let draft = Draft::new("r", RECORD_TYPE, NOW).living(NOW, RECORD_LIFETIME).with_data(raw);
        Record::read(&envelope::seal(&draft, &key()).expect("an event"))
    }

    #[test]
    fn what_a_node_says_about_itself_is_read_back() {
        let interests = Interests::new(["a.*".parse().expect("a pattern")]).expect("interests");
        let draft = RecordDraft {
            seq: 9,
            addresses: vec!["birch.example:7443".parse().expect("an address")],
            interests: interests.clone(),
            network: "lab".parse().expect("a network"),
        };
        let record = draft.seal(NOW, &key()).expect("a record");
        assert_eq!((record.id(), record.seq), (key().id(), 9));
        assert_eq!(record.interests, interests);
        assert_eq!(record.addresses, draft.addresses);
        assert_eq!(record.envelope().event().network(), "lab");
        assert!(record.expires() <= NOW + RECORD_LIFETIME);
    }

    #[test]
    fn a_goodbye_names_no_address_and_wants_nothing() {
        let interests = Interests::new(["a.*".parse().expect("a pattern")]).expect("interests");
        let addresses = vec!["birch.example:7443".parse().expect("an address")];
        let draft = RecordDraft { seq: 9, addresses, interests, ..RecordDraft::default() };
        let goodbye = draft.seal_goodbye(NOW, &key()).expect("a record");
        assert!(goodbye.bye && goodbye.addresses.is_empty() && goodbye.interests.patterns().is_empty());
        assert!(goodbye.supersedes(&RecordDraft { seq: 8, ..draft }.seal(NOW, &key()).expect("a record")));
    }

    #[test]
    fn records_outside_their_limits_are_refused() {
        let many =
            |what: &str, count: usize| (0..count).map(|i| format!("\"{what}{i}.x\"")).collect::<Vec<_>>().join(",");
        assert!(sealed(r#"{"seq":1,"later":{"x":1}}"#).is_ok(), "unknown members are for newer versions");
        for data in [
            "{}".to_owned(),
            r#"{"seq":-1}"#.to_owned(),
            format!(r#"{{"seq":1,"patterns":[{}]}}"#, many("a", 65)),
            format!(r#"{{"seq":1,"leased":[{}]}}"#, many("a", 65)),
            format!(r#"{{"seq":1,"addresses":[{}]}}"#, many("a", 5)),
            r#"{"seq":1,"patterns":["a..b"]}"#.to_owned(),
            r#"{"seq":1,"patterns":[""]}"#.to_owned(),
            r#"{"seq":1,"bye":true,"addresses":["a.b:1"]}"#.to_owned(),
            r#"{"seq":1,"software":"a\u001b[31m"}"#.to_owned(),
            format!(r#"{{"seq":1,"software":"{}"}}"#, "x".repeat(65)),
            format!(r#"{{"seq":1,"later":"{}"}}"#, "x".repeat(4_096)),
        ] {
            assert!(sealed(&data).is_err(), "{data:.80}");
        }
    }

    #[test]
    fn a_record_lives_a_day_at_most() {
        let raw = serde_json::value::RawValue::from_string(r#"{"seq":1}"#.to_owned()).expect("JSON");
        let draft = Draft::new("r", RECORD_TYPE, NOW).living(NOW, RECORD_LIFETIME * 2).with_data(raw);
        let envelope = envelope::seal(&draft, &key()).expect("an event");
        assert!(Record::read(&envelope).is_err());
    }
}
