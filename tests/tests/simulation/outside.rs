//! What the machines have from outside, all of it from the seed: time, randomness and threads.
//!
//! The virtual clock goes on when it is asked, when tokio's paused clock does, and when a step says so. The kernel's
//! times of files are not used: each change of a file is of the virtual time at which it was first seen.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use ctxsync_tests::random::Random;
use policy_core::Timestamp;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use tokio::runtime::Handle;
use tokio::time::Instant;
use transfer_engine::{Clock, Spawn};

use crate::disk::{Crashed, Disk};

/// When the virtual clock begins, in seconds since 1970: later than any time of the kernel's.
const BEGIN: i64 = 4_000_000_000;
/// How much time passes when the clock is asked.
const ASKING: i128 = 50_000;
/// The tick of the virtual file system's clock.
const TICK: i128 = 4_000_000;
const SECOND: i128 = 1_000_000_000;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the kernel's coarse clock goes on. Within one tick of it a change of a directory may not be told from the
/// removal of a file that follows: in memory, a directory gets the time of what is removed.
pub(crate) fn wait_for_tick() {
    let coarse = || rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let began = coarse();
    while coarse() == began {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The clock of all machines and of the store.
#[derive(Clone)]
pub(crate) struct SimClock(Arc<Mutex<Time>>);

struct Time {
    nanos: i128,
    began: Instant,
    /// How much of tokio's time is in `nanos`.
    seen: Duration,
    /// The ctime of each inode by the kernel, and by this clock.
    changes: HashMap<u64, (Timestamp, Timestamp)>,
}

impl Time {
    fn now(&mut self) -> i128 {
        self.nanos += ASKING;
        self.nanos
    }

    /// Returns the time of a change that was just made.
    fn ticked(&self) -> Timestamp {
        timestamp(self.nanos / TICK * TICK)
    }
}

fn timestamp(nanos: i128) -> Timestamp {
    Timestamp { secs: (nanos / SECOND) as i64, nanos: (nanos % SECOND) as u32 }
}

impl SimClock {
    pub(crate) fn new() -> Self {
        let (began, changes) = (Instant::now(), HashMap::new());
        // No change may look as if it came from a file system that keeps only whole seconds.
        let nanos = i128::from(BEGIN) * SECOND + TICK;
        Self(Arc::new(Mutex::new(Time { nanos, began, seen: Duration::ZERO, changes })))
    }

    pub(crate) fn pass(&self, time: Duration) {
        lock(&self.0).nanos += time.as_nanos() as i128;
    }

    /// Catches up with tokio's clock. Must be called on the runtime's thread.
    pub(crate) fn catch_up(&self) {
        let mut time = lock(&self.0);
        let elapsed = time.began.elapsed();
        time.nanos += elapsed.saturating_sub(time.seen).as_nanos() as i128;
        time.seen = elapsed;
    }

    /// Gives what another program has just changed below `root` the times of this clock.
    pub(crate) fn observe(&self, root: &Path) {
        let now = lock(&self.0).ticked();
        let is_users =
            |entry: &walkdir::DirEntry| !entry.file_name().as_encoded_bytes().starts_with(b".ctxsync-stage-");
        for entry in walkdir::WalkDir::new(root).into_iter().filter_entry(is_users).flatten() {
            let stat = || rustix::fs::statat(CWD, entry.path(), AtFlags::SYMLINK_NOFOLLOW);
            let Ok(mut found) = stat() else { continue };
            if found.st_mtime < BEGIN {
                let time = Timespec { tv_sec: now.secs, tv_nsec: i64::from(now.nanos) };
                let times = Timestamps { last_access: time, last_modification: time };
                let _ = rustix::fs::utimensat(CWD, entry.path(), &times, AtFlags::SYMLINK_NOFOLLOW);
                let Ok(again) = stat() else { continue };
                found = again;
                // The kernel may not have told this change from the one before.
                lock(&self.0).changes.remove(&found.st_ino);
            }
            let ctime = Timestamp { secs: found.st_ctime, nanos: found.st_ctime_nsec as u32 };
            self.of_change(found.st_ino, ctime);
        }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        timestamp(lock(&self.0).now())
    }

    fn of_change(&self, inode: u64, ctime: Timestamp) -> Timestamp {
        let mut time = lock(&self.0);
        let now = time.ticked();
        let known = time.changes.entry(inode).or_insert((ctime, now));
        if known.0 != ctime {
            *known = (ctime, now);
        }
        known.1
    }

    fn wait(&self, time: Duration) {
        self.pass(time);
    }
}

/// Random bytes, for ids and names.
#[derive(Clone)]
pub(crate) struct Seeded(Arc<Mutex<Random>>);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Random::new(seed))))
    }

    pub(crate) fn begin_anew(&self, seed: u64) {
        *lock(&self.0) = Random::new(seed);
    }

    pub(crate) fn below(&self, limit: usize) -> usize {
        lock(&self.0).below(limit)
    }
}

impl transfer_engine::Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        let len = bytes.len();
        bytes.copy_from_slice(&lock(&self.0).bytes(len));
        Ok(())
    }
}

/// Runs blocking jobs one at a time while the runtime waits, each a random time after it was started. So everything
/// has one order, which the seed decides.
pub(crate) struct Jobs {
    pub(crate) handle: Handle,
    pub(crate) clock: SimClock,
    pub(crate) random: Seeded,
    pub(crate) disk: Arc<Disk>,
}

impl Spawn for Jobs {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        let delay = [0, 0, 0, 1, 2, 5][self.random.below(6)];
        let (clock, disk) = (self.clock.clone(), Arc::clone(&self.disk));
        self.handle.spawn(async move {
            if delay > 0 {
                tokio::time::sleep(Duration::from_millis(delay)).await;
            }
            clock.catch_up();
            // The jobs of a dead machine end in the middle.
            if !disk.is_gone() {
                // A job that asks for the time of the runtime gets the virtual one.
                let here = Handle::current();
                let job = Box::new(move || {
                    let _entered = here.enter();
                    job();
                });
                WORKER.with(|worker| disk.note_end(worker.run(job)));
            }
        });
    }

    fn parallelism(&self) -> usize {
        1
    }
}

thread_local! {
    static WORKER: Worker = Worker::start();
}

type Job = Box<dyn FnOnce() + Send>;
type End = Result<(), Box<dyn Any + Send>>;

/// A thread beside the runtime's: jobs may block, which the runtime's own thread must not.
struct Worker {
    jobs: mpsc::Sender<Job>,
    ends: mpsc::Receiver<End>,
}

impl Worker {
    fn start() -> Self {
        let (jobs, to_do) = mpsc::channel::<Job>();
        let (done, ends) = mpsc::channel();
        std::thread::spawn(move || {
            for job in to_do {
                if done.send(catch_unwind(AssertUnwindSafe(job))).is_err() {
                    return;
                }
            }
        });
        Self { jobs, ends }
    }

    fn run(&self, job: Job) -> End {
        self.jobs.send(job).unwrap();
        self.ends.recv().unwrap()
    }
}

/// Whether a panic is a machine's crash.
pub(crate) fn is_crash(panic: &(dyn Any + Send)) -> bool {
    panic.is::<Crashed>()
}
