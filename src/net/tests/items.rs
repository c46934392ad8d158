//! Lines: each one's own answer, the order, the rates.

use super::*;
use crate::wire::message::{BODY_BYTES_MAX, Receipt};

fn receipt(answer: &Reply) -> Receipt {
    assert_eq!(answer.status, 200, "{}", answer.text);
    serde_json::from_str(&answer.text).expect("a receipt")
}

fn drafted(id: &str, change: impl FnOnce(Draft) -> Draft) -> String {
    let draft = change(Draft::new(id, "build.finished", NOW));
    envelope::seal(&draft, &key(3)).expect("an event").line(1, false)
}

/// The lines of the bad-input table that are this room's to refuse.
fn bad_lines() -> Vec<(&'static str, String, u16, &'static str)> {
    let good = event(&key(3), "good");
    let (head, json) = good.split_at(1 + 1 + 86 + 1);
    let unsigned = |json: &str| format!("{head}{json}");
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let lived = |from: Wall, life| {
        drafted("late", |draft| {
            draft.living(from, life).with("time", crate::wire::Scalar::Text(crate::wire::timestamp::format(from)))
        })
    };
    let flipped = good.replace("build.finished", "build.finishee");
    let other_signature = format!("1 {} {json}", &event(&key(3), "other")[2..88]);
    let lab: Network = "lab".parse().expect("a network");
    vec![
        ("no framing", "hello".to_owned(), 400, "malformed"),
        ("an empty line", "\n".to_owned(), 400, "malformed"),
        ("a BOM", format!("\u{feff}{good}"), 400, "malformed"),
        ("trailing bytes", format!("{good} x"), 400, "malformed"),
        ("a carriage return", format!("{good}\r"), 400, "malformed"),
        ("a duplicate key", unsigned(&json.replacen('{', "{\"id\":\"x\",", 1)), 400, "malformed"),
        ("a padded signature", good.replacen(' ', " =", 1), 400, "malformed"),
        ("a broken id", unsigned(&json.replace("mesh:", "mesh:a")), 400, "malformed"),
        ("17 hops", good.replacen('1', "17", 1), 400, "malformed"),
        ("a flipped bit", flipped, 401, "bad_signature"),
        ("another event's signature", other_signature, 401, "bad_signature"),
        ("more hops than allowed", good.replacen('1', "9", 1), 400, "hops"),
        ("the future", lived(NOW + Duration::from_secs(121), minutes(60)), 400, "future"),
        ("the past", lived(NOW - minutes(120), minutes(60)), 410, "expired"),
        ("a long life", lived(NOW, minutes(8 * 24 * 60)), 400, "malformed"),
        ("another network", drafted("lab", |draft| draft.in_network(&lab)), 421, "other_network"),
        ("65 537 bytes", unsigned(&format!("{{{}}}", " ".repeat(65_535))), 413, "too_large"),
    ]
}

#[tokio::test]
async fn one_line_is_answered_by_the_status() {
    let node = Node::start(1).await;
    for (what, line, status, code) in bad_lines() {
        let answer = node.post(None, &line).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}");
        assert!(answer.head.contains("content-type: application/problem+json"), "{what}");
    }
    assert!(node.memory.order.lock().expect("unpoisoned").is_empty());
    let line = event(&key(3), "good");
    let first = node.post(None, &line).await;
    assert_eq!((first.status, first.json()["stored"].as_u64()), (202, Some(1)));
    let again = node.post(None, &line).await;
    assert_eq!((again.status, again.json()["duplicate"].as_u64()), (200, Some(1)));
    assert_eq!(node.context.counters().rejected(Code::BadSignature), 2);
    node.still_takes_events().await;
}

#[tokio::test]
async fn bad_lines_among_good_ones_are_named_by_index() {
    let node = Node::start(1).await;
    let mut body = String::new();
    let mut expected = Vec::new();
    let bad = bad_lines().into_iter().filter(|(what, ..)| *what != "an empty line");
    for (number, (_, line, _, code)) in bad.enumerate() {
        body += &format!("{}\n{line}\n", event(&key(3), &format!("good-{number}")));
        expected.push((2 * number as u32 + 1, code));
    }
    let receipt = receipt(&node.post(Some(&key(9)), &body).await);
    let found: Vec<_> = receipt.rejected.iter().map(|refused| (refused.i, refused.code.as_str())).collect();
    assert_eq!(found, expected);
    assert_eq!((receipt.stored as usize, receipt.credit), (expected.len(), 128));
}

#[tokio::test]
async fn whole_bodies_are_refused_for_their_size_alone() {
    let node = Node::start(1).await;
    assert_eq!(node.post(None, "").await.status, 400);
    assert_eq!(node.post(None, &"\n".repeat(257)).await.status, 413);
    let receipt = receipt(&node.post(None, &"\n".repeat(256)).await);
    assert_eq!(receipt.rejected.len(), 256);
    assert_eq!(node.post(None, &"x".repeat(BODY_BYTES_MAX + 1)).await.status, 413);
    node.still_takes_events().await;
}

#[tokio::test]
async fn what_was_refused_before_is_refused_without_a_look() {
    let node = Node::start(1).await;
    let line = sealed(&key(3), "conflicting");
    node.memory.refused.lock().expect("unpoisoned").push((line.digest(), Code::Conflict));
    let answer = node.post(None, &line.line(1, false)).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "conflict"));
    assert_eq!(node.context.counters().verified.value(), 0);
}

#[tokio::test]
async fn a_line_twice_in_one_body_is_stored_once() {
    let node = Node::start(1).await;
    let line = event(&key(3), "twice");
    let receipt = receipt(&node.post(None, &format!("{line}\n{line}")).await);
    assert_eq!((receipt.stored, receipt.duplicate), (1, 1));
}

#[tokio::test]
async fn addressed_events_come_by_name_only() {
    let node = Node::start(1).await;
    let to = crate::wire::Scalar::Text(node.id().uri());
    let line = drafted("letter", |draft| draft.with("to", to));
    let answer = node.post(None, &line).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "type_denied"));
    assert_eq!(node.post(Some(&key(9)), &line).await.status, 202);
}

#[tokio::test]
async fn events_addressed_to_others_cost_no_signature() {
    let node = Node::start(1).await;
    let to = |ids: &[NodeId]| {
        let ids: Vec<String> = ids.iter().map(NodeId::uri).collect();
        drafted("letter", |draft| draft.with("to", crate::wire::Scalar::Text(ids.join(" "))))
    };
    let forged = to(&[key(7).id()]).replace("build.finished", "build.finishee");
    for line in [to(&[key(7).id()]), to(&[key(7).id(), key(8).id()]), forged] {
        for caller in [Some(&*key(9)), None] {
            let answer = node.post(caller, &line).await;
            assert_eq!((answer.status, answer.code().as_str()), (403, "not_for_me"));
        }
    }
    assert_eq!(node.context.counters().verified.value(), 0);
    assert_eq!(node.post(Some(&key(9)), &to(&[key(7).id(), node.id()])).await.status, 202, "one of several");
}

#[tokio::test]
async fn above_the_rate_of_the_neighbour_all_later_lines_wait() {
    let rate = Rate { per_second: 1, burst: 20 };
    let node = Node::with(1, |settings| settings.rate = rate).await;
    // Sources are many, so that only the neighbour is limited.
    let body: Vec<String> = (0..30).map(|number| event(&key(20 + number), "e")).collect();
    let receipt = receipt(&node.post(Some(&key(9)), &body.join("\n")).await);
    assert_eq!(receipt.stored, 20);
    let retry: Vec<u32> = receipt.retry.iter().map(|retry| retry.i).collect();
    assert_eq!(retry, (20..30).collect::<Vec<_>>());
    assert!(receipt.retry.iter().all(|retry| retry.after_ms <= 1_000));
    let one = node.post(Some(&key(9)), &event(&key(60), "e")).await;
    assert_eq!((one.status, one.code().as_str()), (429, "rate"));
    assert!(one.head.contains("retry-after: 1"), "{}", one.head);
    // Others are not affected, and a known peer has ten times as much.
    node.still_takes_events().await;
    node.befriend(&[key(9).id()]);
    assert_eq!(node.post(Some(&key(9)), &event(&key(60), "e")).await.status, 202);
}

#[tokio::test]
async fn above_the_rate_of_a_source_only_its_own_later_lines_wait() {
    let rate = Rate { per_second: 1, burst: 5 };
    let node = Node::with(1, |settings| settings.rate = rate).await;
    node.befriend(&[key(9).id()]);
    let names: Vec<String> = (0..8).map(|number| format!("e{number}")).collect();
    let mut body: Vec<String> = names.iter().map(|name| event(&key(3), name)).collect();
    body.insert(7, event(&key(4), "other"));
    // A forger cannot use up the rate of the source it names.
    let forged: Vec<String> = (0..10)
        .map(|number| event(&key(3), &format!("f{number}")).replace("build.finished", "build.finishee"))
        .collect();
    let refused = receipt(&node.post(Some(&key(9)), &forged.join("\n")).await);
    assert_eq!(refused.rejected.len(), 10);
    let receipt = receipt(&node.post(Some(&key(9)), &body.join("\n")).await);
    assert_eq!(receipt.stored, 6);
    assert_eq!(receipt.retry.iter().map(|retry| retry.i).collect::<Vec<_>>(), [5, 6, 8]);
}

#[tokio::test]
async fn a_line_that_has_to_wait_is_never_overtaken() {
    // So fast a rate that a later line of the body would find room again.
    let rate = Rate { per_second: 300_000, burst: 30 };
    let node = Node::with(1, |settings| settings.rate = rate).await;
    let body = |source: &dyn Fn(u8) -> u8| {
        let lines: Vec<String> = (0..200).map(|number| event(&key(source(number)), &format!("e{number}"))).collect();
        lines.join("\n")
    };
    // A stranger that brings many sources is held as a neighbour; a known one has room, and the one
    // source that it brings is held.
    let strange = receipt(&node.post(Some(&key(9)), &body(&|number| number + 20)).await);
    node.befriend(&[key(9).id()]);
    let known = receipt(&node.post(Some(&key(9)), &body(&|_| 3)).await);
    for receipt in [strange, known] {
        let waiting: Vec<u32> = receipt.retry.iter().map(|retry| retry.i).collect();
        assert_eq!(waiting, (receipt.stored..200).collect::<Vec<_>>(), "all after the first that waits");
        assert!(receipt.stored < 200);
    }
}

#[tokio::test]
async fn a_driver_that_is_gone_or_late_is_said_so() {
    let limits = |settings: &mut Settings| settings.limits.request = Duration::from_millis(500);
    let node = Node::with(1, limits).await;
    for script in [Script::Drop, Script::Hold] {
        node.script.send_replace(script);
        let answer = node.post(None, &event(&key(3), "e")).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"));
        assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    }
    node.script.send_replace(Script::Store);
    node.still_takes_events().await;
}

#[tokio::test]
async fn a_full_driver_is_said_at_once() {
    let (settings, _strings) = settings(1);
    let context = Context::new(settings).expect("a context");
    let receptor = Receptor::bind(&context).await.expect("a port");
    let at = receptor.addresses()[0];
    let (reports, mut inbox) = mpsc::channel(1);
    let (_stop, stop) = watch::channel(false);
    tokio::spawn(receptor.run(reports.clone(), stop));
    reports.try_send(Report::Contact { peer: key(9).id() }).expect("room for one");
    let mut stream = connect(at, None, b"http/1.1").await.expect("a connection");
    stream.write_all(request("POST", "/mesh/v1/events", &event(&key(3), "e")).as_bytes()).await.expect("taken");
    assert_eq!(read_reply(&mut stream).await.status, 503);
    assert!(matches!(inbox.recv().await, Some(Report::Contact { .. })));
    assert_eq!(context.counters().overloaded.value(), 1);
}

#[tokio::test]
async fn exchanges_take_the_callers_own_record_only() {
    let mut node = Node::start(1).await;
    let (caller, other) = (key(9), key(8));
    let exchange = |body: String| request("POST", "/mesh/v1/peers", &body);
    let own = record_line(&caller, 7);
    assert_eq!(node.ask(None, &exchange(own.to_string())).await.status, 403);
    let both = format!("{}\n{own}\n", record_line(&other, 3));
    let answer = node.ask(Some(&caller), &exchange(both)).await;
    assert_eq!((answer.status, answer.text.trim_end()), (200, &*record_line(&node.key, 1)));
    assert!(answer.head.contains(&format!("content-type: {LINES_TYPE}")));
    let met = |report| match report {
        Report::Met { record, .. } => Some((record.id(), record.seq)),
        _ => None,
    };
    assert_eq!(node.told(met).await, (caller.id(), 7));
    assert_eq!(node.context.counters().records_ignored.value(), 1, "no address, no use");

    let forged = own.replace("build", "x").replacen("0 ", "0 A", 1);
    let plain = event(&caller, "no-record");
    let lab = RecordDraft { seq: 9, network: "lab".parse().expect("a network"), ..RecordDraft::default() };
    let lab = lab.seal(NOW, &caller).expect("a record").envelope().line(0, false);
    for (body, status) in
        [(forged, 400), (plain, 403), (lab, 421), ("x".repeat(161 << 10), 413), ("\n".repeat(33), 413)]
    {
        assert_eq!(node.ask(Some(&caller), &exchange(body)).await.status, status);
    }
    node.still_takes_events().await;
}
