//! Facts about a running command, for the summary if it is ended early.

use std::sync::{Mutex, MutexGuard, PoisonError};

use transfer_engine::{Action, Store, SyncReport, Usage};

/// What a command works on, and what it has reported so far.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Facts>);

#[derive(Debug, Default)]
struct Facts {
    context: Option<String>,
    stores: Vec<Store>,
    failed: u64,
    guards: Guards,
    conflicts: Vec<String>,
    held_back: Vec<String>,
}

/// How many paths are named in one line.
pub(super) const FEW: usize = 5;

/// Names the first of so many paths.
pub(super) fn named(paths: &[String], all: usize) -> String {
    let named: Vec<_> = paths.iter().take(FEW).map(|path| format!("`{path}`")).collect();
    let more = match all.saturating_sub(named.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    named.join(", ") + &more
}

/// The guards that held deletions back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Guards {
    /// The mount counts as lost.
    pub(crate) lost_mount: bool,
    /// The number of deletions that exceeded the limit.
    pub(crate) too_many: Option<u64>,
}

impl Known {
    /// Notes the command's context.
    pub(crate) fn note_context(&self, name: &impl ToString) {
        self.lock().context = Some(name.to_string());
    }

    /// Notes the command's store, which counts its requests.
    pub(crate) fn note_store(&self, store: &Store) {
        self.lock().stores.push(store.clone());
    }

    /// Counts a path that failed.
    pub(super) fn note_problem(&self) {
        self.lock().failed += 1;
    }

    /// Notes which guard a warning is about: a report only counts the deletions that guards held back.
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

    /// Notes a path in conflict, or one whose deletion was held back, so that the result names it.
    pub(super) fn note_path(&self, action: Action, reason: &str, path: String) {
        let mut facts = self.lock();
        let paths = match action {
            Action::Conflict => &mut facts.conflicts,
            Action::Keep if reason.contains("held back") => &mut facts.held_back,
            _ => return,
        };
        // The pull and the push of one sync may both report it.
        if paths.len() < FEW && !paths.contains(&path) {
            paths.push(path);
        }
    }

    /// Returns the first paths in conflict, and the first whose deletion was held back, since the last call.
    pub(super) fn take_paths(&self) -> (Vec<String>, Vec<String>) {
        let mut facts = self.lock();
        (std::mem::take(&mut facts.conflicts), std::mem::take(&mut facts.held_back))
    }

    /// Returns which guards held deletions back so far.
    pub(crate) fn guards(&self) -> Guards {
        self.lock().guards
    }

    /// Returns the context, if any was noted.
    pub(crate) fn context(&self) -> Option<String> {
        self.lock().context.clone()
    }

    /// Returns the requests and bytes so far.
    pub(crate) fn usage(&self) -> Usage {
        self.lock().stores.iter().map(Store::usage).sum()
    }

    /// Returns the figures of a command that has no report.
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

/// Adds the requests and bytes to a report.
pub(crate) fn note_usage(report: &mut SyncReport, usage: Usage) {
    report.requests = usage.requests;
    report.bytes_sent = usage.bytes_sent;
    report.bytes_received = usage.bytes_received;
}
