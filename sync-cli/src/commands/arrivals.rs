//! The pull in the background of a session: waits for it, and reports how it ended.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use transfer_engine::{Arrival, ErrorKind, MountResult, Session, SyncReport, TaskState, TaskType};

use crate::errors::Failure;
use crate::exit::Exit;
use crate::output::summary::{Deed, sentence};
use crate::output::{Tally, Ui, advise};

/// The files that a session pulls in the background.
pub(super) struct Arrivals {
    session: Session,
    ui: Arc<Ui>,
    several: bool,
    tally: Arc<Tally>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// Whether the pulls of all mounts have ended well.
    is_complete: bool,
    /// Whether the release has stopped one.
    was_stopped: bool,
    /// Paths that failed, in the mounts whose pull has ended.
    failed_paths: u64,
    /// Deletions of the context that were held back.
    held_back: u64,
    /// Paths on file systems that are not mounted now.
    unmounted: u64,
    /// The mounts whose pull failed.
    failed: Vec<Lost>,
}

/// A mount whose pull failed.
struct Lost {
    mount: MountResult,
    failure: Failure,
    /// Whether the session does not retry the pull.
    is_final: bool,
    was_told: bool,
}

impl Arrivals {
    /// Makes it for a session; `tally` counts its files. `several` says whether the session has more than one
    /// mount.
    pub(super) fn of(session: Session, tally: Arc<Tally>, several: bool, ui: Arc<Ui>) -> Arc<Self> {
        Arc::new(Self { session, ui, several, tally, found: Mutex::default() })
    }

    /// Reports the pulls as they end, in the background.
    pub(super) fn follow(self: &Arc<Self>) -> JoinHandle<()> {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            // A failure that is retried is reported by the retry.
            let _ = this.look().await;
            this.tell(|lost| lost.is_final);
        })
    }

    /// Waits until all files are pulled.
    ///
    /// # Errors
    /// The pull of a mount failed, or a conflict stopped it.
    pub(super) async fn wait(&self) -> Result<(), Failure> {
        let looked = self.look().await;
        if looked.is_err() {
            // The caller reports this failure.
            self.found().failed.iter_mut().for_each(|lost| lost.was_told = true);
        }
        looked
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports the failures that `which` selects and that were not reported yet.
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
            // The release stopped the pull: the remaining files are pending. What has failed before stays so.
            if error.kind() == ErrorKind::Ended {
                found.was_stopped = true;
                return Ok(());
            }
            let failure = Failure::from(&**error).at_mount(shown);
            let is_final = !error.is_retryable();
            found.failed.push(Lost { failure: failure.clone(), is_final, was_told: false, mount });
            return Err(failure);
        }
        // With autoDownload off, nothing is pulled in the background.
        let Some(report) = &mount.report else { return Ok(()) };
        let prefix = shown.map(|path| format!("{path}: ")).unwrap_or_default();
        self.ui.note(&format!("{prefix}{}", sentence(Deed::Pull, report, false, took, self.ui.columns())));
        advise(&self.ui, report);
        found.failed_paths += report.failed;
        found.held_back += report.held_back;
        found.unmounted += report.unmounted;
        if report.stopped_by_conflict {
            return Err(Failure::new(Exit::CONFLICTS, "a conflict stopped the pull")
                .at_mount(shown)
                .hint("resolve it by hand, or choose another --conflict; keep-both loses nothing"));
        }
        Ok(())
    }

    /// Returns the final result of the pulls. A failed pull that a later pull made up for no longer counts as
    /// failed.
    pub(super) fn end(&self) -> SyncReport {
        let mut report = self.tally.report();
        let rows = self.session.context().info().context_status_data;
        let mut found = self.found();
        if found.is_complete && !found.was_stopped {
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
