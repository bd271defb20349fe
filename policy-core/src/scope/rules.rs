//! The plain rules in tree order, so that the longest match of a path is found without trying each rule.

use crate::conflict::is_cut_copy;
use crate::path::within;
use crate::{TreePath, tree_order};

/// The rule that decides. Indices are the policy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    WholeMount,
    Unlisted,
    List(usize),
    ListExpression(usize),
    Exclude(usize, usize),
    ExcludeExpression(usize, usize),
    Ignored(usize),
}

impl Verdict {
    pub(super) fn in_scope(self) -> bool {
        matches!(self, Self::WholeMount | Self::List(_) | Self::ListExpression(_))
    }
}

/// What all plain lists and excludes with the same path say.
#[derive(Debug, Clone)]
pub(super) struct PlainRule {
    path: TreePath,
    /// The white lists with this path, by index.
    lists: Vec<usize>,
    /// The first exclude with this path.
    exclude: Option<(usize, usize)>,
    /// The members of `lists` that have exclude expressions.
    expression_lists: Vec<usize>,
    /// The longest rule above this one, by its index in [`Rules`].
    above: Option<usize>,
}

impl PlainRule {
    /// Returns what this rule says, expressions aside. If list and exclude have the same path, exclusion
    /// wins.
    pub(super) fn verdict(&self) -> Verdict {
        match (self.exclude, self.lists.first()) {
            (Some((list, exclude)), _) => Verdict::Exclude(list, exclude),
            (None, Some(&list)) => Verdict::List(list),
            (None, None) => Verdict::Unlisted,
        }
    }

    pub(super) fn expression_lists(&self) -> &[usize] {
        &self.expression_lists
    }

    pub(super) fn lists(&self) -> &[usize] {
        &self.lists
    }

    /// Returns the original of `copy` if its name was shortened and this rule has the full name. `original`
    /// is the original's path as far as the copy's name tells.
    pub(super) fn uncut(&self, copy: &TreePath, original: &TreePath) -> Option<TreePath> {
        let (mut copied, mut rest) = (copy.components(), original.components());
        let mut is_cut = false;
        for name in self.path.components() {
            let (copied, rest) = (copied.next()?, rest.next()?);
            if name != rest {
                is_cut = true;
                if !is_cut_copy(copied, name) {
                    return None;
                }
            }
        }
        let named = rest.try_fold(self.path.clone(), |path, name| path.join(name).ok());
        named.filter(|_| is_cut)
    }

    fn includes(&self) -> bool {
        self.exclude.is_none() && !self.lists.is_empty()
    }
}

/// The plain rules of a scope: one per path, in tree order.
///
/// In that order a path is directly followed by everything below it. So the longest rule that matches a path
/// is the last one at or before the path, or a rule above that one.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    rules: Vec<PlainRule>,
    /// How many of the rules before each index include.
    including: Vec<usize>,
}

impl Rules {
    /// Makes rules from tuples of (path, list, exclude of the list).
    pub(super) fn new(
        plain: impl IntoIterator<Item = (TreePath, usize, Option<usize>)>,
        has_expressions: impl Fn(usize) -> bool,
    ) -> Self {
        let mut plain: Vec<_> = plain.into_iter().collect();
        plain.sort();
        let mut rules: Vec<PlainRule> = Vec::new();
        for (path, list, exclude) in plain {
            if rules.last().is_none_or(|last| last.path != path) {
                let mut above = rules.len().checked_sub(1);
                while let Some(i) = above.filter(|&i| !path.is_within(&rules[i].path)) {
                    above = rules[i].above;
                }
                let (lists, expression_lists) = (Vec::new(), Vec::new());
                rules.push(PlainRule { path, lists, exclude: None, expression_lists, above });
            }
            let Some(rule) = rules.last_mut() else { continue };
            match exclude {
                Some(exclude) => _ = rule.exclude.get_or_insert((list, exclude)),
                None => {
                    rule.lists.push(list);
                    if has_expressions(list) {
                        rule.expression_lists.push(list);
                    }
                }
            }
        }
        let mut including = vec![0];
        for rule in &rules {
            including.push(including.last().copied().unwrap_or(0) + usize::from(rule.includes()));
        }
        Self { rules, including }
    }

    /// Returns the longest rule that matches `path`.
    pub(super) fn deciding(&self, path: &TreePath) -> Option<&PlainRule> {
        self.place_of(path).map(|i| &self.rules[i])
    }

    /// Returns the index of the longest rule that matches `path`.
    pub(super) fn place_of(&self, path: &TreePath) -> Option<usize> {
        let path = path.as_bytes();
        let after = self.rules.partition_point(|r| tree_order(r.path.as_bytes(), path).is_le());
        let mut place = after.checked_sub(1);
        while let Some(i) = place.filter(|&i| !within(path, self.rules[i].path.as_bytes())) {
            place = self.rules[i].above;
        }
        place
    }

    /// Whether anything strictly below `dir` can be included: by the rule that matches `dir`, since a rule
    /// further down excludes only what it names, or by a rule further down. If no plain rule matches `dir`,
    /// `expressions` says whether some expression might.
    pub(super) fn may_hold(&self, dir: &TreePath, expressions: bool) -> bool {
        if self.deciding(dir).map_or(expressions, PlainRule::includes) {
            return true;
        }
        let path = dir.as_bytes();
        let from = self.rules.partition_point(|r| tree_order(r.path.as_bytes(), path).is_le());
        let below = self.rules[from..].partition_point(|r| r.path.is_within(dir));
        self.including[from + below] > self.including[from]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PlainRule> {
        self.rules.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Returns the rule at the index `place` and all rules above it.
    pub(super) fn upwards(&self, place: usize) -> impl Iterator<Item = &PlainRule> {
        std::iter::successors(self.rules.get(place), |rule| rule.above.map(|i| &self.rules[i]))
    }
}
