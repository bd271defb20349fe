//! System calls: what they are called, what they are about, and whether they change something.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::libc::{self, c_long, user_regs_struct};
use nix::unistd::Pid;

/// The begin of a system call.
#[derive(Debug)]
pub struct Call {
    thread: Pid,
    kind: Option<&'static Kind>,
    arguments: [u64; 6],
}

/// A system call that has to do with files or sockets, or that asks for what may be refused.
#[derive(Debug)]
struct Kind {
    number: c_long,
    name: &'static str,
    objects: &'static [Object],
    changes: Changes,
}

/// Which arguments say what a call is about.
#[derive(Debug, Clone, Copy)]
enum Object {
    /// A path.
    Path(usize),
    /// A directory's descriptor, and a path below it.
    At(usize, usize),
    /// A descriptor.
    Open(usize),
}

/// Whether a call changes something that outlives the process.
#[derive(Debug, Clone, Copy)]
enum Changes {
    Never,
    Always,
    /// Flags in this argument create or truncate a file.
    ByFlags(usize),
    /// The same flags where this argument points.
    ByFlagsAt(usize),
    /// If the descriptor is a file or a socket: pipes and events are the process's own.
    IfLasting,
}

use Changes::{Always, ByFlags, ByFlagsAt, IfLasting, Never};
use Object::{At, Open, Path as Named};

const fn kind(number: c_long, name: &'static str, objects: &'static [Object], changes: Changes) -> Kind {
    Kind { number, name, objects, changes }
}

static KINDS: &[Kind] = &[
    kind(libc::SYS_open, "open", &[Named(0)], ByFlags(1)),
    kind(libc::SYS_openat, "openat", &[At(0, 1)], ByFlags(2)),
    kind(libc::SYS_openat2, "openat2", &[At(0, 1)], ByFlagsAt(2)),
    kind(libc::SYS_creat, "creat", &[Named(0)], Always),
    kind(libc::SYS_read, "read", &[Open(0)], Never),
    kind(libc::SYS_readv, "readv", &[Open(0)], Never),
    kind(libc::SYS_pread64, "pread64", &[Open(0)], Never),
    kind(libc::SYS_lseek, "lseek", &[Open(0)], Never),
    kind(libc::SYS_getdents64, "getdents64", &[Open(0)], Never),
    kind(libc::SYS_stat, "stat", &[Named(0)], Never),
    kind(libc::SYS_lstat, "lstat", &[Named(0)], Never),
    kind(libc::SYS_fstat, "fstat", &[Open(0)], Never),
    kind(libc::SYS_newfstatat, "newfstatat", &[At(0, 1)], Never),
    kind(libc::SYS_statx, "statx", &[At(0, 1)], Never),
    kind(libc::SYS_statfs, "statfs", &[Named(0)], Never),
    kind(libc::SYS_fstatfs, "fstatfs", &[Open(0)], Never),
    kind(libc::SYS_access, "access", &[Named(0)], Never),
    kind(libc::SYS_faccessat, "faccessat", &[At(0, 1)], Never),
    kind(libc::SYS_faccessat2, "faccessat2", &[At(0, 1)], Never),
    kind(libc::SYS_readlink, "readlink", &[Named(0)], Never),
    kind(libc::SYS_readlinkat, "readlinkat", &[At(0, 1)], Never),
    kind(libc::SYS_flock, "flock", &[Open(0)], Never),
    kind(libc::SYS_fcntl, "fcntl", &[Open(0)], Never),
    kind(libc::SYS_inotify_add_watch, "inotify_add_watch", &[Named(1)], Never),
    kind(libc::SYS_write, "write", &[Open(0)], IfLasting),
    kind(libc::SYS_writev, "writev", &[Open(0)], IfLasting),
    kind(libc::SYS_pwrite64, "pwrite64", &[Open(0)], IfLasting),
    kind(libc::SYS_pwritev, "pwritev", &[Open(0)], IfLasting),
    kind(libc::SYS_sendto, "sendto", &[Open(0)], IfLasting),
    kind(libc::SYS_sendmsg, "sendmsg", &[Open(0)], IfLasting),
    kind(libc::SYS_sendfile, "sendfile", &[Open(0)], IfLasting),
    kind(libc::SYS_splice, "splice", &[Open(2)], IfLasting),
    kind(libc::SYS_copy_file_range, "copy_file_range", &[Open(2)], IfLasting),
    kind(libc::SYS_ioctl, "ioctl", &[Open(0)], IfLasting),
    kind(libc::SYS_fsync, "fsync", &[Open(0)], Always),
    kind(libc::SYS_fdatasync, "fdatasync", &[Open(0)], Always),
    kind(libc::SYS_syncfs, "syncfs", &[Open(0)], Always),
    kind(libc::SYS_ftruncate, "ftruncate", &[Open(0)], Always),
    kind(libc::SYS_truncate, "truncate", &[Named(0)], Always),
    kind(libc::SYS_fallocate, "fallocate", &[Open(0)], Always),
    kind(libc::SYS_rename, "rename", &[Named(0), Named(1)], Always),
    kind(libc::SYS_renameat, "renameat", &[At(0, 1), At(2, 3)], Always),
    kind(libc::SYS_renameat2, "renameat2", &[At(0, 1), At(2, 3)], Always),
    kind(libc::SYS_link, "link", &[Named(0), Named(1)], Always),
    kind(libc::SYS_linkat, "linkat", &[At(0, 1), At(2, 3)], Always),
    kind(libc::SYS_symlink, "symlink", &[Named(1)], Always),
    kind(libc::SYS_symlinkat, "symlinkat", &[At(1, 2)], Always),
    kind(libc::SYS_unlink, "unlink", &[Named(0)], Always),
    kind(libc::SYS_unlinkat, "unlinkat", &[At(0, 1)], Always),
    kind(libc::SYS_rmdir, "rmdir", &[Named(0)], Always),
    kind(libc::SYS_mkdir, "mkdir", &[Named(0)], Always),
    kind(libc::SYS_mkdirat, "mkdirat", &[At(0, 1)], Always),
    kind(libc::SYS_mknodat, "mknodat", &[At(0, 1)], Always),
    kind(libc::SYS_chmod, "chmod", &[Named(0)], Always),
    kind(libc::SYS_fchmod, "fchmod", &[Open(0)], Always),
    kind(libc::SYS_fchmodat, "fchmodat", &[At(0, 1)], Always),
    kind(libc::SYS_chown, "chown", &[Named(0)], Always),
    kind(libc::SYS_lchown, "lchown", &[Named(0)], Always),
    kind(libc::SYS_fchown, "fchown", &[Open(0)], Always),
    kind(libc::SYS_fchownat, "fchownat", &[At(0, 1)], Always),
    kind(libc::SYS_utimensat, "utimensat", &[At(0, 1)], Always),
    kind(libc::SYS_setxattr, "setxattr", &[Named(0)], Always),
    kind(libc::SYS_fsetxattr, "fsetxattr", &[Open(0)], Always),
    kind(libc::SYS_bind, "bind", &[], Always),
    kind(libc::SYS_clone, "clone", &[], Never),
    kind(libc::SYS_clone3, "clone3", &[], Never),
    kind(libc::SYS_vfork, "vfork", &[], Never),
    kind(libc::SYS_getrandom, "getrandom", &[], Never),
    kind(libc::SYS_socket, "socket", &[], Never),
    kind(libc::SYS_socketpair, "socketpair", &[], Never),
    kind(libc::SYS_pipe2, "pipe2", &[], Never),
    kind(libc::SYS_eventfd2, "eventfd2", &[], Never),
    kind(libc::SYS_epoll_create1, "epoll_create1", &[], Never),
    kind(libc::SYS_inotify_init1, "inotify_init1", &[], Never),
];

impl Call {
    pub(super) fn new(thread: Pid, registers: &user_regs_struct) -> Self {
        let kind = KINDS.iter().find(|kind| kind.number.cast_unsigned() == registers.orig_rax);
        let r = registers;
        Self { thread, kind, arguments: [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] }
    }

    /// The name of the call; empty if it is none that the tests have to do with.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind.map_or("", |kind| kind.name)
    }

    /// Whether the call changes something that outlives the process.
    #[must_use]
    pub fn changes(&self) -> bool {
        let creates = |flags: u64| flags & (libc::O_CREAT | libc::O_TRUNC) as u64 != 0;
        self.kind.is_some_and(|kind| match kind.changes {
            Never => false,
            Always => true,
            ByFlags(at) => creates(self.arguments[at]),
            ByFlagsAt(at) => self.memory(self.arguments[at], 8).is_some_and(|bytes| {
                bytes.try_into().is_ok_and(|bytes: [u8; 8]| creates(u64::from_le_bytes(bytes)))
            }),
            IfLasting => self.objects().iter().any(|object| {
                let object = object.to_string_lossy();
                object.starts_with("socket:") || object.starts_with('/') && !object.starts_with("/dev/pts")
            }),
        })
    }

    /// Returns the paths that the call is about, the last one being what it changes. A descriptor of something
    /// without a path gives what `/proc` calls it, such as `socket:[1]`.
    #[must_use]
    pub fn objects(&self) -> Vec<PathBuf> {
        let objects = self.kind.map_or(&[][..], |kind| kind.objects);
        objects.iter().filter_map(|object| self.object(*object)).collect()
    }

    fn object(&self, object: Object) -> Option<PathBuf> {
        match object {
            Named(path) => self.below("cwd", path),
            Open(descriptor) => self.opened(descriptor),
            At(dir, path) if self.arguments[dir] as i32 == libc::AT_FDCWD => self.below("cwd", path),
            At(dir, path) if self.arguments[path] == 0 => self.opened(dir),
            At(dir, path) => self.below(&format!("fd/{}", self.arguments[dir] as i32), path),
        }
    }

    fn opened(&self, descriptor: usize) -> Option<PathBuf> {
        self.link(&format!("fd/{}", self.arguments[descriptor] as i32))
    }

    fn link(&self, name: &str) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/{name}", self.thread)).ok()
    }

    /// Returns the path in an argument, below the directory that a link in `/proc` leads to.
    fn below(&self, dir: &str, path: usize) -> Option<PathBuf> {
        let bytes = self.memory(self.arguments[path], libc::PATH_MAX as usize)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let path = PathBuf::from(OsString::from_vec(bytes[..end].to_vec()));
        if path.is_absolute() { Some(path) } else { Some(self.link(dir)?.join(path)) }
    }

    /// Reads the memory of the process; less where it ends.
    fn memory(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let memory = File::open(format!("/proc/{}/mem", self.thread)).ok()?;
        let mut bytes = vec![0; length];
        // Up to the end of the page first: what comes after it may not be there.
        let first = length.min(4096 - (address % 4096) as usize);
        memory.read_exact_at(&mut bytes[..first], address).ok()?;
        let more =
            if first < length { memory.read_at(&mut bytes[first..], address + first as u64) } else { Ok(0) };
        bytes.truncate(first + more.unwrap_or(0));
        Some(bytes)
    }

    /// Returns the call and its last object, as part of a short list: relative to `root`, with `*` for
    /// numbers and random names.
    #[must_use]
    pub fn site(&self, root: &Path) -> String {
        let object = self.objects().pop().unwrap_or_default();
        let object = object.strip_prefix(root).unwrap_or(&object).to_string_lossy().into_owned();
        format!("{} {}", self.name(), without_numbers(&object))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())?;
        self.objects().iter().try_for_each(|object| write!(f, " {}", object.display()))
    }
}

/// Replaces each run of hexadecimal digits that is long or has a decimal one by `*`.
#[must_use]
pub fn without_numbers(text: &str) -> String {
    let (mut short, mut run) = (String::new(), String::new());
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_hexdigit() {
            run.push(c);
            continue;
        }
        let is_number = run.len() >= 8 || run.chars().any(|c| c.is_ascii_digit());
        short += if is_number { "*" } else { &run };
        run.clear();
        short.push(c);
    }
    short.pop();
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_left_out() {
        assert_eq!(without_numbers("store/packs/b96cbba3b571#1"), "store/packs/*#*");
        assert_eq!(without_numbers("mount/d12/face/fffffffffffffffe"), "mount/*/face/*");
    }
}
