//! What is typed about other nodes.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use crate::admin::tiers::TierName;
use crate::wire::PeerAddress;

#[derive(Args, Debug)]
pub(in crate::cli) struct Peers {
    #[command(subcommand)]
    pub(in crate::cli) action: Option<PeersAction>,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PeersAction {
    /// List the peers of this node, and who is blocked (what `peers` alone does)
    List(ListPeers),
    /// Add a peer by the address it printed: mesh://ID@HOST:PORT
    Add(AddPeer),
    /// Show all that is known of a peer: why it stands where it stands, and how that came
    Show(ShowPeer),
    /// Call a peer something else; without NAME, nothing
    Alias(NamePeer),
    /// Forget a peer, named by alias, beginning of its id, or address; a blocked one stays blocked
    Rm(RemovePeer),
    /// Let a node be a neighbour that asks for it
    ///
    /// With `node.accept = "ask"`, a node that nobody added and that calls by itself is listed and sent nothing
    /// until then. `peers add` accepts one too.
    Accept(AcceptPeer),
    /// Have nothing to do with a node, until it is unblocked
    ///
    /// Its requests are refused, nothing is sent to it, it is not called, and others are not told of it. Its
    /// events still come by way of others: `afferent mute` ends that.
    Block(BlockPeer),
    /// Let a blocked node come again
    Unblock(UnblockPeer),
}

#[derive(Args, Debug, Default)]
pub(in crate::cli) struct ListPeers {
    /// Show nodes too that were only heard of [default: they are counted]
    #[arg(long)]
    pub(in crate::cli) all: bool,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct AcceptPeer {
    /// Alias, beginning of the id, or address
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(in crate::cli) peer: String,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct BlockPeer {
    /// Alias, beginning of the id, or address; the whole id of a node that is not known
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(in crate::cli) peer: String,
    /// Why, for people of this node, in one line [default: none]
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: Option<String>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct UnblockPeer {
    /// Alias, beginning of the id, or address
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(in crate::cli) peer: String,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct ShowPeer {
    /// Alias, beginning of the id, or address
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(in crate::cli) peer: String,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct NamePeer {
    /// Alias, beginning of the id, or address
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(in crate::cli) peer: String,
    /// A name of your own for it
    pub(in crate::cli) name: Option<String>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct AddPeer {
    /// mesh://ID@HOST:PORT, or HOST:PORT to be asked about the id that answers there
    pub(in crate::cli) address: PeerAddress,
    /// A name of your own for it [default: none]
    #[arg(long)]
    pub(in crate::cli) alias: Option<String>,
    /// Trust whoever answers at HOST:PORT now [default: ask, where somebody sits at a terminal]
    #[arg(long)]
    pub(in crate::cli) trust_first_use: bool,
    /// Return once it is stored [default: wait up to 5 seconds until it is connected]
    #[arg(long)]
    pub(in crate::cli) no_wait: bool,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct RemovePeer {
    /// Alias, beginning of the id, or address
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(in crate::cli) peer: String,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Discover {
    /// Only this tier: dns, exchange, manual or seeds; may be repeated [default: all]
    #[arg(long = "tier", value_name = "TIER", value_parser = tier)]
    pub(in crate::cli) tiers: Vec<TierName>,
    /// Dial nobody: say what the tiers answer, and what the address policy allows [default: off]
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
}

fn tier(text: &str) -> Result<TierName, String> {
    let named = TierName::ALL.into_iter().find(|tier| tier.as_str() == text);
    named.ok_or_else(|| "the tiers are dns, exchange, manual and seeds".to_owned())
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Ping {
    /// Alias, beginning of the id, or address
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(in crate::cli) peer: String,
    /// How often [default: 1]
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) count: u64,
    /// The pause between two [default: 1s]
    #[arg(long, value_name = "SPAN", value_parser = crate::cli::words::span, default_value = "1s", hide_default_value = true)]
    pub(in crate::cli) interval: std::time::Duration,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Mute {
    /// Alias, id, or beginning of the id of a peer; none lists who is muted
    #[arg(value_name = "SOURCE", value_parser = NonEmptyStringValueParser::new())]
    pub(in crate::cli) sources: Vec<String>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Unmute {
    /// Alias, id, or beginning of the id of a peer
    #[arg(value_name = "SOURCE", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub(in crate::cli) sources: Vec<String>,
}
