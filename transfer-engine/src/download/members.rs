//! Merges the members of an archive into a directory. Nothing that exists is replaced.

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use policy_core::TreePath;
use rustix::fs::{AtFlags, FileType};

use crate::local::{
    InstallError, MountDir, Stagings, move_over, names, open_dir, open_file_at, read_link_at, remove_tree,
    stat_at, writable,
};

/// How many paths are listed.
const NAMED: usize = 100;

/// Members that were left out.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    pub(super) total: u64,
    /// The first hundred, as paths of the mount.
    pub(super) named: Vec<TreePath>,
}

/// The result of placing members.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) left_out: LeftOut,
    /// One of the members that are in place.
    pub(super) at: Option<TreePath>,
}

/// Where members are put.
pub(super) struct Placing<'a> {
    pub(super) dir: &'a MountDir,
    pub(super) stagings: &'a Stagings,
}

impl Placing<'_> {
    /// Moves the content of `staged` into `into`. Existing files stay as they are.
    pub(super) fn members(
        &self,
        staged: &MountDir,
        into: &TreePath,
        spoken_for: &[(TreePath, bool)],
    ) -> io::Result<Placed> {
        let mut placed = Placed::default();
        for (member, same) in spoken_for {
            let parent = staged.parent(member)?;
            let _writable = writable(&parent);
            let count = take_out(&parent, member.name())?;
            let path = member.rebase(&TreePath::root(), into).unwrap_or_default();
            if *same {
                placed.at.get_or_insert(path);
            } else {
                placed.leave_out(path, count)
            }
        }
        let target = self.dir.dir(into)?;
        placed.merge(self, staged.root(), &target, into)?;
        Ok(placed)
    }
}

impl Placed {
    fn leave_out(&mut self, path: TreePath, count: u64) {
        self.left_out.total += count;
        if self.left_out.named.len() < NAMED {
            self.left_out.named.push(path);
        }
    }

    fn merge(
        &mut self,
        placing: &Placing<'_>,
        from: &OwnedFd,
        to: &OwnedFd,
        at: &TreePath,
    ) -> io::Result<()> {
        match self.move_all(placing, from, to, at) {
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {}
            moved => return moved,
        }
        // Another file system begins here, so the content is first copied to a staging directory on it.
        let staging = placing.stagings.in_dir(at)?;
        let staged = staging.new_dir()?;
        let moved = staged
            .fill(from)
            .and_then(|()| staging.sync())
            .and_then(|()| self.move_all(placing, staged.dir.root(), to, at))
            .and_then(|()| staging.sync());
        staging.discard_dir(&staged);
        moved
    }

    fn move_all(
        &mut self,
        placing: &Placing<'_>,
        from: &OwnedFd,
        to: &OwnedFd,
        at: &TreePath,
    ) -> io::Result<()> {
        let (_from_writable, _to_writable) = (writable(from), writable(to));
        let mut members = names(from)?;
        members.sort();
        for name in members {
            let path = at.join(&name).map_err(io::Error::other)?;
            placing.dir.env().check_fault("renameat2", &placing.dir.show(&path))?;
            match move_over(from, &name, to, &name) {
                Ok(()) => {
                    self.at.get_or_insert(path);
                    continue;
                }
                Err(InstallError::Io(e)) => return Err(e),
                Err(InstallError::Changed) => {}
            }
            let (member, there) = (stat_at(from, &name)?, stat_at(to, &name)?);
            let kind = |stat: Option<rustix::fs::Stat>| stat.map(|s| FileType::from_raw_mode(s.st_mode));
            let same = match (kind(member), kind(there)) {
                (Some(FileType::Directory), Some(FileType::Directory)) => {
                    self.merge(placing, &open_dir(from, &name)?, &open_dir(to, &name)?, &path)?;
                    continue;
                }
                (Some(FileType::RegularFile), Some(FileType::RegularFile)) => is_same_file(from, to, &name)?,
                (Some(FileType::Symlink), Some(FileType::Symlink)) => {
                    read_link_at(from, &name)? == read_link_at(to, &name)?
                }
                _ => false,
            };
            if same {
                self.at.get_or_insert(path);
            } else {
                self.leave_out(path, count(from, &name)?);
            }
        }
        Ok(())
    }
}

/// Removes a member from staging; returns the number of its leaves.
fn take_out(parent: &OwnedFd, name: &[u8]) -> io::Result<u64> {
    let leaves = count(parent, name)?;
    match stat_at(parent, name)?.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Some(FileType::Directory) => remove_tree(parent, name)?,
        Some(_) => rustix::fs::unlinkat(parent, name, AtFlags::empty())?,
        None => {}
    }
    Ok(leaves)
}

/// Counts the files, links and empty directories at and below a name.
fn count(parent: &OwnedFd, name: &[u8]) -> io::Result<u64> {
    let Some(stat) = stat_at(parent, name)? else { return Ok(0) };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(1);
    }
    let dir = open_dir(parent, name)?;
    let mut leaves = 0;
    for inner in names(&dir)? {
        leaves += count(&dir, &inner)?;
    }
    Ok(leaves.max(1))
}

fn is_same_file(a: &OwnedFd, b: &OwnedFd, name: &[u8]) -> io::Result<bool> {
    let ((mut a, a_stat), (mut b, b_stat)) = (open_file_at(a, name)?, open_file_at(b, name)?);
    if a_stat.st_size != b_stat.st_size {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let n = a.read(&mut left)?;
        if n == 0 {
            return Ok(b.read(&mut right[..1])? == 0);
        }
        match b.read_exact(&mut right[..n]) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        if left[..n] != right[..n] {
            return Ok(false);
        }
    }
}
