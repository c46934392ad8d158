//! From what a record or a person says to socket addresses that may be dialled.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::Counters;
use super::meet::{Miss, Unmet};
use crate::wire::address::Forbidden;
use crate::wire::{Host, HostPort, Profile, Word};

/// Addresses tried for one name.
pub const ADDRESSES_MAX: usize = 4;
/// For the system's resolver to answer.
const RESOLVE: Duration = Duration::from_secs(5);

/// Which addresses may be dialled, and where those are counted that may not.
pub(super) struct Policy<'a> {
    pub(super) profile: Profile,
    pub(super) word: Word,
    pub(super) counters: &'a Counters,
}

/// Resolves a place and keeps the addresses that the policy allows. It is asked about resolved addresses, so
/// no spelling and no name gets round it.
///
/// # Errors
/// Why there is none.
pub(super) async fn resolve(at: &HostPort, policy: &Policy<'_>) -> Result<Vec<SocketAddr>, Unmet> {
    let unresolved = |why| Err(Unmet { class: Miss::Unresolved, why });
    let found: Vec<SocketAddr> = match &at.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, at.port)],
        Host::Name(name) => match timeout(RESOLVE, tokio::net::lookup_host((name.as_ref(), at.port))).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(_)) => return unresolved(format!("{at} cannot be resolved")),
            Err(_) => return unresolved(format!("no answer from the resolver about {at}")),
        },
    };
    allowed(at, found, policy)
}

fn allowed(at: &HostPort, found: Vec<SocketAddr>, policy: &Policy<'_>) -> Result<Vec<SocketAddr>, Unmet> {
    // An address as such was judged when somebody told us of it: a name says no more than the word it comes on.
    let word = match (&at.host, policy.word) {
        (Host::Ip(_), Word::Far) => Word::Near,
        (_, word) => word,
    };
    let mut refused = None;
    let mut addresses = Vec::new();
    for address in found {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        match policy.profile.may_dial(word, address) {
            Err(why) => {
                policy.counters.forbid(why);
                refused = Some(refusal(at, address, &why));
            }
            Ok(()) if !addresses.contains(&address) => addresses.push(address),
            Ok(()) => {}
        }
    }
    addresses.truncate(ADDRESSES_MAX);
    match (addresses.is_empty(), refused) {
        (false, _) => Ok(addresses),
        (true, Some(why)) => Err(Unmet { class: Miss::Forbidden, why }),
        (true, None) => Err(Unmet { class: Miss::Unresolved, why: format!("{at} has no address") }),
    }
}

/// An address that was written as such is named once.
fn refusal(at: &HostPort, address: SocketAddr, why: &Forbidden) -> String {
    if HostPort::from_socket(address) == *at {
        format!("{at} is not dialled: it is {why}")
    } else {
        format!("{at} is not dialled: {address} is {why}")
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
        let counters = Counters::default();
        let policy = |profile, word| Policy { profile, word, counters: &counters };
        let found: Vec<SocketAddr> = ["10.0.0.1:7443", "8.8.8.8:7443", "[::ffff:8.8.8.8]:7443", "169.254.169.254:7443"]
            .iter()
            .map(|text| text.parse().expect("a socket address"))
            .collect();
        let at = place("birch.example:7443");
        let good = "8.8.8.8:7443".parse().expect("a socket address");
        let public = allowed(&at, found.clone(), &policy(Profile::Public, Word::Near)).expect("one");
        assert_eq!(public, [good]);
        assert_eq!(["private", "special", "loopback"].map(|word| counters.forbidden(word)), [1, 1, 0]);
        let private = |word| allowed(&at, found.clone(), &policy(Profile::Private, word)).expect("some").len();
        assert_eq!([Word::Typed, Word::Near, Word::Far].map(private), [3, 2, 1], "the word decides in a LAN");
        assert_eq!(counters.forbidden("elsewhere"), 1);
        let why = allowed(&at, found[3..].to_vec(), &policy(Profile::Private, Word::Near)).expect_err("none");
        assert_eq!(why.class, Miss::Forbidden);
        assert!(why.why.contains("birch.example:7443 is not dialled: 169.254.169.254:7443"), "{why}");
        assert!(allowed(&at, Vec::new(), &policy(Profile::Public, Word::Typed)).is_err());
    }

    #[tokio::test]
    async fn literals_are_checked_like_everything_else() {
        let counters = Counters::default();
        let count = async |at: &str, profile, word| {
            resolve(&place(at), &Policy { profile, word, counters: &counters }).await.map(|found| found.len()).ok()
        };
        assert_eq!(count("127.0.0.1:7443", Profile::Public, Word::Near).await, None);
        assert_eq!(count("[::1]:7443", Profile::Public, Word::Near).await, None);
        assert_eq!(count("[::ffff:127.0.0.1]:7443", Profile::Public, Word::Far).await, None);
        assert_eq!(counters.forbidden("loopback"), 3);
        assert_eq!(count("127.0.0.1:7443", Profile::Public, Word::Typed).await, Some(1));
        assert_eq!(count("127.0.0.1:7443", Profile::Loopback, Word::Near).await, Some(1));
        // Judged by whose word it is when it was told: `exchange::may_be_told`.
        assert_eq!(count("127.0.0.1:7443", Profile::Loopback, Word::Far).await, Some(1));
    }
}
