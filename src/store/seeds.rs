//! Tier 4: the nodes to begin with that come with the release, or with a file in their place
//! (`seeds/README.md` is the description of the format).
//!
//! A seed is a place to dial and the key that must answer there: it is trusted no more than a stranger.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files;
use crate::core::tier::Find;
use crate::wire::{Network, NodeId, PeerAddress, Signature};

/// The channels that are compiled in.
pub const CHANNELS: &[(&str, &str)] =
    &[("example", include_str!("../../seeds/example.toml")), ("stable", include_str!("../../seeds/stable.toml"))];
/// The keys that sign the lists of a release; none yet.
pub const RELEASE_KEYS: &[&str] = &[];
/// Payload type of a signed list.
pub const SEEDS_PAYLOAD_TYPE: &str = "application/vnd.afferent.seeds.v1";

const FORMAT: u32 = 1;
/// Largest list.
pub const BYTES_MAX: u64 = 64 << 10;
/// Seeds in one list.
pub const SEEDS_MAX: usize = 256;
const SIGNATURE_MARK: &str = "#signature ";
const UNSIGNED: &str = "a key is pinned (`discovery.seeds_key`), and it bears no signature; next: name a list that this \
                        key signed, as seeds/README.md says, or pin no key";

/// Why a list of seeds is not used.
#[derive(Debug, thiserror::Error)]
pub enum SeedsError {
    /// No such channel is compiled in.
    #[error("there is no channel `{0}` of seeds; there are {names}, and files by a path with a `/`", names = names())]
    NoChannel(String),
    /// The file cannot be read.
    #[error("the seeds in {path} cannot be read: {cause}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It is no list of seeds.
    #[error("the seeds in {place} are not used: {why}")]
    Wrong {
        /// The channel or the file.
        place: String,
        /// What is wrong, and where.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    format: u32,
    channel: String,
    network: Network,
    #[serde(default)]
    seed: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    address: PeerAddress,
}

/// The seeds that `discovery.seeds` means: a channel, or a file by a path with a `/`; "" = none. They
/// must be for this network, and signed by `key` where there is one, or else by one of [`RELEASE_KEYS`] where
/// there are any.
///
/// # Errors
/// [`SeedsError`]: the whole list is used or nothing of it.
pub fn load(wanted: &str, network: &Network, key: Option<NodeId>) -> Result<Vec<Find>, SeedsError> {
    let release = RELEASE_KEYS.iter().map(|key| key.parse().expect("a release key is a node id"));
    let keys: BTreeSet<NodeId> = match key {
        Some(key) => [key].into(),
        None => release.collect(),
    };
    let wrong = |why| SeedsError::Wrong { place: wanted.to_owned(), why };
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    if !wanted.contains('/') {
        let channel = CHANNELS.iter().find(|(name, _)| *name == wanted);
        let (_, text) = channel.ok_or_else(|| SeedsError::NoChannel(wanted.to_owned()))?;
        return read(text, network, &keys).map_err(wrong);
    }
    let path = Path::new(wanted);
    let unreadable = |cause| SeedsError::Unreadable { path: path.to_owned(), cause };
    let bytes = files::read(path, BYTES_MAX).map_err(unreadable)?;
    let bytes = bytes.ok_or_else(|| unreadable(std::io::ErrorKind::NotFound.into()))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
    read(text, network, &keys).map_err(wrong)
}

fn names() -> String {
    CHANNELS.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Reads a list; one find for each node, its addresses in their order.
fn read(text: &str, network: &Network, keys: &BTreeSet<NodeId>) -> Result<Vec<Find>, String> {
    if !keys.is_empty() {
        check_signature(text, keys)?;
    }
    let list: List = toml::from_str(text).map_err(|error| error.to_string())?;
    if list.format != FORMAT {
        return Err(format!("it has format {}, this program knows {FORMAT}", list.format));
    }
    if list.network != *network {
        let (theirs, ours) = (list.network.as_str(), network.as_str());
        return Err(format!("channel `{}` is for the network `{theirs}`, this node is in `{ours}`", list.channel));
    }
    if list.seed.len() > SEEDS_MAX {
        return Err(format!("it has more than {SEEDS_MAX} seeds"));
    }
    let mut finds: Vec<Find> = Vec::new();
    for Row { address } in list.seed {
        let Some(id) = address.id else {
            return Err(format!("{} names no id: mesh://ID@HOST:PORT is needed", address.at));
        };
        match finds.iter_mut().find(|find| find.id == Some(id)) {
            Some(find) if find.at.contains(&address.at) => {}
            Some(find) => find.at.push(address.at),
            None => finds.push(Find { id: Some(id), at: vec![address.at] }),
        }
    }
    Ok(finds)
}

/// Does the last line hold the signature of one of these over everything before it?
fn check_signature(text: &str, keys: &BTreeSet<NodeId>) -> Result<(), String> {
    let at = text.rfind(SIGNATURE_MARK).filter(|at| *at == 0 || text.as_bytes()[at - 1] == b'\n');
    let (signed, line) = text.split_at(at.ok_or(UNSIGNED)?);
    let mut words = line.trim_end_matches('\n').split(' ').skip(1);
    let (Some(id), Some(signature), None) = (words.next(), words.next(), words.next()) else {
        return Err("its last line is not `#signature ID SIGNATURE`".to_owned());
    };
    let signer: NodeId = id.parse().map_err(|_| "its signature names no key")?;
    if !keys.contains(&signer) {
        return Err(format!("it is signed by {}, which is no pinned key", signer.short()));
    }
    let signature = Signature::parse(signature.as_bytes()).map_err(|rejection| rejection.to_string())?;
    match signature.is_by(&signer, SEEDS_PAYLOAD_TYPE, signed.as_bytes()) {
        true => Ok(()),
        false => Err(format!("the signature of {} does not hold: it was changed", signer.short())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;

    fn main() -> Network {
        Network::default()
    }

    fn key() -> Keypair {
        Keypair::from_seed(&[7; 32])
    }

    fn list(rows: &str) -> String {
        format!("format = 1\nchannel = \"mine\"\nnetwork = \"main\"\n{rows}")
    }

    fn signed(text: &str) -> String {
        let signature = Signature::sign(&key(), SEEDS_PAYLOAD_TYPE, text.as_bytes());
        format!("{text}{SIGNATURE_MARK}{} {signature}\n", key().id())
    }

    #[test]
    fn every_channel_that_is_shipped_can_be_read_and_leads_nowhere() {
        for (name, text) in CHANNELS {
            let list: List = toml::from_str(text).expect("a list");
            assert_eq!(list.channel, *name);
            let finds = load(name, &main(), None).expect("a channel");
            assert!(!finds.is_empty() && finds.iter().all(|find| find.id.is_some()), "{name}");
            let mut places = finds.iter().flat_map(|find| &find.at);
            assert!(places.all(|at| at.host.to_string().ends_with(".example")), "{name}");
        }
        for key in RELEASE_KEYS {
            assert!(key.parse::<NodeId>().is_ok(), "{key}");
        }
    }

    #[test]
    fn one_node_with_two_addresses_is_one_find() {
        let finds = load("example", &main(), None).expect("a channel");
        assert_eq!(finds.iter().map(|find| find.at.len()).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn a_file_takes_the_place_of_a_channel() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("mine.toml");
        let name = path.to_str().expect("a plain path");
        let load = || load(name, &main(), None);
        assert!(load().expect_err("not there").to_string().contains("mine.toml"));
        std::fs::write(&path, list(&format!("[[seed]]\naddress = \"mesh://{}@127.0.0.1\"\n", key().id()))).expect("ok");
        let expected = Find { id: Some(key().id()), at: vec!["127.0.0.1:7443".parse().expect("an address")] };
        assert_eq!(load().expect("a list"), [expected]);
        std::fs::write(&path, vec![b'#'; 65 << 10]).expect("written");
        assert!(load().is_err(), "too large");
        assert!(super::load("", &main(), None).expect("off").is_empty());
        let unknown = super::load("nightly", &main(), None).expect_err("unknown").to_string();
        assert!(unknown.contains("`example`, `stable`"), "{unknown}");
    }

    #[test]
    fn what_is_no_list_says_why() {
        let lab = "lab".parse().expect("a network");
        assert!(read(&list(""), &lab, &BTreeSet::new()).expect_err("another network").contains("`lab`"));
        for (text, word) in [
            ("format = 2\nchannel = \"x\"\nnetwork = \"main\"".to_owned(), "format 2"),
            ("format = 1\nchannel = \"x\"".to_owned(), "network"),
            (list("[[seed]]\naddress = \"birch.example\""), "names no id"),
            (list("[[seed]]\naddress = \"mesh://x@birch.example\""), "node id"),
            (list("[[seed]]\nadress = \"x\""), "adress"),
            (list("seeds = 1"), "seeds"),
            (list(&format!("[[seed]]\naddress = \"mesh://{}@a.example\"\n", key().id()).repeat(257)), "256"),
        ] {
            let why = read(&text, &main(), &BTreeSet::new()).expect_err(word);
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn with_a_pinned_key_only_what_it_signed_is_used() {
        let text = list(&format!("[[seed]]\naddress = \"mesh://{}@birch.example\"\n", key().id()));
        let pinned: BTreeSet<NodeId> = [key().id()].into();
        let why = |text: &str, keys: &BTreeSet<NodeId>| read(text, &main(), keys).expect_err("refused");
        assert_eq!(read(&signed(&text), &main(), &pinned).map(|finds| finds.len()), Ok(1));
        assert!(why(&text, &pinned).contains("no signature"));
        assert!(why(&signed(&text).replace("birch", "beech"), &pinned).contains("changed"));
        assert!(why(&format!("{}x = 1\n", signed(&text)), &pinned).contains("not `#signature"));
        assert!(why(&signed(&text), &[Keypair::from_seed(&[8; 32]).id()].into()).contains("no pinned key"));
        assert!(read(&signed(&text), &main(), &BTreeSet::new()).is_ok(), "nobody is pinned");
    }

    #[test]
    fn a_channel_of_the_release_is_not_used_for_somebody_who_pins_another_key() {
        let why = load("stable", &main(), Some(key().id())).expect_err("it is not signed").to_string();
        assert!(why.contains("`discovery.seeds_key`") && why.contains("next: "), "{why}");
    }

    /// By openssl, as `seeds/README.md` says, with the key of `key()`.
    const BY_OPENSSL: &str = "-T_iTDhJXSZND1r3CDHhKwCZofUCoO68s-Th8vuyQFUinTX4-G2dB3F13ONlHR4hJXaqX5JM-pyRQZtYeWmFBw";

    #[test]
    fn what_is_signed_as_the_description_says_is_used() {
        let text = list(&format!("\n[[seed]]\naddress = \"mesh://{}@birch.example:7443\"\n", key().id()));
        let signed = format!("{text}{SIGNATURE_MARK}{} {BY_OPENSSL}\n", key().id());
        assert_eq!(read(&signed, &main(), &[key().id()].into()).map(|finds| finds.len()), Ok(1));
    }
}
