//! Zones on a real name server, and servers that are none, read by the library as the daemon reads them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use afferent::net::dns::{Dns, ENTRIES_MAX, Found, Patience, Settings, TierFault};
use afferent::time::Wall;
use afferent::wire::zone::{Label, Manifest, NodeText, Service, ZoneError};
use afferent::wire::{Keypair, Network, NodeId, Profile, ZoneName};

use crate::support::primary::{Primary, Zone};
use crate::support::{PATIENCE, eventually};

const NOW: Wall = Wall::from_millis(1_795_243_262_123);

fn key(number: u8) -> Keypair {
    Keypair::from_seed(&[number; 32])
}

fn name(zone: &str) -> ZoneName {
    zone.parse().expect("a zone")
}

fn settings(server: SocketAddr, keys: &[NodeId]) -> Settings {
    Settings {
        server: Some(server),
        keys: keys.to_vec(),
        me: key(200).id(),
        own: Vec::new(),
        network: Network::default(),
        profile: Profile::Loopback,
        patience: Patience::default(),
    }
}

fn look(settings: Settings, zone: &str) -> Result<Found, TierFault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(Dns::new(settings).lookup(&name(zone), NOW, 1))
}

/// A zone as a registrar writes it: nodes 1 to `count`, at 127.N.0.1, signed for `signed` of them.
fn registered(zone: &str, count: u8, signed: u8) -> String {
    let (zone, mut lines, mut services) = (name(zone), String::new(), Vec::new());
    for number in 1..=count {
        let id = key(number).id();
        let node = zone.node(&Label::of(&id));
        let text = NodeText { id, network: Some(Network::default()), seq: Some(1), at: None };
        let target = Service::new(10, 5, 7443, &node).expect("a service");
        let _ = writeln!(lines, "_mesh._tcp SRV {target}.\n{node}. A 127.{number}.0.1");
        let _ = writeln!(lines, "{node}. TXT {}", quoted(&text.strings()));
        if number <= signed {
            services.push(target);
        }
    }
    let manifest = Manifest::sign(&key(99), &zone, 1, 1_795_243_262 + 60, &services);
    let _ = writeln!(lines, "_mesh._tcp TXT {}", quoted(&manifest.strings()));
    lines
}

fn quoted(strings: &[String]) -> String {
    strings.iter().map(|string| format!("\"{string}\"")).collect::<Vec<_>>().join(" ")
}

/// Asks for SRV by UDP with nothing of the library: is the answer cut off?
fn is_cut_off(server: SocketAddr, name: &str) -> bool {
    let mut question = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).expect("a label"));
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 33, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.send_to(&question, server).expect("sent");
    let mut answer = [0; 4096];
    socket.recv_from(&mut answer).expect("an answer");
    answer[2] & 0b10 != 0
}

#[test]
fn forty_entries_are_cut_off_by_udp_and_all_come_by_tcp() {
    let primary = Primary::start(&[Zone::written("mesh.test", registered("mesh.test", 40, 40))]);
    assert!(is_cut_off(primary.at(), "_mesh._tcp.mesh.test"), "or this test shows nothing");
    // The manifest is over all forty: one that did not come, and it would not count.
    let found = look(settings(primary.at(), &[key(99).id()]), "mesh.test").expect("a mesh");
    assert_eq!((found.finds.len(), found.ignored, found.refused.len()), (ENTRIES_MAX, 0, 0));
    let ids: BTreeSet<NodeId> = found.finds.iter().filter_map(|find| find.id).collect();
    assert_eq!(ids.len(), ENTRIES_MAX);
    for find in &found.finds {
        let number = (1..=40).find(|number| Some(key(*number).id()) == find.id).expect("one of ours");
        assert_eq!(find.at[0].to_string(), format!("127.{number}.0.1:7443"));
    }
}

#[test]
fn what_a_zone_is_decides_what_it_brings() {
    let id = key(7).id();
    let zones = [
        ("small.test", registered("small.test", 3, 3)),
        ("tampered.test", registered("tampered.test", 3, 2)),
        (
            "plain.test",
            "_mesh._tcp SRV 20 0 7444 birch\n_mesh._tcp SRV 10 0 7443 cedar\nbirch A 127.1.0.1\ncedar AAAA ::1\n\
             cedar A 127.2.0.1"
                .to_owned(),
        ),
        ("text.test", format!("_mesh._tcp TXT \"id={id}\" \"addr=127.9.0.1:7445\"")),
        ("closed.test", "_mesh._tcp SRV 0 0 0 .".to_owned()),
        ("bait.test", "_mesh._tcp SRV 0 0 6379 ns\n_mesh._tcp SRV 0 0 7443 far\nfar A 169.254.169.254".to_owned()),
        ("empty.test", "www A 127.0.0.1".to_owned()),
        ("alias.test", "_mesh._tcp CNAME _mesh._tcp.plain.test.".to_owned()),
    ];
    let mut zones = zones.map(|(name, lines)| Zone::written(name, lines)).to_vec();
    zones.push(Zone { lines: None, ..Zone::written("broken.test", String::new()) });
    let primary = Primary::start(&zones);
    let ask = |zone: &str| look(settings(primary.at(), &[]), zone);
    let pinned = |zone: &str| look(settings(primary.at(), &[key(99).id()]), zone);
    let at = |found: &Found| found.finds.iter().map(|find| find.at[0].to_string()).collect::<Vec<_>>();

    assert_eq!(pinned("small.test").expect("a mesh").finds.len(), 3);
    assert_eq!(pinned("tampered.test"), Err(TierFault::Manifest(ZoneError::Entries)));
    assert_eq!(ask("tampered.test").expect("a mesh").finds.len(), 3);
    assert_eq!(pinned("plain.test"), Err(TierFault::Unsigned));
    assert_eq!(look(settings(primary.at(), &[id]), "small.test"), Err(TierFault::Manifest(ZoneError::UnknownKey)));

    let plain = ask("plain.test").expect("a mesh");
    assert_eq!(at(&plain), ["127.2.0.1:7443", "127.1.0.1:7444"]);
    assert_eq!(plain.finds[0].at[1].to_string(), "[::1]:7443");
    assert!(plain.finds.iter().all(|find| find.id.is_none()));
    assert_eq!(at(&ask("alias.test").expect("a mesh")), ["127.2.0.1:7443", "127.1.0.1:7444"]);
    let text = ask("text.test").expect("a mesh");
    assert_eq!((at(&text), text.finds[0].id), (vec!["127.9.0.1:7445".to_owned()], Some(id)));

    assert_eq!(ask("closed.test"), Err(TierFault::NoService));
    assert_eq!(ask("bait.test"), Err(TierFault::Nothing { refused: 2, ignored: 2 }));
    assert_eq!(ask("empty.test"), Err(TierFault::NoName));
    assert_eq!(ask("elsewhere.example"), Err(TierFault::Refused));
    assert_eq!(ask("broken.test"), Err(TierFault::ServFail));
}

/// A server that takes every question, and answers datagrams with `answer` if that is anything.
struct Sink {
    at: SocketAddr,
    tcp: TcpListener,
}

impl Sink {
    fn start(answer: Option<Vec<u8>>) -> Sink {
        let (udp, tcp) = eventually("a port that is free for both", PATIENCE, || {
            let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
            let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
            Some((udp, tcp))
        });
        let at = udp.local_addr().expect("an address");
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut bytes) {
                if let Some(answer) = &answer {
                    // Under the right number, or nobody would look at it.
                    let _ = udp.send_to(&[&bytes[..length.min(2)], answer].concat(), from);
                }
            }
        });
        Sink { at, tcp }
    }

    /// Connections that wait to be taken; the system accepted them for us.
    fn callers(&self) -> usize {
        self.tcp.set_nonblocking(true).expect("a socket");
        std::iter::from_fn(|| self.tcp.accept().ok()).count()
    }
}

#[test]
fn a_server_that_never_answers_costs_seconds_and_no_more() {
    let sink = Sink::start(None);
    let begun = Instant::now();
    assert_eq!(look(settings(sink.at, &[]), "mesh.test"), Err(TierFault::Silent));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(sink.callers() > 0, "TCP was tried too");
}

#[test]
fn datagrams_that_are_no_answer_are_a_fault_with_a_name() {
    for garbage in [vec![], vec![0xff; 3], vec![0xff; 600], b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()] {
        let sink = Sink::start(Some(garbage));
        let mut settings = settings(sink.at, &[]);
        settings.patience = Patience { question: Duration::from_millis(400), whole: Duration::from_secs(3) };
        let fault = look(settings, "mesh.test").expect_err("no mesh");
        assert!(matches!(fault, TierFault::Garbage | TierFault::Silent), "{fault}");
    }
}
