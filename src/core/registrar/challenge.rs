//! Work before words: a puzzle that costs the asker a fifth of a second and us two hashes, and that
//! nothing has to be remembered for.
//!
//! ```text
//! text = base64url( 1 ‖ bits ‖ expires u64 BE ‖ nonce 16 ‖ HMAC-SHA-256(secret, what is before ‖ id 32 ‖ network) )
//! work = SHA-256( text ‖ 0x00 ‖ counter u64 BE ) begins with `bits` zero bits
//! ```
//!
//! Id and network (/24 or /64) are under the HMAC and not in the text: a challenge works for the node and
//! from the place it was given to. Shown again within its time, it lets the same node do the same thing.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};

use crate::time::Wall;
use crate::wire::NodeId;

/// How long a challenge is good.
pub const LIFE: Duration = Duration::from_secs(120);
/// More than this many bits (a quarter of a minute) no node does for anybody.
pub const BITS_MAX: u8 = 26;
/// Longest challenge that a node takes up, in characters.
pub const TEXT_MAX: usize = 128;

const VERSION: u8 = 1;
const HEAD: usize = 1 + 1 + 8 + 16;
const WHOLE: usize = HEAD + 32;
const DOMAIN: &[u8] = b"afferent-registrar-challenge";

/// What challenges are made with. Registrars that share it take each other's.
#[derive(Clone)]
pub struct Secret([u8; 32]);

/// What is wrong with a challenge that came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChallengeError {
    /// Not one of ours, or another node's or network's.
    #[error("the challenge was not given to this node at this address")]
    Foreign,
    /// Too late.
    #[error("the challenge is more than 120 s old")]
    Expired,
}

impl Secret {
    /// From the secret half of the registrar's key, which it tells nothing about.
    pub fn of_seed(seed: &[u8; 32]) -> Secret {
        Secret(Sha256::new().chain_update(DOMAIN).chain_update(seed).finalize().into())
    }

    /// A challenge for `id` asking from `asker`; chance is the caller's.
    pub fn challenge(&self, id: &NodeId, asker: IpAddr, bits: u8, nonce: [u8; 16], now: Wall) -> String {
        let expires = u64::try_from((now + LIFE).as_secs()).unwrap_or(0);
        let mut raw = Vec::with_capacity(WHOLE);
        raw.extend_from_slice(&[VERSION, bits]);
        raw.extend_from_slice(&expires.to_be_bytes());
        raw.extend_from_slice(&nonce);
        let mac = self.mac(&raw, id, asker).finalize().into_bytes();
        raw.extend_from_slice(&mac);
        BASE64URL_NOPAD.encode(&raw)
    }

    /// How many bits this challenge asks for, if it is one that was given to `id` at `asker`.
    ///
    /// # Errors
    /// [`ChallengeError`].
    pub fn check(&self, text: &str, id: &NodeId, asker: IpAddr, now: Wall) -> Result<u8, ChallengeError> {
        let raw = match text.len() <= TEXT_MAX {
            true => BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| ChallengeError::Foreign)?,
            false => return Err(ChallengeError::Foreign),
        };
        let (head, mac) = raw.split_at_checked(HEAD).ok_or(ChallengeError::Foreign)?;
        self.mac(head, id, asker).verify_slice(mac).map_err(|_| ChallengeError::Foreign)?;
        let expires = u64::from_be_bytes(head[2..10].try_into().expect("8 of 26 bytes"));
        let seconds = u64::try_from(now.as_secs()).unwrap_or(0);
        // One of the future was made by a registrar whose clock is ahead: it would be good for too long.
        let is_of_now = seconds <= expires && expires <= seconds.saturating_add(2 * LIFE.as_secs());
        if head[0] == VERSION && is_of_now { Ok(head[1]) } else { Err(ChallengeError::Expired) }
    }

    fn mac(&self, head: &[u8], id: &NodeId, asker: IpAddr) -> Hmac<Sha256> {
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0).expect("any length is a key");
        mac.chain_update(DOMAIN).chain_update(head).chain_update(id.as_bytes()).chain_update(network(asker))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The /24 or /64 of an address: who asks and who registers may have two addresses of one pool.
fn network(ip: IpAddr) -> [u8; 9] {
    let mut network = [0; 9];
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            network[0] = 4;
            network[1..4].copy_from_slice(&ip.octets()[..3]);
        }
        IpAddr::V6(ip) => {
            network[0] = 6;
            network[1..].copy_from_slice(&ip.octets()[..8]);
        }
    }
    network
}

/// Is this the counter that was looked for?
pub fn is_done(challenge: &str, bits: u8, counter: u64) -> bool {
    has_bits(&prefix(challenge), bits, counter)
}

/// Tries these counters; `None` = none of them is good. One takes a fifth of a microsecond.
pub fn search(challenge: &str, bits: u8, counters: Range<u64>) -> Option<u64> {
    let prefix = prefix(challenge);
    counters.into_iter().find(|&counter| has_bits(&prefix, bits, counter))
}

fn prefix(challenge: &str) -> Sha256 {
    Sha256::new().chain_update(challenge).chain_update([0])
}

fn has_bits(prefix: &Sha256, bits: u8, counter: u64) -> bool {
    let hash: [u8; 32] = prefix.clone().chain_update(counter.to_be_bytes()).finalize().into();
    let mut left = u32::from(bits);
    for byte in hash {
        if left == 0 {
            break;
        }
        let zeros = byte.leading_zeros();
        if zeros < left.min(8) {
            return false;
        }
        left = left.saturating_sub(8);
    }
    left == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;
    use proptest::prelude::*;

    const NOW: Wall = Wall::from_millis(1_795_243_262_123);

    fn id(seed: u8) -> NodeId {
        Keypair::from_seed(&[seed; 32]).id()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn given(to: &NodeId, at: &str) -> String {
        Secret::of_seed(&[9; 32]).challenge(to, ip(at), 8, [3; 16], NOW)
    }

    #[test]
    fn a_challenge_is_good_for_one_node_in_one_network_for_two_minutes() {
        let secret = Secret::of_seed(&[9; 32]);
        let text = given(&id(1), "192.0.2.1");
        assert!(text.len() <= TEXT_MAX);
        let check =
            |node: u8, at: &str, later: u64| secret.check(&text, &id(node), ip(at), NOW + Duration::from_secs(later));
        assert_eq!(check(1, "192.0.2.1", 0), Ok(8));
        assert_eq!(check(1, "192.0.2.77", 120), Ok(8), "another address of the same /24");
        assert_eq!(check(1, "192.0.2.1", 121), Err(ChallengeError::Expired));
        assert_eq!(check(2, "192.0.2.1", 0), Err(ChallengeError::Foreign), "replayed for another id");
        assert_eq!(check(1, "192.0.3.1", 0), Err(ChallengeError::Foreign));
        assert_eq!(check(1, "2001:db8::1", 0), Err(ChallengeError::Foreign));
        let other = Secret::of_seed(&[8; 32]);
        assert_eq!(other.check(&text, &id(1), ip("192.0.2.1"), NOW), Err(ChallengeError::Foreign));
        assert_eq!(secret.check(&text, &id(1), ip("192.0.2.1"), NOW - LIFE * 3), Err(ChallengeError::Expired));
    }

    #[test]
    fn a_subscriber_of_ipv6_is_a_64() {
        let secret = Secret::of_seed(&[9; 32]);
        let text = given(&id(1), "2001:db8:1:2::1");
        assert_eq!(secret.check(&text, &id(1), ip("2001:db8:1:2:ffff::9"), NOW), Ok(8));
        assert!(secret.check(&text, &id(1), ip("2001:db8:1:3::1"), NOW).is_err());
    }

    #[test]
    fn work_is_found_and_checked() {
        let text = given(&id(1), "192.0.2.1");
        let counter = search(&text, 8, 0..1 << 20).expect("one in 256 is good");
        assert!(is_done(&text, 8, counter));
        let bad = (0..1 << 20).find(|&counter| !is_done(&text, 8, counter)).expect("most are not");
        assert!(!is_done(&text, 8, bad));
        assert!(is_done(&text, 0, bad), "no work asked for");
        assert_eq!(search(&text, 60, 0..100), None);
    }

    #[test]
    fn the_bits_are_the_leading_ones() {
        // Counted on the hash itself.
        let text = given(&id(1), "192.0.2.1");
        for counter in 0..2_000u64 {
            let hash = prefix(&text).chain_update(counter.to_be_bytes()).finalize();
            let zeros = hash.iter().fold((0, true), |(sum, goes_on), byte| match goes_on {
                true => (sum + byte.leading_zeros(), *byte == 0),
                false => (sum, false),
            });
            for bits in 0..20 {
                assert_eq!(is_done(&text, bits, counter), zeros.0 >= u32::from(bits), "{counter} {bits}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_back_changed_is_not_ours(at in 0usize..78, byte in any::<u8>()) {
            let mut text = given(&id(1), "192.0.2.1").into_bytes();
            let at = at % text.len();
            prop_assume!(text[at] != byte);
            text[at] = byte;
            let text = String::from_utf8_lossy(&text).into_owned();
            prop_assert!(Secret::of_seed(&[9; 32]).check(&text, &id(1), ip("192.0.2.1"), NOW).is_err());
        }

        #[test]
        fn no_text_is_a_challenge(text in ".{0,200}") {
            prop_assert!(Secret::of_seed(&[9; 32]).check(&text, &id(1), ip("192.0.2.1"), NOW).is_err());
        }
    }
}
