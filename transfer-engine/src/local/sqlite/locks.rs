//! Locks of byte ranges that belong to an open file description. Unlike the locks of a process, they are not
//! dropped when another descriptor of the file is closed.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// A range of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    start: libc::off_t,
    len: libc::off_t,
}

/// A writer locks it before it writes the database, so that no new readers start.
pub(super) const PENDING: Range = Range { start: 0x4000_0000, len: 1 };
/// A writer locks it during a transaction, while it writes the journal.
pub(super) const RESERVED: Range = Range { start: 0x4000_0001, len: 1 };
/// Readers share it; a writer locks it exclusively while it writes the database.
pub(super) const SHARED: Range = Range { start: 0x4000_0002, len: 510 };
/// A checkpoint locks it while it copies the log into the database. It is a byte of the log's index.
pub(super) const CHECKPOINT: Range = Range { start: 121, len: 1 };

/// Locks a range for reading; false if a writer has locked it.
pub(super) fn share(file: &File, range: Range) -> io::Result<bool> {
    set(file, range, READ)
}

pub(super) fn free(file: &File, range: Range) -> io::Result<()> {
    set(file, range, UNLOCK).map(drop)
}

fn set(file: &File, range: Range, kind: libc::c_short) -> io::Result<bool> {
    let lock = lock(range, kind);
    let set = match of_description::set(file, &lock) {
        Err(e) if is_unknown(e) => fcntl(file, FcntlArg::F_SETLK(&lock)),
        set => set,
    };
    match set {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Whether a writer has locked the range.
pub(super) fn is_taken(file: &File, range: Range) -> io::Result<bool> {
    let mut lock = lock(range, READ);
    match of_description::get(file, &mut lock) {
        Err(e) if is_unknown(e) => fcntl(file, FcntlArg::F_GETLK(&mut lock))?,
        got => got?,
    };
    Ok(lock.l_type != UNLOCK)
}

/// Whether such locks are not supported, as in some sandboxes. Locks of the process have to do then; usually
/// nothing else in this process has the file open.
fn is_unknown(e: Errno) -> bool {
    matches!(e, Errno::EINVAL | Errno::ENOSYS)
}

// Their type differs between systems.
const READ: libc::c_short = libc::F_RDLCK as libc::c_short;
const UNLOCK: libc::c_short = libc::F_UNLCK as libc::c_short;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod of_description {
    use super::*;

    pub(super) fn set(file: &File, lock: &libc::flock) -> nix::Result<i32> {
        fcntl(file, FcntlArg::F_OFD_SETLK(lock))
    }

    pub(super) fn get(file: &File, lock: &mut libc::flock) -> nix::Result<i32> {
        fcntl(file, FcntlArg::F_OFD_GETLK(lock))
    }
}

/// macOS has them since 10.15, but the library does not offer them there.
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
mod of_description {
    use super::*;

    pub(super) fn set(_: &File, _: &libc::flock) -> nix::Result<i32> {
        Err(Errno::ENOSYS)
    }

    pub(super) fn get(_: &File, _: &mut libc::flock) -> nix::Result<i32> {
        Err(Errno::ENOSYS)
    }
}

fn lock(range: Range, kind: libc::c_short) -> libc::flock {
    libc::flock {
        l_type: kind,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: range.start,
        l_len: range.len,
        l_pid: 0,
    }
}
