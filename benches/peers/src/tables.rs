//! Tables of the results, in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::cell::{Cell, Row};
use crate::figures::{bytes, ratio, short, spread};
use crate::goals::outcomes;
use crate::machine::Machine;
use crate::tools::Tool;

/// Returns the goals and their results.
pub(crate) fn goals(cells: &[Cell]) -> String {
    let outcomes = outcomes(cells);
    let count = |met| outcomes.iter().filter(|o| o.met == met).count();
    let mut out = format!(
        "{} of {} goals are met, {} missed, {} not measured.\n\n| goal | at most | is | |\n|---|---|---|---|\n",
        count(Some(true)),
        outcomes.len(),
        count(Some(false)),
        count(None),
    );
    for o in &outcomes {
        let met = match o.met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        };
        let _ = writeln!(out, "| {} | {} | {} | {met} |", o.text, o.target, o.figure);
    }
    out
}

/// Returns the machine and the versions.
pub(crate) fn machine(machine: &Machine, cells: &[Cell]) -> String {
    let Machine { cpu, cores, memory_gib, kernel, file_system, day, commit } = machine;
    // Outside of a repository the commit is unknown.
    let at = if commit.is_empty() { String::new() } else { format!(", ctxsync at {commit}") };
    let mut out = format!(
        "{cpu}, {cores} cores, {memory_gib:.0} GiB of memory, Linux {kernel}, {file_system}; {day}{at}.\n\n"
    );
    let mut versions = BTreeMap::new();
    for (tool, row) in cells.iter().flat_map(|cell| &cell.tools) {
        versions.insert(*tool, row.version.clone());
    }
    for (tool, version) in versions {
        let _ = writeln!(out, "- {tool}: {version}");
    }
    out
}

/// Returns a table for each cell.
pub(crate) fn cells(cells: &[Cell]) -> String {
    let mut out = String::new();
    for cell in cells {
        let _ = table(cell, &mut out);
    }
    out
}

/// Returns the commands without duplicates: one data set represents the others.
pub(crate) fn commands(cells: &[Cell]) -> String {
    let mut commands = BTreeMap::new();
    for cell in cells {
        for (tool, row) in cell.tools.iter().filter(|(_, row)| !row.command.is_empty()) {
            let kind = (*tool, cell.operation, cell.to.is_remote());
            commands.entry(kind).or_insert_with(|| row.command.clone());
        }
    }
    let mut lines: Vec<String> = Vec::new();
    for command in commands.into_values() {
        if !lines.contains(&command) {
            lines.push(command);
        }
    }
    format!("```\n{}\n```\n", lines.join("\n"))
}

fn table(cell: &Cell, out: &mut String) -> std::fmt::Result {
    let part = if cell.divide == 1 { String::new() } else { format!(", divided by {}", cell.divide) };
    writeln!(out, "### {} {}, {}\n", cell.data, cell.operation.title(cell.data), cell.to.title())?;
    writeln!(out, "{} files, {}{part}.\n", cell.files, bytes(cell.bytes as f64))?;
    let remote = cell.to.is_remote();
    let traffic = if remote { " requests | sent | received |" } else { "" };
    writeln!(
        out,
        "| | runs | wall s | ours / theirs | CPU s | ours / theirs | peak MiB |{traffic} stored | added | objects |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|{}---|---|---|", if remote { "---|---|---|" } else { "" })?;
    let ours = cell.tools.get(&Tool::Ctxsync);
    for (tool, row) in &cell.tools {
        let peers = ours.filter(|_| *tool != Tool::Ctxsync);
        let against = |figure: fn(&_) -> f64| peers.map_or_else(String::new, |ours| ratio(ours, row, figure));
        write!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            name(*tool, row),
            row.runs.len(),
            spread(row, |r| r.wall),
            against(|r| r.wall),
            row.median(|r| r.cpu).map_or_else(String::new, short),
            against(|r| r.cpu),
            row.peak_mib().map_or_else(String::new, |mib| format!("{mib:.0}")),
        )?;
        if remote {
            let size = |n: Option<u64>| n.map_or_else(String::new, |n| bytes(n as f64));
            let requests = row.requests.map_or_else(String::new, |n| n.to_string());
            write!(out, " {requests} | {} | {} |", size(row.sent), size(row.received))?;
        }
        match tool {
            Tool::Find => writeln!(out, " | | |")?,
            _ => writeln!(
                out,
                " {} | {} | {} |",
                bytes(row.stored as f64),
                bytes(row.added as f64),
                row.objects
            )?,
        }
    }
    for (tool, row) in &cell.tools {
        if let Some(error) = &row.error {
            writeln!(out, "\n{tool} failed: {}", error.replace('\n', " "))?;
        }
    }
    writeln!(out)
}

/// Returns a tool's name and version number.
fn name(tool: Tool, row: &Row) -> String {
    let number = row.version.split_whitespace().find(|word| word.contains('.'));
    let number = number.unwrap_or_default().trim_start_matches('v').split('-').next().unwrap_or_default();
    format!("{tool} {number}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_cut_to_their_number() {
        let named = |tool, version: &str| name(tool, &Row { version: version.to_owned(), ..Row::default() });
        assert_eq!(
            named(Tool::Restic, "restic 0.14.0 compiled with go1.19.8 on linux/amd64"),
            "restic 0.14.0"
        );
        assert_eq!(named(Tool::S5cmd, "v2.3.0-991c9fb"), "s5cmd 2.3.0");
        assert_eq!(named(Tool::Find, "find (GNU findutils) 4.9.0"), "find 4.9.0");
        assert_eq!(named(Tool::Ctxsync, ""), "ctxsync");
    }
}
