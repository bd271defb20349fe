//! What an engine reports to its caller while it works.

use std::fmt;

use policy_core::TreePath;
use serde::{Deserialize, Serialize};

/// Receives the events of a sync; it is the last argument of every long operation.
///
/// All methods have empty default bodies: a caller implements only what it shows. They are called from
/// several threads at once, and must return quickly, because the sync waits for them.
pub trait Monitor: Send + Sync {
    /// A new phase of the work began.
    fn phase(&self, _phase: Phase) {}

    /// Counts went up; called often.
    fn progress(&self, _progress: &Progress) {}

    /// Something is done with a path, or would be done in a dry run.
    fn path(&self, _event: &PathEvent<'_>) {}

    /// Something that the user should know, and that does not concern a single path.
    fn warning(&self, _warning: &str) {}

    /// One path failed and is left as it is; the sync goes on.
    fn problem(&self, _problem: &PathProblem) {}
}

/// A [`Monitor`] that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Monitor for Silent {}

/// A phase of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Phase {
    /// Finding the context's head.
    Opening,
    /// Walking the mount and reading what changed; in a push, sending it too.
    Scanning,
    /// Planning against the head.
    Planning,
    /// Waiting until what was read has been sent.
    Sending,
    /// Writing the tree and committing it.
    Committing,
    /// Pulling files.
    Downloading,
    /// Extracting archives, after all files have been pulled.
    Extracting,
    /// Checking what is in the store.
    Checking,
    /// Bringing contexts from one store to another.
    Copying,
    /// Finished.
    Done,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opening => "opening",
            Self::Scanning => "scanning",
            Self::Planning => "planning",
            Self::Sending => "sending",
            Self::Committing => "committing",
            Self::Downloading => "downloading",
            Self::Extracting => "extracting",
            Self::Checking => "checking",
            Self::Copying => "copying",
            Self::Done => "done",
        })
    }
}

/// How far a phase has come. Totals are 0 while unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Files seen (while scanning) or pulled (while downloading).
    pub files_done: u64,
    /// The total number of files.
    pub total_files: u64,
    /// Bytes of content read or written; while sending, bytes of packs that were sent.
    pub bytes_done: u64,
    /// The total number of bytes.
    pub total_bytes: u64,
    /// Bytes of packs that this push has sent, while it scans.
    #[serde(default)]
    pub bytes_sent: u64,
    /// Bytes of packs that it has sent or made, while it scans.
    #[serde(default)]
    pub bytes_packed: u64,
}

/// What is done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Action {
    /// The path is added.
    Add,
    /// The path's content, kind or mode is replaced.
    Change,
    /// The path is deleted.
    Delete,
    /// The path stays, although the other side differs.
    Keep,
    /// Both sides changed the path.
    Conflict,
    /// The path is left out, and the output says why.
    Skip,
    /// The path is an archive, which is extracted.
    Extract,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "add",
            Self::Change => "change",
            Self::Delete => "delete",
            Self::Keep => "keep",
            Self::Conflict => "conflict",
            Self::Skip => "skip",
            Self::Extract => "extract",
        })
    }
}

/// The side on which an [`Action`] takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The mount.
    Local,
    /// The context.
    Store,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Store => "store",
        })
    }
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathEvent<'a> {
    /// The path, relative to the mount.
    pub path: &'a TreePath,
    /// What is done.
    pub action: Action,
    /// The side that changes.
    pub side: Side,
    /// Why, as a phrase in one line.
    pub reason: &'a str,
    /// The size of what is added, changed or deleted, in bytes.
    pub size: u64,
}

/// Why one path failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathProblem {
    /// The path, relative to the mount.
    pub path: TreePath,
    /// What went wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// Returns the reason of an event that adds a conflict copy.
pub(crate) fn copy_reason(of: &TreePath) -> String {
    format!("the context's version of `{of}`, which both sides changed")
}
