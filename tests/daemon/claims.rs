//! What nodes say that cannot all be true: two records with one number, one key on two machines, two times.

use std::sync::Arc;
use std::time::Duration;

use afferent::net;
use afferent::wire::message::PEERS_ROUTE;
use afferent::wire::{HostPort, Keypair, PeerAddress, Record, RecordDraft, Verified};
use tokio::sync::{mpsc, watch};

use crate::support::{Daemon, PATIENCE, eventually, now, text, tls};

fn record(key: &Keypair, seq: u64, at: &str) -> Verified<Record> {
    let addresses = vec![at.parse().expect("a place")];
    RecordDraft { seq, addresses, ..RecordDraft::default() }.seal(now(), key).expect("a record")
}

#[test]
fn two_records_with_one_number_put_their_node_into_quarantine() {
    let a = Daemon::running("a", &[], "", "");
    let key = Keypair::from_seed(&[9; 32]);
    let id = key.id().to_string();
    let [first, second] = ["127.0.9.1:7443", "127.0.9.2:7443"].map(|at| record(&key, 5, at).envelope().line(0, false));
    assert_eq!(tls::post(&a, Some(&key), PEERS_ROUTE, &[&first]), 200);
    assert!(a.state_of(&id).is_some_and(|state| state != "quarantine"));
    assert_eq!(tls::post(&a, Some(&key), PEERS_ROUTE, &[&second]), 200, "it is told nothing");
    eventually("quarantine", PATIENCE, || (a.state_of(&id)? == "quarantine").then_some(()));
    let shown = text(&a.afferent(&["peers"]).stdout);
    assert!(shown.contains("not listened to: it signed two records with one number"), "{shown}");
    assert!(a.log().contains("peer is not listened to: it signed two records with one number"), "{}", a.log());
    let later = record(&key, 6, "127.0.9.3:7443").envelope().line(0, false);
    tls::post(&a, Some(&key), PEERS_ROUTE, &[&later]);
    assert_eq!(a.state_of(&id).as_deref(), Some("quarantine"), "a higher number ends no quarantine");
}

/// Neither of the two is ever called by the other: whoever knows both tells the one that is behind, and that
/// one signs a higher number, so that the other is behind.
#[test]
fn one_key_on_two_machines_is_noticed_and_said_by_both() {
    let mut c = Daemon::housed("c", "127.93.0.1", &[], "");
    c.start();
    let mut a = Daemon::housed("a", "127.91.0.1", &[], "");
    a.start();
    a.befriend(&c);
    let mut b = Daemon::housed("b", "127.92.0.1", &[], "");
    std::fs::create_dir(b.data()).expect("a directory");
    std::fs::copy(a.data().join("node.key"), b.data().join("node.key")).expect("a key");
    let begun = now().as_secs();
    eventually("a second later, by which the numbers differ", PATIENCE, || (now().as_secs() > begun).then_some(()));
    b.start();
    assert_eq!(a.id(), b.id());
    b.befriend(&c);
    let words = "key is used on another machine too";
    for (older, newer) in [(&a, &b), (&b, &a)] {
        eventually("c has the newer record", PATIENCE, || {
            c.peer(&newer.id())?["addresses"].to_string().contains(&newer.host).then_some(())
        });
        // They ask about once a minute, and at each new connection.
        assert!(older.afferent(&["peers", "rm", &c.id()]).status.success());
        older.befriend(&c);
        eventually(&format!("{} says so", older.name), PATIENCE, || older.warns_of(words).then_some(()));
        assert!(older.log().contains("this key is used on another machine"), "{}", older.log());
    }
}

/// A node in this process whose clock is ahead.
async fn ahead(seed: u8, by: Duration) -> PeerAddress {
    let key = Arc::new(Keypair::from_seed(&[seed; 32]));
    let record = RecordDraft { seq: 1, ..RecordDraft::default() }.seal(now() + by, &key).expect("a record");
    let settings = net::Settings::of_caller(key, &record, move || now() + by);
    let listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let context = net::Context::new(net::Settings { listen, ..settings }).expect("a key");
    let receptor = net::Receptor::bind(&context).await.expect("a port");
    let at = HostPort::from_socket(receptor.addresses()[0]);
    let (reports, mut inbox) = mpsc::channel(16);
    let (shutdown, stopping) = watch::channel(false);
    tokio::spawn(async move {
        receptor.run(reports, stopping).await;
        drop(shutdown);
    });
    tokio::spawn(async move {
        while let Some(report) = inbox.recv().await {
            if let net::Report::Asked { answer, .. } = report {
                let _ = answer.send(Vec::new());
            }
        }
    });
    PeerAddress { id: Some(context.id()), at }
}

#[test]
fn a_clock_that_three_peers_contradict_is_warned_of() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let a = Daemon::running("a", &[], "", "");
    for seed in 1..=3 {
        assert!(!a.warns_of("the clock of this machine"), "{seed} contradict");
        let peer = runtime.block_on(ahead(seed, Duration::from_secs(90)));
        let added = a.afferent(&["peers", "add", &peer.to_string()]);
        assert!(added.status.success(), "{}", text(&added.stderr));
    }
    assert!(a.warns_of(" s behind the clocks of 3 peers"), "{}", a.json(&["status"]));
}
