//! What is measured by default: each cell that a goal needs, with the tools that the goal names. All of it
//! takes about two hours on two cores.

use clap::ValueEnum;

use crate::args::RunArgs;
use crate::cell::Operation::{
    self, FetchOne, FirstPush, Pull, PullChanged, PushChanged, PushOne, PushUnchanged,
};
use crate::data::Set::{self, D1, D2, D3, D4, D5, D6};
use crate::place::Destination::{self, Local, S3, S3Delay};
use crate::tools::Tool::{self, Cp, Ctxsync, CtxsyncArchive, Find, Rclone, Restic, Rsync, Rustic, S5cmd};

/// A cell to measure, and its tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) data: Set,
    pub(crate) to: Destination,
    pub(crate) operation: Operation,
    pub(crate) tools: Vec<Tool>,
}

/// Returns the tools that goals need in a cell.
fn needed(data: Set, to: Destination, operation: Operation) -> &'static [Tool] {
    match (data, to, operation) {
        (D1, Local, FirstPush) => &[Ctxsync, CtxsyncArchive, Rsync, Restic, Rustic],
        (D1, Local, PushUnchanged) => &[Ctxsync, Find, Rsync, Restic, Rustic],
        (D1, Local, Pull) | (D2 | D3, Local, FirstPush | Pull) => &[Ctxsync, Cp, Rsync, Restic, Rustic],
        (D1, Local, PushChanged | PullChanged | FetchOne) | (D2, Local, PushChanged) => {
            &[Ctxsync, Rsync, Restic, Rustic]
        }
        (D4 | D5, Local, FirstPush | PushChanged) => &[Ctxsync, CtxsyncArchive, Restic, Rustic],
        (D6, Local, PushUnchanged) => &[Ctxsync, Find, Rsync, Restic],
        // Here only ctxsync's requests matter, which a server counts.
        (D6, Local | S3, PushOne) => &[Ctxsync],
        (D1, S3, FirstPush) => &[Ctxsync, Restic, Rustic, S5cmd],
        (D1, S3, PushUnchanged | Pull) | (D2 | D3, S3, FirstPush | Pull) => {
            &[Ctxsync, Restic, Rustic, Rclone, S5cmd]
        }
        (D1 | D3, S3 | S3Delay, FetchOne)
        | (D1, S3Delay, FirstPush | PushUnchanged | Pull)
        | (D2 | D3, S3Delay, FirstPush | Pull) => &[Ctxsync, Restic, Rustic],
        _ => &[],
    }
}

/// Returns the cells that the arguments select. Operations that are named are measured even if no goal needs
/// them, and tools that are named replace those of the goals.
pub(crate) fn cells(args: &RunArgs) -> Vec<Planned> {
    let mut cells = Vec::new();
    for data in named(&args.data) {
        for to in named(&args.to) {
            for operation in named(&args.operations) {
                let mut tools = needed(data, to, operation).to_vec();
                if tools.is_empty() && args.operations.is_empty() {
                    continue;
                }
                if !args.tools.is_empty() || tools.is_empty() {
                    tools = named(&args.tools);
                }
                tools.retain(|tool| tool.does(operation, to));
                cells.push(Planned { data, to, operation, tools });
            }
        }
    }
    cells
}

/// Returns the values, or all if there are none.
fn named<T: ValueEnum + Copy>(values: &[T]) -> Vec<T> {
    if values.is_empty() { T::value_variants().to_vec() } else { values.to_vec() }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn planned(line: &str) -> Vec<Planned> {
        let args = Args::try_parse_from(["peers", "run"].into_iter().chain(line.split_whitespace())).unwrap();
        let Command::Run(args) = args.command else { panic!("not a run") };
        cells(&args)
    }

    #[test]
    fn the_plan_is_what_the_goals_need_and_names_choose_from_it_or_add_to_it() {
        let all = planned("");
        assert!(all.iter().all(|cell| cell.tools.contains(&Ctxsync)));
        assert!(all.contains(&Planned { data: D6, to: S3, operation: PushOne, tools: vec![Ctxsync] }));
        assert!(all.iter().all(|cell| cell.to != S3Delay || !cell.tools.contains(&S5cmd)));

        assert!(planned("--data d1 --to local").iter().all(|cell| all.contains(cell)));
        let [named] = &planned("--data d6 --to s3 --operations pull --tools ctxsync,s5cmd,rsync")[..] else {
            panic!("one cell")
        };
        assert_eq!(named.tools, [Ctxsync, S5cmd], "rsync knows no S3");
    }
}
