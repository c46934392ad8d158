//! Goodbye: said to everybody to whom a lane stands, and only when they have it the daemon ends.
//!
//! What is owed to peers stays in the journal. The next start signs a higher number, and with that
//! this node is back: nothing has to be undone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::block_in_place;
use tokio::time::Instant;

use super::driver::Driver;
use crate::admin::answers::Left;
use crate::admin::{Fault, FaultCode};
use crate::core::PeerState;
use crate::wire::NodeId;

/// How long neighbours get to take it. Who does not hears it from others, or drops this node a day
/// after its last record.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who has the goodbye, and who does not yet.
pub(super) struct Leaving {
    line: Arc<str>,
    waiting: BTreeSet<NodeId>,
    told: Vec<NodeId>,
    missed: Vec<NodeId>,
    until: Instant,
    askers: Vec<oneshot::Sender<Result<Left, Fault>>>,
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
        let (told, missed, until) = (Vec::new(), Vec::new(), Instant::now() + PATIENCE);
        self.leaving = Some(Leaving { line, waiting, told, missed, until, askers: vec![answer] });
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

    fn leave_if_told(&mut self) {
        if self.leaving.as_ref().is_some_and(|leaving| leaving.waiting.is_empty()) {
            self.end_leaving();
        }
    }

    /// Answers, and asks for the end of the daemon.
    pub(super) fn end_leaving(&mut self) {
        let Some(leaving) = &mut self.leaving else { return };
        leaving.missed.extend(std::mem::take(&mut leaving.waiting));
        let left = Left { told: leaving.told.clone(), missed: leaving.missed.clone() };
        for asker in leaving.askers.drain(..) {
            let _ = asker.send(Ok(left.clone()));
        }
        // Full: it was asked for already.
        let _ = self.hands.quit.try_send(());
    }
}
