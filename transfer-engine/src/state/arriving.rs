//! What the pulls of one mount share: which of them pulls a path, what has arrived, and the head that they
//! pull from.
//!
//! Two kinds of pulls can run at the same time: the full pull of everything, and fetches of requested paths.
//! A requested path belongs to its fetch. From then on, the full pull leaves it alone, because its own view
//! of the mount may be older than what the fetch has put there.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{self, Arc, Mutex, MutexGuard, PoisonError};

use policy_core::{Entry, TreePath};
use tokio::sync::{Notify, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::parts::Parts;
use super::{ArrivalRow, ArrivalsWriter, BaseHeader, ContextState};
use crate::env::Env;
use crate::error::Error;
use crate::local::{Busy, sqlite};
use crate::store::Head;

/// The kind of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The full pull.
    All,
    /// A fetch of requested paths.
    Asked,
}

#[derive(Debug, Default)]
pub(crate) struct Arriving {
    /// [`Alone`] holds it for writing: during a push, and at the begin and the end of a pull.
    gate: RwLock<()>,
    /// The running jobs that write to the mount.
    pub(crate) busy: Arc<Busy>,
    /// Held while an archive is extracted. It has the archives that were extracted since the full pull began.
    pub(crate) extracting: tokio::sync::Mutex<HashSet<TreePath>>,
    asked: sync::RwLock<Asked>,
    journal: Mutex<Option<ArrivalsWriter>>,
    /// Whether a change could not be written to the journal, so that only the staging directories show what
    /// arrived.
    is_torn: AtomicBool,
    head: Mutex<Option<Head>>,
    /// Hashes of the directories in which something was placed since the last full pull ended.
    used: Mutex<HashSet<u64>>,
    /// Hashes of the entries that were not placed because their directory was removed before.
    withheld: Mutex<HashSet<u64>>,
    /// Hashes of the directories in which an interrupted pull had placed something.
    half_done: Mutex<HashSet<u64>>,
    answered: Notify,
    /// Staging directories with resumable files.
    left: Mutex<Vec<Vec<u8>>>,
    /// What had arrived of ranges when the full pull was stopped.
    pub(crate) parts: Parts,
    /// How many bytes of long files have been fetched so far.
    kept: AtomicU64,
}

/// The requested paths.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Paths that are being fetched, each with the number of its request.
    active: Vec<(u64, TreePath)>,
    /// Paths that were fetched since the full pull began.
    done: HashSet<TreePath>,
    /// Whether some requests failed, so that the full pull has to check everything once more.
    missed: bool,
    count: u64,
}

impl Asked {
    /// Whether a fetch pulls this path, or has pulled it.
    pub(crate) fn covers(&self, path: &TreePath) -> bool {
        if self.active.is_empty() && self.done.is_empty() {
            return false;
        }
        let database = sqlite::database_of(path);
        let is_asked = |asked: &TreePath| path.is_within(asked) || database.as_ref() == Some(asked);
        if self.active.iter().any(|(_, asked)| is_asked(asked))
            || database.as_ref().is_some_and(|database| self.done.contains(database))
        {
            return true;
        }
        let mut above = Some(path.clone()).filter(|_| !self.done.is_empty());
        while let Some(path) = above {
            if self.done.contains(&path) {
                return true;
            }
            above = path.parent();
        }
        false
    }

    fn overlaps(&self, paths: &[TreePath]) -> bool {
        let clash = |a: &TreePath, b: &TreePath| a.is_within(b) || b.is_within(a);
        self.active.iter().any(|(_, active)| paths.iter().any(|path| clash(active, path)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arriving {
    /// Waits for exclusive access to the mount, and for abandoned jobs to end.
    pub(crate) async fn alone(&self) -> Alone<'_> {
        let gate = self.gate.write().await;
        self.busy.quiet().await;
        Alone { arriving: self, gate }
    }

    /// Waits until no one has exclusive access, and prevents it while the result is held.
    pub(crate) async fn among_others(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// Returns the head that is being pulled.
    pub(crate) fn head(&self) -> Option<Head> {
        lock(&self.head).clone()
    }

    /// Writes changes to the journal.
    pub(crate) fn note(&self, rows: Vec<ArrivalRow>) -> io::Result<()> {
        match &mut *lock(&self.journal) {
            Some(journal) if !rows.is_empty() => {
                journal.append(rows).inspect_err(|_| self.is_torn.store(true, Ordering::Relaxed))
            }
            _ => Ok(()),
        }
    }

    /// Notes that it is not known how far a job came that puts something in place: it ended without a result.
    pub(crate) fn doubt(&self) {
        self.is_torn.store(true, Ordering::Relaxed);
    }

    /// Whether a change could not be written since the journal was created, or a job ended without a result.
    pub(crate) fn is_torn(&self) -> bool {
        self.is_torn.load(Ordering::Relaxed)
    }

    /// Notes which staging directories have resumable files.
    pub(crate) fn leave(&self, left: Vec<Vec<u8>>) {
        *lock(&self.left) = left;
    }

    /// Takes those directories, for a pull that resumes the files.
    pub(crate) fn take_left(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *lock(&self.left))
    }

    /// Notes that so many bytes of long files were fetched: the next pull has them if this one is stopped.
    pub(crate) fn note_kept(&self, bytes: u64) {
        self.kept.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns how many bytes of long files have been fetched since the mount was opened.
    pub(crate) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    /// Notes that an interrupted pull had placed something in this directory.
    pub(crate) fn note_half_done(&self, dir: &TreePath) {
        lock(&self.half_done).insert(hash_path(dir));
    }

    /// Whether an interrupted pull had placed something in this directory.
    pub(crate) fn is_half_done(&self, dir: &TreePath) -> bool {
        let half_done = lock(&self.half_done);
        !half_done.is_empty() && half_done.contains(&hash_path(dir))
    }

    /// Takes the hashes of those directories, for the pull that continues.
    pub(crate) fn take_half_done(&self) -> HashSet<u64> {
        std::mem::take(&mut lock(&self.half_done))
    }

    /// Returns the requested paths. While the result is held, no path can be requested.
    pub(crate) fn asked(&self) -> sync::RwLockReadGuard<'_, Asked> {
        self.asked.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request failed since the full pull began.
    pub(crate) fn missed(&self) -> bool {
        self.asked().missed
    }

    /// Returns whether a request failed, and clears that.
    pub(crate) fn take_missed(&self) -> bool {
        let mut asked = self.asked.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut asked.missed)
    }

    /// Requests paths, after waiting for other fetches of the same paths.
    pub(crate) async fn ask(&self, paths: &[TreePath]) -> Asking<'_> {
        loop {
            let answered = self.answered.notified();
            {
                let mut asked = self.asked.write().unwrap_or_else(PoisonError::into_inner);
                if !asked.overlaps(paths) {
                    asked.count += 1;
                    let number = asked.count;
                    asked.active.extend(paths.iter().map(|path| (number, path.clone())));
                    return Asking { arriving: self, number, complete: false };
                }
            }
            answered.await;
        }
    }

    /// Waits until there is no fetch, because fetches have priority on the connection.
    pub(crate) async fn nobody_asks(&self) {
        loop {
            let answered = self.answered.notified();
            if self.asked().active.is_empty() {
                return;
            }
            answered.await;
        }
    }

    /// Notes that something is placed in a directory.
    pub(crate) fn use_dir(&self, dir: &TreePath) {
        let mut used = lock(&self.used);
        let mut dir = Some(dir.clone());
        while let Some(path) = dir.filter(|p| !p.is_root()) {
            if !used.insert(hash_path(&path)) {
                break;
            }
            dir = path.parent();
        }
    }

    /// Notes that an entry was not placed because its directory was removed.
    pub(crate) fn withhold(&self, path: &TreePath, entry: &Entry) {
        lock(&self.withheld).insert(hash_entry(path, entry));
    }

    /// Whether this entry was not placed because its directory was removed. A newer entry at its path counts as another
    /// one.
    pub(crate) fn was_withheld(&self, path: &TreePath, entry: &Entry) -> bool {
        let withheld = lock(&self.withheld);
        !withheld.is_empty() && withheld.contains(&hash_entry(path, entry))
    }

    /// Notes that a pull removed these directories, so that it may be continued with a head that has them again.
    pub(crate) fn forget_dirs(&self, dirs: &[TreePath]) {
        let mut used = lock(&self.used);
        for dir in dirs {
            used.remove(&hash_path(dir));
        }
    }

    /// Whether something was placed in this directory or below it.
    pub(crate) fn was_used(&self, dir: &TreePath) -> bool {
        lock(&self.used).contains(&hash_path(dir))
    }
}

/// Exclusive access to a mount. It is required to change what pulls share: the base, the journal, and what a
/// crash left in the mount.
#[must_use = "others may come as soon as this is gone"]
pub(crate) struct Alone<'a> {
    arriving: &'a Arriving,
    gate: RwLockWriteGuard<'a, ()>,
}

impl<'a> Alone<'a> {
    /// Creates the journal of what arrives from this head.
    pub(crate) fn begin(
        &self,
        files: &ContextState,
        head: &Head,
        header: &BaseHeader,
        fresh: bool,
        env: &Env,
    ) -> Result<(), Error> {
        let path = files.arrivals();
        let journal = ArrivalsWriter::create(&path, header, fresh, env);
        *lock(&self.arriving.journal) = Some(journal.map_err(|e| Error::local("write", path, e))?);
        *lock(&self.arriving.head) = Some(head.clone());
        self.arriving.is_torn.store(false, Ordering::Relaxed);
        let mut asked = self.arriving.asked.write().unwrap_or_else(PoisonError::into_inner);
        asked.done.clear();
        asked.missed = false;
        // No extraction runs while the gate is held for writing.
        if let Ok(mut extracted) = self.arriving.extracting.try_lock() {
            extracted.clear();
        }
        Ok(())
    }

    /// Closes the journal, whose changes are in the base now.
    pub(crate) fn end(&self) {
        *lock(&self.arriving.journal) = None;
        *lock(&self.arriving.head) = None;
    }

    /// Notes that a full pull has ended. What it withheld is known by now; in any other directory, the next one may place
    /// something again.
    pub(crate) fn forget_used(&self) {
        lock(&self.arriving.used).clear();
    }

    /// Gives up exclusive access, so that fetches can start.
    pub(crate) fn share(self) -> RwLockReadGuard<'a, ()> {
        self.gate.downgrade()
    }
}

fn hash_entry(path: &TreePath, entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, &entry.node, entry.uploaded).hash(&mut hasher);
    hasher.finish()
}

/// Returns a hash that stands for a path.
pub(crate) fn hash_path(path: &TreePath) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// Paths that are being fetched for a request.
pub(crate) struct Asking<'a> {
    arriving: &'a Arriving,
    number: u64,
    complete: bool,
}

impl Asking<'_> {
    /// Notes that all paths of the request were fetched.
    pub(crate) fn complete(mut self) {
        self.complete = true;
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut asked = self.arriving.asked.write().unwrap_or_else(PoisonError::into_inner);
        let Asked { active, done, .. } = &mut *asked;
        done.extend(active.extract_if(.., |(number, _)| *number == self.number).map(|(_, path)| path));
        asked.missed |= !self.complete;
        drop(asked);
        self.arriving.answered.notify_waiters();
    }
}
