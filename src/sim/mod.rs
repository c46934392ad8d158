//! Floor 4, beside the daemon: many [`crate::core::Node`]s on one clock and one seed.
//!
//! A [`World`] carries out every output of every node the way the devices do, only in virtual time
//! and with faults: messages are lost, delayed, reordered and doubled; nodes crash between asking the
//! disk and hearing from it, and come back with what was durable. Signatures are real. The same seed
//! gives the same run, to the last byte of [`World::trace`].
//!
//! What is checked is said once, in [`World::check`]: nothing acknowledged to a publisher is missing
//! on an interested bus, nothing stands there twice or out of its source's order, nobody holds what
//! it did not ask for, and no hand grows beyond its bound.
//!
//! A [`Mesh`] is the other half: nodes that know nobody yet, and look for each other. A [`Swarm`] is the
//! large one: thousands of nodes that know each other, and what it costs to bring an event to all of them.

mod disk;
pub mod mesh;
pub mod swarm;
mod world;

pub use disk::Disk;
pub use mesh::Mesh;
pub use swarm::Swarm;
pub use world::{Faults, World};
