//! What a zone says about one node.

use super::{Pairs, VERSION, ZoneError};
use crate::wire::address::HostPort;
use crate::wire::event::Network;
use crate::wire::identity::NodeId;

/// Who is here. At `<label>.n.<zone>` a registrar writes `v=afferent1 id= net= seq=`; by hand one
/// writes `id=`, and at `_mesh._tcp.<zone>` also `addr=`, and may leave `v=` out. Claimed by the zone
/// and proved by nobody: the key must answer at the dial.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeText {
    /// Whose key is claimed to answer there.
    pub id: NodeId,
    /// The mesh it is in; `None` = not said.
    pub network: Option<Network>,
    /// The number of the node record that the registrar saw; `None` = not said.
    pub seq: Option<u64>,
    /// Where, in a text written by hand at the zone itself.
    pub at: Option<HostPort>,
}

impl NodeText {
    /// Reads the strings of one TXT record.
    ///
    /// # Errors
    /// [`ZoneError::Version`] for a text of something else, otherwise what is missing or wrong.
    pub fn parse<S: AsRef<[u8]>>(strings: &[S]) -> Result<NodeText, ZoneError> {
        let pairs = Pairs::of(strings)?;
        pairs.check_version(VERSION, false)?;
        Ok(NodeText {
            id: pairs.parsed("id")?,
            network: pairs.find("net").map(|_| pairs.parsed("net")).transpose()?,
            seq: pairs.find("seq").map(|_| pairs.number("seq")).transpose()?,
            at: pairs.find("addr").map(|_| pairs.parsed("addr")).transpose()?,
        })
    }

    /// The strings of the TXT record, each of at most 255 bytes.
    pub fn strings(&self) -> Vec<String> {
        let mut strings = vec![format!("v={VERSION}"), format!("id={}", self.id)];
        strings.extend(self.network.iter().map(|network| format!("net={}", network.as_str())));
        strings.extend(self.seq.map(|seq| format!("seq={seq}")));
        strings.extend(self.at.iter().map(|at| format!("addr={at}")));
        strings
    }
}
