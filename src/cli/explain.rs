//! `afferent explain`: what a code means.

use super::arguments::Explain;
use super::codes;
use super::failure::{Exit, Failure};
use super::output::Output;

pub(super) fn perform(explain: &Explain, output: &mut Output) -> Result<Exit, Failure> {
    let asked = explain.code.trim();
    let is_meant = |row: &codes::Row| row.number.eq_ignore_ascii_case(asked) || row.word == Some(asked);
    let Some(row) = codes::all().find(is_meant) else {
        let mut known: Vec<&str> = codes::all().map(|row| row.number).collect();
        known.sort_unstable();
        let known = known.join(", ");
        let what = format!("`{asked}` is no code of this version; the codes are {known}");
        return Err(Failure::new(Exit::Failed, codes::USAGE, "explain", what));
    };
    if output.is_json() {
        let line = serde_json::json!({
            "schema": "afferent.explain/1", "number": row.number, "code": row.word, "meaning": row.meaning,
        });
        output.line(&line.to_string())?;
    } else {
        let word = row.word.map(|word| format!(" {word}")).unwrap_or_default();
        output.line(&format!("{}{word}: {}", row.number, row.meaning))?;
    }
    Ok(Exit::Done)
}
