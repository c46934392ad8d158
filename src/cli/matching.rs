//! `afferent match`: who would get an event of this type, if it were published now. Nothing is sent.

use super::arguments::{Global, Match};
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::reach;
use super::table::table;
use crate::admin::ClientError;
use crate::admin::answers::{Matched, Matches};

pub(super) async fn perform(matching: &Match, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let failed = |error: ClientError| Failure::of_client("match", &error);
    let mut client = reach::connect("match", global).await?;
    let path = format!("/v1/match/{}", crate::admin::client::escape(&matching.kind));
    let text = client.get(&path).await.map_err(failed)?;
    let matches: Matches =
        serde_json::from_str(&text).map_err(|error| failed(ClientError::Unreadable(error.to_string())))?;
    let wanted = matches.peers.iter().filter(|peer| peer.wants).count();
    if output.is_json() {
        output.json(&text)?;
    } else {
        print(&matches, output)?;
    }
    if wanted == 0 {
        output.remark("nobody would get it");
    }
    Ok(if wanted == 0 { Exit::Failed } else { Exit::Done })
}

fn print(matches: &Matches, output: &mut Output) -> Result<(), Failure> {
    let row = |peer: &Matched| {
        let gets = match (peer.wants, peer.connected) {
            (true, true) => "yes",
            (true, false) => "later",
            (false, _) => "no",
        };
        let name = peer.alias.as_deref().map_or("-".into(), plain).into_owned();
        vec![name, peer.id.short(), gets.to_owned(), peer.why.clone()]
    };
    let rows: Vec<Vec<String>> = matches.peers.iter().map(row).collect();
    if !rows.is_empty() {
        for line in table(&["PEER", "ID", "GETS IT", "WHY"], &rows) {
            output.line(&line)?;
        }
    }
    output.remark(if matches.own {
        "this node wants it from others too"
    } else {
        "this node does not want it from others: afferent interests"
    });
    Ok(())
}
