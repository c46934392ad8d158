//! The peer file: whom we know. Small, replaced whole, and worth little enough that a damaged one is
//! moved aside and the node starts without it.
//!
//! The first line is `{"format":1,"sha256":"<hex of everything after this line>"}`, the rest a JSON
//! list. Records stand in it as their signed lines and are checked again like any line from a peer.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{StoreError, checked, files};
use crate::core::ports::{Origin, SavedPeer, Seq, Welcome};
use crate::time::Wall;
use crate::wire::{HostPort, Keys, Line, NodeId, Record, Rejection, Verified, timestamp};

const FORMAT: u32 = 1;
/// 64 peers with records of 4 KiB make 0.4 MiB.
pub const BYTES_MAX: u64 = 16 << 20;

/// What the peer file says.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Whom we know. Their cursors are of the moment they were saved: the journal's, `peer:<id>`, are newer as a rule.
    pub peers: Vec<SavedPeer>,
    /// What is to be told to the operator.
    pub warning: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    id: NodeId,
    origin: Origin,
    #[serde(default, skip_serializing_if = "is_open")]
    welcome: Welcome,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    proven: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<Seq>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<HostPort>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<String>,
    since: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    near: bool,
}

fn is_open(welcome: &Welcome) -> bool {
    *welcome == Welcome::Open
}

/// Reads the peer file; no file is no peers. Records that expired, or whose signature does not hold,
/// are left out. A file that cannot be trusted is moved to `peers.corrupt-<n>` and said.
pub fn load(path: &Path, now: Wall) -> Loaded {
    let read = match files::read(path, BYTES_MAX) {
        Ok(None) => return Loaded::default(),
        Ok(Some(bytes)) => decode(&bytes),
        Err(cause) => Err(cause.to_string()),
    };
    let (peers, unsound) = match read.and_then(|rows| restore(rows, now)) {
        Ok(restored) => restored,
        Err(why) => return Loaded { peers: Vec::new(), warning: Some(warn(path, &why)) },
    };
    let warning = (unsound > 0).then(|| {
        format!("{unsound} records in {} do not bear their signer's signature; they are left out", path.display())
    });
    Loaded { peers, warning }
}

/// Replaces the peer file, durably: after a crash at any moment it is the old one or this one.
///
/// # Errors
/// [`StoreError::Disk`]; the old file is still there.
pub fn save(path: &Path, peers: &[SavedPeer]) -> Result<(), StoreError> {
    let rows: Vec<Row> = peers.iter().map(row).collect();
    let body = serde_json::to_string_pretty(&rows).expect("rows always encode");
    files::replace(path, checked::seal(FORMAT, &body).as_bytes())
}

fn warn(path: &Path, why: &str) -> String {
    checked::move_aside(path, &format!("the peer file {} cannot be used: {why}", path.display()))
        .map_or_else(|fault| fault, |moved| format!("{moved}, and this node starts without peers: add them again"))
}

fn row(peer: &SavedPeer) -> Row {
    Row {
        id: peer.id,
        origin: peer.origin,
        welcome: peer.welcome,
        proven: peer.proven,
        cursor: peer.cursor,
        alias: peer.alias.clone(),
        addresses: peer.addresses.clone(),
        record: peer.record.as_ref().map(|record| record.envelope().line(0, false)),
        since: timestamp::format(peer.since),
        seen: peer.seen.map(timestamp::format),
        near: peer.near,
    }
}

fn decode(bytes: &[u8]) -> Result<Vec<Row>, String> {
    let (_, body) = checked::open(FORMAT, bytes)?;
    serde_json::from_slice(body).map_err(|cause| format!("line {} does not fit: {cause}", cause.line() + 1))
}

/// The peers, and how many of their records were not what their signer signed.
fn restore(rows: Vec<Row>, now: Wall) -> Result<(Vec<SavedPeer>, usize), String> {
    let mut keys = Keys::default();
    let mut known = BTreeSet::new();
    let mut unsound = 0;
    let mut peers = Vec::with_capacity(rows.len());
    for row in rows {
        if !known.insert(row.id) {
            return Err(format!("{} stands in it twice", row.id.short()));
        }
        let record = match row.record.map(|line| reopen(line, row.id, now, &mut keys)) {
            None => None,
            Some(Ok(record)) => record,
            Some(Err(_)) => {
                unsound += 1;
                None
            }
        };
        let moment = |text: &str| timestamp::parse(text).map_err(str::to_owned);
        peers.push(SavedPeer {
            id: row.id,
            origin: row.origin,
            welcome: row.welcome,
            proven: row.proven,
            alias: row.alias,
            addresses: row.addresses,
            record,
            cursor: row.cursor,
            since: moment(&row.since)?,
            seen: row.seen.as_deref().map(moment).transpose()?,
            near: row.near,
        });
    }
    Ok((peers, unsound))
}

/// A record with its signature checked again; `None` once it expired.
fn reopen(line: String, id: NodeId, now: Wall, keys: &mut Keys) -> Result<Option<Verified<Record>>, Rejection> {
    let unverified = Line::split(&Bytes::from(line))?.parse(keys)?;
    if !unverified.event().is_alive(now) {
        return Ok(None);
    }
    let record = Record::read(&unverified.verify()?)?;
    if record.id() == id { Ok(Some(record)) } else { Err(Rejection::Record("of another node")) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Keypair, RecordDraft};

    const NOW: Wall = Wall::from_millis(1_795_243_262_123);

    fn peer(seed: u8) -> SavedPeer {
        let key = Keypair::from_seed(&[seed; 32]);
        let record = RecordDraft { seq: 3, ..RecordDraft::default() }.seal(NOW, &key).expect("a record");
        SavedPeer {
            id: key.id(),
            origin: Origin::Manual,
            welcome: if seed == 1 { Welcome::Accepted } else { Welcome::Open },
            proven: true,
            alias: Some("birch \"the\" tree\n".to_owned()),
            addresses: vec!["birch.example:7443".parse().expect("an address")],
            record: Some(record),
            cursor: Some(Seq(77)),
            since: NOW,
            seen: None,
            near: true,
        }
    }

    fn stranger(seed: u8) -> SavedPeer {
        let key = Keypair::from_seed(&[seed; 32]);
        let (alias, addresses, record) = (None, Vec::new(), None);
        SavedPeer { origin: Origin::Inbound, alias, addresses, record, seen: Some(NOW), id: key.id(), ..peer(seed) }
    }

    fn saved() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("peers");
        save(&path, &[peer(1), stranger(2)]).expect("saved");
        (home, path)
    }

    #[test]
    fn what_is_saved_is_read_back() {
        let (_home, path) = saved();
        assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        let loaded = load(&path, NOW);
        assert_eq!(loaded.warning, None);
        for (read, was) in loaded.peers.iter().zip([peer(1), stranger(2)]) {
            assert_eq!((read.id, read.origin, &read.alias), (was.id, was.origin, &was.alias));
            assert_eq!((&read.addresses, read.since, read.seen), (&was.addresses, was.since, was.seen));
            assert_eq!(read.record.as_ref().map(|record| record.seq), was.record.as_ref().map(|record| record.seq));
            assert_eq!((read.cursor, read.proven, read.welcome), (was.cursor, was.proven, was.welcome));
        }
        assert_eq!(loaded.peers.len(), 2);
    }

    #[test]
    fn no_file_is_no_peers_and_no_warning() {
        let home = tempfile::tempdir().expect("a directory");
        let loaded = load(&home.path().join("peers"), NOW);
        assert!(loaded.peers.is_empty() && loaded.warning.is_none());
    }

    #[test]
    fn an_expired_record_is_left_out_and_its_peer_stays() {
        let (_home, path) = saved();
        let loaded = load(&path, NOW + Duration::from_secs(25 * 3_600));
        assert_eq!(loaded.peers.len(), 2);
        assert!(loaded.peers[0].record.is_none() && loaded.warning.is_none());
    }

    #[test]
    fn a_record_that_its_signer_did_not_sign_is_left_out_and_said() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("peers");
        let mut forged = row(&peer(1));
        forged.record = forged.record.map(|line| line.replace("\"seq\":3", "\"seq\":4"));
        let mut borrowed = row(&peer(2));
        borrowed.record = row(&peer(3)).record;
        let body = serde_json::to_string(&[forged, borrowed]).expect("rows");
        fs::write(&path, checked::seal(FORMAT, &body)).expect("written");
        let loaded = load(&path, NOW);
        assert_eq!(loaded.peers.len(), 2);
        assert!(loaded.peers.iter().all(|peer| peer.record.is_none()));
        assert!(loaded.warning.expect("a warning").contains("2 records"));
    }

    #[test]
    fn a_future_format_is_moved_aside_and_kept() {
        let (home, path) = saved();
        let text = fs::read_to_string(&path).expect("is there").replacen("\"format\":1", "\"format\":2", 1);
        for n in 1..=2 {
            fs::write(&path, &text).expect("written");
            let loaded = load(&path, NOW);
            let aside = home.path().join(format!("peers.corrupt-{n}"));
            assert!(loaded.peers.is_empty());
            assert!(loaded.warning.expect("a warning").contains(&aside.display().to_string()));
            assert_eq!(fs::read_to_string(&aside).expect("is there"), text);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_file_left_by_a_crash_while_saving_is_ignored() {
        let (home, path) = saved();
        fs::write(home.path().join("peers.new"), "half of").expect("written");
        assert_eq!(load(&path, NOW).peers.len(), 2);
        save(&path, &[peer(1)]).expect("saved");
        assert_eq!(load(&path, NOW).peers.len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let (home, path) = saved();
            let mut bytes = fs::read(&path).expect("is there");
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            fs::write(&path, &bytes).expect("written");
            let loaded = load(&path, NOW);
            prop_assert!(loaded.peers.is_empty() && loaded.warning.is_some());
            prop_assert_eq!(fs::read(home.path().join("peers.corrupt-1")).expect("kept"), bytes);
        }

        #[test]
        fn any_cut_is_noticed(at in any::<prop::sample::Index>()) {
            let (_home, path) = saved();
            let bytes = fs::read(&path).expect("is there");
            fs::write(&path, &bytes[..at.index(bytes.len())]).expect("written");
            let loaded = load(&path, NOW);
            prop_assert!(loaded.peers.is_empty() && loaded.warning.is_some());
        }
    }
}
