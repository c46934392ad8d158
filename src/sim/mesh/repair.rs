//! Views repaired by set reconciliation: what a lane and a receptor do about it, in this world.

use std::sync::Arc;
use std::time::Duration;

use super::{Answerer, Happening, Mesh};
use crate::core::ports::{Input, LaneId};
use crate::core::sync::{Fault, Run, Snapshot, Step, Tally};
use crate::wire::{NodeId, Record, Verified};

/// All repairs of views together.
#[derive(Clone, Copy, Default, Debug)]
pub struct Repairs {
    /// Runs that came to their end.
    pub runs: u64,
    /// Runs that did not.
    pub failed: u64,
    /// Frames sent.
    pub rounds: u64,
    /// Bytes of frames, both ways.
    pub bytes: u64,
    /// Lines that came.
    pub given: u64,
}

impl Mesh {
    /// How views were repaired so far, by all nodes.
    pub fn repairs(&self) -> Repairs {
        self.repairs
    }

    /// A whole run at once; what it brings comes after as many round trips.
    pub(super) fn reconcile(&mut self, from: usize, life: u32, peer: NodeId, lane: LaneId, snapshot: Arc<Snapshot>) {
        let Some(end) = self.end_of(from, life, &peer, lane) else { return };
        let (now, asker) = (self.moment(), self.hosts[from].key.id());
        let theirs = match end {
            None => return self.lose(from, life, peer, lane),
            Some(Answerer::Host(to)) => self.hosts[to].node.as_mut().and_then(|node| node.reconcile_with(&asker, now)),
            Some(Answerer::Liar(_)) => Some(Arc::clone(&self.lying)),
        };
        let mut wait = self.delay();
        let result = match theirs {
            None => Err(Fault::Refused(403)),
            Some(theirs) => self.walk(&theirs, snapshot, &mut wait, |mesh, records, wait| {
                let input = Input::Gained { peer, lane, records, useless: Vec::new() };
                mesh.later(wait, Happening::Feed { host: from, life, input });
            }),
        };
        match &result {
            Ok(tally) => {
                self.repairs.runs += 1;
                self.repairs.rounds += u64::from(tally.rounds);
                self.repairs.bytes += tally.bytes as u64;
                self.repairs.given += tally.given as u64;
            }
            Err(_) => self.repairs.failed += 1,
        }
        self.later(wait, Happening::Feed { host: from, life, input: Input::Reconciled { peer, lane, result } });
    }

    fn walk(
        &mut self,
        theirs: &Snapshot,
        ours: Arc<Snapshot>,
        wait: &mut Duration,
        gain: impl Fn(&mut Mesh, Vec<Verified<Record>>, Duration),
    ) -> Result<Tally, Fault> {
        let (mut run, mut step) = Run::begin(ours);
        loop {
            *wait += self.delay();
            step = match step {
                Step::Done => return Ok(run.tally()),
                Step::Sync(message) => run.hear(&theirs.answer(&message).map_err(|_| Fault::Nonsense)?)?,
                Step::Get(mut digests) => {
                    digests.retain(|digest| theirs.has(digest));
                    let records = digests.iter().filter_map(|digest| self.signed.get(digest).cloned()).collect();
                    gain(self, records, *wait);
                    run.got(&digests)?
                }
            };
        }
    }
}
