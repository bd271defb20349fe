//! Prints a table of criterion's latest results.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use ctxsync_benches::{bytes_per_second, machine, per_second, time, write_part};
use serde::Deserialize;
use serde::de::DeserializeOwned;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The groups in the order of the documents; other groups follow.
const GROUPS: [&str; 15] = [
    "scope",
    "decide",
    "plan",
    "cut",
    "hash",
    "cut_and_hash",
    "seal_blocks",
    "open_blocks",
    "pack",
    "segment",
    "snapshot",
    "scan",
    "base",
    "apply",
    "sync",
];

/// Makes a table of what criterion measured last.
#[derive(Debug, Parser)]
struct Args {
    /// Where criterion keeps its results
    #[arg(long, default_value = "target/criterion")]
    criterion: PathBuf,
    /// Writes the table into the part `figures` of this document as well
    #[arg(long)]
    into: Option<PathBuf>,
}

/// A benchmark, as criterion describes it.
#[derive(Debug, Deserialize)]
struct Benchmark {
    group_id: String,
    full_id: String,
    throughput: Option<Throughput>,
}

#[derive(Debug, Deserialize)]
enum Throughput {
    Elements(u64),
    Bytes(u64),
    ElementsAndBytes { elements: u64, bytes: u64 },
}

/// Its samples: the number of iterations of each, and their time in nanoseconds.
#[derive(Debug, Deserialize)]
struct Samples {
    iters: Vec<f64>,
    times: Vec<f64>,
}

#[derive(Debug, Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Debug, Deserialize)]
struct Estimate {
    point_estimate: f64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(table) => {
            print(&table);
            ExitCode::SUCCESS
        }
        Err(error) => {
            tell(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<String> {
    let mut rows = Vec::new();
    collect(&args.criterion, &mut rows)?;
    if rows.is_empty() {
        return Err(format!("{} holds no results: run `cargo bench`", args.criterion.display()).into());
    }
    rows.sort();
    let mut table = format!("{}.\n\n", machine()?);
    table.push_str("| Benchmark | Median time | Median throughput | Fastest sample |\n|---|--:|--:|--:|\n");
    rows.iter().for_each(|(_, _, row)| table.push_str(row));
    if let Some(into) = &args.into {
        write_part(into, "figures", &table)?;
    }
    Ok(table)
}

/// Adds a row for each benchmark below `dir`, with the keys by which rows are sorted.
fn collect(dir: &Path, rows: &mut Vec<(usize, String, String)>) -> Result<()> {
    let listed = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for entry in listed {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        // The other directories have older results.
        if path.ends_with("new") && path.join("benchmark.json").exists() {
            let benchmark: Benchmark = read(&path.join("benchmark.json"))?;
            let place = GROUPS.iter().position(|group| *group == benchmark.group_id);
            let row = row(&benchmark, read(&path.join("estimates.json"))?, read(&path.join("sample.json"))?);
            rows.push((place.unwrap_or(GROUPS.len()), benchmark.full_id, row));
        } else {
            collect(&path, rows)?;
        }
    }
    Ok(())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path)?;
    serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()).into())
}

fn row(benchmark: &Benchmark, estimates: Estimates, samples: Samples) -> String {
    let median = estimates.median.point_estimate;
    let each = samples.times.iter().zip(&samples.iters).map(|(time, count)| time / count);
    let fastest = each.fold(f64::INFINITY, f64::min);
    let throughput = |nanos: f64| match benchmark.throughput {
        None => time(nanos),
        Some(Throughput::Elements(elements)) => per_second(elements as f64 * 1e9 / nanos),
        Some(Throughput::Bytes(bytes)) => bytes_per_second(bytes as f64 * 1e9 / nanos),
        Some(Throughput::ElementsAndBytes { elements, bytes }) => {
            let (elements, bytes) = (elements as f64 * 1e9 / nanos, bytes as f64 * 1e9 / nanos);
            format!("{}, {}", per_second(elements), bytes_per_second(bytes))
        }
    };
    let (id, time) = (&benchmark.full_id, time(median));
    format!("| `{id}` | {time} | {} | {} |\n", throughput(median), throughput(fastest))
}

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
fn print(table: &str) {
    print!("{table}");
}

#[expect(clippy::print_stderr, reason = "this is where a program of the workspace talks to its user")]
fn tell(line: &str) {
    eprintln!("{line}");
}
