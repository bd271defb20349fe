//! Runs the built program as a person or a script does, each test in a world of its own.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod alarms;
mod background;
mod branches;
mod check;
mod config;
mod conflicts;
mod contexts;
mod copy;
mod ending;
mod errors;
mod examples;
mod explain;
mod files;
mod full;
mod gc;
mod guide;
mod help;
mod hostile;
mod json;
mod limits;
mod live;
mod network;
mod own_places;
mod owner;
mod policy;
mod quiesce;
mod recycling;
mod refused;
mod renamed;
mod required;
mod run;
mod running;
mod secrets;
mod session;
mod signals;
mod status;
mod stores;
mod sync;
mod tags;
mod terminal;
mod usage;
mod watching;
mod without;
mod world;
