//! Finds changes without events: writes to a mapped file, file systems that are mounted below, parents that
//! are renamed. Now and then, everything is scanned and compared with the scan before.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::env::Env;
use crate::local::{Fingerprint, Found, FoundKind, MountDir, Scan, ScanFilter};

/// The scans take at most one part in this many of a core's time.
const SHARE: u32 = 100;

/// The safety scans of one mount.
pub(super) struct SafetyScans {
    /// The shortest time between two scans; `None` for no scans.
    every: Option<Duration>,
    /// The hash of the last scan.
    seen: Option<u64>,
    next: Instant,
}

/// The result of a scan, and the time that it took.
pub(super) struct Look {
    print: u64,
    cost: Duration,
}

impl SafetyScans {
    /// Starts with a scan at once.
    pub(super) fn new(every: Option<Duration>) -> Self {
        Self { every, seen: None, next: Instant::now() }
    }

    /// Returns when the next scan is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.every.map(|_| self.next)
    }

    /// Notes the result of a scan; returns whether something has changed since the last one.
    pub(super) fn take(&mut self, look: io::Result<Look>) -> bool {
        let every = self.every.unwrap_or_default();
        let (print, cost) = match look {
            Ok(Look { print, cost }) => (Some(print), cost),
            // The mount is gone or unreadable, which a push will report.
            Err(_) => (None, Duration::ZERO),
        };
        self.next = Instant::now() + every.max(cost.saturating_mul(SHARE));
        let before = std::mem::replace(&mut self.seen, print);
        before.is_some() && before != print
    }

    /// Skips one scan.
    pub(super) fn postpone(&mut self) {
        self.next = Instant::now() + self.every.unwrap_or_default();
    }
}

/// Scans everything in scope. Blocks.
pub(super) fn look_over(path: &Path, env: &Env, filter: Arc<dyn ScanFilter>) -> io::Result<Look> {
    let begun = clock_gettime(ClockId::ThreadCPUTime);
    let mount = MountDir::open(path, env)?;
    let mut hasher = DefaultHasher::new();
    // One thread is enough, because nobody waits; and its CPU time can be measured.
    for found in Scan::alone(&mount, filter)? {
        note(&found, &mut hasher);
    }
    let ended = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = (ended.tv_sec - begun.tv_sec) * 1_000_000_000 + (ended.tv_nsec - begun.tv_nsec);
    Ok(Look { print: hasher.finish(), cost: Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)) })
}

fn note(found: &Found, hasher: &mut DefaultHasher) {
    found.path.as_bytes().hash(hasher);
    match &found.kind {
        FoundKind::File(print) | FoundKind::Symlink { print, .. } => {
            let Fingerprint { size, mtime, ctime, inode, mode } = print;
            (size, mtime.secs, mtime.nanos, ctime.secs, ctime.nanos, inode, mode).hash(hasher);
        }
        // The content of a directory is scanned itself, so the directory's own time says nothing more.
        FoundKind::Dir { print, empty, .. } => (print.mode, empty).hash(hasher),
        FoundKind::Unsupported(what) => what.hash(hasher),
        FoundKind::Passing => {}
        FoundKind::Unreadable { error, .. } => error.raw_os_error().hash(hasher),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(print: u64, cost: Duration) -> io::Result<Look> {
        Ok(Look { print, cost })
    }

    #[tokio::test(start_paused = true)]
    async fn scans_take_a_hundredth_of_a_core_at_most() {
        let every = Duration::from_secs(30);
        let mut scans = SafetyScans::new(Some(every));
        let left = |scans: &SafetyScans| scans.due().unwrap() - Instant::now();
        assert_eq!(left(&scans), Duration::ZERO);
        assert!(!scans.take(look(1, Duration::from_millis(300))));
        assert_eq!(left(&scans), every);
        assert!(!scans.take(look(1, Duration::from_secs(2))));
        assert_eq!(left(&scans), Duration::from_secs(200));
        assert!(scans.take(look(2, Duration::ZERO)));
        assert!(scans.take(Err(io::ErrorKind::NotFound.into())));
        assert!(!scans.take(look(2, Duration::ZERO)));
        assert!(SafetyScans::new(None).due().is_none());
    }

    #[test]
    fn a_look_shows_each_change() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::real();
        let scope = policy_core::Scope::new(&policy_core::SyncPolicy::default(), b"/m").unwrap();
        let filter = Arc::new(crate::plan::Filter::of(scope));
        let mut last = None;
        let mut look = |changes: bool| {
            let now = look_over(dir.path(), &env, filter.clone()).unwrap().print;
            assert_eq!(last.replace(now) != Some(now), changes);
        };
        look(true);
        look(false);
        std::fs::write(dir.path().join("a"), "1").unwrap();
        look(true);
        std::fs::create_dir(dir.path().join("d")).unwrap();
        look(true);
        std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        look(true);
        std::os::unix::fs::symlink("b", dir.path().join("l")).unwrap();
        look(true);
        look(false);
    }
}
