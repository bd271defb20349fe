//! Which parts of a mount have most of the bytes that may have to be sent, for the error that there are too
//! many.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use policy_core::TreePath;

use super::batch::{Batch, Work};

/// The greatest depth at which directories are distinguished.
const DEPTH: usize = 8;
/// A file of this size is listed itself.
const LARGE: u64 = 1 << 20;
/// How many parts are listed.
const NAMED: usize = 5;

/// The bytes in directories and in large files.
#[derive(Debug, Default)]
pub(crate) struct Subtrees(BTreeMap<TreePath, u64>);

impl Subtrees {
    pub(crate) fn note(&mut self, batch: &Batch) {
        for work in batch.work.iter().chain(&batch.long) {
            if let Work::File { path, print, .. } = work {
                self.add(path, print.size);
            }
        }
    }

    fn add(&mut self, path: &TreePath, size: u64) {
        let mut at = if size >= LARGE { Some(path.clone()) } else { path.parent() };
        while let Some(path) = at {
            at = path.parent();
            if path.components().count() <= DEPTH {
                *self.0.entry(path).or_default() += size;
            }
        }
    }

    /// Returns the largest parts of the mount, largest first; or of the directory that has nearly all the
    /// bytes.
    pub(crate) fn largest(&self) -> Vec<(TreePath, u64)> {
        let mut whole = TreePath::root();
        let mut named = Vec::new();
        loop {
            let mut parts: Vec<(TreePath, u64)> = self
                .0
                .iter()
                .filter(|(path, _)| path.parent().as_ref() == Some(&whole))
                .map(|(path, bytes)| (path.clone(), *bytes))
                .collect();
            parts.sort_by_key(|(_, bytes)| Reverse(*bytes));
            parts.truncate(NAMED);
            let Some((first, most)) = parts.first().cloned() else { return named };
            named = parts;
            if most * 10 < self.0.get(&whole).copied().unwrap_or(0) * 9 {
                return named;
            }
            whole = first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn largest(files: &[(&str, u64)]) -> Vec<(String, u64)> {
        let mut subtrees = Subtrees::default();
        files.iter().for_each(|(path, size)| subtrees.add(&path.parse().unwrap(), *size));
        subtrees.largest().into_iter().map(|(path, bytes)| (path.to_string(), bytes)).collect()
    }

    #[test]
    fn the_largest_parts_are_named_where_they_part() {
        let named = |named: &[(&str, u64)]| {
            named.iter().map(|(path, bytes)| ((*path).to_owned(), *bytes)).collect::<Vec<_>>()
        };
        assert_eq!(largest(&[]), []);
        assert_eq!(largest(&[("a", 5), ("b", 6)]), []);
        let (small, large) = (1000, 5 << 20);
        let files = [
            ("p/data/x", large),
            ("p/data/y", small),
            ("p/src/a", 3 * large),
            ("p/z", 2 * large),
            ("q", small),
        ];
        assert_eq!(
            largest(&files),
            named(&[("p/src", 3 * large), ("p/z", 2 * large), ("p/data", large + small)])
        );
        // One file has nearly all the bytes.
        assert_eq!(
            largest(&[("a/b/c", 100 * large), ("a/b/d", large)]),
            named(&[("a/b/c", 100 * large), ("a/b/d", large)])
        );
        let many: Vec<(String, u64)> = (0..20).map(|i| (format!("d{i:02}/f"), small + i)).collect();
        let many: Vec<(&str, u64)> = many.iter().map(|(path, size)| (path.as_str(), *size)).collect();
        assert_eq!(largest(&many).len(), NAMED);
        assert_eq!(largest(&many)[0], ("d19".to_owned(), small + 19));
    }
}
