//! Which addresses may be dialled, and on whose word.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Host, HostPort};

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

    fn socket(text: &str) -> SocketAddr {
        text.parse().expect("a socket address")
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
