//! BWList: which paths take part.

use serde::{Deserialize, Serialize};

/// Which paths take part: the guide's `BWList`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct BwList {
    /// The places that take part; none means the whole mount. Their order means nothing.
    pub white_lists: Vec<WhiteList>,
    /// Patterns in gitignore syntax, relative to the mount, that leave out some of what the lists hold.
    pub ignore_patterns: Vec<String>,
}

impl Default for BwList {
    fn default() -> Self {
        Self { white_lists: vec![WhiteList::default()], ignore_patterns: Vec::new() }
    }
}

/// A place that takes part, with what is left out of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct WhiteList {
    /// The place, a file or a directory; `""` and `/` are the whole mount.
    pub path: String,
    /// What of it is left out.
    pub exclude_paths: Vec<String>,
    /// Whether `path` is an expression that must match a path in full.
    pub is_path_regex: bool,
    /// Whether `exclude_paths` are expressions, each of which must match a path in full.
    pub is_exclude_regex: bool,
}
