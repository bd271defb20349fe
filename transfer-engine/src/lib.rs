//! Moves a workspace to and from an object store.

pub mod format;

mod download;
mod env;
mod error;
mod local;
mod monitor;
mod mount;
mod options;
mod plan;
mod report;
mod state;
mod status;
mod store;
mod tree;
mod upload;
mod usage;

pub use env::{Clock, Env, FileFaults, Random, Spawn};
pub use error::Error;
pub use format::ContextName;
pub use monitor::{Action, Monitor, PathEvent, PathProblem, Phase, Progress, Side, Silent};
pub use mount::{ContextSync, Mount, mount_scope};
pub use options::{MaxDelete, SyncOptions};
pub use report::{Direction, SyncReport};
pub use status::{TaskState, TaskStatus, TaskType, status};
pub use store::Store;
pub use usage::Usage;
