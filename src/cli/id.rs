//! `afferent id`: what others paste. Works without a daemon; asks one for learned addresses.

use std::path::Path;

use super::arguments::Global;
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::{node_key, reach};
use crate::admin::answers::Identity;
use crate::admin::{self, Client, ClientError};
use crate::config::Settings;
use crate::wire::{NodeId, PeerAddress};

pub(super) async fn perform(global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    print(&identity("id", global).await?, output)?;
    Ok(Exit::Done)
}

/// Who this node is and how others reach it, with a daemon or without, for `thing`.
///
/// # Errors
/// Without a daemon that answers and without a key that can be read.
pub(super) async fn identity(thing: &str, global: &Global) -> Result<Identity, Failure> {
    let socket = reach::socket(global)?;
    let own = reach::settings(global, &[]).and_then(|settings| {
        let id = node_key::load(thing, &settings)?.id();
        Ok(offline(&settings, id))
    });
    match (ask(&socket).await, own) {
        // A daemon of somebody else may hold the socket; the key is what the configuration means.
        (Ok(told), Ok(own)) if told.id == own.id => Ok(told),
        (_, Ok(own)) => Ok(own),
        // The key belongs to the daemon's user alone; the daemon says the same.
        (Ok(told), Err(_)) => Ok(told),
        // Neither key nor socket are open to this user: the group is what lets him in.
        (Err(denied @ ClientError::Denied { .. }), Err(_)) => Err(Failure::of_client(thing, &denied)),
        (Err(_), Err(failure)) => Err(failure),
    }
}

async fn ask(socket: &Path) -> Result<Identity, ClientError> {
    Client::connect(socket).await?.get_as("/v1/id").await
}

/// What is known without asking a daemon.
pub(super) fn offline(settings: &Settings, id: NodeId) -> Identity {
    Identity {
        id,
        name: settings.node.name.to_string(),
        network: settings.node.network.as_str().to_owned(),
        addresses: settings.node.addresses.iter().map(|at| PeerAddress { id: Some(id), at: at.clone() }).collect(),
    }
}

fn print(identity: &Identity, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        output.json(&admin::document(identity))?;
        return Ok(());
    }
    output.line(&identity.id.to_string())?;
    for address in &identity.addresses {
        output.line(&plain(&address.to_string()))?;
    }
    output.remark(if identity.addresses.is_empty() {
        "no address is known yet: set node.addresses, or paste ID@HOST:PORT with the host you know"
    } else {
        "a friend types: afferent peers add, and one of these addresses"
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::pages;
    use super::*;
    use crate::wire::Keypair;

    #[test]
    fn the_id_comes_first_and_every_other_line_can_be_pasted() {
        let id = Keypair::from_seed(&[7; 32]).id();
        let addresses: Vec<PeerAddress> = vec![
            format!("{id}@birch.example").parse().expect("one"),
            format!("{id}@[2a00::1]:7").parse().expect("two"),
        ];
        let identity = Identity { id, name: "birch".into(), network: "main".into(), addresses: addresses.clone() };
        let (mut output, results, _) = pages(false);
        print(&identity, &mut output).expect("printed");
        output.flush().expect("written");
        let text = results.text();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(id.to_string().as_str()));
        assert_eq!(lines.map(|line| line.parse().expect("pasteable")).collect::<Vec<PeerAddress>>(), addresses);
        let (mut output, results, _) = pages(true);
        print(&identity, &mut output).and_then(|()| Ok(output.flush()?)).expect("written");
        assert!(results.text().starts_with(&format!(r#"{{"schema":"afferent.id/1","id":"{id}","name":"birch","#)));
    }
}
