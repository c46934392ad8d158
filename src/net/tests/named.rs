//! A real BIND in the foreground, whose zone takes signed updates. Used by tests of the processes too.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than it ever takes to start; reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const ZONE: &str = "mesh.test";
const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// `named` on 127.0.0.1 with one zone; it ends with this.
pub(super) struct Named {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Named {
    pub(super) fn start() -> Named {
        Named::that("allow-transfer { key \"reg\"; };")
    }

    /// The same with other words about transfers.
    pub(super) fn that(transfers: &str) -> Named {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "key \"reg\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
             options {{ directory \"{}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
             recursion no; dnssec-validation no; notify no; pid-file \"{}\"; session-keyfile \"{}\"; }};\n\
             controls {{ }};\n\
             zone \"{ZONE}\" {{ type primary; file \"zone\"; {transfers}\n\
             update-policy {{ grant reg subdomain _tcp.{ZONE}. SRV TXT; grant reg subdomain n.{ZONE}. TXT A AAAA; }};\n\
             }};\n",
            dir.path().display(),
            at("named.pid"),
            at("session.key"),
        );
        let zone = format!("$TTL 60\n@ SOA ns.{ZONE}. admin.{ZONE}. 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n");
        fs::write(at("named.conf"), config).expect("a configuration");
        fs::write(at("zone"), zone).expect("a zone file");
        let mut named = Named { dir, port, child: None };
        named.run();
        named
    }

    pub(super) fn run(&mut self) {
        let log = self.dir.path().join("log");
        let child = Command::new(program())
            .args(["-g", "-n", "1", "-c"])
            .arg(self.dir.path().join("named.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log file"))
            .spawn();
        let child = self.child.insert(child.expect("named is missing: run tests/run"));
        let end = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if said.lines().any(|line| line.ends_with(" running")) {
                return;
            }
            assert!(child.try_wait().expect("a child").is_none() && Instant::now() < end, "named:\n{said}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a running process");
            child.wait().expect("a killed process");
        }
    }

    pub(super) fn at(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The key that it knows, as `tsig-keygen` prints it.
    pub(super) fn tsig() -> String {
        format!("key \"reg\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{SECRET}\";\n}};\n")
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Debian keeps it out of the PATH of ordinary users.
fn program() -> PathBuf {
    let here = ["/usr/sbin/named", "/usr/local/sbin/named"].map(PathBuf::from).into_iter().find(|path| path.exists());
    here.unwrap_or_else(|| "named".into())
}
