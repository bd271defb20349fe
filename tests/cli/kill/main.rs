//! The program is killed right before a system call that changes something: what it leaves behind needs no
//! repair.
//!
//! Each scenario is killed at a sample of these calls. `CTXSYNC_KILLS=500` says how many kills there are for
//! each, and `CTXSYNC_KILLS=all` kills once at each call.
// Elsewhere, programs can't be traced.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod arriving;
mod extracting;
mod mending;
mod place;
mod saving;
mod scenario;
mod working;
