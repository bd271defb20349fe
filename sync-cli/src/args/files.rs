//! Arguments of commands on the files of a context: `ls`, `cat`, `put`, `rm`, `log`, `restore`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use transfer_engine::ContextName;

use crate::place::{ContextAt, PathAt};
use crate::values::{ByteRange, number};

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

    /// Show only so many snapshots, and read no more of them
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    pub(crate) limit: Option<usize>,

    /// Show what each snapshot was forked from or has merged
    #[arg(long)]
    pub(crate) graph: bool,

    /// Show only snapshots in which one of these paths changed, or something below one
    #[arg(last = true, value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
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
