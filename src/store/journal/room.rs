//! Room to write: the disk, the quota, what happens when either is used up and when it comes back;
//! and the sweep that makes room.

use std::time::Duration;

use super::engine::{Engine, Fault, Item, Place};
use super::layout;
use super::shared::locked;
use super::span;
use super::writer::Writer;
use super::{Report, Swept};
use crate::time::{Now, Wall};

/// The mark of the clock is written down when it moved this far: a lower one is only more careful.
const MARK_STEP: Duration = Duration::from_secs(600);
/// How many times the reserve has to be free before an engine whose background writing failed is
/// given another try: merging tables needs room for both.
const RESERVES_AFTER_FAILURE: u64 = 4;

/// What the writer knows about room.
pub(super) struct Room {
    state: State,
    /// The mark of the clock as the disk has it.
    mark_saved: Option<Wall>,
}

#[derive(Default)]
enum State {
    #[default]
    Well,
    /// Nothing is stored until there is room.
    Full,
    /// The same, and the engine has to be opened again. These changes may or may not have reached the
    /// disk although they were answered `Full`: they are taken back first.
    Poisoned(Vec<Item>),
}

impl Room {
    pub(super) fn new(mark_saved: Option<Wall>) -> Room {
        Room { state: State::Well, mark_saved }
    }

    pub(super) fn is_full(&self) -> bool {
        !matches!(self.state, State::Well)
    }

    pub(super) fn give_up(&mut self) {
        self.state = State::Well;
    }
}

impl Writer {
    /// A commit failed. Sorts out what can go on; `items` are what it would have written.
    pub(super) fn on_fault(&mut self, fault: Fault, items: Vec<Item>) {
        match fault {
            fault @ (Fault::Disk(_) | Fault::Damage(_)) => self.die(fault.to_string()),
            fault @ Fault::Full(_) => {
                self.become_full(fault.to_string());
                self.room.state = State::Poisoned(items);
            }
            fault @ Fault::Poisoned => match self.is_scarce(RESERVES_AFTER_FAILURE) {
                Some(why) => {
                    self.become_full(why);
                    self.room.state = State::Poisoned(items);
                }
                None => self.die(fault.to_string()),
            },
        }
    }

    pub(super) fn become_full(&mut self, why: String) {
        if !self.room.is_full() && !self.is_dead() {
            *locked(&self.shared.full) = Some(why.clone());
            self.room.state = State::Full;
            self.say(Report::Full(why));
        }
    }

    /// Is there room for this many bytes more? Drops old periods if that makes it, and says how many
    /// entries went.
    pub(super) fn make_room(&mut self, bytes: u64) -> Result<u64, String> {
        if let Some(why) = self.is_scarce(1) {
            return Err(why);
        }
        let quota = self.settings.bytes_max;
        let is_over = |writer: &Writer| span::bytes(&writer.spans).saturating_add(bytes) > quota;
        if !is_over(self) {
            return Ok(0);
        }
        match self.drop_periods(None, quota.saturating_sub(bytes)) {
            Ok(_) if is_over(self) => Err(format!("the quota of {quota} bytes holds what is not delivered yet")),
            Ok(dropped) => Ok(dropped),
            Err(fault) => {
                let why = fault.to_string();
                self.on_fault(fault, Vec::new());
                Err(why)
            }
        }
    }

    /// Why the disk is too full; `None` when it is not. What waits in memory needs its place too.
    fn is_scarce(&self, reserves: u64) -> Option<String> {
        #[cfg(test)]
        if self.shared.blind.load(std::sync::atomic::Ordering::Relaxed) {
            return None;
        }
        let folder = &self.shared.folder;
        let free = match rustix::fs::statvfs(folder) {
            Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
            Err(cause) => return Some(format!("the free space of {} is unknown: {cause}", folder.display())),
        };
        let unflushed = self.shared.reading(Engine::unflushed).unwrap_or(0);
        let needed = self.settings.reserve.saturating_mul(reserves).saturating_add(unflushed);
        (free < needed).then(|| format!("{free} bytes are free below {}, {needed} are needed", folder.display()))
    }

    /// May it begin again? A little more room than it takes to stop, so that it does not flap.
    pub(super) fn recover(&mut self) -> bool {
        let reserves = if matches!(self.room.state, State::Poisoned(_)) { RESERVES_AFTER_FAILURE } else { 2 };
        if let Some(why) = self.is_scarce(reserves) {
            // Who made some room is told how much it takes.
            if matches!(self.room.state, State::Full) {
                *locked(&self.shared.full) = Some(why);
            }
            return false;
        }
        if let State::Poisoned(doubtful) = std::mem::take(&mut self.room.state)
            && let Err(fault) = self.reopen(&doubtful)
        {
            self.room.state = State::Poisoned(doubtful);
            if matches!(fault, Fault::Disk(_) | Fault::Damage(_)) {
                self.die(fault.to_string());
            }
            return false;
        }
        self.room.state = State::Full;
        if self.make_room(self.settings.bytes_max / (span::PARTS * 2)).is_err() {
            return false;
        }
        self.room.state = State::Well;
        *locked(&self.shared.full) = None;
        self.say(Report::Well);
        true
    }

    /// Opens the engine again and takes back what a failed commit may have left behind.
    fn reopen(&mut self, doubtful: &[Item]) -> Result<(), Fault> {
        let shared = self.shared.clone();
        let (opened, _) = self.watch.over(|| {
            // What the engine still holds in its buffers is written when it is dropped.
            shared.replace_engine(None);
            Engine::open(&shared.folder)
        });
        let (engine, _) = opened?;
        self.shared.replace_engine(Some(engine));
        let items = self.undo(doubtful);
        if items.is_empty() { Ok(()) } else { self.commit(&items).map(drop) }
    }

    fn undo(&self, doubtful: &[Item]) -> Vec<Item> {
        let there = |place| self.shared.reading(|engine| engine.holds(place)) == Some(true);
        let entries = doubtful.iter().filter(|item| item.place != Place::State && there(item.place));
        let entries = entries.map(|item| Item::remove(item.place, item.key.clone()));
        let spans = doubtful.iter().filter(|item| item.place == Place::State).map(|item| {
            let span = self.spans.iter().find(|span| *item.key == layout::span_key(span.n));
            Item { value: span.map(|span| span.to_bytes().into()), ..item.clone() }
        });
        entries.chain(spans).collect()
    }

    /// The minute's work.
    pub(super) fn sweep(&mut self, now: Now) {
        let clock = self.mark.advance(now);
        *locked(&self.shared.mark) = self.mark.wall;
        let mut swept = Swept { earliest: self.shared.earliest(), clock, ..Swept::default() };
        if !self.is_dead() && !matches!(self.room.state, State::Poisoned(_)) {
            match self.sweep_by(clock) {
                Ok((entries, ids)) => swept = Swept { entries, ids, earliest: self.shared.earliest(), clock },
                Err(fault) => self.on_fault(fault, Vec::new()),
            }
        }
        self.say(Report::Swept(swept));
    }

    fn sweep_by(&mut self, clock: Wall) -> Result<(u64, u64), Fault> {
        let entries = self.drop_periods(Some(clock), self.settings.bytes_max)?;
        let ids = self.forget_ids(clock)?;
        let is_due = |wall| self.room.mark_saved.is_none_or(|saved| wall >= saved + MARK_STEP);
        if self.mark.wall.is_some_and(is_due) {
            let mark = self.unsaved_mark();
            self.commit(&mark)?;
            self.room.mark_saved = self.mark.wall;
        }
        Ok((entries, ids))
    }

    /// What the disk does not know of the clock yet.
    pub(super) fn unsaved_mark(&self) -> Vec<Item> {
        let unsaved = self.mark.wall.filter(|wall| self.room.mark_saved != Some(*wall));
        unsaved.map(|wall| Item::put(Place::State, layout::MARK, wall.0.to_be_bytes())).into_iter().collect()
    }

    /// Drops whole periods: first the commit that says so, then the files.
    fn drop_periods(&mut self, clock: Option<Wall>, bytes_max: u64) -> Result<u64, Fault> {
        let pinned = locked(&self.shared.cursors).pinned();
        let count = span::droppable(&self.spans, clock, self.settings.keep, bytes_max, pinned);
        if count == 0 {
            return Ok(0);
        }
        let mut items = vec![Item::put(Place::State, layout::NEXT, self.next.0.to_be_bytes())];
        items.extend(self.spans[..count].iter().map(|span| Item::remove(Place::State, layout::span_key(span.n))));
        self.commit(&items)?;
        let gone: Vec<_> = self.spans.drain(..count).collect();
        self.publish();
        for span in &gone {
            self.delete(Place::Log(span.n))?;
        }
        Ok(gone.iter().map(|span| span.entries).sum())
    }

    /// Forgets the digests that expired in periods that are over.
    fn forget_ids(&mut self, clock: Wall) -> Result<u64, Fault> {
        let over = self.shared.reading(|engine| engine.ids_ends().filter(|end| *end <= clock).collect::<Vec<_>>());
        let over = over.unwrap_or_default();
        for end in &over {
            self.delete(Place::Ids(*end))?;
        }
        Ok(over.len() as u64)
    }

    fn delete(&mut self, place: Place) -> Result<(), Fault> {
        let removed = self.shared.changing(|engine| engine.remove(place)).flatten();
        removed.map_or(Ok(()), |removed| self.watch.over(|| removed.delete()).0)
    }
}
