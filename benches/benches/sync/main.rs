//! Whole syncs: a tree is pushed to a store, and pulled from it.
//!
//! Each is timed from opening the mount to the end, with a store handle that knows nothing yet, as in one run
//! of the program; only the threads are there already. What is warm: the mount's files and a local store's
//! objects are in the page cache. What is not: state, segment cache and mount are new wherever the operation
//! says so. A local store's puts and a pull's files are flushed to the disk, as by default.
#![expect(clippy::unwrap_used, reason = "a benchmark that can't be set up has nothing to measure")]

mod disk;
mod machine;

use std::cell::{Cell, OnceCell};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ctxsync_benches::{LargeFile, SmallFiles, Tree};
use tempfile::TempDir;
use transfer_engine::SyncReport;

use machine::{Backend, Bucket, Machine};

/// Where one benchmark keeps its trees, stores and states.
struct Place {
    dir: TempDir,
    count: Cell<u64>,
}

impl Place {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), count: Cell::new(0) }
    }

    /// Returns a path at which nothing is.
    fn fresh(&self) -> PathBuf {
        self.dir.path().join(self.next().to_string())
    }

    /// Returns a number that was not used.
    fn next(&self) -> u64 {
        self.count.set(self.count.get() + 1);
        self.count.get()
    }

    fn bucket(&self, backend: Backend) -> Bucket {
        Bucket::create(backend, &self.fresh())
    }

    fn machine(&self, bucket: &Bucket, mount: &Path) -> Machine {
        Machine::new(bucket, mount, &self.fresh())
    }
}

/// What is measured on one tree and one kind of store.
struct Case<'a> {
    tree: &'a dyn Tree,
    backend: Backend,
    /// The tree's directory, once it was written; some of the operations change it, to the same size.
    mount: &'a OnceCell<PathBuf>,
    /// Where the mount is, and where the number of each change comes from: none is made twice.
    home: &'a Place,
}

impl Case<'_> {
    /// Returns the tree's directory. The first benchmark writes it, for a filter may leave out all.
    fn mount(&self) -> &Path {
        self.mount.get_or_init(|| {
            let mount = self.home.fresh();
            self.tree.write(&mount);
            mount
        })
    }

    /// Everything is read, sent and committed.
    fn first_push(&self, iterations: u64, place: &Place) -> Duration {
        let mut time = Duration::ZERO;
        for _ in 0..iterations {
            let bucket = place.bucket(self.backend);
            let machine = place.machine(&bucket, self.mount());
            let report = timed(&mut time, || machine.push());
            assert_eq!((report.added, report.failed), (self.tree.files(), 0));
        }
        time
    }

    /// Every file is looked at, none is read, and the store is asked once.
    fn push_nothing(&self, iterations: u64, place: &Place) -> Duration {
        let (_, machine) = self.pushed(place);
        let mut time = Duration::ZERO;
        for _ in 0..iterations {
            let report = timed(&mut time, || machine.push());
            assert_eq!((report.bytes_read, report.bytes_sent, report.requests), (0, 0, 1));
        }
        time
    }

    /// One percent is read and sent, on top of the snapshots that the iterations before left.
    fn push_change(&self, iterations: u64, place: &Place) -> Duration {
        let (_, machine) = self.pushed(place);
        let mut time = Duration::ZERO;
        for _ in 0..iterations {
            self.tree.change(self.mount(), self.home.next());
            let report = timed(&mut time, || machine.push());
            assert_eq!((report.changed, report.failed), (self.tree.files_changed(), 0));
        }
        time
    }

    /// A machine without anything brings all of it.
    fn first_pull(&self, iterations: u64, place: &Place) -> Duration {
        let (bucket, _) = self.pushed(place);
        let mut time = Duration::ZERO;
        for _ in 0..iterations {
            let mount = place.fresh();
            let machine = place.machine(&bucket, &mount);
            let report = timed(&mut time, || machine.pull());
            assert_eq!((report.added, report.failed), (self.tree.files(), 0));
        }
        time
    }

    /// A machine that has the snapshot before brings the one percent that another one pushed.
    fn pull_change(&self, iterations: u64, place: &Place) -> Duration {
        let (bucket, writer) = self.pushed(place);
        let mount = place.fresh();
        let reader = place.machine(&bucket, &mount);
        reader.pull();
        let mut time = Duration::ZERO;
        for _ in 0..iterations {
            self.tree.change(self.mount(), self.home.next());
            writer.push();
            let report = timed(&mut time, || reader.pull());
            assert_eq!((report.changed, report.failed), (self.tree.files_changed(), 0));
        }
        time
    }

    /// A new store, and a machine that has just pushed the tree to it.
    fn pushed(&self, place: &Place) -> (Bucket, Machine) {
        let bucket = place.bucket(self.backend);
        let machine = place.machine(&bucket, self.mount());
        machine.push();
        (bucket, machine)
    }
}

fn timed(time: &mut Duration, sync: impl FnOnce() -> SyncReport) -> SyncReport {
    let start = Instant::now();
    let report = sync();
    *time += start.elapsed();
    report
}

type Operation<'a> = fn(&Case<'a>, u64, &Place) -> Duration;

fn measure<'a>(
    used: &mut Vec<Place>,
    group: &mut BenchmarkGroup<'_, WallTime>,
    case: &Case<'a>,
    name: &str,
    operation: Operation<'a>,
) {
    // Always the whole tree's files and bytes, so that the figures of all operations can be compared.
    group.throughput(match (case.tree.files(), case.tree.bytes()) {
        (1, bytes) => Throughput::Bytes(bytes),
        (elements, bytes) => Throughput::ElementsAndBytes { elements, bytes },
    });
    let name = format!("{name}/{}/{}", case.tree.name(), case.backend.name());
    let place = Place::new();
    group.bench_function(name, |b| b.iter_custom(|iterations| operation(case, iterations, &place)));
    // ext4 does not use an inode again for some minutes, and steps over each that was freed when it makes a
    // file: who deletes many slows down what is measured next. A large file is space rather than inodes.
    if case.tree.files() > 1 {
        used.push(place);
    }
}

fn syncs(c: &mut Criterion) {
    let mut group = c.benchmark_group("sync");
    group.sampling_mode(SamplingMode::Flat);
    let mut used = Vec::new();
    let small = SmallFiles::new(5_000);
    let large = LargeFile::new(128 << 20);
    for tree in [&small as &dyn Tree, &large] {
        let home = Place::new();
        let mount = OnceCell::new();
        for backend in [Backend::Memory, Backend::Local] {
            let case = Case { tree, backend, mount: &mount, home: &home };
            measure(&mut used, &mut group, &case, "first_push", Case::first_push);
            measure(&mut used, &mut group, &case, "push_nothing_changed", Case::push_nothing);
            measure(&mut used, &mut group, &case, "push_1_percent_changed", Case::push_change);
            measure(&mut used, &mut group, &case, "pull_into_empty", Case::first_pull);
            measure(&mut used, &mut group, &case, "pull_1_percent_changed", Case::pull_change);
        }
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(4))
        .nresamples(10_000)
}

criterion_group! {
    name = benches;
    config = config();
    targets = syncs
}
criterion_main!(disk::benches, benches);
