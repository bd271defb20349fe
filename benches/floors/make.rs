//! Creating directories and files.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT};

use crate::compute::with_threads;
use crate::share::share;
use crate::tree::{Directory, Tree, open};
use crate::{Floor, Result, flush, rounds};

const NEW: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::CLOEXEC);
/// The mode and time that a file gets when it is put in place.
const MODE: u32 = 0o644;
const MTIME: i64 = 1_700_000_000;

pub(crate) fn measure(work: &Path, tree: &Tree, count: u32, floors: &mut Vec<Floor>) -> Result<()> {
    let size = tree.size();
    let dirs = tree.dirs.len() as u64;
    rounds(floors, "mkdir of all directories", (dirs, 0), count, |round| {
        let root = work.join(format!("dirs-{round}"));
        flush(work)?;
        make_dirs(&root, tree)
    })?;
    for threads in [1, 2] {
        let name = with_threads("create: open, write, close in place", threads);
        let mut synced = Vec::new();
        rounds(floors, &name, size, count, |round| {
            let root = work.join(format!("create-{threads}-{round}"));
            make_dirs(&root, tree)?;
            flush(work)?;
            let made = share(&tree.dirs, threads, || (), |(), dir| create(&root, dir))?;
            synced.push(made + timed(|| flush(work))?);
            Ok(made)
        })?;
        floors.push(Floor {
            name: format!("{name}, then one syncfs"),
            files: size.0,
            bytes: size.1,
            rounds: synced,
        });
    }
    for threads in [1, 2] {
        let name = with_threads("apply: create in staging, mode and time, one syncfs, rename, stat", threads);
        rounds(floors, &name, size, count, |round| {
            let root = work.join(format!("apply-{threads}-{round}"));
            make_dirs(&root, tree)?;
            flush(work)?;
            apply(&root, tree, threads)
        })?;
    }
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn make_dirs(root: &Path, tree: &Tree) -> Result<Duration> {
    std::fs::create_dir(root)?;
    let handle = open(root, "".as_ref())?;
    timed(|| {
        for dir in tree.dirs.iter().filter(|dir| dir.path != Path::new("")) {
            rustix::fs::mkdirat(&handle, &dir.path, Mode::from_raw_mode(0o755))?;
        }
        Ok(())
    })
}

fn create(root: &Path, dir: &Directory) -> io::Result<()> {
    let handle = open(root, &dir.path)?;
    dir.files.iter().try_for_each(|(name, bytes)| write(&handle, name, bytes).map(drop))
}

fn write(dir: &OwnedFd, name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::openat(dir, name, NEW, Mode::from_raw_mode(0o600))?;
    let mut left = bytes;
    while !left.is_empty() {
        left = &left[rustix::io::write(&file, left)?..];
    }
    Ok(file)
}

/// A file in staging, and its target.
struct Staged<'t> {
    name: String,
    dir: &'t Directory,
}

fn apply(root: &Path, tree: &Tree, threads: usize) -> Result<Duration> {
    let start = Instant::now();
    let staging = staging(root)?;
    let next = AtomicU64::new(0);
    let staged: Vec<Staged<'_>> = tree
        .dirs
        .iter()
        .map(|dir| Staged {
            name: format!("n-{:x}", next.fetch_add(dir.files.len() as u64, Ordering::Relaxed)),
            dir,
        })
        .collect();
    share(
        &staged,
        threads,
        || (),
        |(), Staged { name, dir }| {
            for (n, (_, bytes)) in dir.files.iter().enumerate() {
                let name = std::ffi::CString::new(format!("{name}-{n:x}"))?;
                let file = write(&staging, &name, bytes)?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(MODE))?;
                rustix::fs::futimens(
                    &file,
                    &Timestamps {
                        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
                        last_modification: Timespec { tv_sec: MTIME, tv_nsec: 0 },
                    },
                )?;
            }
            Ok(())
        },
    )?;
    rustix::fs::syncfs(&staging)?;
    share(
        &staged,
        threads,
        || (),
        |(), Staged { name: from, dir }| {
            let handle = open(root, &dir.path)?;
            for (n, (name, _)) in dir.files.iter().enumerate() {
                let from = format!("{from}-{n:x}");
                rustix::fs::renameat_with(&staging, from, &handle, &**name, RenameFlags::NOREPLACE)?;
                rustix::fs::statat(&handle, &**name, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Ok(())
        },
    )?;
    Ok(start.elapsed())
}

fn staging(root: &Path) -> io::Result<OwnedFd> {
    let path = PathBuf::from(".staging");
    std::fs::create_dir(root.join(&path))?;
    open(root, &path)
}
