//! Alone, or not.

use super::params::{ALONE_AFTER, Tiers};
use super::*;

fn alone_for(desk: &Desk) -> Option<Duration> {
    desk.node.view().alone_for(desk.now.mono)
}

/// Nothing but time passes.
fn pass(desk: &mut Desk, span: Duration) {
    desk.now = Now { mono: desk.now.mono + span, wall: desk.now.wall + span };
}

#[test]
fn the_first_node_of_a_mesh_waits_for_nobody() {
    let mut desk = Desk::new(Params::default());
    pass(&mut desk, 10 * ALONE_AFTER);
    assert_eq!(alone_for(&desk), None);
    // A stranger that called once and cannot be dialled is nobody to wait for.
    desk.input(Input::Met { word: Word::Near, record: record(2, 1, &["a.*"]) });
    pass(&mut desk, 10 * ALONE_AFTER);
    assert_eq!(alone_for(&desk), None);
}

#[test]
fn whoever_has_somebody_to_look_for_is_alone_after_a_while_and_not_before() {
    let tiers = |dns, seeds| Params { tiers: Tiers { dns, exchange: true, seeds }, ..Params::default() };
    for params in [tiers(true, false), tiers(false, true)] {
        let mut desk = Desk::new(params);
        pass(&mut desk, ALONE_AFTER - Duration::from_millis(1));
        assert_eq!(alone_for(&desk), None);
        pass(&mut desk, Duration::from_millis(1));
        assert_eq!(alone_for(&desk), Some(ALONE_AFTER));
    }
    let mut desk = Desk::new(Params::default());
    desk.input(Input::PeerAdded { ticket: Ticket(9), id: key(2).id(), at: place(2), alias: None });
    pass(&mut desk, ALONE_AFTER);
    assert!(alone_for(&desk).is_some(), "one that was typed in");
    let lane = LaneId(0);
    desk.input(Input::Met { word: Word::Near, record: record(2, 1, &["a.*"]) });
    desk.input(Input::Connected { peer: key(2).id(), lane, rtt: Duration::from_millis(1) });
    assert_eq!(alone_for(&desk), None);
}

#[test]
fn who_lost_everybody_is_alone_too_until_somebody_calls_or_said_goodbye() {
    let mut desk = Desk::new(Params::default());
    let lane = desk.connect(2, &["a.*"]);
    pass(&mut desk, 100 * ALONE_AFTER);
    assert_eq!(alone_for(&desk), None, "a lane that stands is company however long");
    desk.input(Input::Broken { peer: key(2).id(), lane, why: String::from("gone") });
    pass(&mut desk, ALONE_AFTER);
    assert_eq!(alone_for(&desk), Some(ALONE_AFTER));
    desk.input(Input::Contact { peer: key(2).id() });
    assert_eq!(alone_for(&desk), None, "it cannot be dialled, and is there");
    pass(&mut desk, ALONE_AFTER / 2);
    desk.receive(2, &[event(2, "1", "a.x")]);
    pass(&mut desk, ALONE_AFTER / 2);
    assert_eq!(alone_for(&desk), None, "its events come");
    pass(&mut desk, ALONE_AFTER);
    assert!(alone_for(&desk).is_some());
    desk.input(Input::Contact { peer: key(3).id() });
    assert!(alone_for(&desk).is_some(), "whoever is unknown is no company");
    let goodbye = RecordDraft { seq: 2, ..RecordDraft::default() }.seal_goodbye(desk.now.wall, &key(2)).expect("one");
    desk.input(Input::Met { word: Word::Near, record: goodbye });
    assert_eq!(alone_for(&desk), None, "it left: nobody is missed");
}
