//! The commands and the arguments that are theirs alone.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::{CheckArgs, DiffArgs, ForkArgs, GcArgs, Heal, MergeArgs, PurgeArgs, RepairArgs, RevertArgs};
use crate::place::{ContextAt, PathAt, context_part, mounted};
use crate::values::{ByteRange, Span, name_pattern, number};
use transfer_engine::{ContextName, ContextPart, NamePattern, TagName};

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

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// The context, or a directory of it, that is worked on in DIR; created where it is missing; with @N and --read-only,
    /// one of its snapshots
    #[arg(short, long, value_name = "CONTEXT[@N][:PATH]", value_parser = mounted, required_unless_present = "mounts")]
    pub(crate) context: Option<PathAt>,

    /// Work on a further context in a directory of its own; repeatable
    ///
    /// In the variable, several are separated by semicolons.
    #[arg(short, long, value_name = "CONTEXT[@N][:PATH]=DIR[,policy=FILE][,read-only]")]
    pub(crate) mounts: Vec<OsString>,

    /// Where CONTEXT is missing, begin it as this context, or as one of its snapshots
    #[arg(long, value_name = "BASE[@N]", requires = "context")]
    pub(crate) fork_from: Option<ContextAt>,

    /// Delete CONTEXT at the end; it must not exist before
    #[arg(long, requires = "context")]
    pub(crate) ephemeral: bool,

    /// With --ephemeral: keep the context if anything in it changed
    #[arg(long, requires = "ephemeral")]
    pub(crate) keep_if_changed: bool,

    /// With --ephemeral: keep the context if the command ends with 0
    #[arg(long, requires = "ephemeral")]
    pub(crate) keep_if_ok: bool,

    #[command(flatten)]
    pub(crate) opening: OpeningArgs,

    /// Run the command only when every file is there
    #[arg(long)]
    pub(crate) wait: bool,

    /// Save at the end even where the policy has autoUpload off
    #[arg(long)]
    pub(crate) save: bool,

    /// Time for the command to end after SIGTERM, before SIGKILL [default: 5s]
    #[arg(long, value_name = "TIME")]
    pub(crate) kill_after: Option<Span>,

    #[command(flatten)]
    pub(crate) ending: EndingArgs,

    /// Where the command runs and, with --context, its files are worked on [default: .]
    pub(crate) dir: Option<PathBuf>,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

impl RunArgs {
    /// Returns the name of the context that is worked on in DIR.
    pub(crate) fn name(&self) -> Option<&ContextName> {
        self.context.as_ref().map(|place| &place.context.name)
    }
}

/// Arguments of `watch`.
#[derive(Debug, Clone, Args)]
pub(crate) struct WatchArgs {
    /// The context, or a directory of it; created where it is missing; with @N and --read-only, one of its snapshots
    #[arg(value_name = "CONTEXT[@N][:PATH]", value_parser = mounted)]
    pub(crate) context: PathAt,

    /// Where the files are worked on
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,

    /// Where CONTEXT is missing, begin it as this context, or as one of its snapshots
    #[arg(long, value_name = "BASE[@N]")]
    pub(crate) fork_from: Option<ContextAt>,

    #[command(flatten)]
    pub(crate) opening: OpeningArgs,

    #[command(flatten)]
    pub(crate) ending: EndingArgs,
}

/// Arguments of the commands that open a session.
#[derive(Debug, Clone, Args)]
pub(crate) struct OpeningArgs {
    /// Bring this path first, and fail where it can't be had; repeatable
    ///
    /// In the variable, several are separated by commas.
    #[arg(long, value_name = "PATH")]
    pub(crate) require: Vec<OsString>,

    /// Never send anything: what changes here stays here, and nothing is created in the store
    #[arg(long)]
    pub(crate) read_only: bool,
}

/// Arguments of the commands that hold a session.
#[derive(Debug, Clone, Args)]
pub(crate) struct EndingArgs {
    /// Be gone this long after the signal to stop, with what could be saved by then
    #[arg(long, value_name = "TIME")]
    pub(crate) release_timeout: Option<Span>,

    /// Keep the session's figures in this file, for Prometheus
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics_file: Option<PathBuf>,

    /// Look over the mount this often for what the system tells nothing of; 0: never [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub(crate) safety_scan: Option<Span>,

    #[command(flatten)]
    pub(crate) quiesce: QuiesceArgs,
}

/// Commands round each reading of a mount.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct QuiesceArgs {
    /// Have a shell run this in the mount before it is read
    #[arg(long, value_name = "CMD")]
    pub(crate) quiesce: Option<OsString>,

    /// Have a shell run this when the mount has been read, whatever came of it
    #[arg(long, value_name = "CMD")]
    pub(crate) resume: Option<OsString>,

    /// Time for each of the two [default: 60s]
    #[arg(long, value_name = "TIME")]
    pub(crate) quiesce_timeout: Option<Span>,
}

/// Arguments of `fetch`.
#[derive(Debug, Clone, Args)]
pub(crate) struct FetchArgs {
    /// Files and directories of the mount
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<OsString>,

    /// The mount; without it, the nearest one that holds the current directory
    #[arg(long, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,

    /// The context, where several were worked on at the mount
    #[arg(short, long, value_name = "CONTEXT[:PATH]", value_parser = context_part)]
    pub(crate) context: Option<ContextPart>,
}

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

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StatusArgs {
    /// Only the mount at this directory
    pub(crate) dir: Option<PathBuf>,
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
    /// Show size, files, time of the last change and origin of each
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

/// Arguments of `ls`.
#[derive(Debug, Clone, Args)]
pub(crate) struct LsArgs {
    /// A context, a snapshot of it, or a directory in it
    #[arg(value_name = "NAME[@N][:PATH]")]
    pub(crate) place: PathAt,

    /// Show what directories hold in all, instead of single files
    #[arg(long)]
    pub(crate) du: bool,

    /// With --du: only directories up to so many levels below
    #[arg(long, value_name = "N", requires = "du", value_parser = number::<usize>)]
    pub(crate) depth: Option<usize>,
}

/// Arguments of `cat`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CatArgs {
    /// A file of a context
    #[arg(value_name = "NAME[@N]:PATH")]
    pub(crate) place: PathAt,

    /// Only these bytes, first and last included: 0-99, 100- or -100
    #[arg(long, value_name = "A-B", allow_hyphen_values = true)]
    pub(crate) range: Option<ByteRange>,
}

/// Arguments of `put`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PutArgs {
    /// A file of a context; one that is there is replaced
    #[arg(value_name = "NAME:PATH")]
    pub(crate) place: PathAt,

    /// What to write, with its mode and time; without it or as -, the standard input
    pub(crate) file: Option<PathBuf>,

    /// The permission bits, in octal [default: those of FILE, or of the file that is replaced, or 644]
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub(crate) mode: Option<u16>,
}

/// Arguments of `rm`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RmArgs {
    /// Files of one context
    #[arg(value_name = "NAME:PATH", required = true)]
    pub(crate) places: Vec<PathAt>,

    /// Remove directories too, with all that is in them
    #[arg(short, long)]
    pub(crate) recursive: bool,
}

/// Parses permission bits.
fn mode(text: &str) -> Result<u16, String> {
    match u16::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("permission bits are octal digits, as in 644 or 0750".to_owned()),
    }
}

/// Arguments of `log`.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogArgs {
    /// The context
    pub(crate) name: ContextName,
}

/// Arguments of `restore`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RestoreArgs {
    /// The context, or one of its snapshots
    #[arg(value_name = "NAME[@N]")]
    pub(crate) context: ContextAt,

    /// Where to write; files of other content that are there already are kept
    #[arg(required_unless_present = "in_place")]
    pub(crate) dir: Option<PathBuf>,

    /// Only these paths of the snapshot
    #[arg(value_name = "PATH", conflicts_with = "in_place")]
    pub(crate) paths: Vec<OsString>,

    /// Make DIR [default: .], a mount of the context, and the context like the snapshot
    ///
    /// What differs in DIR is saved first, and the context gets a new snapshot, as by `context revert`.
    #[arg(long)]
    pub(crate) in_place: bool,
}

/// Arguments of `copy`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CopyArgs {
    /// The store that is copied; --store is not used
    #[arg(value_name = "SRC")]
    pub(crate) from: String,

    /// The store that it is copied to, created where it is missing
    #[arg(value_name = "DST")]
    pub(crate) to: String,

    /// The contexts, as names or globs such as 'user-*' [default: all]
    #[arg(value_name = "NAME", value_parser = name_pattern)]
    pub(crate) names: Vec<NamePattern>,

    /// Set one of DST's settings, such as region=eu-north-1; repeatable; --store-option sets those of SRC
    ///
    /// In the variable, several are separated by commas.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) dst_option: Vec<String>,
}

/// What is done with a store.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum StoreCommand {
    /// Make a store; one that is there already is left as it is
    Init(StoreInitArgs),
    /// Prove credentials and what a commit relies on, and measure latency
    Check,
}

/// Arguments of `store init`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreInitArgs {
    /// The grace period: nothing younger is ever swept
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub(crate) grace: Span,
}

/// What is done with policies.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Print the default policy
    Default,
    /// Print a policy for a purpose
    Preset {
        /// What it is for
        name: Preset,
    },
    /// Check a policy file
    Check(PolicyCheckArgs),
    /// Print a policy with every field, as one JSON document
    Show(PolicyShowArgs),
    /// Print the JSON Schema of policies
    Schema,
}

/// A policy that the program has ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Preset {
    /// Leaves out files that usually hold secrets, such as `.env` and private keys
    NoSecrets,
}

/// Arguments of `policy check`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PolicyCheckArgs {
    /// The policy file; without it, that of --policy
    pub(crate) file: Option<PathBuf>,

    /// Resolve the policy's paths against this directory, which need not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,
}

/// Arguments of `policy show`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PolicyShowArgs {
    /// The policy file; without it, that of --policy
    pub(crate) file: Option<PathBuf>,
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

    /// Whether it changes something, so that doing it is not what `--dry-run` asks for.
    pub(crate) fn changes_something(&self) -> bool {
        matches!(
            self,
            Self::Run(_)
                | Self::Watch(_)
                | Self::Fetch(_)
                | Self::Put(_)
                | Self::Rm(_)
                | Self::Context(
                    ContextCommand::Create(_)
                        | ContextCommand::Fork(_)
                        | ContextCommand::Rename(_)
                        | ContextCommand::Clear(_)
                        | ContextCommand::Delete(_)
                        | ContextCommand::Tag(_)
                        | ContextCommand::Untag(_)
                )
                | Self::Store(StoreCommand::Init(_))
                | Self::Man(_)
        )
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
