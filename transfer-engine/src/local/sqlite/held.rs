//! Database files that stay open because something else in this process has them open. Closing any descriptor
//! of a file drops all locks that the process has on it, so SQLite in this process would lose its own.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat, fstat, statat};

use super::super::mount_dir::{open_file_at, stat_at};
use crate::local::os;

/// The files that are kept open and not being read.
static HELD: Mutex<Vec<(Id, File)>> = Mutex::new(Vec::new());

/// Device and inode of a file.
type Id = (u64, u64);

fn held() -> MutexGuard<'static, Vec<(Id, File)>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn id(stat: &Stat) -> Id {
    (os::device_of(stat), stat.st_ino)
}

fn find(dir: &OwnedFd, name: &[u8], held: &[(Id, File)]) -> Option<usize> {
    if held.is_empty() {
        return None;
    }
    let wanted = id(&stat_at(dir, name).ok()??);
    held.iter().position(|(id, _)| *id == wanted)
}

/// Whether the file `name` in `dir` is kept open; it must not be opened again.
pub(crate) fn is_held(dir: &OwnedFd, name: &[u8]) -> bool {
    find(dir, name, &held()).is_some()
}

/// Opens a file for reading, or takes the one that was kept open.
pub(super) fn open(dir: &OwnedFd, name: &[u8]) -> io::Result<File> {
    let mut held = held();
    match find(dir, name, &held) {
        Some(at) => Ok(held.swap_remove(at).1),
        None => open_file_at(dir, name).map(|(file, _)| file),
    }
}

/// Closes a file, as soon as nothing else in this process has it open.
pub(crate) fn let_go(file: File) {
    let Ok(stat) = fstat(&file) else { return };
    let mut held = held();
    held.push((id(&stat), file));
    // Without the list this can't be known, and the number of open files would only grow.
    let Ok(open) = open_files() else { return held.clear() };
    held.retain(|(wanted, _)| open.iter().filter(|id| *id == wanted).count() > 1);
}

/// Lists the files that this process has open.
fn open_files() -> io::Result<Vec<Id>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(os::NAMES_OF_OPEN, flags, Mode::empty())?;
    let mut open = Vec::new();
    for entry in Dir::read_from(&dir)? {
        // A file that is closed meanwhile is not open.
        if let Ok(stat) = statat(&dir, entry?.file_name(), AtFlags::empty()) {
            open.push(id(&stat));
        }
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stays_open_as_long_as_somebody_else_has_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        std::fs::write(&path, "x").unwrap();
        let parent: OwnedFd = File::open(dir.path()).unwrap().into();
        let other = File::open(&path).unwrap();
        let_go(open(&parent, b"db").unwrap());
        assert!(is_held(&parent, b"db"));
        let file = open(&parent, b"db").unwrap();
        assert!(!is_held(&parent, b"db"));
        drop(other);
        let_go(file);
        assert!(!is_held(&parent, b"db"));
    }
}
