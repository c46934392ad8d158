//! The strict JSON of 2-wire.md: no duplicate keys at any level (also behind escapes), no lone
//! surrogates, bounded depth and count, numbers that every language reads alike.
//!
//! serde_json alone lets several of these pass (`RawValue` keeps lone surrogates, `1e400` and
//! duplicates; maps keep the last duplicate), so an event is checked in one full visitor pass plus
//! one scan of its number tokens, which a visitor never sees as text.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::rejection::Rejection;

/// Deepest nesting of arrays and objects; the event itself is depth 1.
pub const DEPTH_MAX: usize = 32;
/// Most values of any kind in one event, the event itself included.
pub const VALUES_MAX: usize = 1_024;
/// Longest number, in characters.
pub const DIGITS_MAX: usize = 32;
/// Largest magnitude of an integer: what a double holds exactly.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

const DEPTH: &str = "nested deeper than 32";
const VALUES: &str = "more than 1024 values";
const DUPLICATE: &str = "the same key twice in one object";
const NUMBER: &str = "a number outside what a double holds, or longer than 32 characters";
const INTEGER: &str = "an integer outside ±(2^53-1)";
const SYNTAX: &str = "not valid JSON, or a lone surrogate";

/// Checks one whole JSON text.
///
/// # Errors
/// [`Rejection::Json`] with the first rule broken.
pub fn check(text: &str) -> Result<(), Rejection> {
    check_numbers(text.as_bytes())?;
    walk(text, 1, &mut 0)
}

/// Checks everything but numbers in a value that stands `depth` levels deep, adding to the count of
/// `values`.
pub(super) fn walk(text: &str, depth: usize, values: &mut usize) -> Result<(), Rejection> {
    let mut json = serde_json::Deserializer::from_str(text);
    Walk { depth, values }.deserialize(&mut json).and_then(|()| json.end()).map_err(|error| broken(&error))
}

/// Our own words come through serde_json as a custom message; anything else is its syntax error.
pub(super) fn broken(error: &serde_json::Error) -> Rejection {
    let text = error.to_string();
    let known = [DEPTH, VALUES, DUPLICATE, NUMBER];
    Rejection::Json(known.into_iter().find(|rule| text.starts_with(rule)).unwrap_or(match text.as_str() {
        text if text.starts_with("number out of range") => NUMBER,
        text if text.starts_with("recursion limit") => DEPTH,
        _ => SYNTAX,
    }))
}

/// The rules for numbers, on their text: serde_json reads 2^64 as a double without a word.
pub(super) fn check_numbers(json: &[u8]) -> Result<(), Rejection> {
    let mut at = 0;
    while at < json.len() {
        match json[at] {
            b'"' => at = skip_string(json, at),
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                let length = json[at..].iter().take_while(|byte| is_part(byte)).count();
                check_number(&json[at..at + length])?;
                at += length;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// The position after the string that begins at `at`.
fn skip_string(json: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while at < json.len() {
        match json[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

fn check_number(token: &[u8]) -> Result<(), Rejection> {
    if token.len() > DIGITS_MAX {
        return Err(Rejection::Json(NUMBER));
    }
    if token.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return Ok(()); // a double; serde_json refuses what overflows
    }
    let digits = token.strip_prefix(b"-").unwrap_or(token);
    let value = digits
        .iter()
        .try_fold(0u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0'))));
    match value {
        Some(value) if value <= INTEGER_MAX => Ok(()),
        _ => Err(Rejection::Json(INTEGER)),
    }
}

/// Counts one value against the limits.
fn count<E: serde::de::Error>(values: &mut usize) -> Result<(), E> {
    *values += 1;
    if *values > VALUES_MAX { Err(E::custom(VALUES)) } else { Ok(()) }
}

/// One value: visits everything in it, keeps nothing.
struct Walk<'v> {
    depth: usize,
    values: &'v mut usize,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        count(self.values)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        if value.is_finite() { Ok(()) } else { Err(E::custom(NUMBER)) }
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.depth > DEPTH_MAX {
            return Err(A::Error::custom(DEPTH));
        }
        while seq.next_element_seed(Walk { depth: self.depth + 1, values: self.values })?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.depth > DEPTH_MAX {
            return Err(A::Error::custom(DEPTH));
        }
        let mut seen = KeysSeen::default();
        while let Some(key) = map.next_key_seed(KeySeed)? {
            seen.add::<A::Error>(key)?;
            map.next_value_seed(Walk { depth: self.depth + 1, values: self.values })?;
        }
        Ok(())
    }
}

/// Reads a key unescaped, borrowed where it holds no escape.
pub(super) struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(key))
    }
    fn visit_str<E>(self, key: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// The keys of one object so far: a short list first, a set once that would be slow.
#[derive(Default)]
pub(super) struct KeysSeen<'de> {
    few: Vec<Cow<'de, str>>,
    many: BTreeSet<Cow<'de, str>>,
}

const FEW: usize = 16;

impl<'de> KeysSeen<'de> {
    pub(super) fn add<E: serde::de::Error>(&mut self, key: Cow<'de, str>) -> Result<(), E> {
        if self.few.contains(&key) || self.many.contains(&key) {
            return Err(E::custom(DUPLICATE));
        }
        if self.few.len() < FEW {
            self.few.push(key);
        } else {
            self.many.insert(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> bool {
        check(text).is_err()
    }

    #[test]
    fn duplicate_keys_are_refused_at_every_level_and_behind_escapes() {
        assert!(refused(r#"{"a":1,"a":2}"#));
        assert!(refused(r#"{"x":{"a":1,"\u0061":2}}"#));
        assert!(refused(r#"[{"x":[{"a":1,"b":2,"a":3}]}]"#));
        assert!(!refused(r#"{"a":{"a":{"a":1}}}"#));
        let many: Vec<String> = (0..40).map(|i| format!("\"k{i}\":0")).collect();
        assert!(!refused(&format!("{{{}}}", many.join(","))));
        assert!(refused(&format!("{{{},\"k39\":0}}", many.join(","))));
        assert!(refused(&format!("{{{},\"k3\":0}}", many.join(","))));
    }

    #[test]
    fn numbers_outside_what_all_languages_share_are_refused() {
        for bad in [
            "1e400",
            "-1e400",
            "18446744073709551616",
            "9007199254740992",
            "-9007199254740992",
            "NaN",
            "Infinity",
            "[1,18446744073709551616]",
            "01",
            "1.",
            "+1",
            "--1",
            "1e",
        ] {
            assert!(refused(bad), "{bad}");
        }
        assert!(refused(&"9".repeat(5_000)));
        assert!(refused(&format!("0.{}", "1".repeat(31))));
        for good in
            ["9007199254740991", "-9007199254740991", "1e308", "-0", "0.1", r#""18446744073709551616""#, r#""\"1e999""#]
        {
            assert!(!refused(good), "{good}");
        }
    }

    #[test]
    fn depth_and_count_end_exactly_at_the_limit() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!refused(&nested(DEPTH_MAX)));
        assert_eq!(check(&nested(DEPTH_MAX + 1)), Err(Rejection::Json(DEPTH)));
        assert!(refused(&"[".repeat(60_000)));
        let values = |count: usize| format!("[{}]", vec!["0"; count - 1].join(","));
        assert!(!refused(&values(VALUES_MAX)));
        assert_eq!(check(&values(VALUES_MAX + 1)), Err(Rejection::Json(VALUES)));
    }

    #[test]
    fn lone_surrogates_and_trailing_bytes_are_refused() {
        for bad in [r#""\ud800""#, r#"{"\udc00":1}"#, r#""\ud800\u0041""#, "{} x", "", "{", "\u{feff}{}"] {
            assert!(refused(bad), "{bad}");
        }
        assert!(!refused(r#""\ud83d\ude00""#));
    }

    proptest! {
        #[test]
        fn whatever_serde_json_writes_is_accepted(keys in prop::collection::btree_map("\\PC{0,8}", -1e9f64..1e9, 0..20)) {
            let text = serde_json::to_string(&keys).expect("a map of doubles");
            prop_assert_eq!(check(&text), Ok(()));
        }

        #[test]
        fn no_text_can_panic_the_check(text in "[\\[\\]{}\":,0-9eE.+\\-a\\\\u]{0,80}") {
            let ours = check(&text).is_ok();
            let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            prop_assert!(!ours || theirs, "accepted what is not JSON");
        }
    }
}
