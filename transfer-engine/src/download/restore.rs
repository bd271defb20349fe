//! Writing a snapshot's files to a directory, without a base.

use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::TryStreamExt;
use policy_core::{Reason, Timestamp, TreePath};
use rustix::fs::Mode;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::apply::KEPT;
use super::compare::stands_already;
use super::fetch::{Fetcher, Item, LONG, Outcome, Told, range_buffers};
use super::recent::Recent;
use crate::buffers::Buffers;
use crate::error::Error;
use crate::format::{Snapshot, TreeEntry};
use crate::local::{Expected, MountDir, Staging, set_times};
use crate::monitor::{Action, Monitor, PathEvent, PathProblem, Phase, Progress, Side};
use crate::options::SyncOptions;
use crate::report::SyncReport;
use crate::store::Store;
use crate::tree::Tree;

impl Store {
    /// Writes the files of a snapshot into a directory, which is made if need be. `paths` restricts it to
    /// these and what is below them; empty: everything. Nothing that is there already is replaced: it is
    /// reported and left out.
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
        let mut report = SyncReport {
            snapshot: Some(snapshot.number),
            total_bytes: snapshot.totals.bytes,
            ..SyncReport::default()
        };
        if !options.dry_run {
            std::fs::create_dir_all(dir).map_err(|e| Error::local("make", dir, e))?;
        }
        let root = TreePath::root();
        let paths = if paths.is_empty() { std::slice::from_ref(&root) } else { paths };
        let target = if options.dry_run { None } else { Some(open_target(self, dir, options)?) };
        let mut dirs: Vec<(TreePath, u16, Timestamp)> = Vec::new();
        for path in paths {
            let tree = Tree { store: self, snapshot, cache: None };
            let mut segments = std::pin::pin!(tree.segments(tree.segments_within(path)));
            let mut window = Vec::new();
            let (mut weight, mut found, mut recycled) = (0, false, false);
            while let Some((_, entries)) = segments.try_next().await? {
                for entry in entries.into_iter().filter(|e| e.path.is_within(path)) {
                    if entry.recycled {
                        recycled = true;
                        continue;
                    }
                    found = true;
                    let event = PathEvent {
                        path: &entry.path,
                        action: Action::Add,
                        side: Side::Local,
                        reason: "in the snapshot",
                        size: entry.entry.size(),
                    };
                    monitor.path(&event);
                    report.added += 1;
                    let Some(target) = &target else { continue };
                    if entry.entry.is_dir() {
                        let made = target.dir.make_dirs(&entry.path).map(drop);
                        if let Err(e) = made {
                            report.added -= 1;
                            report.failed += 1;
                            monitor.problem(&PathProblem {
                                path: entry.path.clone(),
                                message: format!("the directory cannot be made: {e}"),
                                hint: String::new(),
                            });
                        } else {
                            dirs.push((entry.path, entry.entry.mode, entry.entry.mtime));
                        }
                        continue;
                    }
                    if is_there(self, target, &entry).await {
                        report.added -= 1;
                        report.unchanged += 1;
                        continue;
                    }
                    let size = entry.entry.size();
                    weight += size + 4096;
                    let told = Told {
                        path: entry.path.clone(),
                        action: Action::Add,
                        reason: Reason::NewThere,
                        size,
                        row: None,
                        copy: None,
                    };
                    let item = Item { path: entry.path.clone(), entry, expected: Expected::Absent, told };
                    if size > LONG {
                        self.write_items(target, vec![item], options, monitor, &mut report).await?;
                        continue;
                    }
                    window.push(item);
                    if weight > options.memory / 4 {
                        weight = 0;
                        self.write_items(target, std::mem::take(&mut window), options, monitor, &mut report)
                            .await?;
                    }
                }
            }
            if !found && !path.is_root() {
                return Err(if recycled { tree.recycled(path) } else { tree.no_path(path) });
            }
            if let Some(target) = &target {
                self.write_items(target, window, options, monitor, &mut report).await?;
            }
        }
        if let Some(target) = target {
            for (path, mode, mtime) in dirs.into_iter().rev() {
                if let Ok(fd) = target.dir.dir(&path) {
                    let set = rustix::fs::fchmod(&fd, Mode::from_raw_mode(u32::from(mode)));
                    set.map_err(Into::into)
                        .and_then(|()| set_times(&fd, mtime))
                        .map_err(|e| Error::local("set the mode of", target.dir.show(&path), e))?;
                }
            }
            if let Some(staging) = Arc::into_inner(target.staging) {
                staging.finish(false);
            }
        }
        report.note_usage(self.usage().since(&before));
        monitor.phase(Phase::Done);
        Ok(report)
    }

    async fn write_items(
        &self,
        target: &Target,
        items: Vec<Item>,
        options: &SyncOptions,
        monitor: &dyn Monitor,
        report: &mut SyncReport,
    ) -> Result<(), Error> {
        if items.is_empty() {
            return Ok(());
        }
        let fetcher = Fetcher {
            store: self,
            dir: target.dir.clone(),
            staging: target.staging.clone(),
            ranges: Semaphore::new(options.concurrency.get().min(4)),
            buffers: target.buffers.clone(),
            recent: target.recent.clone(),
            monitor,
            progress: Mutex::new(Progress::default()),
            hint: "restore into another directory, or move away what is there",
            sharing: None,
            stop: CancellationToken::new(),
        };
        for (_, outcome) in fetcher.fetch(items).await?.each() {
            if outcome == Outcome::Failed {
                report.added -= 1;
                report.failed += 1;
            }
        }
        Ok(())
    }
}

/// Whether a file or link of this content is in its place already, from an earlier restore perhaps.
async fn is_there(store: &Store, target: &Target, entry: &TreeEntry) -> bool {
    let (dir, path, entry) = (target.dir.clone(), entry.path.clone(), entry.entry.clone());
    store.env().blocking(move || stands_already(&dir, &path, &entry).is_some()).await.unwrap_or(false)
}

struct Target {
    dir: MountDir,
    staging: Arc<Staging>,
    recent: Arc<Mutex<Recent>>,
    buffers: Buffers,
}

fn open_target(store: &Store, dir: &Path, options: &SyncOptions) -> Result<Target, Error> {
    let opened = MountDir::open(dir, store.env()).map_err(|e| Error::local("open", dir, e))?;
    let opened = opened.owned_by(options.owner);
    let staging =
        Staging::create(&opened).map_err(|e| Error::local("make a staging directory in", dir, e))?;
    let recent = Arc::new(Mutex::new(Recent::new(options.memory / KEPT)));
    Ok(Target { dir: opened, staging: Arc::new(staging), recent, buffers: range_buffers() })
}
