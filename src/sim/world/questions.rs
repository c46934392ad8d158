//! Questions, and programs that answer them by themselves: each hands its answer in again and again until it
//! is durable, as one does that reads the bus.

use std::time::Duration;

use serde_json::value::RawValue;

use super::{Happening, World};
use crate::core::ports::{Emitted, Input, Stored};
use crate::time::Mono;
use crate::wire::{Digest, Draft, Envelope, NodeId, Question, Scalar, Verified, envelope};

/// Pause before an answer that is not durable yet is handed in again.
const AGAIN: Duration = Duration::from_millis(300);

impl World {
    /// Host `host` asks everybody now. Gives the digest of the question.
    ///
    /// # Panics
    /// When the host is down.
    pub fn ask(&mut self, host: usize, kind: &str, spread: Duration, deadline: Duration) -> Digest {
        let wall = self.moment().wall;
        let millis = i32::try_from(spread.as_millis()).expect("a short spread");
        let one = &mut self.hosts[host];
        one.next_event += 1;
        let draft = Draft::new(format!("e-{}", one.next_event), kind, wall)
            .living(wall, deadline)
            .with("spread", Scalar::Integer(millis));
        let question = envelope::seal(&draft, &one.key).expect("a good draft");
        let (ticket, life, digest) = (one.ticket(), one.life, question.digest());
        assert!(one.node.is_some(), "host {host} is down");
        self.feed(host, life, Input::Emitted { ticket, emitted: vec![question.into()] });
        digest
    }

    /// A program on this host saw a question on the bus.
    pub(super) fn hear(&mut self, host: usize, seen: &[Stored]) {
        let own = self.hosts[host].key.id();
        let asked = seen.iter().map(|stored| stored.entry.envelope.event());
        let questions: Vec<Question> = asked.filter(|event| event.source != own).filter_map(Question::of).collect();
        for question in questions {
            let after = self.delay();
            self.later(after, Happening::Answer { host, question });
        }
    }

    pub(super) fn answer_question(&mut self, host: usize, question: Question) {
        let answer = answer_of(&self.hosts[host].key, &question);
        if self.hosts[host].disk.holds(&answer) {
            return;
        }
        let one = &mut self.hosts[host];
        if one.node.is_some() {
            let (ticket, life) = (one.ticket(), one.life);
            let emitted = vec![Emitted { question: Some(question), ..answer.into() }];
            self.feed(host, life, Input::Emitted { ticket, emitted });
        }
        self.later(AGAIN, Happening::Answer { host, question });
    }

    /// The answers of others to a question that stand on a host's bus: whose, when it arrived, and before when
    /// it was not to be sent.
    pub fn answers(&self, host: usize, question: &Digest) -> Vec<(NodeId, Mono, Mono)> {
        let to_it = |stored: &&Stored| stored.entry.envelope.event().causation == Some(*question);
        let mut answers = Vec::new();
        for other in self.hosts.iter().filter(|other| other.key.id() != self.hosts[host].key.id()) {
            for stored in other.disk.log().iter().filter(to_it).filter(|stored| stored.entry.hold.is_some()) {
                let arrived = self.hosts[host].arrivals.iter().filter(|(_, d)| *d == stored.entry.envelope.digest());
                let turn = stored.entry.hold.expect("chosen").from.since(super::EPOCH);
                answers.extend(arrived.map(|(at, _)| (other.key.id(), *at, Mono(0) + turn)));
            }
        }
        answers
    }

    /// Does this host run?
    pub fn is_up(&self, host: usize) -> bool {
        self.hosts[host].node.is_some()
    }

    /// Answers that a host did not send in time, in this life.
    pub fn late(&self, host: usize) -> u64 {
        self.hosts[host].node.as_ref().map_or(0, |node| node.view().counts.answers_late)
    }
}

/// The same question has the same answer of a host, byte for byte.
fn answer_of(key: &crate::wire::Keypair, question: &Question) -> Verified<Envelope> {
    let data = RawValue::from_string(r#"{"load":0.5}"#.to_owned()).expect("JSON");
    let draft = Draft::new(format!("answer-{}", &question.digest.to_string()[..8]), "q.answer", super::EPOCH)
        .with("causationid", Scalar::Text(question.digest.to_string()))
        .with_data(data)
        .answering(question);
    envelope::seal(&draft, key).expect("a good draft")
}
