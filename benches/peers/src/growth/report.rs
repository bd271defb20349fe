//! The section "Growth", its plots, and all values.

use std::fmt::Write as _;
use std::path::Path;

use super::plot::{Line, Plot};
use super::point::{Figure, Operation, Point, Series, grouped};
use super::slope::exponents;
use crate::{Result, markers, say};

/// By how much an exponent may exceed its limit: two runs may differ by as much.
const TOLERANCE: f64 = 0.2;

/// A document for when there is none yet.
const EMPTY: &str = "## Growth\n\n<!-- peers:begin growth -->\n<!-- peers:end -->\n";

/// Writes the plots and the values into `docs/growth`, and the section of `docs/performance.md` that shows
/// them, between its markers `growth`. `points` are sorted by number.
pub(crate) fn write(points: &[Point], docs: &Path) -> Result<()> {
    let dir = docs.join("growth");
    std::fs::create_dir_all(&dir)?;
    let (mut section, mut values) = (intro(points), String::from("# Growth: all values\n"));
    for series in Series::ALL {
        let points: Vec<&Point> = points.iter().filter(|p| p.series == series).collect();
        let Some(last) = points.last() else { continue };
        let _ = write!(section, "\n### With the {series}\n\n{}\n", about(series, &points));
        exponent_table(series, &points, &mut section);
        section.push('\n');
        let _ = write!(values, "\n## With the {series}\n\n{}\n", last.version);
        for figure in Figure::ALL {
            value_table(figure, &points, &mut values);
            let name = format!("{series}-{}.svg", figure.key());
            if plot(series, figure, &points).write(&dir.join(&name))? {
                let _ = writeln!(section, "![{figure} against {series}](growth/{name})");
            }
        }
    }
    let page = docs.join("performance.md");
    let text = if page.exists() { std::fs::read_to_string(&page)? } else { EMPTY.to_owned() };
    std::fs::write(&page, markers::fill(&text, "growth", &section)?)?;
    std::fs::write(dir.join("values.md"), &values)?;
    say(&section);
    say(&format!("written to {} and {}", page.display(), dir.display()));
    Ok(())
}

/// Returns the values of an operation and a figure, by number.
fn line(points: &[&Point], operation: Operation, figure: Figure) -> Vec<(f64, f64)> {
    let shown = match figure {
        // An operation that only reads does not change the store. One that works on the store alone has no
        // state.
        Figure::Stored => matches!(operation, Operation::FirstPush | Operation::PushOne),
        Figure::State => !matches!(operation, Operation::Log | Operation::Gc),
        _ => true,
    };
    let of = |p: &&Point| Some((p.n as f64, p.rows.get(&operation)?.figure(figure)?));
    if shown { points.iter().filter_map(of).collect() } else { Vec::new() }
}

fn plot(series: Series, figure: Figure, points: &[&Point]) -> Plot {
    let lines = Operation::ALL.iter().enumerate().filter_map(|(colour, operation)| {
        let mut points = line(points, *operation, figure);
        // Zero has no logarithm.
        points.retain(|(_, y)| *y > 0.0);
        (!points.is_empty()).then(|| Line { name: operation.to_string(), colour, points })
    });
    Plot { title: figure.to_string(), x: series.to_string(), unit: figure.unit(), lines: lines.collect() }
}

fn intro(points: &[Point]) -> String {
    let versions: std::collections::BTreeSet<&str> = points.iter().map(|p| p.version.as_str()).collect();
    let versions: Vec<&str> = versions.into_iter().collect();
    format!(
        "How each operation grows with the files of a tree and with the snapshots of a context: {}, on a local \
        store. The tables show exponents, between each two neighbouring points: 0 is constant, 1 linear, `–` from \
        or to nothing. **Bold** is what grows, in the last step, by {TOLERANCE} more than it must: constant memory; \
        time linear in the files, as whoever looks for a change walks all of them; requests linear where everything \
        is moved, else constant; bytes linear in what is moved, and in the segments that a snapshot names, one for \
        about a thousand files. The snapshots of a context cost only `log` and `gc`, which read them all, and space. \
        Below 1 lies what has a fixed part. All values are in [values.md](growth/values.md).\n",
        versions.join(", "),
    )
}

fn about(series: Series, points: &[&Point]) -> String {
    let numbers: Vec<String> = points.iter().map(|p| grouped(p.n)).collect();
    let numbers = numbers.join(", ");
    let mean = points.last().map_or(0, |p| p.bytes / p.files.max(1));
    match series {
        Series::Files => format!(
            "D1's shape at {numbers} files. Their sizes are an eighth of D1's, {mean} bytes on average, so that only \
            the number grows.\n"
        ),
        Series::Snapshots => format!(
            "2,000 files of D1's shape, {mean} bytes on average, after {numbers} snapshots; each changed 20 files. \
             Each brought a pack, so that a pull asks as many packs as still hold something.\n"
        ),
    }
}

/// Writes a table with a row for each operation and a column for each figure.
fn exponent_table(series: Series, points: &[&Point], out: &mut String) {
    let names: Vec<String> = Figure::ALL.iter().map(Figure::to_string).collect();
    let _ = writeln!(out, "| | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    for operation in Operation::ALL {
        let cells: Vec<String> = Figure::ALL
            .iter()
            .map(|figure| {
                let found = exponents(&line(points, operation, *figure));
                cell(&found, figure.must(series, operation))
            })
            .collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            let _ = writeln!(out, "| {operation} | {} |", cells.join(" | "));
        }
    }
}

/// Formats exponents as a cell; in bold if the last one is too large.
fn cell(exponents: &[Option<f64>], must: f64) -> String {
    let shown = |e: &Option<f64>| match e {
        // Adding zero turns -0 into 0.
        Some(e) => format!("{:.1}", (e * 10.0).round() / 10.0 + 0.0),
        None => "–".to_owned(),
    };
    let text = exponents.iter().map(shown).collect::<Vec<_>>().join(", ");
    match exponents.last() {
        Some(Some(last)) if *last > must + TOLERANCE => format!("**{text}**"),
        _ => text,
    }
}

/// Writes a table with a row for each operation and a column for each point.
fn value_table(figure: Figure, points: &[&Point], out: &mut String) {
    let numbers: Vec<String> = points.iter().map(|p| grouped(p.n)).collect();
    let _ = writeln!(out, "\n| {figure} | {} |\n|---|{}", numbers.join(" | "), "---|".repeat(numbers.len()));
    for operation in Operation::ALL {
        let known = line(points, operation, figure);
        if known.is_empty() {
            continue;
        }
        let value = |p: &&Point| {
            let found = known.iter().find(|(n, _)| *n == p.n as f64);
            found.map_or_else(String::new, |(_, value)| figure.unit().show(*value))
        };
        let values: Vec<String> = points.iter().map(value).collect();
        let _ = writeln!(out, "| {operation} | {} |", values.join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use super::super::point::Row;
    use super::*;
    use crate::measure::Used;

    /// Points with linear time, quadratic memory, and no requests.
    fn points() -> Vec<Point> {
        let point = |n: u64| {
            let used = Used { wall: n as f64 / 1e4, cpu: n as f64 / 1e4, peak_kib: (n * n / 4000) as i64 };
            let row = Row { runs: vec![used; 3], stored: 5 * n, ..Row::default() };
            let rows = [(Operation::FirstPush, row.clone()), (Operation::Pull, row)].into();
            Point {
                series: Series::Files,
                n,
                files: n,
                bytes: 1000 * n,
                version: "ctxsync 1".to_owned(),
                rows,
            }
        };
        vec![point(2000), point(20_000), point(200_000)]
    }

    #[test]
    fn the_tables_tell_what_grows_too_fast() {
        let points = points();
        let points: Vec<&Point> = points.iter().collect();
        let (mut exponents, mut values) = (String::new(), String::new());
        exponent_table(Series::Files, &points, &mut exponents);
        value_table(Figure::Wall, &points, &mut values);
        value_table(Figure::Stored, &points, &mut values);
        insta::assert_snapshot!(exponents + &values, @"
        | | wall time | CPU time | peak memory | requests | bytes sent | bytes received | bytes in the store | local state |
        |---|---|---|---|---|---|---|---|---|
        | first push | 1.0, 1.0 | 1.0, 1.0 | **2.0, 2.0** | 0.0, 0.0 | 0.0, 0.0 | 0.0, 0.0 | 1.0, 1.0 | 0.0, 0.0 |
        | pull into an empty directory | 1.0, 1.0 | 1.0, 1.0 | **2.0, 2.0** | 0.0, 0.0 | 0.0, 0.0 | 0.0, 0.0 |  | 0.0, 0.0 |

        | wall time | 2,000 | 20,000 | 200,000 |
        |---|---|---|---|
        | first push | 200 ms | 2 s | 20 s |
        | pull into an empty directory | 200 ms | 2 s | 20 s |

        | bytes in the store | 2,000 | 20,000 | 200,000 |
        |---|---|---|---|
        | first push | 10 kB | 100 kB | 1 MB |
        ");
    }

    #[test]
    fn a_figure_has_a_line_for_each_operation_that_is_not_nothing() {
        let points = points();
        let points: Vec<&Point> = points.iter().collect();
        let lines = plot(Series::Files, Figure::Wall, &points).lines;
        assert_eq!(
            lines.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(),
            ["first push", "pull into an empty directory"]
        );
        assert_eq!(lines[0].points, [(2000.0, 0.2), (20_000.0, 2.0), (200_000.0, 20.0)]);
        assert_ne!(lines[0].colour, lines[1].colour);
        assert_eq!(plot(Series::Files, Figure::Requests, &points).lines, []);
    }

    #[test]
    fn a_report_is_written_whole_and_again() {
        let docs = tempfile::tempdir().unwrap();
        write(&points(), docs.path()).unwrap();
        let page = std::fs::read_to_string(docs.path().join("performance.md")).unwrap();
        write(&points(), docs.path()).unwrap();
        assert_eq!(std::fs::read_to_string(docs.path().join("performance.md")).unwrap(), page);
        for (_, after) in page.match_indices("](growth/").map(|(at, mark)| page.split_at(at + mark.len())) {
            let name = after.split(')').next().unwrap();
            assert!(docs.path().join("growth").join(name).exists(), "{name}");
        }
    }
}
