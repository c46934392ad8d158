//! Goodbye: said to everybody to whom a lane stands and to the registrar that lists this node; when they
//! have it, or had time enough, the daemon ends.
//!
//! What is owed to peers stays in the journal. The next start signs a higher number, and with that
//! this node is back: nothing has to be undone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::block_in_place;
use tokio::time::Instant;

use super::announce::{Announcer, Outcome};
use super::driver::Driver;
use crate::admin::answers::{Left, StruckOut};
use crate::admin::{Fault, FaultCode};
use crate::core::PeerState;
use crate::wire::NodeId;

/// How long neighbours get to take it. Who does not hears it from others, or drops this node a day
/// after its last record.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for the registrar: what it said last is known a little before.
const PATIENCE_OF_REGISTRAR: Duration = Duration::from_millis(4_500);

/// Who has the goodbye, and who does not yet.
pub(super) struct Leaving {
    line: Arc<str>,
    waiting: BTreeSet<NodeId>,
    told: Vec<NodeId>,
    missed: Vec<NodeId>,
    registrar: AtRegistrar,
    until: Instant,
    askers: Vec<oneshot::Sender<Result<Left, Fault>>>,
}

/// What became of our entry in the list.
enum AtRegistrar {
    /// We ask to be in none.
    Nowhere,
    /// It was told our goodbye.
    Asked(String, oneshot::Receiver<Outcome>),
    /// It answered, or did not.
    Said(StruckOut),
}

impl AtRegistrar {
    fn ask(announcer: Option<&Announcer>, goodbye: &Arc<str>) -> AtRegistrar {
        let Some(announcer) = announcer else { return AtRegistrar::Nowhere };
        let answer = announcer.strike_out(Arc::clone(goodbye), Instant::now() + PATIENCE_OF_REGISTRAR);
        AtRegistrar::Asked(announcer.origin.to_string(), answer)
    }

    fn hear(&mut self, outcome: Outcome) {
        if let AtRegistrar::Asked(origin, _) = self {
            *self = AtRegistrar::Said(StruckOut { origin: std::mem::take(origin), why_not: outcome.err() });
        }
    }
}

/// What the registrar answered to our goodbye, once; never when it was not asked.
pub(super) async fn heard_of_registrar(leaving: &mut Option<Leaving>) -> Outcome {
    match leaving.as_mut().map(|leaving| &mut leaving.registrar) {
        // Its sender is gone when the daemon stops for another reason.
        Some(AtRegistrar::Asked(_, answer)) => answer.await.unwrap_or_else(|_| Err("this node stops".to_owned())),
        _ => std::future::pending().await,
    }
}

impl Driver {
    /// Says goodbye and answers once everybody has it, or had time enough.
    pub(super) fn leave(&mut self, answer: oneshot::Sender<Result<Left, Fault>>) {
        if let Some(leaving) = &mut self.leaving {
            leaving.askers.push(answer);
            return;
        }
        let now = self.clock.now().wall;
        let line = match block_in_place(|| self.record.leave(now)) {
            Ok(line) => line,
            Err(error) => {
                let _ = answer.send(Err(Fault::new(FaultCode::Storage, error.to_string())));
                return;
            }
        };
        let peers = self.node.view().peers;
        let stands = peers.iter().filter(|peer| matches!(peer.state, PeerState::Connected { .. }));
        let waiting: BTreeSet<NodeId> = stands.map(|peer| peer.id).collect();
        tracing::info!(neighbours = waiting.len(), "goodbye is said; the daemon ends when the neighbours have it");
        let registrar = AtRegistrar::ask(self.hands.announcer.as_ref(), &line);
        let (told, missed, until) = (Vec::new(), Vec::new(), Instant::now() + PATIENCE);
        self.leaving = Some(Leaving { line, waiting, told, missed, registrar, until, askers: vec![answer] });
        self.leave_if_told();
    }

    /// When the goodbye is given up for those that do not take it.
    pub(super) fn leaves_at(&self) -> Option<Instant> {
        self.leaving.as_ref().filter(|leaving| !leaving.askers.is_empty()).map(|leaving| leaving.until)
    }

    /// A peer took a record of ours.
    pub(super) fn on_told(&mut self, peer: NodeId, line: &Arc<str>) {
        let Some(leaving) = &mut self.leaving else { return };
        if *leaving.line == **line && leaving.waiting.remove(&peer) {
            leaving.told.push(peer);
            self.leave_if_told();
        }
    }

    /// The lane to a peer is gone.
    pub(super) fn on_untold(&mut self, peer: NodeId) {
        let Some(leaving) = &mut self.leaving else { return };
        if leaving.waiting.remove(&peer) {
            leaving.missed.push(peer);
            self.leave_if_told();
        }
    }

    /// The registrar answered.
    pub(super) fn on_struck_out(&mut self, outcome: Outcome) {
        if let Some(leaving) = &mut self.leaving {
            leaving.registrar.hear(outcome);
            self.leave_if_told();
        }
    }

    fn leave_if_told(&mut self) {
        let Some(leaving) = &self.leaving else { return };
        if leaving.waiting.is_empty() && !matches!(leaving.registrar, AtRegistrar::Asked(..)) {
            self.end_leaving();
        }
    }

    /// Answers, and asks for the end of the daemon.
    pub(super) fn end_leaving(&mut self) {
        let Some(leaving) = &mut self.leaving else { return };
        leaving.missed.extend(std::mem::take(&mut leaving.waiting));
        leaving.registrar.hear(Err("no answer in time".to_owned()));
        let registrar = match &leaving.registrar {
            AtRegistrar::Said(said) => Some(said.clone()),
            _ => None,
        };
        let left = Left { told: leaving.told.clone(), missed: leaving.missed.clone(), registrar };
        for asker in leaving.askers.drain(..) {
            let _ = asker.send(Ok(left.clone()));
        }
        // Full: it was asked for already.
        let _ = self.hands.quit.try_send(());
    }
}
