//! Measures ctxsync side by side with the tools that people use instead.
//!
//! ```text
//! data, plan ──► run ──► cells: what was measured of (data, destination, operation) ──► report, goals
//!                └── bench: one of them, with all tools in turn, round by round
//!                     ├── tools      the command lines
//!                     ├── measure    one command: wall, CPU, peak memory
//!                     ├── aside      what is deleted at the end
//!                     └── place      a directory, or S3 on loopback, without or with delay
//! growth: ctxsync alone, with more and more files and snapshots
//! ```
//!
//! Each cell is written to a file of its own as soon as it is measured. So an interrupted run can be
//! continued, and `report` shows the cells that exist.

mod args;
mod aside;
mod bench;
mod cell;
mod data;
mod figures;
mod goals;
mod growth;
mod machine;
mod markers;
mod measure;
mod place;
mod plan;
mod report;
mod run;
mod tables;
mod tools;
mod tree;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

/// Any error ends the run with a message; no caller handles it.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Report { dir, into } => report::write(&dir, into.as_deref()),
        Command::Growth(args) => growth::run(&args),
        Command::Measure { out, command } => measure::wrapped(&out, &command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Reports progress.
#[expect(clippy::print_stderr, reason = "this is where a program of the workspace talks to its user")]
fn say(line: &str) {
    eprintln!("{line}");
}
