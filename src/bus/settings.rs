//! What the bridge is told by the configuration.

use std::fmt;
use std::time::Duration;

use crate::core::ports::Seq;
use crate::wire::{Network, NodeId, Pattern};

use super::connection;
use super::history::Era;
use super::late::Spread;
use super::layout::Layout;

/// Everything the bridge needs to know before it starts.
#[derive(Clone)]
pub struct Settings {
    /// Where Redis is: `redis://`, `rediss://` or `unix://`, with user, password and database if
    /// there are any. Printed nowhere.
    pub url: String,
    /// The stream that events are appended to which no route takes; with shards, `{n}` in it stands
    /// for the number of the shard.
    pub stream: String,
    /// Over how many streams it is spread; 0 = it is one stream.
    pub shards: u16,
    /// Streams for certain types.
    pub routes: Vec<Route>,
    /// Events that are shown here at a moment of this node's own; of several that fit, the first counts.
    pub spreads: Vec<Spread>,
    /// Routing of the past, for what was stored until then: see [`super::History`].
    pub former: Vec<Era>,
    /// The fields of an entry. With [`Layout::Teleclaude`] entries of `stream` that ask to travel are
    /// published too.
    pub layout: Layout,
    /// The stream that local programs publish by; empty = none is read.
    pub outbox: String,
    /// Roughly how many entries `stream` keeps; 0 = all, for ever. More lets slow readers lag longer
    /// and costs memory of Redis: about 2.5 times the size of an event each.
    pub maxlen: u64,
    /// Append this node's own events too, as far as they match its interests.
    pub own: bool,
    /// This node.
    pub node: NodeId,
    /// The network that what is published here belongs to.
    pub network: Network,
    /// Where the first bridge of all begins when the stream is already used by others. A stream that
    /// is not there gets everything the journal holds. See [`super::pin`] for a stream that takes over
    /// from another.
    pub start: Seq,
    /// How patient it is.
    pub timing: Timing,
}

/// Events of these types go to this stream; `layout`, `maxlen` and `own` hold for it as well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Which types.
    pub pattern: Pattern,
    /// Where to.
    pub stream: String,
}

/// Every span of the bridge, with its reason. Tests tighten them; nobody else has to.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Longest wait for a connection, and for an answer to anything but the blocking read.
    pub response: Duration,
    /// First wait after a failure; it doubles, with full jitter.
    pub backoff: Duration,
    /// Longest wait between two tries while Redis is there and busy or full.
    pub wait_max: Duration,
    /// Longest wait between two tries while it is not there: somebody is just starting it.
    pub absent_max: Duration,
    /// Wait before a stopped side looks again whether somebody repaired it.
    pub stopped: Duration,
    /// How often an idle bridge reads its cursor again: how fast a flush or a dead Redis is noticed.
    pub survey: Duration,
    /// How long a read of the outbox waits for entries.
    pub block: Duration,
    /// How often entries that an earlier consumer left behind are taken over.
    pub claim: Duration,
    /// How often a bridge that waits for readers looks whether they read on.
    pub pace: Duration,
    /// How long a group of readers may stand still before the bridge goes on without it. What it has
    /// not read is trimmed then, and counted. More keeps events for readers that restart slowly, and
    /// holds everybody else up behind one that was forgotten.
    pub patience: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            response: Duration::from_secs(2),
            backoff: Duration::from_millis(200),
            wait_max: Duration::from_secs(30),
            absent_max: Duration::from_secs(10),
            stopped: Duration::from_secs(30),
            survey: Duration::from_secs(5),
            block: Duration::from_secs(3),
            claim: Duration::from_secs(30),
            pace: Duration::from_millis(200),
            patience: Duration::from_secs(60),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("redis", &connection::place(&self.url))
            .field("stream", &self.stream)
            .field("shards", &self.shards)
            .field("routes", &self.routes)
            .field("spreads", &self.spreads)
            .field("former", &self.former)
            .field("layout", &self.layout)
            .field("outbox", &self.outbox)
            .field("maxlen", &self.maxlen)
            .field("own", &self.own)
            .field("network", &self.network)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;

    #[test]
    fn the_password_is_printed_nowhere() {
        let settings = Settings {
            url: "redis://bob:hush@127.0.0.1:6379/2".into(),
            stream: "mesh:events".into(),
            shards: 0,
            routes: Vec::new(),
            spreads: Vec::new(),
            former: Vec::new(),
            layout: Layout::Plain,
            outbox: "mesh:outbox".into(),
            maxlen: 1_000,
            own: false,
            node: Keypair::from_seed(&[1; 32]).id(),
            network: Network::default(),
            start: Seq(0),
            timing: Timing::default(),
        };
        let printed = format!("{settings:?}");
        assert!(printed.contains("127.0.0.1:6379") && !printed.contains("hush"), "{printed}");
    }
}
