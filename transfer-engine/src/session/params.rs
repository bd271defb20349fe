//! Parameters and results of sessions.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use policy_core::TreePath;
use tokio::time::Instant;

use crate::count::count;
use crate::error::Error;
use crate::format::ContextName;
use crate::monitor::{Monitor, Silent};
use crate::mount::{ContextPart, ContextSync};
use crate::options::SyncOptions;
use crate::report::{Direction, SyncReport};
use crate::status::{TaskStatus, TaskType};

/// The parameters of [`Session::create`](super::Session::create).
#[derive(Clone)]
pub struct CreateSessionParams {
    /// The mounts. None may contain another.
    pub context_syncs: Vec<ContextSync>,
    /// The directory with the state of all mounts.
    pub state_dir: PathBuf,
    /// The options of the session's syncs. With `create`, missing contexts are created. `session` is replaced
    /// by the session's id; `deadline` is set by the release.
    pub options: SyncOptions,
    /// The session's id; `None` for a random one.
    pub session_id: Option<String>,
    /// With `UploadOnChange`, how often everything is scanned for changes without an event, such as writes to
    /// a mapped file. The interval is longer if the scans would take more than a hundredth of one core.
    /// `None` means never.
    pub safety_scan: Option<Duration>,
    /// Receives the events of the session's syncs.
    pub monitor: Arc<dyn SessionMonitor>,
}

impl CreateSessionParams {
    /// Returns parameters for these mounts, with which missing contexts are created and no events are
    /// received.
    pub fn new(context_syncs: Vec<ContextSync>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            context_syncs,
            state_dir: state_dir.into(),
            options: SyncOptions { create: true, ..SyncOptions::default() },
            session_id: None,
            safety_scan: Some(Duration::from_secs(30)),
            monitor: Arc::new(Silent),
        }
    }
}

impl std::fmt::Debug for CreateSessionParams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateSessionParams")
            .field("context_syncs", &self.context_syncs)
            .field("state_dir", &self.state_dir)
            .field("options", &self.options)
            .field("session_id", &self.session_id)
            .field("safety_scan", &self.safety_scan)
            .finish_non_exhaustive()
    }
}

/// Returns a [`Monitor`] for each task of a session.
pub trait SessionMonitor: Send + Sync {
    /// Returns the monitor for the pushes, or for the pulls, of one mount. It is called once for each.
    fn of(&self, sync: &ContextSync, task: TaskType) -> Arc<dyn Monitor>;
}

impl SessionMonitor for Silent {
    fn of(&self, _: &ContextSync, _: TaskType) -> Arc<dyn Monitor> {
        Arc::new(Silent)
    }
}

/// What [`Session::wait_for`](super::Session::wait_for) waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// Everything that is pulled in the background, at every mount.
    All,
    /// Paths of one mount, and what is below them. They are pulled first.
    Paths {
        /// The mount's path.
        mount: PathBuf,
        /// The paths, relative to the mount.
        paths: Vec<TreePath>,
    },
}

/// Which mounts a manual sync covers, and its direction.
#[derive(Debug, Clone)]
pub struct SyncParams {
    /// Only mounts of this context.
    pub context_id: Option<ContextName>,
    /// Only the mount at this path.
    pub path: Option<PathBuf>,
    /// Push, pull, or both.
    pub mode: Direction,
}

impl Default for SyncParams {
    /// Returns parameters for pushing the whole session.
    fn default() -> Self {
        Self { context_id: None, path: None, mode: Direction::Upload }
    }
}

/// The result for one mount.
#[derive(Debug, Clone)]
pub struct MountResult {
    /// The context's id, which is its name.
    pub context_id: ContextName,
    /// The part of the context that the mount has; the root stands for the whole context.
    pub part: TreePath,
    /// The mount's path.
    pub path: PathBuf,
    /// The figures; `None` if there was nothing to do, or if the sync failed.
    pub report: Option<SyncReport>,
    /// The error. Callers that shared one sync share it.
    pub error: Option<Arc<Error>>,
}

impl MountResult {
    /// Returns what is mounted, under the context's current name.
    pub fn place(&self) -> ContextPart {
        ContextPart { context: self.context_id.clone(), path: self.part.clone() }
    }

    /// Whether the sync was complete. Conflicts for which a copy was kept are no failure.
    pub fn success(&self) -> bool {
        self.error.is_none()
            && self.report.as_ref().is_none_or(|r| !r.is_incomplete() && !r.stopped_by_conflict)
    }

    /// Returns why the sync was not complete.
    pub fn error_message(&self) -> Option<String> {
        if self.success() {
            return None;
        }
        let what = match (&self.error, &self.report) {
            (Some(error), _) => crate::error::chain(error),
            (None, Some(report)) if report.stopped_by_conflict => {
                format!("stopped by {} conflicts", report.conflicts)
            }
            (None, Some(report)) if report.partial => {
                "the deadline came before everything was sent".to_owned()
            }
            (None, Some(report)) if report.nothing_in_scope => "the white lists match nothing".to_owned(),
            (None, Some(report)) if report.quiesce_failed => {
                "what writes to the mount was not quiesced, or not resumed".to_owned()
            }
            (None, report) => {
                format!("{} failed", count(report.as_ref().map_or(0, |r| r.failed), "path"))
            }
        };
        Some(format!("{}: {what}", self.path.display()))
    }
}

/// The result of a manual sync, with the guide's fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ContextSyncResult {
    /// Whether the sync of every mount was complete.
    pub success: bool,
    /// What went wrong, for each mount.
    pub error_message: Option<String>,
    /// One result for each mount.
    pub mounts: Vec<MountResult>,
}

impl From<Vec<MountResult>> for ContextSyncResult {
    fn from(mounts: Vec<MountResult>) -> Self {
        let (success, error_message) = summary(&mounts);
        Self { success, error_message, mounts }
    }
}

impl ContextSyncResult {
    /// Returns the result of a sync in which no mount took part.
    pub(super) fn refused(error: &Error) -> Self {
        Self { success: false, error_message: Some(error.to_string()), mounts: Vec::new() }
    }
}

/// The options of a release.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReleaseOptions {
    /// Pushes even if the policy's `autoUpload` is off. Read-only mounts are never pushed.
    pub sync_context: bool,
    /// The deadline: what is in the store shortly before is committed as a partial snapshot.
    pub deadline: Option<Instant>,
}

/// The result of a session's release.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Released {
    /// One result for each mount; without a report if the policy pushes nothing.
    pub mounts: Vec<MountResult>,
}

/// The result of the deletion of a session, with the guide's fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeleteResult {
    /// Whether everything was pushed that should be.
    pub success: bool,
    /// What went wrong, for each mount.
    pub error_message: Option<String>,
    /// One result for each mount.
    pub mounts: Vec<MountResult>,
}

impl From<Released> for DeleteResult {
    fn from(released: Released) -> Self {
        let (success, error_message) = summary(&released.mounts);
        Self { success, error_message, mounts: released.mounts }
    }
}

fn summary(mounts: &[MountResult]) -> (bool, Option<String>) {
    let messages: Vec<String> = mounts.iter().filter_map(MountResult::error_message).collect();
    (messages.is_empty(), (!messages.is_empty()).then(|| messages.join("; ")))
}

/// One row of a session's status, with the guide's fields and more.
pub type ContextStatusData = TaskStatus;

/// The state of a session's tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContextInfo {
    /// One row for each mount and task.
    pub context_status_data: Vec<ContextStatusData>,
}

/// Whether one of two paths is the other or is below it. Both are absolute and free of links.
pub(super) fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}
