//! Floor 3, the disk: the data directory, the key file, the peer file and the journal.
//!
//! ```text
//! <data directory>          0700, one process at a time
//!   lock  VERSION           who is in it; which format it has
//!   node.key                the secret half of the node's identity, 0600
//!   record-seq              the number of our last node record
//!   interests               what the command line asked for instead of the configuration
//!   mutes                   sources muted, or listened to again, by the command line
//!   routes                  which streams of the bus took what, as far as that still counts
//!   peers                   our peers, checksummed, replaced whole
//!   book                    everybody else we heard of, and whom we do not listen to, likewise
//!   journal/                every event that was acknowledged, the dedupe index, the cursors
//! ```
//!
//! How it is driven: [`DataDir::open`] comes first and holds the directory for as long as it (or a
//! [`Journal`] in it) lives. The journal owns one thread. `append` hands it entries and returns at
//! once; that thread gathers what waits into one commit with one fsync, and calls the `report`
//! function back with what became of each batch. Reading (`Known`, `Log`) may be done from any thread.
//! Small files are written aside, synced, renamed and the directory synced, or not at all.
//!
//! What it never does: say `Stored` before the fsync; overwrite a key; delete what a `bus:` cursor has
//! not passed; start over silently when a file is damaged (it is moved aside and said); read a clock to
//! decide anything (moments are handed in); retry a failed fsync (it says `Fatal` and the process ends).

pub mod book;
mod checked;
mod directory;
mod error;
mod files;
pub mod interests;
pub mod journal;
pub mod key;
pub mod mutes;
pub mod peers;
pub mod routes;
pub mod seeds;

pub use directory::{DataDir, FORMAT};
pub use error::StoreError;
pub use journal::{Journal, JournalSettings, Report, Stats, Swept};

#[cfg(test)]
mod tests;
