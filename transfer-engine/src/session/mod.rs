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
mod safety;
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

/// A running session. Clones are the same session; when the last is dropped without a release, its tasks
/// end and nothing more is saved.
#[derive(Clone)]
pub struct Session(Arc<Handle>);

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id()).finish_non_exhaustive()
    }
}

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.end.cancel();
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
    /// One at a time opens mounts.
    opening: tokio::sync::Mutex<()>,
    /// Ends all tasks, now.
    end: CancellationToken,
    ending: Mutex<Option<Ending>>,
}

impl Session {
    /// Opens the mounts of a session.
    ///
    /// By each mount's policy, files then arrive in the background, or are there when this returns, or come
    /// when they are asked for. That the store and the contexts can be reached is certain when this returns.
    ///
    /// # Errors
    /// [`Error::Overlap`] where mounts contain each other, [`Error::Locked`] where another process or session
    /// holds one, [`Error::NoStore`], [`Error::NoContext`] where a context is missing and `options.create` is
    /// off, and whatever else keeps a mount from being opened. Then none is open.
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

    /// Returns the session's id, which its snapshots name.
    pub fn id(&self) -> &str {
        &self.shared().id
    }

    /// Returns what the guide calls the session's context: its status and its manual syncs.
    pub fn context(&self) -> SessionContext<'_> {
        SessionContext::new(self.shared())
    }

    /// Waits for files to arrive: one result for each mount that is waited for.
    ///
    /// A download that fails ends the wait; in the background it is tried again. Where files come only when
    /// they are asked for, there is nothing to wait for but given paths.
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

    /// Brings paths of a mount, and what is below them, ahead of the rest.
    ///
    /// # Errors
    /// [`Error::NoMount`], and whatever keeps the paths from being brought.
    pub async fn fetch(&self, mount: &Path, paths: &[TreePath]) -> Result<SyncReport, Error> {
        let worker = self.shared().worker(mount)?;
        worker.fetch(paths.to_vec()).await.map_err(owned)
    }

    /// Ends the session: stops the downloads, uploads by the policies, and lets the mounts go.
    ///
    /// Whoever calls this again gets the first call's result. It goes on when the caller stops waiting.
    pub async fn release(&self, how: ReleaseOptions) -> Result<Released, Error> {
        self.shared().release(how).await
    }
}

/// Ends a session as the guide's `agb.delete(session, sync_context)` does; `sync_context` uploads also where
/// the policy's `autoUpload` is off.
pub async fn delete(session: Session, sync_context: bool) -> DeleteResult {
    match session.release(ReleaseOptions { sync_context, deadline: None }).await {
        Ok(released) => released.into(),
        Err(e) => DeleteResult { success: false, error_message: Some(e.to_string()), mounts: Vec::new() },
    }
}

/// Returns the error itself, as callers look for it, if nobody else has it or if it can be told twice.
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
        Error::OtherStore { location } => Error::OtherStore { location: location.clone() },
        Error::Ended { session } => Error::Ended { session: session.clone() },
        _ => Error::Shared(error),
    }
}

impl Shared {
    fn workers(&self) -> MutexGuard<'_, Vec<Arc<Worker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the worker of the mount at a path.
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
    /// Waits until what comes by itself is there.
    async fn arrival(self: &Arc<Self>) -> MountResult {
        if !self.sync.policy.download_policy.auto_download {
            let (context_id, path) = (self.context(), self.path.clone());
            return MountResult { context_id, path, report: None, error: None };
        }
        let outcome = match self.latest(Direction::Download) {
            Some(flight) if flight.is_open() => flight.wait().await,
            // A failed attempt that is over is no reason not to try at once.
            Some(flight) => flight.outcome().filter(Result::is_ok),
            None => None,
        };
        self.result(match outcome {
            Some(outcome) => outcome,
            None => self.sync(Direction::Download).await,
        })
    }
}
