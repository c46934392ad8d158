//! The signed list of a zone: which entries a registrar stands for, and until when.

use super::{KeyId, Pairs, SERVICES_MAX, Service, VERSION, ZoneError, ZoneName, lines};
use crate::time::Wall;
use crate::wire::envelope::{Signature, Verified};
use crate::wire::identity::{Digest, Keypair, NodeId};

/// The payload type under which manifests are signed.
pub const MANIFEST_PAYLOAD_TYPE: &str = "application/vnd.afferent.manifest.v1";

/// The TXT at `_mesh._tcp.<zone>`: `v=afferent1 seq= exp= n= h= k= s=`.
///
/// Signed is, as DSSE does it under [`MANIFEST_PAYLOAD_TYPE`], this payload:
///
/// ```text
/// len(zone) as one byte ‖ zone ‖ seq u64 ‖ exp u64 ‖ n u64 ‖ h 32 bytes         integers big endian
/// ```
///
/// `zone` is the name in lower case without its final dot; `exp` counts seconds since 1970; `h` is
/// [`Service::digest`]. The zone is signed too, so a list is good in one zone only. `s` is written as
/// 86 characters of base64url, `h` as 43, `k` is the [`KeyId`] of the signer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Each list of a zone has a higher one than the list before it.
    pub seq: u64,
    /// Seconds since 1970 from which it does not count any more.
    pub expires: u64,
    /// How many entries.
    pub count: u64,
    /// Which entries.
    pub entries: Digest,
    /// Who signed.
    pub key: KeyId,
    signature: Signature,
}

impl Manifest {
    /// Signs the list of a zone.
    pub fn sign(key: &Keypair, zone: &ZoneName, seq: u64, expires: u64, services: &[Service]) -> Manifest {
        let count = lines(services).len() as u64;
        let entries = Service::digest(services);
        let signature = Signature::sign(key, MANIFEST_PAYLOAD_TYPE, &payload(zone, seq, expires, count, &entries));
        Manifest { seq, expires, count, entries, key: KeyId::of(&key.id()), signature }
    }

    /// Is this TXT record meant as a manifest? Others may stand beside it.
    pub fn is_meant<S: AsRef<[u8]>>(strings: &[S]) -> bool {
        Pairs::of(strings).is_ok_and(|pairs| {
            pairs.check_version(VERSION, true).is_ok() && pairs.find("h").is_some() && pairs.find("s").is_some()
        })
    }

    /// Reads the strings of one TXT record. The signature is *not* checked.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn parse<S: AsRef<[u8]>>(strings: &[S]) -> Result<Manifest, ZoneError> {
        let pairs = Pairs::of(strings)?;
        pairs.check_version(VERSION, true)?;
        let count = pairs.number("n")?;
        if count > SERVICES_MAX as u64 {
            return Err(ZoneError::Value("n"));
        }
        Ok(Manifest {
            seq: pairs.number("seq")?,
            expires: pairs.number("exp")?,
            count,
            entries: pairs.parsed("h")?,
            key: pairs.parsed("k")?,
            signature: Signature::parse(pairs.text("s")?.as_bytes()).map_err(|_| ZoneError::Value("s"))?,
        })
    }

    /// The strings of the TXT record, each of at most 255 bytes.
    pub fn strings(&self) -> Vec<String> {
        vec![
            format!("v={VERSION}"),
            format!("seq={}", self.seq),
            format!("exp={}", self.expires),
            format!("n={}", self.count),
            format!("h={}", self.entries),
            format!("k={}", self.key),
            format!("s={}", self.signature),
        ]
    }

    /// Was it signed for `zone` by one of the `pinned` keys?
    ///
    /// # Errors
    /// [`ZoneError::UnknownKey`] and [`ZoneError::Signature`].
    pub fn verify(self, zone: &ZoneName, pinned: &[NodeId]) -> Result<Verified<Manifest>, ZoneError> {
        let key = pinned.iter().find(|key| KeyId::of(key) == self.key).ok_or(ZoneError::UnknownKey)?;
        let payload = payload(zone, self.seq, self.expires, self.count, &self.entries);
        if self.signature.is_by(key, MANIFEST_PAYLOAD_TYPE, &payload) {
            Ok(Verified::vouch(self))
        } else {
            Err(ZoneError::Signature)
        }
    }
}

impl Verified<Manifest> {
    /// Does it count `now`, and are these the records it speaks for?
    ///
    /// # Errors
    /// [`ZoneError::Expired`] and [`ZoneError::Entries`].
    pub fn check(&self, services: &[Service], now: Wall) -> Result<(), ZoneError> {
        if u64::try_from(now.as_secs()).is_ok_and(|now| now >= self.expires) {
            return Err(ZoneError::Expired);
        }
        if lines(services).len() as u64 != self.count || Service::digest(services) != self.entries {
            return Err(ZoneError::Entries);
        }
        Ok(())
    }
}

fn payload(zone: &ZoneName, seq: u64, expires: u64, count: u64, entries: &Digest) -> Vec<u8> {
    let mut payload = Vec::with_capacity(1 + zone.as_str().len() + 24 + 32);
    zone.put(&mut payload);
    for number in [seq, expires, count] {
        payload.extend_from_slice(&number.to_be_bytes());
    }
    payload.extend_from_slice(entries.as_bytes());
    payload
}
