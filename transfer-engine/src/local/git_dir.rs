//! The files of a git repository, and the order in which to read them.
//!
//! Refs, the index and logs name objects. Objects never change, and they are written before anything names
//! them. A repack removes objects only after it has written packs that also contain them. So if the names are
//! read first, and if no object was missed or removed while the objects were read, then all named objects are
//! there.

use std::collections::{BTreeSet, HashMap};

use policy_core::TreePath;
use rustix::fs::FileType;

use super::mount_dir::MountDir;

/// The names that mark a git directory.
#[derive(Debug, Default)]
pub(crate) struct GitMarks {
    head: bool,
    objects: bool,
    refs: bool,
}

impl GitMarks {
    /// Notes a name in a directory.
    pub(crate) fn note(&mut self, name: &[u8], is_dir: bool) {
        match name {
            b"HEAD" => self.head |= !is_dir,
            b"objects" => self.objects |= is_dir,
            b"refs" => self.refs |= is_dir,
            _ => {}
        }
    }

    /// Whether the directory is a git directory: a `.git`, or a bare repository.
    pub(crate) fn are_all_there(&self) -> bool {
        self.head && self.objects && self.refs
    }
}

/// Finds the repositories that paths of a mount are in.
pub(crate) struct Repositories<'a> {
    mount: &'a MountDir,
    /// Of each directory, the outermost repository that is, or holds, this directory.
    known: HashMap<TreePath, Option<TreePath>>,
}

impl<'a> Repositories<'a> {
    pub(crate) fn new(mount: &'a MountDir) -> Self {
        Self { mount, known: HashMap::new() }
    }

    /// Returns the outermost repository that holds this path.
    pub(crate) fn holding(&mut self, path: &TreePath) -> Option<TreePath> {
        // Not by recursion: a path may have thousands of components.
        let (mut above, mut unknown, mut found) = (path.parent(), Vec::new(), None);
        while let Some(dir) = above {
            if let Some(known) = self.known.get(&dir) {
                found.clone_from(known);
                break;
            }
            above = dir.parent();
            unknown.push(dir);
        }
        for dir in unknown.into_iter().rev() {
            found = found.or_else(|| self.is_repository(&dir).then(|| dir.clone()));
            self.known.insert(dir, found.clone());
        }
        found
    }

    fn is_repository(&self, dir: &TreePath) -> bool {
        let is_dir = |name: &[u8]| {
            let stat = dir.join(name).ok().and_then(|path| self.mount.stat(&path).ok().flatten());
            stat.map(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
        };
        is_dir(b"HEAD") == Some(false) && is_dir(b"objects") == Some(true) && is_dir(b"refs") == Some(true)
    }
}

/// Whether a file has a meaning only together with the objects of its repository, which is one of `units`: it names
/// objects, or packs.
pub(crate) fn names_objects(units: &BTreeSet<TreePath>, path: &TreePath) -> bool {
    let mut above = path.parent();
    while let Some(dir) = above.filter(|_| !units.is_empty()) {
        if units.contains(&dir) {
            return GitPart::of(&dir, path) == GitPart::Names || path.name().starts_with(b"multi-pack-index");
        }
        above = dir.parent();
    }
    false
}

/// Whether a file in a git directory is temporary: a lock, or an object or pack that is still being written.
pub(crate) fn is_passing(dir: &TreePath, name: &[u8]) -> bool {
    name.ends_with(b".lock")
        || (name.starts_with(b"tmp_") || name.starts_with(b".tmp-"))
            && dir.components().any(|component| component == b"objects")
}

/// The part of a git repository that a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GitPart {
    /// Files that name objects, and everything else that is no object.
    Names,
    /// Objects, loose or in packs.
    Objects,
}

impl GitPart {
    /// Returns the part of a path in the repository at `unit`. Submodules belong to their repository.
    pub(crate) fn of(unit: &TreePath, path: &TreePath) -> Self {
        let mut names = path.components().skip(unit.components().count()).enumerate();
        let mut in_module = false;
        while let Some((at, name)) = names.next() {
            match name {
                b"modules" if at == 0 => in_module = true,
                // `objects/info` (commit graphs, alternates) names objects.
                b"objects" if at == 0 || in_module && at > 1 => {
                    return match names.next() {
                        Some((_, b"info")) => Self::Names,
                        _ => Self::Objects,
                    };
                }
                b"refs" | b"logs" => return Self::Names,
                _ if at == 0 => return Self::Names,
                _ => {}
            }
        }
        Self::Names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l28_the_parts_of_a_repository() {
        let unit: TreePath = "a/.git".parse().unwrap();
        let part = |path: &str| GitPart::of(&unit, &format!("a/.git/{path}").parse().unwrap());
        for path in [
            "HEAD",
            "index",
            "refs/heads/objects/x",
            "logs/refs/heads/objects",
            "packed-refs",
            "objects/info/commit-graph",
            "objects/info",
            "modules/objects/HEAD",
            "modules/m/refs/heads/objects/x",
            "worktrees/objects/HEAD",
            "hooks/objects/x",
        ] {
            assert_eq!(part(path), GitPart::Names, "{path}");
        }
        for path in [
            "objects",
            "objects/ab/cdef",
            "objects/pack/pack-1.idx",
            "modules/a/b/objects/pack",
            "modules/m/objects",
        ] {
            assert_eq!(part(path), GitPart::Objects, "{path}");
        }
        assert_eq!(GitPart::of(&unit, &unit), GitPart::Names);
    }

    #[test]
    fn l28_what_is_there_only_while_git_works() {
        let passing = |dir: &str, name: &str| is_passing(&dir.parse().unwrap(), name.as_bytes());
        assert!(passing(".git", "index.lock") && passing(".git/refs/heads", "main.lock"));
        assert!(
            passing(".git/objects/pack", "tmp_pack_x") && passing(".git/objects/pack", ".tmp-1-pack-x.idx")
        );
        assert!(!passing(".git/refs/heads", "tmp_branch") && !passing(".git", "index"));
    }
}
