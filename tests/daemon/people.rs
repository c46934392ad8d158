//! What a person meets on a terminal.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};

use crate::support::{Daemon, PATIENCE, binary, eventually, text};

#[test]
fn without_a_daemon_commands_say_what_to_type_and_exit_3() {
    let a = Daemon::new("a", &[], "", "");
    for args in [&["status"][..], &["peers", "list"], &["publish", "a.b"], &["sub"], &["interests"]] {
        let output = a.afferent(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("afferent run"), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn usage_and_configuration_mistakes_have_their_own_exit_codes() {
    assert_eq!(binary().arg("nonsense").output().expect("runs").status.code(), Some(2));
    let a = Daemon::new("a", &[], "", "[nodes]\nname = 1");
    let output = a.afferent(&["run"]);
    assert_eq!(output.status.code(), Some(78));
    let message = text(&output.stderr);
    assert!(message.contains("nodes") && message.contains("afferent.toml:") && message.contains('^'), "{message}");
    assert!(!a.data().exists(), "nothing is made from a bad configuration");
}

#[test]
fn two_daemons_never_share_a_directory() {
    let a = Daemon::running("a", &[], "", "");
    let output = a.afferent(&["run"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("data"), "{}", text(&output.stderr));
}

#[test]
fn init_never_overwrites() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("afferent.toml");
    let init = || {
        binary()
            .args(["init", "--config"])
            .arg(&file)
            .env("XDG_DATA_HOME", dir.path().join("share"))
            .env("XDG_RUNTIME_DIR", dir.path())
            .output()
            .expect("runs")
    };
    let first = init();
    assert!(first.status.success(), "{}", text(&first.stderr));
    let before = std::fs::read_to_string(&file).expect("a configuration");
    let second = init();
    assert_ne!(second.status.code(), Some(0), "{}", text(&second.stdout));
    assert_eq!(std::fs::read_to_string(&file).expect("a configuration"), before);
}

#[test]
fn a_peer_is_removed_by_alias_and_an_unknown_one_is_exit_4() {
    let a = Daemon::running("a", &[], "", "");
    let b = Daemon::running("b", &[], "", "");
    let output = a.afferent(&["peers", "add", &b.address(), "--alias", "birch"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(a.json(&["peers", "list"])["peers"][0]["alias"], "birch");
    assert_eq!(a.afferent(&["peers", "rm", "cedar"]).status.code(), Some(4));
    assert!(a.afferent(&["peers", "rm", "birch"]).status.success());
}

#[test]
fn a_bad_event_is_refused_with_its_reason_and_nothing_is_stored() {
    let a = Daemon::running("a", &[], "", "");
    for (args, word) in [
        (vec!["publish", "deployment"], "segment"),
        (vec!["publish", "a.b", "--data", "{"], "JSON"),
        (vec!["publish", "a.b", "--to", "nobody"], "nobody"),
        (vec!["publish", "mesh.node", "--data", "{}"], "reserved"),
    ] {
        let output = a.afferent(&args);
        assert!(
            matches!(output.status.code(), Some(2 | 4 | 5)),
            "{args:?}: {:?} {}",
            output.status,
            text(&output.stderr)
        );
        assert!(text(&output.stderr).contains(word), "{args:?}: {}", text(&output.stderr));
    }
    assert_eq!(a.journal_events(), 0);
}

/// A command whose standard output is a pipe, and the exit code once it ends.
fn piped(daemon: &Daemon, args: &[&str]) -> Child {
    let mut command = daemon.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the command starts")
}

fn ended(mut child: Child) -> Option<i32> {
    eventually("the command ends", PATIENCE, || child.try_wait().expect("a child")).code()
}

/// Reads one line, and reads no more: `head -1`.
fn head(child: &mut Child) -> String {
    let mut line = String::new();
    let mut pipe = BufReader::new(child.stdout.take().expect("a pipe"));
    pipe.read_line(&mut line).expect("a line");
    line
}

#[test]
fn a_subscriber_ends_with_its_reader_and_not_with_the_next_event() {
    let a = Daemon::running("a", &[], "", "");
    let mut sub = piped(&a, &["sub", "--since", "all", "--json"]);
    let digest = a.publish("order.placed", "1");
    assert!(head(&mut sub).contains(&digest));
    assert_eq!(ended(sub), Some(0), "nothing was published since");
}

#[test]
fn what_is_published_line_by_line_is_published_whoever_reads_the_answers() {
    let a = Daemon::running("a", &[], "", "");
    for (last, code) in [(r#"{"type":"order.placed"}"#, 0), (r#"{"type":"order"}"#, 5)] {
        let before = a.journal_events();
        let mut publish = piped(&a, &["publish", "--stdin"]);
        let mut lines = publish.stdin.take().expect("a pipe");
        let mut write = |line: &str| writeln!(lines, "{line}").and_then(|()| lines.flush()).expect("it is read");
        write(r#"{"type":"order.placed","data":0}"#);
        assert!(!head(&mut publish).is_empty());
        for number in 1..500 {
            write(&format!(r#"{{"type":"order.placed","data":{number}}}"#));
        }
        write(last);
        drop(lines);
        assert_eq!(ended(publish), Some(code));
        assert_eq!(a.journal_events() - before, 500 + u64::from(code == 0));
    }
}
