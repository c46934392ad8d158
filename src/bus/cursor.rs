//! The cursor in Redis: the truth about what this node has bridged to one stream.
//!
//! It is a hash beside the stream, moved by the same script that appends, so both are lost, restored
//! and replicated together. What to do when they disagree is decided here, as a pure function.

use redis::aio::MultiplexedConnection;

use super::dead;
use super::late::Late;
use super::trouble::{Trouble, wrong_type};
use crate::core::ports::{Log, Seq};
use crate::wire::NodeId;

/// The cursor's key: in the slot of the stream also on a cluster, by the rule of hash tags.
pub(super) fn key(stream: &str, node: NodeId) -> String {
    if has_hash_tag(stream) {
        format!("{stream}:mesh-cursor:{node}")
    } else {
        format!("{{{stream}}}:mesh-cursor:{node}")
    }
}

/// Redis hashes only what stands between the first `{` and the next `}`, unless that is nothing.
fn has_hash_tag(key: &str) -> bool {
    key.split_once('{').and_then(|(_, rest)| rest.find('}')).is_some_and(|length| length > 0)
}

/// The fields of the hash as they stand; `None` = absent. What Redis holds may be anything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Found {
    /// Which journal positions are meant.
    pub(super) epoch: Option<Vec<u8>>,
    /// The last position bridged.
    pub(super) seq: Option<Vec<u8>>,
    /// What was passed over and waits for its turn.
    pub(super) late: Option<Vec<u8>>,
}

impl Found {
    /// What a cursor of ours looks like.
    pub(super) fn at(incarnation: u64, seq: Seq, late: &Late) -> Found {
        let text = |number: u64| Some(number.to_string().into_bytes());
        Found { epoch: text(incarnation), seq: text(seq.0), late: Some(late.text().to_vec()) }
    }
}

/// What Redis holds of one stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Survey {
    /// The stream is there.
    pub(super) stream: bool,
    /// Its cursor.
    pub(super) cursor: Found,
}

/// Reads both in one step.
///
/// # Errors
/// Trouble with Redis; `WRONGTYPE` names the key.
pub(super) async fn survey(redis: &mut MultiplexedConnection, stream: &str, key: &str) -> Result<Survey, Trouble> {
    let letters = dead::stream_of(stream);
    let mut ask = redis::pipe();
    ask.atomic().cmd("TYPE").arg(stream).cmd("TYPE").arg(key).cmd("TYPE").arg(&letters);
    ask.cmd("HMGET").arg(key).arg("epoch").arg("seq").arg("late");
    type Answer = (String, String, String, [Option<Vec<u8>>; 3]);
    let (kind, holder, beside, fields): Answer = match ask.query_async(redis).await {
        Ok(answer) => answer,
        // Of the three only the last cares what it finds.
        Err(error) if error.to_string().contains("WRONGTYPE") => return Err(wrong_type(key, "hash", "bus.stream")),
        Err(error) => return Err(error.into()),
    };
    let is_one = |found: &str, expected: &str| found == expected || found == "none";
    if !is_one(&holder, "hash") {
        return Err(wrong_type(key, "hash", "bus.stream"));
    }
    if !is_one(&kind, "stream") {
        return Err(wrong_type(stream, "stream", "bus.stream"));
    }
    if !is_one(&beside, "stream") {
        return Err(wrong_type(&letters, "stream", "bus.stream"));
    }
    let [epoch, seq, late] = fields;
    let stream = kind == "stream" && !is_untouched(redis, stream).await?;
    Ok(Survey { stream, cursor: Found { epoch, seq, late } })
}

/// A stream that never had an entry is as good as none: readers make it with their groups, after a flush
/// perhaps sooner than we look.
async fn is_untouched(redis: &mut MultiplexedConnection, stream: &str) -> Result<bool, Trouble> {
    let length: u64 = redis::cmd("XLEN").arg(stream).query_async(redis).await?;
    if length > 0 {
        return Ok(false);
    }
    let about: redis::streams::StreamInfoStreamReply =
        redis::cmd("XINFO").arg("STREAM").arg(stream).query_async(redis).await?;
    Ok(about.last_generated_id == "0-0")
}

/// The journal's side of the matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Journal {
    /// Which journal.
    pub(super) incarnation: u64,
    /// The first position still there.
    pub(super) earliest: Seq,
    /// The last durable one.
    pub(super) head: Seq,
    /// How far we remember to have bridged this stream; `None` = never.
    pub(super) bridged: Option<Seq>,
    /// Where a first bridge into a stream of others begins.
    pub(super) first: Seq,
    /// Where the stream begins whatever Redis holds of it: what precedes this went to another stream,
    /// before the configuration was changed.
    pub(super) renamed: Option<Seq>,
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Plan {
    /// Bridge what follows this position.
    GoOn(Seq),
    /// Move the cursor from what was found to this position, then go on from there.
    Place(Seq),
    /// Only a person knows: appending might repeat or miss events.
    Ask {
        /// What is wrong.
        why: String,
        /// The last position that counts as bridged, as far as we know.
        resume: Seq,
    },
}

/// Decides by what Redis and the journal hold.
pub(super) fn plan(survey: &Survey, journal: &Journal) -> Plan {
    let everything = Seq(journal.earliest.0.saturating_sub(1));
    // What was never bridged begins where this stream does.
    let resume = journal.bridged.unwrap_or(journal.first);
    // Only as we write it: the script compares text.
    let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
    let position = |text: &[u8]| number(text).filter(|seq| seq.to_string().as_bytes() == text).ok_or(());
    let seq = survey.cursor.seq.as_deref().map(position);
    let is_ours = survey.cursor.epoch.as_deref() == Some(journal.incarnation.to_string().as_bytes());
    if let (None, Some(from)) = (journal.bridged, journal.renamed) {
        return match seq {
            // Bridged already, by a process that died before it could remember.
            Some(Ok(seq)) if is_ours && seq >= from.0 => Plan::GoOn(Seq(seq.min(journal.head.0))),
            _ => Plan::Place(from),
        };
    }
    match (&survey.cursor.epoch, seq) {
        // Both gone: a new Redis, or a flushed one. Nothing there can be repeated.
        (None, None) if !survey.stream => Plan::Place(everything),
        (None, None) => match journal.bridged {
            None => Plan::Place(journal.first),
            Some(_) => Plan::Ask { why: "its cursor is gone from Redis while the stream is there".into(), resume },
        },
        // Somebody said where to go on without knowing our epoch: that is an answer.
        (None, Some(Ok(seq))) => Plan::Place(Seq(seq)),
        (Some(_), Some(Ok(seq))) if is_ours => {
            // Only a journal that was set back ends before its cursor. All it holds was bridged.
            if seq > journal.head.0 { Plan::Place(journal.head) } else { Plan::GoOn(Seq(seq)) }
        }
        (Some(_), Some(Ok(_))) => {
            Plan::Ask { why: "its cursor in Redis belongs to another journal of this node".into(), resume }
        }
        _ => Plan::Ask { why: "its cursor in Redis is damaged".into(), resume },
    }
}

/// The question of [`Plan::Ask`] in words, with what to type.
pub(super) fn question(stream: &str, why: &str, resume: Seq) -> Trouble {
    Trouble::stop(
        format!("stream `{stream}`: {why}"),
        format!(
            "`afferent bus resume` goes on after position {}, the last that is known to be bridged; `afferent bus \
             replay` appends everything the journal holds, which may repeat events",
            resume.0
        ),
    )
}

/// What the journal remembers of one stream, as a hint: Redis has the truth. Retention keeps whatever
/// it has not passed, also before the first connection.
#[derive(Clone)]
pub(super) struct Hint {
    bridged: String,
    first: String,
    renamed: String,
}

impl Hint {
    /// The hint for this stream.
    pub(super) fn of(stream: &str) -> Hint {
        Hint {
            bridged: format!("bus:{stream}"),
            first: format!("bus:{stream}#first"),
            renamed: format!("bus:{stream}#renamed"),
        }
    }

    /// How far the stream is, as far as we know. The first time of all that is where the first bridge
    /// begins; it is remembered, and so pins what follows until that is bridged. A stream that is new
    /// in the configuration begins at `renamed` instead.
    pub(super) fn pin(&self, log: &dyn Log, start: Seq, renamed: Option<Seq>) -> Seq {
        let known = [&self.bridged, &self.renamed, &self.first].into_iter().find_map(|name| log.cursor(name));
        known.unwrap_or_else(|| {
            let (name, at) = renamed.map_or((&self.first, start), |at| (&self.renamed, at));
            log.set_cursor(name, at);
            at
        })
    }

    /// Everything up to here is on the stream, or was not meant for it.
    pub(super) fn advance(&self, log: &dyn Log, seq: Seq) {
        log.set_cursor(&self.bridged, seq);
        // They have served, and must not pin the journal for ever.
        for served in [&self.first, &self.renamed] {
            if log.cursor(served).is_some() {
                log.set_cursor(served, seq);
            }
        }
    }

    /// The journal's side, read now.
    pub(super) fn journal(&self, log: &dyn Log) -> Journal {
        Journal {
            incarnation: log.incarnation(),
            earliest: log.earliest(),
            head: log.head(),
            bridged: log.cursor(&self.bridged),
            first: log.cursor(&self.first).unwrap_or_default(),
            renamed: log.cursor(&self.renamed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Keypair;

    const JOURNAL: Journal = Journal {
        incarnation: 77,
        earliest: Seq(11),
        head: Seq(90),
        bridged: Some(Seq(50)),
        first: Seq(40),
        renamed: None,
    };

    fn found(stream: bool, epoch: Option<&str>, seq: Option<&str>) -> Survey {
        Survey { stream, cursor: Found { epoch: epoch.map(Into::into), seq: seq.map(Into::into), late: None } }
    }

    fn asks(survey: &Survey) -> bool {
        matches!(plan(survey, &JOURNAL), Plan::Ask { resume: Seq(50), .. })
    }

    #[test]
    fn the_cursor_in_redis_is_the_truth() {
        assert_eq!(plan(&found(true, Some("77"), Some("60")), &JOURNAL), Plan::GoOn(Seq(60)));
        assert_eq!(
            plan(&found(true, Some("77"), Some("20")), &JOURNAL),
            Plan::GoOn(Seq(20)),
            "a failover lost its tail"
        );
        assert_eq!(plan(&found(false, Some("77"), Some("60")), &JOURNAL), Plan::GoOn(Seq(60)), "a deleted stream");
    }

    #[test]
    fn what_was_never_bridged_is_not_passed_over() {
        let journal = Journal { bridged: None, ..JOURNAL };
        let damaged = ["x", "+60", "060", ""].map(|seq| found(true, Some("77"), Some(seq)));
        for cursor in damaged.into_iter().chain([found(true, Some("78"), Some("60"))]) {
            assert!(matches!(plan(&cursor, &journal), Plan::Ask { resume: Seq(40), .. }), "{cursor:?}");
        }
    }

    #[test]
    fn a_flushed_redis_gets_everything_again() {
        assert_eq!(plan(&found(false, None, None), &JOURNAL), Plan::Place(Seq(10)));
        assert_eq!(plan(&found(false, None, None), &Journal { bridged: None, ..JOURNAL }), Plan::Place(Seq(10)));
    }

    #[test]
    fn a_first_start_on_a_stream_of_others_begins_where_the_daemon_says() {
        assert_eq!(plan(&found(true, None, None), &Journal { bridged: None, ..JOURNAL }), Plan::Place(Seq(40)));
    }

    #[test]
    fn a_renamed_stream_begins_where_the_other_one_ended() {
        let renamed = Journal { bridged: None, renamed: Some(Seq(70)), ..JOURNAL };
        for survey in [found(false, None, None), found(true, None, None), found(true, Some("77"), Some("20"))] {
            assert_eq!(plan(&survey, &renamed), Plan::Place(Seq(70)), "{survey:?}");
        }
        assert_eq!(plan(&found(true, Some("77"), Some("80")), &renamed), Plan::GoOn(Seq(80)));
        let since = Journal { renamed: Some(Seq(70)), ..JOURNAL };
        assert_eq!(plan(&found(false, None, None), &since), Plan::Place(Seq(10)), "flushed later");
    }

    #[test]
    fn what_might_repeat_or_miss_events_is_asked() {
        assert!(asks(&found(true, None, None)));
        assert!(asks(&found(true, Some("78"), Some("60"))));
        assert!(asks(&found(true, Some("77"), None)));
        assert!(asks(&found(true, Some("77"), Some("x"))));
        assert!(asks(&found(true, None, Some("-1"))));
    }

    #[test]
    fn an_answer_without_an_epoch_is_taken_and_a_journal_set_back_is_followed() {
        assert_eq!(plan(&found(true, None, Some("30")), &JOURNAL), Plan::Place(Seq(30)));
        assert_eq!(plan(&found(true, Some("77"), Some("91")), &JOURNAL), Plan::Place(Seq(90)));
    }

    #[test]
    fn the_key_is_in_the_slot_of_its_stream() {
        let node = Keypair::from_seed(&[1; 32]).id();
        assert_eq!(key("mesh:events", node), format!("{{mesh:events}}:mesh-cursor:{node}"));
        assert_eq!(key("a{b}c", node), format!("a{{b}}c:mesh-cursor:{node}"));
    }
}
