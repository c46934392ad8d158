//! Lanes to good receptors and to bad ones.

use super::*;
use crate::core::ports::{LaneId, SendError, ShipmentId};
use crate::wire::message::{PROBLEM_TYPE, Receipt};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn lines(key: &Keypair, names: &[&str]) -> Vec<Bytes> {
    names.iter().map(|name| event(key, name).into()).collect()
}

async fn connected(node: &mut Node) -> HostPort {
    node.told(|report| match report {
        Report::Connected { observed, .. } => Some(observed),
        Report::Broken { why, .. } => panic!("broken: {why}"),
        _ => None,
    })
    .await
}

async fn sent(node: &mut Node) -> (ShipmentId, Result<Receipt, SendError>) {
    node.told(|report| match report {
        Report::Sent { shipment, result, .. } => Some((shipment, result)),
        _ => None,
    })
    .await
}

async fn broken(node: &mut Node) -> String {
    node.told(|report| match report {
        Report::Broken { why, .. } => Some(why),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_lane_greets_exchanges_and_ships_in_order() {
    let (mut birch, mut cedar) = (Node::start(1).await, Node::start(2).await);
    let lane = birch.lane(&cedar);
    let met = |report| match report {
        Report::Met { record } => Some(record.id()),
        _ => None,
    };
    assert_eq!(birch.told(met).await, cedar.id());
    assert_eq!(connected(&mut birch).await.host, "127.0.0.1".parse().expect("a host"));
    let contact = |report| match report {
        Report::Contact { peer } => Some(peer),
        _ => None,
    };
    assert_eq!(cedar.told(contact).await, birch.id());
    assert_eq!(cedar.told(met).await, birch.id());

    let many: Vec<String> = (0..40).map(|number| format!("e{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    lane.send(ShipmentId(1), lines(&birch.key, &many)).expect("room");
    lane.send(ShipmentId(2), lines(&birch.key, &["last"])).expect("room");
    let (first, receipt) = sent(&mut birch).await;
    assert_eq!((first, receipt.map(|receipt| (receipt.stored, receipt.credit))), (ShipmentId(1), Ok((40, 128))));
    let (second, receipt) = sent(&mut birch).await;
    assert_eq!((second, receipt.map(|receipt| receipt.stored)), (ShipmentId(2), Ok(1)));
    let expected: Vec<Digest> = many.iter().chain(&["last"]).map(|name| sealed(&birch.key, name).digest()).collect();
    assert_eq!(*cedar.memory.order.lock().expect("unpoisoned"), expected);
}
