//! How much anybody may ask of us: rates by neighbour and by source, and bytes of bodies in memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::nanos::Nanos;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::settings::Rate;
use crate::wire::NodeId;

/// Who is counted for what comes over a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Neighbour {
    /// A proved key.
    Node(NodeId),
    /// Nameless: the address, IPv6 by its /64.
    Address(IpAddr),
}

impl Neighbour {
    /// The proved key, else the address.
    pub(super) fn of(id: Option<NodeId>, ip: IpAddr) -> Neighbour {
        match id {
            Some(id) => Neighbour::Node(id),
            None => Neighbour::Address(address_of(ip)),
        }
    }
}

/// One customer's address: IPv4 whole, IPv6 by its /64.
pub(super) fn address_of(ip: IpAddr) -> IpAddr {
    masked(ip, 32, 64)
}

/// The block around it: IPv4 /24, IPv6 /48.
pub(super) fn block_of(ip: IpAddr) -> IpAddr {
    masked(ip, 24, 48)
}

fn masked(ip: IpAddr, v4: u32, v6: u32) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & (u32::MAX << (32 - v4))).into()),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & (u128::MAX << (128 - v6))).into()),
    }
}

/// The rates of lines. Who is known is asked at every check, so a new friend is served better at once.
pub(super) struct Rates {
    neighbours: [Limiter<Neighbour>; 2],
    sources: [Limiter<NodeId>; 2],
}

/// Known peers get this many times the rate.
const KNOWN_FACTOR: u32 = 10;

impl Rates {
    pub(super) fn new(rate: &Rate, keys_max: usize) -> Rates {
        let known = Rate {
            per_second: rate.per_second.saturating_mul(KNOWN_FACTOR),
            burst: rate.burst.saturating_mul(KNOWN_FACTOR),
        };
        Rates {
            neighbours: [Limiter::new(rate, keys_max), Limiter::new(&known, keys_max)],
            sources: [Limiter::new(rate, keys_max), Limiter::new(&known, keys_max)],
        }
    }

    /// One line from this neighbour.
    ///
    /// # Errors
    /// When the next one is welcome.
    pub(super) fn neighbour(&self, key: &Neighbour, is_known: bool) -> Result<(), Duration> {
        self.neighbours[usize::from(is_known)].check(key)
    }

    /// One line signed by this source.
    ///
    /// # Errors
    /// When the next one is welcome.
    pub(super) fn source(&self, key: &NodeId, is_known: bool) -> Result<(), Duration> {
        self.sources[usize::from(is_known)].check(key)
    }

    /// Forgets the keys that have their whole burst again; to be called every some seconds.
    pub(super) fn sweep(&self) {
        self.neighbours.iter().for_each(Limiter::sweep);
        self.sources.iter().for_each(Limiter::sweep);
    }
}

/// One bucket for each key.
pub(super) struct Limiter<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, Buckets<K>, DefaultClock>,
    clock: DefaultClock,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn new(rate: &Rate, keys_max: usize) -> Limiter<K> {
        let at_least_one = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(rate.per_second)).allow_burst(at_least_one(rate.burst));
        Limiter::of(quota, keys_max)
    }

    /// One in each `period`, that is not zero, and `burst` at once.
    pub(super) fn every(period: Duration, burst: u32, keys_max: usize) -> Self {
        let quota = Quota::with_period(period).expect("a period is longer than nothing");
        Limiter::of(quota.allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN)), keys_max)
    }

    fn of(quota: Quota, keys_max: usize) -> Self {
        let clock = DefaultClock::default();
        let buckets = Buckets { own: Mutex::default(), shared: InMemoryState::default(), keys_max };
        Limiter { limiter: RateLimiter::new(quota, buckets, clock.clone()), clock }
    }

    /// One more for this key.
    ///
    /// # Errors
    /// When the next one is welcome.
    pub(super) fn check(&self, key: &K) -> Result<(), Duration> {
        self.limiter.check_key(key).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Forgets the keys that have their whole burst again.
    pub(super) fn sweep(&self) {
        self.limiter.retain_recent();
    }
}

/// governor's own stores grow with every key. This one has a bucket of its own for the first
/// `keys_max` keys; later ones share one until a sweep makes room.
struct Buckets<K> {
    own: Mutex<HashMap<K, InMemoryState>>,
    shared: InMemoryState,
    keys_max: usize,
}

impl<K: Hash + Eq + Clone> StateStore for Buckets<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = own.get(key) {
            return bucket.measure_and_replace(&NotKeyed::NonKey, f);
        }
        if own.len() >= self.keys_max {
            return self.shared.measure_and_replace(&NotKeyed::NonKey, f);
        }
        own.entry(key.clone()).or_default().measure_and_replace(&NotKeyed::NonKey, f)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for Buckets<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|_, bucket| arrival(bucket).is_some_and(|arrival| arrival > drop_below));
    }

    fn len(&self) -> usize {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads a bucket without changing it: an update that declines.
fn arrival(bucket: &InMemoryState) -> Option<Nanos> {
    let look = |nanos: Option<Nanos>| Err::<((), Nanos), Option<Nanos>>(nanos);
    bucket.measure_and_replace(&NotKeyed::NonKey, look).err().flatten()
}

/// Bytes of request bodies in memory, so that many slow uploads cannot fill it. Strangers have a
/// half of their own and never the other.
pub(super) struct Bodies {
    halves: [Arc<Semaphore>; 2],
}

impl Bodies {
    pub(super) fn new(bytes: usize) -> Bodies {
        Bodies { halves: [(); 2].map(|()| Arc::new(Semaphore::new(bytes / 2))) }
    }

    /// Room for these bytes until the permit is dropped; `None` = no room now.
    pub(super) fn room(&self, bytes: usize, is_known: bool) -> Option<OwnedSemaphorePermit> {
        let half = Arc::clone(&self.halves[usize::from(is_known)]);
        half.try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 1, burst: 3 };

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_burst_passes_and_the_next_is_told_when() {
        let rates = Rates::new(&RATE, 10);
        let key = Neighbour::of(None, ip("192.0.2.1"));
        assert!((0..3).all(|_| rates.neighbour(&key, false).is_ok()));
        let wait = rates.neighbour(&key, false).expect_err("above the burst");
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert!((0..30).all(|_| rates.neighbour(&key, true).is_ok()), "known peers have ten times as much");
    }

    #[test]
    fn addresses_of_one_customer_are_one_key() {
        let of = |text| Neighbour::of(None, ip(text));
        assert_eq!(of("2a00:1:2:3::1"), of("2a00:1:2:3:ffff::2"));
        assert_ne!(of("2a00:1:2:3::1"), of("2a00:1:2:4::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!(block_of(ip("192.0.2.1")), block_of(ip("192.0.2.200")));
        assert_eq!(block_of(ip("2a00:1:2:3::1")), block_of(ip("2a00:1:2:ff::1")));
    }

    #[test]
    fn keys_beyond_the_bound_share_one_bucket() {
        let limiter = Limiter::new(&RATE, 2);
        let admitted = (0..1_000u32).filter(|key| limiter.check(key).is_ok()).count();
        assert_eq!(admitted, 2 + 3, "one each for two keys, one burst for all the others");
        assert_eq!(limiter.limiter.len(), 2);
    }

    #[test]
    fn a_sweep_keeps_the_keys_that_still_owe() {
        let limiter = Limiter::new(&Rate { per_second: 1_000_000, burst: 1 }, 10);
        let slow = Limiter::new(&RATE, 10);
        assert!(limiter.check(&1).is_ok() && slow.check(&1).is_ok());
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while !limiter.limiter.is_empty() && std::time::Instant::now() < deadline {
            limiter.sweep();
        }
        slow.sweep();
        assert!(limiter.limiter.is_empty());
        assert_eq!(slow.limiter.len(), 1);
    }

    #[test]
    fn strangers_cannot_use_up_the_memory_of_known_peers() {
        let bodies = Bodies::new(20);
        let first = bodies.room(10, false).expect("room");
        assert!(bodies.room(1, false).is_none());
        assert!(bodies.room(10, true).is_some());
        drop(first);
        assert!(bodies.room(10, false).is_some());
    }
}
