//! Everything that a stranger can send, one function each: bytes go in, and nothing comes out but a refusal or a
//! value that keeps the promises of its type. Driven by `tests/malformed.rs` with injured good ones in every test
//! run, and by the targets of `fuzz/` for as long as one likes.
#![allow(unreachable_pub, reason = "a library of its own to the targets, a module to the test")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use afferent::core::sync::{Run, Snapshot, Step, WANTED_MAX};
use afferent::net::dns::{self, TierFault};
use afferent::net::hearing::{Hearing, Told};
use afferent::time::Wall;
use afferent::wire::envelope::EVENT_PAYLOAD_TYPE;
use afferent::wire::message::{Hello, Problem, RECORDS_MAX, Receipt};
use afferent::wire::record::ADDRESSES_MAX;
use afferent::wire::registration::{Challenge, Goodbye, Liveness, Origin, Registered, Registration};
use afferent::wire::sync::{DIGESTS_MAX, Frame, SYNC_BYTES_MAX, Subject, digests_body, read_digests};
use afferent::wire::zone::{Label, Manifest, NodeText, STRINGS_MAX, Service, Tenure};
use afferent::wire::{
    Digest, Draft, Event, EventType, Host, HostPort, Interests, Keypair, Keys, Line, Network, NodeId, Pattern,
    PeerAddress, Profile, Record, RecordDraft, Scalar, Signature, Verified, Word, ZoneName, envelope, json, timestamp,
};
use bytes::Bytes;

/// Something that a stranger can send.
pub struct Entry {
    /// The name of its target in `fuzz/`.
    pub name: &'static str,
    /// Takes any bytes; panics when a promise is broken.
    pub take: fn(&[u8]),
    /// Good ones, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const ENTRIES: [Entry; 11] = [
    Entry { name: "envelope", take: envelope, seeds: envelopes },
    Entry { name: "event", take: event, seeds: events },
    Entry { name: "exchange", take: exchange, seeds: exchanges },
    Entry { name: "hello", take: hello, seeds: hellos },
    Entry { name: "receipt", take: receipt, seeds: receipts },
    Entry { name: "registration", take: registration, seeds: registrations },
    Entry { name: "sync", take: sync, seeds: syncs },
    Entry { name: "text", take: text, seeds: texts },
    Entry { name: "dns", take: dns_answer, seeds: dns_answers },
    Entry { name: "address", take: address, seeds: addresses },
    Entry { name: "pattern", take: pattern, seeds: patterns },
];

/// When all of the seeds are fresh: the moment of the vectors.
pub const NOW: Wall = Wall::from_millis(1_795_243_262_123);
const NONCE: &str = "nonce";
const ORIGIN: &str = "https://registrar.example";

fn key(number: u8) -> Keypair {
    Keypair::from_seed(&[number; 32])
}

fn zone() -> ZoneName {
    "mesh.example".parse().expect("a zone")
}

/// One line of `/events`, of anybody.
pub fn envelope(bytes: &[u8]) {
    let mut keys = Keys::default();
    let line = Bytes::copy_from_slice(bytes);
    let Ok(split) = Line::split(&line) else { return };
    let digest = split.digest();
    let Ok(opened) = envelope::open(&line, NOW, &Network::default(), &mut keys) else { return };
    assert_eq!(opened.digest(), digest);
    let again = Bytes::from(opened.line(3, true));
    let again = envelope::open(&again, NOW, &Network::default(), &mut keys).expect("what passed, passes on");
    assert_eq!(again.event().bytes(), opened.event().bytes(), "the bytes are never touched");
    let _ = Record::read(&opened);
}

/// An event signed by its author, who is the attacker: parsing stands alone. A record is one too.
pub fn event(bytes: &[u8]) {
    let mut keys = Keys::default();
    let Ok(event) = Event::parse(Bytes::copy_from_slice(bytes), &mut keys) else { return };
    assert_eq!(event.bytes(), bytes, "the bytes are never touched");
    json::check(event.text()).expect("what was taken is within the limits");
    for (name, value) in event.attributes() {
        assert!(value.len() <= 991 && !value.contains(char::is_control), "{name}");
    }
    let signed = format!("0 {} ", Signature::sign(&key(1), EVENT_PAYLOAD_TYPE, bytes)).into_bytes();
    let line = Bytes::from([signed.as_slice(), bytes].concat());
    let Ok(opened) = envelope::open(&line, NOW, &Network::default(), &mut keys) else { return };
    if let Ok(record) = Record::read(&opened) {
        assert!(record.addresses.len() <= ADDRESSES_MAX && (!record.bye || record.addresses.is_empty()));
        assert!(record.expires() <= NOW + Duration::from_secs(25 * 3_600), "{:?}", record.expires());
        keeps_within(&record.interests);
    }
}

/// The body of `POST /mesh/v1/peers`, or the answer to it, as a node in the internet and one in a LAN hear it.
pub fn exchange(bytes: &[u8]) {
    let network = Network::default();
    let ip = IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4));
    let body = Bytes::copy_from_slice(bytes);
    for profile in [Profile::Public, Profile::Private] {
        let hearing = Hearing { speaker: key(1).id(), ip, network: network.clone(), profile, now: NOW };
        let mut keys = Keys::default();
        for line in body.split(|byte| *byte == b'\n').take(RECORDS_MAX) {
            match hearing.read(&body.slice_ref(line), &mut keys) {
                Ok(Told::Own(record)) => assert_eq!(record.id(), key(1).id()),
                Ok(Told::Other(record)) => {
                    assert_ne!(record.id(), key(1).id());
                    assert!(
                        record.bye || record.addresses.iter().all(|at| is_far(profile, at)),
                        "{:?}",
                        record.addresses
                    );
                }
                Ok(Told::Pointless | Told::Unsound(_)) | Err(_) => {}
            }
        }
    }
}

/// May a node in the internet tell of it?
fn is_far(profile: Profile, at: &HostPort) -> bool {
    match at.host {
        Host::Ip(ip) => profile.may_dial(Word::Far, SocketAddr::new(ip, at.port)).is_ok(),
        Host::Name(_) => profile.allows_host(at).is_ok(),
    }
}

/// The body of `POST /mesh/v1/sync`, or the answer to it; or the body of `POST /mesh/v1/get`.
pub fn sync(bytes: &[u8]) {
    let held = &*HELD;
    if let Ok(frame) = Frame::read(bytes) {
        assert_eq!(frame.bytes(), bytes, "read and written alike");
        if let Ok(answer) = held.answer(frame.message) {
            let answer = Frame { message: &answer, ..frame }.bytes();
            assert!(answer.len() <= SYNC_BYTES_MAX, "an answer of {} bytes", answer.len());
        }
        let (mut run, _) = Run::begin(Arc::clone(held));
        if let Ok(Step::Sync(next)) = run.hear(frame.message) {
            assert!(next.len() < SYNC_BYTES_MAX, "a question of {} bytes", next.len());
        }
        assert!(run.tally().wanted <= WANTED_MAX);
    }
    if let Ok(digests) = read_digests(bytes) {
        assert_eq!(digests_body(&digests), bytes);
        assert!(digests.len() <= DIGESTS_MAX && held.lines(&digests).len() <= digests.len());
    }
}

/// What a node holds that is asked: enough for some ranges.
static HELD: LazyLock<Arc<Snapshot>> = LazyLock::new(|| snapshot(1..90));

fn snapshot(numbers: std::ops::Range<u8>) -> Arc<Snapshot> {
    let records: Vec<Verified<Record>> = numbers
        .map(|number| {
            let draft = RecordDraft { seq: u64::from(number % 7), ..RecordDraft::default() };
            draft.seal(NOW, &key(number)).expect("a record")
        })
        .collect();
    Arc::new(Snapshot::new(records.iter().map(|record| (record.id(), record)), std::iter::empty()))
}

/// The answer to `GET /mesh/v1/hello`.
pub fn hello(bytes: &[u8]) {
    let Ok(hello) = serde_json::from_slice::<Hello>(bytes) else { return };
    let _ = hello.is_answer_of(&key(1).id(), None, NONCE);
    let _ = hello.observed.parse::<HostPort>();
    let _ = timestamp::parse(&hello.clock);
    envelope(hello.record.as_bytes());
}

/// The answers to what we send.
pub fn receipt(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Receipt>(bytes);
    let _ = serde_json::from_slice::<Problem>(bytes);
}

/// What registrar and node say to each other.
pub fn registration(bytes: &[u8]) {
    if let Ok(registration) = serde_json::from_slice::<Registration>(bytes) {
        envelope(registration.record.as_bytes());
    }
    if let Ok(goodbye) = serde_json::from_slice::<Goodbye>(bytes) {
        envelope(goodbye.record.as_bytes());
    }
    if let Ok(liveness) = serde_json::from_slice::<Liveness>(bytes) {
        let _ = liveness.is_answer_of(&key(1).id(), ORIGIN, NONCE, SocketAddr::from(([8, 8, 8, 8], 7443)));
    }
    let _ = serde_json::from_slice::<Registered>(bytes);
    let _ = serde_json::from_slice::<Challenge>(bytes);
}

/// One TXT record of a zone, its strings parted by line feeds.
pub fn text(bytes: &[u8]) {
    let strings: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let (zone, label, pinned) = (zone(), Label::of(&key(2).id()), [key(1).id()]);
    let _ = Manifest::is_meant(&strings);
    if let Ok(read) = Manifest::parse(&strings) {
        assert!(strings.len() <= STRINGS_MAX, "no more is looked at");
        if let Ok(verified) = read.verify(&zone, &pinned) {
            assert_eq!(*verified, manifest(), "what nobody signed is not verified");
            verified.check(&services(), NOW).expect("as it was signed");
        }
    }
    if let Ok(read) = Tenure::parse(&strings)
        && let Ok(verified) = read.verify(&zone, &label, &pinned)
    {
        assert_eq!(*verified, tenure(), "what nobody signed is not verified");
    }
    if let Ok(node) = NodeText::parse(&strings) {
        let again = NodeText::parse(&node.strings()).expect("what was read can be written");
        assert_eq!(again, node);
    }
    for string in strings.iter().take(STRINGS_MAX).filter_map(|string| std::str::from_utf8(string).ok()) {
        let _ = string.parse::<Label>();
        if let Ok(zone) = string.parse::<ZoneName>() {
            let _ = zone.label_in(string);
        }
    }
}

/// The bytes of an answer of a DNS server.
pub fn dns_answer(bytes: &[u8]) {
    let answer = match dns::read_answer(bytes) {
        Ok(answer) => answer,
        Err(fault) => return assert_eq!(fault, TierFault::Garbage),
    };
    for service in &answer.services {
        let is_host = |target: &str| matches!(target.parse(), Ok(Host::Name(name)) if *name == *target);
        assert!(service.target().is_none_or(is_host), "a name, never an address: {service}");
    }
    for strings in &answer.texts {
        assert!(strings.len() <= STRINGS_MAX + 1, "no more is looked at");
        let _ = (Manifest::parse(strings), Tenure::parse(strings), NodeText::parse(strings));
    }
    let _ = Service::digest(&answer.services);
}

/// Where somebody is, as a record, a person or a zone writes it.
pub fn address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(address) = text.parse::<PeerAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address.clone()), "{text}");
        let at = &address.at;
        match &at.host {
            Host::Ip(ip) => {
                let allowed = Profile::Public.allows(SocketAddr::new(*ip, at.port)).is_ok();
                let is_ours = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
                let is_private = matches!(ip, IpAddr::V4(ip) if ip.is_private() || ip.is_link_local());
                assert!(!(allowed && (is_ours || is_private)), "{text}");
                assert_eq!(*ip, ip.to_canonical(), "{text}: one spelling");
            }
            Host::Name(name) => assert!(name.parse::<IpAddr>().is_err() && name.len() <= 253, "{text}"),
        }
    }
    let _ = text.parse::<NodeId>();
    let _ = text.parse::<Origin>();
    let _ = timestamp::parse(text);
}

/// What a node asks for.
pub fn pattern(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read: Vec<Pattern> = text.split('\n').take(100).filter_map(|line| line.parse().ok()).collect();
    let kinds: Vec<EventType> = text.split('\n').take(20).filter_map(|line| line.parse().ok()).collect();
    for pattern in &read {
        assert_eq!(pattern.to_string().parse::<Pattern>().ok().as_ref(), Some(pattern));
        assert!(pattern.covers(pattern), "{pattern}");
    }
    let Ok(interests) = Interests::new(read) else { return };
    keeps_within(&interests);
    for kind in &kinds {
        let by_one = interests.patterns().iter().any(|pattern| pattern.matches(kind));
        assert_eq!(interests.matches(kind), by_one, "{kind:?}");
    }
}

fn keeps_within(interests: &Interests) {
    use afferent::wire::pattern::{PATTERNS_BYTES_MAX, PATTERNS_MAX, PLUS_PATTERNS_MAX};
    let patterns = interests.patterns();
    assert!(patterns.len() <= PATTERNS_MAX);
    assert!(patterns.iter().filter(|pattern| pattern.has_plus()).count() <= PLUS_PATTERNS_MAX);
    assert!(patterns.iter().map(|pattern| pattern.as_str().len()).sum::<usize>() <= PATTERNS_BYTES_MAX);
}

/// The lines of `tests/vectors`, good and bad, and one of our own.
fn envelopes() -> Vec<Vec<u8>> {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../vectors/envelope.json")).expect("the vectors are JSON");
    let lines = vectors["vectors"].as_array().expect("a list").iter().filter_map(|vector| vector["line"].as_str());
    let mut seeds: Vec<Vec<u8>> = lines.map(|line| line.trim_end_matches('\n').as_bytes().to_vec()).collect();
    seeds.push(good_event().into_bytes());
    seeds.push(record(1, &["birch.example:7443"]).into_bytes());
    seeds
}

pub fn good_event() -> String {
    let data =
        r#"{"service":"proxy","list":[1,2.5,-3,true,null,{"deep":[[["x"]]]}],"note":"D\u00e9j\u00e0 \ud83d\ude00"}"#;
    let draft = Draft::new("e-1", "deployment.failed", NOW)
        .with("subject", Scalar::Text("service:proxy".into()))
        .with("level", Scalar::Integer(3))
        .with("to", Scalar::Text(key(2).id().uri()))
        .with_data(serde_json::value::RawValue::from_string(data.into()).expect("JSON"));
    envelope::seal(&draft, &key(1)).expect("a good draft").line(0, true)
}

pub fn record(number: u8, addresses: &[&str]) -> String {
    let patterns = ["deployment.*", "a.+.c"].map(|text| text.parse::<Pattern>().expect("a pattern"));
    let draft = RecordDraft {
        seq: 1,
        addresses: addresses.iter().map(|at| at.parse().expect("an address")).collect(),
        interests: Interests::new(patterns).expect("interests"),
        network: Network::default(),
    };
    draft.seal(NOW, &key(number)).expect("a record").envelope().line(0, false)
}

fn goodbye(number: u8) -> String {
    let draft = RecordDraft { seq: 2, ..RecordDraft::default() };
    draft.seal_goodbye(NOW, &key(number)).expect("a record").envelope().line(0, false)
}

fn events() -> Vec<Vec<u8>> {
    let event = |line: String| line.as_bytes()[line.find('{').expect("an event")..].to_vec();
    let mut seeds: Vec<Vec<u8>> = envelopes()
        .into_iter()
        .filter_map(|line| String::from_utf8(line).ok())
        .filter(|line| line.contains('{'))
        .map(event)
        .collect();
    seeds.push(event(goodbye(1)));
    seeds
}

fn exchanges() -> Vec<Vec<u8>> {
    let own = record(1, &["birch.example:7443"]);
    let others = [
        record(2, &["8.8.8.8:7443", "[2a00:1450::1]:443"]),
        record(3, &["cedar.example:7443"]),
        record(4, &["10.0.0.1:7443"]),
        record(5, &["127.0.0.1:6379"]),
        goodbye(6),
    ];
    vec![own.clone().into_bytes(), format!("{own}\n{}\n", others.join("\n")).into_bytes()]
}

/// Questions of a node that holds less, more and other records, the answers to them, and what follows.
fn syncs() -> Vec<Vec<u8>> {
    let mut seeds = vec![digests_body(&[Digest::of(b"nobody's"), Digest::of(b"")])];
    for others in [snapshot(1..1), snapshot(1..60), snapshot(30..120)] {
        let (mut run, mut step) = Run::begin(others);
        while let Step::Sync(message) = step {
            let answer = HELD.answer(&message).expect("a good question");
            step = run.hear(&answer).expect("a good answer");
            seeds.extend(
                [message, answer].map(|message| Frame { subject: Subject::Records, message: &message }.bytes()),
            );
        }
        if let Step::Get(digests) = step {
            seeds.push(digests_body(&digests));
        }
    }
    seeds
}

fn hellos() -> Vec<Vec<u8>> {
    let record = record(1, &["birch.example:7443"]);
    let hello = Hello::answer(&key(1), None, NONCE, "127.0.0.1:7443".into(), timestamp::format(NOW), record);
    vec![serde_json::to_vec(&hello).expect("a hello")]
}

fn receipts() -> Vec<Vec<u8>> {
    vec![
        br#"{"stored":2,"duplicate":1,"rejected":[{"i":1,"code":"bad_signature"}],"retry":[{"i":3,"after_ms":2000}],"no_duty":[4],"credit":64}"#.to_vec(),
        br#"{"status":429,"code":"rate","title":"x","retry_after_ms":5}"#.to_vec(),
    ]
}

fn registrations() -> Vec<Vec<u8>> {
    let at = SocketAddr::from(([8, 8, 8, 8], 7443));
    let (record, challenge) = (record(1, &["8.8.8.8:7443"]), "abcDEF_-0123".to_owned());
    let registration = Registration { record, challenge: challenge.clone(), counter: 77 };
    vec![
        serde_json::to_vec(&registration).expect("encodes"),
        serde_json::to_vec(&Goodbye { record: goodbye(1) }).expect("encodes"),
        serde_json::to_vec(&Liveness::answer(&key(1), ORIGIN, NONCE, at)).expect("encodes"),
        serde_json::to_vec(&Registered { label: "a".repeat(16), ttl: 300 }).expect("encodes"),
        serde_json::to_vec(&Challenge { challenge, bits: 20, expires: 1_795_243_382 }).expect("encodes"),
    ]
}

fn services() -> [Service; 2] {
    ["birch.example", "."].map(|target| Service::new(10, 5, 7443, target).expect("a service"))
}

fn manifest() -> Manifest {
    Manifest::sign(&key(1), &zone(), 7, 1_795_250_000, &services())
}

fn tenure() -> Tenure {
    Tenure::sign(&key(1), &zone(), &Label::of(&key(2).id()), 1, 2, 3)
}

fn texts() -> Vec<Vec<u8>> {
    let node = NodeText {
        id: key(1).id(),
        network: Some(Network::default()),
        seq: Some(1),
        at: Some("birch.example:7443".parse().expect("a place")),
    };
    let names = ["mesh.example".to_owned(), Label::of(&key(1).id()).to_string(), zone().node(&Label::of(&key(1).id()))];
    let all = [manifest().strings(), tenure().strings(), node.strings(), names.to_vec()];
    all.map(|strings| strings.join("\n").into_bytes()).to_vec()
}

/// Answers as BIND writes them: `_mesh._tcp.mesh.example` SRV with a compressed target, its TXT, an A and an AAAA.
fn dns_answers() -> Vec<Vec<u8>> {
    let head = |answers: u8| vec![0x12, 0x34, 0x85, 0x80, 0, 1, 0, answers, 0, 0, 0, 0];
    let name = b"\x05_mesh\x04_tcp\x04mesh\x07example\x00";
    let question = |kind: u8| [name.as_slice(), &[0, kind, 0, 1]].concat();
    let answer = |kind: u8, data: &[u8]| {
        let length = u16::try_from(data.len()).expect("short").to_be_bytes();
        [&[0xc0, 0x0c, 0, kind, 0, 1, 0, 0, 0, 60][..], &length, data].concat()
    };
    let srv = |target: &[u8]| [&[0, 10, 0, 5, 0x1d, 0x13][..], target].concat();
    let strings: Vec<u8> = manifest()
        .strings()
        .iter()
        .flat_map(|string| [&[u8::try_from(string.len()).expect("short")][..], string.as_bytes()].concat())
        .collect();
    // The zone stands 23 bytes into the message, behind head, `_mesh` and `_tcp`.
    let targets = [answer(33, &srv(b"\x05birch\xc0\x17")), answer(33, &srv(b"\x00"))].concat();
    let v6 = [0x2a, 0, 0x14, 0x50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    vec![
        [head(2), question(33), targets].concat(),
        [head(1), question(16), answer(16, &strings)].concat(),
        [head(1), question(1), answer(1, &[8, 8, 8, 8])].concat(),
        [head(1), question(28), answer(28, &v6)].concat(),
    ]
}

fn addresses() -> Vec<Vec<u8>> {
    let id = key(1).id();
    let mut seeds: Vec<Vec<u8>> = [
        "birch.example:7443",
        "[::ffff:10.0.0.1]:7443",
        "169.254.169.254:443",
        "0x7f.1:80",
        "2130706433:80",
        "https://registrar.example",
        "2026-11-21T06:41:02.123456+01:00",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    seeds.push(format!("mesh://{id}@[2001:4860::1]:7443").into_bytes());
    seeds.push(format!("https://birch.example:7443/#{id}").into_bytes());
    seeds.push(id.to_string().into_bytes());
    seeds
}

fn patterns() -> Vec<Vec<u8>> {
    vec![b"deployment.+.failed.*\n*\na.+\ndeployment.proxy.failed.now\na.b".to_vec()]
}
