//! The limit of open files. This program raises it as far as it can; a command gets the original limit.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than this program ever needs.
const ENOUGH: u64 = 1 << 16;

/// The limit that this program was started with, if it was raised.
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit up to the hard limit.
pub(crate) fn raise_open_files() {
    let before = getrlimit(Resource::Nofile);
    let wanted = before.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    let Some(current) = before.current.filter(|current| *current < wanted) else { return };
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: before.maximum }) {
        Ok(()) => drop(BEFORE.set(before)),
        Err(error) => tracing::debug!("no more than {current} files can be open: {error}"),
    }
}

/// Runs `start`, which starts a process, with the original limit.
///
/// Without unsafe code, the limit can't be set in the new process alone. A thread that opens a file at that
/// moment may fail for lack of descriptors, and has to retry as usual.
pub(super) fn with_limit_before<T>(start: impl FnOnce() -> T) -> T {
    let Some(before) = BEFORE.get() else { return start() };
    let raised = getrlimit(Resource::Nofile);
    let lowered = setrlimit(Resource::Nofile, *before).is_ok();
    let started = start();
    if lowered && let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("the limit of open files stays at what it was: {error}");
    }
    started
}
