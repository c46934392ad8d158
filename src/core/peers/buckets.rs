//! Which nodes are remembered when there is no room for all: two tables of buckets, placed by a secret.
//!
//! As in Bitcoin Core's `addrman`: a node that we were told of goes to one slot of *new*, chosen by its
//! network and the network of whoever told us; one whose key answered goes to one slot of *tried*,
//! chosen by its own network alone. Who floods us from few networks, or through few tellers, therefore
//! reaches few buckets, and cannot know which. Slots are allocated when they are used.

use std::collections::BTreeMap;

use crate::wire::{Digest, NodeId};

const NEW_BUCKETS: u64 = 256;
const TRIED_BUCKETS: u64 = 64;
const BUCKET_SLOTS: u64 = 16;
/// Buckets of *new* that one source network reaches.
const BUCKETS_A_SOURCE: u64 = 16;
/// Buckets of *tried* that one network reaches.
const BUCKETS_A_GROUP: u64 = 4;

/// A slot of one of the tables: bucket · 16 + position.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Place {
    New(u16),
    Tried(u16),
}

impl Place {
    pub(super) fn is_tried(self) -> bool {
        matches!(self, Place::Tried(_))
    }

    /// The bucket it is in.
    pub(super) fn bucket(self) -> u16 {
        let (Place::New(slot) | Place::Tried(slot)) = self;
        slot / 16
    }
}

/// Both tables.
pub(super) struct Buckets {
    secret: [u8; 32],
    slots: BTreeMap<Place, NodeId>,
}

impl Buckets {
    pub(super) fn new(secret: [u8; 32]) -> Buckets {
        Buckets { secret, slots: BTreeMap::new() }
    }

    /// Where in *new* a node of this group belongs when it was told by this source.
    pub(super) fn place_new(&self, id: &NodeId, group: &str, source: &str) -> Place {
        let share = self.hash(&[b"share", group.as_bytes(), source.as_bytes()]) % BUCKETS_A_SOURCE;
        let bucket = self.hash(&[b"new", source.as_bytes(), &share.to_be_bytes()]) % NEW_BUCKETS;
        Place::New(self.slot(b"new", bucket, id))
    }

    /// Where in *tried* a node of this group belongs.
    pub(super) fn place_tried(&self, id: &NodeId, group: &str) -> Place {
        let share = self.hash(&[b"share", id.as_bytes()]) % BUCKETS_A_GROUP;
        let bucket = self.hash(&[b"tried", group.as_bytes(), &share.to_be_bytes()]) % TRIED_BUCKETS;
        Place::Tried(self.slot(b"tried", bucket, id))
    }

    fn slot(&self, table: &[u8], bucket: u64, id: &NodeId) -> u16 {
        let position = self.hash(&[b"position", table, &bucket.to_be_bytes(), id.as_bytes()]) % BUCKET_SLOTS;
        u16::try_from(bucket * BUCKET_SLOTS + position).expect("256 buckets of 16")
    }

    fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut bytes = self.secret.to_vec();
        for part in parts {
            bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        let digest = Digest::of(&bytes);
        u64::from_be_bytes(digest.as_bytes()[..8].try_into().expect("eight of 32 bytes"))
    }

    pub(super) fn occupant(&self, place: Place) -> Option<NodeId> {
        self.slots.get(&place).copied()
    }

    /// Puts a node there; whoever was there has no place any more.
    pub(super) fn put(&mut self, place: Place, id: NodeId) -> Option<NodeId> {
        self.slots.insert(place, id)
    }

    /// Frees the slot if this node holds it.
    pub(super) fn free(&mut self, place: Place, id: &NodeId) {
        if self.occupant(place).as_ref() == Some(id) {
            self.slots.remove(&place);
        }
    }

    /// Everybody, in the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Place, &NodeId)> {
        self.slots.iter().map(|(place, id)| (*place, id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::wire::Keypair;

    fn id(number: u32) -> NodeId {
        let mut seed = [3; 32];
        seed[..4].copy_from_slice(&number.to_le_bytes());
        Keypair::from_seed(&seed).id()
    }

    #[test]
    fn one_source_and_one_network_reach_few_buckets() {
        let buckets = Buckets::new([7; 32]);
        let ids: Vec<NodeId> = (0..300).map(id).collect();
        let group = |n: usize| format!("10.{}.0.0/16", n % 200);
        let by_source: BTreeSet<u16> =
            ids.iter().enumerate().map(|(n, id)| buckets.place_new(id, &group(n), "evil").bucket()).collect();
        assert!(by_source.len() <= 16, "{}", by_source.len());
        let tried: BTreeSet<u16> = ids.iter().map(|id| buckets.place_tried(id, "10.1.0.0/16").bucket()).collect();
        assert!(tried.len() <= 4, "{}", tried.len());
        let many: BTreeSet<u16> =
            ids.iter().enumerate().map(|(n, id)| buckets.place_new(id, &group(n), &group(n / 2)).bucket()).collect();
        assert!(many.len() > 100, "many sources reach many: {}", many.len());
    }

    #[test]
    fn another_secret_is_another_order() {
        let (one, other) = (Buckets::new([7; 32]), Buckets::new([8; 32]));
        let differ = (0..50).filter(|n| one.place_new(&id(*n), "a", "b") != other.place_new(&id(*n), "a", "b")).count();
        assert!(differ > 40, "{differ}");
    }
}
