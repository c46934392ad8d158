//! `afferent simulate`: events among many simulated nodes, with the protocol that the daemon runs.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::arguments::Simulate;
use super::failure::{Exit, Failure};
use super::output::Output;
use super::{codes, words};
use crate::admin::answers::Document;
use crate::admin::document;
use crate::sim::swarm::{Plan, Report, Swarm};

/// A run that takes long says how far it is this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

pub(super) fn perform(simulate: &Simulate, output: &mut Output) -> Result<Exit, Failure> {
    let plan = plan(simulate);
    let wrong =
        |what: String| Failure::new(Exit::Usage, codes::USAGE, "simulate", what).next("afferent simulate --help");
    output.remark(&heading(&plan));
    let (began, mut told) = (Instant::now(), Instant::now());
    let swarm = Swarm::new(plan.clone()).map_err(wrong)?;
    let report = swarm.run(|published| {
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            output.remark(&format!("{published} of {} published", words::count(plan.events as u64, "event")));
        }
    });
    let took = began.elapsed();
    if output.is_json() {
        output.line(&document(&Simulation::of(&plan, &report, took)))?;
    } else {
        for line in lines(&report, took) {
            output.line(&line)?;
        }
    }
    match report.broken.first() {
        None => Ok(Exit::Done),
        Some(first) => {
            let more = match report.broken.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            Err(Failure::new(Exit::Failed, codes::BROKEN_PROMISE, "simulate", format!("{first}{more}"))
                .next(format!("--seed {} shows it again", plan.seed)))
        }
    }
}

fn plan(simulate: &Simulate) -> Plan {
    Plan {
        nodes: simulate.nodes,
        seed: simulate.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000)),
        events: simulate.events,
        interested: simulate.interested,
        size: simulate.size as usize,
        interval: Duration::from_millis(simulate.interval.into()),
        warm: simulate.warm,
        faults: simulate.faults.unwrap_or_default(),
        ..Plan::default()
    }
}

/// What is asked, before it is done.
fn heading(plan: &Plan) -> String {
    let links = if plan.warm { "all connections stand" } else { "first contact takes a round trip more" };
    format!(
        "{}, {} of them ask; {} every {}; faults: {}; seed {}\n\
         simulated: 10-100 ms one way, {links}; 2 ms for a commit; no bandwidth, no TLS",
        words::count(plan.nodes as u64, "node"),
        plan.interested,
        words::count(plan.events as u64, "event"),
        words::brief(plan.interval),
        plan.faults,
        plan.seed,
    )
}

fn lines(report: &Report, took: Duration) -> Vec<String> {
    let ms = |span: Duration| format!("{:.0}ms", span.as_secs_f64() * 1e3);
    let mut lines = vec![
        format!(
            "delivered   {} of what is owed, {} five seconds after the last event; {} deliveries",
            share(report.coverage),
            share(report.coverage_before),
            report.deliveries,
        ),
        format!("copies      {:.4} for each delivery", report.copies),
        format!("hops        {:.2}, {} at most", report.hops_avg, report.hops_max),
        format!("time        p50 {}, p99 {}, max {}", ms(report.p50), ms(report.p99), ms(report.max)),
        format!("sends       {} at most by one node for one event", report.sends_max),
        format!("neighbours  {:.1} that a node sends to, {} at most", report.neighbours_avg, report.neighbours_max),
        format!(
            "bytes       {} come to a node, {} at most go out from one",
            words::size(report.bytes_in_avg as u64),
            words::size(report.bytes_out_max)
        ),
        format!("not asked   {} lines, {}", report.unasked_lines, words::size(report.unasked_bytes)),
        format!("network     {} connections made, {} requests not answered", report.dials, report.lost),
        format!(
            "run         {} steps, {} simulated in {:.1}s; trace {:016x}",
            report.steps,
            words::brief(report.lasted),
            took.as_secs_f64(),
            report.trace
        ),
    ];
    if report.crashes > 0 {
        lines.insert(9, format!("crashes     {}", report.crashes));
    }
    lines.extend(report.broken.iter().map(|promise| format!("BROKEN      {promise}")));
    lines
}

/// A share for people: never rounded up to all of it.
fn share(share: f64) -> String {
    let percent = (share * 1e6).floor() / 1e4;
    format!("{percent} %")
}

/// What a run showed. Schema `afferent.simulation/1`.
#[derive(Serialize, Debug)]
struct Simulation {
    nodes: usize,
    seed: u64,
    events: usize,
    faults: String,
    warm: bool,
    acknowledged: usize,
    interested: usize,
    deliveries: u64,
    copies: f64,
    hops_max: u8,
    hops_avg: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    coverage_before: f64,
    coverage: f64,
    max_sends: u32,
    neighbours_max: usize,
    neighbours_avg: f64,
    bytes_in_avg: f64,
    bytes_out_max: u64,
    unasked_lines: u64,
    unasked_bytes: u64,
    in_hand_max: usize,
    dials: u64,
    lost: u64,
    crashes: u64,
    steps: u64,
    simulated_ms: u64,
    took_ms: u64,
    trace: String,
    broken: Vec<String>,
}

impl Document for Simulation {
    const SCHEMA: &'static str = "afferent.simulation/1";
}

impl Simulation {
    fn of(plan: &Plan, report: &Report, took: Duration) -> Simulation {
        let ms = |span: Duration| span.as_micros() as f64 / 1e3;
        let whole_ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let rounded = |number: f64| (number * 1e6).round() / 1e6;
        // A share of one means that nothing is missing.
        let floored = |share: f64| (share * 1e6).floor() / 1e6;
        Simulation {
            nodes: plan.nodes,
            seed: plan.seed,
            events: plan.events,
            faults: plan.faults.to_string(),
            warm: plan.warm,
            acknowledged: report.acknowledged,
            interested: report.interested,
            deliveries: report.deliveries,
            copies: rounded(report.copies),
            hops_max: report.hops_max,
            hops_avg: rounded(report.hops_avg),
            p50_ms: ms(report.p50),
            p99_ms: ms(report.p99),
            max_ms: ms(report.max),
            coverage_before: floored(report.coverage_before),
            coverage: floored(report.coverage),
            max_sends: report.sends_max,
            neighbours_max: report.neighbours_max,
            neighbours_avg: rounded(report.neighbours_avg),
            bytes_in_avg: rounded(report.bytes_in_avg),
            bytes_out_max: report.bytes_out_max,
            unasked_lines: report.unasked_lines,
            unasked_bytes: report.unasked_bytes,
            in_hand_max: report.in_hand_max,
            dials: report.dials,
            lost: report.lost,
            crashes: report.crashes,
            steps: report.steps,
            simulated_ms: whole_ms(report.lasted),
            took_ms: whole_ms(took),
            trace: format!("{:016x}", report.trace),
            broken: report.broken.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_rounded_up_to_everything() {
        assert_eq!(share(1.0), "100 %");
        assert_eq!(share(0.999_999_9), "99.9999 %");
        assert_eq!(share(0.5), "50 %");
    }

    #[test]
    fn a_run_is_told_to_people_and_to_programs() {
        let plan = Plan { nodes: 5, events: 3, seed: 2, ..Plan::default() };
        let report = Swarm::new(plan.clone()).expect("a plan").run(|_| {});
        let text = lines(&report, Duration::from_secs(1)).join("\n");
        assert!(text.contains("12 deliveries") && text.contains("100 % of what is owed"), "{text}");
        assert!(!text.contains("BROKEN"), "{text}");
        let json: serde_json::Value =
            serde_json::from_str(&document(&Simulation::of(&plan, &report, Duration::ZERO))).expect("JSON");
        assert_eq!((json["nodes"].as_u64(), json["coverage"].as_f64()), (Some(5), Some(1.0)));
        assert!(heading(&plan).contains("5 nodes, 100 % of them ask; 3 events every 200ms; faults: none; seed 2"));
    }
}
