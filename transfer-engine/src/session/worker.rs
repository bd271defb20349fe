//! One mount of a session: its syncs, joined and in line.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy_core::TreePath;
use tokio_util::sync::CancellationToken;

use super::flight::{Flight, Flights, Outcome, Pilot, adds_nothing};
use super::lanes::Lanes;
use super::params::MountResult;
use super::relay::{Onset, Relay};
use crate::error::Error;
use crate::monitor::Monitor;
use crate::mount::{ContextSync, Mount};
use crate::options::SyncOptions;
use crate::plan::Filter;
use crate::report::{Direction, SyncReport};
use crate::status::{StatusBoard, TaskType};
use crate::store::Store;

/// How long a download that is told to stop is waited for.
const GRACE: Duration = Duration::from_secs(10);

/// One mount of a session.
pub(super) struct Worker {
    pub(super) session: String,
    pub(super) store: Store,
    /// The context, the path as it was given, and the policy.
    pub(super) sync: ContextSync,
    /// The mount's path, absolute and without links.
    pub(super) path: PathBuf,
    /// Where the mount's state lies.
    pub(super) state: PathBuf,
    /// The session's options.
    pub(super) options: SyncOptions,
    /// Which paths the session deals with.
    pub(super) filter: Arc<Filter>,
    pub(super) board: StatusBoard,
    pub(super) lanes: Lanes,
    pub(super) uploads: Arc<Relay>,
    pub(super) downloads: Arc<Relay>,
    pub(super) ends: Ends,
    flights: [Mutex<Flights>; 3],
    /// Conflicts that uploads before the last one have kept.
    pub(super) conflicts: AtomicU64,
}

/// What is told to end, and when.
pub(super) struct Ends {
    /// Everything, now: the session is dropped, or its release is through.
    pub(super) all: CancellationToken,
    /// Nothing new is begun: the session is being released.
    pub(super) new: CancellationToken,
    /// Downloads and fetches.
    pub(super) downloads: CancellationToken,
    /// Uploads that are under way.
    pub(super) uploads: CancellationToken,
    /// Whatever was told to end and has not done so yet.
    pub(super) hurry: CancellationToken,
}

impl Ends {
    fn new(session: &CancellationToken) -> Self {
        let all = session.child_token();
        Self {
            new: all.child_token(),
            downloads: all.child_token(),
            uploads: all.child_token(),
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
        let [uploads, downloads] = monitors.map(Relay::new);
        Arc::new(Self {
            session: session.to_owned(),
            store: mount.store.clone(),
            path: mount.path().to_owned(),
            state: mount.state.dir().to_owned(),
            filter: mount.filter(&options),
            board: mount.board.clone(),
            lanes: Lanes::new(session.to_owned(), mount),
            sync,
            options,
            uploads,
            downloads,
            ends: Ends::new(end),
            flights: Default::default(),
            conflicts: AtomicU64::new(0),
        })
    }

    fn flights(&self, direction: Direction) -> MutexGuard<'_, Flights> {
        self.flights[direction as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs, or joins the sync of this direction that is under way.
    ///
    /// Whoever comes when that has looked at the mount already waits for it, and then for one more that sees
    /// what was changed in the meantime. If nothing was, the result is the same.
    pub(super) async fn sync(self: &Arc<Self>, direction: Direction) -> Outcome {
        let flight = self.join(direction).ok_or_else(|| Arc::new(self.lanes.ended()))?;
        flight.wait().await.unwrap_or_else(|| Err(Arc::new(self.lanes.ended())))
    }

    /// Returns the sync of this direction to wait for; `None` when the session ends.
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

    /// Returns the newest sync of this direction.
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
            Direction::Upload => self.upload(options, Onset::new(&self.uploads, began)).await,
            Direction::Download => self.download(options, Onset::new(&self.downloads, began)).await,
            Direction::Both => {
                began.send_replace(true);
                self.both().await
            }
        };
        let outcome = match (outcome, earlier) {
            (Ok(later), Some(Ok(earlier))) if adds_nothing(&earlier, &later) => Ok(earlier),
            (outcome, _) => outcome,
        };
        pilot.outcome.send_replace(Some(outcome));
    }

    async fn upload(&self, options: &SyncOptions, monitor: Onset) -> Outcome {
        tokio::select! {
            saved = self.lanes.save(options, &monitor) => self.note(saved).map_err(Arc::new),
            () = self.ends.uploads.cancelled() => Err(Arc::new(self.lanes.ended())),
        }
    }

    /// Counts what an upload has kept, so that the end of the session does not pass over it.
    fn note(&self, saved: Result<SyncReport, Error>) -> Result<SyncReport, Error> {
        if let Ok(report) = &saved
            && !report.stopped_by_conflict
        {
            self.conflicts.fetch_add(report.conflicts, Ordering::Relaxed);
        }
        saved
    }

    async fn download(&self, options: &SyncOptions, monitor: Onset) -> Outcome {
        let end = &self.ends.downloads;
        tokio::select! {
            brought = self.lanes.bring(options, &monitor, end) => brought.map_err(Arc::new),
            () = self.overdue() => Err(Arc::new(self.lanes.ended())),
        }
    }

    async fn both(self: &Arc<Self>) -> Outcome {
        let mut report = self.sync(Direction::Download).await?;
        if !report.stopped_by_conflict {
            report.absorb(&self.sync(Direction::Upload).await?);
        }
        Ok(report)
    }

    /// Syncs with options of its own, which nobody joins, and with the mount alone.
    pub(super) async fn sync_alone(self: &Arc<Self>, direction: Direction, options: SyncOptions) -> Outcome {
        let worker = Arc::clone(self);
        // The context was there when the session was opened.
        let options = SyncOptions { create: false, ..options };
        self.detached(async move { worker.alone(direction, &options).await }).await
    }

    async fn alone(&self, direction: Direction, options: &SyncOptions) -> Outcome {
        let end = &self.ends.downloads;
        let mut report = SyncReport::default();
        if direction != Direction::Upload {
            let brought = tokio::select! {
                brought = self.lanes.bring_alone(options, &*self.downloads, end) => brought,
                () = self.overdue() => Err(self.lanes.ended()),
            };
            match brought {
                Ok(brought) => report = brought,
                Err(e) => return Err(Arc::new(e)),
            }
        }
        if direction != Direction::Download && !report.stopped_by_conflict {
            let saved = tokio::select! {
                saved = self.lanes.save(options, &*self.uploads) => self.note(saved),
                () = self.ends.uploads.cancelled() => Err(self.lanes.ended()),
            };
            report.absorb(&saved.map_err(Arc::new)?);
        }
        Ok(report)
    }

    /// Brings these paths now, ahead of the rest.
    pub(super) async fn fetch(self: &Arc<Self>, paths: Vec<TreePath>) -> Outcome {
        let worker = Arc::clone(self);
        self.detached(async move {
            let end = &worker.ends.downloads;
            let fetched = tokio::select! {
                fetched = worker.lanes.fetch(&paths, &worker.options, &*worker.downloads) => fetched,
                () = end.cancelled() => Err(worker.lanes.ended()),
            };
            fetched.map_err(Arc::new)
        })
        .await
    }

    /// Waits until a download was told to end, and should have by now.
    async fn overdue(&self) {
        self.ends.downloads.cancelled().await;
        tokio::select! {
            () = tokio::time::sleep(GRACE) => {}
            () = self.ends.hurry.cancelled() => {}
        }
    }

    /// Carries work through also when who waits for it goes away: half a sync is no use to anybody.
    async fn detached(&self, work: impl Future<Output = Outcome> + Send + 'static) -> Outcome {
        if self.ends.new.is_cancelled() {
            return Err(Arc::new(self.lanes.ended()));
        }
        tokio::spawn(work).await.unwrap_or_else(|_| Err(Arc::new(self.lanes.ended())))
    }

    pub(super) fn result(&self, outcome: Outcome) -> MountResult {
        let (report, error) = match outcome {
            Ok(report) => (Some(report), None),
            Err(error) => (None, Some(error)),
        };
        MountResult { context_id: self.sync.context.clone(), path: self.path.clone(), report, error }
    }

    pub(super) fn warn(&self, task: TaskType, warning: &str) {
        match task {
            TaskType::Upload => self.uploads.warning(warning),
            TaskType::Download => self.downloads.warning(warning),
        }
    }
}
