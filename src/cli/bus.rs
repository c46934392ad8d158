//! `afferent bus`: streams whose cursor was lost go on.

use super::arguments::{Bus, BusAction, Global};
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::reach;
use crate::admin::ClientError;
use crate::admin::dead::Mended;

pub(super) async fn perform(bus: &Bus, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let failed = |error: ClientError| Failure::of_client("bus", &error);
    let mut client = reach::connect("bus", global).await?;
    let path = match bus.action {
        BusAction::Resume => "/v1/bus/resume",
        BusAction::Replay => "/v1/bus/replay",
    };
    let text = client.post(path, String::new()).await.map_err(failed)?;
    let mended: Mended =
        serde_json::from_str(&text).map_err(|error| failed(ClientError::Unreadable(error.to_string())))?;
    if output.is_json() {
        output.json(&text)?;
        return Ok(exit_of(&mended));
    }
    for stream in &mended.streams {
        let name = plain(&stream.stream);
        match stream.after {
            0 => output.line(&format!("{name} gets everything that the journal holds"))?,
            after => output.line(&format!("{name} goes on after position {after}"))?,
        }
    }
    for failed in &mended.failed {
        output.line(&format!("{} is not mended: {}", plain(&failed.stream), plain(&failed.why)))?;
    }
    Ok(exit_of(&mended))
}

fn exit_of(mended: &Mended) -> Exit {
    if mended.failed.is_empty() { Exit::Done } else { Exit::Degraded }
}
