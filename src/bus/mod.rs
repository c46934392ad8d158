//! The local bus: the bridge between the node's journal and Redis Streams, where applications read
//! and write.
//!
//! ```text
//!   journal  --egress-->  stream `mesh:events`, and one for each route    what this node is interested in
//!               |  `-->   `mesh:events:dead`                              what their readers could not take
//!   driver   <--intake--  stream `mesh:outbox`                            what local programs publish
//!            <--travel--  stream `teleclaude:events`                      what on the bus itself asks to travel
//! ```
//!
//! **Driven by** [`run`], one future for each Redis, which the daemon starts with [`Settings`] and the
//! [`Ends`] it holds, and stops by `shutdown`. It needs no Redis to start: it waits, says so in
//! [`BusState`], and catches up. [`probe`] tells whether there is a Redis at all. People's wishes come
//! as [`Order`]s.
//!
//! **Out**: the journal is the record and Redis a copy of its tail. Each event is appended once: one
//! Lua script moves a cursor, kept in Redis beside the stream, together with the entries. Whatever
//! happens to the connection, to either process or to the memory of Redis, the bridge reads that
//! cursor and goes on from there (`cursor.rs`). When the cursor is lost and the stream is not, only a
//! person knows what was bridged: the bridge stops and says what to type. A [`Layout`] makes the fields
//! of an entry, and catch-up waits for the readers (`pace.rs`).
//!
//! **In**: an entry becomes an event with an id and a time that follow from the entry, so a redelivered
//! one is the same event. It is acknowledged when the driver says the event is durable; in the outbox
//! it is deleted as well. One that can never be an event goes to the dead letters with its reason.
//!
//! It **never** reads the journal but through [`Log`], never decides what is
//! accepted (the core did), never drops an event because Redis is away, full or slow, and never lets
//! such trouble reach a peer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::core::ports::{Log, Seq};
use crate::core::trust::Policy;
use crate::wire::message::Outcome;
use crate::wire::{Envelope, Interests, Keypair, Verified};

mod batch;
mod burials;
mod connection;
mod cursor;
mod dead;
mod egress;
mod history;
mod intake;
mod judge;
mod late;
mod layout;
mod letters;
mod orders;
mod outbox;
mod outlet;
mod pace;
mod settings;
mod state;
mod travel;
mod trouble;

/// What bounds this room, for whoever prints it.
pub mod bounds {
    pub use super::batch::{BYTES_MAX, ENTRIES_MAX, SKIPPED_MAX};
    pub use super::dead::{ENTRY_BYTES_MAX, ENTRY_FIELDS_MAX, ENTRY_NAME_MAX, LETTERS_MAX};
    pub use super::egress::MISSES_MAX;
    pub use super::history::ERAS_MAX;
    pub use super::intake::RETRY_MAX;
    pub use super::late::LATE_MAX;
    pub use super::layout::teleclaude::VERSION_DIGITS_MAX;
    pub use super::letters::ABOUT_MAX;
    pub use super::outbox::{EXTENSION_BYTES_MAX, FIELDS_MAX};
    pub use super::trouble::TEXT_MAX;
}

pub use connection::{place, probe};
pub use dead::{Cause, Kind};
pub use history::{Era, History};
pub use late::Spread;
pub use layout::{Layout, Mapping};
pub use orders::{Answer, Mended, Order, Placed, Refusal, Retried};
pub use outlet::{Routing, Takes, streams};
pub use settings::{Route, Settings, Timing};
pub use state::{BusState, Condition, Counters, StreamState};

use intake::{Intake, Source};
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
    /// What people ask of the bridge.
    pub orders: mpsc::Receiver<Order>,
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
    let Ends { log, head, interests, policy, key, publications, orders, state, counters, shutdown } = ends;
    let outlets: Vec<Arc<outlet::Outlet>> = outlet::outlets(&settings).into_iter().map(Arc::new).collect();
    let pin = |outlet: &Arc<outlet::Outlet>| cursor::Hint::of(&outlet.stream).pin(&*log, settings.start, None);
    let (progress, bridged) = watch::channel(outlets.iter().map(pin).collect());
    state.send_modify(|state| {
        let named =
            |outlet: &Arc<outlet::Outlet>| StreamState { name: outlet.stream.clone(), ..StreamState::default() };
        state.streams = outlets.iter().map(named).collect();
    });
    let report = |side| Report::new(side, place(&settings.url), state.clone());
    let mended = Arc::new(Notify::new());
    let egress = |(number, outlet): (usize, &Arc<outlet::Outlet>)| {
        let egress = egress::Egress {
            burials: burials::Burials::of(&outlet.stream),
            settings: Arc::clone(&settings),
            outlet: Arc::clone(outlet),
            number,
            log: Arc::clone(&log),
            head: head.clone(),
            interests: interests.clone(),
            policy: policy.clone(),
            counters: Arc::clone(&counters),
            report: report(Side::Egress(number)),
            progress: progress.clone(),
            mended: Arc::clone(&mended),
            late: late::Late::default(),
            is_new: true,
            shutdown: shutdown.clone(),
        };
        Box::pin(egress.run(Backoff::new(settings.timing, fastrand::Rng::new())))
    };
    let egresses = join_all(outlets.iter().enumerate().map(egress));
    drop(progress);
    let desk =
        orders::Desk::new(Arc::clone(&settings), outlets.clone(), &log, policy.clone(), &key, &publications, &mended);
    let intake = |side, source: Option<Source>| {
        let (settings, log, counters) = (Arc::clone(&settings), Arc::clone(&log), Arc::clone(&counters));
        let (publications, report, shutdown) = (publications.clone(), report(side), shutdown.clone());
        let backoff = Backoff::new(settings.timing, fastrand::Rng::new());
        Box::pin(async move {
            match source {
                None => report.off(),
                Some(source) => {
                    let intake = Intake::new(settings, source, log, publications, counters, report, shutdown);
                    intake.run(backoff).await;
                }
            }
        })
    };
    tokio::join!(
        egresses,
        intake(Side::Intake, Source::outbox(&settings, &key, &log)),
        intake(Side::Travel, Source::bus(&settings, &key)),
        Box::pin(desk.serve(orders, shutdown.clone())),
        gauge(head.clone(), bridged, state.clone()),
    );
}

/// Remembers where this stream begins, unless that is known, and keeps the journal from there on. With
/// `renamed_at` it takes over from another stream of this node: what precedes that went there, and is
/// not for this one whatever Redis holds of it. Without, it begins at `start` as [`Settings::start`] says.
pub fn pin(log: &dyn Log, stream: &str, start: Seq, renamed_at: Option<Seq>) {
    cursor::Hint::of(stream).pin(log, start, renamed_at);
}

/// Keeps the lag in the state up to date, until the last egress is gone.
async fn gauge(mut head: watch::Receiver<Seq>, mut bridged: watch::Receiver<Vec<Seq>>, state: watch::Sender<BusState>) {
    loop {
        let slowest = bridged.borrow_and_update().iter().copied().min().unwrap_or_default();
        let lag = head.borrow_and_update().0.saturating_sub(slowest.0);
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
