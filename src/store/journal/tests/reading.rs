//! Pages, moments, cursors.

use std::time::Duration;

use super::fixture::*;
use crate::core::ports::{Entry, Hold, Log as _, PageError, Seq};
use crate::store::JournalSettings;
use crate::wire::Keypair;

const SECOND: Duration = Duration::from_secs(1);

fn filled(count: u64) -> (tempfile::TempDir, Bench) {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    bench.append((1..=count).map(|n| entry(n, T0)).collect()).expect("room");
    (home, bench)
}

#[test]
fn pages_follow_one_another_without_gap_or_overlap() {
    let (_home, bench) = filled(200);
    for entries_max in [1, 7, 64, 1_000] {
        let read = bench.read(Seq(0), entries_max);
        assert!(read.iter().map(|stored| (stored.seq.0, number(stored))).eq((1..=200).map(|n| (n, n))));
    }
    assert_eq!(bench.read(Seq(190), 3).len(), 10);
}

#[test]
fn a_page_holds_one_entry_whatever_its_size_and_no_more_than_the_bytes_allow() {
    let (_home, bench) = filled(10);
    let size = bench.read(Seq(0), 1)[0].entry.envelope.event().bytes().len();
    let held = |bytes_max| bench.journal.page(Seq(0), 10, bytes_max).expect("readable").entries.len();
    assert_eq!((held(0), held(size - 1), held(size), held(size * 3 + 2)), (1, 1, 1, 3));
}

#[test]
fn an_event_is_found_by_its_digest_with_all_that_was_said_of_it_also_after_a_restart() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let hold = Some(Hold { from: T0 + SECOND * 5, until: T0 + SECOND * 9 });
    let held = Entry { from: Some(Keypair::from_seed(&[7; 32]).id()), hold, ..entry(2, T0) };
    let digests = [entry(1, T0).envelope.digest(), held.envelope.digest(), entry(3, T0).envelope.digest()];
    bench.append(vec![entry(1, T0), held.clone()]).expect("room");
    for life in 0..2 {
        if life == 1 {
            drop(bench);
            bench = Bench::open(home.path(), small());
        }
        let found = |digest: &_| bench.journal.find(digest).map(|stored| (stored.seq.0, stored.entry.hold));
        assert_eq!(digests.each_ref().map(found), [Some((1, None)), Some((2, hold)), None]);
        assert_eq!(bench.journal.find(&digests[1]).map(|stored| stored.entry.from), Some(held.from));
    }
}

#[test]
fn the_end_is_where_one_stands() {
    let (_home, bench) = filled(3);
    for after in [Seq(3), Seq(4), Seq(u64::MAX)] {
        let page = bench.journal.page(after, 10, 10).expect("readable");
        assert!(page.entries.is_empty() && page.upto == after, "{after:?}");
    }
    assert_eq!(bench.journal.page(Seq(0), 0, 10).expect("readable").upto, Seq(0));
    let home = tempfile::tempdir().expect("a directory");
    let empty = Bench::open(home.path(), small());
    assert_eq!((empty.journal.head(), empty.journal.earliest()), (Seq(0), Seq(1)));
    assert_eq!(empty.journal.page(Seq(0), 10, 10).expect("readable").upto, Seq(0));
    assert_eq!(empty.journal.since(T0), Ok(Seq(1)));
}

#[test]
fn what_retention_dropped_is_gone_and_says_where_to_go_on() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    bench.append((1..=5).map(|n| entry(n, T0)).collect()).expect("room");
    bench.append((6..=9).map(|n| entry(n, T0 + HOUR)).collect()).expect("room");
    assert_eq!(bench.sweep(T0 + DAY).entries, 5);
    let gone = Err(PageError::Gone { earliest: Seq(6) });
    let page = |bench: &Bench, after| bench.journal.page(Seq(after), 10, usize::MAX).map(|page| page.upto);
    assert_eq!((page(&bench, 0), page(&bench, 4), page(&bench, 5)), (gone, gone, Ok(Seq(9))));
    assert_eq!(bench.sweep(T0 + DAY * 2).entries, 4);
    drop(bench);
    let mut bench = Bench::open(home.path(), small());
    let gone = Err(PageError::Gone { earliest: Seq(10) });
    assert_eq!((page(&bench, 8), page(&bench, 9)), (gone, Ok(Seq(9))));
    assert_eq!((bench.journal.head(), bench.journal.earliest()), (Seq(9), Seq(10)));
    let next = bench.append_one(entry(10, T0 + DAY * 2));
    assert_eq!(next, crate::core::ports::Appended::Stored(Seq(10)), "positions are never used twice");
}

#[test]
fn a_moment_leads_to_the_first_entry_received_then_or_later() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), JournalSettings { period: HOUR, ..small() });
    // The clock goes back in between, and over into the next period.
    let received = [0, 10, 20, 20, 15, 30, 4_000, 3_990, 4_100].map(|secs| T0 + SECOND * secs);
    for (n, received) in (1..).zip(received) {
        bench.append_one(entry(n, received));
    }
    for moment in (-10..4_200).map(|secs| crate::time::Wall(T0.0 + secs * 1_000_000)) {
        let first = received.iter().position(|received| *received >= moment).unwrap_or(received.len());
        assert_eq!(bench.journal.since(moment), Ok(Seq(first as u64 + 1)), "{moment:?}");
    }
}

#[test]
fn a_clock_that_jumps_back_does_not_change_the_order() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), small());
    let received = [T0, T0 + DAY, T0 - DAY, T0 + HOUR, T0 - HOUR * 2, T0];
    for (n, received) in (1..).zip(received) {
        bench.append_one(entry(n, received));
    }
    drop(bench);
    let bench = Bench::open(home.path(), small());
    assert!(bench.read(Seq(0), 2).iter().map(number).eq(1..=6));
}

#[test]
fn cursors_are_there_again_after_closing() {
    let (home, bench) = filled(3);
    bench.journal.set_cursor("bus:mesh:events", Seq(2));
    bench.journal.set_cursor("peer:a", Seq(3));
    bench.journal.set_cursor("peer:a", Seq(1));
    bench.journal.set_cursor("peer:b", Seq(1));
    assert_eq!(bench.journal.cursor("peer:a"), Some(Seq(1)), "at once for whoever asks");
    drop(bench);
    let bench = Bench::open(home.path(), small());
    bench.journal.forget_cursor("peer:b");
    bench.journal.close();
    assert_eq!(bench.journal.cursor("peer:b"), None);
    drop(bench);
    let bench = Bench::open(home.path(), small());
    let expected = vec![("bus:mesh:events".to_owned(), Seq(2)), ("peer:a".to_owned(), Seq(1))];
    assert_eq!(bench.journal.cursors(), expected);
    assert_eq!(bench.journal.cursor("nobody"), None);
}

#[test]
fn a_cursor_moved_while_nothing_comes_is_written_down_all_the_same() {
    let (_home, bench) = filled(3);
    let commits = bench.journal.stats().commits;
    bench.journal.set_cursor("peer:a", Seq(3));
    until("a commit for the cursor", || bench.journal.stats().commits > commits);
}

#[test]
fn readers_see_whole_groups_in_order_while_it_is_written() {
    let home = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::open(home.path(), JournalSettings { bytes_max: 4 << 20, ..small() });
    let journal = bench.journal.clone();
    let reader = std::thread::spawn(move || {
        let mut read = 0;
        while read < 2_000 {
            let page = journal.page(Seq(read), 64, usize::MAX).expect("readable");
            for stored in &page.entries {
                read += 1;
                assert_eq!((stored.seq, number(stored)), (Seq(read), read));
            }
            assert!(page.upto == Seq(read) && journal.head() >= page.upto);
        }
    });
    for first in (1..2_000).step_by(50) {
        // Each quarter of an hour more: periods begin meanwhile.
        let received = T0 + HOUR / 4 * u32::try_from(first / 50).expect("small");
        bench.append((first..first + 50).map(|n| entry(n, received)).collect()).expect("room");
    }
    reader.join().expect("the reader is content");
}
