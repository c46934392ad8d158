//! What a node tells its own programs stays with it, and nobody else says it.

use super::*;

#[test]
fn what_a_node_tells_its_own_programs_is_stored_and_goes_to_nobody() {
    let mut desk = Desk::new(Params::default());
    desk.connect(2, &["mesh.peer.*", "mesh.*", "*", "a.*"]);
    let kind = "mesh.peer.connected";
    let out = desk.input(Input::Local { ticket: Ticket(3), envelope: Box::new(event(1, "1", kind)) });
    let out = desk.commit(&out);
    assert_eq!(codes(&out), [None]);
    assert!(shipments(&out).is_empty() && shipments(&desk.wait(Duration::from_secs(5))).is_empty());
    let out = desk.publish(vec![event(1, "2", "a.x")]);
    assert_eq!(shipments(&out).len(), 1, "the next one that is for others goes");
    assert_eq!(desk.node.view().counts.emitted, 1, "it was not published");
    assert!(desk.node.prospects(&kind.parse().expect("a type"), START).iter().all(|(_, to)| *to == Prospect::Kept));
}

#[test]
fn nobody_else_says_where_our_peers_stand() {
    let mut desk = Desk::new(Params::default());
    desk.input(Input::Interests(Interests::new(["mesh.*".parse().expect("a pattern")]).expect("interests")));
    desk.connect(2, &["a.*"]);
    let kind = "mesh.peer.connected";
    let emitted = vec![Emitted::from(event(1, "1", kind))];
    let out = desk.input(Input::Emitted { ticket: Ticket(2), emitted });
    assert_eq!(codes(&out), [Some(Code::TypeDenied)], "not published here");
    assert_eq!(codes(&desk.receive(2, &[event(2, "1", kind)])), [Some(Code::TypeDenied)], "not taken from a peer");
    let to_us = Draft::new("2", kind, START).with("to", Scalar::Text(key(1).id().uri()));
    let to_us = envelope::seal(&to_us, &key(2)).expect("a good draft");
    assert_eq!(codes(&desk.receive(2, &[to_us])), [Some(Code::TypeDenied)], "nor addressed to us");
}
