//! What an engine tells its caller while it works.

use std::fmt;

use policy_core::TreePath;
use serde::{Deserialize, Serialize};

/// Receives what happens during a sync; the last argument of whatever can take long.
///
/// Every method has an empty body, so that a caller implements what it shows. Calls come from several
/// threads at once and must return quickly: the sync waits for them.
pub trait Monitor: Send + Sync {
    /// A new phase of the work began.
    fn phase(&self, _phase: Phase) {}

    /// Counts went up; called often.
    fn progress(&self, _progress: &Progress) {}

    /// Something is done, or in a dry run would be done, with one path.
    fn path(&self, _event: &PathEvent<'_>) {}

    /// Something that the user should know, and that no path is to blame for.
    fn warning(&self, _warning: &str) {}

    /// One path failed and is left as it is; the sync goes on.
    fn problem(&self, _problem: &PathProblem) {}
}

/// A [`Monitor`] that keeps silent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Monitor for Silent {}

/// A part of a sync's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Looking for the context's head.
    Opening,
    /// Walking the mount and reading what changed; in a push, sending it too.
    Scanning,
    /// Planning against the head.
    Planning,
    /// Waiting for the last packs, writing the tree and committing it.
    Committing,
    /// Bringing files.
    Downloading,
    /// Extracting archives; everything else has been brought.
    Extracting,
    /// Nothing more to do.
    Done,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opening => "opening",
            Self::Scanning => "scanning",
            Self::Planning => "planning",
            Self::Committing => "committing",
            Self::Downloading => "downloading",
            Self::Extracting => "extracting",
            Self::Done => "done",
        })
    }
}

/// How far a phase has come. Totals are 0 until they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Files seen (while scanning) or brought (while downloading).
    pub files_done: u64,
    /// Files that there will be.
    pub total_files: u64,
    /// Bytes of content read or written.
    pub bytes_done: u64,
    /// Bytes that there will be.
    pub total_bytes: u64,
}

/// What is done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It comes to be.
    Add,
    /// Its content, kind or mode is replaced.
    Change,
    /// It is removed.
    Delete,
    /// It stays, although the other side differs.
    Keep,
    /// Both sides changed it.
    Conflict,
    /// It is left out and reported.
    Skip,
    /// It is an archive that is extracted.
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
    /// Where it is done.
    pub side: Side,
    /// Why, in one line of words.
    pub reason: &'a str,
    /// The size in bytes of what is added, changed or deleted.
    pub size: u64,
}

/// Why one path could not take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathProblem {
    /// The path, relative to the mount.
    pub path: TreePath,
    /// What went wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// Says what a conflict copy is.
pub(crate) fn copy_reason(of: &TreePath) -> String {
    format!("the context's version of `{of}`, which both sides changed")
}
