//! Runs the built program as a person or a script does, each test in a world of its own.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod alarms;
mod config;
mod conflicts;
mod contexts;
mod ending;
mod errors;
mod examples;
mod explain;
mod files;
mod gc;
mod guide;
mod help;
mod json;
mod own_places;
mod owner;
mod policy;
mod recycling;
mod run;
mod running;
mod secrets;
mod session;
mod status;
mod stores;
mod sync;
mod usage;
mod watching;
mod world;
