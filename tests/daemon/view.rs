//! A node that knows many others, and one that knows it: the rest of its view comes by reconciliation.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use afferent::core::ports::{SavedBook, SavedNode};
use afferent::core::tier::Tier;
use afferent::store::book;
use afferent::time::Wall;
use afferent::wire::message::PEERS_ROUTE;
use afferent::wire::{HostPort, Keypair, RecordDraft};

use crate::metrics::Samples;
use crate::support::{Daemon, PATIENCE, eventually, tls};

fn now() -> Wall {
    Wall::default() + SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

fn key(number: u8) -> Keypair {
    Keypair::from_seed(&[number; 32])
}

/// Nobody listens there.
fn at(number: u8) -> HostPort {
    format!("127.{number}.7.1:7443").parse().expect("an address")
}

fn line(number: u8) -> String {
    let draft = RecordDraft { seq: 1, addresses: vec![at(number)], ..RecordDraft::default() };
    draft.seal(now(), &key(number)).expect("a record").envelope().line(0, false)
}

/// How many of these nodes a daemon has the record of: it shows what they want.
fn known(node: &Daemon) -> Vec<String> {
    let peers = node.json(&["peers", "list", "--all"]);
    let ids: Vec<String> = (100..160).map(|number| key(number).id().to_string()).collect();
    let peers = peers["peers"].as_array().expect("a list").iter();
    peers
        .filter_map(|peer| peer["id"].as_str())
        .filter(|id| ids.iter().any(|one| one == id))
        .map(str::to_owned)
        .collect()
}

fn sample(node: &Daemon, name: &str) -> f64 {
    Samples::of(node).at(name)
}

/// Sixty nodes answered the first daemon within a day, as its book says; somebody hands it their records. The
/// exchange tells the second daemon sixteen of them, and the same sixteen for ten minutes.
#[test]
fn what_the_exchange_leaves_out_comes_by_reconciliation() {
    let mut wide = Daemon::new("wide", &[], "", "");
    std::fs::create_dir(wide.data()).expect("a directory");
    let node = |number: u8| SavedNode {
        id: key(number).id(),
        at: vec![at(number)],
        tier: Tier::Exchange,
        source: format!("of {number}"),
        heard: now(),
        verified: Some(now() - Duration::from_secs(60)),
        failures: 0,
        dead: None,
        anchor: false,
        near: true,
    };
    let saved = SavedBook { nodes: (100..160).map(node).collect(), shunned: Vec::new() };
    book::save(&wide.data().join("book"), &saved).expect("written");
    wide.start();
    let teller = key(9);
    let own = RecordDraft { seq: 1, ..RecordDraft::default() }.seal(now(), &teller).expect("a record");
    for half in [100..130, 130..160] {
        let lines: Vec<String> = [own.envelope().line(0, false)].into_iter().chain(half.map(line)).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(tls::post(&wide, Some(&teller), PEERS_ROUTE, &lines), 200);
    }
    let theirs = known(&wide);
    assert!(theirs.len() >= 55, "{} of 60 have a place in its book", theirs.len());

    let narrow = Daemon::running("narrow", &[], "", "");
    narrow.befriend(&wide);
    eventually("a run has ended", PATIENCE, || (sample(&narrow, "sync_runs_total") >= 1.0).then_some(()));
    // All come from one hand, which has its part of the table and no more: some may find it taken.
    let ours = known(&narrow).len();
    assert!(ours >= 40, "{ours} of {}", theirs.len());
    let gained = sample(&narrow, "sync_records_total");
    assert!(gained >= 24.0, "{gained} of {}: the exchange tells 16", theirs.len());
    assert!(sample(&narrow, "sync_frames_bytes_total") < 20_000.0);
    assert!(sample(&wide, "sync_answered_total") >= 1.0 && sample(&wide, "sync_lines_given_total") >= gained);
    assert_eq!(sample(&narrow, "sync_runs_failed_total"), 0.0, "{}", narrow.log());
}
