//! The release of a session.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use policy_core::ConflictPolicy;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Shared;
use super::lanes::Alone;
use super::params::{MountResult, ReleaseOptions, Released};
use super::worker::Worker;
use crate::error::Error;
use crate::options::SyncOptions;
use crate::report::SyncReport;

/// A release that has started; it has the result when there is one.
pub(super) type Ending = watch::Receiver<Option<Released>>;

impl Shared {
    pub(super) fn ending(&self) -> MutexGuard<'_, Option<Ending>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases all mounts at once, or joins the release that has started.
    pub(super) async fn release(self: &Arc<Self>, how: ReleaseOptions) -> Result<Released, Error> {
        let mut ending = self.begin_release(how);
        let released = ending.wait_for(Option::is_some).await.ok().and_then(|r| r.clone());
        released.ok_or_else(|| self.ended())
    }

    fn begin_release(self: &Arc<Self>, how: ReleaseOptions) -> Ending {
        let mut ending = self.ending();
        if let Some(ending) = &*ending {
            return ending.clone();
        }
        let (done, receiver) = watch::channel(None);
        *ending = Some(receiver.clone());
        drop(ending);
        let (workers, shared) = (self.workers().clone(), Arc::clone(self));
        tokio::spawn(async move {
            let releases = workers.iter().map(|worker| worker.release(how));
            let mounts = futures::future::join_all(releases).await;
            shared.end.cancel();
            done.send_replace(Some(Released { mounts }));
        });
        receiver
    }
}

impl Worker {
    /// Stops what is running, pushes, and closes the mount.
    async fn release(self: &Arc<Self>, how: ReleaseOptions) -> MountResult {
        self.ends.new.cancel();
        self.ends.pulls.cancel();
        if how.deadline.is_some() {
            // A running push does not know the deadline. What it has sent need not be sent again.
            self.ends.pushes.cancel();
        }
        let mut alone = self.alone_in_time(how).await;
        let wanted = self.pushes_by_itself() || how.sync_context && !self.sync.is_read_only();
        let result = match alone.mount().filter(|_| wanted).is_some() {
            true => {
                let options = self.last_options(how);
                let pushed = self.push_alone(&mut alone, &options).await;
                // Conflicts that checkpoints have found belong to the session's result too.
                let kept = self.conflicts.load(Ordering::Relaxed);
                let pushed = pushed.map(|report| SyncReport { conflicts: report.conflicts + kept, ..report });
                self.result(pushed.map_err(Arc::new))
            }
            false => self.result_of(None, None),
        };
        self.board.release(&self.session);
        self.ends.all.cancel();
        alone.let_go();
        result
    }

    /// Waits for exclusive access. What was stopped gets at most a tenth of the remaining time.
    async fn alone_in_time(&self, how: ReleaseOptions) -> Alone<'_> {
        let Some(deadline) = how.deadline else { return self.lanes.alone().await };
        let left = deadline.saturating_duration_since(Instant::now());
        tokio::select! {
            biased;
            alone = self.lanes.alone() => return alone,
            () = tokio::time::sleep(left / 10) => self.ends.hurry.cancel(),
        }
        self.lanes.alone().await
    }

    fn last_options(&self, how: ReleaseOptions) -> SyncOptions {
        let mut options = SyncOptions {
            deadline: how.deadline,
            save_unquiesced: true,
            at_rest: true,
            // Nobody flushes later. By a deadline, the push can't wait, and notes that.
            flush_behind: self.options.flush_behind && how.deadline.is_some(),
            ..self.options.clone()
        };
        // A machine that is shut down can't wait until a user resolves a conflict.
        if options.conflict.unwrap_or(self.sync.policy.conflict_policy) == ConflictPolicy::Fail {
            options.conflict = Some(ConflictPolicy::KeepBoth);
        }
        options
    }
}
