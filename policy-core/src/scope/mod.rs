//! Which paths take part: the white lists and patterns of a policy, compiled for one mount.
//!
//! ```text
//! policy paths ──resolve──▶ paths below the mount ──▶ plain rules, in tree order ─┐
//! expressions  ──compile──▶ anchored automata ───────────────────────────────────┼─▶ decide, may_hold
//! patterns     ──compile──▶ gitignore matcher ───────────────────────────────────┘
//! ```

mod build;
mod expression;
mod marks;
mod path_set;
mod patterns;
mod resolve;
mod rule;
mod rules;
mod warning;

pub use marks::ListMarks;
pub use path_set::PathSet;
pub use rule::{ScopeDecision, ScopeRule};
pub use warning::ScopeWarning;

use std::borrow::Cow;

use crate::TreePath;
use crate::conflict::original_path;
use expression::Expressions;
use patterns::Patterns;
use rules::{Rules, Verdict};

/// The compiled scope of a mount: says of each path whether it takes part, and by which rule.
///
/// - Of the rules that match a path, the longest decides. If two are equally long, exclusion wins.
/// - What the lists leave out stays out; ignore patterns only take away.
/// - Everything below an ignored directory is ignored.
/// - An expression applies to the paths that it matches in full, and not to what lies below them.
///
/// A directory that only leads to something in scope is not in scope itself: see
/// [`may_hold`](Self::may_hold).
///
/// ```
/// use policy_core::{Scope, SyncPolicy, TreePath};
///
/// let policy = SyncPolicy::from_json(
///     r#"{"bwList": {"whiteLists": [{"path": "/home/wuying/project/src", "excludePaths": ["/target"]}]}}"#,
/// )?;
/// let scope = Scope::new(&policy, b"/home/wuying/project")?;
/// let path: TreePath = "src/target/debug".parse()?;
/// let decision = scope.decide(&path, true);
/// assert!(!decision.in_scope);
/// assert_eq!(decision.rule.to_string(), r#"exclude 0 "/target" of white list 0 leaves it out"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Scope {
    lists: Vec<ScopeList>,
    ignore_patterns: Vec<String>,
    rules: Rules,
    expressions: Expressions,
    patterns: Patterns,
    archive_exclude_paths: PathSet,
    extract_paths: PathSet,
    recycle_paths: PathSet,
    required_paths: Vec<TreePath>,
    warnings: Vec<ScopeWarning>,
}

/// A white list, resolved for a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeList {
    index: usize,
    path: String,
    excludes: Vec<String>,
    resolved: Option<TreePath>,
}

impl ScopeList {
    /// Returns the list's index among the white lists of the policy.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns the list's path as written in the policy.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the list's path relative to the mount; `None` if it is an expression.
    pub fn resolved(&self) -> Option<&TreePath> {
        self.resolved.as_ref()
    }
}

impl Scope {
    /// Says whether `path` takes part, and which rule decides. `is_dir` is false for a link to a directory. A
    /// conflict copy takes part if its original does.
    pub fn decide(&self, path: &TreePath, is_dir: bool) -> ScopeDecision<'_> {
        let verdict = self.verdict(&self.standing_for(path, is_dir), is_dir);
        ScopeDecision { in_scope: verdict.in_scope(), rule: self.rule(verdict) }
    }

    /// Whether `path` takes part. A conflict copy takes part if its original does.
    pub fn contains(&self, path: &TreePath, is_dir: bool) -> bool {
        self.takes(&self.standing_for(path, is_dir), is_dir)
    }

    /// Returns the path that decides whether `path` is in scope: for a conflict copy that of its original,
    /// for anything else the path itself.
    ///
    /// The name of a copy may have been shortened. Then the original's name is one that a rule has in full,
    /// if that rule brings the copy into scope.
    fn standing_for<'p>(&self, path: &'p TreePath, is_dir: bool) -> Cow<'p, TreePath> {
        let Some(original) = original_path(path) else { return Cow::Borrowed(path) };
        let of_rules = self.rules.iter().filter_map(|rule| rule.uncut(path, &original));
        match of_rules.into_iter().find(|named| self.takes(named, is_dir) || is_dir && self.leads_on(named)) {
            Some(named) if !self.takes(&original, is_dir) => Cow::Owned(named),
            _ => Cow::Owned(original),
        }
    }

    /// Whether anything strictly below the directory `dir` can be in scope.
    ///
    /// The answer is never no if something is in scope. It is exact for plain lists and excludes. With
    /// expressions and patterns it may be yes for a directory in which nothing is in scope. The copy of a
    /// directory may hold what its original may hold.
    pub fn may_hold(&self, dir: &TreePath) -> bool {
        self.leads_on(dir) || self.leads_on(&self.standing_for(dir, true))
    }

    /// Whether the rules include a path of exactly this name.
    fn takes(&self, path: &TreePath, is_dir: bool) -> bool {
        self.verdict(path, is_dir).in_scope()
    }

    /// Whether the rules include anything below a directory of exactly this name.
    fn leads_on(&self, dir: &TreePath) -> bool {
        let by_lists = self.lists.is_empty() || self.rules.may_hold(dir, !self.expressions.is_empty());
        by_lists && self.patterns.ignoring(dir.as_bytes(), true).is_none()
    }

    /// Returns what is odd about the policy on this mount, but no error.
    pub fn warnings(&self) -> &[ScopeWarning] {
        &self.warnings
    }

    /// Returns the white lists with their paths relative to the mount, in the order of the policy.
    pub fn lists(&self) -> &[ScopeList] {
        &self.lists
    }

    /// Whether the white lists name parts of the mount, which may be missing. The whole mount, which is also
    /// the scope of a policy without lists, is never missing.
    pub fn names_parts(&self) -> bool {
        let whole = |list: &ScopeList| list.resolved.as_ref().is_some_and(TreePath::is_root);
        !self.lists.is_empty() && !self.lists.iter().any(whole)
    }

    /// Returns the first white list that matches `path`, whether or not the path is then left out. A scan
    /// that wants to know which lists match nothing at all uses [`ListMarks`].
    pub fn list_matching(&self, path: &TreePath) -> Option<usize> {
        self.lists
            .iter()
            .find(|list| match &list.resolved {
                Some(resolved) => path.is_within(resolved),
                None => self.expressions.list_matches(list.index, path),
            })
            .map(|list| list.index)
    }

    /// Returns the paths that are stored as in `File` mode even if the mode is `Archive`.
    pub fn archive_exclude_paths(&self) -> &PathSet {
        &self.archive_exclude_paths
    }

    /// Returns the paths below which archives are extracted; empty without an extract policy.
    pub fn extract_paths(&self) -> &PathSet {
        &self.extract_paths
    }

    /// Returns the paths to which the recycle policy applies.
    pub fn recycle_paths(&self) -> &PathSet {
        &self.recycle_paths
    }

    /// Returns the paths that must be there before a session opens, in the order of the policy.
    pub fn required_paths(&self) -> &[TreePath] {
        &self.required_paths
    }

    fn verdict(&self, path: &TreePath, is_dir: bool) -> Verdict {
        let by_lists = self.by_lists(path);
        if !by_lists.in_scope() {
            return by_lists;
        }
        match self.patterns.ignoring(path.as_bytes(), is_dir) {
            Some(index) => Verdict::Ignored(index),
            None => by_lists,
        }
    }

    fn by_lists(&self, path: &TreePath) -> Verdict {
        if self.lists.is_empty() {
            return Verdict::WholeMount;
        }
        match self.rules.deciding(path) {
            Some(rule) => match rule.verdict() {
                Verdict::List(list) => {
                    self.expressions.exclude_of(rule.expression_lists(), path).unwrap_or(Verdict::List(list))
                }
                excluded => excluded,
            },
            None => self.expressions.decide(path),
        }
    }

    fn rule(&self, verdict: Verdict) -> ScopeRule<'_> {
        let path = |list: usize| self.lists.get(list).map_or("", |l| l.path.as_str());
        let exclude = |list: usize, exclude: usize| {
            self.lists.get(list).and_then(|l| l.excludes.get(exclude)).map_or("", String::as_str)
        };
        match verdict {
            Verdict::WholeMount => ScopeRule::WholeMount,
            Verdict::Unlisted => ScopeRule::Unlisted { lists: self.lists.len() },
            Verdict::List(list) => ScopeRule::List { list, path: path(list) },
            Verdict::ListExpression(list) => ScopeRule::ListExpression { list, expression: path(list) },
            Verdict::Exclude(list, index) => {
                ScopeRule::Exclude { list, exclude: index, path: exclude(list, index) }
            }
            Verdict::ExcludeExpression(list, index) => {
                ScopeRule::ExcludeExpression { list, exclude: index, expression: exclude(list, index) }
            }
            Verdict::Ignored(index) => ScopeRule::IgnorePattern {
                index,
                pattern: self.ignore_patterns.get(index).map_or("", String::as_str),
            },
        }
    }
}
