//! `afferent publish`: one event from arguments, or many from lines. Both take the same way.

use std::collections::HashMap;
use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::arguments::{Global, Publish};
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::{codes, reach, words};
use crate::admin::answers::{Identity, Peers, Published, Unreached};
use crate::admin::client::Outgoing;
use crate::admin::{self, Client, ClientError, FaultCode, WAIT_DEFAULT};
use crate::wire::{NodeId, timestamp};

/// Pieces of standard input that wait for the daemon.
const PIECES_MAX: usize = 4;
const PIECE_BYTES: usize = 64 << 10;

pub(super) async fn perform(publish: &Publish, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let data = publish.data.as_deref().map(|data| read_data("publish: --data", data)).transpose()?;
    let mut client = reach::connect("publish", global).await?;
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    match &publish.kind {
        Some(kind) => {
            let to = recipients("publish: --to", &publish.to, &mut client).await?;
            let reply_to = reply_to(publish.reply_to.as_ref(), &mut client).await?;
            let line = object(kind, publish, &to, reply_to, data.as_deref());
            sender.try_send(Ok(Bytes::from(line))).expect("room for one");
            drop(sender);
        }
        // A thread of its own: a read that waits for ever must not keep the process alive.
        None => drop(std::thread::spawn(move || pump(io::stdin().lock(), &sender))),
    }
    let wait = publish.wait.map(|peers| Wait { peers, within: publish.timeout.unwrap_or(WAIT_DEFAULT) });
    let tally = exchange(&mut client, body(pieces), publish.stdin, wait, output).await?;
    Ok(match tally {
        Tally { refused: 0, short: 0 } => Exit::Done,
        Tally { refused: 0, .. } => Exit::Timeout,
        Tally { .. } => Exit::Refused,
    })
}

/// For how many peers to wait, and how long.
#[derive(Clone, Copy)]
pub(super) struct Wait {
    peers: usize,
    within: Duration,
}

/// How many events went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    /// Not stored here.
    pub(super) refused: u64,
    /// Stored by fewer peers than were waited for.
    pub(super) short: u64,
}

/// The body of a request, fed piece by piece.
pub(super) fn body(mut pieces: mpsc::Receiver<io::Result<Bytes>>) -> Outgoing {
    let frames = stream::poll_fn(move |context| {
        pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    });
    StreamBody::new(frames).boxed()
}

/// Carries standard input over until it ends or nobody wants more.
pub(super) fn pump(mut input: impl Read, sender: &mpsc::Sender<io::Result<Bytes>>) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = match input.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => Ok(Bytes::copy_from_slice(&piece[..count])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_over = read.is_err();
        if sender.blocking_send(read).is_err() || is_over {
            return;
        }
    }
}

/// Sends lines and prints what became of each.
pub(super) async fn exchange(
    client: &mut Client,
    lines: Outgoing,
    is_many: bool,
    wait: Option<Wait>,
    output: &mut Output,
) -> Result<Tally, Failure> {
    let failed = |error: ClientError| Failure::of_client("publish", &error);
    let path = match wait {
        Some(Wait { peers, within }) => format!("/v1/events?wait={peers}&timeout={}ms", within.as_millis()),
        None => "/v1/events".to_owned(),
    };
    let names = if wait.is_some() { reach::names(client).await } else { HashMap::new() };
    let mut answers = client.exchange_lines(&path, lines).await.map_err(failed)?;
    let (mut number, mut tally) = (0, Tally::default());
    while let Some(line) = answers.next().await.map_err(failed)? {
        number += 1;
        let line = String::from_utf8_lossy(&line);
        let published: Published =
            serde_json::from_str(&line).map_err(|error| failed(ClientError::Unreadable(error.to_string())))?;
        tally.refused += u64::from(!published.stored);
        let shown = show(&line, &published, is_many.then_some(published.line.unwrap_or(number)), output);
        if let Some(wait) = wait.filter(|_| published.stored) {
            tally.short += u64::from(!tell_takers(&published, wait, &names, output));
        }
        tell_unreached(&published, output);
        let flushed = if answers.has_line() { Ok(()) } else { output.flush().map_err(Failure::from) };
        match shown.and(flushed) {
            // Who wanted the first answers alone, as `head -1` does, still wants every event published.
            Err(closed) if is_many && closed.is_silent() => output.close_results(),
            done => done?,
        }
    }
    if number == 0 && !is_many {
        return Err(failed(ClientError::Broken("it gave no answer".to_owned())));
    }
    Ok(tally)
}

/// One answer, for programs or for people.
fn show(line: &str, published: &Published, number: Option<u64>, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        output.json(line)?;
    }
    print(published, number, output)
}

/// Says who stored it, and whether they are as many as were asked for.
fn tell_takers(published: &Published, wait: Wait, names: &HashMap<NodeId, String>, output: &mut Output) -> bool {
    let named = |id: &NodeId| names.get(id).map_or_else(|| id.short(), |name| plain(name).into_owned());
    let peers = published.stored_by.as_deref().unwrap_or_default();
    if !peers.is_empty() && !output.is_json() {
        output.remark(&format!("stored by {}", peers.iter().map(named).collect::<Vec<_>>().join(", ")));
    }
    if peers.len() >= wait.peers {
        return true;
    }
    let (count, within) = (words::count(peers.len() as u64, "peer"), words::brief(wait.within));
    let what = match published.duplicate {
        true => "it was stored before, and who took it then is not remembered".to_owned(),
        false => format!(
            "{count} stored it within {within}, {} were waited for; whoever wants it and can be reached still gets it",
            wait.peers
        ),
    };
    let failure = Failure::new(Exit::Timeout, codes::FEW_PEERS, "publish: --wait", what);
    output.report(&failure.next("afferent match TYPE, which says who would get it; afferent peers"));
    false
}

/// Says who of those that it is addressed to does not get it.
pub(super) fn tell_unreached(published: &Published, output: &mut Output) {
    for Unreached { id, why } in &published.unreached {
        output.remark(&format!(
            "stored here, and not for {id}: {}\nnext: afferent peers show {id}; afferent peers add mesh://{id}@HOST:PORT, then publish it again",
            plain(why)
        ));
    }
}

/// The digest as result; what else there is to say beside it. `number` is the one of a line of many.
fn print(published: &Published, number: Option<u64>, output: &mut Output) -> Result<(), Failure> {
    match (&published.digest, published.stored) {
        (Some(digest), true) => {
            if !output.is_json() {
                output.line(&digest.to_string())?;
            }
            if number.is_none() && !output.is_json() {
                let how = if published.duplicate { "was stored before" } else { "stored" };
                output.remark(&format!("{how}, id {}", plain(published.id.as_deref().unwrap_or_default())));
            }
        }
        _ => {
            let thing = number.map_or("publish".to_owned(), |number| format!("publish: line {number}"));
            output.report(&refusal(&thing, published));
        }
    }
    Ok(())
}

pub(super) fn refusal(thing: &str, published: &Published) -> Failure {
    let code = published.code.map_or("AF0414", |code| FaultCode::Event(code).number());
    let why = published.why.as_deref().unwrap_or("refused");
    let failure = Failure::new(Exit::Refused, code, thing, plain(why));
    match published.retry_after_ms {
        Some(ms) => failure.next(format!("the same again in {}", words::brief(Duration::from_millis(ms)))),
        None => failure.next(format!("afferent explain {code}")),
    }
}

/// The one line for what was typed.
pub(super) fn object(
    kind: &str,
    publish: &Publish,
    to: &[NodeId],
    reply_to: Option<NodeId>,
    data: Option<&str>,
) -> String {
    let quoted = |text: &str| serde_json::to_string(text).expect("a string always encodes");
    let mut members = vec![format!(r#""type":{}"#, quoted(kind))];
    members.extend(publish.id.as_deref().map(|id| format!(r#""id":{}"#, quoted(id))));
    members.extend(publish.expires.map(|life| {
        let expiry = timestamp::format(words::now() + life);
        format!(r#""expirytime":{}"#, quoted(&expiry))
    }));
    if !to.is_empty() {
        let uris = to.iter().map(NodeId::uri).collect::<Vec<_>>().join(" ");
        members.push(format!(r#""to":{}"#, quoted(&uris)));
    }
    members.extend(reply_to.map(|id| format!(r#""replyto":"{}""#, id.uri())));
    members.extend(publish.spread.map(|span| format!(r#""spread":{}"#, span.as_millis())));
    members.extend(publish.correlation_id.as_deref().map(|id| format!(r#""correlationid":{}"#, quoted(id))));
    members.extend(publish.causation_id.as_deref().map(|id| format!(r#""causationid":{}"#, quoted(id))));
    members.extend(publish.attr.iter().map(|(name, value)| format!("{}:{value}", quoted(name))));
    members.extend(data.map(|data| format!(r#""data":{data}"#)));
    // Line ends stand between values alone in valid JSON; a line has one at its end.
    format!("{{{}}}\n", members.join(",").replace(['\n', '\r'], " "))
}

/// The text behind `--data` and the like: JSON itself, `@FILE`, or `-`.
pub(super) fn read_data(thing: &str, argument: &str) -> Result<String, Failure> {
    let wrong = |what: String| Failure::new(Exit::Usage, codes::USAGE, thing, what);
    let unreadable = |error: io::Error| wrong(format!("`{argument}` cannot be read, {error}"));
    let text = match argument.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).map_err(unreadable)?,
        None if argument == "-" => io::read_to_string(io::stdin()).map_err(unreadable)?,
        None => argument.to_owned(),
    };
    match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        Ok(_) => Ok(text),
        Err(error) => {
            let what = format!("not JSON, {error}");
            Err(wrong(what).next(r#"write '{"key":"value"}', or '"text"' for a text"#))
        }
    }
}

/// Who gets the answers.
async fn reply_to(name: Option<&String>, client: &mut Client) -> Result<Option<NodeId>, Failure> {
    const FLAG: &str = "publish: --reply-to";
    match name {
        None => Ok(None),
        Some(name) if name == "self" => {
            let own = client.get_as::<Identity>("/v1/id").await;
            own.map(|own| Some(own.id)).map_err(|error| Failure::of_client(FLAG, &error))
        }
        Some(name) => Ok(recipients(FLAG, std::slice::from_ref(name), client).await?.pop()),
    }
}

/// Ids, and what else `peers` calls somebody.
pub(super) async fn recipients(flag: &str, names: &[String], client: &mut Client) -> Result<Vec<NodeId>, Failure> {
    let mut ids = Vec::with_capacity(names.len());
    for name in names {
        if let Ok(id) = name.strip_prefix("mesh:").unwrap_or(name).parse() {
            ids.push(id);
            continue;
        }
        let failed = |error: ClientError| Failure::of_client(flag, &error);
        let peers: Peers = client.get_as("/v1/peers").await.map_err(failed)?;
        ids.push(admin::select(&peers, name).map_err(|fault| failed(ClientError::Problem(fault.problem())))?);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::pages;
    use super::*;
    use crate::wire::message::{Durability, Outcome};
    use crate::wire::{Digest, Keypair, Rejection};

    fn typed() -> Publish {
        Publish {
            kind: Some("demo.hello".to_owned()),
            data: None,
            to: Vec::new(),
            attr: vec![("subject".to_owned(), "\"x\"".to_owned())],
            id: Some("7".to_owned()),
            expires: None,
            reply_to: None,
            spread: None,
            correlation_id: None,
            causation_id: None,
            stdin: false,
            wait: None,
            timeout: None,
        }
    }

    #[test]
    fn what_was_typed_becomes_one_line() {
        let to = Keypair::from_seed(&[7; 32]).id();
        assert_eq!(
            object("demo.hello", &typed(), &[to], None, Some("{\n \"a\": 1\n}")),
            format!(
                "{{\"type\":\"demo.hello\",\"id\":\"7\",\"to\":\"mesh:{to}\",\"subject\":\"x\",\"data\":{{  \"a\": 1 }}}}\n"
            )
        );
        let asking = Publish {
            spread: Some(Duration::from_secs(10)),
            correlation_id: Some("r\"1".to_owned()),
            causation_id: Some("d".to_owned()),
            ..typed()
        };
        assert_eq!(
            object("a.b", &asking, &[], Some(to), None),
            format!(
                "{{\"type\":\"a.b\",\"id\":\"7\",\"replyto\":\"mesh:{to}\",\"spread\":10000,\
                 \"correlationid\":\"r\\\"1\",\"causationid\":\"d\",\"subject\":\"x\"}}\n"
            )
        );
        let living = Publish { expires: Some(Duration::from_secs(60)), ..typed() };
        let line: serde_json::Value = serde_json::from_str(&object("a.b", &living, &[], None, None)).expect("JSON");
        let expiry = timestamp::parse(line["expirytime"].as_str().expect("text")).expect("a time");
        assert!(expiry > words::now());
    }

    #[test]
    fn data_is_json_from_anywhere() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("data.json");
        std::fs::write(&file, "[1]").expect("written");
        assert_eq!(read_data("x", &format!("@{}", file.display())), Ok("[1]".to_owned()));
        assert_eq!(read_data("x", "\"text\""), Ok("\"text\"".to_owned()));
        for wrong in ["text", "{", "", "@/nowhere/x"] {
            assert_eq!(read_data("x", wrong).expect_err(wrong).exit, Exit::Usage);
        }
    }

    #[test]
    fn the_digest_is_the_result_and_a_refusal_is_not() {
        let digest = Digest::of(b"x");
        let of = |outcome| Published::of(digest, "7", &outcome, Durability::Fsync);
        let (mut output, results, remarks) = pages(false);
        print(&of(Outcome::Stored { no_duty: false }), None, &mut output).expect("printed");
        print(&of(Outcome::Duplicate), Some(2), &mut output).expect("printed");
        print(&of(Outcome::Refused(Rejection::Conflict)), Some(3), &mut output).expect("printed");
        output.flush().expect("written");
        assert_eq!(results.text(), format!("{digest}\n{digest}\n"));
        assert_eq!(
            remarks.text(),
            "stored, id 7\nafferent: publish: line 3: the same source and id are stored with other bytes (AF0406)\n\
             next: afferent explain AF0406\n"
        );
    }

    #[test]
    fn the_json_of_an_answer_is_the_one_of_the_design() {
        let digest = Digest::of(b"x");
        let stored = Published::of(digest, "7", &Outcome::Stored { no_duty: false }, Durability::Fsync);
        assert_eq!(
            admin::document(&stored),
            format!(r#"{{"schema":"afferent.publish/1","digest":"{digest}","id":"7","stored":true}}"#)
        );
        assert_eq!(
            admin::document(&Published::never(&Rejection::Expired)),
            r#"{"schema":"afferent.publish/1","digest":null,"id":null,"stored":false,"code":"expired","number":"AF0404","why":"the event expired"}"#
        );
    }
}
