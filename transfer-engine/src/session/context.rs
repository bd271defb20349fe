//! The guide's `session.context`: status, manual syncs, further contexts.

use std::sync::Arc;

use super::Shared;
use super::params::{ContextInfo, ContextSyncResult, SyncParams};
use super::worker::Worker;
use crate::error::Error;
use crate::local::absolute;
use crate::mount::ContextSync;
use crate::report::Direction;

/// The status and the manual syncs of a session.
pub struct SessionContext<'a> {
    shared: &'a Arc<Shared>,
}

impl std::fmt::Debug for SessionContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionContext").field("session", &self.shared.id).finish()
    }
}

impl<'a> SessionContext<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns the state of the session's tasks, without any request or waiting.
    pub fn info(&self) -> ContextInfo {
        let workers = self.shared.workers();
        let rows = workers.iter().flat_map(|w| w.board.tasks(&w.place().to_string()));
        // There may be rows of an earlier session for tasks that this one does not have.
        let rows = rows.filter(|task| task.session == self.shared.id);
        ContextInfo { context_status_data: rows.collect() }
    }

    /// Pushes every mount of the session.
    pub async fn sync(&self) -> ContextSyncResult {
        self.sync_with(SyncParams::default()).await
    }

    /// Syncs the selected mounts in the given direction. Concurrent calls share one sync.
    pub async fn sync_with(&self, params: SyncParams) -> ContextSyncResult {
        match self.shared.chosen(&params) {
            Ok(workers) => sync_all(workers, params.mode).await,
            Err(error) => ContextSyncResult::refused(&error),
        }
    }

    /// Does what [`sync_with`](Self::sync_with) does, without waiting; `callback` gets the result.
    pub fn sync_in_background(
        &self,
        params: SyncParams,
        callback: impl FnOnce(ContextSyncResult) + Send + 'static,
    ) {
        let chosen = self.shared.chosen(&params);
        tokio::spawn(async move {
            callback(match chosen {
                Ok(workers) => sync_all(workers, params.mode).await,
                Err(error) => ContextSyncResult::refused(&error),
            });
        });
    }

    /// Opens a further context in the running session, like [`Session::create`](super::Session::create).
    pub async fn bind(&self, sync: ContextSync) -> Result<(), Error> {
        self.shared.open(vec![sync]).await
    }
}

impl Shared {
    /// Returns the mounts that a manual sync covers; at least one.
    fn chosen(&self, params: &SyncParams) -> Result<Vec<Arc<Worker>>, Error> {
        let path = params.path.as_ref().map(|path| absolute(path).map_err(|e| Error::local("find", path, e)));
        let path = path.transpose()?;
        let fits = |worker: &&Arc<Worker>| {
            params.context_id.as_ref().is_none_or(|id| *id == worker.sync.context || *id == worker.context())
                && path.as_ref().is_none_or(|path| *path == worker.path)
        };
        let workers: Vec<_> = self.workers().iter().filter(fits).cloned().collect();
        if !workers.is_empty() || (params.context_id.is_none() && path.is_none()) {
            return Ok(workers);
        }
        let id = params.context_id.as_ref().map(|id| format!("context `{id}`"));
        let path = params.path.as_ref().map(|path| path.display().to_string());
        let wanted: Vec<String> = id.into_iter().chain(path).collect();
        Err(Error::NoMount { session: self.id.clone(), wanted: wanted.join(" at ") })
    }
}

async fn sync_all(workers: Vec<Arc<Worker>>, direction: Direction) -> ContextSyncResult {
    let syncs = workers.iter().map(|worker| async move { worker.result(worker.sync(direction).await) });
    futures::future::join_all(syncs).await.into()
}
