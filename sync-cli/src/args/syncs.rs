//! Arguments of `push`, `pull`, `sync`, `plan` and `explain`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use transfer_engine::ContextPart;

use super::{Heal, QuiesceArgs};
use crate::place::{PathAt, context_part, mounted};

/// Arguments of syncs.
#[derive(Debug, Clone, Args)]
pub(crate) struct SyncArgs {
    /// The context, or a directory of it
    #[arg(value_name = "CONTEXT[:PATH]", value_parser = context_part)]
    pub(crate) context: ContextPart,

    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

/// Where, and what of it, is synced.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlaceArgs {
    /// Where the files are worked on
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,

    /// Sync only this path and what is below it; repeatable
    ///
    /// In the variable, several are separated by commas.
    #[arg(long, value_name = "PATH")]
    pub(crate) only: Vec<OsString>,
}

/// Arguments of `pull`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PullArgs {
    /// The context, or a directory of it; with @N and --read-only, one of its snapshots
    #[arg(value_name = "CONTEXT[@N][:PATH]", value_parser = mounted)]
    pub(crate) context: PathAt,

    #[command(flatten)]
    pub(crate) place: PlaceArgs,

    /// Never send anything, as no pull does
    #[arg(long)]
    pub(crate) read_only: bool,
}

/// Arguments of `push` and `sync`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    pub(crate) sync: SyncArgs,

    /// Check the context first, and send again what the store has lost of the files that are here
    ///
    /// All contents of the head are read and verified; with =quick only the sizes and footers of its packs.
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "full")]
    pub(crate) heal: Option<Heal>,

    #[command(flatten)]
    pub(crate) quiesce: QuiesceArgs,
}

/// Arguments of `plan`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlanArgs {
    /// The direction
    pub(crate) direction: PlanDirection,

    #[command(flatten)]
    pub(crate) sync: SyncArgs,
}

/// What `plan` plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanDirection {
    /// Saving
    Push,
    /// Bringing
    Pull,
}

/// Arguments of `explain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainArgs {
    /// A policy file, or the name of a context, which is then read by --policy or the default policy
    #[arg(value_name = "CONTEXT_OR_POLICY")]
    pub(crate) subject: OsString,

    /// Paths below the mount
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<OsString>,

    /// The directory that the policy is read against; it need not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,
}
