//! Idempotency keys of local publishers, as the journal keeps them.

use crate::time::Wall;
use crate::wire::Digest;

/// What an idempotency key of a local publisher is used for, while its event is on the way to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Hash of the key: no text of a caller is kept.
    pub key: Digest,
    /// Hash of what was handed in under it.
    pub body: Digest,
    /// From then on the key is free again.
    pub until: Wall,
}

/// What an idempotency key was used for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimed {
    /// Hash of what was handed in under it.
    pub body: Digest,
    /// From then on the key is free again.
    pub until: Wall,
    /// The event that it became.
    pub event: Digest,
    /// The `id` of that event.
    pub id: Box<str>,
}

/// Idempotency keys, remembered by the same commit as the events they stand for ([`super::ports::Entry::claims`]): a
/// crash leaves both or neither. A key that means another event already is told as
/// `Appended::Refused(Code::Conflict)`.
pub trait Claims: Send + Sync {
    /// What this key means at this moment; `None` = nothing, or nothing any more.
    fn claimed(&self, key: &Digest, now: Wall) -> Option<Claimed>;
}
