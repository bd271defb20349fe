//! Cleans up what interrupted syncs have left in a mount.

use std::io;
use std::os::fd::OwnedFd;

use policy_core::{MAX_NAME, TreePath, cut_at_char, escape};
use rustix::fs::{AtFlags, FileType, FlockOperation};
use rustix::io::Errno;

use super::mount_dir::{MountDir, open_dir, open_file_at, stat_at};
use super::staged::{
    DIR, IGNORED, InstallError, MARKER, RESUMABLE, SHELF, is_disposable, is_staging, mark, mark_anew,
    move_over, names, remove_tree,
};
use crate::monitor::Monitor;

/// The prefix of a file that is kept for the user.
const RESCUED: &str = "ctxsync-recovered-";
/// How many names are tried for such a file.
const RESCUE_NAMES: u32 = 1000;

/// What interrupted syncs had left.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Names in the mount's root under which files are kept that the user may have been editing.
    pub(crate) rescued: Vec<String>,
    /// Staging directories that have only resumable files left.
    pub(crate) left: Vec<Vec<u8>>,
}

impl Recovered {
    /// Warns of the files that were kept for the user.
    pub(crate) fn tell(&self, monitor: &dyn Monitor) {
        for name in &self.rescued {
            monitor.warning(&rescued_warning(name));
        }
    }
}

/// Removes what interrupted syncs left in the mount. A file that a user may have edited just when the crash
/// came is not deleted, but moved to the mount's root.
pub(crate) fn recover(mount: &MountDir, keep_resumable: bool) -> io::Result<Recovered> {
    let mut recovered = Recovered::default();
    for name in names(mount.root())? {
        if is_staging(mount.root(), &name) && !is_in_use(mount.root(), &name) {
            recovered.rescued.extend(clear(mount.root(), &name, keep_resumable)?);
            if stat_at(mount.root(), &name)?.is_some() {
                recovered.left.push(name);
            }
        }
    }
    Ok(recovered)
}

/// Removes what interrupted syncs left on file systems that begin at the paths `places` below the mount.
/// Returns warnings for the user.
pub(crate) fn recover_below(mount: &MountDir, places: &[TreePath]) -> Vec<String> {
    let mut warnings = Vec::new();
    for place in places {
        // A mount point may also be a file.
        let Ok(below) = mount.dir(place).map(|below| mount.inside(below, mount.show(place))) else {
            continue;
        };
        match recover(&below, false) {
            Ok(found) => {
                warnings.extend(found.rescued.iter().map(|name| rescued_warning(&format!("{place}/{name}"))));
            }
            Err(e) => {
                warnings.push(format!("what an interrupted sync left at `{place}` cannot be removed: {e}"))
            }
        }
    }
    warnings
}

pub(super) fn rescued_warning(name: &str) -> String {
    format!("an interrupted sync had moved a file aside that was being edited; it is kept as `{name}`")
}

/// Whether a process uses a staging directory. The mount's lock does not tell: a restore does not hold it, nor does a sync
/// with another state.
fn is_in_use(root: &OwnedFd, name: &[u8]) -> bool {
    let marker = open_dir(root, name).and_then(|dir| open_file_at(dir, MARKER.as_bytes()));
    marker.is_ok_and(|(marker, _)| {
        rustix::fs::flock(marker, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    })
}

/// Removes a staging directory, and returns the names of the files that were kept. The marker goes last:
/// without it, the directory would count as the user's.
pub(super) fn clear(root: &OwnedFd, name: &[u8], keep_resumable: bool) -> io::Result<Vec<String>> {
    let mut rescued = Vec::new();
    let mut keeps = false;
    let dir = open_dir(root, name)?;
    // On a full disk, nothing is kept.
    let keep_resumable = mark_anew(&dir).is_ok() && keep_resumable;
    for file in names(&dir)? {
        let Some(stat) = stat_at(&dir, &file)? else { continue };
        if [MARKER, IGNORED].map(str::as_bytes).contains(&&*file) {
            continue;
        }
        let text = String::from_utf8_lossy(&file);
        // Nothing is in it if it has no blocks. Any other is kept: a slow connection may have brought no more.
        if keep_resumable && text.starts_with(RESUMABLE) && stat.st_blocks > 0 {
            keeps = true;
            continue;
        }
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_dir && (text.starts_with(DIR) || text.starts_with(SHELF) || is_disposable(&text, &stat)) {
            remove_tree(&dir, &file)?;
            continue;
        }
        if !is_dir && is_disposable(&text, &stat) {
            rustix::fs::unlinkat(&dir, &*file, AtFlags::empty())?;
            continue;
        }
        rescued.push(rescue(&dir, &file, root)?);
    }
    if keeps {
        return Ok(rescued);
    }
    for last in [IGNORED, MARKER] {
        match rustix::fs::unlinkat(&dir, last, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
    }
    match rustix::fs::unlinkat(root, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(rescued),
        // Another process is still writing here. Without a marker, the directory would count as the user's.
        Err(Errno::NOTEMPTY | Errno::EXIST) => {
            mark(&dir)?;
            Ok(rescued)
        }
        Err(e) => Err(e.into()),
    }
}

/// Moves a file to the mount's root, under a free name.
fn rescue(dir: &OwnedFd, file: &[u8], root: &OwnedFd) -> io::Result<String> {
    for number in 1..=RESCUE_NAMES {
        let number = if number > 1 { format!("-{number}") } else { String::new() };
        let room = MAX_NAME - RESCUED.len() - number.len();
        let name = [RESCUED.as_bytes(), cut_at_char(file, room), number.as_bytes()].concat();
        match move_over(dir, file, root, &name) {
            Ok(()) => return Ok(escape(&name)),
            Err(InstallError::Changed) => {}
            Err(InstallError::Io(e)) => return Err(e),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        "every name for what an interrupted sync moved aside is taken",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::local::Staging;

    #[test]
    fn what_somebody_works_in_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mount = MountDir::open(dir.path(), &Env::real()).unwrap();
        let staging = Staging::create(&mount).unwrap();
        recover(&mount, true).unwrap();
        assert_eq!(names(mount.root()).unwrap().len(), 1);
        // As if the process had been killed.
        drop(staging);
        recover(&mount, true).unwrap();
        assert!(names(mount.root()).unwrap().is_empty());
    }
}
