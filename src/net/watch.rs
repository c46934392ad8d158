//! One connection under watch: when it last did what, so that its deadlines can be kept from outside.
//!
//! hyper has no deadline for bodies, writes or whole requests. [`Watched`] wraps the TLS stream and
//! notes what passes; [`Activity`] is asked in regular steps whether the connection is late.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::{Cutter, Glance, Meter};
use super::settings::Limits;

/// What a connection did and when.
pub(super) struct Activity {
    began: Instant,
    noted: Mutex<Noted>,
}

struct Noted {
    spoke: bool,
    /// Since when a request head is incomplete.
    head: Option<Instant>,
    /// Since when bytes of ours wait for the peer.
    stalled: Option<Instant>,
    /// Requests whose answer is not handed over, with their beginning.
    open: BTreeMap<u64, Instant>,
    next: u64,
    /// When the last request ended.
    rested: Instant,
    /// Requests that ended well since the meter asked.
    well: u32,
    is_ambiguous: bool,
    is_last: bool,
    is_flooded: bool,
}

/// Is the connection in time?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Go on.
    InTime,
    /// Nothing is asked any more: say goodbye.
    Idle,
    /// Close, with the reason for the log.
    Late(&'static str),
}

impl Activity {
    pub(super) fn new(now: Instant) -> Arc<Activity> {
        let noted = Noted {
            spoke: false,
            head: None,
            stalled: None,
            open: BTreeMap::new(),
            next: 0,
            rested: now,
            well: 0,
            is_ambiguous: false,
            is_last: false,
            is_flooded: false,
        };
        Arc::new(Activity { began: now, noted: Mutex::new(noted) })
    }

    /// Looks at every deadline.
    pub(super) fn verdict(&self, limits: &Limits, now: Instant) -> Verdict {
        let noted = self.noted();
        let longer = |since: Option<Instant>, limit| since.is_some_and(|since| now.duration_since(since) > limit);
        if !noted.spoke && now.duration_since(self.began) > limits.first_byte {
            return Verdict::Late("said nothing");
        }
        if longer(noted.head, limits.head) {
            return Verdict::Late("a request head took too long");
        }
        if longer(noted.stalled, limits.write_stall) {
            return Verdict::Late("does not read our answers");
        }
        let oldest = noted.open.first_key_value().map(|(_, since)| *since);
        if longer(oldest, limits.request + limits.write_stall) {
            return Verdict::Late("a request took too long");
        }
        if noted.open.is_empty() && now.duration_since(noted.rested) > limits.idle {
            return Verdict::Idle;
        }
        Verdict::InTime
    }

    /// A request begins; it ends when the guard is dropped.
    pub(super) fn begin(self: &Arc<Activity>, now: Instant) -> Begun {
        let mut noted = self.noted();
        let number = noted.next;
        noted.next += 1;
        noted.open.insert(number, now);
        Begun { activity: Arc::clone(self), number, is_well: false }
    }

    /// The framing of HTTP/1.1 can be read in two ways.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.noted().is_ambiguous
    }

    /// No further HTTP/1.1 request may follow.
    pub(super) fn is_last(&self) -> bool {
        self.noted().is_last
    }

    /// The meter closed it.
    pub(super) fn is_flooded(&self) -> bool {
        self.noted().is_flooded
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, glance: &Glance, now: Instant) -> u32 {
        let mut noted = self.noted();
        noted.spoke |= glance.spoke;
        noted.is_ambiguous |= glance.is_ambiguous;
        noted.is_last |= glance.is_last;
        noted.head = glance.is_in_head.then(|| noted.head.unwrap_or(now));
        std::mem::take(&mut noted.well)
    }

    fn note_write<T>(&self, poll: &Poll<T>) {
        let mut noted = self.noted();
        noted.stalled = poll.is_pending().then(|| noted.stalled.unwrap_or_else(Instant::now));
    }
}

/// A request under way.
pub(super) struct Begun {
    activity: Arc<Activity>,
    number: u64,
    is_well: bool,
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut noted = self.activity.noted();
        noted.open.remove(&self.number);
        noted.well += u32::from(self.is_well);
        noted.rested = Instant::now();
    }
}

/// The body of an answer; when it is gone, the request is over.
pub(super) struct Answering {
    body: Full<Bytes>,
    _request: Begun,
}

impl Answering {
    /// `is_well`: the request was worth its cost, which the meter takes into account.
    pub(super) fn new(body: Full<Bytes>, mut request: Begun, is_well: bool) -> Answering {
        request.is_well = is_well;
        Answering { body, _request: request }
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose bytes are noted and metered.
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    cutter: Cutter,
    meter: Meter,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: &Arc<Activity>, cutter: Cutter, limits: &Limits) -> Watched<S> {
        let meter = Meter::new(limits, Instant::now());
        Watched { stream, activity: Arc::clone(activity), cutter, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let bytes = &buf.filled()[before..];
        if bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let now = Instant::now();
        let glance = self.cutter.glance(bytes);
        let well = self.activity.note(&glance, now);
        if self.meter.spend(&glance, well, now).is_err() {
            self.activity.noted().is_flooded = true;
            return Poll::Ready(Err(io::Error::other("costs more than it carries")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.activity.note_write(&poll);
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.activity.note_write(&poll);
        poll
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.activity.note_write(&poll);
        poll
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.activity.note_write(&poll);
        poll
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
