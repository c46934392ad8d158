//! The texts of a zone: what the DNS says about a mesh, and what a registrar signs there.
//!
//! ```text
//! _mesh._tcp.<zone>.        SRV <prio> <weight> <port> <label>.n.<zone>.               [`Service`]
//! _mesh._tcp.<zone>.        TXT "v=afferent1" "seq=" "exp=" "n=" "h=" "k=" "s="        [`Manifest`]
//! <label>.n.<zone>.         TXT "v=afferent1" "id=" "net=" "seq="                      [`NodeText`]
//! _reg.<label>.n.<zone>.    TXT "v=1" "since=" "ok=" "sc=" "s="                        [`Tenure`]
//! <label>.n.<zone>.         A / AAAA
//! ```
//!
//! A zone written by hand has `SRV` and `A` alone, or one `TXT` at `_mesh._tcp.<zone>` with `id=` and
//! `addr=` ([`NodeText`] too). Nothing here is believed for being in the DNS: an id is proved at the
//! dial, and a manifest counts only under a key that the reader has pinned.
//!
//! A text is read as RFC 6763 §6 says: pairs `key=value`, keys without regard to case, the first of
//! two with one key counts, unknown keys and strings without `=` are passed over. One thing is added:
//! a space separates pairs as well, since the forms of many DNS providers take one string only.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};

use super::address::Host;
use super::identity::{Digest, NodeId};

mod manifest;
mod node;
mod tenure;

pub use manifest::{MANIFEST_PAYLOAD_TYPE, Manifest};
pub use node::NodeText;
pub use tenure::{TENURE_PAYLOAD_TYPE, Tenure};

/// What every text of this version begins with.
pub const VERSION: &str = "afferent1";
/// Longest name of a zone: `_reg.<label>.n.` before it must fit the 253 characters of a DNS name.
pub const ZONE_LEN_MAX: usize = 253 - "_reg.0123456789abcdef.n.".len();
/// Most strings in one text, and most pairs.
pub const STRINGS_MAX: usize = 16;
/// Most bytes in one text; the longest of ours has some 260.
pub const TEXT_BYTES_MAX: usize = 1_024;
/// Most entries that a manifest speaks for.
pub const SERVICES_MAX: usize = 256;

/// What is wrong with a text of a zone. Never holds anything of the text itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ZoneError {
    /// More or longer strings than any text of ours has; nothing was read.
    #[error("a text is at most 16 strings and 1024 bytes")]
    Size,
    /// A text of another version, or of something else.
    #[error("not a text of this version")]
    Version,
    /// A key is missing.
    #[error("`{0}=` is missing")]
    Missing(&'static str),
    /// A value is not what its key takes.
    #[error("`{0}=` is not as it should be")]
    Value(&'static str),
    /// The name of a zone that cannot be one.
    #[error("a zone is a DNS name of at most 229 characters, such as mesh.example")]
    Zone,
    /// A target that is no host name.
    #[error("the target of an SRV record is not a host name")]
    Target,
    /// 16 characters of base32 are expected.
    #[error("a label is 16 characters of a-z and 2-7")]
    Label,
    /// Signed, if at all, by a key that is not pinned here.
    #[error("signed by a registrar key that is not pinned")]
    UnknownKey,
    /// The signature is not by the key it names, or not over this.
    #[error("the signature is wrong")]
    Signature,
    /// Its time is over.
    #[error("the manifest has expired")]
    Expired,
    /// The signed list is not the one that was found.
    #[error("the SRV records are not those that were signed")]
    Entries,
    /// Older than one that was seen before: somebody replays it.
    #[error("the manifest is older than one seen before")]
    Older,
}

/// The name of a zone: lower case, without the final dot, at most [`ZONE_LEN_MAX`] characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneName(Arc<str>);

impl ZoneName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the entries are: `_mesh._tcp.<zone>`, without the final dot.
    pub fn service(&self) -> String {
        format!("_mesh._tcp.{}", self.0)
    }

    /// Where one node is: `<label>.n.<zone>`.
    pub fn node(&self, label: &Label) -> String {
        format!("{label}.n.{}", self.0)
    }

    /// Where the registrar keeps what it knows of a node: `_reg.<label>.n.<zone>`.
    pub fn tenure(&self, label: &Label) -> String {
        format!("_reg.{label}.n.{}", self.0)
    }

    /// The label in a name that [`ZoneName::node`] made; `None` for every other name.
    pub fn label_in(&self, name: &str) -> Option<Label> {
        name.strip_suffix(&*self.0)?.strip_suffix(".n.")?.parse().ok()
    }

    /// As hashes and signatures take it: preceded by its length as one byte.
    fn put(&self, payload: &mut Vec<u8>) {
        payload.push(u8::try_from(self.0.len()).expect("at most ZONE_LEN_MAX"));
        payload.extend_from_slice(self.0.as_bytes());
    }
}

impl FromStr for ZoneName {
    type Err = ZoneError;
    fn from_str(text: &str) -> Result<ZoneName, ZoneError> {
        match text.parse() {
            Ok(Host::Name(name)) if name.len() <= ZONE_LEN_MAX => Ok(ZoneName(name)),
            _ => Err(ZoneError::Zone),
        }
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node's name in a zone: base32 of the first 10 bytes of SHA-256 of its public key, 16 lower-case
/// characters. Short, so that 23 entries fit a UDP answer; it names a node and proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label([u8; 10]);

impl Label {
    /// Characters of its text.
    pub const LEN: usize = 16;

    /// The label of this node.
    pub fn of(id: &NodeId) -> Label {
        Label(first_of_hash(id))
    }
}

impl FromStr for Label {
    type Err = ZoneError;
    fn from_str(text: &str) -> Result<Label, ZoneError> {
        base32(text).map(Label).ok_or(ZoneError::Label)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which registrar key signed: base32 of the first 8 bytes of SHA-256 of the public key, 13 lower-case
/// characters. It only says which of the pinned keys to try.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// The key id of this key. A registrar key is written like a node id, with its checksum.
    pub fn of(key: &NodeId) -> KeyId {
        KeyId(first_of_hash(key))
    }
}

impl FromStr for KeyId {
    type Err = ZoneError;
    fn from_str(text: &str) -> Result<KeyId, ZoneError> {
        base32(text).map(KeyId).ok_or(ZoneError::Value("k"))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn first_of_hash<const N: usize>(key: &NodeId) -> [u8; N] {
    Sha256::digest(key.as_bytes())[..N].try_into().expect("at most 32 bytes")
}

/// Base32 of exactly `N` bytes, either case (the DNS keeps none), spare bits zero.
fn base32<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != (N * 8).div_ceil(5) {
        return None;
    }
    BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?.try_into().ok()
}

/// One SRV record (RFC 2782): where a node can be found.
///
/// `Display` is its canonical line, the unit of [`Service::digest`]: `prio weight port target`, the
/// numbers in decimal without leading zeros, single spaces, the target in lower case and without its
/// final dot; the root, which means "no service here", is `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Service {
    /// Lower ones are tried first.
    pub priority: u16,
    /// The share of one among those of the same priority.
    pub weight: u16,
    /// The TCP port of the receptor.
    pub port: u16,
    /// Lower case, no final dot; `None` = the root.
    target: Option<Arc<str>>,
}

impl Service {
    /// A record with a checked target.
    ///
    /// # Errors
    /// [`ZoneError::Target`] when it is neither a host name nor `.`; an IP address is none.
    pub fn new(priority: u16, weight: u16, port: u16, target: &str) -> Result<Service, ZoneError> {
        let target = match target {
            "." => None,
            name => match name.parse() {
                Ok(Host::Name(name)) => Some(name),
                _ => return Err(ZoneError::Target),
            },
        };
        Ok(Service { priority, weight, port, target })
    }

    /// The host, or `None` for the root: the service is not here (RFC 2782).
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// The `h` of a manifest: SHA-256 over the canonical lines, each once, in the order of their bytes,
    /// joined by single LFs, none at the end.
    pub fn digest(services: &[Service]) -> Digest {
        Digest::of(lines(services).join("\n").as_bytes())
    }
}

/// The canonical lines, sorted, each once: in the DNS a set of records holds no record twice.
fn lines(services: &[Service]) -> Vec<String> {
    let mut lines: Vec<String> = services.iter().map(Service::to_string).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.priority, self.weight, self.port, self.target().unwrap_or("."))
    }
}

/// The pairs of one text, bounded and split, nothing decoded.
struct Pairs<'t>(Vec<(&'t str, &'t str)>);

impl<'t> Pairs<'t> {
    /// Passes over what is no pair of printable ASCII.
    fn of<S: AsRef<[u8]>>(strings: &'t [S]) -> Result<Pairs<'t>, ZoneError> {
        let bytes = strings.iter().map(|string| string.as_ref().len()).sum::<usize>();
        if strings.len() > STRINGS_MAX || bytes > TEXT_BYTES_MAX {
            return Err(ZoneError::Size);
        }
        let words = strings.iter().flat_map(|string| string.as_ref().split(|byte| *byte == b' '));
        let pair = |word: &'t [u8]| {
            let word =
                std::str::from_utf8(word).ok().filter(|word| word.bytes().all(|byte| byte.is_ascii_graphic()))?;
            word.split_once('=').filter(|(key, _)| !key.is_empty())
        };
        let pairs: Vec<_> = words.filter_map(pair).take(STRINGS_MAX + 1).collect();
        if pairs.len() > STRINGS_MAX { Err(ZoneError::Size) } else { Ok(Pairs(pairs)) }
    }

    fn find(&self, key: &'static str) -> Option<&'t str> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| *value)
    }

    fn text(&self, key: &'static str) -> Result<&'t str, ZoneError> {
        self.find(key).ok_or(ZoneError::Missing(key))
    }

    fn parsed<T: FromStr>(&self, key: &'static str) -> Result<T, ZoneError> {
        self.text(key)?.parse().map_err(|_| ZoneError::Value(key))
    }

    /// A decimal number without sign and without leading zeros, so that one value has one spelling.
    fn number(&self, key: &'static str) -> Result<u64, ZoneError> {
        let text = self.text(key)?;
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse().ok().filter(|_| is_plain).ok_or(ZoneError::Value(key))
    }

    /// Is this a text of ours? `needed`: it must say so.
    fn check_version(&self, version: &str, needed: bool) -> Result<(), ZoneError> {
        match self.find("v") {
            Some(value) if value == version => Ok(()),
            None if !needed => Ok(()),
            _ => Err(ZoneError::Version),
        }
    }
}

#[cfg(test)]
mod tests;
