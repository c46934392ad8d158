//! A DNS server of the test's own on loopback, by UDP and TCP, good and bad.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::*;
use crate::wire::Keypair;

mod servers;
mod zones;

const NOW: Wall = Wall::from_millis(1_795_243_262_123);
const ZONE: &str = "mesh.test";

/// How the server behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    /// This code and nothing else.
    Code(ResponseCode),
    /// Takes questions by UDP and answers by TCP only.
    MuteByUdp,
    /// Takes everything and answers nothing.
    Mute,
    /// Answers with bytes that are no DNS message under the right number.
    Garbage,
    /// Good answers with a few bytes changed by this seed.
    Injured(u64),
}

/// What the server knows.
#[derive(Clone, Default)]
struct Records(BTreeMap<(String, RecordType), Vec<RData>>);

impl Records {
    fn put(&mut self, name: &str, data: RData) -> &mut Records {
        self.0.entry((name.to_ascii_lowercase(), data.record_type())).or_default().push(data);
        self
    }

    fn srv(&mut self, priority: u16, port: u16, target: &str) -> &mut Records {
        let target = Name::from_ascii(target).expect("a name");
        self.put(&zone().service(), RData::SRV(SRV::new(priority, 1, port, target)))
    }

    fn txt<S: AsRef<str>>(&mut self, name: &str, strings: &[S]) -> &mut Records {
        let strings = strings.iter().map(|string| string.as_ref().to_owned()).collect();
        self.put(name, RData::TXT(TXT::new(strings)))
    }

    fn ip(&mut self, name: &str, ip: &str) -> &mut Records {
        match ip.parse().expect("an address") {
            IpAddr::V4(ip) => self.put(name, RData::A(A(ip))),
            IpAddr::V6(ip) => self.put(name, RData::AAAA(AAAA(ip))),
        }
    }

    /// A node as a registrar writes it down, at 127.`number`.0.1:7443.
    fn node(&mut self, number: u8) -> &mut Records {
        let id = key(number).id();
        let name = zone().node(&Label::of(&id));
        let text = NodeText { id, network: Some(Network::default()), seq: Some(1), at: None };
        self.srv(10, 7443, &format!("{name}.")).txt(&name, &text.strings()).ip(&name, &format!("127.{number}.0.1"))
    }

    /// The entries as they are signed.
    fn services(&self) -> Vec<Service> {
        let records = self.0.get(&(zone().service(), RecordType::SRV)).into_iter().flatten();
        let service = |data: &RData| match data {
            RData::SRV(srv) => Service::new(srv.priority, srv.weight, srv.port, &srv.target.to_ascii()).ok(),
            _ => None,
        };
        records.filter_map(service).collect()
    }

    fn signed(&mut self, by: u8, seq: u64) -> &mut Records {
        let manifest = Manifest::sign(&key(by), &zone(), seq, 1_795_243_262 + 60, &self.services());
        self.txt(&zone().service(), &manifest.strings())
    }

    fn answer(&self, question: &[u8], mood: Mood, by_udp: bool) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).expect("a question");
        let query = question.queries.first().expect("one query").clone();
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        let name = query.name().to_ascii().to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
        let known = self.0.get(&(name.clone(), query.query_type()));
        for data in known.into_iter().flatten() {
            answer.add_answer(Record::from_rdata(query.name().clone(), 60, data.clone()));
        }
        answer.add_query(query);
        if !self.0.keys().any(|(other, _)| *other == name) {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        match mood {
            Mood::Mute => return None,
            Mood::MuteByUdp if by_udp => return None,
            Mood::Code(code) => {
                answer.answers.clear();
                answer.metadata.response_code = code;
            }
            Mood::Garbage => {
                let mut bytes = question.metadata.id.to_be_bytes().to_vec();
                bytes.extend_from_slice(&[0xc0; 40]);
                return Some(bytes);
            }
            _ => {}
        }
        let mut bytes = answer.to_vec().expect("a message");
        if by_udp && bytes.len() > 1_232 {
            answer.answers.clear();
            answer.metadata.truncation = true;
            bytes = answer.to_vec().expect("a message");
        }
        if let Mood::Injured(seed) = mood {
            let mut rng = fastrand::Rng::with_seed(seed);
            for _ in 0..rng.usize(1..6) {
                let at = rng.usize(2..bytes.len());
                bytes[at] = rng.u8(..);
            }
            bytes.truncate(rng.usize(bytes.len() / 2..bytes.len() * 2));
        }
        Some(bytes)
    }
}

/// A running server; it ends with this.
struct Running {
    at: SocketAddr,
    by_tcp: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

async fn run(records: &Records, mood: Mood) -> Running {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("an address")).await {
            break (udp, tcp);
        }
    };
    let at = udp.local_addr().expect("an address");
    let by_tcp = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    let known = records.clone();
    tasks.spawn(async move {
        let mut bytes = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut bytes).await {
            if let Some(answer) = known.answer(&bytes[..length], mood, true) {
                let _ = udp.send_to(&answer, from).await;
            }
        }
    });
    let (known, count) = (Arc::new(records.clone()), Arc::clone(&by_tcp));
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let (known, count) = (Arc::clone(&known), Arc::clone(&count));
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut bytes = vec![0; length.into()];
                    if stream.read_exact(&mut bytes).await.is_err() {
                        return;
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    let Some(answer) = known.answer(&bytes, mood, false) else { continue };
                    let length = u16::try_from(answer.len()).expect("at most 64 KiB").to_be_bytes();
                    let _ = stream.write_all(&[&length[..], &answer].concat()).await;
                }
            });
        }
    });
    Running { at, by_tcp, _tasks: tasks }
}

fn key(number: u8) -> Keypair {
    Keypair::from_seed(&[number; 32])
}

fn zone() -> ZoneName {
    ZONE.parse().expect("a zone")
}

fn settings(server: SocketAddr) -> Settings {
    Settings {
        server: Some(server),
        keys: Vec::new(),
        me: key(200).id(),
        own: Vec::new(),
        network: Network::default(),
        profile: Profile::Loopback,
        patience: Patience::default(),
    }
}

/// Asks a server of this mood that knows these records.
async fn ask_as(records: &Records, mood: Mood, change: impl FnOnce(&mut Settings)) -> Result<Found, TierFault> {
    let server = run(records, mood).await;
    let mut settings = settings(server.at);
    change(&mut settings);
    Dns::new(settings).lookup(&zone(), NOW, 1).await
}

async fn ask(records: &Records) -> Result<Found, TierFault> {
    ask_as(records, Mood::Good, |_| ()).await
}

/// The places found, in order of their text.
fn places(found: &Found) -> Vec<String> {
    let mut places: Vec<String> = found.finds.iter().flat_map(|find| find.at.iter().map(HostPort::to_string)).collect();
    places.sort();
    places
}
