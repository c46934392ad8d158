//! The one place that writes to standard output and standard error.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;

use tokio::io::Interest;
use tokio::net::unix::pipe;

use super::failure::Failure;
use super::journald::{self, Priority};

/// Where results and remarks go.
pub(super) struct Output {
    results: BufWriter<Box<dyn Write>>,
    remarks: Box<dyn Write>,
    is_json: bool,
    is_quiet: bool,
    /// Somebody looks at the results: what a terminal would obey is taken out of JSON too.
    is_terminal: bool,
    /// The journal reads the remarks, and wants to know how bad each is.
    is_for_journal: bool,
    /// Somebody looks at the remarks, and a line of progress may stand there.
    is_watched: bool,
}

impl Output {
    /// Standard output and standard error.
    pub(super) fn new(is_json: bool, is_quiet: bool) -> Output {
        Output {
            results: BufWriter::with_capacity(64 << 10, Box::new(io::stdout())),
            remarks: Box::new(io::stderr()),
            is_json,
            is_quiet,
            is_terminal: io::stdout().is_terminal(),
            is_for_journal: journald::is_read_by_journal(),
            is_watched: io::stderr().is_terminal(),
        }
    }

    /// Programs read the results.
    pub(super) fn is_json(&self) -> bool {
        self.is_json
    }

    /// One line of result of our own making; text that somebody else chose goes through [`plain`] first.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        self.results.write_all(text.as_bytes())?;
        self.results.write_all(b"\n")
    }

    /// One line of JSON that holds text of others: byte for byte into a pipe, with escapes that mean
    /// the same on a terminal.
    pub(super) fn json(&mut self, text: &str) -> io::Result<()> {
        if self.is_terminal { self.line(&plain_json(text)) } else { self.line(text) }
    }

    /// Results so far are seen now.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.results.flush()
    }

    /// Nobody reads the results any more: those to come are not written.
    pub(super) fn close_results(&mut self) {
        self.results = BufWriter::new(Box::new(io::sink()));
    }

    /// Something for people, beside the results; not with `--quiet`.
    pub(super) fn remark(&mut self, text: &str) {
        if !self.is_quiet {
            self.say(text, Priority::Info);
        }
    }

    /// What went wrong.
    pub(super) fn report(&mut self, failure: &Failure) {
        if !failure.is_silent() {
            self.say(&failure.to_string(), Priority::Error);
        }
    }

    /// One line of our own that the next one replaces, and an empty one takes away: only where somebody looks at
    /// standard error, not with `--quiet`.
    pub(super) fn progress(&mut self, text: &str) {
        if self.is_watched && !self.is_quiet {
            let _ = self.results.flush();
            let _ = write!(self.remarks, "\r\x1b[K{text}").and_then(|()| self.remarks.flush());
        }
    }

    /// A question, without a line end; shown whatever `--quiet` says.
    pub(super) fn ask(&mut self, question: &str) {
        let _ = self.results.flush();
        let _ = write!(self.remarks, "{question} ").and_then(|()| self.remarks.flush());
    }

    /// Nobody can be told that standard error is closed. A failure repeats what a daemon, a Redis or a
    /// file said, so whatever a terminal would obey is taken out here, whoever wrote it.
    fn say(&mut self, text: &str, priority: Priority) {
        let _ = self.results.flush();
        let prefix = if self.is_for_journal { priority.prefix() } else { "" };
        for line in plain_lines(text).split('\n') {
            let _ = writeln!(self.remarks, "{prefix}{line}");
        }
    }
}

/// Completes when whoever reads standard output has gone: a pipe tells it at once. Never where that cannot be
/// told, as for a file; the next line that is written meets it then.
pub(super) async fn results_closed() {
    let stream = io::stdout().as_fd().try_clone_to_owned();
    // Only asked how it is and never written to by this handle, so nobody's stream stops blocking for it.
    if let Ok(watched) = stream.and_then(pipe::Sender::from_owned_fd_unchecked) {
        while let Ok(seen) = watched.ready(Interest::ERROR).await {
            if seen.is_error() {
                return;
            }
        }
    }
    std::future::pending::<()>().await;
}

/// Does a terminal obey this character, or draw its neighbours in another order, or draw nothing?
fn is_trick(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{061c}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Text that somebody else chose, as it may reach a terminal: `\u{1b}` instead of an escape.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    escaped(text, is_trick)
}

/// The same for text of several lines: it keeps its line ends, and the tabs of a file that is shown.
fn plain_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| is_trick(letter) && !matches!(letter, '\n' | '\t'))
}

fn escaped(text: &str, is_bad: fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let escaped = |letter: char| if is_bad(letter) { letter.escape_unicode().to_string() } else { letter.to_string() };
    Cow::Owned(text.chars().map(escaped).collect())
}

/// The same for JSON text, where such characters stand in strings alone: it stays the same value.
pub(super) fn plain_json(text: &str) -> Cow<'_, str> {
    if !text.contains(is_trick) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_trick(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(letter);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// What was written, readable while the output still lives.
    #[derive(Clone, Default)]
    pub(crate) struct Page(Rc<RefCell<Vec<u8>>>);

    impl Page {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).expect("UTF-8")
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output into two pages: results and remarks.
    pub(crate) fn pages(is_json: bool) -> (Output, Page, Page) {
        let (results, remarks) = (Page::default(), Page::default());
        let output = Output {
            results: BufWriter::new(Box::new(results.clone())),
            remarks: Box::new(remarks.clone()),
            is_json,
            is_quiet: false,
            is_terminal: false,
            is_for_journal: false,
            is_watched: false,
        };
        (output, results, remarks)
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_a_silent_end() {
        let (output, _, remarks) = pages(false);
        let mut output = Output { results: BufWriter::new(Box::new(Closed)), ..output };
        output.line("x").expect("buffered");
        let failure = Failure::from(output.flush().expect_err("closed"));
        output.report(&failure);
        assert_eq!(remarks.text(), "");
        assert_eq!(failure.exit, super::super::failure::Exit::Done);
    }

    #[test]
    fn remarks_are_not_results_and_quiet_leaves_them_out() {
        let (mut output, results, remarks) = pages(false);
        output.line("result").expect("written");
        output.remark("remark");
        output.is_quiet = true;
        output.remark("more");
        output.flush().expect("written");
        assert_eq!((results.text().as_str(), remarks.text().as_str()), ("result\n", "remark\n"));
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(
            plain("bl\u{fc}te \u{1b}[31m\u{9b}2J\u{202e}x\u{7f}"),
            "bl\u{fc}te \\u{1b}[31m\\u{9b}2J\\u{202e}x\\u{7f}"
        );
        assert!(matches!(plain("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_failure_that_repeats_what_others_said_is_harmless_too() {
        let (mut output, _, remarks) = pages(false);
        let said = "the field `\u{1b}[2J\u{202e}` is\r no name";
        output.report(&Failure::new(super::super::failure::Exit::Failed, "AF0001", "dead", said).next("one\n\ttwo"));
        output.remark("\u{9b}2J");
        assert_eq!(
            remarks.text(),
            "afferent: dead: the field `\\u{1b}[2J\\u{202e}` is\\u{d} no name (AF0001)\nnext: one\n\ttwo\n\\u{9b}2J\n"
        );
    }

    #[test]
    fn json_keeps_its_value_on_a_terminal_and_its_bytes_in_a_pipe() {
        let text = "{\"a\":\"\u{9b}x\u{202e}\u{e0001}\"}";
        let shown = plain_json(text);
        assert!(!shown.contains(is_trick));
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(&shown), value(text));
        let (mut output, results, _) = pages(true);
        output.json(text).and_then(|()| output.flush()).expect("written");
        assert_eq!(results.text(), format!("{text}\n"));
    }
}
