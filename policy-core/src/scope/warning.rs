//! ScopeWarning: what is odd about a policy on a mount, but no error.

use std::fmt;

use crate::{TreePath, escape};

/// What is odd about a policy on a mount. Pointers are JSON pointers into the policy, with canonical names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeWarning {
    /// An absolute path is neither under the mount nor under the mapping.
    OutsideMount {
        /// The path's pointer.
        pointer: String,
        /// The path.
        path: String,
        /// The mount.
        mount: String,
        /// The path relative to the mount as which it was read.
        read_as: TreePath,
    },
    /// An exclude names a path of the mount that is outside its white list.
    OutsideList {
        /// The exclude's pointer.
        pointer: String,
        /// The exclude.
        path: String,
        /// The white list's path.
        list: String,
        /// The path relative to the mount as which it was read.
        read_as: TreePath,
    },
    /// A white list and an exclude have the same path, so the list by itself includes nothing.
    Excluded {
        /// The list's pointer.
        pointer: String,
        /// The list's path.
        path: String,
        /// The exclude's pointer.
        by: String,
    },
    /// An ignore pattern excludes a whole white list.
    Ignored {
        /// The list's pointer.
        pointer: String,
        /// The list's path.
        path: String,
        /// The pattern's pointer.
        by: String,
        /// The pattern.
        pattern: String,
    },
    /// Nothing at all can be in scope.
    NothingInScope,
    /// A part of the policy is switched on, but its list of paths is empty.
    NoPaths {
        /// The pointer of the list of paths.
        pointer: &'static str,
    },
}

impl ScopeWarning {
    /// Returns the path relative to the mount as which an absolute path outside mount and mapping was read.
    /// If that path exists, it is what the user meant.
    pub fn read_as_relative(&self) -> Option<&TreePath> {
        match self {
            Self::OutsideMount { read_as, .. } => Some(read_as),
            _ => None,
        }
    }
}

impl fmt::Display for ScopeWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |text: &str| escape(text.as_bytes());
        match self {
            Self::OutsideMount { pointer, path, mount, read_as } => write!(
                f,
                "{pointer}: \"{}\" is neither under the mount \"{mount}\" nor under mappingPolicy.path; \
                 it is read as \"{read_as}\" below the mount",
                show(path),
            ),
            Self::OutsideList { pointer, path, list, read_as } => write!(
                f,
                "{pointer}: \"{}\" is outside its white list \"{}\"; it is read as \"{read_as}\" below the \
                 mount",
                show(path),
                show(list),
            ),
            Self::Excluded { pointer, path, by } => write!(
                f,
                "{pointer}: \"{}\" is left out as a whole, because {by} names the same place",
                show(path)
            ),
            Self::Ignored { pointer, path, by, pattern } => write!(
                f,
                "{pointer}: \"{}\" is left out as a whole by the pattern \"{}\" ({by})",
                show(path),
                show(pattern)
            ),
            Self::NothingInScope => {
                write!(f, "/bwList: nothing at all can be in scope; nothing will be synced")
            }
            Self::NoPaths { pointer } => write!(f, "{pointer}: the list is empty, so this part does nothing"),
        }
    }
}
