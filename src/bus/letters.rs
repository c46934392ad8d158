//! Reading dead letters back from Redis. They are read as bytes: whatever somebody wrote into an entry,
//! or beside ours, is shown and never hides another letter.

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError};

use super::dead;
use super::intake::now;
use super::trouble::{Trouble, wrong_type};
use crate::core::letter::{EntryFields, Letter};
use crate::core::ports::{Entry, Seq, Stored};
use crate::wire::{Keys, Line, Rejection, timestamp};

/// An entry of a reply: its id, names and values in turn.
type Raw = (String, Vec<Vec<u8>>);

/// The newest `count` letters of these streams, without their originals. They are read page by page, so
/// that one list takes no more memory than a page of the largest.
pub(super) async fn newest(
    redis: &mut MultiplexedConnection,
    streams: &[&str],
    count: usize,
) -> Result<Vec<Letter>, Trouble> {
    let mut letters: Vec<Letter> = Vec::new();
    for stream in streams {
        // What is older than all there may be is not looked for.
        let oldest = letters.get(count.saturating_sub(1)).and_then(|letter| order_of(&letter.id));
        let (mut upto, mut taken) = ("+".to_owned(), 0);
        while taken < count {
            let mut ask = redis::cmd("XREVRANGE");
            ask.arg(dead::stream_of(stream)).arg(&upto).arg("-").arg("COUNT").arg(PAGE);
            let page: Vec<Raw> = ask.query_async(redis).await.map_err(|error| named(stream, error))?;
            let Some((last, _)) = page.last() else { break };
            let is_end = page.len() < PAGE || oldest.is_some_and(|oldest| order_of(last) < Some(oldest));
            upto = format!("({last}");
            taken += page.len();
            let brief = |raw| Letter { envelope: String::new(), fields: EntryFields::default(), ..letter(stream, raw) };
            letters.extend(page.into_iter().map(brief));
            if is_end {
                break;
            }
        }
        letters.sort_by_key(|letter| std::cmp::Reverse(order_of(&letter.id)));
        letters.truncate(count);
    }
    Ok(letters)
}

/// The letter of this id beside this stream.
pub(super) async fn find(redis: &mut MultiplexedConnection, stream: &str, id: &str) -> Result<Option<Letter>, Trouble> {
    let mut ask = redis::cmd("XRANGE");
    ask.arg(dead::stream_of(stream)).arg(id).arg(id);
    let found: Vec<Raw> = ask.query_async(redis).await.map_err(|error| named(stream, error))?;
    Ok(found.into_iter().next().map(|raw| letter(stream, raw)))
}

/// Takes it away, as the last thing of what is done with it.
pub(super) fn remove<'p>(pipe: &'p mut Pipeline, letter: &Letter) -> &'p mut Pipeline {
    pipe.cmd("XDEL").arg(dead::stream_of(&letter.stream)).arg(&letter.id).ignore()
}

/// Letters of one reply: each may be a few hundred kilobytes.
const PAGE: usize = 16;

/// Milliseconds and number of an id.
pub(super) fn order_of(id: &str) -> Option<(u64, u64)> {
    let (millis, number) = id.split_once('-')?;
    Some((millis.parse().ok()?, number.parse().ok()?))
}

/// The key is not in the reply; people need it.
fn named(stream: &str, error: RedisError) -> Trouble {
    match error.code() {
        Some("WRONGTYPE") => wrong_type(&dead::stream_of(stream), "stream", "bus.stream"),
        _ => error.into(),
    }
}

fn letter(stream: &str, (id, fields): Raw) -> Letter {
    let mut letter = Letter { id, stream: stream.to_owned(), ..Letter::default() };
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        if let Some(name) = name.strip_prefix(dead::ENTRY.as_bytes()) {
            letter.fields.0.push((name.to_owned(), value));
            continue;
        }
        let value = String::from_utf8_lossy(&value);
        let about = match name.as_slice() {
            b"kind" => &mut letter.kind,
            b"reason" => &mut letter.reason,
            b"code" => &mut letter.code,
            b"field" => &mut letter.field,
            b"peer" => &mut letter.peer,
            b"digest" => &mut letter.digest,
            b"first_seen" => &mut letter.first_seen,
            b"entry" => &mut letter.entry,
            b"envelope" => {
                letter.envelope = value.into_owned();
                continue;
            }
            dead::CUT => {
                letter.is_cut = true;
                continue;
            }
            _ => continue,
        };
        // We never write more; others may write there as well.
        *about = value.chars().take(ABOUT_MAX).collect();
    }
    letter
}

/// Longest text about a letter, in characters.
pub const ABOUT_MAX: usize = 512;

/// The event of a letter, whose signature is checked again: others may write to Redis.
pub(super) fn event_of(letter: &Letter) -> Result<Stored, Rejection> {
    let line = Line::split(&Bytes::from(letter.envelope.clone()))?;
    let unverified = line.parse(&mut Keys::default())?;
    let hops = unverified.hops;
    let entry = Entry {
        envelope: unverified.verify()?,
        from: letter.peer.parse().ok(),
        hops,
        duty: false,
        received: timestamp::parse(&letter.first_seen).unwrap_or_else(|_| now()),
        claims: Box::default(),
        hold: None,
    };
    Ok(Stored { seq: Seq(0), entry })
}
