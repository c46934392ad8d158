//! What a run measured, for people and for programs.

use std::time::Duration;

use serde::Serialize;

use super::ledger::{Ledger, Step};
use crate::admin::answers::Document;
use crate::cli::table::table;

/// What a run measured. Schema `afferent.bench/1`.
#[derive(Serialize, Debug)]
pub(super) struct Report {
    /// `pub` or `e2e`.
    pub(super) bench: &'static str,
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Every event was sent and is accounted for.
    pub(super) complete: bool,
    /// Events that were handed to the daemon.
    pub(super) sent: u64,
    pub(super) stored: Taken,
    /// `None` where nothing is to arrive.
    pub(super) arrived: Option<Taken>,
    pub(super) refused: Vec<Refused>,
    /// Stored, and not arrived when nothing had moved for the timeout.
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) out_of_order: u64,
    /// Neither answered nor lost when the run ended before its time.
    pub(super) pending: u64,
    pub(super) limits: Limits,
}

impl Document for Report {
    const SCHEMA: &'static str = "afferent.bench/1";
}

/// A step that events took, and how long after they were handed over, in milliseconds.
#[derive(Serialize, Debug)]
pub(super) struct Taken {
    events: u64,
    /// Events a second.
    rate: Option<f64>,
    p50_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
}

#[derive(Serialize, Debug)]
pub(super) struct Refused {
    pub(super) code: String,
    pub(super) events: u64,
}

/// What the parts of the way took in the same run, and what became of it in comparison.
#[derive(Serialize, Debug, Default)]
pub(super) struct Limits {
    /// Writing down and signing one event on one core.
    seal_ms: f64,
    /// Events that all cores together could sign in a second.
    seal_rate: f64,
    /// One commit of the journal here with its fsync, the mean; `None` when no commit asked the disk.
    sync_ms: Option<f64>,
    events_per_sync: Option<f64>,
    /// The same at the far end.
    sync_there_ms: Option<f64>,
    /// To the far end and back.
    rtt_ms: Option<f64>,
    /// All of them together: what one event takes when nothing waits for anything.
    parts_ms: f64,
    /// The rate of what was stored, of `seal_rate`.
    rate_to_seal: Option<f64>,
    /// The median of the last step, in `parts_ms`.
    p50_to_parts: Option<f64>,
}

/// The parts as they were measured.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Parts {
    pub(super) seal: Duration,
    pub(super) cores: usize,
    /// How many commits, and the mean of one.
    pub(super) syncs: Option<(f64, Duration)>,
    pub(super) syncs_there: Option<(f64, Duration)>,
    pub(super) round_trip: Option<Duration>,
}

fn ms(span: Duration) -> f64 {
    rounded(span.as_secs_f64() * 1e3)
}

/// Three digits behind the point: nobody measures more than that.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

impl Taken {
    fn of(step: &Step, ledger: &Ledger) -> Taken {
        let [p50, p95, p99, max] = match step.percentiles([50, 95, 99, 100]) {
            Some(all) => all.map(|span| Some(ms(span))),
            None => [None; 4],
        };
        let rate = step.rate(ledger.began()).map(rounded);
        Taken { events: step.events(), rate, p50_ms: p50, p95_ms: p95, p99_ms: p99, max_ms: max }
    }

    fn row(&self, name: &str) -> Vec<String> {
        let rate = self.rate.map_or("-".to_owned(), |rate| format!("{rate:.0}/s"));
        let spans = [self.p50_ms, self.p95_ms, self.p99_ms, self.max_ms].map(span);
        [name.to_owned(), self.events.to_string(), rate].into_iter().chain(spans).collect()
    }
}

/// Milliseconds for people.
fn span(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 1.0 => format!("{:.0}us", ms * 1e3),
        Some(ms) if ms < 10.0 => format!("{ms:.2}ms"),
        Some(ms) if ms < 1e4 => format!("{ms:.0}ms"),
        Some(ms) => format!("{:.1}s", ms / 1e3),
    }
}

impl Limits {
    fn of(parts: &Parts, stored: &Taken, last: &Taken) -> Limits {
        let mean = |syncs: Option<(f64, Duration)>| syncs.map(|(_, mean)| mean);
        let all = [mean(parts.syncs), mean(parts.syncs_there), parts.round_trip];
        let parts_ms = ms(parts.seal + all.iter().flatten().sum::<Duration>());
        let seal_rate = rounded(parts.cores as f64 / parts.seal.as_secs_f64().max(1e-9));
        Limits {
            seal_ms: ms(parts.seal),
            seal_rate,
            sync_ms: mean(parts.syncs).map(ms),
            events_per_sync: parts.syncs.map(|(count, _)| rounded(stored.events as f64 / count)),
            sync_there_ms: mean(parts.syncs_there).map(ms),
            rtt_ms: parts.round_trip.map(ms),
            parts_ms,
            rate_to_seal: stored.rate.map(|rate| rounded(rate / seal_rate)),
            p50_to_parts: last.p50_ms.map(|p50| rounded(p50 / parts_ms.max(0.001))),
        }
    }

    /// What the run is to be compared with.
    fn lines(&self, cores: usize) -> Vec<String> {
        let mut lines = vec![format!(
            "signing    {} an event, {:.0}/s on {}; stored {} of that",
            span(Some(self.seal_ms)),
            self.seal_rate,
            crate::cli::words::count(cores as u64, "core"),
            self.rate_to_seal.map_or("nothing".to_owned(), |share| format!("{:.0}%", share * 1e2)),
        )];
        lines.push(match (self.sync_ms, self.events_per_sync) {
            (Some(sync), Some(events)) => {
                format!("disk       {} a commit with its fsync, {events:.1} events in each", span(Some(sync)))
            }
            _ => "disk       no commit asked it: node.durability is \"interval\"".to_owned(),
        });
        lines.extend(self.sync_there_ms.map(|sync| format!("disk there {} a commit with its fsync", span(Some(sync)))));
        lines.extend(self.rtt_ms.map(|trip| format!("round trip {}", span(Some(trip)))));
        lines.extend(self.p50_to_parts.map(|ratio| {
            format!("together   {}; the median event took {ratio:.1} times as long", span(Some(self.parts_ms)))
        }));
        lines
    }
}

impl Report {
    /// The accounts of a run; what was cut short is pending, not lost.
    pub(super) fn of(bench: &'static str, kind: String, ledger: &Ledger, is_cut_short: bool, parts: &Parts) -> Report {
        let stored = Taken::of(ledger.stored(), ledger);
        let arrived = ledger.arrived().map(|step| Taken::of(step, ledger));
        let limits = Limits::of(parts, &stored, arrived.as_ref().unwrap_or(&stored));
        let refused =
            ledger.refused().iter().map(|(code, events)| Refused { code: code.clone(), events: *events }).collect();
        let (lost, late) = if is_cut_short { (0, ledger.awaited()) } else { (ledger.awaited(), 0) };
        Report {
            bench,
            kind,
            complete: ledger.is_settled(),
            sent: ledger.sent(),
            stored,
            arrived,
            refused,
            lost,
            duplicated: ledger.duplicated(),
            out_of_order: ledger.out_of_order(),
            pending: ledger.unanswered() + late,
            limits,
        }
    }

    /// All that were refused.
    pub(super) fn refused_events(&self) -> u64 {
        self.refused.iter().map(|refused| refused.events).sum()
    }

    /// One screen; `arrival` is what people call the last step.
    pub(super) fn lines(&self, arrival: &str, parts: &Parts) -> Vec<String> {
        let mut rows = vec![self.stored.row("stored here")];
        rows.extend(self.arrived.as_ref().map(|arrived| arrived.row(arrival)));
        let mut lines = table(&["STEP", "EVENTS", "RATE", "P50", "P95", "P99", "MAX"], &rows);
        lines.push(String::new());
        let refused = match self.refused.as_slice() {
            [] => "0".to_owned(),
            some => {
                let all = some.iter().map(|Refused { code, events }| format!("{events} {code}"));
                all.collect::<Vec<_>>().join(", ")
            }
        };
        let mut accounts = format!("sent {}, refused {refused}, duplicated {}", self.sent, self.duplicated);
        if self.arrived.is_some() {
            accounts += &format!(", lost {}, out of order {}", self.lost, self.out_of_order);
        }
        if self.pending > 0 {
            accounts += &format!(", pending {}", self.pending);
        }
        lines.push(accounts);
        lines.extend(self.limits.lines(parts.cores));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Answer;
    use super::*;
    use crate::admin::document;
    use std::time::Instant;

    const MS: Duration = Duration::from_millis(1);

    fn parts() -> Parts {
        Parts {
            seal: MS / 20,
            cores: 2,
            syncs: Some((2.0, 2 * MS)),
            syncs_there: Some((1.0, MS)),
            round_trip: Some(MS / 2),
        }
    }

    /// Four events: one lost, one refused, one that came twice.
    fn ledger() -> Ledger {
        let (mut ledger, began) = (Ledger::new(4, true), Instant::now());
        for number in 0..4 {
            ledger.on_sent(number, began);
            let answer = if number == 3 { Answer::Refused("rate".to_owned()) } else { Answer::Stored };
            ledger.on_answer(number, began + 3 * MS, answer);
        }
        for number in [1, 0, 0] {
            ledger.on_arrival(number, began + 10 * MS);
        }
        ledger
    }

    #[test]
    fn what_went_wrong_stands_in_the_report() {
        let report = Report::of("e2e", "a.b".to_owned(), &ledger(), false, &parts());
        assert_eq!((report.sent, report.lost, report.duplicated, report.out_of_order), (4, 1, 1, 1));
        assert_eq!((report.complete, report.pending), (false, 0));
        let short = Report::of("e2e", "a.b".to_owned(), &ledger(), true, &parts());
        assert_eq!((short.lost, short.pending), (0, 1), "what was not waited for is not lost");
        assert_eq!(
            report.lines("readable at cedar", &parts()),
            [
                "STEP               EVENTS  RATE    P50     P95     P99     MAX",
                "stored here        3       1000/s  3.00ms  3.00ms  3.00ms  3.00ms",
                "readable at cedar  2       200/s   10ms    10ms    10ms    10ms",
                "",
                "sent 4, refused 1 rate, duplicated 1, lost 1, out of order 1",
                "signing    50us an event, 40000/s on 2 cores; stored 2% of that",
                "disk       2.00ms a commit with its fsync, 1.5 events in each",
                "disk there 1.00ms a commit with its fsync",
                "round trip 500us",
                "together   3.55ms; the median event took 2.8 times as long",
            ]
        );
    }

    #[test]
    fn the_json_is_the_one_of_the_schema() {
        let line = document(&Report::of("e2e", "a.b".to_owned(), &ledger(), false, &parts()));
        let text = crate::admin::SCHEMAS.iter().find(|(name, _)| *name == "bench").expect("a schema").1;
        let schema: serde_json::Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(schema["examples"][0], serde_json::from_str::<serde_json::Value>(&line).expect("JSON"), "{line}");
    }

    #[test]
    fn a_run_without_a_single_event_has_no_figures() {
        let report = Report::of("pub", "a.b".to_owned(), &Ledger::new(2, false), true, &Parts::default());
        assert_eq!((report.stored.p50_ms, report.stored.rate, report.limits.p50_to_parts), (None, None, None));
        assert!(report.lines("", &Parts::default())[1].starts_with("stored here  0       -     -"));
        assert_eq!(
            ["0.048", "0.6", "4.2", "41.4", "12345"].map(|ms| span(ms.parse().ok())),
            ["48us", "600us", "4.20ms", "41ms", "12.3s"]
        );
    }
}
