//! The commands.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::{
    CatArgs, CheckArgs, ContextCommand, CopyArgs, DiffArgs, EndingArgs, ExplainArgs, FetchArgs, GcArgs,
    LogArgs, LsArgs, PlanArgs, PolicyCommand, PullArgs, PurgeArgs, PushArgs, PutArgs, QuiesceArgs,
    RepairArgs, RestoreArgs, RmArgs, RunArgs, StatsArgs, StatusArgs, StoreCommand, WatchArgs,
};

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Bring a context's files, run a command in them, save what changed
    Run(RunArgs),
    /// Bring a context's files and save what changes, until told to stop
    Watch(WatchArgs),
    /// Bring what changed in a context into a directory
    Pull(PullArgs),
    /// Save what changed in a directory to a context
    Push(PushArgs),
    /// Pull, then push
    Sync(PushArgs),
    /// Bring paths that have not arrived yet, now
    Fetch(FetchArgs),
    /// Show what a push or a pull would do, and why, one line a path
    Plan(PlanArgs),
    /// Show the sessions and mounts of this machine, and how their syncs stand
    Status(StatusArgs),
    /// Show which rule of a policy decides for each path
    Explain(ExplainArgs),
    /// Create, list, show, fork, merge, revert, tag, rename, clear and delete contexts
    #[command(subcommand)]
    Context(ContextCommand),
    /// List the files of a context
    Ls(LsArgs),
    /// Write a file of a context to the standard output
    Cat(CatArgs),
    /// Write a file of a context, from a local file or the standard input
    Put(PutArgs),
    /// Remove files of a context
    Rm(RmArgs),
    /// List a context's snapshots, the newest first
    Log(LogArgs),
    /// Show what differs between two snapshots, or a snapshot and a directory
    Diff(DiffArgs),
    /// Write a snapshot's files into a directory
    Restore(RestoreArgs),
    /// Show how much contexts take in the store, and what of it they share
    Stats(StatsArgs),
    /// Forget snapshots that are not kept, and delete the data that no snapshot needs
    Gc(GcArgs),
    /// Prove that everything that snapshots refer to is in the store, and whole
    Check(CheckArgs),
    /// Give contexts of which the store has lost something a new head that is whole
    Repair(RepairArgs),
    /// Take files out of every snapshot of a context, and out of the store
    Purge(PurgeArgs),
    /// Copy contexts with their history to another store: what is missing there
    Copy(CopyArgs),
    /// Make a store, or prove that one is usable
    #[command(subcommand)]
    Store(StoreCommand),
    /// Print, check and document policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Show each setting and where it came from
    Config,
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages into a directory
    Man(ManArgs),
}

/// Arguments of `man`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ManArgs {
    /// Where to write; created where it is missing
    pub(crate) dir: PathBuf,
}

impl Command {
    /// Whether what it prints is a document, which no summary follows.
    pub(crate) fn is_document(&self) -> bool {
        matches!(
            self,
            Self::Cat(_)
                | Self::Completions { .. }
                | Self::Policy(
                    PolicyCommand::Default
                        | PolicyCommand::Preset { .. }
                        | PolicyCommand::Show(_)
                        | PolicyCommand::Schema
                )
        )
    }

    /// Whether it can show what would happen instead of doing it.
    pub(crate) fn takes_dry_run(&self) -> bool {
        matches!(
            self,
            Self::Push(_)
                | Self::Pull(_)
                | Self::Sync(_)
                | Self::Plan(_)
                | Self::Restore(_)
                | Self::Gc(_)
                | Self::Repair(_)
                | Self::Purge(_)
                | Self::Copy(_)
                | Self::Context(ContextCommand::Merge(_) | ContextCommand::Revert(_))
                | Self::Config
        )
    }

    /// Whether a policy, and what is excluded beside it, says what takes part in it.
    pub(crate) fn takes_exclude(&self) -> bool {
        matches!(
            self,
            Self::Push(_)
                | Self::Pull(_)
                | Self::Sync(_)
                | Self::Plan(_)
                | Self::Run(_)
                | Self::Watch(_)
                | Self::Fetch(_)
                | Self::Explain(_)
                | Self::Diff(_)
                | Self::Config
        ) || matches!(self, Self::Restore(args) if args.in_place)
    }

    /// Whether its result may be long, and is for people to look at.
    pub(crate) fn is_paged(&self) -> bool {
        matches!(
            self,
            Self::Ls(_)
                | Self::Log(_)
                | Self::Diff(_)
                | Self::Stats(_)
                | Self::Context(ContextCommand::List(_))
        )
    }

    /// Whether it changes something, so that doing it is not what `--dry-run` asks for.
    pub(crate) fn changes_something(&self) -> bool {
        matches!(
            self,
            Self::Run(_)
                | Self::Watch(_)
                | Self::Fetch(_)
                | Self::Put(_)
                | Self::Rm(_)
                | Self::Store(StoreCommand::Init(_))
                | Self::Man(_)
        ) || matches!(self, Self::Context(command) if command.writes() && !command.has_dry_run())
    }

    /// Whether it writes to a store, and has no `--read-only` that keeps it from that.
    pub(crate) fn always_writes(&self) -> bool {
        matches!(
            self,
            Self::Push(_)
                | Self::Sync(_)
                | Self::Restore(RestoreArgs { in_place: true, .. })
                | Self::Put(_)
                | Self::Rm(_)
                | Self::Gc(_)
                | Self::Repair(_)
                | Self::Purge(_)
                | Self::Copy(_)
                | Self::Store(StoreCommand::Init(_))
        ) || matches!(self, Self::Context(command) if command.writes())
    }

    /// Returns the commands round each reading, where there is any.
    pub(crate) fn quiesce(&self) -> Option<&QuiesceArgs> {
        match self {
            Self::Push(args) | Self::Sync(args) => Some(&args.quiesce),
            _ => self.ending().map(|ending| &ending.quiesce),
        }
    }

    /// Returns what `run` and `watch` have in common.
    pub(crate) fn ending(&self) -> Option<&EndingArgs> {
        match self {
            Self::Run(run) => Some(&run.ending),
            Self::Watch(watch) => Some(&watch.ending),
            _ => None,
        }
    }
}
