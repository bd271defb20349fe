//! Arguments of `run`, `watch`, `fetch` and `status`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use transfer_engine::{ContextName, ContextPart};

use crate::place::{ContextAt, PathAt, context_part, mounted};
use crate::values::Span;

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

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StatusArgs {
    /// Only the mount at this directory
    pub(crate) dir: Option<PathBuf>,
}
