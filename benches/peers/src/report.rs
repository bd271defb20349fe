//! Tables of what was measured.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use crate::cell::{Cell, Row};
use crate::goals::{Figure, GOALS};
use crate::measure::Used;
use crate::tools::Tool;
use crate::{Result, say};

/// Writes `report.md` and `report.json` of the cells below `dir`.
pub(crate) fn write(dir: &Path) -> Result<()> {
    let mut cells = Vec::new();
    for entry in std::fs::read_dir(dir.join("results"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") {
            cells.push(serde_json::from_reader::<_, Cell>(File::open(&path)?)?);
        }
    }
    cells.sort_by_key(|c| (c.divide, c.data, c.to, c.operation));
    let text = markdown(&cells);
    std::fs::write(dir.join("report.md"), &text)?;
    serde_json::to_writer_pretty(File::create(dir.join("report.json"))?, &cells)?;
    say(&text);
    say(&format!("written to {}", dir.join("report.md").display()));
    Ok(())
}

impl Row {
    /// Returns the median of a figure over the rounds; `None` where there was none.
    pub(crate) fn median(&self, figure: impl Fn(&Used) -> f64) -> Option<f64> {
        median(self.runs.iter().map(figure).collect())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values.get(middle).copied(),
        _ => Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?)),
    }
}

fn markdown(cells: &[Cell]) -> String {
    let mut out = String::from(
        "Medians, in parentheses the least and the most. Ratios are ours to the tool's, round by round.\n\n",
    );
    let goals = goals(cells);
    if !goals.is_empty() {
        out.push_str("| goal | at most | is | |\n|---|---|---|---|\n");
        out.push_str(&goals);
        out.push('\n');
    }
    for cell in cells {
        let _ = table(cell, &mut out);
    }
    out
}

fn goals(cells: &[Cell]) -> String {
    let mut out = String::new();
    for goal in GOALS {
        let Some(is) = cells.iter().filter(|c| c.divide == 1).find_map(|c| goal.reached(c)) else { continue };
        let others: Vec<_> = goal.others.iter().map(Tool::to_string).collect();
        let what = if goal.figure == Figure::Wall { "seconds" } else { "bytes stored" };
        let met = if is <= goal.factor { "" } else { "**missed**" };
        let _ = writeln!(
            out,
            "| {} {} {}, {what} of {} | {} x {} | {is:.2} | {met} |",
            goal.data,
            goal.to,
            goal.operation,
            goal.ours,
            goal.factor,
            others.join(" or "),
        );
    }
    out
}

fn table(cell: &Cell, out: &mut String) -> std::fmt::Result {
    let part = if cell.divide == 1 { String::new() } else { format!(", a {}th", cell.divide) };
    writeln!(out, "### {} {} {}\n", cell.data, cell.to, cell.operation)?;
    writeln!(out, "{} files, {:.1} MB{part}\n", cell.files, mb(cell.bytes))?;
    writeln!(
        out,
        "| | wall s | CPU s | peak MiB | stored MB | added MB | objects | requests | sent MB | received MB | wall ratio | CPU ratio |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
    let ours = cell.tools.get(&Tool::Ctxsync);
    for (tool, row) in &cell.tools {
        let against = |figure: fn(&Used) -> f64| {
            ours.filter(|_| *tool != Tool::Ctxsync).map_or_else(String::new, |ours| ratio(ours, row, figure))
        };
        let peak = row.runs.iter().map(|r| r.peak_kib).max().unwrap_or(0) / 1024;
        writeln!(
            out,
            "| {tool} | {} | {} | {peak} | {:.2} | {:.2} | {} | {} | {} | {} | {} | {} |",
            spread(row, |r| r.wall),
            spread(row, |r| r.cpu),
            mb(row.stored),
            row.added as f64 / 1e6,
            row.objects,
            optional(row.requests.map(|n| n.to_string())),
            optional(row.sent.map(|n| format!("{:.2}", mb(n)))),
            optional(row.received.map(|n| format!("{:.2}", mb(n)))),
            against(|r| r.wall),
            against(|r| r.cpu),
        )?;
    }
    for (tool, row) in &cell.tools {
        if let Some(error) = &row.error {
            writeln!(out, "\n{tool} failed: {}", error.replace('\n', " "))?;
        }
    }
    writeln!(out)?;
    for (tool, row) in &cell.tools {
        writeln!(out, "- {tool}: {}", row.version)?;
    }
    writeln!(out)
}

fn spread(row: &Row, figure: impl Fn(&Used) -> f64) -> String {
    let mut all: Vec<f64> = row.runs.iter().map(&figure).collect();
    all.sort_by(f64::total_cmp);
    match (row.median(figure), all.first(), all.last()) {
        (Some(median), Some(least), Some(most)) => format!("{median:.2} ({least:.2}–{most:.2})"),
        _ => String::new(),
    }
}

fn ratio(ours: &Row, theirs: &Row, figure: impl Fn(&Used) -> f64) -> String {
    let pairs = ours.runs.iter().zip(&theirs.runs);
    let mut ratios: Vec<f64> = pairs.map(|(a, b)| figure(a) / figure(b).max(1e-6)).collect();
    ratios.sort_by(f64::total_cmp);
    match (median(ratios.clone()), ratios.first(), ratios.last()) {
        (Some(median), Some(least), Some(most)) => format!("{median:.2} ({least:.2}–{most:.2})"),
        _ => String::new(),
    }
}

fn optional(text: Option<String>) -> String {
    text.unwrap_or_default()
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
