//! What is known of a command's work while it goes on, for the summary of one that is ended early.

use std::sync::{Mutex, MutexGuard, PoisonError};

use transfer_engine::{Store, SyncReport, Usage};

/// What a command works on and has met so far.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Facts>);

#[derive(Debug, Default)]
struct Facts {
    context: Option<String>,
    store: Option<Store>,
    failed: u64,
    guards: Guards,
}

/// Which guards held deletions back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Guards {
    /// The mount was taken as lost.
    pub(crate) lost_mount: bool,
    /// So many were more than allowed.
    pub(crate) too_many: Option<u64>,
}

impl Known {
    /// Notes the context that the command is about.
    pub(crate) fn note_context(&self, name: &impl ToString) {
        self.lock().context = Some(name.to_string());
    }

    /// Notes the store that the command talks to, which counts its requests.
    pub(crate) fn note_store(&self, store: &Store) {
        self.lock().store = Some(store.clone());
    }

    /// Counts a path that failed.
    pub(super) fn note_problem(&self) {
        self.lock().failed += 1;
    }

    /// Notes what a warning says of guards: a report counts what they held back, and not which it was.
    pub(super) fn note_warning(&self, warning: &str) {
        let mut facts = self.lock();
        facts.guards.lost_mount |=
            warning.contains("treating it as lost") || warning.contains("the mount directory is gone");
        if warning.contains("more than the deletion guard allows") {
            let digits: String = warning.chars().skip_while(|c| !c.is_ascii_digit()).collect();
            let count = digits.split(' ').next().and_then(|count| count.parse().ok());
            facts.guards.too_many = facts.guards.too_many.max(count);
        }
    }

    /// Returns which guards held deletions back so far.
    pub(crate) fn guards(&self) -> Guards {
        self.lock().guards
    }

    /// Returns the context, if any was noted.
    pub(crate) fn context(&self) -> Option<String> {
        self.lock().context.clone()
    }

    /// Returns what was asked of the store so far.
    pub(crate) fn usage(&self) -> Usage {
        self.lock().store.as_ref().map(Store::usage).unwrap_or_default()
    }

    /// Returns the figures of a command that came to no report.
    pub(crate) fn report(&self) -> SyncReport {
        let failed = self.lock().failed;
        let usage = self.usage();
        let mut report = SyncReport { failed, ..SyncReport::default() };
        note_usage(&mut report, usage);
        report
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what was asked of the store into a report.
pub(crate) fn note_usage(report: &mut SyncReport, usage: Usage) {
    report.requests = usage.requests;
    report.bytes_sent = usage.bytes_sent;
    report.bytes_received = usage.bytes_received;
}
