//! Saying in the log that something went to the dead letters: at once, and then the sum of each minute
//! until a minute brings none. A flood of them is a handful of lines.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::dead::Cause;

/// What one stream has buried.
pub(super) struct Burials {
    stream: String,
    untold: u64,
    last: Option<Cause>,
    told_at: Option<Instant>,
}

/// Lines are this far apart.
const PAUSE: Duration = Duration::from_secs(60);

impl Burials {
    pub(super) fn of(stream: &str) -> Burials {
        Burials { stream: stream.to_owned(), untold: 0, last: None, told_at: None }
    }

    /// So many more, the last of them for this reason.
    pub(super) fn add(&mut self, letters: u64, last: Cause) {
        self.untold += letters;
        self.last = Some(last);
        self.tell();
    }

    /// Says what is to be said by now; to be called now and then.
    pub(super) fn tell(&mut self) {
        if let Some(letters) = self.due(Instant::now()) {
            self.say(letters);
        }
    }

    /// Says what was not said yet: nobody will call again.
    pub(super) fn end(&mut self) {
        let letters = std::mem::take(&mut self.untold);
        if letters > 0 {
            self.say(letters);
        }
    }

    fn due(&mut self, now: Instant) -> Option<u64> {
        if self.told_at.is_some_and(|at| now.duration_since(at) < PAUSE) {
            return None;
        }
        let letters = std::mem::take(&mut self.untold);
        self.told_at = (letters > 0).then_some(now);
        (letters > 0).then_some(letters)
    }

    fn say(&self, letters: u64) {
        let Some(Cause { kind, code, field, reason }) = &self.last else { return };
        let (stream, kind) = (&self.stream, kind.as_str());
        warn!(%stream, letters, kind, %code, field, reason, "bus: dead letters; next: afferent dead list");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_a_flood_by_its_sum_a_minute() {
        let (mut burials, start) = (Burials::of("s"), Instant::now());
        let mut bury = |letters, seconds| {
            burials.untold += letters;
            burials.due(start + Duration::from_secs(seconds))
        };
        assert_eq!(bury(0, 0), None);
        assert_eq!(bury(3, 1), Some(3));
        assert_eq!([bury(2, 2), bury(5, 60)], [None, None]);
        assert_eq!(bury(1, 61), Some(8));
        assert_eq!(bury(4, 120), None);
        assert_eq!(bury(0, 121), Some(4), "although none came with it");
        assert_eq!(bury(0, 181), None);
        assert_eq!(bury(1, 182), Some(1), "after a quiet minute at once again");
    }
}
