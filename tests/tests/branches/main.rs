//! Contexts that begin as others: forks, reverts and merges.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod ancestors;
mod beside;
mod diffs;
mod forks;
mod logs;
mod merges;
mod merging;
mod reverts;
