//! What happens when the configuration changes, and when it is wrong.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Daemon, PATIENCE, binary, eventually, signal, text};

const ID: &str = "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenawvib";

/// A way to be wrong: the name, the text, the place, a part of the reason, a part of the remedy.
type Wrong = (&'static str, String, &'static str, &'static str, &'static str);

#[rustfmt::skip]
fn every_kind() -> Vec<Wrong> {
    let of = |name, text: &str, place, why, next| -> Wrong { (name, text.to_owned(), place, why, next) };
    vec![
        of("not TOML", "[node]\nname = birch", "2:8", "string", "text in quotes"),
        of("a table without its end", "[node\nname = \"x\"", "1:6", "", "tables as [name]"),
        of("a key twice", "[node]\nname = \"x\"\nname = \"y\"", "3:1", "duplicate key", "`key = value`"),
        of("an unknown table", "[nodes]\n", "1:2", "the tables are node", "write [node]"),
        of("an unknown key", "[bus]\nmaxlne = 5", "2:1", "the keys of [bus]", "write `maxlen`"),
        of("a key of another table", "[node]\nmaxlen = 5", "2:1", "the keys of [node]", "belongs to [bus]"),
        of("a key outside of its table", "name = \"x\"", "1:1", "the tables are", "belongs below [node]"),
        of("a table that is none", "node = 5", "1:8", "a table of keys", "write [node]"),
        of("a single table of many", "[peers]\naddress = \"x\"", "1:2", "there may be many", "write [[peers]]"),
        of("text instead of a number", "[bus]\nmaxlen = \"7\"", "2:10", "a whole number is expected", "maxlen = 100000"),
        of("a number out of range", "[bus]\nmaxlen = 5", "2:10", "from 100", "maxlen = 100000"),
        of("a number instead of a flag", "[bus]\nown = 1", "2:7", "true or false", "own = false"),
        of("text instead of a list", "[node]\nlisten = \"[::]:1\"", "2:10", "a list such as", "listen = ["),
        of("an address that is none", "[node]\nlisten = [\"7443\"]", "2:11", "an IP address and a port", "[::]:7443"),
        of("nowhere to listen", "[node]\nlisten = []", "1:2", "listens nowhere", "listen = ["),
        of("a word that is no choice", "[node]\nprofile = \"open\"", "2:11", "public, private and loopback", "profile = "),
        of("a path that is relative", "[node]\ndata_dir = \"data\"", "2:12", "an absolute path", "/var/lib/afferent"),
        of("a pattern that breaks the grammar", "[interests]\npatterns = [\"a..b\"]", "2:13", "segments are words", "deployment.*"),
        of("a URL of something else", "[bus]\nurl = \"http://h\"", "2:7", "redis://", "redis://127.0.0.1:6379"),
        of("one stream for both ways", "[bus]\nstream = \"x\"\noutbox = \"x\"", "1:2", "published again", "two names"),
        of("a rate without its unit", "[limits]\nper_source = \"50\"", "2:14", "50/s burst 200", "per_source = "),
        of("a span that is none", "[journal]\nkeep = \"a week\"", "2:8", "`7d`", "keep = "),
        of("a size without its unit", "[journal]\nbytes = \"1 potato\"", "2:9", "512MiB", "bytes = "),
        of("an id that was mistyped", &format!("[trust]\nmute = [\"{}\"]", ID.replace("25n", "35n")), "2:9", "checksum", "mute = "),
        of("a peer without its address", "[[peers]]\nalias = \"x\"", "1:1", "every one has it", "address = "),
        of("a peer without its id", "[[peers]]\naddress = \"mesh://cedar.example:7443\"", "2:11", "the id is missing", "mesh://<id>@"),
        of("a peer twice", &format!("[[peers]]\naddress = \"{ID}@a.b\"\n[[peers]]\naddress = \"{ID}@c.d\""), "3:1", "stands here once", "leave one"),
        of("what comes later", "[discovery]\nlan = true", "2:7", "only", "lan = false"),
    ]
}

#[test]
fn every_kind_of_mistake_has_its_place_its_remedy_and_exit_code_78() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("afferent.toml");
    let run = |args: &[&str]| {
        let command = binary().args(args).arg("--config").arg(&file).env("XDG_DATA_HOME", dir.path()).output();
        command.expect("the command runs")
    };
    assert!(every_kind().len() >= 20);
    for (name, wrong, place, why, next) in every_kind() {
        std::fs::write(&file, &wrong).expect("a configuration");
        let output = run(&["config", "check"]);
        let message = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(78), 0), "{name}: {message}");
        assert!(message.contains(&format!("{}:{place}\n", file.display())), "{name}: {message}");
        assert!(message.contains('^') && message.contains(why) && message.contains("(AF01"), "{name}: {message}");
        let remedy = message.rsplit("next: ").next().expect("a remedy");
        assert!(remedy.contains(next), "{name}: {message}");
        for args in [&["run"][..], &["run", "--check"], &["config", "show"], &["id"]] {
            assert_eq!(run(args).status.code(), Some(78), "{name}: {args:?}");
        }
        let json: Value = serde_json::from_slice(&run(&["config", "check", "--json"]).stdout).expect("JSON");
        let line = place.split(':').next().expect("a line").parse::<u64>().expect("a number");
        assert_eq!((&json["good"], json["mistakes"][0]["line"].as_u64()), (&Value::Bool(false), Some(line)), "{name}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 1, "nothing is made");
}

/// SIGHUP, and the line of the log that answers it.
pub(crate) fn reload(daemon: &Daemon) -> String {
    let lines =
        |log: &str| log.lines().filter(|line| line.contains("configuration")).map(str::to_owned).collect::<Vec<_>>();
    let before = lines(&daemon.log()).len();
    signal(daemon.pid(), "HUP");
    eventually("the reload is answered", PATIENCE, || lines(&daemon.log()).get(before).cloned())
}

#[test]
fn a_running_daemon_is_not_harmed_by_any_of_them() {
    let a = Daemon::running("a", &["x.*"], "", "");
    let good = std::fs::read_to_string(a.config()).expect("a configuration");
    let socket = a.socket();
    for (name, wrong, place, ..) in every_kind() {
        std::fs::write(a.config(), &wrong).expect("a configuration");
        let line = reload(&a);
        assert!(
            line.contains("the running one stays") && line.contains(&format!("afferent.toml:{place}: ")),
            "{name}: {line}"
        );
        assert!(line.contains("next: "), "{name}: {line}");
    }
    let output = binary().args(["status", "--json", "--socket"]).arg(&socket).output().expect("runs");
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("the configuration was not read again") && warnings.contains(":2:7: "), "{warnings}");
    assert_eq!(status["name"], "a");
    // Where the daemon answers is told by a file that is wrong elsewhere.
    std::fs::write(a.config(), good.replace("[bus]", "[bus]\nmaxlne = 5")).expect("a configuration");
    assert_eq!(a.json(&["status"])["name"], "a");
    a.publish("x.y", "0");

    std::fs::write(a.config(), &good).expect("a configuration");
    assert!(reload(&a).contains("is in force"));
    assert!(!a.json(&["status"])["warnings"].to_string().contains("configuration"));
    a.publish("x.y", "1");
}

#[test]
fn what_can_be_changed_at_once_is_and_the_rest_is_named() {
    let a = Daemon::running("a", &["x.*"], "", "");
    let b = Daemon::running("b", &[], "", "");
    let before = std::fs::read_to_string(a.config()).expect("a configuration");
    let changed = before
        .replace("name = \"a\"", "name = \"ash\"\naddresses = [\"127.0.0.1:1\", \"127.0.0.1:2\"]")
        .replace("[\"x.*\"]", "[\"y.*\", \"z.*\"]")
        .replace("20000/s burst 40000", "7/s burst 9");
    let peer = format!("[[peers]]\naddress = \"{}\"\nalias = \"bee\"\n", b.address());
    std::fs::write(a.config(), format!("{changed}{peer}")).expect("a configuration");
    assert!(reload(&a).contains("is in force"));
    let status = a.json(&["status"]);
    assert_eq!((&status["name"], status["addresses"].as_array().map(Vec::len)), (&"ash".into(), Some(2)));
    assert_eq!(a.json(&["interests"])["patterns"], serde_json::json!(["y.*", "z.*"]));
    a.wait_connected(&b);
    assert_eq!(a.json(&["peers"])["peers"][0]["alias"], "bee");
    eventually("the peer has the new record", PATIENCE, || {
        let peers = b.json(&["interests"])["peers"].clone();
        (peers[0]["patterns"] == serde_json::json!(["y.*", "z.*"])).then_some(())
    });

    let journal = "[journal]\nkeep = \"2d\"\n";
    let moved = changed.replace("profile = \"loopback\"", "profile = \"private\"");
    std::fs::write(a.config(), format!("{moved}{journal}{peer}")).expect("a configuration");
    let line = reload(&a);
    assert!(line.contains("a restart is needed for changes of journal.keep, node.profile"), "{line}");
    let warnings = a.json(&["status"])["warnings"].to_string();
    assert!(warnings.contains("a restart is needed for changes of journal.keep, node.profile"), "{warnings}");

    std::fs::write(a.config(), format!("{changed}{peer}")).expect("a configuration");
    assert!(reload(&a).contains("is in force"), "put back, nothing waits any more");
}

#[test]
fn a_source_muted_by_a_reload_is_heard_no_more() {
    let a = Daemon::running("a", &["x.*"], "", "");
    let b = Daemon::running("b", &[], "", "");
    a.befriend(&b);
    b.wait_connected(&a);
    b.publish("x.one", "1");
    eventually("the first arrives", PATIENCE, || (a.journal_events() == 1).then_some(()));
    let before = std::fs::read_to_string(a.config()).expect("a configuration");
    std::fs::write(a.config(), format!("{before}[trust]\nmute = [\"{}\"]\n", b.id())).expect("a configuration");
    assert!(reload(&a).contains("is in force"));
    b.publish("x.two", "2");
    eventually("the second is refused", PATIENCE, || b.log().contains("refused an event for good").then_some(()));
    assert_eq!(a.journal_events(), 1);
    std::fs::write(a.config(), &before).expect("a configuration");
    assert!(reload(&a).contains("is in force"));
    b.publish("x.three", "3");
    eventually("the third arrives", Duration::from_secs(30), || (a.journal_events() == 2).then_some(()));
}

#[test]
fn nothing_that_is_printed_is_coloured_and_a_closed_pipe_is_silent() {
    for args in [
        &["--help"][..],
        &["config", "show", "--origin"],
        &["man"],
        &["completions", "fish"],
        &["explain"],
        &["nonsense"],
        &["run", "--print-limits"],
    ] {
        let output = binary().args(args).env("CLICOLOR_FORCE", "1").env("TERM", "xterm").output().expect("runs");
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{args:?}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = binary().args(args).stdout(writer).output().expect("runs");
        if args != ["nonsense"] {
            assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{args:?}");
        }
    }
}
