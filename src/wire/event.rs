//! One event: a CloudEvents 1.0 JSON object within the limits of 2-wire.md, read once and kept as the
//! exact bytes that were signed.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::identity::{Digest, Keys, NodeId};
use super::rejection::Rejection;
use crate::time::Wall;

mod read;

pub use read::{LONG_TEXT_MAX, MEMBERS_MAX, TEXT_MAX, TO_BYTES_MAX};

/// Largest event, in bytes (CloudEvents: intermediaries must forward up to this size).
pub const EVENT_BYTES_MAX: usize = 65_536;
/// How far ahead of our clock `time` may be.
pub const SKEW: Duration = Duration::from_secs(120);
/// Longest life of an event: how long everybody has to remember its digest.
pub const LIFETIME_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Life of an event whose publisher names no `expirytime`.
pub const LIFETIME_DEFAULT: Duration = Duration::from_secs(86_400);
/// Most links an event may cross.
pub const HOPS_MAX: u8 = 16;
/// Links an event may cross when it does not say.
pub const HOPS_DEFAULT: u8 = 8;
/// Most node ids in `to`.
pub const TO_MAX: usize = 16;

/// The type of an event: 2-8 segments of `[A-Za-z0-9][A-Za-z0-9_-]{0,63}` joined by dots, at most 128
/// bytes, case-sensitive (4-dissemination.md).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Arc<str>);

impl EventType {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for types under the root `mesh.`, which belongs to the protocol.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with("mesh.")
    }

    /// True for types under `mesh.peer.`: what a node tells its own programs of its peers. Nobody sends
    /// them, and nobody takes them from anybody.
    pub fn is_local(&self) -> bool {
        self.0.starts_with("mesh.peer.")
    }
}

pub(super) fn is_segment(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    (1..=64).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

impl FromStr for EventType {
    type Err = Rejection;
    fn from_str(text: &str) -> Result<EventType, Rejection> {
        let wrong = |why| Err(Rejection::Attribute { name: "type", why });
        if text.len() > 128 {
            return wrong("longer than 128 bytes");
        }
        match text.split('.').count() {
            1 => return wrong("needs at least two segments, such as deployment.started"),
            2..=8 => {}
            _ => return wrong("more than 8 segments"),
        }
        if !text.split('.').all(is_segment) {
            return wrong("each segment is a letter or digit, then letters, digits, `_` or `-`, 64 at most");
        }
        Ok(EventType(text.into()))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for EventType {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The name of a mesh; events and records of another one are refused. 1-64 characters of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network(Arc<str>);

impl Network {
    /// The name that events without a `net` attribute belong to.
    pub const DEFAULT: &'static str = "main";

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Network {
    fn default() -> Network {
        Network(Network::DEFAULT.into())
    }
}

impl FromStr for Network {
    type Err = Rejection;
    fn from_str(text: &str) -> Result<Network, Rejection> {
        if is_segment(text) {
            Ok(Network(text.into()))
        } else {
            Err(Rejection::Attribute { name: "net", why: "1-64 letters, digits, `_` or `-`" })
        }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Network, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An event whose every byte was checked against the format; whose signature was *not*.
///
/// What the protocol itself needs is read out; everything else stays in [`Event::bytes`] and is read
/// by [`Event::attributes`] when somebody wants it.
#[derive(Clone)]
pub struct Event {
    bytes: Bytes,
    digest: Digest,
    /// Who says so; the signature is checked with this very key.
    pub source: NodeId,
    /// Unique within the source.
    pub id: Box<str>,
    /// What happened.
    pub kind: EventType,
    /// When it happened, by the source's clock.
    pub time: Wall,
    /// When everybody may forget it.
    pub expires: Wall,
    /// Whom it is for; empty = everybody interested.
    pub to: Vec<NodeId>,
    /// The event that it answers or follows from, where `causationid` names one by its digest.
    pub causation: Option<Digest>,
    /// Most links it may cross.
    pub hops_max: u8,
    network: Option<Box<str>>,
    data: Option<Range<usize>>,
}

impl Event {
    /// Reads and fully checks the exact bytes of one event. Work is O(bytes).
    ///
    /// # Errors
    /// The [`Rejection`] that names the first rule broken.
    pub fn parse(bytes: Bytes, keys: &mut Keys) -> Result<Event, Rejection> {
        let digest = Digest::of(&bytes);
        read::event(bytes, digest, keys)
    }

    /// The same for bytes whose digest was taken already: it is a hash of up to 64 KiB.
    pub(super) fn parse_hashed(bytes: Bytes, digest: Digest, keys: &mut Keys) -> Result<Event, Rejection> {
        debug_assert_eq!(digest, Digest::of(&bytes));
        read::event(bytes, digest, keys)
    }

    /// The exact bytes that were signed; forwarded, stored and hashed as they are.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes as text: a checked event is UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("an event is checked to be UTF-8")
    }

    /// The identity of the event everywhere.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The network it belongs to.
    pub fn network(&self) -> &str {
        self.network.as_deref().unwrap_or(Network::DEFAULT)
    }

    /// The `data` member exactly as it was signed: JSON text, not decoded.
    pub fn data(&self) -> Option<&str> {
        self.data.clone().map(|range| &self.text()[range])
    }

    /// Every member but `data` and `data_base64`, in the order written: name and value as text
    /// (strings unescaped, booleans and integers as JSON writes them).
    pub fn attributes(&self) -> Vec<(String, String)> {
        read::attributes(self.text())
    }

    /// The `data_base64` member, if the event carries one.
    pub fn data_base64(&self) -> Option<String> {
        read::member(self.text(), "data_base64")
    }

    /// One attribute as text.
    pub fn attribute(&self, name: &str) -> Option<String> {
        read::member(self.text(), name)
    }

    /// True while nobody may forget it yet.
    pub fn is_alive(&self, now: Wall) -> bool {
        now < self.expires
    }

    /// May this come in at this moment, into this network? The signature is not looked at.
    ///
    /// # Errors
    /// [`Rejection::OtherNetwork`], [`Rejection::Expired`], [`Rejection::Future`], [`Rejection::ExpiryTooFar`].
    pub fn check_fresh(&self, now: Wall, network: &Network) -> Result<(), Rejection> {
        if self.network() != network.as_str() {
            return Err(Rejection::OtherNetwork);
        }
        self.check_times(now)
    }

    /// The part of [`Event::check_fresh`] that is about the clock alone.
    ///
    /// # Errors
    /// [`Rejection::Expired`], [`Rejection::Future`], [`Rejection::ExpiryTooFar`].
    pub fn check_times(&self, now: Wall) -> Result<(), Rejection> {
        if !self.is_alive(now) {
            return Err(Rejection::Expired);
        }
        if self.time > now + SKEW {
            return Err(Rejection::Future);
        }
        if self.expires > now + LIFETIME_MAX + SKEW {
            return Err(Rejection::ExpiryTooFar);
        }
        Ok(())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} by {:?}", self.kind, self.digest, self.source)
    }
}

#[cfg(test)]
mod tests;
