//! Each name is a claim about the journal.

mod answers;
mod claims;
mod damage;
mod engine;
mod fixture;
mod full;
mod killed;
mod model;
mod reading;
mod retention;
