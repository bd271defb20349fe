//! Trouble with the local file system.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::ThreadId;

use tokio::sync::Notify;
use transfer_engine::FileFaults;

/// Runs something at the moment of a change: what another program does then.
pub struct Meanwhile<F>(F);

impl<F: Fn(&'static str, &Path) + Send + Sync + 'static> Meanwhile<F> {
    /// Calls `act` with each operation and path, before it is carried out.
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

/// Lets so many changes through and none after: the machine is dead.
#[derive(Debug)]
pub struct Death {
    lives: AtomicU64,
    calls: AtomicU64,
}

impl Death {
    /// Dies after `lives` calls.
    pub fn after(lives: u64) -> Arc<Self> {
        Arc::new(Self { lives: AtomicU64::new(lives), calls: AtomicU64::new(0) })
    }

    /// Returns how many calls there were.
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

/// Holds up the first change after so many, and each that comes after it: nothing is done any more, nothing
/// is tidied up either, as if the process had been killed there.
pub struct Killed {
    lives: u64,
    calls: AtomicU64,
    /// Its calls can't be held up, and fail.
    caller: ThreadId,
    died: Notify,
    buried: (Mutex<bool>, Condvar),
}

/// Lets the threads that are held up come to their ends when it is dropped. What they do then must hurt
/// nobody.
pub struct Grave(Arc<Killed>);

impl Killed {
    /// Dies before change number `lives`, counted from 0. Async code runs on the thread that calls this.
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

    /// Waits until it dies.
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
}

/// Fails one call with one error.
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

    /// Whether it came to that.
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

/// Fails reads of what is remembered of a mount: one of them, or it and all after it.
#[derive(Debug)]
pub struct FailsReading {
    nth: u64,
    /// Whether only the first one fails.
    once: bool,
    calls: AtomicU64,
    errno: i32,
}

impl FailsReading {
    /// Fails read number `nth`, counted from 0; with `once` false, all that follow as well.
    pub fn at(nth: u64, once: bool, errno: rustix::io::Errno) -> Arc<Self> {
        Arc::new(Self { nth, once, calls: AtomicU64::new(0), errno: errno.raw_os_error() })
    }

    /// Whether it came to that.
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

/// Fails one kind of call with one error, for paths of some kind.
pub struct Fails<F> {
    operation: &'static str,
    errno: i32,
    fits: F,
}

impl<F: Fn(&Path) -> bool + Send + Sync + 'static> Fails<F> {
    /// Fails `operation` with an error of the system where `fits` says so.
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
