//! Arguments of `context` and `stats`.

use clap::{Args, Subcommand, ValueEnum};
use transfer_engine::{ContextName, TagName};

use super::{ForkArgs, MergeArgs, RevertArgs};
use crate::place::ContextAt;

/// What is done with contexts.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ContextCommand {
    /// Create an empty context, and the store where it is missing
    Create(CreateArgs),
    /// List the contexts of the store
    List(ListArgs),
    /// Show a context's head
    Show(ShowArgs),
    /// Begin a new context as another one, or as one of its snapshots; costs one small object
    Fork(ForkArgs),
    /// Take what changed in a context, since it was forked or last merged, into another one
    Merge(MergeArgs),
    /// Make a context like one of its snapshots again, in a new snapshot
    Revert(RevertArgs),
    /// Give a context another name; its history goes with it
    Rename(RenameArgs),
    /// Remove all files of a context, in a new snapshot
    Clear(ClearArgs),
    /// Delete a context with all its snapshots
    Delete(DeleteArgs),
    /// Give a snapshot a name, by which `gc` keeps it
    ///
    /// A tag is then written NAME@TAG, wherever a snapshot is written NAME@N.
    Tag(TagArgs),
    /// Take a tag off its snapshot; the snapshot itself stays until `gc` forgets it
    Untag(UntagArgs),
}

impl ContextCommand {
    /// Whether it writes to the store.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Show(_))
    }

    /// Whether it can say what it would do.
    pub(crate) fn has_dry_run(&self) -> bool {
        matches!(self, Self::Merge(_) | Self::Revert(_))
    }
}

/// Arguments of `context tag`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TagArgs {
    /// The snapshot; without @N, the head
    #[arg(value_name = "NAME[@N]")]
    pub(crate) context: ContextAt,

    /// The tag: 1 to 64 of A-Z a-z 0-9 . _ -, not only digits
    pub(crate) tag: TagName,
}

/// Arguments of `context untag`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UntagArgs {
    /// The tag
    #[arg(value_name = "NAME@TAG")]
    pub(crate) context: ContextAt,

    /// The tag, where the snapshot is given: NAME@N TAG
    pub(crate) tag: Option<TagName>,
}

/// Arguments of `context create`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CreateArgs {
    /// The new context's name
    pub(crate) name: ContextName,
}

/// Arguments of `context list`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    /// Show size, files, time of the last change, the session that made it, and origin of each
    #[arg(short, long)]
    pub(crate) long: bool,

    /// Sort by this [default: name]
    #[arg(long, value_name = "FIELD", default_value = "name", hide_default_value = true)]
    pub(crate) sort: SortBy,
}

/// What contexts are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortBy {
    /// By name
    Name,
    /// The largest first
    Size,
    /// The one that changed last first
    Time,
}

/// Arguments of `stats`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StatsArgs {
    /// Only these contexts; all by default
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<ContextName>,
}

/// Arguments of `context show`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ShowArgs {
    /// The context, or one of its snapshots
    #[arg(value_name = "NAME[@N]")]
    pub(crate) context: ContextAt,
}

/// Arguments of `context rename`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RenameArgs {
    /// The context
    pub(crate) name: ContextName,

    /// Its new name
    pub(crate) new_name: ContextName,
}

/// Arguments of `context clear`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClearArgs {
    /// The context
    pub(crate) name: ContextName,

    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Arguments of `context delete`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeleteArgs {
    /// The context
    pub(crate) name: ContextName,

    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}
