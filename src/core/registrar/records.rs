//! The zone as resource records: read into a [`Listing`], and written as the difference to what it
//! should say.
//!
//! Ours are the SRV records whose target is a label below `n.<zone>`, everything at such labels and at
//! `_reg.` before them, and the manifest. Whatever else stands in the zone is somebody else's: it is
//! signed with the rest of the list, takes up a place, and is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{Entry, Listing};
use crate::time::Wall;
use crate::wire::zone::{Label, Manifest, NodeText, Service, Tenure, ZoneName};
use crate::wire::{Keypair, Network, NodeId};

/// Of the list and its manifest.
pub const LIST_TTL: u32 = 60;
/// Of what stands at a node's label.
pub const NODE_TTL: u32 = 300;
/// How long a manifest is good: some sweeps may fail.
pub const MANIFEST_LIFE: Duration = Duration::from_secs(7_200);

/// One resource record of the class IN.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rr {
    /// Its whole name in lower case, without the final dot.
    pub owner: String,
    /// Seconds.
    pub ttl: u32,
    /// Type and value.
    pub data: Data,
}

/// The types that a registrar has to do with.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Data {
    /// SRV.
    Srv(Service),
    /// TXT: its strings.
    Txt(Vec<Vec<u8>>),
    /// A.
    A(Ipv4Addr),
    /// AAAA.
    Aaaa(Ipv6Addr),
}

impl Data {
    fn text(strings: Vec<String>) -> Data {
        Data::Txt(strings.into_iter().map(String::into_bytes).collect())
    }

    fn address(ip: IpAddr) -> Data {
        match ip {
            IpAddr::V4(ip) => Data::A(ip),
            IpAddr::V6(ip) => Data::Aaaa(ip),
        }
    }
}

/// What is asked of the name server: all of it or nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The name whose TXT records must be exactly `was`; if that is empty, there must be none.
    pub owner: String,
    /// Those that were read.
    pub was: Vec<Rr>,
    /// First these go.
    pub delete: Vec<Rr>,
    /// Then these come.
    pub add: Vec<Rr>,
}

/// One zone and the key that signs it.
#[derive(Clone, Debug)]
pub struct Book {
    /// Which zone.
    pub zone: ZoneName,
    /// Of the nodes in it.
    pub network: Network,
    /// Signs manifests and tenures.
    pub key: Keypair,
    /// Other registrars of this zone: their tenures are believed.
    pub fellows: Vec<NodeId>,
}

impl Book {
    /// Who stands in the zone. What does not fit together is passed over, and goes with the next change.
    pub fn read(&self, records: &BTreeSet<Rr>, now: Wall) -> Listing {
        let mut pinned = self.fellows.clone();
        pinned.push(self.key.id());
        let at_service = self.zone.service();
        let mut entries = BTreeMap::new();
        let mut by_hand = 0;
        for record in records.iter().filter(|record| record.owner == at_service) {
            let Data::Srv(service) = &record.data else { continue };
            match service.target().and_then(|target| self.zone.label_in(target)) {
                Some(label) => entries.extend(self.entry(records, service.port, &label, &pinned, now)),
                None => by_hand += 1,
            }
        }
        Listing::new(entries, by_hand)
    }

    fn entry(
        &self,
        records: &BTreeSet<Rr>,
        port: u16,
        label: &Label,
        pinned: &[NodeId],
        now: Wall,
    ) -> Option<(NodeId, Entry)> {
        let at = |owner: String| records.iter().filter(move |record| record.owner == owner).map(|record| &record.data);
        let ip = at(self.zone.node(label)).find_map(|data| match data {
            Data::A(ip) => Some(IpAddr::V4(*ip)),
            Data::Aaaa(ip) => Some(IpAddr::V6(*ip)),
            _ => None,
        })?;
        let node = at(self.zone.node(label)).find_map(|data| match data {
            Data::Txt(strings) => NodeText::parse(strings).ok(),
            _ => None,
        })?;
        let is_ours = node.network.as_ref().is_none_or(|network| *network == self.network);
        if Label::of(&node.id) != *label || !is_ours {
            return None;
        }
        let tenure = at(self.zone.tenure(label)).find_map(|data| match data {
            Data::Txt(strings) => Tenure::parse(strings).ok()?.verify(&self.zone, label, pinned).ok(),
            _ => None,
        });
        // A clock that was set back makes nobody's time here longer.
        let moment = |seconds: u64| wall(seconds).min(now);
        let entry = match tenure {
            Some(tenure) => Entry {
                at: SocketAddr::new(ip, port),
                seq: node.seq.unwrap_or(0),
                since: moment(tenure.since),
                ok: moment(tenure.ok),
                score: tenure.score,
            },
            // Nobody we believe has seen it before.
            None => Entry { at: SocketAddr::new(ip, port), seq: node.seq.unwrap_or(0), since: now, ok: now, score: 1 },
        };
        Some((node.id, entry))
    }

    /// What has to be done so that the zone, which says `records` now, says `listing`.
    pub fn write(&self, records: &BTreeSet<Rr>, listing: &Listing, now: Wall) -> Change {
        let owner = self.zone.service();
        let is_of_list = |record: &&Rr| record.owner == owner;
        let was: Vec<Rr> =
            records.iter().filter(is_of_list).filter(|rr| matches!(rr.data, Data::Txt(_))).cloned().collect();
        let mut wanted: BTreeSet<Rr> = records.iter().filter(|record| !self.is_ours(record)).cloned().collect();
        for (id, entry) in listing.entries() {
            wanted.extend(self.records_of(id, entry, now));
        }
        let services: Vec<Service> = wanted
            .iter()
            .filter(is_of_list)
            .filter_map(|record| match &record.data {
                Data::Srv(service) => Some(service.clone()),
                _ => None,
            })
            .collect();
        let before = was.iter().filter_map(manifest).map(|manifest| manifest.seq).max();
        let seq = before.map_or(0, |seq| seq.saturating_add(1)).max(seconds(now));
        let manifest = Manifest::sign(&self.key, &self.zone, seq, seconds(now + MANIFEST_LIFE), &services);
        wanted.insert(Rr { owner: owner.clone(), ttl: LIST_TTL, data: Data::text(manifest.strings()) });
        let delete = records.difference(&wanted).cloned().collect();
        let add = wanted.difference(records).cloned().collect();
        Change { owner, was, delete, add }
    }

    fn records_of(&self, id: &NodeId, entry: &Entry, now: Wall) -> [Rr; 4] {
        let label = Label::of(id);
        let node = self.zone.node(&label);
        let service = Service::new(entry.priority(now), entry.weight(), entry.at.port(), &node);
        let text = NodeText { id: *id, network: Some(self.network.clone()), seq: Some(entry.seq), at: None };
        let (since, ok) = (seconds(entry.since), seconds(entry.ok));
        let tenure = Tenure::sign(&self.key, &self.zone, &label, since, ok, entry.score);
        let rr = |owner: String, ttl, data| Rr { owner, ttl, data };
        [
            rr(self.zone.service(), LIST_TTL, Data::Srv(service.expect("a label below a zone is a host name"))),
            rr(node.clone(), NODE_TTL, Data::text(text.strings())),
            rr(node, NODE_TTL, Data::address(entry.at.ip())),
            rr(self.zone.tenure(&label), NODE_TTL, Data::text(tenure.strings())),
        ]
    }

    fn is_ours(&self, record: &Rr) -> bool {
        if record.owner == self.zone.service() {
            return match &record.data {
                Data::Srv(service) => service.target().is_some_and(|target| self.zone.label_in(target).is_some()),
                data => matches!(data, Data::Txt(strings) if Manifest::is_meant(strings)),
            };
        }
        let node = record.owner.strip_prefix("_reg.").unwrap_or(&record.owner);
        self.zone.label_in(node).is_some()
    }

    /// Is this a name whose records count?
    pub fn is_of_interest(&self, owner: &str) -> bool {
        let node = owner.strip_prefix("_reg.").unwrap_or(owner);
        owner == self.zone.service() || self.zone.label_in(node).is_some()
    }

    /// The labels that the list names, for whoever has to ask for each.
    pub fn labels(&self, records: &BTreeSet<Rr>) -> BTreeSet<Label> {
        let targets = records.iter().filter_map(|record| match &record.data {
            Data::Srv(service) if record.owner == self.zone.service() => service.target(),
            _ => None,
        });
        targets.filter_map(|target| self.zone.label_in(target)).collect()
    }
}

fn manifest(record: &Rr) -> Option<Manifest> {
    match &record.data {
        Data::Txt(strings) if Manifest::is_meant(strings) => Manifest::parse(strings).ok(),
        _ => None,
    }
}

fn seconds(moment: Wall) -> u64 {
    u64::try_from(moment.as_secs()).unwrap_or(0)
}

fn wall(seconds: u64) -> Wall {
    Wall::from_millis(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000))
}
