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

    /// What an operator does about it.
    pub fn remedy(self) -> &'static str {
        match self {
            TierFault::NoServer => "name a server in /etc/resolv.conf, or set discovery.dns_server = \"IP:PORT\"",
            TierFault::NoName => {
                "compare the zone in discovery.dns with what its owner says; nothing stands at _mesh._tcp below it"
            }
            TierFault::NoRecords => {
                "ask the owner of the zone for SRV records at _mesh._tcp, or a TXT record there with id= and addr="
            }
            TierFault::NoService => "take the zone out of discovery.dns: its owner closed it",
            TierFault::ServFail => {
                "try again in a minute; if it stays, the zone's own servers are down or its DNSSEC is broken: tell its owner"
            }
            TierFault::Refused => "ask another server: set discovery.dns_server to one that answers for this zone",
            TierFault::Code(_) => "ask another server: set discovery.dns_server; or tell the owner of the zone",
            TierFault::Silent => {
                "is port 53 open for UDP and TCP? if the server is down, set discovery.dns_server to another"
            }
            TierFault::Unreachable => {
                "is the network of this machine up? if it is, set discovery.dns_server to another server"
            }
            TierFault::Garbage => {
                "is it a DNS server that discovery.dns_server names? if it is, something on the way changes its answers"
            }
            TierFault::Unsigned => {
                "ask the owner of the zone for its registrar's key, or take discovery.dns_keys away to use an unsigned zone"
            }
            TierFault::Manifest(error) => manifest_remedy(error),
            TierFault::Nothing { .. } => {
                "tell the owner of the zone; if the addresses are of your own network, set node.profile"
            }
        }
    }

    /// The server answered, and what was asked for is not there.
    pub(super) fn is_absence(self) -> bool {
        matches!(self, TierFault::NoName | TierFault::NoRecords)
    }
}

fn manifest_remedy(error: ZoneError) -> &'static str {
    match error {
        ZoneError::UnknownKey => {
            "compare discovery.dns_keys with the key that the registrar says now (its log, at `ready`): it may have a new one"
        }
        ZoneError::Signature | ZoneError::Entries => {
            "try again in a minute, since it may have been read while it changed; if it stays, somebody else writes the zone"
        }
        ZoneError::Expired => {
            "the registrar has not signed for long: tell its owner; and look at the clock of this machine"
        }
        ZoneError::Older => {
            "a server hands out an old list: try again in some minutes, or set discovery.dns_server to another"
        }
        ZoneError::Size
        | ZoneError::Version
        | ZoneError::Missing(_)
        | ZoneError::Value(_)
        | ZoneError::Zone
        | ZoneError::Target
        | ZoneError::Label => "tell the owner of the zone; a registrar of a newer version needs a newer afferent here",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_failure_has_a_word_a_sentence_and_something_to_do_of_its_own() {
        use TierFault::*;
        let all = [
            NoServer,
            NoName,
            NoRecords,
            NoService,
            ServFail,
            Refused,
            Code(9),
            Silent,
            Unreachable,
            Garbage,
            Unsigned,
            Manifest(ZoneError::UnknownKey),
            Nothing { refused: 1, ignored: 2 },
        ];
        let count = |texts: BTreeSet<String>| texts.len();
        assert_eq!(count(all.iter().map(|fault| fault.word().to_owned()).collect()), all.len());
        assert_eq!(count(all.iter().map(ToString::to_string).collect()), all.len());
        assert_eq!(count(all.iter().map(|fault| fault.remedy().to_owned()).collect()), all.len());
        let signed =
            [ZoneError::UnknownKey, ZoneError::Signature, ZoneError::Expired, ZoneError::Older, ZoneError::Size];
        assert_eq!(count(signed.iter().map(|error| Manifest(*error).remedy().to_owned()).collect()), signed.len());
    }
}
