//! What is owed to whom, and how it gets there.

use super::*;

#[test]
fn an_event_goes_to_those_who_want_it_once_and_never_back() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.connect(3, &["a.*", "b.*"]);
    desk.connect(4, &["b.*"]);
    let out = desk.publish(vec![event(1, "1", "a.x")]);
    let to: Vec<NodeId> = shipments(&out).into_iter().map(|(peer, ..)| peer).collect();
    assert_eq!(to.len(), 2);
    assert!(to.contains(&key(2).id()) && to.contains(&key(3).id()));
    let line = &shipments(&out)[0].2[0];
    assert!(line.starts_with(b"1 "), "one link crossed, and a leaf");

    let out = desk.receive(2, &[event(2, "1", "a.x")]);
    assert!(shipments(&desk.commit(&out)).is_empty(), "a leaf is not carried on");
}

#[test]
fn duty_is_taken_from_a_known_neighbour_for_its_prefix_alone() {
    let position = |seed: u8| position::Position::of(&key(seed).id());
    let (me, giver) = (position(1), 2u8);
    let digits = position(giver).cpl(&me) + 1;
    let seeds = || 3..60u8;
    let inside = seeds().find(|seed| position(*seed).cpl(&me) >= digits).expect("somebody near us");
    let outside = seeds().find(|seed| position(*seed).cpl(&me) < digits).expect("somebody far");
    let mut desk = Desk::new(Params::default());
    desk.connect(inside, &["a.*"]);
    desk.connect(outside, &["a.*"]);
    let arrive = |desk: &mut Desk, name: &str| {
        let arrived = vec![Arrived { envelope: event(9, name, "a.x"), hops: 3, duty: true }];
        let out = desk.input(Input::Received { ticket: Ticket(1), from: Some(key(giver).id()), arrived });
        desk.commit(&out)
    };
    let out = arrive(&mut desk, "1");
    assert_eq!(answer(&out), Some(vec![Outcome::Stored { no_duty: true }]), "we hold no record of the giver");
    assert!(shipments(&out).is_empty());
    desk.input(Input::Met { word: Word::Near, record: record(giver, 1, &["q.q"]) });
    let out = arrive(&mut desk, "2");
    assert_eq!(answer(&out), Some(vec![Outcome::Stored { no_duty: false }]));
    let sent = shipments(&out);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, key(inside).id());
    assert!(sent[0].2[0].starts_with(b"4 "));
}

#[test]
fn one_body_is_in_flight_and_the_rest_follows_in_order() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let first = shipments(&desk.publish(vec![event(1, "1", "a.x")]));
    assert_eq!(first.len(), 1);
    assert!(shipments(&desk.publish(vec![event(1, "2", "a.x")])).is_empty());
    assert!(shipments(&desk.publish(vec![event(1, "3", "a.x")])).is_empty());
    let second = shipments(&desk.sent(2, first[0].1, Ok(all_stored(1, 64))));
    let names: Vec<bool> = second[0].2.iter().zip(["\"2\"", "\"3\""]).map(|(line, id)| find(line, id)).collect();
    assert_eq!(names, [true, true]);
}

fn find(line: &Bytes, what: &str) -> bool {
    std::str::from_utf8(line).expect("text").contains(what)
}

#[test]
fn a_busy_peer_gets_the_same_lines_later() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.wait(SAVE_PAUSE);
    let first = shipments(&desk.publish(vec![event(1, "1", "a.x"), event(1, "2", "a.x")]));
    let wait = Duration::from_secs(2);
    assert!(shipments(&desk.sent(2, first[0].1, Err(SendError::Busy(wait)))).is_empty());
    assert_eq!(desk.node.deadline(), Some(desk.now.mono + wait));
    let again = shipments(&desk.wait(wait));
    assert_eq!(again[0].2, first[0].2);

    let mut receipt = all_stored(1, 64);
    receipt.retry.push(Retry { i: 1, after_ms: 500 });
    assert!(shipments(&desk.sent(2, again[0].1, Ok(receipt))).is_empty());
    let rest = shipments(&desk.wait(Duration::from_millis(500)));
    assert_eq!(rest[0].2, first[0].2[1..]);
}

#[test]
fn a_peer_cannot_make_us_wait_for_ever_or_send_without_credit() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let first = shipments(&desk.publish((0..9).map(|i| event(1, &i.to_string(), "a.x")).collect()));
    assert_eq!(first[0].2.len(), 9);
    desk.publish((10..19).map(|i| event(1, &i.to_string(), "a.x")).collect());
    let two = shipments(&desk.sent(2, first[0].1, Ok(all_stored(9, 2))));
    assert_eq!(two[0].2.len(), 2, "as many as it takes");
    assert!(shipments(&desk.sent(2, two[0].1, Ok(all_stored(2, 0)))).is_empty());
    let one = shipments(&desk.wait(Duration::from_secs(1)));
    assert_eq!(one[0].2.len(), 1, "no credit: one line, after a while");
    let mut receipt = all_stored(0, 64);
    receipt.retry.push(Retry { i: 0, after_ms: u64::MAX });
    receipt.retry.push(Retry { i: 77, after_ms: 1 });
    desk.sent(2, one[0].1, Ok(receipt));
    assert!(!shipments(&desk.wait(Duration::from_secs(61))).is_empty());
}

#[test]
fn beyond_its_handful_a_peer_is_read_for_from_the_journal() {
    let mut desk = Desk::new(Params { peer_queue_max: 2, ..Params::default() });
    desk.connect(2, &["a.*"]);
    let events: Vec<_> = (0..6).map(|i| event(1, &i.to_string(), "a.x")).collect();
    let stored = |from: u64, count: usize| {
        let entry = |i: u64| Entry {
            envelope: events[i as usize].clone(),
            from: Some(key(1).id()),
            hops: 0,
            duty: true,
            received: START,
            claims: Box::default(),
            hold: None,
        };
        let entries: Vec<Stored> =
            (from..from + count as u64).map(|i| Stored { seq: Seq(i + 1), entry: entry(i) }).collect();
        let upto = entries.last().map_or(Seq(from), |last| last.seq);
        Page { entries, upto }
    };
    let out = desk.publish(events.clone());
    let sent = shipments(&out);
    assert_eq!(sent[0].2.len(), 2);
    assert_eq!(scans(&out), [Seq(2)], "the next page is read while the first is in flight");
    let peer = key(2).id();
    assert!(shipments(&desk.input(Input::Scanned { peer, after: Seq(2), page: Ok(stored(2, 2)) })).is_empty());
    let out = desk.sent(2, sent[0].1, Ok(all_stored(2, 64)));
    let sent = shipments(&out);
    assert!(find(&sent[0].2[0], "\"2\"") && find(&sent[0].2[1], "\"3\""));
    assert_eq!(scans(&out), [Seq(4)]);
    desk.input(Input::Scanned { peer, after: Seq(4), page: Ok(stored(4, 2)) });
    let sent = shipments(&desk.sent(2, sent[0].1, Ok(all_stored(2, 64))));
    let out = desk.sent(2, sent[0].1, Ok(all_stored(2, 64)));
    assert!(scans(&out).is_empty());
    assert!(out.iter().any(|output| matches!(output, Output::Note(Note::PeerCaughtUp(_)))));
    let out = desk.wait(Duration::from_secs(2));
    assert!(out.iter().any(|output| matches!(output, Output::SaveCursor { cursor: Seq(6), .. })), "{out:?}");
}

#[test]
fn a_lost_lane_gives_back_what_was_in_hand() {
    let mut desk = Desk::new(Params::default());
    let lane = desk.connect(2, &["a.*"]);
    let peer = key(2).id();
    desk.publish(vec![event(1, "1", "a.x")]);
    desk.publish(vec![event(1, "2", "a.x")]);
    let out = desk.input(Input::Broken { peer, lane, why: "gone".into() });
    assert!(out.iter().any(|output| matches!(output, Output::Note(Note::PeerBackoff { .. }))));
    desk.publish(vec![event(1, "3", "a.x")]);
    let out = desk.wait(Duration::from_secs(1));
    let lane = out.iter().find_map(|output| match output {
        Output::Dial { lane, .. } => Some(*lane),
        _ => None,
    });
    let lane = lane.expect("a dial within a second");
    let out = desk.input(Input::Connected { peer, lane, rtt: Duration::ZERO });
    assert_eq!(scans(&out), [Seq(0)], "from the first that was not answered for");
}

#[test]
fn a_body_that_is_refused_whole_is_sent_line_by_line_and_costs_one_line() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let first = shipments(&desk.publish((0..3).map(|i| event(1, &i.to_string(), "a.x")).collect()));
    assert_eq!(first[0].2.len(), 3);
    let mut last = shipments(&desk.sent(2, first[0].1, Err(SendError::Refused(400))));
    for n in 0..3 {
        assert_eq!(last[0].2, first[0].2[n..=n], "each alone, in order");
        let result = if n == 1 { Err(SendError::Refused(400)) } else { Ok(all_stored(1, 64)) };
        last = shipments(&desk.sent(2, last[0].1, result));
    }
    assert!(last.is_empty());
    assert_eq!(desk.node.view().peers[0].behind, 0);
}

#[test]
fn a_clock_that_jumps_ahead_and_back_gives_up_nothing() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let first = shipments(&desk.publish(vec![event(1, "1", "a.x")]));
    desk.sent(2, first[0].1, Err(SendError::Busy(Duration::from_secs(5))));
    let right = desk.now.wall;
    desk.now.wall = right + Duration::from_secs(2 * 86_400);
    let again = shipments(&desk.wait(Duration::from_secs(5)));
    assert_eq!(again[0].2, first[0].2, "not expired by a clock that nobody believes yet");
}

#[test]
fn no_retry_of_a_peer_makes_a_loop() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let first = shipments(&desk.publish(vec![event(1, "1", "a.x")]));
    let mut receipt = all_stored(0, 64);
    receipt.retry.push(Retry { i: 0, after_ms: 0 });
    assert!(shipments(&desk.sent(2, first[0].1, Ok(receipt))).is_empty());
    let again = shipments(&desk.wait(params::RETRY_LEAST));
    assert!(shipments(&desk.sent(2, again[0].1, Err(SendError::Busy(Duration::ZERO)))).is_empty());
    assert_eq!(shipments(&desk.wait(params::RETRY_LEAST)).len(), 1);
}

#[test]
fn a_line_from_the_future_is_offered_again_and_other_refusals_are_final() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let first = shipments(&desk.publish(vec![event(1, "1", "a.x"), event(1, "2", "a.x"), event(1, "3", "a.x")]));
    let outcomes = [Rejection::Future, Rejection::Muted, Rejection::Muted].map(Outcome::Refused);
    let out = desk.sent(2, first[0].1, Ok(Receipt::of(&outcomes, 64, Durability::Fsync)));
    let notes = out.iter().filter(|output| matches!(output, Output::Note(_))).count();
    assert_eq!(notes, 1, "each code is told once a lane");
    let again = shipments(&desk.wait(params::RETRY_FUTURE));
    assert_eq!(again[0].2, first[0].2[..1]);
}

#[test]
fn a_page_that_is_ahead_of_us_queues_nothing_twice() {
    let mut desk = Desk::new(Params { peer_queue_max: 1, ..Params::default() });
    desk.connect(2, &["a.*"]);
    let sent = shipments(&desk.publish(vec![event(1, "1", "a.x")]));
    desk.publish(vec![event(1, "2", "a.x")]);
    let behind = desk.publish(vec![event(1, "3", "a.x")]);
    assert!(scans(&behind).is_empty(), "its queue is full");
    let out = desk.sent(2, sent[0].1, Ok(all_stored(1, 64)));
    assert_eq!(scans(&out), [Seq(2)]);
    let appended = desk.input(Input::Emitted { ticket: Ticket(3), emitted: vec![event(1, "4", "a.x").into()] });
    let entry = |name: &str| Entry {
        envelope: event(1, name, "a.x"),
        from: Some(key(1).id()),
        hops: 0,
        duty: true,
        received: START,
        claims: Box::default(),
        hold: None,
    };
    // The journal shows #4 to readers before the driver has heard of it; only #3 fits.
    let entries = vec![Stored { seq: Seq(3), entry: entry("3") }];
    desk.input(Input::Scanned { peer: key(2).id(), after: Seq(2), page: Ok(Page { entries, upto: Seq(4) }) });
    let before = desk.node.view().peers[0].in_hand;
    desk.commit(&appended);
    assert_eq!(desk.node.view().peers[0].in_hand, before);
}

#[test]
fn who_takes_a_watched_event_is_told_once_and_refusals_are_not() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.connect(3, &["a.*"]);
    let (watched, other) = (event(1, "1", "a.x"), event(1, "2", "a.x"));
    desk.input(Input::Watch(watched.digest()));
    let takers = |out: &[Output]| {
        let taken = out.iter().filter_map(|output| match output {
            Output::Note(Note::Taken { peer, event }) => Some((*peer, *event)),
            _ => None,
        });
        taken.collect::<Vec<_>>()
    };
    let sent = shipments(&desk.publish(vec![other, watched.clone()]));
    let later = Receipt { stored: 1, retry: vec![Retry { i: 1, after_ms: 200 }], credit: 64, ..Receipt::default() };
    assert_eq!(takers(&desk.sent(2, sent[0].1, Ok(later))), [], "not yet");
    let again = shipments(&desk.wait(Duration::from_millis(200)));
    let duplicate = Receipt { duplicate: 1, credit: 64, ..Receipt::default() };
    assert_eq!(takers(&desk.sent(2, again[0].1, Ok(duplicate))), [(key(2).id(), watched.digest())]);
    let refused = Receipt { stored: 1, rejected: vec![Refused { i: 1, code: Code::Muted }], ..Receipt::default() };
    assert_eq!(takers(&desk.sent(3, sent[1].1, Ok(refused))), []);
    desk.input(Input::Watch(event(1, "3", "a.x").digest()));
    desk.input(Input::Unwatch(event(1, "3", "a.x").digest()));
    let sent = shipments(&desk.publish(vec![event(1, "3", "a.x")]));
    assert_eq!(takers(&desk.sent(2, sent[0].1, Ok(all_stored(1, 64)))), [], "nobody asks any more");
}
