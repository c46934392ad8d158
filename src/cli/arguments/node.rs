//! What is typed about the node itself: run it, set it up, look at it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::wire::HostPort;

#[derive(Args, Debug)]
pub(in crate::cli) struct Status {
    /// Show it again whenever it changes, until interrupted [default: once]
    #[arg(long)]
    pub(in crate::cli) watch: bool,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Wait {
    /// Until it takes events and the bus gets them [default: until it answers]
    #[arg(long)]
    pub(in crate::cli) ready: bool,
    /// Until so many peers are connected [default: 0]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(in crate::cli) peers: u64,
    /// How long at most [default: 30s]
    #[arg(long, value_name = "SPAN", value_parser = crate::cli::words::span, default_value = "30s", hide_default_value = true)]
    pub(in crate::cli) timeout: std::time::Duration,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Keys {
    #[command(subcommand)]
    pub(in crate::cli) action: KeysAction,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum KeysAction {
    /// Id, public key, file and who may read it; works without a daemon
    Show,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Invite {
    /// Show it as a QR code too, for the camera of a telephone [default: the line alone]
    #[arg(long)]
    pub(in crate::cli) qr: bool,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Run {
    /// The same as `afferent config check` [default: off]
    #[arg(long)]
    pub(in crate::cli) check: bool,
    /// Print every limit with its value and stop [default: off]
    #[arg(long)]
    pub(in crate::cli) print_limits: bool,
    /// Override a key of the configuration; may be repeated [default: none]
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = crate::config::Override::parse)]
    pub(in crate::cli) set: Vec<crate::config::Override>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Init {
    /// What others will dial; another port than 7443 is listened on too [default: learned from peers]
    #[arg(long, value_name = "HOST:PORT")]
    pub(in crate::cli) address: Option<HostPort>,
    /// What people call this node [default: the host name]
    #[arg(long)]
    pub(in crate::cli) name: Option<crate::config::NodeName>,
    /// Where key and journal live [default: the usual place, or NAME-data beside a --config NAME.toml]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) data_dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Demo {
    /// Leave the nodes running until Ctrl-C, and say how to talk to them [default: all ends by itself]
    #[arg(long)]
    pub(in crate::cli) keep: bool,
    /// Another play, with so many nodes, 2 to 9: each knows the next one alone, and all of them meet
    /// [default: three nodes, two of them friends of the first]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(crate::cli::demo::NODES))]
    pub(in crate::cli) nodes: Option<u64>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Config {
    #[command(subcommand)]
    pub(in crate::cli) action: ConfigAction,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ConfigAction {
    /// Read the configuration and say whether it is good, or everything that is wrong with it
    Check(Overrides),
    /// Print every value in force as TOML; passwords are masked
    Show(ShowConfig),
    /// Print the JSON Schema of the file
    Schema,
    /// Print a commented file with every key and its default
    Template,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Overrides {
    /// Override a key of the configuration, as `run` would; may be repeated [default: none]
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = crate::config::Override::parse)]
    pub(in crate::cli) set: Vec<crate::config::Override>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct ShowConfig {
    /// Say beside each value where it comes from: file and line, variable, flag, default [default: off]
    #[arg(long)]
    pub(in crate::cli) origin: bool,
    #[command(flatten)]
    pub(in crate::cli) overrides: Overrides,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Explain {
    /// Such as AF0301 or no_such_peer
    pub(in crate::cli) code: Option<String>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Completions {
    /// Which shell
    pub(in crate::cli) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Man {
    /// Write afferent.1, afferent-run.1 and so on into this directory instead of printing the first
    #[arg(value_name = "DIR")]
    pub(in crate::cli) directory: Option<PathBuf>,
}
