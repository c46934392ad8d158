//! Floor 3: the local API over a Unix socket, and its client.
//!
//! ```text
//!   afferent status, curl --unix-socket ...          the driver (floor 4)
//!     | GET /v1/status                                 |
//!     |----> routes --- Request::Status{answer} -----> |   one bounded queue
//!     |<---- JSON  <--- Status ----------------------- |   one oneshot for each answer
//!     | POST /v1/events  {type, data, ...}             |
//!     |----> publish: Draft, seal -- Request::Publish->|   answered after the durable append
//!     | GET /v1/events?pattern=a.*&since=10m           |
//!     |----> live: pages of the journal (core::ports::Log), woken by its head
//! ```
//!
//! What is published once stays once: an idempotency key is kept by the commit of its event
//! ([`KEY_LIFE`]). Who reads goes on where it was: by position (`since`, `Last-Event-ID`), or as a
//! group that acknowledges. What every answer looks like stands in `schemas/` ([`SCHEMAS`]), and what
//! can be asked at `/openapi.json`.
//!
//! How it is driven: [`bind`] takes the socket (and says so if a living daemon holds it), [`serve`]
//! answers until told to stop. The driver answers every [`Request`]; what it fills in are the types
//! of [`answers`], which are the JSON of the API. Programs find `"schema": "afferent.<thing>/1"` in
//! every object; adding members is allowed, removing one bumps the number.
//!
//! Whoever may connect may read. Who may write is the kernel's to say: the socket has mode 0660, so
//! only root, its owner and its group get in; should somebody widen that mode, writes still need the
//! credentials of one of those.
//!
//! This room never touches the protocol: it signs what is published here, checks it as if it came
//! from a peer, and hands it over. Of the reserved root `mesh.` it shows `mesh.peer.*` alone, to whoever
//! asks for it by that name.

pub mod answers;
mod caller;
mod changes;
pub mod client;
mod cloudevents;
pub mod dead;
mod exposition;
mod fault;
mod groups;
mod idempotency;
mod lines;
mod live;
mod openapi;
mod origin;
mod peer_change;
mod peers;
mod publish;
mod request;
mod routes;
mod schemas;
mod scrape;
mod select;
mod socket;
mod sse;
pub mod tiers;
mod waiting;

pub use answers::document;
pub use changes::CHANGES_MAX;
pub use client::{Client, ClientError};
pub use fault::{Fault, FaultCode, Problem};
pub use groups::{Cursors, GROUP_NAME_MAX, GROUPS_MAX};
pub use idempotency::{KEY_BYTES_MAX, KEY_LIFE};
pub use live::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, PROGRESS_EVERY};
pub use peer_change::PeerChange;
pub use request::{InterestsChange, Request};
pub use routes::{ANSWER_MAX, DISCOVER_MAX, Desk, FAREWELL_MAX, PROBE_MAX, serve};
pub use schemas::{SCHEMA_URN, SCHEMAS};
pub use scrape::{SCRAPERS_MAX, bind_scrape, scrape};
pub use select::select;
pub use socket::{BindError, Socket, bind};
pub use sse::KEEP_ALIVE;
pub use waiting::{Taken, WAIT_DEFAULT, WAIT_MAX};

/// Requests that wait for the driver; a full queue makes callers wait, since all of them are local.
pub const REQUESTS_MAX: usize = 64;
/// Connections at once; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 256;
/// Largest body that is read as a whole.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Events handed to the driver at once.
pub const PUBLISH_BATCH_MAX: usize = 256;
/// Batches of one publisher that may be waiting for the disk.
pub const PUBLISH_BATCHES_MAX: usize = 4;
/// Longest line of a publisher: an event, and room for spaces and escapes that it loses on the way.
pub const LINE_BYTES_MAX: usize = 2 * crate::wire::event::EVENT_BYTES_MAX;

#[cfg(test)]
pub(crate) mod tests;
