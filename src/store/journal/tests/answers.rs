//! What an append is answered, and what is known afterwards.

use std::time::{Duration, Instant};

use super::fixture::*;
use crate::core::ports::{AppendError, Appended, Known as _, Log as _, Refusal, Seen, Seq};
use crate::store::journal::shared::locked;
use crate::store::{JournalSettings, Report};
use crate::wire::Code;
use crate::wire::message::Durability;

#[test]
fn what_is_stored_is_read_back_as_it_was() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let given = entry(1, T0);
    let from = Some(given.envelope.event().source);
    let given = crate::core::ports::Entry { from, hops: 3, duty: false, ..given };
    assert_eq!(bench.append_one(given.clone()), Appended::Stored(Seq(1)));
    let page = bench.journal.page(Seq(0), 10, 1 << 20).expect("readable");
    assert_eq!((page.entries.len(), page.upto), (1, Seq(1)));
    let read = &page.entries[0].entry;
    assert_eq!(read.envelope.event().bytes(), given.envelope.event().bytes());
    assert_eq!(read.envelope.signature(), given.envelope.signature());
    assert_eq!((read.from, read.hops, read.duty, read.received), (from, 3, false, T0));
}

#[test]
fn one_group_tells_new_from_double_from_conflicting() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let first = entry_of(event("same", "first", T0, DAY), T0);
    let other = entry_of(event("same", "other", T0, HOUR), T0);
    let group = vec![first.clone(), first.clone(), other.clone(), other.clone(), entry(1, T0)];
    let (stored, next) = (Appended::Stored(Seq(1)), Appended::Stored(Seq(2)));
    let expected =
        vec![stored, Appended::Duplicate, Appended::Refused(Code::Conflict), Appended::Refused(Code::Conflict), next];
    assert_eq!(bench.append(group), Ok(expected));
    let seen = |of: &crate::core::ports::Entry| bench.journal.seen(&of.envelope.digest());
    assert_eq!(seen(&first), Some(Seen::Stored));
    assert_eq!(seen(&other), Some(Seen::Refused(Code::Conflict)));
    assert_eq!(seen(&entry(2, T0)), None);
}

#[test]
fn the_same_bytes_get_the_same_answer_after_a_restart() {
    let home = tempfile::tempdir().expect("a directory");
    let first = entry_of(event("same", "first", T0, DAY), T0);
    let other = entry_of(event("same", "other", T0, HOUR), T0);
    let mut bench = Bench::open(home.path(), small());
    bench.append(vec![first.clone(), other.clone()]).expect("room");
    drop(bench);
    let mut bench = Bench::open(home.path(), small());
    let third = entry_of(event("same", "third", T0, DAY), T0);
    let expected = vec![
        Appended::Duplicate,
        Appended::Refused(Code::Conflict),
        Appended::Refused(Code::Conflict),
        Appended::Stored(Seq(2)),
    ];
    assert_eq!(bench.append(vec![first, other, third, entry(1, T0)]), Ok(expected));
    let stats = bench.journal.stats();
    assert_eq!((stats.stored, stats.duplicates, stats.refused, stats.entries), (1, 1, 2, 2));
}

#[test]
fn what_is_remembered_as_refused_is_answered_so_until_it_expires() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let [stored, muted, denied] = [1, 2, 3].map(|n| entry(n, T0));
    let refusal = |entry: &crate::core::ports::Entry, code| {
        let event = entry.envelope.event();
        Refusal { digest: event.digest(), expires: event.expires, code }
    };
    bench.append(vec![stored.clone()]).expect("room");
    let refusals = [(&stored, Code::Muted), (&muted, Code::Muted), (&denied, Code::TypeDenied)];
    bench.journal.remember(refusals.map(|(entry, code)| refusal(entry, code)).to_vec());
    let expected = vec![
        Appended::Duplicate, // it was stored before: that is what it stays
        Appended::Refused(Code::Muted),
        Appended::Refused(Code::TypeDenied),
    ];
    assert_eq!(bench.append(vec![stored, muted.clone(), denied]), Ok(expected));
    assert_eq!(bench.journal.seen(&muted.envelope.digest()), Some(Seen::Refused(Code::Muted)));
    bench.journal.close();
    drop(bench);
    let mut bench = Bench::open(home.path(), small());
    assert_eq!(bench.append_one(muted.clone()), Appended::Refused(Code::Muted), "after a restart, too");
    bench.sweep(muted.envelope.event().expires + DAY);
    assert_eq!(bench.journal.seen(&muted.envelope.digest()), None);
}

#[test]
fn batches_are_answered_in_their_order_and_the_head_follows() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    // Signed before the first is sent: the disk is asked while the others are waiting already.
    let signed: Vec<_> = (0..100).map(|n| vec![entry(n, T0), entry(n + 1_000, T0)]).collect();
    let batches: Vec<_> = signed.into_iter().map(|entries| bench.send(entries)).collect();
    for (n, batch) in batches.into_iter().enumerate() {
        let first = Seq(2 * n as u64 + 1);
        assert_eq!(bench.answer(batch), Ok(vec![Appended::Stored(first), Appended::Stored(Seq(first.0 + 1))]));
    }
    bench.wait_for(|report| (report == Report::Head(Seq(200))).then_some(()));
    assert_eq!((bench.journal.earliest(), bench.journal.head()), (Seq(1), Seq(200)));
    assert!(bench.journal.stats().commits < 50, "what waits together is committed together");
}

#[test]
fn an_empty_batch_is_answered_too() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    assert_eq!(bench.append(Vec::new()), Ok(Vec::new()));
}

#[test]
fn closing_commits_what_waits_and_refuses_what_comes_later() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let waiting: Vec<_> = (0..50).map(|n| bench.send(vec![entry(n, T0)])).collect();
    bench.journal.close();
    for batch in waiting {
        assert!(matches!(bench.answer(batch), Ok(outcomes) if matches!(outcomes[..], [Appended::Stored(_)])));
    }
    assert_eq!(bench.append(vec![entry(99, T0)]), Err(AppendError::Closed));
    drop(bench);
    let bench = Bench::open(home.path(), small());
    assert_eq!(bench.read(Seq(0), 64).len(), 50);
    assert!(locked(&bench.seen).is_empty(), "nothing to report");
}

#[test]
fn the_incarnation_stays_as_long_as_the_journal() {
    let home = tempfile::tempdir().expect("a directory");
    let first = Bench::open(home.path(), small()).journal.incarnation();
    assert_eq!(Bench::open(home.path(), small()).journal.incarnation(), first);
    std::fs::remove_dir_all(home.path().join("journal")).expect("ours");
    assert_ne!(Bench::open(home.path(), small()).journal.incarnation(), first);
}

#[test]
fn at_intervals_the_disk_is_asked_later_but_within_a_second_or_so() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), JournalSettings { durability: Durability::Interval, ..small() });
    let before = bench.journal.stats();
    let began = Instant::now();
    for n in 0..20 {
        assert!(bench.append(vec![entry(n, T0)]).is_ok());
    }
    let after = bench.journal.stats();
    assert_eq!(after.commits - before.commits, 20);
    let seconds = began.elapsed().as_secs();
    assert!(after.syncs - before.syncs <= seconds, "{} syncs in {seconds} s", after.syncs - before.syncs);
    let deadline = Instant::now() + PATIENCE;
    while bench.journal.stats().syncs == before.syncs {
        assert!(Instant::now() < deadline, "the disk is never asked");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    drop(bench);
    let bench = Bench::open(home.path(), small());
    assert_eq!(bench.read(Seq(0), 64).len(), 20);
    let before = bench.journal.stats();
    let mut bench = bench;
    assert!(bench.append(vec![entry(99, T0)]).is_ok());
    assert_eq!(bench.journal.stats().syncs, before.syncs + 1, "else every answer asks the disk");
}

#[test]
fn a_sign_of_life_comes_after_what_was_appended_before_it() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let batch = bench.send(vec![entry(1, T0), entry(2, T0)]);
    bench.journal.probe();
    bench.wait_for(|report| matches!(report, Report::Alive).then_some(()));
    let seen = locked(&bench.seen);
    assert!(seen.iter().any(|report| matches!(report, Report::Appended { batch: of, .. } if *of == batch)), "{seen:?}");
    drop(seen);
    bench.journal.close();
    bench.journal.probe();
}
