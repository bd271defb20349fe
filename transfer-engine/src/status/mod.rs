//! What a mount's syncs are doing and did, for the session and for other processes to read.

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

/// The word of the wire.
impl fmt::Display for TaskType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upload => "upload",
            Self::Download => "download",
        })
    }
}

/// How a task stands, in the guide's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    /// It has not begun.
    Waiting,
    /// It is under way.
    Running,
    /// It ended, and did what it should.
    Success,
    /// It ended, and did not do all that it should; or its process ended without saying how.
    Failed,
}

/// The word of the wire.
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

/// One task of a mount: its last upload, or its last download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The session that it belongs to; empty for a manual sync.
    pub session: String,
    /// The context's name.
    pub context: String,
    /// The context's id, which is its name.
    pub context_id: String,
    /// The mount's path; what is not UTF-8 in it is replaced.
    pub path: String,
    /// The path's bytes in base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_bytes: Option<String>,
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
    /// Bytes a second: lately while it runs, on average once it ended.
    #[serde(default)]
    pub throughput: u64,
    /// Paths of the context that have not been brought.
    pub pending: u64,
    /// Files here that the context has recycled: they stay, and are not uploaded until they are changed.
    #[serde(default)]
    pub withheld: u64,
    /// The snapshot that it came to.
    pub snapshot: Option<u64>,
    /// What the user should know; the first hundred.
    pub warnings: Vec<String>,
    /// Trouble with single paths; the first hundred, as `path: message`.
    pub errors: Vec<String>,
    /// Whether its session has been released.
    #[serde(default)]
    pub released: bool,
}

impl TaskStatus {
    /// Returns a task that has not begun.
    fn waiting(session: &str, context: &str, path: &Path, task_type: TaskType) -> Self {
        Self {
            session: session.to_owned(),
            context: context.to_owned(),
            context_id: context.to_owned(),
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

    /// Returns the mount's path as it is.
    pub fn mount(&self) -> PathBuf {
        let bytes = self.path_bytes.as_ref().and_then(|bytes| BASE64_STANDARD.decode(bytes).ok());
        bytes.map_or_else(|| PathBuf::from(&self.path), |bytes| PathBuf::from(OsString::from_vec(bytes)))
    }

    fn is_of(&self, context: &str, task_type: TaskType) -> bool {
        self.context == context && self.task_type == task_type
    }

    /// Says of a task whose process is gone how it stands.
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

/// Returns the tasks that this machine knows of, of all mounts or of one. A task whose process ended in the
/// middle of it, or before it began, is shown as failed.
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
    tasks.sort_by(|a, b| (&a.path, &a.context, &a.start_time).cmp(&(&b.path, &b.context, &b.start_time)));
    Ok(tasks)
}

fn nanos(t: Timestamp) -> i128 {
    i128::from(t.secs) * 1_000_000_000 + i128::from(t.nanos)
}

fn rfc3339(t: Timestamp) -> String {
    jiff::Timestamp::new(t.secs, t.nanos.cast_signed()).map(|t| format!("{t:.3}")).unwrap_or_default()
}
