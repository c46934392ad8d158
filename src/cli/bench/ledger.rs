//! What became of every event of a run: the accounts, without a clock of their own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One entry for each event, by its number.
pub(super) struct Ledger {
    entries: Vec<Entry>,
    /// Events have to arrive somewhere, not only to be stored here.
    has_far_end: bool,
    began: Option<Instant>,
    sent: u64,
    answered: u64,
    stored: Step,
    arrived: Step,
    /// Stored here and not seen at the far end so far.
    awaited: u64,
    refused: BTreeMap<String, u64>,
    duplicated: u64,
    out_of_order: u64,
    /// The highest number that arrived.
    highest: Option<u64>,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    sent: Option<Instant>,
    is_stored: bool,
    is_refused: bool,
    has_arrived: bool,
}

/// What this node said of one event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// Durable now.
    Stored,
    /// It was durable before, which no event of a run can be.
    StoredBefore,
    /// Not stored, with the stable word that says why.
    Refused(String),
}

/// One step of the way: when each event took it, counted from when it was handed over.
#[derive(Clone, Default, PartialEq, Debug)]
pub(super) struct Step {
    /// In the order in which they happened.
    latencies: Vec<Duration>,
    last: Option<Instant>,
}

impl Ledger {
    /// Empty accounts for so many events.
    pub(super) fn new(count: u64, has_far_end: bool) -> Ledger {
        Ledger {
            entries: vec![Entry::default(); usize::try_from(count).expect("a count is bounded")],
            has_far_end,
            began: None,
            sent: 0,
            answered: 0,
            stored: Step::default(),
            arrived: Step::default(),
            awaited: 0,
            refused: BTreeMap::new(),
            duplicated: 0,
            out_of_order: 0,
            highest: None,
        }
    }

    /// An event was handed over. Each `on_` says whether the run got on by it.
    pub(super) fn on_sent(&mut self, number: u64, at: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(number as usize).filter(|entry| entry.sent.is_none()) else {
            return false;
        };
        entry.sent = Some(at);
        self.began = Some(self.began.map_or(at, |began| began.min(at)));
        self.sent += 1;
        true
    }

    /// This node answered.
    pub(super) fn on_answer(&mut self, number: u64, at: Instant, answer: Answer) -> bool {
        let Some(entry) = self.entries.get_mut(number as usize) else { return false };
        let Some(sent) = entry.sent.filter(|_| !entry.is_stored && !entry.is_refused) else { return false };
        self.answered += 1;
        if let Answer::Refused(code) = answer {
            entry.is_refused = true;
            *self.refused.entry(code).or_default() += 1;
            return true;
        }
        entry.is_stored = true;
        self.awaited += u64::from(self.has_far_end && !entry.has_arrived);
        self.duplicated += u64::from(answer == Answer::StoredBefore);
        self.stored.take(sent, at);
        true
    }

    /// The far end has it. That may be known before the answer is.
    pub(super) fn on_arrival(&mut self, number: u64, at: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(number as usize) else { return false };
        let Some(sent) = entry.sent else { return false };
        if std::mem::replace(&mut entry.has_arrived, true) {
            self.duplicated += 1;
            return false;
        }
        self.awaited -= u64::from(entry.is_stored);
        self.out_of_order += u64::from(self.highest.is_some_and(|highest| number < highest));
        self.highest = self.highest.max(Some(number));
        self.arrived.take(sent, at);
        true
    }

    /// Every event was sent and answered, and what was stored has arrived.
    pub(super) fn is_settled(&self) -> bool {
        self.answered == self.entries.len() as u64 && self.awaited == 0
    }

    /// When the first one was handed over.
    pub(super) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// Handed over.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Handed over, and this node has not said what became of it.
    pub(super) fn unanswered(&self) -> u64 {
        self.sent - self.answered
    }

    /// Stored here, and not seen at the far end.
    pub(super) fn awaited(&self) -> u64 {
        self.awaited
    }

    /// Durable here.
    pub(super) fn stored(&self) -> &Step {
        &self.stored
    }

    /// Seen at the far end; `None` where there is none.
    pub(super) fn arrived(&self) -> Option<&Step> {
        self.has_far_end.then_some(&self.arrived)
    }

    /// How many were refused, by the stable word.
    pub(super) fn refused(&self) -> &BTreeMap<String, u64> {
        &self.refused
    }

    /// Arrivals beyond the first of an event, and events that were stored before they were sent.
    pub(super) fn duplicated(&self) -> u64 {
        self.duplicated
    }

    /// Arrivals after one that was sent later.
    pub(super) fn out_of_order(&self) -> u64 {
        self.out_of_order
    }
}

impl Step {
    fn take(&mut self, sent: Instant, at: Instant) {
        self.latencies.push(at.saturating_duration_since(sent));
        self.last = self.last.max(Some(at));
    }

    /// Events that took it.
    pub(super) fn events(&self) -> u64 {
        self.latencies.len() as u64
    }

    /// Events a second, from `began` to the last of them; `None` without one.
    pub(super) fn rate(&self, began: Option<Instant>) -> Option<f64> {
        let span = self.last?.saturating_duration_since(began?).max(Duration::from_micros(1));
        Some(self.latencies.len() as f64 / span.as_secs_f64())
    }

    /// The latencies that these shares of the events did not exceed (nearest rank); `None` without events.
    pub(super) fn percentiles<const N: usize>(&self, percents: [u32; N]) -> Option<[Duration; N]> {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let count = sorted.len();
        let rank = |percent: u32| (count * percent as usize).div_ceil(100).max(1);
        (count > 0).then(|| percents.map(|percent| sorted[rank(percent) - 1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Accounts of so many events, all handed over at the moment that is given back.
    fn sent(count: u64, has_far_end: bool) -> (Ledger, Instant) {
        let (mut ledger, began) = (Ledger::new(count, has_far_end), Instant::now());
        for number in 0..count {
            assert!(ledger.on_sent(number, began));
        }
        (ledger, began)
    }

    #[test]
    fn what_is_stored_and_never_arrives_is_awaited_to_the_end() {
        let (mut ledger, began) = sent(3, true);
        for number in 0..3 {
            assert!(ledger.on_answer(number, began + MS, Answer::Stored));
        }
        assert!(ledger.on_arrival(0, began + 2 * MS) && ledger.on_arrival(2, began + 2 * MS));
        assert!(!ledger.is_settled());
        assert_eq!((ledger.awaited(), ledger.unanswered(), ledger.duplicated()), (1, 0, 0));
        assert!(ledger.on_arrival(1, began + 3 * MS));
        assert!(ledger.is_settled());
        assert_eq!((ledger.awaited(), ledger.out_of_order()), (0, 1), "the second came after the third");
    }

    #[test]
    fn what_arrives_again_is_a_duplicate_and_gets_nobody_on() {
        let (mut ledger, began) = sent(2, true);
        assert!(ledger.on_arrival(0, began + MS), "before its answer");
        assert!(ledger.on_answer(0, began + MS, Answer::Stored));
        assert!(!ledger.on_arrival(0, began + 2 * MS) && !ledger.on_arrival(0, began + 3 * MS));
        assert!(ledger.on_answer(1, began + MS, Answer::StoredBefore));
        assert_eq!(ledger.duplicated(), 3);
        assert!(ledger.on_arrival(1, began + MS) && ledger.is_settled());
        assert_eq!(ledger.arrived().expect("a far end").events(), 2, "each counts once");
    }

    #[test]
    fn what_is_refused_is_not_waited_for_and_not_lost() {
        let (mut ledger, began) = sent(3, true);
        for (number, code) in [(0, "rate"), (1, "unavailable"), (2, "rate")] {
            assert!(ledger.on_answer(number, began, Answer::Refused(code.to_owned())));
        }
        assert!(ledger.is_settled());
        assert_eq!(ledger.refused(), &BTreeMap::from([("rate".to_owned(), 2), ("unavailable".to_owned(), 1)]));
        assert_eq!((ledger.awaited(), ledger.stored().events()), (0, 0));
        assert_eq!(ledger.stored().percentiles([50]), None);
    }

    #[test]
    fn what_was_never_sent_or_is_answered_twice_counts_for_nothing() {
        let mut ledger = Ledger::new(2, true);
        let now = Instant::now();
        assert!(!ledger.on_answer(0, now, Answer::Stored) && !ledger.on_arrival(0, now));
        assert!(ledger.on_sent(0, now) && !ledger.on_sent(0, now) && !ledger.on_sent(2, now));
        assert!(ledger.on_answer(0, now, Answer::Stored) && !ledger.on_answer(0, now, Answer::Stored));
        assert!(!ledger.on_answer(7, now, Answer::Stored) && !ledger.on_arrival(7, now));
        assert_eq!((ledger.sent(), ledger.stored().events(), ledger.awaited()), (1, 1, 1));
        assert!(!ledger.is_settled(), "the second one was never sent");
    }

    #[test]
    fn percentiles_are_latencies_that_happened() {
        let (mut ledger, began) = sent(200, false);
        for number in (0..200).rev() {
            ledger.on_answer(number, began + MS * (number as u32 + 1), Answer::Stored);
        }
        assert_eq!(ledger.stored().percentiles([50, 95, 99, 100]), Some([100, 190, 198, 200].map(|ms| ms * MS)));
        assert_eq!(ledger.stored().rate(ledger.began()), Some(1_000.0));
        assert!(ledger.is_settled() && ledger.arrived().is_none(), "nothing has to arrive anywhere");
        let (mut one, began) = sent(1, false);
        one.on_answer(0, began + MS, Answer::Stored);
        assert_eq!(one.stored().percentiles([50, 99]), Some([MS, MS]));
    }
}
