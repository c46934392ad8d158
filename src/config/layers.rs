//! From texts to settings: defaults, file, environment, flags, each over the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{self, Document, Section};
use super::fields::{FIELDS, Field, SECTIONS};
use super::mistake::{Mistake, Mistakes, Source};
use super::place::{self, Surroundings};
use super::settings::{Bus, Layout, Peer, Route, Settings, Spread};
use super::texts::{
    absolute, accept, dns_server, durability, journal_bytes, keep, listen, log_format, mapped, pinned, profile,
    registrar_key, scraped,
};
use super::values::{self, NodeName};
use super::{registrar, rules};
use crate::core::offset::SPREAD_MAX;
use crate::core::pick::Pick;
use crate::core::trust::RULES_MAX;
use crate::wire::record::ADDRESSES_MAX;
use crate::wire::{HostPort, Interests, NodeId, Pattern};

/// One value from outside the file: a variable of the environment, or a flag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Override {
    /// What to call it in a message: `AFFERENT_BUS__URL`, `--set bus.url`.
    pub source: String,
    /// The table.
    pub section: String,
    /// The key.
    pub key: String,
    /// The value: the text itself for a string, TOML otherwise, a list also as `a,b`.
    pub value: String,
}

impl Override {
    /// Reads `section.key=value`, as a flag carries it.
    ///
    /// # Errors
    /// What is wrong with its shape.
    pub fn parse(text: &str) -> Result<Override, &'static str> {
        const SHAPE: &str = "expected section.key=value, such as bus.url=redis://127.0.0.1:6379";
        let (name, value) = text.split_once('=').ok_or(SHAPE)?;
        let (section, key) = name.trim().split_once('.').ok_or(SHAPE)?;
        Ok(Override {
            source: format!("--set {}", name.trim()),
            section: section.to_owned(),
            key: key.to_owned(),
            value: value.trim().to_owned(),
        })
    }
}

/// Finds the configuration and reads it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(flag: Option<&Path>, flags: &[Override], surroundings: &Surroundings) -> Result<Settings, Mistakes> {
    let file = find_text(flag, surroundings)?;
    read(file.as_ref().map(|(path, text)| (path.as_path(), text.as_str())), flags, surroundings)
}

/// The file that counts, with its text; `None` = there is none.
pub(super) fn find_text(
    flag: Option<&Path>,
    surroundings: &Surroundings,
) -> Result<Option<(PathBuf, String)>, Mistakes> {
    let Some(found) = place::find(flag, surroundings) else { return Ok(None) };
    let text = open(&found.path)?;
    Ok(Some((found.path, text)))
}

/// Where the daemon of this configuration answers, whatever else is wrong in there: a daemon goes on
/// with what it read before. `None` = that cannot be told either.
pub fn socket_despite(flag: Option<&Path>, surroundings: &Surroundings) -> Option<PathBuf> {
    let file = find_text(flag, surroundings).ok()?;
    let file = file.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
    let (layers, _) = assemble(file, &[], surroundings);
    let home = place::home(layers.data_dir, layers.socket, file.map(|(path, _)| path), surroundings);
    home.ok().map(|home| home.socket)
}

/// Reads the text of a file and what overrides it; touches nothing.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(
    file: Option<(&Path, &str)>,
    flags: &[Override],
    surroundings: &Surroundings,
) -> Result<Settings, Mistakes> {
    let (layers, mistakes) = assemble(file, flags, surroundings);
    if !mistakes.is_empty() {
        return Err(Mistakes(mistakes));
    }
    let home = place::home(layers.data_dir, layers.socket, file.map(|(path, _)| path), surroundings)?;
    let mut settings = layers.settings;
    settings.file = file.map(|(path, _)| path.to_owned());
    settings.node.data_dir = home.data_dir;
    settings.registrar.key = Some(settings.registrar_key());
    settings.node.credential = surroundings.credential();
    settings.admin.socket = home.socket;
    Ok(settings)
}

/// Every layer over the one before it, and what is wrong with them.
fn assemble(file: Option<(&Path, &str)>, flags: &[Override], surroundings: &Surroundings) -> (Layers, Vec<Mistake>) {
    let name = NodeName::of_host(&surroundings.host);
    let mut layers = Layers {
        settings: Settings::default_at(name, Path::new("/"), Path::new("/")),
        data_dir: None,
        socket: None,
        layouts: BTreeMap::new(),
    };
    // Beside the other files of the data directory, unless somebody writes another place.
    layers.settings.registrar.key = None;
    let mut mistakes = Vec::new();
    if let Some((path, text)) = file {
        let shown = path.display().to_string();
        let document = Document::of_file(Source { name: &shown, text, is_file: true });
        mistakes = layers.apply(document);
        // In the order of the file, as one reads it.
        mistakes.sort_by_key(|mistake| mistake.place.as_ref().and_then(|place| place.position));
    }
    for each in place::overrides(surroundings).iter().chain(flags) {
        match Field::find(&each.section, &each.key) {
            Some(field) if !field.is_repeated() => {
                let source = Source { name: &each.source, text: &each.value, is_file: false };
                mistakes.extend(layers.apply(Document::of_value(source, field)));
            }
            _ => mistakes.push(unknown_override(each)),
        }
    }
    mistakes.extend(surroundings.env.keys().filter_map(|name| one_underscore(name)));
    (layers, mistakes)
}

/// Largest configuration file.
pub const FILE_BYTES_MAX: usize = 1 << 20;

fn open(path: &Path) -> Result<String, Mistakes> {
    let bytes = std::fs::read(path).map_err(|error| Mistake {
        code: "AF0101",
        what: format!("{} cannot be read", path.display()),
        why: cause(&error),
        next: match error.kind() {
            std::io::ErrorKind::NotFound => format!("afferent init --config {}", path.display()),
            // The system's file may hold a password: it is for root and a group.
            std::io::ErrorKind::PermissionDenied => format!(
                "ls -l {}; when it belongs to the group afferent: sudo usermod -aG afferent $USER, then log in again",
                path.display()
            ),
            _ => format!("ls -l {}", path.display()),
        },
        place: None,
    })?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Mistakes::from(Mistake {
            code: "AF0101",
            what: format!("{} cannot be read", path.display()),
            why: "it is larger than 1 MiB: is this the right file?".to_owned(),
            next: "afferent init --help".to_owned(),
            place: None,
        }));
    }
    String::from_utf8(bytes).map_err(|error| {
        let upto = error.utf8_error().valid_up_to();
        let shown = path.display().to_string();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        Mistakes::from(Mistake {
            code: "AF0102",
            what: "not valid TOML".to_owned(),
            why: "this byte is not UTF-8".to_owned(),
            next: "save the file as UTF-8".to_owned(),
            place: Some(Source { name: &shown, text: &text, is_file: true }.place(upto..upto + 1)),
        })
    })
}

fn cause(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Settings being put together, and which of the two paths somebody wrote.
struct Layers {
    settings: Settings,
    data_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
    /// `[bus.layouts.NAME]`, for `bus.layout` of this layer or a later one.
    layouts: BTreeMap<String, Vec<(String, Pick)>>,
}

fn put<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

/// Zones, and keys of registrars, that one node may have.
pub const ZONES_MAX: usize = 8;
const BY_HAND: &str = "this version finds peers by [[peers]], `afferent peers add` and discovery.dns only";

impl Layers {
    fn apply(&mut self, mut document: Document<'_>) -> Vec<Mistake> {
        if !document.is_sound() {
            return document.mistakes;
        }
        document.section("node", |node| self.node(node));
        document.section("interests", |interests| self.interests(interests));
        document.section("bus", |bus| self.bus(bus));
        document.section("discovery", |discovery| self.discovery(discovery));
        document.sections("peers", |peer| self.peer(peer));
        document.section("trust", |trust| {
            let Settings { trust: target, peers, .. } = &mut self.settings;
            put(&mut target.allow, ids(trust, "allow"));
            put(&mut target.mute, ids(trust, "mute"));
            put(&mut target.firehose, ids(trust, "firehose"));
            trust.tables("rule", "trust.rule", |rule| target.rules.extend(rules::read(rule, peers)));
            if target.rules.len() > RULES_MAX {
                trust.refuse(
                    format!("there are more than {RULES_MAX} [[trust.rule]]"),
                    "each event is held against them one by one",
                    "name several sources and types in one rule".to_owned(),
                );
            }
        });
        document.section("limits", |limits| {
            put(&mut self.settings.limits.per_source, limits.text("per_source", str::parse));
        });
        document.section("journal", |journal| {
            put(&mut self.settings.journal.keep, journal.text("keep", keep));
            put(&mut self.settings.journal.bytes, journal.text("bytes", journal_bytes));
        });
        document.section("metrics", |metrics| {
            put(&mut self.settings.metrics.listen, metrics.text("listen", scraped));
        });
        document.section("log", |log| put(&mut self.settings.log.format, log.text("format", log_format)));
        document.section("admin", |admin| {
            if let Some(path) = admin.text("socket", absolute) {
                self.socket = Some(path);
            }
        });
        document.section("registrar", |section| registrar::read(section, &mut self.settings.registrar));
        document.close()
    }

    fn node(&mut self, node: &mut Section<'_, '_>) {
        let target = &mut self.settings.node;
        put(&mut target.name, node.text("name", str::parse));
        if let Some(path) = node.text("data_dir", absolute) {
            self.data_dir = Some(path);
        }
        put(&mut target.listen, node.list("listen", listen));
        if target.listen.is_empty() {
            let next = "write `listen = [\"[::]:7443\"]`".to_owned();
            node.refuse(
                "`node.listen` is empty".to_owned(),
                "a node that listens nowhere cannot be given events",
                next,
            );
        }
        let count = std::cell::Cell::new(0);
        let address = |text: &str| {
            count.set(count.get() + 1);
            if count.get() > ADDRESSES_MAX {
                return Err("more than 4 addresses".to_owned());
            }
            text.parse::<HostPort>().map_err(|why| why.to_string())
        };
        put(&mut target.addresses, node.list("addresses", address));
        put(&mut target.network, node.text("network", str::parse));
        put(&mut target.profile, node.text("profile", profile));
        target.accept = node.text("accept", accept).or(target.accept);
        put(&mut target.durability, node.text("durability", durability));
    }

    fn interests(&mut self, interests: &mut Section<'_, '_>) {
        let Some(patterns) = interests.list("patterns", str::parse::<Pattern>) else { return };
        match Interests::new(patterns) {
            Ok(canonical) => self.settings.interests = canonical,
            Err(why) => interests.refuse(
                "`interests.patterns` asks for too much".to_owned(),
                &why.to_string(),
                "merge patterns: `deployment.*` covers everything below it".to_owned(),
            ),
        }
    }

    fn bus(&mut self, bus: &mut Section<'_, '_>) {
        let target = &mut self.settings.bus;
        put(&mut target.url, bus.text("url", str::parse));
        put(&mut target.stream, bus.text("stream", values::stream));
        put(&mut target.shards, bus.integer("shards", 0..=64).and_then(|count| u16::try_from(count).ok()));
        self.layouts.extend(bus.named("layouts", mapped));
        put(&mut target.layout, bus.text("layout", |text| layout(text, &self.layouts)));
        put(&mut target.outbox, bus.text("outbox", values::stream));
        put(&mut target.maxlen, bus.integer("maxlen", 100..=1_000_000_000));
        put(&mut target.own, bus.flag("own"));
        bus.tables("route", "bus.route", |each| route(each, target));
        bus.tables("spread", "bus.spread", |each| spread(each, target));
        let is_sharded = target.shards > 0;
        if is_sharded != target.stream.contains("{n}") {
            let next = "write `stream = \"mesh:events:{n}\"` and `shards = 16`, or neither `{n}` nor shards".to_owned();
            let what = "`bus.stream` and `bus.shards` do not fit together".to_owned();
            bus.refuse(what, "`{n}` in the name of the stream is the number of the shard", next);
        } else if is_sharded && target.layout == Layout::Teleclaude {
            let what = "`bus.shards` with `layout = \"teleclaude\"`".to_owned();
            bus.refuse(what, "its reader knows one stream", "leave `shards` out".to_owned());
        }
        if target.routes.iter().any(|route| route.stream == target.outbox) {
            let what = "a [[bus.route]] leads to `bus.outbox`".to_owned();
            bus.refuse(what, "everything there would be published again", "give it another stream".to_owned());
        }
        if target.stream == target.outbox {
            bus.refuse(
                "`bus.stream` and `bus.outbox` are the same stream".to_owned(),
                "everything that arrives would be published again",
                "give them two names".to_owned(),
            );
        }
        if let Some(name) = collision(target) {
            let what = format!("two things of the bus would be the stream `{name}`");
            let why = "shards, routes, outbox and the dead letters beside each need streams of their own";
            bus.refuse(what, why, "give one of them another name".to_owned());
        }
    }

    fn discovery(&mut self, discovery: &mut Section<'_, '_>) {
        discovery.off("lan", BY_HAND);
        let target = &mut self.settings.discovery;
        put(&mut target.dns, discovery.list("dns", str::parse));
        put(&mut target.dns_server, discovery.text("dns_server", dns_server));
        put(&mut target.dns_keys, discovery.list("dns_keys", registrar_key));
        if target.dns.len() > ZONES_MAX || target.dns_keys.len() > ZONES_MAX {
            discovery.refuse(
                format!("more than {ZONES_MAX} zones, or keys of registrars"),
                "each zone is asked again and again, and each manifest is held against every key",
                "name those you trust most".to_owned(),
            );
        }
        put(&mut self.settings.discovery.exchange, discovery.flag("exchange"));
        put(&mut self.settings.discovery.seeds, discovery.text("seeds", values::seeds));
        put(&mut self.settings.discovery.seeds_key, discovery.text("seeds_key", values::seeds_key));
        let peers_min = discovery.integer("min_peers", 0..=64);
        put(&mut self.settings.discovery.min_peers, peers_min.and_then(|count| usize::try_from(count).ok()));
        let peers_max = discovery.integer("max_peers", 1..=1_024);
        put(&mut self.settings.discovery.registrar, discovery.text("registrar", registrar::origin));
        put(&mut self.settings.discovery.max_peers, peers_max.and_then(|count| usize::try_from(count).ok()));
    }

    fn peer(&mut self, peer: &mut Section<'_, '_>) {
        if !peer.has("address") {
            peer.needs("address");
        }
        let alias = peer.text("alias", values::alias);
        let Some((id, at)) = peer.text("address", pinned) else { return };
        let known = &mut self.settings.peers;
        if known.iter().any(|other| other.id == id) {
            let next = "leave one of them out".to_owned();
            peer.refuse(format!("two [[peers]] have the id {}", id.short()), "a node stands here once", next);
        } else if alias.is_some() && known.iter().any(|other| other.alias == alias) {
            let what = format!("two [[peers]] have the alias `{}`", alias.unwrap_or_default());
            peer.refuse(what, "an alias means one peer", "give them two names".to_owned());
        } else {
            known.push(Peer { id, at, alias });
        }
    }
}

fn route(each: &mut Section<'_, '_>, bus: &mut Bus) {
    for key in ["match", "stream"] {
        if !each.has(key) {
            each.needs(key);
        }
    }
    let (pattern, stream) = (each.text("match", str::parse::<Pattern>), each.text("stream", values::stream));
    let (Some(pattern), Some(stream)) = (pattern, stream) else { return };
    if bus.routes.len() == ROUTES_MAX {
        each.refuse("too many [[bus.route]]".to_owned(), "there are 64 at most", "merge some of them".to_owned());
        return;
    }
    bus.routes.push(Route { pattern, stream });
}

fn spread(each: &mut Section<'_, '_>, bus: &mut Bus) {
    for key in ["match", "window"] {
        if !each.has(key) {
            each.needs(key);
        }
    }
    let (pattern, window) = (each.text("match", str::parse::<Pattern>), each.text("window", window));
    let (Some(pattern), Some(window)) = (pattern, window) else { return };
    if bus.spreads.len() == SPREADS_MAX {
        each.refuse("too many [[bus.spread]]".to_owned(), "there are 64 at most", "merge some of them".to_owned());
        return;
    }
    bus.spreads.push(Spread { pattern, window });
}

/// How long an event may be held back from the bus.
fn window(text: &str) -> Result<Duration, &'static str> {
    match values::span(text)? {
        span if span.is_zero() => Err("a span of nothing spreads nothing: leave the table out"),
        span if span <= SPREAD_MAX => Ok(span),
        _ => Err("15m at most: whoever answers a question has no more time"),
    }
}

/// Each event that is stored is held against all of them.
pub const SPREADS_MAX: usize = 64;

/// Each stream is a connection to Redis.
pub const ROUTES_MAX: usize = 64;

fn layout(text: &str, named: &BTreeMap<String, Vec<(String, Pick)>>) -> Result<Layout, String> {
    match (text, named.get(text)) {
        ("plain", _) => Ok(Layout::Plain),
        ("teleclaude", _) => Ok(Layout::Teleclaude),
        (_, Some(fields)) if fields.is_empty() || fields.len() > 64 => Err("a layout has 1 to 64 fields".to_owned()),
        (_, Some(fields)) => Ok(Layout::Named(fields.clone())),
        (_, None) => {
            let names: Vec<&str> =
                ["plain", "teleclaude"].into_iter().chain(named.keys().map(String::as_str)).collect();
            Err(format!("the layouts are {}; another one is written as [bus.layouts.NAME]", names.join(", ")))
        }
    }
}

/// A stream that would be two things at once: a shard and the outbox, or the dead letters of another.
fn collision(bus: &Bus) -> Option<String> {
    let shards = (0..bus.shards).map(|number| bus.stream.replace("{n}", &number.to_string()));
    let mut streams: BTreeSet<String> = bus.routes.iter().map(|route| route.stream.clone()).chain(shards).collect();
    if bus.shards > 0 && streams.contains(&bus.outbox) {
        return Some(bus.outbox.clone());
    }
    streams.extend([bus.stream.clone(), bus.outbox.clone()]);
    let letters = streams.iter().map(|stream| format!("{stream}:dead"));
    letters.into_iter().find(|letters| streams.contains(letters))
}

fn ids(section: &mut Section<'_, '_>, key: &'static str) -> Option<BTreeSet<NodeId>> {
    let id = |text: &str| text.strip_prefix("mesh:").unwrap_or(text).parse::<NodeId>();
    section.list(key, id).map(BTreeSet::from_iter)
}

fn unknown_override(each: &Override) -> Mistake {
    let sections: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
    let mut mistake = if each.section == "peers" {
        Mistake {
            code: "AF0103",
            what: format!("{} names a table that may stand many times", each.source),
            why: "peers are written in the file".to_owned(),
            next: "write [[peers]] in the configuration, or type `afferent peers add`".to_owned(),
            place: None,
        }
    } else if sections.contains(&each.section.as_str()) {
        document::unknown_key(&each.section, &each.key, None)
    } else {
        let next = match document::nearest(&each.section, &sections) {
            Some(near) => format!("write `{near}`"),
            None => "leave it out".to_owned(),
        };
        let (what, why) =
            (format!("unknown table `{}`", each.section), format!("the tables are {}", sections.join(", ")));
        Mistake { code: "AF0103", what, why, next, place: None }
    };
    if each.section != "peers" {
        mistake.what = format!("{}: {}", each.source, mistake.what);
    }
    mistake
}

/// `AFFERENT_NODE_NAME` where `AFFERENT_NODE__NAME` was meant: silence would look like success.
fn one_underscore(name: &str) -> Option<Mistake> {
    let rest = name.strip_prefix("AFFERENT_").filter(|rest| !rest.contains("__"))?;
    let field = FIELDS.iter().find(|field| {
        let single = format!("{}_{}", field.section, field.key).to_ascii_uppercase();
        single == rest
    })?;
    let meant = format!("AFFERENT_{}__{}", field.section, field.key).to_ascii_uppercase();
    Some(Mistake {
        code: "AF0103",
        what: format!("{name}: unknown variable"),
        why: "two underscores separate table and key".to_owned(),
        next: format!("write {meant}"),
        place: None,
    })
}
