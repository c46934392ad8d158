//! What can be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::wire::{HostPort, Pattern, PeerAddress};

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed or the answer is no, 2 usage, 3 daemon not reachable, 4 no such peer,
5 refused, 6 timeout, 7 works but degraded, 78 bad configuration.
Environment: AFFERENT_CONFIG, AFFERENT_SOCKET, AFFERENT_LOG, and AFFERENT_SECTION__KEY for every key
of the configuration, such as AFFERENT_BUS__URL.";

/// Joins machines of different owners into one mesh of signed events.
#[derive(Debug, Parser)]
#[command(name = "afferent", version, max_term_width = 100, after_help = EXIT_CODES)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Args, Debug, Default)]
pub(super) struct Global {
    /// Configuration file [default: $AFFERENT_CONFIG, else /etc/afferent/afferent.toml, else
    /// $XDG_CONFIG_HOME/afferent/afferent.toml, else none]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Socket of the daemon [default: $AFFERENT_SOCKET, else admin.socket of the configuration]
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// Print JSON, one object a line [default: text for people]
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Say nothing but results and errors [default: off]
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Log more; -vv logs all [default: info for the daemon, nothing for other commands]
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

impl Global {
    /// With the two paths that the environment may name; an empty variable is as good as none.
    pub(super) fn or_environment(self, variable: impl Fn(&str) -> Option<OsString>) -> Global {
        let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Global {
            config: self.config.or_else(|| path("AFFERENT_CONFIG")),
            socket: self.socket.or_else(|| path("AFFERENT_SOCKET")),
            ..self
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon in the foreground; works with no configuration at all
    Run(Run),
    /// Make key, configuration and data directory; never overwrites anything
    Init(Init),
    /// Run three daemons on this machine and send real events through them
    Demo(Demo),
    /// Show how the daemon is: who, reachable where, bus, peers, journal, warnings
    Status(Status),
    /// Wait until the daemon answers, is ready, has peers; for scripts
    Wait(Wait),
    /// Print this node's id and the addresses that a friend pastes; works without a daemon
    Id,
    /// List, add and remove peers
    Peers(Peers),
    /// Publish events; each is durable when its digest is printed
    Publish(Publish),
    /// Print events as they arrive: those from peers and those published here
    Sub(Sub),
    /// Show or change what this node wants from others
    Interests(Interests),
    /// Say who would get an event of this type, and why; nothing is sent
    Match(Match),
    /// Measure the round trip to a peer by the lane that events take
    Ping(Ping),
    /// Show this node's key: whose it is and where it lies, never the key itself
    Keys(Keys),
    /// Do not listen to sources: what they sign is refused and shown to nobody here; or list them
    ///
    /// Holds at once, for what waits in the journal too, and after restarts, whatever `trust.mute` of
    /// the configuration says of them. Who hands an event on does not matter: muting a peer stops what
    /// it signs, not what it forwards of others.
    Mute(Mute),
    /// Listen to sources again
    ///
    /// What they signed from now on comes in. What was refused before stays refused until it expires,
    /// for a day as a rule: refusals are remembered, and peers do not send such an event again. A
    /// source of `trust.mute` stays unmuted as long as the configuration names it.
    Unmute(Unmute),
    /// List, show, deliver and drop what could not be delivered
    Dead(Dead),
    /// Let streams go on whose cursor in Redis was lost
    Bus(Bus),
    /// Check and show the configuration, with where each value comes from; works without a daemon
    Config(Config),
    /// Say what a code such as AF0301 means; without one, list them all
    Explain(Explain),
    /// Print the completions of a shell, to be put where it looks for them
    Completions(Completions),
    /// Print the manual page, or write one for each command into a directory
    Man(Man),
}

#[derive(Args, Debug)]
pub(super) struct Status {
    /// Show it again whenever it changes, until interrupted [default: once]
    #[arg(long)]
    pub(super) watch: bool,
}

#[derive(Args, Debug)]
pub(super) struct Wait {
    /// Until it takes events and the bus gets them [default: until it answers]
    #[arg(long)]
    pub(super) ready: bool,
    /// Until so many peers are connected [default: 0]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(super) peers: u64,
    /// How long at most [default: 30s]
    #[arg(long, value_name = "SPAN", value_parser = super::words::span, default_value = "30s", hide_default_value = true)]
    pub(super) timeout: std::time::Duration,
}

#[derive(Args, Debug)]
pub(super) struct Match {
    /// Type of the event, such as deployment.started
    #[arg(value_name = "TYPE")]
    pub(super) kind: String,
}

#[derive(Args, Debug)]
pub(super) struct Ping {
    /// Alias, beginning of the id, or address
    pub(super) peer: String,
    /// How often [default: 1]
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    pub(super) count: u64,
    /// The pause between two [default: 1s]
    #[arg(long, value_name = "SPAN", value_parser = super::words::span, default_value = "1s", hide_default_value = true)]
    pub(super) interval: std::time::Duration,
}

#[derive(Args, Debug)]
pub(super) struct Keys {
    #[command(subcommand)]
    pub(super) action: KeysAction,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeysAction {
    /// Id, public key, file and who may read it; works without a daemon
    Show,
}

#[derive(Args, Debug)]
pub(super) struct Dead {
    #[command(subcommand)]
    pub(super) action: Option<DeadAction>,
}

#[derive(Debug, Subcommand)]
pub(super) enum DeadAction {
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
pub(super) struct DeadList {
    /// How many at most, 1 to 500 [default: 100]
    #[arg(long, default_value_t = 100, hide_default_value = true, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(super) count: u16,
}

#[derive(Args, Debug)]
pub(super) struct DeadLetter {
    /// As `dead list` prints it, or STREAM/ID where letters of two streams share one
    pub(super) id: String,
}

#[derive(Args, Debug)]
pub(super) struct Bus {
    #[command(subcommand)]
    pub(super) action: BusAction,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum BusAction {
    /// After the last event that is known to be bridged; may miss the few that came after it
    Resume,
    /// With everything the journal holds; repeats what is on the stream already
    Replay,
}

#[derive(Args, Debug)]
pub(super) struct Run {
    /// The same as `afferent config check` [default: off]
    #[arg(long)]
    pub(super) check: bool,
    /// Print every limit with its value and stop [default: off]
    #[arg(long)]
    pub(super) print_limits: bool,
    /// Override a key of the configuration; may be repeated [default: none]
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = crate::config::Override::parse)]
    pub(super) set: Vec<crate::config::Override>,
}

#[derive(Args, Debug)]
pub(super) struct Init {
    /// What others will dial; another port than 7443 is listened on too [default: learned from peers]
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) address: Option<HostPort>,
    /// What people call this node [default: the host name]
    #[arg(long)]
    pub(super) name: Option<crate::config::NodeName>,
    /// Where key and journal live [default: the usual place, or NAME-data beside a --config NAME.toml]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Demo {
    /// Keep the three data directories and say where they are [default: removed at the end]
    #[arg(long)]
    pub(super) keep: bool,
}

#[derive(Args, Debug)]
pub(super) struct Peers {
    #[command(subcommand)]
    pub(super) action: Option<PeersAction>,
}

#[derive(Debug, Subcommand)]
pub(super) enum PeersAction {
    /// List everybody this node knows (what `peers` alone does)
    List,
    /// Add a peer by the address it printed: mesh://ID@HOST:PORT
    Add(AddPeer),
    /// Show all that is known of a peer
    Show(ShowPeer),
    /// Call a peer something else; without NAME, nothing
    Alias(NamePeer),
    /// Forget a peer, named by alias, beginning of its id, or address
    Rm(RemovePeer),
}

#[derive(Args, Debug)]
pub(super) struct ShowPeer {
    /// Alias, beginning of the id, or address
    pub(super) peer: String,
}

#[derive(Args, Debug)]
pub(super) struct NamePeer {
    /// Alias, beginning of the id, or address
    pub(super) peer: String,
    /// A name of your own for it
    pub(super) name: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct AddPeer {
    /// mesh://ID@HOST:PORT, or HOST:PORT to be asked about the id that answers there
    pub(super) address: PeerAddress,
    /// A name of your own for it [default: none]
    #[arg(long)]
    pub(super) alias: Option<String>,
    /// Trust whoever answers at HOST:PORT now [default: ask, where somebody sits at a terminal]
    #[arg(long)]
    pub(super) trust_first_use: bool,
    /// Return once it is stored [default: wait up to 5 seconds until it is connected]
    #[arg(long)]
    pub(super) no_wait: bool,
}

#[derive(Args, Debug)]
pub(super) struct RemovePeer {
    /// Alias, beginning of the id, or address
    pub(super) peer: String,
}

#[derive(Args, Debug)]
pub(super) struct Publish {
    /// Type of the event, such as deployment.started
    #[arg(value_name = "TYPE", required_unless_present = "stdin", conflicts_with = "stdin")]
    pub(super) kind: Option<String>,
    /// Data: JSON, @FILE with JSON, or - for JSON on standard input [default: none]
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true, conflicts_with = "stdin")]
    pub(super) data: Option<String>,
    /// For this node alone: its id, or how `peers list` calls it; may be repeated [default: everybody]
    #[arg(long, value_name = "PEER", conflicts_with = "stdin")]
    pub(super) to: Vec<String>,
    /// An attribute as text, or NAME:=VALUE as JSON; may be repeated [default: none]
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute, conflicts_with = "stdin")]
    pub(super) attr: Vec<(String, String)>,
    /// Its id, unique for this node [default: a new UUIDv7]
    #[arg(long, conflicts_with = "stdin")]
    pub(super) id: Option<String>,
    /// How long it lives, at most 7d [default: 24h]
    #[arg(long, value_name = "SPAN", value_parser = super::words::span, conflicts_with = "stdin")]
    pub(super) expires: Option<std::time::Duration>,
    /// Who gets the answers: an id, how `peers list` calls it, or `self` [default: this node]
    #[arg(long, value_name = "PEER", conflicts_with = "stdin")]
    pub(super) reply_to: Option<String>,
    /// Answers are spread over this span [default: none]
    #[arg(long, value_name = "SPAN", value_parser = super::words::span, conflicts_with = "stdin")]
    pub(super) spread: Option<std::time::Duration>,
    /// What it belongs to, such as the id of a request [default: none]
    #[arg(long, value_name = "TEXT", conflicts_with = "stdin")]
    pub(super) correlation_id: Option<String>,
    /// The digest of the event that it answers or follows from [default: none]
    #[arg(long, value_name = "DIGEST", conflicts_with = "stdin")]
    pub(super) causation_id: Option<String>,
    /// Publish one JSON object a line from standard input: type, data, any attribute [default: off]
    #[arg(long)]
    pub(super) stdin: bool,
    /// Wait until this many peers have stored it, and say who; fewer in time is exit code 6 [default: 0]
    #[arg(long, value_name = "N")]
    pub(super) wait: Option<usize>,
    /// How long to wait for peers, at most 1h [default: 10s]
    #[arg(long, value_name = "SPAN", value_parser = super::words::span, requires = "wait")]
    pub(super) timeout: Option<std::time::Duration>,
}

#[derive(Args, Debug)]
pub(super) struct Sub {
    /// Types to print, such as deployment.* [default: all]
    #[arg(value_name = "PATTERN")]
    pub(super) patterns: Vec<Pattern>,
    /// Begin in the past: 10m, 2026-11-21T06:41:02Z, all, or a number of --seq [default: now]
    #[arg(long, value_name = "WHEN")]
    pub(super) since: Option<String>,
    /// Stop after this many [default: never]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// Print the events alone, exactly as they were signed [default: with time and source]
    #[arg(long, conflicts_with_all = ["json", "seq"])]
    pub(super) raw: bool,
    /// Leave out what was published here [default: print it too]
    #[arg(long)]
    pub(super) no_own: bool,
    /// With --json: add "seq", a position that --since takes to go on exactly there [default: off]
    #[arg(long, requires = "json")]
    pub(super) seq: bool,
    /// Also events that a rule keeps from local programs, with what it says of them [default: off]
    #[arg(long)]
    pub(super) withheld: bool,
    /// Go on where this group of yours stopped, and remember how far it came: an event counts as read
    /// once it is printed [default: none]
    #[arg(long, value_name = "NAME")]
    pub(super) group: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct Mute {
    /// Alias, id, or beginning of the id of a peer; none lists who is muted
    #[arg(value_name = "SOURCE")]
    pub(super) sources: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct Unmute {
    /// Alias, id, or beginning of the id of a peer
    #[arg(value_name = "SOURCE", required = true)]
    pub(super) sources: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct Interests {
    #[command(subcommand)]
    pub(super) action: Option<InterestsAction>,
}

#[derive(Debug, Subcommand)]
pub(super) enum InterestsAction {
    /// Want these and nothing else
    Set(Patterns),
    /// Want these too
    Add(Patterns),
    /// Want these no more
    Rm(Patterns),
}

#[derive(Args, Debug)]
pub(super) struct Patterns {
    /// Such as deployment.* or infrastructure.+.down
    #[arg(value_name = "PATTERN", required = true)]
    pub(super) patterns: Vec<Pattern>,
}

#[derive(Args, Debug)]
pub(super) struct Config {
    #[command(subcommand)]
    pub(super) action: ConfigAction,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigAction {
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
pub(super) struct Overrides {
    /// Override a key of the configuration, as `run` would; may be repeated [default: none]
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = crate::config::Override::parse)]
    pub(super) set: Vec<crate::config::Override>,
}

#[derive(Args, Debug)]
pub(super) struct ShowConfig {
    /// Say beside each value where it comes from: file and line, variable, flag, default [default: off]
    #[arg(long)]
    pub(super) origin: bool,
    #[command(flatten)]
    pub(super) overrides: Overrides,
}

#[derive(Args, Debug)]
pub(super) struct Explain {
    /// Such as AF0301 or no_such_peer
    pub(super) code: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct Completions {
    /// Which shell
    pub(super) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(super) struct Man {
    /// Write afferent.1, afferent-run.1 and so on into this directory instead of printing the first
    #[arg(value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
}

/// `NAME=VALUE` (text) or `NAME:=JSON`, as a member of an event: its name, its value as JSON.
fn attribute(text: &str) -> Result<(String, String), String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("afferent").chain(line.split_whitespace()))
    }

    #[test]
    fn the_grammar_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_the_design_shows_can_be_typed() {
        for line in [
            "run",
            "run --config a.toml --check",
            "run --print-limits",
            "run --set bus.url= --set node.listen=127.0.0.1:0",
            "init --config a.toml --address birch.example:7443 --name birch",
            "demo --keep",
            "status --json",
            "--json status",
            "--socket /tmp/a.sock -q status",
            "id --config a.toml",
            "peers",
            "peers list --json",
            "peers add cedar.example --alias cedar --no-wait",
            "peers add [::1]:7443 --trust-first-use",
            "peers rm cedar",
            "peers --config a.toml rm cedar",
            "--json peers --socket a.sock add x.example",
            "interests --config a.toml add a.*",
            "publish demo.hello",
            "publish demo.hello --data {\"a\":1} --to abcd --to efgh --attr subject=x --attr n:=5 --id 7 --expires 1h",
            "publish demo.hello --data -",
            "publish --stdin --json",
            "publish a.b --reply-to self --spread 10s --correlation-id x --causation-id y",
            "publish a.b --wait 2 --timeout 30s",
            "publish --stdin --wait 1",
            "sub",
            "sub deployment.* + --since 10m --count 3 --raw".replace(" + ", " ").as_str(),
            "sub --json --seq --since all",
            "sub a.* --group app --since all",
            "interests",
            "interests set a.*",
            "interests add a.* b.c",
            "interests rm a.*",
            "explain AF0301",
            "mute",
            "mute cedar mesh:abcd",
            "unmute cedar --json",
            "sub --withheld --json",
            "explain --json",
            "config check --config a.toml --json",
            "config check --set bus.url=",
            "config show --origin --json",
            "config schema",
            "config template",
            "completions bash",
            "man",
            "man /usr/share/man/man1",
            "status --watch",
            "wait --ready --peers 2 --timeout 1m",
            "match deployment.started --json",
            "ping cedar --count 3 --interval 200ms",
            "peers show cedar",
            "peers alias cedar birch",
            "peers alias cedar",
            "keys show",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).expect_err("refused"));
        }
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_an_empty_variable_is_none() {
        let variable = |name: &str| match name {
            "AFFERENT_CONFIG" => Some("env.toml".into()),
            "AFFERENT_SOCKET" => Some("".into()),
            _ => None,
        };
        let of = |line| parse(line).expect("good").global.or_environment(variable);
        assert_eq!(of("status --config flag.toml").config, Some("flag.toml".into()));
        assert_eq!((of("status").config, of("status").socket), (Some("env.toml".into()), None));
    }

    #[test]
    fn what_makes_no_sense_is_refused_as_usage() {
        for line in [
            "publish",
            "publish a.b --stdin",
            "publish a.b --attr x",
            "publish a.b --attr x:=y",
            "publish a.b --expires soon",
            "publish a.b --timeout 1s",
            "publish a.b --wait some",
            "publish --stdin --spread 1s",
            "sub a..b",
            "sub --count 0",
            "sub --seq",
            "sub --raw --json",
            "peers add",
            "peers add x:0",
            "peers add mesh://abc@x:1",
            "interests set",
            "unmute",
            "interests set a.*.b",
            "init --address :7",
            "run --set bus.url",
            "run --set url=x",
            "stauts",
            "config",
            "completions",
            "completions cobol",
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.use_stderr(), "{line}");
        }
        assert!(parse("stauts").expect_err("a slip").to_string().contains("'status'"));
    }

    #[test]
    fn attributes_are_text_unless_written_with_a_colon() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(attribute("subject=42"), pair("subject", "\"42\""));
        assert_eq!(attribute("x:=42"), pair("x", "42"));
        assert_eq!(attribute("x=a=b\"c"), pair("x", r#""a=b\"c""#));
        assert_eq!(attribute("maxhops=3"), pair("maxhops", "3"));
        assert_eq!(attribute("x="), pair("x", "\"\""));
    }

    #[test]
    fn the_help_of_every_flag_says_its_default() {
        fn walk(command: &clap::Command) {
            for argument in command.get_arguments().filter(|argument| !argument.is_positional()) {
                if ["help", "version"].contains(&argument.get_id().as_str()) {
                    continue;
                }
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("[default: "), "{} {}: {help}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Arguments::command());
    }
}
