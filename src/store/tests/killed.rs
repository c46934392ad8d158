//! A writer that is killed leaves one of the versions that it wrote. The child is this very test binary,
//! writing for ever.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use super::*;

const KILLS: u64 = 100;
const CHILD: &str = "store::tests::killed::a_child_writes_until_it_is_killed";
const HOME: &str = "AFFERENT_TEST_FILES";
const FIRST: &str = "AFFERENT_TEST_FILES_FIRST";

/// Not a claim of its own: the child of the test below. Called without its environment it returns.
#[test]
fn a_child_writes_until_it_is_killed() {
    let Ok(home) = std::env::var(HOME) else { return };
    let first: u32 = std::env::var(FIRST).expect("set by the parent").parse().expect("a number");
    let files = files(&directory(Path::new(&home)));
    for n in first.. {
        files.iter().for_each(|file| (file.save)(n).expect("a disk"));
        writeln!(std::io::stdout(), "wrote {n}").expect("the parent reads");
    }
}

fn spawn(home: &Path, first: u32) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this test binary"));
    command.args([CHILD, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(HOME, home).env(FIRST, first.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a child")
}

/// Kills a child some time after it wrote this many versions; gives the last one that it had written whole.
fn run_and_kill(home: &Path, first: u32, versions: usize, after: Duration) -> u32 {
    let mut child = spawn(home, first);
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    // The harness may have written something in front of it.
    let number = |line: &String| line.split("wrote ").nth(1).and_then(|n| n.parse::<u32>().ok());
    let mut written: Vec<u32> = lines.by_ref().filter_map(|line| number(&line)).take(versions).collect();
    std::thread::park_timeout(after);
    child.kill().expect("it runs");
    written.extend(lines.filter_map(|line| number(&line)));
    child.wait().expect("it ended");
    *written.last().expect("it wrote")
}

#[test]
fn a_killed_writer_leaves_one_of_its_versions() {
    let home = tempfile::tempdir().expect("a directory");
    let mut chance = fastrand::Rng::with_seed(1);
    let (mut next, mut in_between) = (1, 0);
    for kill in 0..KILLS {
        let last = run_and_kill(home.path(), next, chance.usize(1..5), Duration::from_micros(chance.u64(0..4_000)));
        for file in files(&directory(home.path())) {
            let (version, warning) = (file.load)();
            assert_eq!(warning, None, "kill {kill}: {}", file.name);
            let version = version.unwrap_or_else(|| panic!("kill {kill}: {} is of no version", file.name));
            assert!(version == last || version == last + 1, "kill {kill}: {} is {version}, not {last}", file.name);
            in_between += u32::from(version != last);
            assert!(aside(home.path(), file.name).is_empty());
        }
        next = last + 2;
    }
    assert!(in_between > 0, "no kill came between two files: they prove little");
}
