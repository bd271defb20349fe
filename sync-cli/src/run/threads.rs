//! The threads of a command: as many as are useful, or the minimum if the system allows no more.
//!
//! A blocking job may wait for others: the walk through a mount waits until the files it found are read. So
//! all threads that can wait at the same time are started before anything else, and kept. If the system
//! refuses a thread later, the program is only slower.

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

/// How long a requested thread may take to start before another one is requested.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often to check whether a runtime has started.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How many further threads are requested.
const ATTEMPTS: u32 = 20;
/// Practically for ever.
const KEPT: Duration = Duration::from_hours(24 * 365);

/// Set while a panic only means that the runtime was refused a thread.
static TRYING: AtomicBool = AtomicBool::new(false);
static REFUSED: AtomicBool = AtomicBool::new(false);

/// A runtime, and how many tasks it runs at once.
pub(crate) struct Threads {
    pub(crate) runtime: Runtime,
    pub(crate) parallelism: NonZeroUsize,
}

/// How many threads of each kind to start.
struct Plan {
    /// Threads for tasks, besides the main thread; with 0, the main thread runs all tasks.
    workers: usize,
    /// Threads for blocking jobs; all of them must start.
    blocking: usize,
}

impl Threads {
    /// Starts the threads for a command with this many mounts, and leaves room for `others` to be started
    /// later.
    ///
    /// # Errors
    /// The system refuses even the minimum.
    pub(crate) fn start(mounts: usize, others: usize) -> Result<Self, Failure> {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let mut refusal = None;
        for (workers, parallelism) in [(cores.get(), cores), (0, NonZeroUsize::MIN)] {
            // Each mount may have one walk for a pull and one for a push at the same time, each with a thread
            // per core. One more thread does the jobs that they wait for.
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

/// Returns the failure of a program that was refused a thread.
pub(crate) fn refused(error: &io::Error) -> Failure {
    let hint = if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) {
        "raise the limit of open files (`ulimit -n`)"
    } else {
        "the system lets this user have no more: raise the limit (`ulimit -u`, or pids.max of a container), or end \
         other processes"
    };
    Failure::new(Exit::FAILED, "cannot start the threads that this needs").caused_by(error).hint(hint)
}

/// Whether a panic only means that the runtime was refused a thread. If so, the refusal is noted.
pub(crate) fn is_refusal() -> bool {
    let refused = TRYING.load(Ordering::Relaxed);
    REFUSED.fetch_or(refused, Ordering::Relaxed);
    refused
}

/// Checks whether this many threads can run at once.
fn try_threads(count: usize) -> io::Result<()> {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        // No thread ends before all have started.
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
            // Leave the rest of the system's threads to other programs.
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
        // The runtime panics if it is refused a thread.
        let started = match self.workers {
            // There are no other threads that it would wait for after a panic.
            0 => catch_unwind(AssertUnwindSafe(start)).unwrap_or_else(|_| Err(Errno::AGAIN.into())),
            _ => apart(start),
        };
        TRYING.store(false, Ordering::Relaxed);
        REFUSED.store(false, Ordering::Relaxed);
        started
    }
}

/// Builds a runtime on another thread. If that thread panics, it is abandoned, because it would wait for ever
/// for the threads that it has started.
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

/// Starts the threads for blocking jobs; returns false if some do not start.
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
