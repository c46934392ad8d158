//! Groups of readers: the one that a `sub` is of, `sub --list-groups`, `sub --forget-group`.

use super::failure::{Exit, Failure};
use super::output::Output;
use super::table::table;
use crate::admin::answers::{self, Groups};
use crate::admin::client::escape;
use crate::admin::{Client, ClientError};

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err calls")]
fn failed(error: ClientError) -> Failure {
    Failure::of_client("sub", &error)
}

fn path(group: &str) -> String {
    format!("/v1/groups/{}", escape(group))
}

/// A group that this reader is of.
pub(super) struct Group {
    path: String,
    /// Of its own: the other one carries the stream.
    client: Client,
}

impl Group {
    pub(super) fn new(name: &str, client: Client) -> Group {
        Group { path: path(name), client }
    }

    /// A group that is new begins here and now, also if this reader ends before its first event.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        let answers::Group { seq, head, .. } = self.client.get_as(&self.path).await.map_err(failed)?;
        if seq.is_none() { self.acknowledge(head.0).await } else { Ok(()) }
    }

    /// Everything up to here was printed, or is nothing that was asked for.
    pub(super) async fn acknowledge(&mut self, seq: u64) -> Result<(), Failure> {
        self.client.post(&self.path, format!("{{\"seq\":{seq}}}")).await.map(drop).map_err(failed)
    }
}

/// All of them, and how far each is behind.
pub(super) async fn list(client: &mut Client, output: &mut Output) -> Result<Exit, Failure> {
    let text = client.get("/v1/groups").await.map_err(failed)?;
    if output.is_json() {
        output.json(&text)?;
        return Ok(Exit::Done);
    }
    let Groups { groups } =
        serde_json::from_str(&text).map_err(|error| failed(ClientError::Unreadable(error.to_string())))?;
    if groups.is_empty() {
        output.remark("there are no groups: afferent sub --group NAME makes one");
        return Ok(Exit::Done);
    }
    let row = |group: &answers::Group| {
        let seq = group.seq.unwrap_or_default();
        vec![group.group.clone(), seq.0.to_string(), group.head.0.saturating_sub(seq.0).to_string()]
    };
    let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
    for line in table(&["GROUP", "POSITION", "BEHIND"], &rows) {
        output.line(&line)?;
    }
    Ok(Exit::Done)
}

/// Its name is free again.
pub(super) async fn forget(group: &str, client: &mut Client, output: &mut Output) -> Result<Exit, Failure> {
    let text = client.delete(&path(group)).await.map_err(failed)?;
    if output.is_json() {
        output.json(&text)?;
    } else {
        output.line(&format!("{group} is forgotten"))?;
    }
    Ok(Exit::Done)
}
