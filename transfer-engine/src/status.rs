//! What a mount's syncs are doing and did, for other processes to read.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use policy_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::env::Env;
use crate::error::Error;
use crate::monitor::{Monitor, PathEvent, PathProblem, Phase, Progress};
use crate::report::SyncReport;
use crate::state::mount_dir;
use crate::usage::Usage;

const FILE: &str = "status.json";
/// Per-path errors and warnings that are kept of a task.
const MAX_MESSAGES: usize = 100;
/// The file is written at most this often while a task runs.
const EVERY_NANOS: i128 = 100_000_000;

/// The kind of a task, in the guide's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskType {
    /// From the mount to the context.
    Upload,
    /// From the context to the mount.
    Download,
}

/// How a task stands, in the guide's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    /// It has not begun.
    Waiting,
    /// It is under way, or its process ended without saying how.
    Running,
    /// It ended, and did what it should.
    Success,
    /// It ended, and did not do all that it should.
    Failed,
}

/// One task of a mount: its last upload, or its last download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The session that it belongs to; empty for a manual sync.
    pub session: String,
    /// The context's name.
    pub context: String,
    /// The context's id, which is its name.
    pub context_id: String,
    /// The mount's path.
    pub path: String,
    /// Upload or download.
    pub task_type: TaskType,
    /// How it stands.
    pub status: TaskState,
    /// When it began (RFC 3339).
    pub start_time: Option<String>,
    /// When it ended (RFC 3339).
    pub finish_time: Option<String>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// What it is at, or was at last.
    pub phase: String,
    /// Files seen or brought so far.
    pub files_done: u64,
    /// Files in all, as far as known.
    pub total_files: u64,
    /// Bytes read or written so far.
    pub bytes_done: u64,
    /// Bytes in all, as far as known.
    pub total_bytes: u64,
    /// Paths of the context that have not been brought.
    pub pending: u64,
    /// The snapshot that it came to.
    pub snapshot: Option<u64>,
    /// What the user should know; the first hundred.
    pub warnings: Vec<String>,
    /// Trouble with single paths; the first hundred, as `path: message`.
    pub errors: Vec<String>,
}

/// Returns the tasks that this machine knows of, of all mounts or of one.
pub fn status(state_dir: &Path, mount: Option<&Path>) -> Result<Vec<TaskStatus>, Error> {
    let dirs: Vec<PathBuf> = match mount {
        Some(mount) => {
            let mount = crate::mount::absolute(mount).map_err(|e| Error::local("find", mount, e))?;
            vec![mount_dir(state_dir, &mount)]
        }
        None => match fs::read_dir(state_dir.join("mounts")) {
            Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::local("read", state_dir, e)),
        },
    };
    let mut tasks = Vec::new();
    for dir in dirs {
        tasks.extend(read(&dir.join(FILE))?);
    }
    tasks.sort_by(|a, b| (&a.path, &a.context, &a.start_time).cmp(&(&b.path, &b.context, &b.start_time)));
    Ok(tasks)
}

fn read(file: &Path) -> Result<Vec<TaskStatus>, Error> {
    match fs::read(file) {
        // It is for people to read: a damaged one is as good as none.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::local("read", file, e)),
    }
}

/// Passes everything on to another monitor, and keeps the mount's status file.
pub(crate) struct StatusKeeper<'a> {
    inner: &'a dyn Monitor,
    env: Env,
    file: PathBuf,
    task: Mutex<(TaskStatus, Timestamp)>,
}

impl<'a> StatusKeeper<'a> {
    pub(crate) fn start(
        inner: &'a dyn Monitor,
        env: &Env,
        mount_state: &Path,
        context: &str,
        path: &Path,
        session: &str,
        task_type: TaskType,
    ) -> Self {
        let now = env.now();
        let task = TaskStatus {
            session: session.to_owned(),
            context: context.to_owned(),
            context_id: context.to_owned(),
            path: path.to_string_lossy().into_owned(),
            task_type,
            status: TaskState::Running,
            start_time: Some(rfc3339(now)),
            finish_time: None,
            error_message: None,
            phase: Phase::Opening.to_string(),
            files_done: 0,
            total_files: 0,
            bytes_done: 0,
            total_bytes: 0,
            pending: 0,
            snapshot: None,
            warnings: Vec::new(),
            errors: Vec::new(),
        };
        let keeper =
            Self { inner, env: env.clone(), file: mount_state.join(FILE), task: Mutex::new((task, now)) };
        keeper.update(true, |_| {});
        keeper
    }

    /// Writes how the task ended, and completes its report.
    pub(crate) fn finish(
        self,
        mut result: Result<SyncReport, Error>,
        usage: Usage,
    ) -> Result<SyncReport, Error> {
        self.phase(Phase::Done);
        if let Ok(report) = &mut result {
            report.note_usage(usage);
        }
        let now = self.env.now();
        self.update(true, |task| {
            task.finish_time = Some(rfc3339(now));
            // Totals that were only estimated, or not known, are what it came to.
            (task.total_files, task.total_bytes) = (task.files_done, task.bytes_done);
            match &result {
                Ok(report) => {
                    let incomplete = report.is_incomplete() || report.stopped_by_conflict;
                    task.status = if incomplete { TaskState::Failed } else { TaskState::Success };
                    if incomplete {
                        task.error_message = Some(format!("{} paths failed", report.failed));
                    }
                    task.pending = report.pending;
                    task.snapshot = report.snapshot;
                }
                Err(e) => {
                    task.status = TaskState::Failed;
                    task.error_message = Some(crate::download::chain(e));
                }
            }
        });
        result
    }

    fn update(&self, at_once: bool, change: impl FnOnce(&mut TaskStatus)) {
        let mut guard = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut guard.0);
        let now = self.env.now();
        if !at_once && nanos(now) - nanos(guard.1) < EVERY_NANOS {
            return;
        }
        guard.1 = now;
        // A status that can't be written must not stop a sync.
        if let Err(e) = self.write(&guard.0) {
            tracing::debug!(error = %e, "the status is not written");
        }
    }

    /// Replaces this task's row, keeping those of the mount's other tasks.
    fn write(&self, task: &TaskStatus) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut tasks = read(&self.file).unwrap_or_default();
        tasks.retain(|t| t.context != task.context || t.task_type != task.task_type);
        tasks.push(task.clone());
        let new = self.file.with_extension("new");
        let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&tasks)?)?;
        fs::rename(new, &self.file)
    }
}

impl Monitor for StatusKeeper<'_> {
    fn phase(&self, phase: Phase) {
        self.update(true, |task| task.phase = phase.to_string());
        self.inner.phase(phase);
    }

    fn progress(&self, progress: &Progress) {
        self.update(false, |task| {
            task.files_done = progress.files_done;
            task.total_files = progress.total_files;
            task.bytes_done = progress.bytes_done;
            task.total_bytes = progress.total_bytes;
        });
        self.inner.progress(progress);
    }

    fn path(&self, event: &PathEvent<'_>) {
        self.inner.path(event);
    }

    fn warning(&self, warning: &str) {
        self.update(true, |task| {
            if task.warnings.len() < MAX_MESSAGES {
                task.warnings.push(warning.to_owned());
            }
        });
        self.inner.warning(warning);
    }

    fn problem(&self, problem: &PathProblem) {
        self.update(false, |task| {
            if task.errors.len() < MAX_MESSAGES {
                task.errors.push(format!("{}: {}", problem.path, problem.message));
            }
        });
        self.inner.problem(problem);
    }
}

fn nanos(t: Timestamp) -> i128 {
    i128::from(t.secs) * 1_000_000_000 + i128::from(t.nanos)
}

fn rfc3339(t: Timestamp) -> String {
    jiff::Timestamp::new(t.secs, t.nanos.cast_signed()).map(|t| format!("{t:.3}")).unwrap_or_default()
}
