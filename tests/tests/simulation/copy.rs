//! A copy of a directory in memory, and going back to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ctxsync_tests::random::Random;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::archives::parts;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Dir,
    File(Vec<u8>),
    Link(OsString),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    inode: u64,
    kind: Kind,
    mode: u32,
    mtime: (i64, i64),
}

impl Node {
    /// Whether it is the same file or directory, and a file has the same content.
    fn is_same(&self, other: &Self) -> bool {
        self.inode == other.inode && self.kind == other.kind
    }
}

/// Everything below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy(BTreeMap<PathBuf, Node>);

impl Copy {
    pub(crate) fn of(root: &Path) -> Self {
        let mut nodes = BTreeMap::new();
        for entry in walkdir::WalkDir::new(root).min_depth(1).into_iter().flatten() {
            let Ok(stat) = entry.path().symlink_metadata() else { continue };
            let kind = if stat.is_dir() {
                Kind::Dir
            } else if stat.is_symlink() {
                Kind::Link(std::fs::read_link(entry.path()).unwrap().into_os_string())
            } else {
                Kind::File(std::fs::read(entry.path()).unwrap())
            };
            let mtime = (stat.mtime(), stat.mtime_nsec());
            let node = Node { inode: stat.ino(), kind, mode: stat.permissions().mode() & 0o7777, mtime };
            nodes.insert(entry.path().strip_prefix(root).unwrap().to_owned(), node);
        }
        Self(nodes)
    }

    /// Makes `root` as it was when the copy was made. What is the same stays, and what was moved is moved back: it keeps
    /// its inode.
    pub(crate) fn restore(&self, root: &Path) {
        let aside = root.with_extension("aside");
        std::fs::create_dir_all(&aside).unwrap();
        let kept: BTreeMap<u64, &Node> = self.0.values().map(|node| (node.inode, node)).collect();
        let now = Self::of(root);
        let mut stay = BTreeSet::new();
        for (path, node) in &now.0 {
            let parent = path.parent().filter(|parent| *parent != Path::new(""));
            if self.0.get(path).is_some_and(|was| was.is_same(node))
                && parent.is_none_or(|p| stay.contains(p))
            {
                stay.insert(path.as_path());
            }
        }
        for (path, node) in now.0.iter().rev().filter(|(path, _)| !stay.contains(path.as_path())) {
            let place = root.join(path);
            if kept.get(&node.inode).is_some_and(|was| was.is_same(node)) {
                std::fs::rename(place, aside.join(node.inode.to_string())).unwrap();
            } else if node.kind == Kind::Dir {
                std::fs::remove_dir(place).unwrap();
            } else {
                std::fs::remove_file(place).unwrap();
            }
        }
        for (path, node) in &self.0 {
            // It may be there no more, or be another machine's.
            let _ = std::fs::rename(aside.join(node.inode.to_string()), root.join(path));
            Self::put(&root.join(path), node);
        }
        std::fs::remove_dir_all(aside).unwrap();
        for (path, node) in self.0.iter().rev() {
            let place = root.join(path);
            let stat = place.symlink_metadata().unwrap();
            if (stat.mtime(), stat.mtime_nsec()) != node.mtime {
                set_mtime(&place, node.mtime);
            }
        }
    }

    /// Whether it has a directory in which an archive was extracted, and that is gone at `root`. Back in its place, it would
    /// be another one: only a real loss of power brings back its inode.
    pub(crate) fn has_lost_extraction(&self, root: &Path) -> bool {
        let is_one = |path: &Path| {
            let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
            names.len() == 2 && names[0].starts_with(".ctxsync-stage-") && names[1].starts_with("e-")
        };
        self.0.keys().any(|path| is_one(path) && !root.join(path).exists())
    }

    /// Returns the contents at paths of which a loss of power has left `left`, and where something else was written since.
    pub(crate) fn written_over(&self, left: &Self, root: &Path) -> BTreeSet<String> {
        let (mut lost, now) = (BTreeSet::new(), Self::of(root));
        let kind = |copy: &Self, path: &Path| copy.0.get(path).map(|node| node.kind.clone());
        for (path, node) in &self.0 {
            let was_taken = kind(left, path).as_ref() != Some(&node.kind);
            if !was_taken
                || kind(&now, path).is_none_or(|now| now == node.kind || kind(left, path) == Some(now))
            {
                continue;
            }
            match &node.kind {
                Kind::Dir => {}
                Kind::File(bytes) => lost.extend(parts(bytes)),
                Kind::Link(target) => lost.extend(target.to_str().map(str::to_owned)),
            }
        }
        lost
    }

    /// Tears files at `root` that were written since the copy was made: they lose a part of their content, but not their
    /// times. Returns how many.
    pub(crate) fn tear(&self, root: &Path, random: &mut Random) -> usize {
        let kept: BTreeMap<u64, &Kind> = self.0.values().map(|node| (node.inode, &node.kind)).collect();
        let mut torn = 0;
        for (path, node) in Self::of(root).0 {
            let Kind::File(bytes) = &node.kind else { continue };
            if kept.get(&node.inode).is_some_and(|kind| **kind == node.kind) || random.below(3) > 0 {
                continue;
            }
            let half = bytes.len() / 2;
            let left = match random.below(4) {
                0 => Vec::new(),
                1 => bytes[..half].to_vec(),
                2 => vec![0; bytes.len()],
                _ => [&bytes[..half], &vec![0; bytes.len() - half]].concat(),
            };
            let place = root.join(path);
            let mode =
                |mode| std::fs::set_permissions(&place, std::fs::Permissions::from_mode(mode)).unwrap();
            mode(0o600);
            // The inode stays the same.
            std::fs::OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(&place)
                .unwrap()
                .write_all(&left)
                .unwrap();
            mode(node.mode);
            set_mtime(&place, node.mtime);
            torn += 1;
        }
        torn
    }

    fn put(place: &Path, node: &Node) {
        let is_there = place.symlink_metadata().is_ok();
        match &node.kind {
            Kind::Dir if !is_there => std::fs::create_dir(place).unwrap(),
            Kind::File(bytes) if !is_there => std::fs::write(place, bytes).unwrap(),
            Kind::Link(target) if !is_there => symlink(target, place).unwrap(),
            _ => {}
        }
        if !matches!(node.kind, Kind::Link(_)) {
            let mode = place.symlink_metadata().unwrap().permissions().mode() & 0o7777;
            if mode != node.mode {
                std::fs::set_permissions(place, std::fs::Permissions::from_mode(node.mode)).unwrap();
            }
        }
    }
}

fn set_mtime(place: &Path, (tv_sec, tv_nsec): (i64, i64)) {
    let time = Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
