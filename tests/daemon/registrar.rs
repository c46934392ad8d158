//! `afferent registrar` as a process, with a real name server and a daemon that wants to be listed.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};

use afferent::core::registrar::{Book, Entry};
use afferent::net::registrar::{NameServer, Tsig};
use afferent::time::Wall;
use afferent::wire::{Keypair, Network, NodeId};
use tempfile::TempDir;

use super::support::{Daemon, PATIENCE, binary, eventually, free_port, signal, text};

#[path = "../../src/net/tests/named.rs"]
mod named;
use named::{Named, ZONE};

/// A registrar: its configuration, and the process while it runs.
struct Office {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Office {
    fn running(named: &Named) -> Office {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let tsig = dir.path().join("registrar.tsig");
        std::fs::write(&tsig, Named::tsig()).expect("a key file");
        std::fs::set_permissions(&tsig, std::fs::Permissions::from_mode(0o640)).expect("our file");
        let config = format!(
            "[node]\ndata_dir = \"{data}\"\nprofile = \"loopback\"\n\
             [registrar]\nzone = \"{ZONE}\"\nserver = \"{server}\"\ntsig = \"{tsig}\"\n\
             listen = [\"127.0.0.1:{port}\"]\nwork_bits = 8\n",
            data = dir.path().join("data").display(),
            server = named.at(),
            tsig = tsig.display(),
        );
        std::fs::write(dir.path().join("registrar.toml"), config).expect("a configuration");
        let mut office = Office { dir, port, child: None };
        office.start();
        office
    }

    fn start(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).expect("a log file");
        let mut command = binary();
        command.args(["registrar", "--config"]).arg(self.dir.path().join("registrar.toml"));
        let child = command.stderr(log).stdout(Stdio::null()).stdin(Stdio::null()).spawn();
        self.child = Some(child.expect("the registrar starts"));
        eventually("the registrar is ready", PATIENCE, || self.log().contains("\"ready\"").then_some(()));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a running process");
            child.wait().expect("a killed process");
        }
    }

    fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("a running registrar");
        signal(child.id(), "TERM");
        eventually("the registrar ends", PATIENCE, || child.try_wait().expect("a child")).code()
    }

    fn key(&self) -> Keypair {
        let pem = std::fs::read_to_string(self.dir.path().join("data/registrar.key")).expect("made at the start");
        Keypair::from_pkcs8_pem(&pem).expect("a key")
    }

    fn origin(&self) -> String {
        format!("mesh://{}@127.0.0.1:{}", self.key().id(), self.port)
    }

    /// Who stands in the zone.
    fn listed(&self, named: &Named) -> BTreeMap<NodeId, Entry> {
        let zone = ZONE.parse().expect("a zone");
        let tsig = Tsig::parse(&Named::tsig()).expect("a key");
        let server = NameServer::new(named.at(), &zone, tsig).expect("a client");
        let book = Book { zone, network: Network::default(), key: self.key(), fellows: Vec::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let records = runtime.block_on(server.read(&book)).expect("the zone");
        book.read(&records, Wall(i64::MAX)).entries().clone()
    }
}

impl Drop for Office {
    #[expect(clippy::print_stderr, reason = "a failed test shows the registrar's side of it")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- log of the registrar\n{}", self.log());
        }
    }
}

#[test]
fn a_daemon_is_listed_and_stays_so_when_the_registrar_is_killed() {
    let named = Named::start();
    let mut office = Office::running(&named);
    let more = format!("[discovery]\nregistrar = \"{}\"", office.origin());
    let birch = Daemon::running("birch", &["a.*"], "", &more);
    let id: NodeId = birch.id().parse().expect("an id");
    let entry =
        eventually(&format!("birch is listed\n{}", birch.log()), PATIENCE, || office.listed(&named).get(&id).copied());
    assert_eq!(entry.at.to_string(), format!("127.0.0.1:{}", birch.port));
    eventually("it knows", PATIENCE, || birch.log().contains("listed by the registrar").then_some(()));

    office.kill();
    office.start();
    // Its first round begins at once, and finds birch by the zone alone.
    eventually(&format!("a round\n{}", office.log()), PATIENCE, || office.log().contains("round done").then_some(()));
    assert!(office.listed(&named).contains_key(&id));
    assert!(office.log().contains("\"visited\":1"), "{}", office.log());
    assert_eq!(office.stop(), Some(0));
}

#[test]
fn what_a_registrar_lacks_is_said_before_it_starts() {
    let lacks = |set: &[&str]| {
        let mut command = binary();
        command.arg("registrar").args(set.iter().flat_map(|set| ["--set", set]));
        let output = command.env("XDG_DATA_HOME", "/nonexistent").output().expect("the command runs");
        (output.status.code(), text(&output.stderr))
    };
    let (zone, server) = ("registrar.zone=mesh.example", "registrar.server=127.0.0.1:53");
    let tsig = "registrar.tsig=/nonexistent/registrar.tsig";
    for (set, word) in [
        (&[][..], "`registrar.zone` is missing"),
        (&[zone], "`registrar.server` is missing"),
        (&[zone, server], "`registrar.tsig` is missing"),
        (&[zone, server, tsig, "registrar.certificate=/x.pem"], "`registrar.certificate_key` is missing"),
        (&["registrar.zone=127.0.0.1"], "`registrar.zone` cannot be used"),
        (&["registrar.places=7"], "from 8 to 100"),
        (&["discovery.registrar=registrar.example"], "https://host"),
    ] {
        let (code, said) = lacks(set);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(word) && said.contains("next: "), "{said}");
    }
}
