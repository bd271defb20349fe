//! Walks of the tree.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::fs::{AtFlags, Dir, FileType, Mode, StatxFlags};

use crate::share::on_threads;
use crate::tree::{DIRECTORY, open};
use crate::{Floor, Result, rounds};

pub(crate) fn measure(root: &Path, count: u32, floors: &mut Vec<Floor>) -> Result<()> {
    let entries = walk(root, false, 1)?;
    for (name, statx, threads) in [
        ("walk: names", false, 1),
        ("walk: names, 2 threads", false, 2),
        ("walk: names and statx", true, 1),
        ("walk: names and statx, 2 threads", true, 2),
    ] {
        rounds(floors, name, (entries, 0), count, |_| {
            let start = Instant::now();
            walk(root, statx, threads)?;
            Ok(start.elapsed())
        })?;
    }
    Ok(())
}

/// Directories that wait for a thread.
#[derive(Default)]
struct Waiting {
    dirs: Vec<(Arc<OwnedFd>, CString)>,
    /// Directories that are waiting or being listed.
    open: usize,
}

/// Walks a tree, and returns the number of its entries.
fn walk(root: &Path, statx: bool, threads: usize) -> Result<u64> {
    let waiting = Mutex::new(Waiting { dirs: Vec::new(), open: 1 });
    let wake = Condvar::new();
    let root = open(root, "".as_ref())?;
    let first = Mutex::new(Some(root));
    let one = || -> io::Result<u64> {
        let mut entries = 0;
        if let Some(root) = lock(&first).take() {
            entries += list(root, statx, &waiting, &wake)?;
        }
        while let Some((parent, name)) = next(&waiting, &wake) {
            let dir = rustix::fs::openat(&parent, &*name, DIRECTORY, Mode::empty())?;
            drop(parent);
            entries += list(dir, statx, &waiting, &wake)?;
        }
        Ok(entries)
    };
    let entries = on_threads(threads, || {
        one().inspect_err(|_| {
            // The other threads must not wait for directories that will never be listed.
            lock(&waiting).open = 0;
            wake.notify_all();
        })
    })?;
    Ok(entries.into_iter().sum())
}

/// Waits for a directory to list; `None` when all are listed.
fn next(waiting: &Mutex<Waiting>, wake: &Condvar) -> Option<(Arc<OwnedFd>, CString)> {
    let mut now = lock(waiting);
    loop {
        if now.open == 0 {
            return None;
        }
        match now.dirs.pop() {
            Some(dir) => return Some(dir),
            None => now = wake.wait(now).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

fn list(dir: OwnedFd, statx: bool, waiting: &Mutex<Waiting>, wake: &Condvar) -> io::Result<u64> {
    let dir = Arc::new(dir);
    let mut entries = 0;
    let mut below = Vec::new();
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        entries += 1;
        if statx {
            let mask = StatxFlags::BASIC_STATS;
            rustix::fs::statx(&dir, name, AtFlags::SYMLINK_NOFOLLOW, mask)?;
        }
        if entry.file_type() == FileType::Directory {
            below.push((Arc::clone(&dir), name.to_owned()));
        }
    }
    let mut now = lock(waiting);
    now.open = (now.open + below.len()).saturating_sub(1);
    now.dirs.append(&mut below);
    drop(now);
    wake.notify_all();
    Ok(entries)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
