//! What is typed about events.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use crate::core::offset::SPREAD_MAX;
use crate::wire::event::LIFETIME_MAX;
use crate::wire::{EventType, Pattern};

#[derive(Args, Debug, Default)]
pub(in crate::cli) struct Publish {
    /// Type of the event, such as deployment.started
    #[arg(value_name = "TYPE", required_unless_present = "stdin", conflicts_with = "stdin")]
    pub(in crate::cli) kind: Option<String>,
    /// Data: JSON, @FILE with JSON, or - for JSON on standard input [default: none]
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true, conflicts_with = "stdin")]
    pub(in crate::cli) data: Option<String>,
    /// For this node alone: its id, or how `peers list` calls it; may be repeated [default: everybody]
    #[arg(long, value_name = "PEER", conflicts_with = "stdin")]
    pub(in crate::cli) to: Vec<String>,
    /// An attribute as text, or NAME:=VALUE as JSON; may be repeated [default: none]
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute, conflicts_with = "stdin")]
    pub(in crate::cli) attr: Vec<(String, String)>,
    /// Its id, unique for this node [default: a new UUIDv7]
    #[arg(long, conflicts_with = "stdin")]
    pub(in crate::cli) id: Option<String>,
    /// How long it lives, at most 7d [default: 24h]
    #[arg(long, value_name = "SPAN", value_parser = crate::cli::words::span, conflicts_with = "stdin")]
    pub(in crate::cli) expires: Option<std::time::Duration>,
    /// Who gets the answers: an id, how `peers list` calls it, or `self` [default: this node]
    #[arg(long, value_name = "PEER", conflicts_with = "stdin")]
    pub(in crate::cli) reply_to: Option<String>,
    /// Answers are spread over this span [default: none]
    #[arg(long, value_name = "SPAN", value_parser = crate::cli::words::span, conflicts_with = "stdin")]
    pub(in crate::cli) spread: Option<std::time::Duration>,
    /// What it belongs to, such as the id of a request [default: none]
    #[arg(long, value_name = "TEXT", conflicts_with = "stdin", allow_hyphen_values = true)]
    pub(in crate::cli) correlation_id: Option<String>,
    /// The digest of the event that it answers or follows from [default: none]
    #[arg(long, value_name = "DIGEST", conflicts_with = "stdin", allow_hyphen_values = true)]
    pub(in crate::cli) causation_id: Option<String>,
    /// Publish one JSON object a line from standard input: type, data, any attribute [default: off]
    #[arg(long)]
    pub(in crate::cli) stdin: bool,
    /// Wait until this many peers have stored it, and say who; fewer in time is exit code 6 [default: 0]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) wait: Option<usize>,
    /// How long to wait for peers, at most 1h [default: 10s]
    #[arg(long, value_name = "SPAN", value_parser = an_hour_at_most, requires = "wait")]
    pub(in crate::cli) timeout: Option<std::time::Duration>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Ask {
    /// Type of the question, such as inventory.disks
    #[arg(value_name = "TYPE")]
    pub(in crate::cli) kind: EventType,
    /// Data: JSON, @FILE with JSON, or - for JSON on standard input [default: none]
    #[arg(value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub(in crate::cli) data: Option<String>,
    /// Ask this node alone: its id, or how `peers list` calls it; may be repeated [default: all who want TYPE]
    #[arg(long, value_name = "PEER")]
    pub(in crate::cli) to: Vec<String>,
    /// An attribute as text, or NAME:=VALUE as JSON; may be repeated [default: none]
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute)]
    pub(in crate::cli) attr: Vec<(String, String)>,
    /// Over which span the answers come, 15m at most; `off`: each as it comes
    /// [default: auto, 1s for every 100 nodes that want it]
    #[arg(long, value_name = "SPAN|auto|off", value_parser = spread, default_value = "auto", hide_default_value = true)]
    pub(in crate::cli) spread: Spread,
    /// How long answers are waited for, 7d at most [default: 30s, or 10s more than the span where that is longer]
    #[arg(long, value_name = "SPAN", value_parser = a_life)]
    pub(in crate::cli) deadline: Option<std::time::Duration>,
    /// End after so many answers; fewer before the deadline is exit code 6 [default: wait for the deadline]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) expect: Option<u64>,
}

/// Over which span answers come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cli) enum Spread {
    /// As long as that many nodes need.
    Auto,
    /// Each as it comes.
    Off,
    /// So long.
    Span(std::time::Duration),
}

/// `auto`, `off`, or a span that nodes hold their answers for.
fn spread(text: &str) -> Result<Spread, String> {
    match text {
        "auto" => Ok(Spread::Auto),
        "off" => Ok(Spread::Off),
        span => match crate::cli::words::span(span)? {
            span if span.is_zero() => Err("`off` means no span at all".to_owned()),
            span if span <= SPREAD_MAX => Ok(Spread::Span(span)),
            _ => Err("15m at most: no node holds its answer longer than that".to_owned()),
        },
    }
}

/// As long as an event may live.
fn a_life(text: &str) -> Result<std::time::Duration, String> {
    match crate::cli::words::span(text)? {
        span if span.is_zero() => Err("an answer takes some time".to_owned()),
        span if span <= LIFETIME_MAX => Ok(span),
        _ => Err("7d at most: a question lives no longer than any event".to_owned()),
    }
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Sub {
    /// Types to print, such as deployment.* [default: all]
    #[arg(value_name = "PATTERN")]
    pub(in crate::cli) patterns: Vec<Pattern>,
    /// Begin in the past: 10m, 2026-11-21T06:41:02Z, all, or a number of --seq [default: now]
    #[arg(long, value_name = "WHEN")]
    pub(in crate::cli) since: Option<String>,
    /// Stop after this many [default: never]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) count: Option<u64>,
    /// Print the events alone, exactly as they were signed [default: with time and source]
    #[arg(long, conflicts_with_all = ["json", "seq"])]
    pub(in crate::cli) raw: bool,
    /// Leave out what was published here, but not the mesh.peer.* that a pattern asks for [default: print it too]
    #[arg(long)]
    pub(in crate::cli) no_own: bool,
    /// With --json: add "seq", a position that --since takes to go on exactly there [default: off]
    #[arg(long, requires = "json")]
    pub(in crate::cli) seq: bool,
    /// Also events that a rule keeps from local programs, with what it says of them [default: off]
    #[arg(long)]
    pub(in crate::cli) withheld: bool,
    /// Go on where this group of yours stopped, and remember how far it came: an event counts as read
    /// once it is printed [default: none]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(in crate::cli) group: Option<String>,
    /// List the groups and how far each is, instead of printing events [default: off]
    #[arg(long, conflicts_with_all = ["patterns", "since", "count", "raw", "no_own", "seq", "withheld", "group"])]
    pub(in crate::cli) list_groups: bool,
    /// Forget a group, so that its name begins anew, instead of printing events [default: none]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["patterns", "since", "count", "raw", "no_own", "seq", "withheld", "group", "list_groups"])]
    pub(in crate::cli) forget_group: Option<String>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Match {
    /// Type of the event, such as deployment.started
    #[arg(value_name = "TYPE", value_parser = NonEmptyStringValueParser::new())]
    pub(in crate::cli) kind: String,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Interests {
    #[command(subcommand)]
    pub(in crate::cli) action: Option<InterestsAction>,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum InterestsAction {
    /// Want these and nothing else
    Set(Patterns),
    /// Want these too
    Add(Patterns),
    /// Want these no more
    Rm(Patterns),
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Patterns {
    /// Such as deployment.* or infrastructure.+.down
    #[arg(value_name = "PATTERN", required = true)]
    pub(in crate::cli) patterns: Vec<Pattern>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Dead {
    #[command(subcommand)]
    pub(in crate::cli) action: Option<DeadAction>,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DeadAction {
    /// List the newest dead letters (what `dead` alone does)
    List(DeadList),
    /// Show one with its original
    Show(DeadLetter),
    /// Deliver one after all, if it can be now
    Retry(DeadLetter),
    /// Throw one away
    Drop(DeadLetter),
}

#[derive(Args, Debug)]
pub(in crate::cli) struct DeadList {
    /// How many at most, 1 to 500 [default: 100]
    #[arg(long, default_value_t = 100, hide_default_value = true, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(in crate::cli) count: u16,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct DeadLetter {
    /// As `dead list` prints it, or STREAM/ID where letters of two streams share one
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(in crate::cli) id: String,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Bus {
    #[command(subcommand)]
    pub(in crate::cli) action: BusAction,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(in crate::cli) enum BusAction {
    /// After the last event that is known to be bridged; may miss the few that came after it
    Resume,
    /// With everything the journal holds; repeats what is on the stream already
    Replay,
}

/// A span for which the daemon lets somebody wait.
pub(in crate::cli) fn an_hour_at_most(text: &str) -> Result<std::time::Duration, String> {
    let span = crate::cli::words::span(text)?;
    if span <= crate::admin::WAIT_MAX { Ok(span) } else { Err("1h at most".to_owned()) }
}

/// `NAME=VALUE` (text) or `NAME:=JSON`, as a member of an event: its name, its value as JSON.
pub(in crate::cli) fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE or NAME:=JSON")?;
    match name.strip_suffix(':') {
        Some(name) => {
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok();
            if is_json { Ok((name.to_owned(), value.to_owned())) } else { Err(format!("`{value}` is not JSON")) }
        }
        // The protocol's own numbers: nobody means text by them.
        None if matches!(name, "maxhops" | "spread") && value.parse::<u32>().is_ok() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        None => Ok((name.to_owned(), serde_json::to_string(value).expect("a string always encodes"))),
    }
}
