//! Every bound of the daemon, as `run --print-limits` tells it. `tests/tidy.rs` asks for each `*_MAX` and
//! each field of `net::Limits` here.

use std::time::Duration;

use super::words;
use crate::config::Settings;
use crate::core::offset;
use crate::core::params::{self, Params};
use crate::core::registrar::{self, challenge};
use crate::core::trust;
use crate::store::{self, journal};
use crate::wire::{envelope, event, identity, json, message, pattern, record, registration, sync, zone};
use crate::{admin, bus, config, daemon, net};

/// Name, value with its unit, what it bounds.
type Row = (&'static str, String, &'static str);

/// Every bound, with what it bounds: nothing in the daemon grows without one.
pub(super) fn limits(settings: &Settings) -> Vec<[String; 3]> {
    let rooms = [
        events(),
        peers(settings),
        discovery(),
        listings(),
        network(),
        interface(),
        redis(settings),
        disk(settings),
        files(),
    ];
    rooms.into_iter().flatten().map(|(name, value, about)| [name.to_owned(), value, about.to_owned()]).collect()
}

fn bytes(count: usize) -> String {
    if count < 1_024 { format!("{count} B") } else { format!("{} KiB", count >> 10) }
}

fn file(bytes: u64) -> String {
    words::size(bytes)
}

fn span(span: Duration) -> String {
    words::brief(span)
}

/// What travels.
fn events() -> Vec<Row> {
    vec![
        ("event", bytes(event::EVENT_BYTES_MAX), "largest event"),
        ("event members", event::MEMBERS_MAX.to_string(), "members of an event"),
        ("event values", json::VALUES_MAX.to_string(), "values of any kind in an event"),
        ("event depth", json::DEPTH_MAX.to_string(), "nesting of an event"),
        ("event digits", json::DIGITS_MAX.to_string(), "characters of a number"),
        ("event integer", json::INTEGER_MAX.to_string(), "largest integer"),
        ("attribute", bytes(event::TEXT_MAX), "longest value of an attribute"),
        ("long attribute", bytes(event::LONG_TEXT_MAX), "of subject, dataschema, tracestate"),
        ("to", event::TO_MAX.to_string(), "nodes that an event is addressed to"),
        ("to bytes", bytes(event::TO_BYTES_MAX), "the same as text"),
        ("lifetime", span(event::LIFETIME_MAX), "longest life of an event; its digest is remembered as long"),
        ("skew", span(event::SKEW), "how far ahead of our clock an event may be"),
        ("hops", event::HOPS_MAX.to_string(), "most links an event may cross"),
        ("line", bytes(envelope::LINE_BYTES_MAX), "an event with its signature"),
        ("body", bytes(message::BODY_BYTES_MAX), "largest body from a peer"),
        ("lines", message::LINES_MAX.to_string(), "most events in one body"),
        ("record", bytes(record::RECORD_BYTES_MAX), "largest node record"),
        ("records", message::RECORDS_MAX.to_string(), "records in one exchange"),
        ("records bytes", bytes(message::PEERS_BYTES_MAX), "the same in bytes"),
        ("sync frame", bytes(sync::SYNC_BYTES_MAX), "largest frame of a reconciliation, either way"),
        ("get", sync::DIGESTS_MAX.to_string(), "records asked for by their digests at once"),
        ("get bytes", bytes(sync::GIVEN_BYTES_MAX), "largest answer to that"),
        ("addresses", record::ADDRESSES_MAX.to_string(), "addresses of a node record"),
        ("nonce", bytes(message::NONCE_MAX), "longest nonce of a hello"),
        ("patterns", pattern::PATTERNS_MAX.to_string(), "most patterns of one node"),
        ("patterns +", pattern::PLUS_PATTERNS_MAX.to_string(), "of them with `+`"),
        ("patterns bytes", bytes(pattern::PATTERNS_BYTES_MAX), "all of them together"),
        ("pattern", bytes(pattern::PATTERN_BYTES_MAX), "longest pattern"),
        ("segments", pattern::SEGMENTS_MAX.to_string(), "segments of a type or a pattern"),
        ("keys", identity::KEYS_MAX.to_string(), "public keys kept unpacked by one reader of events"),
    ]
}

/// What the node remembers of others, and holds for them.
fn peers(settings: &Settings) -> Vec<Row> {
    let params: Params = settings.params();
    vec![
        ("rate", settings.limits.per_source.to_string(), "events of one neighbour or source; known peers 10 times"),
        ("peers", params.peers_max.to_string(), "peers with a durable cursor"),
        ("newcomers", params::NEWCOMERS_MAX.to_string(), "new peers that may come by themselves at once"),
        ("peer away", span(params::AWAY_MAX), "absence after which a proven peer may be dropped for a newcomer"),
        ("peers away", daemon::AWAY_MAX.to_string(), "peers whose absence was told in the log"),
        ("appending", params.appending_max.to_string(), "events waiting for the disk"),
        ("appending bytes", bytes(params.appending_bytes_max), "the same in bytes"),
        ("peer queue", params.peer_queue_max.to_string(), "events queued for one peer; beyond, the journal serves it"),
        ("peer queue bytes", bytes(params.peer_queue_bytes_max), "the same in bytes"),
        ("credit", params::CREDIT_MAX.to_string(), "events taken from a peer at once"),
        ("backoff", span(params.backoff_max), "longest pause between two dials of a peer"),
        ("backoff by hand", span(params.backoff_manual_max), "the same for one that was added by hand"),
        ("refusals", params::REMEMBERED_MAX.to_string(), "refused events remembered in an hour"),
        ("clock jump", span(params::JUMP_MAX), "a larger one is not believed for a day"),
        ("answers held", params::HELD_ANSWERS_MAX.to_string(), "answers that wait for their turn, for one peer"),
        (
            "spread",
            span(offset::SPREAD_MAX),
            "longest span over which answers are spread; of a longer one this much counts",
        ),
        ("watched", params::WATCHED_MAX.to_string(), "events whose takers are waited for at once"),
        ("trust rules", trust::RULES_MAX.to_string(), "[[trust.rule]]"),
        ("muted", trust::MUTED_MAX.to_string(), "sources muted by hand"),
        ("blocked", params::BLOCKED_MAX.to_string(), "nodes blocked by hand"),
        ("reason", params::REASON_MAX.to_string(), "characters of the reason for it"),
        ("peers followed", daemon::FOLLOWED_MAX.to_string(), "peers whose changes may become events"),
        ("reports", daemon::REPORTS_MAX.to_string(), "reports of the network waiting for the driver"),
        ("publications", daemon::PUBLICATIONS_MAX.to_string(), "reads of the outbox waiting for the driver"),
        ("orders", daemon::ORDERS_MAX.to_string(), "orders of people waiting for the bridge"),
        ("latency", span(daemon::LATENCY_MAX), "a longer way of an event counts as this long in the metrics"),
        ("stop", span(daemon::STOP_MAX), "how long a stop waits for what is in hand"),
    ]
}

/// Looking for nodes, and what is kept of those that were heard of.
fn discovery() -> Vec<Row> {
    use crate::core;
    vec![
        ("zones", config::ZONES_MAX.to_string(), "zones of discovery.dns, and keys of registrars"),
        ("zone", zone::ZONE_LEN_MAX.to_string(), "longest name of a zone, in characters"),
        ("zone strings", zone::STRINGS_MAX.to_string(), "strings read of one TXT record"),
        ("zone text", bytes(zone::TEXT_BYTES_MAX), "longest text of one TXT record"),
        ("zone services", zone::SERVICES_MAX.to_string(), "SRV records that a signed list may count"),
        ("zone entries", net::bounds::ENTRIES_MAX.to_string(), "entries of a zone that are looked at"),
        ("zone manifests", net::bounds::MANIFESTS_MAX.to_string(), "signed lists tried in one zone"),
        ("survey", span(daemon::SURVEY_MAX), "asking all tiers for a person, with the dials that follow"),
        ("survey dials", daemon::SURVEY_DIALS_MAX.to_string(), "dials for it"),
        ("survey places", daemon::SURVEY_PLACES_MAX.to_string(), "addresses of its answer"),
        ("discover", span(admin::DISCOVER_MAX), "how long the local API waits for it"),
        ("dns servers", net::bounds::SERVERS_MAX.to_string(), "servers of /etc/resolv.conf that are asked"),
        ("dns texts", net::bounds::TEXTS_MAX.to_string(), "TXT records looked at of one name"),
        ("dns addresses", net::bounds::HOST_ADDRESSES_MAX.to_string(), "addresses looked at of one name and family"),
        ("seeds", store::seeds::SEEDS_MAX.to_string(), "seeds in one list"),
        ("finds", params::FINDS_MAX.to_string(), "nodes taken of one answer of a tier"),
        ("tier answer", span(params::ANSWER_MAX), "how long an answer of a tier is waited for"),
        ("introductions", params::INTRODUCTIONS_MAX.to_string(), "places without a key that are called at once"),
        ("introductions waiting", params::INTRODUCTIONS_WAITING_MAX.to_string(), "such places that wait"),
        ("probes", params::PROBES_MAX.to_string(), "dials at once to nodes that are no peers yet"),
        ("ids of a host", params::IDS_PER_HOST_MAX.to_string(), "nodes remembered at one IP address"),
        ("ids of a block", params::IDS_PER_BLOCK_MAX.to_string(), "nodes remembered in one /24 or /48"),
        ("places", params::PLACES_MAX.to_string(), "addresses remembered of one node"),
        ("places struck", params::STRUCK_MAX.to_string(), "addresses of one node where somebody else answered"),
        ("history", params::HISTORY_MAX.to_string(), "changes remembered of one node"),
        ("anchors", params::ANCHORS_MAX.to_string(), "peers called first after a restart"),
        ("mistakes", params::MISTAKES_MAX.to_string(), "wrong addresses a node may tell before it is not heard"),
        ("quarantine", params::QUARANTINED_MAX.to_string(), "nodes that are not listened to for a day"),
        ("failures", params::FAILURES_MAX.to_string(), "failed dials after which a node away for long is dead"),
        ("first failures", params::NEVER_FAILURES_MAX.to_string(), "the same for one that never answered"),
        ("outage retry", span(params::OUTAGE_RETRY_MAX), "longest pause while nobody at all answers"),
        ("suspect retry", span(params::SUSPECT_RETRY_MAX), "longest pause before a broken lane is made again"),
        ("tellers", params::TELLERS_MAX.to_string(), "nodes whose records are counted one by one"),
        ("told", core::bounds::TOLD_MAX.to_string(), "records that a node may tell at once"),
        ("told in one go", core::bounds::HEAP_MAX.to_string(), "of more, nothing is taken"),
        ("given", core::bounds::GIVEN_MAX.to_string(), "records that are given to whoever asks"),
        ("choices", core::bounds::CHOICES_MAX.to_string(), "networks whose share of the records is remembered"),
        ("roster", params::ROSTER_MAX.to_string(), "nodes whose record is held, to know who wants what"),
        ("served alone", params::DIRECT_MAX.to_string(), "nodes that an event is sent to without delegates"),
        ("served alone in bytes", bytes(params::DIRECT_BYTES_MAX), "what that may cost"),
        (
            "duty tasks",
            params::TASKS_MAX.to_string(),
            "lines that are owed to nodes that are no peers, or by delegates",
        ),
        ("leaves of a node", params::LEAVES_MAX.to_string(), "those owed to one node that is no peer"),
        ("delegates", params::DELEGATES_MAX.to_string(), "nodes asked to carry one bucket"),
        ("delegates looked at", params::SAMPLED_MAX.to_string(), "without a connection, for one bucket"),
        ("duties resumed", params::RESUMED_MAX.to_string(), "events in hand from before a restart"),
        ("duties", params::DUTIES_MAX.to_string(), "events of which the duty is remembered for 10 minutes"),
        (
            "duty bytes",
            params::DUTY_BYTES_MAX.to_string(),
            "that a neighbour's duties may cost at once; 4 MiB come back in a second",
        ),
        ("links", params::LINKS_MAX.to_string(), "connections to nodes that are no peers"),
        ("crowds", params::CROWDS_MAX.to_string(), "types of which it is remembered who wants them"),
        ("records", core::bounds::HELD_MAX.to_string(), "records remembered by number and digest"),
        ("sync rounds", core::bounds::ROUNDS_MAX.to_string(), "frames sent in one reconciliation"),
        ("sync bytes", bytes(core::bounds::RUN_BYTES_MAX), "frames of one reconciliation, both ways"),
        ("sync wanted", core::bounds::WANTED_MAX.to_string(), "records fetched in one reconciliation"),
        ("sync useless", core::bounds::USELESS_MAX.to_string(), "records remembered that were fetched in vain"),
        ("sync run", span(params::RUN_MAX), "how long a reconciliation is waited for"),
        ("answer records", net::bounds::ANSWER_RECORDS_MAX.to_string(), "records read of one answer"),
        ("clocks", daemon::CLOCKS_MAX.to_string(), "neighbours whose clocks are compared with ours"),
        ("record changes", daemon::CHANGES_MAX.to_string(), "changes of our record signed at once"),
        ("book file", file(store::book::BYTES_MAX), "largest file of nodes heard of"),
        ("seeds file", file(store::seeds::BYTES_MAX), "largest list of seeds"),
    ]
}

/// `afferent registrar`, and what a node takes from one.
fn listings() -> Vec<Row> {
    vec![
        ("registration", bytes(registration::REGISTRATION_BYTES_MAX), "largest body that a registrar takes"),
        ("liveness", bytes(registration::LIVENESS_BYTES_MAX), "largest proof of life that it reads"),
        ("registrar origin", bytes(registration::ORIGIN_MAX), "longest name of a registrar"),
        ("registrar answer", bytes(net::bounds::REGISTRAR_ANSWER_BYTES_MAX), "largest answer that a node reads"),
        ("registrar visits", net::registrar::VISITS_MAX.to_string(), "nodes it visits at once"),
        ("registrar zone", bytes(net::bounds::ZONE_BYTES_MAX), "largest zone that it reads"),
        ("registrar files", file(daemon::SECRET_BYTES_MAX), "largest file of a secret or a certificate"),
        ("listed of a network", registrar::PER_GROUP_MAX.to_string(), "entries of one /16 or /32; one of a /24 or /48"),
        ("work", format!("{} bits", challenge::BITS_MAX), "most work that a node does to be listed"),
        ("challenge", challenge::TEXT_MAX.to_string(), "longest challenge, in characters"),
    ]
}

/// The receptor and the lanes.
fn network() -> Vec<Row> {
    let net = net::Limits::default();
    vec![
        ("connections", net.connections.to_string(), "callers at once"),
        ("kept for known", net.connections_for_known.to_string(), "of them for known peers alone"),
        ("per address", net.connections_per_address.to_string(), "of one IPv4 address or IPv6 /64"),
        ("per block", net.connections_per_block.to_string(), "of one IPv4 /24 or IPv6 /48"),
        ("handshakes", net.handshakes.to_string(), "TLS handshakes at once"),
        ("handshake", span(net.handshake), "longest TLS handshake"),
        ("first byte", span(net.first_byte), "longest silence after it"),
        ("head", span(net.head), "longest time for the head of a request"),
        ("head bytes", bytes(net::bounds::HEAD_BYTES_MAX), "largest head of a request"),
        ("head line", bytes(net::bounds::LINE_MAX), "longest line of it"),
        ("headers", net::bounds::HEADERS_MAX.to_string(), "fields of it"),
        ("body time", span(net.body), "longest time for a whole body"),
        ("request", span(net.request), "longest time for a whole request"),
        ("write stall", span(net.write_stall), "longest wait for a reader"),
        ("keep alive", span(net.keep_alive), "how often an HTTP/2 connection is asked for a sign of life"),
        ("idle", span(net.idle), "longest life of a connection without a request"),
        ("tick", span(net.tick), "how late a connection may see its deadlines"),
        ("overhead", format!("{}/s", bytes(net.overhead_per_second as usize)), "what is no body, of one connection"),
        ("overhead burst", bytes(net.overhead_burst as usize), "the same at once"),
        ("control", format!("{}/s", net.control_per_second), "HTTP/2 frames without content, of one connection"),
        ("control burst", net.control_burst.to_string(), "the same at once"),
        ("bodies", bytes(net.body_bytes_in_all), "request bodies in memory, of all callers"),
        (
            "rate keys",
            net.rate_keys_max.to_string(),
            "neighbours and sources with a rate of their own; the rest share one",
        ),
        ("rate sweep", span(net.sweep), "how often idle ones are forgotten"),
        ("verifying", net.verify_queue.to_string(), "chunks of lines waiting for a core"),
        ("shipments", net.shipments.to_string(), "bodies waiting in one lane"),
        ("pings", net::bounds::PINGS_MAX.to_string(), "pings waiting in one lane"),
        ("questions", net::bounds::QUESTIONS_MAX.to_string(), "questions for others waiting in one lane"),
        ("names", net::bounds::ADDRESSES_MAX.to_string(), "addresses tried for one name"),
        ("dials", net::bounds::DIALS_MAX.to_string(), "addresses tried in one dial"),
        ("connect", span(net.connect), "longest wait for a lane's TCP and TLS"),
        ("call", span(net.call), "longest request of a lane"),
        ("probe", span(net.probe), "silence after which a lane asks for a sign of life"),
        ("answer", bytes(net::bounds::ANSWER_BYTES_MAX), "largest answer of a peer"),
        ("peer retry", span(net::bounds::RETRY_MAX), "longest wait that a peer can ask for"),
        ("network stop", span(net.stop), "how long a stop waits for requests"),
    ]
}

/// The local API.
fn interface() -> Vec<Row> {
    vec![
        ("api connections", admin::CONNECTIONS_MAX.to_string(), "local callers at once"),
        ("scrapers", admin::SCRAPERS_MAX.to_string(), "callers of /metrics over TCP at once"),
        ("api requests", admin::REQUESTS_MAX.to_string(), "questions waiting for the driver"),
        ("api answer", span(admin::ANSWER_MAX), "longest wait for the driver"),
        ("api probe", span(admin::PROBE_MAX), "the same of /livez and /readyz"),
        ("api farewell", span(admin::FAREWELL_MAX), "how long answers may take once the daemon stops"),
        ("api body", bytes(admin::BODY_BYTES_MAX), "largest body from a local caller"),
        ("api line", bytes(admin::LINE_BYTES_MAX), "longest line of a publisher"),
        ("api batch", admin::PUBLISH_BATCH_MAX.to_string(), "events of one publisher handed over at once"),
        ("api batches", admin::PUBLISH_BATCHES_MAX.to_string(), "batches of one publisher waiting for the disk"),
        ("api key", bytes(admin::KEY_BYTES_MAX), "longest idempotency key"),
        ("api keys", span(admin::KEY_LIFE), "how long an idempotency key is remembered"),
        ("api wait", span(admin::WAIT_MAX), "longest wait of an answer for peers"),
        ("api page", admin::PAGE_ENTRIES_MAX.to_string(), "events read from the journal for one subscriber at once"),
        ("api page bytes", bytes(admin::PAGE_BYTES_MAX), "the same in bytes"),
        ("api changes", admin::CHANGES_MAX.to_string(), "changes kept for a watcher that reads slowly"),
        ("groups", admin::GROUPS_MAX.to_string(), "groups of subscribers"),
        ("group", bytes(admin::GROUP_NAME_MAX), "longest name of one"),
        ("letters shown", admin::dead::LETTERS_MAX.to_string(), "dead letters of one answer"),
    ]
}

/// The bridge to Redis.
fn redis(settings: &Settings) -> Vec<Row> {
    vec![
        ("bus maxlen", settings.bus.maxlen.to_string(), "entries of the stream, about"),
        ("spreads", config::SPREADS_MAX.to_string(), "[[bus.spread]]"),
        ("routes", config::ROUTES_MAX.to_string(), "[[bus.route]], and streams of all shards"),
        ("bus batch", bus::bounds::ENTRIES_MAX.to_string(), "events appended to a stream at once"),
        ("bus batch bytes", bytes(bus::bounds::BYTES_MAX), "the same in bytes"),
        ("bus skipped", bus::bounds::SKIPPED_MAX.to_string(), "events passed over before the cursor of a stream moves"),
        ("bus misses", bus::bounds::MISSES_MAX.to_string(), "batches in a row that may find the cursor elsewhere"),
        ("bus late", bus::bounds::LATE_MAX.to_string(), "events of one stream that wait for their turn"),
        ("bus eras", bus::bounds::ERAS_MAX.to_string(), "changes of streams that may still count at once"),
        ("outbox fields", bus::bounds::FIELDS_MAX.to_string(), "fields of an entry of the outbox"),
        ("outbox extension", bytes(bus::bounds::EXTENSION_BYTES_MAX), "longest extension attribute in it"),
        ("outbox retry", span(bus::bounds::RETRY_MAX), "longest wait before an entry is tried again"),
        ("version digits", bus::bounds::VERSION_DIGITS_MAX.to_string(), "of a TeleClaude schema"),
        ("letters", bus::bounds::LETTERS_MAX.to_string(), "dead letters beside one stream, about"),
        ("letter fields", bus::bounds::ENTRY_FIELDS_MAX.to_string(), "fields of an entry that a dead letter keeps"),
        ("letter field name", bytes(bus::bounds::ENTRY_NAME_MAX), "longest name of one"),
        ("letter bytes", bytes(bus::bounds::ENTRY_BYTES_MAX), "all of them together"),
        ("letter text", bus::bounds::ABOUT_MAX.to_string(), "characters of a text about a letter"),
        ("redis text", bus::bounds::TEXT_MAX.to_string(), "characters shown of what Redis says"),
    ]
}

/// The journal.
fn disk(settings: &Settings) -> Vec<Row> {
    vec![
        ("journal keep", span(settings.journal.keep), "age at which events are dropped"),
        ("journal bytes", file(settings.journal.bytes), "size from which the oldest are dropped"),
        ("journal periods", journal::bounds::SPANS_MAX.to_string(), "periods, whatever the clock does"),
        ("journal files", journal::bounds::FILES_OPEN_MAX.to_string(), "files of the journal open at once"),
        ("journal filters", bytes(journal::bounds::FILTER_BYTES_MAX), "memory of what was never seen"),
        ("commit", journal::bounds::GROUP_ENTRIES_MAX.to_string(), "events of one commit"),
        ("commit bytes", bytes(journal::bounds::GROUP_BYTES_MAX), "the same in bytes"),
        ("commit wait", span(journal::bounds::LINGER_MAX), "longest wait for company before a commit"),
        ("journal value", bytes(journal::bounds::VALUE_BYTES_MAX as usize), "largest value read back"),
        ("journal damage", journal::bounds::DAMAGED_MAX.to_string(), "damaged entries counted one by one"),
        ("journal busy", span(journal::bounds::BUSY_MAX), "longest time for one step before it is told"),
    ]
}

/// Small files, and the path of the socket.
fn files() -> Vec<Row> {
    vec![
        ("configuration", bytes(config::FILE_BYTES_MAX), "largest configuration file"),
        ("socket path", bytes(config::SOCKET_BYTES_MAX), "longest path of a Unix socket"),
        ("key file", file(store::key::KEY_BYTES_MAX), "largest key file"),
        ("peers file", file(store::peers::BYTES_MAX), "largest peer file"),
        ("interests file", file(store::interests::BYTES_MAX), "largest file of interests"),
        ("mutes file", file(store::mutes::BYTES_MAX), "largest file of mutes"),
        ("routes file", file(store::routes::BYTES_MAX), "largest file of what streams took before a change"),
    ]
}
