//! A real BIND in the foreground, with zones in a temporary directory.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{PATIENCE, eventually, free_port};

/// `named` on 127.0.0.1; it ends with this.
pub(crate) struct Named {
    dir: TempDir,
    port: u16,
    child: Child,
}

impl Named {
    /// Serves these zones, each a name and the lines after its SOA; a zone without lines is one whose
    /// file is missing, which BIND answers with SERVFAIL. All others it refuses.
    pub(crate) fn start(zones: &[(&str, String)]) -> Named {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let mut config = format!(
            "options {{ directory \"{}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
             recursion no; dnssec-validation no; notify no; allow-transfer {{ none; }};\n\
             pid-file \"{}\"; session-keyfile \"{}\"; }};\ncontrols {{ }};\n",
            dir.path().display(),
            at("named.pid"),
            at("session.key"),
        );
        for (zone, lines) in zones {
            config += &format!("zone \"{zone}\" {{ type primary; file \"{zone}.zone\"; }};\n");
            if !lines.is_empty() {
                let text = format!(
                    "$TTL 60\n$ORIGIN {zone}.\n@ SOA ns.{zone}. admin.{zone}. 1 3600 600 86400 60\n@ NS ns.{zone}.\n\
                     ns A 127.0.0.1\n{lines}\n"
                );
                std::fs::write(at(&format!("{zone}.zone")), text).expect("a zone file");
            }
        }
        std::fs::write(at("named.conf"), config).expect("a configuration");
        let log = std::fs::File::create(at("log")).expect("a log file");
        let child = Command::new(program())
            .args(["-g", "-n", "1", "-c", &at("named.conf")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let mut named = Named { dir, port, child: child.expect("named is missing: run tests/run") };
        eventually("named has loaded its zones", PATIENCE, || {
            let ended = named.child.try_wait().expect("a child");
            assert!(ended.is_none(), "named ended:\n{}", named.log());
            named.log().lines().any(|line| line.ends_with(" running")).then_some(())
        });
        named
    }

    pub(crate) fn at(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian keeps it out of the PATH of ordinary users.
fn program() -> PathBuf {
    let here = ["/usr/sbin/named", "/usr/local/sbin/named"].map(PathBuf::from).into_iter().find(|path| path.exists());
    here.unwrap_or_else(|| "named".into())
}
