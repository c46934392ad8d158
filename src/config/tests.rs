//! What is read, what overrides what, and what every mistake looks like.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::core::params::{Accept, Tiers};
use crate::core::pick::Pick;
use crate::wire::message::Durability;
use crate::wire::{Profile, Rejection};

const ID: &str = "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenawvib";

mod shown;

fn user() -> Surroundings {
    Surroundings { host: "birch".to_owned(), ..with_env(&[("HOME", "/home/ann"), ("XDG_RUNTIME_DIR", "/run/user/7")]) }
}

fn with_env(env: &[(&str, &str)]) -> Surroundings {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Surroundings { env, is_root: false, host: "birch".to_owned() }
}

fn root() -> Surroundings {
    Surroundings { is_root: true, host: "birch".to_owned(), ..Surroundings::default() }
}

fn of(text: &str) -> Result<Settings, Mistakes> {
    read(Some((Path::new("/home/ann/a.toml"), text)), &[], &user())
}

fn good(text: &str) -> Settings {
    of(text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// The one mistake in a text.
fn mistake(text: &str) -> Mistake {
    let Mistakes(mut mistakes) = of(text).expect_err(text);
    assert_eq!(mistakes.len(), 1, "{text}: {mistakes:#?}");
    mistakes.remove(0)
}

fn flag(text: &str) -> Override {
    Override::parse(text).expect("a flag")
}

#[test]
fn no_file_at_all_is_a_configuration() {
    let settings = read(None, &[], &user()).expect("defaults");
    let home = Path::new("/home/ann/.local/share/afferent");
    let name = NodeName::of_host("birch");
    assert_eq!(settings, Settings::default_at(name, home, Path::new("/run/user/7/afferent.sock")));
}

#[test]
fn everything_that_can_be_written_is_read() {
    let settings = good(&format!(
        r#"
[node]
name = "Birch 7"
data_dir = "/srv/birch"
listen = ["0.0.0.0:7443", "[::1]:0"]
addresses = ["birch.example:7443", "192.0.2.1"]
network = "lab"
profile = "private"
accept = "open"
durability = "interval"
[interests]
patterns = ["infrastructure.*", "deployment.+.done"]
[bus]
url = "rediss://:secret@redis.example:6380/2"
stream = "s:{{n}}"
shards = 4
layout = "mine"
outbox = "o"
maxlen = 1_000
own = true
[bus.layouts.mine]
kind = "type"
name = "data.user.name"
_class = "=Order"
[[bus.route]]
match = "deployment.*"
stream = "deploys"
[[bus.spread]]
match = "q.*"
window = "10s"
[discovery]
dns = ["mesh.example", "Mesh.Other.Example."]
dns_server = "192.0.2.53"
dns_keys = ["{ID}"]
exchange = false
seeds = "stable"
lan = false
min_peers = 2
max_peers = 3
[[peers]]
address = "mesh://{ID}@cedar.example"
alias = "cedar"
[trust]
allow = ["{ID}"]
mute = ["mesh:{ID}"]
firehose = []
[limits]
per_source = "5/s burst 20"
[journal]
keep = "1d 12h"
bytes = "512MiB"
[admin]
socket = "/run/user/7/birch.sock"
"#
    ));
    assert_eq!(settings.file.as_deref(), Some(Path::new("/home/ann/a.toml")));
    assert_eq!(settings.node.name.as_str(), "Birch 7");
    assert_eq!(settings.node.listen.len(), 2);
    assert_eq!(settings.node.addresses[1].to_string(), "192.0.2.1:7443");
    assert_eq!((settings.node.network.as_str(), settings.node.profile), ("lab", Profile::Private));
    let zones: Vec<_> = settings.discovery.dns.iter().map(ToString::to_string).collect();
    assert_eq!(zones, ["mesh.example", "mesh.other.example"]);
    assert_eq!(settings.discovery.dns_server, "192.0.2.53:53".parse().ok());
    assert_eq!(settings.discovery.dns_keys, [ID.parse().expect("an id")]);
    assert_eq!(settings.node.durability, Durability::Interval);
    assert_eq!(settings.interests.patterns().len(), 2);
    let BusUrl::Redis(url) = &settings.bus.url else { panic!("a Redis") };
    assert_eq!(url.expose(), "rediss://:secret@redis.example:6380/2");
    assert_eq!((settings.bus.maxlen, settings.bus.own, settings.bus.shards), (1_000, true, 4));
    let pattern = "deployment.*".parse().expect("a pattern");
    assert_eq!(settings.bus.routes, [Route { pattern, stream: "deploys".to_owned() }]);
    let spread = Spread { pattern: "q.*".parse().expect("a pattern"), window: Duration::from_secs(10) };
    assert_eq!(settings.bus.spreads, [spread]);
    let path = Pick::Data(vec!["user".to_owned(), "name".to_owned()]);
    let picks = [("_class", Pick::Text("Order".into())), ("kind", Pick::Attribute("type".into())), ("name", path)];
    let fields = picks.map(|(name, pick)| (name.to_owned(), pick)).to_vec();
    assert_eq!(settings.bus.layout, Layout::Named(fields));
    let id = ID.parse().expect("an id");
    let at = "cedar.example:7443".parse().expect("an address");
    assert_eq!(settings.peers, [Peer { id, at, alias: Some("cedar".to_owned()) }]);
    assert!(settings.trust.allow.contains(&id) && settings.trust.mute.contains(&id));
    assert_eq!(settings.limits.per_source.to_string(), "5/s burst 20");
    assert_eq!(settings.journal.keep.as_secs(), 36 * 3_600);
    assert_eq!(settings.journal.bytes, 512 << 20);
    assert_eq!(settings.admin.socket, Path::new("/run/user/7/birch.sock"));
    let params = settings.params();
    assert_eq!((params.peers_max, params.profile, params.allow.len()), (3, Profile::Private, 1));
    assert_eq!(params.accept, Accept::Open);
    assert_eq!((params.min_peers, params.tiers), (2, Tiers { dns: true, exchange: false, seeds: true }));
    assert_eq!(settings.discovery.seeds.as_deref(), Some("stable"));
}

#[test]
fn who_comes_by_himself_has_to_ask_on_a_network_of_ones_own() {
    let accept = |text: &str| good(text).params().accept;
    assert_eq!(accept(""), Accept::Open);
    assert_eq!(accept("[node]\nprofile = \"loopback\""), Accept::Open);
    assert_eq!(accept("[node]\nprofile = \"private\""), Accept::Ask);
    assert_eq!(accept("[node]\nprofile = \"private\"\naccept = \"open\""), Accept::Open);
    assert_eq!(accept("[node]\naccept = \"ask\""), Accept::Ask);
}

#[test]
fn the_template_says_nothing_but_the_defaults() {
    assert_eq!(good(&template(&[])), Settings { file: Some("/home/ann/a.toml".into()), ..good("") });
    let is_key = |line: &&str| line.starts_with('#') && line[1..].starts_with(|first: char| first.is_ascii_lowercase());
    let preset = |line: &str| {
        let key = line[1..].split(' ').next().expect("a key");
        FIELDS.iter().filter(|field| field.key == key).all(|field| matches!(field.preset, Preset::Value(_)))
            || line == "#stream = \"mesh:events\""
    };
    let uncommented: Vec<String> = template(&[])
        .lines()
        .map(|line| if is_key(&line) && preset(line) { line[1..].to_owned() } else { line.to_owned() })
        .collect();
    let presets = FIELDS.iter().filter(|field| matches!(field.preset, Preset::Value(_))).count();
    assert_eq!(uncommented.iter().filter(|line| line.contains(" = ") && !line.starts_with('#')).count(), presets);
    assert_eq!(good(&uncommented.join("\n")), good(""));
}

#[test]
fn every_line_of_the_template_can_be_used() {
    let everything: Vec<String> = template(&[])
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest.replace("<id>", ID),
            _ => line.to_owned(),
        })
        .collect();
    let settings = good(&everything.join("\n"));
    assert_eq!(settings.peers[0].alias.as_deref(), Some("cedar"));
    let text = template(&[("node", "name", "\"x\"".to_owned())]);
    assert!(FIELDS.iter().all(|field| text.contains(&format!("{} = ", field.key)) && !field.purpose.is_empty()));
    assert!(text.contains("\nname = \"x\"\n"));
    assert!(text.lines().all(|line| line.chars().count() <= 100), "fits a screen");
}

#[test]
fn later_layers_win() {
    let file = "[bus]\nurl = \"redis://file:1\"\nstream = \"file\"\nmaxlen = 200";
    let env = with_env(&[
        ("HOME", "/home/ann"),
        ("AFFERENT_BUS__STREAM", "env"),
        ("AFFERENT_BUS__MAXLEN", "300"),
        ("AFFERENT_BUS__OWN", "true"),
        ("AFFERENT_NODE__LISTEN", "127.0.0.1:1, 127.0.0.1:2"),
        ("AFFERENT_INTERESTS__PATTERNS", "[\"a.*\"]"),
        ("AFFERENT_CONFIG", "ignored here"),
        ("AFFERENT_LOG", "debug"),
    ]);
    let flags = [flag("bus.maxlen=400"), flag("node.addresses="), flag("node.name= Birch ")];
    let settings = read(Some((Path::new("/a.toml"), file)), &flags, &env).expect("good");
    assert_eq!(settings.bus.url.to_string(), "redis://file:1");
    assert_eq!((settings.bus.stream.as_str(), settings.bus.maxlen, settings.bus.own), ("env", 400, true));
    assert_eq!(settings.node.listen.len(), 2);
    assert_eq!(settings.interests.patterns()[0].as_str(), "a.*");
    assert_eq!((settings.node.addresses.len(), settings.node.name.as_str()), (0, "Birch"));
}

#[test]
fn a_node_lives_where_it_can_be_found_again() {
    let home = |file: Option<&str>, text: &str, surroundings: &Surroundings| {
        let settings = read(file.map(|file| (Path::new(file), text)), &[], surroundings).expect("good");
        (settings.node.data_dir, settings.admin.socket)
    };
    let at = |data_dir: &str, socket: &str| (PathBuf::from(data_dir), PathBuf::from(socket));
    let system = at("/var/lib/afferent", "/run/afferent/afferent.sock");
    assert_eq!(home(None, "", &root()), system);
    assert_eq!(home(Some("/etc/afferent/afferent.toml"), "", &user()), system);
    assert_eq!(home(Some("/x.toml"), "[node]\ndata_dir = \"/var/lib/afferent\"", &user()), system);
    let own = "/home/ann/.local/share/afferent";
    assert_eq!(home(Some("/x.toml"), "", &user()), at(own, "/run/user/7/afferent.sock"));
    let bare = with_env(&[("HOME", "/home/ann")]);
    assert_eq!(home(None, "", &bare), at(own, "/home/ann/.local/share/afferent/afferent.sock"));
    let xdg = with_env(&[("XDG_DATA_HOME", "/data"), ("XDG_RUNTIME_DIR", "relative")]);
    assert_eq!(home(None, "", &xdg), at("/data/afferent", "/data/afferent/afferent.sock"));
    // Two daemons of one user with two data directories never meet at one socket.
    assert_eq!(home(Some("/x.toml"), "[node]\ndata_dir = \"/d\"", &user()), at("/d", "/d/afferent.sock"));
    assert_eq!(home(Some("/x.toml"), "[node]\ndata_dir = \"/d\"", &root()), at("/d", "/d/afferent.sock"));
    let both = "[node]\ndata_dir = \"/d\"\n[admin]\nsocket = \"/s\"";
    assert_eq!(home(Some("/x.toml"), both, &user()), at("/d", "/s"));
    let credential = with_env(&[("HOME", "/h"), ("CREDENTIALS_DIRECTORY", "/run/credentials/x")]);
    let settings = read(None, &[], &credential).expect("good");
    assert_eq!(settings.node.credential, Some("/run/credentials/x/node.key".into()));
}

#[test]
fn a_named_file_has_to_exist_and_the_usual_ones_need_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let own = directory.path().join("afferent/afferent.toml");
    let home = directory.path().to_str().expect("UTF-8");
    let surroundings = with_env(&[("XDG_CONFIG_HOME", home), ("HOME", "/nowhere")]);
    assert_eq!(load(None, &[], &surroundings).expect("none").file, None);
    std::fs::create_dir(own.parent().expect("a parent")).expect("made");
    std::fs::write(&own, "[node]\nname = \"own\"").expect("written");
    assert_eq!(load(None, &[], &surroundings).expect("found").node.name.as_str(), "own");

    let other = directory.path().join("other.toml");
    let named = with_env(&[("HOME", "/nowhere"), ("AFFERENT_CONFIG", other.to_str().expect("UTF-8"))]);
    let missing = load(None, &[], &named).expect_err("missing").to_string();
    let shown = other.display();
    let expected = format!(
        "configuration: {shown} cannot be read, there is no such file (AF0101)\nnext: afferent init --config {shown}"
    );
    assert_eq!(missing, expected);
    std::fs::write(&other, "[node]\nname = \"other\"").expect("written");
    assert_eq!(load(None, &[], &named).expect("read").node.name.as_str(), "other");
    assert_eq!(load(Some(&own), &[], &named).expect("read").node.name.as_str(), "own", "the flag wins");
    std::fs::write(&other, b"[node]\nname = \"b\xffrch\"").expect("written");
    let broken = load(Some(&other), &[], &named).expect_err("not UTF-8").to_string();
    assert!(broken.contains(":2:10\n") && broken.contains("this byte is not UTF-8"), "{broken}");
}

#[test]
fn an_unknown_key_is_shown_with_what_was_meant() {
    assert_eq!(
        mistake("# hello\n\n[bus]\n  maxlne = 100000 # entries").to_string(),
        "configuration: unknown key `maxlne` in [bus] (AF0103)
 --> /home/ann/a.toml:4:3
  |
4 |   maxlne = 100000 # entries
  |   ^^^^^^ the keys of [bus] are url, stream, shards, layout, outbox, maxlen, own
  |
next: write `maxlen`"
    );
}

#[test]
fn a_value_that_cannot_be_used_says_why_and_shows_one_that_can() {
    assert_eq!(
        mistake(&format!("{}[interests]\npatterns = [\n  \"a.*\",\n  \"a..b\",\n]", "\n".repeat(9))).to_string(),
        "configuration: `interests.patterns` cannot be used (AF0105)
  --> /home/ann/a.toml:13:3
   |
13 |   \"a..b\",
   |   ^^^^^^ pattern: segments are words, `+` for exactly one, or a final `*` for one or more
   |
next: write something like `patterns = [\"deployment.*\"]`"
    );
    assert_eq!(
        mistake("[node]\nlisten = [\"7443\"]").to_string(),
        "configuration: `node.listen` cannot be used (AF0105)
 --> /home/ann/a.toml:2:11
  |
2 | listen = [\"7443\"]
  |           ^^^^^^ an IP address and a port are expected, such as `0.0.0.0:7443` or `[::]:7443`
  |
next: write something like `listen = [\"[::]:7443\"]`"
    );
}

#[test]
fn what_this_version_does_not_have_is_said_in_a_sentence() {
    assert_eq!(
        mistake("[discovery]\nlan = true").to_string(),
        "configuration: `discovery.lan` asks for what this version does not have (AF0106)
 --> /home/ann/a.toml:2:7
  |
2 | lan = true
  |       ^^^^ this version finds peers by [[peers]], `afferent peers add` and discovery.dns only
  |
next: write `lan = false`, or leave the line out"
    );
}

#[test]
fn the_environment_is_shown_by_its_variable() {
    let surroundings = with_env(&[("HOME", "/h"), ("AFFERENT_BUS__MAXLEN", "many")]);
    assert_eq!(
        read(None, &[], &surroundings).expect_err("refused").to_string(),
        "configuration: `bus.maxlen` is of the wrong kind (AF0104)
--> AFFERENT_BUS__MAXLEN
 |
 | many
 | ^^^^ a whole number is expected, this is a string
 |
next: write `maxlen = 100000`"
    );
    for (name, value, next) in [
        ("AFFERENT_BUS__MAXLNE", "1", "write `maxlen`"),
        ("AFFERENT_BSU__URL", "x", "write `bus`"),
        ("AFFERENT_NODE_NAME", "x", "write AFFERENT_NODE__NAME"),
        ("AFFERENT_PEERS__ADDRESS", "x", "write [[peers]] in the configuration, or type `afferent peers add`"),
    ] {
        let Mistakes(mistakes) = read(None, &[], &with_env(&[("HOME", "/h"), (name, value)])).expect_err(name);
        assert_eq!((mistakes.len(), mistakes[0].next.as_str()), (1, next), "{name}");
        assert!(mistakes[0].what.contains(name), "{name}: {}", mistakes[0]);
    }
    let wrong = read(None, &[flag("node.profile=open")], &user()).expect_err("refused").to_string();
    assert!(wrong.contains("--> --set node.profile\n") && wrong.contains("public, private and loopback"), "{wrong}");
}

/// Text, code, line and column, a part of the reason, a part of the remedy.
type Wrong<'t> = (&'t str, &'t str, (usize, usize), &'t str, &'t str);

#[test]
fn every_mistake_names_its_place_its_reason_and_its_remedy() {
    let no_id = "mesh://cedar.example:7443";
    let twice = format!("[[peers]]\naddress = \"{ID}@a.b\"\n[[peers]]\naddress = \"{ID}@c.d\"");
    let without_id = format!("[[peers]]\naddress = \"{no_id}\"");
    let broken_id = format!("[trust]\nmute = [\"{}\"]", ID.replace("25n", "35n"));
    let nine_zones = format!("[discovery]\ndns = [{}]", ["\"mesh.example\""; 9].join(", "));
    let cases: &[Wrong<'_>] = &[
        ("[node]\nname = birch", "AF0102", (2, 8), "", "text in quotes"),
        ("[node\nname = \"x\"", "AF0102", (1, 6), "", "`afferent config template`"),
        ("[node]\nname = \"x\"\nname = \"y\"", "AF0102", (3, 1), "duplicate key", ""),
        ("[nodes]\n", "AF0103", (1, 2), "the tables are node, interests", "write [node]"),
        ("name = \"x\"", "AF0103", (1, 1), "the tables are", "`name` belongs below [node]"),
        ("zzz = 1", "AF0103", (1, 1), "the tables are", "leave it out"),
        ("[node]\nmaxlen = 5", "AF0103", (2, 1), "the keys of [node]", "`maxlen` belongs to [bus]"),
        ("node = 5", "AF0104", (1, 8), "a table of keys", "write [node]"),
        ("[node]\nname = 7", "AF0104", (2, 8), "a string in quotes is expected, this is a whole number", "name = "),
        ("[bus]\nmaxlen = \"7\"", "AF0104", (2, 10), "a whole number is expected, this is a string", "100000"),
        ("[bus]\nmaxlen = 7.5", "AF0104", (2, 10), "this is a number with decimals", ""),
        ("[bus]\nown = 1", "AF0104", (2, 7), "true or false is expected", ""),
        ("[node]\nlisten = \"[::]:1\"", "AF0104", (2, 10), "a list such as", ""),
        ("[trust]\nallow = [7]", "AF0104", (2, 10), "this is a whole number", ""),
        ("[peers]\naddress = \"x\"", "AF0104", (1, 2), "there may be many", "[[peers]] with two brackets"),
        ("[node]\nname = \"\"", "AF0105", (2, 8), "1 to 64 characters", ""),
        ("[node]\nname = \"a\\u001bb\"", "AF0105", (2, 8), "control characters", ""),
        ("[node]\ndata_dir = \"~/x\"", "AF0105", (2, 12), "an absolute path", "/var/lib/afferent"),
        ("[node]\nlisten = []", "AF0105", (1, 2), "listens nowhere", "[::]:7443"),
        ("[node]\naddresses = [\"a\", \"b\", \"c\", \"d\", \"e\"]", "AF0105", (2, 34), "more than 4", ""),
        ("[node]\naddresses = [\"x:0\"]", "AF0105", (2, 14), "port 0", ""),
        ("[node]\nnetwork = \"a b\"", "AF0105", (2, 11), "letters, digits", "main"),
        ("[node]\nprofile = \"open\"", "AF0105", (2, 11), "public, private and loopback", "public"),
        ("[node]\naccept = \"yes\"", "AF0105", (2, 10), "open and ask", "ask"),
        ("[node]\ndurability = \"none\"", "AF0105", (2, 14), "fsync and interval", "fsync"),
        ("[bus]\nurl = \"http://x\"", "AF0105", (2, 7), "redis://", "127.0.0.1:6379"),
        ("[bus]\nurl = \"redis+sentinel://a:1/x\"", "AF0105", (2, 7), "Sentinel comes later", ""),
        ("[bus]\nurl = \"redis://a:1,redis://b:2\"", "AF0105", (2, 7), "Cluster comes later", ""),
        ("[bus]\nurl = \"redis-cluster://a:1\"", "AF0105", (2, 7), "Cluster comes later", ""),
        ("[bus]\nurl = \"redis://a:b:c\"", "AF0105", (2, 7), "not an address", ""),
        ("[bus]\nstream = \"a b\"", "AF0105", (2, 10), "no spaces", "mesh:events"),
        ("[bus]\nstream = \"x\"\noutbox = \"x\"", "AF0105", (1, 2), "published again", "two names"),
        (
            "[bus]\nstream = \"s:{n}\"\nshards = 4\noutbox = \"s:3\"",
            "AF0105",
            (1, 2),
            "streams of their own",
            "another name",
        ),
        ("[bus]\nstream = \"x\"\noutbox = \"x:dead\"", "AF0105", (1, 2), "streams of their own", "another name"),
        ("[bus]\nmaxlen = 5", "AF0105", (2, 10), "from 100 to 1000000000", "100000"),
        ("[bus]\nmaxlen = -5", "AF0105", (2, 10), "from 100", ""),
        ("[bus]\nlayout = \"telly\"", "AF0105", (2, 10), "the layouts are plain, teleclaude", "layout = \"plain\""),
        ("[bus]\nlayout = \"x\"\n[bus.layouts.x]", "AF0105", (2, 10), "1 to 64 fields", ""),
        ("[bus.layouts.x]\nkind = \"Type\"", "AF0105", (2, 8), "an attribute, data", "data.user.name"),
        ("[bus.layouts.x]\nkind = \"mesh_x\"", "AF0105", (2, 8), "mesh_digest, mesh_from", ""),
        ("[bus.layouts.x]\nkind = \"data..x\"", "AF0105", (2, 8), "data.key.key", ""),
        ("[bus.layouts.x]\n\"a b\" = \"type\"", "AF0105", (2, 9), "no spaces", ""),
        ("[bus.layouts.x]\nmesh_digest = \"type\"", "AF0105", (2, 15), "always there", ""),
        ("[bus.layouts.x]\nkind = 7", "AF0104", (2, 1), "lines", "kind = "),
        ("[bus]\nlayouts = 7", "AF0104", (2, 1), "lines", "[bus.layouts.NAME]"),
        ("[bus]\nshards = 4", "AF0105", (1, 2), "number of the shard", "mesh:events:{n}"),
        ("[bus]\nstream = \"s:{n}\"", "AF0105", (1, 2), "number of the shard", "shards = 16"),
        ("[bus]\nstream = \"s:{n}\"\nshards = 4\nlayout = \"teleclaude\"", "AF0105", (1, 2), "one stream", ""),
        ("[bus]\nshards = 65", "AF0105", (2, 10), "from 0 to 64", ""),
        ("[[bus.route]]\nmatch = \"a.*\"", "AF0107", (1, 1), "every one has it", "stream = "),
        ("[[bus.route]]\nmatch = \"a\"\nstream = \"s\"", "AF0105", (2, 9), "add `.*`", "deployment.*"),
        ("[[bus.route]]\nmatch = \"a.*\"\nstream = \"mesh:outbox\"", "AF0105", (1, 3), "published again", ""),
        ("[[bus.route]]\nmatch = \"a.*\"\nstream = \"s\"\nlayout = \"x\"", "AF0103", (4, 1), "match, stream", ""),
        ("[[bus.spread]]\nmatch = \"a.*\"", "AF0107", (1, 1), "every one has it", "window = "),
        ("[[bus.spread]]\nmatch = \"a.*\"\nwindow = \"1h\"", "AF0105", (3, 10), "15m at most", ""),
        ("[[bus.spread]]\nmatch = \"a.*\"\nwindow = \"0s\"", "AF0105", (3, 10), "spreads nothing", ""),
        ("[bus.route]\nmatch = \"a.*\"", "AF0104", (1, 6), "may be many", "[[bus.route]]"),
        ("[discovery]\ndns = [\"mesh example\"]", "AF0105", (2, 8), "such as mesh.example", "mesh.example"),
        ("[discovery]\ndns = [\"192.0.2.1\"]", "AF0105", (2, 8), "a zone is a DNS name", "mesh.example"),
        (&nine_zones, "AF0105", (1, 2), "again and again", "trust most"),
        ("[discovery]\ndns_server = \"dns.example\"", "AF0105", (2, 14), "an IP address and a port", "192.0.2.53:53"),
        ("[discovery]\ndns_server = \"192.0.2.53:0\"", "AF0105", (2, 14), "an IP address and a port", "192.0.2.53:53"),
        ("[discovery]\ndns_keys = [\"abc\"]", "AF0105", (2, 13), "written like a node id", "registrar key"),
        ("[discovery]\nseeds_key = \"abc\"", "AF0105", (2, 13), "written like a node id", ""),
        ("[registrar]\nmetrics = \"192.0.2.1:9465\"", "AF0105", (2, 11), "an address of loopback", ""),
        ("[discovery]\nseeds = \"no spaces\"", "AF0105", (2, 9), "1 to 32 letters", ""),
        ("[discovery]\nmin_peers = 65", "AF0105", (2, 13), "from 0 to 64", ""),
        ("[discovery]\nmax_peers = 0", "AF0105", (2, 13), "from 1 to 1024", "64"),
        ("[[peers]]\nalias = \"x\"", "AF0107", (1, 1), "every one has it", "address = "),
        (&without_id, "AF0105", (2, 11), "the id is missing", "mesh://<id>@"),
        (&twice, "AF0105", (3, 1), "stands here once", "leave one"),
        (&broken_id, "AF0105", (2, 9), "checksum", ""),
        ("[limits]\nper_source = \"50\"", "AF0105", (2, 14), "50/s burst 200", ""),
        ("[limits]\nper_source = \"50/s burst 20\"", "AF0105", (2, 14), "at least what may come in a second", ""),
        ("[journal]\nkeep = \"a week\"", "AF0105", (2, 8), "`7d`", ""),
        ("[journal]\nkeep = \"5m\"", "AF0105", (2, 8), "1h to 365d", ""),
        ("[journal]\nkeep = \"1mo\"", "AF0105", (2, 8), "write days", ""),
        ("[journal]\nbytes = \"1 potato\"", "AF0105", (2, 9), "512MiB", ""),
        ("[journal]\nbytes = \"1MiB\"", "AF0105", (2, 9), "16MiB at least", ""),
        ("[admin]\nsocket = \"x.sock\"", "AF0105", (2, 10), "an absolute path", ""),
    ];
    for (text, code, (line, column), why, next) in cases {
        let mistake = mistake(text);
        assert_eq!(mistake.code, *code, "{mistake}");
        let at = mistake.place.as_ref().and_then(|place| place.position);
        assert_eq!(at, Some(Position { line: *line, column: *column }), "{mistake}");
        assert!(mistake.why.contains(why), "{mistake}");
        assert!(mistake.next.contains(next), "{mistake}");
        assert!(mistake.to_string().contains('^') && !mistake.next.is_empty());
    }
}

#[test]
fn all_mistakes_come_at_once() {
    let Mistakes(mistakes) =
        of("[node]\nnmae = \"x\"\nlisten = [\"a\", \"b\"]\n[discovery]\nlan = true\n[bsu]\n").expect_err("refused");
    let codes: Vec<&str> = mistakes.iter().map(|mistake| mistake.code).collect();
    assert_eq!(codes, ["AF0103", "AF0105", "AF0105", "AF0106", "AF0103"]);
    assert_eq!(Mistakes(mistakes).to_string().matches("next: ").count(), 5);
}

#[test]
fn too_much_of_a_good_thing_is_refused_as_a_whole() {
    let patterns: Vec<String> = (0..65).map(|i| format!("\"a.b{i}\"")).collect();
    let mistake = mistake(&format!("[interests]\npatterns = [{}]", patterns.join(", ")));
    assert_eq!(mistake.why, Rejection::Pattern("more than 64 patterns").to_string());
}

#[test]
fn a_socket_that_the_system_could_not_name_is_refused() {
    let long = format!("[node]\ndata_dir = \"/{}\"", "x".repeat(100));
    let mistakes = of(&long).expect_err("too long").to_string();
    assert!(
        mistakes.contains("107 bytes at most") && mistakes.contains("next: set a shorter admin.socket"),
        "{mistakes}"
    );
    assert!(of("[admin]\nsocket = \"/s\"").is_ok());
    let homeless = read(None, &[], &with_env(&[])).expect_err("nowhere").to_string();
    assert!(homeless.contains("neither HOME nor XDG_DATA_HOME is set"), "{homeless}");
    assert!(read(None, &[flag("node.data_dir=/d")], &with_env(&[])).is_ok());
}

#[test]
fn passwords_are_never_printed() {
    for url in [
        "redis://ann:hunter2@h:6379",
        "redis://:hunter2@h",
        "rediss://ann:p%40hunter2@h/3",
        "unix:///run/redis.sock?user=ann&pass=hunter2&db=1",
    ] {
        let settings = good(&format!("[bus]\nurl = \"{url}\""));
        let shown = format!("{settings:?} {}", settings.bus.url);
        assert!(!shown.contains("hunter2") && shown.contains("***"), "{shown}");
    }
    for text in [
        "[bus]\nurl = \"http://ann:hunter2@h\"",
        "[bus]\nurl = \"redis://ann:hunter2@h:x\"",
        "[bus]\nurl = \"redis://ann:hun/ter2@h:x\"",
        "[bus]\nurl = \"redis://ann:hunter2@h\\q\"",
        "[bus]\nurl = redis://ann:hunter2@h",
        "[bus]\nurl = [\"redis://ann:hunter2@h\"]",
        "[bus]\nurll = \"redis://ann:hunter2@h\"",
        "[bus]\nurl = \"redis+sentinel://ann:hunter2@h\"",
    ] {
        let shown = format!("{0} {0:?}", of(text).expect_err(text));
        assert!(!shown.contains("ter2") && shown.contains("ann:***@h"), "{shown}");
    }
    let surroundings = with_env(&[("HOME", "/h"), ("AFFERENT_BUS__URL", "redis://ann:hunter2@h:x")]);
    let shown = read(None, &[], &surroundings).expect_err("refused").to_string();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("\n | redis://ann:***@h:x\n | ^^^^^^^^^^^^^^^^^^^ "), "{shown}");
}

#[test]
fn no_text_is_shown_that_a_terminal_would_obey() {
    let shown = of("[node]\nna\u{1b}[31mme = \"x\"").expect_err("refused").to_string();
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let shown = of("[node]\n\"a\\u001b[2J\" = 1").expect_err("refused").to_string();
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let shown = mistake(&format!("[node]\nname = \"{}\"", "x".repeat(5_000))).to_string();
    assert!(shown.len() < 800 && shown.contains("..."), "{shown}");
}

#[test]
fn trust_rules_are_read_in_their_order() {
    use crate::core::trust::{Sources, Verdict};
    let settings = good(&format!(
        r#"
[[trust.rule]]
source = ["cedar", "{ID}"]
types = ["deployment.*", "a.b"]
action = "accept"
[[trust.rule]]
source = ["*"]
types = ["deployment.*"]
action = "drop"
[trust]
mute = []
[[peers]]
address = "mesh://{ID}@cedar.example:7443"
alias = "cedar"
"#
    ));
    let id = ID.parse().expect("an id");
    let rules = &settings.params().rules;
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[0].sources, Sources::These([id].into()));
    assert_eq!((rules[0].types.len(), rules[0].verdict), (2, Verdict::Accepted));
    assert_eq!((&rules[1].sources, rules[1].verdict), (&Sources::Any, Verdict::Dropped));
}

#[test]
fn a_rule_that_cannot_be_meant_is_refused() {
    let rule = |source: &str, types: &str, action: &str| {
        mistake(&format!("[[trust.rule]]\nsource = {source}\ntypes = {types}\naction = {action}\n"))
    };
    for (mistake, code, word) in [
        (rule("[\"birch\"]", "[\"*\"]", "\"drop\""), "AF0105", "alias"),
        (rule("[\"*\"]", "[\"a\"]", "\"drop\""), "AF0105", "segment"),
        (rule("[\"*\"]", "[\"*\"]", "\"deny\""), "AF0105", "quarantine"),
        (rule("[]", "[\"*\"]", "\"drop\""), "AF0105", "at least one"),
        (rule("[\"*\"]", "[]", "\"drop\""), "AF0105", "1 to 64"),
        (rule("\"*\"", "[\"*\"]", "\"drop\""), "AF0104", "list"),
        (mistake("[[trust.rule]]\nsource = [\"*\"]\ntypes = [\"*\"]\n"), "AF0107", "every one"),
        (mistake("[trust.rule]\nsource = [\"*\"]\n"), "AF0104", "[[trust.rule]]"),
        (mistake("[trust]\nrule = [1]\n"), "AF0104", "[[trust.rule]]"),
        (mistake("[trust]\nrules = []\n"), "AF0103", "allow"),
    ] {
        assert_eq!(mistake.code, code, "{mistake}");
        assert!(mistake.why.contains(word), "{mistake}");
    }
    let many = "[[trust.rule]]\nsource = [\"*\"]\ntypes = [\"*\"]\naction = \"flag\"\n".repeat(257);
    assert!(mistake(&many).what.contains("256"));
    let unknown = mistake("[[trust.rule]]\nsource = [\"*\"]\ntypes = [\"*\"]\naction = \"flag\"\ntype = 1\n");
    assert_eq!((unknown.code, unknown.next.as_str()), ("AF0103", "write `types`"));
}
