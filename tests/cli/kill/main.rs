//! The program is killed right before a system call that changes something, or a system call fails: what it
//! leaves behind needs no repair.
//!
//! Each scenario is disturbed at a sample of these calls. `CTXSYNC_KILLS=500` says how often each is killed, and
//! `CTXSYNC_ERRORS=500` how often a call fails; `all` does it once at each call.
// Elsewhere, programs can't be traced.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod arriving;
mod branching;
mod clearing;
mod extracting;
mod failing;
mod mending;
mod place;
mod placing;
mod refusing;
mod saving;
mod scenario;
mod storing;
mod working;
