//! The cursors of the journal, as the local API counts and deletes groups of subscribers.

use crate::admin::Cursors;
use crate::core::ports::Seq;
use crate::store::Journal;

impl Cursors for Journal {
    fn all(&self) -> Vec<(String, Seq)> {
        self.cursors()
    }

    fn forget(&self, name: &str) {
        self.forget_cursor(name);
    }
}
