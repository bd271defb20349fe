//! Writes members as files, one at a time, each below the handle of its directory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use policy_core::{Timestamp, TreePath, escape};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};

use super::ExtractError;
use super::budget::Budget;
use super::folders::{Folders, local};
use super::seen::{Seen, What};
use super::trouble::Trouble;
use super::{Extracted, Extraction, links, name};
use crate::count::count;
use crate::local::os;
use crate::local::{open_file_at, read_link_at, stat_at};

const BUFFER: usize = 128 << 10;
/// The most bytes of directory names that are kept until the end, when directories get their modes and times.
const FOLDER_NAMES: usize = 16 << 20;
/// The most members left out, and the most warnings, that are listed.
const NAMED: usize = 1000;
const PERMISSIONS: u32 = 0o777;
const SPECIAL: u32 = 0o7000;

/// A member's header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'m> {
    /// The name, decoded, as it is in the archive.
    pub(super) name: &'m [u8],
    /// Permission bits, possibly with other bits; `None` if the archive has none.
    pub(super) mode: Option<u32>,
    pub(super) mtime: Option<Timestamp>,
}

/// A directory's mode and time, which can be set only after everything in it is written.
struct Later {
    path: TreePath,
    mode: Option<u32>,
    mtime: Option<Timestamp>,
}

/// Writes members below the target directory.
pub(super) struct Placer<'a> {
    job: &'a Extraction<'a>,
    trouble: &'a Trouble,
    budget: Budget<'a>,
    seen: Seen,
    folders: Folders<'a>,
    later: Vec<Later>,
    later_names: usize,
    count: u64,
    has_links: bool,
    stripped: u64,
    buffer: Vec<u8>,
    extracted: Extracted,
}

impl<'a> Placer<'a> {
    /// Starts with an archive of `size` bytes.
    pub(super) fn new(job: &'a Extraction<'a>, trouble: &'a Trouble, size: u64) -> Self {
        Self {
            job,
            trouble,
            budget: Budget::of_members(job.limits, size),
            seen: Seen::default(),
            folders: Folders::new(job),
            later: Vec::new(),
            later_names: 0,
            count: 0,
            has_links: false,
            stripped: 0,
            buffer: vec![0; BUFFER],
            extracted: Extracted::default(),
        }
    }

    /// Fails if this many more members, with this many bytes in all, would exceed the limits.
    pub(super) fn would_fit(&self, members: u64, bytes: u64) -> Result<(), ExtractError> {
        if self.count.saturating_add(members) > self.job.limits.members {
            return Err(ExtractError::Limit {
                what: "more members than are allowed",
                limit: self.job.limits.members,
            });
        }
        self.budget.would_fit(bytes)
    }

    /// Adds a warning; the archive is extracted nevertheless.
    pub(super) fn warn(&mut self, warning: String) {
        if self.extracted.warnings.len() < NAMED {
            self.extracted.warnings.push(warning);
        }
    }

    /// Counts a member, and returns its path and whether it takes part.
    fn begin(&mut self, member: &Member<'_>, what: What) -> Result<(TreePath, bool), ExtractError> {
        if (self.job.stop)() {
            return Err(ExtractError::Stopped);
        }
        self.would_fit(1, 0)?;
        self.count += 1;
        let path = name::parse(member.name, self.job.limits)?;
        if path.is_root() {
            if what != What::Dir {
                return Err(ExtractError::hostile(member.name, "would take the place of the folder itself"));
            }
            return Ok((path, false));
        }
        self.claim(&path, what)?;
        let wanted = (self.job.keep)(&path, what == What::Dir);
        if wanted {
            self.extracted.members += 1;
            self.extracted.leaves += u64::from(what != What::Dir);
        } else {
            self.leave_out(path.clone());
        }
        Ok((path, wanted))
    }

    fn leave_out(&mut self, path: TreePath) {
        self.extracted.left_out_total += 1;
        if self.extracted.left_out.len() < NAMED {
            self.extracted.left_out.push(path);
        }
    }

    /// Notes a member's name. Only a directory may occur twice, which does not change what is in it.
    fn claim(&mut self, path: &TreePath, what: What) -> Result<(), ExtractError> {
        let bytes = path.as_bytes();
        for (end, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'/') {
            let above = &bytes[..end];
            if self.seen.has(above, What::Dir) {
                continue;
            }
            if self.seen.has(above, What::Link) {
                return Err(ExtractError::hostile(
                    bytes,
                    format!("is written through the link `{}`", escape(above)),
                ));
            }
            if self.seen.has(above, What::File) {
                return Err(ExtractError::hostile(bytes, format!("lies below the file `{}`", escape(above))));
            }
            self.seen.note(above, What::Dir);
        }
        let other =
            [What::Dir, What::File, What::Link].into_iter().find(|other| self.seen.has(bytes, *other));
        match other {
            Some(What::Dir) if what == What::Dir => {}
            Some(other) if other == what => return Err(ExtractError::hostile(bytes, "is in it twice")),
            Some(_) => return Err(ExtractError::hostile(bytes, "is in it as two different things")),
            None => _ = self.seen.note(bytes, what),
        }
        Ok(())
    }

    /// Creates a directory. Its mode and time are set at the end.
    pub(super) fn dir(&mut self, member: &Member<'_>) -> Result<(), ExtractError> {
        let (path, wanted) = self.begin(member, What::Dir)?;
        if !wanted {
            return Ok(());
        }
        self.folders.open(&path)?;
        self.later_names += path.as_bytes().len() + size_of::<Later>();
        if self.later_names > FOLDER_NAMES {
            return Err(ExtractError::Limit {
                what: "more names of folders, in bytes, than are kept in memory",
                limit: FOLDER_NAMES as u64,
            });
        }
        let mode = member.mode.map(|mode| self.strip(mode));
        self.later.push(Later { path, mode, mtime: member.mtime });
        Ok(())
    }

    /// Writes a file of exactly `size` bytes from `content`, which must end there.
    pub(super) fn file(
        &mut self,
        member: &Member<'_>,
        size: Option<u64>,
        content: &mut dyn Read,
    ) -> Result<(), ExtractError> {
        let (path, wanted) = self.begin(member, What::File)?;
        self.budget.would_fit(size.unwrap_or(0))?;
        let mut file = if wanted { Some(self.create(&path)?) } else { None };
        let count = self.copy(&path, content, file.as_mut(), size)?;
        if size.is_some_and(|size| size != count) {
            let (path, size) = (escape(member.name), size.unwrap_or(0));
            return Err(ExtractError::damaged(format!("`{path}` has {count} bytes where {size} are said")));
        }
        if let Some(file) = file {
            let mode = self.strip(member.mode.unwrap_or(0o644));
            self.seal(&path, &file, mode, member.mtime)?;
        }
        Ok(())
    }

    /// Creates a symbolic link. Whether it leads outside is checked when all links exist.
    pub(super) fn symlink(&mut self, member: &Member<'_>, target: &[u8]) -> Result<(), ExtractError> {
        let (path, wanted) = self.begin(member, What::Link)?;
        links::check_target(&path, target)?;
        if wanted { self.make_link(&path, target, member.mtime) } else { links::check_alone(&path, target) }
    }

    /// Extracts a hard link to an earlier member as a separate file with the same content. Otherwise a later
    /// edit of one would also change the other, and a sync could not tell them apart.
    pub(super) fn hard_link(&mut self, member: &Member<'_>, target: &[u8]) -> Result<(), ExtractError> {
        let to = name::parse(target, self.job.limits).map_err(|e| match e {
            ExtractError::Hostile { what, .. } => {
                ExtractError::hostile(member.name, format!("is a link to `{}`, which {what}", escape(target)))
            }
            other => other,
        })?;
        let is_link = self.seen.has(to.as_bytes(), What::Link);
        if !is_link && !self.seen.has(to.as_bytes(), What::File) {
            return Err(ExtractError::damaged(format!(
                "`{}` is a link to `{}`, which is no earlier member",
                escape(member.name),
                escape(target)
            )));
        }
        let (path, wanted) = self.begin(member, if is_link { What::Link } else { What::File })?;
        if !wanted {
            return Ok(());
        }
        let from = to.parent().unwrap_or_default();
        let there = match self.folders.has(&from) {
            true => stat_at(self.folders.open(&from)?, to.name()).map_err(|e| local("stat", &to, e))?,
            false => None,
        };
        let Some(stat) = there else {
            // The link's target was left out, so the link is left out too.
            self.extracted.members -= 1;
            self.extracted.leaves -= 1;
            self.leave_out(path);
            return Ok(());
        };
        if is_link {
            let copied =
                read_link_at(self.folders.open(&from)?, to.name()).map_err(|e| local("read", &to, e))?;
            return self.make_link(&path, &copied, member.mtime);
        }
        let mode = u32::from(os::mode_of(&stat)) & PERMISSIONS;
        let opened = {
            let dir = self.folders.open(&from)?;
            open_own(dir, to.name(), mode)
        };
        let mut source = opened.map_err(|e| local("open", &to, e))?;
        let mut file = self.create(&path)?;
        // If the file system can share the blocks, that costs no time and no space.
        if os::share_content(&file, &source) {
            self.budget.take(stat.st_size.cast_unsigned())?;
            self.extracted.bytes += stat.st_size.cast_unsigned();
        } else {
            self.copy(&path, &mut source, Some(&mut file), None)?;
        }
        let mtime =
            Timestamp { secs: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() };
        self.seal(&path, &file, mode, Some(mtime))
    }

    /// Sets the modes and times of directories, checks where links lead, and returns the result.
    pub(super) fn finish(mut self) -> Result<Extracted, ExtractError> {
        if self.has_links {
            links::check_all(self.job)?;
        }
        // A directory comes after those below it. If a directory occurs twice, the later mode and time come
        // last.
        let mut later = std::mem::take(&mut self.later);
        later.sort_by(|a, b| b.path.cmp(&a.path));
        for Later { path, mode, mtime } in later {
            self.folders.fault("fchmod", &path)?;
            let done = {
                let dir = self.folders.open(&path)?;
                let mode =
                    mode.map_or(Ok(()), |mode| rustix::fs::fchmod(dir, os::mode((mode & 0o7777) as u16)));
                mode.and_then(|()| mtime.map_or(Ok(()), |mtime| rustix::fs::futimens(dir, &times(mtime))))
            };
            done.map_err(|e| local("set the mode of", &path, e))?;
        }
        if self.stripped > 0 {
            let warning =
                format!("setuid, setgid and sticky bits were taken off {}", count(self.stripped, "member"));
            self.warn(warning);
        }
        Ok(self.extracted)
    }

    fn strip(&mut self, mode: u32) -> u32 {
        self.stripped += u64::from(mode & SPECIAL != 0);
        mode & PERMISSIONS
    }

    /// Copies `content` to `file`, or to nowhere, and returns the number of bytes.
    fn copy(
        &mut self,
        path: &TreePath,
        content: &mut dyn Read,
        mut file: Option<&mut File>,
        most: Option<u64>,
    ) -> Result<u64, ExtractError> {
        let mut count = 0;
        loop {
            if (self.job.stop)() {
                return Err(ExtractError::Stopped);
            }
            let n = match content.read(&mut self.buffer) {
                Ok(0) => return Ok(count),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.trouble.explain(&e, &format!("`{path}`"))),
            };
            count += n as u64;
            if most.is_some_and(|most| count > most) {
                return Err(ExtractError::damaged(format!("`{path}` has more bytes than it says")));
            }
            self.budget.take(n as u64)?;
            if let Some(file) = &mut file {
                self.folders.fault("write", path)?;
                file.write_all(&self.buffer[..n]).map_err(|e| local("write", path, e))?;
                self.extracted.bytes += n as u64;
            }
        }
    }

    fn create(&mut self, path: &TreePath) -> Result<File, ExtractError> {
        self.folders.fault("openat", path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = {
            let dir = self.folders.open(&path.parent().unwrap_or_default())?;
            rustix::fs::openat(dir, path.name(), flags, Mode::RUSR | Mode::WUSR)
        };
        Ok(made.map_err(|e| self.folders.refused("make", path, e))?.into())
    }

    fn seal(
        &self,
        path: &TreePath,
        file: &File,
        mode: u32,
        mtime: Option<Timestamp>,
    ) -> Result<(), ExtractError> {
        self.folders.fault("fchmod", path)?;
        // The owner comes first, because changing it clears mode bits.
        self.job.into.give(file).map_err(|e| local("give away", path, e))?;
        let sealed = rustix::fs::fchmod(file, os::mode((mode & 0o7777) as u16))
            .and_then(|()| mtime.map_or(Ok(()), |mtime| rustix::fs::futimens(file, &times(mtime))));
        sealed.map_err(|e| local("set the mode of", path, e))
    }

    fn make_link(
        &mut self,
        path: &TreePath,
        target: &[u8],
        mtime: Option<Timestamp>,
    ) -> Result<(), ExtractError> {
        self.folders.fault("symlinkat", path)?;
        self.has_links = true;
        let into = self.job.into;
        let made = {
            let dir = self.folders.open(&path.parent().unwrap_or_default())?;
            match rustix::fs::symlinkat(target, dir, path.name()) {
                Ok(()) => Ok(into.give_link(dir, path.name()).and_then(|()| {
                    let Some(mtime) = mtime else { return Ok(()) };
                    Ok(rustix::fs::utimensat(dir, path.name(), &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
                })),
                Err(e) => Err(e),
            }
        };
        let given = made.map_err(|e| self.folders.refused("make", path, e))?;
        given.map_err(|e| local("set the time of", path, e))
    }
}

/// Opens a file that was just extracted for reading, even if its mode does not allow that.
fn open_own(dir: &OwnedFd, name: &[u8], mode: u32) -> io::Result<File> {
    match open_file_at(dir, name) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            // Between these two calls, the file in staging is readable only by its owner.
            rustix::fs::chmodat(dir, name, Mode::RUSR, AtFlags::empty())?;
            let opened = open_file_at(dir, name);
            rustix::fs::chmodat(dir, name, os::mode((mode & 0o7777) as u16), AtFlags::empty())?;
            Ok(opened?.0)
        }
        other => Ok(other?.0),
    }
}

pub(super) fn times(mtime: Timestamp) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let given = Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: omit, last_modification: given }
}
