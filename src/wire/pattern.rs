//! What a node wants: patterns over event types, and their canonical set.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::event::{EventType, is_segment};
use super::rejection::Rejection;

/// Most patterns in one record.
pub const PATTERNS_MAX: usize = 64;
/// Most patterns with `+` in one record; each costs the index a branch.
pub const PLUS_PATTERNS_MAX: usize = 8;
/// All patterns of a record together, in bytes.
pub const PATTERNS_BYTES_MAX: usize = 2_048;
/// Longest pattern, in bytes: no longer than a type.
pub const PATTERN_BYTES_MAX: usize = 128;
/// Most segments of a type or a pattern.
pub const SEGMENTS_MAX: usize = 8;

/// A pattern over event types (4-dissemination.md):
///
/// ```text
/// pattern = "*" / pseg *7( "." pseg ) [ ".*" ]     "*" only as the whole last segment
/// pseg    = seg / "+"                              "+" is exactly one segment
/// ```
///
/// A final `*` is one or more segments.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments before a final `*`, and whether there is one.
    pub fn parts(&self) -> (impl Iterator<Item = &str>, bool) {
        let (head, tail) = self.split();
        (head.split('.').filter(|segment| !segment.is_empty()), tail)
    }

    fn split(&self) -> (&str, bool) {
        match &*self.0 {
            "*" => ("", true),
            text => text.strip_suffix(".*").map_or((text, false), |head| (head, true)),
        }
    }

    /// True for what asks for (nearly) everything: `*`, or a leading `+`. Strangers are not served it.
    pub fn is_firehose(&self) -> bool {
        self.0.starts_with(['*', '+'])
    }

    /// True for what asks for types of the protocol by their root.
    fn is_reserved(&self) -> bool {
        self.0.starts_with("mesh.")
    }

    /// True when one of its segments is `+`.
    pub fn has_plus(&self) -> bool {
        self.0.split('.').any(|segment| segment == "+")
    }

    /// Does an event of this type match?
    pub fn matches(&self, kind: &EventType) -> bool {
        let (mut head, tail) = self.parts();
        let mut segments = kind.as_str().split('.');
        loop {
            match (head.next(), segments.next()) {
                (Some(want), Some(have)) if want == "+" || want == have => {}
                (None, None) => return !tail,
                (None, Some(_)) => return tail,
                _ => return false,
            }
        }
    }

    /// Does it ask for an event of this type? Reserved types have to be asked for by their root: who wants
    /// everything that programs publish did not ask for the talk of the protocol.
    pub fn asks_for(&self, kind: &EventType) -> bool {
        self.matches(kind) && !(kind.is_reserved() && self.is_firehose())
    }

    /// Does every type that `other` asks for match here too, and is it asked for?
    pub fn covers(&self, other: &Pattern) -> bool {
        if self.is_firehose() && other.is_reserved() {
            return false; // see `asks_for`
        }
        let ((mut mine, tail), (mut theirs, other_tail)) = (self.parts(), other.parts());
        loop {
            match (mine.next(), theirs.next()) {
                (Some(want), Some(have)) if want == "+" || want == have => {}
                (None, None) => return tail == other_tail,
                (None, Some(_)) => return tail,
                _ => return false,
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = Rejection;
    fn from_str(text: &str) -> Result<Pattern, Rejection> {
        let wrong = |why| Err(Rejection::Pattern(why));
        if text == "*" {
            return Ok(Pattern(text.into()));
        }
        if text.len() > PATTERN_BYTES_MAX {
            return wrong("longer than 128 bytes");
        }
        let (head, tail) = text.strip_suffix(".*").map_or((text, false), |head| (head, true));
        let count = head.split('.').count();
        if count > SEGMENTS_MAX {
            return wrong("more than 8 segments");
        }
        if !head.split('.').all(|segment| segment == "+" || is_segment(segment)) {
            return wrong("segments are words, `+` for exactly one, or a final `*` for one or more");
        }
        if count == 1 && !tail {
            return wrong("one segment matches no type; add `.*`, such as deployment.*");
        }
        Ok(Pattern(text.into()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pattern, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A node's patterns in canonical form: sorted, no duplicates, none covered by another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interests(Vec<Pattern>);

impl Interests {
    /// Brings patterns into canonical form.
    ///
    /// # Errors
    /// [`Rejection::Pattern`] above 64 patterns, 8 with `+`, or 2 KiB, counted before anything
    /// covered is left out.
    pub fn new(patterns: impl IntoIterator<Item = Pattern>) -> Result<Interests, Rejection> {
        let mut all: Vec<Pattern> = Vec::new();
        for pattern in patterns {
            if all.len() == PATTERNS_MAX {
                return Err(Rejection::Pattern("more than 64 patterns"));
            }
            all.push(pattern);
        }
        if all.iter().filter(|pattern| pattern.has_plus()).count() > PLUS_PATTERNS_MAX {
            return Err(Rejection::Pattern("more than 8 patterns with `+`"));
        }
        if all.iter().map(|pattern| pattern.0.len()).sum::<usize>() > PATTERNS_BYTES_MAX {
            return Err(Rejection::Pattern("more than 2048 bytes together"));
        }
        all.sort();
        all.dedup();
        let is_covered = |one: &Pattern| all.iter().any(|other| other != one && other.covers(one));
        Ok(Interests(all.iter().filter(|pattern| !is_covered(pattern)).cloned().collect()))
    }

    /// The patterns, sorted.
    pub fn patterns(&self) -> &[Pattern] {
        &self.0
    }

    /// Those that others are told: what asks for local types alone concerns nobody else.
    #[must_use]
    pub fn published(&self) -> Interests {
        Interests(self.0.iter().filter(|pattern| !pattern.0.starts_with("mesh.peer.")).cloned().collect())
    }

    /// Does any pattern match?
    pub fn matches(&self, kind: &EventType) -> bool {
        self.0.iter().any(|pattern| pattern.matches(kind))
    }

    /// Does any pattern ask for it? See [`Pattern::asks_for`].
    pub fn asks_for(&self, kind: &EventType) -> bool {
        self.0.iter().any(|pattern| pattern.asks_for(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().expect("a pattern")
    }

    fn kind(text: &str) -> EventType {
        text.parse().expect("a type")
    }

    #[test]
    fn a_final_star_is_one_or_more_segments_and_a_plus_exactly_one() {
        for (text, yes, no) in [
            ("infrastructure.*", vec!["infrastructure.up", "infrastructure.disk.full"], vec!["infra.up"]),
            ("infrastructure.+", vec!["infrastructure.up"], vec!["infrastructure.disk.full"]),
            ("a.+.c", vec!["a.b.c"], vec!["a.c", "a.b.b.c", "a.b.d"]),
            ("a.+.*", vec!["a.b.c", "a.b.c.d"], vec!["a.b"]),
            ("*", vec!["a.b", "a.b.c.d.e.f.g.h"], vec![]),
            ("a.b", vec!["a.b"], vec!["a.b.c", "A.b"]),
        ] {
            for each in yes {
                assert!(pattern(text).matches(&kind(each)), "{text} {each}");
            }
            for each in no {
                assert!(!pattern(text).matches(&kind(each)), "{text} {each}");
            }
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for text in [
            "",
            ".",
            "a..b",
            "a.",
            ".a",
            "deployment",
            "+",
            "a.*.b",
            "**",
            "a.**",
            "a.b*",
            "*.a",
            "a b.c",
            "a.ü",
            "-a.b",
            "a.b.c.d.e.f.g.h.i",
        ] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
        assert!(format!("{}.{}.*", "a".repeat(63), "b".repeat(63)).parse::<Pattern>().is_err());
    }

    #[test]
    fn interests_are_sorted_and_hold_nothing_that_another_covers() {
        let of = |texts: &[&str]| Interests::new(texts.iter().map(|text| pattern(text))).expect("interests");
        let canonical = of(&["b.c", "a.*", "a.b.*", "a.b", "b.c", "b.+"]);
        assert_eq!(canonical.patterns(), [pattern("a.*"), pattern("b.+")]);
        assert_eq!(of(&["*", "a.b"]).patterns(), [pattern("*")]);
    }

    #[test]
    fn reserved_types_are_asked_for_by_their_root_and_by_nothing_wider() {
        let of = |texts: &[&str]| Interests::new(texts.iter().map(|text| pattern(text))).expect("interests");
        let kind = kind("mesh.peer.connected");
        for (texts, asks) in [
            (&["*", "+.*", "+.peer.connected"][..], false),
            (&["mesh.*"], true),
            (&["mesh.+.connected"], true),
            (&["mesh.peer.suspect"], false),
            (&["*", "mesh.peer.*"], true),
        ] {
            let interests = of(texts);
            assert_eq!(
                (interests.asks_for(&kind), interests.patterns().iter().any(|one| one.asks_for(&kind))),
                (asks, asks)
            );
        }
        assert_eq!(
            of(&["*", "mesh.peer.*", "mesh.peer.dead", "a.b"]).patterns(),
            [pattern("*"), pattern("mesh.peer.*")]
        );
        assert_eq!(of(&["a.b", "mesh.peer.+", "mesh.group.x"]).published(), of(&["a.b", "mesh.group.x"]));
        assert!(pattern("*").asks_for(&self::kind("meshed.x")) && pattern("mesh.*").covers(&pattern("mesh.peer.*")));
    }

    #[test]
    fn the_limits_of_a_record_hold() {
        let many = |count: usize, form: fn(usize) -> String| Interests::new((0..count).map(|i| pattern(&form(i))));
        assert!(many(64, |i| format!("a.b{i}")).is_ok());
        assert!(many(65, |i| format!("a.b{i}")).is_err());
        assert!(many(8, |i| format!("a{i}.+")).is_ok());
        assert!(many(9, |i| format!("a{i}.+")).is_err());
        assert!(many(33, |i| format!("{i:064}.*")).is_err());
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        (prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("+")], 1..4), any::<bool>())
            .prop_filter_map("a pattern", |(segments, tail)| {
                format!("{}{}", segments.join("."), if tail { ".*" } else { "" }).parse().ok()
            })
    }

    /// All types over {a, b} of 2 to 5 segments: longer than any pattern above.
    fn all_types() -> Vec<EventType> {
        let mut level = vec![String::from("a"), String::from("b")];
        let mut all = Vec::new();
        for _ in 0..4 {
            level = level.iter().flat_map(|text| [format!("{text}.a"), format!("{text}.b")]).collect();
            all.extend(level.iter().map(|text| kind(text)));
        }
        all
    }

    proptest! {
        #[test]
        fn covering_means_matching_at_least_the_same(one in any_pattern(), other in any_pattern()) {
            let subset = all_types().iter().all(|kind| !other.matches(kind) || one.matches(kind));
            // Types have two segments at least, so `+.*` and `*` match alike without covering.
            if one.covers(&other) {
                prop_assert!(subset);
            }
            if subset && !one.has_plus() {
                prop_assert!(one.covers(&other), "{one} should cover {other}");
            }
        }

        #[test]
        fn canonical_interests_match_what_the_patterns_matched(patterns in prop::collection::vec(any_pattern(), 0..6)) {
            if let Ok(interests) = Interests::new(patterns.clone()) {
                for kind in all_types() {
                    prop_assert_eq!(interests.matches(&kind), patterns.iter().any(|pattern| pattern.matches(&kind)));
                }
                prop_assert_eq!(&Interests::new(interests.patterns().to_vec()).expect("within limits"), &interests);
            }
        }
    }
}
