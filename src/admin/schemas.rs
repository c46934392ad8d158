//! The schemas of what the API answers: the files of `schemas/`, one for each thing.
//!
//! To add one: write `schemas/<thing>.json` with examples, one a line, and name it in [`SCHEMAS`].
//! `tests/schemas.rs` then asks for the rest.

macro_rules! schemas {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../schemas/", $name, ".json")))),+]
    };
}

/// Name and text of every schema, JSON Schema 2020-12.
pub const SCHEMAS: &[(&str, &str)] = schemas![
    "arrival",
    "asked",
    "bench",
    "change",
    "codes",
    "config",
    "config-check",
    "dead",
    "discovery",
    "event",
    "explain",
    "group",
    "groups",
    "id",
    "identified",
    "init",
    "interests",
    "keys",
    "left",
    "letter",
    "limits",
    "match",
    "mended",
    "peer",
    "peer-change",
    "peers",
    "ping",
    "problem",
    "progress",
    "publish",
    "ready",
    "record",
    "retried",
    "simulation",
    "status",
    "trust",
];

/// What a schema calls another one by: this, its name, `:1`.
pub const SCHEMA_URN: &str = "urn:afferent:schema:";
