//! Each name is a claim about the journal.

mod answers;
mod fixture;
