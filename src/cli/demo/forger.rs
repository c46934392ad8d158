//! Somebody with a key of their own who changes another's event on its way.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::core::ports::{LaneId, ShipmentId};
use crate::net;
use crate::time::Wall;
use crate::wire::envelope::EVENT_PAYLOAD_TYPE;
use crate::wire::{Keypair, PeerAddress, RecordDraft, Signature, Word};

/// Connects to this node as a stranger, posts the event as if its source had signed it, and gives the
/// code it was refused with.
pub(super) fn offer(address: &str, event: &str) -> anyhow::Result<String> {
    let address: PeerAddress = address.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let told = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), post(address, event)).await });
    told.context("no answer to the forged event")?
}

async fn post(address: PeerAddress, event: &str) -> anyhow::Result<String> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("no randomness")?;
    let key = Arc::new(Keypair::from_seed(&seed));
    let signature = Signature::sign(&key, EVENT_PAYLOAD_TYPE, event.as_bytes());
    let line = Bytes::from(format!("0 {signature} {event}"));
    let record = RecordDraft { seq: 1, ..RecordDraft::default() }.seal(now(), &key)?;
    let context = net::Context::new(net::Settings::of_caller(key, &record, now))?;
    let (reports, mut inbox) = mpsc::channel(16);
    let peer = address.id.context("an address with an id")?;
    let lane = net::open(&context, peer, LaneId(0), vec![address.at], Word::Typed, reports);
    while let Some(report) = inbox.recv().await {
        match report {
            net::Report::Connected { .. } => drop(lane.send(ShipmentId(0), vec![line.clone()])),
            net::Report::Sent { result: Ok(receipt), .. } => {
                let refused = receipt.rejected.first();
                return Ok(refused.map_or_else(|| String::from("stored"), |refused| refused.code.to_string()));
            }
            net::Report::Sent { result: Err(error), .. } => bail!("the forged event was not answered: {error:?}"),
            net::Report::Broken { why, .. } => bail!("the stranger's connection broke: {why}"),
            _ => {}
        }
    }
    bail!("the stranger's connection ended")
}

fn now() -> Wall {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Wall::default() + since
}
