//! The duty of a container's first process that runs no command: to reap what others leave behind.

use super::helper::reaped;
use rustix::process::{WaitOptions, getpid, wait};
use tokio::signal::unix::{SignalKind, signal};

/// Reaps orphans from now on, if this is process 1, to whom they come.
pub(crate) fn reap_orphans() {
    if !getpid().is_init() {
        return;
    }
    let Ok(mut deaths) = signal(SignalKind::child()) else { return };
    tokio::spawn(async move {
        loop {
            // One signal may stand for several deaths.
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                reaped(pid, status);
            }
            if deaths.recv().await.is_none() {
                return;
            }
        }
    });
}
