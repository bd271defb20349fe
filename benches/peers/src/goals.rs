//! What we want to reach, as ratios to others in the same run.

use crate::cell::Operation::{self, FirstPush, Pull, PushChanged, PushUnchanged};
use crate::cell::{Cell, Row};
use crate::data::Set::{self, D1, D2, D3, D4, D5, D6};
use crate::place::Destination::{self, Local, S3};
use crate::tools::Tool::{self, Ctxsync, CtxsyncArchive, Find, Rclone, Restic, Rsync, Rustic, S5cmd};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    Wall,
    Stored,
}

/// At most `factor` times what the best of `others` needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    pub(crate) data: Set,
    pub(crate) to: Destination,
    pub(crate) operation: Operation,
    pub(crate) figure: Figure,
    pub(crate) ours: Tool,
    pub(crate) factor: f64,
    pub(crate) others: &'static [Tool],
}

const CHUNKED: &[Tool] = &[Restic, Rustic];
const ALL: &[Tool] = &[Restic, Rustic, Rclone, S5cmd];

const fn wall(
    data: Set,
    to: Destination,
    operation: Operation,
    factor: f64,
    others: &'static [Tool],
) -> Goal {
    Goal { data, to, operation, figure: Figure::Wall, ours: Ctxsync, factor, others }
}

const fn stored(data: Set, ours: Tool, factor: f64) -> Goal {
    Goal { data, to: Local, operation: FirstPush, figure: Figure::Stored, ours, factor, others: &[Restic] }
}

/// The goals that are ratios between tools.
pub(crate) static GOALS: &[Goal] = &[
    wall(D1, Local, FirstPush, 0.5, &[Rsync]),
    wall(D1, Local, FirstPush, 0.25, &[Restic]),
    wall(D1, Local, PushUnchanged, 2.0, &[Find]),
    wall(D1, Local, PushUnchanged, 0.5, &[Rsync]),
    wall(D1, Local, PushUnchanged, 0.1, &[Restic]),
    wall(D1, Local, PushChanged, 0.8, &[Rsync]),
    wall(D1, Local, PushChanged, 0.15, &[Restic]),
    wall(D1, Local, Pull, 0.7, &[Rsync]),
    wall(D1, Local, Pull, 0.45, CHUNKED),
    wall(D2, Local, FirstPush, 0.9, &[Rsync]),
    wall(D2, Local, FirstPush, 0.25, &[Restic]),
    wall(D2, Local, PushChanged, 0.4, &[Restic]),
    wall(D2, Local, Pull, 1.0, &[Rsync]),
    wall(D2, Local, Pull, 0.6, &[Rustic]),
    wall(D2, Local, Pull, 0.5, &[Restic]),
    wall(D3, Local, FirstPush, 1.0, &[Rsync]),
    wall(D3, Local, FirstPush, 0.3, &[Restic]),
    wall(D1, S3, FirstPush, 0.3, CHUNKED),
    wall(D1, S3, FirstPush, 0.04, &[S5cmd]),
    wall(D1, S3, PushUnchanged, 0.1, ALL),
    wall(D1, S3, Pull, 0.5, ALL),
    wall(D1, S3, Pull, 0.06, &[S5cmd]),
    wall(D2, S3, FirstPush, 0.6, ALL),
    wall(D2, S3, Pull, 0.6, ALL),
    wall(D3, S3, FirstPush, 0.6, ALL),
    wall(D3, S3, Pull, 0.6, ALL),
    stored(D1, Ctxsync, 1.0),
    stored(D4, Ctxsync, 1.0),
    stored(D5, Ctxsync, 1.0),
    stored(D1, CtxsyncArchive, 0.8),
    stored(D4, CtxsyncArchive, 0.8),
    stored(D5, CtxsyncArchive, 0.8),
    wall(D6, Local, PushUnchanged, 2.0, &[Find]),
];

impl Goal {
    /// Returns the ratio that was measured; `None` where one of the two was not.
    pub(crate) fn reached(&self, cell: &Cell) -> Option<f64> {
        if (cell.data, cell.to, cell.operation) != (self.data, self.to, self.operation) {
            return None;
        }
        let figure = |row: &Row| match self.figure {
            Figure::Wall => row.median(|used| used.wall),
            Figure::Stored => (row.stored > 0).then_some(row.stored as f64),
        };
        let ours = figure(cell.tools.get(&self.ours)?)?;
        let others = self.others.iter().filter_map(|tool| figure(cell.tools.get(tool)?));
        Some(ours / others.min_by(f64::total_cmp)?)
    }
}
