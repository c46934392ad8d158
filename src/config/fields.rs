//! The one table of all keys: the reader, the commented template and the suggestions all use it.

use super::registrar;

/// What kind of TOML value a key takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `"text"`.
    Text,
    /// `100000`.
    Integer,
    /// `true`, `false`.
    Flag,
    /// `["a", "b"]`.
    List,
}

impl Kind {
    /// With its article, for a sentence.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Kind::Text => "a string in quotes",
            Kind::Integer => "a whole number",
            Kind::Flag => "true or false",
            Kind::List => "a list such as [\"a\", \"b\"]",
        }
    }
}

/// What holds while nobody sets a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// This value, as TOML.
    Value(&'static str),
    /// It depends on the machine: on what, in words.
    Derived(&'static str),
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its table.
    pub section: &'static str,
    /// Its name.
    pub key: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its default.
    pub preset: Preset,
    /// A value as one would write it, as TOML.
    pub example: &'static str,
    /// What it is for; unit and trade-off where there is one. One sentence a line.
    pub purpose: &'static [&'static str],
}

impl Field {
    /// With another example than the default, where that says little.
    pub(super) const fn like(self, example: &'static str) -> Field {
        Field { example, ..self }
    }

    /// Every table of this name has it.
    pub fn is_needed(&self) -> bool {
        matches!(self.preset, Preset::Derived(from) if from.starts_with(NEEDED))
    }

    /// Its table may stand many times: `[[section]]`.
    pub fn is_repeated(&self) -> bool {
        is_repeated(self.section)
    }

    /// The field called `section.key`.
    pub fn find(section: &str, key: &str) -> Option<&'static Field> {
        FIELDS.iter().find(|field| field.section == section && field.key == key)
    }
}

pub(super) const fn field(
    section: &'static str,
    key: &'static str,
    kind: Kind,
    value: &'static str,
    purpose: &'static [&'static str],
) -> Field {
    Field { section, key, kind, preset: Preset::Value(value), example: value, purpose }
}

pub(super) const fn derived(
    section: &'static str,
    key: &'static str,
    kind: Kind,
    example: &'static str,
    from: &'static str,
    purpose: &'static [&'static str],
) -> Field {
    Field { section, key, kind, preset: Preset::Derived(from), example, purpose }
}

/// How the preset of a key begins that cannot be left out.
const NEEDED: &str = "none: every";

/// Is this written `[[section]]`, once for each?
pub(super) fn is_repeated(section: &str) -> bool {
    MANY.contains(&section)
}

/// The tables in the order of the template, with what each is about.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("node", "Who this node is and where it lives."),
    ("interests", "What it wants from others."),
    ("bus", "The local bus that programs read: a Redis stream, or the journal itself."),
    ("bus.route", "A stream of its own for certain types; one [[bus.route]] each. An event goes to all that match."),
    ("bus.spread", "Show certain events on the Redis bus at a moment of this node's own, one [[bus.spread]] each."),
    ("discovery", "How peers are found, besides [[peers]] and `afferent peers add`. No way waits for another."),
    ("peers", "A peer that is known by hand; one [[peers]] each. The same as `afferent peers add`."),
    ("trust", "Whom to listen to."),
    ("trust.rule", "Who may send which types, one [[trust.rule]] each. The first that fits decides; none: accept."),
    ("limits", "What neighbours may send."),
    ("journal", "What is kept on disk: the dedupe index and everybody's place in the event log depend on it."),
    ("metrics", "Numbers for Prometheus. The local API has them too, at /metrics."),
    ("log", "What the daemon writes to standard error."),
    ("admin", "The local API that the commands of `afferent` speak to."),
    ("registrar", "The list of nodes in the DNS that others begin with: `afferent registrar`, a role of its own."),
];

/// Tables that may stand many times, each with two brackets.
pub(super) const MANY: &[&str] = &["peers", "bus.route", "bus.spread", "trust.rule"];

/// Every key that there is.
pub const FIELDS: &[Field] = &[
    derived(
        "node",
        "name",
        Kind::Text,
        "\"birch\"",
        "the host name",
        &["Shown to people, never used to decide anything. 1 to 64 characters."],
    ),
    derived(
        "node",
        "data_dir",
        Kind::Text,
        "\"/var/lib/afferent\"",
        "/var/lib/afferent for root and /etc/afferent, else $XDG_DATA_HOME/afferent",
        &[
            "Key, journal and peer file live here; an absolute path on a disk of this machine.",
            "Two daemons never share one. Losing it means losing the identity of this node.",
        ],
    ),
    field(
        "node",
        "listen",
        Kind::List,
        "[\"[::]:7443\"]",
        &["Where the receptor listens for peers: IP address and port; [::] takes IPv4 as well."],
    ),
    field(
        "node",
        "addresses",
        Kind::List,
        "[]",
        &[
            "What others dial, host:port, at most 4; [] = learned from peers.",
            "Set it when a name or a forwarded port leads here.",
        ],
    )
    .like("[\"birch.example:7443\"]"),
    field(
        "node",
        "network",
        Kind::Text,
        "\"main\"",
        &["Events and records of another network are refused. 1 to 64 letters, digits, _ or -."],
    ),
    field(
        "node",
        "profile",
        Kind::Text,
        "\"public\"",
        &[
            "Which addresses learned from others may be dialled: public | private | loopback.",
            "private adds LAN and VPN ranges, loopback is for tests on one machine. Each step lets",
            "strangers make this node dial more places. Addresses typed in by hand are exempt.",
        ],
    ),
    derived(
        "node",
        "accept",
        Kind::Text,
        "\"ask\"",
        "\"ask\" with profile = \"private\", else \"open\"",
        &[
            "What becomes of a node that nobody added and that calls on this one: open | ask.",
            "open = it is a peer at once. ask = it waits for `afferent peers accept`: it may give events,",
            "and gets none. Nodes in trust.allow need not wait, nor do those that this node finds itself.",
        ],
    ),
    field(
        "node",
        "durability",
        Kind::Text,
        "\"fsync\"",
        &[
            "What an acknowledgement promises: fsync = on disk; interval = on disk within a second.",
            "interval is faster on slow disks, and a power loss takes acknowledged events with it.",
        ],
    ),
    field(
        "interests",
        "patterns",
        Kind::List,
        "[]",
        &[
            "Types of events that others send here: \"deployment.*\", \"infrastructure.+.down\", \"*\".",
            "`*` at the end = one or more segments, `+` = exactly one; at most 64 patterns, 8 with `+`.",
            "[] = only events addressed to this node. Wider patterns cost traffic and disk.",
        ],
    )
    .like("[\"deployment.*\"]"),
    field(
        "bus",
        "url",
        Kind::Text,
        "\"auto\"",
        &[
            "redis://host:port, rediss://host:port or unix:///path of one Redis (6.2 or newer) or Valkey.",
            "\"\" = no Redis, the journal is the bus; \"auto\" = redis://127.0.0.1:6379 if one answers at",
            "the start, else the journal. With an address, Redis may be down: it is caught up later.",
        ],
    )
    .like("\"redis://127.0.0.1:6379\""),
    field(
        "bus",
        "stream",
        Kind::Text,
        "\"mesh:events\"",
        &[
            "The stream that events are appended to which no [[bus.route]] takes. A new name goes on where",
            "the old one ended; what is in the old stream stays there.",
        ],
    ),
    field(
        "bus",
        "shards",
        Kind::Integer,
        "0",
        &[
            "Over how many streams `stream` is spread, 1 to 64; 0 = it is one. `{n}` in its name is the",
            "number, from 0. A source keeps its shard, and so its order. Another count begins new streams.",
        ],
    ),
    field(
        "bus",
        "layout",
        Kind::Text,
        "\"plain\"",
        &[
            "The fields of an entry: plain | teleclaude | the NAME of a [bus.layouts.NAME].",
            "plain: every attribute by its name, data, mesh_digest mesh_from mesh_via mesh_hops",
            "mesh_received mesh_trust, and envelope, the signed line.",
            "teleclaude: the 14 fields of its event envelope; entries of `stream` whose visibility is",
            "cluster or public are published. What its reader would choke on becomes a dead letter.",
            "[bus.layouts.NAME]: lines `field = \"pick\"`, where a pick is an attribute, data,",
            "data.key.key, a field mesh_..., envelope, or =text; a field without a value is left out.",
        ],
    ),
    field(
        "bus",
        "outbox",
        Kind::Text,
        "\"mesh:outbox\"",
        &["The stream that local programs publish through: XADD with the fields type, data and attributes."],
    ),
    field(
        "bus",
        "maxlen",
        Kind::Integer,
        "100000",
        &[
            "About how many entries each stream keeps, 100 to 1000000000. More cost memory of the Redis.",
            "A stream full of entries that a consumer group has not read waits for it, as long as that",
            "group reads on within a minute; a group that stands still for longer misses the oldest.",
        ],
    ),
    field(
        "bus",
        "own",
        Kind::Flag,
        "false",
        &["Write events published here to our own streams too, as far as [interests] has their types."],
    ),
    derived(
        "bus.route",
        "match",
        Kind::Text,
        "\"deployment.*\"",
        "none: every route has one",
        &["Types of events, as in [interests]; they must be among those that this node wants."],
    ),
    derived(
        "bus.route",
        "stream",
        Kind::Text,
        "\"deploys\"",
        "none: every route has one",
        &["The stream they go to. Several routes may name one; `layout`, `maxlen` and `own` hold for all."],
    ),
    derived(
        "bus.spread",
        "match",
        Kind::Text,
        "\"inventory.*\"",
        "none: every spread has one",
        &[
            "Types of events of other nodes that are for everybody; the first table that fits counts.",
            "Programs on many nodes that all act on one event then do not act at the same moment.",
        ],
    ),
    derived(
        "bus.spread",
        "window",
        Kind::Text,
        "\"10s\"",
        "none: every spread has one",
        &[
            "Each is appended within this span after it was stored, 15m at most, by an offset that follows",
            "from the event and this node. What is stored behind it does not wait, and overtakes it.",
        ],
    ),
    field(
        "discovery",
        "dns",
        Kind::List,
        "[]",
        &[
            "Zones to look peers up in, at most 8: SRV records at _mesh._tcp.ZONE. Who writes the zone or",
            "can forge its answers decides which strangers this node calls first, not who they are.",
        ],
    )
    .like("[\"mesh.example\"]"),
    field(
        "discovery",
        "dns_server",
        Kind::Text,
        "\"\"",
        &[
            "The server to ask about zones, IP:PORT; \"\" = those of /etc/resolv.conf. Names that were typed",
            "in by hand are never asked there.",
        ],
    )
    .like("\"192.0.2.53:53\""),
    field(
        "discovery",
        "dns_keys",
        Kind::List,
        "[]",
        &[
            "Keys of registrars, at most 8, written like node ids. Not empty = only what one of them has",
            "signed counts, and zones written by hand do not.",
        ],
    )
    .like("[\"<registrar key>\"]"),
    field(
        "discovery",
        "exchange",
        Kind::Flag,
        "true",
        &[
            "Ask connected peers whom else they know. What they tell of becomes a peer only when it answers",
            "with its own key. false = peers are those typed in, and those that call; none hears of another.",
        ],
    ),
    field(
        "discovery",
        "seeds",
        Kind::Text,
        "\"\"",
        &[
            "First peers to call when nothing else leads anywhere: a channel that comes with the release",
            "(stable, example), or a file of your own, by a path with a `/`; \"\" = none.",
        ],
    )
    .like("\"stable\""),
    field(
        "discovery",
        "seeds_key",
        Kind::Text,
        "\"\"",
        &[
            "The key that has to have signed `seeds`, written like a node id; \"\" = a list needs no signature.",
            "With it an unsigned list is not used, and those of this release are unsigned.",
        ],
    )
    .like("\"<key>\""),
    field(
        "discovery",
        "lan",
        Kind::Flag,
        "false",
        &["Look for peers on the local network. Not in this version: false alone."],
    ),
    field(
        "discovery",
        "min_peers",
        Kind::Integer,
        "8",
        &[
            "How many connections this node looks for by itself, the manual ones counted; 0 to 64, 0 = none.",
            "More make it harder to cut it off from the mesh, and cost a connection each.",
        ],
    ),
    field(
        "discovery",
        "max_peers",
        Kind::Integer,
        "64",
        &[
            "Peers that are served, the manual ones counted; 1 to 1024.",
            "Each costs a connection and up to 1 MiB of memory while it is behind.",
        ],
    ),
    registrar::DISCOVERY,
    derived(
        "peers",
        "address",
        Kind::Text,
        "\"mesh://<id>@cedar.example:7443\"",
        "none: every peer has one",
        &["What `afferent id` prints over there, with the id: an address alone proves nobody's identity."],
    ),
    derived(
        "peers",
        "alias",
        Kind::Text,
        "\"cedar\"",
        "none",
        &["A name of your own for it: letters, digits, `.`, `_`, `-`."],
    ),
    field(
        "trust",
        "allow",
        Kind::List,
        "[]",
        &["Node ids; not empty = a private mesh: events by all others are refused, and nobody else", "becomes a peer."],
    )
    .like("[\"<node id>\"]"),
    field(
        "trust",
        "mute",
        Kind::List,
        "[]",
        &[
            "Node ids whose events are dropped. What `afferent mute` and `unmute` say of a source counts",
            "more than this list; an unmuted source that leaves it and comes back is muted again.",
        ],
    )
    .like("[\"<node id>\"]"),
    field(
        "trust",
        "firehose",
        Kind::List,
        "[]",
        &["Node ids that may subscribe to everything; manual peers may in any case."],
    )
    .like("[\"<node id>\"]"),
    derived(
        "trust.rule",
        "source",
        Kind::List,
        "[\"cedar\"]",
        "none: every rule has it",
        &["Whose events: node ids, aliases of [[peers]] in this file, or \"*\" for everybody else's."],
    ),
    derived(
        "trust.rule",
        "types",
        Kind::List,
        "[\"deployment.*\"]",
        "none: every rule has it",
        &["Which types, as patterns; at most 64. \"*\" = all."],
    ),
    derived(
        "trust.rule",
        "action",
        Kind::Text,
        "\"flag\"",
        "none: every rule has it",
        &[
            "accept; flag = local programs get it with mesh_trust = flagged; quarantine = stored and",
            "forwarded, kept from local programs until a person releases it; drop = refused (type_denied).",
            "An event refused by drop stays refused until it expires, also when the rule is gone.",
        ],
    ),
    field(
        "limits",
        "per_source",
        Kind::Text,
        "\"50/s burst 200\"",
        &[
            "Events that one neighbour, and one source, may send; known peers may send 10 times as much.",
            "Less protects a small machine, more lets busy strangers in.",
        ],
    ),
    field(
        "journal",
        "keep",
        Kind::Text,
        "\"7d\"",
        &[
            "Age at which events are dropped, 1h to 365d, never before the bus has them.",
            "A peer that is away for longer misses events.",
        ],
    ),
    field(
        "journal",
        "bytes",
        Kind::Text,
        "\"1GiB\"",
        &["Size from which the oldest events are dropped, 16MiB or more, never before the bus has them."],
    ),
    field(
        "metrics",
        "listen",
        Kind::Text,
        "\"\"",
        &[
            "Where /metrics is served over TCP, an address of loopback such as 127.0.0.1:9464; \"\" = nowhere.",
            "Every user of this machine may read it then. Another machine takes a proxy in front.",
        ],
    )
    .like("\"127.0.0.1:9464\""),
    field(
        "log",
        "format",
        Kind::Text,
        "\"auto\"",
        &[
            "auto | json | text. auto = text on a terminal, JSON elsewhere and for the journal of systemd.",
            "How much is written: -q, -v, or AFFERENT_LOG such as info,afferent::net=debug.",
        ],
    ),
    derived(
        "admin",
        "socket",
        Kind::Text,
        "\"/run/afferent/afferent.sock\"",
        "/run/afferent for the system's daemon, any data_dir that was set, else $XDG_RUNTIME_DIR",
        &[
            "The Unix socket of the local API, mode 0660: its group may do everything that the commands do.",
            "An absolute path of at most 107 bytes. Unset, it is afferent.sock where the default says,",
            "so that two daemons with two data directories never meet at one socket.",
        ],
    ),
    registrar::ZONE,
    registrar::SERVER,
    registrar::TSIG,
    registrar::KEY,
    registrar::FELLOWS,
    registrar::LISTEN,
    registrar::ORIGIN,
    registrar::CERTIFICATE,
    registrar::CERTIFICATE_KEY,
    registrar::PLACES,
    registrar::NEWCOMERS_PERCENT,
    registrar::NEWCOMERS_PER_HOUR,
    registrar::WORK_BITS,
    registrar::METRICS,
];
