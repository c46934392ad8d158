//! Live events: the journal as one object a line, from any point on, without a gap or a repetition.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::answers::{Progress, document};
use super::fault::{Fault, FaultCode};
use super::groups::GroupName;
use super::routes::Desk;
use super::sse;
use crate::core::ports::{Entry, Log, PageError, Seq, Stored};
use crate::core::trust::{Policy, Verdict};
use crate::time::Wall;
use crate::wire::{Digest, NodeId, Pattern, timestamp};

/// Entries read from the journal at once.
pub const PAGE_ENTRIES_MAX: usize = 256;
/// Bytes of events read from the journal at once.
pub const PAGE_BYTES_MAX: usize = 1 << 20;
/// Progress is told this often at most.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What a subscriber asked for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wish {
    /// Types that match any of them; empty = all.
    patterns: Vec<Pattern>,
    since: Since,
    /// End after so many.
    count: Option<u64>,
    /// Only what names this event in `causationid`.
    causation: Option<Digest>,
    /// Leave out what was published here.
    others_only: bool,
    /// Say where in the journal each event stands.
    positions: bool,
    /// Say how far the journal was looked through, where nothing of it was asked for.
    progress: bool,
    /// Also what local programs do not get: quarantined, and dropped since it was stored.
    withheld: bool,
    /// As frames of server-sent events.
    frames: bool,
    /// Who goes on where it acknowledged last.
    group: Option<GroupName>,
}

/// Where a subscriber wants to begin.
#[derive(Debug, Default, PartialEq, Clone, Copy)]
enum Since {
    /// With what comes next.
    #[default]
    Now,
    /// With the oldest that is kept.
    All,
    /// With the first one received at or after this moment.
    Moment(Wall),
    /// With the one after this position.
    Position(Seq),
}

impl Wish {
    /// Reads `pattern` (any number of times), `since`, `count`, `causation`, `own`, `seq`, `withheld`, `group`, `progress` from a query.
    ///
    /// # Errors
    /// [`FaultCode::BadRequest`] with the parameter and what it takes.
    pub(super) fn parse(query: &[(String, String)], now: Wall) -> Result<Wish, Fault> {
        let mut wish = Wish::default();
        for (name, value) in query {
            let wrong = |why: &str| Fault::new(FaultCode::BadRequest, format!("`{name}`: {why}"));
            match name.as_str() {
                "pattern" => wish.patterns.push(value.parse().map_err(|why| wrong(&format!("{why}")))?),
                "since" => wish.since = since(value, now).map_err(wrong)?,
                "count" => {
                    let count = value.parse().ok().filter(|count| *count > 0);
                    wish.count = Some(count.ok_or_else(|| wrong("a number from 1 on is expected"))?);
                }
                "causation" => {
                    let digest = value.parse().map_err(|_| wrong("a digest of 43 characters is expected"))?;
                    wish.causation = Some(digest);
                }
                "own" => wish.others_only = !flag(value).map_err(wrong)?,
                "seq" => wish.positions = flag(value).map_err(wrong)?,
                "withheld" => wish.withheld = flag(value).map_err(wrong)?,
                "group" => wish.group = Some(value.parse().map_err(wrong)?),
                "progress" => wish.progress = flag(value).map_err(wrong)?,
                _ => {
                    let why = "the parameters of this route are pattern, since, count, causation, own, seq, withheld, group and progress";
                    return Err(Fault::new(FaultCode::BadRequest, why));
                }
            }
        }
        Ok(wish)
    }

    /// As frames; where the caller was when its stream broke counts before everything else.
    pub(super) fn into_frames(self, last: Option<Seq>) -> Wish {
        let since = last.map_or(self.since, Since::Position);
        let group = self.group.filter(|_| last.is_none());
        Wish { frames: true, since, group, ..self }
    }

    fn wants(&self, entry: &Entry, own: &NodeId) -> bool {
        let event = entry.envelope.event();
        if event.kind.is_reserved() {
            let is_ours = event.kind.is_local() && event.source == *own;
            return is_ours && self.patterns.iter().any(|pattern| pattern.asks_for(&event.kind));
        }
        if self.causation.is_some_and(|digest| event.causation != Some(digest)) {
            return false;
        }
        let is_hidden = self.others_only && event.source == *own;
        !is_hidden && (self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.matches(&event.kind)))
    }
}

fn flag(text: &str) -> Result<bool, &'static str> {
    text.parse().map_err(|_| "true or false is expected")
}

fn since(text: &str, now: Wall) -> Result<Since, &'static str> {
    if text == "all" {
        return Ok(Since::All);
    }
    if let Ok(position) = text.parse() {
        return Ok(Since::Position(Seq(position)));
    }
    if let Ok(moment) = timestamp::parse(text) {
        return Ok(Since::Moment(moment));
    }
    match span(text) {
        Some(ago) => Ok(Since::Moment(now - ago)),
        None => Err("a time such as 2026-11-21T06:41:02Z, a span such as 10m, `all`, or a position is expected"),
    }
}

/// Reads `500ms`, `90s`, `1h`.
pub(super) fn span(text: &str) -> Option<Duration> {
    let span = text.parse::<jiff::Span>().ok()?;
    Duration::try_from(span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?).ok()
}

/// The position after which a subscriber begins. Touches the disk.
fn start(log: &dyn Log, since: Since) -> Result<Seq, Fault> {
    let before = |seq: Seq| Seq(seq.0.saturating_sub(1));
    match since {
        Since::Now => Ok(log.head()),
        Since::All => Ok(before(log.earliest())),
        Since::Moment(moment) => log.since(moment).map(before).map_err(|error| fault(&error)),
        Since::Position(seq) if seq > log.head() => Err(Fault::new(
            FaultCode::PositionAhead,
            format!("the journal ends at {}: is {} a position of another journal?", log.head().0, seq.0),
        )),
        Since::Position(seq) if seq < before(log.earliest()) => {
            Err(fault(&PageError::Gone { earliest: log.earliest() }))
        }
        Since::Position(seq) => Ok(seq),
    }
}

fn fault(error: &PageError) -> Fault {
    match error {
        PageError::Gone { earliest } => Fault::new(
            FaultCode::PositionGone,
            format!("the journal begins at {} now; `since=all` starts there", earliest.0),
        ),
        PageError::Unreadable => Fault::new(FaultCode::Unreadable, "the journal cannot be read"),
    }
}

/// One subscriber on its way through the journal.
struct Subscriber {
    log: Arc<dyn Log>,
    head: watch::Receiver<Seq>,
    stop: watch::Receiver<bool>,
    own: NodeId,
    policy: watch::Receiver<Policy>,
    wish: Wish,
    /// Everything up to here was looked at.
    after: Seq,
    /// The caller knows that it came this far.
    told: Seq,
    /// When it may be told of more that it did not ask for.
    tell_at: Instant,
    /// How many more it wants.
    left: u64,
    /// When something is sent at the latest, to frames alone.
    speak_at: Option<Instant>,
    keep_alive: Duration,
}

/// The events that a subscriber asked for: chunks of whole lines, without an end unless it named a
/// count. The end of the daemon ends it; a journal that dropped what was not read yet breaks it off.
pub(super) async fn events(
    desk: &Desk,
    wish: Wish,
    stop: watch::Receiver<bool>,
) -> Result<impl Stream<Item = Result<Bytes, Fault>> + use<>, Fault> {
    let (log, since, group) = (Arc::clone(&desk.log), wish.since, wish.group.clone());
    let begin = move || match group.and_then(|group| group.acknowledged(&*log)) {
        Some(seq) => match start(&*log, Since::Position(seq)) {
            // Whoever says where to begin instead has heard of the gap.
            Err(gone) if gone.code == FaultCode::PositionGone && since != Since::Now => start(&*log, since),
            begun => begun,
        },
        None => start(&*log, since),
    };
    let after = tokio::task::spawn_blocking(begin).await.map_err(|_| Fault::stopping())??;
    let subscriber = Subscriber {
        log: Arc::clone(&desk.log),
        head: desk.head.clone(),
        stop,
        own: desk.key.id(),
        policy: desk.policy.clone(),
        left: wish.count.unwrap_or(u64::MAX),
        speak_at: wish.frames.then(Instant::now),
        keep_alive: desk.keep_alive,
        wish,
        after,
        told: after,
        tell_at: Instant::now(),
    };
    Ok(stream::try_unfold(subscriber, |mut subscriber| async {
        let chunk = subscriber.next_chunk().await?;
        Ok(chunk.map(|chunk| (chunk, subscriber)))
    }))
}

impl Subscriber {
    /// Lines to send; `None` at the end.
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        while self.left > 0 && !*self.stop.borrow() {
            if self.progress_at().is_some_and(|moment| moment <= Instant::now()) {
                return Ok(Some(self.progress()));
            }
            // Marked as seen before the page is read: what is appended meanwhile wakes us again.
            self.head.mark_unchanged();
            let (log, after) = (Arc::clone(&self.log), self.after);
            let page = tokio::task::spawn_blocking(move || log.page(after, PAGE_ENTRIES_MAX, PAGE_BYTES_MAX));
            let page = page.await.map_err(|_| Fault::stopping())?.map_err(|error| fault(&error))?;
            let is_at_the_end = page.upto <= self.after;
            self.after = self.after.max(page.upto);
            let lines = self.write(&page.entries);
            if !lines.is_empty() {
                self.speak_at = self.speak_at.map(|_| Instant::now() + self.keep_alive);
                self.tell_at = Instant::now() + PROGRESS_EVERY;
                return Ok(Some(Bytes::from(lines)));
            }
            if is_at_the_end {
                let progress_at = self.progress_at();
                // No arm loses anything when dropped: all only wait, and the moments are kept outside.
                tokio::select! {
                    moved = self.head.changed() => if moved.is_err() { return Ok(None) },
                    _ = self.stop.changed() => return Ok(None),
                    () = until(progress_at) => {}
                    () = until(self.speak_at) => return Ok(Some(self.sign_of_life())),
                }
            }
        }
        Ok(None)
    }

    /// When a line of progress is due.
    fn progress_at(&self) -> Option<Instant> {
        (self.wish.progress && !self.wish.frames && self.after > self.told).then_some(self.tell_at)
    }

    fn progress(&mut self) -> Bytes {
        self.told = self.after;
        self.tell_at = Instant::now() + PROGRESS_EVERY;
        Bytes::from(document(&Progress { seq: self.after }) + "\n")
    }

    /// A comment, and where the caller is when nothing that it asked for came since: a frame without
    /// data is no event, but its id is what a client comes back with.
    fn sign_of_life(&mut self) -> Bytes {
        self.speak_at = Some(Instant::now() + self.keep_alive);
        if self.after == self.told {
            return Bytes::from_static(sse::COMMENT.as_bytes());
        }
        self.told = self.after;
        Bytes::from(sse::position_frame(self.log.incarnation(), self.after))
    }

    fn write(&mut self, entries: &[Stored]) -> String {
        let mut lines = String::new();
        let policy = self.policy.borrow();
        for stored in entries.iter().filter(|stored| self.wish.wants(&stored.entry, &self.own)) {
            let trust = policy.judge(stored.entry.envelope.event());
            if !trust.is_shown() && !self.wish.withheld {
                continue;
            }
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            self.told = stored.seq;
            let line = line(stored, trust, self.wish.positions);
            if self.wish.frames {
                sse::write_frame(&mut lines, self.log.incarnation(), stored.seq, &line);
            } else {
                lines.push_str(&line);
                lines.push('\n');
            }
        }
        lines
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// One event as one object: the members in this order, the event as the exact text that was signed.
fn line(stored: &Stored, trust: Verdict, positions: bool) -> String {
    let Entry { envelope, from, hops, received, .. } = &stored.entry;
    let from = from.map_or("null".to_owned(), |id| format!("\"{id}\""));
    let received = timestamp::format(*received);
    let trust = trust.as_str();
    let position = if positions { format!(r#""seq":{},"#, stored.seq.0) } else { String::new() };
    format!(
        r#"{{"digest":"{}","hops":{hops},"from":{from},"received":"{received}","trust":"{trust}",{position}"event":{}}}"#,
        envelope.digest(),
        envelope.event().text(),
    )
}
