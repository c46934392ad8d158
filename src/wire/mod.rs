//! Floor 1: what travels. Values, codecs, signatures, patterns, and every way to be wrong.
//!
//! Everything here is a pure function of its arguments: no IO, no clock, no chance, no async. Bytes
//! from a peer become a [`Verified`] value or a [`Rejection`] and nothing in between. The order of
//! the checks is fixed (cheap first) and written down at [`envelope`]; the routes and the arrows of
//! the protocol are drawn once, at [`message`].

pub mod address;
pub mod draft;
pub mod envelope;
pub mod event;
pub mod identity;
pub mod json;
pub mod message;
pub mod pattern;
pub mod question;
pub mod record;
pub mod registration;
pub mod rejection;
pub mod sync;
pub mod timestamp;
pub mod zone;

pub use address::{Block, Forbidden, Group, Host, HostPort, PeerAddress, Profile, Word};
pub use draft::{Draft, Scalar};
pub use envelope::{Envelope, Line, Signature, Unverified, Verified};
pub use event::{Event, EventType, Network};
pub use identity::{Digest, Keypair, Keys, NodeId};
pub use pattern::{Interests, Pattern};
pub use question::Question;
pub use record::{Record, RecordDraft};
pub use rejection::{Blame, Code, Rejection};
pub use zone::ZoneName;
