//! `afferent wait`: until the daemon answers, is ready, has its peers.

use std::time::{Duration, Instant};

use super::arguments::{Global, Wait};
use super::failure::{Exit, Failure};
use super::output::Output;
use super::{codes, reach, words};
use crate::admin::answers::Status;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn perform(wait: &Wait, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let deadline = Instant::now() + wait.timeout;
    loop {
        let missing = match look(global).await {
            Ok((text, status)) => match missing(wait, &status) {
                None => {
                    if output.is_json() {
                        output.json(&text)?;
                    }
                    return Ok(Exit::Done);
                }
                Some(missing) => missing,
            },
            // Not there yet, or not any more: that is what is waited for.
            Err(failure) if failure.exit == Exit::Unreachable => "no daemon answers".to_owned(),
            Err(failure) => return Err(failure),
        };
        if Instant::now() >= deadline {
            let what = format!("{missing}, after {}", words::brief(wait.timeout));
            return Err(Failure::new(Exit::Timeout, codes::NOT_YET, "wait", what).next("afferent status"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(global: &Global) -> Result<(String, Status), Failure> {
    let mut client = reach::connect("wait", global).await?;
    let failed = |error| Failure::of_client("wait", &error);
    let text = client.get("/v1/status").await.map_err(failed)?;
    let status = serde_json::from_str(&text);
    let status = status.map_err(|error| failed(crate::admin::ClientError::Unreadable(error.to_string())))?;
    Ok((text, status))
}

/// What is not there yet.
fn missing(wait: &Wait, status: &Status) -> Option<String> {
    if status.peers.connected < wait.peers {
        return Some(format!(
            "{} connected, {} are waited for",
            words::count(status.peers.connected, "peer"),
            wait.peers
        ));
    }
    (wait.ready && !status.ready).then(|| {
        let why = status.warnings.first().map_or(String::new(), |why| format!(": {}", super::output::plain(why)));
        format!("the node is not ready{why}")
    })
}
