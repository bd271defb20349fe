//! Removes files and directories from a tree.

use futures::TryStreamExt;
use policy_core::TreePath;

use super::look::NameIs;
use crate::error::Error;
use crate::tree::Tree;

/// The paths to remove.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    /// In tree order; none is within another.
    paths: Vec<TreePath>,
    /// Whether directories may be among them, which are removed with everything in them.
    recursive: bool,
}

/// One step of a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A path is removed with everything below it.
    Remove(TreePath),
    /// A directory stays, although nothing is left in it.
    Keep(TreePath),
}

impl Step {
    fn path(&self) -> &TreePath {
        match self {
            Self::Remove(path) | Self::Keep(path) => path,
        }
    }
}

impl Removal {
    pub(crate) fn new(paths: &[TreePath], recursive: bool) -> Self {
        let mut paths = paths.to_vec();
        paths.sort_unstable();
        paths.dedup();
        if recursive {
            // In tree order, everything below a path follows it directly.
            paths.dedup_by(|path, before| path.is_below(before));
        }
        Self { paths, recursive }
    }

    /// Returns the steps, in tree order.
    ///
    /// A directory that becomes empty stays, as in a file system, and as if the removal had been made in a
    /// mount.
    pub(super) async fn steps(&self, tree: &Tree<'_>) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            match tree.look(path).await? {
                NameIs::Entry(entry) if entry.recycled => return Err(tree.recycled(path)),
                NameIs::Entry(entry) if entry.entry.is_dir() && !self.recursive => {
                    return Err(tree.is_directory(path));
                }
                NameIs::Implied if !self.recursive => return Err(tree.is_directory(path)),
                NameIs::Entry(_) | NameIs::Implied => steps.push(Step::Remove(path.clone())),
                NameIs::BelowFile(_) | NameIs::Free => return Err(tree.no_path(path)),
            }
        }
        let mut dirs: Vec<TreePath> =
            self.paths.iter().filter_map(TreePath::parent).filter(|dir| !dir.is_root()).collect();
        dirs.sort_unstable();
        dirs.dedup();
        for dir in dirs {
            if self.empties(tree, &dir).await? {
                steps.push(Step::Keep(dir));
            }
        }
        steps.sort_unstable_by(|a, b| a.path().cmp(b.path()));
        Ok(steps)
    }

    /// Whether nothing at or below a directory stays.
    async fn empties(&self, tree: &Tree<'_>, dir: &TreePath) -> Result<bool, Error> {
        let mut segments = std::pin::pin!(tree.segments(tree.segments_within(dir)));
        while let Some((_, entries)) = segments.try_next().await? {
            let mut below = entries.iter().filter(|e| e.path.is_within(dir) && !e.recycled);
            if below.any(|e| !self.holds(&e.path)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a path is removed.
    fn holds(&self, path: &TreePath) -> bool {
        let upto = self.paths.partition_point(|p| p <= path);
        upto.checked_sub(1).is_some_and(|at| path.is_within(&self.paths[at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(of: &[&str]) -> Vec<TreePath> {
        of.iter().map(|p| p.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_within_another_goes_with_it() {
        let removal = Removal::new(&paths(&["b/c", "a", "b", "b", "b-c"]), true);
        assert_eq!(removal.paths, paths(&["a", "b", "b-c"]));
        let holds = |p: &str| removal.holds(&p.parse().unwrap());
        assert!(holds("a") && holds("a/x") && holds("b/c/d") && holds("b-c"));
        assert!(!holds("aa") && !holds("0") && !holds("b-d") && !holds("c"));
    }
}
