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
    /// From the journal to the stream.
    pub egress: Condition,
    /// From the outbox to the journal.
    pub intake: Condition,
}

impl BusState {
    /// The kind of bus, as `status` prints it.
    pub fn kind(&self) -> &'static str {
        "redis"
    }

    /// Both directions work.
    pub fn is_well(&self) -> bool {
        let is_well = |side: &Condition| matches!(side, Condition::Running | Condition::Off);
        self.connected && is_well(&self.egress) && is_well(&self.intake)
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
    /// Events appended to the stream.
    pub bridged: AtomicU64,
    /// Events passed over: not asked for, our own, or of the protocol.
    pub skipped: AtomicU64,
    /// Of the bridged: those that a rule of local trust doubts.
    pub flagged: AtomicU64,
    /// Events that a rule of local trust keeps from the stream.
    pub quarantined: AtomicU64,
    /// Journal positions that retention dropped before they were bridged.
    pub lost: AtomicU64,
    /// Entries of the outbox that are durable events now.
    pub published: AtomicU64,
    /// Entries of the outbox that were durable before: redelivered, or sent twice.
    pub duplicates: AtomicU64,
    /// Entries of the outbox that went to its dead letters.
    pub dead: AtomicU64,
    /// Troubles with Redis of either direction, each try counted.
    pub troubles: AtomicU64,
}

/// A direction of the bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Egress,
    Intake,
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
        if self.change(true, Condition::Running) {
            info!(side = self.name(), redis = %self.place, "bus: running");
        }
    }

    /// It does not.
    pub(super) fn trouble(&self, trouble: &Trouble) {
        let Trouble { class, why, remedy } = trouble.clone();
        if class == Class::Config {
            if self.change(trouble.is_answer(), Condition::Stopped { why, remedy }) {
                error!(side = self.name(), redis = %self.place, why = %trouble.why, remedy = %trouble.remedy, "bus: stopped");
            }
        } else if self.change(trouble.is_answer(), Condition::Waiting { why }) {
            warn!(side = self.name(), redis = %self.place, why = %trouble.why, "bus: waiting");
        }
    }

    /// True when the condition is another one now.
    fn change(&self, connected: bool, condition: Condition) -> bool {
        let mut changed = false;
        self.state.send_if_modified(|state| {
            let mine = match self.side {
                Side::Egress => &mut state.egress,
                Side::Intake => &mut state.intake,
            };
            changed = *mine != condition;
            let modified = changed || state.connected != connected;
            *mine = condition;
            state.connected = connected;
            modified
        });
        changed
    }

    fn name(&self) -> &'static str {
        match self.side {
            Side::Egress => "egress",
            Side::Intake => "intake",
        }
    }
}
