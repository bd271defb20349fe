//! ScopeRule: the rule that decides a path, in plain words.

use std::fmt;

/// What a [`Scope`](super::Scope) says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScopeDecision<'s> {
    /// Whether the path takes part.
    pub in_scope: bool,
    /// The rule that decided.
    pub rule: ScopeRule<'s>,
}

/// The rule that decides a path. Indices are the policy's, from 0; texts are as written in the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeRule<'s> {
    /// The policy has no white lists.
    WholeMount,
    /// The policy has white lists, and none matches the path.
    Unlisted {
        /// How many white lists there are.
        lists: usize,
    },
    /// A white list matches the path.
    List {
        /// The list's index.
        list: usize,
        /// The list's path.
        path: &'s str,
    },
    /// A white list's expression matches the path.
    ListExpression {
        /// The list's index.
        list: usize,
        /// The list's expression.
        expression: &'s str,
    },
    /// An exclude of a white list matches the path.
    Exclude {
        /// The list's index.
        list: usize,
        /// The exclude's index in the list.
        exclude: usize,
        /// The exclude's path.
        path: &'s str,
    },
    /// An exclude expression of a white list matches the path.
    ExcludeExpression {
        /// The list's index.
        list: usize,
        /// The exclude's index in the list.
        exclude: usize,
        /// The expression.
        expression: &'s str,
    },
    /// An ignore pattern matches the path or a directory above it.
    IgnorePattern {
        /// The pattern's index.
        index: usize,
        /// The pattern.
        pattern: &'s str,
    },
}

impl ScopeRule<'_> {
    /// Returns the JSON pointer of the rule in the policy.
    pub fn pointer(&self) -> String {
        match self {
            Self::WholeMount | Self::Unlisted { .. } => "/bwList/whiteLists".into(),
            Self::List { list, .. } | Self::ListExpression { list, .. } => {
                format!("/bwList/whiteLists/{list}/path")
            }
            Self::Exclude { list, exclude, .. } | Self::ExcludeExpression { list, exclude, .. } => {
                format!("/bwList/whiteLists/{list}/excludePaths/{exclude}")
            }
            Self::IgnorePattern { index, .. } => format!("/bwList/ignorePatterns/{index}"),
        }
    }
}

impl fmt::Display for ScopeRule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |text: &str| crate::escape(text.as_bytes());
        match *self {
            Self::WholeMount => write!(f, "no white list is given, so the whole mount takes part"),
            Self::Unlisted { lists: 1 } => write!(f, "the only white list does not hold it"),
            Self::Unlisted { lists } => write!(f, "none of the {lists} white lists holds it"),
            Self::List { list, path: "" | "/" } => {
                write!(f, "white list {list} includes the whole mount")
            }
            Self::List { list, path } => write!(f, "white list {list} \"{}\" includes it", show(path)),
            Self::ListExpression { list, expression } => {
                write!(f, "the expression \"{}\" of white list {list} includes it", show(expression))
            }
            Self::Exclude { list, exclude, path } => {
                write!(f, "exclude {exclude} \"{}\" of white list {list} leaves it out", show(path))
            }
            Self::ExcludeExpression { list, exclude, expression } => write!(
                f,
                "the exclude expression {exclude} \"{}\" of white list {list} leaves it out",
                show(expression)
            ),
            Self::IgnorePattern { index, pattern } => {
                write!(f, "ignore pattern {index} \"{}\" leaves it out", show(pattern))
            }
        }
    }
}
