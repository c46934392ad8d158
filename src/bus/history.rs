//! Which streams took what, and until when: what a change of the configuration must not lose.
//!
//! A stream has a position of its own in the journal, and streams of one node stand at different ones
//! whenever a Redis was away or one of them is stopped. A change of `bus.stream`, `bus.shards` or
//! `[[bus.route]]` therefore holds for what is stored from then on:
//!
//! ```text
//!   journal   ....stored under the old routes....|....stored under the new ones....
//!   kept      ======= as the old routes say =====|==== as the new routes say ======>
//!   gone      ======= to its end ================| (and is forgotten)
//!   new                                          |=================================>
//!   renamed   = old name =|====== goes on under the new name, with what the old one lacks ====>
//! ```
//!
//! So no event is passed over, and none is appended by two routings. The routing of the past is kept until
//! every stream of it has passed its end. A stream counts as renamed when it is gone, and one that is new
//! has its place: that of `bus.stream`, that of the same shard, or that of the same patterns.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::outlet::{Routing, Takes};
use crate::core::ports::Seq;

/// Routing of the past.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Era {
    /// It holds for what stands up to here in the journal, as far as no earlier one does.
    pub upto: Seq,
    /// Which stream took what.
    pub routing: Routing,
}

/// The routing of now, what of the past still counts, and where streams began. To be remembered, durably,
/// before the bridge starts by it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct History {
    incarnation: u64,
    former: Vec<Era>,
    now: Routing,
    begins: BTreeMap<String, Seq>,
}

impl History {
    /// The first routing of all.
    pub fn begin(incarnation: u64, now: Routing) -> History {
        History { incarnation, former: Vec::new(), now, begins: BTreeMap::new() }
    }

    /// What was remembered; `None` when it cannot be read, or is about another journal.
    pub fn read(text: &str, incarnation: u64) -> Option<History> {
        serde_json::from_str(text).ok().filter(|history: &History| history.incarnation == incarnation)
    }

    /// To be remembered.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers always encode")
    }

    /// Routing of the past that still counts, the oldest first.
    pub fn former(&self) -> &[Era] {
        &self.former
    }

    /// Every stream that something is for: those of now, then those that are bridged to their end.
    pub fn streams(&self) -> Vec<&str> {
        let mut streams: Vec<&str> = Vec::new();
        for routing in std::iter::once(&self.now).chain(self.former.iter().map(|era| &era.routing)) {
            for (stream, _) in &routing.0 {
                if !streams.contains(&stream.as_str()) {
                    streams.push(stream);
                }
            }
        }
        streams
    }

    /// Where this stream begins whatever Redis holds of it; `None` = it was there from the beginning.
    pub fn begins(&self, stream: &str) -> Option<Seq> {
        self.begins.get(stream).copied()
    }

    /// Takes up the routing of now for what follows `cut`, the end of the journal. `position` says how
    /// far a stream is. True when anything is to be remembered anew.
    pub fn take_up(&mut self, now: Routing, cut: Seq, position: impl Fn(&str) -> Option<Seq>) -> bool {
        let before = self.clone();
        if now != self.now {
            self.turn(now, cut, &position);
        }
        self.forget_the_past(position);
        *self != before
    }

    fn turn(&mut self, now: Routing, cut: Seq, position: &impl Fn(&str) -> Option<Seq>) {
        let known: Vec<String> = self.streams().into_iter().map(str::to_owned).collect();
        let mut last = std::mem::replace(&mut self.now, now);
        let mut gone: Vec<(String, Takes)> =
            last.0.iter().filter(|(stream, _)| self.now.of_stream(stream).is_none()).cloned().collect();
        for (stream, takes) in &self.now.0 {
            if known.contains(stream) {
                continue;
            }
            let heir_of = gone.iter().position(|(_, former)| former.has_the_place_of(takes));
            let begin = heir_of.map(|at| gone.remove(at).0).and_then(|old| {
                last.rename(&old, stream);
                for era in &mut self.former {
                    era.routing.rename(&old, stream);
                }
                position(&old)
            });
            self.begins.insert(stream.clone(), begin.unwrap_or(cut));
        }
        self.former.push(Era { upto: cut, routing: last });
        if self.former.len() > ERAS_MAX {
            let Era { upto, .. } = self.former.remove(0);
            warn!(upto = upto.0, "bus: too many changes of the streams at once: the oldest is not waited for any more");
        }
    }

    /// An era that all its streams have passed counts no more, and neither do streams that nothing is for.
    fn forget_the_past(&mut self, position: impl Fn(&str) -> Option<Seq>) {
        // What was just begun has no position of its own yet.
        let begins = self.begins.clone();
        let is_past = |era: &Era, stream: &str| {
            position(stream).or_else(|| begins.get(stream).copied()).is_some_and(|seq| seq >= era.upto)
        };
        while self.former.first().is_some_and(|era| era.routing.0.iter().all(|(stream, _)| is_past(era, stream))) {
            self.former.remove(0);
        }
        let streams: Vec<String> = self.streams().into_iter().map(str::to_owned).collect();
        self.begins.retain(|stream, _| streams.contains(stream));
    }
}

/// Changes of the configuration that may wait for streams. Each needs an edit and a restart while a stream
/// is stopped; past this, what the oldest left undone stays in the journal.
pub const ERAS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::super::outlet::outlets;
    use super::super::settings::{Route, Settings};
    use super::super::tests::settings;
    use super::*;
    use crate::time::Wall;
    use crate::wire::{Draft, Event, Keypair, envelope};

    fn with(stream: &str, routes: &[(&str, &str)]) -> Settings {
        let route = |(pattern, stream): &(&str, &str)| Route {
            pattern: pattern.parse().expect("a pattern"),
            stream: (*stream).to_owned(),
        };
        Settings { stream: stream.to_owned(), routes: routes.iter().map(route).collect(), ..settings() }
    }

    fn event(kind: &str) -> Event {
        let draft = Draft::new("1", kind, Wall::from_millis(1_795_262_400_000));
        envelope::seal(&draft, &Keypair::from_seed(&[1; 32])).expect("a good draft").event().clone()
    }

    /// A change of the configuration while streams stand at these positions, and the head at 100.
    fn changed(before: &Settings, after: &Settings, at: &[(&str, u64)]) -> (History, Settings) {
        let mut history = History::begin(7, Routing::of(before));
        let position = |stream: &str| at.iter().find(|(name, _)| *name == stream).map(|(_, seq)| Seq(*seq));
        assert!(history.take_up(Routing::of(after), Seq(100), position));
        let again = History::read(&history.text(), 7).expect("as it was written");
        assert_eq!(again, history);
        (again, Settings { former: history.former().to_vec(), ..after.clone() })
    }

    /// The streams that take an event of this type at this position.
    fn takers(settings: &Settings, kind: &str, seq: u64) -> Vec<String> {
        let takes = |outlet: &super::super::outlet::Outlet| outlet.takes(&event(kind), Seq(seq));
        outlets(settings).into_iter().filter(takes).map(|outlet| outlet.stream).collect()
    }

    #[test]
    fn a_removed_route_is_bridged_to_its_end_and_what_comes_later_goes_elsewhere() {
        let (before, after) = (with("main", &[("a.*", "deploys")]), with("main", &[]));
        let (history, settings) = changed(&before, &after, &[("main", 100), ("deploys", 50)]);
        assert_eq!(history.streams(), ["main", "deploys"]);
        assert_eq!(takers(&settings, "a.b", 100), ["deploys"]);
        assert_eq!(takers(&settings, "a.b", 101), ["main"]);
        assert_eq!(takers(&settings, "z.z", 60), ["main"]);
        let ends: Vec<Option<Seq>> = outlets(&settings).iter().map(|outlet| outlet.ends()).collect();
        assert_eq!(ends, [None, Some(Seq(100))]);
        // Once all of it is there it is forgotten.
        let mut history = history;
        assert!(!history.take_up(Routing::of(&after), Seq(120), |_| Some(Seq(99))));
        assert!(history.take_up(Routing::of(&after), Seq(120), |_| Some(Seq(100))));
        assert_eq!(history.streams(), ["main"]);
    }

    #[test]
    fn a_new_route_begins_with_what_is_stored_from_then_on() {
        let (before, after) = (with("main", &[]), with("main", &[("a.*", "deploys")]));
        let (history, settings) = changed(&before, &after, &[("main", 50)]);
        assert_eq!((history.begins("deploys"), history.begins("main")), (Some(Seq(100)), None));
        assert_eq!(takers(&settings, "a.b", 60), ["main"], "which has not got it yet");
        assert_eq!(takers(&settings, "a.b", 101), ["deploys"]);
    }

    #[test]
    fn types_that_change_streams_are_neither_lost_nor_doubled() {
        let before = with("main", &[("a.*", "x"), ("b.*", "y")]);
        let after = with("main", &[("a.*", "y"), ("b.*", "x")]);
        let (_, settings) = changed(&before, &after, &[("main", 100), ("x", 30), ("y", 90)]);
        assert_eq!((takers(&settings, "a.b", 95), takers(&settings, "a.b", 101)), (vec!["x".into()], vec!["y".into()]));
        assert_eq!((takers(&settings, "b.b", 95), takers(&settings, "b.b", 101)), (vec!["y".into()], vec!["x".into()]));
    }

    #[test]
    fn a_renamed_stream_goes_on_where_the_old_one_is() {
        let before = with("main", &[("a.*", "x"), ("b.*", "y")]);
        let after = with("other", &[("a.*", "z"), ("b.*", "y"), ("c.*", "new")]);
        let (history, settings) = changed(&before, &after, &[("main", 40), ("x", 30), ("y", 90)]);
        assert_eq!(history.streams(), ["other", "new", "y", "z"]);
        assert_eq!(["other", "z", "new"].map(|stream| history.begins(stream)), [40, 30, 100].map(|at| Some(Seq(at))));
        assert_eq!(takers(&settings, "a.b", 31), ["z"]);
        assert_eq!(takers(&settings, "c.b", 41), ["other"]);
        assert_eq!(takers(&settings, "c.b", 101), ["new"]);
    }

    #[test]
    fn more_shards_take_over_at_one_position() {
        let shards = |count| Settings { shards: count, ..with("s:{n}", &[]) };
        let (history, settings) = changed(&shards(2), &shards(3), &[("s:0", 100), ("s:1", 60)]);
        assert_eq!(history.begins("s:2"), Some(Seq(100)));
        for seq in [61, 100, 101] {
            assert_eq!(takers(&settings, "a.b", seq).len(), 1, "each event goes to one of them");
        }
        assert_ne!(takers(&settings, "a.b", 100), ["s:2"]);
        let (history, _) = changed(&shards(3), &shards(2), &[("s:0", 100), ("s:1", 60), ("s:2", 1)]);
        assert_eq!(history.streams(), ["s:0", "s:1", "s:2"]);
    }

    #[test]
    fn where_everything_was_bridged_nothing_is_left_of_the_past() {
        let (before, after) = (with("main", &[("a.*", "x")]), with("other", &[("b.*", "y")]));
        let (history, _) = changed(&before, &after, &[("main", 100), ("x", 100)]);
        assert_eq!((history.streams(), history.former()), (vec!["other", "y"], &[][..]));
        assert_eq!(history.begins("other"), Some(Seq(100)));
    }

    #[test]
    fn one_change_after_the_other_keeps_what_each_of_them_left() {
        let (first, second) = (with("main", &[("a.*", "x")]), with("main", &[]));
        let (mut history, _) = changed(&first, &second, &[("main", 100), ("x", 50)]);
        let third = with("renamed", &[("a.*", "x")]);
        let position = |stream: &str| Some(Seq(if stream == "x" { 50 } else { 110 }));
        assert!(history.take_up(Routing::of(&third), Seq(120), position));
        let settings = Settings { former: history.former().to_vec(), ..third };
        assert_eq!(history.begins("renamed"), Some(Seq(110)));
        assert_eq!(takers(&settings, "a.b", 51), ["x"]);
        assert_eq!(takers(&settings, "a.b", 111), ["renamed"]);
        assert_eq!(takers(&settings, "a.b", 121), ["x"]);
    }

    #[test]
    fn no_more_than_a_few_changes_wait_at_once() {
        let mut history = History::begin(7, Routing::of(&with("main", &[("a.*", "x0")])));
        for change in 1..40 {
            let next = Routing::of(&with("main", &[("a.*", "main"), ("b.+", &format!("x{change}"))]));
            history.take_up(next, Seq(change), |_| Some(Seq(0)));
        }
        assert_eq!(history.former().len(), ERAS_MAX);
        assert_eq!(history.former()[0].upto, Seq(40 - 16));
    }

    #[test]
    fn what_is_about_another_journal_or_damaged_is_not_believed() {
        let history = History::begin(7, Routing::of(&with("main", &[])));
        assert_eq!(History::read(&history.text(), 8), None);
        assert_eq!(History::read("{", 7), None);
    }
}
