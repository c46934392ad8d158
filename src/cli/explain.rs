//! `afferent explain`: what a code means.

use serde_json::{Value, json};

use super::arguments::Explain;
use super::codes;
use super::failure::{Exit, Failure};
use super::output::Output;
use super::table::table;

pub(super) fn perform(explain: &Explain, output: &mut Output) -> Result<Exit, Failure> {
    let Some(code) = &explain.code else { return list(output) };
    let asked = code.trim();
    let is_meant = |row: &codes::Row| row.number.eq_ignore_ascii_case(asked) || row.word == Some(asked);
    let Some(row) = codes::all().find(is_meant) else {
        let mut known: Vec<&str> = codes::all().map(|row| row.number).collect();
        known.sort_unstable();
        let known = known.join(", ");
        let what = format!("`{asked}` is no code of this version; the codes are {known}");
        return Err(Failure::new(Exit::Failed, codes::USAGE, "explain", what));
    };
    if output.is_json() {
        let mut line = object(row);
        line["schema"] = json!("afferent.explain/1");
        output.line(&line.to_string())?;
    } else {
        let word = row.word.map(|word| format!(" {word}")).unwrap_or_default();
        output.line(&format!("{}{word}: {}", row.number, row.meaning))?;
    }
    Ok(Exit::Done)
}

fn object(row: codes::Row) -> Value {
    json!({ "number": row.number, "code": row.word, "meaning": row.meaning })
}

/// Every code there is, by number.
fn list(output: &mut Output) -> Result<Exit, Failure> {
    let mut rows: Vec<codes::Row> = codes::all().collect();
    rows.sort_by_key(|row| row.number);
    if output.is_json() {
        let codes: Vec<Value> = rows.into_iter().map(object).collect();
        output.line(&json!({ "schema": "afferent.codes/1", "codes": codes }).to_string())?;
        return Ok(Exit::Done);
    }
    let cells =
        |row: codes::Row| vec![row.number.to_owned(), row.word.unwrap_or("-").to_owned(), row.meaning.to_owned()];
    for line in table(&["NUMBER", "CODE", "MEANING"], &rows.into_iter().map(cells).collect::<Vec<_>>()) {
        output.line(&line)?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::pages;
    use super::*;

    fn told(code: Option<&str>, is_json: bool) -> String {
        let (mut output, results, _) = pages(is_json);
        let explain = Explain { code: code.map(str::to_owned) };
        perform(&explain, &mut output).and_then(|_| Ok(output.flush()?)).expect("explained");
        results.text()
    }

    #[test]
    fn a_code_is_known_by_number_and_by_word() {
        let expected = "AF0301 no_such_peer: no peer has this alias, id or address\n";
        assert_eq!([told(Some("af0301"), false), told(Some("no_such_peer"), false)], [expected, expected]);
        assert!(told(Some("AF0301"), true).contains(r#""schema":"afferent.explain/1""#));
    }

    #[test]
    fn without_a_code_all_are_listed() {
        let lines = told(None, false);
        assert_eq!(lines.lines().count(), codes::all().count() + 1);
        let json: Value = serde_json::from_str(&told(None, true)).expect("JSON");
        assert_eq!(json["codes"].as_array().map(Vec::len), Some(codes::all().count()));
    }
}
