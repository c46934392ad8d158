//! `afferent ping`: the round trip to a peer by the lane that events take, and where the time goes.

use std::time::Duration;

use super::arguments::{Global, Ping};
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::{reach, words};
use crate::admin::ClientError;
use crate::admin::answers::Pinged;

pub(super) async fn perform(ping: &Ping, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let failed = |error: ClientError| Failure::of_client("ping", &error);
    let mut client = reach::connect("ping", global).await?;
    let path = format!("/v1/peers/{}/ping", crate::admin::client::escape(&ping.peer));
    for number in 0..ping.count {
        if number > 0 {
            tokio::time::sleep(ping.interval).await;
        }
        let text = client.post(&path, String::new()).await.map_err(failed)?;
        let pinged: Pinged =
            serde_json::from_str(&text).map_err(|error| failed(ClientError::Unreadable(error.to_string())))?;
        if output.is_json() {
            output.json(&text)?;
        } else {
            output.line(&sentence(&pinged))?;
        }
        output.flush()?;
    }
    Ok(Exit::Done)
}

fn sentence(pinged: &Pinged) -> String {
    let name = pinged.alias.as_deref().map_or_else(|| pinged.id.short(), |alias| plain(alias).into_owned());
    let apart = Duration::from_millis(pinged.clock_ahead_ms.unsigned_abs());
    let clock = match pinged.clock_ahead_ms {
        // No better than the way there and back can be told.
        _ if apart.as_secs_f64() * 1e3 <= pinged.rtt_ms.max(1.0) => "clocks agree".to_owned(),
        1.. => format!("its clock is {} ahead", words::brief(apart)),
        _ => format!("its clock is {} behind", words::brief(apart)),
    };
    let waited = match pinged.waited_ms {
        ms if ms < 0.1 => String::new(),
        ms => format!(" after {} behind other traffic of the lane", words::round_trip(Some(ms))),
    };
    format!("{name}: {}{waited}, {clock}", words::round_trip(Some(pinged.rtt_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;

    #[test]
    fn a_round_trip_says_where_the_time_went() {
        let id = Keypair::from_seed(&[7; 32]).id();
        let quick = Pinged { id, alias: Some("cedar".to_owned()), rtt_ms: 0.42, waited_ms: 0.01, clock_ahead_ms: 1 };
        assert_eq!(sentence(&quick), "cedar: 0.4ms, clocks agree");
        let slow = Pinged { alias: None, rtt_ms: 41.4, waited_ms: 12.3, clock_ahead_ms: -90_000, ..quick };
        let expected =
            format!("{}: 41ms after 12ms behind other traffic of the lane, its clock is 1m behind", id.short());
        assert_eq!(sentence(&slow), expected);
    }
}
