//! Removes what the context no longer has: first files, then the directories that are empty.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use policy_core::TreePath;
use rustix::fs::AtFlags;

use super::applying::{Expecting, problem};
use super::compare::link_print;
use super::item::{Applied, Told};
use super::trouble::Trouble;
use crate::error::Error;
use crate::local::{InstallError, MountDir, Stagings, names, stat_at, writable};
use crate::monitor::Monitor;
use crate::plan::Filter;

/// A path to remove.
pub(super) struct Removal {
    pub(super) path: TreePath,
    /// `None` for a directory.
    pub(super) expected: Option<Expecting>,
    pub(super) told: Told,
}

/// Returns why something was not removed.
fn not_removed(e: &InstallError) -> Trouble {
    match e {
        InstallError::Changed => Trouble::passing(e.to_string()),
        InstallError::Io(e) => Trouble::local("cannot be removed", e),
    }
}

fn remove_leaf(
    dir: &MountDir,
    staging: &Stagings,
    path: &TreePath,
    expected: &Expecting,
) -> Result<(), InstallError> {
    let parent = match dir.parent(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let _writable = writable(&parent);
    let print = match expected {
        Expecting::Stat(print) => *print,
        Expecting::Link(target) => match link_print(dir, path, target) {
            Some(print) => print,
            None if stat_at(&parent, path.name())?.is_none() => return Ok(()),
            None => return Err(InstallError::Changed),
        },
    };
    let remove = || staging.of(path)?.remove(&parent, path, &print);
    match remove() {
        Err(e) if e.is_unstaged() => remove(),
        removed => removed,
    }
}

pub(super) async fn remove_now(
    dir: &MountDir,
    staging: &Arc<Stagings>,
    path: &TreePath,
    expected: Option<Expecting>,
    monitor: &dyn Monitor,
) -> Result<Applied, Error> {
    let (job_dir, job_staging, job_path) = (dir.clone(), staging.clone(), path.clone());
    let removed = dir.blocking(move || match &expected {
        Some(expected) => remove_leaf(&job_dir, &job_staging, &job_path, expected),
        None => Ok(()),
    });
    match removed.await.map_err(|e| Error::local("remove", dir.show(path), io::Error::from(e)))? {
        Ok(()) => Ok(Applied::Removed),
        Err(e) => {
            problem(monitor, path, not_removed(&e));
            Ok(Applied::Failed)
        }
    }
}

/// An empty directory that can't be removed.
pub(super) struct Stuck {
    pub(super) path: TreePath,
    pub(super) mode: u16,
    pub(super) trouble: Trouble,
}

/// What became of one removal: the path that can't be removed, and why.
type Outcome = Result<(), (TreePath, Trouble)>;

/// What became of removals, and of the directories that are empty after them.
pub(super) struct Removed {
    pub(super) told: Vec<(Told, Outcome)>,
    /// Directories that are gone.
    pub(super) dirs: Vec<TreePath>,
    /// Empty directories that can't be removed.
    pub(super) stuck: Vec<Stuck>,
    /// Directories that are not empty.
    pub(super) full: BTreeSet<TreePath>,
}

/// Removes files, then the empty directories that the context does not have: those of the files, and
/// `emptied`.
pub(super) fn remove_all(
    dir: &MountDir,
    staging: &Stagings,
    removals: Vec<Removal>,
    standing: BTreeSet<TreePath>,
    mut emptied: BTreeSet<TreePath>,
    filter: &Filter,
) -> Removed {
    let mut told_of = Vec::with_capacity(removals.len());
    // In reverse tree order, what is below a directory comes before it.
    for Removal { path, expected, told } in removals.into_iter().rev() {
        let result = match &expected {
            Some(expected) => {
                remove_leaf(dir, staging, &path, expected).map_err(|e| (path.clone(), not_removed(&e)))
            }
            None => {
                emptied.insert(path.clone());
                Ok(())
            }
        };
        if result.is_ok() {
            emptied.extend(path.parent());
        }
        told_of.push((told, result));
    }
    let (mut dirs, mut stuck, mut full) = (Vec::new(), Vec::new(), BTreeSet::new());
    while let Some(path) = emptied.pop_last() {
        if path.is_root() || standing.contains(&path) || !filter.in_scope(&path, true) {
            continue;
        }
        match remove_dir(dir, &path) {
            Ok(()) => {
                emptied.extend(path.parent());
                dirs.push(path);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // Whatever is still in it, in scope or not, keeps it.
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => _ = full.insert(path),
            // For a mount point, the kernel reports this error first.
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && holds_something(dir, &path) => {
                full.insert(path);
            }
            Err(e) => {
                let mode =
                    dir.stat(&path).ok().flatten().map_or(0o755, |stat| (stat.st_mode & 0o7777) as u16);
                let trouble = Trouble::local(&format!("the directory `{path}` cannot be removed"), &e);
                stuck.push(Stuck { path, mode, trouble });
            }
        }
    }
    Removed { told: told_of, dirs, stuck, full }
}

fn holds_something(dir: &MountDir, path: &TreePath) -> bool {
    dir.dir(path).and_then(|dir| names(&dir)).is_ok_and(|names| !names.is_empty())
}

fn remove_dir(dir: &MountDir, path: &TreePath) -> io::Result<()> {
    let parent = dir.parent(path)?;
    let _writable = writable(&parent);
    dir.env().check_fault("rmdir", &dir.show(path))?;
    Ok(rustix::fs::unlinkat(&parent, path.name(), AtFlags::REMOVEDIR)?)
}
