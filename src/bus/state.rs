//! How the bridge is doing, for people and for `readyz`: one log line for each change.

use std::sync::atomic::AtomicU64;

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::trouble::{Class, Trouble};

/// The bridge at a glance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BusState {
    /// A Redis answers.
    pub connected: bool,
    /// Journal positions not yet bridged: an upper bound of the events that wait.
    pub lag: u64,
    /// From the journal to the streams: the first of theirs that is not well.
    pub egress: Condition,
    /// From the outbox to the journal.
    pub intake: Condition,
    /// From the entries of the bus that ask to travel to the journal.
    pub travel: Condition,
    /// Each stream, that of `bus.stream` first.
    pub streams: Vec<StreamState>,
}

/// One stream that events are appended to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StreamState {
    /// Its key in Redis.
    pub name: String,
    /// What it waits for.
    pub condition: Condition,
    /// The group of readers that it waits for before it is filled further.
    pub waits_for: Option<String>,
    /// Entries that were trimmed before a group read them, since the start.
    pub missed: u64,
    /// The group that missed the last of them.
    pub missed_by: Option<String>,
}

impl BusState {
    /// The kind of bus, as `status` prints it.
    pub fn kind(&self) -> &'static str {
        "redis"
    }

    /// All directions work.
    pub fn is_well(&self) -> bool {
        let is_well = |side: &Condition| matches!(side, Condition::Running | Condition::Off);
        self.connected && [&self.egress, &self.intake, &self.travel].into_iter().all(is_well)
    }
}

/// What one direction waits for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Condition {
    /// The first connection since the start.
    #[default]
    Connecting,
    /// Nothing.
    Running,
    /// Nothing, ever: the configuration does not ask for this direction.
    Off,
    /// Trouble that passes; it tries again by itself.
    Waiting {
        /// What it is.
        why: String,
    },
    /// A person. It looks every 30 s whether it was mended.
    Stopped {
        /// What is wrong.
        why: String,
        /// What to do, or to type.
        remedy: String,
    },
}

/// What was done since the start. Read by metrics; only ever grows.
#[derive(Debug, Default)]
pub struct Counters {
    /// Entries appended to the streams.
    pub bridged: AtomicU64,
    /// Events passed over: not asked for, our own, or of the protocol.
    pub skipped: AtomicU64,
    /// Of the bridged: those that a rule of local trust doubts.
    pub flagged: AtomicU64,
    /// Events that a rule of local trust keeps from the stream.
    pub quarantined: AtomicU64,
    /// Journal positions that retention dropped before they were bridged.
    pub lost: AtomicU64,
    /// Entries of the outbox and of the bus that are durable events now.
    pub published: AtomicU64,
    /// Entries that were durable before: redelivered, or sent twice.
    pub duplicates: AtomicU64,
    /// Events and entries that went to the dead letters, those quarantined apart.
    pub dead: AtomicU64,
    /// Entries that were trimmed before a group of readers read them.
    pub unread: AtomicU64,
    /// Troubles with Redis of either direction, each try counted.
    pub troubles: AtomicU64,
}

/// A direction of the bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// To the stream of this number.
    Egress(usize),
    Intake,
    Travel,
}

/// Where one direction says how it is.
#[derive(Clone)]
pub(super) struct Report {
    side: Side,
    place: String,
    state: watch::Sender<BusState>,
}

impl Report {
    pub(super) fn new(side: Side, place: String, state: watch::Sender<BusState>) -> Report {
        Report { side, place, state }
    }

    /// It works.
    pub(super) fn running(&self) {
        if self.change(true, &Condition::Running) {
            info!(side = self.name(), redis = %self.place, "bus: running");
        }
    }

    /// It has nothing to do, ever.
    pub(super) fn off(&self) {
        self.state.send_modify(|state| match self.side {
            Side::Egress(number) => {
                state.streams[number].condition = Condition::Off;
                state.egress = worst(&state.streams);
            }
            Side::Intake => state.intake = Condition::Off,
            Side::Travel => state.travel = Condition::Off,
        });
    }

    /// It does not.
    pub(super) fn trouble(&self, trouble: &Trouble) {
        let Trouble { class, why, remedy } = trouble.clone();
        if class == Class::Config {
            if self.change(trouble.is_answer(), &Condition::Stopped { why, remedy }) {
                error!(side = self.name(), redis = %self.place, why = %trouble.why, remedy = %trouble.remedy, "bus: stopped");
            }
        } else if self.change(trouble.is_answer(), &Condition::Waiting { why }) {
            warn!(side = self.name(), redis = %self.place, why = %trouble.why, "bus: waiting");
        }
    }

    /// The stream waits for this group of readers, or for none.
    pub(super) fn waits_for(&self, group: Option<String>) {
        let Side::Egress(number) = self.side else { return };
        self.state.send_if_modified(|state| {
            let stream = &mut state.streams[number];
            let is_news = stream.waits_for != group;
            if let (true, Some(group)) = (is_news, &group) {
                info!(stream = %stream.name, %group, "bus: waiting for readers");
            }
            stream.waits_for = group;
            is_news
        });
    }

    /// This group of readers missed entries.
    pub(super) fn missed(&self, group: &str, entries: u64) {
        let Side::Egress(number) = self.side else { return };
        self.state.send_modify(|state| {
            let stream = &mut state.streams[number];
            stream.missed += entries;
            stream.missed_by = Some(group.to_owned());
        });
    }

    /// True when the condition is one that nobody was told of: many streams of one Redis share most of
    /// their troubles.
    fn change(&self, connected: bool, condition: &Condition) -> bool {
        let mut is_news = false;
        self.state.send_if_modified(|state| {
            let is_told = state.streams.iter().any(|stream| stream.condition == *condition);
            let mine = match self.side {
                Side::Egress(number) => &mut state.streams[number].condition,
                Side::Intake => &mut state.intake,
                Side::Travel => &mut state.travel,
            };
            let is_changed = mine != condition;
            let is_modified = is_changed || state.connected != connected;
            if is_changed {
                *mine = condition.clone();
                is_news = true;
            }
            state.connected = connected;
            if let (Side::Egress(_), true) = (self.side, is_changed) {
                state.egress = worst(&state.streams);
                // "Running" is news once all of them do.
                is_news = if *condition == Condition::Running { state.egress == *condition } else { !is_told };
            }
            is_modified
        });
        is_news
    }

    fn name(&self) -> &'static str {
        match self.side {
            Side::Egress(_) => "egress",
            Side::Intake => "intake",
            Side::Travel => "travel",
        }
    }
}

/// What people should know first: a stop, then trouble, then whatever is not running yet.
fn worst(streams: &[StreamState]) -> Condition {
    let rank = |condition: &Condition| match condition {
        Condition::Stopped { .. } => 0,
        Condition::Waiting { .. } => 1,
        Condition::Connecting => 2,
        Condition::Running | Condition::Off => 3,
    };
    let conditions = streams.iter().map(|stream| &stream.condition);
    conditions.min_by_key(|condition| rank(condition)).cloned().unwrap_or_default()
}
