//! config: see the helper's work.
