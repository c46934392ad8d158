//! What a registrar remembers of a node, kept in the zone itself.

use super::{Label, Pairs, ZoneError, ZoneName};
use crate::wire::envelope::{Signature, Verified};
use crate::wire::identity::{Keypair, NodeId};

/// The payload type under which tenures are signed.
pub const TENURE_PAYLOAD_TYPE: &str = "application/vnd.afferent.tenure.v1";

const VERSION: &str = "1";
const SCORE_MAX: u8 = 16;

/// The TXT at `_reg.<label>.n.<zone>`: `v=1 since= ok= sc= s=`.
///
/// Signed is, as DSSE does it under [`TENURE_PAYLOAD_TYPE`], this payload:
///
/// ```text
/// len(zone) as one byte ‖ zone ‖ label 10 bytes ‖ since u64 ‖ ok u64 ‖ sc u8     integers big endian
/// ```
///
/// `zone` is the name in lower case without its final dot, times count seconds since 1970. Zone and
/// label are signed too: a tenure cannot be moved to another node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tenure {
    /// When the node was first taken in, seconds since 1970.
    pub since: u64,
    /// When it last answered, seconds since 1970.
    pub ok: u64,
    /// 0 to 16: how well it answers.
    pub score: u8,
    signature: Signature,
}

impl Tenure {
    /// Highest score.
    pub const SCORE_MAX: u8 = SCORE_MAX;

    /// Signs what is known of the node `label` in `zone`; a score above [`Tenure::SCORE_MAX`] counts
    /// as that.
    pub fn sign(key: &Keypair, zone: &ZoneName, label: &Label, since: u64, ok: u64, score: u8) -> Tenure {
        let score = score.min(SCORE_MAX);
        let signature = Signature::sign(key, TENURE_PAYLOAD_TYPE, &payload(zone, label, since, ok, score));
        Tenure { since, ok, score, signature }
    }

    /// Reads the strings of one TXT record. The signature is *not* checked.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn parse<S: AsRef<[u8]>>(strings: &[S]) -> Result<Tenure, ZoneError> {
        let pairs = Pairs::of(strings)?;
        pairs.check_version(VERSION, true)?;
        let score = u8::try_from(pairs.number("sc")?).ok().filter(|score| *score <= SCORE_MAX);
        Ok(Tenure {
            since: pairs.number("since")?,
            ok: pairs.number("ok")?,
            score: score.ok_or(ZoneError::Value("sc"))?,
            signature: Signature::parse(pairs.text("s")?.as_bytes()).map_err(|_| ZoneError::Value("s"))?,
        })
    }

    /// The strings of the TXT record, each of at most 255 bytes.
    pub fn strings(&self) -> Vec<String> {
        vec![
            format!("v={VERSION}"),
            format!("since={}", self.since),
            format!("ok={}", self.ok),
            format!("sc={}", self.score),
            format!("s={}", self.signature),
        ]
    }

    /// Was it signed for this node of this zone by one of the `pinned` keys?
    ///
    /// # Errors
    /// [`ZoneError::Signature`].
    pub fn verify(self, zone: &ZoneName, label: &Label, pinned: &[NodeId]) -> Result<Verified<Tenure>, ZoneError> {
        let payload = payload(zone, label, self.since, self.ok, self.score);
        if pinned.iter().any(|key| self.signature.is_by(key, TENURE_PAYLOAD_TYPE, &payload)) {
            Ok(Verified::vouch(self))
        } else {
            Err(ZoneError::Signature)
        }
    }
}

fn payload(zone: &ZoneName, label: &Label, since: u64, ok: u64, score: u8) -> Vec<u8> {
    let mut payload = Vec::with_capacity(1 + zone.as_str().len() + 10 + 17);
    zone.put(&mut payload);
    payload.extend_from_slice(&label.0);
    payload.extend_from_slice(&since.to_be_bytes());
    payload.extend_from_slice(&ok.to_be_bytes());
    payload.push(score);
    payload
}
