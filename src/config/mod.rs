//! Floor 3: what the operator wrote, checked before anything starts.
//!
//! A configuration is read in layers, each overriding the one before: built-in defaults, one TOML
//! file, `AFFERENT_SECTION__KEY` variables of the environment, `--set section.key=value` flags. All
//! layers go through the same reader, so a key means the same and is refused alike wherever it was
//! written. What comes out is [`Settings`]: typed values that need no second look. No file at all is
//! a valid configuration.
//!
//! How it is driven: [`load`] finds the file and reads it; [`read`] is the same as a function of
//! texts, without a file system, for tests and for `init`. [`load_whole`] also says where each value came from.
//! [`template()`] writes the commented file and [`schema()`] the JSON Schema that [`FIELDS`], the one
//! table of all keys, describes.
//!
//! A mistake of the operator is answered as a compiler would: every mistake at once, each with file,
//! line, column, the line with a caret under the token, why, and what to write instead ([`Mistake`],
//! exit code 78). Unknown keys are refused, with a suggestion. Passwords in URLs are never printed.
//!
//! This room never opens anything but the configuration file, never creates a directory, never talks
//! to the network; whether a Redis answers or a directory is writable is found out by its owner.

mod document;
mod fields;
mod layers;
mod mistake;
mod origin;
mod place;
mod registrar;
mod rules;
mod schema;
mod settings;
mod template;
mod texts;
mod values;

pub use fields::{FIELDS, Field, Kind, Preset};
pub use layers::{FILE_BYTES_MAX, Override, ROUTES_MAX, SPREADS_MAX, ZONES_MAX, load, read, socket_despite};
pub use mistake::{CODES, EXIT_CODE, Mistake, Mistakes, Place, Position};
pub use origin::{Group, Loaded, Origin, Shown, load_whole};
pub use place::{Found, SOCKET_BYTES_MAX, SYSTEM_SOCKET, Surroundings, find, usual_file};
pub use schema::schema;
pub use settings::{
    Admin, Bus, Discovery, Journal, Layout, Limits, Log, LogFormat, Metrics, Node, Peer, Registrar, Route, Settings,
    Spread, Trust,
};
pub use template::template;
pub use values::{BusUrl, NodeName, Rate, RedisUrl};

#[cfg(test)]
mod tests;
