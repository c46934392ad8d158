//! Where a node stands, and how it came there.
//!
//! | state | enter | leave |
//! |---|---|---|
//! | heard | told of, with an address that may be dialled | dial slot → probing; terrible → dropped |
//! | probing | dialling | its key, hello and record → connected, or verified when no lane is wanted; failed → backoff |
//! | verified | its key answered within 24 h | chosen → probing; 24 h of silence → heard |
//! | connected | a lane stands | lane gone → suspect, or backoff when it never stood long |
//! | suspect | a steady lane broke, which is how its probes miss | dialled at once: success → connected; 30 s → backoff |
//! | backoff(n) | failures | `rand(0, min(15 min, 1 s·2^n))`, or it calls on us → probing |
//! | waiting | in the table, and nowhere to dial | it gives an address → probing |
//! | asking | it came by itself, and `accept` is `ask` | a person accepts it → probing |
//! | dead | 10 failures and 7 days, or 3 and never verified | 2 of them are dialled every 65 to 125 s |
//! | left, quarantine | it said goodbye; it cheated | 24 h |
//! | blocked | a person says so | a person unblocks it → probing |
//!
//! Nobody is asked to probe a suspect for us: there is no route for it. A broken lane is proof enough to
//! dial again, and only our own dials decide.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::note::Note;
use super::super::params::{HISTORY_MAX, OUTAGE_RETRY_MAX};
use super::super::ports::{LaneId, Output};
use crate::time::{Mono, Wall};
use crate::wire::NodeId;

/// Where a node stands, as one word (3-discovery.md, "Table").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Told of, not dialled lately.
    Heard,
    /// Being dialled.
    Probing,
    /// Its key answered within the last day.
    Verified,
    /// A lane stands.
    Connected,
    /// A lane that stood well broke less than 30 s ago.
    Suspect,
    /// The next dial has a time.
    Backoff,
    /// Given up, but for a dial now and then.
    Dead,
    /// It said goodbye.
    Left,
    /// Nothing is taken from it for a day.
    Quarantine,
    /// It waits for a person to accept it.
    Asking,
    /// A person blocked it.
    Blocked,
}

impl Standing {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Heard => "heard",
            Standing::Probing => "probing",
            Standing::Verified => "verified",
            Standing::Connected => "connected",
            Standing::Suspect => "suspect",
            Standing::Backoff => "backoff",
            Standing::Dead => "dead",
            Standing::Left => "left",
            Standing::Quarantine => "quarantine",
            Standing::Asking => "asking",
            Standing::Blocked => "blocked",
        }
    }
}

/// One change of a node's standing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Turn {
    /// When.
    pub at: Wall,
    /// To what.
    pub to: Standing,
    /// Why, in our own words.
    pub why: String,
}

/// The last changes of everybody.
#[derive(Default)]
pub(super) struct Turns(BTreeMap<NodeId, VecDeque<Turn>>);

impl Turns {
    /// Remembers a change and tells it; what is no change is not told again.
    pub(super) fn tell(&mut self, peer: NodeId, to: Standing, why: &str, now: Wall, out: &mut Vec<Output>) {
        let turns = self.0.entry(peer).or_default();
        if turns.back().is_some_and(|last| last.to == to && last.why == why) {
            return;
        }
        // Dial after dial in vain is one line: what came before would be pushed out by it.
        if let [.., same, dial] = turns.make_contiguous()
            && dial.to == Standing::Probing
            && same.to == to
            && same.why == why
        {
            same.at = now;
            turns.pop_back();
            out.push(Output::Note(Note::PeerMoved { peer, to, why: why.to_owned() }));
            return;
        }
        if turns.len() == HISTORY_MAX {
            turns.pop_front();
        }
        turns.push_back(Turn { at: now, to, why: why.to_owned() });
        out.push(Output::Note(Note::PeerMoved { peer, to, why: why.to_owned() }));
    }

    /// Of one node, the oldest first.
    pub(super) fn of(&self, peer: &NodeId) -> Vec<Turn> {
        self.0.get(peer).map(|turns| turns.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn forget(&mut self, peer: &NodeId) {
        self.0.remove(peer);
    }

    pub(super) fn retain(&mut self, is_known: impl Fn(&NodeId) -> bool) {
        self.0.retain(|id, _| is_known(id));
    }
}

/// Where a peer of the table stands; named for what it waits for.
#[derive(Clone, Debug)]
pub(in crate::core) enum State {
    Dialling { lane: LaneId },
    Connected { lane: LaneId, since: Mono },
    Suspect { until: Mono, why: String },
    Backoff { until: Mono, why: String },
    Waiting,
    Asking,
    Dead { since: Wall, why: String },
    Shut { until: Option<Mono>, standing: Standing, why: String },
}

impl State {
    pub(super) fn dial_at(until: Mono) -> State {
        State::Backoff { until, why: String::from("not dialled yet") }
    }

    /// The lane that is being made, or stands.
    pub(super) fn lane(&self) -> Option<LaneId> {
        match self {
            State::Dialling { lane } | State::Connected { lane, .. } => Some(*lane),
            _ => None,
        }
    }

    /// When it is dialled next by itself.
    pub(super) fn due(&self) -> Option<Mono> {
        match self {
            State::Backoff { until, .. } | State::Suspect { until, .. } => Some(*until),
            State::Shut { until, .. } => *until,
            _ => None,
        }
    }

    /// No lane, and none on the way.
    pub(super) fn is_away(&self) -> bool {
        self.lane().is_none()
    }
}

/// What the dials of one node came to.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::core) struct Tally {
    /// Failures in a row, whoever was to blame.
    pub(in crate::core) tries: u32,
    /// Of them those that were not our own network's.
    pub(super) failures: u32,
    /// When it last answered or failed in a way that counted.
    counted: Mono,
}

impl Tally {
    pub(super) fn restored(failures: u32) -> Tally {
        Tally { tries: failures, failures, counted: Mono(0) }
    }

    /// It answered: all is forgiven.
    pub(super) fn succeed(&mut self, now: Mono) {
        *self = Tally { counted: now, ..Tally::default() };
    }

    /// Counts a failure against the node only if somebody else answered since the last one: when our own
    /// network is down, nobody is to blame (bitcoin#8065). Gives the longest pause before the next dial.
    pub(super) fn fail(&mut self, id: &NodeId, luck: &Luck, longest: Duration, now: Mono) -> Duration {
        let is_ours = !luck.another_answered_since(id, self.counted);
        if !is_ours {
            self.failures = self.failures.saturating_add(1);
            self.counted = now;
        }
        let pause = longest.min(Duration::from_secs(1 << self.tries.min(20)));
        self.tries = self.tries.saturating_add(1);
        if is_ours { pause.min(OUTAGE_RETRY_MAX) } else { pause }
    }
}

/// Who answered last: the proof that our own network works.
#[derive(Default)]
pub(super) struct Luck {
    last: Option<(NodeId, Mono)>,
    /// The last answer of anybody else.
    other: Option<(NodeId, Mono)>,
}

impl Luck {
    pub(super) fn answered(&mut self, id: NodeId, now: Mono) {
        if self.last.is_some_and(|(last, _)| last != id) {
            self.other = self.last;
        }
        self.last = Some((id, now));
    }

    fn another_answered_since(&self, id: &NodeId, moment: Mono) -> bool {
        [self.last, self.other].into_iter().flatten().any(|(other, at)| other != *id && at > moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;

    fn id(seed: u8) -> NodeId {
        Keypair::from_seed(&[seed; 32]).id()
    }

    #[test]
    fn failures_count_only_while_others_answer() {
        let (mut tally, mut luck) = (Tally::default(), Luck::default());
        let longest = Duration::from_secs(900);
        let mut fail = |luck: &Luck, second: u64| {
            let pause = tally.fail(&id(1), luck, longest, Mono(second * 1_000_000));
            (tally.failures, pause.as_secs())
        };
        assert_eq!(fail(&luck, 1), (0, 1));
        luck.answered(id(1), Mono(2_000_000));
        assert_eq!(fail(&luck, 3), (0, 2), "its own answer proves nothing about it");
        luck.answered(id(2), Mono(4_000_000));
        assert_eq!(fail(&luck, 5), (1, 4));
        for (second, pause) in [(6, 8), (7, 16), (8, 25), (9, 25)] {
            assert_eq!(fail(&luck, second), (1, pause), "nobody answered since: it may be us");
        }
        luck.answered(id(2), Mono(10_000_000));
        assert_eq!(fail(&luck, 11), (2, 128));
    }

    #[test]
    fn a_history_is_bounded_and_tells_changes_only() {
        let (mut turns, mut out) = (Turns::default(), Vec::new());
        for _ in 0..3 {
            turns.tell(id(1), Standing::Heard, "told by somebody", Wall(0), &mut out);
        }
        assert_eq!((turns.of(&id(1)).len(), out.len()), (1, 1));
        for n in 0..40 {
            turns.tell(id(1), Standing::Backoff, &n.to_string(), Wall(n), &mut out);
        }
        let of = turns.of(&id(1));
        assert_eq!((of.len(), of[HISTORY_MAX - 1].why.as_str(), out.len()), (HISTORY_MAX, "39", 41));
    }
}
