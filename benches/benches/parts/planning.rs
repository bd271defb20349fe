//! Planning: the decision for one path, and the merge-join of base, local and remote.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group};
use ctxsync_benches::{Row, RowRef, paths, rows, with_changes};
use policy_core::{ConflictPolicy, Local, Next, Reconciler, Rules, Source, Towards, Verdict, decide};

use super::config;

const PATHS: usize = 100_000;
const RULES: Rules =
    Rules { sync_local_file: true, conflict: ConflictPolicy::KeepBoth, hold_deletions: false };

/// The rows of the three sources.
#[derive(Debug, Default)]
struct Sources {
    base: Vec<Row>,
    local: Vec<Row>,
    remote: Vec<Row>,
}

impl Sources {
    /// Computes the plan, and counts the paths to write.
    fn plan(&self, towards: Towards) -> usize {
        let mut base = self.base.iter().map(RowRef);
        let mut local = self.local.iter().map(RowRef);
        let mut remote = self.remote.iter().map(RowRef);
        let mut reconciler = Reconciler::new(RULES, towards);
        let mut written = 0;
        loop {
            match reconciler.next() {
                Next::Step(step) => {
                    written += usize::from(step.decision.verdict == Verdict::Write);
                    black_box(step);
                }
                Next::Need(Source::Base) => reconciler.push_base(base.next()),
                Next::Need(Source::Local) => reconciler.push_local(local.next()),
                Next::Need(Source::Remote) => reconciler.push_remote(remote.next()),
                Next::End => return written,
            }
        }
    }
}

fn decisions(c: &mut Criterion) {
    let base = rows(&paths(PATHS));
    let local = with_changes(&base, 0);
    let remote = with_changes(&base, 50);
    let mut group = c.benchmark_group("decide");
    group.throughput(Throughput::Elements(PATHS as u64));
    group.bench_function("one_percent_changed_on_each_side", |b| {
        b.iter(|| {
            let sides = base.iter().zip(&local).zip(&remote);
            let decided = sides.map(|((base, local), remote)| {
                let local = Local::Present(local.entry());
                decide(Some(base.entry()), local, Some(remote.entry()), &RULES, Towards::Store)
            });
            decided.filter(|d| black_box(d).verdict != Verdict::Nothing).count()
        });
    });
    group.finish();
}

fn plans(c: &mut Criterion) {
    let all = rows(&paths(PATHS));
    let mine: Vec<Row> = with_changes(&all, 0).into_iter().step_by(100).collect();
    let theirs = with_changes(&all, 50);
    // The local side has rows only where the mount differs from the base. The last case lists it completely.
    let cases = [
        ("nothing_changed", 0, Sources { base: all.clone(), remote: all.clone(), ..Sources::default() }),
        (
            "one_percent_changed_on_each_side",
            PATHS / 100,
            Sources { base: all.clone(), local: mine, remote: theirs },
        ),
        ("everything_new", PATHS, Sources { local: all.clone(), ..Sources::default() }),
        ("all_sides_in_full", 0, Sources { base: all.clone(), local: all.clone(), remote: all }),
    ];
    let mut group = c.benchmark_group("plan");
    for (name, written, sources) in cases {
        assert_eq!(sources.plan(Towards::Store), written, "{name}");
        // In paths, so that the cases can be compared although they have different numbers of rows.
        group.throughput(Throughput::Elements(PATHS as u64));
        group.bench_function(name, |b| b.iter(|| sources.plan(Towards::Store)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = config();
    targets = decisions, plans
}
