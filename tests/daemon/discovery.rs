//! Real daemons that find each other: by a friend's friends, by a zone on a real name server, by a list of seeds.

use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};

use afferent::store::seeds::SEEDS_PAYLOAD_TYPE;
use afferent::wire::{Keypair, Signature};
use serde_json::Value;

use crate::support::primary::{Primary, Zone};
use crate::support::{Daemon, PATIENCE, binary, eventually, free_port, seeds, text};

fn discovering(name: &'static str, section: &str) -> Daemon {
    Daemon::running(name, &["a.*"], "", &format!("[discovery]\n{section}"))
}

#[test]
fn a_friends_friend_becomes_a_peer_by_itself() {
    let [a, b, c] = ["a", "b", "c"].map(|name| discovering(name, ""));
    b.befriend(&c);
    a.befriend(&b);
    for (one, other) in [(&a, &c), (&c, &a)] {
        one.wait_connected(other);
    }
    let digest = a.publish("a.told", "1");
    assert_eq!(c.digests(1), [digest]);
}

#[test]
fn without_the_exchange_peers_are_those_that_were_typed_in_and_those_that_call() {
    let a = discovering("a", "exchange = false");
    let [b, c] = ["b", "c"].map(|name| discovering(name, "exchange = false"));
    b.befriend(&c);
    a.befriend(&b);
    b.wait_connected(&a);
    let known = a.json(&["peers", "list"])["peers"].as_array().map(Vec::len);
    assert_eq!(known, Some(1), "nobody was told of c");
}

#[test]
fn a_node_that_knows_nobody_begins_with_a_zone() {
    let b = discovering("b", "exchange = true");
    let entry = format!("_mesh._tcp TXT \"id={}\" \"addr=127.0.0.1:{}\"", b.id(), b.port);
    let primary = Primary::start(&[Zone::written("mesh.test", entry)]);
    let a = discovering("a", &format!("dns = [\"mesh.test\"]\ndns_server = \"{}\"", primary.at()));
    a.wait_connected(&b);
}

#[test]
fn seeds_lead_on_where_the_dns_takes_questions_and_never_answers() {
    let b = discovering("b", "exchange = true");
    // Both ends of a server that is silent.
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let at = udp.local_addr().expect("an address");
    let _tcp = TcpListener::bind(at).expect("the same port");
    let list = seeds(&[b.address()]);
    let section = format!("dns = [\"mesh.test\"]\ndns_server = \"{at}\"\nseeds = \"{}\"", list.path().display());
    let a = discovering("a", &section);
    a.wait_connected(&b);
    let told = eventually("the log names the tier that failed", PATIENCE, || {
        a.log().lines().find(|line| line.contains("zone mesh.test brings no peers")).map(str::to_owned)
    });
    assert!(told.contains("no answer from the DNS server in time"), "{told}");
}

#[test]
fn with_a_pinned_key_a_list_leads_on_only_when_that_key_signed_it() {
    let b = discovering("b", "exchange = true");
    let key = Keypair::from_seed(&[9; 32]);
    let list = tempfile::NamedTempFile::new().expect("a file");
    let seed = format!("format = 1\nchannel = \"test\"\nnetwork = \"main\"\n[[seed]]\naddress = \"{}\"\n", b.address());
    std::fs::write(list.path(), &seed).expect("a list");
    let section = format!("seeds = \"{}\"\nseeds_key = \"{}\"", list.path().display(), key.id());

    let a = discovering("a", &section);
    let told = eventually("the log says what the list lacks", PATIENCE, || {
        a.log().lines().find(|line| line.contains("brings no peers")).map(str::to_owned)
    });
    assert!(told.contains("it bears no signature") && told.contains("discovery.seeds_key"), "{told}");
    assert_eq!(a.json(&["peers", "list"])["peers"].as_array().map(Vec::len), Some(0));

    let signature = Signature::sign(&key, SEEDS_PAYLOAD_TYPE, seed.as_bytes());
    std::fs::write(list.path(), format!("{seed}#signature {} {signature}\n", key.id())).expect("a list");
    let c = discovering("c", &section);
    c.wait_connected(&b);
}

#[test]
fn a_list_that_cannot_be_used_is_told_once_and_nothing_else_suffers() {
    let a = discovering("a", "seeds = \"/nowhere/seeds.toml\"");
    let b = discovering("b", "");
    eventually("it is told", PATIENCE, || a.log().contains("/nowhere/seeds.toml").then_some(()));
    a.befriend(&b);
}

/// Nobody whom the daemons know.
const STRANGERS: [&str; 2] = [
    "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenawvib",
    "376cxjd6f3xwoufwp54kdm65f4c2dsa4x6r7ebkjs6baw6nq27tizfqb",
];

/// A list of seeds that names these.
fn tier<'a>(answer: &'a Value, name: &str) -> &'a Value {
    answer["tiers"].as_array().expect("tiers").iter().find(|tier| tier["tier"] == name).expect("every tier")
}

/// What came of the address with this port, and the class of its failure.
fn outcome(tier: &Value, port: u16) -> (String, String) {
    let end = format!(":{port}");
    let sources = tier["sources"].as_array().expect("sources").iter();
    let mut places = sources.filter_map(|source| source["places"].as_array()).flatten();
    let place = places.find(|place| place["address"].as_str().is_some_and(|at| at.ends_with(&end)));
    let place = place.unwrap_or_else(|| panic!("{port} in {tier}"));
    if place["outcome"] == "verified" {
        assert!(place["ms"].as_f64().is_some_and(|ms| ms > 0.0), "{place}");
    }
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (word(&place["outcome"]), word(&place["failure"]["class"]))
}

fn pair(outcome: &str, class: &str) -> (String, String) {
    (outcome.to_owned(), class.to_owned())
}

#[test]
fn discover_says_what_each_tier_answers_and_what_came_of_every_address() {
    let b = discovering("b", "");
    let mut a = Daemon::new("a", &["a.*"], "", "");
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    silent.set_nonblocking(true).expect("a socket");
    let (mute, closed) = (silent.local_addr().expect("an address").port(), free_port());
    let [one, other] = STRANGERS;
    let list = seeds(&[
        format!("mesh://{one}@127.0.0.1:{}", a.port),
        format!("mesh://{one}@localhost:{}", b.port),
        format!("mesh://{one}@127.0.0.1:{closed}"),
        format!("mesh://{other}@127.0.0.1:{mute}"),
        format!("mesh://{other}@127.0.0.1:6379"),
    ]);
    let entry = format!(
        "_mesh._tcp TXT \"id={}\" \"addr=127.0.0.1:{}\"\n_mesh._tcp TXT \"id={one}\" \"addr=127.0.0.1:22\"",
        b.id(),
        b.port
    );
    let primary = Primary::start(&[
        Zone::written("mesh.test", entry),
        Zone { lines: None, ..Zone::written("broken.test", String::new()) },
    ]);
    // Nothing is looked for by itself: what is dialled is dialled for the command.
    let section = format!(
        "[discovery]\nmin_peers = 0\ndns = [\"mesh.test\", \"broken.test\", \"no.mesh.test\", \"other.test\"]\n\
         dns_server = \"{}\"\nseeds = \"{}\"",
        primary.at(),
        list.path().display()
    );
    let mut file = std::fs::File::options().append(true).open(a.config()).expect("a configuration");
    writeln!(file, "{section}").expect("written");

    // Without a daemon the answer is the same, as far as nobody has to be dialled or asked.
    assert_eq!(a.afferent(&["discover"]).status.code(), Some(3));
    let offline = a.json(&["discover", "--dry-run"]);
    assert_eq!(outcome(tier(&offline, "dns"), b.port), pair("found", ""));
    assert_eq!(tier(&offline, "exchange")["state"], "unknown");

    a.start();
    for answer in [&offline, &a.json(&["discover", "--dry-run"])] {
        let seeds = tier(answer, "seeds");
        assert_eq!([closed, mute].map(|port| outcome(seeds, port)), [pair("found", ""), pair("found", "")]);
        assert_eq!(outcome(seeds, a.port), pair("itself", ""), "whoever is said to be here");
        assert_eq!(outcome(seeds, 6379), pair("refused", "forbidden"));
        assert_eq!(outcome(tier(answer, "dns"), 22), pair("refused", "forbidden"));
    }
    assert!(silent.accept().is_err(), "nobody was dialled");

    let answer = a.json(&["discover"]);
    let (dns, seeds) = (tier(&answer, "dns"), tier(&answer, "seeds"));
    assert_eq!(outcome(dns, b.port), pair("verified", ""));
    assert_eq!(outcome(seeds, b.port), pair("failed", "wrong_key"));
    assert_eq!(outcome(seeds, closed), pair("failed", "refused"));
    assert_eq!(outcome(seeds, mute), pair("failed", "timeout"));
    assert!(silent.accept().is_ok());
    for (source, class) in dns["sources"].as_array().expect("zones").iter().zip(["", "servfail", "nxdomain", "refused"])
    {
        assert_eq!(source["failure"]["class"].as_str().unwrap_or_default(), class, "{source}");
        assert_eq!(source["failure"]["next"].is_string(), !class.is_empty(), "{source}");
    }
    assert!(tier(&answer, "exchange")["note"].as_str().is_some_and(|note| note.contains("no peer is connected")));

    a.befriend(&b);
    let answer = a.json(&["discover"]);
    assert_eq!(outcome(tier(&answer, "dns"), b.port), pair("connected", ""));
    assert_eq!(tier(&answer, "exchange")["sources"][0]["failure"], Value::Null, "{answer}");
    assert_eq!(tier(&answer, "manual")["sources"][0]["found"], 1);
    let said = a.afferent(&["discover", "--tier", "seeds"]);
    assert_eq!(said.status.code(), Some(0), "{}", text(&said.stderr));
    let said = text(&said.stdout);
    for sentence in ["this node itself, never dialled", "another node answers", "connection refused", "next: "] {
        assert!(said.contains(sentence), "{sentence}\n{said}");
    }
    assert!(!said.contains("mesh.test"), "{said}");
}

#[test]
fn status_says_in_a_line_what_each_tier_answered_last() {
    let primary = Primary::start(&[Zone::written("mesh.test", "_mesh._tcp SRV 0 0 0 .".to_owned())]);
    let a = discovering("a", &format!("dns = [\"mesh.test\"]\ndns_server = \"{}\"", primary.at()));
    let failed = eventually("the DNS has answered", PATIENCE, || {
        let status = a.json(&["status"]);
        let tiers = status["discovery"].as_array()?.clone();
        let dns = tiers.into_iter().find(|tier| tier["tier"] == "dns")?;
        dns["why"].as_str().map(str::to_owned)
    });
    assert!(failed.contains("zone mesh.test: the zone says that it has no mesh"), "{failed}");
    let shown = text(&a.afferent(&["status"]).stdout);
    let line = |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("dns ").contains("it has no mesh; next in "), "{shown}");
    assert!(line("seeds ").ends_with(" off") && line("exchange ").contains("nobody is connected"), "{shown}");
    let asked = a.afferent(&["discover", "--tier", "dns", "--dry-run", "--json"]);
    assert_eq!(asked.status.code(), Some(1), "the answer is no");
    let last: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    assert_eq!(tier(&last, "dns")["sources"][0]["failure"]["class"], "no_service");
}

#[test]
fn a_chain_of_friends_meets_and_says_who_told_whom() {
    let demo = binary().args(["demo", "--nodes", "4"]).env("TMPDIR", std::env::temp_dir()).output().expect("runs");
    let story = text(&demo.stdout);
    assert!(demo.status.success(), "{story}{}", text(&demo.stderr));
    assert!(
        story.contains("oak    was told by maple of birch") || story.contains("was told by cedar of birch"),
        "{story}"
    );
    let table: Vec<&str> = story.lines().filter(|line| line.contains("  connected  ")).collect();
    assert_eq!(table.len(), 3, "the peers of one of them: {story}");
    assert!(story.contains("added by hand") && story.contains("all 4 stopped cleanly"), "{story}");
}
