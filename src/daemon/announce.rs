//! Tells the registrar of `discovery.registrar` where we are, again and again, and when that changes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::clock::wall;
use crate::net;
use crate::net::registrar::{AnnounceError, leave, register};
use crate::wire::registration::{Origin, Refused};
use crate::wire::{HostPort, Keys, Network, Record, envelope};

/// Between two announcements, whatever happens.
const PAUSE: Duration = Duration::from_secs(60);
/// After a failure, doubled with each up to the second.
const RETRY: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(1_800)];

/// Announces until `shutdown` says true or its sender is gone. A stop is no goodbye: we come back.
pub(super) async fn run(
    context: net::Context,
    origin: Origin,
    network: Network,
    mut record: watch::Receiver<Arc<str>>,
    mut shutdown: watch::Receiver<bool>,
) {
    let announcing = async {
        let mut failures = 0;
        loop {
            let line = record.borrow_and_update().clone();
            let said = said(&line, &network);
            let again = match &said {
                Some(said) => announce(&context, &origin, &line, said, &mut failures).await,
                // Nobody could dial us: wait until there is an address.
                None => RETRY[1],
            };
            tokio::time::sleep(PAUSE.min(again)).await;
            let moved = async {
                loop {
                    if record.changed().await.is_err() {
                        return std::future::pending().await;
                    }
                    if self::said(&record.borrow_and_update().clone(), &network) != said {
                        return;
                    }
                }
            };
            // A record that changed while the time runs out is read at the top either way.
            let _ = tokio::time::timeout(again.saturating_sub(PAUSE), moved).await;
        }
    };
    tokio::select! {
        // Only looks at a value. A registration that is cut off is made again after the start.
        () = async { drop(shutdown.wait_for(|stop| *stop).await) } => {}
        () = announcing => {}
    }
}

/// What of our record a registrar cares for.
#[derive(PartialEq, Eq)]
struct Said {
    addresses: Vec<HostPort>,
    bye: bool,
}

fn said(line: &str, network: &Network) -> Option<Said> {
    let line = Bytes::copy_from_slice(line.as_bytes());
    let envelope = envelope::open(&line, wall(), network, &mut Keys::default()).ok()?;
    let record = Record::read(&envelope).ok()?.into_inner();
    let said = Said { addresses: record.addresses, bye: record.bye };
    (said.bye || !said.addresses.is_empty()).then_some(said)
}

/// Says it once; when to say it again.
async fn announce(context: &net::Context, origin: &Origin, line: &str, said: &Said, failures: &mut u32) -> Duration {
    let outcome = match said.bye {
        true => leave(context, origin, line).await.map(|()| RETRY[1]),
        false => register(context, origin, line).await.map(|listed| {
            tracing::info!(%origin, label = listed.label, "listed by the registrar");
            listed.again
        }),
    };
    match outcome {
        Ok(again) => {
            *failures = 0;
            again
        }
        Err(error) => {
            let wait = after(&error, *failures);
            // The first one in a row is news; the reason is in our own words.
            if std::mem::replace(failures, failures.saturating_add(1)) == 0 {
                tracing::warn!(%origin, "not listed: {error}{}", hint(&error));
            } else {
                tracing::debug!(%origin, "not listed: {error}");
            }
            wait
        }
    }
}

/// Full jitter, so that a registrar that comes back is not met by everybody at once; what it asked for
/// counts more.
fn after(error: &AnnounceError, failures: u32) -> Duration {
    let most = RETRY[0].saturating_mul(1 << failures.min(6)).min(RETRY[1]);
    let drawn = most.mul_f64(0.5 + fastrand::f64() / 2.0);
    match error {
        AnnounceError::Refused { after: Some(asked), .. } => drawn.max((*asked).min(Duration::from_secs(86_400))),
        _ => drawn,
    }
}

fn hint(error: &AnnounceError) -> &'static str {
    match error {
        AnnounceError::Refused { why: Some(Refused::AddressMismatch), .. } => {
            "; node.addresses has to name the IP address that we call from"
        }
        AnnounceError::Refused { why: Some(Refused::Unreachable), .. } => {
            "; it could not dial us: is the port open, and forwarded to us?"
        }
        AnnounceError::Refused { why: Some(Refused::Bogon), .. } => {
            "; an address of node.addresses is not a public one"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrar_that_asks_for_time_gets_it_and_failures_wait_longer() {
        let busy = |after| AnnounceError::Refused { status: 429, why: Some(Refused::Rate), after };
        let hour = Duration::from_secs(3_600);
        assert!(after(&busy(Some(hour)), 0) >= hour);
        assert!(after(&busy(Some(hour * 1_000)), 0) <= hour * 24);
        for failures in [0, 1, 5, 6, 40] {
            let wait = after(&AnnounceError::Unreadable, failures);
            assert!(wait >= RETRY[0] / 2 && wait <= RETRY[1], "{wait:?}");
        }
        assert!(after(&AnnounceError::Unreadable, 6) >= RETRY[1] / 2);
    }
}
