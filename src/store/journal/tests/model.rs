//! The journal against a model of maps: whatever happens, in whatever order, it knows what it must.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::fixture::*;
use crate::core::ports::{Appended, Entry, Known as _, Log as _, Seen, Seq};
use crate::store::JournalSettings;
use crate::store::journal::span::forgotten_at;
use crate::time::Wall;
use crate::wire::{Code, Digest};

#[derive(Clone, Debug)]
enum Step {
    /// Events of (id, text, life in hours).
    Append(Vec<(u8, u8, u8)>),
    /// So many minutes pass, then a sweep.
    Sweep(u16),
    /// The bus takes so many more.
    Deliver(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let event = (0u8..6, 0u8..3, 1u8..60);
    prop_oneof![
        5 => prop::collection::vec(event, 1..6).prop_map(Step::Append),
        3 => (1u16..400).prop_map(Step::Sweep),
        1 => (0u8..12).prop_map(Step::Deliver),
        1 => Just(Step::Reopen),
    ]
}

/// What a journal ought to know.
struct Model {
    settings: JournalSettings,
    clock: Wall,
    digests: BTreeMap<Digest, (Seen, Wall)>,
    names: BTreeMap<u8, (Digest, Wall)>,
    log: BTreeMap<Seq, (Digest, Wall)>,
    delivered: Seq,
}

impl Model {
    fn append(&mut self, id: u8, entry: &Entry) -> Appended {
        let (digest, end) = (entry.envelope.digest(), entry.envelope.event().expires);
        match (self.digests.get(&digest), self.names.get(&id)) {
            (Some((Seen::Stored, _)), _) => return Appended::Duplicate,
            (Some((Seen::Refused(_), _)), _) => return Appended::Refused(Code::Conflict),
            (None, Some(_)) => {
                self.digests.insert(digest, (Seen::Refused(Code::Conflict), end));
                return Appended::Refused(Code::Conflict);
            }
            (None, None) => {}
        }
        let seq = Seq(self.log.last_key_value().map_or(0, |(seq, _)| seq.0) + 1);
        self.digests.insert(digest, (Seen::Stored, end));
        self.names.insert(id, (digest, end));
        self.log.insert(seq, (digest, entry.received));
        Appended::Stored(seq)
    }

    /// What expired may be forgotten, and is, once the period it expired in is over.
    fn sweep(&mut self) {
        let is_needed = |end: Wall| {
            let is_kept = forgotten_at(end, self.settings.period) > self.clock;
            assert!(is_kept || end <= self.clock, "forgotten before it expired");
            is_kept
        };
        self.digests.retain(|_, (_, end)| is_needed(*end));
        self.names.retain(|_, (_, end)| is_needed(*end));
    }

    fn check(&self, bench: &Bench) {
        for (digest, (seen, _)) in &self.digests {
            assert_eq!(bench.journal.seen(digest), Some(*seen));
        }
        let head = self.log.last_key_value().map_or(Seq(0), |(seq, _)| *seq);
        assert_eq!(bench.journal.head(), head);
        let earliest = bench.journal.earliest();
        let read = bench.read(Seq(earliest.0 - 1), 5);
        let read = read.iter().map(|stored| (stored.seq, stored.entry.envelope.digest()));
        assert!(read.eq(self.log.range(earliest..).map(|(seq, (digest, _))| (*seq, *digest))));
        for (seq, (_, received)) in self.log.range(..earliest) {
            assert!(*received + self.settings.keep <= self.clock, "{seq:?} was dropped too early");
            assert!(*seq <= self.delivered, "{seq:?} was dropped before the bus had it");
        }
    }
}

fn run(steps: Vec<Step>) {
    let home = tempfile::tempdir().expect("a directory");
    let settings = JournalSettings { period: HOUR * 2, keep: HOUR * 12, ..small() };
    let (digests, names, log) = Default::default();
    let mut model = Model { settings, clock: T0, digests, names, log, delivered: Seq(0) };
    let mut bench = Bench::open(home.path(), settings);
    bench.journal.set_cursor("bus:a", Seq(0));
    for step in steps {
        match step {
            Step::Append(events) => {
                let entry = |(id, text, life): &(u8, u8, u8)| {
                    let event = event(&format!("n-{id}"), &text.to_string(), T0, HOUR * u32::from(*life));
                    entry_of(event, model.clock)
                };
                let entries: Vec<_> = events.iter().map(entry).collect();
                let expected = events.iter().zip(&entries).map(|((id, ..), entry)| model.append(*id, entry)).collect();
                assert_eq!(bench.append(entries), Ok(expected));
            }
            Step::Sweep(minutes) => {
                model.clock = model.clock + Duration::from_secs(u64::from(minutes) * 60);
                bench.sweep(model.clock);
                model.sweep();
            }
            Step::Deliver(more) => {
                model.delivered = Seq(model.delivered.0 + u64::from(more)).min(bench.journal.head());
                bench.journal.set_cursor("bus:a", model.delivered);
            }
            Step::Reopen => {
                drop(bench);
                bench = Bench::open(home.path(), settings);
                assert_eq!(bench.journal.cursor("bus:a"), Some(model.delivered));
            }
        }
        model.check(&bench);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_forgotten_early_or_told_differently(steps in prop::collection::vec(step(), 1..40)) {
        run(steps);
    }
}
