//! What local programs are told of peers: each change of a peer's state as an event `mesh.peer.<state>`.
//!
//! Such an event is signed by this node and stored like one that was published here, so that it stands in
//! the journal, on the bus and in `sub` as every other does, once and in its order. It never leaves the
//! node, and it is only made when the interests of this node ask for it: a node whose programs do not
//! care writes nothing.
//!
//! **Whom it is about**: peers that were typed in, and those to which a lane stood once. What is dialled in
//! search of others is nobody's business, and strangers can come in any number. **What is a change**: every
//! state but `probing`, since a dial ends in another one within seconds. A peer that stays away is one
//! `backoff`, however often it is dialled.
//!
//! **How many**: of one peer 8 in a row and then one a minute, of all together 64 and then one in 10 s,
//! which is 8 640 a day and some 6 MiB. Whatever comes faster is not told one by one: the next event says where
//! the peer stands by then, and how many changes were left out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::value::RawValue;

use super::driver::{Driver, Waiting};
use crate::admin::PeerChange;
use crate::core::Standing;
use crate::core::ports::Input;
use crate::time::{Mono, Now, Wall};
use crate::wire::message::Outcome;
use crate::wire::{Draft, EventType, NodeId, Scalar};

/// Peers that are followed; more than can be in the table.
pub const FOLLOWED_MAX: usize = 2_048;
/// Changes of one peer: this many in a row, then one each time the span is over.
const OF_ONE: (u32, Duration) = (8, Duration::from_secs(60));
/// The same of all together.
const OF_ALL: (u32, Duration) = (64, Duration::from_secs(10));
/// Pause after the journal took none.
const PAUSE: Duration = Duration::from_secs(10);

/// A rate with a burst, as one moment (GCRA): when all of the burst is there again.
struct Pace {
    burst: Duration,
    every: Duration,
    full: Mono,
}

impl Pace {
    fn new((burst, every): (u32, Duration)) -> Pace {
        Pace { burst: every.saturating_mul(burst.saturating_sub(1)), every, full: Mono(0) }
    }

    /// When the next one may come.
    fn free_at(&self) -> Mono {
        let burst = u64::try_from(self.burst.as_micros()).unwrap_or(u64::MAX);
        Mono(self.full.0.saturating_sub(burst))
    }

    fn take(&mut self, now: Mono) {
        self.full = self.full.max(now) + self.every;
    }
}

/// A change that waits for its turn.
struct Pending {
    to: Standing,
    reason: String,
    since: Wall,
}

/// What is known of one peer.
struct Course {
    alias: Option<String>,
    /// Where it stood when it was told last, or when nobody asked.
    at: Standing,
    since: Wall,
    pending: Option<Pending>,
    skipped: u64,
    pace: Pace,
    /// False when it is no peer any more.
    is_peer: bool,
}

impl Course {
    fn new(at: Standing) -> Course {
        let pace = Pace::new(OF_ONE);
        Course { alias: None, at, since: Wall(i64::MIN), pending: None, skipped: 0, pace, is_peer: true }
    }

    fn tell(&mut self, peer: NodeId, change: Pending) -> PeerChange {
        let Pending { to, reason, since } = change;
        let from = std::mem::replace(&mut self.at, to);
        self.since = since;
        PeerChange {
            peer,
            alias: self.alias.clone(),
            from,
            to,
            reason,
            since,
            skipped: std::mem::take(&mut self.skipped),
        }
    }

    /// What waits is overtaken: it is counted, and not told.
    fn skip(&mut self) {
        self.skipped += u64::from(self.pending.take().is_some());
    }
}

/// One change as the core tells it.
pub(super) struct Moved<'a> {
    pub(super) peer: NodeId,
    pub(super) alias: Option<&'a str>,
    /// Typed in, or a lane to it stood once.
    pub(super) is_familiar: bool,
    pub(super) to: Standing,
    pub(super) why: &'a str,
    /// The interests of this node ask for it.
    pub(super) is_wanted: bool,
}

/// Which changes are told, and when.
pub(super) struct Turns {
    peers: BTreeMap<NodeId, Course>,
    ready: VecDeque<PeerChange>,
    pace: Pace,
    not_before: Mono,
    /// Events stored.
    pub(super) told: u64,
    /// Changes left out because they were too many.
    pub(super) skipped: u64,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            peers: BTreeMap::new(),
            ready: VecDeque::new(),
            pace: Pace::new(OF_ALL),
            not_before: Mono(0),
            told: 0,
            skipped: 0,
        }
    }
}

impl Turns {
    pub(super) fn hear(&mut self, heard: &Moved<'_>, now: Now) {
        let Moved { peer, to, is_familiar, .. } = *heard;
        let is_followed = self.peers.contains_key(&peer);
        if to == Standing::Probing || !(is_familiar || is_followed) {
            return;
        }
        if !is_followed && self.peers.len() >= FOLLOWED_MAX {
            self.skipped += 1;
            return;
        }
        let is_free = self.free_at() <= now.mono;
        let course = self.peers.entry(peer).or_insert_with(|| Course::new(Standing::Heard));
        course.is_peer = is_familiar;
        if is_familiar {
            course.alias = heard.alias.map(str::to_owned);
        }
        let before = course.skipped;
        if to != course.pending.as_ref().map_or(course.at, |pending| pending.to) {
            course.skip();
            let change = Pending { to, reason: heard.why.to_owned(), since: now.wall };
            if !heard.is_wanted {
                (course.at, course.since) = (to, now.wall);
            } else if to == course.at {
                course.skipped += 1; // there and back, which nobody was told
            } else if is_free && course.pace.free_at() <= now.mono {
                self.skipped += course.skipped.saturating_sub(before);
                self.ready.push_back(course.tell(peer, change));
                course.pace.take(now.mono);
                self.pace.take(now.mono);
                self.forget_if_gone(&peer);
                return;
            } else {
                course.pending = Some(change);
            }
        }
        self.skipped += course.skipped.saturating_sub(before);
        self.forget_if_gone(&peer);
    }

    /// The next change that may be told at this moment.
    pub(super) fn next(&mut self, now: Mono) -> Option<PeerChange> {
        if let Some(change) = self.ready.pop_front() {
            return Some(change);
        }
        if self.free_at() > now {
            return None;
        }
        let is_due = |course: &Course| course.pace.free_at() <= now;
        let waiting = self.peers.iter().filter(|(_, course)| is_due(course));
        let longest = waiting.filter_map(|(id, course)| Some((course.pending.as_ref()?.since, *id))).min();
        let (_, peer) = longest?;
        let course = self.peers.get_mut(&peer)?;
        let change = course.pending.take()?;
        let change = course.tell(peer, change);
        course.pace.take(now);
        self.pace.take(now);
        self.forget_if_gone(&peer);
        Some(change)
    }

    /// When there may be a next one; `None` = nothing waits.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let waiting = self.peers.values().filter(|course| course.pending.is_some());
        waiting.map(|course| course.pace.free_at()).min().map(|free| free.max(self.free_at()))
    }

    /// The journal took it, or not: then it waits, unless something newer is known of that peer.
    pub(super) fn on_answer(&mut self, change: PeerChange, is_stored: bool, now: Mono) {
        if is_stored {
            self.told += 1;
            return;
        }
        self.not_before = now + PAUSE;
        let course = self.peers.entry(change.peer).or_insert_with(|| {
            let gone = Course::new(change.to);
            Course { since: change.since, alias: change.alias, is_peer: false, ..gone }
        });
        course.skipped += change.skipped;
        let is_last = course.at == change.to && course.since == change.since;
        if is_last {
            (course.at, course.since) = (change.from, Wall(i64::MIN));
        }
        if is_last && course.pending.is_none() {
            let PeerChange { to, reason, since, .. } = change;
            course.pending = Some(Pending { to, reason, since });
        } else {
            course.skipped += 1;
            self.skipped += 1;
            if course.pending.as_ref().is_some_and(|pending| pending.to == course.at) {
                course.skip();
                self.skipped += 1;
            }
        }
    }

    fn free_at(&self) -> Mono {
        self.pace.free_at().max(self.not_before)
    }

    fn forget_if_gone(&mut self, peer: &NodeId) {
        if self.peers.get(peer).is_some_and(|course| !course.is_peer && course.pending.is_none()) {
            self.peers.remove(peer);
        }
    }
}

/// `mesh.peer.connected`.
fn kind_of(standing: Standing) -> EventType {
    format!("mesh.peer.{}", standing.as_str()).parse().expect("a type")
}

/// The event, before it is signed. What a bus of TeleClaude's layout has to have is there too: of the
/// machinery, and not to travel.
fn draft(change: &PeerChange, now: Wall) -> Draft {
    let millis = now.as_millis().max(0).unsigned_abs();
    let mut chance = [0; 10];
    chance.fill_with(|| fastrand::u8(..));
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &chance).into_uuid().to_string();
    let text = |text: &str| Scalar::Text(text.to_owned());
    Draft::new(id, kind_of(change.to).as_str(), now)
        .with("subject", text(&change.peer.to_string()))
        .with("level", Scalar::Integer(0))
        .with("domain", text("mesh"))
        .with("visibility", text("local"))
        .with_data(RawValue::from_string(crate::admin::document(change)).expect("a document is JSON"))
}

impl Driver {
    /// The core says where a node stands now.
    pub(super) fn on_turn(&mut self, peer: NodeId, to: Standing, why: &str) {
        let heard = Moved {
            peer,
            alias: self.node.alias(&peer),
            is_familiar: self.node.is_familiar(&peer),
            to,
            why,
            is_wanted: self.record.interests().asks_for(&kind_of(to)),
        };
        self.turns.hear(&heard, self.clock.now());
    }

    /// Hands over what may be told now.
    pub(super) fn tell_turns(&mut self) {
        while let Some(change) = self.turns.next(self.clock.mono()) {
            match self.record.sign(draft(&change, self.clock.now().wall)) {
                Ok(envelope) => {
                    let ticket = self.ticket(Waiting::Turn(change));
                    self.feed(Input::Local { ticket, envelope: Box::new(envelope) });
                }
                Err(rejection) => tracing::warn!("a change of a peer makes no event: {rejection}"),
            }
        }
    }

    /// What became of one that was handed over.
    pub(super) fn on_turn_answered(&mut self, change: PeerChange, outcomes: &[Outcome]) {
        let is_stored = matches!(outcomes, [Outcome::Stored { .. }]);
        self.turns.on_answer(change, is_stored, self.clock.mono());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Keypair, envelope};

    fn id(number: u32) -> NodeId {
        let mut seed = [7; 32];
        seed[..4].copy_from_slice(&number.to_le_bytes());
        Keypair::from_seed(&seed).id()
    }

    fn at(second: u64) -> Now {
        let span = Duration::from_secs(second);
        Now { mono: Mono(0) + span, wall: Wall::from_millis(1_795_262_400_000) + span }
    }

    fn heard(peer: NodeId, to: Standing) -> Moved<'static> {
        Moved { peer, alias: Some("cedar"), is_familiar: true, to, why: "why", is_wanted: true }
    }

    /// Everything that may be told at this moment, and that the journal takes.
    fn told(turns: &mut Turns, second: u64) -> Vec<PeerChange> {
        let mut all = Vec::new();
        while let Some(change) = turns.next(at(second).mono) {
            turns.on_answer(change.clone(), true, at(second).mono);
            all.push(change);
        }
        all
    }

    fn ways(changes: &[PeerChange]) -> Vec<(Standing, Standing, u64)> {
        changes.iter().map(|change| (change.from, change.to, change.skipped)).collect()
    }

    use Standing::*;

    #[test]
    fn each_state_is_told_once_with_the_one_before_and_a_dial_is_none() {
        let mut turns = Turns::default();
        for (second, to) in
            [(1, Probing), (2, Connected), (3, Suspect), (3, Probing), (4, Suspect), (5, Backoff), (6, Left)]
        {
            turns.hear(&heard(id(1), to), at(second));
        }
        let changes = told(&mut turns, 6);
        assert_eq!(
            ways(&changes),
            [(Heard, Connected, 0), (Connected, Suspect, 0), (Suspect, Backoff, 0), (Backoff, Left, 0)]
        );
        assert_eq!((changes[1].since, changes[1].alias.as_deref()), (at(3).wall, Some("cedar")));
        assert_eq!((turns.deadline(), turns.told, turns.skipped), (None, 4, 0));
    }

    #[test]
    fn strangers_are_nobodys_business_and_whoever_is_forgotten_is_told_a_last_time() {
        let mut turns = Turns::default();
        for number in 0..10 {
            turns.hear(&Moved { is_familiar: false, alias: None, ..heard(id(number), Backoff) }, at(1));
        }
        assert_eq!((told(&mut turns, 1).len(), turns.peers.len()), (0, 0));
        turns.hear(&heard(id(1), Connected), at(2));
        turns.hear(&Moved { is_familiar: false, alias: None, ..heard(id(1), Verified) }, at(3));
        turns.hear(&Moved { is_familiar: false, alias: None, ..heard(id(1), Backoff) }, at(4));
        let changes = told(&mut turns, 4);
        assert_eq!(ways(&changes), [(Heard, Connected, 0), (Connected, Verified, 0)]);
        assert_eq!(changes[1].alias.as_deref(), Some("cedar"), "as it was called");
        assert!(turns.peers.is_empty());
    }

    #[test]
    fn a_flapping_peer_costs_one_event_a_minute_and_what_is_left_out_is_counted() {
        let mut turns = Turns::default();
        let (mut changes, mut heard_of) = (Vec::new(), 0);
        for second in 0..3_590 {
            turns.hear(&heard(id(1), if second % 2 == 0 { Connected } else { Backoff }), at(second));
            heard_of += 1;
            changes.extend(told(&mut turns, second));
        }
        assert!((60..=8 + 60).contains(&changes.len()), "{}", changes.len());
        turns.hear(&heard(id(1), Dead), at(3_590));
        heard_of += 1;
        let due = turns.deadline().expect("something waits").since(Mono(0)).as_secs() + 1;
        assert!(due <= 3_651, "{due}");
        changes.extend(told(&mut turns, due));
        assert_eq!(changes.last().expect("the last").to, Dead, "where it stands in the end is told");
        let skipped: u64 = changes.iter().map(|change| change.skipped).sum();
        assert_eq!(changes.len() as u64 + skipped, heard_of, "each change is told or counted");
        assert_eq!(skipped, turns.skipped);
        let from_to = changes.windows(2).all(|pair| pair[0].to == pair[1].from && pair[1].from != pair[1].to);
        assert!(from_to, "each goes on where the one before ended");
    }

    #[test]
    fn a_crowd_costs_no_more_than_its_rate_and_no_memory_without_end() {
        let mut turns = Turns::default();
        let mut count = 0;
        for number in 0..5_000_u32 {
            let second = u64::from(number) / 10;
            turns.hear(&heard(id(number), Connected), at(second));
            count += told(&mut turns, second).len();
            assert!(turns.peers.len() <= FOLLOWED_MAX && turns.ready.len() <= 64);
        }
        assert!((64 + 49..=64 + 50).contains(&count), "{count} in 500 s");
        assert_eq!(turns.skipped, 5_000 - FOLLOWED_MAX as u64);
    }

    #[test]
    fn what_nobody_asked_for_is_not_told_later_either() {
        let mut turns = Turns::default();
        turns.hear(&Moved { is_wanted: false, ..heard(id(1), Connected) }, at(1));
        turns.hear(&heard(id(1), Suspect), at(2));
        assert_eq!(ways(&told(&mut turns, 2)), [(Connected, Suspect, 0)]);
    }

    #[test]
    fn what_the_journal_did_not_take_waits_and_the_newest_wins() {
        let mut turns = Turns::default();
        turns.hear(&heard(id(1), Connected), at(1));
        turns.hear(&heard(id(1), Suspect), at(2));
        let [first, second] = [0; 2].map(|_| turns.next(at(2).mono).expect("told"));
        turns.on_answer(first, false, at(2).mono);
        turns.on_answer(second, false, at(2).mono);
        assert!(turns.next(at(3).mono).is_none(), "not at once again");
        assert_eq!(turns.deadline(), Some(at(2).mono + PAUSE));
        turns.hear(&heard(id(1), Backoff), at(4));
        let changes = told(&mut turns, 20);
        assert_eq!(ways(&changes), [(Connected, Backoff, 2)]);
        turns.hear(&heard(id(1), Connected), at(30));
        assert_eq!(ways(&told(&mut turns, 30)), [(Backoff, Connected, 0)]);
    }

    #[test]
    fn the_event_is_addressed_to_nobody_and_holds_what_the_schema_says() {
        let mut turns = Turns::default();
        turns.hear(&heard(id(1), Connected), at(1));
        let change = told(&mut turns, 1).remove(0);
        let sealed = envelope::seal(&draft(&change, at(9).wall), &Keypair::from_seed(&[1; 32])).expect("an event");
        let event = sealed.event();
        assert!(event.kind.is_local() && event.to.is_empty(), "{event:?}");
        assert_eq!(event.attribute("subject"), Some(id(1).to_string()));
        assert_eq!(event.data(), Some(crate::admin::document(&change).as_str()));
    }
}
