//! `afferent run`: the daemon in the foreground.

use serde_json::json;

use super::arguments::{Global, Run};
use super::failure::{Exit, Failure};
use super::limits::limits;
use super::output::Output;
use super::table::table;
use super::{codes, configuration, logging, reach};
use crate::config::{self, Loaded, Mistakes, Settings, Surroundings};
use crate::daemon::{self, Reread};

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
