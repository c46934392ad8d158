//! How things look inside the journal's keyspaces. Bytes from the disk become a value or `None`.
//!
//! ```text
//! log.<n>    seq (8, big endian)          -> 1 flags hops received(8) high(8) [from(32)] [hold(16)] signature(64) event
//! ids.<end>  'd' short digest(19)         -> 's' seq(8)  |  'r' code, as its word      what a digest means
//!            's' hash(source, id)(16)     -> short digest(19)                          which one came first
//!            'k' short hash of key(19)    -> until(8) body(32) digest(32) id             what a key was used for
//! state      "incarnation", "mark", "next", 'c' cursor name, 'p' n(8)                 see below
//! ```
//!
//! Of a digest the first 19 bytes are kept: with its letter it fits the 20 bytes that the engine holds
//! without an allocation, and to hit somebody else's takes 2^152 tries.
//!
//! `high` is the latest `received` in this period up to here: unlike `received` it never goes back, so
//! a moment can be found by halving.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::core::ports::{Claim, Claimed, Entry, Hold, Seen, Seq};
use crate::time::Wall;
use crate::wire::{Code, Digest, Envelope, Event, Keys, NodeId, Signature};

/// Random, made with the journal.
pub(super) const INCARNATION: &[u8] = b"incarnation";
/// The high-water mark of the clock.
pub(super) const MARK: &[u8] = b"mark";
/// Written after keyspaces were deleted; means nothing.
pub(super) const DELETED: &[u8] = b"deleted";
/// The next position when no period is left to tell it.
pub(super) const NEXT: &[u8] = b"next";

const VERSION: u8 = 1;
const DUTY: u8 = 1;
const FROM: u8 = 2;
const HELD: u8 = 4;
const HEAD_BYTES: usize = 3 + 8 + 8;

/// The key of a cursor in `state`.
pub(super) fn cursor_key(name: &str) -> Vec<u8> {
    [b"c", name.as_bytes()].concat()
}

/// The key of a period's span in `state`.
pub(super) fn span_key(n: u64) -> [u8; 9] {
    let mut key = [b'p'; 9];
    key[1..].copy_from_slice(&n.to_be_bytes());
    key
}

/// As much of a digest as is kept.
pub(super) type ShortDigest = [u8; 19];

/// As much of a digest as is kept.
pub(super) fn short(digest: &Digest) -> ShortDigest {
    *digest.as_bytes().first_chunk().expect("a digest has 32 bytes")
}

/// Where a digest stands in `ids`.
pub(super) fn digest_key(digest: &Digest) -> [u8; 20] {
    let mut key = [b'd'; 20];
    key[1..].copy_from_slice(&short(digest));
    key
}

/// Where the name of an event, its (source, id), stands in `ids`. 16 bytes of hash: to hit another
/// source's name takes 2^128 tries; two names of one's own harm nobody else.
pub(super) fn name_key(event: &Event) -> [u8; 17] {
    let mut hash = Sha256::new();
    hash.update(event.source.as_bytes());
    hash.update(event.id.as_bytes());
    let mut key = [b's'; 17];
    key[1..].copy_from_slice(&hash.finalize()[..16]);
    key
}

/// What a digest means, as `ids` keeps it.
pub(super) fn meaning_of_stored(seq: Seq) -> [u8; 9] {
    let mut value = [b's'; 9];
    value[1..].copy_from_slice(&seq.0.to_be_bytes());
    value
}

/// The same for one that was refused after a good signature.
pub(super) fn meaning_of_refused(code: Code) -> Vec<u8> {
    [b"r", code.as_str().as_bytes()].concat()
}

/// Reads what a digest means.
pub(super) fn meaning(value: &[u8]) -> Option<Seen> {
    match value.split_first()? {
        (b's', _) => Some(Seen::Stored),
        (b'r', word) => Code::ALL.into_iter().find(|code| code.as_str().as_bytes() == word).map(Seen::Refused),
        _ => None,
    }
}

/// Where in the log the event of this meaning stands.
pub(super) fn position(value: &[u8]) -> Option<Seq> {
    match value.split_first()? {
        (b's', seq) => number(seq).map(Seq),
        _ => None,
    }
}

/// Where an idempotency key stands in `ids`.
pub(super) fn claim_key(key: &Digest) -> [u8; 20] {
    let mut at = [b'k'; 20];
    at[1..].copy_from_slice(&short(key));
    at
}

/// What an idempotency key was used for, as `ids` keeps it.
pub(super) fn claim_value(claim: &Claim, event: &Event) -> Vec<u8> {
    let until = claim.until.0.to_be_bytes();
    [until.as_slice(), claim.body.as_bytes(), event.digest().as_bytes(), event.id.as_bytes()].concat()
}

/// Reads what an idempotency key was used for.
pub(super) fn claimed(value: &[u8]) -> Option<Claimed> {
    let (until, rest) = value.split_first_chunk()?;
    let (body, rest) = rest.split_first_chunk()?;
    let (event, id) = rest.split_first_chunk()?;
    Some(Claimed {
        body: Digest::from_bytes(*body),
        until: Wall(i64::from_be_bytes(*until)),
        event: Digest::from_bytes(*event),
        id: std::str::from_utf8(id).ok()?.into(),
    })
}

/// One entry as `log` keeps it.
pub(super) fn entry_value(entry: &Entry, high: Wall) -> Vec<u8> {
    let event = entry.envelope.event().bytes();
    let mut value = Vec::with_capacity(HEAD_BYTES + 32 + 16 + 64 + event.len());
    let from = if entry.from.is_some() { FROM } else { 0 };
    let duty = if entry.duty { DUTY } else { 0 };
    let held = if entry.hold.is_some() { HELD } else { 0 };
    value.extend([VERSION, duty | from | held, entry.hops]);
    value.extend(entry.received.0.to_be_bytes());
    value.extend(high.0.to_be_bytes());
    if let Some(from) = &entry.from {
        value.extend(from.as_bytes());
    }
    if let Some(Hold { from, until }) = &entry.hold {
        value.extend(from.0.to_be_bytes());
        value.extend(until.0.to_be_bytes());
    }
    value.extend(entry.envelope.signature().as_bytes());
    value.extend(event);
    value
}

/// Reads an entry back; `None` when the bytes are not what was written.
pub(super) fn entry(value: &[u8], keys: &mut Keys) -> Option<Entry> {
    let (head, rest) = value.split_first_chunk::<HEAD_BYTES>()?;
    let &[VERSION, flags, hops, ref moments @ ..] = head else { return None };
    let received = Wall(i64::from_be_bytes(*moments.first_chunk()?));
    let (from, rest) = if flags & FROM == 0 {
        (None, rest)
    } else {
        let (from, rest) = rest.split_first_chunk()?;
        (Some(NodeId::from_public_key(*from).ok()?), rest)
    };
    let (hold, rest) = if flags & HELD == 0 {
        (None, rest)
    } else {
        let (from, rest) = rest.split_first_chunk()?;
        let (until, rest) = rest.split_first_chunk()?;
        let moment = |bytes: &[u8; 8]| Wall(i64::from_be_bytes(*bytes));
        (Some(Hold { from: moment(from), until: moment(until) }), rest)
    };
    let (signature, event) = rest.split_first_chunk()?;
    let event = Bytes::copy_from_slice(event);
    let envelope = Envelope::from_journal(Signature::from_bytes(*signature), event, keys).ok()?;
    Some(Entry { envelope, from, hops, duty: flags & DUTY != 0, received, claims: Box::default(), hold })
}

/// The `high` of an entry without reading the rest.
pub(super) fn high(value: &[u8]) -> Option<Wall> {
    let &[VERSION, _, _, ref moments @ ..] = value.first_chunk::<HEAD_BYTES>()? else { return None };
    Some(Wall(i64::from_be_bytes(*moments.last_chunk()?)))
}

/// Eight bytes, big endian.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

/// Eight bytes, big endian, signed.
pub(super) fn moment(value: &[u8]) -> Option<Wall> {
    value.try_into().ok().map(|bytes| Wall(i64::from_be_bytes(bytes)))
}
