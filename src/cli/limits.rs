//! Every bound of the daemon, as `run --print-limits` tells it. `tests/tidy.rs` asks for each `*_MAX` and
//! each field of `net::Limits` here.

use std::time::Duration;

use super::words;
use crate::config::Settings;
use crate::core::params::{self, Params};
use crate::core::trust;
use crate::store::{self, journal};
use crate::wire::{envelope, event, identity, json, message, pattern, record};
use crate::{admin, bus, config, daemon, net};

/// Name, value with its unit, what it bounds.
type Row = (&'static str, String, &'static str);

/// Every bound, with what it bounds: nothing in the daemon grows without one.
pub(super) fn limits(settings: &Settings) -> Vec<[String; 3]> {
    let rooms = [events(), peers(settings), network(), interface(), redis(settings), disk(settings), files()];
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

fn count(number: impl ToString) -> String {
    number.to_string()
}

/// What travels.
fn events() -> Vec<Row> {
    vec![
        ("event", bytes(event::EVENT_BYTES_MAX), "largest event"),
        ("event members", count(event::MEMBERS_MAX), "members of an event"),
        ("event values", count(json::VALUES_MAX), "values of any kind in an event"),
        ("event depth", count(json::DEPTH_MAX), "nesting of an event"),
        ("event digits", count(json::DIGITS_MAX), "characters of a number"),
        ("event integer", count(json::INTEGER_MAX), "largest integer"),
        ("attribute", bytes(event::TEXT_MAX), "longest value of an attribute"),
        ("long attribute", bytes(event::LONG_TEXT_MAX), "of subject, dataschema, tracestate"),
        ("to", count(event::TO_MAX), "nodes that an event is addressed to"),
        ("to bytes", bytes(event::TO_BYTES_MAX), "the same as text"),
        ("lifetime", span(event::LIFETIME_MAX), "longest life of an event; its digest is remembered as long"),
        ("skew", span(event::SKEW), "how far ahead of our clock an event may be"),
        ("hops", count(event::HOPS_MAX), "most links an event may cross"),
        ("line", bytes(envelope::LINE_BYTES_MAX), "an event with its signature"),
        ("body", bytes(message::BODY_BYTES_MAX), "largest body from a peer"),
        ("lines", count(message::LINES_MAX), "most events in one body"),
        ("record", bytes(record::RECORD_BYTES_MAX), "largest node record"),
        ("records", count(message::RECORDS_MAX), "records in one exchange"),
        ("records bytes", bytes(message::PEERS_BYTES_MAX), "the same in bytes"),
        ("addresses", count(record::ADDRESSES_MAX), "addresses of a node record"),
        ("nonce", bytes(message::NONCE_MAX), "longest nonce of a hello"),
        ("patterns", count(pattern::PATTERNS_MAX), "most patterns of one node"),
        ("patterns +", count(pattern::PLUS_PATTERNS_MAX), "of them with `+`"),
        ("patterns bytes", bytes(pattern::PATTERNS_BYTES_MAX), "all of them together"),
        ("pattern", bytes(pattern::PATTERN_BYTES_MAX), "longest pattern"),
        ("segments", count(pattern::SEGMENTS_MAX), "segments of a type or a pattern"),
        ("keys", count(identity::KEYS_MAX), "public keys kept unpacked by one reader of events"),
    ]
}

/// What the node remembers of others, and holds for them.
fn peers(settings: &Settings) -> Vec<Row> {
    let params: Params = settings.params();
    vec![
        ("rate", count(settings.limits.per_source), "events of one neighbour or source; known peers 10 times"),
        ("peers", count(params.peers_max), "peers with a durable cursor"),
        ("newcomers", count(params::NEWCOMERS_MAX), "new peers that may come by themselves at once"),
        ("peer away", span(params::AWAY_MAX), "absence after which a proven peer may be dropped for a newcomer"),
        ("peers away", count(daemon::AWAY_MAX), "peers whose absence was told in the log"),
        ("appending", count(params.appending_max), "events waiting for the disk"),
        ("appending bytes", bytes(params.appending_bytes_max), "the same in bytes"),
        ("peer queue", count(params.peer_queue_max), "events queued for one peer; beyond, the journal serves it"),
        ("peer queue bytes", bytes(params.peer_queue_bytes_max), "the same in bytes"),
        ("credit", count(params::CREDIT_MAX), "events taken from a peer at once"),
        ("backoff", span(params.backoff_max), "longest pause between two dials of a peer"),
        ("backoff by hand", span(params.backoff_manual_max), "the same for one that was added by hand"),
        ("refusals", count(params::REMEMBERED_MAX), "refused events remembered in an hour"),
        ("clock jump", span(params::JUMP_MAX), "a larger one is not believed for a day"),
        ("watched", count(params::WATCHED_MAX), "events whose takers are waited for at once"),
        ("trust rules", count(trust::RULES_MAX), "[[trust.rule]]"),
        ("muted", count(trust::MUTED_MAX), "sources muted by hand"),
        ("reports", count(daemon::REPORTS_MAX), "reports of the network waiting for the driver"),
        ("publications", count(daemon::PUBLICATIONS_MAX), "reads of the outbox waiting for the driver"),
        ("orders", count(daemon::ORDERS_MAX), "orders of people waiting for the bridge"),
        ("latency", span(daemon::LATENCY_MAX), "a longer way of an event counts as this long in the metrics"),
        ("stop", span(daemon::STOP_MAX), "how long a stop waits for what is in hand"),
    ]
}

/// The receptor and the lanes.
fn network() -> Vec<Row> {
    let net = net::Limits::default();
    vec![
        ("connections", count(net.connections), "callers at once"),
        ("kept for known", count(net.connections_for_known), "of them for known peers alone"),
        ("per address", count(net.connections_per_address), "of one IPv4 address or IPv6 /64"),
        ("per block", count(net.connections_per_block), "of one IPv4 /24 or IPv6 /48"),
        ("handshakes", count(net.handshakes), "TLS handshakes at once"),
        ("handshake", span(net.handshake), "longest TLS handshake"),
        ("first byte", span(net.first_byte), "longest silence after it"),
        ("head", span(net.head), "longest time for the head of a request"),
        ("head bytes", bytes(net::bounds::HEAD_BYTES_MAX), "largest head of a request"),
        ("head line", bytes(net::bounds::LINE_MAX), "longest line of it"),
        ("headers", count(net::bounds::HEADERS_MAX), "fields of it"),
        ("body time", span(net.body), "longest time for a whole body"),
        ("request", span(net.request), "longest time for a whole request"),
        ("write stall", span(net.write_stall), "longest wait for a reader"),
        ("keep alive", span(net.keep_alive), "how often an HTTP/2 connection is asked for a sign of life"),
        ("idle", span(net.idle), "longest life of a connection without a request"),
        ("tick", span(net.tick), "how late a connection may see its deadlines"),
        ("overhead", format!("{}/s", bytes(net.overhead_per_second as usize)), "what is no body, of one connection"),
        ("overhead burst", bytes(net.overhead_burst as usize), "the same at once"),
        ("control", format!("{}/s", net.control_per_second), "HTTP/2 frames without content, of one connection"),
        ("control burst", count(net.control_burst), "the same at once"),
        ("bodies", bytes(net.body_bytes_in_all), "request bodies in memory, of all callers"),
        ("rate keys", count(net.rate_keys_max), "neighbours and sources with a rate of their own; the rest share one"),
        ("rate sweep", span(net.sweep), "how often idle ones are forgotten"),
        ("verifying", count(net.verify_queue), "chunks of lines waiting for a core"),
        ("shipments", count(net.shipments), "bodies waiting in one lane"),
        ("pings", count(net::bounds::PINGS_MAX), "pings waiting in one lane"),
        ("names", count(net::bounds::ADDRESSES_MAX), "addresses tried for one name"),
        ("dials", count(net::bounds::DIALS_MAX), "addresses tried in one dial"),
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
        ("api connections", count(admin::CONNECTIONS_MAX), "local callers at once"),
        ("scrapers", count(admin::SCRAPERS_MAX), "callers of /metrics over TCP at once"),
        ("api requests", count(admin::REQUESTS_MAX), "questions waiting for the driver"),
        ("api answer", span(admin::ANSWER_MAX), "longest wait for the driver"),
        ("api probe", span(admin::PROBE_MAX), "the same of /livez and /readyz"),
        ("api farewell", span(admin::FAREWELL_MAX), "how long answers may take once the daemon stops"),
        ("api body", bytes(admin::BODY_BYTES_MAX), "largest body from a local caller"),
        ("api line", bytes(admin::LINE_BYTES_MAX), "longest line of a publisher"),
        ("api batch", count(admin::PUBLISH_BATCH_MAX), "events of one publisher handed over at once"),
        ("api batches", count(admin::PUBLISH_BATCHES_MAX), "batches of one publisher waiting for the disk"),
        ("api key", bytes(admin::KEY_BYTES_MAX), "longest idempotency key"),
        ("api keys", span(admin::KEY_LIFE), "how long an idempotency key is remembered"),
        ("api wait", span(admin::WAIT_MAX), "longest wait of an answer for peers"),
        ("api page", count(admin::PAGE_ENTRIES_MAX), "events read from the journal for one subscriber at once"),
        ("api page bytes", bytes(admin::PAGE_BYTES_MAX), "the same in bytes"),
        ("api changes", count(admin::CHANGES_MAX), "changes kept for a watcher that reads slowly"),
        ("groups", count(admin::GROUPS_MAX), "groups of subscribers"),
        ("group", bytes(admin::GROUP_NAME_MAX), "longest name of one"),
        ("letters shown", count(admin::dead::LETTERS_MAX), "dead letters of one answer"),
    ]
}

/// The bridge to Redis.
fn redis(settings: &Settings) -> Vec<Row> {
    vec![
        ("bus maxlen", count(settings.bus.maxlen), "entries of the stream, about"),
        ("routes", count(config::ROUTES_MAX), "[[bus.route]], and streams of all shards"),
        ("bus batch", count(bus::bounds::ENTRIES_MAX), "events appended to a stream at once"),
        ("bus batch bytes", bytes(bus::bounds::BYTES_MAX), "the same in bytes"),
        ("bus skipped", count(bus::bounds::SKIPPED_MAX), "events passed over before the cursor of a stream moves"),
        ("bus misses", count(bus::bounds::MISSES_MAX), "batches in a row that may find the cursor elsewhere"),
        ("outbox fields", count(bus::bounds::FIELDS_MAX), "fields of an entry of the outbox"),
        ("outbox extension", bytes(bus::bounds::EXTENSION_BYTES_MAX), "longest extension attribute in it"),
        ("outbox retry", span(bus::bounds::RETRY_MAX), "longest wait before an entry is tried again"),
        ("version digits", count(bus::bounds::VERSION_DIGITS_MAX), "of a TeleClaude schema"),
        ("letters", count(bus::bounds::LETTERS_MAX), "dead letters beside one stream, about"),
        ("letter fields", count(bus::bounds::ENTRY_FIELDS_MAX), "fields of an entry that a dead letter keeps"),
        ("letter field name", bytes(bus::bounds::ENTRY_NAME_MAX), "longest name of one"),
        ("letter bytes", bytes(bus::bounds::ENTRY_BYTES_MAX), "all of them together"),
        ("letter text", count(bus::bounds::ABOUT_MAX), "characters of a text about a letter"),
        ("redis text", count(bus::bounds::TEXT_MAX), "characters shown of what Redis says"),
    ]
}

/// The journal.
fn disk(settings: &Settings) -> Vec<Row> {
    vec![
        ("journal keep", span(settings.journal.keep), "age at which events are dropped"),
        ("journal bytes", file(settings.journal.bytes), "size from which the oldest are dropped"),
        ("journal periods", count(journal::bounds::SPANS_MAX), "periods, whatever the clock does"),
        ("journal files", count(journal::bounds::FILES_OPEN_MAX), "files of the journal open at once"),
        ("commit", count(journal::bounds::GROUP_ENTRIES_MAX), "events of one commit"),
        ("commit bytes", bytes(journal::bounds::GROUP_BYTES_MAX), "the same in bytes"),
        ("commit wait", span(journal::bounds::LINGER_MAX), "longest wait for company before a commit"),
        ("journal value", bytes(journal::bounds::VALUE_BYTES_MAX as usize), "largest value read back"),
        ("journal damage", count(journal::bounds::DAMAGED_MAX), "damaged entries counted one by one"),
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
    ]
}
