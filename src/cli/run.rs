//! `afferent run`: the daemon in the foreground.

use serde_json::json;

use super::arguments::{Global, Run};
use super::failure::{Exit, Failure};
use super::output::Output;
use super::table::table;
use super::{codes, configuration, logging, reach};
use crate::admin;
use crate::config::{self, Loaded, Mistakes, Settings, Surroundings};
use crate::core::params::{self, Params};
use crate::daemon::{self, Reread};
use crate::net;
use crate::wire::{event, message, pattern, record};

pub(super) fn perform(run: &Run, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    if run.check {
        return configuration::check(&run.set, global, output);
    }
    let start = reach::loaded(global, &run.set)?;
    let settings = start.settings.clone();
    if run.print_limits {
        print_limits(&settings, output)?;
        return Ok(Exit::Done);
    }
    logging::start_as(global, settings.log.format);
    let reread = || reread(global, run, &start);
    daemon::run(settings, &reread).map(|()| Exit::Done).map_err(|error| failure(&error))
}

/// The configuration as it reads now, and what of it is another than at the start.
fn reread(global: &Global, run: &Run, start: &Loaded) -> Result<Reread, Mistakes> {
    let now = config::load_whole(global.config.as_deref(), &run.set, &Surroundings::of_process())?;
    Ok(Reread { changed: now.changed_since(start), settings: now.settings })
}

/// Why it stopped, with every cause.
fn failure(error: &anyhow::Error) -> Failure {
    if let Some(mistakes) = error.downcast_ref::<Mistakes>() {
        return Failure::from(mistakes.clone());
    }
    if let Some(fatal) = error.downcast_ref::<daemon::Fatal>() {
        // Not 1: a supervisor starts it again, and recovery reads what the disk really has.
        let next = "look after the disk, then start it again: what was acknowledged is there";
        return Failure::new(Exit::Degraded, codes::DAEMON, "run", fatal.to_string()).next(next);
    }
    Failure::new(Exit::Failed, codes::DAEMON, "run", format!("{error:#}")).next("afferent config check")
}

fn print_limits(settings: &Settings, output: &mut Output) -> Result<(), Failure> {
    let rows = limits(settings);
    if output.is_json() {
        let limits: Vec<_> =
            rows.iter().map(|[limit, value, what]| json!({ "limit": limit, "value": value, "what": what })).collect();
        output.json(&json!({ "schema": "afferent.limits/1", "limits": limits }).to_string())?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
    for line in table(&["LIMIT", "VALUE", "WHAT"], &rows) {
        output.line(&line)?;
    }
    Ok(())
}

/// Every bound, with what it bounds: nothing in the daemon grows without one.
fn limits(settings: &Settings) -> Vec<[String; 3]> {
    let params: Params = settings.params();
    let mib = |bytes: usize| format!("{} KiB", bytes >> 10);
    let seconds = |span: std::time::Duration| super::words::brief(span);
    let net = net::Limits::default();
    let rows: Vec<(&str, String, &str)> = vec![
        ("event", mib(event::EVENT_BYTES_MAX), "largest event"),
        ("lifetime", seconds(event::LIFETIME_MAX), "longest life of an event; its digest is remembered as long"),
        ("skew", seconds(event::SKEW), "how far ahead of our clock an event may be"),
        ("hops", event::HOPS_MAX.to_string(), "most links an event may cross"),
        ("body", mib(message::BODY_BYTES_MAX), "largest body from a peer"),
        ("lines", message::LINES_MAX.to_string(), "most events in one body"),
        ("record", mib(record::RECORD_BYTES_MAX), "largest node record"),
        ("patterns", pattern::PATTERNS_MAX.to_string(), "most patterns of one node"),
        ("rate", settings.limits.per_source.to_string(), "events of one neighbour or source; known peers 10 times"),
        ("peers", params.peers_max.to_string(), "peers with a durable cursor"),
        ("connections", net.connections.to_string(), "callers at once"),
        ("kept for known", net.connections_for_known.to_string(), "of them for known peers alone"),
        ("per address", net.connections_per_address.to_string(), "of one IPv4 address or IPv6 /64"),
        ("per block", net.connections_per_block.to_string(), "of one IPv4 /24 or IPv6 /48"),
        ("handshakes", net.handshakes.to_string(), "TLS handshakes at once"),
        ("handshake", seconds(net.handshake), "longest TLS handshake"),
        ("first byte", seconds(net.first_byte), "longest silence after it"),
        ("head", seconds(net.head), "longest time for the head of a request"),
        ("body time", seconds(net.body), "longest time for a whole body"),
        ("request", seconds(net.request), "longest time for a whole request"),
        ("write stall", seconds(net.write_stall), "longest wait for a reader"),
        ("idle", seconds(net.idle), "longest life of a connection without a request"),
        ("bodies", mib(net.body_bytes_in_all), "request bodies in memory, of all callers"),
        (
            "rate keys",
            net.rate_keys_max.to_string(),
            "neighbours and sources with a rate of their own; the rest share one",
        ),
        ("verifying", net.verify_queue.to_string(), "chunks of lines waiting for a core"),
        ("shipments", net.shipments.to_string(), "bodies waiting in one lane"),
        ("reports", daemon::REPORTS_MAX.to_string(), "reports of the network waiting for the driver"),
        ("publications", daemon::PUBLICATIONS_MAX.to_string(), "reads of the outbox waiting for the driver"),
        ("newcomers", params::NEWCOMERS_MAX.to_string(), "new peers that may come by themselves at once"),
        ("appending", params.appending_max.to_string(), "events waiting for the disk"),
        ("appending bytes", mib(params.appending_bytes_max), "the same in bytes"),
        ("peer queue", params.peer_queue_max.to_string(), "events queued for one peer; beyond, the journal serves it"),
        ("peer queue bytes", mib(params.peer_queue_bytes_max), "the same in bytes"),
        ("credit", params::CREDIT_MAX.to_string(), "events taken from a peer at once"),
        ("journal keep", seconds(settings.journal.keep), "age at which events are dropped"),
        ("journal bytes", super::words::size(settings.journal.bytes), "size from which the oldest are dropped"),
        ("bus maxlen", settings.bus.maxlen.to_string(), "entries of the stream, about"),
        ("api connections", admin::CONNECTIONS_MAX.to_string(), "local callers at once"),
        ("scrapers", admin::SCRAPERS_MAX.to_string(), "callers of /metrics over TCP at once"),
        ("api requests", admin::REQUESTS_MAX.to_string(), "questions waiting for the driver"),
        ("api body", mib(admin::BODY_BYTES_MAX), "largest body from a local caller"),
        ("api batch", admin::PUBLISH_BATCH_MAX.to_string(), "events of one publisher handed over at once"),
        ("api keys", seconds(admin::KEY_LIFE), "how long an idempotency key is remembered"),
        ("api wait", seconds(admin::WAIT_MAX), "longest wait of an answer for peers"),
        ("watched", params::WATCHED_MAX.to_string(), "events whose takers are waited for at once"),
        ("api batches", admin::PUBLISH_BATCHES_MAX.to_string(), "batches of one publisher waiting for the disk"),
    ];
    rows.into_iter().map(|(name, value, about)| [name.to_owned(), value, about.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::pages;
    use super::*;
    use crate::config::NodeName;
    use std::path::Path;

    fn settings() -> Settings {
        Settings::default_at(NodeName::of_host("birch"), Path::new("/data"), Path::new("/data/afferent.sock"))
    }

    #[test]
    fn every_limit_has_a_value_and_a_meaning() {
        let limits = limits(&settings());
        assert!(limits.len() > 20 && limits.iter().flatten().all(|cell| !cell.is_empty()));
        let of = |name: &str| limits.iter().find(|row| row[0] == name).map(|row| row[1].as_str());
        assert_eq!((of("rate"), of("lifetime")), (Some("50/s burst 200"), Some("7d")));
        let (mut output, results, _) = pages(true);
        print_limits(&settings(), &mut output).and_then(|()| Ok(output.flush()?)).expect("printed");
        let json: serde_json::Value = serde_json::from_str(&results.text()).expect("JSON");
        assert_eq!(json["limits"].as_array().map(Vec::len), Some(limits.len()));
    }

    #[test]
    fn mistakes_found_by_the_daemon_are_mistakes_of_the_configuration() {
        let mistakes = config::read(Some((Path::new("a.toml"), "x = 1")), &[], &Default::default()).expect_err("wrong");
        assert_eq!(failure(&anyhow::Error::new(mistakes)).exit, Exit::Configuration);
        let other = anyhow::anyhow!("address in use").context("[::]:7443 cannot be listened on");
        let text = failure(&other).to_string();
        assert_eq!(
            text.lines().next(),
            Some("afferent: run: [::]:7443 cannot be listened on: address in use (AF0004)")
        );
    }
}
