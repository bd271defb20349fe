//! The plain rules, in tree order, so that the longest that holds a path is found without trying each.

use crate::conflict::is_cut_copy;
use crate::path::within;
use crate::{TreePath, tree_order};

/// Which rule decides. Indices are the policy's.
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

/// All that plain lists and excludes say of exactly one path.
#[derive(Debug, Clone)]
pub(super) struct PlainRule {
    path: TreePath,
    /// The white lists with this path, by index.
    lists: Vec<usize>,
    /// The first exclude with this path.
    exclude: Option<(usize, usize)>,
    /// Those of `lists` that have exclude expressions.
    expression_lists: Vec<usize>,
    /// The longest rule above this one, by its place in [`Rules`].
    above: Option<usize>,
}

impl PlainRule {
    /// Returns what this rule says of what it holds, expressions aside. At equal length exclusion wins.
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

    /// Returns what `copy` is a copy of, where its name was cut and this rule knows the whole of it;
    /// `original` is what the copy's name alone says.
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
/// In that order a path is followed directly by all that lies below it. The longest rule that holds a path
/// is therefore the last one at or before the path, or one above that.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    rules: Vec<PlainRule>,
    /// How many of the rules before each place include.
    including: Vec<usize>,
}

impl Rules {
    /// Makes rules of (path, list, exclude of the list).
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

    /// Returns the longest rule that holds `path`.
    pub(super) fn deciding(&self, path: &TreePath) -> Option<&PlainRule> {
        self.place_of(path).map(|i| &self.rules[i])
    }

    /// Returns the place of the longest rule that holds `path`.
    pub(super) fn place_of(&self, path: &TreePath) -> Option<usize> {
        let path = path.as_bytes();
        let after = self.rules.partition_point(|r| tree_order(r.path.as_bytes(), path).is_le());
        let mut place = after.checked_sub(1);
        while let Some(i) = place.filter(|&i| !within(path, self.rules[i].path.as_bytes())) {
            place = self.rules[i].above;
        }
        place
    }

    /// Whether anything strictly below `dir` can be included: by the rule that holds `dir`, because a rule
    /// further down only speaks of names that it knows, or by one further down. Where no plain rule speaks,
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

    /// Returns the rule at `place` and all above it.
    pub(super) fn upwards(&self, place: usize) -> impl Iterator<Item = &PlainRule> {
        std::iter::successors(self.rules.get(place), |rule| rule.above.map(|i| &self.rules[i]))
    }
}
