//! `afferent registrar`: the role that keeps the list of nodes in the DNS.

use super::arguments::{Global, Overrides};
use super::failure::{Exit, Failure};
use super::{codes, logging, reach};
use crate::daemon;

pub(super) fn perform(overrides: &Overrides, global: &Global) -> Result<Exit, Failure> {
    let settings = reach::settings(global, &overrides.set)?;
    if let Some((key, why, next)) = settings.registrar_lacks() {
        let what = format!("`{key}` is missing: {why}");
        return Err(Failure::new(Exit::Configuration, codes::LACKING, "registrar", what).next(next));
    }
    logging::start_as(global, settings.log.format);
    let failure = |error: anyhow::Error| {
        let what = format!("{error:#}");
        Failure::new(Exit::Failed, codes::DAEMON, "registrar", what).next("afferent config show")
    };
    daemon::run_registrar(&settings).map(|()| Exit::Done).map_err(failure)
}
