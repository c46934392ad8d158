//! store: see the helper's work.
