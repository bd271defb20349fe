//! Puts fetched files in place, and notes that they are there.
//!
//! The journal notes what is about to be put in place, with the inode of each staged file, and the result
//! afterwards. If the process is killed in between, the staging directory has the answer: what is still in it
//! was not put in place.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use policy_core::{Node, TreePath};

use super::compare::stands_already;
use super::item::{Applied, Failure, Item, Slot, Slots, lock};
use super::trouble::Trouble;
use crate::error::Error;
use crate::local::{
    Expected, Fingerprint, InstallError, MountDir, Shelves, Staged, Stagings, Writable, sqlite, writable,
};
use crate::state::{ArrivalRow, Arriving, BaseRow, Change, Lane};

/// Puts the files of one window in place.
pub(super) struct Placing<'a> {
    pub(super) dir: &'a MountDir,
    pub(super) staging: &'a Stagings,
    pub(super) sharing: Option<(Arc<Arriving>, Lane)>,
    /// Whether the fetch was stopped, so that missing files are no error.
    pub(super) stopped: bool,
}

/// How far a file has come.
enum Ready {
    Staged(Staged),
    Ended(Result<Applied, Trouble>),
}

impl Placing<'_> {
    /// Makes what needs no content, makes everything durable, and puts it in place.
    pub(super) fn all(&self, items: &[Item], slots: &Slots) -> Result<Vec<Result<Applied, Trouble>>, Error> {
        let (mut full, mut shelves) = (None, Shelves::new(self.staging));
        for (item, slot) in items.iter().zip(slots.iter()) {
            let mut slot = lock(slot);
            if item.entry.chunks.is_empty() && slot.failed.is_none() {
                match stage_bare(item, self.staging, &mut shelves) {
                    Ok(staged) => slot.staged = Some(staged),
                    Err(e) => slot.failed = Some(Failure::Local(e)),
                }
            }
            // A full disk affects more than one file, but what was written is put in place.
            if let Some(Failure::Local(e)) = &slot.failed
                && !self.staging.is_below(&item.path)
                && matches!(
                    e.kind(),
                    io::ErrorKind::StorageFull
                        | io::ErrorKind::ReadOnlyFilesystem
                        | io::ErrorKind::QuotaExceeded
                )
            {
                full.get_or_insert_with(|| {
                    Error::local("write", self.dir.show(&item.path), io::Error::new(e.kind(), e.to_string()))
                });
            }
        }
        // A conflict copy is in no snapshot that could tell whether it is whole.
        let copies = items.iter().any(|item| item.told.copy.is_some());
        self.staging
            .sync(copies)
            .map_err(|e| Error::local("make durable what was written to", self.dir.path(), e))?;
        let main = self.staging.main();
        let turn = main.turn();
        let placed = self
            .place(items, slots)
            .map_err(|e| Error::local("note what arrived in", "the local state", e))?;
        drop(turn);
        full.map_or(Ok(placed), Err)
    }

    fn place(&self, items: &[Item], slots: &Slots) -> io::Result<Vec<Result<Applied, Trouble>>> {
        let arriving = self.sharing.as_ref().map(|(arriving, lane)| (&**arriving, *lane));
        // From here on, a fetch can't request one of these paths, and so never finds it half in place.
        let asked = arriving.map(|(arriving, lane)| (arriving.asked(), lane));
        let is_anothers = |item: &Item| {
            asked.as_ref().is_some_and(|(asked, lane)| *lane == Lane::All && asked.covers(&item.told.path))
        };
        let ready: Vec<Ready> = items
            .iter()
            .zip(slots.iter())
            .map(|(item, slot)| self.ready(&mut lock(slot), is_anothers(item)))
            .collect();
        let Some((arriving, lane)) = arriving else {
            let mut parents = Parents { dir: self.dir, vanished: None, last: None, units: Units::default() };
            return Ok(items
                .iter()
                .zip(ready)
                .map(|(item, ready)| self.put(&mut parents, item, ready))
                .collect());
        };
        let coming = items.iter().zip(&ready).filter_map(|(item, ready)| match (ready, announced(item)) {
            (Ready::Staged(staged), Some(row)) => {
                let (inode, staging) = (staged.inode(), staged.staging());
                let change = Change::Coming { row: row.clone(), inode, staging };
                Some(ArrivalRow { path: row.path.clone(), change })
            }
            _ => None,
        });
        arriving.note(coming.collect())?;
        let vanished = (lane == Lane::All).then_some(arriving);
        let mut parents = Parents { dir: self.dir, vanished, last: None, units: Units::default() };
        let now = self.dir.env().now();
        let mut came = Vec::with_capacity(items.len());
        let placed: Vec<Result<Applied, Trouble>> = items
            .iter()
            .zip(ready)
            .map(|(item, ready)| {
                let inode = match &ready {
                    Ready::Staged(staged) => Some(staged.inode()),
                    Ready::Ended(_) => None,
                };
                let placed = self.put(&mut parents, item, ready);
                if let (Some(inode), Some(row)) = (inode, &item.told.row) {
                    let change = match &placed {
                        Ok(Applied::Installed(Some(print))) => {
                            let row = with_print(row, item, print, now);
                            // Otherwise the file was already there.
                            let came = print.inode == inode;
                            Some(if came { Change::Came { row, print: *print } } else { Change::Set(row) })
                        }
                        // Another program was at it at once.
                        Ok(Applied::Installed(None)) => Some(Change::Set(row.clone())),
                        _ => announced(item).map(|_| Change::Void),
                    };
                    came.extend(change.map(|change| ArrivalRow { path: row.path.clone(), change }));
                }
                if matches!(placed, Ok(Applied::Installed(_)))
                    && let Some(parent) = item.path.parent()
                {
                    arriving.use_dir(&parent);
                }
                placed
            })
            .collect();
        // After a crash, only the journal is used for these file systems, and not their staging directories.
        let durable = self.staging.sync_below();
        if durable.is_err() {
            for row in came.iter_mut().filter(|row| self.staging.is_below(&row.path)) {
                row.change = Change::Void;
            }
        }
        arriving.note(came)?;
        durable?;
        Ok(placed)
    }

    fn ready(&self, slot: &mut Slot, is_anothers: bool) -> Ready {
        let unfinished = slot.file.take();
        // If the fetch failed, a resumable file is kept for a later pull.
        if let Some(new) = unfinished.filter(|_| slot.failed.is_some()) {
            self.staging.main().discard(&new);
        }
        if is_anothers {
            if let Some(staged) = slot.staged.take() {
                self.staging.main().abandon(&staged);
            }
            return Ready::Ended(Ok(Applied::Left));
        }
        match (slot.failed.take(), slot.staged.take()) {
            (Some(Failure::Store(message)), _) => Ready::Ended(Err(Trouble::store(message))),
            (Some(Failure::Local(e)), _) if e.kind() == io::ErrorKind::NotFound => {
                Ready::Ended(Err(Trouble::unstaged()))
            }
            (Some(Failure::Local(e)), _) => Ready::Ended(Err(Trouble::local("cannot be written", &e))),
            (None, Some(staged)) => Ready::Staged(staged),
            (None, None) if self.stopped => Ready::Ended(Ok(Applied::Left)),
            (None, None) => Ready::Ended(Err(Trouble::store("a part of it is missing in the store"))),
        }
    }

    fn clear(&self, path: &TreePath, print: &Fingerprint) -> Result<(), InstallError> {
        self.staging.of(path)?.remove(&self.dir.parent(path)?, path, print)
    }

    /// Puts a file in place. If a database was not put in place, its journal and log are not either: beside
    /// another version of the database, they would damage it.
    fn put(&self, parents: &mut Parents<'_>, item: &Item, ready: Ready) -> Result<Applied, Trouble> {
        let placed = match ready {
            Ready::Ended(outcome) => outcome,
            Ready::Staged(staged) => {
                let database = sqlite::database_of(&item.path);
                if database.is_some_and(|database| parents.units.missing.contains(&database)) {
                    self.staging.main().abandon(&staged);
                    let failed = Trouble::without_database();
                    return if self.stopped { Ok(Applied::Left) } else { Err(failed) };
                }
                self.put_staged(parents, item, &staged)
            }
        };
        if !matches!(placed, Ok(Applied::Installed(_))) {
            parents.units.missing.insert(item.path.clone());
        }
        placed
    }

    fn put_staged(
        &self,
        parents: &mut Parents<'_>,
        item: &Item,
        staged: &Staged,
    ) -> Result<Applied, Trouble> {
        let parent = match parents.make(item) {
            Ok(Some(parent)) => parent,
            Ok(None) => return Ok(Applied::Withheld),
            Err(e) => return Err(Trouble::local("its directory cannot be made", &e)),
        };
        let staging =
            self.staging.of(&item.path).map_err(|e| Trouble::local("cannot be put in place", &e))?;
        for (path, print) in &item.clears {
            match self.clear(path, print) {
                Ok(()) => _ = parents.units.cleared.insert(path.clone()),
                // If it has changed meanwhile, it stays: another program has the database open.
                Err(error) => tracing::debug!(%error, %path, "the log of an older database is still there"),
            }
        }
        let is_cleared = parents.units.cleared.contains(&item.path);
        let expected = if is_cleared { Expected::Absent } else { item.expected };
        let placed = staging.install(staged, &parent, &item.path, &expected);
        if matches!(placed, Err(InstallError::Changed))
            && let Some(print) = stands_already(self.dir, &item.path, &item.entry.entry)
        {
            return Ok(Applied::Installed(Some(print)));
        }
        if let Err(InstallError::Io(e)) = &placed
            && e.kind() == io::ErrorKind::NotFound
            && parents.has_vanished(item)
        {
            return Ok(Applied::Withheld);
        }
        // No row says of a conflict copy that it came.
        let lost_copy = matches!(placed, Ok(None)) && announced(item).is_none();
        let is_taken = expected == Expected::Absent && matches!(placed, Err(InstallError::Changed));
        if self.sharing.is_some() && (is_taken || lost_copy) {
            return Ok(Applied::Taken);
        }
        placed.map(Applied::Installed).map_err(|e| match e {
            e if e.is_unstaged() => Trouble::unstaged(),
            InstallError::Changed if expected == Expected::Absent => {
                Trouble::passing("something else is there; it is left as it is")
            }
            InstallError::Changed => Trouble::passing(e.to_string()),
            InstallError::Io(e) => Trouble::local("cannot be put in place", &e),
        })
    }
}

/// Returns the row to be noted beforehand. A conflict copy has none; it is recognized by its content.
fn announced(item: &Item) -> Option<&BaseRow> {
    item.told.row.as_ref().filter(|row| row.path == item.path)
}

/// Adds the fingerprint of the file with this content.
pub(super) fn with_print(
    row: &BaseRow,
    item: &Item,
    print: &Fingerprint,
    now: policy_core::Timestamp,
) -> BaseRow {
    // The newest time of the file is that of our own rename, so only the time of its content can hide a later
    // edit.
    let by_content = Fingerprint { ctime: print.mtime, ..*print };
    let known = announced(item).is_some() && !by_content.is_racy(now);
    BaseRow { print: known.then_some(*print), ..row.clone() }
}

fn stage_bare(item: &Item, staging: &Stagings, shelves: &mut Shelves<'_>) -> io::Result<Staged> {
    let shelf = shelves.of(&item.path)?;
    let entry = &item.entry.entry;
    match &entry.node {
        Node::Symlink { target } => shelf.new_symlink(target, entry.mtime),
        Node::File { .. } | Node::Dir => {
            let new = shelf.new_file()?;
            staging.main().seal(new, entry.mode, entry.mtime)
        }
    }
}

/// The results for files of databases in this window.
#[derive(Default)]
struct Units {
    /// Files that were not put in place.
    missing: BTreeSet<TreePath>,
    /// Logs and journals of older databases that were removed.
    cleared: BTreeSet<TreePath>,
}

/// Opens, and creates, the directories of files in tree order.
struct Parents<'a> {
    dir: &'a MountDir,
    /// Knows the directories that must not be created again.
    vanished: Option<&'a Arriving>,
    last: Option<(TreePath, Arc<OwnedFd>, Option<Writable>)>,
    units: Units,
}

impl Parents<'_> {
    /// Whether a file's directory existed before and was removed.
    fn has_vanished(&self, item: &Item) -> bool {
        let parent = item.path.parent().unwrap_or_default();
        self.vanished.is_some_and(|arriving| {
            has_vanished(self.dir, arriving, &parent)
                || arriving.was_withheld(&item.path, &item.entry.entry) && is_missing(self.dir, &parent)
        })
    }

    /// Returns a file's directory; `None` if it, or one above, existed before and was removed.
    fn make(&mut self, item: &Item) -> io::Result<Option<Arc<OwnedFd>>> {
        let parent = item.path.parent().unwrap_or_default();
        if let Some((last, dir, _)) = &self.last
            && *last == parent
            // The handle of a directory that was removed meanwhile is still valid.
            && rustix::fs::fstat(dir).is_ok_and(|stat| stat.st_nlink > 0)
        {
            return Ok(Some(dir.clone()));
        }
        if self.has_vanished(item) {
            return Ok(None);
        }
        let dir = Arc::new(self.dir.make_dirs(&parent)?);
        // Restore the previous directory's mode first: it may be this one's parent.
        self.last = None;
        let writable = writable(&dir);
        self.last = Some((parent, dir.clone(), writable));
        Ok(Some(dir))
    }
}

/// Whether a directory, or one above it, is gone although something was placed in it.
pub(super) fn has_vanished(dir: &MountDir, arriving: &Arriving, path: &TreePath) -> bool {
    is_gone(path, |path| arriving.was_used(path), |path| is_missing(dir, path))
}

/// Whether a directory is not there.
pub(super) fn is_missing(dir: &MountDir, path: &TreePath) -> bool {
    dir.dir(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
}

fn is_gone(
    path: &TreePath,
    was_used: impl Fn(&TreePath) -> bool,
    is_missing: impl Fn(&TreePath) -> bool,
) -> bool {
    let mut at = path.clone();
    while !at.is_root() {
        // The order matters: another window may create and use the directory between the two checks.
        let was_used = was_used(&at);
        if !is_missing(&at) {
            return false;
        }
        if was_used {
            return true;
        }
        at = at.parent().unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_directory_that_another_window_makes_meanwhile_has_not_vanished() {
        let path = TreePath::new(*b"a/b").unwrap();
        let made = Cell::new(false);
        let is_missing = |_: &TreePath| !made.replace(true);
        assert!(!is_gone(&path, |_| made.get(), is_missing));
        assert!(is_gone(&path, |path| path.as_bytes() == b"a", |_| true));
        assert!(!is_gone(&path, |_| false, |_| true));
    }
}
