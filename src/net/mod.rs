//! net: see the helper's work.
