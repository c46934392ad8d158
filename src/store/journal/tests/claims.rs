//! Idempotency keys live and die with the events they stand for.

use super::fixture::*;
use crate::core::ports::{Appended, Claim, Claims as _, Entry, Seq};
use crate::wire::{Code, Digest};

fn claim(key: &str, body: &str) -> Claim {
    Claim { key: Digest::of(key.as_bytes()), body: Digest::of(body.as_bytes()), until: T0 + DAY }
}

fn stake(bench: &Bench, entry: &Entry, claim: Claim) {
    bench.journal.stake(entry.envelope.digest(), claim);
}

#[test]
fn a_key_is_remembered_with_its_event_and_over_restarts() {
    let home = tempfile::tempdir().expect("a directory");
    let (first, key) = (entry(1, T0), claim("k", "one"));
    let mut bench = Bench::open(home.path(), small());
    stake(&bench, &first, key.clone());
    assert_eq!(bench.journal.claimed(&key.key, T0), None, "nothing is true before the commit");
    bench.append_one(first.clone());
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
    let [one, two, three, four] = [1, 2, 3, 4].map(|n| entry(n, T0));
    for (entry, key) in [(&one, "k"), (&two, "k"), (&three, "other"), (&four, "k")] {
        stake(&bench, entry, claim(key, "body"));
    }
    let group = vec![one.clone(), two.clone(), three];
    let expected = vec![Appended::Stored(Seq(1)), Appended::Refused(Code::Conflict), Appended::Stored(Seq(2))];
    assert_eq!(bench.append(group), Ok(expected));
    assert_eq!(bench.append_one(four.clone()), Appended::Refused(Code::Conflict));
    assert_eq!(bench.append_one(one), Appended::Duplicate, "its own key");
    bench.journal.withdraw(&two.envelope.digest());
    assert_eq!(bench.append_one(two), Appended::Stored(Seq(3)), "the key was in the way, not the event");
    let later = Entry { received: T0 + DAY, ..four };
    assert_eq!(bench.append_one(later), Appended::Stored(Seq(4)), "a day later the key is free");
}

#[test]
fn an_event_that_was_there_before_takes_the_key_too() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let (event, key) = (entry(1, T0), claim("k", "one"));
    bench.append_one(event.clone());
    stake(&bench, &event, key.clone());
    assert_eq!(bench.append_one(event.clone()), Appended::Duplicate);
    let claimed = bench.journal.claimed(&key.key, T0).expect("remembered");
    assert_eq!(claimed.event, event.envelope.digest());
}
