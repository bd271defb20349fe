//! A container's first process has to reap orphans, even if it runs no command.

use super::helper::reaped;
use rustix::process::{WaitOptions, getpid, wait};
use tokio::signal::unix::{SignalKind, signal};

/// Starts to reap orphans if this is process 1, whose children they become.
pub(crate) fn reap_orphans() {
    if !getpid().is_init() {
        return;
    }
    let Ok(mut deaths) = signal(SignalKind::child()) else { return };
    tokio::spawn(async move {
        loop {
            // One signal may stand for several ended processes.
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                reaped(pid, status);
            }
            if deaths.recv().await.is_none() {
                return;
            }
        }
    });
}
