//! The book: nodes that we heard of and that are no peers, and those that are not listened to. The first are
//! worth little, since all of it can be heard again; what they save is the way back into the mesh when every
//! other tier is silent.
//!
//! Its form is that of [`super::peers`], without records: a place to dial is enough to get those. Format 1
//! was the list of nodes alone.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{StoreError, checked, files};
use crate::core::ports::{SavedBan, SavedBook, SavedNode};
use crate::core::tier::Tier;
use crate::time::Wall;
use crate::wire::{HostPort, NodeId, timestamp};

const FORMAT: u32 = 2;
/// 5 120 nodes with four long names each make 6 MiB, 8 192 that are not listened to less than 2 MiB.
pub const BYTES_MAX: u64 = 16 << 20;

/// What the book says.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Everybody in it.
    pub book: SavedBook,
    /// What is to be told to the operator.
    pub warning: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Rows {
    nodes: Vec<Row>,
    shunned: Vec<BanRow>,
}

#[derive(Serialize, Deserialize)]
struct BanRow {
    id: NodeId,
    since: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    why: String,
}

#[derive(Serialize, Deserialize)]
struct Row {
    id: NodeId,
    at: Vec<HostPort>,
    tier: Tier,
    source: String,
    heard: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verified: Option<String>,
    #[serde(default)]
    failures: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dead: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    anchor: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    near: bool,
}

/// Reads the book; no file is an empty one. One that cannot be trusted is moved to `book.corrupt-<n>` and
/// said.
pub fn load(path: &Path) -> Loaded {
    let read = match files::read(path, BYTES_MAX) {
        Ok(None) => return Loaded::default(),
        Ok(Some(bytes)) => decode(&bytes),
        Err(cause) => Err(cause.to_string()),
    };
    match read {
        Ok(book) => Loaded { book, warning: None },
        Err(why) => {
            let trouble = format!("the book of known nodes {} cannot be used: {why}", path.display());
            let warning = checked::move_aside(path, &trouble).map_or_else(
                |fault| fault,
                |moved| {
                    format!(
                        "{moved}, and this node looks for others anew; who was blocked is not any more: block \
                     them again"
                    )
                },
            );
            Loaded { book: SavedBook::default(), warning: Some(warning) }
        }
    }
}

/// Replaces the book, durably: after a crash at any moment it is the old one or this one.
///
/// # Errors
/// [`StoreError::Disk`]; the old file is still there.
pub fn save(path: &Path, book: &SavedBook) -> Result<(), StoreError> {
    let rows =
        Rows { nodes: book.nodes.iter().map(row).collect(), shunned: book.shunned.iter().map(ban_row).collect() };
    let body = serde_json::to_string(&rows).expect("rows always encode");
    files::replace(path, checked::seal(FORMAT, &body).as_bytes())
}

fn row(node: &SavedNode) -> Row {
    Row {
        id: node.id,
        at: node.at.clone(),
        tier: node.tier,
        source: node.source.clone(),
        heard: timestamp::format(node.heard),
        verified: node.verified.map(timestamp::format),
        failures: node.failures,
        dead: node.dead.map(timestamp::format),
        anchor: node.anchor,
        near: node.near,
    }
}

fn ban_row(ban: &SavedBan) -> BanRow {
    BanRow {
        id: ban.id,
        since: timestamp::format(ban.since),
        until: ban.until.map(timestamp::format),
        why: ban.why.clone(),
    }
}

fn moment(text: &str) -> Result<Wall, String> {
    timestamp::parse(text).map_err(str::to_owned)
}

fn decode(bytes: &[u8]) -> Result<SavedBook, String> {
    let (format, body) = checked::open(FORMAT, bytes)?;
    let misfit = |cause: serde_json::Error| format!("it does not fit: {cause}");
    let Rows { nodes, shunned } = match format {
        1 => Rows { nodes: serde_json::from_slice(body).map_err(misfit)?, shunned: Vec::new() },
        _ => serde_json::from_slice(body).map_err(misfit)?,
    };
    let ban = |row: BanRow| {
        let until = row.until.as_deref().map(moment).transpose()?;
        Ok(SavedBan { id: row.id, since: moment(&row.since)?, until, why: row.why })
    };
    let shunned = shunned.into_iter().map(ban).collect::<Result<_, String>>()?;
    Ok(SavedBook { nodes: nodes_of(nodes)?, shunned })
}

fn nodes_of(rows: Vec<Row>) -> Result<Vec<SavedNode>, String> {
    let mut known = BTreeSet::new();
    rows.into_iter()
        .map(|row| {
            if !known.insert(row.id) {
                return Err(format!("{} stands in it twice", row.id.short()));
            }
            Ok(SavedNode {
                id: row.id,
                at: row.at,
                tier: row.tier,
                source: row.source,
                heard: moment(&row.heard)?,
                verified: row.verified.as_deref().map(moment).transpose()?,
                failures: row.failures,
                dead: row.dead.as_deref().map(moment).transpose()?,
                anchor: row.anchor,
                near: row.near,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::core::params::DAY;
    use crate::wire::Keypair;

    const NOW: Wall = Wall::from_millis(1_795_243_262_123);

    fn node(seed: u8) -> SavedNode {
        SavedNode {
            id: Keypair::from_seed(&[seed; 32]).id(),
            at: vec![
                "birch.example:7443".parse().expect("an address"),
                "[2a00:1450::1]:443".parse().expect("an address"),
            ],
            tier: Tier::Exchange,
            source: "10.1.0.0/16".to_owned(),
            heard: NOW,
            verified: (seed > 1).then_some(NOW),
            failures: 3,
            dead: (seed > 2).then_some(NOW),
            anchor: seed == 1,
            near: seed == 2,
        }
    }

    fn ban(seed: u8) -> SavedBan {
        let (id, since) = (node(seed).id, NOW);
        SavedBan { id, since, until: (seed > 4).then_some(NOW + DAY), why: "it said \"two\" things".to_owned() }
    }

    fn book(seeds: &[u8]) -> SavedBook {
        SavedBook { nodes: seeds.iter().map(|seed| node(*seed)).collect(), shunned: Vec::new() }
    }

    #[test]
    fn what_is_saved_is_read_back() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("book");
        assert_eq!(load(&path).book, SavedBook::default());
        let book = SavedBook { shunned: vec![ban(4), ban(5)], ..book(&[1, 2, 3]) };
        save(&path, &book).expect("saved");
        let loaded = load(&path);
        assert_eq!((loaded.book, loaded.warning), (book, None));
    }

    #[test]
    fn a_book_of_the_first_format_is_read() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("book");
        let rows: Vec<Row> = book(&[1, 2]).nodes.iter().map(row).collect();
        let body = serde_json::to_string(&rows).expect("rows");
        fs::write(&path, checked::seal(1, &body)).expect("written");
        let loaded = load(&path);
        assert_eq!((loaded.book, loaded.warning), (book(&[1, 2]), None));
        fs::write(&path, checked::seal(FORMAT + 1, &body)).expect("written");
        let newer = load(&path).warning.expect("a warning");
        assert!(newer.contains("it has format 3, this program knows 2"), "{newer}");
    }

    #[test]
    fn a_damaged_book_is_moved_aside_and_said() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("book");
        save(&path, &book(&[1, 1])).expect("saved");
        let twice = load(&path).warning.expect("a warning");
        assert!(twice.contains("stands in it twice") && twice.contains("book.corrupt-1"), "{twice}");
        save(&path, &book(&[1])).expect("saved");
        let text = fs::read_to_string(&path).expect("is there").replace("birch", "beech");
        fs::write(&path, &text).expect("written");
        let loaded = load(&path);
        assert!(loaded.book.nodes.is_empty() && loaded.warning.expect("a warning").contains("checksum"));
        assert_eq!(fs::read_to_string(home.path().join("book.corrupt-2")).expect("kept"), text);
        assert!(!path.exists());
    }
}
