//! What can be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod bench;
mod events;
mod node;
mod peers;

pub(super) use bench::*;
pub(super) use events::*;
pub(super) use node::*;
pub(super) use peers::*;

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
    /// Run some daemons on this machine and send real events through them
    Demo(Demo),
    /// Show how the daemon is: who, reachable where, bus, peers, journal, warnings
    Status(Status),
    /// Wait until the daemon answers, is ready, has peers; for scripts
    Wait(Wait),
    /// Print this node's id and the addresses that a friend pastes; works without a daemon
    Id,
    /// Print what a friend types to become a peer; works without a daemon
    Invite(Invite),
    /// List, add, accept, block and remove peers
    Peers(Peers),
    /// Ask the tiers of discovery who is there, dial what they name, and say what came of it
    ///
    /// The DNS, the peers that are connected, whom you added by hand, and the seeds; each with how long it
    /// took, and for every address what came of it: refused by the address policy, connected already,
    /// dialled, whose key answered, or why none did and what to do about it. The daemon asks and dials;
    /// nothing of its own search changes by it. With --dry-run nobody is dialled, and without a daemon the
    /// configuration, the DNS and the seeds are asked from here.
    Discover(Discover),
    /// Say goodbye to the mesh and end the daemon; the next start takes it back
    ///
    /// Peers stop calling this node at once instead of trying it again and again. Its key, peers and
    /// journal stay where they are. A node that only restarts does not need this: peers wait for it.
    Leave,
    /// Publish events; each is durable when its digest is printed
    Publish(Publish),
    /// Ask all nodes that want a type, and print their answers as they arrive
    ///
    /// The question is an event like any other, with a deadline. Programs see it on their bus and answer by
    /// publishing an event that names its digest in `causationid`; it goes to this node alone. Each node holds
    /// its answer back by a share of the span, so that ten thousand of them do not come at once. Without
    /// --expect it waits for the deadline; nobody answering is exit code 1.
    Ask(Ask),
    /// Print events as they arrive: those from peers and those published here
    Sub(Sub),
    /// Show or change what this node wants from others
    Interests(Interests),
    /// Say who would get an event of this type, and why; nothing is sent
    Match(Match),
    /// Measure the round trip to a peer by the lane that events take
    Ping(Ping),
    /// Measure rate, latency and loss with real events, beside the limits of the same machine
    Bench(Bench),
    /// Bring events to many simulated nodes, with the protocol that the daemon runs, and say what it cost
    ///
    /// The nodes are real, and so is what they decide; the network, the disks, the clock and what goes wrong are
    /// simulated. A way takes 10 to 100 ms, a commit 2 ms. Nothing is sent anywhere. When promises were broken,
    /// the exit code is 1; the same seed shows it again.
    Simulate(Simulate),
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
    /// Keep the list of nodes in a DNS zone: a role of its own, for whoever has a zone
    ///
    /// Takes registrations over HTTPS, visits who registers, and writes the zone by DNS update. The
    /// table `[registrar]` of the configuration says which zone; nothing is kept but its key.
    Registrar(Overrides),
    /// Print the completions of a shell, to be put where it looks for them
    Completions(Completions),
    /// Print the manual page, or write one for each command into a directory
    Man(Man),
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
            "publish a.b --causation-id -yPgcn41FTKm5PAXc4PotRIsiq3sea5ORHqyNVM50b0",
            "init --config a.toml --address birch.example:7443 --name birch",
            "demo --keep",
            "demo --nodes 5 --keep",
            "status --json",
            "--json status",
            "--socket /tmp/a.sock -q status",
            "id --config a.toml",
            "peers",
            "peers list --json",
            "peers add cedar.example --alias cedar --no-wait",
            "peers add [::1]:7443 --trust-first-use",
            "peers rm cedar",
            "peers list --all",
            "peers accept cedar --json",
            "peers block cedar --reason floods",
            "peers unblock cedar",
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
            "ask a.b",
            "ask a.b {\"x\":1} --spread off --deadline 5s --expect 3 --json",
            "ask a.b - --spread 10s --to cedar --attr subject=x",
            "sub",
            "sub deployment.* + --since 10m --count 3 --raw".replace(" + ", " ").as_str(),
            "sub --json --seq --since all",
            "sub a.* --group app --since all",
            "sub --list-groups --json",
            "sub --forget-group app",
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
            "bench pub",
            "bench pub --count 9 --size 0 --concurrency 2 --window 1 --type a.b --timeout 1s --json",
            "bench e2e --count 9 --rate 50 --size 100",
            "bench e2e --to cedar",
            "simulate",
            "simulate --nodes 40 --seed 7 --events 100 --interested 12.5 --faults dead=5,loss=1 --warm --json",
            "bench e2e --via b.sock --to cedar --socket a.sock",
            "registrar --config a.toml --set registrar.zone=mesh.example",
            "leave --json",
            "discover",
            "discover --tier dns --tier seeds --dry-run --json",
            "invite",
            "invite --qr",
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
            "publish a.b --wait 1 --timeout 2h",
            "ping cedar --count 0",
            "publish a.b --wait some",
            "publish --stdin --spread 1s",
            "ask",
            "ask a",
            "ask a.b --spread 365d",
            "ask a.b --spread 0s",
            "ask a.b --deadline 365d",
            "ask a.b --expect 0",
            "sub a..b",
            "sub --count 0",
            "sub --seq",
            "sub --raw --json",
            "sub a.* --list-groups",
            "sub --group app --forget-group app",
            "bench",
            "bench pub --count 0",
            "bench pub --size 60001",
            "bench pub --type a",
            "bench pub --to cedar",
            "bench e2e --rate 0",
            "simulate --interested 101",
            "simulate --faults dred=5",
            "simulate --faults dead",
            "simulate --interval 0",
            "bench e2e --timeout 2h",
            "bench e2e --timeout 0s",
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

    /// What a script types whose variable is not set.
    #[test]
    fn an_empty_name_is_no_name() {
        for line in [
            &["peers", "show"][..],
            &["peers", "rm"],
            &["peers", "alias"],
            &["peers", "accept"],
            &["peers", "block"],
            &["peers", "unblock"],
            &["ping"],
            &["mute"],
            &["unmute"],
            &["match"],
            &["dead", "show"],
            &["sub", "--group"],
        ] {
            let typed = ["afferent"].iter().chain(line).chain(&[""]);
            let error = Arguments::try_parse_from(typed).expect_err("nobody has no name");
            assert!(error.use_stderr() && error.to_string().contains("a value is required"), "{line:?}: {error}");
        }
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
