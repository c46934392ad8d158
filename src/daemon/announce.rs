//! Tells the registrar of `discovery.registrar` where we are, again and again, and when that changes; and
//! that we leave, when a person says so.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::clock::wall;
use crate::net;
use crate::net::registrar::{AnnounceError, leave, register};
use crate::wire::registration::{Origin, Refused};
use crate::wire::{HostPort, Keys, Network, Record, envelope};

/// Between two announcements, whatever happens.
const PAUSE: Duration = Duration::from_secs(60);
/// After a failure, doubled with each up to the second.
const RETRY: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(1_800)];

/// Between two goodbyes to a registrar that cannot hear just now.
const GOODBYE_RETRY: Duration = Duration::from_secs(1);

/// Is the entry gone? In our own words why it may not be.
pub(super) type Outcome = Result<(), String>;

/// The driver's end of the announcer.
pub(super) struct Announcer {
    pub(super) origin: Origin,
    farewells: mpsc::Sender<Farewell>,
}

/// A goodbye, and who waits for what comes of it.
pub(super) struct Farewell {
    goodbye: Arc<str>,
    until: Instant,
    answer: oneshot::Sender<Outcome>,
}

/// Both ends, the first one only where there is a registrar.
pub(super) fn channel(origin: Option<&Origin>) -> (Option<Announcer>, mpsc::Receiver<Farewell>) {
    let (farewells, inbox) = mpsc::channel(1);
    (origin.map(|origin| Announcer { origin: origin.clone(), farewells }), inbox)
}

impl Announcer {
    /// Asks to be struck out, until then at most. Nothing is announced any more after that.
    pub(super) fn strike_out(&self, goodbye: Arc<str>, until: Instant) -> oneshot::Receiver<Outcome> {
        let (answer, answered) = oneshot::channel();
        // Full or closed: the asker hears that its sender is gone.
        let _ = self.farewells.try_send(Farewell { goodbye, until, answer });
        answered
    }
}

/// Announces until `shutdown` says true or its sender is gone. A stop is no goodbye: we come back.
pub(super) async fn run(
    context: net::Context,
    origin: Origin,
    network: Network,
    mut record: watch::Receiver<Arc<str>>,
    mut farewells: mpsc::Receiver<Farewell>,
    mut shutdown: watch::Receiver<bool>,
) {
    let announcing = async {
        let mut failures = 0;
        loop {
            let line = record.borrow_and_update().clone();
            let said = said(&line, &network);
            let again = match &said {
                Some(_) => announce(&context, &origin, &line, &mut failures).await,
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
    let farewell = tokio::select! {
        // Only looks at a value. A registration that is cut off is made again after the start.
        () = async { drop(shutdown.wait_for(|stop| *stop).await) } => return,
        // Cancel safe. A registration that is cut off here would find that our record says goodbye.
        Some(farewell) = farewells.recv() => farewell,
        () = announcing => return,
    };
    let outcome = strike_out(&context, &origin, &farewell).await;
    match &outcome {
        Ok(()) => tracing::info!(%origin, "struck out by the registrar"),
        Err(why) => tracing::warn!(%origin, "perhaps still listed: {why}; its rounds will find nobody here"),
    }
    // The driver waited no longer.
    let _ = farewell.answer.send(outcome);
    drop(shutdown.wait_for(|stop| *stop).await);
}

/// Says goodbye until it is heard, refused, or too late.
async fn strike_out(context: &net::Context, origin: &Origin, farewell: &Farewell) -> Outcome {
    let mut why = "no answer in time".to_owned();
    let asking = async {
        loop {
            match leave(context, origin, &farewell.goodbye).await {
                Ok(()) => return Ok(()),
                Err(error @ (AnnounceError::Unreachable(_) | AnnounceError::Refused { status: 503, .. })) => {
                    why = error.to_string();
                }
                Err(error) => return Err(error.to_string()),
            }
            tokio::time::sleep(GOODBYE_RETRY).await;
        }
    };
    let outcome = timeout_at(farewell.until, asking).await;
    outcome.unwrap_or(Err(why))
}

/// Where our record says we are; `None` when nobody could dial us there, as after a goodbye.
fn said(line: &str, network: &Network) -> Option<Vec<HostPort>> {
    let line = Bytes::copy_from_slice(line.as_bytes());
    let envelope = envelope::open(&line, wall(), network, &mut Keys::default()).ok()?;
    let addresses = Record::read(&envelope).ok()?.into_inner().addresses;
    (!addresses.is_empty()).then_some(addresses)
}

/// Says it once; when to say it again.
async fn announce(context: &net::Context, origin: &Origin, line: &str, failures: &mut u32) -> Duration {
    match register(context, origin, line).await {
        Ok(listed) => {
            tracing::info!(%origin, label = listed.label, "listed by the registrar");
            *failures = 0;
            listed.again
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
