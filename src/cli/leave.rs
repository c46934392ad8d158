//! `afferent leave`: says goodbye to the mesh and ends the daemon.

use super::arguments::Global;
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::{reach, words};
use crate::admin::ClientError;
use crate::admin::answers::{Left, StruckOut};

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
    let is_listed = left.registrar.as_ref().is_some_and(|registrar| registrar.why_not.is_some());
    Ok(if left.missed.is_empty() && !is_listed { Exit::Done } else { Exit::Degraded })
}

fn sentences(left: &Left) -> Vec<String> {
    let peers = |count: usize| words::count(u64::try_from(count).unwrap_or(u64::MAX), "peer");
    let mut sentences = vec![format!("goodbye: {} took it", peers(left.told.len()))];
    if !left.missed.is_empty() {
        let names: Vec<String> = left.missed.iter().map(crate::wire::NodeId::short).collect();
        let names = names.join(", ");
        sentences.push(format!("not taken by {names}: told by others, or drops this node within a day"));
    }
    match &left.registrar {
        None => {}
        Some(StruckOut { origin, why_not: None }) => {
            sentences.push(format!("this node is not in the list of {} any more", plain(origin)));
        }
        Some(StruckOut { origin, why_not: Some(why) }) => sentences.push(format!(
            "perhaps still in the list of {}: {}; it strikes out who does not answer, within half an hour",
            plain(origin),
            plain(why)
        )),
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
        let left = Left { told: vec![id(1)], missed: Vec::new(), registrar: None };
        assert_eq!(sentences(&left), ["goodbye: 1 peer took it"]);
        let left = Left { missed: vec![id(3)], ..left };
        let expected = format!("not taken by {}: told by others, or drops this node within a day", id(3).short());
        assert_eq!(sentences(&left)[1], expected);

        let origin = "https://registrar.example".to_owned();
        let struck = |why_not| Some(StruckOut { origin: origin.clone(), why_not });
        let left = Left { told: Vec::new(), missed: Vec::new(), registrar: struck(None) };
        assert_eq!(sentences(&left)[1], "this node is not in the list of https://registrar.example any more");
        let left = Left { registrar: struck(Some("no answer in time".to_owned())), ..left };
        assert!(sentences(&left)[1].contains("perhaps still in the list of https://registrar.example: no answer in"));
        let left = Left { registrar: struck(Some("\u{1b}[2J".to_owned())), ..left };
        assert!(sentences(&left)[1].contains(": \\u{1b}[2J; "), "nothing that a terminal obeys");
    }
}
