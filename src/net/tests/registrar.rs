//! Nodes, registrars and a real name server on loopback. Each node has a /16 of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::primary::{Primary, ZONE, Zone};
use super::*;
use crate::core::registrar::{Applicant, Book, Data, Entry, Policy, challenge};
use crate::net::dial::client;
use crate::net::registrar::{
    AnnounceError, DnsError, NameServer, Registrar, Settings as RegistrarSettings, Tsig, context, leave, register,
};
use crate::wire::registration::{Challenge, Origin, Refused, Registration};
use crate::wire::zone::{Label, Manifest, Service};
use crate::wire::{Host, Scalar};

/// Everybody may come at once, and work is next to none.
const OPEN: Policy =
    Policy { places: 40, newcomers_percent: 100, newcomers_per_hour: 1_000, is_spread: true, work_bits: 6 };

/// What a registrar asks this server with that has this key.
fn server_with(primary: &Primary, tsig: &str) -> NameServer {
    NameServer::new(primary.at(), &book().zone, Tsig::parse(tsig).expect("a key")).expect("a client")
}

fn server(primary: &Primary) -> NameServer {
    server_with(primary, &Primary::tsig())
}

fn book() -> Book {
    Book {
        zone: ZONE.parse().expect("a zone"),
        network: Network::default(),
        key: Keypair::from_seed(&[99; 32]),
        fellows: Vec::new(),
    }
}

/// A registrar that serves.
struct Office {
    registrar: Registrar,
    origin: Origin,
    clock: Arc<Mutex<Wall>>,
    shutdown: watch::Sender<bool>,
}

impl Office {
    async fn open(server: NameServer, policy: Policy) -> Office {
        Office::showing(None, server, policy).await
    }

    async fn showing(certificate: Option<&Certificate>, server: NameServer, policy: Policy) -> Office {
        let book = book();
        let clock = Arc::new(Mutex::new(NOW));
        let reads = Arc::clone(&clock);
        let listen = vec!["127.0.0.9:0".parse().expect("an address")];
        let key = Arc::new(book.key.clone());
        let now = move || *reads.lock().expect("unpoisoned");
        let context = context(key, Network::default(), Profile::Loopback, listen, certificate, now).expect("a context");
        let receptor = Receptor::bind(&context).await.expect("a free port");
        let origin = Origin::Pinned(book.key.id(), HostPort::from_socket(receptor.addresses()[0]));
        let settings =
            RegistrarSettings { book, policy, server, origin: origin.to_string(), sweep: Duration::from_millis(50) };
        let registrar = Registrar::new(&context, settings);
        let (shutdown, stop) = watch::channel(false);
        tokio::spawn(receptor.run_registrar(registrar.clone(), stop));
        Office { registrar, origin, clock, shutdown }
    }
}

fn record(key: &Keypair, seq: u64, addresses: &[SocketAddr]) -> String {
    let addresses = addresses.iter().map(|at| HostPort::from_socket(*at)).collect();
    let record = RecordDraft { seq, addresses, ..RecordDraft::default() }.seal(NOW, key).expect("a record");
    record.envelope().line(0, false)
}

fn goodbye(key: &Keypair, seq: u64) -> String {
    let data = format!(r#"{{"seq":{seq},"bye":true}}"#);
    let draft = Draft::new(format!("bye-{seq}"), "mesh.node", NOW)
        .living(NOW, Duration::from_secs(3_600))
        .with("maxhops", Scalar::Integer(8))
        .with_data(serde_json::value::RawValue::from_string(data).expect("JSON"));
    envelope::seal(&draft, key).expect("a goodbye").line(0, false)
}

impl Node {
    /// A node at 127.NUMBER.0.1 whose record says so.
    async fn resident(number: u8) -> Node {
        let node = Node::with(number, |settings| {
            settings.listen = vec![SocketAddr::new(IpAddr::from([127, number, 0, 1]), 0)];
        })
        .await;
        node.announces(1);
        node
    }

    /// Its record with this number, at its own address.
    fn announces(&self, seq: u64) -> String {
        let line = record(&self.key, seq, &[self.at]);
        self.strings.record.send_replace(line.as_str().into());
        line
    }
}

async fn zone(server: &NameServer) -> BTreeMap<NodeId, Entry> {
    let records = server.read(&book()).await.expect("the zone");
    book().read(&records, NOW).entries().clone()
}

/// Asks until it holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wanted = async { while !holds().await {} };
    timeout(PATIENCE, wanted).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

fn refused(outcome: &Result<crate::net::registrar::Listed, AnnounceError>) -> Option<(u16, Refused)> {
    match outcome {
        Err(AnnounceError::Refused { status, why: Some(why), .. }) => Some((*status, *why)),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_listed_and_struck_out_again() {
    let primary = Primary::start(&[Zone::of_registrar()]);
    let office = Office::open(server(&primary), OPEN).await;
    let node = Node::resident(10).await;
    let listed = register(&node.context, &office.origin, &node.announces(1)).await.expect("listed");
    assert_eq!(listed.label, Label::of(&node.id()).to_string());
    assert!((3_300..3_600).contains(&listed.again.as_secs()), "{listed:?}");
    let entries = zone(&server(&primary)).await;
    assert_eq!(entries[&node.id()].at, node.at);
    assert_eq!((entries[&node.id()].seq, entries[&node.id()].since), (1, Wall::from_millis(NOW.as_secs() * 1_000)));

    // Again with a newer record; an older one comes too late.
    assert!(register(&node.context, &office.origin, &node.announces(5)).await.is_ok());
    let older = register(&node.context, &office.origin, &node.announces(4)).await;
    assert_eq!(refused(&older), Some((409, Refused::Older)));

    // What the zone says is signed by the registrar.
    let records = server(&primary).read(&book()).await.expect("the zone");
    let services: Vec<Service> = records
        .iter()
        .filter_map(|record| match &record.data {
            Data::Srv(service) => Some(service.clone()),
            _ => None,
        })
        .collect();
    let manifest = records.iter().find_map(|record| match &record.data {
        Data::Txt(strings) if Manifest::is_meant(strings) => Manifest::parse(strings).ok(),
        _ => None,
    });
    let manifest = manifest.expect("a manifest").verify(&book().zone, &[book().key.id()]).expect("signed");
    assert_eq!((services.len(), manifest.check(&services, NOW)), (1, Ok(())));

    let early = leave(&node.context, &office.origin, &goodbye(&node.key, 4)).await;
    assert!(matches!(early, Err(AnnounceError::Refused { status: 409, .. })), "{early:?}");
    let no_goodbye = leave(&node.context, &office.origin, &node.announces(6)).await;
    assert!(matches!(no_goodbye, Err(AnnounceError::Refused { status: 400, .. })), "{no_goodbye:?}");
    leave(&node.context, &office.origin, &goodbye(&node.key, 7)).await.expect("struck out");
    assert!(zone(&server(&primary)).await.is_empty());
    office.shutdown.send_replace(true);
}

/// What a node says that does not keep to the rules.
struct Crooked<'n> {
    node: &'n Node,
    office: &'n Office,
    http: reqwest::Client,
    base: String,
}

impl<'n> Crooked<'n> {
    fn new(node: &'n Node, office: &'n Office) -> Crooked<'n> {
        let place = office.origin.place();
        let Host::Ip(ip) = place.host else { panic!("an address") };
        let pin = node.context.0.identity.pin(None);
        let tls = node.context.0.identity.client(&pin);
        let (http, base) = client(&node.context, tls, place, SocketAddr::new(ip, place.port)).expect("a client");
        Crooked { node, office, http, base }
    }

    async fn challenge(&self, id: &NodeId) -> Challenge {
        let answer = self.http.get(format!("{}/v1/challenge?id={id}", self.base)).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("a challenge")
    }

    async fn post(&self, registration: &Registration) -> (u16, String) {
        self.send(reqwest::Method::POST, "application/json", serde_json::to_vec(registration).expect("JSON")).await
    }

    async fn send(&self, method: reqwest::Method, kind: &str, body: Vec<u8>) -> (u16, String) {
        let request = self.http.request(method, format!("{}/v1/register", self.base));
        let answer = request.header("content-type", kind).body(body).send().await.expect("an answer");
        let status = answer.status().as_u16();
        let is_problem = answer.headers()["content-type"] == "application/problem+json";
        let body = answer.bytes().await.expect("a body");
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        assert_eq!(is_problem, status != 200);
        (status, problem["code"].as_str().unwrap_or_default().to_owned())
    }

    /// Everything as it should be but the record.
    async fn try_record(&self, record: &str) -> (u16, String) {
        let asked = self.challenge(&self.node.id()).await;
        let counter = challenge::search(&asked.challenge, asked.bits, 0..1 << 24).expect("6 bits");
        self.post(&Registration { record: record.to_owned(), challenge: asked.challenge, counter }).await
    }
}

fn no(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_not_what_or_where_it_says_is_refused() {
    let primary = Primary::start(&[Zone::of_registrar()]);
    let office = Office::open(server(&primary), OPEN).await;

    let node = Node::resident(11).await;
    let crooked = Crooked::new(&node, &office);
    // Somebody else answers there.
    let other = Node::with(12, |settings| settings.listen = vec!["127.11.0.1:0".parse().expect("an address")]).await;
    assert_eq!(crooked.try_record(&record(&node.key, 2, &[other.at])).await, no(422, "wrong_key"));
    // Nobody does.
    let closed = std::net::TcpListener::bind("127.11.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    assert_eq!(crooked.try_record(&record(&node.key, 2, &[closed])).await, no(422, "unreachable"));
    // It calls from another address than the record says, although somebody with its key answers there.
    let elsewhere = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), node.at.port());
    assert_eq!(crooked.try_record(&record(&node.key, 2, &[elsewhere])).await, no(403, "address_mismatch"));
    // Nobody is sent to a Redis.
    let redis = SocketAddr::new(node.at.ip(), 6379);
    assert_eq!(crooked.try_record(&record(&node.key, 2, &[redis])).await, no(403, "bogon"));
    // Here, but its own record does not say so.
    node.strings.record.send_replace(record(&node.key, 3, &[elsewhere]).as_str().into());
    assert_eq!(crooked.try_record(&record(&node.key, 2, &[node.at])).await, no(422, "unreachable"));
    // Six an hour from one address.
    assert_eq!(crooked.try_record(&node.announces(4)).await, no(200, ""));
    assert_eq!(crooked.try_record(&node.announces(5)).await, no(429, "rate"));

    // Another one of the same /24.
    let near = Node::with(13, |settings| settings.listen = vec!["127.11.0.2:0".parse().expect("an address")]).await;
    let outcome = register(&near.context, &office.origin, &near.announces(1)).await;
    assert_eq!(refused(&outcome), Some((429, Refused::Rate)));
    assert_eq!(zone(&server(&primary)).await.into_keys().collect::<Vec<_>>(), [node.id()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_work_and_with_anothers_challenge_nothing_is_looked_at() {
    let primary = Primary::start(&[Zone::of_registrar()]);
    let office = Office::open(server(&primary), OPEN).await;
    let (node, other) = (Node::resident(14).await, Node::resident(15).await);
    let crooked = Crooked::new(&node, &office);
    let line = node.announces(1);
    let asked = crooked.challenge(&node.id()).await;
    let solve = |asked: &Challenge| challenge::search(&asked.challenge, asked.bits, 0..1 << 24).expect("6 bits");
    let idle = (0..u64::MAX).find(|counter| !challenge::is_done(&asked.challenge, asked.bits, *counter));
    let with = |record: &str, asked: &Challenge, counter: u64| Registration {
        record: record.to_owned(),
        challenge: asked.challenge.clone(),
        counter,
    };
    let lazy = with(&line, &asked, idle.expect("most are not"));
    assert_eq!(crooked.post(&lazy).await, no(403, "work"));
    // Replayed for another id.
    let replayed = with(&other.announces(1), &asked, solve(&asked));
    assert_eq!(crooked.post(&replayed).await, no(403, "challenge"));
    // Replayed from another network.
    let stolen = with(&line, &asked, solve(&asked));
    assert_eq!(Crooked::new(&other, &office).post(&stolen).await, no(403, "challenge"));
    // Too late.
    *office.clock.lock().expect("unpoisoned") = NOW + Duration::from_secs(121);
    assert_eq!(crooked.post(&stolen).await, no(403, "challenge"));
    *office.clock.lock().expect("unpoisoned") = NOW;
    // A record that somebody changed.
    let forged = line.replacen("\"seq\":1", "\"seq\":2", 1);
    let crooked = Crooked::new(&other, &office);
    let asked = crooked.challenge(&node.id()).await;
    assert_eq!(crooked.post(&with(&forged, &asked, solve(&asked))).await, no(400, "malformed"));
    assert!(zone(&server(&primary)).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_registration_is_refused_before_it_is_read() {
    let primary = Primary::start(&[Zone::of_registrar()]);
    let office = Office::open(server(&primary), OPEN).await;
    let node = Node::resident(16).await;
    let crooked = Crooked::new(&node, &office);
    let json = "application/json";
    assert_eq!(crooked.send(reqwest::Method::POST, json, vec![b'x'; 8_193]).await, no(413, "too_large"));
    assert_eq!(crooked.send(reqwest::Method::POST, json, b"{}".to_vec()).await, no(400, "malformed"));
    assert_eq!(crooked.send(reqwest::Method::POST, "text/plain", Vec::new()).await, no(415, "unsupported_media_type"));
    assert_eq!(crooked.send(reqwest::Method::PUT, json, Vec::new()).await, no(405, "method_not_allowed"));
    let get = async |path: &str| {
        let answer = crooked.http.get(format!("{}{path}", crooked.base)).send().await.expect("an answer");
        answer.status().as_u16()
    };
    for (path, status) in [
        ("/v1/challenge", 400),
        ("/v1/challenge?id=x", 400),
        ("/v1/nothing", 404),
        ("/mesh/v1/events", 404),
        ("/v1/health", 200),
    ] {
        assert_eq!(get(path).await, status, "{path}");
    }
    assert_eq!(crooked.office.registrar.look().await, Ok(0));
    assert_eq!(node.ask(None, &request("GET", "/mesh/v1/liveness?nonce=a", "")).await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_writers_at_once_lose_no_entry() {
    let primary = Primary::start(&[Zone::of_registrar()]);
    let mut writers = tokio::task::JoinSet::new();
    for number in 10..30u8 {
        let server = server(&primary);
        writers.spawn(async move {
            let (book, id) = (book(), key(number).id());
            let at = SocketAddr::from(([127, number, 0, 1], 7443));
            for attempt in 1.. {
                let records = server.read(&book).await.expect("the zone");
                let mut listing = book.read(&records, NOW);
                listing.admit(&Applicant { id, at, seq: 1 }, NOW, &OPEN, 0).expect("a place");
                match server.apply(&book.write(&records, &listing, NOW)).await {
                    Ok(()) => return attempt,
                    Err(error) => assert_eq!(error, DnsError::Changed),
                }
            }
            unreachable!("one of those who race is first")
        });
    }
    let attempts: u32 = timeout(PATIENCE * 3, writers.join_all()).await.expect("in time").into_iter().sum();
    assert!(attempts > 20, "they did race: {attempts} attempts");
    assert_eq!(zone(&server(&primary)).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_registrars_of_one_zone_list_twenty_nodes_at_once() {
    let primary = Primary::start(&[Zone::of_registrar()]);
    let offices = [Office::open(server(&primary), OPEN).await, Office::open(server(&primary), OPEN).await];
    let mut nodes = Vec::new();
    for number in 30..50 {
        nodes.push(Node::resident(number).await);
    }
    let asks = nodes.iter().enumerate().map(async |(i, node)| {
        let line = node.announces(1);
        // A 503 promises nothing, so the node asks again.
        while let Err(error) = register(&node.context, &offices[i % 2].origin, &line).await {
            assert_eq!(refused(&Err(error)), Some((503, Refused::Unavailable)));
        }
    });
    timeout(PATIENCE * 3, futures_util::future::join_all(asks)).await.expect("in time");
    let entries = zone(&server(&primary)).await;
    assert!(nodes.iter().all(|node| entries[&node.id()].at == node.at));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_yes_while_the_name_server_says_nothing_or_no() {
    let mut primary = Primary::start(&[Zone::of_registrar()]);
    let office = Office::open(server(&primary), OPEN).await;
    let (first, second) = (Node::resident(51).await, Node::resident(52).await);
    register(&first.context, &office.origin, &first.announces(1)).await.expect("listed");

    primary.kill();
    let down = register(&second.context, &office.origin, &second.announces(1)).await;
    assert_eq!(refused(&down), Some((503, Refused::Unavailable)));
    primary.run();
    assert_eq!(zone(&server(&primary)).await.into_keys().collect::<Vec<_>>(), [first.id()], "nothing is lost");
    register(&second.context, &office.origin, &second.announces(1)).await.expect("listed");

    let third = Node::resident(53).await;
    for name in ["reg", "other"] {
        let tsig = format!("key {name} {{ algorithm hmac-sha256; secret \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"; }};");
        let server = server_with(&primary, &tsig);
        let why = server.read(&book()).await.expect_err("refused");
        assert!(matches!(&why, DnsError::Refused(why) if why.contains("clock")), "{why:?}");
        let wrong = Office::open(server, OPEN).await;
        let outcome = register(&third.context, &wrong.origin, &third.announces(1)).await;
        assert_eq!(refused(&outcome), Some((503, Refused::Unavailable)));
    }
    assert_eq!(zone(&server(&primary)).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_that_may_not_be_transferred_is_read_name_by_name() {
    let primary = Primary::start(&[Zone { transfers: false, ..Zone::of_registrar() }]);
    let office = Office::open(server(&primary), OPEN).await;
    for number in [54, 55, 56] {
        let node = Node::resident(number).await;
        register(&node.context, &office.origin, &node.announces(1)).await.expect("listed");
        assert_eq!(zone(&server(&primary)).await[&node.id()].at, node.at);
    }
    assert_eq!(office.registrar.look().await, Ok(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_answer_a_visit_is_struck_out_unless_most_do_not() {
    let primary = Primary::start(&[Zone::of_registrar()]);
    let office = Office::open(server(&primary), OPEN).await;
    let mut nodes = Vec::new();
    for number in 57..60 {
        let node = Node::resident(number).await;
        register(&node.context, &office.origin, &node.announces(1)).await.expect("listed");
        nodes.push(node);
    }
    let server = server(&primary);
    let stop = |node: &Node| node.shutdown.send_replace(true);
    let gone = nodes.remove(0);
    stop(&gone);
    gone.receptor.await.expect("it stops");
    let rounds = tokio::spawn(office.registrar.clone().rounds(office.shutdown.subscribe()));
    until("the one that is gone is out", async || zone(&server).await.len() == 2).await;

    // Both others: it must be us. Rounds go on, and nobody is struck out.
    for node in &nodes {
        stop(node);
    }
    for node in nodes {
        node.receptor.await.expect("it stops");
    }
    let number = async || {
        let records = server.read(&book()).await.expect("the zone");
        let manifests = records.iter().filter_map(|record| match &record.data {
            Data::Txt(strings) if Manifest::is_meant(strings) => Manifest::parse(strings).ok(),
            _ => None,
        });
        manifests.map(|manifest| manifest.seq).max().expect("a manifest")
    };
    let before = number().await;
    until("three more rounds", async || number().await > before + 3).await;
    assert_eq!(zone(&server).await.len(), 2);
    office.shutdown.send_replace(true);
    timeout(PATIENCE, rounds).await.expect("it stops").expect("no panic");
}

/// A certificate for this name and the authority that signed it.
fn certified(name: &str) -> (Certificate, rustls::RootCertStore) {
    let pem = |label: &str, der: &[u8]| {
        let text = data_encoding::BASE64_MIME.encode(der);
        format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", text.replace('\r', ""))
    };
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&authority_key).expect("a certificate");
    let authority = rcgen::Issuer::new(params, authority_key);
    let own_key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let own = params.signed_by(&own_key, &authority).expect("a certificate");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.der().clone()).expect("a root");
    let (chain, private) = (pem("CERTIFICATE", own.der()), pem("PRIVATE KEY", &own_key.serialize_der()));
    (Certificate::from_pem(chain.as_bytes(), private.as_bytes()).expect("a certificate"), roots)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_certificate_a_registrar_is_known_by_its_name() {
    let primary = Primary::start(&[Zone::of_registrar()]);
    let (certificate, roots) = certified("registrar.test");
    let office = Office::showing(Some(&certificate), server(&primary), OPEN).await;
    let Host::Ip(ip) = office.origin.place().host else { panic!("an address") };
    let at = SocketAddr::new(ip, office.origin.place().port);
    let node = Node::resident(61).await;
    let health = async |name: &str, roots: rustls::RootCertStore| {
        let place: HostPort = format!("{name}:{}", at.port()).parse().expect("a place");
        let tls = node.context.0.identity.web_client(roots);
        let (http, base) = client(&node.context, tls, &place, at).expect("a client");
        http.get(format!("{base}/v1/health")).send().await.map(|answer| answer.status().as_u16())
    };
    assert_eq!(health("registrar.test", roots.clone()).await.ok(), Some(200));
    assert!(health("other.test", roots).await.is_err(), "another name");
    let public = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    assert!(health("registrar.test", public).await.is_err(), "an authority that nobody trusts");
    // Its key alone opens no door then: who pins it meets another one.
    let outcome = register(&node.context, &office.origin, &node.announces(1)).await;
    assert!(matches!(outcome, Err(AnnounceError::Unreachable(_))), "{outcome:?}");
    for (chain, private) in
        [("", ""), ("x", "y"), ("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "")]
    {
        assert!(Certificate::from_pem(chain.as_bytes(), private.as_bytes()).is_err());
    }
}
