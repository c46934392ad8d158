//! **afferent** joins machines owned by different people into one mesh of signed events.
//!
//! One crate, built like a house: the folders are floors, and a module imports only lower floors and
//! its own folder. `tests/tidy.rs` enforces that from the first commit.
//!
//! ```text
//! 6  main
//! 5  cli                                     one file a command; people on a terminal, programs by --json
//! 4  daemon            sim                   the driver that owns the Node; many Nodes on one clock and one seed
//! 3  store  net  bus  admin  config          devices; none imports another
//! 2  core                                    the protocol: no IO, no clock, no chance, no async
//! 1  wire                                    what travels: values, codecs, signatures, patterns, Rejection
//! 0  time                                    Mono, Wall, Now: numbers only
//! ```
//!
//! The whole protocol is [`core::Node`]: one way in ([`core::ports::Input`]), one way out
//! ([`core::ports::Output`]), one wake-up time. Devices carry out what it asks for and report back.

pub mod admin;
pub mod bus;
pub mod cli;
pub mod config;
pub mod core;
pub mod daemon;
pub mod net;
pub mod sim;
pub mod store;
pub mod time;
pub mod wire;
