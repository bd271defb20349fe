//! ListMarks: which white lists match something.

use super::{Scope, ScopeList};
use crate::TreePath;

/// Notes path by path which white lists match something, so that a scan can report those that match nothing.
///
/// Marks belong to one [`Scope`]. A scan with several threads keeps one set per thread and merges them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListMarks {
    /// For each plain rule, whether it was the longest match of some path.
    rules: Vec<bool>,
    /// For each list whose path is an expression, whether it matched.
    expressions: Vec<bool>,
}

impl ListMarks {
    /// Returns empty marks.
    pub fn new(scope: &Scope) -> Self {
        Self {
            rules: vec![false; scope.rules.len()],
            expressions: vec![false; scope.expressions.lists.len()],
        }
    }

    /// Notes a path that exists, in scope or not.
    pub fn note(&mut self, scope: &Scope, path: &TreePath) {
        if let Some(mark) = scope.rules.place_of(path).and_then(|i| self.rules.get_mut(i)) {
            *mark = true;
        }
        // Each expression is tried only until it has matched once.
        for (mark, list) in self.expressions.iter_mut().zip(&scope.expressions.lists) {
            *mark = *mark || scope.expressions.list_matches(list.list, path);
        }
    }

    /// Adds the marks of `other`, which belongs to the same scope.
    pub fn merge(&mut self, other: &Self) {
        let marks = self.rules.iter_mut().chain(&mut self.expressions);
        for (mark, other) in marks.zip(other.rules.iter().chain(&other.expressions)) {
            *mark |= other;
        }
    }

    /// Returns the white lists that match none of the noted paths.
    pub fn unmatched<'s>(&self, scope: &'s Scope) -> Vec<&'s ScopeList> {
        let mut matched = vec![false; scope.lists.len()];
        let mut mark = |list: usize| {
            if let Some(matched) = matched.get_mut(list) {
                *matched = true;
            }
        };
        for place in (0..self.rules.len()).filter(|&i| self.rules[i]) {
            // A path that matches the longest rule also matches the rules above it.
            scope.rules.upwards(place).flat_map(|rule| rule.lists()).copied().for_each(&mut mark);
        }
        for (list, _) in scope.expressions.lists.iter().zip(&self.expressions).filter(|(_, m)| **m) {
            mark(list.list);
        }
        scope.lists.iter().zip(matched).filter(|(_, matched)| !matched).map(|(list, _)| list).collect()
    }
}
