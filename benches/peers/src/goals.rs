//! The goals, and whether they are met: mostly ratios to other tools in the same run.

use crate::cell::Operation::{self, FetchOne, FirstPush, Pull, PushChanged, PushOne, PushUnchanged};
use crate::cell::{Cell, Row};
use crate::data::Set::{self, D1, D2, D3, D4, D5, D6};
use crate::figures::{bytes, short};
use crate::place::Destination::{self, Local, S3, S3Delay};
use crate::tools::Tool::{self, Ctxsync, CtxsyncArchive, Find, Rclone, Restic, Rsync, Rustic, S5cmd};

/// A goal and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The work.
    pub(crate) text: String,
    /// The most that it may take.
    pub(crate) target: String,
    /// What it took.
    pub(crate) figure: String,
    /// Whether the goal is met; `None` if it was not measured.
    pub(crate) met: Option<bool>,
}

const CHUNKED: &[Tool] = &[Restic, Rustic];
const ALL: &[Tool] = &[Restic, Rustic, Rclone, S5cmd];

/// Seconds from a request to its answer with `s3-delay`. Opening a connection takes as long again.
const ROUND_TRIP: f64 = 0.04;
/// Consecutive round trips to the first file: list, snapshot, segments, block.
const TO_THE_FIRST_FILE: f64 = 4.0;

/// Checks all goals against the results.
pub(crate) fn outcomes(cells: &[Cell]) -> Vec<Outcome> {
    let c = Cells(cells);
    let mut goals = vec![
        c.wall(D1, Local, FirstPush, 0.5, &[Rsync]),
        c.wall(D1, Local, FirstPush, 0.25, &[Restic]),
        c.wall(D1, Local, PushUnchanged, 2.0, &[Find]),
        c.wall(D1, Local, PushUnchanged, 0.5, &[Rsync]),
        c.wall(D1, Local, PushUnchanged, 0.1, &[Restic]),
        c.wall(D1, Local, PushChanged, 0.8, &[Rsync]),
        c.wall(D1, Local, PushChanged, 0.15, &[Restic]),
        c.wall(D1, Local, Pull, 0.7, &[Rsync]),
        c.wall(D1, Local, Pull, 0.45, CHUNKED),
        c.wall(D2, Local, FirstPush, 0.9, &[Rsync]),
        c.wall(D2, Local, FirstPush, 0.25, &[Restic]),
        c.wall(D2, Local, PushChanged, 0.4, &[Restic]),
        c.most(
            (D2, Local, PushChanged),
            "bytes stored for it",
            c.row((D2, Local, PushChanged), Ctxsync).map(|row| row.added as f64),
            Some(f64::from(4 << 20)),
            bytes,
        ),
        c.wall(D2, Local, Pull, 1.0, &[Rsync]),
        c.wall(D2, Local, Pull, 0.6, &[Rustic]),
        c.wall(D2, Local, Pull, 0.5, &[Restic]),
        c.wall(D3, Local, FirstPush, 1.0, &[Rsync]),
        c.wall(D3, Local, FirstPush, 0.3, &[Restic]),
        c.wall(D1, S3, FirstPush, 0.3, CHUNKED),
        c.wall(D1, S3, FirstPush, 0.04, &[S5cmd]),
        c.wall(D1, S3, PushUnchanged, 0.1, ALL),
        c.requests((D1, S3, PushUnchanged), 1),
        c.wall(D1, S3, Pull, 0.5, ALL),
        c.wall(D1, S3, Pull, 0.06, &[S5cmd]),
        c.wall(D2, S3, FirstPush, 0.6, ALL),
        c.wall(D2, S3, Pull, 0.6, ALL),
        c.wall(D3, S3, FirstPush, 0.6, ALL),
        c.wall(D3, S3, Pull, 0.6, ALL),
    ];
    for data in [D1, D2, D3] {
        for operation in [FirstPush, Pull] {
            goals.push(c.against((data, S3Delay, operation), 1.3, (data, S3, operation)));
        }
    }
    let seconds = |value: f64| format!("{} s", short(value));
    let without = c.seconds((D1, S3, PushUnchanged), Ctxsync);
    let most = without.map(|own| 1.2 * (own + ROUND_TRIP));
    let measured = c.seconds((D1, S3Delay, PushUnchanged), Ctxsync);
    let what = "our own without delay, one round trip, 20%";
    goals.push(c.most((D1, S3Delay, PushUnchanged), what, measured, most, seconds));
    for data in [D1, D3] {
        let most = 1.2 * ROUND_TRIP * (TO_THE_FIRST_FILE + 1.0);
        let measured = c.seconds((data, S3Delay, FetchOne), Ctxsync);
        let what = "4 round trips, the connection's, 20%";
        goals.push(c.most((data, S3Delay, FetchOne), what, measured, Some(most), seconds));
    }
    for (ours, factor) in [(Ctxsync, 1.0), (CtxsyncArchive, 0.8)] {
        goals.extend([D1, D4, D5].map(|data| c.stored(data, ours, factor)));
    }
    let one = (D6, S3, PushOne);
    let sent = c.row(one, Ctxsync).and_then(|row| row.sent).map(|sent| sent as f64);
    goals.extend([
        c.wall(D6, Local, PushUnchanged, 2.0, &[Find]),
        c.most(one, "bytes sent", sent, Some(f64::from(256 << 10)), bytes),
        c.requests(one, 4),
        c.against((D6, Local, PushOne), 1.5, (D6, Local, PushUnchanged)),
        c.memory(256.0),
        c.cpu(),
    ]);
    goals
}

type Place = (Set, Destination, Operation);

struct Cells<'a>(&'a [Cell]);

impl Cells<'_> {
    fn row(&self, (data, to, operation): Place, tool: Tool) -> Option<&Row> {
        let cell = self.0.iter().find(|c| (c.data, c.to, c.operation) == (data, to, operation))?;
        cell.tools.get(&tool).filter(|row| !row.runs.is_empty())
    }

    fn seconds(&self, place: Place, tool: Tool) -> Option<f64> {
        self.row(place, tool)?.median(|used| used.wall)
    }

    /// Our time is at most `factor` times that of the fastest of `others`.
    fn wall(
        &self,
        data: Set,
        to: Destination,
        operation: Operation,
        factor: f64,
        others: &[Tool],
    ) -> Outcome {
        let place = (data, to, operation);
        let ours = self.seconds(place, Ctxsync);
        self.ratio(
            title(place),
            ours,
            factor,
            others,
            |tool| self.seconds(place, tool),
            |v| format!("{} s", short(v)),
        )
    }

    fn stored(&self, data: Set, ours: Tool, factor: f64) -> Outcome {
        let place = (data, Local, FirstPush);
        let stored = |tool| self.row(place, tool).map(|row| row.stored as f64);
        let mode = if ours == CtxsyncArchive { "Archive" } else { "File" };
        self.ratio(format!("{data} bytes stored, `{mode}`"), stored(ours), factor, &[Restic], stored, bytes)
    }

    fn ratio(
        &self,
        text: String,
        ours: Option<f64>,
        factor: f64,
        others: &[Tool],
        theirs: impl Fn(Tool) -> Option<f64>,
        show: impl Fn(f64) -> String,
    ) -> Outcome {
        let names: Vec<_> = others.iter().map(Tool::to_string).collect();
        let whom = match &names[..] {
            [one] => one.clone(),
            _ => format!("the best of {}", names.join(", ")),
        };
        let known: Vec<_> = others.iter().filter_map(|tool| Some((theirs(*tool)?, tool))).collect();
        let best = known.iter().min_by(|a, b| a.0.total_cmp(&b.0));
        let pair = ours.zip(best);
        let figure = pair.map(|(ours, (best, tool))| {
            let named = if others.len() > 1 { format!(" {tool}") } else { String::new() };
            let part = if known.len() < others.len() { ", not all were measured" } else { "" };
            format!("{} x{named} ({} to {}{part})", short(ours / best), show(ours), show(*best))
        });
        let met = pair.map(|(ours, (best, _))| ours <= factor * best);
        outcome(text, format!("{factor} x {whom}"), figure, met)
    }

    /// Our time in one cell is at most `factor` times that in another one.
    fn against(&self, place: Place, factor: f64, other: Place) -> Outcome {
        let (ours, base) = (self.seconds(place, Ctxsync), self.seconds(other, Ctxsync));
        let pair = ours.zip(base);
        let figure = pair.map(|(a, b)| format!("{} x ({} s to {} s)", short(a / b), short(a), short(b)));
        let of = if place.1 == other.1 { other.2.title(other.0) } else { "our own without delay" };
        outcome(title(place), format!("{factor} x {of}"), figure, pair.map(|(a, b)| a <= factor * b))
    }

    fn requests(&self, place: Place, most: u64) -> Outcome {
        let requests = self.row(place, Ctxsync).and_then(|row| row.requests);
        let figure = requests.map(|n| n.to_string());
        outcome(format!("{}: requests", title(place)), most.to_string(), figure, requests.map(|n| n <= most))
    }

    fn most(
        &self,
        place: Place,
        what: &str,
        figure: Option<f64>,
        most: Option<f64>,
        show: impl Fn(f64) -> String,
    ) -> Outcome {
        let met = figure.zip(most).map(|(figure, most)| figure <= most);
        let target = most.map_or_else(String::new, &show);
        outcome(format!("{}: {what}", title(place)), target, figure.map(show), met)
    }

    fn memory(&self, most: f64) -> Outcome {
        let ours = |cell: &Cell| {
            let rows =
                [Ctxsync, CtxsyncArchive].into_iter().filter_map(|tool| cell.tools.get(&tool)?.peak_mib());
            rows.max_by(f64::total_cmp).map(|peak| (peak, title((cell.data, cell.to, cell.operation))))
        };
        let peak = self.0.iter().filter_map(ours).max_by(|a, b| a.0.total_cmp(&b.0));
        let figure = peak.as_ref().map(|(peak, title)| format!("{peak:.0} MiB ({title})"));
        let met = peak.map(|(peak, _)| peak <= most);
        outcome("peak memory, everything".to_owned(), format!("{most} MiB"), figure, met)
    }

    fn cpu(&self) -> Outcome {
        let mut ratios = Vec::new();
        for cell in self.0 {
            for peer in CHUNKED {
                let cpu = |tool| cell.tools.get(tool).and_then(|row: &Row| row.median(|used| used.cpu));
                if let Some((ours, theirs)) = cpu(&Ctxsync).zip(cpu(peer)) {
                    let title = title((cell.data, cell.to, cell.operation));
                    ratios.push((ours / theirs.max(1e-6), format!("{title}, {peer}")));
                }
            }
        }
        ratios.sort_by(|a, b| b.0.total_cmp(&a.0));
        let missed = ratios.iter().filter(|(ratio, _)| *ratio >= 1.0).count();
        let shown =
            ratios.iter().take(missed.max(1)).map(|(ratio, of)| format!("{} x ({of})", short(*ratio)));
        let shown: Vec<_> = shown.collect();
        let met = (!ratios.is_empty()).then_some(missed == 0);
        let figure =
            met.map(|_| format!("{} of {} not less; most: {}", missed, ratios.len(), shown.join(", ")));
        outcome("CPU seconds, everything".to_owned(), "less than restic, rustic".to_owned(), figure, met)
    }
}

fn outcome(text: String, target: String, figure: Option<String>, met: Option<bool>) -> Outcome {
    let met = met.filter(|_| figure.is_some());
    Outcome { text, target, figure: figure.unwrap_or_else(|| "not measured".to_owned()), met }
}

fn title((data, to, operation): Place) -> String {
    format!("{data} {}, {}", operation.title(data), to.title())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::measure::Used;

    fn cell((data, to, operation): Place, walls: &[(Tool, f64)]) -> Cell {
        let row = |wall: f64| Row {
            runs: [0.9, 1.0, 1.3].map(|f| Used { wall: wall * f, cpu: wall, peak_kib: 1024 }).to_vec(),
            requests: Some(2),
            ..Row::default()
        };
        let tools: BTreeMap<_, _> = walls.iter().map(|(tool, wall)| (*tool, row(*wall))).collect();
        Cell { data, to, operation, divide: 1, files: 1, bytes: 1, tools }
    }

    fn found<'a>(outcomes: &'a [Outcome], text: &str, target: &str) -> &'a Outcome {
        let mut all = outcomes.iter().filter(|o| o.text == text && o.target == target);
        all.next().unwrap_or_else(|| panic!("{text}, {target} is not among {outcomes:#?}"))
    }

    #[test]
    fn nothing_measured_is_neither_met_nor_missed() {
        for outcome in outcomes(&[]) {
            assert_eq!((outcome.figure.as_str(), outcome.met), ("not measured", None), "{}", outcome.text);
        }
    }

    #[test]
    fn a_ratio_is_to_the_best_of_the_others_by_medians() {
        let cells = [
            cell((D1, Local, Pull), &[(Ctxsync, 1.0), (Rsync, 1.25), (Restic, 3.0), (Rustic, 2.0)]),
            cell((D1, S3, Pull), &[(Ctxsync, 1.0), (Restic, 4.0), (S5cmd, 20.0)]),
        ];
        let outcomes = outcomes(&cells);
        let local = found(&outcomes, "D1 pull, local", "0.7 x rsync");
        assert_eq!((local.figure.as_str(), local.met), ("0.80 x (1.00 s to 1.25 s)", Some(false)));
        let local = found(&outcomes, "D1 pull, local", "0.45 x the best of restic, rustic");
        assert_eq!((local.figure.as_str(), local.met), ("0.50 x rustic (1.00 s to 2.00 s)", Some(false)));
        let s3 = found(&outcomes, "D1 pull, S3", "0.5 x the best of restic, rustic, rclone, s5cmd");
        assert_eq!(s3.figure, "0.25 x restic (1.00 s to 4.00 s, not all were measured)");
        assert_eq!(s3.met, Some(true));
        assert_eq!(found(&outcomes, "D1 pull, S3", "0.06 x s5cmd").met, Some(true));
    }

    #[test]
    fn delay_requests_memory_and_cpu_are_judged() {
        let mut cells = vec![
            cell((D1, S3, PushUnchanged), &[(Ctxsync, 0.1), (Restic, 0.09)]),
            cell((D1, S3Delay, PushUnchanged), &[(Ctxsync, 0.2)]),
            cell((D1, S3Delay, FetchOne), &[(Ctxsync, 0.2)]),
            cell((D6, Local, PushUnchanged), &[(Ctxsync, 1.0)]),
            cell((D6, Local, PushOne), &[(Ctxsync, 1.6)]),
        ];
        cells[4].tools.get_mut(&Ctxsync).unwrap().runs[0].peak_kib = 300 << 10;
        let outcomes = outcomes(&cells);
        let judged = |text, target| {
            let Outcome { figure, met, .. } = found(&outcomes, text, target);
            (figure.as_str(), *met)
        };
        assert_eq!(judged("D1 nothing changed, S3: requests", "1"), ("2", Some(false)));
        let own = "D1 nothing changed, S3 with delay: our own without delay, one round trip, 20%";
        assert_eq!(judged(own, "0.17 s"), ("0.20 s", Some(false)));
        let first = "D1 first usable file, S3 with delay: 4 round trips, the connection's, 20%";
        assert_eq!(judged(first, "0.24 s"), ("0.20 s", Some(true)));
        let one = judged("D6 one file changed, local", "1.5 x nothing changed");
        assert_eq!(one, ("1.60 x (1.60 s to 1.00 s)", Some(false)));
        let peak = judged("peak memory, everything", "256 MiB");
        assert_eq!(peak, ("300 MiB (D6 one file changed, local)", Some(false)));
        let cpu = judged("CPU seconds, everything", "less than restic, rustic");
        assert_eq!(cpu, ("1 of 1 not less; most: 1.11 x (D1 nothing changed, S3, restic)", Some(false)));
    }
}
