//! The events of a run, and how they are handed over: as fast as it goes, or at a pace.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use tokio::sync::mpsc;

use super::Note;
use super::ledger::Answer;
use crate::admin::answers::Published;
use crate::admin::{Client, ClientError};
use crate::cli::{publish, words};
use crate::wire::{EventType, NodeId, timestamp};

/// Events that one paced publisher may have unanswered.
pub(super) const PACED_WINDOW: usize = 1_024;
/// Who publishes one by one, side by side.
const ONE_BY_ONE: u64 = 32;
/// Lines that wait for the connection.
const LINES_MAX: usize = 64;

/// What is published, and when.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) kind: EventType,
    /// Told apart from other runs by this, whatever their type.
    pub(super) run: String,
    pub(super) count: u64,
    /// Bytes of data.
    pub(super) size: usize,
    /// For this node alone.
    pub(super) to: Option<NodeId>,
    /// How long each event lives.
    pub(super) life: Duration,
    pub(super) pace: Option<Pace>,
    /// The number of the next event: one counter for all who publish.
    pub(super) next: Arc<AtomicU64>,
}

/// So many a second, from a moment on.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) began: Instant,
    pub(super) rate: u32,
}

impl Pace {
    /// Waits until this event is due; the moment from which its latency counts. `woke` is when the
    /// caller's timer went off last: it wakes up to a millisecond late, and that is no delay of the
    /// node. What comes late because the node did not take more counts from when it was due.
    async fn wait(&self, number: u64, woke: &mut Instant) -> Instant {
        let due = self.began + Duration::from_secs_f64(number as f64 / f64::from(self.rate));
        if Instant::now() < due {
            tokio::time::sleep_until(due.into()).await;
            *woke = Instant::now();
        }
        due.max(*woke)
    }
}

impl Load {
    fn next(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.count).then_some(number)
    }

    /// One event as a publisher writes it: without a line end.
    pub(super) fn line(&self, number: u64) -> String {
        let expires = timestamp::format(words::now() + self.life);
        let to = self.to.map(|id| format!(r#","to":"{}""#, id.uri())).unwrap_or_default();
        let data = self.data(number);
        format!(r#"{{"type":"{}","expirytime":"{expires}"{to},"data":{data}}}"#, self.kind)
    }

    /// Its data: at least what the far end needs to know it again. The rest is chance, since the
    /// journal packs what repeats.
    pub(super) fn data(&self, number: u64) -> String {
        let known = format!(r#"{{"run":"{}","n":{number}}}"#, self.run);
        let Some(room) = self.size.checked_sub(known.len() + r#","pad":"""#.len()) else { return known };
        let mut chance = vec![0; room.div_ceil(4) * 3];
        fastrand::fill(&mut chance);
        let pad = BASE64URL_NOPAD.encode(&chance);
        format!(r#"{},"pad":"{}"}}"#, &known[..known.len() - 1], &pad[..room])
    }
}

/// Publishes by one stream of lines, `window` of them unanswered at most.
pub(super) async fn by_lines(
    mut client: Client,
    load: &Load,
    window: usize,
    notes: &mpsc::Sender<Note>,
) -> Result<(), ClientError> {
    let (sender, pieces) = mpsc::channel(LINES_MAX);
    let mut answers = client.exchange_lines("/v1/events", publish::body(pieces)).await?;
    // Its bound is the window: a number leaves it with its answer.
    let (asked, mut numbers) = mpsc::channel(window);
    let write = async move {
        let mut woke = Instant::now();
        while let Some(number) = load.next() {
            let due = match &load.pace {
                Some(pace) => Some(pace.wait(number, &mut woke).await),
                None => None,
            };
            let Ok(place) = asked.reserve().await else { break };
            let at = due.unwrap_or_else(Instant::now);
            let _ = notes.send(Note::Sent { number, at }).await;
            place.send(number);
            if sender.send(Ok(Bytes::from(load.line(number) + "\n"))).await.is_err() {
                break;
            }
        }
    };
    let read = async move {
        while let Some(line) = answers.next().await? {
            let (at, answer) = (Instant::now(), answer(&read(&line)?));
            let Some(number) = numbers.recv().await else { break };
            let _ = notes.send(Note::Answered { number, at, answer }).await;
        }
        match numbers.recv().await {
            Some(_) => Err(ClientError::Broken("it stopped answering".to_owned())),
            None => Ok(()),
        }
    };
    tokio::join!(write, read).1
}

/// Publishes by single requests that are answered when the peer has stored the event.
pub(super) async fn one_by_one(
    socket: &Path,
    load: &Load,
    within: Duration,
    notes: &mpsc::Sender<Note>,
) -> Result<(), ClientError> {
    let mut clients = Vec::new();
    for _ in 0..load.count.min(ONE_BY_ONE) {
        clients.push(Client::connect(socket).await?);
    }
    let all = clients.into_iter().map(|client| single(client, load, within, notes));
    futures_util::future::try_join_all(all).await.map(drop)
}

async fn single(
    mut client: Client,
    load: &Load,
    within: Duration,
    notes: &mpsc::Sender<Note>,
) -> Result<(), ClientError> {
    let path = format!("/v1/events?wait=1&timeout={}ms", within.as_millis());
    let mut woke = Instant::now();
    while let Some(number) = load.next() {
        let due = match &load.pace {
            Some(pace) => pace.wait(number, &mut woke).await,
            None => Instant::now(),
        };
        let _ = notes.send(Note::Sent { number, at: due }).await;
        let answered = client.post(&path, load.line(number)).await;
        let at = Instant::now();
        let (answer, has_arrived) = match answered {
            Ok(text) => {
                let published = read(text.as_bytes())?;
                (answer(&published), published.stored_by.is_some_and(|peers| !peers.is_empty()))
            }
            Err(ClientError::Problem(problem)) => (Answer::Refused(problem.problem.code), false),
            Err(broken) => return Err(broken),
        };
        let _ = notes.send(Note::Answered { number, at, answer }).await;
        if has_arrived {
            let _ = notes.send(Note::Arrived { number, at }).await;
        }
    }
    Ok(())
}

fn read(line: &[u8]) -> Result<Published, ClientError> {
    serde_json::from_slice(line).map_err(|error| ClientError::Unreadable(error.to_string()))
}

fn answer(published: &Published) -> Answer {
    match (published.stored, published.duplicate, published.code) {
        (true, false, _) => Answer::Stored,
        (true, true, _) => Answer::StoredBefore,
        (false, _, code) => Answer::Refused(code.map_or("unknown", |code| code.as_str()).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(size: usize) -> Load {
        Load {
            kind: "afferent.bench.x".parse().expect("a type"),
            run: "00c0ffee".to_owned(),
            count: 2,
            size,
            to: None,
            life: Duration::from_secs(60),
            pace: None,
            next: Arc::new(AtomicU64::new(0)),
        }
    }

    #[test]
    fn data_has_the_size_that_was_asked_for_and_says_which_event_it_is() {
        for size in [40, 41, 42, 43, 700, 60_000] {
            let data = load(size).data(17);
            assert_eq!(data.len(), size);
            let read: serde_json::Value = serde_json::from_str(&data).expect("JSON");
            assert_eq!((&read["run"], &read["n"]), (&"00c0ffee".into(), &17.into()));
        }
        assert_eq!(load(0).data(17), r#"{"run":"00c0ffee","n":17}"#, "never less than that");
        assert_ne!(load(700).data(1)[40..], load(700).data(1)[40..], "nothing that the journal could pack");
    }

    #[test]
    fn every_number_is_given_out_once() {
        let load = load(0);
        assert_eq!([load.next(), load.next(), load.next(), load.next()], [Some(0), Some(1), None, None]);
    }

    #[tokio::test]
    async fn a_late_timer_is_not_the_fault_of_the_node_and_a_node_that_stalls_is() {
        let began = Instant::now() - Duration::from_secs(10);
        let pace = Pace { began, rate: 1_000 };
        let due = |number: u64| began + Duration::from_millis(number);
        let mut woke = due(2_000);
        assert_eq!(pace.wait(1_999, &mut woke).await, due(2_000), "nobody was awake when it was due");
        assert_eq!(pace.wait(2_500, &mut woke).await, due(2_500), "we were, and could not hand it over");
        let ahead = Pace { began: Instant::now(), rate: 200 };
        let at = ahead.wait(1, &mut woke).await;
        assert!(at >= ahead.began + Duration::from_millis(5) && at == woke);
    }
}
