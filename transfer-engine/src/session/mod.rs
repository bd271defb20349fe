//! Sessions: the time between opening mounts on a machine and releasing them.
//!
//! ```text
//! Session ── Worker (one a mount)
//!              ├── lanes       who may work on the mount at once
//!              ├── flight      syncs that several callers wait for
//!              ├── checkpoint  uploads while it runs, by time or by change
//!              └── socket      requests of other processes
//! ```

mod checkpoint;
mod context;
mod flight;
mod lanes;
mod open;
mod params;
mod relay;
mod release;
mod required;
mod safety;
#[cfg(any(test, fuzzing))]
pub(crate) use socket::hostile;
mod socket;
mod watcher;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy_core::TreePath;
use tokio_util::sync::CancellationToken;

pub use context::SessionContext;
pub use params::{
    Arrival, ContextInfo, ContextStatusData, ContextSyncResult, CreateSessionParams, DeleteResult,
    MountResult, ReleaseOptions, Released, SessionMonitor, SyncParams,
};

pub use socket::RunningSession;

use crate::error::Error;
use crate::options::SyncOptions;
use crate::report::{Direction, SyncReport};
use crate::store::Store;
use release::Ending;
use worker::Worker;

/// A running session. Clones share it. When the last one is dropped without a release, its tasks end, nothing more is
/// pushed, and a warning is logged.
#[derive(Clone)]
#[must_use = "a session that is dropped without a release pushes nothing more"]
pub struct Session(Arc<Handle>);

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id()).finish_non_exhaustive()
    }
}

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        let shared = &self.0;
        if shared.ending().is_none() && !shared.workers().is_empty() {
            tracing::warn!(session = %shared.id, "a session was dropped without a release: nothing more is pushed");
        }
        shared.end.cancel();
    }
}

/// What the clones of a session share.
struct Shared {
    id: String,
    store: Store,
    state_dir: PathBuf,
    options: SyncOptions,
    safety_scan: Option<Duration>,
    monitor: Arc<dyn SessionMonitor>,
    workers: Mutex<Vec<Arc<Worker>>>,
    /// Held while mounts are opened.
    opening: tokio::sync::Mutex<()>,
    /// Ends all tasks at once.
    end: CancellationToken,
    ending: Mutex<Option<Ending>>,
}

impl Session {
    /// Opens the mounts of a session.
    ///
    /// Each mount's policy decides whether its files are pulled in the background, before this returns, or
    /// only on request. When this returns, the store and the contexts were reached.
    ///
    /// # Errors
    /// [`Error::Overlap`] if mounts contain each other, [`Error::Locked`] if another process or session holds
    /// one, [`Error::NoStore`], [`Error::NoContext`] if a context is missing and `options.create` is off, the mount is
    /// read-only, or a required path is not in the mount, [`Error::Required`] if required paths can't be had, and other errors
    /// of opening a mount. After an error, no mount is open.
    pub async fn create(store: &Store, params: CreateSessionParams) -> Result<Self, Error> {
        let id = match params.session_id {
            Some(id) => id,
            None => format!("s-{:016x}", u64::from_le_bytes(store.random()?)),
        };
        let shared = Shared {
            options: SyncOptions { session: id.clone(), deadline: None, ..params.options },
            id,
            store: store.clone(),
            state_dir: params.state_dir,
            safety_scan: params.safety_scan,
            monitor: params.monitor,
            workers: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            end: CancellationToken::new(),
            ending: Mutex::default(),
        };
        let session = Self(Arc::new(Handle(Arc::new(shared))));
        session.shared().open(params.context_syncs).await?;
        Ok(session)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    /// Returns the session's id, which its snapshots contain.
    pub fn id(&self) -> &str {
        &self.shared().id
    }

    /// Returns the guide's context of a session: its status and its manual syncs.
    pub fn context(&self) -> SessionContext<'_> {
        SessionContext::new(self.shared())
    }

    /// Waits for files to arrive, and returns one result for each mount involved.
    ///
    /// If a pull fails, the wait ends; the pull is retried in the background. If files are pulled only on
    /// request, this waits only for paths that are given.
    pub async fn wait_for(&self, what: &Arrival) -> Result<Vec<ContextSyncResult>, Error> {
        let one = |result: MountResult| ContextSyncResult::from(vec![result]);
        match what {
            Arrival::All => {
                let workers = self.shared().workers().clone();
                let arrivals = workers.iter().map(|worker| async move { one(worker.arrival().await) });
                Ok(futures::future::join_all(arrivals).await)
            }
            Arrival::Paths { mount, paths } => {
                let worker = self.shared().worker(mount)?;
                Ok(vec![one(worker.result(worker.fetch(paths.clone()).await))])
            }
        }
    }

    /// Fetches paths of a mount, and what is below them, before all other files.
    ///
    /// # Errors
    /// [`Error::NoMount`], and errors of the fetch.
    pub async fn fetch(&self, mount: &Path, paths: &[TreePath]) -> Result<SyncReport, Error> {
        let worker = self.shared().worker(mount)?;
        worker.fetch(paths.to_vec()).await.map_err(owned)
    }

    /// Ends the session: stops the pulls, pushes as the policies say, and closes the mounts.
    ///
    /// Further calls return the first call's result. The release continues even if the caller stops waiting.
    pub async fn release(&self, how: ReleaseOptions) -> Result<Released, Error> {
        self.shared().release(how).await
    }
}

/// Ends a session like the guide's `agb.delete(session, sync_context)`; with `sync_context`, pushes even if
/// the policy's `autoUpload` is off.
pub async fn delete(session: Session, sync_context: bool) -> DeleteResult {
    match session.release(ReleaseOptions { sync_context, deadline: None }).await {
        Ok(released) => released.into(),
        Err(e) => DeleteResult { success: false, error_message: Some(e.to_string()), mounts: Vec::new() },
    }
}

/// Returns the error itself, which callers can match on, if it is not shared or can be copied.
fn owned(error: Arc<Error>) -> Error {
    let error = match Arc::try_unwrap(error) {
        Ok(error) => return error,
        Err(shared) => shared,
    };
    match &*error {
        Error::NoStore { location } => Error::NoStore { location: location.clone() },
        Error::NoContext { name, location } => {
            Error::NoContext { name: name.clone(), location: location.clone() }
        }
        Error::NoPart { path, name, number } => {
            Error::NoPart { path: path.clone(), name: name.clone(), number: *number }
        }
        Error::OtherStore { location } => Error::OtherStore { location: location.clone() },
        Error::Ended { session } => Error::Ended { session: session.clone() },
        _ => Error::Shared(error),
    }
}

impl Shared {
    fn workers(&self) -> MutexGuard<'_, Vec<Arc<Worker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the worker of the mount at `mount`.
    fn worker(&self, mount: &Path) -> Result<Arc<Worker>, Error> {
        let path = crate::local::absolute(mount).map_err(|e| Error::local("find", mount, e))?;
        let workers = self.workers();
        let found = workers.iter().find(|worker| worker.path == path).cloned();
        found.ok_or_else(|| Error::NoMount { session: self.id.clone(), wanted: mount.display().to_string() })
    }

    fn ended(&self) -> Error {
        Error::Ended { session: self.id.clone() }
    }
}

impl Worker {
    /// Waits until the files that are pulled in the background have arrived.
    async fn arrival(self: &Arc<Self>) -> MountResult {
        if !self.sync.policy.download_policy.auto_download {
            return self.result_of(None, None);
        }
        let outcome = match self.latest(Direction::Download) {
            Some(flight) if flight.is_open() => flight.wait().await,
            // If an attempt has failed, a new one starts at once.
            Some(flight) => flight.outcome().filter(Result::is_ok),
            None => None,
        };
        self.result(match outcome {
            Some(outcome) => outcome,
            None => self.sync(Direction::Download).await,
        })
    }
}
