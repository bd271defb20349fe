//! Whole machines against a ledger, by seed. Machines on one context edit, sync, die and are replaced, while requests
//! and calls of the file system fail. In the end nothing goes wrong any more: then everything that was written, and
//! that nothing knowingly removed, still exists, all machines agree, and the store is whole.
//!
//! `CTXSYNC_SEEDS=5000` sets how many seeds are tried, `CTXSYNC_FIRST=7000` which is the first, and `CTXSYNC_SEED=17`
//! tries only that one. `CTXSYNC_STEPS=0,3,7-` leaves out all other steps of it, and what goes wrong in step 7.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod archives;
mod branch;
mod copy;
mod coverage;
mod damage;
mod deletion;
mod disk;
mod draw;
mod edits;
mod ending;
mod extract;
mod history;
mod outside;
mod power;
mod recycle;
mod replace;
mod replay;
mod run;
mod schedule;
mod session;
mod settle;
mod trace;
mod wire;

use std::ops::Range;
use std::sync::{Arc, Mutex};

use replay::{Fate, explain, run};
use schedule::Schedule;

/// How many seeds the tests of a commit try.
const SEEDS: u64 = 400;
/// Seeds that have found a mistake.
const FAILED: [u64; 14] =
    [4952, 5993, 7402, 8588, 9940, 12601, 17406, 22293, 31868, 34761, 37605, 48740, 53057, 67391];
/// How many of the first [`SEEDS`] are run twice.
const TRACED: u64 = 20;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Returns the seeds to try; `most` of them if nothing else is asked for.
fn seeds(most: u64) -> Range<u64> {
    let first = variable("CTXSYNC_FIRST").unwrap_or(0);
    match variable("CTXSYNC_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + variable("CTXSYNC_SEEDS").unwrap_or(most),
    }
}

/// Runs a test on a large stack: in a build without optimization, what is awaited takes much of it.
fn on_a_large_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Tries seeds until none is left.
fn try_seeds(left: &Mutex<impl Iterator<Item = u64>>) {
    while let Some(seed) = left.lock().ok().and_then(|mut left| left.next()) {
        let schedule = replay::chosen(Schedule::draw(seed));
        if let Fate::Fails(message) = run(&schedule, false).0 {
            panic!("{}", explain(schedule, &message));
        }
    }
}

#[test]
fn machines_lose_nothing_and_agree_in_the_end() {
    coverage::listen();
    let left = Arc::new(Mutex::new(seeds(SEEDS)));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runs: Vec<_> = (0..threads)
        .map(|_| {
            let left = Arc::clone(&left);
            std::thread::spawn(move || on_a_large_stack(move || try_seeds(&left)))
        })
        .collect();
    for ended in runs {
        if let Err(panic) = ended.join() {
            std::panic::resume_unwind(panic);
        }
    }
    println!("{}", coverage::table());
    if variable("CTXSYNC_SEED").is_none() {
        let missing = coverage::missing();
        assert!(missing.is_empty(), "the seeds have never met {missing:#?}");
    }
}

/// Seeds beyond those of [`machines_lose_nothing_and_agree_in_the_end`] that have found a mistake.
#[test]
fn what_failed_once_holds() {
    on_a_large_stack(|| {
        coverage::listen();
        try_seeds(&Mutex::new(FAILED.into_iter()));
    });
}

/// A seed decides everything: requests and their order, names and ids, and how each step ends.
#[test]
fn a_seed_always_gives_the_same_trace() {
    on_a_large_stack(|| {
        coverage::listen();
        for seed in seeds(TRACED) {
            let schedule = replay::chosen(Schedule::draw(seed));
            let (one, other) = (run(&schedule, true).1, run(&schedule, true).1);
            let differs = one.iter().zip(&other).position(|(a, b)| a != b);
            let near = |lines: &[String]| {
                let at = differs.unwrap_or(0);
                lines[at.saturating_sub(10)..lines.len().min(at + 3)].join("\n")
            };
            assert!(
                one == other,
                "seed {seed}, line {differs:?} of {} and {}:\n{}\n\nand\n\n{}",
                one.len(),
                other.len(),
                near(&one),
                near(&other)
            );
        }
    });
}
