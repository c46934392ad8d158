//! The signed envelope: one event, its signature, and the proof by type that it was checked.
//!
//! ```text
//! line   = hops [ "+" ] SP sig SP event            "+" = carry on (duty), none = leaf
//! tosign = "DSSEv1 " len(PT) " " PT " " len(event) " " event
//! ```
//!
//! The checks, cheap first, and where each is made:
//! framing and limits ([`Line::split`]) → digest seen? ([`Line::digest`], asked by the caller) →
//! full validation ([`Line::parse`]) → time, network ([`Event::check_fresh`]) and hops
//! ([`Unverified::check_hops`]) → rate per neighbour (net) → signature ([`Unverified::verify`]) →
//! rate per source (net) → local policy (core) → journal.

use std::fmt;
use std::ops::{Deref, Range};

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::VerifyingKey;

use super::draft::Draft;
use super::event::{EVENT_BYTES_MAX, Event, HOPS_MAX, Network};
use super::identity::{self, Digest, Keypair, Keys, NodeId};
use super::rejection::Rejection;
use crate::time::Wall;

/// The payload type that signed events carry; other signed documents have others, which separates
/// the domains.
pub const EVENT_PAYLOAD_TYPE: &str = "application/vnd.afferent.event.v1+json";
/// Characters of a signature on the wire.
pub const SIGNATURE_LEN: usize = 86;
/// Longest line without its LF: `16+`, two spaces, signature, event.
pub const LINE_BYTES_MAX: usize = 3 + 1 + SIGNATURE_LEN + 1 + EVENT_BYTES_MAX;

/// What DSSE signs: the type and the exact bytes, each with its length
/// (secure-systems-lab/dsse protocol.md, "Signature Definition").
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

/// An Ed25519 signature. As text 86 characters of canonical base64url.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Signs any document of ours; `payload_type` separates the domains.
    pub fn sign(key: &Keypair, payload_type: &str, payload: &[u8]) -> Signature {
        Signature(key.sign(&pre_authentication_encoding(payload_type, payload)))
    }

    /// Is this `signer`'s signature over these bytes under this type?
    pub fn is_by(&self, signer: &NodeId, payload_type: &str, payload: &[u8]) -> bool {
        let message = pre_authentication_encoding(payload_type, payload);
        identity::verify(&signer.verifying_key(), &message, &self.0)
    }

    /// From its 64 bytes, as the journal keeps them.
    pub fn from_bytes(bytes: [u8; 64]) -> Signature {
        Signature(bytes)
    }

    /// Its 64 bytes.
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// Reads the 86 characters.
    ///
    /// # Errors
    /// [`Rejection::Framing`] for another length, padding, or spare bits that are not zero.
    pub fn parse(text: &[u8]) -> Result<Signature, Rejection> {
        if text.len() != SIGNATURE_LEN {
            return Err(Rejection::Framing("a signature is 86 characters"));
        }
        let mut bytes = [0u8; 64];
        match BASE64URL_NOPAD.decode_mut(text, &mut bytes) {
            Ok(64) => Ok(Signature(bytes)),
            _ => Err(Rejection::Framing("the signature is not canonical base64url")),
        }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0)[..8])
    }
}

/// A line that was split and nothing more: its event is unread bytes.
#[derive(Clone, Debug)]
pub struct Line {
    /// Links crossed, as the sender says.
    pub hops: u8,
    /// The sender asks the receiver to carry it on.
    pub duty: bool,
    signature: Signature,
    event: Bytes,
    digest: Digest,
}

impl Line {
    /// Splits one line (without its LF) at the first two spaces.
    ///
    /// # Errors
    /// [`Rejection::TooLarge`] for an over-long line, [`Rejection::Framing`] otherwise.
    pub fn split(line: &Bytes) -> Result<Line, Rejection> {
        let [hops, signature, event] = fields(line)?;
        let (digits, duty) = match line[hops.clone()].split_last() {
            Some((b'+', digits)) => (digits, true),
            _ => (&line[hops], false),
        };
        let hops = parse_hops(digits)?;
        let signature = Signature::parse(&line[signature])?;
        if event.len() > EVENT_BYTES_MAX {
            return Err(Rejection::TooLarge);
        }
        let event = line.slice(event);
        Ok(Line { hops, duty, signature, digest: Digest::of(&event), event })
    }

    /// The identity of the event, before anything in it was read.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Bytes of the event.
    pub fn len(&self) -> usize {
        self.event.len()
    }

    /// True for a line without an event; never true for one that `split` let pass.
    pub fn is_empty(&self) -> bool {
        self.event.is_empty()
    }

    /// Reads and fully checks the event.
    ///
    /// # Errors
    /// The first rule broken; see [`Event::parse`].
    pub fn parse(self, keys: &mut Keys) -> Result<Unverified, Rejection> {
        let event = Event::parse_hashed(self.event, self.digest, keys)?;
        let key = *keys.get(event.source.as_bytes())?;
        Ok(Unverified {
            envelope: Envelope { event, signature: self.signature },
            key,
            hops: self.hops,
            duty: self.duty,
        })
    }
}

/// Where hops, signature and event stand in a line.
fn fields(line: &[u8]) -> Result<[Range<usize>; 3], Rejection> {
    const SHAPE: Rejection = Rejection::Framing("two spaces separate hops, signature and event");
    let space = |from: usize, within: usize| {
        let to = line.len().min(from + within + 1);
        line[from..to].iter().position(|byte| *byte == b' ').map(|at| from + at)
    };
    let first = space(0, 3).ok_or(SHAPE)?;
    let second = space(first + 1, SIGNATURE_LEN + 2).ok_or(SHAPE)?;
    Ok([0..first, first + 1..second, second + 1..line.len()])
}

/// `0`-`16` without a leading zero.
fn parse_hops(digits: &[u8]) -> Result<u8, Rejection> {
    let hops = match digits {
        [one] if one.is_ascii_digit() => one - b'0',
        [b'1', one @ b'0'..=b'6'] => 10 + one - b'0',
        _ => return Err(Rejection::Framing("hops is 0 to 16 without a leading zero")),
    };
    debug_assert!(hops <= HOPS_MAX);
    Ok(hops)
}

/// An event that was read and fully checked, whose signature was not.
#[derive(Clone)]
pub struct Unverified {
    envelope: Envelope,
    key: VerifyingKey,
    /// Links crossed, as the sender says.
    pub hops: u8,
    /// The sender asks the receiver to carry it on.
    pub duty: bool,
}

impl Unverified {
    /// The event, for the checks that come before the signature. Anybody can *name* its source.
    pub fn event(&self) -> &Event {
        &self.envelope.event
    }

    /// Did it cross no more links than it allows? Asked of what was pushed to us only.
    ///
    /// # Errors
    /// [`Rejection::Hops`].
    pub fn check_hops(&self) -> Result<(), Rejection> {
        if self.hops > self.envelope.event.hops_max { Err(Rejection::Hops) } else { Ok(()) }
    }

    /// The dear step (19-40 µs): is it signed by its source?
    ///
    /// # Errors
    /// [`Rejection::BadSignature`].
    pub fn verify(self) -> Result<Verified<Envelope>, Rejection> {
        let message = pre_authentication_encoding(EVENT_PAYLOAD_TYPE, self.envelope.event.bytes());
        if identity::verify(&self.key, &message, &self.envelope.signature.0) {
            Ok(Verified(self.envelope))
        } else {
            Err(Rejection::BadSignature)
        }
    }
}

/// One event and the signature of its source over the exact bytes.
#[derive(Clone, Debug)]
pub struct Envelope {
    event: Event,
    signature: Signature,
}

impl Envelope {
    /// The event.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The signature of the event's source.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The identity of the event everywhere.
    pub fn digest(&self) -> Digest {
        self.event.digest()
    }

    /// Bytes of its line on the wire, LF included; at most a few more than it needs.
    pub fn line_len(&self) -> usize {
        LINE_BYTES_MAX - EVENT_BYTES_MAX + 1 + self.event.bytes().len()
    }

    /// The line without its LF.
    pub fn line(&self, hops: u8, duty: bool) -> String {
        let plus = if duty { "+" } else { "" };
        format!("{hops}{plus} {} {}", self.signature, self.event.text())
    }

    /// Reads back what the journal kept. Only verified envelopes are ever written there and the
    /// engine checksums its blocks, so the signature is not checked again.
    ///
    /// # Errors
    /// A [`Rejection`] when the bytes are not what was written: the disk lied.
    pub fn from_journal(signature: Signature, event: Bytes, keys: &mut Keys) -> Result<Verified<Envelope>, Rejection> {
        Ok(Verified(Envelope { event: Event::parse(event, keys)?, signature }))
    }
}

/// Something whose signature was checked, or that we signed ourselves. Made by [`Unverified::verify`],
/// [`seal`], the texts of a zone and the journal's own re-reading alone, so what carries it into the core
/// carries the proof.
#[derive(Clone, Debug)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    pub(super) fn vouch(value: T) -> Verified<T> {
        Verified(value)
    }

    /// The thing without its proof.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// All checks on one line in their order, for callers without a dedupe index or rates: a record in
/// an exchange, a line pasted by a person.
///
/// # Errors
/// The first rule broken.
pub fn open(line: &Bytes, now: Wall, network: &Network, keys: &mut Keys) -> Result<Verified<Envelope>, Rejection> {
    let unverified = Line::split(line)?.parse(keys)?;
    unverified.event().check_fresh(now, network)?;
    unverified.check_hops()?;
    unverified.verify()
}

/// Writes a draft down as this node's event and signs it. What it would refuse from others it
/// refuses to sign.
///
/// # Errors
/// The rule that the draft breaks.
pub fn seal(draft: &Draft, key: &Keypair) -> Result<Verified<Envelope>, Rejection> {
    let event = Event::parse(Bytes::from(draft.to_json(key.id())), &mut Keys::default())?;
    let signature = Signature::sign(key, EVENT_PAYLOAD_TYPE, event.bytes());
    Ok(Verified(Envelope { event, signature }))
}

#[cfg(test)]
mod tests;
