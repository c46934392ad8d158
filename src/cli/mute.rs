//! `afferent mute` and `unmute`: whom this node does not listen to.

use serde_json::json;

use super::arguments::Global;
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::reach;
use super::table::table;
use crate::admin::ClientError;
use crate::admin::answers::{Muted, TrustView};

/// Mutes these, listens to those again; with neither it only shows who is muted.
pub(super) async fn perform(
    mute: &[String],
    unmute: &[String],
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let thing = if unmute.is_empty() { "mute" } else { "unmute" };
    let failed = |error: ClientError| Failure::of_client(thing, &error);
    let mut client = reach::connect(thing, global).await?;
    let answer = if mute.is_empty() && unmute.is_empty() {
        client.get("/v1/trust").await
    } else {
        client.post("/v1/trust", json!({ "mute": mute, "unmute": unmute }).to_string()).await
    };
    let text = answer.map_err(failed)?;
    let view: TrustView =
        serde_json::from_str(&text).map_err(|error| failed(ClientError::Unreadable(error.to_string())))?;
    if output.is_json() {
        output.json(&text)?;
    } else {
        print(&view, output)?;
    }
    if !unmute.is_empty() {
        output.remark("events that were refused meanwhile stay refused until they expire");
    }
    Ok(Exit::Done)
}

fn print(view: &TrustView, output: &mut Output) -> Result<(), Failure> {
    let row = |source: &Muted| {
        let by = if source.by_hand { "afferent mute" } else { "trust.mute" };
        vec![plain(source.alias.as_deref().unwrap_or("-")).into_owned(), source.id.to_string(), by.to_owned()]
    };
    let rows: Vec<_> = view.muted.iter().map(row).collect();
    if rows.is_empty() {
        output.remark("nobody is muted\nnext: afferent mute SOURCE");
        return Ok(());
    }
    for line in table(&["SOURCE", "ID", "BY"], &rows) {
        output.line(&line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::pages;
    use super::*;
    use crate::wire::Keypair;

    #[test]
    fn who_is_muted_is_listed_with_who_said_so() {
        let id = Keypair::from_seed(&[7; 32]).id();
        let muted =
            vec![Muted { id, alias: Some("cedar".into()), by_hand: true }, Muted { id, alias: None, by_hand: false }];
        let (mut output, results, remarks) = pages(false);
        print(&TrustView { muted, rules: Vec::new() }, &mut output).expect("printed");
        print(&TrustView { muted: Vec::new(), rules: Vec::new() }, &mut output).expect("printed");
        output.flush().expect("written");
        let gap = " ".repeat(id.to_string().len());
        let expected = format!("SOURCE  ID{}  BY\ncedar   {id}  afferent mute\n-       {id}  trust.mute\n", &gap[2..]);
        assert_eq!(results.text(), expected);
        assert!(remarks.text().contains("nobody is muted"), "{}", remarks.text());
    }
}
