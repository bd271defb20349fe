//! One mount of a session: its syncs, shared and queued.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy_core::{Towards, TreePath};
use tokio_util::sync::CancellationToken;

use super::flight::{Flight, Flights, Pilot, SyncResult, adds_nothing};
use super::lanes::{Alone, Lanes};
use super::params::MountResult;
use super::relay::{Onset, Relay};
use crate::error::Error;
use crate::format::ContextName;
use crate::monitor::Monitor;
use crate::mount::{ContextPart, ContextSync, Mount};
use crate::options::SyncOptions;
use crate::plan::Filter;
use crate::report::{Direction, SyncReport};
use crate::status::{StatusBoard, TaskType};
use crate::store::{At, Store};

/// How long to wait for a pull that was stopped.
const GRACE: Duration = Duration::from_secs(10);
/// How often a context is followed that is renamed again and again.
const RENAMES: usize = 5;

/// One mount of a session.
pub(super) struct Worker {
    pub(super) session: String,
    pub(super) store: Store,
    /// The context, the path as given, and the policy.
    pub(super) sync: ContextSync,
    /// The context's current name.
    context: Mutex<ContextName>,
    /// The mount's path, absolute and free of links.
    pub(super) path: PathBuf,
    /// The directory of the mount's state.
    pub(super) state: PathBuf,
    /// The session's options.
    pub(super) options: SyncOptions,
    /// The paths in the session's scope.
    pub(super) filter: Arc<Filter>,
    pub(super) board: StatusBoard,
    pub(super) lanes: Lanes,
    pub(super) pushes: Arc<Relay>,
    pub(super) pulls: Arc<Relay>,
    pub(super) ends: Ends,
    flights: [Mutex<Flights>; 3],
    /// Held while the mount is flushed in the background.
    flushing: tokio::sync::Mutex<()>,
    /// Conflicts that earlier pushes have found.
    pub(super) conflicts: AtomicU64,
}

/// Cancellation: what ends, and when.
pub(super) struct Ends {
    /// Everything, at once: the session is dropped, or its release is done.
    pub(super) all: CancellationToken,
    /// Nothing new may start: the session is being released.
    pub(super) new: CancellationToken,
    /// Pulls and fetches.
    pub(super) pulls: CancellationToken,
    /// Running pushes.
    pub(super) pushes: CancellationToken,
    /// Whatever was cancelled and has not ended yet.
    pub(super) hurry: CancellationToken,
}

impl Ends {
    fn new(session: &CancellationToken) -> Self {
        let all = session.child_token();
        Self {
            new: all.child_token(),
            pulls: all.child_token(),
            pushes: all.child_token(),
            hurry: CancellationToken::new(),
            all,
        }
    }

    /// Ends everything.
    pub(super) fn cancel(&self) {
        self.all.cancel();
    }
}

impl Worker {
    pub(super) fn new(
        session: &str,
        mount: Mount,
        sync: ContextSync,
        options: SyncOptions,
        monitors: [Arc<dyn Monitor>; 2],
        end: &CancellationToken,
    ) -> Arc<Self> {
        let [pushes, pulls] = monitors.map(Relay::new);
        Arc::new(Self {
            session: session.to_owned(),
            store: mount.store.clone(),
            path: mount.path().to_owned(),
            state: mount.state.dir().to_owned(),
            filter: mount.filter(&options, Towards::Mount),
            board: mount.board.clone(),
            lanes: Lanes::new(session.to_owned(), mount),
            context: Mutex::new(sync.context.clone()),
            sync,
            options,
            pushes,
            pulls,
            ends: Ends::new(end),
            flights: Default::default(),
            flushing: tokio::sync::Mutex::default(),
            conflicts: AtomicU64::new(0),
        })
    }

    /// Returns the context's name, which may have changed since the session was opened.
    pub(super) fn context(&self) -> ContextName {
        self.context.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what is mounted, under the context's current name.
    pub(super) fn place(&self) -> ContextPart {
        ContextPart { context: self.context(), path: self.sync.part.clone() }
    }

    /// Runs work on the context, and again if the context was renamed meanwhile.
    async fn following<W: Future<Output = Result<SyncReport, Error>>>(
        &self,
        work: impl Fn() -> W,
    ) -> Result<SyncReport, Error> {
        for _ in 0..RENAMES {
            match work().await {
                // Under the new name, the snapshots have other numbers.
                Err(Error::Moved { to, .. }) if self.sync.at == At::Head => {
                    self.follow(&mut self.lanes.alone().await, &to).await?;
                }
                done => return done,
            }
        }
        work().await
    }

    /// Pushes with exclusive access, under the context's current name.
    pub(super) async fn push_alone(
        &self,
        alone: &mut Alone<'_>,
        options: &SyncOptions,
    ) -> Result<SyncReport, Error> {
        for _ in 0..RENAMES {
            let mount = alone.mount().ok_or_else(|| self.lanes.ended())?;
            match mount.push_shared(options, &*self.pushes).await {
                Err(Error::Moved { to, .. }) => self.follow(alone, &to).await?,
                done => return done,
            }
        }
        let mount = alone.mount().ok_or_else(|| self.lanes.ended())?;
        mount.push_shared(options, &*self.pushes).await
    }

    async fn follow(&self, alone: &mut Alone<'_>, to: &ContextName) -> Result<(), Error> {
        let mount = alone.mount_mut().ok_or_else(|| self.lanes.ended())?;
        // Another task may just have done so.
        if mount.context != *to {
            mount.follow(to).await?;
            let mut name = self.context.lock().unwrap_or_else(PoisonError::into_inner);
            let from = std::mem::replace(&mut *name, to.clone());
            drop(name);
            self.warn(
                TaskType::Upload,
                &format!("context `{from}` was renamed to `{to}`, and is pushed under that name from now on"),
            );
        }
        Ok(())
    }

    fn flights(&self, direction: Direction) -> MutexGuard<'_, Flights> {
        self.flights[direction as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs, or joins the running sync in this direction.
    ///
    /// If the running sync has already read the mount, the caller waits for it and for a further one, which
    /// sees what changed meanwhile. If nothing did, the first result is returned.
    pub(super) async fn sync(self: &Arc<Self>, direction: Direction) -> SyncResult {
        self.refuse_push(direction, &self.options)?;
        let flight = self.join(direction).ok_or_else(|| Arc::new(self.lanes.ended()))?;
        flight.wait().await.unwrap_or_else(|| Err(Arc::new(self.lanes.ended())))
    }

    /// Fails before anything is pulled if the mount is read-only and this sync would push.
    fn refuse_push(&self, direction: Direction, options: &SyncOptions) -> Result<(), Arc<Error>> {
        if !self.sync.is_read_only() || options.dry_run || direction == Direction::Download {
            return Ok(());
        }
        Err(Arc::new(Error::ReadOnly { context: self.context(), mount: self.path.clone() }))
    }

    /// Whether changes are pushed without a request.
    pub(super) fn pushes_by_itself(&self) -> bool {
        self.sync.policy.upload_policy.auto_upload && !self.sync.is_read_only()
    }

    /// Returns the sync in this direction to wait for; `None` if the session ends.
    pub(super) fn join(self: &Arc<Self>, direction: Direction) -> Option<Flight> {
        let mut flights = self.flights(direction);
        if self.ends.new.is_cancelled() {
            return None;
        }
        let before = flights.running.clone().filter(Flight::is_open);
        match (&before, &flights.next) {
            (Some(running), _) if !running.has_begun() => return Some(running.clone()),
            (Some(_), Some(next)) if next.is_open() => return Some(next.clone()),
            _ => {}
        }
        let (pilot, flight) = Flight::new();
        let slot = if before.is_some() { &mut flights.next } else { &mut flights.running };
        *slot = Some(flight.clone());
        tokio::spawn(Arc::clone(self).fly(direction, before, pilot));
        Some(flight)
    }

    /// Returns the newest sync in this direction.
    pub(super) fn latest(&self, direction: Direction) -> Option<Flight> {
        let flights = self.flights(direction);
        flights.next.clone().filter(Flight::is_open).or_else(|| flights.running.clone())
    }

    async fn fly(self: Arc<Self>, direction: Direction, before: Option<Flight>, pilot: Pilot) {
        let earlier = match before {
            Some(before) => {
                let earlier = before.wait().await;
                let mut flights = self.flights(direction);
                flights.running = flights.next.take();
                earlier
            }
            None => None,
        };
        if self.ends.new.is_cancelled() {
            return;
        }
        let began = pilot.began.clone();
        let options = &self.options;
        let outcome = match direction {
            Direction::Upload => self.push(options, Onset::new(&self.pushes, began)).await,
            Direction::Download => self.pull(options, Onset::new(&self.pulls, began)).await,
            Direction::Both => {
                began.send_replace(true);
                self.both().await
            }
        };
        let outcome = match (outcome, earlier) {
            (Ok(later), Some(Ok(earlier))) if adds_nothing(&earlier, &later) => Ok(earlier),
            (outcome, _) => outcome,
        };
        let done = outcome.is_ok();
        pilot.outcome.send_replace(Some(outcome));
        if done && let Err(error) = self.flush_behind().await {
            tracing::debug!(%error, "the mount is flushed later");
        }
    }

    /// Flushes the mount after a sync that did not wait for its disk, unless something else is going on. A disk that
    /// hangs keeps one flush waiting, and not one for each sync.
    async fn flush_behind(&self) -> Result<(), Error> {
        let Ok(_one) = self.flushing.try_lock() else { return Ok(()) };
        let (mark, flush) = {
            let Some(alone) = self.lanes.alone_if_idle() else { return Ok(()) };
            let Some(mount) = alone.mount() else { return Ok(()) };
            let Some(mark) = mount.flush_mark()? else { return Ok(()) };
            (mark, mount.flush_begun()?)
        };
        let flushed = flush.end().await;
        let Some(alone) = self.lanes.alone_if_idle() else { return Ok(()) };
        let Some(mount) = alone.mount() else { return Ok(()) };
        mount.note_flush(&mark, flushed)
    }

    async fn push(&self, options: &SyncOptions, monitor: Onset) -> SyncResult {
        tokio::select! {
            biased;
            pushed = self.following(|| self.lanes.push(options, &monitor)) => self.note(pushed).map_err(Arc::new),
            () = self.ends.pushes.cancelled() => Err(Arc::new(self.lanes.ended())),
        }
    }

    /// Counts the conflicts of a push, so that the session's result includes them.
    fn note(&self, pushed: Result<SyncReport, Error>) -> Result<SyncReport, Error> {
        if let Ok(report) = &pushed
            && !report.stopped_by_conflict
        {
            self.conflicts.fetch_add(report.conflicts, Ordering::Relaxed);
        }
        pushed
    }

    async fn pull(&self, options: &SyncOptions, monitor: Onset) -> SyncResult {
        let end = &self.ends.pulls;
        tokio::select! {
            biased;
            pulled = self.following(|| self.lanes.pull(options, &monitor, end)) => pulled.map_err(Arc::new),
            () = self.overdue() => Err(Arc::new(self.lanes.ended())),
        }
    }

    async fn both(self: &Arc<Self>) -> SyncResult {
        let mut report = self.sync(Direction::Download).await?;
        if !report.stopped_by_conflict {
            report.absorb(&self.sync(Direction::Upload).await?);
        }
        Ok(report)
    }

    /// Syncs with its own options, not shared with other callers, and with exclusive access.
    pub(super) async fn sync_alone(
        self: &Arc<Self>,
        direction: Direction,
        options: SyncOptions,
    ) -> SyncResult {
        self.refuse_push(direction, &options)?;
        let worker = Arc::clone(self);
        // The context existed when the session was opened.
        let options = SyncOptions { create: false, ..options };
        self.detached(async move { worker.alone(direction, &options).await }).await
    }

    async fn alone(&self, direction: Direction, options: &SyncOptions) -> SyncResult {
        let end = &self.ends.pulls;
        let mut report = SyncReport::default();
        if direction != Direction::Upload {
            let pulled = tokio::select! {
                biased;
                pulled = self.following(|| self.lanes.pull_alone(options, &*self.pulls, end)) => pulled,
                () = self.overdue() => Err(self.lanes.ended()),
            };
            match pulled {
                Ok(pulled) => report = pulled,
                Err(e) => return Err(Arc::new(e)),
            }
        }
        if direction != Direction::Download && !report.stopped_by_conflict {
            let pushed = tokio::select! {
                biased;
                pushed = self.following(|| self.lanes.push(options, &*self.pushes)) => self.note(pushed),
                () = self.ends.pushes.cancelled() => Err(self.lanes.ended()),
            };
            report.absorb(&pushed.map_err(Arc::new)?);
        }
        Ok(report)
    }

    /// Fetches these paths now, before all other files.
    pub(super) async fn fetch(self: &Arc<Self>, paths: Vec<TreePath>) -> SyncResult {
        let worker = Arc::clone(self);
        self.detached(async move {
            let end = &worker.ends.pulls;
            let fetched = tokio::select! {
                biased;
                fetched = worker.following(|| worker.lanes.fetch(&paths, &worker.options, &*worker.pulls)) => fetched,
                () = end.cancelled() => Err(worker.lanes.ended()),
            };
            fetched.map_err(Arc::new)
        })
        .await
    }

    /// Waits until a pull was cancelled, and should have ended by now.
    async fn overdue(&self) {
        self.ends.pulls.cancelled().await;
        tokio::select! {
            biased;
            () = tokio::time::sleep(GRACE) => {}
            () = self.ends.hurry.cancelled() => {}
        }
    }

    /// Runs work to its end even if the caller goes away, because half a sync is useless.
    async fn detached(&self, work: impl Future<Output = SyncResult> + Send + 'static) -> SyncResult {
        if self.ends.new.is_cancelled() {
            return Err(Arc::new(self.lanes.ended()));
        }
        tokio::spawn(work).await.unwrap_or_else(|_| Err(Arc::new(self.lanes.ended())))
    }

    pub(super) fn result(&self, outcome: SyncResult) -> MountResult {
        match outcome {
            Ok(report) => self.result_of(Some(report), None),
            Err(error) => self.result_of(None, Some(error)),
        }
    }

    pub(super) fn result_of(&self, report: Option<SyncReport>, error: Option<Arc<Error>>) -> MountResult {
        let ContextPart { context: context_id, path: part } = self.place();
        MountResult { context_id, part, path: self.path.clone(), report, error }
    }

    pub(super) fn warn(&self, task: TaskType, warning: &str) {
        match task {
            TaskType::Upload => self.pushes.warning(warning),
            TaskType::Download => self.pulls.warning(warning),
        }
    }
}
