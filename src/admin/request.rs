//! What the driver is asked: the whole border between the local API and the node.

use std::collections::BTreeSet;
use std::fmt;

use tokio::sync::oneshot;

use super::answers::{
    Identified, Identity, InterestsView, Left, Matches, Moved, Peers, Pinged, Status, TrustView, Unreached,
};
use super::dead::{Letter, Mended, Retried};
use super::fault::{Fault, FaultCode};
use super::tiers::{Discovery, TierName};
use super::waiting::Taken;
use crate::core::ports::{Emitted, Order};
use crate::wire::message::Outcome;
use crate::wire::{Digest, EventType, HostPort, Interests, NodeId, Pattern};

/// One question. The asker may be gone when the answer comes: sending it may fail, and that is fine.
/// A dropped `answer` is told the caller as "the daemon is stopping".
#[derive(Debug)]
pub enum Request {
    /// How is this node?
    Status {
        /// At once, whatever the state.
        answer: oneshot::Sender<Status>,
    },
    /// Who is this node, and how is it reached?
    Id {
        /// At once.
        answer: oneshot::Sender<Identity>,
    },
    /// Who is known?
    Peers {
        /// With everybody who was only heard of.
        all: bool,
        /// At once.
        answer: oneshot::Sender<Peers>,
    },
    /// How did it come that this node stands where it stands?
    History {
        /// Who.
        id: NodeId,
        /// At once; the oldest change first.
        answer: oneshot::Sender<Vec<Moved>>,
    },
    /// Accept, block or unblock a node.
    Order {
        /// Who.
        id: NodeId,
        /// What.
        order: Order,
        /// Once it is durable. [`FaultCode::NoSuchPeer`], [`FaultCode::OwnAddress`], [`FaultCode::Blocked`],
        /// [`FaultCode::BlockedFull`], [`FaultCode::Storage`].
        answer: oneshot::Sender<Result<(), Fault>>,
    },
    /// Who answers there? A dial that trusts any key and keeps nothing.
    Identify {
        /// Where; typed in by hand, so the address policy does not apply.
        at: HostPort,
        /// [`FaultCode::Unreachable`] when nobody does, [`FaultCode::OwnAddress`] when it is us.
        answer: oneshot::Sender<Result<Identified, Fault>>,
    },
    /// Add a peer, or give a known one another address or alias. The id is known by now: typed in,
    /// or found by `Identify` and confirmed by a person.
    AddPeer {
        /// Who.
        id: NodeId,
        /// Where.
        at: HostPort,
        /// A name of our own; `None` leaves it as it is.
        alias: Option<String>,
        /// Once it is durable; not once it is connected. [`FaultCode::PeersFull`], [`FaultCode::Storage`].
        answer: oneshot::Sender<Result<(), Fault>>,
    },
    /// Call a known peer something else, or nothing.
    NamePeer {
        /// Who.
        id: NodeId,
        /// A name of our own.
        alias: Option<String>,
        /// Once it is durable. [`FaultCode::NoSuchPeer`], [`FaultCode::Alias`], [`FaultCode::Storage`].
        answer: oneshot::Sender<Result<(), Fault>>,
    },
    /// How long is the way to a peer and back?
    Ping {
        /// Who.
        id: NodeId,
        /// [`FaultCode::Unreachable`] without a lane, or when it breaks.
        answer: oneshot::Sender<Result<Pinged, Fault>>,
    },
    /// Who would get an event of this type?
    Match {
        /// The type.
        kind: EventType,
        /// At once.
        answer: oneshot::Sender<Matches>,
    },
    /// Say goodbye to everybody, and end the daemon.
    Leave {
        /// Once the connected peers have it, or had their time. [`FaultCode::Storage`]; nothing is said then.
        answer: oneshot::Sender<Result<Left, Fault>>,
    },
    /// What did each tier of discovery answer last?
    Discovery {
        /// At once.
        answer: oneshot::Sender<Discovery>,
    },
    /// Ask these tiers anew, and dial what they name.
    Discover {
        /// Which.
        tiers: BTreeSet<TierName>,
        /// Without dialling, and without telling the node what they name.
        dry_run: bool,
        /// Once every dial has ended, or had its time.
        answer: oneshot::Sender<Discovery>,
    },
    /// Forget a peer.
    RemovePeer {
        /// Who.
        id: NodeId,
        /// Once it is durable. [`FaultCode::NoSuchPeer`], [`FaultCode::Storage`].
        answer: oneshot::Sender<Result<(), Fault>>,
    },
    /// Publish events, signed by us.
    Publish {
        /// In order.
        emitted: Vec<Emitted>,
        /// Told of each peer that stores one of them, until its other end is gone.
        taken: Option<Taken>,
        /// One for each, in order, once it is durable or refused.
        answer: oneshot::Sender<Vec<Outcome>>,
    },
    /// Who of these does not get an event that is addressed to them?
    Reach {
        /// Whom it is addressed to.
        to: Vec<NodeId>,
        /// The event that it answers or follows from.
        causation: Option<Digest>,
        /// At once.
        answer: oneshot::Sender<Vec<Unreached>>,
    },
    /// What do we want, and who wants what from us?
    Interests {
        /// At once.
        answer: oneshot::Sender<InterestsView>,
    },
    /// Want something else from now on.
    SetInterests {
        /// What changes; [`InterestsChange::apply`] does it.
        change: InterestsChange,
        /// The new state, once it holds.
        answer: oneshot::Sender<Result<InterestsView, Fault>>,
    },
    /// What is there to be counted?
    Metrics {
        /// At once: OpenMetrics text.
        answer: oneshot::Sender<String>,
    },
    /// Whom do we not listen to?
    Trust {
        /// At once.
        answer: oneshot::Sender<TrustView>,
    },
    /// Mute sources, and listen to others again.
    SetMuted {
        /// These from now on.
        mute: Vec<NodeId>,
        /// These no more.
        unmute: Vec<NodeId>,
        /// The new state, once it is durable. [`FaultCode::Mute`], [`FaultCode::NotMuted`], [`FaultCode::Storage`].
        answer: oneshot::Sender<Result<TrustView, Fault>>,
    },
    /// What is among the dead letters? This and the next four: [`FaultCode::NoBus`],
    /// [`FaultCode::BusTrouble`].
    Letters {
        /// How many at most.
        count: usize,
        /// The newest first.
        answer: oneshot::Sender<Result<Vec<Letter>, Fault>>,
    },
    /// What is this dead letter?
    Letter {
        /// By which it is called.
        id: String,
        /// [`FaultCode::NoSuchLetter`], [`FaultCode::AmbiguousLetter`].
        answer: oneshot::Sender<Result<Letter, Fault>>,
    },
    /// Deliver a dead letter after all.
    RetryLetter {
        /// By which it is called.
        id: String,
        /// Once it is done. [`FaultCode::NoSuchLetter`], [`FaultCode::AmbiguousLetter`],
        /// [`FaultCode::LetterRefused`].
        answer: oneshot::Sender<Result<Retried, Fault>>,
    },
    /// Throw a dead letter away.
    DropLetter {
        /// By which it is called.
        id: String,
        /// What it was. [`FaultCode::NoSuchLetter`], [`FaultCode::AmbiguousLetter`].
        answer: oneshot::Sender<Result<Letter, Fault>>,
    },
    /// Let streams go on whose cursor was lost.
    MendBus {
        /// With everything that the journal holds, not only what follows the last known position.
        replay: bool,
        /// Which go on, from where. [`FaultCode::NothingStopped`].
        answer: oneshot::Sender<Result<Mended, Fault>>,
    },
}

/// A change of what we want: `set` replaces everything, then `remove`, then `add`.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterestsChange {
    /// Everything, from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Vec<Pattern>>,
    /// These too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Pattern>,
    /// These no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Pattern>,
}

/// As the log has it: `set a.* b.c, remove x.y, add c.*`.
impl fmt::Display for InterestsChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("set", self.set.as_deref()), ("remove", Some(&*self.remove)), ("add", Some(&*self.add))];
        let part = |(verb, patterns): (&str, Option<&[Pattern]>)| {
            let patterns = patterns.filter(|patterns| !patterns.is_empty() || verb == "set")?;
            let names: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
            Some(if names.is_empty() { format!("{verb} nothing") } else { format!("{verb} {}", names.join(" ")) })
        };
        f.write_str(&parts.into_iter().filter_map(part).collect::<Vec<_>>().join(", "))
    }
}

impl InterestsChange {
    /// What is wanted after the change.
    ///
    /// # Errors
    /// [`FaultCode::NoSuchPattern`] for one that is not there to be removed, [`FaultCode::Interests`]
    /// beyond the limits of a record.
    pub fn apply(&self, now: &Interests) -> Result<Interests, Fault> {
        let mut patterns = self.set.clone().unwrap_or_else(|| now.patterns().to_vec());
        for gone in &self.remove {
            let before = patterns.len();
            patterns.retain(|pattern| pattern != gone);
            if patterns.len() == before {
                let why = match patterns.iter().find(|pattern| pattern.covers(gone)) {
                    Some(wider) => format!("`{gone}` is not one of the patterns by itself: `{wider}` covers it"),
                    None => format!("`{gone}` is not one of the patterns"),
                };
                return Err(Fault::new(FaultCode::NoSuchPattern, why));
            }
        }
        patterns.extend(self.add.iter().cloned());
        Interests::new(patterns).map_err(|why| Fault::new(FaultCode::Interests, why.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().expect("a pattern")).collect()
    }

    fn interests(texts: &[&str]) -> Interests {
        Interests::new(patterns(texts)).expect("interests")
    }

    #[test]
    fn a_change_is_told_in_words() {
        let change = InterestsChange { add: patterns(&["c.d"]), remove: patterns(&["a.*", "b.*"]), set: None };
        assert_eq!(change.to_string(), "remove a.* b.*, add c.d");
        assert_eq!(InterestsChange { set: Some(Vec::new()), ..Default::default() }.to_string(), "set nothing");
    }

    #[test]
    fn a_change_replaces_then_removes_then_adds() {
        let now = interests(&["a.*", "b.*"]);
        let change = |set: Option<&[&str]>, remove: &[&str], add: &[&str]| InterestsChange {
            set: set.map(patterns),
            add: patterns(add),
            remove: patterns(remove),
        };
        assert_eq!(change(None, &["a.*"], &["c.d"]).apply(&now), Ok(interests(&["b.*", "c.d"])));
        assert_eq!(change(Some(&["x.y"]), &[], &["z.*"]).apply(&now), Ok(interests(&["x.y", "z.*"])));
        assert_eq!(change(Some(&[]), &[], &[]).apply(&now), Ok(Interests::default()));
        let fault = change(None, &["a.b"], &[]).apply(&now).expect_err("covered, not there");
        assert_eq!(fault.code, FaultCode::NoSuchPattern);
        assert!(fault.why.contains("`a.*` covers it"), "{}", fault.why);
    }
}
