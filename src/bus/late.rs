//! Events that wait for their turn before they are appended: `[[bus.spread]]`.
//!
//! Programs on ten thousand nodes that all do something about the same event, and by themselves, do it at the
//! same moment; unless each bus shows it at another one. So the bridge passes over such an event, and writes
//! its position and its turn into the hash that holds the cursor, in the same step. When it is its turn, one
//! more step appends it and takes the position out again. So it is appended once, whatever happens to
//! either process, and the events behind it wait for nothing: it is the one place where the order of a stream
//! is not that of the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::batch::{BYTES_MAX, Batch, ENTRIES_MAX};
use super::cursor::Found;
use super::judge::Fate;
use crate::core::offset;
use crate::core::ports::{Log, Seq, Stored};
use crate::time::Wall;
use crate::wire::{NodeId, Pattern};

/// Events of one stream that wait for their turn; of more, each is appended as it comes.
pub const LATE_MAX: usize = 1_024;

/// Events of these types are shown on this bus at a moment of its own, within this span.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spread {
    /// Which types.
    pub pattern: Pattern,
    /// Within which span after it was stored here.
    pub window: Duration,
}

/// When this event is appended; `None` = as it comes. It waits when it is for everybody, and of somebody else.
pub(super) fn turn(spreads: &[Spread], node: NodeId, stored: &Stored) -> Option<Wall> {
    let (event, received) = (stored.entry.envelope.event(), stored.entry.received);
    if event.source == node || !event.to.is_empty() {
        return None;
    }
    let spread = spreads.iter().find(|spread| spread.pattern.matches(&event.kind))?;
    let left = event.expires.since(received);
    Some(received + offset::delay(&event.digest(), &node, spread.window, left))
}

/// What waits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Late {
    /// As the hash in Redis has it: `position:milliseconds`, with a space between.
    text: Vec<u8>,
    turns: BTreeMap<Seq, Wall>,
    order: BTreeSet<(Wall, Seq)>,
}

impl Late {
    /// What this cursor says of this journal. What is no position with its turn is passed over.
    pub(super) fn read(found: &Found, incarnation: u64) -> Late {
        let mut late = Late { text: found.late.clone().unwrap_or_default(), ..Late::default() };
        if found.epoch.as_deref() == Some(incarnation.to_string().as_bytes()) {
            let text = String::from_utf8_lossy(&late.text).into_owned();
            for (seq, millis) in text.split(' ').filter_map(|one| one.split_once(':')).take(LATE_MAX) {
                if let (Ok(seq), Ok(millis)) = (seq.parse(), millis.parse()) {
                    late.add(Seq(seq), Wall::from_millis(millis));
                }
            }
        }
        late
    }

    /// As it stands in Redis.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    fn add(&mut self, seq: Seq, turn: Wall) {
        if let Some(before) = self.turns.insert(seq, turn) {
            self.order.remove(&(before, seq));
        }
        self.order.insert((turn, seq));
    }

    fn remove(&mut self, seq: Seq) {
        if let Some(turn) = self.turns.remove(&seq) {
            self.order.remove(&(turn, seq));
        }
    }

    /// How many more may wait.
    pub(super) fn room(&self) -> usize {
        LATE_MAX.saturating_sub(self.turns.len())
    }

    /// The first position that waits.
    pub(super) fn first(&self) -> Option<Seq> {
        self.turns.first_key_value().map(|(seq, _)| *seq)
    }

    /// The next turn.
    pub(super) fn next(&self) -> Option<Wall> {
        self.order.first().map(|(turn, _)| *turn)
    }

    /// Those whose turn it is, in their order, at most a batch of them.
    pub(super) fn due(&self, now: Wall) -> Vec<Seq> {
        let due = self.order.iter().take_while(|(turn, _)| *turn <= now);
        due.map(|(_, seq)| *seq).take(ENTRIES_MAX).collect()
    }

    /// What waits once this batch is done. What follows its end comes again.
    pub(super) fn after(&self, batch: &Batch) -> Late {
        let mut next = self.clone();
        let again: Vec<Seq> = next.turns.range(Seq(batch.upto.0.saturating_add(1))..).map(|(seq, _)| *seq).collect();
        again.iter().chain(&batch.released).for_each(|seq| next.remove(*seq));
        batch.late.iter().for_each(|(seq, turn)| next.add(*seq, *turn));
        let pairs: Vec<String> =
            next.turns.iter().map(|(seq, turn)| format!("{}:{}", seq.0, turn.as_millis())).collect();
        next.text = pairs.join(" ").into_bytes();
        next
    }
}

/// The batch that appends these, whose turn it is; the cursor stays at `at`. One that is not in the journal any
/// more is lost, and waits no longer.
pub(super) fn release(log: &dyn Log, at: Seq, due: Vec<Seq>, judge: &dyn Fn(&Stored) -> Fate) -> Batch {
    let (mut batch, mut bytes) = (Batch::after(at), 0);
    for seq in due {
        if bytes > BYTES_MAX / 2 {
            break;
        }
        let page = log.page(Seq(seq.0.saturating_sub(1)), 1, usize::MAX);
        match page.ok().and_then(|page| page.entries.into_iter().find(|stored| stored.seq == seq)) {
            Some(stored) => bytes += batch.take(&stored, judge(&stored)),
            None => batch.lost += 1,
        }
        batch.released.push(seq);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Wall = Wall::from_millis(1_795_262_400_000);

    fn found(late: &str) -> Found {
        Found { epoch: Some(b"7".to_vec()), seq: Some(b"90".to_vec()), late: Some(late.as_bytes().to_vec()) }
    }

    #[test]
    fn what_was_written_is_read_back_and_anything_else_passed_over() {
        let late = (NOON + Duration::from_millis(5), NOON + Duration::from_millis(1));
        let batch = Batch { late: vec![(Seq(3), late.0), (Seq(8), late.1)], ..Batch::after(Seq(9)) };
        let written = Late::default().after(&batch);
        let text = String::from_utf8(written.text().to_vec()).expect("text");
        assert_eq!(text, "3:1795262400005 8:1795262400001");
        let read = Late::read(&found(&text), 7);
        assert_eq!(read, written);
        assert_eq!((read.first(), read.next(), read.due(late.0)), (Some(Seq(3)), Some(late.1), vec![Seq(8), Seq(3)]));
        assert_eq!(Late::read(&found(&text), 8).first(), None, "of another journal");
        let odd = Late::read(&found("x 5: :6 7:8 9:-"), 7);
        assert_eq!((odd.first(), odd.turns.len(), odd.text()), (Some(Seq(7)), 1, &b"x 5: :6 7:8 9:-"[..]));
    }

    #[test]
    fn a_cursor_that_is_set_back_brings_again_what_follows_it() {
        let late = Late::read(&found("3:1 8:1 9:1"), 7);
        let kept = |batch: &Batch| late.after(batch).turns.into_keys().map(|seq| seq.0).collect::<Vec<_>>();
        assert_eq!(kept(&Batch::after(Seq(8))), [3, 8]);
        assert_eq!(kept(&Batch { released: vec![Seq(3)], ..Batch::after(Seq(90)) }), [8, 9]);
        assert_eq!(late.after(&Batch::after(Seq(0))).text(), b"");
    }
}
