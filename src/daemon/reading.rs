//! Reading the journal for the core, off its task: for a peer that lags, for duties that a restart takes up, for
//! an event that is to be carried further.

use super::driver::Driver;
use crate::core::ports::{Input, Log as _, Seq};
use crate::store::Journal;
use crate::wire::NodeId;

/// How far the duties of this node are done, as a cursor of the journal.
pub(super) const DUTY_CURSOR: &str = "duty";

impl Driver {
    pub(super) fn scan(&self, peer: NodeId, after: Seq) {
        let (entries, bytes) = self.page_max;
        self.read(move |journal| Input::Scanned { peer, after, page: journal.page(after, entries, bytes) });
    }

    pub(super) fn resume(&self, after: Seq) {
        let (entries, bytes) = self.page_max;
        self.read(move |journal| Input::Resumed { after, page: journal.page(after, entries, bytes) });
    }

    pub(super) fn recall(&self, seq: Seq, digits: u8) {
        self.read(move |journal| {
            let page = journal.page(Seq(seq.0.saturating_sub(1)), 1, usize::MAX).ok();
            let stored = page.and_then(|page| page.entries.into_iter().next()).filter(|stored| stored.seq == seq);
            Input::Recalled { digits, stored: stored.map(Box::new) }
        });
    }

    fn read(&self, look: impl FnOnce(&Journal) -> Input + Send + 'static) {
        let (journal, answer) = (self.hands.journal.clone(), self.read.0.clone());
        tokio::task::spawn_blocking(move || {
            // The driver has ended: nobody is left to serve.
            let _ = answer.send(look(&journal));
        });
    }
}
