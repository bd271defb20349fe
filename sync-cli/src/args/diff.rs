//! Arguments of `diff`.

use std::ffi::OsString;

use clap::Args;

/// Arguments of `diff`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DiffArgs {
    /// A context, one of its snapshots, a directory of one (`NAME[@N]:PATH`), or a local directory
    ///
    /// What begins with `.` or `/` is a local directory; of other names, a context is meant if there is one.
    #[arg(value_name = "A")]
    pub(crate) a: OsString,

    /// What A is compared with: likewise
    #[arg(value_name = "B")]
    pub(crate) b: OsString,

    /// Show only the figures
    #[arg(long)]
    pub(crate) stat: bool,

    /// Show only the paths
    #[arg(long, conflicts_with = "stat")]
    pub(crate) name_only: bool,

    /// End with 1 where anything differs
    #[arg(long)]
    pub(crate) exit_code: bool,

    /// Compare only these paths and what is below them, and show how the lines of text files differ
    #[arg(last = true, value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
}
