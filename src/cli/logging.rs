//! The log: to standard error, for people on a terminal, JSON for everything else.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::arguments::Global;

/// Starts logging for the rest of the process. `AFFERENT_LOG` (such as `debug` or
/// `info,afferent::net=trace`) has the last word about the level, `-q` and `-v` the first.
pub(super) fn start(global: &Global) {
    let asked = std::env::var("AFFERENT_LOG").ok();
    let filter = asked.and_then(|asked| EnvFilter::try_new(asked).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(level(global)));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    // The second start in one process (a test) keeps the first one's choice.
    let _ = if is_json(io::stderr().is_terminal(), std::env::var_os("JOURNAL_STREAM").is_some()) {
        subscriber.json().flatten_event(true).try_init()
    } else {
        subscriber.try_init()
    };
}

/// Our own voice louder than that of the libraries: their debug lines are for their authors.
fn level(global: &Global) -> &'static str {
    match (global.quiet, global.verbose) {
        (true, 0) => "error",
        // h2 warns of every attacker it closes: strangers must not write our log.
        (_, 0) => "warn,h2=error,afferent=info",
        (_, 1) => "info,h2=error,afferent=debug",
        _ => "debug,afferent=trace",
    }
}

fn is_json(is_terminal: bool, is_journal: bool) -> bool {
    is_journal || !is_terminal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_choose_the_level() {
        let of = |quiet, verbose| level(&Global { quiet, verbose, ..Global::default() });
        assert_eq!([of(false, 0), of(true, 0)], ["warn,h2=error,afferent=info", "error"]);
        assert_eq!([of(false, 1), of(false, 3)], ["info,h2=error,afferent=debug", "debug,afferent=trace"]);
        assert!(is_json(true, true) && is_json(false, false) && !is_json(true, false));
    }
}
