//! `afferent dead`: what could not be delivered, and what to do with it.

use super::arguments::Global;
use super::arguments::{Dead, DeadAction, DeadLetter};
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::reach;
use super::table::table;
use crate::admin::client::escape;
use crate::admin::dead::{Letter, Letters, Retried};
use crate::admin::{Client, ClientError};

pub(super) async fn perform(dead: &Dead, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let mut client = reach::connect("dead", global).await?;
    match &dead.action {
        None => list(100, &mut client, output).await,
        Some(DeadAction::List(wish)) => list(wish.count, &mut client, output).await,
        Some(DeadAction::Show(letter)) => show(letter, &mut client, output).await,
        Some(DeadAction::Retry(letter)) => retry(letter, &mut client, output).await,
        Some(DeadAction::Drop(letter)) => drop_letter(letter, &mut client, output).await,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err calls")]
fn failed(error: ClientError) -> Failure {
    Failure::of_client("dead", &error)
}

fn decode<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| failed(ClientError::Unreadable(error.to_string())))
}

fn path(letter: &DeadLetter) -> String {
    format!("/v1/dead/{}", escape(&letter.id))
}

async fn list(count: u16, client: &mut Client, output: &mut Output) -> Result<Exit, Failure> {
    let text = client.get(&format!("/v1/dead?count={count}")).await.map_err(failed)?;
    if output.is_json() {
        output.json(&text)?;
        return Ok(Exit::Done);
    }
    let Letters { letters } = decode(&text)?;
    if letters.is_empty() {
        output.remark("nothing is dead: whatever came could be delivered");
        return Ok(Exit::Done);
    }
    for line in table(&["ID", "STREAM", "KIND", "FIRST SEEN", "FIELD", "REASON"], &rows(&letters)) {
        output.line(&line)?;
    }
    output.remark("next: afferent dead show ID, then retry ID or drop ID");
    Ok(Exit::Done)
}

fn rows(letters: &[Letter]) -> Vec<Vec<String>> {
    let row = |letter: &Letter| {
        let cells = [&letter.id, &letter.stream, &letter.kind, &letter.first_seen, &letter.field, &letter.reason];
        cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { plain(cell).into_owned() }).to_vec()
    };
    letters.iter().map(row).collect()
}

async fn show(letter: &DeadLetter, client: &mut Client, output: &mut Output) -> Result<Exit, Failure> {
    let text = client.get(&path(letter)).await.map_err(failed)?;
    if output.is_json() {
        output.json(&text)?;
    } else {
        print(&decode(&text)?, output)?;
    }
    Ok(Exit::Done)
}

/// One line for each thing that is known.
fn print(letter: &Letter, output: &mut Output) -> Result<(), Failure> {
    let about = [
        ("id", &letter.id),
        ("stream", &letter.stream),
        ("kind", &letter.kind),
        ("reason", &letter.reason),
        ("code", &letter.code),
        ("field", &letter.field),
        ("peer", &letter.peer),
        ("digest", &letter.digest),
        ("first seen", &letter.first_seen),
        ("entry", &letter.entry),
        ("event", &letter.envelope),
    ];
    for (name, value) in about.into_iter().filter(|(_, value)| !value.is_empty()) {
        output.line(&format!("{name:<11} {}", plain(value)))?;
    }
    for (name, value) in letter.fields.shown() {
        output.line(&format!("  {} = {}", plain(&name), plain(&value)))?;
    }
    if letter.is_cut {
        output.line("  ... the entry was too large to be kept whole")?;
    }
    Ok(())
}

async fn retry(letter: &DeadLetter, client: &mut Client, output: &mut Output) -> Result<Exit, Failure> {
    let text = client.post(&format!("{}/retry", path(letter)), String::new()).await.map_err(failed)?;
    if output.is_json() {
        output.json(&text)?;
        return Ok(Exit::Done);
    }
    let Retried { id, stream, digest } = decode(&text)?;
    output.line(&format!("{} of {} is delivered: {digest}", plain(&id), plain(&stream)))?;
    Ok(Exit::Done)
}

async fn drop_letter(letter: &DeadLetter, client: &mut Client, output: &mut Output) -> Result<Exit, Failure> {
    let text = client.delete(&path(letter)).await.map_err(failed)?;
    if output.is_json() {
        output.json(&text)?;
        return Ok(Exit::Done);
    }
    let dropped: Letter = decode(&text)?;
    output.line(&format!("{} of {} is dropped", plain(&dropped.id), plain(&dropped.stream)))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::pages;
    use super::*;

    fn letter() -> Letter {
        Letter {
            id: "1795262400000-0".into(),
            stream: "teleclaude:events".into(),
            kind: "intake".into(),
            reason: "must be 0, 1, 2 or 3".into(),
            code: "malformed".into(),
            field: "\u{1b}[31m".into(),
            peer: String::new(),
            digest: String::new(),
            first_seen: "2026-11-21T12:00:00.000000Z".into(),
            envelope: String::new(),
            entry: "1795262400000-7".into(),
            fields: [("level", "7\u{7}")].into_iter().collect(),
            is_cut: false,
        }
    }

    #[test]
    fn what_others_wrote_is_escaped_and_what_is_not_known_left_out() {
        let (mut output, results, _) = pages(false);
        print(&letter(), &mut output).and_then(|()| Ok(output.flush()?)).expect("printed");
        let text = results.text();
        assert!(text.contains("field       \\u{1b}[31m\n") && text.contains("  level = 7\\u{7}\n"), "{text}");
        assert!(!text.contains("digest"), "{text}");
    }

    #[test]
    fn a_row_has_no_empty_cell() {
        let blank = Letter { field: String::new(), ..letter() };
        assert_eq!(rows(&[blank])[0][4], "-");
    }
}
