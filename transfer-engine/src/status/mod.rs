//! The current and past tasks of a mount, for the session and for other processes to read.

mod board;
mod keeper;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use policy_core::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use board::StatusBoard;
pub(crate) use keeper::StatusKeeper;

use crate::error::Error;
use crate::state::mount_dir;

/// The kind of a task, in the guide's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskType {
    /// From the mount to the context.
    Upload,
    /// From the context to the mount.
    Download,
}

/// Writes the name used in JSON.
impl fmt::Display for TaskType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upload => "upload",
            Self::Download => "download",
        })
    }
}

/// The state of a task, in the guide's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    /// The task has not started.
    Waiting,
    /// The task is running.
    Running,
    /// The task ended and was complete.
    Success,
    /// The task ended and was incomplete or failed; or its process ended without saying so.
    Failed,
}

/// Writes the name used in JSON.
impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "Waiting",
            Self::Running => "Running",
            Self::Success => "Success",
            Self::Failed => "Failed",
        })
    }
}

/// One task of a mount: its last push, or its last pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskStatus {
    /// The task's session; empty for a manual sync.
    pub session: String,
    /// The context's name; `NAME:PATH` if the mount has only that part of the context.
    pub context: String,
    /// The context's id, which is its name.
    pub context_id: String,
    /// The store's address; empty if an older version wrote the task.
    #[serde(default)]
    pub store: String,
    /// The mount's path; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// The path's bytes in Base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_bytes: Option<String>,
    /// Upload or download.
    pub task_type: TaskType,
    /// The task's state.
    pub status: TaskState,
    /// When it began (RFC 3339).
    pub start_time: Option<String>,
    /// When it ended (RFC 3339).
    pub finish_time: Option<String>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// The current or last phase.
    pub phase: String,
    /// Files scanned or pulled so far.
    pub files_done: u64,
    /// Total files, as far as known.
    pub total_files: u64,
    /// Bytes read or written so far.
    pub bytes_done: u64,
    /// Total bytes, as far as known.
    pub total_bytes: u64,
    /// Bytes per second: recently while the task runs, on average after its end.
    #[serde(default)]
    pub throughput: u64,
    /// Paths of the context that have not been pulled yet.
    pub pending: u64,
    /// Local files that the context has recycled: they stay, and are not pushed until they change.
    #[serde(default)]
    pub withheld: u64,
    /// The resulting snapshot.
    pub snapshot: Option<u64>,
    /// Warnings for the user; the first hundred.
    pub warnings: Vec<String>,
    /// Errors of single paths; the first hundred, as `path: message`.
    pub errors: Vec<String>,
    /// Whether its session has been released.
    #[serde(default)]
    pub released: bool,
}

impl TaskStatus {
    /// Returns a task that has not started. `context` is `NAME` or `NAME:PATH`.
    fn waiting(session: &str, context: &str, path: &Path, task_type: TaskType) -> Self {
        Self {
            session: session.to_owned(),
            context: context.to_owned(),
            // A context's name has no colon.
            context_id: context.split(':').next().unwrap_or_default().to_owned(),
            store: String::new(),
            path: path.to_string_lossy().into_owned(),
            path_bytes: path.to_str().is_none().then(|| BASE64_STANDARD.encode(path.as_os_str().as_bytes())),
            task_type,
            status: TaskState::Waiting,
            start_time: None,
            finish_time: None,
            error_message: None,
            phase: "waiting".to_owned(),
            files_done: 0,
            total_files: 0,
            bytes_done: 0,
            total_bytes: 0,
            throughput: 0,
            pending: 0,
            withheld: 0,
            snapshot: None,
            warnings: Vec::new(),
            errors: Vec::new(),
            released: false,
        }
    }

    /// Returns the exact path of the mount.
    pub fn mount(&self) -> PathBuf {
        let bytes = self.path_bytes.as_ref().and_then(|bytes| BASE64_STANDARD.decode(bytes).ok());
        bytes.map_or_else(|| PathBuf::from(&self.path), |bytes| PathBuf::from(OsString::from_vec(bytes)))
    }

    /// Whether it is a task of a context in the store at an address.
    fn is_of(&self, context: &str, store: &str) -> bool {
        self.context == context && (self.store == store || self.store.is_empty())
    }

    /// Updates a task whose process is gone.
    fn interrupt(&mut self) {
        let message = match self.status {
            TaskState::Running => "interrupted: its process ended in the middle of it",
            TaskState::Waiting => "interrupted: its session ended without a release",
            TaskState::Success | TaskState::Failed => return,
        };
        self.status = TaskState::Failed;
        self.throughput = 0;
        self.error_message = Some(message.to_owned());
    }
}

/// Returns the tasks that this machine knows, of all mounts or of one. A task whose process ended before the
/// task did counts as failed.
pub fn status(state_dir: &Path, mount: Option<&Path>) -> Result<Vec<TaskStatus>, Error> {
    let dirs: Vec<PathBuf> = match mount {
        Some(mount) => {
            let mount = crate::local::absolute(mount).map_err(|e| Error::local("find", mount, e))?;
            vec![mount_dir(state_dir, &mount)]
        }
        None => match fs::read_dir(state_dir.join("mounts")) {
            Ok(entries) => entries
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<_>>()
                .map_err(|e| Error::local("read", state_dir, e))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::local("read", state_dir, e)),
        },
    };
    let mut tasks = Vec::new();
    for dir in dirs {
        tasks.extend(board::read(&dir).map_err(|e| Error::local("read the status in", dir, e))?);
    }
    tasks.sort_by(|a, b| {
        (&a.path, &a.context, &a.store, &a.start_time).cmp(&(&b.path, &b.context, &b.store, &b.start_time))
    });
    Ok(tasks)
}

fn nanos(t: Timestamp) -> i128 {
    i128::from(t.secs) * 1_000_000_000 + i128::from(t.nanos)
}

fn rfc3339(t: Timestamp) -> String {
    jiff::Timestamp::new(t.secs, t.nanos.cast_signed()).map(|t| format!("{t:.3}")).unwrap_or_default()
}
