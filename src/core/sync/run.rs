//! One run: what does this neighbour have that we lack? From the first question to the last line, as steps;
//! whoever carries it out sends what a step says and hands the answer back.
//!
//! ```text
//!   begin -> Sync ... hear -> Sync ... hear -> Get ... got -> Get ... got -> Done
//! ```
//!
//! Every run ends: by rounds, by bytes, by what it wants, each of them bounded. A neighbour that has more than
//! one run may want is asked again soon. One that never comes to an end, or promises what it does not give, is
//! found out by the same bounds.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::snapshot::{Difference, Snapshot};
use crate::wire::Digest;
use crate::wire::sync::DIGESTS_MAX;

/// Frames that a run may send. Two equal sets take one; of 100 000 records each two frames narrow a difference
/// down by 256, and long lists of digests go on in the next frame. Of so many each difference costs about a
/// kilobyte, and 60 of them fill a frame.
pub const ROUNDS_MAX: u32 = 64;
/// Bytes of frames in one run, both ways together.
pub const RUN_BYTES_MAX: usize = 4 << 20;
/// Records that a run fetches. What is beyond waits for the next one.
pub const WANTED_MAX: usize = 1_024;

/// What to send next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// This message to `/sync`; the answer goes to [`Run::hear`].
    Sync(Vec<u8>),
    /// These digests to `/get`; those of the lines that come go to [`Run::got`].
    Get(Vec<Digest>),
    /// Nothing.
    Done,
}

/// Why a run brought nothing, or ended before its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// It was answered with something else.
    #[error("it answers reconciliation with nonsense")]
    Nonsense,
    /// The bounds were reached, and nothing was told that we lack.
    #[error("its reconciliation never ends")]
    Endless,
    /// It names records and does not give them.
    #[error("it names records that it does not give")]
    Hollow,
    /// It gives what it was not asked for.
    #[error("it gives records that it was not asked for")]
    Unasked,
    /// It does not do this, or not with us; the HTTP status.
    #[error("it refuses reconciliation with status {0}")]
    Refused(u16),
    /// It asks to be left alone for now.
    #[error("it is busy")]
    Busy,
}

impl Fault {
    /// Is this a fault of the other side, and no circumstance?
    pub fn is_guilt(self) -> bool {
        !matches!(self, Fault::Refused(_) | Fault::Busy)
    }
}

/// How a run went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Frames sent.
    pub rounds: u32,
    /// Bytes of frames, both ways.
    pub bytes: usize,
    /// Records that were named and that we lack.
    pub wanted: usize,
    /// Of these, the lines that came.
    pub given: usize,
    /// False when there may be more to be had.
    pub is_whole: bool,
}

/// One run, in progress.
#[derive(Debug)]
pub struct Run {
    snapshot: Arc<Snapshot>,
    tally: Tally,
    wanted: BTreeSet<Digest>,
    /// Asked for just now, and not come yet.
    asked: BTreeSet<Digest>,
}

impl Run {
    /// Begins with what we have, and gives the first step.
    pub fn begin(snapshot: Arc<Snapshot>) -> (Run, Step) {
        let message = snapshot.question();
        let mut run = Run { snapshot, tally: Tally::default(), wanted: BTreeSet::new(), asked: BTreeSet::new() };
        run.count(message.len());
        run.tally.rounds = 1;
        (run, Step::Sync(message))
    }

    /// How it goes.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Takes the answer to [`Step::Sync`]. Takes a time in proportion to all records.
    ///
    /// # Errors
    /// [`Fault::Nonsense`], [`Fault::Endless`]: the run is over.
    pub fn hear(&mut self, answer: &[u8]) -> Result<Step, Fault> {
        self.count(answer.len());
        let Difference { lacking, next } = self.snapshot.hear(answer).map_err(|_| Fault::Nonsense)?;
        self.wanted.extend(lacking);
        let is_full = self.wanted.len() > WANTED_MAX;
        while self.wanted.len() > WANTED_MAX {
            self.wanted.pop_last();
        }
        self.tally.wanted = self.wanted.len();
        let Some(next) = next.filter(|_| !is_full) else {
            self.tally.is_whole = !is_full;
            return Ok(self.fetch());
        };
        if self.tally.rounds >= ROUNDS_MAX || self.tally.bytes + next.len() > RUN_BYTES_MAX {
            return if self.wanted.is_empty() { Err(Fault::Endless) } else { Ok(self.cut()) };
        }
        self.tally.rounds += 1;
        self.count(next.len());
        Ok(Step::Sync(next))
    }

    /// Leaves it at what is wanted so far.
    pub fn cut(&mut self) -> Step {
        self.tally.is_whole = false;
        self.fetch()
    }

    /// Takes what came by [`Step::Get`]: the digests of its lines.
    ///
    /// # Errors
    /// [`Fault::Unasked`], [`Fault::Hollow`]: the run is over, and nothing of these lines counts.
    pub fn got(&mut self, digests: &[Digest]) -> Result<Step, Fault> {
        let is_asked = digests.iter().all(|digest| self.asked.remove(digest)); // and each once
        if !is_asked {
            return Err(Fault::Unasked);
        }
        if digests.is_empty() && self.asked.len() > 1 {
            return Err(Fault::Hollow); // one alone may have expired meanwhile
        }
        self.tally.given += digests.len();
        Ok(self.fetch())
    }

    /// What is wanted next. What was asked for and did not come is not asked for again in this run.
    fn fetch(&mut self) -> Step {
        self.asked.clear();
        while self.asked.len() < DIGESTS_MAX
            && let Some(next) = self.wanted.pop_first()
        {
            self.asked.insert(next);
        }
        if self.asked.is_empty() { Step::Done } else { Step::Get(self.asked.iter().copied().collect()) }
    }

    fn count(&mut self, bytes: usize) {
        self.tally.bytes = self.tally.bytes.saturating_add(bytes);
    }
}
