//! What people ask of the bus: handed to the bridge, whose answer is awaited beside the driver.

use tokio::sync::oneshot;

use super::driver::Driver;
use crate::admin::dead::{Mended, MendedStream, Retried, UnmendedStream};
use crate::admin::{Fault, FaultCode, Request};
use crate::bus::{self, Order, Refusal};

impl Driver {
    /// Answers later. An asker that is gone is no loss.
    pub(super) fn on_bus_request(&mut self, request: Request) {
        match request {
            Request::Letters { answer, .. } if self.hands.orders.is_none() => {
                // With the embedded bus nothing can become one.
                let _ = answer.send(Ok(Vec::new()));
            }
            Request::Letters { count, answer } => {
                self.order(answer, |answer| Order::Letters { count, answer }, |letters| letters);
            }
            Request::Letter { id, answer } => {
                self.order(answer, |answer| Order::Letter { id, answer }, |letter| letter);
            }
            Request::DropLetter { id, answer } => {
                self.order(answer, |answer| Order::Drop { id, answer }, |letter| letter);
            }
            Request::RetryLetter { id, answer } => {
                let retried = |done: bus::Retried| Retried {
                    id: done.letter.id,
                    stream: done.letter.stream,
                    digest: done.digest,
                };
                self.order(answer, |answer| Order::Retry { id, answer }, retried);
            }
            Request::MendBus { replay, answer } => {
                self.order(answer, |answer| Order::Mend { replay, answer }, mended);
            }
            _ => unreachable!("on_request hands over what is about the bus alone"),
        }
    }

    fn order<B, A>(
        &self,
        answer: oneshot::Sender<Result<A, Fault>>,
        make: impl FnOnce(bus::Answer<B>) -> Order,
        convert: impl FnOnce(B) -> A + Send + 'static,
    ) where
        B: Send + 'static,
        A: Send + 'static,
    {
        let Some(orders) = &self.hands.orders else {
            let why = "the journal itself is the bus: it has no streams, no cursors in Redis and no dead letters";
            let _ = answer.send(Err(Fault::new(FaultCode::NoBus, why)));
            return;
        };
        let (done, told) = oneshot::channel();
        if orders.try_send(make(done)).is_err() {
            let _ = answer.send(Err(Fault::new(FaultCode::BusTrouble, "the bridge is busy with other orders")));
            return;
        }
        tokio::spawn(async move {
            // A bridge that ends drops the order, and the asker learns that the daemon is stopping.
            if let Ok(told) = told.await {
                let _ = answer.send(told.map(convert).map_err(fault));
            }
        });
    }
}

fn mended(mended: bus::Mended) -> Mended {
    let stream = |placed: bus::Placed| MendedStream { stream: placed.stream, after: placed.after.0 };
    let failed = |(stream, why)| UnmendedStream { stream, why };
    Mended {
        streams: mended.placed.into_iter().map(stream).collect(),
        failed: mended.failed.into_iter().map(failed).collect(),
    }
}

fn fault(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::Trouble(why) => Fault::new(FaultCode::BusTrouble, why),
        Refusal::NoSuchLetter => Fault::new(FaultCode::NoSuchLetter, "no dead letter has this id"),
        Refusal::Ambiguous(streams) => {
            let why = format!("dead letters of {} have this id: write stream/id", streams.join(" and "));
            Fault::new(FaultCode::AmbiguousLetter, why)
        }
        Refusal::Again(cause) => {
            let field = if cause.field.is_empty() { String::new() } else { format!("{}: ", cause.field) };
            Fault::new(FaultCode::LetterRefused, format!("{field}{}", cause.reason))
        }
        Refusal::NothingStopped => Fault::new(
            FaultCode::NothingStopped,
            "no stream is stopped for want of its cursor: there is nothing to mend",
        ),
    }
}
