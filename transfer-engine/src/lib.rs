//! Moves a workspace to and from an object store.

pub mod format;

mod env;
mod error;
mod local;
mod monitor;
mod options;
mod report;
mod state;
mod store;
mod usage;

pub use env::{Clock, Env, FileFaults, Random, Spawn};
pub use error::Error;
pub use format::ContextName;
pub use monitor::{Action, Monitor, PathEvent, PathProblem, Phase, Progress, Side, Silent};
pub use options::{MaxDelete, SyncOptions};
pub use report::{Direction, SyncReport};
pub use store::Store;
pub use usage::Usage;
