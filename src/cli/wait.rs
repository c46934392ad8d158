//! `afferent wait`: until the daemon answers, is ready, has its peers.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::arguments::{Global, Wait};
use super::failure::{Exit, Failure};
use super::output::Output;
use super::{codes, reach, words};
use crate::admin::answers::Status;
use crate::admin::{Client, ClientError, Problem};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The last look gets this long, also when the deadline is nearer: a daemon that is well answers.
const LOOK_LEAST: Duration = Duration::from_secs(1);

pub(super) async fn perform(wait: &Wait, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let deadline = Instant::now() + wait.timeout;
    loop {
        // Nothing is lost when it is dropped: a question is asked again.
        let patience = deadline.max(Instant::now() + LOOK_LEAST);
        let missing = match timeout_at(patience, look(global)).await {
            Ok(Ok(Seen::There { text, status })) => match missing(wait, &status) {
                None => {
                    if output.is_json() {
                        output.json(&text)?;
                    }
                    return Ok(Exit::Done);
                }
                Some(missing) => missing,
            },
            Ok(Ok(Seen::NotYet(why))) => why,
            Ok(Err(failure)) => return Err(failure),
            Err(_) => "the daemon does not answer".to_owned(),
        };
        if Instant::now() >= deadline {
            let what = format!("{missing}, after {}", words::brief(wait.timeout));
            return Err(Failure::new(Exit::Timeout, codes::NOT_YET, "wait", what).next("afferent status"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What one look found.
enum Seen {
    There {
        text: String,
        status: Box<Status>,
    },
    /// Not there yet, or not any more, or too busy to say: that is what is waited for.
    NotYet(String),
}

async fn look(global: &Global) -> Result<Seen, Failure> {
    let text = match Client::connect(&reach::socket(global)?).await {
        Ok(mut client) => client.get("/v1/status").await,
        Err(error) => Err(error),
    };
    let failed = |error| Failure::of_client("wait", &error);
    match text {
        Ok(text) => {
            let status = serde_json::from_str(&text);
            let status = status.map_err(|error| failed(ClientError::Unreadable(error.to_string())))?;
            Ok(Seen::There { text, status: Box::new(status) })
        }
        Err(ClientError::Absent { .. } | ClientError::Broken(_)) => Ok(Seen::NotYet("no daemon answers".to_owned())),
        Err(ClientError::Problem(Problem { problem, .. })) if problem.status == 503 => Ok(Seen::NotYet(problem.title)),
        Err(error) => Err(failed(error)),
    }
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
