//! Whom else do you know? What is told of others, both ways.

use super::lanes::connected;
use super::*;

/// Record of node `number` at this address.
fn told(number: u8, at: &str) -> String {
    let draft = RecordDraft { seq: 1, addresses: vec![at.parse().expect("an address")], ..RecordDraft::default() };
    draft.seal(NOW, &key(number)).expect("a record").envelope().line(0, false)
}

fn ids(records: &[Verified<Record>]) -> Vec<NodeId> {
    records.iter().map(|record| record.id()).collect()
}

#[tokio::test]
async fn a_node_that_asks_is_given_what_the_driver_gives() {
    let mut node = Node::start(1).await;
    let caller = key(9);
    *node.memory.known.lock().expect("unpoisoned") = vec![told(4, "127.0.0.4:7443"), told(5, "127.0.0.5:7443")];
    let old = RecordDraft { seq: 1, addresses: vec!["127.0.0.7:7443".parse().expect("one")], ..RecordDraft::default() };
    let old = old.seal(NOW - Duration::from_secs(90_000), &key(7)).expect("a record").envelope().line(0, false);
    let forged = told(8, "127.0.0.8:7443").replace("127.0.0.8", "127.0.0.9");
    let lines = [record_line(&caller, 1).to_string(), told(6, "127.0.0.6:7443"), old, forged, told(3, "10.0.0.1:6379")];
    let answer = node.ask(Some(&caller), &request("POST", "/mesh/v1/peers", &lines.join("\n"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let given: Vec<&str> = answer.text.lines().collect();
    let own = record_line(&node.key, 1);
    assert_eq!(given, [&*own, &told(4, "127.0.0.4:7443"), &told(5, "127.0.0.5:7443")]);
    let heard = |report| match report {
        Report::Asked { from, records, group, .. } => Some((from, group, ids(&records))),
        _ => None,
    };
    let group = Group::of([127, 0, 0, 1].into());
    assert_eq!(node.told(heard).await, (caller.id(), group, vec![key(6).id()]), "what is sound, and no more");
    let counters = node.context.counters();
    assert_eq!((counters.rejected(Code::Expired), counters.rejected(Code::BadSignature)), (1, 1));
    assert_eq!(counters.records_ignored.value(), 1, "another one's door");
}

#[tokio::test]
async fn a_lane_hears_of_others_at_once_and_when_it_asks() {
    let (mut birch, cedar) = (Node::start(1).await, Node::start(2).await);
    let known = |numbers: &[u8]| {
        let line = |number: &u8| told(*number, &format!("127.0.0.{number}:7443"));
        *cedar.memory.known.lock().expect("unpoisoned") = numbers.iter().map(line).collect();
    };
    known(&[4, 5]);
    let lane = birch.lane(&cedar);
    let heard = |report| match report {
        Report::Heard { teller, records } => Some((teller, ids(&records))),
        _ => None,
    };
    assert_eq!(birch.told(heard).await, (cedar.id(), vec![key(4).id(), key(5).id()]));
    known(&[6]);
    lane.exchange();
    assert_eq!(birch.told(heard).await, (cedar.id(), vec![key(6).id()]));
}

#[tokio::test]
async fn of_a_heap_nothing_is_taken_but_the_own_record() {
    let (mut birch, cedar) = (Node::start(1).await, Node::start(2).await);
    let many = (10..75).map(|number| told(number, &format!("127.0.0.{number}:7443")));
    *cedar.memory.known.lock().expect("unpoisoned") = many.collect();
    let _lane = birch.lane(&cedar);
    connected(&mut birch).await;
    assert_eq!(birch.context.counters().records_ignored.value(), 65);
}

#[tokio::test]
async fn a_body_of_any_shape_is_counted_and_hands_nothing_on() {
    let mut node = Node::start(1).await;
    let caller = key(9);
    let own = record_line(&caller, 1).to_string();
    let counted = |node: &Node| {
        let counters = node.context.counters();
        let rejected: u64 = Code::ALL.into_iter().map(|code| counters.rejected(code)).sum();
        rejected + counters.refused.value() + counters.records_ignored.value()
    };
    let homeless = RecordDraft { seq: 1, ..RecordDraft::default() };
    let homeless = homeless.seal(NOW, &key(5)).expect("a record").envelope().line(0, false);
    let beside = [
        "x".to_owned(),
        "0 ".to_owned(),
        told(6, "127.0.0.6:7443").replace("127.0.0.6", "127.0.0.7"),
        told(6, "127.0.0.6:7443")[..300].to_owned(),
        told(6, "127.0.0.6:6379"),
        told(6, "169.254.169.254:443"),
        told(6, "[::ffff:169.254.169.254]:443"),
        told(6, "0.0.0.0:7443"),
        homeless,
        event(&key(6), "no-record"),
        "{}".to_owned(),
    ];
    let alone = [
        "\n".repeat(33),
        "x".to_owned(),
        own.replacen("0 ", "0 A", 1),
        told(9, "127.0.0.9:7443").replace("\"seq\":1", "\"seq\":2"),
    ];
    for body in beside.iter().map(|line| format!("{own}\n{line}")).chain(alone) {
        let before = counted(&node);
        node.ask(Some(&caller), &request("POST", "/mesh/v1/peers", &body)).await;
        assert!(counted(&node) > before, "{body}");
    }
    // The first that are handed on are these.
    let good = format!("{own}\n{}", told(7, "127.0.0.7:7443"));
    assert_eq!(node.ask(Some(&caller), &request("POST", "/mesh/v1/peers", &good)).await.status, 200);
    let heard = |report| match report {
        Report::Asked { records, .. } if !records.is_empty() => Some(ids(&records)),
        _ => None,
    };
    assert_eq!(node.told(heard).await, [key(7).id()]);
}
