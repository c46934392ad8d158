//! A mistake of the operator, shown as a compiler shows one.

use std::fmt;
use std::ops::Range;

use super::values;

/// The exit code of everything that is refused here (`EX_CONFIG` of sysexits.h).
pub const EXIT_CODE: u8 = 78;

/// One thing that is wrong with a configuration.
///
/// ```text
/// configuration: unknown key `maxlne` in [bus] (AF0103)
///   --> /etc/afferent/afferent.toml:14:1
///    |
/// 14 | maxlne = 100000
///    | ^^^^^^ the keys of [bus] are url, stream, shards, layout, outbox, maxlen, own
///    |
/// next: write `maxlen`
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// The stable code, `AF01nn`.
    pub code: &'static str,
    /// What is wrong: one clause.
    pub what: String,
    /// Why; stands beside the caret where there is one.
    pub why: String,
    /// What to write or type instead.
    pub next: String,
    /// Where.
    pub place: Option<Place>,
}

/// Where a mistake stands, with what it takes to show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file, variable or flag.
    pub source: String,
    /// From 1; `None` for a source that is no file.
    pub position: Option<Position>,
    /// The line, without secrets and control characters.
    line: String,
    /// The token in `line`, in characters.
    token: Range<usize>,
}

/// A line and a column, both from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// The codes of this room, with what they mean, for `afferent explain`.
pub const CODES: &[(&str, &str)] = &[
    ("AF0101", "the configuration file cannot be read"),
    ("AF0102", "the configuration is not valid TOML"),
    ("AF0103", "a key or a table that does not exist"),
    ("AF0104", "a value of the wrong kind"),
    ("AF0105", "a value that cannot be used"),
    ("AF0106", "something that this version does not have yet"),
    ("AF0107", "a key that is needed is missing"),
    ("AF0108", "no place for data or for the socket can be told from the environment"),
];

/// One text that settings are written in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'t> {
    /// The file, variable or flag.
    pub(super) name: &'t str,
    /// What stands there.
    pub(super) text: &'t str,
    /// A file has lines; a variable is one value.
    pub(super) is_file: bool,
}

impl Source<'_> {
    /// Shows the token at these bytes.
    pub(super) fn place(&self, token: Range<usize>) -> Place {
        let start = floor(self.text, token.start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |length| start + length);
        let end = floor(self.text, token.end).clamp(start, line_end);
        let line = &self.text[line_start..line_end];
        let (shown, token) = show(line, start - line_start..end - line_start);
        let position = self.is_file.then(|| Position {
            line: self.text[..line_start].matches('\n').count() + 1,
            column: line[..start - line_start].chars().count() + 1,
        });
        Place { source: self.name.to_owned(), position, line: shown, token }
    }
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The line as it may be printed, and where the token (in bytes) then stands (in characters).
fn show(line: &str, token: Range<usize>) -> (String, Range<usize>) {
    let secrets = values::secrets(line);
    let (mut shown, mut from, mut to) = (String::new(), None, None);
    let mut count = 0;
    for (at, letter) in line.char_indices() {
        if at >= token.start {
            from.get_or_insert(count);
        }
        if at >= token.end {
            to.get_or_insert(count);
        }
        match secrets.iter().find(|secret| secret.contains(&at)) {
            Some(secret) if secret.start == at => {
                shown.push_str("***");
                count += 3;
            }
            Some(_) => {}
            None => {
                shown.push(if letter == '\t' || letter.is_control() { ' ' } else { letter });
                count += 1;
            }
        }
    }
    let from = from.unwrap_or(count);
    let token = from..to.unwrap_or(count).max(from + 1);
    window(shown.trim_end(), token)
}

/// Cuts a very long line down to what surrounds the token.
fn window(line: &str, token: Range<usize>) -> (String, Range<usize>) {
    const WIDTH: usize = 100;
    let length = line.chars().count();
    if length <= WIDTH {
        return (line.to_owned(), token);
    }
    let skip = token.start.saturating_sub(WIDTH / 3).min(length - WIDTH);
    let cut: String = line.chars().skip(skip).take(WIDTH).collect();
    let tail = if skip + WIDTH < length { "..." } else { "" };
    if skip == 0 {
        return (format!("{cut}{tail}"), token.start..token.end.min(WIDTH));
    }
    let moved = |at: usize| (at - skip).min(WIDTH) + 3;
    (format!("...{cut}{tail}"), moved(token.start)..moved(token.end))
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            None => writeln!(f, "configuration: {}, {} ({})", self.what, self.why, self.code)?,
            Some(place) => {
                writeln!(f, "configuration: {} ({})", self.what, self.code)?;
                place.write(&self.why, f)?;
            }
        }
        write!(f, "next: {}", self.next)
    }
}

impl Place {
    fn write(&self, why: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.position.map_or(String::new(), |position| position.line.to_string());
        let margin = " ".repeat(number.len());
        write!(f, "{margin}--> {}", self.source)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        let indent = " ".repeat(self.token.start);
        let carets = "^".repeat(self.token.len());
        writeln!(f, "\n{margin} |\n{number} | {}\n{margin} | {indent}{carets} {why}\n{margin} |", self.line)
    }
}

/// Everything that is wrong with a configuration, at once. Nothing was started or changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.0.iter().enumerate() {
            let gap = if i == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Mistakes {
        Mistakes(vec![mistake])
    }
}
