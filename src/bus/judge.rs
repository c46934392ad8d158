//! What becomes of one event of the journal on one stream: the one place where events are held back from
//! the bus.

use std::sync::Arc;

use super::dead::Cause;
use super::late::{self, Spread};
use super::layout::{Fields, Layout};
use super::outbox;
use super::outlet::Outlet;
use super::settings::Settings;
use crate::core::ports::Stored;
use crate::core::trust::{self, Policy};
use crate::time::Wall;
use crate::wire::{Interests, NodeId};

/// What becomes of one event on one stream.
#[derive(Debug)]
pub(super) enum Fate {
    /// An entry of the stream, of which local policy thinks this.
    Append(Fields, trust::Verdict),
    /// A dead letter beside it.
    Bury(Cause),
    /// An entry of the stream, but not before this moment.
    Wait(Wall),
    /// Not for this stream.
    Skip,
}

/// Decides what becomes of events on one stream. What others gave counts as wanted, as it did when it was
/// taken; of this node's own events, the interests of this moment choose. Policy is that of this moment:
/// what waited while Redis was away, or is replayed after a flush, is not to be trusted by rules that are
/// gone. That an event expired meanwhile does not matter, since it was stored in time.
pub(super) struct Judge {
    outlet: Arc<Outlet>,
    layout: Layout,
    interests: Interests,
    policy: Policy,
    node: NodeId,
    own: bool,
    spreads: Vec<Spread>,
    /// How the ids begin of what was published by an entry of the bus: those stand there already.
    mark: Option<String>,
}

impl Judge {
    pub(super) fn new(settings: &Settings, outlet: Arc<Outlet>, interests: Interests, policy: Policy) -> Judge {
        let reads_bus = settings.layout == Layout::Teleclaude && outlet.stream == settings.stream;
        Judge {
            outlet,
            layout: settings.layout.clone(),
            interests,
            policy,
            node: settings.node,
            own: settings.own,
            spreads: settings.spreads.clone(),
            mark: reads_bus.then(|| outbox::mark(&settings.stream) + "-"),
        }
    }

    /// The same as [`Judge::judge`] for one that may have to wait for its turn.
    pub(super) fn judge_at(&self, stored: &Stored, now: Wall) -> Fate {
        match late::turn(&self.spreads, self.node, stored).filter(|turn| *turn > now) {
            Some(turn) if self.is_wanted(stored) => Fate::Wait(turn),
            _ => self.judge(stored),
        }
    }

    /// The one place where events are held back from the bus.
    pub(super) fn judge(&self, stored: &Stored) -> Fate {
        if !self.is_wanted(stored) {
            return Fate::Skip;
        }
        let trust = self.policy.judge(stored.entry.envelope.event());
        match trust {
            trust::Verdict::Dropped => return Fate::Skip,
            trust::Verdict::Quarantined => return Fate::Bury(Cause::quarantine()),
            trust::Verdict::Accepted | trust::Verdict::Flagged => {}
        }
        match self.layout.lay_out(stored, trust) {
            Ok(fields) => Fate::Append(fields, trust),
            Err(cause) => Fate::Bury(cause),
        }
    }

    fn is_wanted(&self, stored: &Stored) -> bool {
        let event = stored.entry.envelope.event();
        if !self.outlet.takes(event, stored.seq) {
            return false;
        }
        if event.kind.is_reserved() {
            // The talk of the protocol, but for what this node tells its own programs when they ask for it.
            return event.kind.is_local() && event.source == self.node && self.interests.asks_for(&event.kind);
        }
        // `to` names exactly those it is for: whoever it does not name only carries it.
        if !event.to.is_empty() && !event.to.contains(&self.node) {
            return false;
        }
        if event.source == self.node {
            let is_there = self.mark.as_ref().is_some_and(|mark| event.id.starts_with(&**mark));
            return self.own && !is_there && (!event.to.is_empty() || self.interests.matches(&event.kind));
        }
        // What others gave was taken because it was wanted then: admission stores nothing else. Who wants it
        // no more must not lose what was acknowledged while Redis was away.
        true
    }
}
