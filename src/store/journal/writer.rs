//! The one thread that writes: gathers what waits, commits it, answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::engine::{Engine, Fault, Item, Place};
use super::plan::{self, Plan, Written};
use super::room::Room;
use super::shared::{Shared, locked};
use super::span::{Mark, Span};
use super::watch::Watch;
use super::{INTERVAL, JournalSettings, Report};
use crate::core::ports::{AppendError, Appended, BatchId, Entry, Refusal, Seq};
use crate::time::Now;
use crate::wire::message::Durability;

/// Entries of one commit. More gains nothing: the fsync is shared well enough.
pub const GROUP_ENTRIES_MAX: usize = 256;
/// Bytes of events in one commit.
pub const GROUP_BYTES_MAX: usize = 4 << 20;
/// Longest wait for company before a commit.
pub const LINGER_MAX: Duration = Duration::from_millis(2);
/// A moved cursor waits this long for a commit to join.
const CURSOR_DELAY: Duration = Duration::from_secs(1);
/// How often a full journal looks whether it may begin again.
const FULL_LOOKS_EVERY: Duration = Duration::from_secs(1);

/// What the handles send.
pub(super) enum Message {
    Append {
        batch: BatchId,
        entries: Vec<Entry>,
    },
    Remember(Vec<Refusal>),
    /// A cursor moved.
    Wake,
    Sweep(Now),
    /// Say that the writer gets as far as this.
    Probe,
    Close,
}

type Batch = (BatchId, Vec<Entry>);

/// The state of the writer thread.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) settings: JournalSettings,
    queue: Receiver<Message>,
    /// What ended a group and has its turn next.
    held: VecDeque<Message>,
    report: Arc<dyn Fn(Report) + Send + Sync>,
    pub(super) watch: Arc<Watch>,
    /// The periods and the next position as the last commit left them.
    pub(super) spans: Vec<Span>,
    pub(super) next: Seq,
    pub(super) mark: Mark,
    pub(super) room: Room,
    /// Since when a cursor waits for the disk.
    dirty: Option<Instant>,
    /// Since when something written waits for the disk: answers with `Durability::Interval`, else only
    /// remembered refusals.
    unsynced: Option<Instant>,
    /// How long the last commit took, and of how many batches it was.
    last: (Duration, usize),
    /// After a fault that only a restart can mend.
    dead: bool,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        settings: JournalSettings,
        queue: Receiver<Message>,
        report: Arc<dyn Fn(Report) + Send + Sync>,
        watch: Arc<Watch>,
    ) -> Writer {
        let spans = locked(&shared.spans).clone();
        let next = Seq(shared.head.load(Ordering::Acquire) + 1);
        let mark = Mark::new(*locked(&shared.mark));
        let room = Room::new(mark.wall);
        let (held, last) = Default::default();
        Writer {
            shared,
            settings,
            queue,
            held,
            report,
            watch,
            spans,
            next,
            mark,
            room,
            dirty: None,
            unsynced: None,
            last,
            dead: false,
        }
    }

    pub(super) fn run(mut self) {
        // Said before somebody relies on it.
        if let Err(why) = self.make_room(0) {
            self.become_full(why);
        }
        loop {
            match self.wait() {
                Some(Message::Append { batch, entries }) => {
                    let group = self.gather((batch, entries));
                    self.append(group);
                }
                Some(Message::Remember(refusals)) => self.remember(&refusals),
                Some(Message::Wake) => drop(self.dirty.get_or_insert_with(Instant::now)),
                Some(Message::Sweep(now)) => self.sweep(now),
                Some(Message::Probe) => self.say(Report::Alive),
                Some(Message::Close) => break,
                None => self.tick(),
            }
        }
        self.tidy_up();
    }

    /// The next message; `None` when it is time to look after something else first.
    fn wait(&mut self) -> Option<Message> {
        if let Some(held) = self.held.pop_front() {
            return Some(held);
        }
        let dirty_for = self.dirty.map(|since| CURSOR_DELAY.saturating_sub(since.elapsed()));
        let unsynced_for = self.unsynced.map(|since| INTERVAL.saturating_sub(since.elapsed()));
        let due = [dirty_for, unsynced_for].into_iter().flatten().min();
        let patience = if self.room.is_full() { Some(FULL_LOOKS_EVERY) } else { due };
        let received = match patience {
            None => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(patience) => self.queue.recv_timeout(patience),
        };
        match received {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Message::Close),
        }
    }

    /// Takes what waits, up to a group. Batches arrive while the disk works, so there is mostly company
    /// without waiting for it. Only when the last commit had several batches, whose senders may come
    /// back at once, a wait of half that commit's time (2 ms at most) can save another whole one.
    fn gather(&mut self, first: Batch) -> Vec<Batch> {
        let (took, batches) = self.last;
        let linger = if batches > 1 { (took / 2).min(LINGER_MAX) } else { Duration::ZERO };
        let began = Instant::now();
        let weigh = |entries: &[Entry]| entries.iter().map(|entry| entry.envelope.event().bytes().len()).sum::<usize>();
        let (mut entries, mut bytes) = (first.1.len(), weigh(&first.1));
        let mut group = vec![first];
        while entries < GROUP_ENTRIES_MAX && bytes < GROUP_BYTES_MAX {
            let left = linger.saturating_sub(began.elapsed());
            let next = self
                .queue
                .try_recv()
                .ok()
                .or_else(|| if left.is_zero() { None } else { self.queue.recv_timeout(left).ok() });
            match next {
                Some(Message::Append { batch, entries: more }) => {
                    entries += more.len();
                    bytes += weigh(&more);
                    group.push((batch, more));
                }
                Some(Message::Wake) => drop(self.dirty.get_or_insert_with(Instant::now)),
                Some(other) => {
                    self.held.push_back(other);
                    break;
                }
                None => break,
            }
        }
        group
    }

    fn append(&mut self, group: Vec<Batch>) {
        if self.dead {
            return self.answer_all(&group, AppendError::Closed);
        }
        if self.room.is_full() && !self.recover() {
            return self.append_while_full(group);
        }
        let Some(mut written) = self.plan(&group) else { return self.append_while_full(group) };
        if written.items.is_empty() {
            return self.settle(&group, written, Duration::ZERO);
        }
        match self.make_room(written.bytes) {
            Ok(0) => {}
            // The periods are others now.
            Ok(_) => match self.plan(&group) {
                Some(anew) => written = anew,
                None => return self.append_while_full(group),
            },
            Err(why) => {
                self.become_full(why);
                return self.append_while_full(group);
            }
        }
        match self.commit_as(&written.items, self.must_sync()) {
            Ok(took) => self.settle(&group, written, took),
            Err(fault) => {
                self.on_fault(fault, written.items);
                if !self.dead {
                    self.answer_all(&group, AppendError::Full);
                }
            }
        }
    }

    /// While nothing can be stored, what is stored already can still be said.
    fn append_while_full(&mut self, group: Vec<Batch>) {
        for batch in group {
            let batch = [batch];
            match self.plan(&batch) {
                Some(written) if written.items.is_empty() => self.settle(&batch, written, Duration::ZERO),
                Some(_) | None => self.answer_all(&batch, AppendError::Full),
            }
        }
    }

    /// Visible at once and on the disk with the next commit that asks it. When there is no room it is
    /// left: the answer stays the same, it only costs another look.
    fn remember(&mut self, refusals: &[Refusal]) {
        if self.dead || self.room.is_full() {
            return;
        }
        let period = self.settings.period;
        let items = self.shared.reading(|engine| plan::remembered(engine, refusals, period)).unwrap_or_default();
        if !items.is_empty()
            && let Err(fault) = self.commit_as(&items, false)
        {
            self.on_fault(fault, items);
        }
    }

    /// `None` when there is no engine now.
    fn plan(&self, group: &[Batch]) -> Option<Written> {
        self.shared.reading(|engine| {
            let mut plan = Plan::new(engine, &self.settings, self.spans.clone(), self.next);
            group.iter().flat_map(|(_, entries)| entries).for_each(|entry| plan.judge(entry));
            plan.written()
        })
    }

    /// Is the disk to be asked before the next answer?
    fn must_sync(&self) -> bool {
        self.settings.durability == Durability::Fsync || self.unsynced.is_some_and(|since| since.elapsed() >= INTERVAL)
    }

    /// One durable commit of these and of the cursors that wait; says how long it took.
    pub(super) fn commit(&mut self, items: &[Item]) -> Result<Duration, Fault> {
        self.commit_as(items, true)
    }

    fn commit_as(&mut self, items: &[Item], sync: bool) -> Result<Duration, Fault> {
        let (names, cursors) = locked(&self.shared.cursors).settle();
        self.dirty = None;
        let shared = &self.shared;
        let (result, took) = self.watch.over(|| {
            make_keyspaces(shared, items)?;
            let commit = |engine: &Engine| engine.commit(items.iter().chain(&cursors), sync);
            shared.reading(commit).unwrap_or(Err(Fault::Poisoned))
        });
        match result {
            Ok(()) => {
                self.unsynced = if sync { None } else { self.unsynced.or_else(|| Some(Instant::now())) };
                self.shared.counts.commits.fetch_add(1, Ordering::Relaxed);
                self.shared.counts.syncs.fetch_add(u64::from(sync), Ordering::Relaxed);
                if sync {
                    self.shared.counts.sync_seconds.0.observe(took.as_secs_f64());
                }
                Ok(took)
            }
            Err(fault) => {
                locked(&self.shared.cursors).unsettle(names);
                Err(fault)
            }
        }
    }

    /// The commit stands: lets readers see it, answers.
    fn settle(&mut self, group: &[Batch], written: Written, took: Duration) {
        let is_longer = written.next != self.next;
        self.spans = written.spans;
        self.next = written.next;
        self.publish();
        self.last = (took, group.len());
        let counts = &self.shared.counts;
        for outcome in &written.outcomes {
            let count = match outcome {
                Appended::Stored(_) => &counts.stored,
                Appended::Duplicate => &counts.duplicates,
                Appended::Refused(_) => &counts.refused,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
        let mut outcomes = written.outcomes.into_iter();
        for (batch, entries) in group {
            let result = outcomes.by_ref().take(entries.len()).collect();
            self.say(Report::Appended { batch: *batch, result: Ok(result) });
        }
        if is_longer {
            self.say(Report::Head(Seq(self.next.0 - 1)));
        }
    }

    /// Shows the readers the periods and the head.
    pub(super) fn publish(&self) {
        let mut spans = locked(&self.shared.spans);
        spans.clone_from(&self.spans);
        self.shared.head.store(self.next.0 - 1, Ordering::Release);
    }

    fn answer_all(&self, group: &[Batch], error: AppendError) {
        for (batch, _) in group {
            self.say(Report::Appended { batch: *batch, result: Err(error) });
        }
    }

    pub(super) fn say(&self, report: Report) {
        (self.report)(report);
    }

    /// Nothing came for a while.
    fn tick(&mut self) {
        if self.dead {
            (self.dirty, self.unsynced) = (None, None);
            return;
        }
        if self.room.is_full() && !self.recover() {
            return;
        }
        let is_due = |since: Option<Instant>, delay| since.is_some_and(|since| since.elapsed() >= delay);
        if (is_due(self.dirty, CURSOR_DELAY) || is_due(self.unsynced, INTERVAL))
            && let Err(fault) = self.commit(&[])
        {
            self.on_fault(fault, Vec::new());
        }
    }

    /// Only a restart can help.
    pub(super) fn die(&mut self, why: String) {
        self.dead = true;
        self.room.give_up();
        self.say(Report::Fatal(why));
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    /// The last commit, and the engine's own end.
    fn tidy_up(&mut self) {
        // A write that was answered `Full` may still be in the engine's buffer, to be written at its end:
        // if there is room for that, there is room to take it back.
        if !self.dead && (!self.room.is_full() || self.recover()) {
            let mark = self.unsaved_mark();
            let is_dirty = locked(&self.shared.cursors).is_dirty();
            if (is_dirty || self.unsynced.is_some() || !mark.is_empty())
                && let Err(fault) = self.commit(&mark)
            {
                self.on_fault(fault, Vec::new());
            }
        }
        let shared = &self.shared;
        self.watch.over(|| shared.replace_engine(None));
        self.watch.stop();
    }
}

/// Makes the periods that these are the first for.
fn make_keyspaces(shared: &Shared, items: &[Item]) -> Result<(), Fault> {
    let mut made: Option<Place> = None;
    for place in items.iter().map(|item| item.place) {
        if made == Some(place) || shared.reading(|engine| engine.holds(place)) != Some(false) {
            continue;
        }
        shared.changing(|engine| engine.create(place)).unwrap_or(Err(Fault::Poisoned))?;
        made = Some(place);
    }
    Ok(())
}
