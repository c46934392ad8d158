//! `GET /v1/watch`: what changes, as it changes. Who comes late asks for the status first.

use std::convert::Infallible;

use axum::http::HeaderMap;
use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use super::answers::{Change, Changed, document};
use super::routes::Desk;
use super::sse;

/// Changes kept for a watcher that reads slowly; the ones before are told as `missed`.
pub const CHANGES_MAX: usize = 256;

struct Watcher {
    changes: broadcast::Receiver<Change>,
    stop: watch::Receiver<bool>,
    frames: bool,
    keep_alive: Duration,
    speak_at: Instant,
}

/// One object a line, or one frame each, until the daemon stops.
pub(super) fn changes(
    desk: &Desk,
    headers: &HeaderMap,
    stop: watch::Receiver<bool>,
) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    let watcher = Watcher {
        changes: desk.changes.subscribe(),
        stop,
        frames: sse::is_asked_for(headers),
        keep_alive: desk.keep_alive,
        speak_at: Instant::now(),
    };
    stream::unfold(watcher, |mut watcher| async {
        let chunk = watcher.next().await?;
        watcher.speak_at = Instant::now() + watcher.keep_alive;
        Some((Ok(Bytes::from(chunk)), watcher))
    })
}

impl Watcher {
    async fn next(&mut self) -> Option<String> {
        let missed = Change { at: None, what: Changed::Missed, peer: None, why: None, retry_in_ms: None };
        // No arm loses anything when dropped: receiving is cancel safe, the moment is kept outside.
        let change = tokio::select! {
            _ = self.stop.wait_for(|stops| *stops) => return None,
            received = self.changes.recv() => match received {
                Ok(change) => change,
                Err(RecvError::Lagged(_)) => missed,
                Err(RecvError::Closed) => return None,
            },
            () = tokio::time::sleep_until(self.speak_at), if self.frames => return Some(sse::COMMENT.to_owned()),
        };
        let change = document(&change);
        Some(if self.frames { format!("data: {change}\n\n") } else { format!("{change}\n") })
    }
}
