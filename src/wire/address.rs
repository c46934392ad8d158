//! Where a node can be reached: what a friend pastes, and which addresses may be dialled at all ([`Profile`]).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::identity::NodeId;

mod group;
mod policy;

pub use group::{Block, Group};
pub use policy::{Forbidden, Profile, Word};

/// The receptor's port when an address names none.
pub const PORT_DEFAULT: u16 = 7443;

/// An address of a peer that cannot be used, with the reason.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(pub &'static str);

/// A host as written: an IP literal in its one strict spelling, or a DNS name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A name to be resolved at every dial.
    Name(Arc<str>),
}

impl FromStr for Host {
    type Err = AddressError;

    /// Spellings of an IP address that some resolvers accept (`0x7f.1`, `2130706433`, `127.1`,
    /// `0177.0.0.1`) are neither addresses nor names here, so no check can be talked past.
    fn from_str(text: &str) -> Result<Host, AddressError> {
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Host::Ip(IpAddr::V4(ip)));
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(AddressError("an IPv6 address ends with `]`"))?;
            let ip = inner.parse::<Ipv6Addr>().map_err(|_| AddressError("not an IPv6 address in the brackets"))?;
            return Ok(Host::Ip(IpAddr::V6(ip).to_canonical()));
        }
        if text.contains(':') {
            return Err(AddressError("an IPv6 address goes in brackets: [2001:db8::1]:7443"));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() || name.len() > 253 || !name.split('.').all(is_label) {
            return Err(AddressError("not a host name"));
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        let looks_numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
        if looks_numeric {
            return Err(AddressError("an IPv4 address is written as four decimal numbers"));
        }
        Ok(Host::Name(name.into()))
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

/// Host and port: `birch.example:7443`, `192.0.2.1:7443`, `[2001:db8::1]:7443`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Where.
    pub host: Host,
    /// The receptor's TCP port, never 0.
    pub port: u16,
}

impl HostPort {
    /// The address of a socket.
    pub fn from_socket(address: SocketAddr) -> HostPort {
        HostPort { host: Host::Ip(address.ip().to_canonical()), port: address.port() }
    }
}

impl FromStr for HostPort {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<HostPort, AddressError> {
        let after_bracket = text.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match text[after_bracket..].rfind(':') {
            Some(at) => (&text[..after_bracket + at], Some(&text[after_bracket + at + 1..])),
            None => (text, None),
        };
        let port = match port {
            None => PORT_DEFAULT,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| AddressError("a port is 1 to 65535"))?
            }
            Some(_) => return Err(AddressError("a port is 1 to 65535")),
        };
        if port == 0 {
            return Err(AddressError("port 0 cannot be dialled"));
        }
        Ok(HostPort { host: host.parse()?, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.host, self.port))
    }
}

impl fmt::Debug for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for HostPort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HostPort, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a friend pastes: `mesh://<id>@host:port`, `<id>@host:port`, `https://host:port/#<id>`, or
/// `host:port` alone (then the first key seen there is shown and pinned).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerAddress {
    /// Whose key must answer there; `None` = trust on first use.
    pub id: Option<NodeId>,
    /// Where.
    pub at: HostPort,
}

impl FromStr for PeerAddress {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<PeerAddress, AddressError> {
        let text = text.trim();
        let id = |text: &str| {
            let wrong = AddressError("the node id is not one: 56 characters of a-z and 2-7 with a checksum");
            text.to_ascii_lowercase().parse::<NodeId>().map_err(|_| wrong)
        };
        if let Some(rest) = text.strip_prefix("https://") {
            let (place, fragment) = match rest.split_once('#') {
                Some((place, fragment)) => (place, Some(fragment)),
                None => (rest, None),
            };
            let at = place.strip_suffix('/').unwrap_or(place).parse()?;
            return Ok(PeerAddress { id: fragment.map(id).transpose()?, at });
        }
        let rest = text.strip_prefix("mesh://").unwrap_or(text);
        match rest.split_once('@') {
            Some((name, place)) => Ok(PeerAddress { id: Some(id(name)?), at: place.parse()? }),
            None if rest.to_ascii_lowercase().parse::<NodeId>().is_ok() => {
                Err(AddressError("an id alone says who and not where: mesh://ID@HOST:PORT"))
            }
            None => Ok(PeerAddress { id: None, at: rest.parse()? }),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => f.pad(&format!("mesh://{id}@{}", self.at)),
            None => self.at.fmt(f),
        }
    }
}

impl Serialize for PeerAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PeerAddress, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenawvib";

    #[test]
    fn every_form_that_a_friend_pastes_is_read() {
        let expected =
            PeerAddress { id: Some(ID.parse().expect("an id")), at: "birch.example:7443".parse().expect("a place") };
        for text in [
            format!("mesh://{ID}@birch.example:7443"),
            format!(" mesh://{ID}@Birch.example. \n"),
            format!("{ID}@birch.example:7443"),
            format!("{}@birch.example", ID.to_uppercase()),
            format!("https://birch.example:7443/#{ID}"),
        ] {
            assert_eq!(text.parse(), Ok(expected.clone()), "{text}");
        }
        assert_eq!("birch.example:7443".parse::<PeerAddress>().map(|address| address.id), Ok(None));
        let alone = AddressError("an id alone says who and not where: mesh://ID@HOST:PORT");
        for text in [format!("mesh://{ID}"), ID.to_owned()] {
            assert_eq!(text.parse::<PeerAddress>(), Err(alone.clone()), "{text}");
        }
        assert_eq!(expected.to_string(), format!("mesh://{ID}@birch.example:7443"));
        let v6 = format!("mesh://{ID}@[2001:4860::1]:7443");
        assert_eq!(v6.parse::<PeerAddress>().map(|address| address.to_string()), Ok(v6));
    }

    #[test]
    fn what_is_no_address_says_why() {
        for text in [
            "",
            "mesh://abc@x:1",
            "x:0",
            "x:65536",
            "x:",
            "x:+80",
            "2001:db8::1:7443",
            "[::1",
            "[zz]:1",
            "a b:1",
            "-x:1",
            "0x7f.1:80",
            "2130706433:80",
            "127.1:7443",
            "0177.0.0.1:7443",
            "1.2.3.256:7443",
            "x..y:1",
        ] {
            assert!(text.parse::<PeerAddress>().is_err(), "{text}");
        }
    }
}
