//! From what a record or a person says to socket addresses that may be dialled.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use crate::wire::{Host, HostPort, Profile};

/// Addresses tried for one name.
pub const ADDRESSES_MAX: usize = 4;
/// For the system's resolver to answer.
const RESOLVE: Duration = Duration::from_secs(5);

/// Resolves a place and keeps the addresses that the policy allows; all of them when it was typed in
/// `by_hand`. The policy is asked about resolved addresses, so no spelling and no name gets round it.
///
/// # Errors
/// Why there is none, for people.
pub(super) async fn resolve(at: &HostPort, profile: Profile, by_hand: bool) -> Result<Vec<SocketAddr>, String> {
    let found: Vec<SocketAddr> = match &at.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, at.port)],
        Host::Name(name) => match timeout(RESOLVE, tokio::net::lookup_host((name.as_ref(), at.port))).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(_)) => return Err(format!("{at} cannot be resolved")),
            Err(_) => return Err(format!("no answer from the resolver about {at}")),
        },
    };
    allowed(at, found, profile, by_hand)
}

fn allowed(at: &HostPort, found: Vec<SocketAddr>, profile: Profile, by_hand: bool) -> Result<Vec<SocketAddr>, String> {
    let mut refused = None;
    let mut addresses = Vec::new();
    for address in found {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        match profile.allows(address) {
            Err(why) if !by_hand => refused = Some(format!("{at} is not dialled: {address} is {why}")),
            _ if !addresses.contains(&address) => addresses.push(address),
            _ => {}
        }
    }
    addresses.truncate(ADDRESSES_MAX);
    match (addresses.is_empty(), refused) {
        (false, _) => Ok(addresses),
        (true, Some(why)) => Err(why),
        (true, None) => Err(format!("{at} has no address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> HostPort {
        text.parse().expect("a place")
    }

    #[test]
    fn only_allowed_addresses_are_left_unless_typed_in_by_hand() {
        let found: Vec<SocketAddr> = ["10.0.0.1:7443", "8.8.8.8:7443", "[::ffff:8.8.8.8]:7443", "169.254.169.254:7443"]
            .iter()
            .map(|text| text.parse().expect("a socket address"))
            .collect();
        let at = place("birch.example:7443");
        let public = allowed(&at, found.clone(), Profile::Public, false).expect("one");
        assert_eq!(public, ["8.8.8.8:7443".parse().expect("a socket address")]);
        assert_eq!(allowed(&at, found.clone(), Profile::Public, true).expect("all").len(), 3);
        let why = allowed(&at, found[3..].to_vec(), Profile::Private, false).expect_err("none");
        assert!(why.contains("birch.example:7443 is not dialled: 169.254.169.254:7443"), "{why}");
        assert!(allowed(&at, Vec::new(), Profile::Public, true).is_err());
    }

    #[tokio::test]
    async fn literals_are_checked_like_everything_else() {
        assert!(resolve(&place("127.0.0.1:7443"), Profile::Public, false).await.is_err());
        assert!(resolve(&place("[::1]:7443"), Profile::Public, false).await.is_err());
        assert_eq!(resolve(&place("127.0.0.1:7443"), Profile::Public, true).await.map(|found| found.len()), Ok(1));
        assert_eq!(resolve(&place("127.0.0.1:7443"), Profile::Loopback, false).await.map(|found| found.len()), Ok(1));
    }
}
