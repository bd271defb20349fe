//! Why a session can't begin with the files that it was asked for.

use std::fmt;

use policy_core::TreePath;

/// Why a required path is not in the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lack {
    /// The context does not have it.
    NotInContext,
    /// The policy leaves it out.
    OutOfScope,
    /// The context has it, but the pull failed, or it was deleted in the mount.
    NotPulled,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotInContext => "not in the context",
            Self::OutOfScope => "left out by the policy",
            Self::NotPulled => "not pulled, or deleted in the mount",
        })
    }
}

/// Returns paths as one line of text.
pub(super) fn listed(paths: &[(TreePath, Lack)]) -> String {
    let each: Vec<_> = paths.iter().map(|(path, lack)| format!("`{path}` ({lack})")).collect();
    each.join(", ")
}
