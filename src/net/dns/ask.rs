//! One DNS server, asked by UDP, and by TCP when that does not do. Everything that comes back is cut to
//! what a zone of ours can have before it is looked at.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::TierFault;
use crate::wire::zone::{SERVICES_MAX, STRINGS_MAX, Service};

/// Servers of `/etc/resolv.conf` that count (resolv.conf(5), MAXNS).
pub const SERVERS_MAX: usize = 3;
/// TXT records looked at of one name; others of a provider may stand beside ours.
pub const TEXTS_MAX: usize = 32;
/// Addresses looked at of one name and family.
pub const HOST_ADDRESSES_MAX: usize = 8;

/// The strings of one TXT record, at most one more than any text of ours has.
pub type Text = Vec<Box<[u8]>>;

/// Who is asked, for the time of one lookup.
pub(super) struct Server {
    /// UDP, and TCP for what was cut off there.
    both: TokioResolver,
    /// TCP alone.
    tcp: TokioResolver,
    /// It was asked by UDP and said nothing.
    is_mute: AtomicBool,
}

impl Server {
    /// This server, or those of the system. Nothing is sent yet.
    pub(super) fn open(server: Option<SocketAddr>, patience: Duration) -> Result<Server, TierFault> {
        let both = match server {
            Some(at) => vec![by_hand(at)],
            None => of_the_system()?,
        };
        let tcp = both.iter().cloned().map(|mut server| {
            server.connections.retain(|connection| connection.protocol == ProtocolConfig::Tcp);
            server
        });
        let tcp = tcp.collect();
        Ok(Server { both: resolver(both, patience)?, tcp: resolver(tcp, patience)?, is_mute: AtomicBool::new(false) })
    }

    /// The SRV records of a name, and how many had no target that can be read.
    pub(super) async fn services(&self, name: &str) -> Result<(Vec<Service>, usize), TierFault> {
        let mut records = match self.ask(name, RecordType::SRV).await {
            // hickory 0.26 takes a target for the next name to ask about, and loses SRV behind an alias.
            Err(TierFault::NoRecords) => self.ask(&self.alias(name).await?, RecordType::SRV).await?,
            settled => settled?,
        };
        records.truncate(SERVICES_MAX + 1);
        Ok(services_in(records))
    }

    /// What this name is another name for.
    async fn alias(&self, name: &str) -> Result<String, TierFault> {
        match self.ask(name, RecordType::CNAME).await?.first() {
            Some(RData::CNAME(alias)) => Ok(alias.0.to_ascii().trim_end_matches('.').to_owned()),
            _ => Err(TierFault::NoRecords),
        }
    }

    /// The TXT records of a name.
    pub(super) async fn texts(&self, name: &str) -> Result<Vec<Text>, TierFault> {
        let mut records = self.ask(name, RecordType::TXT).await?;
        records.truncate(TEXTS_MAX);
        Ok(texts_in(records))
    }

    /// The addresses of a name, none when there is none or the server fails: another entry will do.
    pub(super) async fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let (v4, v6) = tokio::join!(self.ask(name, RecordType::A), self.ask(name, RecordType::AAAA));
        let all = [v4, v6].into_iter().flat_map(|found| found.unwrap_or_default().into_iter().take(HOST_ADDRESSES_MAX));
        addresses_in(all)
    }

    /// The records of this very type.
    ///
    /// hickory 0.26 asks again by TCP when an answer was cut off; its `try_tcp_on_error` is read by
    /// nothing. So a server that is silent or odd by UDP is asked by TCP from here, and one that was
    /// silent once not by UDP again.
    async fn ask(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, TierFault> {
        let name = Name::from_ascii(format!("{name}.")).map_err(|_| TierFault::Garbage)?;
        let mut first = TierFault::Silent;
        if !self.is_mute.load(Ordering::Relaxed) {
            match lookup(&self.both, &name, kind).await {
                Err(fault @ (TierFault::Silent | TierFault::Garbage)) => first = fault,
                settled => return settled,
            }
            if first == TierFault::Silent {
                self.is_mute.store(true, Ordering::Relaxed);
            }
        }
        match lookup(&self.tcp, &name, kind).await {
            // What UDP showed says more.
            Err(TierFault::Silent | TierFault::Unreachable) => Err(first),
            settled => settled,
        }
    }
}

/// The SRV records among these, and how many had no target that can be read.
fn services_in(records: Vec<RData>) -> (Vec<Service>, usize) {
    let (mut services, mut ignored) = (Vec::new(), 0);
    for record in records {
        let RData::SRV(srv) = record else { continue };
        match Service::new(srv.priority, srv.weight, srv.port, &srv.target.to_ascii()) {
            Ok(service) => services.push(service),
            Err(_) => ignored += 1,
        }
    }
    (services, ignored)
}

fn texts_in(records: Vec<RData>) -> Vec<Text> {
    let text = |record| match record {
        RData::TXT(txt) => Some(txt.txt_data.into_iter().take(STRINGS_MAX + 1).collect()),
        _ => None,
    };
    records.into_iter().filter_map(text).collect()
}

fn addresses_in(records: impl Iterator<Item = RData>) -> Vec<IpAddr> {
    let address = |record| match record {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    };
    records.filter_map(address).collect()
}

/// What is taken of one answer of a server, whatever was asked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// Its SRV records.
    pub services: Vec<Service>,
    /// SRV records whose target cannot be read.
    pub ignored: usize,
    /// The strings of its TXT records.
    pub texts: Vec<Text>,
    /// Its A and AAAA records.
    pub addresses: Vec<IpAddr>,
}

/// Reads the bytes of an answer as a lookup does, for whoever tries it with bytes of any shape.
///
/// # Errors
/// [`TierFault::Garbage`] for what is no DNS message.
pub fn read_answer(bytes: &[u8]) -> Result<Answer, TierFault> {
    let message = Message::from_vec(bytes).map_err(|_| TierFault::Garbage)?;
    let of = |kinds: &[RecordType], most: usize| {
        let records = message.answers.iter().filter(|record| kinds.contains(&record.record_type()));
        records.take(most).map(|record| record.data.clone()).collect::<Vec<RData>>()
    };
    let (services, ignored) = services_in(of(&[RecordType::SRV], SERVICES_MAX + 1));
    let texts = texts_in(of(&[RecordType::TXT], TEXTS_MAX));
    let addresses = addresses_in(of(&[RecordType::A, RecordType::AAAA], 2 * HOST_ADDRESSES_MAX).into_iter());
    Ok(Answer { services, ignored, texts, addresses })
}

async fn lookup(resolver: &TokioResolver, name: &Name, kind: RecordType) -> Result<Vec<RData>, TierFault> {
    let answer = Box::pin(resolver.lookup(name.clone(), kind)).await.map_err(|error| fault(&error))?;
    let records = answer.answers().iter().filter(|record| record.record_type() == kind);
    let records: Vec<RData> = records.map(|record| record.data.clone()).take(SERVICES_MAX + 1).collect();
    if records.is_empty() { Err(TierFault::NoRecords) } else { Ok(records) }
}

fn resolver(servers: Vec<NameServerConfig>, patience: Duration) -> Result<TokioResolver, TierFault> {
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options: &mut ResolverOpts = builder.options_mut();
    options.timeout = patience;
    options.attempts = 0; // UDP repeats itself within its time, and TCP comes after it
    options.max_active_requests = 4 * super::ENTRIES_AT_ONCE; // TXT, A and AAAA of each, and room
    options.case_randomization = true;
    options.edns0 = true;
    options.use_hosts_file = ResolveHosts::Never;
    // The server has a cache; a failure that it mended must not live on here.
    options.cache_size = 0;
    builder.build().map_err(|_| TierFault::NoServer)
}

/// The one that the configuration names.
fn by_hand(at: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = at.port();
    }
    NameServerConfig::new(at.ip(), true, connections)
}

fn of_the_system() -> Result<Vec<NameServerConfig>, TierFault> {
    let (config, _) = hickory_resolver::system_conf::read_system_conf().map_err(|_| TierFault::NoServer)?;
    let mut servers = config.name_servers().to_vec();
    servers.truncate(SERVERS_MAX);
    if servers.is_empty() { Err(TierFault::NoServer) } else { Ok(servers) }
}

/// The library's error in our own words.
fn fault(error: &NetError) -> TierFault {
    match error {
        NetError::Timeout => TierFault::Silent,
        NetError::Io(_) | NetError::NoConnections | NetError::Busy => TierFault::Unreachable,
        NetError::Dns(DnsError::ResponseCode(code)) => coded(*code),
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NoError => TierFault::NoRecords,
            code => coded(code),
        },
        _ => TierFault::Garbage,
    }
}

fn coded(code: ResponseCode) -> TierFault {
    match code {
        ResponseCode::NXDomain => TierFault::NoName,
        ResponseCode::ServFail => TierFault::ServFail,
        ResponseCode::Refused => TierFault::Refused,
        code => TierFault::Code(code.into()),
    }
}
