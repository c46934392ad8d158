//! Networks, as far as they matter for chance and quotas: who has many addresses in one network should
//! not count as many.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The part of the internet that an address is in: its IPv4 /16 or IPv6 /32. Whoever can get one
/// address there can easily get more, so a table spreads over groups (Heilman et al., "Eclipse
/// Attacks on Bitcoin's Peer-to-Peer Network").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group([u8; 5]);

/// The site that an address is in: its IPv4 /24 or IPv6 /48, about what one customer is given.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block([u8; 7]);

impl Group {
    /// The group of this address; an IPv4-mapped one is IPv4.
    pub fn of(ip: IpAddr) -> Group {
        Group(prefix(ip, [16, 32]))
    }

    /// As every hash takes it: 4 or 6 for the family, then the prefix, filled up with zeros.
    pub fn as_bytes(&self) -> &[u8; 5] {
        &self.0
    }
}

impl Block {
    /// The block of this address; an IPv4-mapped one is IPv4.
    pub fn of(ip: IpAddr) -> Block {
        Block(prefix(ip, [24, 48]))
    }

    /// As every hash takes it: 4 or 6 for the family, then the prefix, filled up with zeros.
    pub fn as_bytes(&self) -> &[u8; 7] {
        &self.0
    }
}

/// Family and the first bits of an address, whole bytes of them: `[bits of v4, bits of v6]`.
fn prefix<const N: usize>(ip: IpAddr, bits: [usize; 2]) -> [u8; N] {
    let mut bytes = [0; N];
    let mut put = |family: u8, octets: &[u8]| {
        bytes[0] = family;
        bytes[1..=octets.len()].copy_from_slice(octets);
    };
    match ip.to_canonical() {
        IpAddr::V4(ip) => put(4, &ip.octets()[..bits[0] / 8]),
        IpAddr::V6(ip) => put(6, &ip.octets()[..bits[1] / 8]),
    }
    bytes
}

/// `198.51.0.0/16`, `2001:db8::/32`.
fn show(f: &mut fmt::Formatter<'_>, bytes: &[u8], bits: [usize; 2]) -> fmt::Result {
    if bytes[0] == 4 {
        let mut octets = [0; 4];
        octets[..bits[0] / 8].copy_from_slice(&bytes[1..=bits[0] / 8]);
        write!(f, "{}/{}", Ipv4Addr::from(octets), bits[0])
    } else {
        let mut octets = [0; 16];
        octets[..bits[1] / 8].copy_from_slice(&bytes[1..=bits[1] / 8]);
        write!(f, "{}/{}", Ipv6Addr::from(octets), bits[1])
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, &self.0, [16, 32])
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, &self.0, [24, 48])
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses_of_one_network_are_one_group() {
        for (one, other, group, block) in [
            ("198.51.100.1", "198.51.100.254", true, true),
            ("198.51.100.1", "198.51.101.1", true, false),
            ("198.51.100.1", "198.52.100.1", false, false),
            ("127.3.0.1", "127.4.0.1", false, false),
            ("::ffff:198.51.100.1", "198.51.100.2", true, true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", true, true),
            ("2001:db8:1::1", "2001:db8:2::1", true, false),
            ("2001:db8::1", "2001:db9::1", false, false),
            ("4.0.0.0", "400::", false, false),
        ] {
            let (one, other) = (ip(one), ip(other));
            assert_eq!(Group::of(one) == Group::of(other), group, "{one} {other}");
            assert_eq!(Block::of(one) == Block::of(other), block, "{one} {other}");
        }
    }

    #[test]
    fn networks_are_shown_as_prefixes() {
        assert_eq!(Group::of(ip("198.51.100.1")).to_string(), "198.51.0.0/16");
        assert_eq!(Block::of(ip("198.51.100.1")).to_string(), "198.51.100.0/24");
        assert_eq!(Group::of(ip("2001:db8:1:2::1")).to_string(), "2001:db8::/32");
        assert_eq!(Block::of(ip("2001:db8:1:2::1")).to_string(), "2001:db8:1::/48");
        assert_eq!(Group::of(ip("198.51.100.1")).as_bytes(), &[4, 198, 51, 0, 0]);
        assert_eq!(Block::of(ip("2001:db8:1:2::1")).as_bytes(), &[6, 0x20, 0x01, 0x0d, 0xb8, 0, 1]);
    }
}
