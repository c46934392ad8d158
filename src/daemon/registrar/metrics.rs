//! The registrar's page of metrics, on a listener of its own on loopback. Every name begins with
//! `afferent_registrar_`, every label value is a word of this program.

use std::time::Instant;

use prometheus_client::registry::Unit;
use tokio::sync::{mpsc, watch};

use super::super::metrics::{Page, callers};
use crate::admin::Request;
use crate::net::{Context, registrar::Registrar};

/// Answers whoever scrapes, until `shutdown` says true or its sender is gone.
pub(super) async fn answer(
    registrar: Registrar,
    context: Context,
    mut requests: mpsc::Receiver<Request>,
    mut shutdown: watch::Receiver<bool>,
) {
    let started = Instant::now();
    let answering = async {
        while let Some(request) = requests.recv().await {
            // The listener of metrics asks for nothing else.
            if let Request::Metrics { answer } = request {
                // Whoever gave up waiting scrapes again.
                let _ = answer.send(page(&registrar, &context, started));
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        // Only looks at a value.
        () = async { drop(shutdown.wait_for(|stop| *stop).await) } => {}
        () = answering => {}
    }
}

fn page(registrar: &Registrar, context: &Context, started: Instant) -> String {
    let seen = registrar.counters();
    let mut page = Page::new("afferent_registrar");
    page.build(vec![("version", env!("CARGO_PKG_VERSION").to_owned())]);
    page.gauge_in("uptime", "Since the start", Unit::Seconds, started.elapsed().as_secs_f64());
    let help = "1 while the name server does what it is asked";
    page.flag("ready", help, registrar.is_well());
    page.gauge("entries", "Nodes that had a place when the zone was last read or written", seen.entries());
    page.gauge("places", "Entries that there may be", registrar.places());
    page.count("challenges", "Challenges given out", seen.challenges.value());
    let help = "Registrations by what came of them; done = the name server confirmed it";
    page.counts("registrations", help, "outcome", seen.registrations.rows());
    page.counts("goodbyes", "Goodbyes by what came of them", "outcome", seen.goodbyes.rows());
    let visits = [
        ("answered", seen.answered.value()),
        ("unreachable", seen.unreachable.value()),
        ("wrong_key", seen.wrong_key.value()),
    ];
    page.counts("visits", "Dials to see who answers, of newcomers and in rounds", "outcome", visits);
    page.counts("readings", "The zone read, by the answer of the name server", "answer", seen.readings.rows());
    page.counts("updates", "The zone changed, by the answer of the name server", "answer", seen.updates.rows());
    let rounds = [("done", seen.rounds_done.value()), ("lost", seen.rounds_lost.value())];
    let help = "Rounds of visits to everybody listed; lost = the name server took no result";
    page.counts("rounds", help, "outcome", rounds);
    let help = "Of the rounds done, those in which most did not answer, so that nobody was struck out";
    page.count("rounds_blamed", help, seen.rounds_blamed.value());
    page.count("struck_out", "Nodes struck out since they did not answer", seen.struck_out.value());
    let help = "Since the last round whose result is in the zone, or the start";
    page.gauge_in("round_age", help, Unit::Seconds, seen.round_age().as_secs_f64());
    callers(&mut page, context.counters());
    page.written()
}
