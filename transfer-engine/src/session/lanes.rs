//! Concurrent access to a mount.
//!
//! Pulls and fetches share a mount; a push, which plans against the whole mount, needs exclusive access. The
//! full pull in the background makes room: it is stopped, and continues afterwards.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy_core::TreePath;
use tokio::sync::{Mutex as AsyncMutex, Notify, RwLock, RwLockWriteGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::monitor::Monitor;
use crate::mount::Mount;
use crate::options::SyncOptions;
use crate::report::SyncReport;
use crate::status::TaskType;

/// How long a pull runs before it makes room, if its last run got nowhere. The time doubles with each such run, and is
/// a quarter after any other.
const FIRST_TURN: Duration = Duration::from_secs(1);
/// Longer than a request, or the extraction of an archive, takes in nearly all cases.
const LONGEST_TURN: Duration = Duration::from_secs(15 * 60);

/// A mount, and access to it.
pub(super) struct Lanes {
    session: String,
    /// `None` after it was let go.
    mount: RwLock<Option<Mount>>,
    /// Held by the full pull.
    pulling: AsyncMutex<()>,
    long_pull: Mutex<LongPull>,
    /// Wakes those who wait for the running pull to end.
    has_room: Notify,
}

#[derive(Default)]
struct LongPull {
    /// How many callers wait for exclusive access.
    others: usize,
    /// Asks the running pull to make room.
    stop: Option<CancellationToken>,
    /// When the running pull began, or slightly earlier, in seconds since 1970.
    since: i64,
}

/// Keeps the full pull from running while it lives.
struct Asking<'a>(&'a Lanes);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.lock().others -= 1;
    }
}

/// Marks the full pull as ended when it is dropped.
struct UnderWay<'a>(&'a Lanes);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().stop = None;
        self.0.has_room.notify_waiters();
    }
}

/// Exclusive access to a mount.
pub(super) struct Alone<'a>(RwLockWriteGuard<'a, Option<Mount>>);

impl Alone<'_> {
    /// Returns the mount; `None` if it was let go.
    pub(super) fn mount(&self) -> Option<&Mount> {
        self.0.as_ref()
    }

    /// Returns the mount for changes; `None` if it was let go.
    pub(super) fn mount_mut(&mut self) -> Option<&mut Mount> {
        self.0.as_mut()
    }

    /// Closes the mount, which releases its lock.
    pub(super) fn let_go(mut self) {
        self.0.take();
    }
}

impl Lanes {
    pub(super) fn new(session: String, mount: Mount) -> Self {
        let mount = RwLock::new(Some(mount));
        Self {
            session,
            mount,
            pulling: AsyncMutex::new(()),
            long_pull: Mutex::default(),
            has_room: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, LongPull> {
        self.long_pull.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the error for a call after the end.
    pub(super) fn ended(&self) -> Error {
        Error::Ended { session: self.session.clone() }
    }

    /// Waits for exclusive access. The full pull makes room.
    pub(super) async fn alone(&self) -> Alone<'_> {
        let asking = {
            let mut long_pull = self.lock();
            long_pull.others += 1;
            if let Some(stop) = &long_pull.stop {
                stop.cancel();
            }
            Asking(self)
        };
        // A waiting writer would block fetches, so it waits for the pull first.
        loop {
            let mut has_room = std::pin::pin!(self.has_room.notified());
            has_room.as_mut().enable();
            if !self.is_pulling() {
                break;
            }
            has_room.await;
        }
        let guard = self.mount.write().await;
        // From here on, the pull waits for the guard.
        drop(asking);
        Alone(guard)
    }

    /// Returns exclusive access if nobody has or wants any.
    pub(super) fn alone_if_idle(&self) -> Option<Alone<'_>> {
        self.mount.try_write().ok().map(Alone)
    }

    /// Pushes, with exclusive access.
    pub(super) async fn push(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let alone = self.alone().await;
        let mount = alone.mount().ok_or_else(|| self.ended())?;
        mount.push_shared(options, monitor).await
    }

    /// Pulls with its own options, with exclusive access.
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

    /// Runs the full pull until it is done or stopped, and makes room for others whenever they need it. If it
    /// had to stop before it got anywhere, its next run is longer.
    pub(super) async fn pull(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
        stop: &CancellationToken,
    ) -> Result<SyncReport, Error> {
        let _only = self.pulling.lock().await;
        let (mut total, mut turn) = (None::<SyncReport>, Duration::ZERO);
        loop {
            let guard = self.mount.read().await;
            let mount = guard.as_ref().ok_or_else(|| self.ended())?;
            let (token, asked) = (stop.child_token(), CancellationToken::new());
            let Some(under_way) = self.register(&asked, mount.store.env().now().secs) else {
                drop(guard);
                tokio::task::yield_now().await;
                continue;
            };
            let (end, kept) = (Instant::now() + turn, mount.arriving.kept());
            let makes_room = async {
                asked.cancelled().await;
                tokio::time::sleep_until(end).await;
                token.cancel();
                std::future::pending().await
            };
            let report = tokio::select! {
                biased;
                pulled = mount.pull_until(options, monitor, &token) => pulled?,
                never = makes_room => never,
            };
            drop(under_way);
            let unfinished = report.pending > 0 && token.is_cancelled();
            if unfinished {
                mount.board.stopped(&mount.place().to_string(), report.pending, !stop.is_cancelled());
            }
            let done = report.added + report.changed + report.deleted + report.extracted;
            turn = match done + (mount.arriving.kept() - kept) {
                0 => (turn * 2).clamp(FIRST_TURN, LONGEST_TURN),
                _ => turn / 4,
            };
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
        // The clock for file times is coarser, and may be behind.
        long_pull.since = now - 2;
        Some(UnderWay(self))
    }

    /// Whether the full pull is running.
    pub(super) fn is_pulling(&self) -> bool {
        self.lock().stop.is_some()
    }

    /// Returns when the running pull began, in seconds since 1970.
    #[cfg(feature = "watch")]
    pub(super) fn pulling_since(&self) -> Option<i64> {
        let long_pull = self.lock();
        long_pull.stop.as_ref().map(|_| long_pull.since)
    }

    /// Fetches a few paths now, while the full pull runs.
    pub(super) async fn fetch(
        &self,
        paths: &[TreePath],
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let guard = self.mount.read().await;
        let mount = guard.as_ref().ok_or_else(|| self.ended())?;
        if self.is_pulling() {
            // The task's row shows the full pull, so the fetch does not change it.
            return mount.fetch(paths, options, monitor).await;
        }
        let keeper = mount.keep_status(options, monitor, TaskType::Download);
        let before = mount.store.usage();
        let result = mount.fetch(paths, options, &keeper).await;
        keeper.finish(result, mount.store.usage().since(&before))
    }
}
