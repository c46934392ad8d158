//! A question: an event that says who gets its answers (`replyto`), or over which span they are to come
//! (`spread`). Whoever answers names it in `causationid`.

use std::time::Duration;

use super::event::Event;
use super::identity::{Digest, NodeId};
use crate::time::Wall;

/// What an answer has to know of the question that it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// Which.
    pub digest: Digest,
    /// Who gets the answers: `replyto`, or whoever asks.
    pub asker: NodeId,
    /// The span over which the answers of all nodes are to be spread; zero = each as it comes.
    pub spread: Duration,
    /// Then nobody waits for an answer any more: its `expirytime`.
    pub deadline: Wall,
}

impl Question {
    /// What this event asks; `None` when it asks nothing.
    pub fn of(event: &Event) -> Option<Question> {
        let (replyto, spread) = (event.attribute("replyto"), event.attribute("spread"));
        if replyto.is_none() && spread.is_none() {
            return None;
        }
        // Both were checked when the event was read.
        let named = replyto.and_then(|uri| uri.strip_prefix("mesh:")?.parse().ok());
        let millis = spread.and_then(|text| text.parse().ok()).unwrap_or(0);
        Some(Question {
            digest: event.digest(),
            asker: named.unwrap_or(event.source),
            spread: Duration::from_millis(millis),
            deadline: event.expires,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Draft, Keypair, Scalar, envelope};

    const NOON: Wall = Wall::from_millis(1_795_262_400_000);

    fn question(attributes: &[(&str, Scalar)]) -> Option<Question> {
        let draft = attributes
            .iter()
            .fold(Draft::new("1", "a.ask", NOON), |draft, (name, value)| draft.with(name, value.clone()));
        let sealed = envelope::seal(&draft, &Keypair::from_seed(&[1; 32])).expect("a good draft");
        Question::of(sealed.event())
    }

    #[test]
    fn an_event_asks_when_it_says_who_gets_the_answers_or_when() {
        let (own, other) = (Keypair::from_seed(&[1; 32]).id(), Keypair::from_seed(&[2; 32]).id());
        assert_eq!(question(&[("causationid", Scalar::Text("x".into()))]), None);
        let spread = question(&[("spread", Scalar::Integer(2_500))]).expect("a question");
        assert_eq!((spread.asker, spread.spread), (own, Duration::from_millis(2_500)));
        assert_eq!(spread.deadline, NOON + crate::wire::event::LIFETIME_DEFAULT);
        let directed = question(&[("replyto", Scalar::Text(other.uri()))]).expect("a question");
        assert_eq!((directed.asker, directed.spread), (other, Duration::ZERO));
    }
}
