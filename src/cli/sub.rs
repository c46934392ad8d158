//! `afferent sub`: events as they arrive.

use std::collections::HashMap;
use std::pin::pin;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::arguments::{Global, Sub};
use super::failure::{Exit, Failure};
use super::groups::{self, Group};
use super::output::{Output, plain, results_closed};
use super::reach;
use crate::admin::answers::InterestsView;
use crate::admin::client::escape;
use crate::admin::{Client, ClientError};
use crate::core::trust::Verdict;
use crate::wire::{Event, EventType, Keys, NodeId, Pattern};

/// One line of the stream; what is not printed is not read.
#[derive(Deserialize)]
struct Arrival<'l> {
    hops: u8,
    #[serde(borrow)]
    received: &'l str,
    trust: Verdict,
    #[serde(borrow)]
    event: &'l RawValue,
    seq: Option<u64>,
}

/// Events after which a group is told of at the latest, while more and more come.
const ACKNOWLEDGE_EVERY: u64 = 256;

/// How far the stream has come without an event that was asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress<'l> {
    #[serde(borrow, rename = "schema")]
    _schema: &'l str,
    seq: u64,
}

pub(super) async fn perform(sub: &Sub, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let failed = |error: ClientError| Failure::of_client("sub", &error);
    let mut client = reach::connect("sub", global).await?;
    if sub.list_groups {
        return groups::list(&mut client, output).await;
    }
    if let Some(group) = &sub.forget_group {
        return groups::forget(group, &mut client, output).await;
    }
    remind(sub, &mut client, output).await?;
    let names = if output.is_json() || sub.raw { HashMap::new() } else { reach::names(&mut client).await };
    let mut group = match &sub.group {
        Some(name) => Some(Group::new(name, reach::connect("sub", global).await?)),
        None => None,
    };
    if let (Some(group), None) = (&mut group, &sub.since) {
        group.begin().await?;
    }
    let mut lines = client.lines(&path(sub)).await.map_err(failed)?;
    let mut printed = 0;
    let mut closed = pin!(results_closed());
    loop {
        let line = tokio::select! {
            line = lines.next() => line.map_err(failed)?,
            // What came and was not printed was not acknowledged either.
            () = &mut closed => return Ok(Exit::Done),
        };
        let Some(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        let progress = group.as_ref().and_then(|_| serde_json::from_str::<Progress<'_>>(&line).ok());
        let done = match progress {
            Some(Progress { seq, .. }) => Some(seq),
            None => {
                printed += 1;
                print(&line, sub.raw, &names, output)?
            }
        };
        if !lines.has_line() || printed % ACKNOWLEDGE_EVERY == 0 {
            output.flush()?;
            if let (Some(group), Some(seq)) = (&mut group, done) {
                group.acknowledge(seq).await?;
            }
        }
    }
    match sub.count {
        Some(count) if printed >= count => Ok(Exit::Done),
        _ => Err(failed(ClientError::Broken("it stopped".to_owned()))),
    }
}

/// Whoever waits for changes of peers waits in vain where this node's interests do not ask for them.
async fn remind(sub: &Sub, client: &mut Client, output: &mut Output) -> Result<(), Failure> {
    let kind: EventType = "mesh.peer.connected".parse().expect("a type");
    let is_about_peers = |pattern: &&Pattern| pattern.asks_for(&kind) || pattern.as_str().starts_with("mesh.peer.");
    let Some(pattern) = sub.patterns.iter().find(is_about_peers) else { return Ok(()) };
    if sub.no_own {
        output.remark("events mesh.peer.* are this node's own, and come in spite of --no-own: a pattern asks for them");
    }
    let view: InterestsView =
        client.get_as("/v1/interests").await.map_err(|error| Failure::of_client("sub", &error))?;
    if !view.patterns.iter().any(|wanted| wanted.covers(pattern)) {
        output.remark(&format!(
            "this node does not ask for all of {pattern}, so such events are not made\n\
             next: afferent interests add '{pattern}'"
        ));
    }
    Ok(())
}

/// Prints one event. Its position, where the stream tells it.
pub(super) fn print(
    line: &str,
    raw: bool,
    names: &HashMap<NodeId, String>,
    output: &mut Output,
) -> Result<Option<u64>, Failure> {
    let unreadable = |error: String| Failure::of_client("sub", &ClientError::Unreadable(error));
    let arrival: Arrival<'_> = serde_json::from_str(line).map_err(|error| unreadable(error.to_string()))?;
    if output.is_json() {
        output.json(line)?;
    } else if raw {
        output.json(arrival.event.get())?;
    } else {
        output.line(&sentence(&arrival, names).map_err(|error| unreadable(error.to_string()))?)?;
    }
    Ok(arrival.seq)
}

fn path(sub: &Sub) -> String {
    let mut query: Vec<String> =
        sub.patterns.iter().map(|pattern| format!("pattern={}", escape(pattern.as_str()))).collect();
    query.extend(sub.since.as_deref().map(|since| format!("since={}", escape(since))));
    query.extend(sub.count.map(|count| format!("count={count}")));
    query.extend(sub.no_own.then(|| "own=false".to_owned()));
    query.extend((sub.seq || sub.group.is_some()).then(|| "seq=true".to_owned()));
    query.extend(sub.withheld.then(|| "withheld=true".to_owned()));
    query.extend(sub.group.as_deref().map(|group| format!("group={}&progress=true", escape(group))));
    if query.is_empty() { "/v1/events".to_owned() } else { format!("/v1/events?{}", query.join("&")) }
}

/// `06:41:02.123 cedar deployment.started {"version":"2.0.1"} (2 hops)`: when it arrived (UTC), who
/// says so, what, how far it came, and what local policy has against it.
fn sentence(arrival: &Arrival<'_>, names: &HashMap<NodeId, String>) -> Result<String, crate::wire::Rejection> {
    let event = Event::parse(Bytes::copy_from_slice(arrival.event.get().as_bytes()), &mut Keys::default())?;
    let time = arrival.received.get(11..23).unwrap_or(arrival.received);
    let source = names.get(&event.source).cloned().unwrap_or_else(|| event.source.short());
    let data = match event.data() {
        Some(data) => data.to_owned(),
        None => event.data_base64().map(|base64| format!("base64:{base64}")).unwrap_or_default(),
    };
    let hops = match arrival.hops {
        0 => "own".to_owned(),
        1 => "1 hop".to_owned(),
        hops => format!("{hops} hops"),
    };
    let trust = match arrival.trust {
        Verdict::Accepted => String::new(),
        doubt => format!(", {}", doubt.as_str()),
    };
    let gap = if data.is_empty() { "" } else { " " };
    Ok(format!("{} {} {}{gap}{} ({hops}{trust})", plain(time), plain(&source), event.kind, plain(&data)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;
    use crate::wire::{Draft, Keypair, envelope};

    fn line(data: &str, hops: u8, trust: &str) -> (NodeId, String) {
        let key = Keypair::from_seed(&[7; 32]);
        let data = RawValue::from_string(data.to_owned()).expect("JSON");
        let draft = Draft::new("7", "demo.hello", Wall::from_millis(1_795_243_262_123)).with_data(data);
        let envelope = envelope::seal(&draft, &key).expect("an event");
        let line = format!(
            r#"{{"digest":"{}","hops":{hops},"from":null,"received":"2026-11-21T06:41:02.123456Z","trust":"{trust}","event":{}}}"#,
            envelope.digest(),
            envelope.event().text()
        );
        (key.id(), line)
    }

    #[test]
    fn an_event_is_told_in_one_line_without_anything_a_terminal_obeys() {
        let (id, text) = line("{\"a\":\"\u{9b}2J\"}", 2, "flagged");
        let arrival: Arrival<'_> = serde_json::from_str(&text).expect("an arrival");
        let names = HashMap::from([(id, "cedar".to_owned())]);
        let expected = "06:41:02.123 cedar demo.hello {\"a\":\"\\u{9b}2J\"} (2 hops, flagged)";
        assert_eq!(sentence(&arrival, &names).expect("a sentence"), expected);
        let (id, text) = line("1", 0, "accepted");
        let arrival: Arrival<'_> = serde_json::from_str(&text).expect("an arrival");
        let expected = format!("06:41:02.123 {} demo.hello 1 (own)", id.short());
        assert_eq!(sentence(&arrival, &HashMap::new()).expect("a sentence"), expected);
    }

    #[test]
    fn what_was_typed_becomes_a_query() {
        let sub = Sub {
            patterns: vec!["a.*".parse().expect("a pattern"), "b.+.c".parse().expect("a pattern")],
            since: Some("2026-11-21T06:41:02+01:00".to_owned()),
            count: Some(3),
            raw: false,
            no_own: true,
            seq: true,
            withheld: true,
            group: None,
            list_groups: false,
            forget_group: None,
        };
        assert_eq!(
            path(&sub),
            "/v1/events?pattern=a.%2A&pattern=b.%2B.c&since=2026-11-21T06%3A41%3A02%2B01%3A00&count=3&own=false&seq=true&withheld=true"
        );
        let group = Sub { group: Some("app".to_owned()), patterns: Vec::new(), seq: false, withheld: false, ..sub };
        assert!(
            path(&group).ends_with("&own=false&seq=true&group=app&progress=true"),
            "positions are what it acknowledges"
        );
        let all = Sub { since: None, count: None, no_own: false, group: None, ..group };
        assert_eq!(path(&all), "/v1/events");
    }
}
