//! Watches a mount by the events of the system.
//!
//! Each directory in scope is watched by itself. Only little is remembered: that something changed, which
//! directories are new, and whether events were lost.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{EventKind, ModifyKind};
use notify::{ErrorKind, Event, RecommendedWatcher, RecursiveMode, Watcher};
use policy_core::TreePath;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Blind, Root};
use crate::local::{ScanFilter, identity, is_staging_name};
use crate::session::worker::Worker;

/// The most new directories that are remembered one by one. With more, the whole mount is searched.
const MAX_NEW: usize = 10_000;

/// What the events have shown since the last checkpoint.
#[derive(Debug, Default)]
pub(in super::super) struct Learnt {
    /// The times of the first and the last change by the user.
    pub(in super::super) changed: Option<(Instant, Instant)>,
    /// Whether something changed, perhaps by a running pull.
    pub(in super::super) stirred: bool,
    /// Directories that may contain more directories to watch.
    new: BTreeSet<PathBuf>,
    /// Whether events were lost or the mount itself went away, so that the whole mount has to be searched.
    pub(in super::super) rescan: bool,
    blind: Option<Blind>,
}

/// Watches a mount until it is dropped.
pub(in super::super) struct MountWatch {
    watcher: Arc<Mutex<RecommendedWatcher>>,
    ear: Arc<Ear>,
}

/// The receiver of the events.
struct Ear {
    worker: Arc<Worker>,
    /// The device and inode of the directory that is watched as the mount's.
    root: Option<(u64, u64)>,
    learnt: Mutex<Learnt>,
    news: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MountWatch {
    /// Starts to watch. Blocks.
    pub(in super::super) fn start(worker: Arc<Worker>) -> Result<Self, Blind> {
        let root = identity(&worker.path);
        let ear = Arc::new(Ear { worker, root, learnt: Mutex::default(), news: Notify::new() });
        let listener = Arc::clone(&ear);
        let watcher = notify::recommended_watcher(move |event| listener.hear(event));
        let watcher = watcher.map_err(|e| blind(e).unwrap_or_else(|e| Blind::Unable(e.to_string())))?;
        let watch = Self { watcher: Arc::new(Mutex::new(watcher)), ear };
        // There were no events for earlier changes.
        lock(&watch.ear.learnt).stirred = true;
        let root = watch.ear.worker.path.clone();
        watch.cover(&root)?;
        Ok(watch)
    }

    /// Waits for an event of interest.
    pub(in super::super) async fn news(&self) {
        self.ear.news.notified().await;
    }

    /// Returns the times of the first and the last change by the user, and whether a pull may have changed
    /// something.
    pub(in super::super) fn state(&self) -> (Option<(Instant, Instant)>, bool) {
        let learnt = lock(&self.ear.learnt);
        (learnt.changed, learnt.stirred)
    }

    /// Clears what the events have shown, because it is about to be pushed.
    pub(in super::super) fn forget(&self) {
        let mut learnt = lock(&self.ear.learnt);
        (learnt.changed, learnt.stirred) = (None, false);
    }

    /// Notes that there is still something to push.
    pub(in super::super) fn remember(&self) {
        lock(&self.ear.learnt).stirred = true;
    }

    /// Notes that something changed without an event: everything has to be watched again, and pushed.
    pub(in super::super) fn distrust(&self) {
        lock(&self.ear.learnt).rescan = true;
    }

    /// Watches new directories, and returns what is at the mount's path. Blocks.
    pub(in super::super) fn catch_up(&self) -> Result<Root, Blind> {
        let (new, rescan) = {
            let mut learnt = lock(&self.ear.learnt);
            if let Some(blind) = learnt.blind.take() {
                return Err(blind);
            }
            (std::mem::take(&mut learnt.new), std::mem::take(&mut learnt.rescan))
        };
        let root = self.ear.worker.path.clone();
        if rescan {
            let found = match identity(&root) {
                None => Root::Gone,
                now if now == self.ear.root => Root::There,
                Some(_) => Root::Exchanged,
            };
            if found == Root::There {
                self.cover(&root)?;
            }
            let mut learnt = lock(&self.ear.learnt);
            (learnt.stirred, learnt.rescan) = (true, found == Root::Gone);
            return Ok(found);
        }
        for dir in &new {
            self.cover(dir)?;
        }
        Ok(Root::There)
    }

    /// Whether there are new directories to watch.
    pub(in super::super) fn is_behind(&self) -> bool {
        let learnt = lock(&self.ear.learnt);
        learnt.rescan || !learnt.new.is_empty() || learnt.blind.is_some()
    }

    fn cover(&self, dir: &Path) -> Result<(), Blind> {
        let worker = &self.ear.worker;
        let mut watch = |dir: &Path| lock(&self.watcher).watch(dir, RecursiveMode::NonRecursive);
        let fresh = cover(&worker.path, dir, &*worker.filter, worker.lanes.pulling_since(), &mut watch)?;
        if fresh {
            self.ear.note_change(Instant::now());
            self.ear.news.notify_one();
        }
        Ok(())
    }
}

impl Ear {
    fn hear(&self, event: notify::Result<Event>) {
        let told = match event {
            Ok(event) => self.note(&event),
            Err(e) => match blind(e) {
                Ok(blind) => {
                    lock(&self.learnt).blind = Some(blind);
                    true
                }
                Err(e) => {
                    tracing::debug!(error = %e, "an event could not be read");
                    false
                }
            },
        };
        if told {
            self.news.notify_one();
        }
    }

    fn note_change(&self, now: Instant) {
        let mut learnt = lock(&self.learnt);
        learnt.changed = Some((learnt.changed.map_or(now, |(first, _)| first), now));
    }

    /// Notes an event; returns whether it is of interest.
    fn note(&self, event: &Event) -> bool {
        // Reading is not a change; scans read too.
        if matches!(event.kind, EventKind::Access(_)) {
            return false;
        }
        let now = Instant::now();
        if event.need_rescan() {
            self.note_change(now);
            lock(&self.learnt).rescan = true;
            return true;
        }
        let mut told = false;
        for path in &event.paths {
            let Some(sight) = self.look(path, event.kind) else { continue };
            told = true;
            if sight.by_user {
                self.note_change(now);
            }
            let mut learnt = lock(&self.learnt);
            learnt.stirred |= !sight.by_user;
            learnt.rescan |= sight.is_root_gone;
            if sight.is_new_dir {
                learnt.new.insert(path.clone());
                if learnt.new.len() > MAX_NEW {
                    learnt.new.clear();
                    learnt.rescan = true;
                }
            }
        }
        told
    }

    /// Examines the path of an event; `None` if it does not concern the session.
    fn look(&self, path: &Path, kind: EventKind) -> Option<Sight> {
        let worker = &self.worker;
        let below = tree_path(&worker.path, path)?;
        let meta = fs::symlink_metadata(path).ok();
        if below.is_root() {
            let is_gone = identity(path).is_none_or(|now| Some(now) != self.root);
            return is_gone.then_some(Sight { by_user: true, is_new_dir: false, is_root_gone: true });
        }
        let is_dir = meta.as_ref().is_some_and(fs::Metadata::is_dir);
        let filter = &worker.filter;
        let concerns = match &meta {
            Some(_) => filter.contains(&below, is_dir) || (is_dir && filter.may_hold(&below)),
            None => filter.contains(&below, false) || filter.contains(&below, true),
        };
        if !concerns {
            return None;
        }
        let is_ours = below.components().any(is_staging_name)
            || worker.lanes.pulling_since().is_some_and(|since| match &meta {
                // A pull restores a file's old time, so a file with an old time may be its work. Such changes
                // are pushed after the pull.
                Some(meta) => meta.is_dir() || meta.mtime() < since,
                None => true,
            });
        let comes =
            matches!(kind, EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(_)) | EventKind::Any);
        Some(Sight { by_user: !is_ours, is_new_dir: is_dir && comes, is_root_gone: false })
    }
}

struct Sight {
    by_user: bool,
    is_new_dir: bool,
    is_root_gone: bool,
}

/// Returns the permanent reason why nothing can be watched, if the error is one.
fn blind(error: notify::Error) -> Result<Blind, notify::Error> {
    match &error.kind {
        ErrorKind::MaxFilesWatch => Ok(Blind::NoMoreWatches),
        ErrorKind::Io(e) if e.raw_os_error() == Some(rustix::io::Errno::NOSPC.raw_os_error()) => {
            Ok(Blind::NoMoreWatches)
        }
        _ => Err(error),
    }
}

/// Watches a directory and everything below it that may have something in scope. Returns whether something
/// was written there since `since`, in seconds since 1970, for which there was no event.
fn cover(
    root: &Path,
    dir: &Path,
    filter: &dyn ScanFilter,
    since: Option<i64>,
    watch: &mut dyn FnMut(&Path) -> notify::Result<()>,
) -> Result<bool, Blind> {
    let mut fresh = false;
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        let Some(path) = tree_path(root, &dir) else { continue };
        let is_ours = path.components().any(is_staging_name);
        if is_ours || (!path.is_root() && !filter.may_hold(&path)) {
            continue;
        }
        // The watch comes before the listing, so that what is created in between is seen by one of them.
        match watch(&dir).map_err(blind) {
            Ok(()) => {}
            Err(Ok(blind)) => return Err(blind),
            // It is gone or not readable, which the scan will report.
            Err(Err(e)) => {
                tracing::debug!(error = %e, "a directory is not watched");
                continue;
            }
        }
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                left.push(entry.path());
            } else if let Some(since) = since.filter(|_| !fresh)
                && entry.metadata().is_ok_and(|meta| meta.mtime() >= since)
            {
                let below = tree_path(root, &entry.path());
                fresh = below.is_some_and(|below| filter.contains(&below, false));
            }
        }
    }
    Ok(fresh)
}

fn tree_path(root: &Path, path: &Path) -> Option<TreePath> {
    TreePath::new(path.strip_prefix(root).ok()?.as_os_str().as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Filter;
    use policy_core::{Scope, SyncPolicy};

    fn filter(policy: &str) -> Filter {
        Filter::of(Scope::new(&SyncPolicy::from_json(policy).unwrap(), b"/m").unwrap())
    }

    #[test]
    fn directories_out_of_scope_are_not_watched() {
        let root = tempfile::tempdir().unwrap();
        for dir in ["a/b", "a/node_modules/x", "c", ".git/objects"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        let filter = filter(
            r#"{"bwList": {"whiteLists": [{"path": "", "excludePaths": [".git", "a/node_modules"]}]}}"#,
        );
        let mut watched = Vec::new();
        cover(root.path(), root.path(), &filter, None, &mut |dir| {
            watched.push(tree_path(root.path(), dir).unwrap().to_string());
            Ok(())
        })
        .unwrap();
        watched.sort();
        assert_eq!(watched, ["", "a", "a/b", "c"]);
    }

    #[test]
    fn a_limit_on_watches_ends_it_and_a_lost_directory_does_not() {
        let root = tempfile::tempdir().unwrap();
        for dir in ["a", "b", "c"] {
            fs::create_dir(root.path().join(dir)).unwrap();
        }
        let filter = filter("{}");
        let mut count = 0;
        let mut run = |error: fn() -> notify::Error| {
            count = 0;
            cover(root.path(), root.path(), &filter, None, &mut |_| {
                count += 1;
                if count == 2 { Err(error()) } else { Ok(()) }
            })
        };
        assert_eq!(run(|| notify::Error::new(ErrorKind::MaxFilesWatch)), Err(Blind::NoMoreWatches));
        let full = || notify::Error::io(rustix::io::Errno::NOSPC.into());
        assert_eq!(run(full), Err(Blind::NoMoreWatches));
        assert_eq!(run(|| notify::Error::new(ErrorKind::PathNotFound)), Ok(false));
        assert_eq!(count, 4);
    }

    #[test]
    fn what_was_written_before_it_is_watched_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/x"), "1").unwrap();
        let written = fs::metadata(root.path().join("a/x")).unwrap().mtime();
        let filter = filter(r#"{"bwList": {"whiteLists": [{"path": "", "excludePaths": ["b"]}]}}"#);
        let fresh = |since| cover(root.path(), root.path(), &filter, since, &mut |_| Ok(()));
        assert_eq!([None, Some(written + 1), Some(written)].map(fresh), [Ok(false), Ok(false), Ok(true)]);
        fs::rename(root.path().join("a"), root.path().join("b")).unwrap();
        assert_eq!(fresh(Some(written)), Ok(false));
    }
}
