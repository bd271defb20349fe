//! Runs the built program as a person or a script does, each test in a world of its own.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod config;
mod contexts;
mod errors;
mod examples;
mod explain;
mod help;
mod json;
mod policy;
mod run;
mod secrets;
mod sync;
mod usage;
mod world;
