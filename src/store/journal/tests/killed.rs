//! What was acknowledged survives kill -9. The child is this very test binary, appending for ever.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::fixture::*;
use crate::core::ports::{Appended, Entry, Known as _, Log as _, Seen, Seq};
use crate::store::JournalSettings;
use crate::time::{Mono, Now, Wall};

const ROUNDS: usize = 20;
const CHILD: &str = "store::journal::tests::killed::a_child_appends_until_it_is_killed";
const HOME: &str = "AFFERENT_TEST_JOURNAL";
const FIRST: &str = "AFFERENT_TEST_FIRST";
const SWEEPS: &str = "AFFERENT_TEST_SWEEPS";
/// Batches that the child keeps waiting for their answers.
const WAITING: usize = 4;

/// Each entry comes this much later than the one before.
const STEP: Duration = Duration::from_secs(20);

fn at(n: u64) -> Wall {
    T0 + STEP * u32::try_from(n).expect("a test's number")
}

fn numbered(n: u64) -> Entry {
    entry_of(event(&format!("n-{n}"), "x", at(n), STEP * 9), at(n))
}

/// Periods so short that almost every commit begins some and every sweep ends some.
fn settings(sweeps: bool) -> JournalSettings {
    if sweeps { JournalSettings { period: STEP * 4, keep: STEP * 20, ..small() } } else { small() }
}

/// Not a claim of its own: the child of the tests below. Called without their environment it returns.
#[test]
fn a_child_appends_until_it_is_killed() {
    let Ok(home) = std::env::var(HOME) else { return };
    let sweeps = std::env::var(SWEEPS).is_ok();
    let first: u64 = std::env::var(FIRST).expect("set by the parent").parse().expect("a number");
    let mut bench = Bench::open(Path::new(&home), settings(sweeps));
    let mut waiting = VecDeque::new();
    let mut next = first;
    loop {
        let numbers = next..next + 1 + next % 3;
        next = numbers.end;
        waiting.push_back((bench.send(numbers.clone().map(numbered).collect()), numbers));
        if sweeps {
            let mono = Mono(u64::try_from(at(next).since(at(first)).as_micros()).expect("short"));
            bench.journal.sweep(Now { mono, wall: at(next) });
        }
        if waiting.len() < WAITING {
            continue;
        }
        let (batch, numbers) = waiting.pop_front().expect("some wait");
        let outcomes = bench.answer(batch).expect("room");
        let mut lines = String::new();
        for (n, outcome) in numbers.zip(outcomes) {
            let Appended::Stored(seq) = outcome else { panic!("{n} is new, but {outcome:?}") };
            lines.push_str(&format!("acked {n} {}\n", seq.0));
        }
        std::io::stdout().write_all(lines.as_bytes()).expect("the parent reads");
    }
}

fn spawn(home: &Path, first: u64, sweeps: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this test binary"));
    command.args([CHILD, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(HOME, home).env(FIRST, first.to_string());
    if sweeps {
        command.env(SWEEPS, "1");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a child")
}

/// Lets a child acknowledge this many, kills it, and says what it acknowledged: number and position.
fn run_and_kill(home: &Path, first: u64, sweeps: bool, count: usize) -> Vec<(u64, Seq)> {
    let mut child = spawn(home, first, sweeps);
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut acked = Vec::new();
    let mut line = String::new();
    let mut is_killed = false;
    while lines.read_line(&mut line).expect("readable") > 0 {
        let mut words = line.split_ascii_whitespace().skip_while(|word| *word != "acked").skip(1);
        if line.ends_with('\n')
            && let (Some(n), Some(seq)) = (words.next(), words.next())
        {
            acked.push((n.parse().expect("a number"), Seq(seq.parse().expect("a number"))));
        }
        line.clear();
        if acked.len() >= count && !is_killed {
            child.kill().expect("it runs");
            is_killed = true;
        }
    }
    child.wait().expect("it ended");
    assert!(is_killed, "the child ended by itself after {} answers", acked.len());
    acked
}

/// All rounds on one directory; after each, everything ever acknowledged has to be there.
fn survives(sweeps: bool) {
    let home = tempfile::tempdir().expect("a directory");
    let mut chance = fastrand::Rng::with_seed(u64::from(sweeps) + 1);
    let mut acked: BTreeMap<Seq, u64> = BTreeMap::new();
    let mut first = 1;
    for round in 0..ROUNDS {
        let news = run_and_kill(home.path(), first, sweeps, chance.usize(1..if sweeps { 30 } else { 60 }));
        for (n, seq) in news {
            assert_eq!(acked.insert(seq, n), None, "round {round}: {seq:?} was given twice");
        }
        let mut bench = Bench::open(home.path(), settings(sweeps));
        let earliest = bench.journal.earliest();
        let read = bench.read(Seq(earliest.0 - 1), 64);
        let there: BTreeMap<Seq, u64> = read.iter().map(|stored| (stored.seq, number(stored))).collect();
        for (seq, n) in acked.range(earliest..) {
            assert_eq!(there.get(seq), Some(n), "round {round}: lost");
        }
        let numbers: BTreeSet<u64> = there.values().copied().collect();
        assert_eq!(numbers.len(), there.len(), "round {round}: something is there twice");
        assert!(sweeps || earliest == Seq(1), "nothing is dropped without a sweep");
        first = numbers.last().map_or(first, |last| last + 1).max(first);
        for n in &numbers {
            let digest = numbered(*n).envelope.digest();
            let expires = numbered(*n).envelope.event().expires;
            // Later than any sweep so far looked.
            if expires > at(first + 100) || !sweeps {
                assert_eq!(bench.journal.seen(&digest), Some(Seen::Stored), "round {round}: {n} is forgotten");
            }
        }
        if let Some(last) = numbers.last() {
            assert_eq!(bench.append_one(numbered(*last)), Appended::Duplicate);
        }
        assert_eq!(bench.journal.stats().damaged, 0);
    }
    assert!(acked.len() > ROUNDS);
}

#[test]
fn what_was_acknowledged_survives_every_kill() {
    survives(false);
}

#[test]
fn kills_inside_the_deletion_of_periods_lose_nothing_either() {
    survives(true);
}
