//! Whom else do you know? What a real daemon tells of others, over the wire.

use std::sync::Arc;

use afferent::core::ports::LaneId;
use afferent::net::{Context, LaneHandle, Report, Settings, open};
use afferent::wire::{HostPort, Keypair, NodeId, RecordDraft, Word};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::{Daemon, PATIENCE, now};

/// Node 9 calls on `daemon`.
fn call(daemon: &Daemon) -> (LaneHandle, mpsc::Receiver<Report>) {
    let key = Arc::new(Keypair::from_seed(&[9; 32]));
    let record = RecordDraft { seq: 1, ..RecordDraft::default() }.seal(now(), &key).expect("a record");
    let context = Context::new(Settings::of_caller(key, &record, now)).expect("a context");
    let (reports, told) = mpsc::channel(16);
    let id: NodeId = daemon.id().parse().expect("an id");
    let at: HostPort = format!("127.0.0.1:{}", daemon.port).parse().expect("an address");
    (open(&context, id, LaneId(1), vec![at], Word::Typed, reports), told)
}

/// Waits for what is told of others: ids, and who of them said goodbye.
async fn heard(told: &mut mpsc::Receiver<Report>) -> Vec<(String, bool)> {
    let next = async {
        loop {
            match told.recv().await.expect("the lane lives") {
                Report::Heard { records, .. } => {
                    return records.iter().map(|record| (record.id().to_string(), record.bye)).collect();
                }
                Report::Broken { why, .. } => panic!("broken: {why}"),
                _ => {}
            }
        }
    };
    timeout(PATIENCE, next).await.expect("something is told")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_hears_of_others_at_once_and_of_who_leaves() {
    let b = Daemon::running("b", &["order.*"], "", "");
    let mut c = Daemon::running("c", &["order.*"], "", "");
    c.befriend(&b);
    b.wait_connected(&c);
    let id = c.id();
    let (lane, mut told) = call(&b);
    assert_eq!(heard(&mut told).await, [(id.clone(), false)]);

    assert_eq!(c.afferent(&["leave"]).status.code(), Some(0));
    assert_eq!(c.ended(), Some(0));
    lane.exchange();
    assert_eq!(heard(&mut told).await, [(id, true)], "b hands the goodbye on");
}
