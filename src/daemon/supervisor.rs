//! What the service manager is told, by the protocol of `sd_notify(3)`. Where there is none, nothing is
//! said; one that does not listen is not waited for, since the driver itself speaks here.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// Without a watchdog a sign of life is looked for this often all the same.
const BEAT: Duration = Duration::from_secs(20);
/// A watchdog of less than three of these is a mistake that must not make us busy.
const BEAT_LEAST: Duration = Duration::from_millis(100);

/// The service manager that started us, if one did. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Supervisor {
    socket: Option<Arc<(UnixDatagram, SocketAddr)>>,
    beat: Duration,
}

impl Supervisor {
    /// As the environment of this process says.
    pub(super) fn of_process() -> Supervisor {
        Supervisor::of(|name| std::env::var_os(name), std::process::id())
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Supervisor {
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        // A watchdog may be meant for the process that started us.
        let is_ours = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(pid.into());
        let watchdog = number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0).map(Duration::from_micros);
        let socket = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()).and_then(|name| {
            open(&name).inspect_err(|error| tracing::warn!(%error, "the service manager cannot be told")).ok()
        });
        // A third: one sign of life may be late, or lost.
        let beat = watchdog.map_or(BEAT, |limit| (limit / 3).max(BEAT_LEAST));
        Supervisor { socket: socket.map(Arc::new), beat }
    }

    /// How often a sign of life is wanted.
    pub(super) fn beat(&self) -> Duration {
        self.beat
    }

    /// Events are taken from now on, by the configuration that is in force.
    pub(super) fn ready(&self) {
        self.say("READY=1\n");
    }

    /// The configuration is being read; [`Supervisor::ready`] follows.
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\n"));
    }

    /// On the way out.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=stopping\n");
    }

    /// A sign of life, and how things stand: one line of our own words.
    pub(super) fn alive(&self, status: &str) {
        self.say(&format!("WATCHDOG=1\nSTATUS={status}\n"));
    }

    fn say(&self, words: &str) {
        let Some((socket, address)) = self.socket.as_deref() else { return };
        if let Err(error) = socket.send_to_addr(words.as_bytes(), address) {
            tracing::debug!(%error, "the service manager cannot be told");
        }
    }
}

/// A path, or on Linux `@name` outside of the file system.
fn open(name: &OsString) -> io::Result<(UnixDatagram, SocketAddr)> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::ffi::OsStrExt as _;
        if let Some(name) = name.as_bytes().strip_prefix(b"@") {
            return Ok((socket, SocketAddr::from_abstract_name(name)?));
        }
    }
    Ok((socket, SocketAddr::from_pathname(name)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Supervisor {
        Supervisor::of(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()), 7)
    }

    #[test]
    fn a_third_of_the_watchdog_is_the_beat_when_it_is_meant_for_us() {
        let beat = |pairs: &[(&str, &str)]| of(pairs).beat().as_millis();
        assert_eq!(beat(&[("WATCHDOG_USEC", "60000000")]), 20_000);
        assert_eq!(beat(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "7")]), 10_000);
        assert_eq!(beat(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "8")]), BEAT.as_millis());
        assert_eq!(beat(&[("WATCHDOG_USEC", "0")]), BEAT.as_millis());
        assert_eq!(beat(&[("WATCHDOG_USEC", "1")]), BEAT_LEAST.as_millis());
    }

    #[test]
    fn who_does_not_listen_is_not_waited_for() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("notify");
        let listener = UnixDatagram::bind(&path).expect("a socket");
        let supervisor = of(&[("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))]);
        for _ in 0..10_000 {
            supervisor.alive("well");
        }
        let mut bytes = [0; 64];
        let length = listener.recv(&mut bytes).expect("the first");
        assert_eq!(&bytes[..length], b"WATCHDOG=1\nSTATUS=well\n");
        drop(listener);
        supervisor.stopping();
        of(&[]).ready();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_outside_of_the_file_system_is_found_too() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("afferent-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let listener = UnixDatagram::bind_addr(&address).expect("a socket");
        of(&[("NOTIFY_SOCKET", &format!("@{name}"))]).ready();
        let mut bytes = [0; 64];
        let length = listener.recv(&mut bytes).expect("a word");
        assert_eq!(&bytes[..length], b"READY=1\n");
    }
}
