//! Readers and the length of a stream: catch-up waits for them, and what they missed is told.
//!
//! A stream keeps about `maxlen` entries. When it is full of entries that a group of readers has not
//! read, the bridge waits: the journal keeps what follows. A group that stands still for
//! [`Timing::patience`](super::Timing::patience) is waited for no longer, so that one that was forgotten cannot
//! hold the others up; it is told when it reads again. Others may trim the stream as well. Whatever
//! was trimmed before a group read it is counted, once (with Redis 7 or Valkey 7 and later: before
//! that nobody can tell).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::streams::StreamInfoGroupsReply;
use redis::{Cmd, Value};
use tokio::time::Instant;

use super::connection::Script;
use super::trouble::Trouble;

/// The readers of one stream, as far as the bridge remembers them.
pub(super) struct Readers {
    stream: String,
    maxlen: u64,
    patience: Duration,
    script: Script,
    waiting: Option<(Place, Instant)>,
    /// Somebody was waited for since this was last asked.
    waited: bool,
    /// Groups that are not waited for, and where they stood still.
    given_up: BTreeMap<Vec<u8>, Vec<u8>>,
    known: BTreeMap<String, Known>,
}

/// A group, and the id it stands at.
type Place = (Vec<u8>, Vec<u8>);

/// May more be appended?
#[derive(Debug)]
pub(super) enum Room {
    /// Yes.
    Free,
    /// Not before this group reads on.
    Waits(String),
    /// Yes: this group stood still for too long.
    WentOn(String),
}

impl Readers {
    pub(super) fn new(stream: &str, maxlen: u64, patience: Duration) -> Readers {
        Readers {
            stream: stream.to_owned(),
            maxlen,
            patience,
            script: Script::new(include_str!("trim.lua")),
            waiting: None,
            waited: false,
            given_up: BTreeMap::new(),
            known: BTreeMap::new(),
        }
    }

    /// Is the stream longer than it should be?
    pub(super) fn is_long(&self, length: u64) -> bool {
        self.maxlen > 0 && length > self.maxlen
    }

    /// Has anybody been waited for since the last call?
    pub(super) fn has_waited(&mut self) -> bool {
        std::mem::take(&mut self.waited)
    }

    /// Trims what everybody has read.
    pub(super) async fn make_room(&mut self, redis: &mut MultiplexedConnection) -> Result<Room, Trouble> {
        let arguments = |call: &mut Cmd| {
            call.arg(self.maxlen);
            for (group, id) in &self.given_up {
                call.arg(group).arg(id);
            }
        };
        let answer: Vec<Vec<u8>> = self.script.run(redis, &[&self.stream], arguments).await?;
        let Ok([group, id]) = <[Vec<u8>; 2]>::try_from(answer) else {
            self.waiting = None;
            return Ok(Room::Free);
        };
        let name = String::from_utf8_lossy(&group).into_owned();
        self.waited = true;
        match &self.waiting {
            Some((place, since)) if *place == (group.clone(), id.clone()) => {
                if since.elapsed() < self.patience {
                    return Ok(Room::Waits(name));
                }
                self.waiting = None;
                self.given_up.insert(group, id);
                Ok(Room::WentOn(name))
            }
            _ => {
                self.given_up.remove(&group);
                self.waiting = Some(((group, id), Instant::now()));
                Ok(Room::Waits(name))
            }
        }
    }

    /// Entries that were trimmed before their groups read them, since the last look.
    pub(super) async fn missed(&mut self, redis: &mut MultiplexedConnection) -> Result<Vec<(String, u64)>, Trouble> {
        let mut ask = redis::pipe();
        ask.atomic().cmd("XINFO").arg("STREAM").arg(&self.stream).cmd("XINFO").arg("GROUPS").arg(&self.stream);
        let answer: Result<(Value, Value), _> = ask.query_async(redis).await;
        let (stream, groups) = match answer {
            Ok(answer) => answer,
            // There is no stream yet, and so nobody who reads it.
            Err(error) if error.to_string().contains("no such key") => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        // A reply of an older server, or a name that is no text: then nothing can be told.
        let stream = redis::from_redis_value::<HashMap<String, Value>>(stream).ok().and_then(Reach::read);
        let groups = redis::from_redis_value::<StreamInfoGroupsReply>(groups);
        let (Some(stream), Ok(groups)) = (stream, groups) else { return Ok(Vec::new()) };
        self.known.retain(|name, _| groups.groups.iter().any(|group| group.name == *name));
        let mut missed = Vec::new();
        for group in &groups.groups {
            let Some(lag) = group.lag.and_then(|lag| u64::try_from(lag).ok()) else { continue };
            let known = self.known.entry(group.name.clone()).or_default();
            let entries = known.look(&stream, &group.last_delivered_id, lag);
            if entries > 0 {
                missed.push((group.name.clone(), entries));
            }
        }
        Ok(missed)
    }
}

/// How far a stream reaches; entries are counted from the first that was ever added.
#[derive(Clone, Debug)]
struct Reach {
    added: u64,
    /// Entries before the first that is still there.
    gone: u64,
    first: String,
    last: String,
}

impl Reach {
    fn read(mut reply: HashMap<String, Value>) -> Option<Reach> {
        let mut take = |name: &str| reply.remove(name);
        let added: u64 = redis::from_redis_value(take("entries-added")?).ok()?;
        let length: u64 = redis::from_redis_value(take("length")?).ok()?;
        let last: String = redis::from_redis_value(take("last-generated-id")?).ok()?;
        let deleted: String = redis::from_redis_value(take("max-deleted-entry-id")?).ok()?;
        let first = match take("first-entry")? {
            Value::Array(entry) => redis::from_redis_value(entry.into_iter().next()?).ok()?,
            _ => last.clone(),
        };
        // With entries deleted from its middle, nobody knows how many are gone before the first.
        let is_whole = order(&deleted) <= order(&first);
        is_whole.then_some(Reach { added, gone: added.saturating_sub(length), first, last })
    }
}

/// What is remembered of one group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Known {
    /// The id it stands at.
    at: String,
    /// Entries that it has read or missed, up to there.
    passed: u64,
    /// Entries that it missed from there on, as far as they were told.
    missed: u64,
    /// Entries of earlier gaps, which Redis goes on counting as its lag.
    before: u64,
}

impl Known {
    /// How many more it has missed since the last look.
    fn look(&mut self, stream: &Reach, at: &str, lag: u64) -> u64 {
        if self.at != at {
            self.before += self.missed;
            self.at = at.to_owned();
            self.missed = 0;
            if at == stream.last {
                // It has read everything there is: whatever lag is left is an old gap.
                self.before = lag;
            }
            self.passed = stream.added.saturating_sub(lag.saturating_sub(self.before));
        }
        if order(at) >= order(&stream.first) {
            return 0;
        }
        let missed = stream.gone.saturating_sub(self.passed);
        let more = missed.saturating_sub(self.missed);
        self.missed = self.missed.max(missed);
        more
    }
}

/// An id of Redis as it is ordered; anything else is the first of all.
fn order(id: &str) -> (u64, u64) {
    let parsed = id.split_once('-').and_then(|(ms, number)| Some((ms.parse().ok()?, number.parse().ok()?)));
    parsed.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream of entries `1-0`, `2-0` ..., of which the first `gone` are trimmed.
    fn reach(added: u64, gone: u64) -> Reach {
        Reach { added, gone, first: format!("{}-0", gone + 1), last: format!("{added}-0") }
    }

    #[test]
    fn what_a_group_missed_is_told_once_and_grows_with_the_gap() {
        let mut known = Known::default();
        assert_eq!(known.look(&reach(100, 0), "10-0", 90), 0);
        assert_eq!(known.look(&reach(100, 10), "10-0", 90), 0, "all that is gone was read");
        assert_eq!(known.look(&reach(100, 30), "10-0", 90), 20);
        assert_eq!(known.look(&reach(100, 30), "10-0", 90), 0);
        assert_eq!(known.look(&reach(120, 50), "10-0", 110), 20);
        // It reads one entry behind the gap, and Redis counts the gap as its lag for ever.
        assert_eq!(known.look(&reach(120, 50), "51-0", 109), 0);
        assert_eq!(known.look(&reach(120, 60), "51-0", 109), 9);
        assert_eq!(known.look(&reach(120, 60), "120-0", 49), 0);
        assert_eq!(known.look(&reach(130, 110), "120-0", 59), 0);
        assert_eq!(known.look(&reach(130, 125), "120-0", 59), 5);
    }

    #[test]
    fn a_gap_from_before_the_first_look_is_told_and_a_group_that_never_read_counts_from_there() {
        assert_eq!(Known::default().look(&reach(100, 30), "10-0", 90), 20);
        let mut known = Known::default();
        assert_eq!(known.look(&reach(100, 30), "0-0", 70), 0, "as Redis tells of a group made at 0");
        assert_eq!(known.look(&reach(110, 45), "0-0", 65), 15);
    }

    #[test]
    fn ids_are_ordered_as_numbers() {
        assert!(order("9-5") < order("10-0") && order("10-2") < order("10-10"));
        assert_eq!(order("x"), (0, 0));
    }
}
