//! The results, as a text for people and as JSON for programs.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use crate::cell::Cell;
use crate::machine::Machine;
use crate::{Result, markers, say, tables};

/// Writes `report.md` and `report.json` of the cells below `dir`, and fills the tables into a text with
/// markers.
pub(crate) fn write(dir: &Path, into: Option<&Path>) -> Result<()> {
    let mut cells = Vec::new();
    for entry in std::fs::read_dir(dir.join("results"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") {
            cells.push(serde_json::from_reader::<_, Cell>(File::open(&path)?)?);
        }
    }
    cells.sort_by_key(|c| (c.divide, c.data, c.to, c.operation));
    let machine: Machine = serde_json::from_reader(File::open(dir.join("machine.json"))?)?;
    // Results of smaller data are not mixed with others.
    let divides: BTreeSet<u64> = cells.iter().map(|cell| cell.divide).collect();
    let Some(divide) = divides.first() else { return Err("nothing was measured".into()) };
    let whole: Vec<Cell> = cells.iter().filter(|cell| cell.divide == *divide).cloned().collect();
    let parts = [
        ("goals", tables::goals(&whole)),
        ("machine", tables::machine(&machine, &whole)),
        ("cells", tables::cells(&whole)),
        ("commands", tables::commands(&whole)),
    ];
    let text: String = parts.iter().map(|(_, part)| format!("{part}\n")).collect();
    std::fs::write(dir.join("report.md"), &text)?;
    serde_json::to_writer_pretty(File::create(dir.join("report.json"))?, &cells)?;
    say(&tables::goals(&whole));
    say(&format!("written to {}", dir.join("report.md").display()));
    if let Some(into) = into {
        let mut text = std::fs::read_to_string(into)?;
        for (name, part) in &parts {
            text = markers::fill(&text, name, part)?;
        }
        std::fs::write(into, text)?;
        say(&format!("written into {}", into.display()));
    }
    Ok(())
}
