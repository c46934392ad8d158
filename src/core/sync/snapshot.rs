//! The records of one moment, and what is answered from them. Shared: whoever answers neighbours has it in
//! hand, and the owner of the node is not asked.
//!
//! Collecting is cheap and done by the owner; putting in order is not, and done by whoever looks first,
//! once. The library trusts its storage and nothing else: it is handed bytes of any shape (fuzzed, and
//! `tests/malformed.rs`).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use negentropy::{Id, Negentropy, NegentropyStorageVector};

use crate::wire::sync::SYNC_BYTES_MAX;
use crate::wire::{Digest, Envelope, NodeId, Record, Verified};

/// Room for a message beside the subject in a frame.
const MESSAGE_ROOM: u64 = SYNC_BYTES_MAX as u64 - 1;

/// Bytes of the other side that are no message, or none that makes sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it is no message of reconciliation")]
pub struct Nonsense;

/// What an answer taught.
pub(super) struct Difference {
    /// What the other side has and we do not, in the order of the digests.
    pub(super) lacking: BTreeSet<Digest>,
    /// What is to be asked next; `None` = all is told.
    pub(super) next: Option<Vec<u8>>,
}

/// Records as they stood at one moment.
pub struct Snapshot {
    rows: Vec<Row>,
    /// Held or refused by us, and not to be handed on: none of these is lacking.
    beside: Vec<Digest>,
    sealed: OnceLock<Sealed>,
}

struct Row {
    seq: u64,
    digest: Digest,
    envelope: Arc<Envelope>,
}

/// The same, put in order.
struct Sealed {
    items: NegentropyStorageVector,
    /// Places in `rows`, by digest.
    by_digest: Vec<u32>,
    beside: BTreeSet<Digest>,
}

impl Snapshot {
    /// Of these records, to be handed on. What is `beside` them is not wanted from others either.
    pub fn new<'a>(
        records: impl Iterator<Item = (NodeId, &'a Verified<Record>)>,
        beside: impl Iterator<Item = Digest>,
    ) -> Snapshot {
        let row = |(_, record): (NodeId, &Verified<Record>)| {
            let envelope = record.shared_envelope();
            Row { seq: record.seq, digest: envelope.digest(), envelope }
        };
        Snapshot { rows: records.map(row).collect(), beside: beside.collect(), sealed: OnceLock::new() }
    }

    /// Of items alone, which all have the same line: for sets so large that nobody signs as many.
    #[cfg(test)]
    pub(super) fn of_items(items: &[(u64, Digest)], envelope: &Arc<Envelope>) -> Snapshot {
        let row = |(seq, digest): &(u64, Digest)| Row { seq: *seq, digest: *digest, envelope: Arc::clone(envelope) };
        Snapshot { rows: items.iter().map(row).collect(), beside: Vec::new(), sealed: OnceLock::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn sealed(&self) -> &Sealed {
        self.sealed.get_or_init(|| {
            let mut items = NegentropyStorageVector::with_capacity(self.rows.len());
            for row in &self.rows {
                items.insert(row.seq, Id::from_byte_array(*row.digest.as_bytes())).expect("not sealed yet");
            }
            items.seal().expect("sealed once");
            let mut by_digest: Vec<u32> = (0..self.rows.len()).filter_map(|place| u32::try_from(place).ok()).collect();
            by_digest.sort_unstable_by_key(|place| self.rows[*place as usize].digest);
            Sealed { items, by_digest, beside: self.beside.iter().copied().collect() }
        })
    }

    fn reconciler(&self) -> Negentropy<'_, NegentropyStorageVector> {
        Negentropy::borrowed(&self.sealed().items, MESSAGE_ROOM).expect("a frame is larger than the least")
    }

    /// Answers a message of somebody who asks what we have. Takes a time in proportion to all records.
    ///
    /// # Errors
    /// [`Nonsense`].
    pub fn answer(&self, message: &[u8]) -> Result<Vec<u8>, Nonsense> {
        self.reconciler().reconcile(message).map_err(|_| Nonsense)
    }

    /// The first message to somebody whom we ask.
    pub(super) fn question(&self) -> Vec<u8> {
        self.reconciler().initiate().expect("asked for once, of a sealed storage")
    }

    /// What an answer says that we lack, and what to ask next.
    pub(super) fn hear(&self, answer: &[u8]) -> Result<Difference, Nonsense> {
        let mut reconciler = self.reconciler();
        reconciler.set_initiator();
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let next = reconciler.reconcile_with_ids(answer, &mut have, &mut need).map_err(|_| Nonsense)?;
        let need = need.iter().map(|id| Digest::from_bytes(id.to_bytes()));
        let lacking = need.filter(|digest| !self.sealed().beside.contains(digest)).collect();
        Ok(Difference { lacking, next })
    }

    /// Lines without LF of those of these records that are here, in the order asked for.
    pub fn lines(&self, digests: &[Digest]) -> Vec<String> {
        digests.iter().filter_map(|digest| self.row(digest)).map(|row| row.envelope.line(0, false)).collect()
    }

    /// Is it one of these?
    pub fn has(&self, digest: &Digest) -> bool {
        self.row(digest).is_some()
    }

    fn row(&self, digest: &Digest) -> Option<&Row> {
        let places = &self.sealed().by_digest;
        let found = places.binary_search_by_key(digest, |place| self.rows[*place as usize].digest).ok()?;
        Some(&self.rows[places[found] as usize])
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} records)", self.rows.len())
    }
}
