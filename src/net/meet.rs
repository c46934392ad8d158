//! Whose key answers at a place? One TLS handshake and nothing more: for trust on first use, for
//! discovery, and for people who want to know why a place does not work.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::dial::words;
use super::resolve::{Policy, resolve};
use super::{Context, Counters};
use crate::wire::{Host, HostPort, NodeId, Profile, Word};

/// Why nobody was met at a place.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{why}")]
pub struct Unmet {
    /// Which way it failed.
    pub class: Miss,
    /// The same for people, with the place.
    pub why: String,
}

/// The ways in which a dial fails, each with another thing to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Miss {
    /// Its name has no address, or the resolver does not answer.
    Unresolved,
    /// The address policy forbids it.
    Forbidden,
    /// Nobody listens there.
    Refused,
    /// No answer in time.
    Silent,
    /// There is no way to it from here.
    NoRoute,
    /// The connection was closed before a key was shown.
    Closed,
    /// Somebody listens there who is no node.
    NotANode,
    /// This very node is there.
    Itself,
}

impl Miss {
    /// A stable word, for programs.
    pub fn word(self) -> &'static str {
        match self {
            Miss::Unresolved => "unresolved",
            Miss::Forbidden => "forbidden",
            Miss::Refused => "refused",
            Miss::Silent => "timeout",
            Miss::NoRoute => "no_route",
            Miss::Closed => "closed",
            Miss::NotANode => "not_a_node",
            Miss::Itself => "itself",
        }
    }

    /// What an operator does about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Miss::Unresolved => "check how the name is written, and the DNS of this machine",
            Miss::Forbidden => "nothing, unless it should be dialled: `afferent peers add` dials whatever is typed",
            Miss::Refused => {
                "the machine is there and nothing listens on that port: is the daemon over there running, and is this its port?"
            }
            Miss::Silent => "the machine is off, has moved, or a firewall on the way drops what we send",
            Miss::NoRoute => "check the network of this machine: it has no way there, or no address of that family",
            Miss::Closed => {
                "something on the way, or over there, closes the connection: a full node, a firewall, a proxy"
            }
            Miss::NotANode => "something else listens on that port, or a proxy stands in between",
            Miss::Itself => "nothing: a node does not call itself",
        }
    }

    fn of(error: &io::Error) -> Miss {
        if let Some(inner) = error.get_ref() {
            return match inner.downcast_ref::<io::Error>() {
                Some(inner) => Miss::of(inner),
                None => Miss::NotANode,
            };
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Miss::Refused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => {
                Miss::NoRoute
            }
            io::ErrorKind::TimedOut => Miss::Silent,
            _ => Miss::Closed,
        }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Whose key answers there? The address policy decides on this `word` whether it is called at all. The key
/// is proved by a finished TLS handshake; nothing is sent.
///
/// # Errors
/// Why there is no answer: the last reason, when the place has several addresses.
pub async fn meet(context: &Context, at: &HostPort, word: Word) -> Result<NodeId, Unmet> {
    let mut last = Unmet { class: Miss::Unresolved, why: format!("{at} has no address") };
    let policy = Policy { profile: context.settings().profile, word, counters: context.counters() };
    for address in resolve(at, &policy).await? {
        context.counters().dialled.one();
        last = match timeout(context.limits().connect, handshake(context, at, address)).await {
            Ok(Ok(id)) if id == context.id() => {
                return Err(Unmet { class: Miss::Itself, why: format!("{at} is this node itself") });
            }
            Ok(Ok(id)) => return Ok(id),
            Ok(Err(error)) => {
                let why = words(&error, address).unwrap_or_else(|| format!("no connection to {address}"));
                Unmet { class: Miss::of(&error), why }
            }
            Err(_) => Unmet { class: Miss::Silent, why: format!("no answer from {address} in time") },
        };
    }
    Err(last)
}

/// Where a dial of this place would go on this `word`, by the address policy. Nothing is dialled, and nothing
/// counted; a name is looked up.
///
/// # Errors
/// Why nowhere.
pub async fn dialled_at(at: &HostPort, profile: Profile, word: Word) -> Result<Vec<SocketAddr>, Unmet> {
    resolve(at, &Policy { profile, word, counters: &Counters::default() }).await
}

/// [`meet`] with the reason alone: for trust on first use, where a person is shown the id and decides
/// ([`Word::Typed`]), and for discovery. What it means that this very node is there the asker knows.
///
/// # Errors
/// Why there is no answer, for people.
pub async fn identify(context: &Context, at: &HostPort, word: Word) -> Result<NodeId, String> {
    match meet(context, at, word).await {
        Err(Unmet { class: Miss::Itself, .. }) => Ok(context.id()),
        met => met.map_err(|unmet| unmet.why),
    }
}

async fn handshake(context: &Context, place: &HostPort, at: SocketAddr) -> io::Result<NodeId> {
    let pin = context.0.identity.pin(None);
    let name = match &place.host {
        Host::Ip(ip) => (*ip).into(),
        Host::Name(name) => name.to_string().try_into().map_err(io::Error::other)?,
    };
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(ip) = context.settings().source_ip(at.ip()) {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    let stream = socket.connect(at).await?;
    TlsConnector::from(Arc::new(context.0.identity.client(&pin))).connect(name, stream).await?;
    pin.found().ok_or_else(|| io::Error::other("a finished handshake showed a certificate"))
}
