//! The threads that a command works with: as many as make sense, or as few as will do where the system gives no more.
//!
//! Jobs that block may wait for others: whoever walks a mount waits until what it found is read. So the threads for all
//! that can wait at once are started before anything else is, and kept. What the system refuses later is only slower.

use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use tokio::runtime::{Builder, Runtime};

use crate::errors::Failure;
use crate::exit::Exit;

/// How long a thread that was asked for may take to begin, before another is asked for.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often it is looked whether a runtime is there.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often another is asked for.
const ATTEMPTS: u32 = 20;
/// As good as for ever.
const KEPT: Duration = Duration::from_hours(24 * 365);

/// Set while a panic is only how the runtime says that it was refused a thread.
static TRYING: AtomicBool = AtomicBool::new(false);
static REFUSED: AtomicBool = AtomicBool::new(false);

/// A runtime, and how much it can do at once.
pub(crate) struct Threads {
    pub(crate) runtime: Runtime,
    pub(crate) parallelism: NonZeroUsize,
}

/// How many threads of which kind.
struct Plan {
    /// Those for tasks, beside the main one; with none, that does it all.
    workers: usize,
    /// Those for jobs that block, which have to be there.
    blocking: usize,
}

impl Threads {
    /// Starts what a command needs that works on so many mounts, and leaves room for `others` to be started later.
    ///
    /// # Errors
    /// The system does not give the fewest threads that will do.
    pub(crate) fn start(mounts: usize, others: usize) -> Result<Self, Failure> {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let mut refusal = None;
        for (workers, parallelism) in [(cores.get(), cores), (0, NonZeroUsize::MIN)] {
            // In each mount one walk may be under way for what is brought and one for what is saved, with as many
            // threads as there are cores. One more does what they wait for.
            let plan = Plan { workers, blocking: 2 * mounts * parallelism.get() + 1 };
            let started = try_threads(workers + plan.blocking + others).and_then(|()| plan.start());
            match started {
                Ok(runtime) => return Ok(Self { runtime, parallelism }),
                Err(error) => refusal = Some(error),
            }
        }
        Err(refused(&refusal.unwrap_or(Errno::AGAIN.into())))
    }
}

/// Returns the failure of a program that is refused a thread.
pub(crate) fn refused(error: &io::Error) -> Failure {
    Failure::new(Exit::FAILED, "cannot start the threads that this needs").caused_by(error).hint(
        "the system lets this user have no more: raise the limit (`ulimit -u`, or pids.max of a container), or end \
         other processes",
    )
}

/// Whether a panic says only that the runtime was refused a thread, which is noted.
pub(crate) fn is_refusal() -> bool {
    let refused = TRYING.load(Ordering::Relaxed);
    REFUSED.fetch_or(refused, Ordering::Relaxed);
    refused
}

/// Looks whether so many threads can be had at once.
fn try_threads(count: usize) -> io::Result<()> {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        // None of them ends before all are there.
        let _closed = lock(&gate);
        for _ in 0..count {
            let wait = || drop(lock(&gate));
            thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, wait)?;
        }
        Ok(())
    })
}

impl Plan {
    fn start(&self) -> io::Result<Runtime> {
        let mut builder = match self.workers {
            0 => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        if self.workers == 0 {
            // Others may need what the system has left.
            builder.max_blocking_threads(self.blocking);
        } else {
            builder.worker_threads(self.workers);
        }
        builder.enable_all().thread_keep_alive(KEPT);
        let blocking = self.blocking;
        let start = move || {
            let runtime = builder.build()?;
            if fill(&runtime, blocking) {
                return Ok(runtime);
            }
            runtime.shutdown_background();
            Err(Errno::AGAIN.into())
        };
        TRYING.store(true, Ordering::Relaxed);
        // A runtime that is refused a thread panics.
        let started = match self.workers {
            // No other thread is there yet to be waited for.
            0 => catch_unwind(AssertUnwindSafe(start)).unwrap_or_else(|_| Err(Errno::AGAIN.into())),
            _ => apart(start),
        };
        TRYING.store(false, Ordering::Relaxed);
        REFUSED.store(false, Ordering::Relaxed);
        started
    }
}

/// Builds a runtime on another thread, which is left to itself where it panics: it would wait for ever for the threads
/// that it has.
fn apart(start: impl FnOnce() -> io::Result<Runtime> + Send + 'static) -> io::Result<Runtime> {
    let (tell, told) = mpsc::channel();
    thread::Builder::new().spawn(move || drop(tell.send(start())))?;
    loop {
        match told.recv_timeout(LOOK_EVERY) {
            Ok(started) => return started,
            Err(RecvTimeoutError::Timeout) if !REFUSED.load(Ordering::Relaxed) => {}
            Err(_) => return Err(Errno::AGAIN.into()),
        }
    }
}

/// Starts the threads for jobs that block; false where not all of them begin.
fn fill(runtime: &Runtime, count: usize) -> bool {
    let gate = Arc::new(Mutex::new(()));
    let (begun, begins) = mpsc::channel();
    let closed = lock(&gate);
    let start = || {
        let (gate, begun) = (Arc::clone(&gate), begun.clone());
        drop(runtime.spawn_blocking(move || {
            let _ = begun.send(());
            drop(lock(&gate));
        }));
    };
    for _ in 0..count {
        start();
    }
    let mut attempts = 0;
    let mut there = 0;
    while there < count && attempts < ATTEMPTS {
        match begins.recv_timeout(PATIENCE) {
            Ok(()) => there += 1,
            Err(_) => {
                attempts += 1;
                start();
            }
        }
    }
    drop(closed);
    there >= count
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
