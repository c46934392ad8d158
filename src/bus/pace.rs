//! Readers and the length of a stream: catch-up waits for them, and what they missed is told.
//!
//! A stream keeps about `maxlen` entries. When it is full of entries that a group of readers has not
//! read, the bridge waits: the journal keeps what follows. It waits for a group as long as that makes room
//! for another batch within [`Timing::patience`](super::Timing::patience). One that does not, forgotten or
//! too slow, is waited for no longer until it has caught up, so that it cannot hold the others up; all
//! who hold the bridge up lose their patience at the same time. What is known of groups outlives
//! connections, and is forgotten with them. The group by which this node itself once read a stream is none.
//!
//! Others may trim the stream as well. Whatever was trimmed before a group read it is counted, once (with
//! Redis 7 or Valkey 7 and later: before that nobody can tell).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};
use tokio::time::Instant;

use super::connection::Script;
use super::trouble::{Trouble, printable};

/// The readers of one stream, as far as the bridge remembers them.
pub(super) struct Readers {
    stream: String,
    maxlen: u64,
    patience: Duration,
    script: Script,
    /// Groups that the bridge waits for, and since when.
    waiting: BTreeMap<Name, Instant>,
    /// Somebody was waited for since this was last asked.
    waited: bool,
    /// Groups that are not waited for until they have caught up.
    given_up: BTreeSet<Name>,
    known: BTreeMap<Name, Known>,
    /// Our own group, unless we read this stream.
    left_behind: Option<Name>,
    /// The end of the stream when it was last looked at.
    end: String,
}

/// What a group is called: any bytes.
type Name = Vec<u8>;

/// May more be appended?
#[derive(Debug)]
pub(super) enum Room {
    /// Yes.
    Free,
    /// Not before this group reads on.
    Waits(String),
    /// Yes, when asked again: these groups are waited for no longer.
    WentOn(Vec<String>),
}

impl Readers {
    /// `left_behind` is a group that nobody reads by any more.
    pub(super) fn new(stream: &str, maxlen: u64, patience: Duration, left_behind: Option<String>) -> Readers {
        Readers {
            stream: stream.to_owned(),
            maxlen,
            patience,
            script: Script::new(include_str!("trim.lua")),
            waiting: BTreeMap::new(),
            waited: false,
            given_up: BTreeSet::new(),
            known: BTreeMap::new(),
            left_behind: left_behind.map(String::into_bytes),
            end: String::new(),
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
            for group in self.given_up.iter().chain(&self.left_behind) {
                call.arg(group);
            }
        };
        let behind: BTreeSet<Name> = self.script.run(redis, &[&self.stream], arguments).await?;
        Ok(self.judge(behind, Instant::now()))
    }

    /// What it means that these hold the bridge up at this moment.
    fn judge(&mut self, behind: BTreeSet<Name>, now: Instant) -> Room {
        self.waiting.retain(|group, _| behind.contains(group));
        if behind.is_empty() {
            return Room::Free;
        }
        self.waited = true;
        for group in behind {
            self.waiting.entry(group).or_insert(now);
        }
        let is_over = |since: &Instant| now.duration_since(*since) >= self.patience;
        let over: Vec<Name> =
            self.waiting.iter().filter(|(_, since)| is_over(since)).map(|(group, _)| group.clone()).collect();
        if over.is_empty() {
            let first = self.waiting.iter().min_by_key(|(_, since)| **since);
            return Room::Waits(first.map(|(group, _)| text(group)).unwrap_or_default());
        }
        let names = over.iter().map(|group| text(group)).collect();
        for group in over {
            self.waiting.remove(&group);
            self.given_up.insert(group);
        }
        Room::WentOn(names)
    }

    /// Entries that were trimmed before their groups read them, since the last look. Whoever was given up
    /// and has caught up by now is waited for again.
    pub(super) async fn missed(&mut self, redis: &mut MultiplexedConnection) -> Result<Vec<(String, u64)>, Trouble> {
        let mut ask = redis::pipe();
        ask.atomic().cmd("XINFO").arg("STREAM").arg(&self.stream).cmd("XINFO").arg("GROUPS").arg(&self.stream);
        let answer: Result<(Value, Value), _> = ask.query_async(redis).await;
        let (stream, groups) = match answer {
            Ok(answer) => answer,
            // There is no stream, and so nobody who reads it.
            Err(error) if error.to_string().contains("no such key") => {
                self.keep(&[]);
                self.end.clear();
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        let Ok(groups) = redis::from_redis_value::<Vec<HashMap<String, Value>>>(groups) else { return Ok(Vec::new()) };
        let mut groups: Vec<Group> = groups.into_iter().filter_map(Group::read).collect();
        groups.retain(|group| Some(&group.name) != self.left_behind.as_ref());
        self.keep(&groups);
        let Ok(mut about) = redis::from_redis_value::<HashMap<String, Value>>(stream) else { return Ok(Vec::new()) };
        if let Some(end) = about.get("last-generated-id").and_then(|id| redis::from_redis_value_ref(id).ok()) {
            self.forgive(&groups, end);
        }
        // Nothing of it: an older server, which cannot tell.
        let Some(reach) = Reach::read(&mut about) else { return Ok(Vec::new()) };
        let mut missed = Vec::new();
        for group in groups {
            let Some(lag) = group.lag else { continue };
            let entries = self.known.entry(group.name.clone()).or_default().look(&reach, &group.at, lag);
            if entries > 0 {
                missed.push((text(&group.name), entries));
            }
        }
        Ok(missed)
    }

    /// Forgets every group but these.
    fn keep(&mut self, groups: &[Group]) {
        let is_there = |name: &Name| groups.iter().any(|group| group.name == *name);
        self.known.retain(|name, _| is_there(name));
        self.given_up.retain(is_there);
        self.waiting.retain(|name, _| is_there(name));
    }

    /// Who has read all that was there at the last look is as good a reader as any.
    fn forgive(&mut self, groups: &[Group], end: String) {
        let before = std::mem::replace(&mut self.end, end);
        let has_caught_up =
            |name: &Name| groups.iter().any(|group| group.name == *name && order(&group.at) >= order(&before));
        if !before.is_empty() {
            self.given_up.retain(|name| !has_caught_up(name));
        }
    }
}

/// A name for people.
fn text(group: &[u8]) -> String {
    printable(&String::from_utf8_lossy(group))
}

/// One group of readers, as Redis tells of it.
#[derive(Clone, Debug)]
struct Group {
    name: Name,
    /// The last id it was given.
    at: String,
    /// Entries behind it; `None` = Redis cannot tell.
    lag: Option<u64>,
}

impl Group {
    fn read(mut reply: HashMap<String, Value>) -> Option<Group> {
        let name = redis::from_redis_value(reply.remove("name")?).ok()?;
        let at = redis::from_redis_value(reply.remove("last-delivered-id")?).ok()?;
        let lag = reply.remove("lag").and_then(|lag| redis::from_redis_value(lag).ok());
        Some(Group { name, at, lag })
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
    fn read(reply: &mut HashMap<String, Value>) -> Option<Reach> {
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

    fn readers() -> Readers {
        Readers::new("s", 100, Duration::from_secs(60), None)
    }

    fn names(of: &[&str]) -> BTreeSet<Name> {
        of.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    fn group(name: &str, at: &str) -> Group {
        Group { name: name.into(), at: at.into(), lag: None }
    }

    #[test]
    fn whoever_makes_room_in_time_is_waited_for_and_the_others_lose_patience_together() {
        let (mut readers, start) = (readers(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(matches!(readers.judge(names(&["a", "b", "c"]), start), Room::Waits(_)));
        assert!(matches!(readers.judge(names(&["a", "b", "d"]), after(59)), Room::Waits(_)), "c has read on");
        let Room::WentOn(gone) = readers.judge(names(&["a", "b", "c"]), after(60)) else { panic!("still waiting") };
        assert_eq!(gone, ["a", "b"]);
        assert!(matches!(readers.judge(names(&["c"]), after(61)), Room::Waits(_)), "its time began anew");
        assert!(matches!(readers.judge(names(&[]), after(62)), Room::Free));
        assert_eq!(readers.given_up, names(&["a", "b"]));
    }

    #[test]
    fn a_group_counts_again_when_it_has_caught_up_and_is_forgotten_when_it_is_gone() {
        let mut readers = readers();
        readers.given_up = names(&["slow", "back", "gone"]);
        readers.forgive(&[group("back", "5-0")], "90-0".into());
        assert_eq!(readers.given_up.len(), 3, "there is nothing yet to compare with");
        let groups = [group("slow", "89-0"), group("back", "90-0")];
        readers.keep(&groups);
        readers.forgive(&groups, "120-0".into());
        assert_eq!(readers.given_up, names(&["slow"]));
    }

    #[test]
    fn ids_are_ordered_as_numbers() {
        assert!(order("9-5") < order("10-0") && order("10-2") < order("10-10"));
        assert_eq!(order("x"), (0, 0));
    }
}
