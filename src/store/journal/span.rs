//! The periods of the log and which of them may go: numbers only, no disk.

use std::time::Duration;

use crate::core::ports::Seq;
use crate::time::{Mono, Now, Wall};
use crate::wire::event::SKEW;

/// What a remembered digest and name cost in the index, counted against the quota with the entry.
pub(super) const INDEX_BYTES: u64 = 160;
/// A period is closed when it holds this part of the quota, so retention by size never has to drop
/// more than an eighth at once.
pub(super) const PARTS: u64 = 8;
/// Digests are forgotten this many periods at once. Each keyspace of digests costs every look-up 1 µs;
/// to keep some longer than needed costs 160 bytes each.
const IDS_PERIODS: u32 = 4;
/// A clock that flaps makes no more periods than this.
pub const SPANS_MAX: usize = 64;
/// A clock that jumped ahead and then ran true for this long is believed.
const BELIEVED_AFTER: Duration = Duration::from_secs(86_400);

/// One period of the log: what it holds, without looking into it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// Its number, counted from 0; the order of the numbers is the order of the log.
    pub(super) n: u64,
    /// Its first position.
    pub(super) first: Seq,
    /// Its last position.
    pub(super) last: Seq,
    /// How many entries.
    pub(super) entries: u64,
    /// What they cost on disk, roughly.
    pub(super) bytes: u64,
    /// When the first was received.
    pub(super) begun: Wall,
    /// The latest moment at which any was received.
    pub(super) until: Wall,
}

impl Span {
    /// A period whose first entry comes next.
    pub(super) fn new(n: u64, first: Seq, begun: Wall) -> Span {
        Span { n, first, last: first, entries: 0, bytes: 0, begun, until: begun }
    }

    /// Counts one more entry, whose value has this many bytes.
    pub(super) fn count(&mut self, seq: Seq, received: Wall, bytes: usize) {
        self.last = seq;
        self.entries += 1;
        self.bytes += bytes as u64 + INDEX_BYTES;
        self.until = self.until.max(received);
    }

    /// As `state` keeps it; the number is in the key.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let walls = [self.begun, self.until].map(|wall| wall.0.to_be_bytes());
        let numbers = [self.first.0, self.last.0, self.entries, self.bytes].map(u64::to_be_bytes);
        numbers.into_iter().chain(walls).flatten().collect()
    }

    /// Reads it back; `None` when the bytes are not what was written.
    pub(super) fn from_bytes(n: u64, bytes: &[u8]) -> Option<Span> {
        let bytes: &[u8; 48] = bytes.try_into().ok()?;
        let number = |at: usize| u64::from_be_bytes(*bytes[at..].first_chunk().expect("48 bytes hold six numbers"));
        Some(Span {
            n,
            first: Seq(number(0)),
            last: Seq(number(8)),
            entries: number(16),
            bytes: number(24),
            begun: Wall(number(32).cast_signed()),
            until: Wall(number(40).cast_signed()),
        })
    }
}

/// The number of the period of the clock that a moment is in.
pub(super) fn slot(moment: Wall, period: Duration) -> i64 {
    moment.0.div_euclid(micros(period))
}

/// When what expires at this moment is forgotten: at the end of the span of digests it falls in.
pub(super) fn forgotten_at(expires: Wall, period: Duration) -> Wall {
    let period = period * IDS_PERIODS;
    Wall(slot(expires, period).saturating_add(1).saturating_mul(micros(period)))
}

/// Is this such a moment? Not when the length of a period was another then.
pub(super) fn is_aligned(end: Wall, period: Duration) -> bool {
    end.0.rem_euclid(micros(period * IDS_PERIODS)) == 0
}

fn micros(period: Duration) -> i64 {
    i64::try_from(period.as_micros()).unwrap_or(i64::MAX).max(1)
}

/// Does an entry received now begin a new period? Each period of the clock does, a full one does, and
/// so does a clock that went back by more than one: what comes now must not wait for the wrong date.
pub(super) fn begins_anew(spans: &[Span], received: Wall, period: Duration, bytes_max: u64) -> bool {
    let Some(open) = spans.last() else { return true };
    let (was, is) = (slot(open.begun, period), slot(received, period));
    let went_back = is.saturating_add(1) < was && spans.len() < SPANS_MAX;
    is > was || went_back || open.bytes >= bytes_max / PARTS
}

/// What all periods hold.
pub(super) fn bytes(spans: &[Span]) -> u64 {
    spans.iter().map(|span| span.bytes).sum()
}

/// How many of the oldest periods go: those older than `keep`, then those above `bytes_max`, and none
/// that holds a position after `pinned`.
pub(super) fn droppable(
    spans: &[Span],
    clock: Option<Wall>,
    keep: Duration,
    bytes_max: u64,
    pinned: Option<Seq>,
) -> usize {
    let free = spans.iter().take_while(|span| pinned.is_none_or(|pinned| span.last <= pinned)).count();
    let mut count = 0;
    let mut bytes = bytes(spans);
    for (at, span) in spans.iter().enumerate().take(free) {
        // What came later says how old this can be at most, should the clock have been ahead then.
        let until = spans[at..].iter().map(|later| later.until).min().unwrap_or(span.until);
        let is_old = clock.is_some_and(|clock| until + keep <= clock);
        if !is_old && bytes <= bytes_max {
            break;
        }
        bytes -= span.bytes;
        count += 1;
    }
    count
}

/// The high-water mark of the clock. It survives restarts and rises no faster than monotonic time and
/// two minutes a sweep, or to a clock that has stood for a day: so a clock that jumps ahead and is put
/// right again makes nobody forget a digest too early.
#[derive(Clone, Debug, Default)]
pub(super) struct Mark {
    pub(super) wall: Option<Wall>,
    swept: Option<Mono>,
    ahead: Option<Now>,
}

impl Mark {
    /// As it was saved.
    pub(super) fn new(wall: Option<Wall>) -> Mark {
        Mark { wall, ..Mark::default() }
    }

    /// Takes note of the time and says by which one things may be dropped: a clock behind the mark
    /// drops nothing more until it is there again.
    pub(super) fn advance(&mut self, now: Now) -> Wall {
        let mark = self.wall.unwrap_or(now.wall);
        let elapsed = self.swept.map_or(Duration::ZERO, |swept| now.mono.since(swept));
        let reach = mark + elapsed + SKEW;
        self.swept = Some(now.mono);
        let rises_to = if now.wall <= reach {
            self.ahead = None;
            now.wall
        } else if self.has_stood(now) {
            now.wall
        } else {
            reach
        };
        let mark = mark.max(rises_to);
        self.wall = Some(mark);
        mark.min(now.wall)
    }

    /// Has the clock run in step with monotonic time, ahead of the mark, for long enough?
    fn has_stood(&mut self, now: Now) -> bool {
        let since = *self.ahead.get_or_insert(now);
        let expected = since.wall + now.mono.since(since.mono);
        let in_step = now.wall <= expected + SKEW && expected <= now.wall + SKEW;
        if !in_step {
            self.ahead = Some(now);
        }
        in_step && now.mono.since(since.mono) >= BELIEVED_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const T0: Wall = Wall::from_millis(1_795_243_262_123);

    fn span(n: u64, first: u64, last: u64, bytes: u64, until: Wall) -> Span {
        let entries = last - first + 1;
        Span { n, first: Seq(first), last: Seq(last), entries, bytes, begun: until, until }
    }

    fn at(secs: u64) -> Wall {
        T0 + Duration::from_secs(secs)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let span = span(7, 3, 9, 12, Wall(-5));
        assert_eq!(Span::from_bytes(7, &span.to_bytes()), Some(span.clone()));
        assert_eq!(Span::from_bytes(7, &span.to_bytes()[1..]), None);
    }

    #[test]
    fn the_oldest_go_first_by_age_then_by_size_and_never_past_the_pin() {
        let spans = [span(0, 1, 9, 10, at(0)), span(1, 10, 19, 10, at(100)), span(2, 20, 29, 10, at(200))];
        let keep = Duration::from_secs(50);
        let drops = |clock, bytes_max, pinned| droppable(&spans, clock, keep, bytes_max, pinned);
        assert_eq!(drops(Some(at(49)), 100, None), 0);
        assert_eq!(drops(Some(at(50)), 100, None), 1);
        assert_eq!(drops(Some(at(150)), 100, None), 2);
        assert_eq!(drops(Some(at(1_000)), 100, None), 3);
        assert_eq!(drops(None, 29, None), 1);
        assert_eq!(drops(None, 20, None), 1);
        assert_eq!(drops(Some(at(50)), 10, None), 2);
        assert_eq!(drops(Some(at(1_000)), 0, Some(Seq(8))), 0);
        assert_eq!(drops(Some(at(1_000)), 0, Some(Seq(9))), 1);
        assert_eq!(drops(Some(at(1_000)), 0, Some(Seq(28))), 2);
    }

    #[test]
    fn a_period_received_by_a_wrong_date_ages_with_what_came_after_it() {
        let spans = [span(0, 1, 9, 10, at(9_000_000)), span(1, 10, 19, 10, at(100))];
        assert_eq!(droppable(&spans, Some(at(149)), Duration::from_secs(50), 100, None), 0);
        assert_eq!(droppable(&spans, Some(at(150)), Duration::from_secs(50), 100, None), 2);
    }

    #[test]
    fn a_new_period_begins_with_the_clock_the_quota_or_a_date_put_right() {
        let open = [span(0, 1, 9, 10, T0)];
        let begins = |received, bytes_max| begins_anew(&open, received, DAY, bytes_max);
        assert!(begins_anew(&[], T0, DAY, 1_000));
        assert!(!begins(T0, 1_000));
        assert!(begins(T0, 80));
        assert!(begins(Wall((slot(T0, DAY) + 1) * micros(DAY)), 1_000));
        assert!(!begins(T0 - DAY, 1_000), "a clock put back a little stays in the period");
        assert!(begins(T0 - DAY * 2, 1_000));
    }

    fn now(mono_secs: u64, wall: Wall) -> Now {
        Now { mono: Mono(mono_secs * 1_000_000), wall }
    }

    #[test]
    fn the_mark_follows_a_true_clock() {
        let mut mark = Mark::default();
        for minute in 0..100 {
            assert_eq!(mark.advance(now(minute * 60, at(minute * 60))), at(minute * 60));
        }
    }

    #[test]
    fn a_jump_ahead_is_not_believed_at_once_nor_after_it_was_put_right() {
        let mut mark = Mark::new(Some(T0));
        assert_eq!(mark.advance(now(0, at(0))), at(0));
        assert_eq!(mark.advance(now(60, at(1_000_000))), at(180));
        assert_eq!(mark.advance(now(120, at(120))), at(120), "behind the mark nothing more is dropped");
        assert_eq!(mark.wall, Some(at(180)));
    }

    #[test]
    fn a_clock_that_ran_true_for_a_day_is_believed() {
        let mut mark = Mark::new(Some(Wall(0)));
        let mut clock = Wall(0);
        for minute in 0..=1_440 {
            clock = mark.advance(now(minute * 60, at(minute * 60)));
            assert_eq!(clock == at(minute * 60), minute == 1_440, "minute {minute}");
        }
        assert_eq!(clock, at(86_400));
    }

    #[test]
    fn a_clock_that_keeps_jumping_is_not_believed() {
        let mut mark = Mark::new(Some(Wall(0)));
        for minute in 0..3_000 {
            let jumps = (minute / 60) * 1_000_000;
            assert!(mark.advance(now(minute * 60, at(minute * 60 + jumps))) < T0);
        }
    }
}
