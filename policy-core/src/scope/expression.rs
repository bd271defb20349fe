//! The expressions of white lists.

use regex::bytes::{Regex, RegexBuilder};

use super::resolve::Resolver;
use super::rules::Verdict;
use crate::TreePath;

/// The largest size of one compiled expression, in bytes.
const LARGEST: usize = 4 << 20;

/// An expression that matches a path in full.
///
/// `.` also matches a newline, because a name may contain one. A name that is UTF-8 is matched by characters,
/// any other by bytes.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    text: Regex,
    /// `None` if the expression names characters beyond ASCII in a way that can't be applied to bytes.
    bytes: Option<Regex>,
}

impl Expression {
    /// Compiles an expression; the error is a message.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        let build = |source: &str, unicode| {
            RegexBuilder::new(source).unicode(unicode).dot_matches_new_line(true).size_limit(LARGEST).build()
        };
        // The expression is first compiled alone: `a)(b` is invalid, but would be valid in the parentheses
        // below.
        build(source, true).map_err(|e| words(&e))?;
        let whole = format!(r"\A(?:{source})\z");
        let text = build(&whole, true).map_err(|e| words(&e))?;
        Ok(Self { text, bytes: build(&whole, false).ok() })
    }

    fn matches(&self, path: &[u8]) -> bool {
        match &self.bytes {
            Some(bytes) if std::str::from_utf8(path).is_err() => bytes.is_match(path),
            _ => self.text.is_match(path),
        }
    }
}

fn words(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("it is too large: compiled it takes more than {limit} bytes")
        }
        // The last line of a syntax error says what is wrong; the lines before it point to the position.
        error => {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

/// The expressions of one white list.
#[derive(Debug, Clone)]
pub(super) struct ListExpressions {
    /// The list's index.
    pub(super) list: usize,
    /// The list's path, if it is an expression.
    pub(super) path: Option<Expression>,
    /// The excludes that are expressions, each with its index.
    pub(super) excludes: Vec<(usize, Expression)>,
}

/// The expressions of all white lists, in their order.
#[derive(Debug, Clone)]
pub(super) struct Expressions {
    pub(super) lists: Vec<ListExpressions>,
    pub(super) resolver: Resolver,
}

impl Expressions {
    /// Whether no list has an expression for its path.
    pub(super) fn is_empty(&self) -> bool {
        self.lists.iter().all(|l| l.path.is_none())
    }

    /// Decides a path that no plain rule matches. All list expressions count as equally long.
    pub(super) fn decide(&self, path: &TreePath) -> Verdict {
        let mut verdict = Verdict::Unlisted;
        if self.is_empty() {
            return verdict;
        }
        let subject = Subject::new(path, &self.resolver);
        for list in &self.lists {
            if !list.path.as_ref().is_some_and(|e| subject.matches(e)) {
                continue;
            }
            if let Some(excluded) = subject.excluded(list) {
                return excluded;
            }
            if verdict == Verdict::Unlisted {
                verdict = Verdict::ListExpression(list.list);
            }
        }
        verdict
    }

    /// Returns the exclude expression among those of `lists` that matches `path`.
    pub(super) fn exclude_of(&self, lists: &[usize], path: &TreePath) -> Option<Verdict> {
        if lists.is_empty() {
            return None;
        }
        let subject = Subject::new(path, &self.resolver);
        self.lists.iter().filter(|l| lists.contains(&l.list)).find_map(|l| subject.excluded(l))
    }

    /// Whether the expression in place of the list's path matches `path`.
    pub(super) fn list_matches(&self, list: usize, path: &TreePath) -> bool {
        let expression = self.lists.iter().find(|l| l.list == list).and_then(|l| l.path.as_ref());
        expression.is_some_and(|e| Subject::new(path, &self.resolver).matches(e))
    }
}

/// A path in both of its forms: relative to the mount, and absolute.
struct Subject<'p> {
    below: &'p [u8],
    absolute: Vec<u8>,
}

impl<'p> Subject<'p> {
    fn new(path: &'p TreePath, resolver: &Resolver) -> Self {
        let mut absolute = Vec::new();
        resolver.absolute(path, &mut absolute);
        Self { below: path.as_bytes(), absolute }
    }

    fn matches(&self, expression: &Expression) -> bool {
        expression.matches(self.below) || expression.matches(&self.absolute)
    }

    fn excluded(&self, list: &ListExpressions) -> Option<Verdict> {
        let hit = list.excludes.iter().find(|(_, e)| self.matches(e));
        hit.map(|(index, _)| Verdict::ExcludeExpression(list.list, *index))
    }
}
