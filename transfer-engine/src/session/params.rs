//! What a session is made of, asked for, and answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use policy_core::TreePath;
use tokio::time::Instant;

use crate::error::Error;
use crate::format::ContextName;
use crate::monitor::{Monitor, Silent};
use crate::mount::ContextSync;
use crate::options::SyncOptions;
use crate::report::{Direction, SyncReport};
use crate::status::{TaskStatus, TaskType};

/// What [`Session::create`](super::Session::create) is to open.
#[derive(Clone)]
pub struct CreateSessionParams {
    /// The mounts. None may contain another.
    pub context_syncs: Vec<ContextSync>,
    /// Where the state of all mounts is kept.
    pub state_dir: PathBuf,
    /// How the session's syncs are carried out. With `create`, contexts that are missing are made. `session`
    /// is set to the session's id, and `deadline` is the release's to set.
    pub options: SyncOptions,
    /// The session's id; a random one without.
    pub session_id: Option<String>,
    /// With `UploadOnChange`, how often everything is looked over for what the system tells nothing of, such as a
    /// mapping that is written to. Less often where that would take more than a hundredth of one core. `None`: never.
    pub safety_scan: Option<Duration>,
    /// Is told what the session's syncs do.
    pub monitor: Arc<dyn SessionMonitor>,
}

impl CreateSessionParams {
    /// Asks for a session on these mounts that makes missing contexts and keeps silent.
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

/// Gives out a [`Monitor`] for each task of a session.
pub trait SessionMonitor: Send + Sync {
    /// Returns who is told of the uploads, or the downloads, of one mount. It is asked once for each.
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
    /// Everything that comes by itself, at every mount.
    All,
    /// Paths of one mount, and what is below them. They go to the front.
    Paths {
        /// The mount's path.
        mount: PathBuf,
        /// The paths, relative to the mount.
        paths: Vec<TreePath>,
    },
}

/// Which mounts a manual sync is about, and in which direction.
#[derive(Debug, Clone)]
pub struct SyncParams {
    /// Only mounts of this context.
    pub context_id: Option<ContextName>,
    /// Only the mount at this path.
    pub path: Option<PathBuf>,
    /// Upload, download, or both.
    pub mode: Direction,
}

impl Default for SyncParams {
    /// The whole session, upload.
    fn default() -> Self {
        Self { context_id: None, path: None, mode: Direction::Upload }
    }
}

/// How one mount fared.
#[derive(Debug, Clone)]
pub struct MountResult {
    /// The context's id, which is its name.
    pub context_id: ContextName,
    /// The mount's path.
    pub path: PathBuf,
    /// The figures; `None` where nothing was to be done, or it failed.
    pub report: Option<SyncReport>,
    /// Why it failed. Callers that joined one sync share it.
    pub error: Option<Arc<Error>>,
}

impl MountResult {
    /// Whether everything was done that should be. Conflicts that were kept are no failure.
    pub fn success(&self) -> bool {
        self.error.is_none()
            && self.report.as_ref().is_none_or(|r| !r.is_incomplete() && !r.stopped_by_conflict)
    }

    /// Says why it was not.
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
                "the deadline came before everything was saved".to_owned()
            }
            (None, Some(report)) if report.nothing_in_scope => "the white lists match nothing".to_owned(),
            (None, Some(report)) if report.quiesce_failed => {
                "what writes to the mount was not quiesced, or not resumed".to_owned()
            }
            (None, report) => format!("{} paths failed", report.as_ref().map_or(0, |r| r.failed)),
        };
        Some(format!("{}: {what}", self.path.display()))
    }
}

/// How a manual sync ended, with the guide's fields.
#[derive(Debug, Clone)]
pub struct ContextSyncResult {
    /// Whether every mount was synced whole.
    pub success: bool,
    /// What went wrong, mount by mount.
    pub error_message: Option<String>,
    /// One result a mount.
    pub mounts: Vec<MountResult>,
}

impl From<Vec<MountResult>> for ContextSyncResult {
    fn from(mounts: Vec<MountResult>) -> Self {
        let (success, error_message) = summary(&mounts);
        Self { success, error_message, mounts }
    }
}

impl ContextSyncResult {
    /// Returns a result for a sync that no mount took part in.
    pub(super) fn refused(error: &Error) -> Self {
        Self { success: false, error_message: Some(error.to_string()), mounts: Vec::new() }
    }
}

/// How a session's end is to go.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReleaseOptions {
    /// Uploads also where the policy's `autoUpload` is off.
    pub sync_context: bool,
    /// When it must have ended: what is in the store shortly before is committed as a partial snapshot.
    pub deadline: Option<Instant>,
}

/// How a session's release went.
#[derive(Debug, Clone)]
pub struct Released {
    /// One result a mount; without a report where the policy has nothing uploaded.
    pub mounts: Vec<MountResult>,
}

/// How the deletion of a session went, with the guide's fields.
#[derive(Debug, Clone)]
pub struct DeleteResult {
    /// Whether everything was saved that should be.
    pub success: bool,
    /// What went wrong, mount by mount.
    pub error_message: Option<String>,
    /// One result a mount.
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

/// How a session's tasks stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextInfo {
    /// One row a mount and task.
    pub context_status_data: Vec<ContextStatusData>,
}

/// Whether one of two paths, absolute and without links, is the other or lies below it.
pub(super) fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}
