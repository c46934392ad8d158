//! Everybody who has a place is visited every five minutes. The list is read for the round, and again for what
//! the round changes.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Registrar;
use crate::core::registrar::{Visit, Visits};

impl Registrar {
    /// Makes rounds until `shutdown` says true or its sender is gone. The first begins at once.
    pub async fn rounds(self, mut shutdown: watch::Receiver<bool>) {
        loop {
            let round = async {
                self.round().await;
                let every = self.0.settings.sweep;
                // Several registrars of one zone should not all come at once.
                let jitter =
                    Duration::from_millis(fastrand::u64(0..=u64::try_from(every.as_millis()).unwrap_or(0) / 10));
                tokio::time::sleep(every + jitter).await;
            };
            tokio::select! {
                // Only looks at a value. What a round had not written yet, the next one finds again.
                () = async { drop(shutdown.wait_for(|stop| *stop).await) } => return,
                () = round => {}
            }
        }
    }

    async fn round(&self) {
        // Both failures have been logged where they were seen.
        let counters = &self.0.counters;
        let Ok(listing) = self.listing().await else { return counters.rounds_lost.one() };
        let mut visits = JoinSet::new();
        for (id, entry) in listing.placed() {
            let (registrar, id, at) = (self.clone(), *id, entry.at);
            visits.spawn(async move {
                let outcome = registrar.visit(&id, at).await;
                if let Err((_, why)) = &outcome {
                    tracing::debug!(id = %id.short(), why, "does not answer");
                }
                (id, Visit { at, answered: outcome.is_ok() })
            });
        }
        let mut seen = BTreeMap::new();
        while let Some(visit) = visits.join_next().await {
            seen.extend(visit);
        }
        let visits = Visits(seen);
        if visits.blames_us() {
            let (missed, of) = (visits.missed(), visits.0.len());
            tracing::warn!(
                missed,
                of,
                "most nodes do not answer: taken for trouble of our own network, nobody is struck out"
            );
        }
        // Written also when nothing changed: the manifest says until when the list is good.
        let written = self.change(|listing, now| Ok((visits.note_in(listing, now), true))).await;
        match written {
            Ok(out) => {
                counters.round_done();
                counters.struck_out.add(out.len());
                if visits.blames_us() {
                    counters.rounds_blamed.one();
                }
                tracing::info!(visited = visits.0.len(), missed = visits.missed(), out = out.len(), "round done");
            }
            Err(denied) => {
                counters.rounds_lost.one();
                tracing::warn!(why = denied.title, "the round is lost; the next one finds the same");
            }
        }
    }
}
