//! Which rules apply to which context.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

use super::Retention;

/// The name of a context, or a glob: `*` and `?` match anything but `/`, `**` matches anything, `[ab]` one of
/// these characters, `{a,b}` one of these words.
#[derive(Debug, Clone)]
pub struct NamePattern {
    text: String,
    matcher: GlobMatcher,
}

/// Why a text is not a pattern of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePatternError {
    pattern: String,
    problem: String,
}

impl fmt::Display for NamePatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pattern = crate::escape(self.pattern.as_bytes());
        write!(f, "`{pattern}` is not a pattern of context names: {}", self.problem)
    }
}

impl std::error::Error for NamePatternError {}

impl NamePattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`NamePatternError`] if the glob is malformed, or no context can have such a name.
    pub fn new(text: &str) -> Result<Self, NamePatternError> {
        let bad = |problem: String| NamePatternError { pattern: text.to_owned(), problem };
        let is_known = |c: char| c.is_ascii_alphanumeric() || "._-/*?[]{}!^,".contains(c);
        if text.is_empty() {
            return Err(bad("it is empty".into()));
        }
        if let Some(c) = text.chars().find(|c| !is_known(*c)) {
            return Err(bad(format!("no name has `{}`", crate::escape(c.to_string().as_bytes()))));
        }
        if text.starts_with('/') || text.ends_with('/') {
            return Err(bad("no name begins or ends with `/`; `**` stands for all below".into()));
        }
        let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(false).build();
        let matcher = glob.map_err(|e| bad(e.kind().to_string()))?.compile_matcher();
        Ok(Self { text: text.to_owned(), matcher })
    }

    /// Returns the pattern's original text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches a context's name.
    pub fn matches(&self, name: &str) -> bool {
        self.matcher.is_match(name)
    }
}

/// The rules of each context, by its name: the first rule with a pattern that matches the name applies.
/// Without one, all snapshots are kept.
#[derive(Debug, Clone, Default)]
pub struct RetentionRules {
    rules: Vec<(Vec<NamePattern>, Retention)>,
    otherwise: Retention,
}

impl RetentionRules {
    /// Adds a rule after the existing ones.
    pub fn push(&mut self, names: Vec<NamePattern>, retention: Retention) {
        self.rules.push((names, retention));
    }

    /// Sets the rule for contexts that no pattern matches.
    #[must_use]
    pub fn otherwise(self, otherwise: Retention) -> Self {
        Self { otherwise, ..self }
    }

    /// Returns the rules for a context.
    pub fn of(&self, name: &str) -> &Retention {
        let holds = |names: &[NamePattern]| names.iter().any(|pattern| pattern.matches(name));
        self.rules.iter().find(|(names, _)| holds(names)).map_or(&self.otherwise, |(_, retention)| retention)
    }

    /// Whether all snapshots of all contexts are kept.
    pub fn keeps_all(&self) -> bool {
        self.otherwise.keeps_all() && self.rules.iter().all(|(_, retention)| retention.keeps_all())
    }

    /// Returns the patterns of all rules, in order.
    pub fn patterns(&self) -> impl Iterator<Item = &NamePattern> {
        self.rules.iter().flat_map(|(names, _)| names)
    }
}

impl From<Retention> for RetentionRules {
    /// The same rules for all contexts.
    fn from(otherwise: Retention) -> Self {
        Self { rules: Vec::new(), otherwise }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_a_glob_of_names() {
        for (pattern, yes, no) in [
            ("ci", &["ci"][..], &["ci/a", "cia", "xci"][..]),
            ("ci/*", &["ci/a", "ci/.b"], &["ci", "ci/a/b"]),
            ("ci/**", &["ci/a", "ci/a/b"], &["ci", "cia"]),
            ("**", &["a", "a/b/c"], &[]),
            ("*", &["a", "a.b"], &["a/b"]),
            ("tmp-[ab]?", &["tmp-a1", "tmp-b2"], &["tmp-c1", "tmp-a", "tmp-a/"]),
            ("{a,b/c}", &["a", "b/c"], &["b"]),
        ] {
            let parsed = NamePattern::new(pattern).unwrap();
            assert!(yes.iter().all(|name| parsed.matches(name)), "{pattern}");
            assert!(!no.iter().any(|name| parsed.matches(name)), "{pattern}");
        }
    }

    #[test]
    fn what_no_context_is_named_is_no_pattern() {
        for (bad, why) in [
            ("", "empty"),
            ("a b", "no name has ` `"),
            ("ci/", "ends with `/`"),
            ("/ci", "begins"),
            ("a[b", "unclosed"),
            ("{a", "unclosed"),
            ("a\\*", "no name has"),
            ("\u{1b}", "no name has `\\u{1b}`"),
        ] {
            let error = NamePattern::new(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn the_first_rule_decides() {
        let names = |text: &[&str]| text.iter().map(|t| NamePattern::new(t).unwrap()).collect();
        let daily = |n: &str| Retention { daily: n.parse().ok(), ..Retention::default() };
        let mut rules = RetentionRules::default();
        assert!(rules.keeps_all());
        rules.push(names(&["ci/main"]), Retention::default());
        rules.push(names(&["x", "ci/*"]), daily("1"));
        rules.push(names(&["**"]), daily("2"));
        let rules = rules.otherwise(daily("3"));
        let of = |name| rules.of(name).daily.map(std::num::NonZeroU64::get);
        assert_eq!(["ci/main", "ci/x", "x", "y/z"].map(of), [None, Some(1), Some(1), Some(2)]);
        assert!(!rules.keeps_all());
    }
}
