//! What the text of a field means.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::settings::LogFormat;
use super::values;
use crate::core::params::Accept;
use crate::core::pick::Pick;
use crate::wire::message::Durability;
use crate::wire::{HostPort, NodeId, PeerAddress, Profile};

const DNS_PORT: u16 = 53;

/// An address of the operator's own choice: it may be on loopback, and on any port.
pub(super) fn dns_server(text: &str) -> Result<Option<SocketAddr>, &'static str> {
    const SHAPE: &str = "an IP address and a port are expected, such as `192.0.2.53:53`; a DNS server has no name";
    if text.is_empty() {
        return Ok(None);
    }
    let without_port = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let at = text.parse().or_else(|_| without_port()).map_err(|_| SHAPE)?;
    if at.port() == 0 { Err(SHAPE) } else { Ok(Some(at)) }
}

pub(super) fn registrar_key(text: &str) -> Result<NodeId, &'static str> {
    text.parse().map_err(|_| "the key of a registrar is written like a node id: 56 characters of a-z and 2-7")
}

/// One line of `[bus.layouts.NAME]`.
pub(super) fn mapped(field: &str, text: &str) -> Result<Pick, &'static str> {
    let is_printable = field.chars().all(|letter| !letter.is_control() && !letter.is_whitespace());
    if field.is_empty() || field.len() > 64 || !is_printable {
        return Err("the name of a field has 1 to 64 bytes, no spaces and no control characters");
    }
    if field == "mesh_digest" {
        return Err("`mesh_digest` is always there and always the identity of the event: leave it out");
    }
    text.parse()
}

pub(super) fn absolute(text: &str) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err("an absolute path is expected: a daemon has no directory of its own, and `~` is the shell's");
    }
    Ok(path)
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "an IP address and a port are expected, such as `0.0.0.0:7443` or `[::]:7443`")
}

/// Metrics tell a lot and ask nobody who he is: they stay on this machine.
pub(super) fn scraped(text: &str) -> Result<Option<SocketAddr>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    let address: SocketAddr =
        text.parse().map_err(|_| "an IP address and a port are expected, such as `127.0.0.1:9464`, or \"\"")?;
    match address.ip().is_loopback() {
        true => Ok(Some(address)),
        false => Err("an address of loopback is expected: anybody who reaches it can read it"),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, &'static str> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("the formats are auto, json and text"),
    }
}

pub(super) fn profile(text: &str) -> Result<Profile, &'static str> {
    match text {
        "public" => Ok(Profile::Public),
        "private" => Ok(Profile::Private),
        "loopback" => Ok(Profile::Loopback),
        _ => Err("the profiles are public, private and loopback"),
    }
}

pub(super) fn accept(text: &str) -> Result<Accept, &'static str> {
    match text {
        "open" => Ok(Accept::Open),
        "ask" => Ok(Accept::Ask),
        _ => Err("the choices are open and ask"),
    }
}

pub(super) fn durability(text: &str) -> Result<Durability, &'static str> {
    match text {
        "fsync" => Ok(Durability::Fsync),
        "interval" => Ok(Durability::Interval),
        _ => Err("the choices are fsync and interval"),
    }
}

pub(super) fn keep(text: &str) -> Result<Duration, &'static str> {
    let span = values::span(text)?;
    let hours = span.as_secs() / 3_600;
    if (1..=365 * 24).contains(&hours) { Ok(span) } else { Err("events are kept from 1h to 365d") }
}

pub(super) fn journal_bytes(text: &str) -> Result<u64, &'static str> {
    let bytes = values::bytes(text)?;
    if bytes >= 16 << 20 { Ok(bytes) } else { Err("a journal has 16MiB at least") }
}

/// A peer's address with its id. Without one the key would have to be trusted on first use, and
/// nobody sits beside a configuration file to look at it.
pub(super) fn pinned(text: &str) -> Result<(NodeId, HostPort), String> {
    let address: PeerAddress = text.parse().map_err(|why| format!("{why}"))?;
    let id = address.id.ok_or("the id is missing: `afferent peers add` asks a bare address who answers there")?;
    Ok((id, address.at))
}
