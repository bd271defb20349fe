//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::cell::Operation;
use crate::data::Set;
use crate::growth::GrowthArgs;
use crate::place::Destination;
use crate::tools::Tool;

/// Measures ctxsync side by side with the tools that people use instead.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measures the cells that were not measured yet, and writes the report.
    Run(RunArgs),
    /// Writes the report of what was measured.
    Report {
        /// Where the results are.
        #[arg(long, default_value = "target/peers")]
        dir: PathBuf,
        /// A text to write the tables into, between its markers.
        #[arg(long)]
        into: Option<PathBuf>,
    },
    /// Measures how ctxsync's operations grow with the files and the snapshots; writes plots and tables.
    Growth(GrowthArgs),
    /// Runs one command and writes what it used.
    #[command(hide = true)]
    Measure {
        out: PathBuf,
        #[arg(last = true, required = true)]
        command: Vec<std::ffi::OsString>,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RunArgs {
    /// The sets of data; all unless some are named.
    #[arg(long, value_delimiter = ',')]
    pub(crate) data: Vec<Set>,
    /// Where to; everywhere unless places are named.
    #[arg(long, value_delimiter = ',')]
    pub(crate) to: Vec<Destination>,
    /// What is done; what the goals need unless operations are named.
    #[arg(long, value_delimiter = ',')]
    pub(crate) operations: Vec<Operation>,
    /// The tools; those that the goals need unless some are named. What is not installed is left out with a word.
    #[arg(long, value_delimiter = ',')]
    pub(crate) tools: Vec<Tool>,
    /// Rounds that count; one more comes before them. A command of over 15 seconds has two at most, one of over
    /// two minutes runs once.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Makes the data smaller by this factor, to try things out.
    #[arg(long, default_value_t = 1)]
    pub(crate) divide: u64,
    /// Measures again what was measured.
    #[arg(long)]
    pub(crate) again: bool,
    /// Where data, work and results go. Needs some 40 GB of disk.
    #[arg(long, default_value = "target/peers")]
    pub(crate) dir: PathBuf,
    /// The program that is measured.
    #[arg(long, default_value = "target/release/ctxsync")]
    pub(crate) ctxsync: PathBuf,
}
