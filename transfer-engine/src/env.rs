//! Access to the machine: clock, randomness and threads. The file system is accessed only by [`crate::local`]
//! and the journal of arrivals. Both ask [`FileFaults`] before each call that changes something.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use policy_core::Timestamp;
use tokio::sync::oneshot;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Returns the wall-clock time.
    fn now(&self) -> Timestamp;

    /// Returns what this clock showed when a file was changed, given its inode and its ctime. A clock that is not the
    /// kernel's has to know it in another way.
    fn of_change(&self, _inode: u64, ctime: Timestamp) -> Timestamp {
        ctime
    }

    /// Blocks the thread until this much time has passed.
    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Gives random bytes that no other machine gets, not even a clone of this one.
pub trait Random: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()>;
}

/// Runs blocking work: file system calls, hashing, compression.
pub trait Spawn: Send + Sync {
    /// Starts `job` outside the async threads.
    fn blocking(&self, job: Box<dyn FnOnce() + Send>);
    /// Returns how many such jobs should run at once.
    fn parallelism(&self) -> usize;
}

/// Lets calls fail that change the local file system, or read a mount or its state; for tests.
pub trait FileFaults: Send + Sync {
    /// Is called before `operation` (the system call's name) on `path`. If it returns an error, the call
    /// fails with it.
    fn before(&self, operation: &'static str, path: &Path) -> io::Result<()>;

    /// Is called in the same way before the state of a mount is read.
    fn before_reading(&self, _operation: &'static str, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Is called in the same way before a directory of a mount is listed or a file of it is read.
    fn before_looking(&self, _operation: &'static str, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Is called before a staging directory is locked. If it returns an error, the directory is not locked.
    fn before_locking(&self) -> io::Result<()> {
        Ok(())
    }
}

/// What is different after each start of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootId(pub [u8; 16]);

impl BootId {
    /// Returns the kernel's: see random(4). `None` where it has none, as in some sandboxes.
    fn of_kernel() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let digits = text.trim().replace('-', "");
        u128::from_str_radix(&digits, 16).ok().map(|id| Self(id.to_be_bytes()))
    }
}

/// Everything that an engine uses of the machine it runs on.
#[derive(Clone)]
pub struct Env {
    parallelism: Option<NonZeroUsize>,
    boot: Option<BootId>,
    pub(crate) clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    spawn: Arc<dyn Spawn>,
    faults: Option<Arc<dyn FileFaults>>,
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Env")
    }
}

impl Env {
    /// Returns the real machine: its clock, its kernel's randomness, and tokio's threads.
    pub fn real() -> Self {
        Self {
            parallelism: None,
            boot: BootId::of_kernel(),
            clock: Arc::new(SystemClock),
            random: Arc::new(Kernel),
            spawn: Arc::new(Tokio),
            faults: None,
        }
    }

    /// Limits how many blocking jobs run at once, if there are fewer threads than cores. Nevertheless, two
    /// jobs per mount may wait for others.
    #[must_use]
    pub fn with_parallelism(mut self, parallelism: NonZeroUsize) -> Self {
        self.parallelism = Some(parallelism);
        self
    }

    /// Replaces the clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the boot id. Without one, everything that is written to a mount is flushed.
    #[must_use]
    pub fn with_boot(mut self, boot: Option<BootId>) -> Self {
        self.boot = boot;
        self
    }

    /// Replaces the source of randomness.
    #[must_use]
    pub fn with_random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Replaces the threads for blocking work.
    #[must_use]
    pub fn with_spawn(mut self, spawn: Arc<dyn Spawn>) -> Self {
        self.spawn = spawn;
        self
    }

    /// Lets `faults` decide on each local change.
    #[must_use]
    pub fn with_file_faults(mut self, faults: Arc<dyn FileFaults>) -> Self {
        self.faults = Some(faults);
        self
    }

    pub(crate) fn boot(&self) -> Option<BootId> {
        self.boot
    }

    /// Returns the wall-clock time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns `N` random bytes.
    pub(crate) fn random<const N: usize>(&self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn parallelism(&self) -> usize {
        let most = self.parallelism.map_or(usize::MAX, NonZeroUsize::get);
        self.spawn.parallelism().clamp(1, most)
    }

    /// Runs `job` on a thread for blocking work, and returns its result.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobLost> {
        let (done, result) = oneshot::channel();
        self.spawn.blocking(Box::new(move || {
            // If the receiver is gone, the caller no longer wants the result.
            let _ = done.send(job());
        }));
        result.await.map_err(|_| JobLost)
    }

    /// Starts `job` on a thread for blocking work, without waiting for it.
    pub(crate) fn spawn_detached(&self, job: impl FnOnce() + Send + 'static) {
        self.spawn.blocking(Box::new(job));
    }

    pub(crate) fn check_fault(&self, operation: &'static str, path: &Path) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |f| f.before(operation, path))
    }

    pub(crate) fn check_locking(&self) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |f| f.before_locking())
    }

    pub(crate) fn check_looking(
        &self,
        operation: &'static str,
        path: impl FnOnce() -> PathBuf,
    ) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |f| f.before_looking(operation, &path()))
    }

    pub(crate) fn check_reading(&self, operation: &'static str, path: &Path) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |f| f.before_reading(operation, path))
    }
}

/// A blocking job ended without a result: it panicked, or the runtime is shutting down.
#[derive(Debug, thiserror::Error)]
#[error("a background job ended without an answer")]
pub(crate) struct JobLost;

impl From<JobLost> for io::Error {
    fn from(lost: JobLost) -> Self {
        io::Error::other(lost)
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(d) => Timestamp { secs: d.as_secs().cast_signed(), nanos: d.subsec_nanos() },
            Err(before) => {
                let d = before.duration() + Duration::from_nanos(999_999_999);
                Timestamp { secs: -(d.as_secs().cast_signed()), nanos: 0 }
            }
        }
    }
}

struct Kernel;

impl Random for Kernel {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(|e| io::Error::other(e.to_string()))
    }
}

struct Tokio;

impl Spawn for Tokio {
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) {
        drop(tokio::task::spawn_blocking(job));
    }

    fn parallelism(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}
