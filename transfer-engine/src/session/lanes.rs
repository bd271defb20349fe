//! Who may work on a mount at the same time.
//!
//! Downloads and fetches share a mount; whatever plans against all of it has it alone. The one long download
//! makes room for the others: it is stopped, and goes on when they are done.

use std::sync::{Mutex, MutexGuard, PoisonError};

use policy_core::TreePath;
use tokio::sync::{Mutex as AsyncMutex, RwLock, RwLockWriteGuard};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::monitor::Monitor;
use crate::mount::Mount;
use crate::options::SyncOptions;
use crate::report::SyncReport;
use crate::status::TaskType;

/// A mount, and who works on it.
pub(super) struct Lanes {
    session: String,
    /// `None` once it is let go.
    mount: RwLock<Option<Mount>>,
    /// Held by the one download of everything.
    pulling: AsyncMutex<()>,
    long_pull: Mutex<LongPull>,
}

#[derive(Default)]
struct LongPull {
    /// How many want the mount for themselves.
    others: usize,
    /// Stops the download that is under way.
    stop: Option<CancellationToken>,
    /// When it began, or a little before, in seconds since 1970.
    since: i64,
}

/// Keeps the download out while it lives.
struct Asking<'a>(&'a Lanes);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.lock().others -= 1;
    }
}

/// Says that the download is no longer under way when it is dropped.
struct UnderWay<'a>(&'a Lanes);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().stop = None;
    }
}

/// A mount that nobody else works on.
pub(super) struct Alone<'a>(RwLockWriteGuard<'a, Option<Mount>>);

impl Alone<'_> {
    /// Returns the mount; `None` if it was let go.
    pub(super) fn mount(&self) -> Option<&Mount> {
        self.0.as_ref()
    }

    /// Returns the mount, to be changed; `None` if it was let go.
    pub(super) fn mount_mut(&mut self) -> Option<&mut Mount> {
        self.0.as_mut()
    }

    /// Lets the mount go: its lock is free.
    pub(super) fn let_go(mut self) {
        self.0.take();
    }
}

impl Lanes {
    pub(super) fn new(session: String, mount: Mount) -> Self {
        let mount = RwLock::new(Some(mount));
        Self { session, mount, pulling: AsyncMutex::new(()), long_pull: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, LongPull> {
        self.long_pull.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the error of whoever comes too late.
    pub(super) fn ended(&self) -> Error {
        Error::Ended { session: self.session.clone() }
    }

    /// Waits until nobody else works on the mount. The download makes room.
    pub(super) async fn alone(&self) -> Alone<'_> {
        let asking = {
            let mut long_pull = self.lock();
            long_pull.others += 1;
            if let Some(stop) = &long_pull.stop {
                stop.cancel();
            }
            Asking(self)
        };
        let guard = self.mount.write().await;
        // The download stands in line behind this guard from here on.
        drop(asking);
        Alone(guard)
    }

    /// Uploads, with the mount alone.
    pub(super) async fn push(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let alone = self.alone().await;
        let mount = alone.mount().ok_or_else(|| self.ended())?;
        mount.push_shared(options, monitor).await
    }

    /// Downloads with options of its own, with the mount alone.
    pub(super) async fn pull_alone(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
        stop: &CancellationToken,
    ) -> Result<SyncReport, Error> {
        let alone = self.alone().await;
        let mount = alone.mount().ok_or_else(|| self.ended())?;
        mount.pull_until(options, monitor, &stop.child_token()).await
    }

    /// Downloads everything, making room for others as often as they want it, until it is done or told to
    /// stop.
    pub(super) async fn pull(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
        stop: &CancellationToken,
    ) -> Result<SyncReport, Error> {
        let _only = self.pulling.lock().await;
        let mut total: Option<SyncReport> = None;
        loop {
            let guard = self.mount.read().await;
            let mount = guard.as_ref().ok_or_else(|| self.ended())?;
            let token = stop.child_token();
            let Some(under_way) = self.register(&token, mount.store.env().now().secs) else {
                drop(guard);
                tokio::task::yield_now().await;
                continue;
            };
            let report = mount.pull_until(options, monitor, &token).await?;
            drop(under_way);
            let unfinished = report.pending > 0 && token.is_cancelled();
            if unfinished {
                mount.board.stopped(mount.context.as_str(), report.pending, !stop.is_cancelled());
            }
            drop(guard);
            let total = match &mut total {
                Some(total) => {
                    total.absorb(&report);
                    total
                }
                none => none.insert(report),
            };
            if !unfinished {
                return Ok(std::mem::take(total));
            }
            if stop.is_cancelled() {
                return Err(self.ended());
            }
        }
    }

    fn register(&self, token: &CancellationToken, now: i64) -> Option<UnderWay<'_>> {
        let mut long_pull = self.lock();
        if long_pull.others > 0 {
            return None;
        }
        long_pull.stop = Some(token.clone());
        // The clock of file times is coarser, and behind.
        long_pull.since = now - 2;
        Some(UnderWay(self))
    }

    /// Whether the download of everything is under way.
    pub(super) fn is_pulling(&self) -> bool {
        self.lock().stop.is_some()
    }

    /// Returns when the download that is under way began, in seconds since 1970.
    pub(super) fn pulling_since(&self) -> Option<i64> {
        let long_pull = self.lock();
        long_pull.stop.as_ref().map(|_| long_pull.since)
    }

    /// Brings a few paths now, beside the download.
    pub(super) async fn fetch(
        &self,
        paths: &[TreePath],
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let guard = self.mount.read().await;
        let mount = guard.as_ref().ok_or_else(|| self.ended())?;
        if self.is_pulling() {
            // Its row shows the download as a whole.
            return mount.fetch(paths, options, monitor).await;
        }
        let keeper = mount.keep_status(options, monitor, TaskType::Download);
        let before = mount.store.usage();
        let result = mount.fetch(paths, options, &keeper).await;
        keeper.finish(result, mount.store.usage().since(&before))
    }
}
