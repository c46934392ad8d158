//! Answers that wait until peers have stored what was published here.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::answers::Published;
use super::fault::{Fault, FaultCode};
use crate::wire::{Digest, NodeId};

/// How long an answer waits when the caller does not say.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(10);
/// Longest wait of an answer.
pub const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// For whom, and how long, an answer waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wait {
    /// Peers that have stored the event.
    peers: usize,
    within: Duration,
}

impl Wait {
    /// Reads `wait` and `timeout` from a query; `None` without `wait`.
    ///
    /// # Errors
    /// [`FaultCode::BadRequest`] with the parameter and what it takes.
    pub(super) fn parse(query: &[(String, String)]) -> Result<Option<Wait>, Fault> {
        let (mut peers, mut within) = (None, None);
        for (name, value) in query {
            let wrong = |why: &str| Fault::new(FaultCode::BadRequest, format!("`{name}`: {why}"));
            match name.as_str() {
                "wait" => peers = Some(value.parse().map_err(|_| wrong("a number of peers is expected"))?),
                "timeout" => {
                    let span = super::live::span(value).filter(|span| *span <= WAIT_MAX);
                    within = Some(span.ok_or_else(|| wrong("a span such as 10s is expected, 1h at most"))?);
                }
                _ => {
                    let why = "the parameters of this route are wait and timeout";
                    return Err(Fault::new(FaultCode::BadRequest, why));
                }
            }
        }
        match (peers, within) {
            (None, Some(_)) => Err(Fault::new(FaultCode::BadRequest, "`timeout`: it goes with `wait`")),
            (peers, within) => Ok(peers.map(|peers| Wait { peers, within: within.unwrap_or(WAIT_DEFAULT) })),
        }
    }
}

/// Who took an event: one for each event and peer, so it holds as many as both allow.
pub type Taken = mpsc::UnboundedSender<(Digest, NodeId)>;

/// The peers that take the events of one request.
pub(super) struct Takers {
    wait: Wait,
    until: Instant,
    taken: mpsc::UnboundedReceiver<(Digest, NodeId)>,
}

impl Takers {
    /// The end for the driver, and ours.
    pub(super) fn new(wait: Wait) -> (Taken, Takers) {
        let (sender, taken) = mpsc::unbounded_channel();
        (sender, Takers { wait, until: Instant::now() + wait.within, taken })
    }

    /// Waits until each event that is new here has its peers, or the time is over, and says who they are.
    pub(super) async fn fill_in(mut self, answers: &mut [Published]) {
        let is_new = |answer: &&mut Published| answer.stored && !answer.duplicate;
        let new = answers.iter_mut().filter(is_new).filter_map(|answer| {
            let digest = answer.digest?;
            Some((digest, answer.stored_by.insert(Vec::new())))
        });
        let mut takers: BTreeMap<Digest, &mut Vec<NodeId>> = new.collect();
        while takers.values().any(|peers| peers.len() < self.wait.peers) {
            // Dropping it loses nothing: nobody reads after this.
            let Ok(Some((digest, peer))) = timeout_at(self.until, self.taken.recv()).await else { return };
            if let Some(peers) = takers.get_mut(&digest).filter(|peers| !peers.contains(&peer)) {
                peers.push(peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &[(&str, &str)]) -> Result<Option<Wait>, FaultCode> {
        let query: Vec<_> = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Wait::parse(&query).map_err(|fault| fault.code)
    }

    #[test]
    fn a_wait_has_a_number_and_an_end() {
        assert_eq!(parse(&[]), Ok(None));
        assert_eq!(parse(&[("wait", "2")]), Ok(Some(Wait { peers: 2, within: WAIT_DEFAULT })));
        let short = Wait { peers: 1, within: Duration::from_millis(500) };
        assert_eq!(parse(&[("timeout", "500ms"), ("wait", "1")]), Ok(Some(short)));
        for wrong in [("wait", "-1"), ("wait", "x"), ("timeout", "1s"), ("wait_for", "1")] {
            assert_eq!(parse(&[wrong]), Err(FaultCode::BadRequest), "{wrong:?}");
        }
        assert_eq!(parse(&[("wait", "1"), ("timeout", "2h")]), Err(FaultCode::BadRequest));
    }
}
