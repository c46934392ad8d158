//! A disk that does not give back what was written.

use std::fs;
use std::path::{Path, PathBuf};

use super::fixture::*;
use crate::core::ports::{Appended, Seq};

const COUNT: u64 = 400;

fn written(home: &Path) {
    let mut bench = Bench::open(home, small());
    for first in (1..=COUNT).step_by(50) {
        bench.append((first..first + 50).map(|n| entry(n, T0)).collect()).expect("room");
    }
}

/// The files below a folder with this end.
fn files(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder).expect("a folder") {
        let path = file.expect("readable").path();
        if path.is_dir() {
            found.extend(files(&path, wanted));
        } else if wanted(&path) {
            found.push(path);
        }
    }
    found
}

fn write_ahead_file(home: &Path) -> PathBuf {
    let is_one = |path: &Path| path.extension().is_some_and(|extension| extension == "jnl");
    files(&home.join("journal"), &is_one).pop().expect("there is one")
}

#[test]
fn a_block_that_went_bad_is_skipped_and_counted_and_the_rest_is_served() {
    let home = tempfile::tempdir().expect("a directory");
    written(home.path());
    let bench = Bench::open(home.path(), small());
    bench.journal.write_out();
    drop(bench);
    let tables = files(&home.path().join("journal"), &|path| path.parent().is_some_and(|p| p.ends_with("tables")));
    let largest = tables.iter().max_by_key(|path| fs::metadata(path).expect("there").len()).expect("there is one");
    let mut bytes = fs::read(largest).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(largest, bytes).expect("written");
    let mut bench = Bench::open(home.path(), small());
    for entries_max in [64, 3] {
        let read = bench.read(Seq(0), entries_max);
        let lost = COUNT - read.len() as u64;
        assert!((1..COUNT / 4).contains(&lost), "{lost} lost");
        assert!(read.iter().all(|stored| number(stored) == stored.seq.0));
        assert_eq!(bench.journal.stats().damaged, lost, "each counted once");
    }
    assert_eq!(bench.append_one(entry(COUNT + 1, T0)), Appended::Stored(Seq(COUNT + 1)));
}

#[test]
fn a_commit_torn_by_a_crash_is_cut_off_and_said() {
    let home = tempfile::tempdir().expect("a directory");
    written(home.path());
    let path = write_ahead_file(home.path());
    let end = crate::store::files::written_end(&path).expect("readable");
    fs::File::options().write(true).open(&path).and_then(|file| file.set_len(end - 100)).expect("cut");
    let mut bench = Bench::open(home.path(), small());
    assert!(bench.read(Seq(0), 64).iter().map(number).eq(1..=COUNT - 50), "the last commit is gone, whole");
    assert!(bench.journal.stats().cut_bytes > 1_000);
    let next = bench.append_one(entry(COUNT, T0));
    assert!(matches!(next, Appended::Stored(seq) if seq.0 > COUNT), "no position stands for two entries: {next:?}");
    drop(bench);
    assert_eq!(Bench::open(home.path(), small()).journal.stats().cut_bytes, 0);
}

#[test]
fn a_bad_commit_in_the_write_ahead_file_costs_itself_only_and_is_said() {
    let original = tempfile::tempdir().expect("a directory");
    written(original.path());
    let path = write_ahead_file(original.path());
    let end = crate::store::files::written_end(&path).expect("readable");
    fs::File::options().write(true).open(&path).and_then(|file| file.set_len(end)).expect("only zeroes go");
    let end = usize::try_from(end).expect("small");
    for at in (0..end).step_by(end / 11) {
        let home = tempfile::tempdir().expect("a directory");
        copy_folder(original.path(), home.path());
        let path = write_ahead_file(home.path());
        let mut bad = fs::read(&path).expect("readable");
        bad[at] ^= 0x10;
        fs::write(&path, bad).expect("written");
        let mut bench = Bench::open(home.path(), small());
        let read = bench.read(Seq(0), 64);
        assert!(read.iter().all(|stored| number(stored) == stored.seq.0));
        let stats = bench.journal.stats();
        let lost = COUNT - read.len() as u64;
        assert!(lost <= 50, "byte {at}: one commit of 50 at most, not {lost}");
        assert!(lost == 0 || stats.damaged_commits + stats.cut_bytes > 0, "byte {at}");
        let next = bench.append_one(entry(COUNT + 1, T0));
        assert!(matches!(next, Appended::Stored(seq) if seq.0 > COUNT), "{next:?}");
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for file in fs::read_dir(from).expect("a folder") {
        let file = file.expect("readable");
        let target = to.join(file.file_name());
        if file.path().is_dir() {
            fs::create_dir(&target).expect("a new one");
            copy_folder(&file.path(), &target);
        } else {
            fs::copy(file.path(), &target).expect("copied");
        }
    }
}
