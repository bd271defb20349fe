//! What the downloads of one mount share: who brings a path, what has arrived, what they agree on as the head.
//!
//! Two kinds of downloads can be under way: one that brings everything, and those that bring what was asked
//! for now. A path belongs to whoever asked for it; the one that brings everything leaves it alone from then
//! on, for what it saw of the mount there may be older than what was brought since.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{self, Arc, Mutex, MutexGuard, PoisonError};

use policy_core::TreePath;
use tokio::sync::{Notify, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{ArrivalRow, ArrivalsWriter, BaseHeader, ContextState};
use crate::env::Env;
use crate::error::Error;
use crate::local::{Busy, sqlite};
use crate::store::Head;

/// Which download it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The one that brings everything.
    All,
    /// One that brings what was asked for.
    Asked,
}

#[derive(Debug, Default)]
pub(crate) struct Arriving {
    /// [`Alone`] holds it for writing: during a push, and at the begin and the end of a pull.
    gate: RwLock<()>,
    /// The jobs that write to the mount.
    pub(crate) busy: Arc<Busy>,
    /// Held while an archive is extracted; the archives that were, since the download of everything began.
    pub(crate) extracting: tokio::sync::Mutex<HashSet<TreePath>>,
    asked: sync::RwLock<Asked>,
    journal: Mutex<Option<ArrivalsWriter>>,
    /// Whether something could not be noted, so that the staging directories are needed to tell what came.
    is_torn: AtomicBool,
    head: Mutex<Option<Head>>,
    /// Directories in which something was placed, as hashes.
    used: Mutex<HashSet<u64>>,
    /// Directories in which a download that was cut short placed something, as hashes.
    half_done: Mutex<HashSet<u64>>,
    answered: Notify,
    /// Staging directories with files to go on with.
    left: Mutex<Vec<Vec<u8>>>,
}

/// The paths that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Being brought, each with the number of who asked.
    active: Vec<(u64, TreePath)>,
    /// Brought since the download of everything began.
    done: HashSet<TreePath>,
    /// Whether some of them failed, so that everything has to be looked at once more.
    missed: bool,
    count: u64,
}

impl Asked {
    /// Whether somebody else brings this path, or has brought it.
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
    /// Waits until nobody else works on the mount, nor a job of somebody who gave up.
    pub(crate) async fn alone(&self) -> Alone<'_> {
        let gate = self.gate.write().await;
        self.busy.quiet().await;
        Alone { arriving: self, gate }
    }

    /// Waits until nobody is alone, and keeps it so.
    pub(crate) async fn among_others(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// Returns the head of which things arrive.
    pub(crate) fn head(&self) -> Option<Head> {
        lock(&self.head).clone()
    }

    /// Notes what became of paths.
    pub(crate) fn note(&self, rows: Vec<ArrivalRow>) -> io::Result<()> {
        match &mut *lock(&self.journal) {
            Some(journal) if !rows.is_empty() => {
                journal.append(rows).inspect_err(|_| self.is_torn.store(true, Ordering::Relaxed))
            }
            _ => Ok(()),
        }
    }

    /// Whether something could not be noted since this was begun.
    pub(crate) fn is_torn(&self) -> bool {
        self.is_torn.load(Ordering::Relaxed)
    }

    /// Notes which staging directories hold files to go on with.
    pub(crate) fn leave(&self, left: Vec<Vec<u8>>) {
        *lock(&self.left) = left;
    }

    /// Takes those directories, for a download that goes on with them.
    pub(crate) fn take_left(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *lock(&self.left))
    }

    /// Notes that a download was cut short that placed something in this directory.
    pub(crate) fn note_half_done(&self, dir: &TreePath) {
        lock(&self.half_done).insert(hash_path(dir));
    }

    /// Takes the hashes of those directories, for a download that goes on with them.
    pub(crate) fn take_half_done(&self) -> HashSet<u64> {
        std::mem::take(&mut lock(&self.half_done))
    }

    /// Returns what is asked for; as long as the answer is held, nobody can ask for more.
    pub(crate) fn asked(&self) -> sync::RwLockReadGuard<'_, Asked> {
        self.asked.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something that was asked for failed since everything was begun.
    pub(crate) fn missed(&self) -> bool {
        self.asked().missed
    }

    /// Says whether something that was asked for failed, and forgets it.
    pub(crate) fn take_missed(&self) -> bool {
        let mut asked = self.asked.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut asked.missed)
    }

    /// Asks for paths, once nobody else is bringing any of them.
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

    /// Waits until nothing is being brought for somebody who asked for it: the line is theirs.
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

    /// Whether something was placed in this directory, or below it.
    pub(crate) fn was_used(&self, dir: &TreePath) -> bool {
        lock(&self.used).contains(&hash_path(dir))
    }
}

/// Says that nobody else works on the mount. Who changes what all share (the base, the journal, what a crash left in
/// the mount) shows it.
#[must_use = "others may come as soon as this is gone"]
pub(crate) struct Alone<'a> {
    arriving: &'a Arriving,
    gate: RwLockWriteGuard<'a, ()>,
}

impl<'a> Alone<'a> {
    /// Begins to note what arrives of this head, unless that goes on already.
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
        // No extraction is running while this is held for writing.
        if let Ok(mut extracted) = self.arriving.extracting.try_lock() {
            extracted.clear();
        }
        Ok(())
    }

    /// Ends it: what was noted is in the base now.
    pub(crate) fn end(&self) {
        *lock(&self.arriving.journal) = None;
        *lock(&self.arriving.head) = None;
    }

    /// Lets those in who bring what is asked for.
    pub(crate) fn share(self) -> RwLockReadGuard<'a, ()> {
        self.gate.downgrade()
    }
}

/// A short stand-in for a path.
pub(crate) fn hash_path(path: &TreePath) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// Paths being brought for somebody.
pub(crate) struct Asking<'a> {
    arriving: &'a Arriving,
    number: u64,
    complete: bool,
}

impl Asking<'_> {
    /// Says that all of it was brought.
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
