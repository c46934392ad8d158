//! What the same machine needs for the parts of the way, measured in the same run: figures of one
//! machine say something when they stand beside its own limits.

use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::load::Load;
use crate::admin::answers::Pinged;
use crate::admin::{Client, ClientError};
use crate::cli::words;
use crate::wire::{Draft, Keypair, NodeId, envelope};

/// Signatures that are measured, and round trips.
const SEALS: usize = 101;
const PINGS: usize = 5;

/// Writing down and signing one event like those of the run, on one core: the median.
pub(super) fn seal(load: &Load) -> Duration {
    let mut seed = [0; 32];
    fastrand::fill(&mut seed);
    let key = Keypair::from_seed(&seed);
    let data = RawValue::from_string(load.data(0)).expect("data of ours is JSON");
    let now = words::now();
    let draft = Draft::new("0", load.kind.as_str(), now).living(now, load.life).with_data(data);
    let measure = |_| {
        let began = Instant::now();
        std::hint::black_box(envelope::seal(&draft, &key)).ok();
        began.elapsed()
    };
    median((0..SEALS).map(measure).collect()).unwrap_or_default()
}

/// The round trip to a peer by the lane that events take: the median; `None` without a lane.
pub(super) async fn round_trip(client: &mut Client, peer: NodeId) -> Option<Duration> {
    let mut trips = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let text = client.post(&format!("/v1/peers/{peer}/ping"), String::new()).await.ok()?;
        let pinged: Pinged = serde_json::from_str(&text).ok()?;
        trips.push(Duration::from_secs_f64(pinged.rtt_ms.max(0.0) / 1e3));
    }
    median(trips)
}

fn median(mut all: Vec<Duration>) -> Option<Duration> {
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

/// The commits of a journal so far, each with its fsync: how many, and how long they took together.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(super) struct Syncs {
    count: f64,
    seconds: f64,
}

impl Syncs {
    /// Asks a daemon, whose disk it is.
    pub(super) async fn of(client: &mut Client) -> Result<Syncs, ClientError> {
        Ok(Syncs::read(&client.get("/metrics").await?))
    }

    fn read(page: &str) -> Syncs {
        let value = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.split(' ').next()?.parse().ok()).unwrap_or(0.0)
        };
        Syncs {
            count: value("afferent_journal_sync_seconds_count"),
            seconds: value("afferent_journal_sync_seconds_sum"),
        }
    }

    /// Those since an earlier moment: how many, and the mean of one; `None` when there was none.
    pub(super) fn since(self, before: Syncs) -> Option<(f64, Duration)> {
        let (count, seconds) = (self.count - before.count, self.seconds - before.seconds);
        (count >= 1.0 && seconds >= 0.0).then(|| (count, Duration::from_secs_f64(seconds / count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_read_from_the_metrics_of_the_daemon() {
        let page = "# TYPE afferent_journal_sync_seconds histogram\nafferent_journal_sync_seconds_sum 0.5\n\
                    afferent_journal_sync_seconds_count 100\nafferent_journal_sync_seconds_bucket{le=\"0.1\"} 7\n# EOF\n";
        let before = Syncs::read(page);
        assert_eq!(before, Syncs { count: 100.0, seconds: 0.5 });
        let after = Syncs { count: 110.0, seconds: 0.52 };
        let (count, mean) = after.since(before).expect("ten of them");
        assert_eq!((count, mean.as_micros()), (10.0, 2_000));
        assert_eq!(before.since(before), None, "a node that does not sync every commit");
        assert_eq!(Syncs::read("").since(before), None, "a daemon that was started again");
    }
}
