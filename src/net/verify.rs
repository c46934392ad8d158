//! Parsing and signature checks: the CPU work of the receptor, off its async tasks and on every core.
//!
//! A body's lines are cut into chunks, so that one body uses all workers. Each worker keeps its own
//! memory of decoded keys. The queue is bounded; full means that we are behind, and the request is
//! told so instead of waiting.

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::settings::Limits;
use crate::wire::Keys;

/// Lines in one chunk: 16 signatures are half a millisecond, so handing them over costs nothing.
const CHUNK: usize = 16;

type Job = Box<dyn FnOnce(&mut Keys) + Send>;

/// Threads that check lines. They end when this is dropped.
pub(super) struct Workers {
    queue: SyncSender<Job>,
}

/// Too much is waiting already; or the workers are ending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Behind;

impl Workers {
    pub(super) fn start(limits: &Limits) -> std::io::Result<Workers> {
        let threads = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
        let (queue, jobs) = sync_channel(limits.verify_queue);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..threads {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new().name(format!("verify-{number}")).spawn(move || work(&jobs))?;
        }
        Ok(Workers { queue })
    }

    /// Does `check` to every item, many at a time, and returns the results in the order of the items.
    ///
    /// # Errors
    /// [`Behind`] when the queue is full; some of the work may have been done in vain.
    pub(super) async fn map<T, U>(
        &self,
        items: Vec<T>,
        check: impl Fn(T, &mut Keys) -> U + Send + Sync + 'static,
    ) -> Result<Vec<U>, Behind>
    where
        T: Send + 'static,
        U: Send + 'static,
    {
        let count = items.len();
        let check = Arc::new(check);
        let mut waiting = Vec::with_capacity(count.div_ceil(CHUNK));
        let mut items = items.into_iter();
        while items.len() > 0 {
            let chunk: Vec<T> = items.by_ref().take(CHUNK).collect();
            waiting.push(self.submit(chunk, Arc::clone(&check))?);
        }
        let mut results = Vec::with_capacity(count);
        for chunk in waiting {
            results.extend(chunk.await.map_err(|_| Behind)?);
        }
        Ok(results)
    }

    fn submit<T, U>(
        &self,
        chunk: Vec<T>,
        check: Arc<impl Fn(T, &mut Keys) -> U + Send + Sync + 'static>,
    ) -> Result<oneshot::Receiver<Vec<U>>, Behind>
    where
        T: Send + 'static,
        U: Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |keys| {
            // Nobody waits any more when the request was given up: then the work is not begun.
            if !done.is_closed() {
                let _ = done.send(chunk.into_iter().map(|item| check(item, keys)).collect());
            }
        });
        match self.queue.try_send(job) {
            Ok(()) => Ok(result),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Behind),
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    let mut keys = Keys::default();
    loop {
        // The lock is held while waiting: one worker waits in the channel, the others for the lock.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(&mut keys),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_come_in_the_order_of_the_items() {
        let workers = Workers::start(&Limits::default()).expect("threads");
        let items: Vec<usize> = (0..1_000).collect();
        let doubled = workers.map(items.clone(), |item, _| item * 2).await.expect("a short queue");
        assert!(items.iter().zip(&doubled).all(|(item, double)| item * 2 == *double));
        assert_eq!(workers.map(Vec::<u8>::new(), |item, _| item).await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn a_full_queue_is_said_at_once() {
        let workers = Workers::start(&Limits { verify_queue: 1, ..Limits::default() }).expect("threads");
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let threads = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
        let mut waiting = Vec::new();
        // One for each worker and one for the queue; workers take theirs in their own time.
        while waiting.len() < threads + 1 {
            let held = Arc::clone(&held);
            let check = Arc::new(move |(), _: &mut Keys| held.lock().expect("unpoisoned").recv().is_err());
            match workers.submit(vec![()], check) {
                Ok(result) => waiting.push(result),
                Err(Behind) => tokio::task::yield_now().await,
            }
        }
        assert_eq!(workers.map(vec![()], |(), _| ()).await, Err(Behind));
        drop(hold);
        for result in waiting {
            assert!(result.await.is_ok());
        }
    }
}
