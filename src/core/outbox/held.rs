//! Answers that wait for their turn, of one account.
//!
//! An account passes over such an answer, so that nothing behind it waits; what it remembers of it stands
//! here until the peer has it. The durable cursor of the account stays below the first of them: after a
//! crash the journal is read from there on again, with what it says of each answer's turn. The peer then
//! gets some lines again, and misses none.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::super::offset::{Hold, SPREAD_MAX};
use super::super::params::HELD_ANSWERS_MAX;
use super::super::ports::{Note, Output, Seq, Stored};
use super::{Account, Limits, Owed};
use crate::time::{Mono, Now, Wall};
use crate::wire::{Digest, NodeId};

/// What became of a line that a peer wants.
pub(super) enum Taken {
    /// It is in hand, or held.
    Here,
    /// The question that it answers had its deadline.
    Late(Digest),
    /// There is no room.
    Full,
}

/// The answers of one account.
#[derive(Default)]
pub(super) struct Held {
    answers: BTreeMap<Seq, Answer>,
    /// Those that are not in hand, by their turn and by their end.
    turns: BTreeSet<(Mono, Seq)>,
    ends: BTreeSet<(Mono, Seq)>,
    bytes: usize,
}

/// One that is held.
pub(super) struct Answer {
    pub(super) line: Bytes,
    pub(super) digest: Digest,
    pub(super) expires: Wall,
    turn: Mono,
    end: Mono,
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }

    /// Is there room for one more of so many bytes?
    pub(super) fn has_room_for(&self, line: usize, bytes_max: usize) -> bool {
        self.answers.len() < HELD_ANSWERS_MAX && self.bytes + line <= bytes_max
    }

    pub(super) fn add(&mut self, seq: Seq, line: Bytes, digest: Digest, expires: Wall, hold: Hold, now: Now) {
        // A date that was put right meanwhile makes nobody wait longer than any question may ask.
        let turn = now.mono + hold.from.since(now.wall).min(SPREAD_MAX);
        let end = now.mono + expires.since(now.wall);
        self.bytes += line.len();
        self.turns.insert((turn, seq));
        self.ends.insert((end, seq));
        self.answers.insert(seq, Answer { line, digest, expires, turn, end });
    }

    pub(super) fn holds(&self, seq: Seq) -> bool {
        self.answers.contains_key(&seq)
    }

    /// The first position that is not settled.
    pub(super) fn first(&self) -> Option<Seq> {
        self.answers.first_key_value().map(|(seq, _)| *seq)
    }

    /// The one whose turn comes next, and when.
    pub(super) fn next(&self) -> Option<(Mono, Seq, &Answer)> {
        let (turn, seq) = self.turns.first()?;
        Some((*turn, *seq, &self.answers[seq]))
    }

    /// When the first one comes to its end that nobody has taken.
    pub(super) fn next_end(&self) -> Option<Mono> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// It is in hand from now on.
    pub(super) fn hand_out(&mut self, seq: Seq) {
        if let Some(answer) = self.answers.get(&seq) {
            self.turns.remove(&(answer.turn, seq));
            self.ends.remove(&(answer.end, seq));
        }
    }

    /// Nothing is in hand any more.
    pub(super) fn take_back_all(&mut self) {
        for (seq, answer) in &self.answers {
            self.turns.insert((answer.turn, *seq));
            self.ends.insert((answer.end, *seq));
        }
    }

    /// It is settled.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<Answer> {
        self.hand_out(seq);
        let answer = self.answers.remove(&seq)?;
        self.bytes -= answer.line.len();
        Some(answer)
    }

    /// One that nobody took before its end, if there is any.
    pub(super) fn remove_ended(&mut self, now: Mono) -> Option<Answer> {
        let (_, seq) = *self.ends.first().filter(|(end, _)| *end <= now)?;
        self.remove(seq)
    }
}

impl Account {
    /// Takes a line that the peer wants.
    pub(super) fn take(&mut self, stored: &Stored, line: &Bytes, limits: Limits, now: Now) -> Taken {
        let (seq, event) = (stored.seq, stored.entry.envelope.event());
        let (mut expires, mut answer) = (event.expires, None);
        if self.held.holds(seq) {
            return Taken::Here; // looked at again, after its lane broke
        }
        if let Some(hold) = stored.entry.hold {
            (expires, answer) = (expires.min(hold.until), Some(event.digest()));
            if hold.until <= now.wall {
                return Taken::Late(event.digest());
            }
            if hold.from > now.wall && self.held.has_room_for(line.len(), limits.bytes) {
                self.held.add(seq, line.clone(), event.digest(), expires, hold, now);
                return Taken::Here;
            }
        }
        if !self.has_room_for(line.len() + 1, limits) {
            return Taken::Full;
        }
        self.push(Owed { seq, line: line.clone(), expires, answer });
        Taken::Here
    }

    /// Takes in hand what has its turn; gives the number of answers that came too late.
    pub(super) fn take_turns(&mut self, peer: NodeId, limits: Limits, now: Now, out: &mut Vec<Output>) -> u64 {
        let mut late = 0;
        while let Some(answer) = self.held.remove_ended(now.mono) {
            late += 1;
            out.push(Output::Note(Note::AnswerLate { peer, answer: answer.digest }));
        }
        while self.lane.is_some()
            && let Some((_, seq, answer)) = self.held.next().filter(|(turn, ..)| *turn <= now.mono)
            && self.has_room_for(answer.line.len() + 1, limits)
        {
            let (line, expires, digest) = (answer.line.clone(), answer.expires, answer.digest);
            self.held.hand_out(seq);
            self.push(Owed { seq, line, expires, answer: Some(digest) });
        }
        late
    }
}
