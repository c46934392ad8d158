//! What is dropped, what is forgotten, and what holds it back.

use std::time::Duration;

use super::fixture::*;
use crate::core::ports::{AppendError, Appended, Known as _, Log as _, Seen, Seq};
use crate::store::journal::shared::locked;
use crate::store::journal::span::forgotten_at;
use crate::store::{JournalSettings, Report};
use crate::time::{Mono, Now, Wall};
use crate::wire::Code;

const MICRO: Duration = Duration::from_micros(1);

#[test]
fn a_sweep_drops_by_age_and_only_whole_periods() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    for hour in 0..5 {
        bench.append_one(entry(hour, T0 + HOUR * u32::try_from(hour).expect("small")));
    }
    assert_eq!(bench.sweep(T0 + DAY - MICRO).entries, 0);
    let swept = bench.sweep(T0 + DAY + HOUR);
    assert_eq!((swept.entries, swept.earliest), (2, Seq(3)));
    assert!(bench.read(Seq(2), 9).iter().map(number).eq(2..5));
}

#[test]
fn a_sweep_drops_by_size_the_oldest_first() {
    let home = tempfile::tempdir().expect("a directory");
    let bytes_max = 100_000;
    let mut bench = Bench::open(home.path(), JournalSettings { bytes_max, ..small() });
    for n in 1..=1_000 {
        bench.append_one(entry(n, T0));
        assert!(bench.journal.stats().bytes <= bytes_max);
    }
    let earliest = bench.journal.earliest();
    assert!(bench.read(Seq(earliest.0 - 1), 64).iter().map(number).eq(earliest.0..=1_000));
    assert!(bench.journal.stats().bytes >= bytes_max * 3 / 4, "no more than an eighth goes at once");
}

#[test]
fn nothing_that_the_bus_has_not_got_is_dropped() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    for hour in 0..5 {
        bench.append_one(entry(hour, T0 + HOUR * u32::try_from(hour).expect("small")));
    }
    bench.journal.set_cursor("bus:a", Seq(5));
    bench.journal.set_cursor("bus:b", Seq(2));
    bench.journal.set_cursor("peer:slow", Seq(0));
    let swept = bench.sweep(T0 + DAY * 9);
    assert_eq!((swept.entries, swept.earliest), (2, Seq(3)));
    bench.journal.forget_cursor("bus:b");
    assert_eq!(bench.sweep(T0 + DAY * 9).entries, 3);
}

#[test]
fn over_quota_with_nothing_to_drop_is_full_until_the_bus_has_it() {
    let home = tempfile::tempdir().expect("a directory");
    let settings = JournalSettings { bytes_max: 50_000, ..small() };
    let mut bench = Bench::open(home.path(), settings);
    bench.journal.set_cursor("bus:a", Seq(0));
    let mut stored = 0;
    while stored < 500 && bench.append(vec![entry(stored + 1, T0)]).is_ok() {
        stored += 1;
    }
    assert!((50..500).contains(&stored), "{stored}");
    assert!(locked(&bench.seen).iter().any(|report| matches!(report, Report::Full(_))));
    assert!(bench.journal.stats().full.is_some());
    // What is stored can still be told, and what is not leaves no trace.
    assert_eq!(bench.append(vec![entry(1, T0)]), Ok(vec![Appended::Duplicate]));
    assert_eq!(bench.append(vec![entry(1, T0), entry(9_999, T0)]), Err(AppendError::Full));
    assert_eq!(bench.journal.seen(&entry(9_999, T0).envelope.digest()), None);
    assert_eq!(bench.read(Seq(0), 64).len() as u64, stored);
    bench.journal.set_cursor("bus:a", Seq(stored));
    bench.wait_for(|report| (report == Report::Well).then_some(()));
    assert_eq!(bench.append_one(entry(9_999, T0)), Appended::Stored(Seq(stored + 1)));
    assert_eq!(bench.journal.stats().full, None);
}

#[test]
fn a_digest_is_known_until_it_expires_though_its_entry_is_dropped() {
    let home = tempfile::tempdir().expect("a directory");
    let settings = JournalSettings { keep: HOUR, ..small() };
    let mut bench = Bench::open(home.path(), settings);
    let long = entry_of(event("long", "x", T0, DAY * 7), T0);
    let short = entry_of(event("short", "x", T0, HOUR), T0);
    let expires = long.envelope.event().expires;
    bench.append(vec![long.clone(), short.clone()]).expect("room");
    assert_eq!(bench.sweep(T0 + DAY).entries, 2);
    let known = |bench: &Bench, entry: &crate::core::ports::Entry| bench.journal.seen(&entry.envelope.digest());
    assert_eq!((known(&bench, &long), known(&bench, &short)), (Some(Seen::Stored), None));
    assert_eq!(bench.append_one(long.clone()), Appended::Duplicate);
    bench.sweep(expires - MICRO);
    drop(bench);
    let mut bench = Bench::open(home.path(), settings);
    assert_eq!(bench.append_one(long.clone()), Appended::Duplicate, "one microsecond before it expires");
    bench.sweep(forgotten_at(expires, settings.period));
    assert_eq!(known(&bench, &long), None);
    assert_eq!(bench.journal.stats().periods.1, 0, "all periods of digests are gone");
}

#[test]
fn a_conflict_is_remembered_after_the_first_of_the_name_expired() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let first = entry_of(event("same", "first", T0, HOUR), T0);
    let second = entry_of(event("same", "second", T0, DAY), T0);
    let third = entry_of(event("same", "third", T0, DAY), T0);
    assert_eq!(bench.append(vec![first, second.clone()]).expect("room")[1], Appended::Refused(Code::Conflict));
    bench.sweep(T0 + HOUR * 5);
    assert_eq!(bench.append_one(second), Appended::Refused(Code::Conflict), "the same bytes, the same answer");
    assert_eq!(bench.append_one(third), Appended::Stored(Seq(2)), "the name is free again");
}

#[test]
fn the_files_of_a_dropped_period_are_deleted() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let folders = || std::fs::read_dir(home.path().join("journal/keyspaces")).expect("there").count();
    let before = folders();
    for hour in 0..6 {
        bench.append_one(entry(hour, T0 + HOUR * u32::try_from(hour).expect("small")));
    }
    assert!(folders() > before + 6, "six of the log, some of digests");
    bench.sweep(T0 + DAY * 9);
    assert_eq!(folders(), before);
}

#[test]
fn a_clock_that_jumps_ahead_for_a_moment_makes_nothing_forgotten() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let given = entry(1, T0);
    bench.append_one(given.clone());
    let now = |secs: u64, wall: Wall| Now { mono: Mono(secs * 1_000_000), wall };
    bench.sweep_at(now(0, T0));
    let swept = bench.sweep_at(now(60, T0 + DAY * 365));
    assert_eq!((swept.entries, swept.ids), (0, 0));
    drop(bench);
    let mut bench = Bench::open(home.path(), small());
    assert_eq!(bench.journal.clock_mark(), Some(T0 + Duration::from_secs(180)), "it survives the restart");
    let swept = bench.sweep_at(now(0, T0 + DAY * 365));
    assert_eq!((swept.entries, swept.ids, swept.clock), (0, 0, T0 + Duration::from_secs(300)));
    assert_eq!(bench.append_one(given), Appended::Duplicate);
}
