//! How each operation grows with the files of a tree, and with the snapshots of a context.
//!
//! ```text
//! bench ──► points: what was measured with so many files, or snapshots ──► slope ──► report: tables, plots
//! ```
//!
//! There is one local store and no other tool: only the line through the points matters.

mod bench;
mod plot;
mod point;
mod report;
mod slope;

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::aside::Aside;
use crate::tools::Tool;
use crate::{Result, say};
use bench::Place;
use point::{Point, Series};

/// How `growth` is called.
#[derive(Debug, Args)]
pub(crate) struct GrowthArgs {
    /// How many files.
    #[arg(long, value_delimiter = ',', default_value = "2000,20000,200000,1000000")]
    files: Vec<u64>,
    /// How many snapshots of 2,000 files.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000")]
    snapshots: Vec<u64>,
    /// Rounds that count; one more comes before them.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measures again what was measured.
    #[arg(long)]
    again: bool,
    /// Where work and results go, in a directory `growth`. Needs some 35 GB of disk.
    #[arg(long, default_value = "target/peers")]
    dir: PathBuf,
    /// The program that is measured.
    #[arg(long, default_value = "target/release/ctxsync")]
    ctxsync: PathBuf,
    /// Writes the section "Growth" of performance.md and the plots that it shows there [default: beside the
    /// results].
    #[arg(long, overrides_with = "docs")]
    docs: Option<PathBuf>,
}

/// Measures the missing points, and writes the report of all points.
pub(crate) fn run(args: &GrowthArgs) -> Result<()> {
    let dir = std::path::absolute(&args.dir)?.join("growth");
    let results = dir.join("results");
    std::fs::create_dir_all(&results)?;
    let ctxsync = std::path::absolute(&args.ctxsync)?;
    // The large ones come last, because their files slow down whatever creates files after them.
    let snapshots = args.snapshots.iter().map(|n| (Series::Snapshots, *n));
    let wanted: Vec<_> = snapshots.chain(args.files.iter().map(|n| (Series::Files, *n))).collect();
    let aside = Aside::new(&dir.join("aside"))?;
    let place = Place { dir: dir.clone(), ctxsync: &ctxsync, rounds: args.rounds, aside };
    for (series, n) in wanted {
        let path = results.join(format!("{series}-{n}.json"));
        if path.exists() && !args.again {
            continue;
        }
        say(&format!("{n} {series}"));
        let version = Tool::Ctxsync.version(&ctxsync).ok_or("ctxsync is not there; build it, or name it")?;
        let point = bench::measure(series, n, version, &place)?;
        // A rename, so that the result is complete or missing.
        let unfinished = path.with_extension("unfinished");
        serde_json::to_writer_pretty(File::create(&unfinished)?, &point)?;
        std::fs::rename(&unfinished, &path)?;
    }
    report::write(&read(&results)?, args.docs.as_deref().unwrap_or(&dir))?;
    place.aside.empty()
}

/// Returns the results, by series and number.
fn read(results: &Path) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    for entry in std::fs::read_dir(results)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") {
            points.push(serde_json::from_reader::<_, Point>(File::open(&path)?)?);
        }
    }
    points.sort_by_key(|p| (p.series, p.n));
    Ok(points)
}
