//! admin: see the helper's work.
