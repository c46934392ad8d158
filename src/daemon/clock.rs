//! The one place that reads the clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Mono, Now, Wall};

/// Both clocks of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
}

impl Clock {
    /// Monotonic time counts from here.
    pub(super) fn start() -> Clock {
        Clock { began: Instant::now() }
    }

    /// This moment on both clocks.
    pub(super) fn now(&self) -> Now {
        Now { mono: self.mono(), wall: wall() }
    }

    /// This moment on the monotonic clock.
    pub(super) fn mono(&self) -> Mono {
        Mono(micros(self.began.elapsed()))
    }

    /// When a moment of the core is, for the timer of the runtime.
    pub(super) fn instant(&self, mono: Mono) -> Instant {
        self.began + Duration::from_micros(mono.0)
    }
}

/// The date, by the machine.
pub(super) fn wall() -> Wall {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Wall::default() + since,
        Err(before) => Wall::default() - before.duration(),
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
