//! The names of contexts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes.
const MAX_LEN: usize = 128;

/// The name of a context, which is also its id.
///
/// A value that exists is valid:
/// - it has 1 to 128 characters of `A-Z a-z 0-9 . _ - /`;
/// - no component between `/` is empty, `.` or `..`, so none leads, trails or is doubled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContextName(String);

/// Why some text is not the name of a context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` can't name a context: {problem} (allowed are 1 to 128 of A-Z a-z 0-9 . _ - and, between them, /)"
)]
pub struct NameError {
    name: String,
    problem: String,
}

impl ContextName {
    /// Parses a name.
    ///
    /// # Errors
    /// A [`NameError`], which says what is wrong and what is allowed.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        match problem(&name) {
            None => Ok(Self(name)),
            Some(problem) => {
                // A very long name would hide the rest of the message.
                let mut name = policy_core::escape(name.as_bytes());
                if let Some((end, _)) = name.char_indices().nth(MAX_LEN) {
                    name.truncate(end);
                    name.push_str("...");
                }
                Err(NameError { name, problem })
            }
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as one segment of an object key. `/` becomes `~`. A name that starts with `.` gets a
    /// `~` in front, because some stores and tools treat hidden names specially.
    pub(crate) fn to_segment(&self) -> String {
        let hidden = if self.0.starts_with('.') { "~" } else { "" };
        format!("{hidden}{}", self.0.replace('/', "~"))
    }

    /// The inverse of [`to_segment`](Self::to_segment). No name starts with `/`, so a leading `~` can only be
    /// the mark of a leading `.`.
    pub(crate) fn from_segment(segment: &str) -> Option<Self> {
        let name = segment.strip_prefix('~').unwrap_or(segment).replace('~', "/");
        Self::new(name).ok().filter(|name| name.to_segment() == segment)
    }
}

fn problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".into());
    }
    if let Some(c) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-/".contains(*c))) {
        return Some(format!("it has `{}`", policy_core::escape(c.to_string().as_bytes())));
    }
    if name.len() > MAX_LEN {
        return Some(format!("it has {} characters", name.len()));
    }
    name.split('/').find_map(|component| match component {
        "" => Some("it has a leading, trailing or doubled `/`".into()),
        "." | ".." => Some(format!("it has the component `{component}`")),
        _ => None,
    })
}

impl fmt::Display for ContextName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContextName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        Self::new(s)
    }
}

impl TryFrom<String> for ContextName {
    type Error = NameError;

    fn try_from(s: String) -> Result<Self, NameError> {
        Self::new(s)
    }
}

impl From<ContextName> for String {
    fn from(name: ContextName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn says_what_is_wrong_and_what_is_allowed() {
        let errors: Vec<_> = ["", "a b", "/a", "a/", "a//b", "..", "a/./b", "näh", "a~b", "a\nb"]
            .into_iter()
            .map(|name| ContextName::new(name).unwrap_err().to_string())
            .collect();
        insta::assert_snapshot!(errors.join("\n"));
        let long = ContextName::new("x".repeat(300)).unwrap_err().to_string();
        assert!(long.contains("it has 300 characters") && long.len() < 300);
    }

    #[test]
    fn takes_what_is_allowed() {
        for name in ["a", "A-Z_0.9", "team/project/.x", ".hidden", "...", &"x".repeat(128)] {
            assert_eq!(ContextName::new(name).unwrap().as_str(), name);
        }
        assert_eq!(serde_json::from_str::<ContextName>("\"a/b\"").unwrap().as_str(), "a/b");
        assert!(serde_json::from_str::<ContextName>("\"a//b\"").is_err());
        assert_eq!(serde_json::to_string(&ContextName::new("a/b").unwrap()).unwrap(), "\"a/b\"");
    }

    #[test]
    fn names_become_one_segment() {
        let segment = |name: &str| ContextName::new(name).unwrap().to_segment();
        assert_eq!(["a", "a/b", ".a", "a/.b"].map(segment), ["a", "a~b", "~.a", "a~.b"]);
        for none in ["~a", ".a", "", "~", "a~", "a~~b", "a/b", "~~.a"] {
            assert_eq!(ContextName::from_segment(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn segments_are_names_again(name in "[a.~/-]{1,8}") {
            if let Ok(parsed) = ContextName::new(name.clone()) {
                let segment = parsed.to_segment();
                prop_assert!(!segment.contains('/') && !segment.starts_with('.'));
                prop_assert_eq!(ContextName::from_segment(&segment), Some(parsed));
            }
            if let Some(parsed) = ContextName::from_segment(&name) {
                prop_assert_eq!(parsed.to_segment(), name);
            }
        }
    }
}
