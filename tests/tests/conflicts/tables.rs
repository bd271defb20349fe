//! The tables of `docs/conflicts.md` that show the result of each pair of changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use regex::Regex;

use crate::kinds::{BASES, Cell, KINDS, Kind, Standing, split};
use crate::trial::{Came, Outcome};

/// Returns what each kind looks like, from the cells in which both sides have it.
fn looks(outcome: &Outcome) -> BTreeMap<Kind, Standing> {
    let same = outcome.cells.iter().filter(|(cell, _)| cell.here == cell.there);
    same.map(|(cell, came)| (cell.here, came.settled.clone())).collect()
}

/// The result of a cell, in one word.
fn word(cell: Cell, came: &Came, looks: &BTreeMap<Kind, Standing>) -> &'static str {
    let (stands, _) = split(&came.settled);
    let (is_here, is_there) = (stands == looks[&cell.here], stands == looks[&cell.there]);
    match (came.conflict, is_here, is_there) {
        (true, ..) => "**both**",
        (_, true, true) => "·",
        (_, true, false) => "here",
        (_, false, true) => "there",
        (_, false, false) => "merged",
    }
}

/// One table for each base: rows for the local side, columns for the context.
pub(crate) fn matrices(outcome: &Outcome) -> String {
    let looks = looks(outcome);
    let mut text = String::new();
    for base in BASES {
        let name = |kind: Kind| if kind == base { "*unchanged*" } else { kind.words() };
        let header: Vec<&str> = KINDS.into_iter().map(name).collect();
        writeln!(text, "#### Both had: {}\n", base.words()).unwrap();
        writeln!(text, "| here ↓, there → | {} |", header.join(" | ")).unwrap();
        writeln!(text, "|---|{}", "---|".repeat(KINDS.len())).unwrap();
        for here in KINDS {
            let words = KINDS.map(|there| {
                let cell = Cell { base, here, there };
                word(cell, &outcome.cells[&cell], &looks)
            });
            writeln!(text, "| **{}** | {} |", name(here), words.join(" | ")).unwrap();
        }
        text.push('\n');
    }
    text
}

fn show(standing: &Standing) -> String {
    let digest = Regex::new("conflict-[0-9a-f]{8}").unwrap();
    let line = |(path, what): (&String, &String)| {
        let path = digest.replace(path, "conflict-1a2b3c4d");
        let what = match &**what {
            "dir 0755" => String::new(),
            "dir 0700" => " (0700)".to_owned(),
            what => format!(" = {}", what.replace(" 0755", ", `+x`")),
        };
        let slash = if standing.keys().any(|p| p.starts_with(&format!("{path}/"))) || what.is_empty() {
            "/"
        } else {
            ""
        };
        format!("`{path}{slash}`{what}")
    };
    // A directory that contains something needs no row of its own.
    let holds = |path: &str| standing.keys().any(|p| p.starts_with(&format!("{path}/")));
    let shown = standing.iter().filter(|(path, what)| **what != "dir 0755" || !holds(path));
    let lines: Vec<String> = shown.map(line).collect();
    if lines.is_empty() { "nothing".to_owned() } else { lines.join("<br>") }
}

/// The result of each strategy for each conflict, by kinds. The base only makes a difference to other paths
/// below a directory.
pub(crate) fn conflicts(both: &Outcome, local: &Outcome, remote: &Outcome) -> String {
    let mut text = String::from(
        "| here | there | `keep-both` (4) | `prefer-local` (0) | `prefer-remote` (0) |\n|---|---|---|---|---|\n",
    );
    let mut seen: BTreeSet<(Kind, Kind)> = BTreeSet::new();
    for (cell, came) in both.cells.iter().filter(|(_, came)| came.conflict) {
        assert!(!came.failed, "{cell:?}");
        if !seen.insert((cell.here, cell.there)) {
            continue;
        }
        let shown = [came, &local.cells[cell], &remote.cells[cell]].map(|came| show(&came.settled));
        let [both, local, remote] = shown;
        let (here, there) = (cell.here.words(), cell.there.words());
        writeln!(text, "| {here} | {there} | {both} | {local} | {remote} |").unwrap();
    }
    text
}
