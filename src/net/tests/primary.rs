//! A real primary name server in the foreground, with zones in a temporary directory: BIND, or Knot with
//! `NAMESERVER=knot`. Used by tests of the processes too (`tests/daemon/support.rs` includes this file).

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than it ever takes to start; reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// The zone that a registrar writes to.
pub(crate) const ZONE: &str = "mesh.test";
const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Which program serves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Software {
    Bind,
    Knot,
}

impl Software {
    fn chosen() -> Software {
        match std::env::var("NAMESERVER").as_deref() {
            Err(_) | Ok("bind") => Software::Bind,
            Ok("knot") => Software::Knot,
            Ok(other) => panic!("NAMESERVER is bind or knot, and not {other}"),
        }
    }

    /// Debian keeps both out of the PATH of ordinary users.
    fn program(self) -> PathBuf {
        let name = match self {
            Software::Bind => "named",
            Software::Knot => "knotd",
        };
        let places = ["/usr/sbin", "/usr/local/sbin"].map(|place| Path::new(place).join(name));
        places.into_iter().find(|path| path.exists()).unwrap_or_else(|| name.into())
    }

    /// Does the log say that every zone is loaded?
    fn is_ready(self, log: &str) -> bool {
        log.lines().any(|line| match self {
            Software::Bind => line.ends_with(" running"),
            Software::Knot => line.contains("server started"),
        })
    }
}

/// A zone to be served.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    pub(crate) name: &'static str,
    /// What follows SOA and NS; `None` = its file is missing, and it is answered with SERVFAIL.
    pub(crate) lines: Option<String>,
    /// The key of [`Primary::tsig`] may write what a registrar writes.
    pub(crate) updates: bool,
    /// The same key may transfer it.
    pub(crate) transfers: bool,
}

impl Zone {
    /// One that stays as it is.
    pub(crate) fn written(name: &'static str, lines: String) -> Zone {
        Zone { name, lines: Some(lines), updates: false, transfers: false }
    }

    /// The one that a registrar writes to: [`ZONE`].
    pub(crate) fn of_registrar() -> Zone {
        Zone { updates: true, transfers: true, ..Zone::written(ZONE, String::new()) }
    }
}

/// A name server on 127.0.0.1; it ends with this.
pub(crate) struct Primary {
    dir: TempDir,
    port: u16,
    software: Software,
    child: Option<Child>,
}

impl Primary {
    /// Serves these zones and refuses all others.
    pub(crate) fn start(zones: &[Zone]) -> Primary {
        Primary::start_at(free_port(), zones)
    }

    /// The same at a port that is known beforehand.
    pub(crate) fn start_at(port: u16, zones: &[Zone]) -> Primary {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let software = Software::chosen();
        for Zone { name, lines, .. } in zones {
            if let Some(lines) = lines {
                let soa = format!("@ SOA ns.{name}. admin.{name}. 1 3600 600 86400 60");
                let text = format!("$TTL 60\n$ORIGIN {name}.\n{soa}\n@ NS ns.{name}.\nns A 127.0.0.1\n{lines}\n");
                fs::write(dir.path().join(format!("{name}.zone")), text).expect("a zone file");
            }
        }
        let config = match software {
            Software::Bind => for_bind(dir.path(), port, zones),
            Software::Knot => for_knot(dir.path(), port, zones),
        };
        fs::write(dir.path().join("server.conf"), config).expect("a configuration");
        let mut primary = Primary { dir, port, software, child: None };
        primary.run();
        primary
    }

    /// Starts it, at first and after [`Primary::kill`].
    pub(crate) fn run(&mut self) {
        let log = self.dir.path().join("log");
        let mut command = Command::new(self.software.program());
        if self.software == Software::Bind {
            command.args(["-g", "-n", "1"]);
        }
        let child = command
            .arg("-c")
            .arg(self.dir.path().join("server.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log file"))
            .spawn();
        let child = self.child.insert(child.expect("named or knotd is missing: run tests/run"));
        let end = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if self.software.is_ready(&said) {
                return;
            }
            assert!(child.try_wait().expect("a child").is_none() && Instant::now() < end, "name server:\n{said}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a running process");
            child.wait().expect("a killed process");
        }
    }

    pub(crate) fn at(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The key that it knows, as `tsig-keygen` prints it.
    pub(crate) fn tsig() -> String {
        format!("key \"reg\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{SECRET}\";\n}};\n")
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One that was free a moment ago for datagrams and connections both.
fn free_port() -> u16 {
    let end = Instant::now() + PATIENCE;
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let at = socket.local_addr().expect("an address");
        if TcpListener::bind(at).is_ok() {
            return at.port();
        }
        assert!(Instant::now() < end, "no port is free for both");
    }
}

fn for_bind(dir: &Path, port: u16, zones: &[Zone]) -> String {
    let dir = dir.display();
    let mut config = Primary::tsig();
    let _ = writeln!(
        config,
        "options {{ directory \"{dir}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
         recursion no; dnssec-validation no; notify no; allow-transfer {{ none; }};\n\
         pid-file \"{dir}/pid\"; session-keyfile \"{dir}/session.key\"; }};\ncontrols {{ }};"
    );
    for Zone { name, updates, transfers, .. } in zones {
        let _ = write!(config, "zone \"{name}\" {{ type primary; file \"{name}.zone\";");
        if *updates {
            let _ = write!(
                config,
                "update-policy {{ grant reg subdomain _tcp.{name}. SRV TXT; grant reg subdomain n.{name}. TXT A AAAA; }};"
            );
        }
        if *transfers {
            config += "allow-transfer { key \"reg\"; };";
        }
        config += "};\n";
    }
    config
}

fn for_knot(dir: &Path, port: u16, zones: &[Zone]) -> String {
    let dir = dir.display();
    let mut config = format!(
        "server:\n    listen: 127.0.0.1@{port}\n    rundir: \"{dir}\"\n    udp-workers: 1\n    tcp-workers: 1\n\
         \x20   background-workers: 1\nlog:\n  - target: stderr\n    any: info\ndatabase:\n    storage: \"{dir}\"\n\
         key:\n  - id: reg\n    algorithm: hmac-sha256\n    secret: {SECRET}\nacl:\n\
         \x20 - id: reads\n    key: reg\n    action: transfer\n"
    );
    for Zone { name, .. } in zones.iter().filter(|zone| zone.updates) {
        let _ = writeln!(
            config,
            "  - id: writes-{name}\n    key: reg\n    action: update\n    update-type: [ SRV, TXT, A, AAAA ]\n    \
             update-owner: name\n    update-owner-match: sub-or-equal\n    \
             update-owner-name: [ _tcp.{name}., n.{name}. ]"
        );
    }
    config += "zone:\n";
    for Zone { name, updates, transfers, .. } in zones {
        let _ = writeln!(config, "  - domain: {name}\n    file: \"{dir}/{name}.zone\"");
        let writes = format!("writes-{name}");
        let acl = [(*transfers, "reads"), (*updates, writes.as_str())];
        let acl: Vec<&str> = acl.into_iter().filter(|(holds, _)| *holds).map(|(_, id)| id).collect();
        // An empty list is an error.
        if !acl.is_empty() {
            let _ = writeln!(config, "    acl: [ {} ]", acl.join(", "));
        }
    }
    config
}
