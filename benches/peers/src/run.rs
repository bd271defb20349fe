//! Runs the cells that are missing, one after the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::args::RunArgs;
use crate::bench::Bench;
use crate::cell::Cell;
use crate::tree::{self, Size};
use crate::{Result, data, report, say};

/// Measures all cells that were asked for and are not there yet.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let dir = absolute(&args.dir)?;
    let ctxsync = absolute(&args.ctxsync)?;
    let mut tools = Vec::new();
    for tool in &args.tools {
        match tool.version(&ctxsync) {
            Some(version) => tools.push((*tool, version)),
            None => say(&format!("{tool} is not installed and left out")),
        }
    }
    let results = dir.join("results");
    std::fs::create_dir_all(&results)?;
    for set in &args.data {
        let data = data::make(*set, &dir.join("data"), args.divide)?;
        let Size { files, bytes } = tree::size(&data.tree)?;
        for to in &args.to {
            for operation in &args.operations {
                let (data_, divide) = (data.set, args.divide);
                let mut cell = Cell {
                    data: data_,
                    to: *to,
                    operation: *operation,
                    divide,
                    files,
                    bytes,
                    tools: BTreeMap::new(),
                };
                let path = results.join(cell.file_name());
                if let (Ok(file), false) = (File::open(&path), args.again) {
                    cell.tools = serde_json::from_reader::<_, Cell>(file)?.tools;
                }
                let missing =
                    tools.iter().filter(|(t, _)| t.does(*operation, *to) && !cell.tools.contains_key(t));
                let missing: Vec<_> = missing.cloned().collect();
                if missing.is_empty() {
                    continue;
                }
                say(&format!("{set} {to} {operation}"));
                let bench = Bench::new(&data, *to, *operation, &dir.join("work"), &ctxsync)?;
                bench.measure(&missing, args.rounds, &mut cell.tools)?;
                // Whole or not at all.
                let unfinished = path.with_extension("unfinished");
                serde_json::to_writer_pretty(File::create(&unfinished)?, &cell)?;
                std::fs::rename(&unfinished, &path)?;
            }
        }
    }
    report::write(&dir)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}
