//! The arguments of `check`, `repair`, `purge` and `push --heal`.

use clap::{Args, ValueEnum};
use transfer_engine::ContextName;

use crate::place::PathAt;
use crate::values::Sample;

/// Arguments of `check`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArgs {
    /// Only these contexts
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<ContextName>,

    /// Read the contents as well, and verify them: all, of so many percent of the packs, or of the files that match
    ///
    /// The packs are drawn anew each time, so that a check of 10% a day comes to all in some weeks. In a pattern, *
    /// stands for anything but a slash, and ** for directories.
    #[arg(
        long,
        value_name = "N%|GLOB",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "100%"
    )]
    pub(crate) read_data: Option<Sample>,
}

/// Arguments of `repair`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RepairArgs {
    /// Only these contexts
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<ContextName>,

    /// Do it; without this, only tell what would be done
    #[arg(long)]
    pub(crate) yes: bool,

    /// Look for damage in sizes and footers of packs and in trees, and read no contents
    #[arg(long)]
    pub(crate) quick: bool,

    /// Forget older snapshots in which something is damaged, so that gc deletes them
    #[arg(long)]
    pub(crate) forget_damaged: bool,
}

/// Arguments of `purge`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PurgeArgs {
    /// Files and directories of one context
    #[arg(value_name = "NAME:PATH", required = true)]
    pub(crate) places: Vec<PathAt>,

    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,

    /// Nobody else uses the store now: delete the bytes at once, without the grace period
    #[arg(long)]
    pub(crate) exclusive: bool,
}

/// How thoroughly `push --heal` looks for damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Heal {
    /// Read all contents
    Full,
    /// Read sizes and footers of packs
    Quick,
}
