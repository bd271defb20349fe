//! A whole run, cell by cell. Each one is written as soon as it is measured.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::args::RunArgs;
use crate::aside::Aside;
use crate::bench::{Bench, Surroundings};
use crate::cell::Cell;
use crate::machine::Machine;
use crate::plan::{self, Planned};
use crate::tools::Tool;
use crate::tree::{self, Size};
use crate::{Result, data, report, say};

/// Measures all selected cells without results.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let dir = absolute(&args.dir)?;
    let ctxsync = absolute(&args.ctxsync)?;
    let cells = plan::cells(args);
    let mut versions: BTreeMap<Tool, Option<String>> = BTreeMap::new();
    for tool in cells.iter().flat_map(|cell| &cell.tools) {
        versions.entry(*tool).or_insert_with(|| tool.version(&ctxsync));
    }
    for (tool, _) in versions.iter().filter(|(_, version)| version.is_none()) {
        say(&format!("{tool} is not installed and left out"));
    }
    let results = dir.join("results");
    std::fs::create_dir_all(&results)?;
    let aside = Aside::new(&dir.join("aside"))?;
    serde_json::to_writer_pretty(File::create(dir.join("machine.json"))?, &Machine::here(&dir))?;
    let start = Instant::now();
    for Planned { data, to, operation, tools } in cells {
        let path = results.join(Cell::file_name(data, to, operation, args.divide));
        let mut there = BTreeMap::new();
        if let (Ok(file), false) = (File::open(&path), args.again) {
            there = serde_json::from_reader::<_, Cell>(file)?.tools;
        }
        // What failed is tried again.
        there.retain(|_, row| row.error.is_none());
        let missing = tools.iter().filter(|tool| !there.contains_key(tool));
        let missing: Vec<_> =
            missing.filter_map(|tool| Some((*tool, versions.get(tool)?.clone()?))).collect();
        if missing.is_empty() {
            continue;
        }
        say(&format!("{:5.0} s: {data} {to} {operation}", start.elapsed().as_secs_f64()));
        aside.make_room()?;
        let data_dir = dir.join("data");
        let made = data::make(data, &data_dir, args.divide)?;
        let Size { files, bytes } = tree::size(&made.tree)?;
        let mut cell = Cell { data, to, operation, divide: args.divide, files, bytes, tools: there };
        let around = Surroundings { ctxsync: &ctxsync, aside: &aside, data: &data_dir };
        let bench = Bench::new(&made, to, operation, &dir.join("work"), around)?;
        bench.measure(&missing, args.rounds, &mut cell.tools)?;
        // A rename, so that the result is complete or missing.
        let unfinished = path.with_extension("unfinished");
        serde_json::to_writer_pretty(File::create(&unfinished)?, &cell)?;
        std::fs::rename(&unfinished, &path)?;
    }
    say(&format!("{:5.0} s", start.elapsed().as_secs_f64()));
    aside.empty()?;
    report::write(&dir, None)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}
