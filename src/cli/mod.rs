//! Floor 5: the command line. One file a command; what they share stands beside them.
//!
//! Results go to standard output, everything else to standard error, so that a pipe holds results
//! alone. `--json` prints one object a line, each with its schema. A closed pipe ends a command
//! quietly. Nothing is asked where nobody sits at a terminal. Whatever a peer chose is escaped before
//! it reaches a terminal, and there are no colours.
//!
//! Most commands are a question to the running daemon over its socket (`admin::client`); `run` and
//! `demo` are the daemon; `init`, `id`, `config`, `explain`, `simulate`, `completions` and `man` work without one. A command ends in an [`Exit`]
//! or a [`Failure`]: what, why, what to type next, and a number that `afferent explain` knows.
//!
//! This floor decides nothing about the protocol and keeps no state between two calls.

mod arguments;
mod ask;
mod bench;
mod bus;
mod codes;
mod configuration;
mod dead;
mod demo;
mod discover;
mod explain;
mod failure;
mod groups;
mod id;
mod init;
mod interests;
mod invite;
mod journald;
mod keys;
mod leave;
mod limits;
mod logging;
mod manual;
mod matching;
mod mute;
mod node_key;
mod output;
mod peers;
mod ping;
mod publish;
mod reach;
mod registrar;
mod run;
mod simulate;
mod status;
mod sub;
mod table;
mod wait;
mod words;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use failure::{Exit, Failure};
use output::Output;

/// The program: reads its arguments, does what they say, and says how it went.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(Arguments { global, command }) => {
            Arguments { global: global.or_environment(|name| std::env::var_os(name)), command }
        }
        Err(error) => {
            // Help and version come this way too, for standard output; a closed pipe is no error.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    let mut output = Output::new(arguments.global.json, arguments.global.quiet);
    let ended = perform(&arguments, &mut output).and_then(|exit| {
        output.flush()?;
        Ok(exit)
    });
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output.report(&failure);
            failure.exit.into()
        }
    }
}

fn perform(arguments: &Arguments, output: &mut Output) -> Result<Exit, Failure> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Run(run) => return run::perform(run, global, output),
        Command::Registrar(overrides) => return registrar::perform(overrides, global),
        Command::Demo(demo) => return demo::perform(demo, global, output),
        Command::Init(init) => return init::perform(init, global, output),
        Command::Config(config) => return configuration::perform(config, global, output),
        Command::Explain(explain) => return explain::perform(explain, output),
        Command::Completions(completions) => return manual::completions(completions, output),
        Command::Man(man) => return manual::pages(man, output),
        Command::Keys(keys) => return keys::perform(keys, global, output),
        Command::Simulate(simulate) => return simulate::perform(simulate, output),
        _ => {}
    }
    if global.verbose > 0 {
        logging::start(global);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::of_system("afferent", "the runtime does not start", &error))?;
    let ended = runtime.block_on(async {
        match &arguments.command {
            Command::Status(status) => status::perform(status, global, output).await,
            Command::Wait(wait) => wait::perform(wait, global, output).await,
            Command::Match(matching) => matching::perform(matching, global, output).await,
            Command::Ping(ping) => ping::perform(ping, global, output).await,
            Command::Id => id::perform(global, output).await,
            Command::Invite(invite) => invite::perform(invite, global, output).await,
            Command::Discover(discover) => discover::perform(discover, global, output).await,
            Command::Leave => leave::perform(global, output).await,
            Command::Peers(peers) => peers::perform(peers, global, output).await,
            Command::Publish(publish) => publish::perform(publish, global, output).await,
            Command::Ask(ask) => ask::perform(ask, global, output).await,
            Command::Sub(sub) => sub::perform(sub, global, output).await,
            Command::Interests(interests) => interests::perform(interests, global, output).await,
            Command::Dead(dead) => dead::perform(dead, global, output).await,
            Command::Bus(bus) => bus::perform(bus, global, output).await,
            Command::Bench(bench) => bench::perform(bench, global, output).await,
            Command::Mute(mute) => mute::perform(&mute.sources, &[], global, output).await,
            Command::Unmute(unmute) => mute::perform(&[], &unmute.sources, global, output).await,
            Command::Run(_)
            | Command::Registrar(_)
            | Command::Demo(_)
            | Command::Init(_)
            | Command::Config(_)
            | Command::Explain(_)
            | Command::Completions(_)
            | Command::Keys(_)
            | Command::Simulate(_)
            | Command::Man(_) => {
                unreachable!("done above, without a runtime")
            }
        }
    });
    // Somebody else may still hold our standard input; nothing here waits for that.
    runtime.shutdown_background();
    ended
}

#[cfg(test)]
mod tests;
