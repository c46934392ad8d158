//! Tier 1 of discovery: reading what a zone says about a mesh.
//!
//! ```text
//!   SRV, TXT _mesh._tcp.<zone> -> manifest (when keys are pinned) -> RFC 2782 order, at most 32
//!        -> TXT, A, AAAA of each, 12 at a time -> address policy -> Found
//! ```
//!
//! How it is driven: `daemon` makes one [`Dns`] of the configuration and asks [`Dns::lookup`] whenever the
//! core wants this tier; every failure is one [`TierFault`], the other tiers go on, and when to ask again is
//! the asker's business. A lookup ends within [`Patience::whole`], with what it has by then.
//!
//! What it never does: it connects to nothing but the DNS server, believes nothing that it reads (an id is
//! proved at the dial, and a manifest counts under a pinned key alone), keeps no cache of its own, and lets
//! no text of a server into a message. Peers typed in by hand are resolved by the system as ever: the
//! server of `discovery.dns_server` is asked about zones and what they name only.
//!
//! The UDP pages of 3-discovery.md, for networks without TCP to port 53, and DNSSEC come later.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, timeout_at};

use crate::core::tier::Find;
use crate::time::Wall;
use crate::wire::address;
use crate::wire::zone::{Label, Manifest, NodeText, Service, ZoneError};
use crate::wire::{Host, HostPort, Network, NodeId, Profile, ZoneName};

mod ask;
mod fault;
mod order;

/// What bounds this room, for whoever prints it.
pub mod bounds {
    pub use super::ask::{HOST_ADDRESSES_MAX, SERVERS_MAX, TEXTS_MAX};
}

pub use ask::{Answer, Text, read_answer};
pub use fault::TierFault;
pub use order::order;

use ask::Server;

/// Entries of a zone that are looked at, the best by RFC 2782.
pub const ENTRIES_MAX: usize = 32;
/// Entries that are asked about at once.
const ENTRIES_AT_ONCE: usize = 12;
/// Manifests tried in one zone: more than one stands there only while a registrar key is changed.
pub const MANIFESTS_MAX: usize = 4;

/// What a lookup has to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `discovery.dns_server`: who is asked; `None` = the servers of `/etc/resolv.conf`, which is read
    /// again for each lookup.
    pub server: Option<SocketAddr>,
    /// `discovery.dns_keys`: registrar keys. Not empty = only what one of them signed counts.
    pub keys: Vec<NodeId>,
    /// This node, which does not look for itself.
    pub me: NodeId,
    /// Its own addresses, as far as they are known; none of them is brought.
    pub own: Vec<HostPort>,
    /// Entries of another network are passed over.
    pub network: Network,
    /// Which addresses may be dialled.
    pub profile: Profile,
    /// How long a server is waited for.
    pub patience: Patience,
}

/// How long a server is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// One question by UDP, its repetitions included, and the same again by TCP.
    pub question: Duration,
    /// A whole lookup.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { question: Duration::from_secs(2), whole: Duration::from_secs(6) }
    }
}

/// What a zone brought.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// In the order in which they are to be tried. Places are IP addresses that passed the policy.
    pub finds: Vec<Find>,
    /// Addresses that the policy refused, with its reasons.
    pub refused: Vec<Forbidden>,
    /// Entries of no use: without an address or a readable target, of another network, or whose id is not
    /// the one their label stands for.
    pub ignored: usize,
    /// This node stands in the zone itself.
    pub is_here: bool,
}

/// A place in a zone that may not be dialled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forbidden {
    /// Whose it is said to be.
    pub id: Option<NodeId>,
    /// Where.
    pub at: HostPort,
    /// Why not.
    pub why: address::Forbidden,
}

/// The reader of zones. It remembers the number of the newest manifest of each, so that an older one
/// is not believed again before a restart.
#[derive(Debug)]
pub struct Dns {
    settings: Settings,
    newest: Mutex<BTreeMap<ZoneName, u64>>,
}

impl Dns {
    /// Asks nobody yet.
    pub fn new(settings: Settings) -> Dns {
        Dns { settings, newest: Mutex::default() }
    }

    /// Who is in this zone? `now` decides whether a manifest has expired, `seed` is the chance in the
    /// order of entries that are equally good.
    ///
    /// Dropping the future gives the lookup up; nothing is lost but its answers.
    ///
    /// # Errors
    /// Why the tier brings nothing for now.
    pub async fn lookup(&self, zone: &ZoneName, now: Wall, seed: u64) -> Result<Found, TierFault> {
        let (found, fault) = self.look(zone, now, seed).await;
        fault.map_or(Ok(found), Err)
    }

    /// The same with all that was seen: what the policy refused can be told of a zone that brings nothing.
    pub async fn look(&self, zone: &ZoneName, now: Wall, seed: u64) -> (Found, Option<TierFault>) {
        let end = Instant::now() + self.settings.patience.whole;
        let read = async {
            let server = Server::open(self.settings.server, self.settings.patience.question)?;
            let reading = Box::pin(self.read(&server, zone, now));
            let listing = timeout_at(end, reading).await.unwrap_or(Err(TierFault::Silent))?;
            Ok((server, listing))
        };
        let (server, listing) = match read.await {
            Ok(read) => read,
            Err(fault) => return (Found::default(), Some(fault)),
        };
        let mut found = Found { ignored: listing.ignored, ..Found::default() };
        let mut rng = fastrand::Rng::with_seed(seed);
        let services = order(listing.services, |most| rng.u32(0..=most));
        let entries = services.into_iter().map(Entry::Service).chain(listing.by_hand.into_iter().map(Entry::Text));
        let visits = entries.take(ENTRIES_MAX).enumerate().map(|(place, entry)| {
            let visit = self.visit(&server, zone, entry);
            async move { (place, visit.await) }
        });
        let mut visits = stream::iter(visits).buffer_unordered(ENTRIES_AT_ONCE);
        let mut finds = BTreeMap::new();
        // Late ones are given up: what came in time is worth more than a failure.
        while let Ok(Some((place, visit))) = timeout_at(end, visits.next()).await {
            found.refused.extend(visit.refused);
            match visit.outcome {
                Outcome::Find(find) => drop(finds.insert(place, find)),
                Outcome::Ourselves => found.is_here = true,
                Outcome::Useless => found.ignored += 1,
            }
        }
        found.finds = finds.into_values().collect();
        let brings_nothing = found.finds.is_empty() && !found.is_here;
        let nothing = TierFault::Nothing { refused: found.refused.len(), ignored: found.ignored };
        (found, brings_nothing.then_some(nothing))
    }

    /// What stands at `_mesh._tcp.<zone>`, checked against its manifest when keys are pinned.
    async fn read(&self, server: &Server, zone: &ZoneName, now: Wall) -> Result<Listing, TierFault> {
        let name = zone.service();
        let (services, texts) = tokio::join!(server.services(&name), server.texts(&name));
        if !self.settings.keys.is_empty() {
            let texts = texts.map_err(|fault| if fault.is_absence() { TierFault::Unsigned } else { fault })?;
            let (services, ignored) = services?;
            self.check(zone, &services, &texts, now)?;
            return Listing { services, ignored, by_hand: Vec::new() }.checked();
        }
        let (services, ignored) = match services {
            Ok(services) => services,
            // A zone written by hand may have a TXT record and nothing else.
            Err(fault) if fault.is_absence() && texts.is_ok() => (Vec::new(), 0),
            Err(fault) => return Err(fault),
        };
        let by_hand = texts.unwrap_or_default().into_iter().filter_map(|text| NodeText::parse(&text).ok());
        let by_hand = by_hand.filter(|text| text.at.is_some()).take(ENTRIES_MAX).collect();
        Listing { services, ignored, by_hand }.checked()
    }

    /// Is there a manifest of a pinned key over these very entries?
    fn check(&self, zone: &ZoneName, services: &[Service], texts: &[Text], now: Wall) -> Result<(), TierFault> {
        let mut fault = TierFault::Unsigned;
        for text in texts.iter().filter(|text| Manifest::is_meant(text)).take(MANIFESTS_MAX) {
            let manifest = Manifest::parse(text).and_then(|manifest| manifest.verify(zone, &self.settings.keys));
            let manifest = manifest.and_then(|manifest| manifest.check(services, now).map(|()| manifest));
            match manifest.and_then(|manifest| self.is_newest(zone, manifest.seq)) {
                Ok(()) => return Ok(()),
                Err(error) => fault = TierFault::Manifest(error),
            }
        }
        Err(fault)
    }

    /// One number a zone: bounded by the zones that are configured.
    fn is_newest(&self, zone: &ZoneName, seq: u64) -> Result<(), ZoneError> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = newest.entry(zone.clone()).or_default();
        if seq < *newest {
            return Err(ZoneError::Older);
        }
        *newest = seq;
        Ok(())
    }

    /// Where one entry leads.
    async fn visit(&self, server: &Server, zone: &ZoneName, entry: Entry) -> Visit {
        let (node, label, places, port) = match &entry {
            Entry::Service(service) => {
                let target = service.target().unwrap_or_default();
                let (texts, addresses) = tokio::join!(server.texts(target), server.addresses(target));
                let node = texts.unwrap_or_default().iter().find_map(|text| NodeText::parse(text).ok());
                (node, zone.label_in(target), addresses, service.port)
            }
            Entry::Text(text) => match text.at.clone() {
                Some(HostPort { host: Host::Ip(ip), port }) => (Some(text.clone()), None, vec![ip], port),
                Some(HostPort { host: Host::Name(name), port }) => {
                    (Some(text.clone()), None, server.addresses(&name).await, port)
                }
                None => return Visit::useless(Vec::new()),
            },
        };
        if !self.is_credible(label, node.as_ref()) {
            return Visit::useless(Vec::new());
        }
        let id = node.map(|node| node.id);
        if id == Some(self.settings.me) {
            return Visit { outcome: Outcome::Ourselves, refused: Vec::new() };
        }
        let (at, refused) = self.allowed(id, &places, port);
        if at.is_empty() { Visit::useless(refused) } else { Visit { outcome: Outcome::Find(Find { id, at }), refused } }
    }

    /// A name with a label promises a key, and the text below it must have that key. In a signed zone every
    /// name has a label: who could change the rest of the zone could put himself in, otherwise.
    fn is_credible(&self, label: Option<Label>, node: Option<&NodeText>) -> bool {
        let is_promised = match label {
            Some(label) => node.is_some_and(|node| Label::of(&node.id) == label),
            None => self.settings.keys.is_empty(),
        };
        let network = node.and_then(|node| node.network.as_ref());
        is_promised && network.is_none_or(|network| *network == self.settings.network)
    }

    /// The places that may be dialled, each once, and those that may not.
    fn allowed(&self, id: Option<NodeId>, places: &[IpAddr], port: u16) -> (Vec<HostPort>, Vec<Forbidden>) {
        let (mut at, mut refused) = (Vec::new(), Vec::new());
        for ip in places {
            let place = HostPort::from_socket(SocketAddr::new(*ip, port));
            if let Err(why) = self.settings.profile.allows(SocketAddr::new(*ip, port)) {
                refused.push(Forbidden { id, at: place, why });
            } else if !at.contains(&place) && !self.settings.own.contains(&place) {
                at.push(place);
            }
        }
        at.truncate(crate::wire::record::ADDRESSES_MAX);
        (at, refused)
    }
}

/// What a zone lists.
struct Listing {
    services: Vec<Service>,
    /// Entries that cannot be read.
    ignored: usize,
    by_hand: Vec<NodeText>,
}

impl Listing {
    fn checked(mut self) -> Result<Listing, TierFault> {
        let before = self.services.len();
        self.services.retain(|service| service.target().is_some());
        match (self.services.is_empty() && self.by_hand.is_empty(), before, self.ignored) {
            (false, ..) => Ok(self),
            (true, 0, 0) => Err(TierFault::NoRecords),
            (true, 0, ignored) => Err(TierFault::Nothing { refused: 0, ignored }),
            (true, ..) => Err(TierFault::NoService),
        }
    }
}

/// One line of a listing.
enum Entry {
    Service(Service),
    Text(NodeText),
}

/// What became of an entry.
struct Visit {
    outcome: Outcome,
    refused: Vec<Forbidden>,
}

enum Outcome {
    Find(Find),
    Ourselves,
    Useless,
}

impl Visit {
    fn useless(refused: Vec<Forbidden>) -> Visit {
        Visit { outcome: Outcome::Useless, refused }
    }
}

#[cfg(test)]
mod tests;
