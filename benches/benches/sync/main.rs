//! Whole syncs: a tree is pushed to a store, and pulled from it.
//!
//! Each is timed from opening the mount to the end, with a new store handle, as in one run of the program;
//! only the threads already exist. The mount's files and a local store's objects are in the page cache.
//! State, segment cache and mount are new if the operation says so. A local store's puts and a pull's files
//! are flushed to the disk, as by default.
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

/// The directory in which one benchmark keeps its trees, stores and states.
struct Place {
    dir: TempDir,
    count: Cell<u64>,
}

impl Place {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), count: Cell::new(0) }
    }

    /// Returns an unused path.
    fn fresh(&self) -> PathBuf {
        self.dir.path().join(self.next().to_string())
    }

    /// Returns an unused number.
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

/// One tree and one kind of store to measure.
struct Case<'a> {
    tree: &'a dyn Tree,
    backend: Backend,
    /// The tree's directory, once it is written. Some operations change it, but not its size.
    mount: &'a OnceCell<PathBuf>,
    /// The place of the mount, and the source of the numbers of changes, so that no change is made twice.
    home: &'a Place,
}

impl Case<'_> {
    /// Returns the tree's directory. The first benchmark writes it, because a filter may skip all of them.
    fn mount(&self) -> &Path {
        self.mount.get_or_init(|| {
            let mount = self.home.fresh();
            self.tree.write(&mount);
            mount
        })
    }

    /// Reads, sends and commits everything.
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

    /// Scans every file, reads none, and sends one request to the store.
    fn push_nothing(&self, iterations: u64, place: &Place) -> Duration {
        let (_, machine) = self.pushed(place);
        let mut time = Duration::ZERO;
        for _ in 0..iterations {
            let report = timed(&mut time, || machine.push());
            assert_eq!((report.bytes_read, report.bytes_sent, report.requests), (0, 0, 1));
        }
        time
    }

    /// Reads and sends one percent, on top of the snapshots of earlier iterations.
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

    /// Pulls everything into a new machine.
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

    /// Pulls one percent that another machine pushed, on a machine that has the snapshot before.
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

    /// Returns a new store, and a machine that has just pushed the tree to it.
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
    // Always the whole tree's files and bytes, so that all operations can be compared.
    group.throughput(match (case.tree.files(), case.tree.bytes()) {
        (1, bytes) => Throughput::Bytes(bytes),
        (elements, bytes) => Throughput::ElementsAndBytes { elements, bytes },
    });
    let name = format!("{name}/{}/{}", case.tree.name(), case.backend.name());
    let place = Place::new();
    group.bench_function(name, |b| b.iter_custom(|iterations| operation(case, iterations, &place)));
    // ext4 does not reuse an inode for some minutes after its file is deleted, and skips each such inode when
    // it creates a file. Deleting many files would slow down the next benchmarks. A large file has only one
    // inode.
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
