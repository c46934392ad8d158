//! What others tell us never makes us knock where no node should be: counted where we dial, and where
//! nobody may come.

use std::sync::atomic::Ordering;

use super::lanes::{broken, counting};
use super::*;
use crate::wire::Forbidden;

/// How often anything was refused for its address.
fn refused(node: &Node) -> u64 {
    Forbidden::WORDS.iter().map(|word| node.context.counters().forbidden(word)).sum()
}

#[tokio::test]
async fn no_spelling_of_a_forbidden_address_is_dialled() {
    let mut birch = Node::with(1, |settings| settings.profile = Profile::Public).await;
    let (at, came) = counting().await;
    let port = at.port;
    let mut expected = 0;
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "10.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:10.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[::127.0.0.1]",
        "[fe80::1]",
        "[fd00::1]",
        "localhost",
        "LOCALHOST.",
    ] {
        let place: HostPort = format!("{host}:{port}").parse().expect(host);
        let before = refused(&birch);
        let _lane =
            open(&birch.context, key(5).id(), LaneId(1), vec![place.clone()], Word::Near, birch.reports.clone());
        let why = broken(&mut birch).await;
        assert!(why.contains("is not dialled"), "{host}: {why}");
        let why = identify(&birch.context, &place, Word::Near).await.expect_err(host);
        assert!(why.contains("is not dialled"), "{host}: {why}");
        assert!(refused(&birch) >= before + 2, "{host} is counted");
        expected += 2;
    }
    // What other resolvers take for an address is none here, and no name either.
    for host in ["0x7f.1", "0x7f000001", "2130706433", "127.1", "0177.0.0.1", "127.0.0.1.", "0", "[::ffff:127.0.0.1%1]"]
    {
        assert!(format!("{host}:{port}").parse::<HostPort>().is_err(), "{host}");
    }
    // Somebody else's doors, on this machine and on any other.
    for place in ["127.0.0.1:6379", "8.8.8.8:22", "8.8.8.8:25", "8.8.8.8:5432"] {
        let place: HostPort = place.parse().expect(place);
        let _lane = open(&birch.context, key(5).id(), LaneId(1), vec![place], Word::Near, birch.reports.clone());
        assert!(broken(&mut birch).await.contains("is not dialled"));
        expected += 1;
    }
    assert_eq!(birch.context.counters().forbidden("service"), 4);
    assert!(refused(&birch) >= expected);
    assert_eq!((birch.context.counters().dialled.value(), came.load(Ordering::SeqCst)), (0, 0), "zero attempts");
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_than_when_it_was_told_is_not_dialled() {
    // The name passes where it is told, as every name does; where it leads is looked at with the socket.
    let mut birch = Node::with(1, |settings| settings.profile = Profile::Public).await;
    let (at, came) = counting().await;
    let rebound = format!("localhost:{}", at.port);
    let draft = RecordDraft { seq: 1, addresses: vec![rebound.parse().expect("one")], ..RecordDraft::default() };
    let told = draft.seal(NOW, &key(6)).expect("a record").envelope().line(0, false);
    let caller = key(9);
    let lines = [record_line(&caller, 1).to_string(), told].join("\n");
    assert_eq!(birch.ask(Some(&caller), &request("POST", "/mesh/v1/peers", &lines)).await.status, 200);
    let heard = |report| match report {
        Report::Asked { records, .. } => Some(records.iter().map(|record| record.id()).collect::<Vec<_>>()),
        _ => None,
    };
    assert_eq!(birch.told(heard).await, [key(6).id()], "allowed when it is told");
    let places = vec![rebound.parse().expect("a place")];
    let _lane = open(&birch.context, key(6).id(), LaneId(1), places, Word::Far, birch.reports.clone());
    assert!(broken(&mut birch).await.contains("a loopback address"));
    assert_eq!((birch.context.counters().dialled.value(), came.load(Ordering::SeqCst)), (0, 0), "zero attempts");
}

#[tokio::test]
async fn a_name_told_from_far_leads_nowhere_near() {
    // As in a LAN: the profile allows what the word does not.
    let mut birch = Node::start(1).await;
    let (at, came) = counting().await;
    let named: HostPort = format!("localhost:{}", at.port).parse().expect("a place");
    let _lane = open(&birch.context, key(5).id(), LaneId(1), vec![named.clone()], Word::Far, birch.reports.clone());
    let why = broken(&mut birch).await;
    assert!(why.contains("told by another machine"), "{why}");
    identify(&birch.context, &named, Word::Far).await.expect_err("not dialled");
    assert!(birch.context.counters().forbidden("elsewhere") >= 2);
    assert_eq!((birch.context.counters().dialled.value(), came.load(Ordering::SeqCst)), (0, 0), "zero attempts");
    let _lane = open(&birch.context, key(5).id(), LaneId(2), vec![named], Word::Near, birch.reports.clone());
    broken(&mut birch).await;
    assert!(came.load(Ordering::SeqCst) >= 1, "the test can fail");
}

#[tokio::test]
async fn who_calls_is_taken_at_the_word_of_where_it_calls_from() {
    let mut birch = Node::start(1).await;
    let caller = key(9);
    let body = record_line(&caller, 1).to_string();
    assert_eq!(birch.ask(Some(&caller), &request("POST", "/mesh/v1/peers", &body)).await.status, 200);
    let met = |report| if let Report::Met { word, .. } = report { Some(word) } else { None };
    assert_eq!(birch.told(met).await, Word::Near, "from this machine");
}
