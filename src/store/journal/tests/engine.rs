//! What the storage engine itself would get wrong.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::core::ports::{Seen, Seq};
use crate::store::journal::engine::{Engine, Item, Place, Removed};
use crate::store::journal::layout;
use crate::time::Wall;
use crate::wire::Digest;

const HOME: Place = Place::Ids(Wall(1));

fn reopened(folder: &Path) -> Engine {
    Engine::open(folder).expect("it opens").0
}

/// One life deletes a keyspace that the life before left without a commit; the next makes others, so
/// many that the engine merges its own notes on keyspaces; the last looks whether they are there.
fn are_there_later(delete: impl Fn(Removed)) {
    let home = tempfile::tempdir().expect("a directory");
    let key = |n: u64| n.to_be_bytes();
    let mut engine = reopened(home.path());
    engine.commit(&[Item::put(Place::State, key(0), *b"value")], true).expect("room");
    engine.create(Place::Log(0)).expect("room");
    drop(engine);
    let mut engine = reopened(home.path());
    delete(engine.remove(Place::Log(0)).expect("it is there"));
    drop(engine);
    let mut engine = reopened(home.path());
    for n in 1..5 {
        engine.create(Place::Log(n)).expect("room");
        engine.commit(&[Item::put(Place::Log(n), key(n), *b"value")], true).expect("room");
    }
    drop(engine);
    let engine = reopened(home.path());
    for n in 1..5 {
        assert!(engine.entry(n, Seq(n)).expect("readable").is_some(), "keyspace {n} was taken for the deleted one");
    }
}

#[test]
fn a_keyspace_made_after_a_deletion_is_not_taken_for_the_deleted_one() {
    are_there_later(|removed| removed.delete().expect("deleted"));
}

#[test]
fn nor_after_a_crash_in_the_middle_of_the_deletion() {
    are_there_later(Removed::delete_and_crash);
}

#[test]
fn what_earlier_lives_remembered_is_found_while_it_is_being_read_and_after() {
    let home = tempfile::tempdir().expect("a directory");
    let digest = |n: u64| Digest::of(&n.to_be_bytes());
    let row = |n| Item::put(HOME, layout::digest_key(&digest(n)), layout::meaning_of_stored(Seq(n)));
    let mut engine = reopened(home.path());
    engine.create(HOME).expect("room");
    engine.commit(&(0..5_000).map(row).collect::<Vec<_>>(), true).expect("room");
    engine.write_out();
    drop(engine);
    let engine = reopened(home.path());
    let finds_all = || (0..5_000).all(|n| engine.meaning(&digest(n)) == Some(Seen::Stored));
    assert!(finds_all(), "at once");
    engine.commit(&[row(5_000)], true).expect("room");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !engine.is_filtered() {
        assert!(Instant::now() < deadline, "its keys are read");
        std::thread::yield_now();
    }
    assert!(finds_all() && engine.meaning(&digest(5_000)).is_some());
    assert_eq!(engine.meaning(&digest(5_001)), None);
}
