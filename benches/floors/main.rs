//! The lower limits on this machine: each operation of a sync as a plain loop of system calls or of a
//! library's function.
//!
//! ```text
//! tree (given, or made) ──► walk: names; names and statx
//!                      └──► read ──► in memory ──► SHA-256, zstd, mkdir, create, stage and rename
//! one large file        ──► write and fsync, read from the page cache
//! ```
//!
//! Everything uses directory handles, as in the engine. Directories with many files are deleted at the end
//! only: ext4 is slow at creating files after many were deleted.

mod compute;
mod large;
mod make;
mod share;
mod tree;
mod walk;

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ctxsync_benches::{bytes_per_second, machine, per_second, time, write_part};

use tree::Tree;

/// Any error ends the run with a message; no caller handles it.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Measures what nothing can beat on this machine.
#[derive(Debug, Parser)]
struct Args {
    /// The tree to work on, which is only read; it must fit into memory [default: 20,000 small files in 2,000
    /// directories, made]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where to write: a directory on the file system that is to be measured [default: that of temporary files]
    #[arg(long)]
    work: Option<PathBuf>,
    /// Files of the tree that is made
    #[arg(long, default_value_t = 20_000)]
    files: u64,
    /// MiB of the large file; 0 leaves it out
    #[arg(long, default_value_t = 2048)]
    large: u64,
    /// How often each is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Writes the table into the part `floors` of this document as well
    #[arg(long)]
    into: Option<PathBuf>,
}

/// One row of the table.
struct Floor {
    name: String,
    /// The files and bytes that one round works on.
    files: u64,
    bytes: u64,
    /// The time of each round.
    rounds: Vec<Duration>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(table) => {
            print(&table);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<String> {
    let below = args.work.clone().unwrap_or_else(std::env::temp_dir);
    let work = tempfile::Builder::new().prefix("ctxsync-floors-").tempdir_in(below)?;
    let place = match &args.dir {
        Some(dir) => dir.clone(),
        None => tree::make(&work.path().join("tree"), args.files)?,
    };
    flush(work.path())?;
    let tree = Tree::read(&place)?;
    let mut floors = Vec::new();
    walk::measure(&place, args.rounds, &mut floors)?;
    compute::measure(&place, &tree, args.rounds, &mut floors)?;
    make::measure(work.path(), &tree, args.rounds, &mut floors)?;
    if args.large > 0 {
        large::measure(work.path(), args.large, args.rounds, &mut floors)?;
    }
    let table = table(&tree, args, &floors)?;
    if let Some(into) = &args.into {
        write_part(into, "floors", &table)?;
    }
    Ok(table)
}

/// Measures `round` this many times. It gets the round's number, and returns the time of the part that
/// counts.
fn rounds(
    floors: &mut Vec<Floor>,
    name: &str,
    (files, bytes): (u64, u64),
    rounds: u32,
    mut round: impl FnMut(u32) -> Result<Duration>,
) -> Result<()> {
    say(name);
    let rounds = (0..rounds).map(&mut round).collect::<Result<_>>()?;
    floors.push(Floor { name: name.to_owned(), files, bytes, rounds });
    Ok(())
}

/// Writes everything back, so that it does not disturb the next measurement.
fn flush(dir: &Path) -> Result<()> {
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

fn table(tree: &Tree, args: &Args, floors: &[Floor]) -> Result<String> {
    let mut out = format!(
        "{} files of {:.1} MiB in {} directories. {} rounds; {}.\n\n",
        tree.files().count(),
        tree.bytes() as f64 / f64::from(1 << 20),
        tree.dirs.len(),
        args.rounds,
        machine()?,
    );
    out.push_str("| What | Median | Fastest | Throughput of the median |\n|---|--:|--:|--:|\n");
    for Floor { name, files, bytes, rounds } in floors {
        let mut nanos: Vec<f64> = rounds.iter().map(|round| round.as_nanos() as f64).collect();
        nanos.sort_by(f64::total_cmp);
        let (median, fastest) = (nanos[nanos.len() / 2], nanos[0]);
        let mut throughput = Vec::new();
        if *files > 0 {
            throughput.push(per_second(*files as f64 * 1e9 / median));
        }
        if *bytes > 0 {
            throughput.push(bytes_per_second(*bytes as f64 * 1e9 / median));
        }
        let (median, fastest, throughput) = (time(median), time(fastest), throughput.join(", "));
        out.push_str(&format!("| {name} | {median} | {fastest} | {throughput} |\n"));
    }
    Ok(out)
}

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
fn print(table: &str) {
    print!("{table}");
}

/// Reports progress.
#[expect(clippy::print_stderr, reason = "this is where a program of the workspace talks to its user")]
fn say(line: &str) {
    eprintln!("{line}");
}
