//! Syncs that several callers wait for.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::Error;
use crate::report::SyncReport;

/// The result of a sync, for all callers that wait.
pub(super) type SyncResult = Result<SyncReport, Arc<Error>>;

/// A sync that is running, queued or finished. Clones wait for the same sync.
#[derive(Clone)]
pub(super) struct Flight {
    outcome: watch::Receiver<Option<SyncResult>>,
    began: watch::Receiver<bool>,
}

/// The sending side of a [`Flight`].
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

    /// Returns the result, if there is one.
    pub(super) fn outcome(&self) -> Option<SyncResult> {
        self.outcome.borrow().clone()
    }

    /// Whether the sync has not ended yet.
    pub(super) fn is_open(&self) -> bool {
        self.outcome.borrow().is_none() && self.outcome.has_changed().is_ok()
    }

    /// Whether the sync has started to read the mount: it may miss later changes.
    pub(super) fn has_begun(&self) -> bool {
        *self.began.borrow()
    }

    /// Waits for the result; `None` if the sync was aborted.
    pub(super) async fn wait(&self) -> Option<SyncResult> {
        let mut outcome = self.outcome.clone();
        let ended = outcome.wait_for(Option::is_some).await.ok()?;
        ended.clone()
    }

    /// Waits until the head is found, or the sync has ended.
    pub(super) async fn onset(&self) {
        let mut began = self.began.clone();
        tokio::select! {
            biased;
            // The sender is dropped when the sync ends.
            _ = began.wait_for(|began| *began) => {}
            _ = self.wait() => {}
        }
    }
}

/// The syncs of one mount in one direction: one that is running, and one that is queued.
#[derive(Default)]
pub(super) struct Flights {
    pub(super) running: Option<Flight>,
    pub(super) next: Option<Flight>,
}

/// Whether a sync that followed another had nothing left to do.
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
