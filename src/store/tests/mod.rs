//! The small files, whatever happens to them: killed writers, cuts, flipped bits, other versions, disks that take
//! nothing. By what each file says when it is read, not by what is in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::core::ports::{Origin, SavedBook, SavedNode, SavedPeer, Welcome};
use crate::core::tier::Tier;
use crate::time::Wall;
use crate::wire::{Keypair, RecordDraft};

mod damage;
mod killed;

const NOW: Wall = Wall::from_millis(1_795_243_262_123);

fn key(number: u8) -> Keypair {
    Keypair::from_seed(&[number; 32])
}

/// Node `number` of the book as it was in version `n` of it.
fn node(number: u8, n: u32) -> SavedNode {
    SavedNode {
        id: key(number).id(),
        at: vec![format!("birch-{number}.example:7443").parse().expect("an address")],
        tier: Tier::Exchange,
        source: "10.1.0.0/16".to_owned(),
        heard: NOW + Duration::from_secs(n.into()),
        verified: number.is_multiple_of(2).then_some(NOW),
        failures: n,
        dead: number.is_multiple_of(5).then_some(NOW),
        anchor: number == 1,
        near: number.is_multiple_of(3),
    }
}

/// Version `n`: another length each time.
fn book_of(n: u32) -> SavedBook {
    let nodes = (1..=1 + u8::try_from(n % 40).expect("small")).map(|number| node(number, n)).collect();
    SavedBook { nodes, ..SavedBook::default() }
}

fn peer(number: u8, n: u32) -> SavedPeer {
    let key = key(number);
    SavedPeer {
        id: key.id(),
        origin: Origin::Manual,
        welcome: Welcome::Open,
        proven: true,
        alias: Some(format!("version {n}")),
        addresses: vec!["birch.example:7443".parse().expect("an address")],
        record: Some(RecordDraft { seq: 3, ..RecordDraft::default() }.seal(NOW, &key).expect("a record")),
        cursor: None,
        since: NOW,
        seen: None,
        near: true,
    }
}

fn peers_of(n: u32) -> Vec<SavedPeer> {
    (1..=1 + u8::try_from(n % 3).expect("small")).map(|number| peer(number, n)).collect()
}

fn routes_of(n: u32) -> String {
    format!("{{\"version\":{n},\"filler\":\"{}\"}}", "x".repeat(usize::try_from(n % 900).expect("small")))
}

/// A small file, however it is read and written.
struct File {
    name: &'static str,
    path: PathBuf,
    /// Writes version `n`.
    save: Box<dyn Fn(u32) -> Result<(), StoreError>>,
    /// The version that is there and the warning.
    load: Box<dyn Fn() -> (Option<u32>, Option<String>)>,
}

/// All of them in a directory. A version is given only when everything in it is of that version.
fn files(dir: &std::rc::Rc<DataDir>) -> Vec<File> {
    let (routes_in, routes_out) = (std::rc::Rc::clone(dir), std::rc::Rc::clone(dir));
    let (book, peers) = (dir.book_path(), dir.peers_path());
    let [book_in, book_out] = [book.clone(), book.clone()];
    let [peers_in, peers_out] = [peers.clone(), peers.clone()];
    let load_book = move || {
        let loaded = book::load(&book_out);
        let version = loaded.book.nodes.first().map(|node| node.failures).filter(|n| book_of(*n) == loaded.book);
        (version, loaded.warning)
    };
    let load_peers = move || {
        let loaded = peers::load(&peers_out, NOW);
        let alias = loaded.peers.first().and_then(|peer| peer.alias.as_deref()?.strip_prefix("version ")?.parse().ok());
        let is_whole = |n: &u32| {
            let expected = peers_of(*n);
            let same = |(one, other): (&SavedPeer, &SavedPeer)| {
                one.id == other.id
                    && one.alias == other.alias
                    && one.record.is_some()
                    && one.addresses == other.addresses
            };
            expected.len() == loaded.peers.len() && expected.iter().zip(&loaded.peers).all(same)
        };
        (alias.filter(is_whole), loaded.warning)
    };
    let load_routes = move || {
        let loaded = routes::load(&routes_out);
        let version = loaded.text.as_deref().and_then(|text| {
            let n = text.strip_prefix("{\"version\":")?.split(',').next()?.parse().ok()?;
            (routes_of(n) == text).then_some(n)
        });
        (version, loaded.warning)
    };
    vec![
        File {
            name: "book",
            path: book,
            save: Box::new(move |n| book::save(&book_in, &book_of(n))),
            load: Box::new(load_book),
        },
        File {
            name: "peers",
            path: peers,
            save: Box::new(move |n| peers::save(&peers_in, &peers_of(n))),
            load: Box::new(load_peers),
        },
        File {
            name: "routes",
            path: dir.routes_path(),
            save: Box::new(move |n| routes::save(&routes_in, &routes_of(n))),
            load: Box::new(load_routes),
        },
    ]
}

fn directory(home: &Path) -> std::rc::Rc<DataDir> {
    std::rc::Rc::new(DataDir::open(home).expect("a data directory"))
}

/// What was moved aside, in order.
fn aside(home: &Path, name: &str) -> Vec<PathBuf> {
    let of = |entry: fs::DirEntry| {
        let path = entry.path();
        let is_it = path.file_name()?.to_str()?.starts_with(&format!("{name}.corrupt-"));
        is_it.then_some(path)
    };
    let mut found: Vec<PathBuf> =
        fs::read_dir(home).expect("a directory").filter_map(|entry| of(entry.expect("an entry"))).collect();
    found.sort();
    found
}
