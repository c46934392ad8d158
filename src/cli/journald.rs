//! Priorities for the systemd journal: a line that begins with `<3>` is an error there (sd-daemon(3)), so that
//! `journalctl -p err` finds it. Anybody else would read those three characters as text, so they are written
//! only where standard error leads to the journal: systemd says which stream that is (`$JOURNAL_STREAM`,
//! systemd.exec(5)), and a stream that was sent elsewhere since is another file.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;

/// How bad a line is, as syslog counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Priority {
    /// 3.
    Error,
    /// 4.
    Warning,
    /// 6.
    Info,
    /// 7.
    Debug,
}

impl Priority {
    /// What stands before the line.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Priority::Error => "<3>",
            Priority::Warning => "<4>",
            Priority::Info => "<6>",
            Priority::Debug => "<7>",
        }
    }
}

impl From<&tracing::Level> for Priority {
    fn from(level: &tracing::Level) -> Priority {
        match *level {
            tracing::Level::ERROR => Priority::Error,
            tracing::Level::WARN => Priority::Warning,
            tracing::Level::INFO => Priority::Info,
            _ => Priority::Debug,
        }
    }
}

/// Does standard error lead to the journal?
pub(super) fn is_read_by_journal() -> bool {
    leads_to(io::stderr(), std::env::var_os("JOURNAL_STREAM").as_deref())
}

/// Is this stream the one that is named, as `device:inode`?
fn leads_to(stream: impl AsFd, named: Option<&OsStr>) -> bool {
    let named = named.and_then(OsStr::to_str).and_then(|named| named.split_once(':'));
    let Some((device, inode)) = named else { return false };
    rustix::fs::fstat(stream).is_ok_and(|file| device == file.st_dev.to_string() && inode == file.st_ino.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn only_the_stream_that_systemd_names_is_the_journal() {
        let file = tempfile::tempfile().expect("a file");
        let about = file.metadata().expect("a file");
        let is = |named: &str| leads_to(&file, Some(OsStr::new(named)));
        assert!(is(&format!("{}:{}", about.dev(), about.ino())));
        assert!(!is(&format!("{}:{}", about.dev(), about.ino() + 1)), "it was sent elsewhere");
        assert!(!is("") && !is("8:") && !is("x:y") && !leads_to(&file, None));
    }
}
