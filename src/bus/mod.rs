//! The local bus: the bridge between the node's journal and Redis Streams, where applications read
//! and write.
//!
//! ```text
//!   journal  --egress-->  stream `mesh:events`                 what this node is interested in
//!   driver   <--intake--  stream `mesh:outbox`                 what local programs publish
//! ```
//!
//! **Driven by** [`run`], one future for each Redis, which the daemon starts with [`Settings`] and the
//! [`Ends`] it holds, and stops by `shutdown`. It needs no Redis to start: it waits, says so in
//! [`BusState`], and catches up. [`probe`] tells whether there is a Redis at all.
//!
//! **Out**: the journal is the record and Redis a copy of its tail. Each event is appended once: one
//! Lua script moves a cursor, kept in Redis beside the stream, together with the entries. Whatever
//! happens to the connection, to either process or to the memory of Redis, the bridge reads that
//! cursor and goes on from there (`cursor.rs`). When the cursor is lost and the stream is not, only a
//! person knows what was bridged: the bridge stops and says what to type.
//!
//! **In**: an entry of the outbox becomes an event with an id and a time that follow from the entry,
//! so a redelivered entry is the same event. It is acknowledged, and deleted, when the driver says the
//! event is durable. One that can never be an event goes to `<outbox>:dead` with its reason.
//!
//! It **never** reads the journal but through [`Log`], never decides what is
//! accepted (the core did), never drops an event because Redis is away, full or slow, and never lets
//! such trouble reach a peer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::core::ports::{Log, Seq};
use crate::core::trust::Policy;
use crate::wire::message::Outcome;
use crate::wire::{Envelope, Interests, Keypair, Verified};

mod connection;
mod cursor;
mod egress;
mod fields;
mod intake;
mod outbox;
mod settings;
mod state;
mod trouble;

pub use connection::{place, probe};
pub use settings::{Settings, Timing};
pub use state::{BusState, Condition, Counters};

use state::{Report, Side};
use trouble::Backoff;

/// Events that local programs want published: sealed by this node, in their order.
#[derive(Debug)]
pub struct Publication {
    /// The events.
    pub envelopes: Vec<Verified<Envelope>>,
    /// What became of each, in the same order, once it is decided. Dropped = nothing is known, and
    /// the same bytes come again.
    pub answer: oneshot::Sender<Vec<Outcome>>,
}

/// The daemon's ends of the bridge.
pub struct Ends {
    /// The journal.
    pub log: Arc<dyn Log>,
    /// Its last durable position; wakes the bridge. Closed = shutdown, once all was bridged.
    pub head: watch::Receiver<Seq>,
    /// What this node wants on its bus.
    pub interests: watch::Receiver<Interests>,
    /// What this node thinks of events; asked when they are bridged.
    pub policy: watch::Receiver<Policy>,
    /// Signs what is published here.
    pub key: Arc<Keypair>,
    /// To the driver. Closed = shutdown.
    pub publications: mpsc::Sender<Publication>,
    /// Where the bridge says how it is.
    pub state: watch::Sender<BusState>,
    /// What it did.
    pub counters: Arc<Counters>,
    /// True, or closed, ends the bridge.
    pub shutdown: watch::Receiver<bool>,
}

/// Bridges until shutdown, then finishes what is in hand (an answer of Redis at most 2 s, and the
/// driver's answer to a publication) and returns. Trouble never ends it: it is in [`BusState`].
pub async fn run(settings: Settings, ends: Ends) {
    let settings = Arc::new(settings);
    let Ends { log, head, interests, policy, key, publications, state, counters, shutdown } = ends;
    let known = cursor::Hint::of(&settings.stream).pin(&*log, settings.start);
    let (progress, bridged) = watch::channel(known);
    let report = |side| Report::new(side, place(&settings.url), state.clone());
    let egress = egress::Egress {
        settings: Arc::clone(&settings),
        log,
        head: head.clone(),
        interests,
        policy,
        counters: Arc::clone(&counters),
        report: report(Side::Egress),
        progress,
        shutdown: shutdown.clone(),
    };
    let sealer = outbox::Sealer::new(key, settings.network.clone(), &settings.outbox);
    let intake =
        intake::Intake::new(Arc::clone(&settings), sealer, publications, counters, report(Side::Intake), shutdown);
    let backoff = || Backoff::new(settings.timing, fastrand::Rng::new());
    let intake = async {
        if settings.outbox.is_empty() {
            state.send_modify(|state| state.intake = Condition::Off);
        } else {
            intake.run(backoff()).await;
        }
    };
    tokio::join!(Box::pin(egress.run(backoff())), Box::pin(intake), gauge(head, bridged, state.clone()));
}

/// Keeps the lag in the state up to date, until the egress is gone.
async fn gauge(mut head: watch::Receiver<Seq>, mut bridged: watch::Receiver<Seq>, state: watch::Sender<BusState>) {
    loop {
        let lag = head.borrow_and_update().0.saturating_sub(bridged.borrow_and_update().0);
        state.send_if_modified(|state| std::mem::replace(&mut state.lag, lag) != lag);
        tokio::select! {
            // Dropping either loses nothing: the next round reads both values.
            moved = bridged.changed() => if moved.is_err() { return },
            grown = head.changed() => if grown.is_err() { return },
        }
    }
}

/// Has the daemon asked us to end?
fn has_ended(shutdown: &watch::Receiver<bool>) -> bool {
    *shutdown.borrow() || shutdown.has_changed().is_err()
}

/// Waits; false when the bridge is to end instead.
async fn pause(span: Duration, shutdown: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        // Dropping it loses nothing: a timer.
        () = tokio::time::sleep(span) => true,
        // Dropping it loses nothing: the flag stays.
        _ = shutdown.wait_for(|ended| *ended) => false,
    }
}

#[cfg(test)]
mod tests;
