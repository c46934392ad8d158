//! The numbers of everything that can go wrong, in one table: those of the configuration (AF01nn), of
//! the local API, peers and events (AF02nn to AF04nn), and the command line's own.

use crate::admin::FaultCode;
use crate::config;

/// The operating system refused something.
pub(super) const SYSTEM: &str = "AF0001";
/// An argument that clap cannot judge.
pub(super) const USAGE: &str = "AF0002";
/// The daemon stopped with an error.
pub(super) const DAEMON: &str = "AF0004";
/// The configuration is no registrar's.
pub(super) const LACKING: &str = "AF0005";
/// Nobody listens on the socket.
pub(super) const ABSENT: &str = "AF0211";
/// The socket is not for this user.
pub(super) const DENIED: &str = "AF0212";
/// The connection to the daemon broke off.
pub(super) const BROKEN: &str = "AF0213";
/// The daemon speaks another version.
pub(super) const UNREADABLE: &str = "AF0214";
/// What was waited for did not come in time.
pub(super) const NOT_YET: &str = "AF0215";
/// The peer is stored and not connected yet.
pub(super) const PENDING: &str = "AF0321";
/// Fewer peers than were waited for stored an event in time.
pub(super) const FEW_PEERS: &str = "AF0322";
/// The far end of a measurement does not ask for its events.
pub(super) const UNWANTED: &str = "AF0323";
/// A measurement found events that were lost, or came twice.
pub(super) const UNSOUND: &str = "AF0324";
/// A simulation saw a promise broken.
pub(super) const BROKEN_PROMISE: &str = "AF0326";
/// No address of this node is known.
pub(super) const NO_ADDRESS: &str = "AF0325";
/// There is no key yet.
pub(super) const NO_KEY: &str = "AF0501";
/// The key file cannot be used.
pub(super) const BAD_KEY: &str = "AF0502";
/// There is everything already.
pub(super) const PRESENT: &str = "AF0503";

const OWN: &[(&str, &str)] = &[
    (SYSTEM, "the operating system refused something"),
    (USAGE, "an argument that cannot be used"),
    (DAEMON, "the daemon stopped with an error"),
    (LACKING, "a key of [registrar] is missing, without which there is no registrar"),
    (ABSENT, "no daemon listens on the socket: it does not run, or listens elsewhere"),
    (DENIED, "the socket is not open to this user: its group may use it"),
    (BROKEN, "the connection to the daemon broke off: it stopped, or was killed"),
    (UNREADABLE, "the daemon answered what this version cannot read"),
    (NOT_YET, "what was waited for did not come in time"),
    (PENDING, "the peer is stored and not connected yet; it is tried again by itself"),
    (
        FEW_PEERS,
        "fewer peers than were waited for stored the event in time; it is durable here, and whoever wants it and can be reached still gets it",
    ),
    (UNWANTED, "the node at the far end does not ask for the events of the measurement, so none would get there"),
    (
        UNSOUND,
        "a measurement saw events that were stored and did not arrive while it waited, or that came more than once; what did not arrive may still come",
    ),
    (BROKEN_PROMISE, "a simulation ended with a promise broken; the same seed shows it again"),
    (NO_ADDRESS, "no address of this node is known: set node.addresses, or wait for a peer that says where it sees it"),
    (NO_KEY, "this node has no key yet"),
    (BAD_KEY, "the key file cannot be used"),
    (PRESENT, "init found everything in place and changed nothing"),
];

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Row {
    /// `AFnnnn`.
    pub(super) number: &'static str,
    /// The stable word that programs compare, where there is one.
    pub(super) word: Option<&'static str>,
    /// What it means.
    pub(super) meaning: &'static str,
}

/// The whole table.
pub(super) fn all() -> impl Iterator<Item = Row> {
    let bare = |&(number, meaning): &(&'static str, &'static str)| Row { number, word: None, meaning };
    let fault = |code: FaultCode| Row { number: code.number(), word: Some(code.word()), meaning: code.meaning() };
    OWN.iter().map(bare).chain(config::CODES.iter().map(bare)).chain(FaultCode::all().map(fault))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_number_means_one_thing() {
        let numbers: Vec<&str> = all().map(|row| row.number).collect();
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len());
        assert!(numbers.iter().all(|number| {
            number.strip_prefix("AF").is_some_and(|digits| digits.len() == 4 && digits.parse::<u16>().is_ok())
        }));
    }

    /// Every `AFnnnn` that stands anywhere in the sources is one that `explain` knows.
    #[test]
    fn whatever_code_is_used_is_explained() {
        fn sources(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() { sources(&path, found) } else { found.push(path) }
            }
        }
        let known: BTreeSet<&str> = all().map(|row| row.number).collect();
        let mut files = Vec::new();
        sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        let mut used = BTreeSet::new();
        for path in files {
            let text = std::fs::read_to_string(&path).expect("a text file");
            for (at, _) in text.match_indices("AF0") {
                let code = text.get(at..at + 6).unwrap_or_default();
                if code[2..].bytes().all(|byte| byte.is_ascii_digit()) && code.len() == 6 {
                    assert!(known.contains(code), "{}: {code} is in no table", path.display());
                    used.insert(code.to_owned());
                }
            }
        }
        assert!(used.len() >= 40, "the search finds the tables themselves: {used:?}");
    }
}
