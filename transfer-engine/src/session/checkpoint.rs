//! Checkpoints: pushes while a session runs, because machines vanish without a release.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use policy_core::UploadStrategy;
use tokio::time::{Instant, MissedTickBehavior};

use super::flight::Flight;
use super::safety::{SafetyScans, look_over};
use super::watcher::{Blind, MountWatch, Root};
use super::worker::Worker;
use crate::report::Direction;
use crate::status::TaskType;

/// The time between checkpoints if changes can't be watched.
const FALLBACK: Duration = Duration::from_secs(30);
/// A mount that is never quiet is pushed this long after a change, or after ten times its quiet time if that
/// is longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause before a failed checkpoint is retried. It doubles each time, up to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often to check whether a vanished mount is back.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl Worker {
    /// Makes checkpoints as the policy says, until the session ends.
    pub(super) async fn keep_saving(self: Arc<Self>, safety_scan: Option<Duration>) {
        if !self.pushes_by_itself() {
            return;
        }
        match self.sync.policy.upload_policy.upload_strategy {
            UploadStrategy::UploadBeforeResourceRelease => {}
            UploadStrategy::UploadPeriodically { seconds } => {
                self.checkpoint_periodically(Duration::from_secs(u64::from(seconds.max(1)))).await;
            }
            UploadStrategy::UploadOnChange { debounce_ms } => {
                let quiet = Duration::from_millis(u64::from(debounce_ms.max(1)));
                tokio::select! {
                    biased;
                    Err(blind) = Arc::clone(&self).checkpoint_on_change(quiet, safety_scan) => {
                        self.warn(
                            TaskType::Upload,
                            &format!(
                                "changes can't be watched: {blind}; a push runs every {} s instead",
                                FALLBACK.as_secs()
                            ),
                        );
                    }
                    () = self.ends.new.cancelled() => return,
                }
                self.checkpoint_periodically(FALLBACK).await;
            }
        }
    }

    async fn checkpoint_periodically(self: &Arc<Self>, every: Duration) {
        let mut clock = tokio::time::interval_at(Instant::now() + every, every);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = clock.tick() => {}
                () = self.ends.new.cancelled() => return,
            }
            self.checkpoint(every).await;
        }
    }

    /// Makes one checkpoint; returns whether it succeeded.
    async fn checkpoint(self: &Arc<Self>, next: Duration) -> bool {
        match self.sync(Direction::Upload).await {
            Ok(_) => true,
            Err(_) if self.ends.new.is_cancelled() => false,
            Err(e) => {
                let chain = crate::error::chain(&*e);
                self.warn(
                    TaskType::Upload,
                    &format!("a checkpoint failed, and is tried again in {:?}: {chain}", next),
                );
                false
            }
        }
    }

    /// Makes a checkpoint whenever the mount has changed and has then been quiet, until changes can't be
    /// watched any longer.
    async fn checkpoint_on_change(
        self: Arc<Self>,
        quiet: Duration,
        safety_scan: Option<Duration>,
    ) -> Result<Infallible, Blind> {
        let mut watch = self.watch().await?;
        let mut scans = SafetyScans::new(safety_scan);
        let mut pause = FIRST_PAUSE;
        loop {
            while self.wait_for_quiet(&watch, quiet, &mut scans).await? == Root::Exchanged {
                self.warn(
                    TaskType::Upload,
                    "the mount's directory was replaced by another one, which is watched and pushed from now on",
                );
                watch = self.watch().await?;
            }
            watch.forget();
            if self.checkpoint(pause).await {
                pause = FIRST_PAUSE;
            } else {
                watch.remember();
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    async fn watch(self: &Arc<Self>) -> Result<Arc<MountWatch>, Blind> {
        let worker = Arc::clone(self);
        self.blocking(move || MountWatch::start(worker)).await.map(Arc::new)
    }

    /// Scans everything in scope, for changes of which there was no event.
    async fn scan_for_safety(&self, watch: &MountWatch, scans: &mut SafetyScans) {
        if self.lanes.is_pulling() {
            return scans.postpone();
        }
        let (path, env, filter) = (self.path.clone(), self.store.env().clone(), self.filter.clone());
        let look = self.store.env().blocking(move || look_over(&path, &env, filter)).await;
        if scans.take(look.unwrap_or_else(|e| Err(e.into()))) {
            watch.distrust();
        }
    }

    /// Waits until there is something to push and the mount is quiet; or until another directory takes the
    /// mount's place.
    async fn wait_for_quiet(
        &self,
        watch: &Arc<MountWatch>,
        quiet: Duration,
        scans: &mut SafetyScans,
    ) -> Result<Root, Blind> {
        let patience = PATIENCE.max(quiet * 10);
        let mut there = true;
        // When the mount will have been quiet, if the time of the change is unknown.
        let mut calm = None;
        loop {
            if scans.due().is_some_and(|due| due <= Instant::now()) {
                self.scan_for_safety(watch, scans).await;
            }
            if watch.is_behind() {
                let watch = Arc::clone(watch);
                let root = self.blocking(move || watch.catch_up()).await?;
                if root == Root::Exchanged {
                    return Ok(root);
                }
                there = root == Root::There;
            }
            let (changed, stirred) = watch.state();
            // Changes that a pull may have made are only considered after the pull.
            let download = self.latest(Direction::Download).filter(|flight| stirred && flight.is_open());
            let due = match changed {
                Some((first, last)) => Some((last + quiet).min(first + patience)),
                None if stirred && download.is_none() => {
                    Some(*calm.get_or_insert_with(|| Instant::now() + quiet))
                }
                None => None,
            };
            let news = tokio::select! {
                biased;
                () = watch.news() => true,
                () = sleep_until(due) => false,
                () = landing(download) => true,
                () = tokio::time::sleep(LOOK_AGAIN), if !there => true,
                () = sleep_until(scans.due()) => continue,
            };
            if !news {
                return Ok(Root::There);
            }
            calm = None;
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, Blind> + Send + 'static,
    ) -> Result<T, Blind> {
        self.store.env().blocking(job).await.unwrap_or_else(|e| Err(Blind::Unable(e.to_string())))
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn landing(flight: Option<Flight>) {
    match flight {
        Some(flight) => drop(flight.wait().await),
        None => std::future::pending().await,
    }
}
