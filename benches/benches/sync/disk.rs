//! The parts of a sync that work on the disk. They are private to the engine, so each is measured by a sync
//! that does little else, with a store in memory.

use std::fs;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group};
use ctxsync_benches::{settle, write_empty_dirs, write_equal_files};

use super::machine::Backend;
use super::{Place, config, timed};

/// As many files as in the data set D1, in 2,000 directories.
const FILES: usize = 20_000;
/// Fewer files, because nothing that is pulled is deleted before the end.
const PLACED: usize = 4_000;

/// A push with nothing to do: the scan, and the comparison with the base. In `names` only one file is in
/// scope, so that the other files need no stat and are not in the base.
fn scan(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(FILES as u64));
    let place = Place::new();
    let mount = place.fresh();
    write_equal_files(&mount, FILES, 0);
    // Something must be in scope, because a first push of nothing writes no base.
    fs::write(mount.join("in-scope.txt"), "").unwrap();
    settle(&mount);
    for (name, policy) in [("names", r#"{"bwList": {"ignorePatterns": ["*.js"]}}"#), ("stats", "{}")] {
        let bucket = place.bucket(Backend::Memory);
        let machine = place.machine(&bucket, &mount).with_policy(policy);
        machine.push();
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                let mut time = Duration::ZERO;
                for _ in 0..iterations {
                    let report = timed(&mut time, || machine.push());
                    assert_eq!((report.bytes_read, report.bytes_sent, report.requests), (0, 0, 1));
                }
                time
            });
        });
    }
    group.finish();
}

/// Pushes of one file out of many: the scan is short, and the base is completely read, or read and written.
fn base(c: &mut Criterion) {
    let mut group = c.benchmark_group("base");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(FILES as u64));
    let place = Place::new();
    let mount = place.fresh();
    let last = write_equal_files(&mount, FILES, 0);
    let bucket = place.bucket(Backend::Memory);
    let machine = place.machine(&bucket, &mount);
    machine.push();
    let machine = machine.only(last.clone());
    group.bench_function("read", |b| {
        b.iter_custom(|iterations| {
            let mut time = Duration::ZERO;
            for _ in 0..iterations {
                let report = timed(&mut time, || machine.push());
                assert_eq!((report.snapshot, report.changed), (Some(2), 0));
            }
            time
        });
    });
    group.bench_function("read_and_write", |b| {
        b.iter_custom(|iterations| {
            let mut time = Duration::ZERO;
            for _ in 0..iterations {
                fs::write(mount.join(last.to_string()), place.next().to_string()).unwrap();
                settle(&mount);
                let report = timed(&mut time, || machine.push());
                assert_eq!((report.changed, report.failed), (1, 0));
            }
            time
        });
    });
    group.finish();
}

/// Pulls into an empty directory, without time for fetching: staging, flushing, renaming, modes and times.
fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply");
    group.sampling_mode(SamplingMode::Flat);
    let place = Place::new();
    for (name, len) in [("directories", None), ("empty_files", Some(0)), ("4_KiB_files", Some(4096))] {
        let mount = place.fresh();
        match len {
            Some(len) => drop(write_equal_files(&mount, PLACED, len)),
            None => write_empty_dirs(&mount, PLACED),
        }
        let bucket = place.bucket(Backend::Memory);
        place.machine(&bucket, &mount).push();
        let elements = PLACED as u64;
        group.throughput(match len {
            Some(len) if len > 0 => Throughput::ElementsAndBytes { elements, bytes: elements * len as u64 },
            _ => Throughput::Elements(elements),
        });
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                let mut time = Duration::ZERO;
                for _ in 0..iterations {
                    let reader = place.machine(&bucket, &place.fresh());
                    let report = timed(&mut time, || reader.pull());
                    assert_eq!((report.added, report.failed), (elements, 0));
                }
                time
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = config();
    targets = scan, base, apply
}
