//! PathSet: a list of paths that are read as white list paths.

use super::resolve::{Reading, Resolver};
use super::warning::ScopeWarning;
use crate::{TreePath, tree_order};

/// A set of paths below a mount, each with everything below it.
///
/// `extractPolicy.paths`, `recyclePolicy.paths` and `uploadPolicy.archiveExcludePaths` are read as such sets.
/// The path `""` means everything; an empty list of paths means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathSet {
    /// In tree order, none within another.
    places: Vec<TreePath>,
}

impl PathSet {
    /// Reads `paths`, which are at `pointer` in the policy and were already checked.
    pub(super) fn new(
        paths: &[String],
        pointer: &str,
        resolver: &Resolver,
        warnings: &mut Vec<ScopeWarning>,
    ) -> Self {
        Self::of_places(resolve_each(paths, pointer, resolver, warnings))
    }

    /// Returns the set of these paths and everything below them.
    pub fn of_places(mut places: Vec<TreePath>) -> Self {
        places.sort();
        places.dedup_by(|next, before| next.is_within(before));
        Self { places }
    }

    /// Returns the paths that are in both sets.
    #[must_use]
    pub fn within(&self, other: &Self) -> Self {
        let ours = self.places.iter().filter(|p| other.contains(p));
        let theirs = other.places.iter().filter(|p| self.contains(p));
        Self::of_places(ours.chain(theirs).cloned().collect())
    }

    /// Whether `path` is one of the set's paths or lies below one.
    pub fn contains(&self, path: &TreePath) -> bool {
        let after = self.places.partition_point(|p| tree_order(p.as_bytes(), path.as_bytes()).is_le());
        // No path of the set lies within another, so only the last one at or before `path` can contain it.
        after.checked_sub(1).is_some_and(|i| path.is_within(&self.places[i]))
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns the set's paths, in tree order, none within another.
    pub fn places(&self) -> &[TreePath] {
        &self.places
    }
}

/// Reads each of `paths`, which are at `pointer` in the policy and were already checked.
pub(super) fn resolve_each(
    paths: &[String],
    pointer: &str,
    resolver: &Resolver,
    warnings: &mut Vec<ScopeWarning>,
) -> Vec<TreePath> {
    let mut places = Vec::new();
    for (i, text) in paths.iter().enumerate() {
        let resolved = resolver.resolve(text);
        if resolved.by == Reading::Outside {
            warnings.push(ScopeWarning::OutsideMount {
                pointer: format!("{pointer}/{i}"),
                path: text.clone(),
                mount: resolver.mount(),
                read_as: resolved.path.clone(),
            });
        }
        places.push(resolved.path);
    }
    places
}
