//! From an event type to the sets that distinct patterns stand for.
//!
//! A pattern without `+` is one string: a type is looked up as a whole, then each of its heads among the
//! patterns with a final `*`. Few patterns have a `+`; they alone stand in a trie, eight forks deep at most.

use std::collections::BTreeMap;

use crate::wire::{EventType, Pattern};

/// A set for each distinct pattern.
#[derive(Clone, Default)]
pub(super) struct Index<S> {
    exact: BTreeMap<Box<str>, S>,
    /// By what stands before the final `*`; nothing, of `*` alone.
    tails: BTreeMap<Box<str>, S>,
    forks: Fork<S>,
}

/// Where patterns with a `+` part.
#[derive(Clone)]
struct Fork<S> {
    words: BTreeMap<Box<str>, Fork<S>>,
    one: Option<Box<Fork<S>>>,
    /// Of the pattern that ends here.
    end: Option<S>,
    /// Of the pattern that goes on with a final `*`.
    tail: Option<S>,
}

impl<S> Default for Fork<S> {
    fn default() -> Fork<S> {
        Fork { words: BTreeMap::new(), one: None, end: None, tail: None }
    }
}

/// What stands before a final `*`.
fn head_of(pattern: &Pattern) -> Option<&str> {
    match pattern.as_str() {
        "*" => Some(""),
        text => text.strip_suffix(".*"),
    }
}

impl<S> Index<S> {
    /// The set of this pattern; an empty one when it is new.
    pub(super) fn entry(&mut self, pattern: &Pattern) -> &mut S
    where
        S: Default,
    {
        if pattern.has_plus() {
            let (words, has_tail) = pattern.parts();
            let fork = words.fold(&mut self.forks, |fork, word| match word {
                "+" => &mut **fork.one.get_or_insert_default(),
                word => fork.words.entry(word.into()).or_default(),
            });
            return if has_tail { &mut fork.tail } else { &mut fork.end }.get_or_insert_default();
        }
        let (texts, text) = match head_of(pattern) {
            Some(head) => (&mut self.tails, head),
            None => (&mut self.exact, pattern.as_str()),
        };
        if !texts.contains_key(text) {
            texts.insert(text.into(), S::default());
        }
        texts.get_mut(text).expect("just seen or made")
    }

    /// Takes something out of the set of this pattern; `take` says whether nothing is left in it.
    pub(super) fn release(&mut self, pattern: &Pattern, take: impl FnOnce(&mut S) -> bool) {
        if pattern.has_plus() {
            let (words, has_tail) = pattern.parts();
            self.forks.release(words, has_tail, take);
            return;
        }
        let (texts, text) = match head_of(pattern) {
            Some(head) => (&mut self.tails, head),
            None => (&mut self.exact, pattern.as_str()),
        };
        if texts.get_mut(text).is_some_and(take) {
            texts.remove(text);
        }
    }

    /// Shows the set of every pattern that asks for this type ([`Pattern::asks_for`]).
    pub(super) fn visit<'a>(&'a self, kind: &EventType, mut show: impl FnMut(&'a S)) {
        let text = kind.as_str();
        self.exact.get(text).into_iter().for_each(&mut show);
        if !self.tails.is_empty() {
            let all = if kind.is_reserved() { None } else { self.tails.get("") };
            let heads = text.match_indices('.').map(|(end, _)| &text[..end]);
            all.into_iter().chain(heads.filter_map(|head| self.tails.get(head))).for_each(&mut show);
        }
        let (root, rest) = text.split_once('.').expect("a type has two segments at least");
        let any = if kind.is_reserved() { None } else { self.forks.one.as_deref() };
        for fork in self.forks.words.get(root).into_iter().chain(any) {
            fork.visit(Some(rest), &mut show);
        }
    }

    /// The same patterns with other sets; those without one are left out.
    pub(super) fn map<T>(&self, mut change: impl FnMut(&S) -> Option<T>) -> Index<T> {
        let mut texts = |texts: &BTreeMap<Box<str>, S>| {
            let changed = texts.iter().filter_map(|(text, set)| Some((text.clone(), change(set)?)));
            changed.collect::<BTreeMap<_, _>>()
        };
        let (exact, tails) = (texts(&self.exact), texts(&self.tails));
        Index { exact, tails, forks: self.forks.map(&mut change).unwrap_or_default() }
    }
}

impl<S> Fork<S> {
    fn visit<'a>(&'a self, rest: Option<&str>, show: &mut impl FnMut(&'a S)) {
        let Some(rest) = rest else {
            self.end.iter().for_each(show);
            return;
        };
        self.tail.iter().for_each(&mut *show);
        let (word, rest) = rest.split_once('.').map_or((rest, None), |(word, rest)| (word, Some(rest)));
        for fork in self.words.get(word).into_iter().chain(self.one.as_deref()) {
            fork.visit(rest, show);
        }
    }

    fn release<'p>(
        &mut self,
        mut words: impl Iterator<Item = &'p str>,
        has_tail: bool,
        take: impl FnOnce(&mut S) -> bool,
    ) {
        match words.next() {
            None => {
                let set = if has_tail { &mut self.tail } else { &mut self.end };
                if set.as_mut().is_some_and(take) {
                    *set = None;
                }
            }
            Some("+") => {
                let Some(fork) = &mut self.one else { return };
                fork.release(&mut words as &mut dyn Iterator<Item = _>, has_tail, take);
                if fork.is_empty() {
                    self.one = None;
                }
            }
            Some(word) => {
                let Some(fork) = self.words.get_mut(word) else { return };
                fork.release(&mut words as &mut dyn Iterator<Item = _>, has_tail, take);
                if fork.is_empty() {
                    self.words.remove(word);
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.one.is_none() && self.end.is_none() && self.tail.is_none()
    }

    fn map<T>(&self, change: &mut dyn FnMut(&S) -> Option<T>) -> Option<Fork<T>> {
        let words = self.words.iter().filter_map(|(word, fork)| Some((word.clone(), fork.map(change)?))).collect();
        let one = self.one.as_ref().and_then(|fork| fork.map(change)).map(Box::new);
        let end = self.end.as_ref().and_then(&mut *change);
        let tail = self.tail.as_ref().and_then(&mut *change);
        let fork = Fork { words, one, end, tail };
        (!fork.is_empty()).then_some(fork)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::tests::{kinds, pattern_texts};
    use super::*;

    fn found(index: &Index<BTreeSet<usize>>, kind: &EventType) -> BTreeSet<usize> {
        let mut all = BTreeSet::new();
        index.visit(kind, |set| all.extend(set));
        all
    }

    proptest! {
        /// Whatever was put in and taken out again, each pattern answers as asking it alone would.
        #[test]
        fn the_index_answers_as_asking_each_pattern_would(
            texts in prop::collection::vec(pattern_texts(), 0..24),
            gone in prop::collection::vec(any::<bool>(), 24),
            kind in kinds(),
        ) {
            let patterns: Vec<Pattern> = texts.iter().map(|text| text.parse().expect("a pattern")).collect();
            let mut index = Index::<BTreeSet<usize>>::default();
            for (number, pattern) in patterns.iter().enumerate() {
                index.entry(pattern).insert(number);
            }
            for (number, pattern) in patterns.iter().enumerate().filter(|(number, _)| gone[*number]) {
                index.release(pattern, |set| { set.remove(&number); set.is_empty() });
            }
            let left = || patterns.iter().enumerate().filter(|(number, _)| !gone[*number]);
            let expected: BTreeSet<usize> =
                left().filter(|(_, pattern)| pattern.asks_for(&kind)).map(|(number, _)| number).collect();
            prop_assert_eq!(&found(&index, &kind), &expected);
            let even = index.map(|set| {
                let set: BTreeSet<usize> = set.iter().filter(|number| *number % 2 == 0).copied().collect();
                (!set.is_empty()).then_some(set)
            });
            prop_assert_eq!(found(&even, &kind), expected.into_iter().filter(|number| number % 2 == 0).collect());
            for (number, pattern) in left() {
                index.release(pattern, |set| { set.remove(&number); set.is_empty() });
            }
            prop_assert!(index.exact.is_empty() && index.tails.is_empty() && index.forks.is_empty(), "nothing is left behind");
        }
    }
}
