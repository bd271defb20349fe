//! Opens mounts: all of them, or none.

use std::sync::Arc;
use std::time::Duration;

use policy_core::DownloadStrategy;

use super::flight::Flight;
use super::socket::{Door, barrier};
use super::worker::Worker;
use super::{Shared, owned, params};
use crate::edit::{Change, Edit, EditOptions};
use crate::error::Error;
use crate::local::{absolute, make_all};
use crate::mount::{ContextSync, Mount};
use crate::options::SyncOptions;
use crate::report::Direction;
use crate::status::TaskType;
use crate::tree::Tree;

/// The pause before a failed pull is retried. It doubles each time, up to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Shared {
    /// Opens further mounts.
    pub(super) async fn open(&self, syncs: Vec<ContextSync>) -> Result<(), Error> {
        let _one = self.opening.lock().await;
        let mut opened = Vec::new();
        let result = self.open_all(syncs, &mut opened).await;
        let result = result.and_then(|()| {
            // A release that has started meanwhile does not include the new mounts.
            let ending = self.ending();
            if ending.is_some() {
                return Err(self.ended());
            }
            self.workers().extend(opened.iter().cloned());
            Ok(())
        });
        match result {
            Ok(()) => opened.iter().for_each(|worker| worker.begin_tasks(self.safety_scan)),
            Err(_) => {
                let abandoned = opened.iter().map(|worker| worker.abandon());
                futures::future::join_all(abandoned).await;
            }
        }
        result
    }

    async fn open_all(&self, syncs: Vec<ContextSync>, opened: &mut Vec<Arc<Worker>>) -> Result<(), Error> {
        for sync in syncs {
            let path = absolute(&sync.path).map_err(|e| Error::local("find", &sync.path, e))?;
            let workers = self.workers().clone();
            if let Some(other) = workers.iter().chain(&*opened).find(|w| params::overlap(&w.path, &path)) {
                return Err(Error::Overlap { mount: path, other: other.path.clone() });
            }
            let mount = Mount::open(&self.store, sync.clone(), &self.state_dir)?;
            let warnings = mount.warnings();
            let monitors = [TaskType::Upload, TaskType::Download].map(|task| self.monitor.of(&sync, task));
            // The context exists from here on. If it is missing later, it has vanished.
            let options = SyncOptions { create: false, ..self.options.clone() };
            let worker = Worker::new(&self.id, mount, sync, options, monitors, &self.end);
            warnings.iter().for_each(|warning| worker.warn(TaskType::Download, warning));
            worker.announce();
            opened.push(worker);
        }
        futures::future::try_join_all(opened.iter().map(|worker| worker.begin(self.options.create))).await?;
        Ok(())
    }
}

impl Worker {
    /// Announces the tasks that the policy asks for.
    fn announce(&self) {
        let mut types = vec![TaskType::Download];
        if self.pushes_by_itself() {
            types.push(TaskType::Upload);
        }
        self.board.announce(&self.session, &self.sync.place().to_string(), &self.path, &types);
    }

    /// Finds or creates the context, starts the pull, and waits for what must be there before the session opens.
    async fn begin(self: &Arc<Self>, create: bool) -> Result<(), Error> {
        let policy = self.sync.policy.download_policy.clone();
        let download = if policy.auto_download { self.join(Direction::Download) } else { None };
        let found = match &download {
            Some(flight) => {
                flight.onset().await;
                self.result_so_far(flight)
            }
            None => self.find_context().await.map_err(Arc::new),
        };
        let is_new = match found {
            Ok(()) => false,
            // What a new context lacks can only be in the mount.
            Err(e) if create && !self.sync.is_read_only() && is_missing(&e) && self.has_required() => {
                self.make_context().await?;
                true
            }
            Err(e) => return Err(owned(e)),
        };
        make_all(&self.path, self.options.owner)
            .map_err(|e| Error::local("make the mount", &self.path, e))?;
        self.require().await?;
        match download
            .filter(|_| !is_new && policy.download_strategy == DownloadStrategy::DownloadBeforeStart)
        {
            Some(flight) => {
                flight.wait().await;
                self.result_so_far(&flight).map_err(owned)
            }
            None => Ok(()),
        }
    }

    /// Fails if the context does not exist, or the part of it that the mount has.
    async fn find_context(&self) -> Result<(), Error> {
        let head = self.store.find_snapshot(&self.sync.context, &self.sync.at).await?;
        let tree = Tree { store: &self.store, snapshot: &head.snapshot, cache: None };
        match tree.has_directory(&self.sync.part).await? {
            true => Ok(()),
            false => Err(tree.no_part(&self.sync.part)),
        }
    }

    /// Creates the context, and the part of it that the mount has, where they are missing.
    async fn make_context(&self) -> Result<(), Error> {
        let (head, _) = self.store.create(&self.sync.context).await?;
        if self.sync.part.is_root() {
            return Ok(());
        }
        let SyncOptions { session, concurrency, memory, .. } = self.options.clone();
        let options = EditOptions { session, concurrency, memory };
        let edit = Edit::new(&self.store, &self.sync.context, &options);
        edit.commit(&mut Change::Directory(self.sync.part.clone()), head).await?;
        Ok(())
    }

    /// Returns the error of a sync that has ended, if it failed or was aborted.
    fn result_so_far(&self, flight: &Flight) -> Result<(), Arc<Error>> {
        match flight.outcome() {
            Some(Err(e)) => Err(e),
            None if !flight.is_open() => Err(Arc::new(self.lanes.ended())),
            _ => Ok(()),
        }
    }

    /// Starts the tasks that run as long as the session.
    fn begin_tasks(self: &Arc<Self>, safety_scan: Option<Duration>) {
        if self.sync.policy.download_policy.auto_download {
            tokio::spawn(Arc::clone(self).keep_pulling());
        }
        tokio::spawn(Arc::clone(self).keep_status());
        tokio::spawn(Arc::clone(self).keep_saving(safety_scan));
        match Door::open(&self.state, self.options.owner) {
            Ok(door) => drop(tokio::spawn(door.serve(Arc::clone(self)))),
            Err(e) => self.warn(
                TaskType::Upload,
                &format!("other processes can't ask this session to sync: no socket in its state: {e}"),
            ),
        }
        if let Some(owner) = self.options.owner
            && let Some(dir) = barrier(&self.state, owner)
        {
            self.warn(
                TaskType::Upload,
                &format!(
                    "user {} can't ask this session to sync: {} does not let it pass; keep the state elsewhere",
                    owner.0,
                    dir.display()
                ),
            );
        }
    }

    /// Pulls everything, and retries as long as the failure is one of the network.
    async fn keep_pulling(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        // The first attempt was started when the mount was opened.
        let mut attempt = self.latest(Direction::Download);
        while let Some(flight) = attempt {
            let error = match flight.wait().await {
                Some(Err(error)) if is_of_network(&error) => error,
                // The context was missing, and exists now.
                Some(Err(error)) if is_missing(&error) && pause == FIRST_PAUSE => {
                    pause *= 2;
                    attempt = self.join(Direction::Download);
                    continue;
                }
                _ => return,
            };
            if self.ends.new.is_cancelled() {
                return;
            }
            let (chain, seconds) = (crate::error::chain(&*error), pause.as_secs());
            self.warn(
                TaskType::Download,
                &format!("the download failed, and is tried again in {seconds} s: {chain}"),
            );
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                () = self.ends.new.cancelled() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            // Another caller may have started or completed a pull meanwhile.
            let latest = self.latest(Direction::Download);
            attempt = match latest.filter(|f| f.is_open() || matches!(f.outcome(), Some(Ok(_)))) {
                Some(flight) => Some(flight),
                None => self.join(Direction::Download),
            };
        }
    }

    /// Writes the status updates that were postponed.
    async fn keep_status(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.board.behind() => {}
                () = self.ends.all.cancelled() => return,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.board.flush();
        }
    }

    /// Closes a mount of a session that could not be opened.
    async fn abandon(self: &Arc<Self>) {
        self.ends.cancel();
        self.board.withdraw(&self.session);
        self.lanes.alone().await.let_go();
    }
}

/// Whether there is no such context, or no such part of it.
fn is_missing(error: &Error) -> bool {
    matches!(error, Error::NoContext { .. } | Error::NoPart { .. })
}

/// Whether a failure may pass by itself, because it is one of the network.
pub(super) fn is_of_network(error: &Error) -> bool {
    match error {
        Error::Shared(error) => is_of_network(error),
        Error::Store { .. } => error.is_retryable(),
        _ => false,
    }
}
