//! A node is an Ed25519 key: its id, its signatures, and the one rule by which signatures are checked.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::{Signer, SigningKey, Verifier, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::rejection::Rejection;

/// Length of a node id as text. Fits one DNS label, has no spare bits in base32.
pub const NODE_ID_LEN: usize = 56;

const NODE_ID_VERSION: u8 = 1;
const NODE_ID_DOMAIN: &[u8] = b"afferent-node-id";

/// The Ed25519 public key of a node. As text `lower(base32(key ‖ checksum ‖ 1))`, the layout of Tor
/// v3 names (rend-spec, "Encoding onion addresses"): a slip while copying is caught by the checksum.
///
/// A `NodeId` always holds a decodable, canonical key that is not of small order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// From the 32 bytes of a public key, as a TLS certificate carries it.
    ///
    /// # Errors
    /// [`Rejection::NodeId`] when the bytes are no usable key.
    pub fn from_public_key(bytes: [u8; 32]) -> Result<NodeId, Rejection> {
        decode_key(&bytes).map(|_| NodeId(bytes))
    }

    /// The public key; in every hash a node id is these 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 10 characters, for people. Never unique by promise.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }

    /// The id as `source`, `to` and `replyto` carry it: `mesh:<id>`.
    pub fn uri(&self) -> String {
        format!("mesh:{self}")
    }

    /// Reads `mesh:<id>`, with `keys` remembering which keys were found usable.
    pub(super) fn from_uri(uri: &str, keys: &mut Keys) -> Result<NodeId, Rejection> {
        let text = uri.strip_prefix("mesh:").ok_or(Rejection::NodeId("expected `mesh:<node id>`"))?;
        let bytes = decode_text(text)?;
        keys.get(&bytes)?;
        Ok(NodeId(bytes))
    }

    /// The verifying half, decoded anew (4 µs); checks of many lines go through [`Keys`].
    pub(super) fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey::from_bytes(&self.0).expect("a NodeId holds a decodable key")
    }
}

fn decode_text(text: &str) -> Result<[u8; 32], Rejection> {
    if text.len() != NODE_ID_LEN {
        return Err(Rejection::NodeId("not 56 characters"));
    }
    let mut upper = [0u8; NODE_ID_LEN];
    for (to, from) in upper.iter_mut().zip(text.bytes()) {
        *to = match from {
            b'a'..=b'z' => from.to_ascii_uppercase(),
            b'2'..=b'7' => from,
            _ => return Err(Rejection::NodeId("a character outside a-z and 2-7")),
        };
    }
    let mut raw = [0u8; 35];
    BASE32_NOPAD.decode_mut(&upper, &mut raw).map_err(|_| Rejection::NodeId("not base32"))?;
    let key: [u8; 32] = raw[..32].try_into().expect("32 of 35 bytes");
    if raw[34] != NODE_ID_VERSION {
        return Err(Rejection::NodeId("made by a newer version of the format"));
    }
    if raw[32..34] != checksum(&key) {
        return Err(Rejection::NodeId("the checksum does not match: a typing error?"));
    }
    Ok(key)
}

fn checksum(key: &[u8; 32]) -> [u8; 2] {
    let hash = Sha256::new().chain_update(NODE_ID_DOMAIN).chain_update(key).chain_update([NODE_ID_VERSION]).finalize();
    [hash[0], hash[1]]
}

fn decode_key(bytes: &[u8; 32]) -> Result<VerifyingKey, Rejection> {
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| Rejection::NodeId("not a public key"))?;
    if key.is_weak() {
        return Err(Rejection::NodeId("a small-order key, which anybody can sign for"));
    }
    // dalek keeps the bytes it was given; two spellings of one point must not be two nodes.
    if key.to_edwards().compress().as_bytes() != bytes {
        return Err(Rejection::NodeId("not the canonical spelling of its key"));
    }
    Ok(key)
}

impl FromStr for NodeId {
    type Err = Rejection;
    fn from_str(text: &str) -> Result<NodeId, Rejection> {
        NodeId::from_public_key(decode_text(text)?)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut raw = [0u8; 35];
        raw[..32].copy_from_slice(&self.0);
        raw[32..34].copy_from_slice(&checksum(&self.0));
        raw[34] = NODE_ID_VERSION;
        let mut text = [0u8; NODE_ID_LEN];
        BASE32_NOPAD.encode_mut(&raw, &mut text);
        text.make_ascii_lowercase();
        f.pad(std::str::from_utf8(&text).expect("base32 is ASCII"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NodeId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-256 of an event's exact bytes: the identity of the event everywhere. As text 43 characters
/// of base64url.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these exact bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// From its 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// Its 32 bytes, as every hash and index takes it.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = Rejection;
    fn from_str(text: &str) -> Result<Digest, Rejection> {
        let wrong = Rejection::Framing("a digest is 43 characters of base64url");
        let mut bytes = [0u8; 32];
        if text.len() != 43 || BASE64URL_NOPAD.decode_mut(text.as_bytes(), &mut bytes).is_err() {
            return Err(wrong);
        }
        Ok(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0)[..8])
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The secret half of a node's identity. Its `Debug` prints the public id only.
#[derive(Clone)]
pub struct Keypair {
    key: SigningKey,
    id: NodeId,
}

impl Keypair {
    /// From 32 secret bytes; chance is the caller's.
    pub fn from_seed(seed: &[u8; 32]) -> Keypair {
        let key = SigningKey::from_bytes(seed);
        let id = NodeId(key.verifying_key().to_bytes());
        Keypair { key, id }
    }

    /// Who signs.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The secret bytes, for the key file alone.
    pub fn seed(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// PKCS#8 **v1** PEM (RFC 5958 without the public key): the form that OpenSSL, Python and Node
    /// can read. dalek's own `to_pkcs8_pem` writes v2, which they cannot.
    pub fn to_pkcs8_pem(&self) -> String {
        self.key_bytes().to_pkcs8_pem(LineEnding::LF).expect("a v1 key always encodes").to_string()
    }

    /// PKCS#8 v1 DER, for the TLS library.
    pub fn to_pkcs8_der(&self) -> Vec<u8> {
        self.key_bytes().to_pkcs8_der().expect("a v1 key always encodes").as_bytes().to_vec()
    }

    fn key_bytes(&self) -> ed25519_dalek::pkcs8::KeypairBytes {
        ed25519_dalek::pkcs8::KeypairBytes { secret_key: self.key.to_bytes(), public_key: None }
    }

    /// Reads a PKCS#8 PEM key, v1 or v2.
    ///
    /// # Errors
    /// A sentence saying what the text is instead; it never quotes the text.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Keypair, &'static str> {
        use ed25519_dalek::pkcs8::DecodePrivateKey;
        let key = SigningKey::from_pkcs8_pem(pem).map_err(|_| "not an Ed25519 private key in PKCS#8 PEM")?;
        Ok(Keypair::from_seed(&key.to_bytes()))
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({:?})", self.id)
    }
}

/// Public keys already decoded and found usable. Decoding costs 4 µs, a look-up 0.05 µs; one such
/// memory belongs to each worker. Bounded: when full it is emptied, since a miss costs little.
#[derive(Default)]
pub struct Keys {
    known: HashMap<[u8; 32], VerifyingKey>,
}

/// Keys that one [`Keys`] remembers.
pub const KEYS_MAX: usize = 4_096;

impl Keys {
    pub(super) fn get(&mut self, bytes: &[u8; 32]) -> Result<&VerifyingKey, Rejection> {
        if !self.known.contains_key(bytes) {
            let key = decode_key(bytes)?;
            if self.known.len() >= KEYS_MAX {
                self.known.clear();
            }
            self.known.insert(*bytes, key);
        }
        Ok(&self.known[bytes])
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.known.len())
    }
}

/// Checks one signature with the answer of dalek's `verify_strict`, 22 % faster: `key` is known not
/// to be weak, so only a small-order `R` is left to refuse before the plain check. The plain check
/// recomputes `R` and compares bytes, so an `R` in a non-canonical spelling never passes.
///
/// Never `verify_batch`: an ordinary key can make signatures that single verification rejects and
/// batch verification accepts (research/envelope §3.1).
pub(super) fn verify(key: &VerifyingKey, message: &[u8], signature: &[u8; 64]) -> bool {
    !SMALL_ORDER.iter().any(|point| signature[..32] == *point)
        && key.verify(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
}

/// The canonical encodings of the eight points of small order.
const SMALL_ORDER: [[u8; 32]; 8] = {
    const fn with(first: u8, fill: u8, last: u8) -> [u8; 32] {
        let mut point = [fill; 32];
        point[0] = first;
        point[31] = last;
        point
    }
    const fn sign(mut point: [u8; 32]) -> [u8; 32] {
        point[31] |= 0x80;
        point
    }
    const A: [u8; 32] = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ];
    const B: [u8; 32] = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ];
    [with(1, 0, 0), with(0xec, 0xff, 0x7f), with(0, 0, 0), with(0, 0, 0x80), A, sign(A), B, sign(B)]
};

#[cfg(test)]
mod tests;
