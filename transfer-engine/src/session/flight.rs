//! Syncs that several callers wait for.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::Error;
use crate::report::SyncReport;

/// How a sync ended, for all who waited.
pub(super) type SyncResult = Result<SyncReport, Arc<Error>>;

/// A sync that is under way, or will be, or was. Clones wait for the same.
#[derive(Clone)]
pub(super) struct Flight {
    outcome: watch::Receiver<Option<SyncResult>>,
    began: watch::Receiver<bool>,
}

/// What a sync reports to its [`Flight`].
pub(super) struct Pilot {
    pub(super) outcome: watch::Sender<Option<SyncResult>>,
    pub(super) began: watch::Sender<bool>,
}

impl Flight {
    pub(super) fn new() -> (Pilot, Self) {
        let (outcome, outcome_of) = watch::channel(None);
        let (began, began_of) = watch::channel(false);
        (Pilot { outcome, began }, Self { outcome: outcome_of, began: began_of })
    }

    /// Returns how it ended, if it has.
    pub(super) fn outcome(&self) -> Option<SyncResult> {
        self.outcome.borrow().clone()
    }

    /// Whether it is still to come to an end.
    pub(super) fn is_open(&self) -> bool {
        self.outcome.borrow().is_none() && self.outcome.has_changed().is_ok()
    }

    /// Whether it has begun to look at the mount: what changes there from now on it may not see.
    pub(super) fn has_begun(&self) -> bool {
        *self.began.borrow()
    }

    /// Waits for the end; `None` where it was broken off.
    pub(super) async fn wait(&self) -> Option<SyncResult> {
        let mut outcome = self.outcome.clone();
        let ended = outcome.wait_for(Option::is_some).await.ok()?;
        ended.clone()
    }

    /// Waits until the head is found, or everything is over.
    pub(super) async fn onset(&self) {
        let mut began = self.began.clone();
        tokio::select! {
            // The sender goes when the sync ends.
            _ = began.wait_for(|began| *began) => {}
            _ = self.wait() => {}
        }
    }
}

/// The syncs of one mount in one direction: one that runs, and one that stands in line behind it.
#[derive(Default)]
pub(super) struct Flights {
    pub(super) running: Option<Flight>,
    pub(super) next: Option<Flight>,
}

/// Whether a sync that followed another found that there was nothing left to do.
pub(super) fn adds_nothing(earlier: &SyncReport, later: &SyncReport) -> bool {
    let did = later.added + later.changed + later.deleted + later.conflicts;
    did == 0
        && later.parent.is_none()
        && later.snapshot == earlier.snapshot
        && (later.failed, later.pending, later.held_back, later.unmounted)
            == (earlier.failed, earlier.pending, earlier.held_back, earlier.unmounted)
        && (later.is_incomplete(), later.stopped_by_conflict)
            == (earlier.is_incomplete(), earlier.stopped_by_conflict)
}
