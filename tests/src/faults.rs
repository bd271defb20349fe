//! Failures of the local file system.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::ThreadId;

use tokio::sync::Notify;
use transfer_engine::FileFaults;

/// Calls a function before each change, in the place of another program.
pub struct Meanwhile<F>(F);

impl<F: Fn(&'static str, &Path) + Send + Sync + 'static> Meanwhile<F> {
    /// Calls `act` with each operation and path, before the operation is carried out.
    pub fn new(act: F) -> Arc<Self> {
        Arc::new(Self(act))
    }
}

impl<F: Fn(&'static str, &Path) + Send + Sync> FileFaults for Meanwhile<F> {
    fn before(&self, operation: &'static str, path: &Path) -> io::Result<()> {
        (self.0)(operation, path);
        Ok(())
    }
}

/// Lets a number of changes succeed and fails all others, as if the machine were dead.
#[derive(Debug)]
pub struct Death {
    lives: AtomicU64,
    calls: AtomicU64,
}

impl Death {
    /// Fails every change after the first `lives`.
    pub fn after(lives: u64) -> Arc<Self> {
        Arc::new(Self { lives: AtomicU64::new(lives), calls: AtomicU64::new(0) })
    }

    /// Returns the number of changes that were tried.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

impl FileFaults for Death {
    fn before(&self, _: &'static str, _: &Path) -> io::Result<()> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let lived = self.lives.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        lived.map(drop).map_err(|_| io::Error::other("this machine is dead"))
    }
}

/// Blocks every change after a number of them: nothing is written and nothing cleaned up any more, as if the
/// process had been killed.
pub struct Killed {
    lives: u64,
    calls: AtomicU64,
    /// Changes on this thread can't block, as async code runs on it. They fail instead.
    caller: ThreadId,
    died: Notify,
    buried: (Mutex<bool>, Condvar),
}

/// Unblocks the threads when it is dropped, so that they can end. Their changes fail.
pub struct Grave(Arc<Killed>);

impl Killed {
    /// Blocks from change number `lives` on, counted from 0. Async code must run on the thread that calls
    /// this.
    pub fn at(lives: u64) -> (Arc<Self>, Grave) {
        let killed = Arc::new(Self {
            lives,
            calls: AtomicU64::new(0),
            caller: std::thread::current().id(),
            died: Notify::new(),
            buried: (Mutex::new(false), Condvar::new()),
        });
        (Arc::clone(&killed), Grave(killed))
    }

    /// Waits for the first change that is blocked.
    pub async fn died(&self) {
        self.died.notified().await;
    }
}

impl Drop for Grave {
    fn drop(&mut self) {
        *self.0.buried.0.lock().unwrap() = true;
        self.0.buried.1.notify_all();
    }
}

impl FileFaults for Killed {
    fn before(&self, _: &'static str, _: &Path) -> io::Result<()> {
        if self.calls.fetch_add(1, Ordering::SeqCst) < self.lives {
            return Ok(());
        }
        self.died.notify_one();
        if std::thread::current().id() != self.caller {
            let buried = self.buried.0.lock().unwrap();
            drop(self.buried.1.wait_while(buried, |buried| !*buried).unwrap());
        }
        Err(io::Error::other("this process was killed"))
    }

    /// A process that is killed lets go of its locks. Here, its threads would hold them for longer.
    fn before_locking(&self) -> io::Result<()> {
        Err(io::Error::other("it takes no locks"))
    }
}

/// Fails one change with one error.
#[derive(Debug)]
pub struct FailsOnce {
    nth: u64,
    calls: AtomicU64,
    errno: i32,
}

impl FailsOnce {
    /// Fails change number `nth`, counted from 0.
    pub fn at(nth: u64, errno: rustix::io::Errno) -> Arc<Self> {
        Arc::new(Self { nth, calls: AtomicU64::new(0), errno: errno.raw_os_error() })
    }

    /// Whether the failure has happened.
    pub fn has_failed(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.nth
    }
}

impl FileFaults for FailsOnce {
    fn before(&self, _: &'static str, _: &Path) -> io::Result<()> {
        match self.calls.fetch_add(1, Ordering::SeqCst) == self.nth {
            true => Err(io::Error::from_raw_os_error(self.errno)),
            false => Ok(()),
        }
    }
}

/// Fails reads of a mount's state: one read, or one and all that follow.
#[derive(Debug)]
pub struct FailsReading {
    nth: u64,
    /// Whether only that one read fails.
    once: bool,
    calls: AtomicU64,
    errno: i32,
}

impl FailsReading {
    /// Fails read number `nth`, counted from 0, and unless `once` is set all that follow.
    pub fn at(nth: u64, once: bool, errno: rustix::io::Errno) -> Arc<Self> {
        Arc::new(Self { nth, once, calls: AtomicU64::new(0), errno: errno.raw_os_error() })
    }

    /// Whether the failure has happened.
    pub fn has_failed(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.nth
    }
}

impl FileFaults for FailsReading {
    fn before(&self, _: &'static str, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn before_reading(&self, _: &'static str, _: &Path) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if call == self.nth || !self.once && call > self.nth {
            return Err(io::Error::from_raw_os_error(self.errno));
        }
        Ok(())
    }
}

/// Fails one operation with one error, for some paths.
pub struct Fails<F> {
    operation: &'static str,
    errno: i32,
    fits: F,
}

impl<F: Fn(&Path) -> bool + Send + Sync + 'static> Fails<F> {
    /// Fails `operation` with `errno` for the paths for which `fits` is true.
    pub fn new(operation: &'static str, errno: rustix::io::Errno, fits: F) -> Arc<Self> {
        Arc::new(Self { operation, errno: errno.raw_os_error(), fits })
    }
}

impl<F: Fn(&Path) -> bool + Send + Sync> FileFaults for Fails<F> {
    fn before(&self, operation: &'static str, path: &Path) -> io::Result<()> {
        if operation == self.operation && (self.fits)(path) {
            return Err(io::Error::from_raw_os_error(self.errno));
        }
        Ok(())
    }
}
