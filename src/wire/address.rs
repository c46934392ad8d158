//! Where a node can be reached: what a friend pastes, and which addresses may be dialled at all.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::identity::NodeId;

mod group;

pub use group::{Block, Group};

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

/// Which addresses learned from others may be dialled (3-discovery.md, "Address policy").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// The internet: globally routable addresses only.
    #[default]
    Public,
    /// A LAN or VPN: private and overlay ranges too.
    Private,
    /// Tests on one machine: 127.0.0.0/8 and `::1` too.
    Loopback,
}

/// Why the address policy keeps us from a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Forbidden {
    /// Something else than a node listens there, as a rule.
    #[error("a well-known service port of something else")]
    Service,
    /// This very machine.
    #[error("a loopback address")]
    Loopback,
    /// A LAN or an overlay network.
    #[error("a private address; allowed with node.profile = \"private\", or typed in by hand")]
    Private,
    /// It means another machine to whoever told us of it than to us.
    #[error("{0}")]
    Elsewhere(&'static str),
    /// No node is ever there.
    #[error("{0}")]
    Special(&'static str),
}

impl Forbidden {
    /// Every [`Forbidden::word`].
    pub const WORDS: [&str; 5] = ["service", "loopback", "private", "elsewhere", "special"];

    /// A stable word, for metrics.
    pub fn word(self) -> &'static str {
        Self::WORDS[match self {
            Forbidden::Service => 0,
            Forbidden::Loopback => 1,
            Forbidden::Private => 2,
            Forbidden::Elsewhere(_) => 3,
            Forbidden::Special(_) => 4,
        }]
    }
}

/// On whose word a place is dialled. A name is resolved at every dial, so what it may lead to hangs on who
/// told us of it and not on where it led when he did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// A person of this node typed it in: it leads anywhere.
    Typed,
    /// The operator's configuration led to it, or somebody who spoke to us from a private network or from this
    /// machine: it leads wherever the profile allows.
    Near,
    /// Somebody who spoke to us from the internet, or could have: it leads to the internet only.
    Far,
}

impl Word {
    /// Of somebody who spoke to us from this address.
    pub fn from(ip: IpAddr) -> Word {
        match reach(ip) {
            Reach::Private | Reach::Loopback => Word::Near,
            Reach::Global | Reach::Never(_) => Word::Far,
        }
    }
}

/// What kind of place an address is, coarse enough to decide who may tell us of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    Global,
    Private,
    Loopback,
    Never(&'static str),
}

impl Profile {
    /// May this resolved address be dialled when somebody else told us of it? Asked at ingest and
    /// again at the socket. An address typed in by hand is exempt.
    ///
    /// # Errors
    /// Why not.
    pub fn allows(self, address: SocketAddr) -> Result<(), Forbidden> {
        if is_service_port(address.port()) {
            return Err(Forbidden::Service);
        }
        match (reach(address.ip()), self) {
            (Reach::Never(why), _) => Err(Forbidden::Special(why)),
            (Reach::Loopback, Profile::Loopback) | (Reach::Global, _) => Ok(()),
            (Reach::Private, Profile::Private | Profile::Loopback) => Ok(()),
            (Reach::Loopback, _) => Err(Forbidden::Loopback),
            (Reach::Private, Profile::Public) => Err(Forbidden::Private),
        }
    }

    /// May this address be dialled, to which a name led that we have on this word? Asked at the socket, so
    /// that a name that leads elsewhere than it did before gets round nothing.
    ///
    /// # Errors
    /// Why not.
    pub fn may_dial(self, word: Word, address: SocketAddr) -> Result<(), Forbidden> {
        if word == Word::Typed {
            return Ok(());
        }
        self.allows(address)?;
        match (reach(address.ip()), word) {
            (Reach::Loopback, Word::Far) => Err(LOOPBACK_ELSEWHERE),
            (Reach::Private, Word::Far) => Err(PRIVATE_ELSEWHERE),
            _ => Ok(()),
        }
    }

    /// May somebody at `teller` tell us of this address? Besides what [`Profile::allows`] asks, loopback
    /// addresses come from loopback only, private ones from private and loopback: to anybody else they
    /// mean another machine than to us.
    ///
    /// # Errors
    /// Why not.
    pub fn may_relay(self, teller: IpAddr, address: SocketAddr) -> Result<(), Forbidden> {
        self.allows(address)?;
        match (reach(address.ip()), reach(teller)) {
            (Reach::Loopback, Reach::Loopback) | (Reach::Private, Reach::Loopback | Reach::Private) => Ok(()),
            (Reach::Loopback, _) => Err(LOOPBACK_ELSEWHERE),
            (Reach::Private, _) => Err(PRIVATE_ELSEWHERE),
            (Reach::Global | Reach::Never(_), _) => Ok(()),
        }
    }

    /// What [`Profile::allows`] asks of an address as written: names pass here and are checked once resolved.
    ///
    /// # Errors
    /// Why not.
    pub fn allows_host(self, at: &HostPort) -> Result<(), Forbidden> {
        match at.host {
            Host::Ip(ip) => self.allows(SocketAddr::new(ip, at.port)),
            Host::Name(_) if is_service_port(at.port) => Err(Forbidden::Service),
            Host::Name(_) => Ok(()),
        }
    }
}

const LOOPBACK_ELSEWHERE: Forbidden = Forbidden::Elsewhere("a loopback address, told by another machine");
const PRIVATE_ELSEWHERE: Forbidden = Forbidden::Elsewhere("a private address, told from another network");

/// Port 0, and everything below 1024 but HTTPS, and the usual stores: nothing of ours listens there,
/// so a record that names one wants us to knock at somebody else's door.
fn is_service_port(port: u16) -> bool {
    const STORES: [u16; 12] = [1433, 1521, 2049, 2375, 2379, 3306, 3389, 5432, 5672, 6379, 9200, 27017];
    (port < 1024 && port != 443) || STORES.contains(&port) || port == 11211
}

fn reach(ip: IpAddr) -> Reach {
    match ip.to_canonical() {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => reach_v6(ip),
    }
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        [0, ..] => Reach::Never("0.0.0.0/8"),
        [127, ..] => Reach::Loopback,
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] => Reach::Private,
        [100, 64..=127, ..] => Reach::Private, // overlay networks live in RFC 6598 space
        [169, 254, ..] => Reach::Never("a link-local address"),
        [192, 0, 0, _] => Reach::Never("an IETF protocol address"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Reach::Never("a documentation address"),
        [198, 18..=19, ..] => Reach::Never("a benchmarking address"),
        [192, 88, 99, _] => Reach::Never("a 6to4 relay address"),
        [224..=239, ..] => Reach::Never("a multicast address"),
        [240..=255, ..] => Reach::Never("a reserved address"),
        _ => Reach::Global,
    }
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Loopback,
        [0, 0, 0, 0, 0, 0, ..] => Reach::Never("an unspecified or IPv4-compatible address"),
        [0x64, 0xff9b, ..] => Reach::Never("a NAT64 address"),
        [0x2001, 0, ..] => Reach::Never("a Teredo address"),
        [0x2001, 0x0001..=0x01ff, ..] => Reach::Never("an IETF protocol address"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Reach::Never("a documentation address"),
        [0x2002, ..] => Reach::Never("a 6to4 address"),
        [0xfc00..=0xfdff, ..] => Reach::Private,
        [0xfe80..=0xfebf, ..] => Reach::Never("a link-local address"),
        [0xfec0..=0xfeff, ..] => Reach::Never("a site-local address"),
        [0xff00..=0xffff, ..] => Reach::Never("a multicast address"),
        [0x2000..=0x3fff, ..] => Reach::Global,
        _ => Reach::Never("an unassigned address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenawvib";

    fn socket(text: &str) -> SocketAddr {
        text.parse().expect("a socket address")
    }

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

    #[test]
    fn the_public_profile_dials_only_the_internet() {
        for bad in [
            "127.0.0.1:7443",
            "10.0.0.1:7443",
            "192.168.1.1:7443",
            "172.31.0.1:7443",
            "169.254.169.254:443",
            "100.64.0.1:7443",
            "0.0.0.0:7443",
            "224.0.0.1:7443",
            "255.255.255.255:7443",
            "192.0.2.1:7443",
            "198.18.0.1:7443",
            "[::1]:7443",
            "[::]:7443",
            "[fe80::1]:7443",
            "[fd00::1]:7443",
            "[::ffff:10.0.0.1]:7443",
            "[::ffff:169.254.169.254]:443",
            "[64:ff9b::a9fe:a9fe]:7443",
            "[2002:7f00:1::]:7443",
            "[2001:0:1::]:7443",
            "[2001:db8::1]:7443",
            "[2001:2::1]:7443",
            "[2001:20::1]:7443",
            "[ff02::1]:7443",
            "[::10.0.0.1]:7443",
            "8.8.8.8:53",
            "8.8.8.8:22",
            "8.8.8.8:6379",
            "8.8.8.8:0",
        ] {
            assert!(Profile::Public.allows(socket(bad)).is_err(), "{bad}");
        }
        for good in ["8.8.8.8:7443", "8.8.8.8:443", "[2a00:1450::1]:7443", "100.63.0.1:7443", "172.32.0.1:7443"] {
            assert_eq!(Profile::Public.allows(socket(good)), Ok(()), "{good}");
        }
    }

    #[test]
    fn nobody_tells_us_of_places_nearer_to_us_than_to_him() {
        let (loopback, private, global) = ("127.0.0.1:7443", "10.0.0.1:7443", "8.8.8.8:7443");
        for (teller, told, good) in [
            ("127.0.0.9", loopback, true),
            ("::1", loopback, true),
            ("10.0.0.2", loopback, false),
            ("8.8.4.4", loopback, false),
            ("127.0.0.9", private, true),
            ("192.168.1.1", private, true),
            ("fd00::1", private, true),
            ("::ffff:8.8.4.4", private, false),
            ("8.8.4.4", private, false),
            ("169.254.1.1", private, false),
            ("8.8.4.4", global, true),
            ("10.0.0.2", global, true),
            ("169.254.1.1", global, true),
        ] {
            let teller = teller.parse().expect("an address");
            assert_eq!(Profile::Loopback.may_relay(teller, socket(told)).is_ok(), good, "{teller} {told}");
        }
        let neighbour = "10.0.0.2".parse().expect("an address");
        assert!(Profile::Private.may_relay(neighbour, socket(private)).is_ok());
        assert!(Profile::Public.may_relay(neighbour, socket(private)).is_err(), "the profile decides first");
        assert!(Profile::Private.may_relay(neighbour, socket("169.254.169.254:443")).is_err());
        assert!(Profile::Private.may_relay(neighbour, socket("10.0.0.1:6379")).is_err());
    }

    #[test]
    fn a_name_leads_as_far_as_the_word_of_whoever_told_of_it() {
        use Word::{Far, Near, Typed};
        for (ip, word) in [
            ("127.0.0.9", Near),
            ("::ffff:10.1.2.3", Near),
            ("100.64.0.1", Near),
            ("fd00::1", Near),
            ("8.8.4.4", Far),
            ("::ffff:8.8.4.4", Far),
            ("169.254.1.1", Far),
            ("fe80::1", Far),
        ] {
            assert_eq!(Word::from(ip.parse().expect("an address")), word, "{ip}");
        }
        for (profile, address, good) in [
            (Profile::Public, "8.8.8.8:7443", [true, true, true]),
            (Profile::Public, "10.0.0.1:7443", [true, false, false]),
            (Profile::Private, "10.0.0.1:7443", [true, true, false]),
            (Profile::Private, "[::ffff:10.0.0.1]:7443", [true, true, false]),
            (Profile::Private, "127.0.0.1:7443", [true, false, false]),
            (Profile::Private, "169.254.169.254:443", [true, false, false]),
            (Profile::Private, "10.0.0.1:6379", [true, false, false]),
            (Profile::Loopback, "127.0.0.1:7443", [true, true, false]),
        ] {
            let told = [Typed, Near, Far].map(|word| profile.may_dial(word, socket(address)).is_ok());
            assert_eq!(told, good, "{profile:?} {address}");
        }
    }

    #[test]
    fn every_reason_of_the_policy_has_its_word() {
        let words = [
            (Profile::Public, Word::Near, "8.8.8.8:22"),
            (Profile::Public, Word::Near, "127.0.0.1:7443"),
            (Profile::Public, Word::Near, "10.0.0.1:7443"),
            (Profile::Private, Word::Far, "10.0.0.1:7443"),
            (Profile::Public, Word::Near, "169.254.169.254:7443"),
        ]
        .map(|(profile, word, at)| profile.may_dial(word, socket(at)).expect_err(at).word());
        assert_eq!(words, Forbidden::WORDS);
    }

    #[test]
    fn the_other_profiles_open_their_own_ranges_and_no_more() {
        assert!(Profile::Private.allows(socket("10.0.0.1:7443")).is_ok());
        assert!(Profile::Private.allows(socket("100.64.0.1:7443")).is_ok());
        assert!(Profile::Private.allows(socket("127.0.0.1:7443")).is_err());
        assert!(Profile::Loopback.allows(socket("127.3.2.1:7443")).is_ok());
        assert!(Profile::Loopback.allows(socket("127.0.0.1:6379")).is_err());
        assert!(Profile::Loopback.allows(socket("169.254.169.254:443")).is_err());
    }
}
