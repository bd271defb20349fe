//! Trouble with the local file system.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
