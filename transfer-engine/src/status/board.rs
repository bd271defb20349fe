//! The tasks of one mount: in memory in the process that holds the mount, and in a file for others.
//!
//! The file has the state of the tasks. A lock beside it shows whether a process still updates the file: if a
//! task is running by the file, but no process has the lock, the task was interrupted. This lock is separate
//! from the mount's, so that readers never block a process that wants the mount.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy_core::Timestamp;
use tokio::sync::Notify;

use super::{TaskState, TaskStatus, TaskType, nanos};
use crate::count::count;
use crate::env::Env;

const FILE: &str = "status.json";
const KEPT: &str = "status.lock";
/// How often the file is written per second, at most. The end of a task is always written.
const WRITES_A_SECOND: usize = 10;
/// The shortest time between two writes if only counters changed, in nanoseconds.
const EVERY_NANOS: i128 = 100_000_000;

/// The tasks of one mount. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct StatusBoard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    env: Env,
    dir: PathBuf,
    /// The address of the store of this process.
    store: String,
    rows: Mutex<Rows>,
    /// Is notified when the file is out of date.
    behind: Notify,
}

#[derive(Debug)]
struct Rows {
    tasks: Vec<(TaskStatus, u64)>,
    /// The next owner number.
    next: u64,
    written: VecDeque<Timestamp>,
    /// Whether the file is out of date.
    stale: bool,
    /// The lock that shows that the file is updated; `None` once the board is closed and no longer written.
    kept: Option<File>,
}

/// How important a change is to readers of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Counters changed.
    Low,
    /// Something else changed.
    High,
    /// A task ended.
    Final,
}

impl StatusBoard {
    /// Opens the board of a mount that this process has locked.
    ///
    /// # Errors
    /// The existing file can't be read now: its tasks would be lost with the next write.
    pub(crate) fn open(env: &Env, dir: &Path, store: &str) -> io::Result<Self> {
        let file = dir.join(FILE);
        env.check_reading("openat", &file)?;
        let mut tasks = tasks_of(&file)?;
        // This process has the mount's lock, so no other process runs these tasks.
        tasks.iter_mut().for_each(TaskStatus::interrupt);
        let rows = Rows {
            tasks: tasks.into_iter().map(|task| (task, 0)).collect(),
            next: 1,
            written: VecDeque::new(),
            stale: false,
            kept: keep(&dir.join(KEPT)),
        };
        Ok(Self(Arc::new(Inner {
            env: env.clone(),
            dir: dir.to_owned(),
            store: store.to_owned(),
            rows: Mutex::new(rows),
            behind: Notify::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.env.now()
    }

    /// Returns the tasks of a context.
    pub(crate) fn tasks(&self, context: &str) -> Vec<TaskStatus> {
        let store = &self.0.store;
        let mut tasks: Vec<_> = self
            .lock()
            .tasks
            .iter()
            .filter(|(t, _)| t.is_of(context, store))
            .map(|(t, _)| t.clone())
            .collect();
        tasks.sort_by_key(|task| task.task_type);
        tasks
    }

    /// Adds tasks that have not started.
    pub(crate) fn announce(&self, session: &str, context: &str, path: &Path, types: &[TaskType]) {
        for task_type in types {
            self.take_over(TaskStatus::waiting(session, context, path, *task_type));
        }
        self.write(Urgency::Final);
    }

    /// Replaces a task; returns the owner number, with which it is updated from now on.
    pub(super) fn take_over(&self, task: TaskStatus) -> u64 {
        let task = TaskStatus { store: self.0.store.clone(), ..task };
        let mut rows = self.lock();
        let owner = rows.next;
        rows.next += 1;
        // An older version has not noted the store of its tasks.
        for (older, _) in
            rows.tasks.iter_mut().filter(|(t, _)| t.context == task.context && t.store.is_empty())
        {
            older.store.clone_from(&task.store);
        }
        rows.tasks.retain(|(t, _)| t.task_type != task.task_type || !t.is_of(&task.context, &task.store));
        rows.tasks.push((task, owner));
        rows.stale = true;
        owner
    }

    /// Updates a task, unless it has another owner by now.
    pub(super) fn update(&self, owner: u64, urgency: Urgency, change: impl FnOnce(&mut TaskStatus)) {
        {
            let mut rows = self.lock();
            let Some((task, _)) = rows.tasks.iter_mut().find(|(_, o)| *o == owner) else { return };
            change(task);
            rows.stale = true;
        }
        self.write(urgency);
    }

    /// Notes that the pull was stopped with `pending` paths left, and whether it will continue.
    pub(crate) fn stopped(&self, context: &str, pending: u64, goes_on: bool) {
        {
            let mut rows = self.lock();
            let is_it = |t: &TaskStatus| t.task_type == TaskType::Download && t.is_of(context, &self.0.store);
            let task = rows.tasks.iter_mut().find(|(t, _)| is_it(t));
            let Some((task, _)) = task else { return };
            (task.pending, task.throughput) = (pending, 0);
            if goes_on {
                (task.status, task.finish_time) = (TaskState::Waiting, None);
                "waiting".clone_into(&mut task.phase);
            } else {
                task.status = TaskState::Failed;
                task.error_message = Some(format!("stopped with {} still to come", count(pending, "path")));
            }
            rows.stale = true;
        }
        self.write(Urgency::Final);
    }

    /// Writes what was not written yet to limit the number of writes.
    pub(crate) fn flush(&self) {
        self.write(Urgency::High);
    }

    /// Waits until a change is not written, to limit the number of writes.
    pub(crate) async fn behind(&self) {
        self.0.behind.notified().await;
    }

    /// Removes the tasks of a session that could not be opened, unless they have an error.
    pub(crate) fn withdraw(&self, session: &str) {
        {
            let mut rows = self.lock();
            rows.tasks.retain(|(t, _)| t.session != session || t.status != TaskState::Waiting);
            rows.stale = true;
        }
        self.write(Urgency::Final);
    }

    /// Notes that a session was released: its waiting tasks will not run any more.
    pub(crate) fn release(&self, session: &str) {
        {
            let mut rows = self.lock();
            rows.tasks.retain(|(t, _)| t.session != session || t.status != TaskState::Waiting);
            for (task, _) in rows.tasks.iter_mut().filter(|(t, _)| t.session == session) {
                task.released = true;
            }
            rows.stale = true;
        }
        self.write(Urgency::Final);
    }

    /// Closes the board together with the mount. The tasks stay readable.
    pub(crate) fn close(&self) {
        if self.lock().stale {
            self.write(Urgency::Final);
        }
        let mut rows = self.lock();
        if rows.kept.take().is_some() {
            rows.tasks.iter_mut().for_each(|(task, _)| task.interrupt());
        }
    }

    fn write(&self, urgency: Urgency) {
        let now = self.now();
        let mut rows = self.lock();
        if !rows.stale || rows.kept.is_none() {
            return;
        }
        if !rows.may_write(urgency, now) {
            self.0.behind.notify_one();
            return;
        }
        rows.stale = false;
        rows.written.push_back(now);
        while rows.written.len() > WRITES_A_SECOND {
            rows.written.pop_front();
        }
        // A failure to write the status must not stop a sync.
        if let Err(e) = rows.store(&self.0.dir) {
            tracing::debug!(error = %e, "the status is not written");
        }
    }
}

impl Rows {
    fn may_write(&self, urgency: Urgency, now: Timestamp) -> bool {
        let since = |then: Option<&Timestamp>| then.map(|t| nanos(now) - nanos(*t));
        // A clock that was set back must not stop the updates.
        let is_past = |nanos: Option<i128>, least: i128| nanos.is_none_or(|n| n >= least || n < 0);
        match urgency {
            Urgency::Final => true,
            Urgency::High if self.written.len() < WRITES_A_SECOND => true,
            Urgency::High => is_past(since(self.written.front()), 1_000_000_000),
            Urgency::Low => is_past(since(self.written.back()), EVERY_NANOS),
        }
    }

    fn store(&self, dir: &Path) -> io::Result<()> {
        let tasks: Vec<&TaskStatus> = self.tasks.iter().map(|(task, _)| task).collect();
        let (file, new) = (dir.join(FILE), dir.join("status.new"));
        let mut out = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        out.write_all(&serde_json::to_vec(&tasks)?)?;
        fs::rename(new, file)
    }
}

/// Locks the file that shows that the board is updated. Readers lock it only for a moment.
fn keep(path: &Path) -> Option<File> {
    let lock = || -> io::Result<File> {
        let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        for _ in 0..100 {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
                Err(TryLockError::Error(e)) => return Err(e),
            }
        }
        // Without the lock, the tasks are still written, but readers take them as interrupted.
        Ok(file)
    };
    lock().inspect_err(|e| tracing::debug!(error = %e, "the status is not kept")).ok()
}

/// Returns the tasks of a mount as another process sees them.
pub(super) fn read(dir: &Path) -> io::Result<Vec<TaskStatus>> {
    let file = dir.join(FILE);
    let mut tasks = tasks_of(&file)?;
    let goes_on = |t: &TaskStatus| matches!(t.status, TaskState::Waiting | TaskState::Running);
    if tasks.iter().any(goes_on) && !is_kept(&dir.join(KEPT))? {
        // The task may have ended between the two checks.
        tasks = tasks_of(&file)?;
        tasks.iter_mut().for_each(TaskStatus::interrupt);
    }
    Ok(tasks)
}

fn is_kept(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(file) => Ok(matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn tasks_of(file: &Path) -> io::Result<Vec<TaskStatus>> {
    match fs::read(file) {
        // The file is for people to read, so a damaged one counts as missing.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}
