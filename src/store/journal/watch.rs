//! The stall watchdog: a commit that takes longer than any disk should is the end of the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Report;
use super::shared::locked;

/// Longest time the writer may be busy with one thing.
pub const BUSY_MAX: Duration = Duration::from_secs(10);
const LOOKS_EVERY: Duration = Duration::from_secs(2);

/// Watches what the writer is busy with.
pub(super) struct Watch {
    epoch: Instant,
    /// Milliseconds from `epoch` to when the work at hand began, plus one; 0 while there is none.
    busy_since: AtomicU64,
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Default for Watch {
    fn default() -> Watch {
        let (busy_since, stopped, changed) = Default::default();
        Watch { epoch: Instant::now(), busy_since, stopped, changed }
    }
}

impl Watch {
    fn millis(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Does something that touches the disk, and says how long it took.
    pub(super) fn over<T>(&self, work: impl FnOnce() -> T) -> (T, Duration) {
        let began = Instant::now();
        self.busy_since.store(self.millis() + 1, Ordering::Relaxed);
        let result = work();
        self.busy_since.store(0, Ordering::Relaxed);
        (result, began.elapsed())
    }

    /// Ends [`Watch::guard`].
    pub(super) fn stop(&self) {
        *locked(&self.stopped) = true;
        self.changed.notify_all();
    }

    /// Looks until it is stopped; reports once.
    pub(super) fn guard(&self, report: &dyn Fn(Report)) {
        let mut stopped = locked(&self.stopped);
        while !*stopped {
            stopped = self.changed.wait_timeout(stopped, LOOKS_EVERY).unwrap_or_else(PoisonError::into_inner).0;
            if let Some(why) = self.stall() {
                report(Report::Fatal(why));
                return;
            }
        }
    }

    fn stall(&self) -> Option<String> {
        let since = self.busy_since.load(Ordering::Relaxed).checked_sub(1)?;
        let busy = Duration::from_millis(self.millis().saturating_sub(since));
        (busy > BUSY_MAX).then(|| format!("the disk has not finished one commit in {} s", busy.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A watch whose work began this long ago.
    fn busy_for(busy: Duration) -> Watch {
        let epoch = Instant::now().checked_sub(busy).expect("the machine runs for longer");
        Watch { epoch, busy_since: AtomicU64::new(1), ..Watch::default() }
    }

    #[test]
    fn a_commit_that_does_not_end_is_fatal() {
        let reports = Mutex::new(Vec::new());
        let watch = busy_for(BUSY_MAX + Duration::from_secs(1));
        watch.changed.notify_all();
        assert!(watch.stall().is_some());
        watch.stop_after_one_look(&reports);
        assert!(matches!(locked(&reports)[..], [Report::Fatal(_)]));
    }

    impl Watch {
        fn stop_after_one_look(&self, reports: &Mutex<Vec<Report>>) {
            self.guard(&|report| locked(reports).push(report));
        }
    }

    #[test]
    fn work_that_takes_its_time_is_not() {
        assert_eq!(busy_for(BUSY_MAX / 2).stall(), None);
        let watch = Watch::default();
        let (result, took) = watch.over(|| 7);
        assert!(result == 7 && took < BUSY_MAX);
        assert_eq!(watch.stall(), None);
    }
}
