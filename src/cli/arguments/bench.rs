//! What is typed about measuring.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::sim::swarm::{Faults, Share};
use crate::wire::EventType;

#[derive(Args, Debug)]
pub(in crate::cli) struct Bench {
    #[command(subcommand)]
    pub(in crate::cli) action: BenchAction,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum BenchAction {
    /// How fast this node stores what is published here, as fast as it goes
    Pub(BenchPub),
    /// How long events take from being published to being readable: here, at a second daemon, or
    /// until a peer says that it has stored them
    ///
    /// The events are real ones. Peers that ask for their type get them too, and so does Redis there.
    E2e(BenchE2e),
}

#[derive(Args, Debug)]
pub(in crate::cli) struct BenchPub {
    #[command(flatten)]
    pub(in crate::cli) load: Load,
    /// How many events, at most 1000000 [default: 10000]
    #[arg(long, value_name = "N", default_value_t = 10_000, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..=COUNT_MAX))]
    pub(in crate::cli) count: u64,
    /// How many publish side by side, each by a connection of its own, at most 64 [default: 4]
    #[arg(long, value_name = "C", default_value_t = 4, hide_default_value = true, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(in crate::cli) concurrency: u16,
    /// Events that each of them has unanswered, at most 1024: 1 waits for every answer [default: 16]
    #[arg(long, value_name = "N", default_value_t = 16, hide_default_value = true, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub(in crate::cli) window: u16,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct BenchE2e {
    #[command(flatten)]
    pub(in crate::cli) load: Load,
    /// How many events, at most 1000000 [default: 1000]
    #[arg(long, value_name = "N", default_value_t = 1_000, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..=COUNT_MAX))]
    pub(in crate::cli) count: u64,
    /// Events a second, at most 100000 [default: 200]
    #[arg(long, value_name = "R", default_value_t = 200, hide_default_value = true, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(in crate::cli) rate: u32,
    /// For this peer alone, whatever it asks for; without --via an event has arrived when the peer
    /// says that it is stored there [default: whoever asks for the type]
    #[arg(long, value_name = "PEER")]
    pub(in crate::cli) to: Option<String>,
    /// Read at the daemon with this socket, one on this machine [default: at the publishing one]
    #[arg(long, value_name = "SOCKET")]
    pub(in crate::cli) via: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Simulate {
    /// How many nodes, 2 to 100000 [default: 1000]
    #[arg(long, value_name = "N", default_value_t = 1_000, hide_default_value = true)]
    pub(in crate::cli) nodes: usize,
    /// Decides everything that chance decides: the same seed is the same run [default: another each time]
    #[arg(long, value_name = "S")]
    pub(in crate::cli) seed: Option<u64>,
    /// How many events, each published by a node chosen by chance [default: 10]
    #[arg(long, value_name = "E", default_value_t = 10, hide_default_value = true)]
    pub(in crate::cli) events: usize,
    /// How many percent of the nodes ask for them [default: 100]
    #[arg(long, value_name = "PERCENT", default_value = "100", hide_default_value = true)]
    pub(in crate::cli) interested: Share,
    /// What goes wrong while they are published, such as dead=5,loss=1: dead, droppers, stale, slow, loss, churn and
    /// partition in percent, skew in seconds, jitter in milliseconds [default: nothing]
    #[arg(long, value_name = "LIST")]
    pub(in crate::cli) faults: Option<Faults>,
    /// Milliseconds between two events, at most 600000 [default: 200]
    #[arg(long, value_name = "MS", default_value_t = 200, hide_default_value = true, value_parser = clap::value_parser!(u32).range(1..=600_000))]
    pub(in crate::cli) interval: u32,
    /// Bytes of data in each event, 60000 at most [default: 700, for events of 1 KB]
    #[arg(long, value_name = "BYTES", default_value_t = 700, hide_default_value = true, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    pub(in crate::cli) size: u32,
    /// All connections stand from the beginning [default: who sends to a node first waits for a round trip more]
    #[arg(long)]
    pub(in crate::cli) warm: bool,
}

/// What both publish.
#[derive(Args, Debug)]
pub(in crate::cli) struct Load {
    /// Bytes of data in each event, 60000 at most [default: 700, for events of 1 KB]
    #[arg(long, value_name = "BYTES", default_value_t = 700, hide_default_value = true, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    pub(in crate::cli) size: u32,
    /// Their type [default: afferent.bench.RUN, another RUN each time]
    #[arg(long = "type", value_name = "TYPE")]
    pub(in crate::cli) kind: Option<EventType>,
    /// Give up when nothing has moved for this long, at most 1h [default: 10s]
    #[arg(long, value_name = "SPAN", value_parser = patience, default_value = "10s", hide_default_value = true)]
    pub(in crate::cli) timeout: Duration,
}

/// Every event of a run is remembered until it ends.
const COUNT_MAX: u64 = 1_000_000;

fn patience(text: &str) -> Result<Duration, String> {
    let span = super::an_hour_at_most(text)?;
    if span >= Duration::from_millis(1) { Ok(span) } else { Err("1ms at least".to_owned()) }
}
