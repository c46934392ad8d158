//! `afferent ask`: a question to everybody who wants its type, and the answers as they arrive.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, MissedTickBehavior};

use super::arguments::{Ask, Global, Publish, Spread};
use super::failure::{Exit, Failure};
use super::output::{Output, results_closed};
use super::{codes, publish, reach, sub, words};
use crate::admin::answers::{Asked, Ended, Identity, Matches, Published, document};
use crate::admin::client::{LineReader, escape};
use crate::admin::{Client, ClientError};
use crate::core::offset;
use crate::wire::{Event, EventType, Keys, NodeId, timestamp};

/// How long answers are waited for when nobody says so.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
/// What is left for the way, beside a span that was chosen by itself.
const MARGIN: Duration = Duration::from_secs(10);
/// How often the progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Over which span the answers come, and until when they are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Plan {
    /// `None` = each as it comes.
    spread: Option<Duration>,
    deadline: Duration,
}

impl Plan {
    fn of(ask: &Ask, may_answer: u64) -> Plan {
        let chosen = match ask.spread {
            Spread::Off => None,
            Spread::Span(span) => Some(span),
            Spread::Auto => Some(offset::spread_for(may_answer)),
        };
        let longest = chosen.map_or(Duration::ZERO, |span| span + MARGIN).max(DEADLINE_DEFAULT);
        let deadline = ask.deadline.unwrap_or(longest);
        // More than that is not there for them.
        Plan { spread: chosen.map(|span| span.min(deadline)), deadline }
    }
}

pub(super) async fn perform(ask: &Ask, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let data = ask.data.as_deref().map(|data| publish::read_data("ask: DATA", data)).transpose()?;
    let mut client = reach::connect("ask", global).await?;
    let to = publish::recipients("ask: --to", &ask.to, &mut client).await?;
    let nodes = match to.len() as u64 {
        0 => wanting(&ask.kind, &mut client).await?,
        named => named,
    };
    let plan = Plan::of(ask, nodes);
    let names = if output.is_json() { HashMap::new() } else { reach::names(&mut client).await };
    let begun = words::now();
    let published = put(ask, &plan, &to, data.as_deref(), &mut client, output).await?;
    let Some(digest) = published.digest.filter(|_| published.stored) else {
        output.report(&publish::refusal("ask", &published));
        return Ok(Exit::Refused);
    };
    publish::tell_unreached(&published, output);
    let spread = plan.spread.map_or("as they come".to_owned(), |span| format!("spread over {}", words::brief(span)));
    let (many, within) = (words::count(nodes, "node"), words::brief(plan.deadline));
    output.remark(&format!("asked {many}, {digest}; answers {spread}, waited for {within}"));
    let path = format!("/v1/events?causation={digest}&since={}", escape(&timestamp::format(begun - PROGRESS_EVERY)));
    let lines = client.lines(&path).await.map_err(|error| failed(&error))?;
    let until = Instant::now() + plan.deadline.saturating_sub(words::now().since(begun));
    let collecting = Collecting { ask, names, until, answers: 0, of: BTreeSet::new() };
    let (collected, ended) = collecting.run(lines, output).await?;
    let asked = Asked {
        digest,
        asked: nodes,
        spread_ms: plan.spread.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        deadline: Some(begun + plan.deadline),
        answers: collected.answers,
        nodes: collected.of.len() as u64,
        ended,
    };
    collected.conclude(&asked, words::now().since(begun), output)
}

fn failed(error: &ClientError) -> Failure {
    Failure::of_client("ask", error)
}

/// How many nodes want this type, as far as this node knows.
async fn wanting(kind: &EventType, client: &mut Client) -> Result<u64, Failure> {
    let matches: Matches =
        client.get_as(&format!("/v1/match/{}", escape(kind.as_str()))).await.map_err(|error| failed(&error))?;
    Ok(matches.peers.iter().filter(|peer| peer.wants).count() as u64)
}

/// Publishes the question.
async fn put(
    ask: &Ask,
    plan: &Plan,
    to: &[NodeId],
    data: Option<&str>,
    client: &mut Client,
    output: &mut Output,
) -> Result<Published, Failure> {
    let own: Identity = client.get_as("/v1/id").await.map_err(|error| failed(&error))?;
    let question =
        Publish { spread: plan.spread, expires: Some(plan.deadline), attr: ask.attr.clone(), ..Publish::default() };
    let line = publish::object(ask.kind.as_str(), &question, to, Some(own.id), data);
    let text = client.post("/v1/events", line).await.map_err(|error| failed(&error))?;
    output.flush()?;
    serde_json::from_str(&text).map_err(|error| failed(&ClientError::Unreadable(error.to_string())))
}

/// Who signed this answer.
fn source(line: &str) -> Result<NodeId, Failure> {
    #[derive(Deserialize)]
    struct Arrival<'l> {
        #[serde(borrow)]
        event: &'l RawValue,
    }
    let unreadable = |error: String| failed(&ClientError::Unreadable(error));
    let arrival: Arrival<'_> = serde_json::from_str(line).map_err(|error| unreadable(error.to_string()))?;
    let bytes = Bytes::copy_from_slice(arrival.event.get().as_bytes());
    let event = Event::parse(bytes, &mut Keys::default()).map_err(|error| unreadable(error.to_string()))?;
    Ok(event.source)
}

/// Answers on their way here.
struct Collecting<'a> {
    ask: &'a Ask,
    names: HashMap<NodeId, String>,
    until: Instant,
    answers: u64,
    /// Who gave them.
    of: BTreeSet<NodeId>,
}

impl Collecting<'_> {
    /// Until the deadline, until there are enough, or until somebody interrupts.
    async fn run(mut self, mut lines: LineReader, output: &mut Output) -> Result<(Self, Ended), Failure> {
        let (mut closed, mut interrupted) = (pin!(results_closed()), pin!(tokio::signal::ctrl_c()));
        let mut tick = tokio::time::interval(PROGRESS_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            tokio::select! {
                // What came counts, also when the time is over.
                biased;
                // Dropping it loses nothing: what was read stays in the reader.
                line = lines.next() => {
                    let Some(line) = line.map_err(|error| failed(&error))? else {
                        return Err(failed(&ClientError::Broken("it stopped".to_owned())));
                    };
                    self.take(&String::from_utf8_lossy(&line), output)?;
                    if self.ask.expect.is_some_and(|expected| self.answers >= expected) {
                        break Ended::Expected;
                    }
                    if !lines.has_line() {
                        output.flush()?;
                    }
                }
                // Dropping any of these loses nothing: a timer, a signal, the state of a pipe, a timer.
                () = tokio::time::sleep_until(self.until) => break Ended::Deadline,
                _ = &mut interrupted => break Ended::Interrupted,
                () = &mut closed => break Ended::Interrupted,
                _ = tick.tick() => self.show_progress(output),
            }
        };
        output.progress("");
        Ok((self, ended))
    }

    fn take(&mut self, line: &str, output: &mut Output) -> Result<(), Failure> {
        output.progress("");
        self.answers += 1;
        self.of.insert(source(line)?);
        sub::print(line, false, &self.names, output)?;
        Ok(())
    }

    fn show_progress(&self, output: &mut Output) {
        let left = self.until.saturating_duration_since(Instant::now());
        let of = self.ask.expect.map(|expected| format!(" of {expected}")).unwrap_or_default();
        output.progress(&format!("{}{of}, {} left", words::count(self.answers, "answer"), words::brief(left)));
    }

    /// Says how it ended.
    fn conclude(self, asked: &Asked, took: Duration, output: &mut Output) -> Result<Exit, Failure> {
        if output.is_json() {
            output.json(&document(asked))?;
        }
        let (answers, nodes) = (words::count(asked.answers, "answer"), words::count(asked.nodes, "node"));
        output.remark(&format!("{answers} of {nodes} in {}", words::brief(took)));
        let short = self.ask.expect.filter(|expected| asked.answers < *expected);
        Ok(match (asked.ended, short) {
            (Ended::Deadline, Some(expected)) => {
                let what = format!("{} came before the deadline, {expected} were expected", asked.answers);
                let failure = Failure::new(Exit::Timeout, codes::NOT_YET, "ask: --expect", what);
                output.report(&failure.next(format!("afferent match {}, or a longer --deadline", self.ask.kind)));
                Exit::Timeout
            }
            (Ended::Interrupted, Some(_)) => Exit::Failed,
            _ if asked.answers == 0 => {
                output.remark(&format!("nobody answered; next: afferent match {}", self.ask.kind));
                Exit::Failed
            }
            _ => Exit::Done,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;

    const SECOND: Duration = Duration::from_secs(1);

    fn plan(spread: Spread, deadline: Option<Duration>, nodes: u64) -> (Option<Duration>, Duration) {
        let kind = "a.ask".parse().expect("a type");
        let (to, attr) = (Vec::new(), Vec::new());
        let Plan { spread, deadline } =
            Plan::of(&Ask { kind, data: None, to, attr, spread, deadline, expect: None }, nodes);
        (spread, deadline)
    }

    #[test]
    fn the_span_follows_from_how_many_may_answer_and_fits_into_the_time() {
        assert_eq!(plan(Spread::Auto, None, 12), (Some(SECOND), SECOND * 30));
        assert_eq!(plan(Spread::Auto, None, 10_000), (Some(SECOND * 100), SECOND * 110));
        assert_eq!(plan(Spread::Auto, Some(SECOND * 5), 10_000), (Some(SECOND * 5), SECOND * 5));
        assert_eq!(plan(Spread::Off, None, 10_000), (None, SECOND * 30));
        assert_eq!(plan(Spread::Span(SECOND * 60), None, 1), (Some(SECOND * 60), SECOND * 70));
    }

    #[test]
    fn a_moment_is_told_as_the_route_reads_it() {
        let text = escape(&timestamp::format(Wall::from_millis(1_795_243_262_123)));
        assert!(!text.contains(':') && text.ends_with('Z'), "{text}");
    }
}
