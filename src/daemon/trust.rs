//! Whom this node does not listen to, as it was configured and as it was typed since.

use std::collections::BTreeSet;

use tokio::sync::watch;
use tokio::task::block_in_place;

use super::driver::Driver;
use crate::admin::answers::{Muted, TrustRule, TrustView};
use crate::admin::{Fault, FaultCode};
use crate::config::Settings;
use crate::core::View;
use crate::core::params::Params;
use crate::core::ports::Input;
use crate::core::trust::{MUTED_MAX, Policy, Sources};
use crate::store::mutes::{self, Mutes};
use crate::wire::NodeId;

/// The policy, and where its mutes come from.
pub(super) struct Trust {
    /// `trust.mute`.
    pub(super) configured: BTreeSet<NodeId>,
    /// What the command line said since.
    pub(super) typed: Mutes,
    /// For everybody who reads the journal for local programs.
    pub(super) policy: watch::Sender<Policy>,
}

impl Trust {
    fn view(&self, node: &View) -> TrustView {
        let policy = self.policy.borrow();
        let muted = |id: &NodeId| Muted {
            id: *id,
            alias: node.peers.iter().find(|peer| peer.id == *id).and_then(|peer| peer.alias.clone()),
            by_hand: self.typed.muted.contains(id),
        };
        let rules = policy.rules().iter().map(|rule| TrustRule {
            source: match &rule.sources {
                Sources::Any => vec!["*".to_owned()],
                Sources::These(ids) => ids.iter().map(NodeId::to_string).collect(),
            },
            types: rule.types.clone(),
            action: rule.verdict.action().to_owned(),
        });
        TrustView { muted: policy.muted().iter().map(muted).collect(), rules: rules.collect() }
    }

    /// What was typed after this change.
    fn changed(&self, me: NodeId, mute: &[NodeId], unmute: &[NodeId]) -> Result<Mutes, Fault> {
        let mut typed = self.typed.clone();
        for source in mute {
            if *source == me {
                return Err(Fault::new(FaultCode::Mute, "this is the id of this very node"));
            }
            typed = typed.with_muted(*source);
        }
        for source in unmute {
            if !typed.over(&self.configured).contains(source) {
                return Err(Fault::new(FaultCode::NotMuted, format!("{} is not muted", source.short())));
            }
            typed = typed.with_unmuted(*source, &self.configured);
        }
        if typed.muted.len() > MUTED_MAX {
            let why = format!("{MUTED_MAX} sources are the most; `trust.allow` names those to listen to instead");
            return Err(Fault::new(FaultCode::Mute, why));
        }
        Ok(typed)
    }
}

impl Driver {
    pub(super) fn trust_view(&self) -> TrustView {
        self.trust.view(&self.node.view())
    }

    /// What the configuration says anew; what was typed stays.
    pub(super) fn take_up_trust(&mut self, settings: &Settings) {
        self.trust.configured.clone_from(&settings.trust.mute);
        // As at a start: whoever the file names anew is muted again.
        let typed = self.trust.typed.under(&self.trust.configured);
        if typed != self.trust.typed {
            if let Err(error) = block_in_place(|| mutes::save(&self.hands.dir, &typed)) {
                tracing::error!("what was muted by hand is not written down: {error}");
            }
            self.trust.typed = typed;
        }
        let mute = self.trust.typed.over(&self.trust.configured);
        let accept = settings.node.accept_in(self.facts.profile);
        let params = Params { mute, accept, ..settings.params() };
        self.trust.policy.send_replace(Policy::of(self.hands.net.id(), &params));
        let Params { allow, mute, rules, firehose, peers_max, min_peers, accept, .. } = params;
        self.feed(Input::Trust { mute, rules });
        self.feed(Input::Members { allow, firehose, peers_max, min_peers, accept });
    }

    /// Durable first, then in force: at the door by the node, for readers of the journal by the policy.
    pub(super) fn change_mutes(&mut self, mute: &[NodeId], unmute: &[NodeId]) -> Result<TrustView, Fault> {
        let typed = self.trust.changed(self.hands.net.id(), mute, unmute)?;
        block_in_place(|| mutes::save(&self.hands.dir, &typed))
            .map_err(|error| Fault::new(FaultCode::Storage, error.to_string()))?;
        self.trust.typed = typed;
        let muted = self.trust.typed.over(&self.trust.configured);
        let policy = self.trust.policy.borrow().with_muted(muted.clone());
        let rules = policy.rules().into();
        self.trust.policy.send_replace(policy);
        self.feed(Input::Trust { mute: muted, rules });
        Ok(self.trust_view())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;

    fn id(seed: u8) -> NodeId {
        Keypair::from_seed(&[seed; 32]).id()
    }

    fn trust(configured: &[u8]) -> Trust {
        let configured: BTreeSet<NodeId> = configured.iter().map(|seed| id(*seed)).collect();
        let policy = Policy::of(id(1), &Params { mute: configured.clone(), ..Params::default() });
        Trust { configured, typed: Mutes::default(), policy: watch::channel(policy).0 }
    }

    #[test]
    fn a_change_that_cannot_be_made_changes_nothing() {
        let trust = trust(&[2]);
        let code = |mute: &[NodeId], unmute: &[NodeId]| trust.changed(id(1), mute, unmute).map_err(|fault| fault.code);
        assert_eq!(code(&[id(3), id(1)], &[]), Err(FaultCode::Mute), "oneself");
        assert_eq!(code(&[], &[id(2), id(3)]), Err(FaultCode::NotMuted));
        let typed = code(&[id(3)], &[id(2)]).expect("a change");
        assert_eq!(typed.over(&trust.configured), [id(3)].into());
    }

    #[test]
    fn no_more_are_muted_by_hand_than_the_file_takes() {
        let mut full = trust(&[]);
        let some_id = |number: usize| {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&number.to_le_bytes());
            Keypair::from_seed(&seed).id()
        };
        full.typed.muted = (0..MUTED_MAX).map(some_id).collect();
        let fault = full.changed(id(1), &[id(2)], &[]).expect_err("one too many");
        assert_eq!(fault.code, FaultCode::Mute);
        assert!(full.changed(id(1), &[some_id(5)], &[]).is_ok(), "it is there already");
    }
}
