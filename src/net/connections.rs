//! How many connections, and whose: places are given out at accept and again once TLS says who it is.
//!
//! A known peer is known by its key, so only after its handshake. Hence two doors. The outer one
//! counts everybody, by address and in all; when all places are taken, the oldest unfinished
//! handshake gives way, so half-open connections never keep anybody out for longer than their own
//! handshake takes. The inner one keeps some places free of strangers.
//!
//! In [`Profile::Loopback`] loopback addresses are not counted one by one: everybody is there.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::limits::{address_of, block_of};
use super::settings::Limits;
use crate::wire::Profile;

/// The doorkeeper.
pub(super) struct Gate {
    places: usize,
    places_for_strangers: usize,
    per_address: usize,
    per_block: usize,
    is_loopback: bool,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    in_all: usize,
    strangers: usize,
    addresses: HashMap<IpAddr, usize>,
    blocks: HashMap<IpAddr, usize>,
    /// In the order of their arrival; a sender that is gone tells its connection to give way.
    handshaking: BTreeMap<u64, oneshot::Sender<()>>,
}

/// No place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

/// A place, given back when dropped.
pub(super) struct Place {
    gate: Arc<Gate>,
    number: u64,
    ip: Option<IpAddr>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Handshaking,
    Stranger,
    Known,
}

impl Gate {
    pub(super) fn new(limits: &Limits, profile: Profile) -> Arc<Gate> {
        Arc::new(Gate {
            places: limits.connections,
            places_for_strangers: limits.connections.saturating_sub(limits.connections_for_known),
            per_address: limits.connections_per_address,
            per_block: limits.connections_per_block,
            is_loopback: profile == Profile::Loopback,
            taken: Mutex::default(),
        })
    }

    /// Lets a connection in as far as TLS. The receiver ends early when it has to give way.
    ///
    /// # Errors
    /// [`Full`] for this address or in all.
    pub(super) fn admit(self: &Arc<Gate>, ip: IpAddr) -> Result<(Place, oneshot::Receiver<()>), Full> {
        let ip = ip.to_canonical();
        let counted = (!(self.is_loopback && ip.is_loopback())).then_some(ip);
        let mut taken = self.taken();
        if let Some(ip) = counted {
            let has = |map: &HashMap<IpAddr, usize>, key| map.get(&key).copied().unwrap_or(0);
            if has(&taken.addresses, address_of(ip)) >= self.per_address
                || has(&taken.blocks, block_of(ip)) >= self.per_block
            {
                return Err(Full);
            }
        }
        if taken.in_all >= self.places {
            taken.handshaking.pop_first().ok_or(Full)?;
            taken.in_all -= 1;
        }
        if let Some(ip) = counted {
            *taken.addresses.entry(address_of(ip)).or_default() += 1;
            *taken.blocks.entry(block_of(ip)).or_default() += 1;
        }
        let number = taken.next;
        taken.next += 1;
        taken.in_all += 1;
        let (holds, gives_way) = oneshot::channel();
        taken.handshaking.insert(number, holds);
        Ok((Place { gate: Arc::clone(self), number, ip: counted, stage: Stage::Handshaking }, gives_way))
    }

    /// Connections now, handshakes included.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.taken().in_all
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The handshake is done and says whether this is a known peer.
    ///
    /// # Errors
    /// [`Full`] for strangers; or the place was given to somebody else a moment ago.
    pub(super) fn settle(&mut self, is_known: bool) -> Result<(), Full> {
        let mut taken = self.gate.taken();
        if !taken.handshaking.contains_key(&self.number) {
            return Err(Full);
        }
        if !is_known && taken.strangers >= self.gate.places_for_strangers {
            return Err(Full);
        }
        taken.handshaking.remove(&self.number);
        self.stage = if is_known { Stage::Known } else { Stage::Stranger };
        taken.strangers += usize::from(!is_known);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.gate.taken();
        let gave_way = self.stage == Stage::Handshaking && taken.handshaking.remove(&self.number).is_none();
        taken.in_all -= usize::from(!gave_way);
        taken.strangers -= usize::from(self.stage == Stage::Stranger);
        if let Some(ip) = self.ip {
            release(&mut taken.addresses, address_of(ip));
            release(&mut taken.blocks, block_of(ip));
        }
    }
}

fn release(map: &mut HashMap<IpAddr, usize>, key: IpAddr) {
    if let Some(count) = map.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            map.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(profile: Profile) -> Arc<Gate> {
        let limits = Limits {
            connections: 10,
            connections_for_known: 2,
            connections_per_address: 2,
            connections_per_block: 3,
            ..Limits::default()
        };
        Gate::new(&limits, profile)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_and_a_block_have_their_share_and_give_it_back() {
        let gate = gate(Profile::Public);
        let first = gate.admit(ip("8.8.8.1")).expect("a place");
        let second = gate.admit(ip("8.8.8.1")).expect("a place");
        assert!(gate.admit(ip("8.8.8.1")).is_err(), "two for one address");
        let third = gate.admit(ip("8.8.8.2")).expect("a place");
        assert!(gate.admit(ip("8.8.8.3")).is_err(), "three for one block");
        assert!(gate.admit(ip("8.8.9.1")).is_ok());
        drop(first);
        assert!(gate.admit(ip("8.8.8.3")).is_ok());
        drop((second, third));
        assert_eq!(gate.count(), 0);
        assert!(gate.taken().addresses.is_empty() && gate.taken().blocks.is_empty());
    }

    #[test]
    fn strangers_leave_places_for_known_peers() {
        let gate = gate(Profile::Loopback);
        let mut held = Vec::new();
        for _ in 0..8 {
            let (mut place, _) = gate.admit(ip("127.0.0.1")).expect("a place");
            assert_eq!(place.settle(false), Ok(()));
            held.push(place);
        }
        let (mut stranger, _) = gate.admit(ip("127.0.0.1")).expect("as far as TLS");
        assert_eq!(stranger.settle(false), Err(Full));
        let (mut friend, _) = gate.admit(ip("127.0.0.1")).expect("as far as TLS");
        assert_eq!(friend.settle(true), Ok(()));
    }

    #[test]
    fn the_oldest_handshake_gives_way_when_all_places_are_taken() {
        let gate = gate(Profile::Loopback);
        let mut held: Vec<_> = (0..10).map(|_| gate.admit(ip("127.0.0.1")).expect("a place")).collect();
        let (mut newest, _) = gate.admit(ip("127.0.0.1")).expect("a place that another gave up");
        assert_eq!(gate.count(), 10);
        assert!(held[0].1.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        assert_eq!(held[0].0.settle(true), Err(Full));
        assert_eq!(newest.settle(true), Ok(()));
        assert_eq!(held[1].0.settle(true), Ok(()));
        held.clear();
        assert_eq!(gate.count(), 1);
    }

    #[test]
    fn settled_connections_never_give_way() {
        let gate = gate(Profile::Loopback);
        let mut held: Vec<_> = (0..10).map(|_| gate.admit(ip("127.0.0.1")).expect("a place")).collect();
        assert!(held.iter_mut().all(|(place, _)| place.settle(true).is_ok()));
        assert!(gate.admit(ip("127.0.0.1")).is_err());
    }
}
