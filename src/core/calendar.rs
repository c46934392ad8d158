//! A date that does not believe every jump of the machine's clock.
//!
//! What is owed to a peer counts as expired by this date only. A clock that jumps two days ahead and
//! is put right an hour later must not have made us give up two days of events; a peer that gets an
//! event a little late says `expired`, and nothing is lost by that.

use super::params::{JUMP_BELIEVED_AFTER, JUMP_MAX};
use crate::time::{Mono, Now};

/// The date as far as it is believed.
#[derive(Default)]
pub(super) struct Calendar {
    last: Option<Now>,
    doubted: Option<Mono>,
}

impl Calendar {
    /// This moment, with a date that rises no faster than time passes, plus 2 minutes; a jump that
    /// stood for a day is believed. Going back is believed at once: it only makes events younger.
    pub(super) fn believe(&mut self, now: Now) -> Now {
        if let Some(last) = self.last {
            let expected = last.wall + now.mono.since(last.mono);
            if now.wall > expected + JUMP_MAX {
                let since = *self.doubted.get_or_insert(now.mono);
                if now.mono.since(since) < JUMP_BELIEVED_AFTER {
                    return Now { mono: now.mono, wall: expected };
                }
            }
        }
        self.doubted = None;
        self.last = Some(now);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::super::params::DAY;
    use super::*;
    use crate::time::Wall;
    use std::time::Duration;

    const START: Now = Now { mono: Mono(0), wall: Wall::from_millis(1_795_243_262_123) };

    fn after(span: Duration, jump: Duration) -> Now {
        Now { mono: START.mono + span, wall: START.wall + span + jump }
    }

    #[test]
    fn a_jump_ahead_is_doubted_for_a_day_and_a_correction_ends_the_doubt() {
        let mut calendar = Calendar::default();
        let minute = Duration::from_secs(60);
        assert_eq!(calendar.believe(START), START);
        assert_eq!(calendar.believe(after(minute, DAY * 2)), after(minute, Duration::ZERO));
        assert_eq!(calendar.believe(after(minute * 2, Duration::ZERO)), after(minute * 2, Duration::ZERO));
        assert_eq!(calendar.believe(after(minute * 3, DAY)), after(minute * 3, Duration::ZERO));
        assert_eq!(calendar.believe(after(minute * 3 + DAY, DAY)), after(minute * 3 + DAY, DAY), "it stood for a day");
    }

    #[test]
    fn small_steps_and_steps_back_are_believed() {
        let mut calendar = Calendar::default();
        calendar.believe(START);
        let ahead = after(Duration::from_secs(1), JUMP_MAX);
        assert_eq!(calendar.believe(ahead), ahead);
        let back = Now { mono: ahead.mono, wall: START.wall - DAY };
        assert_eq!(calendar.believe(back), back);
    }
}
