//! `afferent leave`: says goodbye to the mesh and ends the daemon.

use super::arguments::Global;
use super::failure::{Exit, Failure};
use super::output::Output;
use super::{reach, words};
use crate::admin::ClientError;
use crate::admin::answers::Left;

pub(super) async fn perform(global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let failed = |error: ClientError| Failure::of_client("leave", &error);
    let mut client = reach::connect("leave", global).await?;
    let text = client.post("/v1/leave", String::new()).await.map_err(failed)?;
    let left: Left = serde_json::from_str(&text).map_err(|error| failed(ClientError::Unreadable(error.to_string())))?;
    if output.is_json() {
        output.json(&text)?;
    } else {
        for line in sentences(&left) {
            output.line(&line)?;
        }
    }
    output.remark("the daemon has ended; its data stays, and the next start takes the goodbye back");
    output.remark("next: afferent run, or systemctl start afferent, when this node is to come back");
    Ok(if left.missed.is_empty() { Exit::Done } else { Exit::Degraded })
}

fn sentences(left: &Left) -> Vec<String> {
    let peers = |count: usize| words::count(u64::try_from(count).unwrap_or(u64::MAX), "peer");
    let mut sentences = vec![format!("goodbye: {} took it", peers(left.told.len()))];
    if !left.missed.is_empty() {
        let names: Vec<String> = left.missed.iter().map(crate::wire::NodeId::short).collect();
        let names = names.join(", ");
        sentences.push(format!("not taken by {names}: told by others, or drops this node within a day"));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;

    #[test]
    fn who_has_the_goodbye_and_who_has_not_is_said() {
        let id = |seed| Keypair::from_seed(&[seed; 32]).id();
        let left = Left { told: vec![id(1)], missed: Vec::new() };
        assert_eq!(sentences(&left), ["goodbye: 1 peer took it"]);
        let left = Left { missed: vec![id(3)], ..left };
        let expected = format!("not taken by {}: told by others, or drops this node within a day", id(3).short());
        assert_eq!(sentences(&left)[1], expected);
    }
}
