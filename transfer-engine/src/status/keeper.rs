//! Updates the status of one task while its sync runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use policy_core::Timestamp;

use super::board::Urgency;
use super::{StatusBoard, TaskState, TaskStatus, TaskType, nanos, rfc3339};
use crate::count::count;
use crate::error::Error;
use crate::monitor::{Monitor, PathEvent, PathProblem, Phase, Progress};
use crate::report::SyncReport;
use crate::usage::Usage;

/// How many errors and warnings of a task are kept.
const MAX_MESSAGES: usize = 100;
/// The interval over which the throughput is measured, in nanoseconds.
const WINDOW_NANOS: i128 = 1_000_000_000;

/// Forwards everything to another monitor, and updates the task's row in the mount's status.
///
/// If it is dropped without [`finish`](Self::finish), the task counts as interrupted.
pub(crate) struct StatusKeeper<'a> {
    inner: &'a dyn Monitor,
    board: StatusBoard,
    /// The owner number of the task's row; `None` for a dry run, and after the end.
    owner: Option<u64>,
    began: Timestamp,
    /// When the throughput was last measured, and the number of bytes at that time.
    mark: Mutex<(Timestamp, u64)>,
    is_sending: AtomicBool,
}

impl<'a> StatusKeeper<'a> {
    pub(crate) fn start(
        inner: &'a dyn Monitor,
        board: &StatusBoard,
        context: &str,
        path: &std::path::Path,
        session: &str,
        task_type: TaskType,
    ) -> Self {
        let began = board.now();
        let task = TaskStatus {
            status: TaskState::Running,
            start_time: Some(rfc3339(began)),
            phase: Phase::Opening.to_string(),
            ..TaskStatus::waiting(session, context, path, task_type)
        };
        let owner = board.take_over(task);
        board.flush();
        Self {
            inner,
            board: board.clone(),
            owner: Some(owner),
            began,
            mark: Mutex::new((began, 0)),
            is_sending: AtomicBool::new(false),
        }
    }

    /// Forwards everything, but has no row: a dry run is not a sync.
    pub(crate) fn of_plan(inner: &'a dyn Monitor, board: &StatusBoard) -> Self {
        let began = board.now();
        Self {
            inner,
            board: board.clone(),
            owner: None,
            began,
            mark: Mutex::new((began, 0)),
            is_sending: AtomicBool::new(false),
        }
    }

    fn update(&self, urgency: Urgency, change: impl FnOnce(&mut TaskStatus)) {
        if let Some(owner) = self.owner {
            self.board.update(owner, urgency, change);
        }
    }

    /// Adds warnings that the user has already seen.
    #[must_use]
    pub(crate) fn with_warnings(self, warnings: Vec<String>) -> Self {
        for warning in warnings {
            self.update(Urgency::High, |task| keep(&mut task.warnings, || warning));
        }
        self
    }

    /// Writes how the task ended, and completes its report.
    pub(crate) fn finish(
        mut self,
        mut result: Result<SyncReport, Error>,
        usage: Usage,
    ) -> Result<SyncReport, Error> {
        self.phase(Phase::Done);
        if let Ok(report) = &mut result {
            report.note_usage(usage);
        }
        self.end(|task| match &result {
            Ok(report) => {
                task.error_message = shortcoming(report);
                if task.error_message.is_none() {
                    task.status = TaskState::Success;
                }
                (task.pending, task.withheld) = (report.pending, report.withheld);
                task.snapshot = report.snapshot;
            }
            Err(e) => task.error_message = Some(crate::error::chain(e)),
        });
        result
    }

    fn end(&mut self, say: impl FnOnce(&mut TaskStatus)) {
        let Some(owner) = self.owner.take() else { return };
        let (began, now) = (nanos(self.began), self.board.now());
        self.board.update(owner, Urgency::Final, |task| {
            task.finish_time = Some(rfc3339(now));
            task.status = TaskState::Failed;
            // Totals may have been estimated or unknown; now they are exact.
            (task.total_files, task.total_bytes) = (task.files_done, task.bytes_done);
            task.throughput = rate(task.bytes_done, nanos(now) - began);
            say(task);
        });
    }

    fn rate_now(&self, bytes: u64) -> Option<u64> {
        let now = self.board.now();
        let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        let (then, had) = *mark;
        // Each phase starts at zero.
        if bytes < had {
            *mark = (now, bytes);
            return None;
        }
        let took = nanos(now) - nanos(then);
        (took >= WINDOW_NANOS).then(|| {
            *mark = (now, bytes);
            rate(bytes - had, took)
        })
    }
}

impl Drop for StatusKeeper<'_> {
    fn drop(&mut self) {
        self.end(|task| task.error_message = Some("interrupted".to_owned()));
    }
}

/// Returns why a sync that ended was incomplete.
fn shortcoming(report: &SyncReport) -> Option<String> {
    if report.stopped_by_conflict {
        Some(format!("stopped by {} conflicts", report.conflicts))
    } else if report.partial {
        Some("the deadline came before everything was sent; the snapshot is partial".to_owned())
    } else if report.nothing_in_scope {
        Some("the white lists match nothing, although there are files".to_owned())
    } else if report.quiesce_failed {
        Some("what writes to the mount was not quiesced, or not resumed".to_owned())
    } else if report.failed > 0 {
        Some(format!("{} failed", count(report.failed, "path")))
    } else if report.unsettled > 0 {
        Some(format!("a push has to keep both versions of {}", count(report.unsettled, "path")))
    } else {
        None
    }
}

fn rate(bytes: u64, nanos: i128) -> u64 {
    if nanos <= 0 {
        return 0;
    }
    u64::try_from(i128::from(bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

impl Monitor for StatusKeeper<'_> {
    fn phase(&self, phase: Phase) {
        self.is_sending.store(phase == Phase::Sending, Ordering::Relaxed);
        self.update(Urgency::High, |task| task.phase = phase.to_string());
        self.inner.phase(phase);
    }

    fn progress(&self, progress: &Progress) {
        if self.is_sending.load(Ordering::Relaxed) {
            // The status counts files and their contents; these are packs.
            return self.inner.progress(progress);
        }
        let throughput = self.rate_now(progress.bytes_done);
        self.update(Urgency::Low, |task| {
            task.files_done = progress.files_done;
            task.total_files = progress.total_files;
            task.bytes_done = progress.bytes_done;
            task.total_bytes = progress.total_bytes;
            task.throughput = throughput.unwrap_or(task.throughput);
        });
        self.inner.progress(progress);
    }

    fn path(&self, event: &PathEvent<'_>) {
        self.inner.path(event);
    }

    fn warning(&self, warning: &str) {
        self.update(Urgency::High, |task| keep(&mut task.warnings, || warning.to_owned()));
        self.inner.warning(warning);
    }

    fn problem(&self, problem: &PathProblem) {
        self.update(Urgency::Low, |task| {
            keep(&mut task.errors, || format!("{}: {}", problem.path, problem.message));
        });
        self.inner.problem(problem);
    }
}

fn keep(messages: &mut Vec<String>, message: impl FnOnce() -> String) {
    if messages.len() < MAX_MESSAGES {
        messages.push(message());
    }
}
