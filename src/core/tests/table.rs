//! The peers a node knows: who comes in, who stays, who is dialled.

use super::*;

#[test]
fn a_call_from_a_peer_ends_the_wait_for_it() {
    let mut desk = Desk::new(Params::default());
    let mut lane = desk.connect(2, &["a.*"]);
    let peer = key(2).id();
    for _ in 0..8 {
        desk.input(Input::Broken { peer, lane, why: "connection refused".into() });
        let out = desk.wait(Duration::from_secs(30));
        lane = out
            .iter()
            .find_map(|output| if let Output::Dial { lane, .. } = output { Some(*lane) } else { None })
            .expect("a dial");
    }
    desk.input(Input::Broken { peer, lane, why: "connection refused".into() });
    assert!(matches!(desk.state(2), PeerState::Backoff { .. }));
    desk.input(Input::Contact { peer });
    let out = desk.wait(params::DIAL_PAUSE);
    assert!(out.iter().any(|output| matches!(output, Output::Dial { .. })));
}

#[test]
fn reports_of_an_older_lane_mean_nothing() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    let peer = key(2).id();
    desk.input(Input::Broken { peer, lane: LaneId(77), why: "late".into() });
    assert!(matches!(desk.state(2), PeerState::Connected { .. }));
    assert!(shipments(&desk.sent(2, ShipmentId(77), Ok(all_stored(1, 9)))).is_empty());
}

#[test]
fn strangers_are_served_no_firehose_and_typed_in_peers_are() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["*"]);
    desk.input(Input::Met { word: Word::Near, record: record(3, 1, &["*"]) });
    let lane = LaneId(1);
    desk.input(Input::Connected { peer: key(3).id(), lane, rtt: Duration::ZERO });
    let to: Vec<NodeId> =
        shipments(&desk.publish(vec![event(1, "1", "a.x")])).into_iter().map(|(peer, ..)| peer).collect();
    assert_eq!(to, [key(2).id()]);
}

#[test]
fn only_a_newer_record_changes_what_a_peer_wants() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.input(Input::Met { word: Word::Near, record: record(2, 1, &["q.*"]) });
    desk.input(Input::Met { word: Word::Near, record: record(2, 0, &["q.*"]) });
    assert_eq!(shipments(&desk.publish(vec![event(1, "1", "a.x")])).len(), 1);
    desk.input(Input::Met { word: Word::Near, record: record(2, 2, &["q.*"]) });
    assert_eq!(desk.node.view().peers[0].interests.patterns()[0].as_str(), "q.*");
}

#[test]
fn the_table_is_bounded_and_typed_in_peers_are_never_dropped() {
    let mut desk = Desk::new(Params { peers_max: 3, ..Params::default() });
    desk.connect(2, &["a.*"]);
    for seed in 10..40 {
        let lanes = desk.input(Input::Met { word: Word::Near, record: record(seed, 1, &["a.*"]) });
        for output in lanes {
            if let Output::Dial { peer, lane, .. } = output {
                desk.input(Input::Broken { peer, lane, why: "no answer".into() });
            }
        }
    }
    let view = desk.node.view();
    assert_eq!(view.peers.len(), 3);
    assert!(view.peers.iter().any(|peer| peer.id == key(2).id()));
}

#[test]
fn forbidden_addresses_in_a_record_are_never_dialled() {
    let mut desk = Desk::new(Params::default());
    let draft = RecordDraft {
        seq: 1,
        addresses: vec![
            "127.0.0.1:6379".parse().expect("an address"),
            "169.254.169.254:443".parse().expect("an address"),
        ],
        ..RecordDraft::default()
    };
    let out = desk.input(Input::Met { word: Word::Near, record: draft.seal(START, &key(5)).expect("a record") });
    assert!(!out.iter().any(|output| matches!(output, Output::Dial { .. })));
    assert_eq!(desk.state(5), PeerState::Waiting);
}

#[test]
fn what_is_restored_is_served_from_its_cursor() {
    let mut desk = Desk::new(Params::default());
    let record = Some(record(2, 1, &["a.*"]));
    let saved = SavedPeer { alias: Some("cedar".into()), record, cursor: Some(Seq(40)), ..saved_by_hand(2) };
    let out = desk.input(Input::Restored { head: Seq(50), peers: vec![saved] });
    let lane = out
        .iter()
        .find_map(|output| if let Output::Dial { lane, word: Word::Typed, .. } = output { Some(*lane) } else { None });
    let out = desk.input(Input::Connected { peer: key(2).id(), lane: lane.expect("a dial"), rtt: Duration::ZERO });
    assert_eq!(scans(&out), [Seq(40)]);
}

#[test]
fn a_peer_without_a_durable_cursor_gets_one_before_anything_is_stored() {
    // Killed before the first commit, then again after it: the second life must not skip what the
    // first one stored.
    let mut desk = Desk::new(Params::default());
    let out = desk.input(Input::Restored { head: Seq(50), peers: vec![saved_by_hand(2)] });
    assert!(out.iter().any(|output| matches!(output, Output::SaveCursor { cursor: Seq(50), .. })), "{out:?}");
}

#[test]
fn a_mesh_that_became_private_forgets_outsiders() {
    let params = Params { allow: BTreeSet::from([key(2).id()]), ..Params::default() };
    let mut desk = Desk::new(params);
    let saved = SavedPeer { record: Some(record(3, 1, &["a.*"])), cursor: Some(Seq(1)), ..saved(3) };
    let out = desk.input(Input::Restored { head: Seq(50), peers: vec![saved] });
    assert!(!out.iter().any(|output| matches!(output, Output::Dial { .. })));
    assert!(out.iter().any(|output| matches!(output, Output::ForgetCursor { .. })));
    assert!(desk.node.view().peers.is_empty());
}

#[test]
fn a_crowd_of_strangers_pushes_out_strangers_only() {
    let mut desk = Desk::new(Params { peers_max: 3, ..Params::default() });
    desk.input(Input::Met { word: Word::Near, record: record(2, 1, &["a.*"]) });
    desk.input(Input::Connected { peer: key(2).id(), lane: LaneId(0), rtt: Duration::ZERO });
    desk.input(Input::Broken { peer: key(2).id(), lane: LaneId(0), why: "away".into() });
    for seed in 10..60 {
        let homeless = RecordDraft { seq: 1, ..RecordDraft::default() }.seal(START, &key(seed)).expect("a record");
        desk.input(Input::Met { word: Word::Near, record: homeless });
    }
    assert!(desk.node.view().peers.iter().any(|peer| peer.id == key(2).id()), "it had a lane once");
    assert_eq!(desk.node.view().peers.len(), 3);
}

#[test]
fn records_that_come_often_are_written_down_seldom() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.wait(SAVE_PAUSE);
    let saves = |out: &[Output]| out.iter().filter(|output| matches!(output, Output::SavePeers { .. })).count();
    let written: usize =
        (2..50).map(|seq| saves(&desk.input(Input::Met { word: Word::Near, record: record(2, seq, &["a.*"]) }))).sum();
    assert_eq!(written, 0);
    assert_eq!(saves(&desk.wait(SAVE_PAUSE)), 1);
}

#[test]
fn a_change_of_who_may_take_part_counts_at_once() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.input(Input::Met { word: Word::Near, record: record(3, 1, &["*"]) });
    desk.input(Input::Connected { peer: key(3).id(), lane: LaneId(1), rtt: Duration::ZERO });
    let ids = |seeds: &[u8]| seeds.iter().map(|seed| key(*seed).id()).collect::<BTreeSet<_>>();
    let members = |allow: &[u8], firehose: &[u8]| Input::Members {
        allow: ids(allow),
        firehose: ids(firehose),
        peers_max: 64,
        min_peers: 8,
        accept: params::Accept::Open,
    };
    let served = |desk: &mut Desk, number: &str| {
        let out = desk.publish(vec![event(1, number, "b.x")]);
        shipments(&out).into_iter().map(|(peer, ..)| peer).collect::<Vec<_>>()
    };
    assert_eq!(served(&mut desk, "1"), []);
    desk.input(members(&[], &[3]));
    assert_eq!(served(&mut desk, "2"), [key(3).id()], "the firehose of one that is there already");
    let out = desk.input(members(&[2], &[3]));
    assert!(out.iter().any(|output| matches!(output, Output::Hangup { peer, .. } if *peer == key(3).id())));
    assert!(out.iter().any(|output| matches!(output, Output::ForgetCursor { peer } if *peer == key(3).id())));
    let known: Vec<NodeId> = desk.node.view().peers.iter().map(|peer| peer.id).collect();
    assert_eq!(known, [key(2).id()], "who was typed in stays");
}

#[test]
fn who_would_get_an_event_is_told_with_the_reason() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["a.*"]);
    desk.connect(3, &["b.*"]);
    desk.input(Input::Met { word: Word::Near, record: record(4, 1, &["*"]) });
    let kind = "a.x".parse().expect("a type");
    let of = |desk: &Desk, seed: u8| {
        let prospects = desk.node.prospects(&kind, desk.now.wall);
        prospects.into_iter().find(|(id, _)| *id == key(seed).id()).expect("known").1
    };
    let pattern = |text: &str| text.parse().expect("a pattern");
    assert_eq!(of(&desk, 2), Prospect::Wanted(pattern("a.*")));
    assert_eq!(of(&desk, 3), Prospect::Unwanted);
    assert_eq!(of(&desk, 4), Prospect::Firehose(pattern("*")));
    desk.wait(Duration::from_secs(2 * 86_400));
    assert_eq!(of(&desk, 2), Prospect::Unknown, "its record expired");
    assert!(desk.node.wants(&kind) && !desk.node.wants(&"b.x".parse().expect("a type")));
}

#[test]
fn a_peer_gets_another_name_and_stays_what_it_is() {
    let mut desk = Desk::new(Params::default());
    desk.input(Input::Met { word: Word::Near, record: record(4, 1, &["a.*"]) });
    let out = desk.input(Input::PeerNamed { ticket: Ticket(9), id: key(4).id(), alias: Some("birch".to_owned()) });
    let saved = out.iter().find_map(|output| match output {
        Output::SavePeers { ticket: Some(Ticket(9)), peers } => Some(peers.clone()),
        _ => None,
    });
    let saved = saved.expect("durable before it is answered");
    assert_eq!((saved[0].alias.as_deref(), saved[0].origin), (Some("birch"), ports::Origin::Inbound));
}
