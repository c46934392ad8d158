//! What a person meets on a terminal.

use crate::support::{Daemon, binary, text};

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
