//! Floor 2: the protocol. One way in, one way out, one wake-up time.

pub mod params;
pub mod ports;
