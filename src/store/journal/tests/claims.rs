//! Idempotency keys live and die with the events they stand for.

use super::fixture::*;
use crate::core::ports::{Appended, Claim, Claims as _, Entry, Seq};
use crate::wire::{Code, Digest};

fn claim(key: &str, body: &str) -> Claim {
    Claim { key: Digest::of(key.as_bytes()), body: Digest::of(body.as_bytes()), until: T0 + DAY }
}

fn under(entry: &Entry, claims: &[Claim]) -> Entry {
    Entry { claims: claims.into(), ..entry.clone() }
}

#[test]
fn a_key_is_remembered_with_its_event_and_over_restarts() {
    let home = tempfile::tempdir().expect("a directory");
    let (first, key) = (entry(1, T0), claim("k", "one"));
    let mut bench = Bench::open(home.path(), small());
    bench.append_one(under(&first, &[key]));
    for _ in 0..2 {
        let claimed = bench.journal.claimed(&key.key, T0).expect("remembered");
        assert_eq!((claimed.body, claimed.event, &*claimed.id), (key.body, first.envelope.digest(), "n-1"));
        assert_eq!(bench.journal.claimed(&key.key, key.until), None, "free again");
        drop(bench);
        bench = Bench::open(home.path(), small());
    }
}

#[test]
fn a_key_means_one_event_also_within_one_commit() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let [one, two, three, four] =
        [(1, "k"), (2, "k"), (3, "other"), (4, "k")].map(|(n, key)| under(&entry(n, T0), &[claim(key, "body")]));
    let group = vec![one.clone(), two.clone(), three];
    let expected = vec![Appended::Stored(Seq(1)), Appended::Refused(Code::Conflict), Appended::Stored(Seq(2))];
    assert_eq!(bench.append(group), Ok(expected));
    assert_eq!(bench.append_one(four.clone()), Appended::Refused(Code::Conflict));
    assert_eq!(bench.append_one(one), Appended::Duplicate, "its own key");
    assert_eq!(bench.append_one(under(&two, &[])), Appended::Stored(Seq(3)), "the key was in the way, not the event");
    let later = Entry { received: T0 + DAY, ..four };
    assert_eq!(bench.append_one(later), Appended::Stored(Seq(4)), "a day later the key is free");
}

#[test]
fn an_event_that_was_there_before_takes_the_key_too() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let (event, key) = (entry(1, T0), claim("k", "one"));
    bench.append_one(event.clone());
    assert_eq!(bench.append_one(under(&event, &[key])), Appended::Duplicate);
    let claimed = bench.journal.claimed(&key.key, T0).expect("remembered");
    assert_eq!(claimed.event, event.envelope.digest());
}

#[test]
fn an_event_may_use_up_several_keys_and_is_turned_away_when_one_of_them_means_another() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let [mine, brought, free] = ["mine", "brought", "free"].map(|key| claim(key, "body"));
    let (one, two) = (entry(1, T0), entry(2, T0));
    assert_eq!(bench.append_one(under(&one, &[mine, brought])), Appended::Stored(Seq(1)));
    for key in [mine, brought] {
        let claimed = bench.journal.claimed(&key.key, T0).expect("remembered");
        assert_eq!(claimed.event, one.envelope.digest());
    }
    assert_eq!(bench.append_one(under(&two, &[free, brought])), Appended::Refused(Code::Conflict));
    assert_eq!(bench.journal.claimed(&free.key, T0), None, "a refused event uses up nothing");
}

#[test]
fn the_same_event_under_two_keys_in_one_commit_has_both() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let (event, first, second) = (entry(1, T0), claim("first", "body"), claim("second", "body"));
    let group = vec![under(&event, &[first]), under(&event, &[second])];
    assert_eq!(bench.append(group), Ok(vec![Appended::Stored(Seq(1)), Appended::Duplicate]));
    for key in [first, second] {
        assert!(bench.journal.claimed(&key.key, T0).is_some());
    }
}
