//! A full disk, on a small file system of its own. Mounting one takes root.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::fixture::*;
use crate::core::ports::{AppendError, Appended, Entry, Known as _, Log as _, Seq};
use crate::store::{DataDir, Journal, JournalSettings, Report};

/// A file system of so many MiB, gone at the end.
struct SmallDisk {
    home: tempfile::TempDir,
}

impl SmallDisk {
    fn new(mib: u32) -> SmallDisk {
        let home = tempfile::tempdir().expect("a directory");
        let size = format!("size={mib}m,mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(home.path()).status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "this test mounts a small tmpfs, which takes root: run it as root (or in a user namespace with mounts)"
        );
        SmallDisk { home }
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.home.path()).expect("mounted");
        disk.f_bavail * disk.f_frsize
    }

    /// Takes everything but so many bytes.
    fn fill_up_to(&self, left: u64) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).expect("created");
        while self.free() > left {
            let step = (self.free() - left).min(1 << 20) as usize;
            if ballast.write(&vec![1; step]).is_err() {
                return;
            }
        }
    }

    /// Gives back so much of what was taken that so many bytes are free.
    fn leave(&self, left: u64) {
        let ballast = File::options().write(true).open(self.ballast()).expect("there");
        let taken = ballast.metadata().expect("of a file").len();
        ballast.set_len(taken.saturating_sub(left.saturating_sub(self.free()))).expect("shorter");
    }

    fn ballast(&self) -> PathBuf {
        self.home.path().join("ballast")
    }

    fn empty(&self) {
        std::fs::remove_file(self.ballast()).expect("there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.home.path()).status();
        debug_assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

/// Some 45 KB that do not compress.
fn large(n: u64) -> Entry {
    let mut chance = fastrand::Rng::with_seed(n);
    let text: String = std::iter::repeat_with(|| chance.alphanumeric()).take(45_000).collect();
    entry_of(event(&format!("n-{n}"), &text, T0, DAY), T0)
}

fn settings(reserve: u64) -> JournalSettings {
    JournalSettings { reserve, ..small() }
}

/// Appends until the journal is full; says how many were stored.
fn append_until_full(bench: &mut Bench, mut stored: u64) -> u64 {
    loop {
        match bench.append(vec![large(stored + 1)]) {
            Ok(outcomes) => {
                stored += 1;
                assert_eq!(outcomes, [Appended::Stored(Seq(stored))]);
            }
            Err(error) => {
                assert_eq!(error, AppendError::Full);
                return stored;
            }
        }
    }
}

fn assert_holds(bench: &Bench, stored: u64) {
    assert!(bench.read(Seq(0), 64).iter().map(number).eq(1..=stored), "{stored} were acknowledged");
}

fn wait_until_well(bench: &Bench) {
    bench.wait_for(|report| (report == Report::Well).then_some(()));
}

fn reopen(bench: Bench, path: &Path, reserve: u64) -> Bench {
    drop(bench);
    Bench::open(path, settings(reserve))
}

#[test]
fn below_the_reserve_nothing_is_stored_until_there_is_room_again() {
    let disk = SmallDisk::new(120);
    let reserve = 8 << 20;
    let mut bench = Bench::open(&disk.path(), settings(reserve));
    for n in 1..=9 {
        bench.append_one(large(n));
    }
    disk.fill_up_to(reserve);
    assert_eq!(append_until_full(&mut bench, 9), 9);
    assert!(bench.journal.stats().full.is_some_and(|why| why.contains("bytes are free")));
    assert_eq!(bench.append(vec![large(3)]), Ok(vec![Appended::Duplicate]));
    assert_holds(&bench, 9);
    let mut bench = reopen(bench, &disk.path(), reserve);
    assert_eq!(append_until_full(&mut bench, 9), 9, "a restart makes no room");
    assert_holds(&bench, 9);
    disk.leave(reserve * 3 / 2);
    assert_eq!(append_until_full(&mut bench, 9), 9, "some room is not enough to begin again");
    let why = bench.journal.stats().full.expect("full");
    let needed = why.split(", ").nth(1).and_then(|part| part.split(' ').next()).and_then(|number| number.parse().ok());
    assert!(needed.is_some_and(|needed: u64| needed >= reserve * 2), "{why}");
    disk.empty();
    wait_until_well(&bench);
    assert_eq!(bench.append_one(large(10)), Appended::Stored(Seq(10)));
    assert_holds(&reopen(bench, &disk.path(), reserve), 10);
}

/// A journal of nine entries whose tenth found no space in the middle of the write.
fn failed_in_the_write(disk: &SmallDisk) -> Bench {
    let mut bench = Bench::open(&disk.path(), settings(1 << 20));
    for n in 1..=9 {
        bench.append_one(large(n));
    }
    disk.fill_up_to(0);
    bench.journal.be_blind(true);
    assert_eq!(append_until_full(&mut bench, 9), 9);
    bench.journal.be_blind(false);
    let full = bench.journal.stats().full.expect("full");
    assert!(full.contains("no space is left"), "{full}");
    bench
}

#[test]
fn a_write_that_finds_no_space_is_answered_full_and_leaves_no_trace() {
    let disk = SmallDisk::new(60);
    let mut bench = failed_in_the_write(&disk);
    let refused = large(10).envelope.digest();
    assert_holds(&bench, 9);
    assert_eq!(bench.append(vec![large(3)]), Ok(vec![Appended::Duplicate]));
    assert_eq!(bench.journal.seen(&refused), None);
    disk.empty();
    wait_until_well(&bench);
    assert_eq!(bench.journal.seen(&refused), None, "what was answered `full` was not stored after all");
    assert_holds(&bench, 9);
    assert_eq!(bench.append_one(large(10)), Appended::Stored(Seq(10)));
    assert_holds(&reopen(bench, &disk.path(), 1 << 20), 10);
}

#[test]
fn a_small_write_that_was_held_back_is_taken_back_when_there_is_room() {
    let disk = SmallDisk::new(60);
    let mut bench = Bench::open(&disk.path(), settings(1 << 20));
    // Fits the engine's buffer whole, so that the engine itself writes it after all when it is closed.
    let mut stored = 1;
    bench.append_one(entry(1, T0));
    disk.fill_up_to(0);
    bench.journal.be_blind(true);
    while bench.append(vec![entry(stored + 1, T0)]).is_ok() {
        stored += 1;
    }
    bench.journal.be_blind(false);
    let refused = entry(stored + 1, T0);
    disk.empty();
    wait_until_well(&bench);
    assert_eq!(bench.journal.seen(&refused.envelope.digest()), None);
    assert_holds(&bench, stored);
    assert_eq!(bench.append_one(refused), Appended::Stored(Seq(stored + 1)));
    assert_holds(&reopen(bench, &disk.path(), 1 << 20), stored + 1);
}

#[test]
fn a_restart_on_a_full_disk_serves_what_is_there_or_says_why_not() {
    let disk = SmallDisk::new(60);
    drop(failed_in_the_write(&disk));
    let dir = DataDir::open(disk.path()).expect("free");
    match Journal::open(&dir, settings(1 << 20), |_| {}) {
        Ok(journal) => assert_eq!(journal.page(Seq(0), 64, usize::MAX).expect("readable").entries.len(), 9),
        Err(error) => assert!(error.to_string().contains("make room"), "{error}"),
    }
    drop(dir);
    disk.empty();
    let bench = Bench::open(&disk.path(), settings(1 << 20));
    assert!(bench.read(Seq(0), 64).iter().map(number).take(9).eq(1..=9));
}

#[test]
fn a_disk_filled_by_the_journal_itself_loses_nothing_that_was_acknowledged() {
    let disk = SmallDisk::new(80);
    let mut bench = Bench::open(&disk.path(), settings(1 << 20));
    let stored = append_until_full(&mut bench, 0);
    assert!(stored > 400, "{stored}");
    assert_holds(&bench, stored);
    let bench = reopen(bench, &disk.path(), 1 << 20);
    assert_holds(&bench, stored);
}
