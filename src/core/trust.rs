//! What this node thinks of an event: local policy, nobody else's business.
//!
//! Two steps. A source that is muted, or not of the private mesh, is not listened to at all. For what
//! is left the rules say who may send which types: the first rule that names both the source and the
//! type decides, as in a firewall; where none does, the event is accepted. What was published here is
//! accepted always, and the protocol's own types (`mesh.`) are beyond the rules.
//!
//! Trust never travels. Admission asks once, at the door: what is [`Verdict::Dropped`] there is refused
//! and never stored. Everything else is stored and forwarded alike, and whoever reads the journal for
//! local programs asks *again, when it reads*. So the policy of the moment
//! counts: what waits while Redis is away is bridged by the rules that hold when it comes back, a source
//! muted now is not heard of again by a replay of last week, and the journal keeps no opinion that
//! somebody would have to correct. What a program has read already stays read.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::params::Params;
use crate::wire::{Event, NodeId, Pattern};

/// What is done with an event. Programs read these words as `mesh_trust` on the bus and `trust` in `sub`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is known against it.
    Accepted,
    /// Local programs get it, and are told that a rule doubts it.
    Flagged,
    /// It is stored and forwarded; local programs do not get it until a person releases it.
    Quarantined,
    /// Refused at the door; not shown to anybody when it was stored before.
    Dropped,
}

impl Verdict {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::Flagged => "flagged",
            Verdict::Quarantined => "quarantined",
            Verdict::Dropped => "dropped",
        }
    }

    /// As a rule orders it.
    pub fn action(self) -> &'static str {
        match self {
            Verdict::Accepted => "accept",
            Verdict::Flagged => "flag",
            Verdict::Quarantined => "quarantine",
            Verdict::Dropped => "drop",
        }
    }

    /// What a rule orders with this word.
    pub fn of_action(word: &str) -> Option<Verdict> {
        use Verdict::*;
        [Accepted, Flagged, Quarantined, Dropped].into_iter().find(|verdict| verdict.action() == word)
    }

    /// Do local programs get it?
    pub fn is_shown(self) -> bool {
        match self {
            Verdict::Accepted | Verdict::Flagged => true,
            Verdict::Quarantined | Verdict::Dropped => false,
        }
    }
}

/// Whose events a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sources {
    /// Everybody's.
    Any,
    /// Those that are signed by one of these.
    These(BTreeSet<NodeId>),
}

/// One rule of type authority: these sources, these types, that verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Signed by whom. Who handed it on does not matter.
    pub sources: Sources,
    /// Of which types: one pattern is enough.
    pub types: Vec<Pattern>,
    /// What is done with it.
    pub verdict: Verdict,
}

impl Rule {
    fn is_about(&self, event: &Event) -> bool {
        let by = match &self.sources {
            Sources::Any => true,
            Sources::These(ids) => ids.contains(&event.source),
        };
        by && self.types.iter().any(|pattern| pattern.matches(&event.kind))
    }
}

/// What the rules alone say of an event of somebody else.
pub(super) fn by_rules(rules: &[Rule], event: &Event) -> Verdict {
    if event.kind.is_reserved() {
        return Verdict::Accepted;
    }
    rules.iter().find(|rule| rule.is_about(event)).map_or(Verdict::Accepted, |rule| rule.verdict)
}

/// The whole of local trust at one moment, for those who read the journal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Policy {
    me: NodeId,
    allow: Arc<BTreeSet<NodeId>>,
    mute: Arc<BTreeSet<NodeId>>,
    rules: Arc<[Rule]>,
}

impl Policy {
    /// What these parameters say, for node `me`.
    pub fn of(me: NodeId, params: &Params) -> Policy {
        let (allow, mute) = (Arc::new(params.allow.clone()), Arc::new(params.mute.clone()));
        Policy { me, allow, mute, rules: params.rules.clone() }
    }

    /// The same with other sources muted.
    pub fn with_muted(&self, mute: BTreeSet<NodeId>) -> Policy {
        Policy { mute: Arc::new(mute), ..self.clone() }
    }

    /// Sources that are muted.
    pub fn muted(&self) -> &BTreeSet<NodeId> {
        &self.mute
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What is to be done with this event now.
    pub fn judge(&self, event: &Event) -> Verdict {
        let source = &event.source;
        if *source == self.me {
            return Verdict::Accepted;
        }
        let is_outsider = !self.allow.is_empty() && !self.allow.contains(source);
        if is_outsider || self.mute.contains(source) {
            return Verdict::Dropped;
        }
        by_rules(&self.rules, event)
    }
}

/// Rules of one node: each event of others is held against them, one after the other.
pub const RULES_MAX: usize = 256;
/// Sources muted by hand, beside those of the configuration.
pub const MUTED_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;
    use crate::wire::{Draft, Envelope, Keypair, Verified, envelope};

    const NOON: Wall = Wall::from_millis(1_795_262_400_000);

    fn key(seed: u8) -> Keypair {
        Keypair::from_seed(&[seed; 32])
    }

    fn event(seed: u8, kind: &str) -> Verified<Envelope> {
        envelope::seal(&Draft::new("1", kind, NOON), &key(seed)).expect("a good draft")
    }

    fn rule(sources: &[u8], types: &[&str], action: &str) -> Rule {
        let ids = sources.iter().map(|seed| key(*seed).id()).collect::<BTreeSet<_>>();
        Rule {
            sources: if ids.is_empty() { Sources::Any } else { Sources::These(ids) },
            types: types.iter().map(|text| text.parse().expect("a pattern")).collect(),
            verdict: Verdict::of_action(action).expect("an action"),
        }
    }

    fn policy(rules: Vec<Rule>) -> Policy {
        Policy::of(key(1).id(), &Params { rules: rules.into(), ..Params::default() })
    }

    #[test]
    fn the_first_rule_that_names_source_and_type_decides() {
        let policy = policy(vec![
            rule(&[2], &["deploy.*", "x.y"], "accept"),
            rule(&[3], &["deploy.done"], "flag"),
            rule(&[], &["deploy.*"], "drop"),
            rule(&[3], &["deploy.*", "a.b"], "quarantine"),
        ]);
        for (seed, kind, expected) in [
            (2, "deploy.done", Verdict::Accepted),
            (3, "deploy.done", Verdict::Flagged),
            (3, "deploy.begun", Verdict::Dropped),
            (4, "deploy.done", Verdict::Dropped),
            (3, "a.b", Verdict::Quarantined),
            (2, "a.b", Verdict::Accepted),
            (1, "deploy.done", Verdict::Accepted),
            (4, "mesh.group.x", Verdict::Accepted),
        ] {
            assert_eq!(policy.judge(event(seed, kind).event()), expected, "{seed} {kind}");
        }
    }

    #[test]
    fn who_is_not_listened_to_has_no_rule_to_help_him() {
        let ids = |seeds: &[u8]| seeds.iter().map(|seed| key(*seed).id()).collect::<BTreeSet<_>>();
        let rules = vec![rule(&[], &["*"], "accept")].into();
        let policy = Policy::of(key(1).id(), &Params { allow: ids(&[2, 3]), rules, ..Params::default() });
        let of = |policy: &Policy, seed| policy.judge(event(seed, "a.b").event());
        assert_eq!([1, 2, 4].map(|seed| of(&policy, seed)), [Verdict::Accepted, Verdict::Accepted, Verdict::Dropped]);
        let muted = policy.with_muted(ids(&[1, 2]));
        assert_eq!([1, 2, 3].map(|seed| of(&muted, seed)), [Verdict::Accepted, Verdict::Dropped, Verdict::Accepted]);
    }

    #[test]
    fn every_verdict_has_its_two_words() {
        for verdict in [Verdict::Accepted, Verdict::Flagged, Verdict::Quarantined, Verdict::Dropped] {
            assert_eq!(Verdict::of_action(verdict.action()), Some(verdict));
            assert_eq!(serde_json::to_string(&verdict).expect("a word"), format!("\"{}\"", verdict.as_str()));
        }
        assert_eq!(Verdict::of_action("accepted"), None);
    }
}
