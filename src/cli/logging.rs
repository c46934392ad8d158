//! The log: to standard error, for people on a terminal, JSON for everything else.
//!
//! Whatever a line holds, it stays one line and nothing in it is obeyed by a terminal: the last thing
//! before standard error escapes every control character, whoever wrote it into the line.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::arguments::Global;
use super::journald::{self, Priority};
use super::output::{plain, plain_json};
use crate::config::LogFormat;

/// Starts logging for the rest of the process. `AFFERENT_LOG` (such as `debug` or
/// `info,afferent::net=trace`) has the last word about the level, `-q` and `-v` the first.
pub(super) fn start(global: &Global) {
    start_as(global, LogFormat::Auto);
}

/// The same, as the configuration wants its lines.
pub(super) fn start_as(global: &Global, format: LogFormat) {
    let asked = std::env::var("AFFERENT_LOG").ok();
    let filter = asked.and_then(|asked| EnvFilter::try_new(asked).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(level(global)));
    // What systemd says to those it starts.
    let is_service = ["JOURNAL_STREAM", "INVOCATION_ID"].iter().any(|name| std::env::var_os(name).is_some());
    let is_json = is_json(format, io::stderr().is_terminal(), is_service);
    let lines = Lines { is_json, has_priority: journald::is_read_by_journal(), sink: io::stderr };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).with_ansi(false);
    // The second start in one process (a test) keeps the first one's choice.
    let _ = if is_json { subscriber.json().flatten_event(true).try_init() } else { subscriber.try_init() };
}

/// Our own voice louder than that of the libraries: their debug lines are for their authors.
fn level(global: &Global) -> &'static str {
    match (global.quiet, global.verbose) {
        (true, 0) => "error,hickory=off",
        // h2 warns of every attacker it closes, hickory of every odd datagram: strangers must not write our log.
        (_, 0) => "warn,h2=error,hickory=off,afferent=info",
        (_, 1) => "info,h2=error,hickory=off,afferent=debug",
        _ => "debug,afferent=trace",
    }
}

fn is_json(format: LogFormat, is_terminal: bool, is_service: bool) -> bool {
    match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        // A unit may be given a terminal, and still writes for a program.
        LogFormat::Auto => is_service || !is_terminal,
    }
}

/// Makes each line harmless on its way out.
struct Lines<S> {
    is_json: bool,
    /// The journal reads them, and wants to know how bad each is.
    has_priority: bool,
    sink: S,
}

/// One line.
struct LineOut<W> {
    is_json: bool,
    prefix: &'static str,
    sink: W,
}

impl<'a, S: Fn() -> W, W: Write> MakeWriter<'a> for Lines<S> {
    type Writer = LineOut<W>;

    fn make_writer(&'a self) -> LineOut<W> {
        LineOut { is_json: self.is_json, prefix: "", sink: (self.sink)() }
    }

    fn make_writer_for(&'a self, about: &tracing::Metadata<'_>) -> LineOut<W> {
        let prefix = if self.has_priority { Priority::from(about.level()).prefix() } else { "" };
        LineOut { prefix, ..self.make_writer() }
    }
}

impl<W: Write> Write for LineOut<W> {
    /// Is given a whole line at once, with its end.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
        let text = if self.is_json { plain_json(&text) } else { plain(&text) };
        self.sink.write_all(format!("{}{text}\n", self.prefix).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn flags_choose_the_level() {
        let of = |quiet, verbose| level(&Global { quiet, verbose, ..Global::default() });
        assert_eq!([of(false, 0), of(true, 0)], ["warn,h2=error,hickory=off,afferent=info", "error,hickory=off"]);
        assert_eq!([of(false, 1), of(false, 3)], ["info,h2=error,hickory=off,afferent=debug", "debug,afferent=trace"]);
    }

    #[test]
    fn programs_read_json_and_people_on_a_terminal_text_unless_told_otherwise() {
        use LogFormat::*;
        assert!(is_json(Auto, true, true) && is_json(Auto, false, false) && !is_json(Auto, true, false));
        assert!(is_json(Json, true, false) && !is_json(Text, false, true));
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of a hostile name in each place of a line.
    fn written(is_json: bool, has_priority: bool) -> String {
        let kept = Kept::default();
        let sink = kept.clone();
        let lines = Lines { is_json, has_priority, sink: move || sink.clone() };
        let subscriber = tracing_subscriber::fmt().with_writer(lines).with_ansi(false);
        let hostile = HOSTILE;
        let say = || {
            tracing::info!(shown = %hostile, debugged = ?hostile, "the peer says: {hostile}");
            tracing::error!("second");
        };
        if is_json {
            tracing::subscriber::with_default(subscriber.json().flatten_event(true).finish(), say);
        } else {
            tracing::subscriber::with_default(subscriber.finish(), say);
        }
        let bytes = kept.0.lock().expect("unpoisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    const HOSTILE: &str = "x\u{1b}[31m\r\n{\"level\":\"ERROR\"}\n\u{7}\u{7f}\u{9b}2J\u{202e}y\u{2028}";

    #[test]
    fn a_hostile_name_neither_ends_a_line_nor_moves_a_cursor() {
        for is_json in [false, true] {
            let text = written(is_json, false);
            assert_eq!(text.lines().count(), 2, "{text:?}");
            let is_harmless = |letter: char| letter == '\n' || plain(&letter.to_string()) == letter.to_string();
            assert!(text.chars().all(is_harmless), "{text:?}");
            assert!(text.contains("second"));
        }
        let line = written(true, false);
        let line: serde_json::Value = serde_json::from_str(line.lines().next().expect("a line")).expect("JSON");
        assert_eq!(line["shown"], HOSTILE, "programs read what was said");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn the_journal_is_told_how_bad_each_line_is_and_nobody_else() {
        for is_json in [false, true] {
            let (plain, marked) = (written(is_json, false), written(is_json, true));
            let prefixes = marked.lines().map(|line| &line[..3]).collect::<Vec<_>>();
            assert_eq!(prefixes, ["<6>", "<3>"], "{marked}");
            assert!(!plain.contains("<3>") && !plain.contains("<6>"), "{plain}");
            let rest = marked.lines().map(|line| &line[3..]);
            assert!(!is_json || rest.clone().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
            assert_eq!(rest.count(), 2, "the hostile one is one line");
        }
    }
}
