//! From an event type to the nodes that want it.
//!
//! Distinct patterns point at nodes, so ten thousand nodes with the same three patterns cost three
//! look-ups. The patterns are tried one by one here: right up to some hundred distinct ones. The
//! interface is the final one; bitmaps and a trie come behind it when the mesh outgrows this.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::{EventType, Interests, NodeId, Pattern};

/// Which nodes want which types.
#[derive(Default)]
pub struct InterestIndex {
    wanted: BTreeMap<Pattern, BTreeSet<NodeId>>,
}

impl InterestIndex {
    /// Adds a node. Patterns that ask for (nearly) everything count only with `firehose`.
    pub fn insert(&mut self, node: NodeId, interests: &Interests, firehose: bool) {
        for pattern in interests.patterns() {
            if firehose || !pattern.is_firehose() {
                self.wanted.entry(pattern.clone()).or_default().insert(node);
            }
        }
    }

    /// Forgets a node.
    pub fn remove(&mut self, node: &NodeId) {
        self.wanted.retain(|_, nodes| {
            nodes.remove(node);
            !nodes.is_empty()
        });
    }

    /// Everybody who wants events of this type, in the order of their ids.
    pub fn interested(&self, kind: &EventType) -> BTreeSet<NodeId> {
        let matching = self.wanted.iter().filter(|(pattern, _)| pattern.matches(kind));
        matching.flat_map(|(_, nodes)| nodes).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;
    use proptest::prelude::*;

    fn id(seed: u8) -> NodeId {
        Keypair::from_seed(&[seed; 32]).id()
    }

    fn interests(patterns: &[&str]) -> Interests {
        Interests::new(patterns.iter().map(|text| text.parse().expect("a pattern"))).expect("interests")
    }

    #[test]
    fn strangers_get_no_firehose() {
        let kind = "a.b".parse().expect("a type");
        let mut index = InterestIndex::default();
        index.insert(id(1), &interests(&["*"]), false);
        index.insert(id(2), &interests(&["+.b"]), false);
        index.insert(id(3), &interests(&["*"]), true);
        assert_eq!(index.interested(&kind), BTreeSet::from([id(3)]));
        index.remove(&id(3));
        assert!(index.interested(&kind).is_empty());
    }

    proptest! {
        #[test]
        fn the_index_answers_as_asking_each_node_would(
            wants in prop::collection::vec(prop::collection::btree_set(prop::sample::select(vec!["a.*", "a.b", "b.+", "c.d.*", "a.+.c"]), 0..4), 1..6),
            kind in prop::sample::select(vec!["a.b", "a.x.c", "b.q", "c.d", "c.d.e"]),
            gone in 0u8..6,
        ) {
            let kind: EventType = kind.parse().expect("a type");
            let mut index = InterestIndex::default();
            let mut expected = BTreeSet::new();
            for (seed, patterns) in (0u8..).zip(&wants) {
                let wanted = interests(&patterns.iter().copied().collect::<Vec<_>>());
                index.insert(id(seed), &wanted, false);
                if seed != gone && wanted.matches(&kind) {
                    expected.insert(id(seed));
                }
            }
            index.remove(&id(gone));
            prop_assert_eq!(index.interested(&kind), expected);
        }
    }
}
