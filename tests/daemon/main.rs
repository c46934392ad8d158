//! Real daemons as child processes, real Redis servers, real kills: the promises as a user meets them.
//! Everything listens on loopback, on free ports, in temporary directories.

mod asking;
mod bad_input;
mod bench;
mod book;
mod bus;
mod catch_up;
mod claims;
mod configuration;
mod crossing;
mod discovery;
mod disk;
mod dns;
mod kills;
mod leaving;
mod logs;
mod meeting;
mod metrics;
mod neighbours;
mod people;
mod policy;
mod publishing;
mod registrar;
mod schemas;
mod service;
mod support;
mod teleclaude;
mod telling;
mod trust;
mod turns;
mod typed;
#[path = "../validator/mod.rs"]
mod validator;
mod view;
