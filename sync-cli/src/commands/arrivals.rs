//! What became of the files that come by themselves while a session is open.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use transfer_engine::{Arrival, FailureKind, MountResult, Session, SyncReport, TaskState, TaskType};

use crate::errors::Failure;
use crate::exit::Exit;
use crate::output::summary::{Deed, sentence};
use crate::output::{Tally, Ui, advise};

/// The files of a session that come by themselves.
pub(super) struct Arrivals {
    session: Session,
    ui: Arc<Ui>,
    several: bool,
    tally: Arc<Tally>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// Whether every mount is through.
    is_complete: bool,
    /// Paths that failed, of the mounts that are through.
    failed_paths: u64,
    /// Deletions in the context that were held back.
    held_back: u64,
    /// Paths that are on file systems which are not there.
    unmounted: u64,
    /// The mounts at which it failed.
    failed: Vec<Lost>,
}

/// A mount to which its files could not be brought.
struct Lost {
    mount: MountResult,
    failure: Failure,
    /// Whether the session does not try it again.
    is_final: bool,
    was_told: bool,
}

impl Arrivals {
    /// Begins with the files of a session, counted by `tally`; `several` says whether it has more than one mount.
    pub(super) fn of(session: Session, tally: Arc<Tally>, several: bool, ui: Arc<Ui>) -> Arc<Self> {
        Arc::new(Self { session, ui, several, tally, found: Mutex::default() })
    }

    /// Tells of them as they come, in the background.
    pub(super) fn follow(self: &Arc<Self>) -> JoinHandle<()> {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            // What is tried again is told in the words of that.
            let _ = this.look().await;
            this.tell(|lost| lost.is_final);
        })
    }

    /// Waits until everything is there.
    ///
    /// # Errors
    /// The files of a mount can't be brought, or a conflict stopped them.
    pub(super) async fn wait(&self) -> Result<(), Failure> {
        let looked = self.look().await;
        if looked.is_err() {
            // By whoever waited.
            self.found().failed.iter_mut().for_each(|lost| lost.was_told = true);
        }
        looked
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells why files could not be brought, where nobody has yet.
    fn tell(&self, which: impl Fn(&Lost) -> bool) {
        for lost in self.found().failed.iter_mut().filter(|lost| !lost.was_told && which(lost)) {
            lost.was_told = true;
            self.ui.failure(&lost.failure);
        }
    }

    async fn look(&self) -> Result<(), Failure> {
        let began = self.ui.took();
        let results = self.session.wait_for(&Arrival::All).await?;
        let took = self.ui.took().saturating_sub(began);
        let mut first = None;
        for mount in results.into_iter().flat_map(|result| result.mounts) {
            if let Err(failure) = self.note(mount, took) {
                first.get_or_insert(failure);
            }
        }
        self.found().is_complete = first.is_none();
        first.map_or(Ok(()), Err)
    }

    fn note(&self, mount: MountResult, took: Duration) -> Result<(), Failure> {
        let path = mount.path.to_string_lossy().into_owned();
        let shown = self.several.then_some(&*path);
        let mut found = self.found();
        if let Some(error) = &mount.error {
            // It was stopped for the release: what had not come is pending, and nothing failed.
            if error.kind() == FailureKind::Ended {
                return Ok(());
            }
            let failure = Failure::from(&**error).at_mount(shown);
            let is_final = !error.is_retryable();
            found.failed.push(Lost { failure: failure.clone(), is_final, was_told: false, mount });
            return Err(failure);
        }
        // Nothing comes by itself where the policy has autoDownload off.
        let Some(report) = &mount.report else { return Ok(()) };
        let prefix = shown.map(|path| format!("{path}: ")).unwrap_or_default();
        self.ui.note(&format!("{prefix}{}", sentence(Deed::Pull, report, false, took)));
        advise(&self.ui, report);
        found.failed_paths += report.failed;
        found.held_back += report.held_back;
        found.unmounted += report.unmounted;
        if report.stopped_by_conflict {
            return Err(Failure::new(Exit::CONFLICTS, "a conflict stopped the files from being brought")
                .at_mount(shown)
                .hint("resolve it by hand, or choose another --conflict; keep-both loses nothing"));
        }
        Ok(())
    }

    /// Returns what came, when nothing more will. What failed and has come since is no failure any more.
    pub(super) fn end(&self) -> SyncReport {
        let mut report = self.tally.report();
        let rows = self.session.context().info().context_status_data;
        let mut found = self.found();
        if found.is_complete {
            report.failed = found.failed_paths;
        }
        report.held_back = found.held_back;
        report.unmounted = found.unmounted;
        found.failed.retain(|lost| {
            !rows.iter().any(|row| {
                row.task_type == TaskType::Download
                    && Path::new(&row.path) == lost.mount.path
                    && row.status == TaskState::Success
            })
        });
        report.failed += u64::try_from(found.failed.len()).unwrap_or(u64::MAX);
        drop(found);
        self.tell(|_| true);
        report
    }
}
