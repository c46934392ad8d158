//! What is said with the network on the other side: lanes, and what they carry.

use std::time::Duration;

use crate::wire::{Envelope, Verified};

/// One connection that we made to a peer. A newer lane makes reports of older ones meaningless.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneId(pub u64);

/// One body of lines in flight to a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShipmentId(pub u64);

/// A verified event that reached us.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// What.
    pub envelope: Verified<Envelope>,
    /// Links crossed, as the sender said.
    pub hops: u8,
    /// The sender asks us to carry it on.
    pub duty: bool,
}

/// Why a shipment was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SendError {
    /// The whole body is to be sent again after this.
    Busy(Duration),
    /// The peer refuses the whole body for ever, with this HTTP status: a fault of ours.
    Refused(u16),
    /// No answer; the lane is gone. `Broken` follows or was said before.
    Lost,
}
