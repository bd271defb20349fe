//! The parts of a sync, each measured alone and on one thread.
#![expect(clippy::unwrap_used, reason = "a benchmark that can't be set up has nothing to measure")]

mod chunking;
mod packing;
mod planning;
mod scope;
mod tree;

use std::time::Duration;

use criterion::{Criterion, criterion_main};

/// The configuration of all parts. It is short, because nothing here waits for a disk.
fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .nresamples(10_000)
}

criterion_main!(scope::benches, planning::benches, chunking::benches, packing::benches, tree::benches);
