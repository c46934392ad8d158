//! bus: see the helper's work.
