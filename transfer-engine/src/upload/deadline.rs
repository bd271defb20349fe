//! A push with a deadline: what is cut short, and what is reported when the time is over.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use policy_core::TreePath;
use tokio::time::timeout_at;

use crate::changes::{LocalDelta, Missing};
use crate::error::Error;
use crate::format::PackId;
use crate::local::MountDir;
use crate::monitor::{Action, Monitor, PathEvent, Side, Silent};
use crate::mount::Mount;
use crate::options::SyncOptions;
use crate::packing::{Chunks, Pace, PackSink};
use crate::quiesce::Still;
use crate::report::SyncReport;
use crate::state::{Alone, DeltaState};
use crate::store::Head;

/// Why a push is committed before everything was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The packs are getting too old; the push continues afterwards.
    Round,
    /// The deadline is near.
    Deadline,
}

/// The progress of a push, for the code that ends it at the deadline.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) pace: Arc<Pace>,
    /// The result of the rounds so far.
    committed: Mutex<Option<SyncReport>>,
    /// The number of the snapshot that is being put; 0 if none.
    committing: AtomicU64,
    /// Whether the programs that write to the mount could not be paused or resumed.
    quiesce_failed: AtomicBool,
}

impl Course {
    /// Pauses the programs that write to the mount until it has been read.
    pub(super) async fn quiesce(
        &self,
        mount: &Path,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<Option<Still>, Error> {
        let Some(hook) = options.quiesce.as_ref().filter(|_| !options.dry_run) else { return Ok(None) };
        match Still::begin(hook, mount, options.deadline).await {
            Ok(still) => Ok(Some(still)),
            Err(e) if options.save_unquiesced => {
                monitor.warning(&format!("quiescing failed; the mount is pushed as it is: {e}"));
                self.quiesce_failed.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(source) => Err(Error::Quiesce { mount: mount.to_owned(), source }),
        }
    }

    /// Lets the programs continue.
    pub(super) async fn resume(&self, still: Option<Still>, monitor: &dyn Monitor) {
        let Some(still) = still else { return };
        if let Err(e) = still.end().await {
            monitor.warning(&format!("resuming failed: {e}"));
            self.quiesce_failed.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn committing(&self, number: Option<u64>) {
        self.committing.store(number.unwrap_or(0), Ordering::Relaxed);
    }

    /// Adds a round that was committed, or the last part, and returns the total.
    pub(super) fn add(&self, round: SyncReport) -> SyncReport {
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut whole = committed.take().unwrap_or_default();
        // What earlier rounds have committed is unchanged for this one.
        let unchanged = round.unchanged.saturating_sub(whole.added + whole.changed);
        let quiesce_failed = self.quiesce_failed.load(Ordering::Relaxed);
        whole.absorb(&SyncReport { unchanged, quiesce_failed, ..round });
        committed.insert(whole).clone()
    }

    /// Returns the total of the rounds that were committed, if there were any.
    pub(super) fn committed(&self) -> Option<SyncReport> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The reason given for a path that a partial snapshot lacks.
pub(super) const NOT_SENT: &str = "not sent before the deadline";

impl Mount {
    /// Runs a push that ends before the deadline, whatever the store does.
    pub(super) async fn push_in_time(
        &self,
        options: &SyncOptions,
        alone: &Alone<'_>,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let course = Course {
            pace: Arc::new(Pace::new(options.deadline)),
            committed: Mutex::default(),
            committing: AtomicU64::new(0),
            quiesce_failed: AtomicBool::new(false),
        };
        let push: BoxFuture<'_, Result<SyncReport, Error>> =
            Box::pin(self.push_all(options, alone, &course, monitor));
        let Some(end) = course.pace.end() else { return push.await };
        if let Ok(result) = timeout_at(end, push).await {
            return result;
        }
        let number = course.committing.load(Ordering::Relaxed);
        if number > 0 {
            let source = Box::new(io::Error::new(io::ErrorKind::TimedOut, "the deadline came first"));
            let source = object_store::Error::Generic { store: "deadline", source };
            return Err(Error::CommitUnknown { name: self.context.clone(), number, source });
        }
        self.out_of_time(&course, monitor)
    }

    /// Ends a push that can't commit any more: returns the result of its rounds, if there were any.
    pub(super) fn out_of_time(&self, course: &Course, monitor: &dyn Monitor) -> Result<SyncReport, Error> {
        let Some(committed) = course.committed() else {
            return Err(Error::OutOfTime { name: self.context.clone() });
        };
        monitor.warning("the deadline passed before everything was sent; the next push continues from here");
        Ok(SyncReport { partial: true, ..committed })
    }

    /// Waits for what is being sent as long as there is time, and counts only what has landed by then.
    /// Returns what is missing, if anything.
    pub(super) async fn await_landing(
        &self,
        delta: &mut LocalDelta,
        (dir, chunks): (&MountDir, &Arc<Chunks>),
        sink: &mut PackSink,
        head: &Head,
    ) -> Result<Option<(Cut, Missing)>, Error> {
        let landed_all = if sink.pace().has_deadline() { sink.flush_in_time().await? } else { true };
        if landed_all && !delta.cut_short {
            return Ok(None);
        }
        let cut = if sink.pace().is_over() { Cut::Deadline } else { Cut::Round };
        if cut == Cut::Round {
            sink.flush(&Silent).await?;
        }
        sink.count_on_landed(|id: &PackId| head.snapshot.packs.iter().any(|p| p.id == *id))?;
        let cannot_read = |e| Error::local("read", self.files.dir(), e);
        let missing = delta.leave_out_unsent(dir, chunks).map_err(cannot_read)?;
        Ok((!missing.is_nothing()).then_some((cut, missing)))
    }

    /// Reports each path that was not sent.
    pub(super) fn tell_missing(&self, delta: &mut LocalDelta, monitor: &dyn Monitor) -> Result<(), Error> {
        let cannot_read = |e| Error::local("read", self.files.dir(), e);
        for row in delta.read().map_err(cannot_read)? {
            let row = row.map_err(cannot_read)?;
            if let DeltaState::Unsent { size } = row.state {
                tell_unsent(&row.path, size, monitor);
            }
        }
        Ok(())
    }
}

pub(super) fn tell_unsent(path: &TreePath, size: u64, monitor: &dyn Monitor) {
    monitor.path(&PathEvent { path, action: Action::Skip, side: Side::Store, reason: NOT_SENT, size });
}
