//! A body being cut into lines, with bounded memory whatever it holds.

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

use super::publish::Batch;
use super::{LINE_BYTES_MAX, PUBLISH_BATCH_MAX};
use crate::wire::Rejection;
use crate::wire::message::BODY_BYTES_MAX;

/// A body, and what was read of it.
pub(super) struct Lines<S> {
    body: S,
    read: BytesMut,
    /// How much of `read` holds no LF, so that a long line in small pieces is not searched again and again.
    searched: usize,
    /// Lines before, blank ones too.
    before: u64,
    /// The rest of an over-long line is being thrown away.
    is_skipping: bool,
    is_over: bool,
}

impl<S, E> Lines<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    pub(super) fn of(body: S) -> Lines<S> {
        Lines { body, read: BytesMut::new(), searched: 0, before: 0, is_skipping: false, is_over: false }
    }

    /// The lines that are there, at least one; `None` at the end of the body. Nothing waits for a
    /// batch to fill up.
    pub(super) async fn next_batch(&mut self) -> Option<Batch> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        loop {
            while let Some(line) = self.cut() {
                bytes += line.1.as_ref().map_or(0, Bytes::len);
                batch.push(line);
                if batch.len() == PUBLISH_BATCH_MAX || bytes >= BODY_BYTES_MAX {
                    return Some(batch);
                }
            }
            if !batch.is_empty() || self.is_over {
                return (!batch.is_empty()).then_some(batch);
            }
            match self.body.next().await {
                Some(Ok(more)) => self.read.extend_from_slice(&more),
                // A publisher that broke off in the middle of a line did not finish saying it.
                Some(Err(_)) => {
                    self.read.clear();
                    self.searched = 0;
                    self.is_over = true;
                }
                None => self.is_over = true,
            }
        }
    }

    /// The next line that is there and not blank, and which one it is.
    fn cut(&mut self) -> Option<(u64, Result<Bytes, Rejection>)> {
        loop {
            let end = self.read[self.searched..].iter().position(|byte| *byte == b'\n');
            let end = end.map(|at| self.searched + at + 1);
            self.searched = 0;
            let line = match end {
                Some(end) => self.read.split_to(end),
                None if self.is_over && !self.read.is_empty() => self.read.split(),
                None if self.read.len() > LINE_BYTES_MAX => {
                    self.read.clear();
                    if std::mem::replace(&mut self.is_skipping, true) {
                        return None;
                    }
                    return Some((self.before + 1, Err(Rejection::TooLarge)));
                }
                None => {
                    self.searched = self.read.len();
                    return None;
                }
            };
            self.before += 1;
            if std::mem::take(&mut self.is_skipping) {
                continue;
            }
            let line = line.freeze();
            let line = line.slice_ref(line.trim_ascii());
            if line.len() > LINE_BYTES_MAX {
                return Some((self.before, Err(Rejection::TooLarge)));
            }
            if !line.is_empty() {
                return Some((self.before, Ok(line)));
            }
        }
    }
}
