//! What a git repository is on the disk, and in which order its files are to be read.
//!
//! Refs, the index and logs name objects, which are never changed: they are written before what names them, and a
//! repack removes them after it has written the packs that hold them as well. So what is named is there if the names
//! are read first, and if nothing was missed or removed while the objects were read.

use policy_core::TreePath;

/// The names by which a directory of git's is known.
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

    /// Whether the directory is one of git's: a `.git`, or a bare repository.
    pub(crate) fn are_all_there(&self) -> bool {
        self.head && self.objects && self.refs
    }
}

/// Whether a file in a directory of git's is there only while git works on it: a lock, or an object or a pack that is
/// being written.
pub(crate) fn is_passing(dir: &TreePath, name: &[u8]) -> bool {
    name.ends_with(b".lock")
        || (name.starts_with(b"tmp_") || name.starts_with(b".tmp-"))
            && dir.components().any(|component| component == b"objects")
}

/// The part of a git repository that a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GitPart {
    /// What names objects, and all that is neither.
    Names,
    /// Objects, loose or in packs.
    Objects,
}

impl GitPart {
    /// Returns the part of a path within the repository at `unit`, of which the submodules' are parts.
    pub(crate) fn of(unit: &TreePath, path: &TreePath) -> Self {
        let mut names = path.components().skip(unit.components().count()).enumerate();
        let mut in_module = false;
        while let Some((at, name)) = names.next() {
            match name {
                b"modules" if at == 0 => in_module = true,
                // The list of objects in a commit graph, and where others are, name objects.
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
