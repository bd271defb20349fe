//! Restore: writes a snapshot's files into a directory, without a base.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::TryStreamExt;
use policy_core::{Reason, Timestamp, TreePath};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::applying::KEPT;
use super::compare::stands_already;
use super::dir_times::{DirTimes, set_all};
use super::fetch::{Fetcher, range_buffers};
use super::item::{Applied, Item, LONG, Told};
use super::recent::Recent;
use super::trouble::Trouble;
use crate::buffers::Buffers;
use crate::error::Error;
use crate::format::{Snapshot, TreeEntry};
use crate::local::{Expected, FileSystems, MountDir, Stagings, make_all, recover, recover_below, set_times};
use crate::local::{os, sqlite};
use crate::monitor::{Action, Monitor, PathEvent, PathProblem, Phase, Progress, Side};
use crate::options::SyncOptions;
use crate::packing::Moved;
use crate::report::SyncReport;
use crate::store::Store;
use crate::tree::Tree;

impl Store {
    /// Writes the files of a snapshot into a directory, which is created if needed. `paths` restricts it to
    /// these paths and what is below them; empty means everything. A database comes with its journal and log.
    /// Existing files are never replaced: they are reported and left out.
    pub async fn restore(
        &self,
        snapshot: &Snapshot,
        dir: &Path,
        paths: &[TreePath],
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let before = self.usage();
        monitor.phase(Phase::Downloading);
        let report = SyncReport {
            snapshot: Some(snapshot.number),
            total_bytes: snapshot.totals.bytes,
            ..SyncReport::default()
        };
        let target = if options.dry_run { None } else { Some(open_target(self, dir, options, monitor)?) };
        let root = TreePath::root();
        let paths = if paths.is_empty() { std::slice::from_ref(&root) } else { paths };
        let tree = Tree { store: self, snapshot, cache: None };
        let mut restoring = Restoring {
            target: target.as_ref(),
            tree,
            options,
            monitor,
            report,
            dirs: Vec::new(),
            window: Vec::new(),
            weight: 0,
            root_time: None,
            last_dir: None,
            missing: BTreeSet::new(),
        };
        let mut done = Ok(());
        for path in paths {
            done = restoring.below(path).await;
            if done.is_err() {
                break;
            }
        }
        let set = restoring.set_modes();
        let Restoring { mut report, root_time, .. } = restoring;
        if let Some(target) = target {
            if let Some(staging) = Arc::into_inner(target.staging) {
                staging.finish(done.is_err()).iter().for_each(|warning| monitor.warning(warning));
            }
            if let Some(time) = root_time {
                set_all(&target.dir, &[(TreePath::root(), time)]);
            }
        }
        done.and(set)?;
        report.note_usage(self.usage().since(&before));
        monitor.phase(Phase::Done);
        Ok(report)
    }
}

/// The hint if a retry does not help.
const RETRY: &str = "restore into another directory, or move away what is there";

/// A running restore.
struct Restoring<'a> {
    /// `None` in a dry run.
    target: Option<&'a Target>,
    tree: Tree<'a>,
    options: &'a SyncOptions,
    monitor: &'a dyn Monitor,
    report: SyncReport,
    /// Directories that get their mode when everything is in them.
    dirs: Vec<(TreePath, u16, Timestamp)>,
    window: Vec<Item>,
    weight: u64,
    root_time: Option<Timestamp>,
    /// The directory whose file system was checked last.
    last_dir: Option<TreePath>,
    /// Files that were not put in place.
    missing: BTreeSet<TreePath>,
}

impl Restoring<'_> {
    /// Restores what is at and below `path`, and the journal and log of a database.
    async fn below(&mut self, path: &TreePath) -> Result<(), Error> {
        let with_companions = std::iter::once(path.clone()).chain(sqlite::companions(path));
        let wanted: BTreeSet<usize> =
            with_companions.flat_map(|path| self.tree.segments_within(&path)).collect();
        let mut segments = std::pin::pin!(self.tree.segments(wanted));
        let mut times = DirTimes::default();
        let (mut found, mut recycled) = (false, false);
        let mut is_file = false;
        while let Some((_, entries)) = segments.try_next().await? {
            for entry in entries {
                let is_within = entry.path.is_within(path);
                recycled |= entry.recycled && is_within;
                if entry.recycled {
                    continue;
                }
                is_file |= entry.path == *path && !entry.entry.is_dir();
                let is_companion = is_file
                    && !entry.entry.is_dir()
                    && sqlite::database_of(&entry.path).as_ref() == Some(path);
                if is_within || is_companion {
                    found = true;
                    self.entry(entry, &mut times).await?;
                } else if entry.path.parent().is_some_and(|parent| path.is_below(&parent)) {
                    times.see_beside([(entry.path, entry.entry.mtime)]);
                }
            }
        }
        if !found && !path.is_root() {
            return Err(if recycled { self.tree.recycled(path) } else { self.tree.no_path(path) });
        }
        self.write_window(&mut times).await?;
        let (times, root_time) = times.finish();
        self.root_time = self.root_time.max(root_time);
        if let Some(target) = self.target {
            let dir = target.dir.clone();
            let set = target.dir.blocking(move || set_all(&dir, &times)).await;
            set.map_err(|e| Error::local("set the times in", target.dir.path(), io::Error::from(e)))?;
        }
        Ok(())
    }

    async fn entry(&mut self, entry: TreeEntry, times: &mut DirTimes) -> Result<(), Error> {
        let event = PathEvent {
            path: &entry.path,
            action: Action::Add,
            side: Side::Local,
            reason: "in the snapshot",
            size: entry.entry.size(),
        };
        self.monitor.path(&event);
        self.report.added += 1;
        let Some(target) = self.target else { return Ok(()) };
        self.look_at_dir(target, &entry.path).await?;
        if entry.entry.is_dir() {
            times.see(&entry.path, false, false, Some(&entry.entry));
            times.expect(&entry.path, true);
            self.make_dir(target, entry, times);
            return Ok(());
        }
        let stands = is_there(target, &entry).await;
        times.see(&entry.path, false, stands, Some(&entry.entry));
        if stands {
            self.report.added -= 1;
            self.report.unchanged += 1;
            return Ok(());
        }
        if sqlite::database_of(&entry.path).is_some_and(|database| self.missing.contains(&database)) {
            self.note_failed(&entry.path);
            let trouble = Trouble::without_database();
            let hint = trouble.hint_or(RETRY);
            self.monitor.problem(&PathProblem { path: entry.path, message: trouble.message, hint });
            return Ok(());
        }
        times.expect(&entry.path, false);
        let size = entry.entry.size();
        let told = Told {
            path: entry.path.clone(),
            action: Action::Add,
            reason: Reason::NewThere,
            size,
            row: None,
            copy: None,
        };
        let item = Item {
            path: entry.path.clone(),
            entry,
            expected: Expected::Absent,
            source: None,
            clears: Vec::new(),
            told,
        };
        if size > LONG {
            return self.write(vec![item], times).await;
        }
        self.weight += size + 4096;
        self.window.push(item);
        if self.weight > self.options.memory / 4 { self.write_window(times).await } else { Ok(()) }
    }

    /// Finds the file system of the directory of `path`, and removes what a killed restore has left there.
    async fn look_at_dir(&mut self, target: &Target, path: &TreePath) -> Result<(), Error> {
        let parent = path.parent().unwrap_or_default();
        if self.last_dir.as_ref() == Some(&parent) {
            return Ok(());
        }
        let (dir, file_systems, job_parent) =
            (target.dir.clone(), target.file_systems.clone(), parent.clone());
        let look = move || {
            let known = file_systems.all();
            file_systems.look(&dir, &job_parent)?;
            let new: Vec<_> = file_systems.all().into_iter().filter(|place| !known.contains(place)).collect();
            Ok(recover_below(&dir, &new))
        };
        let looked = target.dir.blocking(look).await.unwrap_or_else(|e| Err(io::Error::from(e)));
        let warnings = looked.map_err(|e| Error::local("look at", target.dir.show(&parent), e))?;
        warnings.iter().for_each(|warning| self.monitor.warning(warning));
        self.last_dir = Some(parent);
        Ok(())
    }

    fn make_dir(&mut self, target: &Target, entry: TreeEntry, times: &mut DirTimes) {
        let made = target.dir.make_dirs(&entry.path).map(drop);
        times.ended(&entry.path, true, made.is_ok());
        match made {
            Ok(()) => self.dirs.push((entry.path, entry.entry.mode, entry.entry.mtime)),
            Err(e) => {
                self.report.added -= 1;
                self.report.failed += 1;
                let trouble = Trouble::local("the directory cannot be made", &e);
                let hint = trouble.hint_or(RETRY);
                self.monitor.problem(&PathProblem { path: entry.path, message: trouble.message, hint });
            }
        }
    }

    async fn write_window(&mut self, times: &mut DirTimes) -> Result<(), Error> {
        self.weight = 0;
        let window = std::mem::take(&mut self.window);
        self.write(window, times).await
    }

    async fn write(&mut self, items: Vec<Item>, times: &mut DirTimes) -> Result<(), Error> {
        let Some(target) = self.target.filter(|_| !items.is_empty()) else { return Ok(()) };
        let fetcher = Fetcher {
            store: self.tree.store,
            dir: target.dir.clone(),
            staging: target.staging.clone(),
            ranges: Semaphore::new(self.options.concurrency.get().min(4)),
            buffers: target.buffers.clone(),
            recent: target.recent.clone(),
            monitor: self.monitor,
            progress: Mutex::new(Progress::default()),
            coming: Moved::default(),
            hint: RETRY,
            sharing: None,
            stop: CancellationToken::new(),
            most_parts: 0,
        };
        for (item, outcome) in fetcher.fetch(items).await?.each() {
            times.ended(&item.path, false, matches!(outcome, Applied::Installed(_)));
            if outcome == Applied::Failed {
                self.note_failed(&item.path);
            }
        }
        Ok(())
    }

    /// Counts a file that was not put in place. If it is a database, its journal and log must not be either: beside
    /// another database, they would damage it.
    fn note_failed(&mut self, path: &TreePath) {
        self.report.added -= 1;
        self.report.failed += 1;
        self.missing.insert(path.clone());
    }

    /// Sets the modes and times of listed directories, deepest first.
    fn set_modes(&mut self) -> Result<(), Error> {
        let Some(target) = self.target else { return Ok(()) };
        for (path, mode, mtime) in std::mem::take(&mut self.dirs).into_iter().rev() {
            if let Ok(fd) = target.dir.dir(&path) {
                let set = rustix::fs::fchmod(&fd, os::mode(mode));
                set.map_err(Into::into)
                    .and_then(|()| set_times(&fd, mtime))
                    .map_err(|e| Error::local("set the mode of", target.dir.show(&path), e))?;
            }
        }
        Ok(())
    }
}

/// Whether a file or link with this content is in place already, perhaps from an earlier restore.
async fn is_there(target: &Target, entry: &TreeEntry) -> bool {
    let (dir, path, entry) = (target.dir.clone(), entry.path.clone(), entry.entry.clone());
    target.dir.blocking(move || stands_already(&dir, &path, &entry).is_some()).await.unwrap_or(false)
}

struct Target {
    dir: MountDir,
    file_systems: Arc<FileSystems>,
    staging: Arc<Stagings>,
    recent: Arc<Mutex<Recent>>,
    buffers: Buffers,
}

/// Opens the directory to restore into, creates it if it is missing, and removes what a killed restore has
/// left there.
fn open_target(
    store: &Store,
    dir: &Path,
    options: &SyncOptions,
    monitor: &dyn Monitor,
) -> Result<Target, Error> {
    make_all(dir, options.owner).map_err(|e| Error::local("make", dir, e))?;
    let opened = MountDir::open(dir, store.env()).map_err(|e| Error::local("open", dir, e))?;
    let opened = opened.owned_by(options.owner);
    let recovered = recover(&opened, true).map_err(|e| Error::local("clear up", dir, e))?;
    recovered.tell(monitor);
    let file_systems = Arc::<FileSystems>::default();
    let staging = Stagings::create(&opened, file_systems.clone())
        .map_err(|e| Error::local("make a staging directory in", dir, e))?;
    if let Err(e) = staging.main().take_over(&recovered.left) {
        tracing::debug!(error = %e, "what was left of an earlier restore is fetched again");
    }
    let recent = Arc::new(Mutex::new(Recent::new(options.memory / KEPT)));
    Ok(Target { dir: opened, file_systems, staging: Arc::new(staging), recent, buffers: range_buffers() })
}
