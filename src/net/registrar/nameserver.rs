//! The zone at its name server: read whole, changed by one UPDATE (RFC 2136) that holds only if nobody
//! changed it since, every message signed with a shared key (TSIG, RFC 8945).
//!
//! Each exchange is a TCP connection of its own. Nothing that comes back is used before its signature
//! was checked; only for the words of an error an unsigned answer is looked at, since a server that
//! does not know the key cannot sign.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::rdata::{A, AAAA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigVerifier, TSigner};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::core::registrar::{Book, Change, Data, Rr};
use crate::wire::zone::{Service, ZoneName};

/// For the TCP connection.
const CONNECT: Duration = Duration::from_secs(3);
/// For everything after it.
const EXCHANGE: Duration = Duration::from_secs(8);
/// Clocks may differ by so many seconds (RFC 8945 section 10).
const FUDGE: u16 = 300;
/// Largest zone that is read.
pub const ZONE_BYTES_MAX: usize = 4 << 20;
/// Questions on one connection before its answers are read: servers limit what waits.
const PIPELINE: usize = 16;

/// A key shared with the name server.
#[derive(Clone)]
pub struct Tsig {
    name: Name,
    algorithm: TsigAlgorithm,
    secret: Vec<u8>,
}

impl Tsig {
    /// Reads the first key of a file as `tsig-keygen` writes it and `named.conf` includes it:
    /// `key "name" { algorithm hmac-sha256; secret "base64"; };`
    ///
    /// # Errors
    /// What is missing or wrong; the text is never quoted, for it holds a secret.
    pub fn parse(text: &str) -> Result<Tsig, &'static str> {
        let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        let lines = lines.filter(|line| !line.trim_start().starts_with('#'));
        let text = lines.collect::<Vec<_>>().join(" ").replace(['{', '}', ';', '"'], " ");
        let words: Vec<&str> = text.split_whitespace().collect();
        let after = |word: &str| words.iter().position(|other| *other == word).and_then(|at| words.get(at + 1));
        let name = after("key").ok_or("it names no key: expected what `tsig-keygen NAME` prints")?;
        let name = Name::from_ascii(name).map_err(|_| "the name of the key is no DNS name")?;
        let algorithm = match *after("algorithm").ok_or("it names no algorithm")? {
            "hmac-sha256" => TsigAlgorithm::HmacSha256,
            "hmac-sha384" => TsigAlgorithm::HmacSha384,
            "hmac-sha512" => TsigAlgorithm::HmacSha512,
            _ => return Err("the algorithms are hmac-sha256, hmac-sha384 and hmac-sha512"),
        };
        let secret = after("secret").ok_or("it holds no secret")?;
        let secret = BASE64.decode(secret.as_bytes()).map_err(|_| "the secret is not base64")?;
        if secret.len() < 16 {
            return Err("the secret has less than 128 bits");
        }
        Ok(Tsig { name, algorithm, secret })
    }
}

impl std::fmt::Debug for Tsig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tsig({})", self.name)
    }
}

/// Why the name server did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DnsError {
    /// The prerequisite does not hold: somebody else changed the zone.
    #[error("the zone was changed meanwhile")]
    Changed,
    /// Not there, or too slow. Whether a change was made is not known then.
    #[error("the name server does not answer: {0}")]
    Unreachable(&'static str),
    /// It says no: the key, the policy, the zone. A matter for the operator.
    #[error("the name server refuses it: {0}")]
    Refused(String),
    /// The answer is not signed by the key, or cannot be read.
    #[error("the answer of the name server cannot be trusted: {0}")]
    Untrusted(&'static str),
}

/// The primary of a zone.
#[derive(Clone)]
pub struct NameServer {
    at: SocketAddr,
    zone: Name,
    signer: TSigner,
}

impl NameServer {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn new(at: SocketAddr, zone: &ZoneName, tsig: Tsig) -> Result<NameServer, &'static str> {
        let zone = absolute(zone.as_str()).map_err(|_| "the zone is no DNS name")?;
        let signer = TSigner::new(tsig.secret, tsig.algorithm, tsig.name, FUDGE);
        Ok(NameServer { at, zone, signer: signer.map_err(|_| "the TSIG key cannot be used")? })
    }

    /// Everything of `book` in the zone: by a transfer, which is one moment, or, where that is not
    /// allowed, name by name. A change of the zone between two answers is found when it is written.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn read(&self, book: &Book) -> Result<BTreeSet<Rr>, DnsError> {
        match self.within(self.transfer(book)).await {
            Err(DnsError::Refused(why)) => {
                tracing::debug!(why, "no transfer of the zone; asking name by name");
                self.within(self.ask_around(book)).await
            }
            other => other,
        }
    }

    /// Makes the change, all of it or nothing.
    ///
    /// # Errors
    /// [`DnsError::Changed`] when the zone is not as it was read.
    pub async fn apply(&self, change: &Change) -> Result<(), DnsError> {
        let message = self.update(change)?;
        let answer = self.within(async { self.connect().await?.ask(message).await }).await?;
        match answer.metadata.response_code {
            ResponseCode::NoError => Ok(()),
            // There is one where none was, or none or another where one was.
            ResponseCode::YXRRSet | ResponseCode::NXRRSet => Err(DnsError::Changed),
            code => Err(refused(code)),
        }
    }

    async fn within<T>(&self, exchange: impl Future<Output = Result<T, DnsError>>) -> Result<T, DnsError> {
        timeout(EXCHANGE, exchange).await.unwrap_or(Err(DnsError::Unreachable("no answer in time")))
    }

    async fn connect(&self) -> Result<Conversation<'_>, DnsError> {
        let stream = timeout(CONNECT, TcpStream::connect(self.at)).await;
        let stream = stream.map_err(|_| DnsError::Unreachable("no connection in time"))?;
        let stream = stream.map_err(|_| DnsError::Unreachable("no connection"))?;
        // Fails on sockets that are gone, which the first write sees.
        let _ = stream.set_nodelay(true);
        Ok(Conversation { stream, signer: &self.signer })
    }

    async fn transfer(&self, book: &Book) -> Result<BTreeSet<Rr>, DnsError> {
        let mut conversation = self.connect().await?;
        let question = question(&self.zone, RecordType::AXFR);
        let (id, mut verifier) = conversation.say(question).await?;
        let (mut records, mut bounds, mut bytes) = (BTreeSet::new(), 0, 0);
        // The SOA stands at the beginning and at the end (RFC 5936 section 2.2).
        while bounds < 2 {
            let answer = conversation.hear(id, &mut verifier, &mut bytes).await?;
            if answer.metadata.response_code != ResponseCode::NoError {
                return Err(refused(answer.metadata.response_code));
            }
            if answer.answers.is_empty() {
                return Err(DnsError::Untrusted("a transfer without an end"));
            }
            bounds += answer.answers.iter().filter(|record| record.record_type() == RecordType::SOA).count();
            records.extend(answer.answers.iter().filter_map(|record| read_of(record, book)));
        }
        Ok(records)
    }

    async fn ask_around(&self, book: &Book) -> Result<BTreeSet<Rr>, DnsError> {
        let service = absolute(&book.zone.service())?;
        // The manifest first: whoever writes before its answer has changed it, whoever writes after it
        // makes our own change fail.
        let list = [question(&service, RecordType::TXT), question(&service, RecordType::SRV)];
        let mut records = self.ask_all(list.to_vec(), book).await?;
        let mut questions = Vec::new();
        for label in book.labels(&records) {
            let node = absolute(&book.zone.node(&label))?;
            questions.extend([RecordType::TXT, RecordType::A, RecordType::AAAA].map(|kind| question(&node, kind)));
            questions.push(question(&absolute(&book.zone.tenure(&label))?, RecordType::TXT));
        }
        records.extend(self.ask_all(questions, book).await?);
        Ok(records)
    }

    async fn ask_all(&self, questions: Vec<Message>, book: &Book) -> Result<BTreeSet<Rr>, DnsError> {
        let mut records = BTreeSet::new();
        let mut bytes = 0;
        for some in questions.chunks(PIPELINE) {
            let mut conversation = self.connect().await?;
            let mut asked = Vec::new();
            for (id, question) in (0u16..).zip(some) {
                let mut question = question.clone();
                question.metadata.id = id; // one of a connection, and no other
                asked.push(conversation.say(question).await?);
            }
            for _ in some {
                let answer = conversation.hear_any(&mut asked, &mut bytes).await?;
                match answer.metadata.response_code {
                    ResponseCode::NoError | ResponseCode::NXDomain => {}
                    code => return Err(refused(code)),
                }
                records.extend(answer.answers.iter().filter_map(|record| read_of(record, book)));
            }
        }
        Ok(records)
    }

    fn update(&self, change: &Change) -> Result<Message, DnsError> {
        let mut message = Message::query();
        message.metadata.op_code = OpCode::Update;
        message.metadata.recursion_desired = false;
        // The sections of an update under the names of a query: zone, prerequisite, update.
        message.add_query(Query::query(self.zone.clone(), RecordType::SOA));
        if change.was.is_empty() {
            let mut none = Record::update0(absolute(&change.owner)?, 0, RecordType::TXT);
            none.dns_class = DNSClass::NONE; // RFC 2136 section 2.4.3
            message.add_answer(none);
        }
        for record in &change.was {
            let mut record = record_of(record)?;
            record.ttl = 0; // section 2.4.2
            message.add_answer(record);
        }
        for record in &change.delete {
            let mut record = record_of(record)?;
            (record.ttl, record.dns_class) = (0, DNSClass::NONE); // section 2.5.4
            message.add_authority(record);
        }
        for record in &change.add {
            message.add_authority(record_of(record)?);
        }
        Ok(message)
    }
}

impl std::fmt::Debug for NameServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NameServer({} at {})", self.zone, self.at)
    }
}

/// One TCP connection.
struct Conversation<'s> {
    stream: TcpStream,
    signer: &'s TSigner,
}

impl Conversation<'_> {
    /// Signs and sends; what is needed to know the answer.
    async fn say(&mut self, mut message: Message) -> Result<(u16, TSigVerifier), DnsError> {
        let broken = |_| DnsError::Unreachable("the connection broke off");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let verifier = message.finalize(self.signer, now).ok().flatten();
        let verifier = verifier.ok_or(DnsError::Untrusted("the question cannot be signed"))?;
        let bytes = message.to_vec().map_err(|_| DnsError::Untrusted("the question cannot be written"))?;
        let length = u16::try_from(bytes.len()).map_err(|_| DnsError::Untrusted("the question is too long"))?;
        self.stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).await.map_err(broken)?;
        Ok((message.metadata.id, verifier))
    }

    async fn ask(&mut self, message: Message) -> Result<Message, DnsError> {
        let (id, mut verifier) = self.say(message).await?;
        self.hear(id, &mut verifier, &mut 0).await
    }

    /// The next message, which must answer `id`. `bytes` counts what was read in all.
    async fn hear(&mut self, id: u16, verifier: &mut TSigVerifier, bytes: &mut usize) -> Result<Message, DnsError> {
        let raw = self.frame(bytes).await?;
        if raw.get(..2) != Some(&id.to_be_bytes()) {
            return Err(DnsError::Untrusted("an answer to another question"));
        }
        checked(&raw, verifier)
    }

    /// The next message, which must answer one of these; that one is taken out.
    async fn hear_any(&mut self, asked: &mut Vec<(u16, TSigVerifier)>, bytes: &mut usize) -> Result<Message, DnsError> {
        let raw = self.frame(bytes).await?;
        let place = asked.iter().position(|(id, _)| raw.get(..2) == Some(&id.to_be_bytes()));
        let place = place.ok_or(DnsError::Untrusted("an answer to another question"))?;
        checked(&raw, &mut asked.swap_remove(place).1)
    }

    async fn frame(&mut self, bytes: &mut usize) -> Result<Vec<u8>, DnsError> {
        let broken = |_| DnsError::Unreachable("the connection broke off");
        let length = usize::from(self.stream.read_u16().await.map_err(broken)?);
        *bytes += length;
        if *bytes > ZONE_BYTES_MAX {
            return Err(DnsError::Untrusted("the zone has more than 4 MiB"));
        }
        let mut raw = vec![0; length];
        self.stream.read_exact(&mut raw).await.map_err(broken)?;
        Ok(raw)
    }
}

/// The message, if it is signed as it should be.
fn checked(raw: &[u8], verifier: &mut TSigVerifier) -> Result<Message, DnsError> {
    if verifier.verify(raw).is_ok() {
        return Message::from_vec(raw).map_err(|_| DnsError::Untrusted("it cannot be read"));
    }
    // A no needs no proof: what is believed of it is only that nothing was done.
    match Message::from_vec(raw) {
        Ok(message)
            if message.metadata.message_type == MessageType::Response
                && message.metadata.response_code != ResponseCode::NoError =>
        {
            let code = message.metadata.response_code;
            let about = match code {
                ResponseCode::NotAuth => " (the key, its secret or the clock is not what the server expects)",
                _ => "",
            };
            Err(DnsError::Refused(format!("{code}{about}")))
        }
        _ => Err(DnsError::Untrusted("it is not signed with the key")),
    }
}

fn refused(code: ResponseCode) -> DnsError {
    DnsError::Refused(code.to_string())
}

fn question(name: &Name, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(name.clone(), kind));
    message
}

fn absolute(name: &str) -> Result<Name, DnsError> {
    let name = Name::from_ascii(name).map(|mut name| {
        name.set_fqdn(true);
        name
    });
    name.map_err(|_| DnsError::Untrusted("not a DNS name"))
}

fn record_of(rr: &Rr) -> Result<Record, DnsError> {
    let data = match &rr.data {
        Data::A(ip) => RData::A(A(*ip)),
        Data::Aaaa(ip) => RData::AAAA(AAAA(*ip)),
        Data::Txt(strings) => RData::TXT(TXT::from_bytes(strings.iter().map(Vec::as_slice).collect())),
        Data::Srv(service) => {
            let target = absolute(service.target().unwrap_or("."))?;
            RData::SRV(SRV::new(service.priority, service.weight, service.port, target))
        }
    };
    Ok(Record::from_rdata(absolute(&rr.owner)?, rr.ttl, data))
}

/// The record, if it is of a kind and at a name that a registrar has to do with.
fn read_of(record: &Record, book: &Book) -> Option<Rr> {
    let owner = text(&record.name);
    if record.dns_class != DNSClass::IN || !book.is_of_interest(&owner) {
        return None;
    }
    let data = match &record.data {
        RData::A(A(ip)) => Data::A(*ip),
        RData::AAAA(AAAA(ip)) => Data::Aaaa(*ip),
        RData::TXT(txt) => Data::Txt(txt.txt_data.iter().map(|string| string.to_vec()).collect()),
        RData::SRV(srv) => {
            let target = match srv.target.is_root() {
                true => ".".to_owned(),
                false => text(&srv.target),
            };
            Data::Srv(Service::new(srv.priority, srv.weight, srv.port, &target).ok()?)
        }
        _ => return None,
    };
    Some(Rr { owner, ttl: record.ttl, data })
}

/// In lower case, without the final dot.
fn text(name: &Name) -> String {
    let text = name.to_lowercase().to_ascii();
    text.strip_suffix('.').map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_bind_writes_it() {
        let text = "# made today\nkey \"reg.mesh.example\" {\n\talgorithm hmac-sha256;\n\
                    \tsecret \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\";\n};\n";
        let tsig = Tsig::parse(text).expect("a key");
        assert_eq!((tsig.name.to_ascii().as_str(), tsig.secret.len()), ("reg.mesh.example", 32));
        assert!(!format!("{tsig:?}").contains("MDEy"));
        let on_one_line = text.replace('\n', " ").replace("# made today", "");
        assert!(Tsig::parse(&on_one_line).is_ok());
        for (from, to) in [("sha256", "md5"), ("MDEy", "!"), ("secret", "sacred"), ("key", "kay"), ("algorithm", "a")] {
            let why = Tsig::parse(&text.replace(from, to)).expect_err(from);
            assert!(!why.contains("MDEy"));
        }
        assert!(Tsig::parse("key a { algorithm hmac-sha256; secret \"AAAA\"; };").is_err(), "too short");
        assert!(Tsig::parse("").is_err());
    }

    #[test]
    fn an_update_asks_for_the_manifest_that_was_read() {
        let zone: ZoneName = "mesh.example".parse().expect("a zone");
        let tsig =
            Tsig::parse("key k { algorithm hmac-sha512; secret \"AAAAAAAAAAAAAAAAAAAAAAAA\"; };").expect("a key");
        let server = NameServer::new(([127, 0, 0, 1], 53).into(), &zone, tsig).expect("a server");
        let rr = |text: &str| Rr { owner: zone.service(), ttl: 60, data: Data::Txt(vec![text.as_bytes().to_vec()]) };
        let change =
            |was: Vec<Rr>| Change { owner: zone.service(), was, delete: vec![rr("old")], add: vec![rr("new")] };
        let first = server.update(&change(Vec::new())).expect("a message");
        assert_eq!((first.answers[0].dns_class, first.answers[0].record_type()), (DNSClass::NONE, RecordType::TXT));
        let later = server.update(&change(vec![rr("old"), rr("by hand")])).expect("a message");
        assert_eq!(later.answers.len(), 2, "every TXT of the name");
        assert!(later.answers.iter().all(|record| record.dns_class == DNSClass::IN && record.ttl == 0));
        let [gone, new] = later.authorities.as_slice() else { panic!("two") };
        assert_eq!((gone.dns_class, gone.ttl, new.dns_class, new.ttl), (DNSClass::NONE, 0, DNSClass::IN, 60));
    }

    #[test]
    fn records_are_read_back_and_others_are_not_ours() {
        let book = Book {
            zone: "mesh.example".parse().expect("a zone"),
            network: "main".parse().expect("a network"),
            key: crate::wire::Keypair::from_seed(&[1; 32]),
            fellows: Vec::new(),
        };
        let service = Service::new(10, 7, 7443, "aaaaaaaaaaaaaaaa.n.mesh.example").expect("a service");
        for data in [
            Data::Srv(service),
            Data::Srv(Service::new(0, 0, 0, ".").expect("a service")),
            Data::Txt(vec![b"v=afferent1".to_vec(), vec![0, 255], Vec::new()]),
            Data::A([127, 0, 0, 1].into()),
            Data::Aaaa(std::net::Ipv6Addr::LOCALHOST),
        ] {
            let rr = Rr { owner: book.zone.service(), ttl: 60, data };
            assert_eq!(read_of(&record_of(&rr).expect("a record"), &book), Some(rr));
        }
        let other = Rr { owner: "www.mesh.example".into(), ttl: 60, data: Data::A([127, 0, 0, 1].into()) };
        assert_eq!(read_of(&record_of(&other).expect("a record"), &book), None);
    }
}
