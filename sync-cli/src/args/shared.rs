//! The options that stand before or after every command.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};
use serde::Deserialize;

use crate::extract_limits::Limits;
use crate::owner::Owner;
use crate::values::{Deletions, Size, Span, at_least_one, number};

const OUTPUT: &str = "Output options";
const STORE: &str = "Store options";
const SYNC: &str = "Sync options";
const TRANSFER: &str = "Transfer options";

/// Options that all commands share.
#[derive(Debug, Clone, Args)]
pub(crate) struct Shared {
    /// Where the contexts are: a directory, s3://BUCKET/PREFIX, gs://…, az://…
    ///
    /// Without it, a local store below the user's data directory. Credentials come from each cloud's usual
    /// variables.
    #[arg(long, global = true, value_name = "URL", help_heading = STORE)]
    pub(crate) store: Option<String>,

    /// Set one of the store's settings, such as region=eu-north-1; repeatable
    ///
    /// In the variable, several are separated by commas.
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = STORE)]
    pub(crate) store_option: Vec<String>,

    /// Read this config file instead of the user's
    #[arg(long, global = true, value_name = "FILE", help_heading = STORE)]
    pub(crate) config: Option<PathBuf>,

    /// Use [profiles.NAME] of the config file
    #[arg(long, global = true, value_name = "NAME", help_heading = STORE)]
    pub(crate) profile: Option<String>,

    /// Keep what is known of the mounts in this directory
    #[arg(long, global = true, value_name = "DIR", help_heading = STORE, hide_short_help = true)]
    pub(crate) state_dir: Option<PathBuf>,

    /// Sync by the policy in this JSON or TOML file; without it, by the defaults
    #[arg(short, long, global = true, value_name = "FILE", help_heading = SYNC)]
    pub(crate) policy: Option<PathBuf>,

    /// Leave out what matches this pattern, as in a `.gitignore`; repeatable
    ///
    /// What it matches is neither saved, nor brought, nor deleted. It is added to the policy's `ignorePatterns`. In
    /// the variable, several are separated by commas.
    #[arg(long, global = true, value_name = "PATTERN", help_heading = SYNC)]
    pub(crate) exclude: Vec<String>,

    /// Show what would happen and change nothing
    #[arg(short = 'n', long, global = true, help_heading = SYNC)]
    pub(crate) dry_run: bool,

    /// Read every file, trusting neither size nor time
    #[arg(long, global = true, help_heading = SYNC, hide_short_help = true)]
    pub(crate) checksum: bool,

    /// What becomes of a path that both sides changed
    #[arg(long, global = true, value_name = "HOW", help_heading = SYNC, hide_short_help = true)]
    pub(crate) conflict: Option<Conflict>,

    /// Hold deletions back where there are more than this
    #[arg(long, global = true, value_name = "N|N%", help_heading = SYNC, hide_short_help = true)]
    pub(crate) max_delete: Option<Deletions>,

    /// Let the deletions of an emptied or missing mount or file system, or of an emptied context, through
    #[arg(long, global = true, help_heading = SYNC, hide_short_help = true)]
    pub(crate) allow_empty_mount: bool,

    /// Stay out of file systems that are mounted below DIR
    ///
    /// What is in them is out of scope: neither saved, nor brought, nor deleted.
    #[arg(long, global = true, help_heading = SYNC, hide_short_help = true)]
    pub(crate) one_file_system: bool,

    /// Count what cannot be kept, such as a socket, as incomplete
    #[arg(long, global = true, help_heading = SYNC, hide_short_help = true)]
    pub(crate) strict: bool,

    /// Refuse to send more than this
    #[arg(long, global = true, value_name = "SIZE", help_heading = SYNC, hide_short_help = true)]
    pub(crate) max_upload: Option<Size>,

    /// Extract archives up to these limits, as in `bytes=100G,members=2000000,levels=100,ratio=1000`
    #[arg(long, global = true, value_name = "LIMITS", help_heading = SYNC, hide_short_help = true)]
    pub(crate) extract_limits: Option<Limits>,

    /// Give files that are brought to this user and group, by name or number; for root only
    #[arg(long, global = true, value_name = "USER[:GROUP]", help_heading = SYNC, hide_short_help = true)]
    pub(crate) chown: Option<Owner>,

    /// Requests under way at once
    #[arg(long, global = true, value_name = "N", help_heading = TRANSFER, hide_short_help = true, value_parser = at_least_one::<NonZeroUsize>)]
    pub(crate) concurrency: Option<NonZeroUsize>,

    /// Send and receive at most this many bytes a second
    #[arg(long, global = true, value_name = "SIZE", help_heading = TRANSFER, hide_short_help = true)]
    pub(crate) bwlimit: Option<Size>,

    /// Content held in memory at once
    #[arg(long, global = true, value_name = "SIZE", help_heading = TRANSFER, hide_short_help = true)]
    pub(crate) memory: Option<Size>,

    /// Send failed requests again for so long; a release does until its deadline
    #[arg(long, global = true, value_name = "TIME", help_heading = TRANSFER, hide_short_help = true)]
    pub(crate) retry_time: Option<Span>,

    /// Send a failed request again at most this often
    #[arg(long, global = true, value_name = "N", help_heading = TRANSFER, hide_short_help = true, value_parser = number::<usize>)]
    pub(crate) retries: Option<usize>,

    /// Give up a request that is not answered for this long, and as long for each MiB sent
    #[arg(long, global = true, value_name = "TIME", help_heading = TRANSFER, hide_short_help = true)]
    pub(crate) timeout: Option<Span>,

    /// Print JSON, one object a line
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub(crate) json: bool,

    /// Print results, warnings and errors only
    #[arg(short, long, global = true, help_heading = OUTPUT)]
    pub(crate) quiet: bool,

    /// Name every path that changes; twice: log more
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = OUTPUT)]
    pub(crate) verbose: u8,

    /// Show no progress
    #[arg(long, global = true, help_heading = OUTPUT, hide_short_help = true)]
    pub(crate) no_progress: bool,

    /// Do not show long results through $PAGER
    #[arg(long, global = true, help_heading = OUTPUT, hide_short_help = true)]
    pub(crate) no_pager: bool,

    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", help_heading = OUTPUT, hide_short_help = true)]
    pub(crate) color: Option<Color>,

    /// Show times in UTC, not in local time
    #[arg(long, global = true, help_heading = OUTPUT, hide_short_help = true)]
    pub(crate) utc: bool,

    /// Show sizes in bytes
    #[arg(long, global = true, help_heading = OUTPUT, hide_short_help = true)]
    pub(crate) bytes: bool,

    /// Write a log to this file
    #[arg(long, global = true, value_name = "FILE", help_heading = OUTPUT, hide_short_help = true)]
    pub(crate) log_file: Option<PathBuf>,
}

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What becomes of a path that both sides changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Conflict {
    /// The local version keeps its name, the other one stays beside it
    KeepBoth,
    /// The local version stays
    PreferLocal,
    /// The context's version stays
    PreferRemote,
    /// Stop before anything is written
    Fail,
}
