//! Why a zone brought nothing, in our own words.

use crate::wire::zone::ZoneError;

/// One variant for each class of failure. Whichever it is, the tier failed for now and the others go
/// on. Never holds anything that a server said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TierFault {
    /// No server to ask.
    #[error("this machine names no DNS server in /etc/resolv.conf; set discovery.dns_server")]
    NoServer,
    /// NXDOMAIN.
    #[error("the DNS knows no such zone (NXDOMAIN): is it written as it should be?")]
    NoName,
    /// The name is there, and nothing of a mesh.
    #[error("the zone has neither SRV records nor a TXT record of a mesh")]
    NoRecords,
    /// The one target is `.` (RFC 2782).
    #[error("the zone says that it has no mesh")]
    NoService,
    /// SERVFAIL.
    #[error("the DNS server could not find out (SERVFAIL)")]
    ServFail,
    /// REFUSED.
    #[error("the DNS server refuses to answer (REFUSED): it may serve other networks only")]
    Refused,
    /// Another error code (RFC 6895).
    #[error("the DNS server answered with the error code {0}")]
    Code(u16),
    /// No answer in time, by UDP and by TCP.
    #[error("no answer from the DNS server in time")]
    Silent,
    /// Not even asked.
    #[error("the DNS server cannot be reached")]
    Unreachable,
    /// An answer that is none.
    #[error("the DNS server answered with something that is no DNS answer")]
    Garbage,
    /// No manifest, and keys are pinned.
    #[error("the zone is not signed, and discovery.dns_keys asks for a signature")]
    Unsigned,
    /// A manifest that does not count.
    #[error("the signed list of the zone does not count: {0}")]
    Manifest(ZoneError),
    /// Entries, but none to dial.
    #[error(
        "no entry of the zone can be dialled: {refused} addresses refused by node.profile, {ignored} entries of no use"
    )]
    Nothing {
        /// Addresses that the policy refused.
        refused: usize,
        /// Entries of no use.
        ignored: usize,
    },
}

impl TierFault {
    /// A stable word, for metrics and programs.
    pub fn word(self) -> &'static str {
        match self {
            TierFault::NoServer => "no_server",
            TierFault::NoName => "nxdomain",
            TierFault::NoRecords => "no_records",
            TierFault::NoService => "no_service",
            TierFault::ServFail => "servfail",
            TierFault::Refused => "refused",
            TierFault::Code(_) => "code",
            TierFault::Silent => "timeout",
            TierFault::Unreachable => "unreachable",
            TierFault::Garbage => "garbage",
            TierFault::Unsigned => "unsigned",
            TierFault::Manifest(_) => "manifest",
            TierFault::Nothing { .. } => "nothing",
        }
    }

    /// The server answered, and what was asked for is not there.
    pub(super) fn is_absence(self) -> bool {
        matches!(self, TierFault::NoName | TierFault::NoRecords)
    }
}
