//! What the core wants written down of peers and of everybody it heard of; whoever waits for it is told.

use tokio::task::block_in_place;

use super::driver::{Driver, STORAGE, Waiting};
use crate::admin::{Fault, FaultCode};
use crate::core::ports::{SavedBook, SavedPeer, Ticket};
use crate::store::{StoreError, book, peers};

impl Driver {
    /// In line with everything else, since an event that is stored next may be owed to a peer that
    /// is new in this file. A peer file is small and changes rarely.
    pub(super) fn save_peers(&mut self, ticket: Option<Ticket>, peers: Vec<SavedPeer>) {
        let saved = block_in_place(|| peers::save(&self.hands.dir.peers_path(), &peers));
        if let Err(error) = &saved {
            tracing::error!(
                number = STORAGE,
                "the peer file is not saved, and will be tried again in a minute: {error}"
            );
        }
        self.unsaved = saved.is_err().then_some(peers);
        self.tell_saved(ticket, saved);
    }

    fn tell_saved(&mut self, ticket: Option<Ticket>, saved: Result<(), StoreError>) {
        if let Some(Waiting::Saved(asker)) = ticket.and_then(|ticket| self.waiting.remove(&ticket)) {
            let _ = asker.send(saved.map_err(|error| Fault::new(FaultCode::Storage, error.to_string())));
        }
    }

    /// Nobody waits for it but a person who blocks somebody.
    pub(super) fn save_book(&mut self, ticket: Option<Ticket>, book: SavedBook) {
        let saved = block_in_place(|| book::save(&self.hands.dir.book_path(), &book));
        if let Err(error) = &saved {
            tracing::warn!(
                number = STORAGE,
                "the book of known nodes is not saved, and will be tried again in a minute: {error}"
            );
        }
        self.unsaved_book = saved.is_err().then_some(book);
        self.tell_saved(ticket, saved);
    }
}
