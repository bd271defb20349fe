//! Compares a snapshot with what is in a directory.

use std::io;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{FutureExt, StreamExt, TryStreamExt};
use policy_core::{Digest, Entry, Node, TreePath};
use tokio::sync::mpsc;

use super::found::Found;
use super::pending::{Known, KnownRows, Pending, Pulled};
use super::{DiffOptions, DiffReport, PathDifference, SnapshotPart, present};
use crate::error::Error;
use crate::format::{Snapshot, TreeEntry};
use crate::local::{FileSystems, Fingerprint, FoundKind, MountDir, Scan, ScanFilter, absolute, digest_of};
use crate::monitor::{Monitor, PathProblem};
use crate::mount::{ContextSync, mount_scope};
use crate::own_places::OwnPlaces;
use crate::plan::Filter;
use crate::state::{BaseRow, ContextState, ScopeId};
use crate::store::Store;

/// How many paths of the mount are passed on at once.
const BATCH: usize = 512;
/// How many files are read at once.
const AT_ONCE: usize = 4;
/// The digest of a file that was not read.
const UNREAD: Digest = Digest([0; 32]);

/// A path of the mount.
struct Row {
    path: TreePath,
    /// What is there, or why it can't be read. A file that was not read has the digest [`UNREAD`].
    entry: Result<Entry, String>,
}

type Batch = io::Result<Vec<Row>>;

/// Which directory is compared.
#[derive(Debug, Clone, Copy)]
pub struct DiffDir<'a> {
    /// The directory, what of it takes part, and of which directory of the context it is a mount. If it is one indeed,
    /// files that its base knows are not read.
    pub sync: &'a ContextSync,
    /// Where the state of mounts is kept.
    pub state_dir: &'a Path,
    /// Files of the program, which do not take part.
    pub own_files: &'a [PathBuf],
}

impl Store {
    /// Compares a snapshot, or a directory of it, with what is in a local directory and in a policy's scope, and calls `each` for every path that
    /// differs, in tree order. Changes nothing, and takes no lock. Files that have another size are not read.
    ///
    /// # Errors
    /// [`Error::NoPart`] and [`Error::NotADirectory`]; those of opening the directory and of reading the tree. A path that can't be read goes to the monitor.
    pub async fn diff_dir(
        &self,
        snapshot: &Snapshot,
        dir: DiffDir<'_>,
        options: &DiffOptions,
        monitor: &dyn Monitor,
        each: impl FnMut(PathDifference) + Send,
    ) -> Result<DiffReport, Error> {
        let sync = dir.sync;
        let (path, filter) = self.diff_filter(dir, options)?;
        let part = SnapshotPart { snapshot, path: sync.part.clone() };
        let tree = part.tree(self).await?;
        let place = (&sync.context, tree.part().digest());
        let state = ContextState::unlocked(dir.state_dir, &path, self.location(), place, self.env());
        let dir = MountDir::open(&path, self.env()).map_err(|e| Error::local("open", &path, e))?;
        // Without a base, every file is read, and what is not there counts as deleted.
        let known = || Known::by_now(&state, &dir).ok().flatten();
        // This comes before the scan, because what arrives after it is not missing.
        let (first, base) = (known(), known().map(|known| known.rows));
        let header = first.as_ref().map(|known| known.header.clone());
        let pulled = Pulled::before(header, self, snapshot).await?;
        let mut pending = first.map(|known| Pending::new(self, known, &pulled, tree.part()));
        let mut rows = Rows { batches: scan(&dir, &filter, base), batch: Vec::new().into_iter().peekable() };
        let mut comparing = Comparing { dir: &dir, monitor, queue: Vec::new(), found: Found::new(each) };
        let mut segments = tree.segments(tree.all());
        while let Some((_, entries)) = segments.try_next().await? {
            for entry in entries {
                if !filter.contains(&entry.path, entry.entry.is_dir()) {
                    continue;
                }
                for row in rows.before(&entry.path).await? {
                    comparing.add(None, Some(row)).await;
                }
                let row = rows.take(&entry.path).await?;
                if let Some(pending) = pending.as_mut().filter(|_| row.is_none() && !entry.recycled)
                    && pending.has(&entry.path).await?
                {
                    comparing.found.report.pending += 1;
                    continue;
                }
                comparing.add(Some(entry), row).await;
            }
        }
        while let Some(row) = rows.next().await? {
            comparing.add(None, Some(row)).await;
        }
        comparing.flush().await;
        let mut found = comparing.found;
        for (path, digest) in found.maybe_renamed().filter(|(_, digest)| **digest == UNREAD) {
            let (dir, path) = (dir.clone(), path.clone());
            let read = self.env().blocking(move || digest_of(&dir, &path)).await;
            *digest = read.ok().and_then(Result::ok).flatten().unwrap_or(UNREAD);
        }
        Ok(found.finish())
    }

    /// Returns the directory's path without links, and which paths in it take part.
    fn diff_filter(&self, dir: DiffDir<'_>, options: &DiffOptions) -> Result<(PathBuf, Arc<Filter>), Error> {
        let DiffDir { sync, state_dir, own_files } = dir;
        let path = absolute(&sync.path).map_err(|e| Error::local("find", &sync.path, e))?;
        let filter = Filter {
            scope: Arc::new(mount_scope(&sync.policy, &sync.path)?),
            scope_id: ScopeId::default(),
            only: options.only.clone(),
            with_copies: false,
            own: OwnPlaces::find(&path, Some(state_dir), self.place(), own_files)?,
            one_file_system: false,
            closed: FileSystems::default(),
            extract: None,
        };
        Ok((path, Arc::new(filter)))
    }
}

/// Compares paths, and reads several files at once.
struct Comparing<'a, F> {
    dir: &'a MountDir,
    monitor: &'a dyn Monitor,
    /// What the snapshot has, and what the mount has, in tree order.
    queue: Vec<(Option<TreeEntry>, Option<Row>)>,
    found: Found<F>,
}

impl<F: FnMut(PathDifference) + Send> Comparing<'_, F> {
    async fn add(&mut self, entry: Option<TreeEntry>, row: Option<Row>) {
        self.queue.push((entry, row));
        if self.queue.len() == BATCH {
            self.flush().await;
        }
    }

    async fn flush(&mut self) {
        let (dir, queue) = (self.dir, std::mem::take(&mut self.queue));
        let read = |(entry, row): (Option<TreeEntry>, Option<Row>)| {
            async move {
                let row = match (&entry, row) {
                    (Some(entry), Some(row)) if must_be_read(entry, &row) => Some(row.read(dir).await),
                    (_, row) => row,
                };
                (entry, row)
            }
            .boxed()
        };
        let width = AT_ONCE.max(dir.env().parallelism());
        let mut compared = futures::stream::iter(queue).map(read).buffered(width);
        while let Some((entry, row)) = compared.next().await {
            let Some(path) = entry.as_ref().map(|e| &e.path).or(row.as_ref().map(|row| &row.path)) else {
                continue;
            };
            let path = path.clone();
            match row.map(|row| row.entry) {
                Some(Err(message)) => {
                    self.found.report.failed += 1;
                    self.monitor.problem(&PathProblem { path, message, hint: String::new() });
                }
                Some(Ok(here)) => self.found.note(path, entry.and_then(present), Some(here)),
                None => self.found.note(path, entry.and_then(present), None),
            }
        }
    }
}

/// Whether only the content can tell whether a file of the mount is that of the snapshot.
fn must_be_read(entry: &TreeEntry, row: &Row) -> bool {
    let Ok(here) = &row.entry else { return false };
    match (&entry.entry.node, &here.node) {
        (Node::File { size, .. }, Node::File { size: here, digest }) => {
            !entry.recycled && *digest == UNREAD && size == here
        }
        _ => false,
    }
}

impl Row {
    /// Reads the file. One that vanishes or grows meanwhile differs.
    async fn read(mut self, dir: &MountDir) -> Self {
        let (reading, path) = (dir.clone(), self.path.clone());
        let read = dir.env().blocking(move || digest_of(&reading, &path)).await;
        match (read.unwrap_or_else(|lost| Err(lost.into())), &mut self.entry) {
            (Ok(Some(found)), Ok(Entry { node: Node::File { digest, .. }, .. })) => *digest = found,
            (Err(error), entry) => *entry = Err(format!("cannot be read: {error}")),
            _ => {}
        }
        self
    }
}

/// Scans the mount on a thread of its own, and looks its files up in the base.
fn scan(dir: &MountDir, filter: &Arc<Filter>, base: Option<KnownRows>) -> mpsc::Receiver<Batch> {
    let (to, from) = mpsc::channel(4);
    let (dir, filter) = (dir.clone(), filter.clone());
    dir.env().clone().spawn_detached(move || {
        if let Err(error) = scan_to(&dir, filter, base.into_iter().flatten(), &to) {
            let _ = to.blocking_send(Err(error));
        }
    });
    from
}

fn scan_to(
    dir: &MountDir,
    filter: Arc<Filter>,
    base: impl Iterator<Item = io::Result<BaseRow>>,
    to: &mpsc::Sender<Batch>,
) -> io::Result<()> {
    let mut base = base.peekable();
    let mut batch = Vec::with_capacity(BATCH);
    for found in Scan::alone(dir, filter)? {
        while base.next_if(|row| row.as_ref().is_ok_and(|row| row.path < found.path)).is_some() {}
        // A base that can't be read on says nothing of the rest.
        let known = base.next_if(|row| row.as_ref().is_ok_and(|row| row.path == found.path));
        let known = known.and_then(Result::ok);
        let Some(entry) = entry_of(&found.kind, known.as_ref()) else { continue };
        batch.push(Row { path: found.path, entry });
        if batch.len() == BATCH && to.blocking_send(Ok(std::mem::take(&mut batch))).is_err() {
            return Ok(());
        }
    }
    let _ = to.blocking_send(Ok(batch));
    Ok(())
}

/// Returns what a scan found; `None` for what no context can have.
fn entry_of(kind: &FoundKind, base: Option<&BaseRow>) -> Option<Result<Entry, String>> {
    Some(match kind {
        FoundKind::File(print) => {
            let known = base.filter(|row| row.print == Some(*print));
            Ok(known.map_or_else(|| unread_file(print), |row| row.entry.clone()))
        }
        FoundKind::Unreadable { error, .. } => Err(format!("cannot be read: {error}")),
        FoundKind::Passing | FoundKind::Unsupported(_) => return None,
        FoundKind::Symlink { .. } | FoundKind::Dir { .. } => Ok(kind.entry()?),
    })
}

fn unread_file(print: &Fingerprint) -> Entry {
    Entry {
        node: Node::File { size: print.size, digest: UNREAD },
        mode: print.mode,
        mtime: print.mtime,
        uploaded: 0,
    }
}

/// The paths of the mount, in tree order.
struct Rows {
    batches: mpsc::Receiver<Batch>,
    batch: Peekable<std::vec::IntoIter<Row>>,
}

impl Rows {
    async fn peek(&mut self) -> Result<Option<&Row>, Error> {
        while self.batch.peek().is_none() {
            match self.batches.recv().await {
                Some(batch) => {
                    let batch = batch.map_err(|e| Error::local("scan", "the mount", e))?;
                    self.batch = batch.into_iter().peekable();
                }
                None => return Ok(None),
            }
        }
        Ok(self.batch.peek())
    }

    async fn next(&mut self) -> Result<Option<Row>, Error> {
        self.peek().await?;
        Ok(self.batch.next())
    }

    /// Returns the rows of all paths before this one.
    async fn before(&mut self, path: &TreePath) -> Result<Vec<Row>, Error> {
        let mut before = Vec::new();
        while self.peek().await?.is_some_and(|row| row.path < *path) {
            before.extend(self.next().await?);
        }
        Ok(before)
    }

    async fn take(&mut self, path: &TreePath) -> Result<Option<Row>, Error> {
        let is_it = self.peek().await?.is_some_and(|row| row.path == *path);
        if is_it { self.next().await } else { Ok(None) }
    }
}
