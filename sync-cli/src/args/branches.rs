//! Arguments of the commands that begin contexts and snapshots as other snapshots.

use std::ffi::OsString;

use clap::Args;
use transfer_engine::ContextName;

use crate::place::ContextAt;

/// Arguments of `context fork`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ForkArgs {
    /// The context, or one of its snapshots, with which the new one begins
    #[arg(value_name = "FROM[@N]")]
    pub(crate) from: ContextAt,

    /// The new context's name
    pub(crate) to: ContextName,
}

/// Arguments of `context revert`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RevertArgs {
    /// The snapshot that the context becomes like
    #[arg(value_name = "NAME@N")]
    pub(crate) context: ContextAt,
}

/// Arguments of `context merge`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MergeArgs {
    /// The context whose changes are taken, or one of its snapshots
    #[arg(value_name = "FROM[@N]")]
    pub(crate) from: ContextAt,

    /// The context that gets them, in a new snapshot
    pub(crate) into: ContextName,

    /// Merge only this path and what is below it; repeatable
    ///
    /// In the variable, several are separated by commas. The next merge considers all other paths again.
    #[arg(long, value_name = "PATH")]
    pub(crate) only: Vec<OsString>,

    /// Merge contexts that have no snapshot in common: what both have and differs is in conflict
    #[arg(long)]
    pub(crate) unrelated: bool,
}
