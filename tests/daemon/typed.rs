//! Peers that a person types in: how an address is written, whom one trusts by it, and what becomes of a name.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::support::{Daemon, PATIENCE, eventually, text};

/// `afferent peers add ARGS`: exit code, results, everything else.
fn add(to: &Daemon, args: &[&str]) -> (Option<i32>, String, String) {
    let output = to.afferent(&[&["peers", "add"], args].concat());
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_form_of_an_address_leads_to_the_peer() {
    let a = Daemon::running("a", &[], "", "");
    let b = Daemon::running("b", &[], "", "");
    let mut six = Daemon::housed("six", "[::1]", &[], "");
    six.start();
    let (id, port, id6, port6) = (b.id(), b.port, six.id(), six.port);
    for (form, id) in [
        (format!("mesh://{id}@127.0.0.1:{port}"), &id),
        (format!("{id}@127.0.0.1:{port}"), &id),
        (format!("https://127.0.0.1:{port}/#{id}"), &id),
        (format!("mesh://{id}@localhost:{port}"), &id),
        (format!("localhost:{port}"), &id),
        (format!("mesh://127.0.0.1:{port}"), &id),
        (format!("mesh://{id6}@[::1]:{port6}"), &id6),
        (format!("[::1]:{port6}"), &id6),
    ] {
        let (code, said, told) = add(&a, &[&form, "--trust-first-use"]);
        assert_eq!(code, Some(0), "{form}: {told}");
        assert!(said.contains("is connected"), "{form}: {said}");
        assert_eq!(a.state_of(id).as_deref(), Some("connected"), "{form}");
        assert!(a.afferent(&["peers", "rm", id]).status.success());
        eventually("forgotten", PATIENCE, || a.peer(id).is_none_or(|peer| peer["origin"] != "manual").then_some(()));
    }
    let (code, _, told) = add(&a, &[&format!("mesh://{id}")]);
    assert_eq!(code, Some(2));
    assert!(told.contains("mesh://ID@HOST:PORT"), "{told}");
    for own in [format!("127.0.0.1:{}", a.port), a.address()] {
        let (code, _, told) = add(&a, &[&own, "--trust-first-use"]);
        assert_eq!(code, Some(5), "{told}");
        assert!(told.contains("this very node") && told.contains("on the other machine"), "{told}");
    }
}

#[test]
fn without_an_id_the_one_that_is_found_is_shown_and_asked_about() {
    let a = Daemon::running("a", &[], "", "");
    let b = Daemon::running("b", &[], "", "");
    let (id, place) = (b.id(), format!("127.0.0.1:{}", b.port));
    let (code, said, told) = add(&a, &[&place]);
    assert_eq!((code, said.as_str()), (Some(5), ""), "nobody is there to be asked");
    assert!(told.contains(&format!("afferent peers add mesh://{id}@{place}")), "{told}");

    let at_a_terminal = |answer: &str| {
        let line = format!("{} peers add {place} --config {}", env!("CARGO_BIN_EXE_afferent"), a.config().display());
        let mut child = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script (bsdutils) is missing");
        writeln!(child.stdin.as_mut().expect("a pipe"), "{answer}").expect("written");
        let output = child.wait_with_output().expect("ended");
        (output.status.code(), text(&output.stdout))
    };
    let (code, told) = at_a_terminal("n");
    assert_eq!(code, Some(5), "{told}");
    assert!(told.contains(&id) && told.contains("[y/N]") && told.contains("nothing was changed"), "{told}");
    assert_eq!(a.peer(&id), None);
    let (code, told) = at_a_terminal("y");
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(a.peer(&id).expect("added")["origin"], "manual");
}

#[test]
fn who_was_removed_is_not_called_again_not_even_after_a_restart() {
    let mut a = Daemon::running("a", &[], "", "");
    let mut b = Daemon::running("b", &[], "", "");
    a.befriend(&b);
    let id = b.id();
    assert_eq!(b.stop(), Some(0));
    let removed = a.afferent(&["peers", "rm", &id]);
    assert!(removed.status.success());
    assert!(text(&removed.stderr).contains("afferent peers block"), "what helps should it call by itself");
    assert_eq!(a.peer(&id), None);
    // Somebody else is there now, who notices every call.
    let door = TcpListener::bind(("127.0.0.1", b.port)).expect("its port is free");
    door.set_nonblocking(true).expect("a socket");
    a.kill();
    a.start();
    assert_eq!(a.peer(&id), None);
    // Whoever is called at the start has been called by then.
    let c = Daemon::running("c", &[], "", "");
    a.befriend(&c);
    assert!(door.accept().is_err(), "nobody calls");
    assert!(a.afferent(&["peers", "add", "--no-wait", &format!("mesh://{id}@127.0.0.1:{}", b.port)]).status.success());
    eventually("the door is seen", PATIENCE, || door.accept().ok());
}

#[test]
fn a_friend_whose_name_leads_elsewhere_now_is_followed() {
    let hosts = tempfile::NamedTempFile::new().expect("a file");
    let lead_to = |host: &str| std::fs::write(hosts.path(), format!("{host} moving.test\n")).expect("a file");
    let mut a = Daemon::housed("a", "127.95.0.1", &[], "");
    a.spawn_seeing(hosts.path());
    assert_eq!(a.afferent(&["wait"]).status.code(), Some(0), "mounts take root: {}", a.log());
    let mut here = Daemon::housed("here", "127.96.0.1", &["a.*"], "");
    here.start();
    let port = here.port;
    lead_to("127.96.0.1");
    let (code, _, told) = add(&a, &[&format!("mesh://{}@moving.test:{port}", here.id())]);
    assert_eq!(code, Some(0), "{told}");

    // It moves with its key alone: it knows nobody whom it could tell.
    let mut there = Daemon::housed("there", "127.97.0.1", &["a.*"], "");
    there.port = port;
    let text = std::fs::read_to_string(there.config()).expect("a configuration");
    let moved = text.lines().map(|line| match line.starts_with("listen = ") {
        true => format!("listen = [\"127.97.0.1:{port}\"]"),
        false => line.to_owned(),
    });
    std::fs::write(there.config(), moved.collect::<Vec<_>>().join("\n")).expect("a configuration");
    std::fs::create_dir(there.data()).expect("a directory");
    std::fs::copy(here.data().join("node.key"), there.data().join("node.key")).expect("a key");
    here.kill();
    // Without anything to say it would notice by its next probe, up to a quarter of a minute later.
    let digest = a.publish("a.moved", "1");
    lead_to("127.97.0.1");
    there.start();
    there.wait_connected(&a);
    a.wait_connected(&there);
    assert_eq!(there.digests(1), [digest]);
}
