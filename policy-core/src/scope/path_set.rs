//! PathSet: a list of paths that are read as white list paths.

use super::resolve::{Reading, Resolver};
use super::warning::ScopeWarning;
use crate::{TreePath, tree_order};

/// A set of places below a mount, each with all that lies below it.
///
/// It is what `extractPolicy.paths`, `recyclePolicy.paths` and `uploadPolicy.archiveExcludePaths` are. The
/// path `""` is everything, and no path at all is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathSet {
    /// In tree order, none within another.
    places: Vec<TreePath>,
}

impl PathSet {
    /// Reads `paths`, which stand at `pointer` and are known to be fit to be read.
    pub(super) fn new(
        paths: &[String],
        pointer: &str,
        resolver: &Resolver,
        warnings: &mut Vec<ScopeWarning>,
    ) -> Self {
        let mut places: Vec<TreePath> = Vec::new();
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
        Self::of_places(places)
    }

    /// Returns the set of these places and all that lies below them.
    pub fn of_places(mut places: Vec<TreePath>) -> Self {
        places.sort();
        places.dedup_by(|next, before| next.is_within(before));
        Self { places }
    }

    /// Returns the places that lie in both sets.
    #[must_use]
    pub fn within(&self, other: &Self) -> Self {
        let ours = self.places.iter().filter(|p| other.contains(p));
        let theirs = other.places.iter().filter(|p| self.contains(p));
        Self::of_places(ours.chain(theirs).cloned().collect())
    }

    /// Whether `path` is one of the places or lies below one.
    pub fn contains(&self, path: &TreePath) -> bool {
        let after = self.places.partition_point(|p| tree_order(p.as_bytes(), path.as_bytes()).is_le());
        // None of the places lies within another: only the last one before can hold the path.
        after.checked_sub(1).is_some_and(|i| path.is_within(&self.places[i]))
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns the places, in tree order, none within another.
    pub fn places(&self) -> &[TreePath] {
        &self.places
    }
}
