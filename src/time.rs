//! Moments as numbers. Nothing here reads a clock: whoever owns one passes [`Now`] in.
//!
//! Both kinds of moment count microseconds; spans are [`Duration`]. All arithmetic saturates, so no
//! moment that a peer names can overflow anything.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment of the monotonic clock: microseconds since the process (or the simulation) began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

/// A moment of the wall clock: microseconds since 1970-01-01T00:00:00Z, negative before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(pub i64);

/// One moment, read from both clocks at once. Deadlines use `mono`; what travels uses `wall`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Never goes back; says nothing about the date.
    pub mono: Mono,
    /// The date; may jump.
    pub wall: Wall,
}

impl Mono {
    /// The span since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Wall {
    /// From whole milliseconds since the epoch.
    pub const fn from_millis(ms: i64) -> Wall {
        Wall(ms.saturating_mul(1_000))
    }

    /// Whole milliseconds since the epoch, rounded down.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The hour that salts hashes on the wire (2-wire): seconds / 3600, zero before the epoch.
    pub const fn hour(self) -> u64 {
        let seconds = self.as_secs();
        if seconds < 0 { 0 } else { seconds.unsigned_abs() / 3_600 }
    }

    /// The span since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Wall) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, span: Duration) -> Mono {
        Mono(self.0.saturating_add(micros(span)))
    }
}

impl Add<Duration> for Wall {
    type Output = Wall;
    fn add(self, span: Duration) -> Wall {
        Wall(self.0.saturating_add_unsigned(micros(span)))
    }
}

impl Sub<Duration> for Wall {
    type Output = Wall;
    fn sub(self, span: Duration) -> Wall {
        Wall(self.0.saturating_sub_unsigned(micros(span)))
    }
}

impl fmt::Debug for Mono {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wall {}us", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Mono(u64::MAX) + Duration::from_secs(1), Mono(u64::MAX));
        assert_eq!(Wall(i64::MAX) + Duration::MAX, Wall(i64::MAX));
        assert_eq!(Wall(i64::MIN) - Duration::MAX, Wall(i64::MIN));
        assert_eq!(Mono(1).since(Mono(2)), Duration::ZERO);
        assert_eq!(Wall(1).since(Wall(2)), Duration::ZERO);
    }

    #[test]
    fn the_hour_counts_from_the_epoch_and_is_zero_before_it() {
        assert_eq!(Wall(3_600 * 1_000_000).hour(), 1);
        assert_eq!(Wall(3_600 * 1_000_000 - 1).hour(), 0);
        assert_eq!(Wall(-1).hour(), 0);
        assert_eq!(Wall(-1).as_millis(), -1);
    }
}
